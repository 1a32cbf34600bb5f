// A program whose main goroutine has ended with Goexit: the others stay. It ends when stdin does.
package main

import (
	"runtime"

	"leakprobe.test/programs/control"
)

func main() {
	for i := 0; i < 10; i++ {
		go parked(make(chan int))
	}
	go control.Serve("", nil)
	runtime.Goexit()
}

func parked(channel chan int) { <-channel }
