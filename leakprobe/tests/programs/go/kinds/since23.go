//go:build go1.23

package kinds

import "iter"

func startNewer() {
	go rangeOverFunction()
	go insideIterator()
	startPull()
}

func numbers(yield func(int) bool) {
	for i := 0; yield(i); i++ {
	}
}

// Waits in the body of a loop over a function.
func rangeOverFunction() {
	for range numbers {
		<-Never
	}
}

// Waits in the function that a loop is over.
func insideIterator() {
	for range waiting {
		println("never")
	}
}

func waiting(yield func(int) bool) {
	<-Never
	yield(1)
}

// startPull leaves a coroutine that waits to be resumed, and one that waits for something else.
func startPull() {
	next, stop := iter.Pull(numbers)
	next()
	keep = append(keep, stop)
	go func() {
		next, stop := iter.Pull(waiting)
		defer stop()
		next()
	}()
}
