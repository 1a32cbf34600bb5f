package kinds

import (
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"unsafe"

	"leakprobe.test/programs/control"
)

func startSyscalls() {
	var fds [2]int
	control.Must(syscall.Pipe(fds[:]))
	go readBlocking(fds[0])
	go nanosleep()
	go futex()
	startFlock()
}

// A descriptor that is not in non-blocking mode: the thread waits, not the poller.
func readBlocking(fd int) {
	for {
		_, _ = syscall.Read(fd, make([]byte, 10))
	}
}

func nanosleep() {
	for {
		_ = syscall.Nanosleep(&syscall.Timespec{Sec: 86400}, nil)
	}
}

var word uint32

func futex() {
	for {
		_, _, _ = syscall.Syscall6(syscall.SYS_FUTEX, uintptr(unsafe.Pointer(&word)), 0, 0, 0, 0, 0)
	}
}

func startFlock() {
	folder, err := os.MkdirTemp("", "waits")
	control.Must(err)
	path := filepath.Join(folder, "lock")
	first, err := os.Create(path)
	control.Must(err)
	second, err := os.Create(path)
	control.Must(err)
	control.Must(os.RemoveAll(folder))
	control.Must(syscall.Flock(int(first.Fd()), syscall.LOCK_EX))
	keep = append(keep, first, second)
	go flock(int(second.Fd()))
}

func flock(fd int) {
	for {
		_ = syscall.Flock(fd, syscall.LOCK_EX)
	}
}

// startSignals makes the runtime's signal goroutine appear, and one that waits for signals.
func startSignals() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR2)
	go receiveSignal(signals)
}

func receiveSignal(signals chan os.Signal) { <-signals }
