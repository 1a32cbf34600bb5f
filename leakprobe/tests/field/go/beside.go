package main

// Leaks beside what is healthy at the same place, and workers that a short load uses.

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

func init() {
	cases["leak-behind-pool"] = leakBehindPool
	mistake("beside-turnover", func() { reconnect(false) }, func() { reconnect(true) })
	mistake("long-poll", func() { longPoll(true) }, func() { longPoll(false) })
	cases["sessions-of-60s"] = sessions(time.Minute)
	cases["sessions-of-3s"] = sessions(3 * time.Second)
	mistake("waits-for-sleepers", func() { expireBeside(false) }, func() { expireBeside(true) })
	mistake("chain", func() { schedule(true) }, func() { schedule(false) })
	cases["workers-in-use"] = workersInUse
}

//go:noinline
func awaitWork(work chan int) { <-work }

var works atomic.Int64

// A pool of 20 that starts with the tenth request, and one task more with each request that is never given work: `leak`; or the pool
// alone: `fixed`.
func leakBehindPool(args []string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		count := 0
		if args[0] == "leak" {
			count = 1
		}
		if works.Add(1) == 10 {
			count += 20
		}
		for i := 0; i < count; i++ {
			go awaitWork(make(chan int))
		}
	}
}

var (
	connections sync.Mutex
	open        []chan bool
	forgotten   []chan bool
)

//go:noinline
func serveConnection(done chan bool) { <-done }

// 60 connections that are all made anew, and one more that is forgotten.
func reconnect(isFixed bool) {
	connections.Lock()
	defer connections.Unlock()
	for _, done := range open {
		close(done)
	}
	open = nil
	for i := 0; i < 60; i++ {
		done := make(chan bool)
		open = append(open, done)
		go serveConnection(done)
	}
	if !isFixed {
		done := make(chan bool)
		forgotten = append(forgotten, done)
		go serveConnection(done)
	}
}

var (
	polls     sync.Mutex
	polling   []chan bool
	requested int
)

//go:noinline
func awaitNews(news chan bool) { <-news }

// Each request waits until fourteen others have come; of six, one is forgotten.
func longPoll(isLeak bool) {
	polls.Lock()
	defer polls.Unlock()
	news := make(chan bool)
	go awaitNews(news)
	if requested++; isLeak && requested%6 == 0 {
		return
	}
	if polling = append(polling, news); len(polling) > 14 {
		close(polling[0])
		polling = polling[1:]
	}
}

//go:noinline
func serveSession(commands chan int, done chan bool) {
	select {
	case <-commands:
	case <-done:
	}
}

// Each request opens a session, which a timer closes.
func sessions(ttl time.Duration) func([]string) http.HandlerFunc {
	return func([]string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			done := make(chan bool)
			go serveSession(make(chan int), done)
			time.AfterFunc(ttl, func() { close(done) })
		}
	}
}

//go:noinline
func awaitAll(workers *sync.WaitGroup) { workers.Wait() }

//go:noinline
func awaitOne(never chan bool) { <-never }

// Each request starts two workers that take a minute, and one that waits until both have ended; or that waits for ever.
func expireBeside(isFixed bool) {
	workers := new(sync.WaitGroup)
	for i := 0; i < 2; i++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			time.Sleep(time.Minute)
		}()
	}
	if isFixed {
		go awaitAll(workers)
	} else {
		go awaitOne(make(chan bool))
	}
}

// Each request begins a job that does itself again and again, by another goroutine each time, and is never cancelled.
func schedule(isLeak bool) {
	var again func()
	again = func() {
		time.Sleep(300 * time.Millisecond)
		if isLeak {
			go again()
		}
	}
	go again()
}

//go:noinline
func takeWork(work chan *sync.WaitGroup) {
	for done := range work {
		done.Done()
	}
}

// Healthy: 16 workers, all of which each request uses for a moment.
func workersInUse([]string) http.HandlerFunc {
	var works [16]chan *sync.WaitGroup
	start := sync.OnceFunc(func() {
		for i := range works {
			works[i] = make(chan *sync.WaitGroup)
			go takeWork(works[i])
		}
	})
	return func(w http.ResponseWriter, r *http.Request) {
		start()
		var done sync.WaitGroup
		done.Add(len(works))
		for _, work := range works {
			work <- &done
		}
		done.Wait()
	}
}
