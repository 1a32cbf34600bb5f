// libraries NAME leak|fixed|healthy: an HTTP server that uses a library wrongly or rightly, once a request.
//
// One process runs one variant of one case, so that a case's state may be global. Servers that clients need run in this process.
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// By name: what a request does in each variant.
var cases = map[string]map[string]func(){}

// A mistake beside its repair.
func mistake(name string, leak, fixed func()) {
	cases[name] = map[string]func(){"leak": leak, "fixed": fixed}
}

func healthy(name string, request func()) {
	cases[name] = map[string]func(){"healthy": request}
}

var ctx = context.Background()

func main() {
	if len(os.Args) != 3 || cases[os.Args[1]][os.Args[2]] == nil {
		fail(fmt.Errorf("no such case: %q", os.Args[1:]))
	}
	request := cases[os.Args[1]][os.Args[2]]
	// None outlives its test for long, whatever becomes of that.
	time.AfterFunc(15*time.Minute, func() { os.Exit(9) })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	fmt.Println("listening on", listener.Addr())
	must(http.Serve(listener, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { request() })))
}

// An address where connections are accepted and never answered.
func silentAddress() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	return listener.Addr().String()
}

func value[T any](v T, err error) T {
	must(err)
	return v
}

func must(err error) {
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "libraries:", err)
	os.Exit(1)
}
