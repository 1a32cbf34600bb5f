package main

// fsnotify and cron.

import (
	"os"
	"sync"
	"sync/atomic"

	"github.com/fsnotify/fsnotify"
	"github.com/robfig/cron/v3"
)

func init() {
	mistake("fsnotify-watcher", func() { watch() }, func() { must(watch().Close()) })
	mistake("cron-far", func() { schedule(yearly) }, func() { schedule(yearly).Stop() })
	mistake("cron-scheduler", func() { schedule(often) }, func() { schedule(often).Stop() })
	healthy("cron-shared", func() { sharedCron() })
}

// A watcher of the configuration for each request.
func watch() *fsnotify.Watcher {
	watcher := value(fsnotify.NewWatcher())
	must(watcher.Add(os.TempDir()))
	return watcher
}

var ticks atomic.Int64

const (
	often  = "@every 1s"
	yearly = "0 0 1 1 *"
)

// A scheduler for each request.
func schedule(when string) *cron.Cron {
	scheduler := cron.New()
	value(scheduler.AddFunc(when, func() { ticks.Add(1) }))
	scheduler.Start()
	return scheduler
}

// One for all.
var sharedCron = sync.OnceValue(func() *cron.Cron { return schedule(often) })
