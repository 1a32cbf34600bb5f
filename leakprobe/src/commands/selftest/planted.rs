//! The program that the self-test checks: it leaks a thread of each kind, on purpose, and keeps a healthy pool beside them.
//!
//! It says `listening on ADDR`, and does the same once for each connection there.

use std::{
    cell::UnsafeCell,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Barrier, Condvar, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, Builder},
    time::Duration,
};

use crate::commands::{ExitCode, Failure};

/// Threads of the healthy pool.
const WORKERS: usize = 4;
/// Rounds that it bears: whoever connects more often is answered without more leaks.
const MOST_ROUNDS: usize = 64;

/// The program itself. Ended by a signal.
pub(in super::super) fn target() -> Result<ExitCode, Failure> {
    serve().map_err(|error| Failure::new(ExitCode::Failed, format!("the self-test's own program failed: {error}")))?;
    Ok(ExitCode::Done)
}

/// The load: one connection.
pub(in super::super) fn load() -> Result<ExitCode, Failure> {
    let connect = || -> io::Result<()> {
        let at = std::env::var("LEAKPROBE_READY").map_err(io::Error::other)?;
        let mut stream = TcpStream::connect(at)?;
        stream.read_exact(&mut [0])
    };
    connect().map_err(|error| Failure::new(ExitCode::Failed, format!("the self-test's own load failed: {error}")))?;
    Ok(ExitCode::Done)
}

fn serve() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut leaks = Leaks::default();
    let pool = Pool::start()?;
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on {}", listener.local_addr()?)?;
    stdout.flush()?;
    for round in 0.. {
        let (mut stream, _) = listener.accept()?;
        pool.work();
        if round < MOST_ROUNDS {
            leaks.plant(round)?;
        }
        stream.write_all(b".")?;
    }
    Ok(())
}

fn named(name: &str) -> Builder {
    Builder::new().name(name.to_owned()).stack_size(128 << 10)
}

/// What the leaked threads wait for, and nobody gives them.
#[derive(Default)]
struct Leaks {
    condition: Arc<(Mutex<bool>, Condvar)>,
    pipes: Vec<io::PipeWriter>,
}

impl Leaks {
    /// One more thread of each kind; what hangs for ever hangs from the first round on.
    fn plant(&mut self, round: usize) -> io::Result<()> {
        if round == 0 {
            deadlock()?;
            wait_for_itself()?;
            wait_for_the_dead()?;
        }
        let condition = Arc::clone(&self.condition);
        let waiter = named("st-condition").spawn(move || never_signalled(&condition))?;
        named("st-join").spawn(move || join_for_ever(waiter))?;
        named("st-sleeper").spawn(poll_without_end)?;
        let (reader, writer) = io::pipe()?;
        self.pipes.push(writer);
        named("st-pipe").spawn(move || read_for_ever(reader))?;
        Ok(())
    }
}

#[inline(never)]
fn never_signalled(condition: &(Mutex<bool>, Condvar)) {
    let mut is_done = condition.0.lock().unwrap_or_else(PoisonError::into_inner);
    while !*is_done {
        is_done = condition.1.wait(is_done).unwrap_or_else(PoisonError::into_inner);
    }
}

#[inline(never)]
fn join_for_ever(waiter: thread::JoinHandle<()>) {
    let _ = waiter.join();
}

#[inline(never)]
fn poll_without_end() {
    // Of a single long sleep nothing could be said before its end.
    loop {
        thread::sleep(Duration::from_millis(100));
    }
}

#[inline(never)]
fn read_for_ever(reader: io::PipeReader) {
    let _ = BufReader::new(reader).read_line(&mut String::new());
}

/// A pool as it should be: its workers wait for jobs, and get some in each round.
struct Pool {
    jobs: Vec<Sender<Sender<()>>>,
}

impl Pool {
    fn start() -> io::Result<Self> {
        let worker = |_| {
            let (give, jobs) = channel();
            named("st-pool").spawn(move || work(&jobs))?;
            Ok(give)
        };
        Ok(Self { jobs: (0..WORKERS).map(worker).collect::<io::Result<_>>()? })
    }

    fn work(&self) {
        for worker in &self.jobs {
            let (done, is_done) = channel();
            if worker.send(done).is_ok() {
                let _ = is_done.recv();
            }
        }
    }
}

#[inline(never)]
fn work(jobs: &Receiver<Sender<()>>) {
    while let Ok(done) = jobs.recv() {
        let _ = done.send(());
    }
}

/// A lock of the C library, which knows who holds it; Rust's own do not. Never freed.
struct Lock(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: the C library lets any thread use a mutex.
unsafe impl Sync for Lock {}

impl Lock {
    fn new() -> &'static Self {
        Box::leak(Box::new(Self(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER))))
    }

    /// Locks it, to be unlocked by nobody.
    #[inline(never)]
    fn take(&self) {
        // SAFETY: it is initialised, and neither moved nor freed.
        unsafe { libc::pthread_mutex_lock(self.0.get()) };
    }
}

/// Two threads, each with a lock that the other one wants.
fn deadlock() -> io::Result<()> {
    let (one, other) = (Lock::new(), Lock::new());
    let both = Arc::new(Barrier::new(2));
    for (first, second) in [(one, other), (other, one)] {
        let both = Arc::clone(&both);
        named("st-deadlock").spawn(move || {
            first.take();
            both.wait();
            second.take();
        })?;
    }
    Ok(())
}

/// A thread that wants a lock that it holds.
fn wait_for_itself() -> io::Result<()> {
    let lock = Lock::new();
    named("st-self").spawn(move || {
        lock.take();
        lock.take();
    })?;
    Ok(())
}

/// A thread that wants a lock whose holder has exited.
fn wait_for_the_dead() -> io::Result<()> {
    let lock = Lock::new();
    let holder = named("st-holder").spawn(move || lock.take())?;
    let _ = holder.join();
    named("st-gone").spawn(move || lock.take())?;
    Ok(())
}
