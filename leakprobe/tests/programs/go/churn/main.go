// churn SPAWNERS: goroutines that appear, grow their stacks and end, all the time. Their stacks consist of main.leaf,
// main.grow, main.short and main.spawner only, and of what the runtime shows below these where they wait.
package main

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"leakprobe.test/programs/control"
)

var created int64

func main() {
	spawners, err := strconv.Atoi(os.Args[1])
	control.Must(err)
	for i := 0; i < spawners; i++ {
		go spawner()
	}
	control.Answer(func(words []string) bool {
		if len(words) != 1 || words[0] != "created" {
			return false
		}
		fmt.Println("created", atomic.LoadInt64(&created))
		return true
	})
}

//go:noinline
func spawner() {
	for {
		const goroutines = 50
		var done sync.WaitGroup
		done.Add(goroutines)
		meet := make(chan int)
		for i := 0; i < goroutines; i++ {
			go short(i, meet, &done)
		}
		atomic.AddInt64(&created, goroutines)
		done.Wait()
	}
}

//go:noinline
func short(i int, meet chan int, done *sync.WaitGroup) {
	grow(10+i*4, i, meet)
	done.Done()
}

// Each frame is large, so that the stack has to be moved to a larger one again and again.
//
//go:noinline
func grow(depth, i int, meet chan int) (sum byte) {
	var large [256]byte
	large[depth%256] = byte(depth)
	if depth == 0 {
		leaf(i, meet)
	} else {
		sum = grow(depth-1, i, meet)
	}
	return sum + large[i]
}

// Half of them wait to send, half to receive, and some sleep.
//
//go:noinline
func leaf(i int, meet chan int) {
	if i%10 == 0 {
		time.Sleep(time.Microsecond)
	}
	if i%2 == 0 {
		meet <- i
	} else {
		<-meet
	}
}
