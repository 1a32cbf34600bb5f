//! A futex wait as it is read from outside: the call, and the memory around its word. What it means is for `analysis` to say.

use std::sync::Arc;

use super::primitive::Primitive;

/// Bytes that are read before a futex word, and from it on: enough for every lock of glibc and musl, wherever in it the word lies.
pub const BEFORE_WORD: usize = 16;
/// See [`BEFORE_WORD`].
pub const FROM_WORD: usize = 64;
/// How far before the word that a join waits on glibc's thread descriptor begins: `tid` in `struct pthread`, the same in every
/// glibc since 2.4 on x86-64, and on 64-bit Arm.
/// Source: <https://sourceware.org/git/?p=glibc.git;a=blob;f=nptl/descr.h;hb=glibc-2.36#l130>
#[cfg(target_arch = "x86_64")]
pub const DESCRIPTOR_BEFORE_TID: u64 = 0x2d0;
/// See above: there the thread pointer is the descriptor's end, and the descriptor does not point to itself.
#[cfg(not(target_arch = "x86_64"))]
pub const DESCRIPTOR_BEFORE_TID: u64 = 0;

/// The futex call that a thread is blocked in, from its registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FutexWait {
    /// The futex word's address.
    pub word: u64,
    /// What is done: `FUTEX_WAIT` 0, `FUTEX_LOCK_PI` 6, `FUTEX_WAIT_BITSET` 9, …; `None` for the calls that have no operation.
    pub command: Option<u32>,
    /// The value that the word had when the wait began.
    pub value: u32,
    /// Whether the call was given a time-out, even one that cannot be read: then the wait ends by itself.
    pub timed: bool,
    /// Whether the word lies on the waiting thread's own stack, within the frames of the functions that wait.
    pub on_own_stack: bool,
    /// The memory around the word at the last snapshot, if it could be read.
    pub memory: Option<Arc<FutexMemory>>,
    /// Which primitive it is a part of; `None` until that has been looked for.
    pub primitive: Option<Primitive>,
}

impl FutexWait {
    /// One that nobody has looked at yet.
    #[must_use]
    pub fn new(word: u64, command: Option<u32>, value: u32) -> Self {
        Self { word, command, value, timed: false, on_own_stack: false, memory: None, primitive: None }
    }

    /// Whether it is `FUTEX_LOCK_PI` or `FUTEX_LOCK_PI2`. The kernel lets a thread sleep in these only if it has found a living
    /// owner, and hands the lock on when that one exits.
    /// Source: <https://elixir.bootlin.com/linux/v6.12/source/kernel/futex/pi.c#L403> (`attach_to_pi_owner`).
    #[must_use]
    pub fn is_lock_pi(&self) -> bool {
        matches!(self.command, Some(6 | 13))
    }
}

/// The memory around a futex word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FutexMemory {
    /// The bytes before it: [`BEFORE_WORD`], fewer where a mapping begins.
    pub before: Vec<u8>,
    /// The bytes from it on, as many as could be read.
    pub from: Vec<u8>,
    /// Whether it lies where glibc's thread descriptors have the thread's id: the descriptor around it points to itself.
    pub is_thread_id: bool,
}

impl FutexMemory {
    /// The four bytes at this distance from the word.
    #[must_use]
    pub fn u32_at(&self, offset: i64) -> Option<u32> {
        let (bytes, at) = match usize::try_from(offset) {
            Ok(at) => (&self.from, at),
            Err(_) => (&self.before, self.before.len().checked_sub(usize::try_from(offset.unsigned_abs()).ok()?)?),
        };
        let bytes = bytes.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_on_both_sides_and_nowhere_else() {
        let memory = FutexMemory { before: (0..16).collect(), from: (16..32).collect(), is_thread_id: false };
        assert_eq!(memory.u32_at(0), Some(0x1312_1110));
        assert_eq!(memory.u32_at(-4), Some(0x0f0e_0d0c));
        assert_eq!(memory.u32_at(-16), Some(0x0302_0100));
        for outside in [-17, -3, 13, 16, i64::MAX, i64::MIN] {
            assert_eq!(memory.u32_at(outside), None, "{outside}");
        }
        assert_eq!(FutexMemory::default().u32_at(0), None);
        assert_eq!(FutexMemory::default().u32_at(-4), None);
    }
}
