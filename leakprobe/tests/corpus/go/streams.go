package main

// Pipes, connections, commands, rows.

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"time"
)

func init() {
	mistake("pipe-never-closed", leakPipe, fixedPipe)
	mistake("command-never-waited", leakCommand, fixedCommand)
	mistake("command-output-kept-open", leakCommandOutput, fixedCommandOutput)
	mistake("read-without-deadline", leakRead, fixedRead)
}

func storeLines(from io.Reader) {
	lines := bufio.NewScanner(from)
	for lines.Scan() { // PARKS: pipe-never-closed
		audits.Add(1)
	}
}

func leakPipe(w http.ResponseWriter, r *http.Request) {
	reader, writer := io.Pipe()
	go storeLines(reader) // CREATES: pipe-never-closed
	io.WriteString(writer, "one\ntwo\n")
}

func fixedPipe(w http.ResponseWriter, r *http.Request) {
	reader, writer := io.Pipe()
	defer writer.Close()
	go storeLines(reader)
	io.WriteString(writer, "one\ntwo\n")
}

// Ends when the server does.
var serving, _ = context.WithCancel(context.Background())

func leakCommand(w http.ResponseWriter, r *http.Request) {
	command := exec.CommandContext(serving, "true")
	if err := command.Start(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func fixedCommand(w http.ResponseWriter, r *http.Request) {
	command := exec.CommandContext(serving, "true")
	if err := command.Start(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	go command.Wait()
}

// Nothing is ever written to this pipe, which ends with us.
var silence = sync.OnceValue(func() [2]*os.File {
	reader, writer, err := os.Pipe()
	must(err)
	return [2]*os.File{reader, writer}
})

// The command ends at once. What it leaves behind has its output open.
func startDaemon() *exec.Cmd {
	command := exec.Command("sh", "-c", "cat <&3 & echo started")
	command.ExtraFiles = []*os.File{silence()[0]}
	return command
}

func leakCommandOutput(w http.ResponseWriter, r *http.Request) {
	command := startDaemon()
	go func() { // CREATES: command-output-kept-open
		command.Output() // PARKS: command-output-kept-open
	}()
}

func fixedCommandOutput(w http.ResponseWriter, r *http.Request) {
	command := startDaemon()
	command.WaitDelay = 50 * time.Millisecond
	go func() {
		command.Output()
	}()
}

// Takes connections and says nothing.
var silent = sync.OnceValue(func() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	go func() {
		var connections []net.Conn
		for {
			connection, err := listener.Accept()
			must(err)
			connections = append(connections, connection)
		}
	}()
	return listener.Addr().String()
})

func greeting(connection net.Conn) {
	defer connection.Close()
	line := make([]byte, 64)
	connection.Read(line) // PARKS: read-without-deadline
}

func leakRead(w http.ResponseWriter, r *http.Request) {
	connection, err := net.Dial("tcp", silent())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	go greeting(connection) // CREATES: read-without-deadline
}

func fixedRead(w http.ResponseWriter, r *http.Request) {
	connection, err := net.Dial("tcp", silent())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	connection.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	go greeting(connection)
}
