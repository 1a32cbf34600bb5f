package kinds

import (
	"net"
	"os"
	"path/filepath"
	"time"

	"leakprobe.test/programs/control"
)

func startIO() {
	startTCP()
	startUnix()
	startUDP()
	startPipe()
}

func startTCP() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	control.Must(err)
	client, server := connect(listener)
	control.Must(server.SetReadDeadline(time.Now().Add(24 * time.Hour)))
	writer, unread := connect(listener)
	keep = append(keep, unread)
	go accept(listener)
	go readFrom(client)
	go readFrom(server)
	go writeTo(writer)
}

func connect(listener net.Listener) (client, server net.Conn) {
	client, err := net.Dial("tcp", listener.Addr().String())
	control.Must(err)
	server, err = listener.Accept()
	control.Must(err)
	return client, server
}

func accept(listener net.Listener) {
	_, _ = listener.Accept()
}

func readFrom(connection net.Conn) {
	_, _ = connection.Read(make([]byte, 10))
}

// Writes until nothing fits any more, since nobody reads.
func writeTo(connection net.Conn) {
	_, _ = connection.Write(make([]byte, 64<<20))
}

func startUnix() {
	folder, err := os.MkdirTemp("", "waits")
	control.Must(err)
	path := filepath.Join(folder, "socket")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	control.Must(err)
	client, err := net.Dial("unix", path)
	control.Must(err)
	server, err := listener.AcceptUnix()
	control.Must(err)
	control.Must(os.RemoveAll(folder))
	keep = append(keep, server)
	go accept(listener)
	go readFrom(client)
}

func startUDP() {
	connection, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	control.Must(err)
	go receiveDatagram(connection)
}

func receiveDatagram(connection *net.UDPConn) {
	_, _, _ = connection.ReadFrom(make([]byte, 10))
}

func startPipe() {
	reader, writer, err := os.Pipe()
	control.Must(err)
	keep = append(keep, writer)
	go readPipe(reader)
}

func readPipe(file *os.File) {
	_, _ = file.Read(make([]byte, 10))
}
