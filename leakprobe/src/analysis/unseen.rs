//! Kinds of tasks that a target has and that are not read: what runs on an event loop or is scheduled by a runtime is no thread, and a
//! report that is silent about it would say that nothing is there.
//!
//! [`KINDS`] is the one table: what such tasks are called, and by which signs it is known that there are some, or may be some. A
//! library that is merely loaded is no sign.

use crate::model::{Recording, TaskState, UnseenTasks};

/// What is known of a process besides its recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// Paths of the files that it runs code of.
    pub files: Vec<String>,
    /// Whether a JVM has initialized its class of virtual threads.
    pub java_virtual_threads: bool,
    /// Whether it runs Python, and an epoll of it can be woken from within the process.
    pub python_event_loop: bool,
}

/// A kind of tasks, and one way to know of it.
struct Kind {
    /// Kinds of one family exclude each other: the first whose signs are there is reported.
    family: &'static str,
    /// What they are, in the plural.
    what: &'static str,
    /// All of them must be there.
    signs: &'static [Sign],
    /// Whether it is certain that there are some, or were some: a name alone, or a runtime that is there for every program of a
    /// language, shows only that there may be some.
    certain: bool,
    /// By what it is known, in words.
    why: &'static str,
}

enum Sign {
    /// [`Signs::java_virtual_threads`].
    VirtualThreads,
    /// [`Signs::python_event_loop`], and a thread that is in an epoll or runs.
    PythonEventLoop,
    /// It runs code of a file whose path contains this.
    File(&'static str),
    /// A thread has code of such a file on its stack.
    Within(&'static str),
    /// A thread has a function on its stack whose name contains this.
    Function(&'static str),
    /// A thread's name begins so. The kernel keeps 15 bytes of names.
    Thread(&'static str),
}

use Sign::{File, Function, PythonEventLoop, Thread, VirtualThreads, Within};

const KINDS: &[Kind] = &[
    // Initialized when the first one is made, and never before:
    // <https://github.com/openjdk/jdk/blob/jdk-21%2B35/src/java.base/share/classes/java/lang/VirtualThread.java#L64>
    Kind {
        family: "Java",
        what: "virtual threads",
        signs: &[VirtualThreads],
        certain: true,
        why: "the JVM has initialized java.lang.VirtualThread, as it does for the first one",
    },
    // Where a JVM does not describe its classes, and in native images.
    Kind {
        family: "Java",
        what: "virtual threads",
        signs: &[Thread("VirtualThread-u")],
        certain: false,
        why: "a thread has the name of the one that unparks virtual threads",
    },
    Kind {
        family: "Kotlin",
        what: "Kotlin coroutines",
        signs: &[File("/libjvm.so"), Thread("DefaultDispatch")],
        certain: false,
        why: "threads have the name of the default dispatcher's",
    },
    Kind {
        family: "Python",
        what: "asyncio tasks",
        signs: &[Within("/uvloop/")],
        certain: true,
        why: "a thread runs the event loop of uvloop",
    },
    Kind {
        family: "Python",
        what: "asyncio tasks",
        signs: &[PythonEventLoop, File("/_asyncio.")],
        certain: true,
        why: "the process runs an event loop of Python, and has loaded asyncio",
    },
    Kind {
        family: "Python",
        what: "tasks of an event loop of Python",
        signs: &[PythonEventLoop],
        certain: true,
        why: "the process runs an event loop of Python, as asyncio, trio and Twisted have one",
    },
    Kind {
        family: "greenlets",
        what: "greenlets",
        signs: &[Within("/gevent/")],
        certain: true,
        why: "a thread runs the event loop of gevent",
    },
    Kind {
        family: "greenlets",
        what: "greenlets",
        signs: &[Within("/_greenlet.")],
        certain: true,
        why: "a thread runs a greenlet",
    },
    Kind {
        family: "Ruby",
        what: "fibers",
        signs: &[Within("/IO_Event.so")],
        certain: true,
        why: "a thread runs the event loop of io-event, as the gem async does",
    },
    Kind {
        family: "tokio",
        what: "tokio tasks",
        signs: &[Function("tokio::runtime::")],
        certain: true,
        why: "a thread runs tokio's runtime",
    },
    Kind {
        family: "tokio",
        what: "tokio tasks",
        signs: &[Thread("tokio-runtime-w")],
        certain: false,
        why: "threads have the name of tokio's workers",
    },
    Kind {
        family: "tokio",
        what: "tokio tasks",
        signs: &[Thread("tokio-rt-worker")],
        certain: false,
        why: "threads have the name of tokio's workers",
    },
    Kind {
        family: "async-executor",
        what: "tasks of async-executor",
        signs: &[Function("async_executor::")],
        certain: true,
        why: "a thread runs async-executor, as smol and async-std do",
    },
    Kind {
        family: "BEAM",
        what: "Erlang processes",
        signs: &[File("/beam.smp")],
        certain: true,
        why: "the program is Erlang's virtual machine",
    },
    Kind {
        family: ".NET",
        what: ".NET tasks",
        signs: &[File("/libcoreclr.so"), Thread(".NET TP Worker")],
        certain: false,
        why: "the thread pool that runs them has workers",
    },
    Kind {
        family: "Node.js",
        what: "async functions and promises of JavaScript that are pending",
        signs: &[Function("node::"), Function("uv_run")],
        certain: false,
        why: "a thread runs the event loop of Node.js",
    },
    Kind {
        family: "Haskell",
        what: "Haskell threads",
        signs: &[Thread("ghc_ticker")],
        certain: false,
        why: "a thread has the name of the timer of GHC's runtime",
    },
];

/// The kinds of tasks that a process has, or may have, and of which its recording says nothing.
#[must_use]
pub fn unseen(recording: &Recording, signs: &Signs) -> Vec<UnseenTasks> {
    let mut found: Vec<&Kind> = Vec::new();
    for kind in KINDS {
        let is_known = found.iter().any(|known| known.family == kind.family);
        if !is_known && kind.signs.iter().all(|sign| sign.is_there(recording, signs)) {
            found.push(kind);
        }
    }
    let unseen =
        |kind: &Kind| UnseenTasks { what: kind.what.to_owned(), why: kind.why.to_owned(), certain: kind.certain };
    found.into_iter().map(unseen).collect()
}

impl Sign {
    fn is_there(&self, recording: &Recording, signs: &Signs) -> bool {
        let mut tasks = recording.tasks.iter();
        // Frames are those of all stacks; what waits no more was there.
        let mut frames = recording.frames.iter();
        match self {
            VirtualThreads => signs.java_virtual_threads,
            PythonEventLoop => {
                signs.python_event_loop
                    && tasks.any(|task| match task.state {
                        TaskState::Running | TaskState::Runnable => true,
                        _ => task.wait.as_ref().is_some_and(|wait| wait.reason.starts_with("epoll")),
                    })
            }
            File(part) => signs.files.iter().any(|path| path.contains(part)),
            Within(part) => frames.any(|frame| frame.module.contains(part)),
            Function(part) => frames.any(|frame| frame.function.contains(part)),
            Thread(start) => tasks.any(|task| task.name.starts_with(start)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Frame, Wait, WaitKind},
        report::fixture,
    };

    fn signs(files: &[&str]) -> Signs {
        Signs { files: files.iter().map(|&path| path.to_owned()).collect(), ..Signs::default() }
    }

    fn found(recording: &Recording, signs: &Signs) -> Vec<(String, bool)> {
        unseen(recording, signs).into_iter().map(|unseen| (unseen.what, unseen.certain)).collect()
    }

    fn named(name: &str) -> Recording {
        let mut recording = fixture::idle();
        recording.tasks[0].name = name.into();
        recording
    }

    fn with_frame(function: &str, module: &str) -> Recording {
        let mut recording = fixture::idle();
        recording.frames.push(Frame { function: function.into(), module: module.into(), ..Frame::default() });
        recording
    }

    #[test]
    fn what_is_merely_loaded_is_no_sign() {
        let loaded = [
            "/usr/lib/python3.11/lib-dynload/_asyncio.cpython-311-x86_64-linux-gnu.so",
            "/venv/greenlet/_greenlet.cpython-311-x86_64-linux-gnu.so",
            "/usr/lib/jvm/lib/server/libjvm.so",
            "/usr/share/dotnet/libcoreclr.so",
        ];
        assert_eq!(found(&fixture::idle(), &signs(&loaded)), []);
        assert_eq!(found(&fixture::checkout(), &Signs::default()), []);
    }

    #[test]
    fn an_event_loop_of_python_is_asyncios_if_that_is_loaded() {
        let mut recording = fixture::idle();
        let in_loop = Signs { python_event_loop: true, ..signs(&["/usr/bin/python3.11"]) };
        for task in &mut recording.tasks {
            task.state = TaskState::Parked;
            task.wait = Some(Wait { reason: "futex".into(), ..fixture::wait(WaitKind::Futex, 3) });
        }
        // Inherited from a parent, and used by no thread.
        assert_eq!(found(&recording, &in_loop), []);
        recording.tasks[0].wait = Some(Wait { reason: "epoll_wait".into(), ..fixture::wait(WaitKind::Poll, 3) });
        assert_eq!(found(&recording, &in_loop), [("tasks of an event loop of Python".to_owned(), true)]);
        let mut asyncio = in_loop;
        asyncio.files.push("/lib-dynload/_asyncio.cpython-311-x86_64-linux-gnu.so".to_owned());
        assert_eq!(found(&recording, &asyncio), [("asyncio tasks".to_owned(), true)]);
        assert_eq!(found(&recording, &signs(&["/lib-dynload/_asyncio.so"])), []);
    }

    #[test]
    fn a_name_alone_makes_nothing_certain() {
        assert_eq!(found(&named("tokio-runtime-w"), &Signs::default()), [("tokio tasks".to_owned(), false)]);
        assert_eq!(found(&named("VirtualThread-u"), &Signs::default()), [("virtual threads".to_owned(), false)]);
        assert_eq!(found(&named("DefaultDispatch"), &Signs::default()), []);
        let virtual_threads = Signs { java_virtual_threads: true, ..Signs::default() };
        assert_eq!(found(&named("VirtualThread-u"), &virtual_threads), [("virtual threads".to_owned(), true)]);
    }

    #[test]
    fn runtimes_on_stacks_are_certain() {
        let of = |function, module| found(&with_frame(function, module), &Signs::default());
        let tokio = "tokio::runtime::scheduler::multi_thread::worker::Context::park";
        assert_eq!(of(tokio, "/srv/app"), [("tokio tasks".to_owned(), true)]);
        assert_eq!(of("uv__io_poll", "/venv/uvloop/loop.so"), [("asyncio tasks".to_owned(), true)]);
        assert_eq!(of("", "/venv/gevent/libev/corecext.so"), [("greenlets".to_owned(), true)]);
        assert_eq!(of("tokio_postgres::connect", "/srv/app"), []);
        let beam = signs(&["/usr/lib/erlang/erts-13.1.5/bin/beam.smp"]);
        assert_eq!(found(&fixture::idle(), &beam), [("Erlang processes".to_owned(), true)]);
    }
}
