// A program that is still starting up: it stays in an init function, with goroutines, until stdin ends.
package main

import (
	"fmt"
	"io"
	"os"
)

func init() {
	for i := 0; i < 10; i++ {
		go parked(make(chan int))
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func parked(channel chan int) { <-channel }

func main() {}
