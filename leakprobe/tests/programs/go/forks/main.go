// A program that starts other programs all the time, one of which runs, and which has goroutines that stay.
package main

import (
	"os"
	"os/exec"

	"leakprobe.test/programs/control"
)

func main() {
	for i := 0; i < 10; i++ {
		go parked(make(chan int))
	}
	// The child is this program again; it waits for the end of its stdin.
	if len(os.Args) > 1 && os.Args[1] == "child" {
		_, _ = os.Stdin.Read(make([]byte, 1))
		return
	}
	child := exec.Command(os.Args[0], "child")
	stdin, err := child.StdinPipe()
	control.Must(err)
	control.Must(child.Start())
	go forking()
	control.Answer(nil)
	_ = stdin.Close()
}

func parked(channel chan int) { <-channel }

func forking() {
	for {
		control.Must(exec.Command("/bin/true").Run())
	}
}
