package kinds

import "sync"

type locks struct {
	held    sync.Mutex
	reading sync.RWMutex
	writing sync.RWMutex
	group   sync.WaitGroup
	signal  *sync.Cond
	once    sync.Once
}

func startLocks() {
	all := &locks{signal: sync.NewCond(&sync.Mutex{})}
	keep = append(keep, all)
	all.held.Lock()
	all.reading.RLock()
	all.writing.Lock()
	all.group.Add(1)
	go all.lock()
	go all.lockTwice()
	go all.readLock()
	go all.writeLock()
	go all.waitGroup()
	go all.condition()
	go all.onceRunning()
	// One of the two runs the function, the other waits for its end.
	go all.onceRunning()
	startGroup(all)
}

func (all *locks) lock() {
	all.held.Lock()
	defer all.held.Unlock()
}

func (all *locks) lockTwice() {
	var own sync.Mutex
	own.Lock()
	own.Lock()
}

func (all *locks) readLock() { all.writing.RLock() }

func (all *locks) writeLock() { all.reading.Lock() }

func (all *locks) waitGroup() { all.group.Wait() }

func (all *locks) condition() {
	all.signal.L.Lock()
	for {
		all.signal.Wait()
	}
}

func (all *locks) onceRunning() { all.once.Do(all.first) }

func (all *locks) first() { <-Never }

// startGroup runs several functions and waits for all of them, as errgroup does.
func startGroup(all *locks) {
	go func() {
		var group sync.WaitGroup
		for i := 0; i < 3; i++ {
			group.Add(1)
			go func(channel chan int) {
				defer group.Done()
				<-channel
			}(make(chan int))
		}
		group.Wait()
	}()
}
