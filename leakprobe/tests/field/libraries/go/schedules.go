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
	mistake("cron-scheduler", func() { schedule() }, func() { schedule().Stop() })
	healthy("cron-shared", func() { sharedCron() })
}

// A watcher of the configuration for each request.
func watch() *fsnotify.Watcher {
	watcher := value(fsnotify.NewWatcher())
	must(watcher.Add(os.TempDir()))
	return watcher
}

var ticks atomic.Int64

// A scheduler for each request, with a job that is far off.
func schedule() *cron.Cron {
	scheduler := cron.New()
	value(scheduler.AddFunc("0 0 1 1 *", func() { ticks.Add(1) }))
	scheduler.Start()
	return scheduler
}

// One for all, whose job runs each second.
var sharedCron = sync.OnceValue(func() *cron.Cron {
	scheduler := cron.New()
	value(scheduler.AddFunc("@every 1s", func() { ticks.Add(1) }))
	scheduler.Start()
	return scheduler
})
