// Goroutines that queue for locks in a known order.
//
// `order`: the ids of those that wait for the lock, the next one first. `wake`: the next one gets the lock and keeps it.
// `storm`: from now on, many lock and unlock the two locks of one pair all the time.
package main

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"leakprobe.test/programs/control"
)

const (
	waiters = 8
	// More than the runtime's table has roots, so that several locks share one.
	locks  = 600
	stormy = 48
)

var (
	never = make(chan int)
	queue sync.Mutex
	order []string
	// Two goroutines wait for each.
	each [locks]sync.Mutex
	pair struct{ first, second sync.Mutex }
)

func main() {
	queue.Lock()
	for i := 0; i < waiters; i++ {
		id := make(chan string)
		go waiter(id)
		order = append(order, <-id)
		waiting(i + 1)
	}
	for i := range each {
		each[i].Lock()
		go eachOf(&each[i])
		go eachOf(&each[i])
	}
	fmt.Printf("locks %p %p %p %p\n", &queue, &each[0], &pair.first, &pair.second)
	go control.Serve("main.storm", command)
	<-never
}

func command(words []string) bool {
	switch words[0] {
	case "order":
		fmt.Println("order", strings.Join(order, " "))
	case "wake":
		if len(order) == waiters {
			queue.Unlock()
		} else {
			return false
		}
		order = order[1:]
		waiting(len(order))
		fmt.Println("woken")
	case "storm":
		for i := 0; i < stormy; i++ {
			go storm()
		}
		fmt.Println("stormy")
	default:
		return false
	}
	return true
}

// waiting returns when so many wait for the lock.
func waiting(count int) {
	buffer := make([]byte, 1<<22)
	for {
		dump := buffer[:runtime.Stack(buffer, true)]
		found := 0
		for _, record := range bytes.Split(dump, []byte("\n\n")) {
			state := record[:bytes.IndexByte(record, '\n')]
			waits := bytes.Contains(state, []byte("[semacquire")) || bytes.Contains(state, []byte("[sync.Mutex.Lock"))
			if waits && bytes.Contains(record, []byte("main.waiter(")) {
				found++
			}
		}
		if found == count {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

//go:noinline
func waiter(id chan string) {
	var buffer [64]byte
	id <- strings.Fields(string(buffer[:runtime.Stack(buffer[:], false)]))[1]
	queue.Lock()
	<-never
}

//go:noinline
func eachOf(lock *sync.Mutex) {
	lock.Lock()
}

func storm() {
	for {
		first()
		second()
	}
}

//go:noinline
func first() {
	pair.first.Lock()
	time.Sleep(50 * time.Microsecond)
	pair.first.Unlock()
}

//go:noinline
func second() {
	pair.second.Lock()
	time.Sleep(50 * time.Microsecond)
	pair.second.Unlock()
}
