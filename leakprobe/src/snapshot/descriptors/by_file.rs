//! What is known of open files, whichever descriptors lead to them: a process can have thousands of one.

use crate::snapshot::children::order_files;

/// By open file of a task. Where the kernel does not compare them (no `CONFIG_KCMP`), nothing is known twice.
#[derive(Debug)]
pub(super) struct ByFile<T> {
    /// Each with a descriptor that leads to it, in the kernel's order.
    known: Vec<(i32, T)>,
}

impl<T> Default for ByFile<T> {
    fn default() -> Self {
        Self { known: Vec::new() }
    }
}

impl<T: Clone> ByFile<T> {
    /// What is known of the file that `fd` leads to.
    pub(super) fn get(&self, task: u32, fd: i32) -> Option<T> {
        let place = self.place(task, fd)?.ok()?;
        self.known.get(place).map(|(_, known)| known.clone())
    }

    /// Remembers it.
    pub(super) fn insert(&mut self, task: u32, fd: i32, known: T) {
        if let Some(Err(place)) = self.place(task, fd) {
            self.known.insert(place, (fd, known));
        }
    }

    /// Where it is, or where it is to be; `None` if the kernel does not say.
    fn place(&self, task: u32, fd: i32) -> Option<Result<usize, usize>> {
        order_files(task, fd, fd)?;
        // What has been closed meanwhile is found no more, which costs only time.
        Some(
            self.known.binary_search_by(|&(other, _)| order_files(task, other, fd).unwrap_or(std::cmp::Ordering::Less)),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, OwnedFd};

    use super::*;

    #[test]
    fn copies_of_a_descriptor_are_one_file() {
        let own = std::process::id();
        let pipes: Vec<(OwnedFd, OwnedFd)> = (0..20).map(|_| nix::unistd::pipe().unwrap()).collect();
        let copies: Vec<OwnedFd> = pipes.iter().map(|(read, _)| read.try_clone().unwrap()).collect();
        let mut files = ByFile::default();
        for (number, (read, _)) in pipes.iter().enumerate() {
            assert_eq!(files.get(own, read.as_raw_fd()), None);
            files.insert(own, read.as_raw_fd(), number);
        }
        if order_files(own, 0, 0).is_some() {
            let found = copies.iter().map(|copy| files.get(own, copy.as_raw_fd()));
            assert!(found.eq((0..20).map(Some)));
        }
        assert_eq!(files.get(own, pipes[0].1.as_raw_fd()), None, "the other end is another file");
        assert_eq!(files.get(own, i32::MAX), None);
    }
}
