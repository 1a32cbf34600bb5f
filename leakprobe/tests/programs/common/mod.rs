//! What the Rust programs share, as `common.h` is what those in C do.

use std::io::{self, BufRead, Write};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread::{self, Builder, JoinHandle};
use std::time::Duration;

unsafe extern "C" {
    safe fn gettid() -> i32;
    safe fn alarm(seconds: u32) -> u32;
}

/// None outlives its test.
pub fn begin() {
    alarm(300);
}

fn say(line: &str) {
    let mut out = io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Threads that have not said yet what they wait for.
static SILENT: AtomicUsize = AtomicUsize::new(0);

/// A thread that says its kind and its id, and then does what it does.
pub fn spawn(kind: &'static str, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    SILENT.fetch_add(1, SeqCst);
    let run = move || {
        say(&format!("wait kind={kind} tid={} object=0 size=0", gettid()));
        SILENT.fetch_sub(1, SeqCst);
        body();
    };
    Builder::new().name(kind.to_owned()).stack_size(256 << 10).spawn(run).unwrap()
}

/// Says that all is ready once every thread has said what it waits for, and ends when stdin is closed.
pub fn ready() -> ! {
    while SILENT.load(SeqCst) > 0 {
        thread::sleep(Duration::from_millis(1));
    }
    say("ready");
    let mut line = String::new();
    while io::stdin().lock().read_line(&mut line).is_ok_and(|read| read > 0) {
        line.clear();
    }
    std::process::exit(0)
}
