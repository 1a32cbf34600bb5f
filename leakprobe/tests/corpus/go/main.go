// corpus CASE leak|fixed|healthy: an HTTP server that does the case's work once a request.
// corpus load ADDR N [CONCURRENCY [GIVE-UP]]: N requests to it.
//
// One process runs one variant of one case, so that a case's state may be global.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// By name: what a request does in each variant. A mistake has a repair beside it; what is healthy has none.
var cases = map[string]map[string]http.HandlerFunc{}

func mistake(name string, leak, fixed http.HandlerFunc) {
	cases[name] = map[string]http.HandlerFunc{"leak": leak, "fixed": fixed}
}

func healthy(name string, handler http.HandlerFunc) {
	cases[name] = map[string]http.HandlerFunc{"healthy": handler}
}

func main() {
	args := append(os.Args[1:], "", "", "", "", "")
	if args[0] == "load" {
		load(args[1], args[2], args[3], args[4])
		return
	}
	handler := cases[args[0]][args[1]]
	if handler == nil {
		fail(fmt.Errorf("no such case: %q %q", args[0], args[1]))
	}
	// None outlives its test for long, whatever becomes of that.
	time.AfterFunc(15*time.Minute, func() { os.Exit(9) })
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
	fmt.Fprintln(os.Stderr, "corpus:", err)
	os.Exit(1)
}
