// go NAME [ARGUMENT…]: an HTTP server that does the work of one case once a request; some cases take requests of no one.
//
// One process runs one case, so that a case's state may be global. `//go:noinline` stands where a test looks for the function.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// By name: what a request does, made from the arguments.
var cases = map[string]func(args []string) http.HandlerFunc{}

// A case that has a repair: `NAME leak` and `NAME fixed`.
func mistake(name string, leak, fixed func()) {
	cases[name] = func(args []string) http.HandlerFunc {
		request := leak
		if args[0] == "fixed" {
			request = fixed
		}
		return func(http.ResponseWriter, *http.Request) { request() }
	}
}

func main() {
	if len(os.Args) < 2 || cases[os.Args[1]] == nil {
		fail(fmt.Errorf("no such case: %q", os.Args[1:]))
	}
	// None outlives its test for long, whatever becomes of that.
	time.AfterFunc(15*time.Minute, func() { os.Exit(9) })
	handler := cases[os.Args[1]](append(os.Args[2:], "", "", ""))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	fmt.Println("listening on", listener.Addr())
	must(http.Serve(listener, handler))
}

func must(err error) {
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "field:", err)
	os.Exit(1)
}
