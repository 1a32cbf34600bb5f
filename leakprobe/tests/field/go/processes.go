package main

// Programs that are looked at, not judged: they print `ready`.

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

func init() {
	cases["past"] = past
	cases["child-pipe"] = childPipe
}

// A million goroutines have come and gone; SIGUSR1 begins exactly one, which lives for two seconds.
func past([]string) http.HandlerFunc {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	for i := 0; i < 1000; i++ {
		var batch sync.WaitGroup
		for j := 0; j < 1000; j++ {
			batch.Add(1)
			go batch.Done()
		}
		batch.Wait()
	}
	fmt.Println("ready")
	for range asked {
		go time.Sleep(2 * time.Second)
	}
	return nil
}

// Reads the output of a child that prints nothing.
func childPipe([]string) http.HandlerFunc {
	child := exec.Command("sleep", "120")
	output, err := child.StdoutPipe()
	must(err)
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(child.Start())
	fmt.Println("ready")
	readOutput(output.(*os.File))
	return nil
}

//go:noinline
func readOutput(output *os.File) {
	var one [1]byte
	output.Read(one[:])
}
