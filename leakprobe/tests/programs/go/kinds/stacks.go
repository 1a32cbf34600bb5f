package kinds

import (
	"context"
	"runtime"
	"runtime/pprof"
	"sync"
	"time"
)

func startStacks() {
	go deep(30, Never)
	go deep(150, Never)
	go deep(1500, Never)
	go inlinedOutermost(Never)
	go generic[int](Never, 1)
	go generic[*locks](Never, nil)
	go (&box[string]{}).method(Never)
	go closure(Never)()
	go waiter.wait(value{})
	go locked()
	go panicking()
	go recovering()
	startMany()
	startLabels()
	startOrphan()
	startWithArguments(1, "two", []int{3}, 4.0)
	startFinalizer()
}

//go:noinline
func deep(depth int, channel chan int) int {
	if depth == 0 {
		return <-channel
	}
	return deep(depth-1, channel) + 1
}

// Three levels, all of which the compiler inlines into the goroutine's function.
func inlinedOutermost(channel chan int) {
	inlinedOuter(channel)
}

func inlinedOuter(channel chan int) {
	inlinedInner(channel)
}

func inlinedInner(channel chan int) {
	<-channel
}

//go:noinline
func generic[T any](channel chan int, value T) T {
	<-channel
	return value
}

type box[T any] struct{ value T }

//go:noinline
func (b *box[T]) method(channel chan int) T {
	func() {
		<-channel
	}()
	return b.value
}

func closure(channel chan int) func() {
	return func() {
		func() {
			<-channel
		}()
	}
}

type waiter interface{ wait() }

type value struct{}

func (value) wait() { <-Never }

func locked() {
	runtime.LockOSThread()
	<-Never
}

// A deferred function waits while its goroutine panics.
func panicking() {
	defer func() {
		<-Never
	}()
	var none *box[int]
	none.value++
}

// The same after the panic was recovered.
func recovering() {
	defer func() {
		_ = recover()
		defer func() {
			<-Never
		}()
		panic("second")
	}()
	panic("first")
}

func startMany() {
	for i := 0; i < 20; i++ {
		go receive(make(chan string))
	}
}

func startLabels() {
	ctx := pprof.WithLabels(context.Background(), pprof.Labels("service", "search", "shard", "7"))
	go pprof.Do(ctx, pprof.Labels("step", "first \"quoted\""), labelled)
}

func labelled(context.Context) {
	// Labels are inherited.
	go inherited()
	<-Never
}

func inherited() { <-Never }

// startOrphan starts a goroutine whose creator has ended.
func startOrphan() {
	var started sync.WaitGroup
	started.Add(1)
	go func() {
		defer started.Done()
		go orphan()
	}()
	started.Wait()
}

func orphan() { <-Never }

//go:noinline
func startWithArguments(a int, b string, c []int, d float64) {
	go withArguments(a, b, c, d)
}

//go:noinline
func withArguments(a int, b string, c []int, d float64) {
	<-Never
	println(a, b, c, d)
}

// startFinalizer makes the finalizer goroutine run a function that waits.
func startFinalizer() {
	running := make(chan bool)
	func() {
		object := &[64]int{}
		runtime.SetFinalizer(object, func(*[64]int) {
			close(running)
			finalizer()
		})
	}()
	for {
		runtime.GC()
		select {
		case <-running:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

func finalizer() { <-Never }
