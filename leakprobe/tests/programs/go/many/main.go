// many N [DEPTH]: N goroutines that wait at three sites, below DEPTH calls. Made for figures: `debug0 FILE` to
// `debug2 FILE` write that profile and answer with the ns that it took, `stall SECONDS` answers with the longest pause
// of a spinning goroutine and with the sum of all pauses over 1 ms, in ns.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"leakprobe.test/programs/control"
)

var (
	never   = make(chan int)
	nothing = make(chan int)
	lock    sync.Mutex
	started sync.WaitGroup
)

func main() {
	n, depth := number(1, 1000), number(2, 3)
	lock.Lock()
	started.Add(n)
	for i := 0; i < n; i++ {
		switch i % 10 {
		case 0:
			go selecting(depth)
		case 1:
			go locking(depth)
		default:
			go receiving(depth)
		}
	}
	started.Wait()
	go serve()
	<-never
}

func number(argument, otherwise int) int {
	if len(os.Args) <= argument {
		return otherwise
	}
	n, err := strconv.Atoi(os.Args[argument])
	control.Must(err)
	return n
}

// The runtime's dump of very many is cut off and stops everything for seconds, so that nothing is settled by it here:
// each has said that it is about to wait.
func serve() {
	control.Answer(command)
}

func command(words []string) bool {
	switch {
	case len(words) == 2 && len(words[0]) == 6 && words[0][:5] == "debug":
		fmt.Println("took", control.Profile(words[1], int(words[0][5]-'0')).Nanoseconds())
	case len(words) == 2 && words[0] == "stall":
		seconds, err := strconv.ParseFloat(words[1], 64)
		control.Must(err)
		longest, sum := stall(time.Duration(seconds * float64(time.Second)))
		fmt.Println("stall", longest.Nanoseconds(), sum.Nanoseconds())
	case len(words) == 2 && words[0] == "stalldebug":
		// A profile of that kind taken while a goroutine spins.
		debug, err := strconv.Atoi(words[1])
		control.Must(err)
		done := make(chan time.Duration)
		go func() { done <- control.Profile(os.DevNull, debug) }()
		var longest, sum time.Duration
		for {
			l, s := stall(100 * time.Millisecond)
			sum += s
			if l > longest {
				longest = l
			}
			select {
			case took := <-done:
				fmt.Println("stall", longest.Nanoseconds(), sum.Nanoseconds(), took.Nanoseconds())
				return true
			default:
			}
		}
	default:
		return false
	}
	return true
}

// stall spins for a time and returns the longest pause between two looks at the clock, and the sum of those over 1 ms.
func stall(duration time.Duration) (longest, sum time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := time.Now()
	before := began
	for {
		now := time.Now()
		gap := now.Sub(before)
		if gap > longest {
			longest = gap
		}
		if gap > time.Millisecond {
			sum += gap
		}
		before = now
		if now.Sub(began) > duration {
			return longest, sum
		}
	}
}

//go:noinline
func receiving(depth int) int {
	if depth > 1 {
		return receiving(depth-1) + 1
	}
	started.Done()
	return <-never
}

//go:noinline
func selecting(depth int) int {
	if depth > 1 {
		return selecting(depth-1) + 1
	}
	started.Done()
	select {
	case n := <-never:
		return n
	case n := <-nothing:
		return n
	}
}

//go:noinline
func locking(depth int) int {
	if depth > 1 {
		return locking(depth-1) + 1
	}
	started.Done()
	lock.Lock()
	return 0
}
