// A program with goroutines that wait for another program: in a pipe that it writes to, and in a socket.
package main

import (
	"net"
	"os"
	"os/exec"
	"syscall"

	"leakprobe.test/programs/control"
)

func main() {
	sockets, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	control.Must(err)
	theirs := os.NewFile(uintptr(sockets[1]), "theirs")
	ours := os.NewFile(uintptr(sockets[0]), "ours")
	connection, err := net.FileConn(ours)
	control.Must(err)
	control.Must(ours.Close())
	// It ends when nobody holds the other end of its stdin any more.
	child := exec.Command("cat")
	child.ExtraFiles = []*os.File{theirs}
	stdin, err := child.StdinPipe()
	control.Must(err)
	stdout, err := child.StdoutPipe()
	control.Must(err)
	control.Must(child.Start())
	control.Must(theirs.Close())
	go readPipe(stdout.(*os.File))
	go readSocket(connection)
	control.Answer(nil)
	_ = stdin.Close()
}

func readPipe(file *os.File) {
	_, _ = file.Read(make([]byte, 1))
}

func readSocket(connection net.Conn) {
	_, _ = connection.Read(make([]byte, 1))
}
