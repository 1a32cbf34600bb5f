//! Ways in which goroutines leak.

use super::{LOCKS, Pattern};
use crate::model::{TaskKind, WaitKind};

/// Those of goroutines.
pub(super) const PATTERNS: &[Pattern] = &[
    Pattern {
        id: "go-finalizer-stuck",
        title: "finalizer or cleanup that does not return",
        advice: "The runtime runs all finalizers in one goroutine, and cleanups in few: while one of the program's waits, no other is run, and what they would release is kept. A finalizer must not block: let it start a goroutine for whatever may wait, and release by Close instead.",
        ends: false,
        fits: |it| {
            it.site.role.is_own()
                && it.is_go()
                && it.any_stack(&["runtime.runfinq", "runtime.runFinalizers", "runtime.runCleanups"])
        },
    },
    // Libraries that keep a goroutine for each thing that was not closed.
    Pattern {
        id: "go-http-body-not-closed",
        title: "HTTP response body not closed, or idle connections not closed",
        advice: "These are the two goroutines that net/http keeps for each connection of a client. They stay while the connection does: because the body of a response was not read to its end and closed (`defer resp.Body.Close()`, also if the status is an error), or because each request makes an http.Transport or http.Client of its own, whose idle connections nobody shares (make one and keep it, or call CloseIdleConnections).",
        ends: true,
        fits: |it| {
            it.is_go()
                && it.any_stack(&[
                    "net/http.(*persistConn).readLoop",
                    "net/http.(*persistConn).writeLoop",
                    "net/http.(*http2ClientConn).readLoop",
                    "net/http/internal/http2.(*ClientConn).readLoop",
                ])
        },
    },
    Pattern {
        id: "go-context-never-cancelled",
        title: "context never cancelled",
        advice: "The context package started this goroutine to hand on the end of a parent context to a child, or to run what context.AfterFunc was given. It stays until one of the two is done: call the cancel function that WithCancel, WithTimeout or WithDeadline returned on every path, best by `defer cancel()`, and the stop function of AfterFunc.",
        ends: false,
        fits: |it| it.is_go() && it.waits_in(&["context.(*cancelCtx).propagateCancel", "context.propagateCancel"]),
    },
    Pattern {
        id: "go-sql-pool-exhausted",
        title: "no free database connection",
        advice: "All connections that SetMaxOpenConns allows are in use, and this goroutine waits for one to come back: rows, a transaction or a sql.Conn was not closed on some path (rows.Close(), `defer tx.Rollback()`), or a query is made while the rows of another one are still open. Query with a context that has a deadline.",
        ends: false,
        fits: |it| {
            it.is_go() && it.waits_in(&["database/sql.(*DB).conn"]) && !it.waits_in(&["database/sql.(*DB).connection"])
        },
    },
    Pattern {
        id: "go-sql-rows-not-closed",
        title: "database rows, transaction or handle not closed",
        advice: "database/sql keeps this goroutine until what was opened is closed: call rows.Close() also on the paths that return early, end each transaction by Commit or Rollback (`defer tx.Rollback()`), and open one sql.DB for the whole program instead of one a request.",
        ends: false,
        fits: |it| it.is_go() && it.creation("database/sql.") && it.waits_in(&["database/sql."]),
    },
    Pattern {
        id: "go-pipe-other-end-open",
        title: "io.Pipe whose other end is never closed",
        advice: "A reader of an io.Pipe waits until the writer writes or closes, and a writer until somebody reads: close both ends on every path, with CloseWithError where one side fails.",
        ends: false,
        fits: |it| it.is_go() && it.waits_in(&["io.(*pipe).read", "io.(*pipe).write"]),
    },
    Pattern {
        id: "go-command-never-waited",
        title: "output of a command that does not end",
        advice: "os/exec copies a command's input and output in goroutines that stay until the command, and whatever it started and gave its output to, has ended: use exec.CommandContext with a deadline, set WaitDelay, and call Wait on every path.",
        ends: true,
        fits: |it| it.is_go() && (it.stack("os/exec.") || it.creation("os/exec.")),
    },
    Pattern {
        id: "go-grpc-connection-not-closed",
        title: "gRPC connection not closed",
        advice: "gRPC keeps these goroutines for each connection: call Close on each grpc.ClientConn, and make one and share it instead of one a request.",
        ends: false,
        // Handlers of a server have gRPC's functions outside of the program's own, and those of its connections are its clients'.
        fits: |it| {
            it.is_go()
                && it.creation(GRPC)
                && !it.has_others_than(GRPC)
                && !it.any_stack(GRPC_SERVER)
                && !GRPC_SERVER.iter().any(|start| it.creation(start))
        },
    },
    Pattern {
        id: "go-grpc-call-not-ended",
        title: "gRPC call or stream that does not end",
        advice: "The goroutine waits inside of gRPC for the other side, and nothing limits for how long: give each call a context with a deadline, and read each stream to its end or cancel its context.",
        ends: false,
        fits: |it| it.is_go() && it.is_inside(GRPC) && it.has_others_than(GRPC),
    },
    // Waits that nothing can end.
    Pattern {
        id: "go-nil-channel",
        title: "nil channel",
        advice: "A send to, or a receive from, a nil channel blocks for ever: the variable or field was never given a channel, or was set to nil to switch a case of a select off and then used outside it. Make the channel before it is used. Done() of context.Background, context.TODO and context.WithoutCancel is nil, too: what receives from it needs a context that can end.",
        ends: false,
        fits: |it| {
            it.is_go()
                && it.tasks.iter().any(|task| task.goroutine.as_deref().is_some_and(|goroutine| goroutine.forever))
                && !it.is(WaitKind::Select)
        },
    },
    Pattern {
        id: "go-empty-select",
        title: "select without a case that could happen",
        advice: "`select {}`, or a select all of whose channels are nil, blocks for ever; Done() of context.Background, context.TODO and context.WithoutCancel is such a nil channel. In main that may be meant; elsewhere wait for a context that can end, or for a done channel, so that the goroutine can end.",
        ends: false,
        fits: |it| {
            it.go(WaitKind::Select)
                && it.tasks.iter().any(|task| task.goroutine.as_deref().is_some_and(|goroutine| goroutine.forever))
        },
    },
    Pattern {
        id: "go-coroutine-not-stopped",
        title: "iterator of iter.Pull that is not stopped",
        advice: "iter.Pull runs the iterator's function in a goroutine of its own, which waits until the next value is asked for. It ends when next has returned the last one, or by stop: call stop on every path (`defer stop()` right after iter.Pull).",
        ends: false,
        fits: |it| it.is_go() && it.site.wait.starts_with("coroutine") && it.stack("runtime.corostart"),
    },
    // Locks of Go.
    Pattern {
        id: "go-once-never-returns",
        title: "sync.Once whose function does not return",
        advice: "Do of a sync.Once (also by OnceFunc, OnceValue) returns when the first caller's function has returned, and that one is still running: it is parked itself, or calls Do of the same Once again, or needs another Once whose function needs this one. Look for the one with the Once's function on its stack; keep what may block out of it.",
        ends: false,
        fits: |it| it.waits_for_lock_of("sync.(*Once)."),
    },
    Pattern {
        id: "go-recursive-lock",
        title: "lock taken again by who holds it",
        advice: "The goroutine waits for a lock that a function further out on its own stack is to release by a deferred Unlock: it holds it itself. Go's locks are not recursive, and an RLock inside an RLock waits, too, as soon as a writer waits in between. Give the inner work a function of its own that expects the lock to be held.",
        ends: false,
        fits: |it| it.any_waiter(|task| it.held.holds_itself(task)),
    },
    Pattern {
        id: "go-lock-order-inversion",
        title: "locks taken in different orders",
        advice: "Goroutines wait in a circle, each for a lock that the next one is to release by a deferred Unlock. Take locks in one order everywhere (by address or number, if they are of one kind), or release the first before the second is taken.",
        ends: false,
        fits: |it| it.any_waiter(|task| it.held.is_in_circle(task)),
    },
    Pattern {
        id: "go-reader-behind-writer",
        title: "reader behind a writer that waits for other readers",
        advice: "A goroutine waits in Lock of this RWMutex until its present readers have left, and whoever calls RLock meanwhile waits behind it. One of the readers does not leave: it is itself parked while it holds the read lock, returned without RUnlock (use `defer mu.RUnlock()`), or calls RLock again and so waits behind the writer that waits for it.",
        ends: false,
        fits: |it| it.any_waiter(|task| it.held.is_behind_writer(task)),
    },
    Pattern {
        id: "go-lock-never-released",
        title: "lock held by a goroutine that is itself parked, or never unlocked",
        advice: "Whoever holds this sync.Mutex or RWMutex does not release it: it returned on a path without Unlock (use `defer mu.Unlock()`), or is itself parked while it holds the lock, in a channel operation or a call to the network. Look among the other sites for one with the same lock's function on its stack; do not hold a lock across anything that can block.",
        ends: false,
        fits: |it| it.go(WaitKind::Sync) && it.any_stack(&LOCKS),
    },
    Pattern {
        id: "go-waitgroup-never-zero",
        title: "WaitGroup whose count does not reach zero",
        advice: "Wait returns when as many Done as Add were called. One is missing: a goroutine returned, or panicked, before Done (use `defer wg.Done()` as its first statement), Add counted more goroutines than were started, or one of them is itself parked: look for it among the other sites.",
        ends: false,
        fits: |it| {
            it.go(WaitKind::Sync)
                && it.any_stack(&["sync.(*WaitGroup).Wait", "golang.org/x/sync/errgroup.(*Group).Wait"])
        },
    },
    Pattern {
        id: "go-cond-never-signalled",
        title: "condition without Signal",
        advice: "sync.Cond.Wait returns only after Signal or Broadcast: the one that changes the condition does not call it, calls it before the waiter waits, or uses Signal where several wait. Call Broadcast after each change while the lock is held, also when shutting down; or use a channel, which can be given up by a select.",
        ends: false,
        fits: |it| it.go(WaitKind::Sync) && it.stack("sync.(*Cond).Wait"),
    },
    Pattern {
        id: "go-semaphore-never-released",
        title: "semaphore never released",
        advice: "All places of this semaphore are taken: somebody acquired one and did not give it back on every path. Release it by a `defer` right after it was acquired, and acquire in a way that can be given up (by a select, or with a context).",
        ends: false,
        // A full channel of values that carry nothing counts, and those who send to it are many.
        fits: |it| {
            it.is_go()
                && (it.waits_in(&["golang.org/x/sync/semaphore."])
                    || it.is(WaitKind::ChanSend)
                        && it.channels().any(|channel| {
                            channel.value_bytes == Some(0)
                                && channel.cap > 0
                                && channel.len == channel.cap
                                && channel.receivers == 0
                                && channel.senders > 1
                        }))
        },
    },
    Pattern {
        id: "go-worker-pool-never-closed",
        title: "groups of workers whose channel is never closed",
        advice: "Groups of goroutines wait here, each on a channel that its members share and that they receive from until it is closed: workers of a pool, and each request, or each call, makes another pool. Close the channel when the last job was sent (`defer close(jobs)`), or make one pool and share it.",
        ends: false,
        fits: |it| it.go(WaitKind::ChanReceive) && it.stack("runtime.chanrecv2") && it.groups_share_channels(),
    },
    Pattern {
        id: "go-goroutine-per-item",
        title: "goroutine for each item, without a limit",
        advice: "Each request starts many goroutines here, and they wait for each other or for a result that nobody takes. Bound them (errgroup.SetLimit, a pool of workers), let the channel of results have room for all of them, and give them a way to give up when the request is over.",
        ends: true,
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
        ends: true,
        fits: |it| it.is_go() && it.any_timer_is_due(),
    },
    Pattern {
        id: "go-timer-never-fires",
        title: "receive from a timer that was stopped or has fired already",
        advice: "The channel is that of a timer or ticker which is not pending: it was stopped, or its one value was received before, and nothing is ever sent on it again; Stop does not close it. Do not receive after Stop has returned true, call Reset before waiting again, or select on a done channel besides.",
        ends: false,
        fits: |it| it.go(WaitKind::ChanReceive) && it.channels().any(|channel| channel.timer),
    },
    Pattern {
        id: "go-handler-endless-loop",
        title: "goroutine that sleeps, once or in a loop without an end",
        advice: "The goroutine sleeps, wakes by itself, and nothing else can wake or end it. Let it end with what it works for: in place of time.Sleep select on a timer or ticker and on what ends the work (ctx.Done(), `r.Context()` in a handler, or a done channel).",
        ends: true,
        fits: |it| it.is_go() && it.stack("time.Sleep"),
    },
    // Channels, from the special to the general.
    Pattern {
        id: "go-handler-never-returns",
        title: "request handler that does not return",
        advice: "A handler of an HTTP server is parked, and with it its connection and all that its request keeps alive. Give what it waits for a way out: select on r.Context().Done(), set timeouts on calls to others (http.Client.Timeout, SetDeadline), and ReadTimeout and WriteTimeout on the server.",
        ends: false,
        fits: |it| {
            it.is_go()
                && it.stack("net/http.(*conn).serve")
                && !it.any_stack(&["net/http.(*connReader)", "net/http.(*conn).readRequest", "bufio.(*Reader).Peek"])
        },
    },
    Pattern {
        id: "go-chan-send-no-receiver",
        title: "channel send with no receiver",
        advice: "Nobody receives from this channel any more: the receiver returned early, on an error or a timeout, while the sender still had something to send. Give the channel room for what is sent (`make(chan T, 1)` for one result), or send in a select with a way out (ctx.Done(), or a done channel).",
        ends: false,
        fits: |it| it.go(WaitKind::ChanSend),
    },
    Pattern {
        id: "go-chan-range-never-closed",
        title: "channel that is never closed: range, or a receive that asks whether it is",
        advice: "A `for … range` over a channel ends when the channel is closed, and `v, ok := <-ch` returns when it is closed or something is sent; neither happens. The sender closes it when it has sent the last value (`defer close(ch)`), on every path.",
        ends: false,
        fits: |it| it.go(WaitKind::ChanReceive) && it.stack("runtime.chanrecv2"),
    },
    Pattern {
        id: "go-chan-receive-no-sender",
        title: "receive from a channel on which nobody sends",
        advice: "Nobody sends on this channel any more, nor closes it: the one that would returned early, or does so only if something happens that did not, or waits itself. Send or close on every path, or receive in a select with a way out (a timeout, ctx.Done(), or a done channel).",
        ends: false,
        fits: |it| it.go(WaitKind::ChanReceive),
    },
    Pattern {
        id: "go-select-no-way-out",
        title: "select without a way out",
        advice: "None of the cases happens any more, and none of them is a way out: add a case for ctx.Done(), or a done channel that is closed on shutdown, and see to it that whoever starts the goroutine ends it.",
        ends: false,
        fits: |it| it.go(WaitKind::Select),
    },
    Pattern {
        id: "go-network-without-deadline",
        title: "network call without a deadline",
        advice: "The goroutine waits for the other end of a connection, and nothing limits for how long: set deadlines (SetDeadline, http.Client.Timeout, a context with a timeout), and close the connection when the work is given up.",
        ends: false,
        fits: |it| it.is_go() && matches!(it.site.kind, WaitKind::Socket | WaitKind::Poll),
    },
    Pattern {
        id: "go-read-never-answered",
        title: "read or write that the other end does not answer",
        advice: "The goroutine reads from, or writes to, a pipe, file or terminal, and its other end is neither used nor closed. Close what is not used on every path (also what child processes inherit), and set deadlines where the file allows it (os.File.SetDeadline).",
        ends: false,
        fits: |it| it.site.task == TaskKind::Goroutine && matches!(it.site.kind, WaitKind::Pipe | WaitKind::File),
    },
];

const GRPC: &str = "google.golang.org/grpc";
/// What runs for the connections and calls that a gRPC server has accepted.
const GRPC_SERVER: &[&str] = &[
    "google.golang.org/grpc.(*Server)",
    "google.golang.org/grpc/internal/transport.(*http2Server)",
    "google.golang.org/grpc/internal/transport.NewServerTransport",
];
