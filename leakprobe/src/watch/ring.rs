//! The ring buffer's user side. One thread takes records out of the kernel's buffer, which all targets share, as they come, and puts
//! each into its target's queue: the kernel's room is for some hundred stacks, and nobody has time for records while a snapshot is
//! taken.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, PipeReader, PipeWriter},
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use aya::maps::{MapData, RingBuf};
use leakprobe_common::counter::Counter;
use rustix::event::{PollFd, PollFlags, poll};

use super::bell::Bell;
use crate::{
    pool::{Pool, Share},
    probes::{ByProcess, Place, event},
    shared::lock,
};

/// Most memory for records that are kept for all targets together, bytes. A single one can have half of it: some 2,500 stacks.
const MOST_KEPT: u64 = 128 << 20;
/// What those of a target can have however much others have.
const FLOOR: u64 = 64 << 10;
/// What a record takes besides its bytes.
const BESIDES: usize = 64;
/// How long more records are left in the buffer after some were taken out. The kernel wakes us for the first one in an empty buffer, which
/// costs the target several times as much as the record. Snapshots do not wait for it, nor does the end.
const PAUSE: Duration = Duration::from_millis(10);

/// The buffer, and the queues of all targets. Clones are the same one; the last one that is dropped ends the thread.
#[derive(Clone)]
pub(super) struct Ring {
    state: Arc<Mutex<State>>,
    _reads: Arc<PipeWriter>,
}

struct State {
    ring: RingBuf<MapData>,
    queues: ByProcess<Queue>,
    memory: Pool,
}

/// How many records, or stacks of them, were left out, by what was.
type Lost = BTreeMap<Counter, u64>;

/// The records of one target, in the order in which they were written.
struct Queue {
    /// See [`event::process`]; 0 if it is not known.
    process_start: u64,
    records: VecDeque<Vec<u8>>,
    /// What they take, bytes.
    size: Share,
    lost: Lost,
    bell: Arc<Bell>,
}

impl Ring {
    /// Begins to read.
    ///
    /// # Errors
    /// If there is no thread or descriptor for it.
    pub(super) fn new(ring: RingBuf<MapData>) -> io::Result<Self> {
        let readable = ring.as_fd().try_clone_to_owned()?;
        let (ended, reads) = io::pipe()?;
        let state = Arc::new(Mutex::new(State { ring, queues: ByProcess::default(), memory: Pool::new(MOST_KEPT) }));
        let shared = Arc::clone(&state);
        let read = move || read_until(&ended, &readable, &shared);
        thread::Builder::new().name("leakprobe-ring".to_owned()).spawn(read)?;
        Ok(Self { state, _reads: Arc::new(reads) })
    }

    /// The queue of a target from now on, which rings `bell` when there is something in it.
    pub(super) fn queue(&self, pid: u32, bell: &Arc<Bell>) -> Records {
        let mut state = lock(&self.state);
        let queue = Queue::new(Arc::clone(bell), state.memory.share(FLOOR));
        let (place, _) = state.queues.put(pid, queue);
        Records { ring: self.clone(), place }
    }
}

/// Until the other end of `ended` is closed.
fn read_until(ended: &PipeReader, readable: &OwnedFd, state: &Mutex<State>) {
    loop {
        let mut wanted = [PollFd::new(ended, PollFlags::IN), PollFd::new(readable, PollFlags::IN)];
        match poll(&mut wanted, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return tracing::debug!("records are not read any more: {error}"),
        }
        if !wanted[0].revents().is_empty() {
            return;
        }
        lock(state).collect();
        thread::sleep(PAUSE);
    }
}

/// The records of one target, or those up to then when another one with the same process id became one. Dropped, they are kept no more.
pub(super) struct Records {
    ring: Ring,
    place: Place,
}

impl Records {
    /// Only records of the process that started then are of interest from now on; see [`event::process`].
    pub(super) fn only(&self, process_start: u64) {
        if let Some(queue) = lock(&self.ring.state).queues.at(self.place) {
            queue.process_start = process_start;
        }
    }

    /// Makes those that have come by now to be had from [`Self::next`].
    pub(super) fn collect(&self) {
        lock(&self.ring.state).collect();
    }

    /// The oldest record.
    pub(super) fn next(&self) -> Option<Vec<u8>> {
        let mut state = lock(&self.ring.state);
        state.queues.at(self.place)?.take()
    }

    /// What was left out since this was last asked, since too much was kept.
    pub(super) fn take_lost(&self) -> Lost {
        let mut state = lock(&self.ring.state);
        state.queues.at(self.place).map(|queue| std::mem::take(&mut queue.lost)).unwrap_or_default()
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        lock(&self.ring.state).queues.remove(self.place);
    }
}

impl State {
    /// Takes out what is in the kernel's buffer.
    fn collect(&mut self) {
        while let Some(record) = self.ring.next() {
            let Some((pid, start)) = event::process(&record) else { continue };
            let Some(queue) = self.queues.of(pid) else { continue };
            if [start, queue.process_start].contains(&0) || start == queue.process_start {
                queue.put(record.to_vec());
            }
        }
    }
}

impl Queue {
    fn new(bell: Arc<Bell>, size: Share) -> Self {
        Self { process_start: 0, records: VecDeque::new(), size, lost: Lost::new(), bell }
    }

    /// Keeps a record, as far as there is room: once half of it is taken without its stack.
    fn put(&mut self, mut record: Vec<u8>) {
        if self.size.amount() >= self.size.left() && event::cut_stack(&mut record) {
            self.lose(Counter::RingFullStack);
        }
        if self.size.grow(bytes_of(&record)).is_err() {
            self.lose(event::lost_with(&record));
            return;
        }
        self.records.push_back(record);
        self.bell.ring();
    }

    /// The oldest.
    fn take(&mut self) -> Option<Vec<u8>> {
        let record = self.records.pop_front()?;
        self.size.shrink(bytes_of(&record));
        Some(record)
    }

    fn lose(&mut self, counter: Counter) {
        *self.lost.entry(counter).or_default() += 1;
    }
}

fn bytes_of(record: &[u8]) -> u64 {
    (record.len() + BESIDES) as u64
}

#[cfg(test)]
mod tests {
    use leakprobe_common::event::{Created, Kind};

    use super::*;

    #[test]
    fn a_full_queue_leaves_out_stacks_before_records_and_counts_both() {
        let front = size_of::<Created>();
        let mut record = (Kind::Created as u32).to_le_bytes().to_vec();
        record.resize(front + 1000, 0);
        let memory = Pool::new(6 * bytes_of(&record));
        let mut queue = Queue::new(Arc::new(Bell::new().unwrap()), memory.share(0));
        for _ in 0..20 {
            queue.put(record.clone());
        }
        let lengths: Vec<usize> = queue.records.iter().map(Vec::len).collect();
        assert_eq!(lengths[..3], [front + 1000, front + 1000, front]);
        let taken: u64 = queue.records.iter().map(|record| bytes_of(record)).sum();
        assert!(taken <= 4 * bytes_of(&record) && taken == queue.size.amount());
        let left_out = (20 - lengths.len()) as u64;
        assert_eq!(queue.lost, Lost::from([(Counter::RingFullStack, 18), (Counter::RingFullCreated, left_out)]));
    }
}
