package main

// Contexts that nobody cancels.

import (
	"context"
	"net/http"
	"sync/atomic"
)

func init() {
	mistake("context-never-cancelled", leakContext, fixedContext)
	mistake("context-of-another-kind", leakCustomContext, fixedCustomContext)
	mistake("context-afterfunc-never-stopped", leakContextAfterFunc, fixedContextAfterFunc)
}

var audits atomic.Int64

func auditUntil(ctx context.Context) {
	<-ctx.Done() // PARKS: context-never-cancelled
	audits.Add(1)
}

func leakContext(w http.ResponseWriter, r *http.Request) {
	ctx, _ := context.WithCancel(context.Background())
	go auditUntil(ctx) // CREATES: context-never-cancelled
}

func fixedContext(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go auditUntil(ctx)
}

// A context as frameworks have them: of a type of its own, so that package context needs a goroutine to follow it.
type jobContext struct {
	context.Context
	done chan struct{}
}

func (j *jobContext) Done() <-chan struct{} { return j.done }

// Lives as long as the server.
var job context.Context = &jobContext{context.Background(), make(chan struct{})}

func step(ctx context.Context) { audits.Add(1) }

func leakCustomContext(w http.ResponseWriter, r *http.Request) {
	ctx, _ := context.WithCancel(job)
	step(ctx)
}

func fixedCustomContext(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(job)
	defer cancel()
	step(ctx)
}

func leakContextAfterFunc(w http.ResponseWriter, r *http.Request) {
	context.AfterFunc(job, func() { audits.Add(1) })
	step(job)
}

func fixedContextAfterFunc(w http.ResponseWriter, r *http.Request) {
	stop := context.AfterFunc(job, func() { audits.Add(1) })
	defer stop()
	step(job)
}
