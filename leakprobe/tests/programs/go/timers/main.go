// Timers of every kind, some with goroutines that wait for them and some without, and goroutines that come and go.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"leakprobe.test/programs/control"
)

const (
	tickers  = 5
	fast     = 10
	oneShots = 3
	stopped  = 2
	fired    = 2
	plain    = 2
	sleepers = 3
	readers  = 3
	contexts = 4

	treeContexts = 40

	named     = 7
	methods   = 4
	timeouts  = 6
	idleTimer = 8
	idleTicks = 3
)

var (
	never = make(chan int)
	kept  []any
)

type server struct{ name string }

func (s *server) reap() { println(s.name) }

func onExpire() { println("expired") }

func ticker(t *time.Ticker) {
	for range t.C {
	}
}

func fastTicker(t *time.Ticker) {
	for range t.C {
	}
}

func oneShot() {
	select {
	case <-time.After(2 * time.Hour):
	case <-never:
	}
}

func stoppedTimer() {
	t := time.NewTimer(time.Hour)
	t.Stop()
	<-t.C
}

func firedTimer(ready *sync.WaitGroup) {
	t := time.NewTimer(time.Millisecond)
	<-t.C
	ready.Done()
	<-t.C
}

// A channel that looks like that of a timer.
func plainTime() {
	<-make(chan time.Time, 1)
}

func sleeper() { time.Sleep(3 * time.Hour) }

func reader(conn net.Conn) {
	control.Must(conn.SetReadDeadline(time.Now().Add(4 * time.Hour)))
	conn.Read(make([]byte, 1))
}

func contextDone(ctx context.Context) { <-ctx.Done() }

// One of many contexts below one deadline.
func contextOfTree(ctx context.Context) { <-ctx.Done() }

// Below an earlier deadline of its own.
func contextOfBranch(ctx context.Context) { <-ctx.Done() }

func contextWithoutDeadline(ctx context.Context) { <-ctx.Done() }

// A deadline, below which there are more contexts than lie together in a map, some of which have ended, and an earlier one.
func contextTree() {
	tree, cancel := context.WithTimeout(context.Background(), 5*time.Hour)
	kept = append(kept, cancel)
	for i := 0; i < treeContexts; i++ {
		ctx, _ := context.WithCancel(context.WithValue(tree, "key", i))
		go contextOfTree(ctx)
		_, end := context.WithCancel(tree)
		end()
	}
	below, _ := context.WithCancel(tree)
	branch, _ := context.WithTimeout(below, 4*time.Hour)
	leaf, _ := context.WithCancel(branch)
	go contextOfBranch(leaf)
	free, _ := context.WithCancel(context.Background())
	go contextWithoutDeadline(free)
}

func main() {
	for i := 0; i < tickers; i++ {
		go ticker(time.NewTicker(time.Hour))
	}
	for i := 0; i < fast; i++ {
		go fastTicker(time.NewTicker(time.Duration(30+i) * time.Millisecond))
	}
	for i := 0; i < oneShots; i++ {
		go oneShot()
	}
	for i := 0; i < stopped; i++ {
		go stoppedTimer()
	}
	var ready sync.WaitGroup
	ready.Add(fired)
	for i := 0; i < fired; i++ {
		go firedTimer(&ready)
	}
	for i := 0; i < plain; i++ {
		go plainTime()
	}
	for i := 0; i < sleepers; i++ {
		go sleeper()
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	control.Must(err)
	for i := 0; i < readers; i++ {
		conn, err := net.Dial("tcp", listener.Addr().String())
		control.Must(err)
		kept = append(kept, conn)
		go reader(conn)
	}
	for i := 0; i < contexts; i++ {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Hour)
		child, _ := context.WithCancel(context.WithValue(ctx, "key", i))
		kept = append(kept, cancel)
		go contextDone(child)
	}
	contextTree()
	for i := 0; i < named; i++ {
		kept = append(kept, time.AfterFunc(time.Duration(1+i)*time.Hour, onExpire))
	}
	for i := 0; i < methods; i++ {
		s := &server{"reaped"}
		kept = append(kept, time.AfterFunc(time.Hour, s.reap))
	}
	for i := 0; i < timeouts; i++ {
		ctx, cancel := context.WithTimeout(context.Background(), 6*time.Hour)
		kept = append(kept, ctx, cancel)
	}
	for i := 0; i < idleTimer; i++ {
		kept = append(kept, time.After(7*time.Hour))
	}
	for i := 0; i < idleTicks; i++ {
		kept = append(kept, time.NewTicker(8*time.Hour))
	}
	ready.Wait()
	control.Serve("fastTicker", command)
	runtime.KeepAlive(kept)
}

func command(words []string) bool {
	if len(words) != 2 {
		return false
	}
	n, err := strconv.Atoi(words[1])
	control.Must(err)
	switch words[0] {
	case "pass": // so many goroutines come and go
		var group sync.WaitGroup
		for i := 0; i < n; i++ {
			group.Add(1)
			go group.Done()
			if i%1000 == 0 {
				group.Wait()
			}
		}
		group.Wait()
	case "stay": // so many come and stay
		for i := 0; i < n; i++ {
			go func() { <-never }()
		}
	case "after": // so many timers
		for i := 0; i < n; i++ {
			time.AfterFunc(time.Hour, onExpire)
		}
	default:
		return false
	}
	fmt.Println("done")
	return true
}

func init() {
	// Fewer processors than the machine has, and then more, so that some are put aside.
	if n, err := strconv.Atoi(os.Getenv("PROCESSORS")); err == nil {
		runtime.GOMAXPROCS(4 * n)
		runtime.GOMAXPROCS(n)
	}
}
