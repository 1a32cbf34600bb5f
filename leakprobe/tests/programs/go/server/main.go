// A web server with pprof. It prints the port that it listens on; `/leak` leaks a goroutine.
package main

import (
	"fmt"
	"net"
	"net/http"
	_ "net/http/pprof"

	"leakprobe.test/programs/control"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	control.Must(err)
	http.HandleFunc("/", hello)
	http.HandleFunc("/leak", leak)
	fmt.Println("port", listener.Addr().(*net.TCPAddr).Port)
	go control.Answer(nil)
	control.Must(http.Serve(listener, nil))
}

func hello(w http.ResponseWriter, _ *http.Request) {
	_, _ = w.Write([]byte("hello\n"))
}

func leak(w http.ResponseWriter, _ *http.Request) {
	result := make(chan string)
	go query(result)
	_, _ = w.Write([]byte("leaked\n"))
}

func query(result chan string) { result <- "nobody reads this" }
