// pluginhost PLUGIN: loads a plugin that starts goroutines.
package main

import (
	"os"
	"plugin"

	"leakprobe.test/programs/control"
)

func main() {
	loaded, err := plugin.Open(os.Args[1])
	control.Must(err)
	start, err := loaded.Lookup("Start")
	control.Must(err)
	start.(func())()
	go control.Serve("", nil)
	<-make(chan int)
}
