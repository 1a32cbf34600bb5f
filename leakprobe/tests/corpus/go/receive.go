package main

// Receives and selects that nothing ends.

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

func init() {
	mistake("range-never-closed", leakRange, fixedRange)
	mistake("receive-no-sender", leakReceive, fixedReceive)
	mistake("select-no-way-out", leakSelect, fixedSelect)
	mistake("nil-channel", leakNilChannel, fixedNilChannel)
	mistake("empty-select", leakEmptySelect, fixedEmptySelect)
	mistake("close-guard", leakCloseGuard, fixedCloseGuard)
	mistake("subscriber-kept", leakSubscriber, fixedSubscriber)
	mistake("closure-kept-alive", leakClosure, fixedClosure)
}

var words atomic.Int64

func count(lines <-chan string) {
	for line := range lines { // PARKS: range-never-closed
		words.Add(int64(len(strings.Fields(line))))
	}
}

func leakRange(w http.ResponseWriter, r *http.Request) {
	lines := make(chan string)
	go count(lines) // CREATES: range-never-closed
	for _, line := range []string{"to be or not to be", "that is the question"} {
		lines <- line
	}
}

func fixedRange(w http.ResponseWriter, r *http.Request) {
	lines := make(chan string)
	defer close(lines)
	go count(lines)
	for _, line := range []string{"to be or not to be", "that is the question"} {
		lines <- line
	}
}

type upload struct{ stored chan bool }

// Says on the channel that it is done, but not if there was nothing to do.
func (u *upload) store(body []byte) {
	if len(body) == 0 {
		return
	}
	u.stored <- true
}

func (u *upload) storeAndTell(body []byte) { u.stored <- len(body) > 0 }

func leakReceive(w http.ResponseWriter, r *http.Request) {
	u := &upload{stored: make(chan bool)}
	go u.store(nil)
	go func() { // CREATES: receive-no-sender
		<-u.stored // PARKS: receive-no-sender
		words.Add(1)
	}()
}

func fixedReceive(w http.ResponseWriter, r *http.Request) {
	u := &upload{stored: make(chan bool)}
	go u.storeAndTell(nil)
	go func() {
		<-u.stored
		words.Add(1)
	}()
}

type batcher struct {
	lines, flush chan string
	stop         chan struct{}
	buffer       bytes.Buffer
}

func newBatcher() *batcher {
	return &batcher{lines: make(chan string), flush: make(chan string), stop: make(chan struct{})}
}

func (b *batcher) run() {
	for {
		select { // PARKS: select-no-way-out
		case line := <-b.lines:
			b.buffer.WriteString(line)
		case <-b.flush:
			b.buffer.Reset()
		}
	}
}

func (b *batcher) runUntilStopped() {
	for {
		select {
		case line := <-b.lines:
			b.buffer.WriteString(line)
		case <-b.flush:
			b.buffer.Reset()
		case <-b.stop:
			return
		}
	}
}

func leakSelect(w http.ResponseWriter, r *http.Request) {
	b := newBatcher()
	go b.run() // CREATES: select-no-way-out
	b.lines <- r.URL.Path
	b.flush <- "now"
}

func fixedSelect(w http.ResponseWriter, r *http.Request) {
	b := newBatcher()
	defer close(b.stop)
	go b.runUntilStopped()
	b.lines <- r.URL.Path
	b.flush <- "now"
}

type session struct {
	user    string
	expired chan struct{}
}

func (s *session) removeWhenExpired() {
	<-s.expired // PARKS: nil-channel
	words.Add(-1)
}

// The literal leaves out the channel, so that it is nil.
func leakNilChannel(w http.ResponseWriter, r *http.Request) {
	s := &session{user: r.RemoteAddr}
	go s.removeWhenExpired() // CREATES: nil-channel
}

func fixedNilChannel(w http.ResponseWriter, r *http.Request) {
	s := &session{user: r.RemoteAddr, expired: make(chan struct{})}
	go s.removeWhenExpired()
	close(s.expired)
}

func serveMetrics() { words.Add(1) }

// Copied out of a main function, where this keeps the program running.
func leakEmptySelect(w http.ResponseWriter, r *http.Request) {
	go func() { // CREATES: empty-select
		serveMetrics()
		select {} // PARKS: empty-select
	}()
}

func fixedEmptySelect(w http.ResponseWriter, r *http.Request) {
	go serveMetrics()
}

// A guard against closing twice.
type stream struct {
	closed bool
	done   chan struct{}
}

// Closes it once; `closed` is set by whoever comes first, who has to be this function.
func (s *stream) close() {
	if s.closed {
		return
	}
	s.closed = true
	close(s.done)
}

func (s *stream) awaitDone() {
	<-s.done // PARKS: close-guard
	words.Add(1)
}

// Marks the stream as closed before it calls what would close it.
func leakCloseGuard(w http.ResponseWriter, r *http.Request) {
	s := &stream{done: make(chan struct{})}
	go s.awaitDone() // CREATES: close-guard
	s.closed = true
	s.close()
}

func fixedCloseGuard(w http.ResponseWriter, r *http.Request) {
	s := &stream{done: make(chan struct{})}
	go s.awaitDone()
	s.close()
}

// Everybody who wants to hear of news.
type hub struct {
	lock        sync.Mutex
	subscribers map[chan string]bool
}

var news = &hub{subscribers: map[chan string]bool{}}

func (h *hub) subscribe() chan string {
	h.lock.Lock()
	defer h.lock.Unlock()
	subscriber := make(chan string, 8)
	h.subscribers[subscriber] = true
	return subscriber
}

func (h *hub) unsubscribe(subscriber chan string) {
	h.lock.Lock()
	defer h.lock.Unlock()
	delete(h.subscribers, subscriber)
	close(subscriber)
}

func follow(news <-chan string) {
	for item := range news { // PARKS: subscriber-kept
		words.Add(int64(len(item)))
	}
}

func leakSubscriber(w http.ResponseWriter, r *http.Request) {
	subscriber := news.subscribe()
	go follow(subscriber) // CREATES: subscriber-kept
	fmt.Fprintln(w, "you will hear from us")
}

func fixedSubscriber(w http.ResponseWriter, r *http.Request) {
	subscriber := news.subscribe()
	defer news.unsubscribe(subscriber)
	go follow(subscriber)
	fmt.Fprintln(w, "you have heard from us")
}

// What is to be called when the server ends: each keeps alive what it refers to.
var (
	atExit     = map[int]func(){}
	atExitLock sync.Mutex
	atExitNext int
)

func onExit(call func()) int {
	atExitLock.Lock()
	defer atExitLock.Unlock()
	atExitNext++
	atExit[atExitNext] = call
	return atExitNext
}

func callNow(id int) {
	atExitLock.Lock()
	call := atExit[id]
	delete(atExit, id)
	atExitLock.Unlock()
	call()
}

func watch(body []byte, stop <-chan struct{}) {
	<-stop // PARKS: closure-kept-alive
	words.Add(int64(len(body)))
}

func leakClosure(w http.ResponseWriter, r *http.Request) {
	stop, body := make(chan struct{}), make([]byte, 4096)
	go watch(body, stop) // CREATES: closure-kept-alive
	onExit(func() { close(stop) })
}

func fixedClosure(w http.ResponseWriter, r *http.Request) {
	stop, body := make(chan struct{}), make([]byte, 4096)
	go watch(body, stop)
	defer callNow(onExit(func() { close(stop) }))
}
