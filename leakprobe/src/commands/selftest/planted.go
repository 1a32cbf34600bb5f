// The program that leakprobe's self-test checks for goroutines: it leaks one of each kind for each request, and keeps a
// healthy pool beside them.
package main

import (
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

var kept []any

func sendWithoutReceiver() {
	results := make(chan int)
	go func() { results <- 1 }()
}

func receiveWithoutSender() {
	results := make(chan int)
	kept = append(kept, results)
	go func() { <-results }()
}

func selectWithoutWayOut() {
	one, other := make(chan int), make(chan int)
	kept = append(kept, one, other)
	go func() {
		select {
		case <-one:
		case <-other:
		}
	}()
}

func waitGroupNeverZero() {
	var group sync.WaitGroup
	group.Add(1)
	go func() { group.Wait() }()
}

func lockNeverReleased() {
	var lock sync.Mutex
	lock.Lock()
	go func() { lock.Lock() }()
}

func tickerNeverStopped() {
	ticker := time.NewTicker(50 * time.Millisecond)
	go func() {
		for range ticker.C {
		}
	}()
}

func nilChannel() {
	var never chan int
	go func() { <-never }()
}

func worker(jobs chan chan bool) {
	for done := range jobs {
		done <- true
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	jobs := make(chan chan bool)
	for i := 0; i < 4; i++ {
		go worker(jobs)
	}
	fmt.Println("listening on", listener.Addr())
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		for i := 0; i < 16; i++ {
			done := make(chan bool)
			jobs <- done
			<-done
		}
		sendWithoutReceiver()
		receiveWithoutSender()
		selectWithoutWayOut()
		waitGroupNeverZero()
		lockNeverReleased()
		tickerNeverStopped()
		nilChannel()
		connection.Write([]byte("."))
		connection.Close()
	}
}
