//! `demo`: leakprobe on a leaky program that it brings along, so that everybody can see what it does in a few seconds.
//!
//! The program is a small server as they are written every day. Its request handlers wait for an answer that nobody will send.

use std::{
    env,
    hint::black_box,
    io::{self, Read, Write},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, Builder},
    time::Duration,
};

use super::{
    ExitCode, Failure,
    output::{self, Plan},
    signals, watching,
};
use crate::{
    cli::{self, Watch},
    privilege,
    report::files,
};

/// How long the demo watches if nothing else is asked for.
const DURATION: Duration = Duration::from_secs(5);
/// A request comes this often, and leaks a thread.
const REQUEST_EVERY: Duration = Duration::from_millis(100);
/// Requests, and so leaked threads, at most.
const MOST_REQUESTS: usize = 1000;

/// Starts the leaky program, watches it, writes `parked.svg`.
pub(super) fn demo(options: &Watch) -> Result<ExitCode, Failure> {
    let mut output = options.output.clone();
    if output.files.is_empty() {
        let picture = PathBuf::from("parked.svg");
        match files::check_default(&picture, output::caller()) {
            Ok(()) => output.files.push(picture),
            Err(error) => tracing::warn!("{error}"),
        }
    }
    let plan = Plan::of(&output, None)?;
    let program = Program::start().map_err(|error| {
        Failure::new(ExitCode::Failed, format!("cannot start the demo's own program: {error}; is /proc mounted?"))
    });
    let program = program.map_err(signals::or_interrupted)?;
    let duration = options.duration.unwrap_or(DURATION);
    let (pid, options) = (program.0.id(), Watch { duration: Some(duration), ..options.clone() });
    plan.say(&format!("watching a leaky program (process {pid}) for {duration:?} …"));
    let recordings = watching::watch_own(pid, &options, || Ok(()))?;
    plan.write(&recordings)?;
    Ok(ExitCode::Done)
}

/// The running leaky program; ended when dropped.
struct Program(Child);

impl Program {
    /// Starts it and waits until its first threads are there.
    fn start() -> io::Result<Self> {
        let _rights = privilege::for_programs();
        let mut child = Command::new(env::current_exe()?)
            .arg(cli::DEMO_TARGET)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let ready = child.stdout.as_mut().map(|stdout| stdout.read_exact(&mut [0]));
        let program = Self(child);
        ready.unwrap_or(Ok(())).map(|()| program)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The leaky program itself. Ends when its stdin is closed, so that it never outlives the demo.
pub(super) fn target() -> Result<ExitCode, Failure> {
    serve().map_err(|error| Failure::new(ExitCode::Failed, format!("the demo's own program failed: {error}")))?;
    Ok(ExitCode::Done)
}

type Cache = Arc<(Mutex<u64>, Condvar)>;

fn serve() -> io::Result<()> {
    let cache: Cache = Arc::default();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (upstream, _never_written) = io::pipe()?;
    named("janitor").spawn(clean_up_every_hour)?;
    named("admin").spawn(move || listen_for_admin(&listener))?;
    named("upstream").spawn(move || read_from_upstream(upstream))?;
    for n in 0..3 {
        let cache = Arc::clone(&cache);
        named(&format!("refresh-{n}")).spawn(move || refresh_cache(&cache))?;
    }
    named("acceptor").spawn(accept_requests)?;
    io::stdout().write_all(b"r")?;
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn named(name: &str) -> Builder {
    Builder::new().name(name.to_owned()).stack_size(128 << 10)
}

#[inline(never)]
fn accept_requests() {
    let mut unanswered: Vec<Sender<u64>> = Vec::new();
    while unanswered.len() < MOST_REQUESTS {
        match handle_request(unanswered.len()) {
            Ok(reply_to) => unanswered.push(reply_to),
            Err(_) => break,
        }
        thread::sleep(REQUEST_EVERY);
    }
    loop {
        thread::park();
    }
}

/// Each request gets a thread; the sender is kept, and nothing is ever sent.
#[inline(never)]
fn handle_request(number: usize) -> io::Result<Sender<u64>> {
    let (sender, receiver) = mpsc::channel();
    if number % 4 == 3 {
        start_audit(receiver)?;
    } else {
        start_order(receiver)?;
    }
    Ok(sender)
}

#[inline(never)]
fn start_order(reply: Receiver<u64>) -> io::Result<()> {
    named("order").spawn(move || process_order(&reply)).map(drop)
}

#[inline(never)]
fn start_audit(reply: Receiver<u64>) -> io::Result<()> {
    named("audit").spawn(move || write_audit_log(&reply)).map(drop)
}

#[inline(never)]
fn process_order(reply: &Receiver<u64>) {
    black_box(wait_for_payment(reply));
}

#[inline(never)]
fn write_audit_log(reply: &Receiver<u64>) {
    let lines = black_box(2); // makes it another function: the linker folds equal ones into one
    black_box(wait_for_payment(reply) * lines);
}

#[inline(never)]
fn wait_for_payment(reply: &Receiver<u64>) -> u64 {
    reply.recv().unwrap_or(0)
}

#[inline(never)]
fn refresh_cache((entries, changed): &(Mutex<u64>, Condvar)) {
    let mut entries = entries.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        entries = changed.wait(entries).unwrap_or_else(PoisonError::into_inner);
    }
}

#[inline(never)]
fn clean_up_every_hour() {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

#[inline(never)]
fn listen_for_admin(listener: &TcpListener) {
    while listener.accept().is_ok() {}
}

#[inline(never)]
fn read_from_upstream(mut upstream: io::PipeReader) {
    black_box(upstream.read(&mut [0; 64]).is_ok());
}
