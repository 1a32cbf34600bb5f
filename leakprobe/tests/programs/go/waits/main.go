// A program with a goroutine in every kind of wait. With the argument `spin` it also has running and runnable ones, with
// `collect` its garbage collector is at work, until the command `grow` ends that and starts more goroutines.
package main

import (
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"leakprobe.test/programs/control"
	"leakprobe.test/programs/kinds"
)

func init() {
	go fromInit()
}

func fromInit() {
	<-kinds.Never
}

func main() {
	restless, mode := "", ""
	if len(os.Args) > 1 {
		mode = os.Args[1]
	}
	switch mode {
	case "spin":
		restless = "main.spin"
		// More than there are processors: some of them are runnable.
		for i := 0; i < 3; i++ {
			go spin()
		}
		runtime.GOMAXPROCS(2)
	case "collect":
		restless = "main.collect"
		go collect()
	}
	kinds.Start()
	kinds.StartRest()
	startCgo()
	go control.Serve(restless, grow)
	<-kinds.Never
}

//go:noinline
func spin() {
	for i := 0; ; i++ {
		count += i
	}
}

var count int

// Enough for the collector to go through, so that it is nearly always at it.
var chain *link

type link struct{ next *link }

var calm int32

//go:noinline
func collect() {
	for i := 0; i < 1_000_000; i++ {
		chain = &link{chain}
	}
	for atomic.LoadInt32(&calm) == 0 {
		runtime.GC()
	}
	atomic.StoreInt32(&calm, 2)
	<-kinds.Never
}

func grow(words []string) bool {
	if len(words) != 1 || words[0] != "grow" || chain == nil {
		return false
	}
	atomic.StoreInt32(&calm, 1)
	for atomic.LoadInt32(&calm) != 2 {
		time.Sleep(time.Millisecond)
	}
	for i := 0; i < 200; i++ {
		go grown()
	}
	control.Settle("")
	fmt.Println("grown")
	return true
}

//go:noinline
func grown() { <-kinds.Never }
