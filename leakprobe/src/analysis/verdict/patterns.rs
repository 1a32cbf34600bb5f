//! Known ways of leaking: how each looks from outside, what is wrong, and how to mend it.
//!
//! A pattern never makes a verdict: it explains one. The table is looked through from its top, so that what is special comes before
//! what is general.

use crate::model::{Channel, Finding, Recording, Site, Task, TaskKind, WaitKind};

/// What a pattern is told by.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) site: &'a Site,
    /// Some of the tasks there.
    pub(super) tasks: &'a [&'a Task],
    pub(super) recording: &'a Recording,
    /// How many there were at each moment.
    pub(super) counts: &'a [u64],
}

/// A way of leaking.
pub(super) struct Pattern {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) advice: &'static str,
    fits: fn(&Facts<'_>) -> bool,
}

/// The names of functions, innermost first.
pub(super) fn functions<'a>(stack: &'a [u32], recording: &'a Recording) -> impl Iterator<Item = &'a str> {
    stack.iter().filter_map(|&index| recording.frames.get(index as usize)).map(|frame| frame.function.as_str())
}

/// Whether there is code of such a module.
pub(super) fn is_of(stack: &[u32], recording: &Recording, module: &str) -> bool {
    let frames = stack.iter().filter_map(|&index| recording.frames.get(index as usize));
    frames.into_iter().any(|frame| frame.module_name().starts_with(module))
}

impl Facts<'_> {
    /// Whether a function on the stack begins so.
    fn stack(&self, start: &str) -> bool {
        functions(&self.site.stack, self.recording).any(|function| function.starts_with(start))
    }

    fn any_stack(&self, starts: &[&str]) -> bool {
        starts.iter().any(|start| self.stack(start))
    }

    /// Whether a function by which it was created begins so.
    fn creation(&self, start: &str) -> bool {
        functions(&self.site.creation, self.recording).any(|function| function.starts_with(start))
    }

    fn any_creation(&self, starts: &[&str]) -> bool {
        starts.iter().any(|start| self.creation(start))
    }

    fn is_go(&self) -> bool {
        self.site.task == TaskKind::Goroutine
    }

    fn is(&self, kind: WaitKind) -> bool {
        self.site.kind == kind
    }

    /// Whether a goroutine waits in this way.
    fn go(&self, kind: WaitKind) -> bool {
        self.is_go() && self.is(kind)
    }

    /// Whether a thread waits for this, by the beginning of the reason.
    fn thread(&self, reason: &str) -> bool {
        !self.is_go() && self.site.wait.starts_with(reason)
    }

    fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.tasks.iter().filter_map(|task| task.goroutine.as_deref()).flat_map(|goroutine| goroutine.channels.iter())
    }

    /// Whether a function of the program's own, on the stack or by which it was created, has one of these words in its name. For
    /// what is not in the shape of a wait, but in what programmers call it.
    fn is_called(&self, words: &[&str]) -> bool {
        let both = [&self.site.stack, &self.site.creation];
        let mut names = both.into_iter().flat_map(|stack| functions(stack, self.recording));
        names.any(|function| {
            // Go's path before the package is no name of what it does.
            let name = function.rsplit('/').next().unwrap_or(function).to_lowercase();
            !name.starts_with("runtime.") && !name.starts_with("sync.") && words.iter().any(|word| name.contains(word))
        })
    }

    /// The functions of the program's own, innermost first.
    fn own(&self) -> impl Iterator<Item = &str> {
        let own = |function: &&str| !["runtime.", "sync.", "internal/"].iter().any(|start| function.starts_with(start));
        functions(&self.site.stack, self.recording).filter(own)
    }

    /// Tasks that came with each request.
    fn a_request(&self) -> Option<f64> {
        let check = self.recording.check.as_ref()?;
        let requests: u64 = check.rounds.iter().filter_map(|round| round.requests).sum();
        let grown = self.counts.last()?.saturating_sub(*self.counts.first()?);
        (requests > 0).then(|| grown as f64 / requests as f64)
    }
}

/// The type of which a Go function is a method: `main.(*Account)` of `main.(*Account).Balance`.
fn receiver(function: &str) -> Option<&str> {
    let (receiver, _) = function.rsplit_once(").")?;
    Some(receiver)
}

/// The pattern that the site looks like.
pub(super) fn find(facts: &Facts<'_>) -> Option<Finding> {
    let pattern = PATTERNS.iter().find(|pattern| (pattern.fits)(facts))?;
    Some(Finding { pattern: pattern.id.to_owned(), title: pattern.title.to_owned(), advice: pattern.advice.to_owned() })
}

/// Every pattern.
pub(super) const PATTERNS: &[Pattern] = &[
    // Libraries that keep a goroutine for each thing that was not closed.
    Pattern {
        id: "go-http-body-not-closed",
        title: "HTTP response body not closed, or idle connections not closed",
        advice: "These are the two goroutines that net/http keeps for each connection of a client. They stay while the connection does: because the body of a response was not read to its end and closed (`defer resp.Body.Close()`, also if the status is an error), or because each request makes an http.Transport or http.Client of its own, whose idle connections nobody shares (make one and keep it, or call CloseIdleConnections).",
        fits: |it| {
            it.is_go()
                && it.any_stack(&[
                    "net/http.(*persistConn).readLoop",
                    "net/http.(*persistConn).writeLoop",
                    "net/http.(*http2ClientConn)",
                    "net/http/internal/http2.(*ClientConn)",
                ])
        },
    },
    Pattern {
        id: "go-context-never-cancelled",
        title: "context never cancelled",
        advice: "The context package started this goroutine to hand on the end of a parent context to a child, or to run what context.AfterFunc was given. It stays until one of the two is done: call the cancel function that WithCancel, WithTimeout or WithDeadline returned on every path, best by `defer cancel()`, and the stop function of AfterFunc.",
        fits: |it| {
            it.is_go()
                && (it.any_creation(&[
                    "context.(*cancelCtx).propagateCancel",
                    "context.propagateCancel",
                    "context.WithDeadline",
                    "context.AfterFunc",
                ]) || it.any_stack(&["context.(*cancelCtx).propagateCancel", "context.propagateCancel"]))
        },
    },
    Pattern {
        id: "go-sql-rows-not-closed",
        title: "database rows, transaction or handle not closed",
        advice: "database/sql keeps this goroutine until what was opened is closed: call rows.Close() also on the paths that return early, end each transaction by Commit or Rollback (`defer tx.Rollback()`), and open one sql.DB for the whole program instead of one a request.",
        fits: |it| it.is_go() && it.stack("database/sql."),
    },
    Pattern {
        id: "go-pipe-other-end-open",
        title: "io.Pipe whose other end is never closed",
        advice: "A reader of an io.Pipe waits until the writer writes or closes, and a writer until somebody reads: close both ends on every path, with CloseWithError where one side fails.",
        fits: |it| it.is_go() && it.any_stack(&["io.(*pipe).read", "io.(*pipe).write"]),
    },
    Pattern {
        id: "go-command-never-waited",
        title: "output of a command that does not end",
        advice: "os/exec copies a command's input and output in goroutines that stay until the command, and whatever it started and gave its output to, has ended: use exec.CommandContext with a deadline, set WaitDelay, and call Wait on every path.",
        fits: |it| it.is_go() && (it.stack("os/exec.") || it.creation("os/exec.")),
    },
    Pattern {
        id: "go-grpc-connection-not-closed",
        title: "gRPC connection not closed",
        advice: "gRPC keeps these goroutines for each connection: call Close on each grpc.ClientConn, and make one and share it instead of one a request; cancel the context of each stream that is not read to its end.",
        fits: |it| it.is_go() && (it.stack("google.golang.org/grpc") || it.creation("google.golang.org/grpc")),
    },
    // Waits that nothing can end.
    Pattern {
        id: "go-nil-channel",
        title: "nil channel",
        advice: "A send to, or a receive from, a nil channel blocks for ever: the variable or field was never given a channel, or was set to nil to switch a case of a select off and then used outside it. Make the channel before it is used.",
        fits: |it| {
            it.is_go()
                && it.tasks.iter().any(|task| task.goroutine.as_deref().is_some_and(|goroutine| goroutine.forever))
                && !it.is(WaitKind::Select)
        },
    },
    Pattern {
        id: "go-empty-select",
        title: "select without a case that could happen",
        advice: "`select {}`, or a select all of whose channels are nil, blocks for ever. In main that may be meant; elsewhere wait for a context or a done channel instead, so that the goroutine can end.",
        fits: |it| {
            it.go(WaitKind::Select)
                && it.tasks.iter().any(|task| task.goroutine.as_deref().is_some_and(|goroutine| goroutine.forever))
        },
    },
    // Locks of Go.
    Pattern {
        id: "go-recursive-lock",
        title: "lock taken again by who holds it",
        advice: "A method of a type waits for a lock in a call from another method of the same type, and nobody else waits for that lock: most likely the caller holds it already. Go's locks are not recursive, and an RLock inside an RLock waits, too, as soon as a writer waits in between. Give the inner work a function of its own that expects the lock to be held.",
        fits: |it| {
            let mut own = it.own();
            let inner = own.next().and_then(receiver);
            it.go(WaitKind::Sync)
                && it.any_stack(&LOCKS)
                && inner.is_some()
                && own.take(4).any(|outer| receiver(outer) == inner)
                && each_waits_alone(it)
        },
    },
    Pattern {
        id: "go-lock-never-released",
        title: "lock held by a goroutine that is itself parked, or never unlocked",
        advice: "Whoever holds this sync.Mutex or RWMutex does not release it: it returned on a path without Unlock (use `defer mu.Unlock()`), or is itself parked while it holds the lock, in a channel operation or a call to the network. Look among the other sites for one with the same lock's function on its stack; do not hold a lock across anything that can block.",
        fits: |it| it.go(WaitKind::Sync) && it.any_stack(&LOCKS),
    },
    Pattern {
        id: "go-waitgroup-never-zero",
        title: "WaitGroup whose count does not reach zero",
        advice: "Wait returns when as many Done as Add were called. One is missing: a goroutine returned, or panicked, before Done (use `defer wg.Done()` as its first statement), Add counted more goroutines than were started, or one of them is itself parked: look for it among the other sites.",
        fits: |it| {
            it.go(WaitKind::Sync)
                && it.any_stack(&["sync.(*WaitGroup).Wait", "golang.org/x/sync/errgroup.(*Group).Wait"])
        },
    },
    Pattern {
        id: "go-cond-never-signalled",
        title: "condition without Signal",
        advice: "sync.Cond.Wait returns only after Signal or Broadcast: the one that changes the condition does not call it, calls it before the waiter waits, or uses Signal where several wait. Call Broadcast after each change while the lock is held, also when shutting down; or use a channel, which can be given up by a select.",
        fits: |it| it.go(WaitKind::Sync) && it.stack("sync.(*Cond).Wait"),
    },
    Pattern {
        id: "go-semaphore-never-released",
        title: "semaphore never released",
        advice: "All places of this semaphore are taken: somebody acquired one and did not give it back on every path. Release it by a `defer` right after it was acquired, and acquire with a context, so that waiting can be given up.",
        fits: |it| {
            it.is_go()
                && (it.stack("golang.org/x/sync/semaphore.")
                    || it.is(WaitKind::ChanSend)
                        && it
                            .channels()
                            .any(|channel| channel.cap > 0 && channel.len == channel.cap && channel.receivers == 0)
                        && it.is_called(&["acquire", "sem", "limit", "token", "slot"]))
        },
    },
    // By what they are called.
    Pattern {
        id: "go-logger-never-closed",
        title: "asynchronous logger never closed",
        advice: "Each of these goroutines writes what a logger is given, until the logger is closed. Make one logger for the whole program instead of one a request, or close each when it is no longer used.",
        fits: |it| {
            it.is_go()
                && matches!(it.site.kind, WaitKind::ChanReceive | WaitKind::Select)
                && it.is_called(&["logger", "logloop", "flushlog", "lumberjack", "(*log", "log).", "logwriter"])
        },
    },
    Pattern {
        id: "go-worker-pool-never-closed",
        title: "worker pool never closed",
        advice: "These are workers of a pool that waits for jobs, and each request, or each call, makes another pool: close the channel of jobs when the last one was given (`defer close(jobs)`), or make one pool and share it.",
        fits: |it| {
            it.is_go()
                && matches!(it.site.kind, WaitKind::ChanReceive | WaitKind::Select)
                && !it.channels().any(|channel| channel.timer)
                && it.is_called(&["worker", "pool", "consumer", "dispatch"])
        },
    },
    Pattern {
        id: "go-goroutine-per-item",
        title: "goroutine for each item, without a limit",
        advice: "Each request starts many goroutines, one for each item, and they wait for each other or for a result that nobody takes. Bound them (errgroup.SetLimit, a pool of workers), let the channel of results have room for all of them, and let them give up with the request's context.",
        fits: |it| {
            it.is_go()
                && it.a_request().is_some_and(|number| number >= 4.0)
                && matches!(it.site.kind, WaitKind::ChanSend | WaitKind::ChanReceive | WaitKind::Select)
        },
    },
    // Timers.
    Pattern {
        id: "go-ticker-never-stopped",
        title: "ticker or timer loop never stopped",
        advice: "The goroutine wakes whenever its ticker or timer fires, and goes on for ever: Stop does not close a ticker's channel, so that a `range` over it never ends. Select on the ticker and on a context or done channel, return when that is done, and `defer ticker.Stop()`.",
        fits: |it| it.is_go() && it.channels().any(|channel| channel.timer),
    },
    Pattern {
        id: "go-handler-endless-loop",
        title: "request handler, or what it started, that loops for ever",
        advice: "The goroutine sleeps, wakes by itself and goes on in a loop that has no end. Let it end with what it works for: select on ctx.Done() (`r.Context()` in a handler) and on time.After or a ticker in place of time.Sleep.",
        fits: |it| it.is_go() && it.stack("time.Sleep"),
    },
    // Channels, from the special to the general.
    Pattern {
        id: "go-handler-never-returns",
        title: "request handler that does not return",
        advice: "A handler of an HTTP server is parked, and with it its connection and all that its request keeps alive. Give what it waits for a way out: select on r.Context().Done(), set timeouts on calls to others (http.Client.Timeout, SetDeadline), and ReadTimeout and WriteTimeout on the server.",
        fits: |it| {
            it.is_go()
                && it.stack("net/http.(*conn).serve")
                && !it.any_stack(&["net/http.(*connReader)", "net/http.(*conn).readRequest", "bufio.(*Reader).Peek"])
        },
    },
    Pattern {
        id: "go-chan-send-no-receiver",
        title: "channel send with no receiver",
        advice: "Nobody receives from this channel any more: the receiver returned early, on an error or a timeout, while the sender still had something to send. Give the channel room for what is sent (`make(chan T, 1)` for one result), or send in a select with ctx.Done().",
        fits: |it| it.go(WaitKind::ChanSend),
    },
    Pattern {
        id: "go-chan-range-never-closed",
        title: "range over a channel that is never closed",
        advice: "A `for … range` over a channel ends when the channel is closed, and nobody closes it. The sender closes it when it has sent the last value (`defer close(ch)`), on every path.",
        fits: |it| it.go(WaitKind::ChanReceive) && it.stack("runtime.chanrecv2"),
    },
    Pattern {
        id: "go-closure-kept-alive",
        title: "goroutine that keeps its request alive",
        advice: "The goroutine is a closure that a request handler started, and waits for a signal that something global would have to give: with it all that the closure refers to is kept. Deregister on every path, and give the wait a way out by the request's context.",
        fits: |it| {
            it.go(WaitKind::ChanReceive)
                && it.is_called(&["watch", "register", "subscrib", "atexit", "onexit", "callback", "hook", "listener"])
        },
    },
    Pattern {
        id: "go-chan-receive-no-sender",
        title: "receive from a channel on which nobody sends",
        advice: "Nobody sends on this channel any more: the sender returned early, or sends only if something happens that did not. Close the channel on every path of the sender, or receive in a select with ctx.Done() or a timeout.",
        fits: |it| it.go(WaitKind::ChanReceive),
    },
    Pattern {
        id: "go-select-no-way-out",
        title: "select without a way out",
        advice: "None of the cases happens any more, and none of them is a way out: add a case for ctx.Done(), or a done channel that is closed on shutdown, and see to it that whoever starts the goroutine ends it.",
        fits: |it| it.go(WaitKind::Select),
    },
    Pattern {
        id: "go-network-without-deadline",
        title: "network call without a deadline",
        advice: "The goroutine waits for the other end of a connection, and nothing limits for how long: set deadlines (SetDeadline, http.Client.Timeout, a context with a timeout), and close the connection when the work is given up.",
        fits: |it| {
            it.is_go() && matches!(it.site.kind, WaitKind::Socket | WaitKind::Pipe | WaitKind::Poll | WaitKind::File)
        },
    },
    // Threads.
    Pattern {
        id: "java-executor-not-shut-down",
        title: "executor never shut down",
        advice: "These are the workers of a java.util.concurrent executor, which wait for tasks until it is shut down: call shutdown() (or use try-with-resources, from Java 19 on) when an executor is no longer used, and make one for the whole program instead of one a request.",
        fits: |it| {
            !it.is_go()
                && is_of(&it.site.stack, it.recording, "libjvm")
                && it.site.names.iter().any(|name| name.starts_with("pool-") || name.contains("-thread-"))
        },
    },
    Pattern {
        id: "python-worker-never-ended",
        title: "Python thread that waits on a queue or lock for ever",
        advice: "A Python thread waits in queue.get(), or for a lock or condition, and nobody wakes it: put a sentinel on the queue for each worker (or call queue.shutdown(), from Python 3.13 on), join the workers, and use concurrent.futures with a `with` block. A thread that is no daemon also keeps the interpreter from ending.",
        fits: |it| {
            !it.is_go()
                && it.any_stack(&[
                    "lock_PyThread_acquire_lock",
                    "PyThread_acquire_lock_timed",
                    "_queue_SimpleQueue_get",
                    "acquire_timed",
                    "rlock_acquire",
                ])
        },
    },
    Pattern {
        id: "thread-lock-holder-exited",
        title: "lock whose holder has exited",
        advice: "A thread ended while it held this mutex, so that nobody will ever release it. Unlock on every path, also those by which the thread is cancelled (pthread_cleanup_push, a lock guard), or make the mutex robust.",
        fits: |it| it.tasks.iter().any(|task| super::hopeless(task) == Some(super::Hopeless::HolderExited)),
    },
    Pattern {
        id: "thread-self-deadlock",
        title: "lock taken again by the thread that holds it",
        advice: "The thread waits for a mutex that it holds itself. Give the inner work a function of its own that expects the lock to be held, or make the mutex recursive.",
        fits: |it| deadlock_of(it).is_some_and(|size| size == 1),
    },
    Pattern {
        id: "thread-lock-order-inversion",
        title: "locks taken in different orders",
        advice: "Each of these threads holds a lock that the next one waits for. Take locks in one order everywhere, take them together (std::scoped_lock), or take the second by trylock and start again.",
        fits: |it| deadlock_of(it).is_some(),
    },
    Pattern {
        id: "thread-mutex-never-unlocked",
        title: "mutex never unlocked",
        advice: "The thread that holds this mutex does not release it: it left the critical section on a path without unlock (use a lock guard), or is itself parked while it holds it. The report says who holds it, and where that thread is.",
        fits: |it| it.thread("mutex") || it.thread("rwlock") || it.thread("monitor enter"),
    },
    Pattern {
        id: "thread-condition-never-signalled",
        title: "condition never signalled",
        advice: "The thread waits on a condition variable, and whoever changes the condition does not signal it: it signals before the waiter waits without having changed the condition under the lock, signals one where several wait, or has ended. Change the condition under the lock, then broadcast, also on shutdown. Queues of work: let the workers end when no more work can come.",
        fits: |it| {
            let waits = ["condition variable", "thread park", "Object.wait", "LockSupport.park"];
            waits.into_iter().any(|reason| it.thread(reason))
        },
    },
    Pattern {
        id: "thread-join-never-ends",
        title: "join on a thread that does not end",
        advice: "The thread waits until another one exits, and that one does not: the report says which it is, and where it is parked. Tell it to end before joining it.",
        fits: |it| it.thread("join"),
    },
    Pattern {
        id: "thread-semaphore-never-posted",
        title: "semaphore never posted",
        advice: "Nobody posts this semaphore: it was taken and not given back on every path, or the thread that would post it has ended. Post it by a guard, and wait with sem_timedwait where waiting may be given up.",
        fits: |it| it.thread("semaphore"),
    },
    Pattern {
        id: "thread-barrier-incomplete",
        title: "barrier at which not all arrive",
        advice: "A barrier lets threads go on when as many as it was made for have arrived: one of them has ended, or is parked elsewhere.",
        fits: |it| it.thread("barrier"),
    },
    Pattern {
        id: "thread-sleeper",
        title: "thread for each request that sleeps",
        advice: "Each request starts a thread that sleeps, once or in a loop. Use one thread with a queue of timers (or timerfd) for all of them, and let threads wait on something by which they can be told to end.",
        fits: |it| !it.is_go() && it.is(WaitKind::Sleep),
    },
    Pattern {
        id: "thread-other-end-open",
        title: "reader whose other end is never closed",
        advice: "The thread reads from, or writes to, a pipe or socket and waits for its other end, which is neither used nor closed. The report says who has it. Close what is not used (also descriptors that children inherit: O_CLOEXEC), shut sockets down when the work is over, and set timeouts (SO_RCVTIMEO, poll).",
        fits: |it| !it.is_go() && matches!(it.site.kind, WaitKind::Pipe | WaitKind::Socket | WaitKind::Poll),
    },
];

/// Functions in which goroutines wait for a lock.
const LOCKS: [&str; 5] = [
    "sync.(*Mutex).Lock",
    "sync.(*Mutex).lockSlow",
    "sync.(*RWMutex).Lock",
    "sync.(*RWMutex).RLock",
    "internal/sync.(*Mutex)",
];

/// Whether each of the tasks waits on another object than the others.
fn each_waits_alone(it: &Facts<'_>) -> bool {
    let mut objects: Vec<&str> =
        it.tasks.iter().filter_map(|task| task.wait.as_ref()).map(|wait| &*wait.object).collect();
    let count = objects.len();
    objects.sort_unstable();
    objects.dedup();
    count > 0 && objects.len() == count && !objects.contains(&"")
}

/// How many tasks the deadlock has that one of these is part of.
fn deadlock_of(it: &Facts<'_>) -> Option<usize> {
    let is_of = |id: u64| it.tasks.iter().any(|task| task.kind == TaskKind::Thread && task.id == id);
    let deadlock = it.recording.deadlocks.iter().find(|deadlock| deadlock.tasks.iter().any(|task| is_of(task.task)))?;
    Some(deadlock.tasks.len())
}
