//! Ways in which threads leak.

use super::{Facts, Pattern, is_of};
use crate::{
    analysis::verdict::hopeless,
    model::{CannotWake, TaskKind, WaitKind},
};

/// Those of threads; of what the kernel waits for, also in the name of a goroutine.
pub(super) const PATTERNS: &[Pattern] = &[
    Pattern {
        id: "thread-file-system-silent",
        title: "file operation that the file system does not answer",
        advice: "The task waits in the kernel for a file's data, in a state that no signal interrupts: the server of the mount (NFS, SMB), the process behind it (FUSE), or the device does not answer. It ends when that answers or the mount is gone (`umount -f`, or `/sys/fs/fuse/connections/*/abort`). Time limits of the program do not reach it: do such calls in a bounded number of threads, and mount network file systems with `soft` where an error is better than a wait.",
        ends: false,
        fits: |it| {
            it.is(WaitKind::Disk)
                && it.tasks.iter().any(|task| task.wait.as_ref().is_some_and(|wait| wait.object.contains('/')))
        },
    },
    Pattern {
        id: "java-executor-not-shut-down",
        title: "executor never shut down",
        advice: "These are the workers of a java.util.concurrent executor, which wait for tasks until it is shut down: call shutdown() (or use try-with-resources, from Java 19 on) when an executor is no longer used, and make one for the whole program instead of one a request.",
        ends: false,
        fits: |it| {
            !it.is_go()
                && is_of(&it.site.stack, it.recording, "libjvm")
                && it.stack("Unsafe_Park")
                && !it.site.names.is_empty()
                && it.site.names.iter().all(|name| is_of_default_factory(name))
        },
    },
    Pattern {
        id: "python-worker-never-ended",
        title: "Python thread that waits on a queue or lock for ever",
        advice: "A Python thread waits in queue.get(), or for a lock or condition, and nobody wakes it: put a sentinel on the queue for each worker (or call queue.shutdown(), from Python 3.13 on), join the workers, and use concurrent.futures with a `with` block. A thread that is no daemon also keeps the interpreter from ending.",
        ends: false,
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
        ends: false,
        fits: |it| it.tasks.iter().any(|task| hopeless(task) == Some(CannotWake::HolderExited)),
    },
    Pattern {
        id: "thread-self-deadlock",
        title: "lock taken again by the thread that holds it",
        advice: "The thread waits for a mutex that it holds itself. Give the inner work a function of its own that expects the lock to be held, or make the mutex recursive.",
        ends: false,
        fits: |it| deadlock_of(it).is_some_and(|size| size == 1),
    },
    Pattern {
        id: "thread-lock-order-inversion",
        title: "locks taken in different orders",
        advice: "Each of these threads holds a lock that the next one waits for. Take locks in one order everywhere, take them together (std::scoped_lock), or take the second by trylock and start again.",
        ends: false,
        fits: |it| deadlock_of(it).is_some(),
    },
    Pattern {
        id: "thread-mutex-never-unlocked",
        title: "mutex never unlocked",
        advice: "The thread that holds this mutex does not release it: it left the critical section on a path without unlock (use a lock guard), or is itself parked while it holds it. Where the lock records its holder, the report says who that is and where it waits.",
        ends: false,
        fits: |it| it.thread("mutex") || it.thread("rwlock") || it.thread("monitor enter"),
    },
    Pattern {
        id: "thread-condition-never-signalled",
        title: "condition never signalled",
        advice: "The thread waits on a condition variable, and whoever changes the condition does not signal it: it signals before the waiter waits without having changed the condition under the lock, signals one where several wait, or has ended. Change the condition under the lock, then broadcast, also on shutdown. Queues of work: let the workers end when no more work can come.",
        ends: false,
        fits: |it| {
            let waits = ["condition variable", "thread park", "Object.wait", "LockSupport.park"];
            waits.into_iter().any(|reason| it.thread(reason))
        },
    },
    Pattern {
        id: "thread-join-never-ends",
        title: "join on a thread that does not end",
        advice: "The thread waits until another one exits, and that one does not: the report says which it is, and where it is parked. Tell it to end before joining it.",
        ends: false,
        fits: |it| it.thread("join"),
    },
    Pattern {
        id: "thread-semaphore-never-posted",
        title: "semaphore never posted",
        advice: "Nobody posts this semaphore: it was taken and not given back on every path, or the thread that would post it has ended. Post it by a guard, and wait with sem_timedwait where waiting may be given up.",
        ends: false,
        fits: |it| it.thread("semaphore"),
    },
    Pattern {
        id: "thread-barrier-incomplete",
        title: "barrier at which not all arrive",
        advice: "A barrier lets threads go on when as many as it was made for have arrived: one of them has ended, or is parked elsewhere.",
        ends: false,
        fits: |it| it.thread("barrier"),
    },
    Pattern {
        id: "thread-sleeper",
        title: "thread for each request that sleeps",
        advice: "Each request starts a thread that sleeps, once or in a loop. Use one thread with a queue of timers (or timerfd) for all of them, and let threads wait on something by which they can be told to end.",
        ends: true,
        fits: |it| !it.is_go() && it.is(WaitKind::Sleep),
    },
    Pattern {
        id: "thread-event-loop-per-request",
        title: "event loop for each request, or each call",
        advice: "Each of these threads waits in an epoll of its own, and their number grows: something that runs an event loop is made again and again and never closed, for example an HTTP client, an EventLoopGroup of Netty, an asyncio loop in a thread, or a tokio runtime. Make one and share it, or close it when it is no longer used (close(), shutdownGracefully(), dropping the runtime).",
        ends: true,
        fits: |it| it.thread("epoll") && it.each_waits_alone() && it.grown().is_none_or(|grown| grown > 1),
    },
    Pattern {
        id: "thread-timed-wait",
        title: "thread that waits with a timeout, once or in a loop",
        advice: "Each of these waits ends by itself after its timeout, and the threads are there all the same: in a loop each goes back to the same wait. Give the loop an end: a flag or a message by which the thread learns that its work is over.",
        ends: true,
        fits: |it| !it.is_go() && it.all_end(),
    },
    Pattern {
        id: "thread-other-end-open",
        title: "reader whose other end is never closed",
        advice: "The thread reads from, or writes to, a pipe or socket and waits for its other end, which is neither used nor closed. Where the other end is known, the report says who has it. Close what is not used (also descriptors that children inherit: O_CLOEXEC), shut sockets down when the work is over, and set timeouts (SO_RCVTIMEO, poll).",
        ends: false,
        fits: |it| !it.is_go() && matches!(it.site.kind, WaitKind::Pipe | WaitKind::Socket | WaitKind::Poll),
    },
];

/// Whether a thread has the name that `Executors.defaultThreadFactory` gives, `pool-N-thread-M`, of which Linux keeps 15 bytes.
/// Source: <https://github.com/openjdk/jdk/blob/jdk-21-ga/src/java.base/share/classes/java/util/concurrent/Executors.java>
fn is_of_default_factory(name: &str) -> bool {
    /// As many as a thread's name can have.
    const KEPT: usize = 15;
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    let Some((pool, rest)) = name.strip_prefix("pool-").and_then(|rest| rest.split_once('-')) else { return false };
    let number = rest.strip_prefix("thread-");
    let is_whole = number.is_some_and(|number| digits(number) && (!number.is_empty() || name.len() >= KEPT));
    let is_cut = name.len() >= KEPT && "thread-".starts_with(rest);
    !pool.is_empty() && digits(pool) && (is_whole || is_cut)
}

/// How many tasks the deadlock has that one of these is part of.
fn deadlock_of(it: &Facts<'_>) -> Option<usize> {
    let is_of = |id: u64| it.tasks.iter().any(|task| task.kind == TaskKind::Thread && task.id == id);
    let deadlock = it.recording.deadlocks.iter().find(|deadlock| deadlock.tasks.iter().any(|task| is_of(task.task)))?;
    Some(deadlock.tasks.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_default_factory_are_known_as_a_whole() {
        for name in ["pool-1-thread-1", "pool-12-thread-", "pool-1234-threa"] {
            assert!(is_of_default_factory(name), "{name}");
        }
        for name in ["pool-1-thread-", "pool-x-thread-1", "http-thread-1", "pool-1-threads", "pool--thread-1", "pool"] {
            assert!(!is_of_default_factory(name), "{name}");
        }
    }
}
