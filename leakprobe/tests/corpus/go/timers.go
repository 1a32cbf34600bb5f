package main

// What goes on for ever by a clock.

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

func init() {
	mistake("ticker-never-stopped", leakTicker, fixedTicker)
	mistake("time-tick-loop", leakTick, fixedTick)
	mistake("sleep-polling", leakPolling, fixedPolling)
	mistake("endless-loop", leakEndlessLoop, fixedEndlessLoop)
	mistake("afterfunc-chain", leakAfterFunc, fixedAfterFunc)
	mistake("limiter-per-client", leakLimiter, fixedLimiter)
	mistake("goroutine-per-item", leakPerItem, fixedPerItem)
}

var beats atomic.Int64

func heartbeat() { beats.Add(1) }

func leakTicker(w http.ResponseWriter, r *http.Request) {
	ticker := time.NewTicker(20 * time.Millisecond)
	go func() { // CREATES: ticker-never-stopped
		for range ticker.C { // PARKS: ticker-never-stopped
			heartbeat()
		}
	}()
}

func fixedTicker(w http.ResponseWriter, r *http.Request) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	go func() {
		for {
			select {
			case <-ticker.C:
				heartbeat()
			case <-r.Context().Done():
				return
			}
		}
	}()
}

func report(every time.Duration) {
	for range time.Tick(every) { // PARKS: time-tick-loop
		heartbeat()
	}
}

func reportTimes(times int, every time.Duration) {
	for range times {
		time.Sleep(every)
		heartbeat()
	}
}

func leakTick(w http.ResponseWriter, r *http.Request) {
	go report(20 * time.Millisecond) // CREATES: time-tick-loop
}

func fixedTick(w http.ResponseWriter, r *http.Request) {
	go reportTimes(3, 20*time.Millisecond)
}

type export struct{ state atomic.Value }

// Fails, which whoever waits for "done" does not expect.
func (e *export) run() { e.state.Store("failed") }

func (e *export) untilDone() {
	for e.state.Load() != "done" {
		time.Sleep(20 * time.Millisecond) // PARKS: sleep-polling
	}
}

func (e *export) untilOver() {
	for state := e.state.Load(); state != "done" && state != "failed"; state = e.state.Load() {
		time.Sleep(20 * time.Millisecond)
	}
}

func leakPolling(w http.ResponseWriter, r *http.Request) {
	e := &export{}
	e.run()
	go e.untilDone() // CREATES: sleep-polling
}

func fixedPolling(w http.ResponseWriter, r *http.Request) {
	e := &export{}
	e.run()
	go e.untilOver()
}

func refresh() { beats.Add(1) }

// Was meant to be begun once, when the server starts.
func leakEndlessLoop(w http.ResponseWriter, r *http.Request) {
	go func() { // CREATES: endless-loop
		for {
			refresh()
			time.Sleep(50 * time.Millisecond) // PARKS: endless-loop
		}
	}()
}

var refreshing sync.Once

func fixedEndlessLoop(w http.ResponseWriter, r *http.Request) {
	refreshing.Do(func() {
		go func() {
			for {
				refresh()
				time.Sleep(50 * time.Millisecond)
			}
		}()
	})
}

// Asks a server that answers slowly.
func renewLease() {
	time.Sleep(300 * time.Millisecond) // PARKS: afterfunc-chain
	beats.Add(1)
}

// Each renewal arms the next one: another goroutine each time, and there is always one.
func leakAfterFunc(w http.ResponseWriter, r *http.Request) {
	var renew func()
	renew = func() {
		renewLease()
		time.AfterFunc(0, renew)
	}
	time.AfterFunc(0, renew)
}

func fixedAfterFunc(w http.ResponseWriter, r *http.Request) {
	var renew func()
	left := 2
	renew = func() {
		renewLease()
		if left--; left > 0 {
			time.AfterFunc(0, renew)
		}
	}
	time.AfterFunc(0, renew)
}

type limiter struct{ tokens atomic.Int64 }

func (l *limiter) refill() {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		<-ticker.C // PARKS: limiter-per-client
		l.tokens.Store(10)
	}
}

// One for each client there ever was.
var limiters sync.Map

func leakLimiter(w http.ResponseWriter, r *http.Request) {
	l, known := limiters.LoadOrStore(r.Header.Get("X-Client"), &limiter{})
	if !known {
		go l.(*limiter).refill() // CREATES: limiter-per-client
	}
	l.(*limiter).tokens.Add(-1)
}

// Counts the tokens when they are asked for: nobody has to put them in.
func fixedLimiter(w http.ResponseWriter, r *http.Request) {
	l, _ := limiters.LoadOrStore(r.Header.Get("X-Client"), &limiter{})
	l.(*limiter).tokens.Add(-1)
}

// The mail server gives a turn to whoever may write. It is down.
var turns = make(chan struct{})

func notify(user int) { beats.Add(int64(user)) }

func leakPerItem(w http.ResponseWriter, r *http.Request) {
	for user := range 5 {
		go func() { // CREATES: goroutine-per-item
			<-turns // PARKS: goroutine-per-item
			notify(user)
		}()
	}
}

// Few at a time, and what does not fit is refused.
var atWork = make(chan struct{}, 3)

func fixedPerItem(w http.ResponseWriter, r *http.Request) {
	for user := range 5 {
		select {
		case atWork <- struct{}{}:
			go func() {
				defer func() { <-atWork }()
				select {
				case <-turns:
					notify(user)
				case <-time.After(50 * time.Millisecond):
				}
			}()
		default:
		}
	}
}
