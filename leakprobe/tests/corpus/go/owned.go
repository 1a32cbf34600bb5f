package main

// Things that have to be closed by whoever made them.

import (
	"io"
	"net/http"
	"sync"
)

func init() {
	mistake("logger-never-closed", leakLogger, fixedLogger)
	mistake("worker-pool-never-closed", leakWorkers, fixedWorkers)
}

// AsyncLogger writes lines in the background.
type AsyncLogger struct {
	lines   chan string
	written sync.WaitGroup
}

func NewAsyncLogger(to io.Writer) *AsyncLogger {
	l := &AsyncLogger{lines: make(chan string, 100)}
	l.written.Add(1)
	go l.writeTo(to) // CREATES: logger-never-closed
	return l
}

func (l *AsyncLogger) writeTo(to io.Writer) {
	defer l.written.Done()
	for line := range l.lines { // PARKS: logger-never-closed
		io.WriteString(to, line+"\n")
	}
}

func (l *AsyncLogger) Log(line string) { l.lines <- line }

func (l *AsyncLogger) Close() {
	close(l.lines)
	l.written.Wait()
}

func leakLogger(w http.ResponseWriter, r *http.Request) {
	logger := NewAsyncLogger(io.Discard)
	logger.Log(r.URL.Path)
}

func fixedLogger(w http.ResponseWriter, r *http.Request) {
	logger := NewAsyncLogger(io.Discard)
	defer logger.Close()
	logger.Log(r.URL.Path)
}

// WorkerPool does jobs, as many at a time as it has workers.
type WorkerPool struct {
	jobs    chan func()
	running sync.WaitGroup
}

func NewWorkerPool(workers int) *WorkerPool {
	p := &WorkerPool{jobs: make(chan func())}
	for range workers {
		p.running.Add(1)
		go p.worker() // CREATES: worker-pool-never-closed
	}
	return p
}

func (p *WorkerPool) worker() {
	defer p.running.Done()
	for job := range p.jobs { // PARKS: worker-pool-never-closed
		job()
	}
}

func (p *WorkerPool) Close() {
	close(p.jobs)
	p.running.Wait()
}

func leakWorkers(w http.ResponseWriter, r *http.Request) {
	pool := NewWorkerPool(3)
	for range 5 {
		pool.jobs <- heartbeat
	}
}

func fixedWorkers(w http.ResponseWriter, r *http.Request) {
	pool := NewWorkerPool(3)
	defer pool.Close()
	for range 5 {
		pool.jobs <- heartbeat
	}
}
