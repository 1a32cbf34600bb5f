//! Files of the target, read on the budget of the run.

use std::{
    cell::{Cell, RefCell},
    fs::File,
    ops::Range,
    os::unix::fs::FileExt,
};

use bytes::Bytes;
use object::{ReadCache, ReadRef};

use super::budget::{Budget, Scarce};
use crate::pool::Held;

/// Bytes of a file or an image that parsers read by reference, and that can also be copied without being kept.
pub(crate) trait Content<'data>: ReadRef<'data> {
    /// Fills `buffer` with what lies at `offset`.
    fn copy_at(self, offset: u64, buffer: &mut [u8]) -> Result<(), ()>;

    /// Takes so much memory of the budget; what is in memory anyway takes none.
    fn hold(self, bytes: u64) -> Result<Option<Held>, ()>;
}

impl<'data> Content<'data> for &'data [u8] {
    fn copy_at(self, offset: u64, buffer: &mut [u8]) -> Result<(), ()> {
        let len = u64::try_from(buffer.len()).map_err(drop)?;
        buffer.copy_from_slice(self.read_bytes_at(offset, len)?);
        Ok(())
    }

    fn hold(self, _: u64) -> Result<Option<Held>, ()> {
        Ok(None)
    }
}

/// Bytes that are kept, and their share of the budget for as long; `None` if that does not allow them, or `fill` fails to fill them.
pub(crate) fn keep<'data>(data: impl Content<'data>, len: u64, fill: impl FnOnce(&mut [u8]) -> bool) -> Option<Bytes> {
    let held = data.hold(len).ok()?;
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    fill(&mut bytes).then(|| Bytes::from_owner(Kept { bytes, _held: held }))
}

struct Kept {
    bytes: Vec<u8>,
    _held: Option<Held>,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A file of the target. What parsers refer to is kept until this is dropped; that and all else that is read of it is taken from
/// the budget, whatever its headers claim. What cannot be had because of that is left out under the file's name.
pub(crate) struct TargetFile<'file> {
    file: &'file File,
    cache: ReadCache<&'file File>,
    held: RefCell<Option<Held>>,
    budget: &'file Budget,
    name: &'file str,
    scarce: Cell<Option<Scarce>>,
}

impl<'file> TargetFile<'file> {
    /// `name` is the one that it is reported by.
    pub(crate) fn new(file: &'file File, name: &'file str, budget: &'file Budget) -> Self {
        let (held, scarce) = (RefCell::new(None), Cell::new(None));
        Self { file, cache: ReadCache::new(file), held, budget, name, scarce }
    }

    /// What there was not enough of, if anything.
    pub(crate) fn scarce(&self) -> Option<Scarce> {
        self.scarce.get()
    }

    fn scarcely<T>(&self, result: Result<T, Scarce>) -> Result<T, ()> {
        result.map_err(|scarce| {
            self.scarce.set(Some(scarce));
            self.budget.leave_out(self.name, scarce);
        })
    }

    /// Takes what is about to be read and kept.
    fn take(&self, bytes: u64) -> Result<(), ()> {
        self.scarcely(self.budget.read(bytes))?;
        let mut held = self.held.borrow_mut();
        self.scarcely(match &mut *held {
            Some(held) => held.grow(bytes).map_err(Scarce::from),
            None => self.budget.hold(bytes).map(|new| *held = Some(new)),
        })
    }

    fn is_within(&self, offset: u64, size: u64) -> bool {
        // A length that is only claimed costs nothing.
        (&self.cache).len().is_ok_and(|len| offset.checked_add(size).is_some_and(|end| end <= len))
    }
}

impl<'data> ReadRef<'data> for &'data TargetFile<'_> {
    fn len(self) -> Result<u64, ()> {
        (&self.cache).len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'data [u8], ()> {
        if !self.is_within(offset, size) {
            return Err(());
        }
        self.take(size)?;
        (&self.cache).read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'data [u8], ()> {
        let bytes = (&self.cache).read_bytes_at_until(range, delimiter)?;
        // It is short: the cache looks no further than 4 KiB.
        self.take(bytes.len() as u64)?;
        Ok(bytes)
    }
}

impl<'data> Content<'data> for &'data TargetFile<'_> {
    fn copy_at(self, offset: u64, buffer: &mut [u8]) -> Result<(), ()> {
        let size = u64::try_from(buffer.len()).map_err(drop)?;
        if !self.is_within(offset, size) {
            return Err(());
        }
        self.scarcely(self.budget.read(size))?;
        self.file.read_exact_at(buffer, offset).map_err(drop)
    }

    fn hold(self, bytes: u64) -> Result<Option<Held>, ()> {
        self.scarcely(self.budget.hold(bytes)).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, time::Duration};

    use super::{super::budget::Limits, *};

    #[test]
    fn what_is_read_and_kept_is_taken_from_the_budget() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"some bytes\0").unwrap();
        file.set_len(1 << 40).unwrap();
        let limits = Limits { held: 64, kept: 0, read: 200, read_per_second: 0, cpu: Duration::MAX / 2, cpu_share: 1 };
        let budget = Budget::new(limits);
        let read = TargetFile::new(&file, "/x", &budget);
        let content = &read;
        assert_eq!(content.read_bytes_at(0, 4), Ok(&b"some"[..]));
        assert_eq!(content.read_bytes_at_until(0..100, 0), Ok(&b"some bytes"[..]));
        assert_eq!(content.read_bytes_at(1 << 40, 1 << 50), Err(()));
        assert_eq!((content.scarce(), budget.count_left_out()), (None, 0), "a claim alone costs nothing");
        let mut buffer = [1; 100];
        content.copy_at(0, &mut buffer).unwrap();
        assert_eq!(content.read_bytes_at(0, 1 << 39), Err(()));
        assert_eq!(content.scarce(), Some(Scarce::Reading));
        assert_eq!(content.read_bytes_at(0, 60), Err(()));
        assert_eq!((content.scarce(), budget.count_left_out()), (Some(Scarce::Memory), 1));
        drop(read);
        assert!(budget.hold(64).is_ok(), "given back");
    }
}
