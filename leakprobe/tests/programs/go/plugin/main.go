// A Go plugin with goroutines of its own.
package main

var (
	never   = make(chan int)
	nothing = make(chan int)
)

// Start starts them.
func Start() {
	go inPlugin(never)
	go func() {
		select {
		case <-never:
		case <-nothing:
		}
	}()
	go deepInPlugin(20)
	go outer()
}

//go:noinline
func inPlugin(channel chan int) { <-channel }

//go:noinline
func deepInPlugin(depth int) int {
	if depth == 0 {
		return <-never
	}
	return deepInPlugin(depth-1) + 1
}

func outer() { inner() }

func inner() { <-never }

func main() {}
