package main

// Mutexes, read-write mutexes, semaphores.

import (
	"errors"
	"net/http"
	"sync"
	"time"
)

func init() {
	mistake("lock-held-by-parked", leakLockHeld, fixedLockHeld)
	mistake("lock-error-path", leakLockErrorPath, fixedLockErrorPath)
	mistake("recursive-lock", leakRecursiveLock, fixedRecursiveLock)
	mistake("recursive-read-lock", leakRecursiveReadLock, fixedRecursiveReadLock)
	mistake("semaphore-not-released", leakSemaphore, fixedSemaphore)
}

var rates = struct {
	lock  sync.Mutex
	fresh bool
	reply chan int
	euro  int
}{reply: make(chan int)}

// Waits for the new rates with the lock held, and nobody answers.
func refreshRates() {
	rates.lock.Lock() // PARKS: lock-held-by-parked
	defer rates.lock.Unlock()
	if !rates.fresh {
		rates.euro = <-rates.reply
		rates.fresh = true
	}
}

func refreshRatesOrNot() {
	var euro int
	select {
	case euro = <-rates.reply:
	case <-time.After(10 * time.Millisecond):
		return
	}
	rates.lock.Lock()
	defer rates.lock.Unlock()
	rates.euro, rates.fresh = euro, true
}

func leakLockHeld(w http.ResponseWriter, r *http.Request) {
	go refreshRates() // CREATES: lock-held-by-parked
}

func fixedLockHeld(w http.ResponseWriter, r *http.Request) {
	go refreshRatesOrNot()
}

type account struct {
	lock    sync.Mutex
	balance int
}

var shop = &account{balance: -1}

// Leaves with the lock held if there is no money: whoever comes next waits for ever.
func (a *account) withdraw(amount int) error {
	a.lock.Lock() // PARKS: lock-error-path
	if a.balance < amount {
		return errors.New("not enough money")
	}
	a.balance -= amount
	a.lock.Unlock()
	return nil
}

func (a *account) withdrawSafely(amount int) error {
	a.lock.Lock()
	defer a.lock.Unlock()
	if a.balance < amount {
		return errors.New("not enough money")
	}
	a.balance -= amount
	return nil
}

func leakLockErrorPath(w http.ResponseWriter, r *http.Request) {
	go shop.withdraw(5) // CREATES: lock-error-path
}

func fixedLockErrorPath(w http.ResponseWriter, r *http.Request) {
	go shop.withdrawSafely(5)
}

type inventory struct {
	lock  sync.Mutex
	items map[string]int
}

func (i *inventory) total() int {
	i.lock.Lock() // PARKS: recursive-lock
	defer i.lock.Unlock()
	return i.totalLocked()
}

func (i *inventory) totalLocked() (total int) {
	for _, number := range i.items {
		total += number
	}
	return total
}

// Locks, and calls a method that locks.
func (i *inventory) add(item string, limit int) bool {
	i.lock.Lock()
	defer i.lock.Unlock()
	if i.total() >= limit {
		return false
	}
	i.items[item]++
	return true
}

func (i *inventory) addLocked(item string, limit int) bool {
	i.lock.Lock()
	defer i.lock.Unlock()
	if i.totalLocked() >= limit {
		return false
	}
	i.items[item]++
	return true
}

func leakRecursiveLock(w http.ResponseWriter, r *http.Request) {
	i := &inventory{items: map[string]int{}}
	go i.add("tea", 10) // CREATES: recursive-lock
}

func fixedRecursiveLock(w http.ResponseWriter, r *http.Request) {
	i := &inventory{items: map[string]int{}}
	go i.addLocked("tea", 10)
}

type config struct {
	lock   sync.RWMutex
	values map[string]string
}

func (c *config) get(key string) string {
	c.lock.RLock() // PARKS: recursive-read-lock
	defer c.lock.RUnlock()
	return c.values[key]
}

func (c *config) set(key, value string) {
	c.lock.Lock() // BESIDE: recursive-read-lock
	defer c.lock.Unlock()
	c.values[key] = value
}

// Reads with the lock held and takes it again: that works until a writer comes in between.
func (c *config) address() string {
	c.lock.RLock()
	defer c.lock.RUnlock()
	c.changeMeanwhile()
	return c.get("host") + ":" + c.get("port")
}

func (c *config) addressOnce() string {
	c.lock.RLock()
	defer c.lock.RUnlock()
	c.changeMeanwhile()
	return c.values["host"] + ":" + c.values["port"]
}

// The unlucky moment, made certain: a writer comes while the caller reads, and waits.
func (c *config) changeMeanwhile() {
	go c.set("host", "localhost")
	for c.lock.TryRLock() {
		c.lock.RUnlock()
		time.Sleep(time.Millisecond)
	}
}

func leakRecursiveReadLock(w http.ResponseWriter, r *http.Request) {
	c := &config{values: map[string]string{}}
	go c.address() // CREATES: recursive-read-lock
}

func fixedRecursiveReadLock(w http.ResponseWriter, r *http.Request) {
	c := &config{values: map[string]string{}}
	go c.addressOnce()
}

// Two may write to the disk at a time.
var disk = make(chan struct{}, 2)

func write(file string) error { return errors.New("no space left for " + file) }

func leakSemaphore(w http.ResponseWriter, r *http.Request) {
	go func() { // CREATES: semaphore-not-released
		disk <- struct{}{} // PARKS: semaphore-not-released
		if err := write(r.URL.Path); err != nil {
			return
		}
		<-disk
	}()
}

func fixedSemaphore(w http.ResponseWriter, r *http.Request) {
	go func() {
		disk <- struct{}{}
		defer func() { <-disk }()
		if err := write(r.URL.Path); err != nil {
			return
		}
	}()
}
