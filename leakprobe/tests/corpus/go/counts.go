package main

// Wait groups and conditions.

import (
	"errors"
	"net/http"
	"sync"
)

func init() {
	mistake("waitgroup-done-missing", leakDoneMissing, fixedDoneMissing)
	mistake("waitgroup-worker-panics", leakWorkerPanics, fixedWorkerPanics)
	mistake("cond-never-signalled", leakCond, fixedCond)
}

func fetch(part int) (int, error) {
	if part == 2 {
		return 0, errors.New("this part is not there")
	}
	return part, nil
}

// A part that fails is not counted as done.
func download(parts int, results chan<- int) {
	var running sync.WaitGroup
	for part := range parts {
		running.Add(1)
		go func() {
			got, err := fetch(part)
			if err != nil {
				return
			}
			results <- got
			running.Done()
		}()
	}
	running.Wait() // PARKS: waitgroup-done-missing
	close(results)
}

func downloadAll(parts int, results chan<- int) {
	var running sync.WaitGroup
	for part := range parts {
		running.Add(1)
		go func() {
			defer running.Done()
			got, err := fetch(part)
			if err != nil {
				return
			}
			results <- got
		}()
	}
	running.Wait()
	close(results)
}

func leakDoneMissing(w http.ResponseWriter, r *http.Request) {
	results := make(chan int, 3)
	go download(3, results) // CREATES: waitgroup-done-missing
}

func fixedDoneMissing(w http.ResponseWriter, r *http.Request) {
	results := make(chan int, 3)
	go downloadAll(3, results)
}

func parse(line []string) string { return line[1] }

// One bad line shall not end the program; but what comes after the panic is not done.
func parseAll(lines [][]string) {
	var running sync.WaitGroup
	for _, line := range lines {
		running.Add(1)
		go func() {
			defer func() { recover() }()
			parse(line)
			running.Done()
		}()
	}
	running.Wait() // PARKS: waitgroup-worker-panics
}

func parseAllDeferred(lines [][]string) {
	var running sync.WaitGroup
	for _, line := range lines {
		running.Add(1)
		go func() {
			defer running.Done()
			defer func() { recover() }()
			parse(line)
		}()
	}
	running.Wait()
}

func leakWorkerPanics(w http.ResponseWriter, r *http.Request) {
	go parseAll([][]string{{"a", "b"}, {"c"}}) // CREATES: waitgroup-worker-panics
}

func fixedWorkerPanics(w http.ResponseWriter, r *http.Request) {
	go parseAllDeferred([][]string{{"a", "b"}, {"c"}})
}

type mailbox struct {
	lock    sync.Mutex
	arrived *sync.Cond
	letters []string
	waiting chan struct{}
}

func newMailbox() *mailbox {
	m := &mailbox{waiting: make(chan struct{})}
	m.arrived = sync.NewCond(&m.lock)
	return m
}

func (m *mailbox) read() string {
	m.lock.Lock()
	defer m.lock.Unlock()
	close(m.waiting) // From here on the reader waits, whoever takes the lock next.
	for len(m.letters) == 0 {
		m.arrived.Wait() // PARKS: cond-never-signalled
	}
	return m.letters[0]
}

func (m *mailbox) put(letter string) {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.letters = append(m.letters, letter)
}

func (m *mailbox) putAndTell(letter string) {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.letters = append(m.letters, letter)
	m.arrived.Signal()
}

func leakCond(w http.ResponseWriter, r *http.Request) {
	m := newMailbox()
	go m.read() // CREATES: cond-never-signalled
	<-m.waiting
	m.put("hello")
}

func fixedCond(w http.ResponseWriter, r *http.Request) {
	m := newMailbox()
	go m.read()
	<-m.waiting
	m.putAndTell("hello")
}
