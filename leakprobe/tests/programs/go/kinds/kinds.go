// Package kinds has a goroutine in every kind of wait that Go has.
package kinds

// What must live as long as the program.
var keep []any

// Start starts a goroutine in each kind of wait. A library or a plugin can do that too.
func Start() {
	startChannels()
	startLocks()
	startSyscalls()
	startIO()
	startStacks()
	startNewer()
}

// StartRest starts what there can be only one of in a process.
func StartRest() {
	startSignals()
	startBubble()
}
