package main

// Leaks whose names or shapes suggest another pattern than theirs. One knot a request.

import (
	"net/http"
	"sync"
	"time"
)

func init() {
	for name, tie := range map[string]func(){
		"pattern-order": order, "pattern-holder": holder, "pattern-method": method, "pattern-token": token, "pattern-watch": watch,
		"pattern-dispatch": dispatch, "pattern-comma-ok": commaOK, "pattern-stopped": stopped, "pattern-once": onceTwice,
		"pattern-reader": reader,
	} {
		tie := tie
		cases[name] = func([]string) http.HandlerFunc { return func(http.ResponseWriter, *http.Request) { tie() } }
	}
}

// order: two locks taken in opposite orders by two goroutines. None takes a lock twice.
type account struct {
	lock  sync.Mutex
	other *account
	ready *sync.WaitGroup
}

//go:noinline
func (a *account) transfer() {
	a.lock.Lock()
	defer a.lock.Unlock()
	a.ready.Done()
	a.ready.Wait()
	a.deposit()
}

//go:noinline
func (a *account) deposit() {
	a.other.lock.Lock()
	a.other.lock.Unlock()
}

func order() {
	var ready sync.WaitGroup
	ready.Add(2)
	a, b := &account{ready: &ready}, &account{ready: &ready}
	a.other, b.other = b, a
	go a.transfer()
	go b.transfer()
}

// holder: the lock is held by another goroutine, which is parked in a send. The waiter has released it before.
type feed struct {
	lock sync.Mutex
	out  chan int
}

//go:noinline
func (f *feed) produce(held chan bool) {
	f.lock.Lock()
	defer f.lock.Unlock()
	close(held)
	f.out <- 1
}

//go:noinline
func (f *feed) refresh(held chan bool) {
	f.lock.Lock()
	f.lock.Unlock()
	go f.produce(held)
	<-held
	f.reload()
}

//go:noinline
func (f *feed) reload() {
	f.lock.Lock()
	f.lock.Unlock()
}

func holder() { go (&feed{out: make(chan int)}).refresh(make(chan bool)) }

// method: the same, called through a method value, whose wrapper is no caller that could hold the lock.
type store struct {
	lock   sync.Mutex
	notify func()
}

//go:noinline
func (s *store) changed() {
	s.lock.Lock()
	s.lock.Unlock()
}

//go:noinline
func (s *store) load(held chan bool, out chan int) {
	s.lock.Lock()
	defer s.lock.Unlock()
	close(held)
	out <- 1
}

//go:noinline
func callBack(f func()) { f() }

func method() {
	s := &store{}
	s.notify = s.changed
	held := make(chan bool)
	go s.load(held, make(chan int))
	<-held
	go callBack(s.notify)
}

// token: a queue of tokens, say of a lexer, whose reader has returned. No semaphore.
//
//go:noinline
func emitTokens(out chan string) {
	for _, word := range []string{"a", "b", "c"} {
		out <- word
	}
}

func token() { go emitTokens(make(chan string, 1)) }

// watch: a method waits for the end of a worker that never ends. Neither a closure nor registered anywhere.
type watcher struct{ done chan bool }

//go:noinline
func (w *watcher) stop() { <-w.done }

func watch() { go (&watcher{done: make(chan bool)}).stop() }

// dispatch: the one goroutine that would close `ended` waits for it. No pool, no jobs.
type conn struct{ ended chan bool }

//go:noinline
func (c *conn) dispatcher() {
	defer close(c.ended)
	c.shut()
}

//go:noinline
func (c *conn) shut() { <-c.ended }

func dispatch() { go (&conn{ended: make(chan bool)}).dispatcher() }

// comma-ok: one receive that also asks whether the channel is closed. No range.
//
//go:noinline
func reply(c chan int) {
	if _, ok := <-c; ok {
		return
	}
}

func commaOK() { go reply(make(chan int)) }

// stopped: receives from a timer that was stopped, and so never fires. No loop, and it never wakes.
//
//go:noinline
func drainStopped() {
	timer := time.NewTimer(time.Hour)
	if timer.Stop() {
		<-timer.C
	}
}

func stopped() { go drainStopped() }

// once: two sync.Once whose functions need each other. No sync.Mutex in the program.
type lazy struct {
	one, two sync.Once
	ready    sync.WaitGroup
}

//go:noinline
func (l *lazy) first() { l.one.Do(func() { l.ready.Done(); l.ready.Wait(); l.two.Do(func() {}) }) }

//go:noinline
func (l *lazy) second() { l.two.Do(func() { l.ready.Done(); l.ready.Wait(); l.one.Do(func() {}) }) }

func onceTwice() {
	l := &lazy{}
	l.ready.Add(2)
	go l.first()
	go l.second()
}

// reader: a read lock inside a read lock, with a writer in between, and a second reader that shares the lock.
type table struct{ lock sync.RWMutex }

//go:noinline
func (t *table) size(begin chan bool) int {
	t.lock.RLock()
	defer t.lock.RUnlock()
	<-begin
	time.Sleep(20 * time.Millisecond)
	return t.count()
}

//go:noinline
func (t *table) count() int {
	t.lock.RLock()
	defer t.lock.RUnlock()
	return 1
}

//go:noinline
func (t *table) write(begin chan bool) {
	close(begin)
	t.lock.Lock()
	t.lock.Unlock()
}

func reader() {
	t, begin := &table{}, make(chan bool)
	go t.size(begin)
	go t.size(begin)
	time.Sleep(time.Millisecond)
	go t.write(begin)
}
