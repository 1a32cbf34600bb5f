//go:build go1.25

package kinds

import (
	"testing"
	"testing/synctest"
	"time"
)

// startBubble starts goroutines in a bubble of testing/synctest, which needs a test to be in.
func startBubble() {
	started := make(chan bool)
	tests := []testing.InternalTest{{Name: "Bubble", F: func(t *testing.T) {
		synctest.Test(t, func(*testing.T) {
			inside := make(chan int)
			go bubbleReceive(inside)
			go bubbleSleep()
			synctest.Wait()
			close(started)
			// A channel from outside: the bubble is not blocked for ever, so its clock stands still.
			<-Never
		})
	}}}
	go testing.Main(func(string, string) (bool, error) { return true, nil }, tests, nil, nil)
	<-started
}

func bubbleReceive(inside chan int) { <-inside }

func bubbleSleep() { time.Sleep(time.Hour) }
