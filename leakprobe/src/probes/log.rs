//! What the programs tell of single losses (`-vv`): which thread it was. The counters say only how many there were.

use std::{
    io::{self, PipeReader, PipeWriter},
    thread,
};

use aya::Ebpf;
use aya_log::EbpfLogger;
use leakprobe_common::counter::Counter;
use log::{Log, Metadata, Record};
use rustix::event::{PollFd, PollFlags, poll};

/// The global by which the programs know whether to tell.
pub(super) const GLOBAL: &str = "TELLS_LOSSES";
/// Where what is told waits to be read, and what that takes where nothing is told, bytes: a page.
pub(super) const MAP: &str = "AYA_LOGS";
pub(super) const LEAST_BYTES: u32 = 4096;

/// Whether anybody would see it.
pub(super) fn is_wanted() -> bool {
    tracing::enabled!(tracing::Level::DEBUG)
}

/// Reads what the programs tell, until this is dropped.
pub(super) struct Told {
    /// Closed by being dropped.
    _reads: PipeWriter,
}

impl Told {
    /// Begins to read.
    pub(super) fn read(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        let logger = EbpfLogger::init_with_logger(ebpf, Sentences)?;
        let (ended, reads) = io::pipe()?;
        thread::Builder::new().name("leakprobe-told".to_owned()).spawn(move || read_until(&ended, logger))?;
        Ok(Self { _reads: reads })
    }
}

/// Until the other end of `ended` is closed.
fn read_until(ended: &PipeReader, mut logger: EbpfLogger<Sentences>) {
    loop {
        let mut wanted = [PollFd::new(ended, PollFlags::IN), PollFd::new(&logger, PollFlags::IN)];
        let polled = poll(&mut wanted, None);
        let is_over = !wanted[0].revents().is_empty();
        logger.flush();
        match polled {
            Ok(_) | Err(rustix::io::Errno::INTR) if !is_over => {}
            _ => return,
        }
    }
}

/// Makes sentences of the numbers that the programs tell: the loss, the process and the thread.
struct Sentences;

impl Log for Sentences {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        is_wanted()
    }

    fn log(&self, record: &Record<'_>) {
        tracing::debug!("{}", sentence(&record.args().to_string()));
    }

    fn flush(&self) {}
}

fn sentence(told: &str) -> String {
    let numbers: Vec<u32> = told.split(' ').filter_map(|number| number.parse().ok()).collect();
    match numbers[..] {
        [loss, tgid, tid] => {
            let loss = usize::try_from(loss).ok().and_then(|loss| Counter::ALL.get(loss));
            let loss = loss.map_or("unknown", |loss| loss.name());
            format!("lost: {loss} of thread {tid} (process {tgid})")
        }
        _ => told.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_sentences() {
        let told = format!("{} 12 13", Counter::RingFullWait as u32);
        assert_eq!(sentence(&told), "lost: ring_full_wait of thread 13 (process 12)");
        assert_eq!(sentence("99 12 13"), "lost: unknown of thread 13 (process 12)");
        assert_eq!(sentence("something else"), "something else");
    }
}
