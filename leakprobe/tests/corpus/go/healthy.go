package main

// What grows to its limit and is no leak.

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

func init() {
	healthy("backend-pool", askBackend)
	healthy("late-workers", useWorkers)
	healthy("database-pool", usePool)
}

// Keeps connections to the backend, as many as were needed at a time and ten at most.
var pooled = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 10, MaxConnsPerHost: 10}}

func askBackend(w http.ResponseWriter, r *http.Request) { proxy(w, pooled) }

// A pool whose workers are begun when all others are busy, up to a limit, and stay.
type latePool struct {
	jobs    chan func()
	lock    sync.Mutex
	workers int
}

var late = &latePool{jobs: make(chan func())}

func (p *latePool) do(job func()) {
	select {
	case p.jobs <- job:
		return
	default:
	}
	p.lock.Lock()
	if p.workers < 8 {
		p.workers++
		go p.work()
	}
	p.lock.Unlock()
	p.jobs <- job
}

func (p *latePool) work() {
	for job := range p.jobs {
		job()
	}
}

func useWorkers(w http.ResponseWriter, r *http.Request) {
	done := make(chan struct{})
	late.do(func() {
		time.Sleep(5 * time.Millisecond)
		close(done)
	})
	<-done
}

// Connections as a database driver keeps them: each with a goroutine that reads the answers, opened when none is idle.
type connection struct {
	queries chan chan string
}

var (
	idle   = make(chan *connection, 6)
	opened = make(chan struct{}, 6)
)

func (c *connection) serve() {
	for answer := range c.queries {
		time.Sleep(5 * time.Millisecond)
		answer <- "1 row"
	}
}

func borrow() *connection {
	select {
	case c := <-idle:
		return c
	default:
	}
	select {
	case c := <-idle:
		return c
	case opened <- struct{}{}:
		c := &connection{queries: make(chan chan string)}
		go c.serve()
		return c
	}
}

func usePool(w http.ResponseWriter, r *http.Request) {
	c := borrow()
	defer func() { idle <- c }()
	answer := make(chan string)
	c.queries <- answer
	io.WriteString(w, fmt.Sprintln(<-answer))
}
