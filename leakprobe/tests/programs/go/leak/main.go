// leak RATE: RATE goroutines a second leak at one site, and a pool at another neither grows nor shrinks.
package main

import (
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"leakprobe.test/programs/control"
)

var leaks int64

func main() {
	rate, err := strconv.ParseFloat(os.Args[1], 64)
	control.Must(err)
	jobs := make(chan int)
	for i := 0; i < 8; i++ {
		go worker(jobs)
	}
	go leaking(time.Duration(float64(time.Second) / rate))
	go control.Answer(func(words []string) bool {
		if len(words) != 1 || words[0] != "leaks" {
			return false
		}
		fmt.Println("leaks", atomic.LoadInt64(&leaks))
		return true
	})
	for i := 0; ; i++ {
		jobs <- i
		time.Sleep(10 * time.Millisecond)
	}
}

func worker(jobs chan int) {
	for range jobs {
		time.Sleep(time.Millisecond)
	}
}

func leaking(every time.Duration) {
	for range time.Tick(every) {
		go leaked(make(chan int))
		atomic.AddInt64(&leaks, 1)
	}
}

func leaked(result chan int) { result <- 1 }
