// A Go library in a C program, built with -buildmode=c-shared.
package main

import "C"

import (
	"leakprobe.test/programs/control"
	"leakprobe.test/programs/kinds"
)

// GoStart starts a goroutine in each kind of wait and waits until all of them wait.
//
//export GoStart
func GoStart() {
	kinds.Start()
	control.Settle("")
}

// GoDump writes the runtime's debug=2 text to a file.
//
//export GoDump
func GoDump(path *C.char) {
	control.Profile(C.GoString(path), 2)
}

// GoWait never returns to the C thread that calls it.
//
//export GoWait
func GoWait() {
	<-kinds.Never
}

func main() {}
