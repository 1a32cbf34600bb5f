// A program with a goroutine in every kind of wait. With the argument `spin` it also has running and runnable ones.
package main

import (
	"os"
	"runtime"

	"leakprobe.test/programs/control"
	"leakprobe.test/programs/kinds"
)

func init() {
	go fromInit()
}

func fromInit() {
	<-kinds.Never
}

func main() {
	restless := ""
	if len(os.Args) > 1 && os.Args[1] == "spin" {
		restless = "main.spin"
		// More than there are processors: some of them are runnable.
		for i := 0; i < 3; i++ {
			go spin()
		}
		runtime.GOMAXPROCS(2)
	}
	kinds.Start()
	kinds.StartRest()
	startCgo()
	go control.Serve(restless, nil)
	<-kinds.Never
}

//go:noinline
func spin() {
	for i := 0; ; i++ {
		count += i
	}
}

var count int
