package main

// Leaks whose tasks are now here, now there, or are woken over and over.

import (
	"context"
	"net/http"
	"sync"
	"time"
)

func init() {
	lasting("mover", startMoving)
	lasting("restless", startPolling)
	lasting("subscriber", subscribe)
	lasting("broadcast", awaitReady)
	cases["follower"] = func(args []string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { follow(args[0] == "fixed") }
	}
}

// `NAME leak` does the work under a context that never ends, `NAME fixed` under that of the request.
func lasting(name string, work func(context.Context)) {
	cases[name] = func(args []string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if args[0] == "fixed" {
				work(r.Context())
			} else {
				work(context.Background())
			}
		}
	}
}

//go:noinline
func connect(ctx context.Context) bool {
	select {
	case <-time.After(9 * time.Millisecond):
		return false
	case <-ctx.Done():
		return true
	}
}

//go:noinline
func backOff(ctx context.Context) bool {
	select {
	case <-time.After(11 * time.Millisecond):
		return false
	case <-ctx.Done():
		return true
	}
}

// A retry loop with two waits of some 10 ms each, in two functions.
//
//go:noinline
func move(ctx context.Context) {
	for !connect(ctx) && !backOff(ctx) {
	}
}

//go:noinline
func startMoving(ctx context.Context) { go move(ctx) }

// A loop with timers of microseconds: hardly ever seen at rest.
//
//go:noinline
func poll(ctx context.Context) {
	for {
		probe, cancel := context.WithTimeout(ctx, 5*time.Microsecond)
		<-probe.Done()
		cancel()
		select {
		case <-time.After(3 * time.Microsecond):
		case <-ctx.Done():
			return
		}
	}
}

//go:noinline
func startPolling(ctx context.Context) { go poll(ctx) }

type hub struct {
	lock        sync.Mutex
	subscribers map[chan int]bool
}

var events = hub{subscribers: map[chan int]bool{}}

func (h *hub) add(c chan int) {
	h.lock.Lock()
	defer h.lock.Unlock()
	h.subscribers[c] = true
}

func (h *hub) publish(event int) {
	h.lock.Lock()
	defer h.lock.Unlock()
	for c := range h.subscribers {
		select {
		case c <- event:
		default:
		}
	}
}

//go:noinline
func receive(ctx context.Context, c chan int) {
	for {
		select {
		case <-c:
		case <-ctx.Done():
			return
		}
	}
}

// Gets every event, to which each request adds one, and is never taken off the list.
func subscribe(ctx context.Context) {
	c := make(chan int, 16)
	events.add(c)
	go receive(ctx, c)
	events.publish(1)
}

var (
	state sync.Mutex
	ready = sync.NewCond(&state)
)

//go:noinline
func waitUntilReady(ctx context.Context) {
	state.Lock()
	defer state.Unlock()
	for ctx.Err() == nil {
		ready.Wait()
	}
}

// Waits for a condition that each request broadcasts and that never comes true for it.
func awaitReady(ctx context.Context) {
	go waitUntilReady(ctx)
	context.AfterFunc(ctx, ready.Broadcast)
	ready.Broadcast()
}

var (
	log   sync.Mutex
	event = make(chan struct{})
)

//go:noinline
func copyEvents(event <-chan struct{}, out chan<- int) {
	<-event
	out <- 1
}

// The follower of a log gets stuck at the next event, since its reader has gone: the last one of each round waits rightly, and is
// stuck in the next. A reader that is there makes it healthy: the last one waits for its event, each time another one.
func follow(read bool) {
	log.Lock()
	defer log.Unlock()
	close(event)
	event = make(chan struct{})
	out := make(chan int)
	if read {
		out = make(chan int, 1)
	}
	go copyEvents(event, out)
}
