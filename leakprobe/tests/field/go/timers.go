package main

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

func init() {
	cases["ticker"] = tickerPerRequest
	cases["expiring"] = expiring
	mistake("pending-timers", leakTimers, fixedTimers)
}

var pings atomic.Int64

//go:noinline
func startPings(period time.Duration, stop <-chan struct{}) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			pings.Add(1)
		case <-stop:
			return
		}
	}
}

// The loop of the mistake: a ticker that is never stopped.
//
//go:noinline
func ping(period time.Duration) {
	ticker := time.NewTicker(period)
	for range ticker.C {
		pings.Add(1)
	}
}

// A ticker per request. `ticker PERIOD` leaks, `ticker PERIOD fixed` ends it with the request.
func tickerPerRequest(args []string) http.HandlerFunc {
	period, err := time.ParseDuration(args[0])
	must(err)
	return func(w http.ResponseWriter, r *http.Request) {
		if args[1] == "fixed" {
			go startPings(period, r.Context().Done())
		} else {
			go ping(period)
		}
	}
}

var entries sync.Map

var never = make(chan bool)

//go:noinline
func expire(key any, after time.Duration, how string) {
	switch how {
	case "sleep":
		time.Sleep(after)
	case "after":
		<-time.After(after)
	case "context":
		ctx, cancel := context.WithTimeout(root, after)
		defer cancel()
		<-ctx.Done()
	case "derived":
		ctx, cancel := context.WithTimeout(root, after)
		defer cancel()
		below, end := context.WithCancel(context.WithValue(ctx, "key", key))
		defer end()
		select {
		case <-below.Done():
		case <-never:
		}
	}
	entries.Delete(key)
}

// Healthy: each request leaves an entry that a goroutine removes after a time, and nothing else does. `expiring TTL
// sleep|after|context|derived`.
func expiring(args []string) http.HandlerFunc {
	after, err := time.ParseDuration(args[0])
	must(err)
	return func(w http.ResponseWriter, r *http.Request) {
		key := new(byte)
		entries.Store(key, true)
		go expire(key, after, args[1])
	}
}

type session struct{ buffer [4096]byte }

//go:noinline
func (s *session) timeOut() { s.buffer[0]++ }

var root, _ = context.WithCancel(context.Background())

// A timer of an hour and a child of a context that lives on, once a request: memory without a goroutine.
func leakTimers() {
	time.AfterFunc(time.Hour, (&session{}).timeOut)
	_, _ = context.WithCancel(root)
}

func fixedTimers() {
	timer := time.AfterFunc(time.Hour, (&session{}).timeOut)
	defer timer.Stop()
	_, cancel := context.WithCancel(root)
	defer cancel()
}
