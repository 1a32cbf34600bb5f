package kinds

import (
	"context"
	"time"
)

// Never is a channel that nobody sends to.
var Never = make(chan int)

func startChannels() {
	startReceive()
	startReceiveOk()
	startRangeOverChannel()
	startSend()
	startSendFull()
	startNil()
	startSelect()
	startSelectDefaultless()
	startContext()
	startTimers()
}

func startReceive() { go receive(make(chan string)) }

func receive(from chan string) { println(<-from) }

func startReceiveOk() { go receiveOk(make(chan [300]byte)) }

func receiveOk(from chan [300]byte) {
	value, ok := <-from
	println(value[0], ok)
}

func startRangeOverChannel() {
	buffered := make(chan int, 16)
	go func() {
		for value := range buffered {
			println(value)
		}
	}()
}

func startSend() { go send(make(chan int)) }

func send(to chan int) { to <- 1 }

func startSendFull() {
	full := make(chan int, 3)
	full <- 1
	full <- 2
	full <- 3
	go send(full)
	go send(full)
}

func startNil() {
	go receiveNil()
	go sendNil()
}

func receiveNil() {
	var none chan int
	<-none
}

func sendNil() {
	var none chan int
	none <- 1
}

func startSelect() { go selectSeveral(make(chan int), make(chan string, 2), nil) }

func selectSeveral(a chan int, b chan string, c chan bool) {
	select {
	case value := <-a:
		println(value)
	case value := <-b:
		println(value)
	case a <- 1:
	case c <- true:
	}
}

func startSelectDefaultless() {
	go selectOne(make(chan int))
	go selectNone()
}

// A select of one case is a receive.
func selectOne(a chan int) {
	select {
	case <-a:
	}
}

func selectNone() {
	select {}
}

func startContext() {
	parent, cancel := context.WithCancel(context.Background())
	go waitContext(parent)
	child, cancelChild := context.WithTimeout(parent, 24*time.Hour)
	go waitContext(child)
	keep = append(keep, cancel, cancelChild)
}

func waitContext(ctx context.Context) { <-ctx.Done() }

func startTimers() {
	go sleep(24 * time.Hour)
	go ticker()
	go timer()
	go selectAfter()
	time.AfterFunc(time.Millisecond, afterFunc)
}

func sleep(duration time.Duration) { time.Sleep(duration) }

func ticker() {
	ticker := time.NewTicker(24 * time.Hour)
	for range ticker.C {
		println("tick")
	}
}

func timer() { <-time.NewTimer(24 * time.Hour).C }

func selectAfter() {
	select {
	case <-Never:
	case <-time.After(24 * time.Hour):
	}
}

func afterFunc() { <-Never }
