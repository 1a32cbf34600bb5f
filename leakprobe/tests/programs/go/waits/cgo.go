package main

// #include "block.h"
import "C"

import (
	"runtime"

	"leakprobe.test/programs/kinds"
)

func startCgo() {
	go inC()
	go inCLocked()
	go throughC()
	C.start_thread()
}

func inC() {
	C.block(1)
}

func inCLocked() {
	runtime.LockOSThread()
	C.block(2)
}

// Go calls C, which calls Go, which waits.
func throughC() {
	C.call_go()
}

//export calledByC
func calledByC() {
	nested()
}

func nested() {
	<-kinds.Never
}

// C calls Go, which calls C, which waits.
//
//export calledByThread
func calledByThread() {
	C.block(3)
}
