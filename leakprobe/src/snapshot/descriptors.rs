//! What a process's file descriptors are.

use std::{collections::HashMap, fs, os::unix::fs::FileTypeExt, path::PathBuf};

use procfs::process::Process;

use crate::model::WaitKind;

/// What a descriptor of the task is, as a kind of wait and in words: `fd 5 (pipe:[1234])`.
pub(crate) fn describe(task: u32, fd: i32) -> (WaitKind, String) {
    let Some((kind, link)) = link(task, fd) else { return (WaitKind::File, format!("fd {fd}")) };
    (kind, format!("fd {fd} ({link})"))
}

fn link(task: u32, fd: i32) -> Option<(WaitKind, String)> {
    let path = PathBuf::from(format!("/proc/{task}/fd/{fd}"));
    let link = fs::read_link(&path).ok()?;
    let link = link.to_string_lossy();
    let kind = if link.starts_with("socket:") {
        WaitKind::Socket
    } else if link.starts_with("pipe:") || fs::metadata(&path).is_ok_and(|meta| meta.file_type().is_fifo()) {
        WaitKind::Pipe
    } else if link == "anon_inode:[signalfd]" {
        WaitKind::Signal
    } else {
        WaitKind::File
    };
    Some((kind, link.into_owned()))
}

/// The descriptors of one task at one moment, with the addresses of sockets. Each is looked up once.
#[derive(Debug)]
pub(crate) struct Descriptors {
    task: u32,
    known: HashMap<i32, (WaitKind, std::sync::Arc<str>)>,
    /// By inode; read when the first socket is met.
    sockets: Option<HashMap<u64, String>>,
}

impl Descriptors {
    /// Those of `task`: a thread that has the process's descriptors.
    pub(crate) fn new(task: u32) -> Self {
        Self { task, known: HashMap::new(), sockets: None }
    }

    /// What a descriptor is: `fd 7 (tcp 127.0.0.1:80 → 127.0.0.1:40112)`.
    pub(crate) fn describe(&mut self, fd: i32) -> (WaitKind, std::sync::Arc<str>) {
        if let Some(known) = self.known.get(&fd) {
            return known.clone();
        }
        let described = match link(self.task, fd) {
            Some((kind, link)) => {
                let inode = link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')?.parse().ok());
                let sockets = inode.map(|inode: u64| {
                    let sockets = self.sockets.get_or_insert_with(|| sockets(self.task));
                    sockets.get(&inode).map_or(link.as_str(), String::as_str)
                });
                (kind, format!("fd {fd} ({})", sockets.unwrap_or(&link)).into())
            }
            None => (WaitKind::File, format!("fd {fd}").into()),
        };
        self.known.insert(fd, described.clone());
        described
    }
}

/// The addresses of all sockets in the network namespace of `task`, by inode.
fn sockets(task: u32) -> HashMap<u64, String> {
    let mut sockets = HashMap::new();
    let Some(process) = i32::try_from(task).ok().and_then(|task| Process::new(task).ok()) else { return sockets };
    let ends = |protocol: &str, local: std::net::SocketAddr, remote: std::net::SocketAddr| {
        if remote.port() == 0 && remote.ip().is_unspecified() {
            format!("{protocol} {local}")
        } else {
            format!("{protocol} {local} → {remote}")
        }
    };
    for (protocol, entries) in [("tcp", process.tcp()), ("tcp6", process.tcp6())] {
        let entries = entries.unwrap_or_default().into_iter();
        sockets.extend(entries.map(|entry| (entry.inode, ends(protocol, entry.local_address, entry.remote_address))));
    }
    for (protocol, entries) in [("udp", process.udp()), ("udp6", process.udp6())] {
        let entries = entries.unwrap_or_default().into_iter();
        sockets.extend(entries.map(|entry| (entry.inode, ends(protocol, entry.local_address, entry.remote_address))));
    }
    for entry in process.unix().unwrap_or_default() {
        let path = entry.path.as_deref().map(|path| path.to_string_lossy().into_owned());
        sockets.insert(entry.inode, path.map_or_else(|| "unix".to_owned(), |path| format!("unix {path}")));
    }
    sockets
}
