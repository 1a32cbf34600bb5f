package main

// HTTP clients and handlers.

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

func init() {
	mistake("http-body-not-closed", leakBody, fixedBody)
	mistake("transport-per-request", leakTransport, fixedTransport)
	mistake("handler-never-returns", leakHandler, fixedHandler)
}

// Another service, in the same process.
var backend = sync.OnceValue(func() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "not to be found here")
	}))
	return "http://" + listener.Addr().String()
})

func leakBody(w http.ResponseWriter, r *http.Request) {
	response, err := http.Get(backend())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprintln(w, response.Status)
}

func fixedBody(w http.ResponseWriter, r *http.Request) {
	response, err := http.Get(backend())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer response.Body.Close()
	io.Copy(io.Discard, response.Body)
	fmt.Fprintln(w, response.Status)
}

func proxy(w http.ResponseWriter, client *http.Client) {
	response, err := client.Get(backend())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer response.Body.Close()
	io.Copy(w, response.Body)
}

// Each transport keeps its connection for a next request that does not come.
func leakTransport(w http.ResponseWriter, r *http.Request) {
	proxy(w, &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 10}})
}

var shared = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 10}}

func fixedTransport(w http.ResponseWriter, r *http.Request) { proxy(w, shared) }

// Nothing happens.
var events = make(chan string)

// The client is long gone.
func leakHandler(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintln(w, <-events) // PARKS: handler-never-returns
}

func fixedHandler(w http.ResponseWriter, r *http.Request) {
	select {
	case event := <-events:
		fmt.Fprintln(w, event)
	case <-r.Context().Done():
	}
}
