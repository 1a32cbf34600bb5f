package main

// Leaks that are seldom, or level over the rounds, or small beside what is there.

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

func init() {
	cases["rare"] = rare
	cases["bounded"] = func([]string) http.HandlerFunc { return bounded }
	cases["first"] = func([]string) http.HandlerFunc {
		return func(http.ResponseWriter, *http.Request) { knotOnce.Do(knot) }
	}
	mistake("tolerated", leakClient, fixedClient)
}

var requests atomic.Int64

//go:noinline
func reportFailure(failures chan error) { failures <- fmt.Errorf("failed") }

// Every 30th request fails, and leaves one goroutine behind in a send without a receiver.
func rare(args []string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1)%30 == 0 {
			failures := make(chan error)
			if args[0] == "fixed" {
				failures = make(chan error, 1)
			}
			go reportFailure(failures)
		}
	}
}

var places = make(chan bool, 8)

//go:noinline
func work(result chan int) {
	result <- 1
	<-places
}

// Each request takes one of 8 places and never gives it back; when all are taken, requests are refused at once.
func bounded(w http.ResponseWriter, r *http.Request) {
	select {
	case places <- true:
		go work(make(chan int))
	default:
		http.Error(w, "busy", http.StatusServiceUnavailable)
	}
}

var knotOnce sync.Once

//go:noinline
func lockBoth(one, two *sync.Mutex) {
	one.Lock()
	defer one.Unlock()
	time.Sleep(10 * time.Millisecond)
	two.Lock()
	defer two.Unlock()
}

// Only the first request leaves two goroutines that wait for each other's lock.
func knot() {
	var a, b sync.Mutex
	go lockBoth(&a, &b)
	go lockBoth(&b, &a)
}

var (
	fill    sync.Once
	clients []chan int
)

//go:noinline
func awaitEvent(event chan int) { <-event }

func addClient() chan int {
	event := make(chan int)
	go awaitEvent(event)
	return event
}

func fillClients() {
	for i := 0; i < 1000; i++ {
		clients = append(clients, addClient())
	}
}

// 1,000 clients wait rightly for their event; each request leaves one more that nothing can reach.
func leakClient() {
	fill.Do(fillClients)
	addClient()
}

func fixedClient() {
	fill.Do(fillClients)
	close(addClient())
}
