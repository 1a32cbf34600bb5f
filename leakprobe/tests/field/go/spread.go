package main

// One leak that looks like many, and what the garbage collector ends.

import (
	"math/rand"
	"net/http"
	"runtime"
	"strconv"
	"syscall"
)

func init() {
	mistake("recursion", func() { descendAll(make(chan int)) }, func() { c := make(chan int); descendAll(c); close(c) })
	cases["finalized"] = finalized
	mistake("finalizer-stuck", func() { openHandle(released) }, func() { openHandle(drained()) })
	mistake("pipe-reader", leakReaders, fixedReaders)
}

//go:noinline
func descend(depth int, c chan int) int {
	if depth == 0 {
		return <-c
	}
	return descend(depth-1, c) + 1
}

// Five goroutines that descend into a tree, 1 to 100 deep as the data has it, and wait there for a result that never comes.
func descendAll(c chan int) {
	for i := 0; i < 5; i++ {
		go descend(1+rand.Intn(100), c)
	}
}

type janitor struct{ stop chan struct{} }
type cache struct{ janitor *janitor }

//go:noinline
func (j *janitor) run() { <-j.stop }

func newCache() *cache {
	j := &janitor{make(chan struct{})}
	c := &cache{j}
	go j.run()
	runtime.SetFinalizer(c, func(c *cache) { close(c.janitor.stop) })
	return c
}

var sink []byte

// Healthy: goroutines that a finalizer ends: a saw tooth between two garbage collections. Each request allocates `KIB` as well.
func finalized(args []string) http.HandlerFunc {
	kib, err := strconv.Atoi(args[0])
	must(err)
	return func(w http.ResponseWriter, r *http.Request) {
		sink = make([]byte, kib<<10)
		newCache()
	}
}

type handle struct {
	buffer   []byte
	released chan int
}

var released = make(chan int)

//go:noinline
func (h *handle) release() { h.released <- len(h.buffer) }

// One goroutine runs all finalizers. One that waits keeps all others waiting: no more goroutines, ever more memory.
func openHandle(released chan int) {
	h := &handle{make([]byte, 64<<10), released}
	runtime.SetFinalizer(h, (*handle).release)
}

var drain chan int

func drained() chan int {
	if drain == nil {
		drain = make(chan int)
		go func() {
			for range drain {
			}
		}()
	}
	return drain
}

//go:noinline
func readPipe(pipe int) {
	var one [1]byte
	syscall.Read(pipe, one[:])
}

var silent [2]int

func init() { must(syscall.Pipe(silent[:])) }

// Four goroutines in a blocking read(2) of a pipe to which nobody writes.
func leakReaders() {
	for i := 0; i < 4; i++ {
		go readPipe(silent[0])
	}
}

func fixedReaders() {
	for i := 0; i < 4; i++ {
		var own [2]int
		must(syscall.Pipe(own[:]))
		must(syscall.Close(own[1]))
		readPipe(own[0])
		syscall.Close(own[0])
	}
}
