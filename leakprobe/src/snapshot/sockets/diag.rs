//! sock_diag: asking the kernel for sockets by netlink, as `ss` does. Like `ss`, it may have the kernel load its modules for it.
//!
//! Source: <https://man7.org/linux/man-pages/man7/sock_diag.7.html>

use std::{fs, io, os::unix::ffi::OsStrExt, thread};

use caps::Capability::CAP_SYS_ADMIN;
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, nlas::Nla},
    unix::{ShowFlags, StateFlags as UnixStates, UnixRequest, UnixResponse, nlas},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};
use nix::sched::{CloneFlags, setns};

use super::{Inet, List, Unix, plain, words::LISTEN};
use crate::{privilege, target::Budget};

/// The kernel fills up to 32 KB at once.
const BUFFER: usize = 1 << 16;
/// Where `tcpi_last_data_sent` and `tcpi_last_data_recv` stand in `struct tcp_info`: times since then, ms.
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/include/uapi/linux/tcp.h#L229>
const LAST_SENT: usize = 44;
const LAST_RECEIVED: usize = 52;

/// By what the kernel finds an internet socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Id(SocketId);

#[cfg(test)]
impl Default for Id {
    fn default() -> Self {
        Self(SocketId::new_v4())
    }
}

/// A way to ask the kernel for the sockets of one network namespace.
pub(super) struct Diag {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Diag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Diag").finish_non_exhaustive()
    }
}

impl Diag {
    /// For the network namespace of `task`: in another one than ours that needs `CAP_SYS_ADMIN`.
    ///
    /// # Errors
    /// One clause that says what does not work.
    pub(super) fn open(task: u32) -> Result<Self, String> {
        let namespace = format!("/proc/{task}/ns/net");
        let theirs = fs::read_link(&namespace);
        let is_ours = match (&theirs, fs::read_link("/proc/self/ns/net")) {
            (Ok(theirs), Ok(ours)) => *theirs == ours,
            // Without namespaces there is one network.
            (Err(error), Err(_)) => error.kind() == io::ErrorKind::NotFound,
            _ => false,
        };
        let socket = if is_ours { open() } else { open_in(namespace) };
        let socket = socket.map_err(|error| format!("its network namespace cannot be entered: {error}"))?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; BUFFER] })
    }

    /// All sockets of a protocol; without those that have ended and only wait for late packets.
    pub(super) fn inet(&mut self, protocol: u8, budget: &Budget) -> Result<List, String> {
        let mut sockets = List::new(budget);
        for (family, socket_id) in [(libc::AF_INET, SocketId::new_v4()), (libc::AF_INET6, SocketId::new_v6())] {
            let request = InetRequest {
                family: family as u8,
                protocol,
                extensions: ExtensionFlags::empty(),
                states: StateFlags::all() - StateFlags::TIME_WAIT,
                socket_id,
            };
            self.ask(SockDiagMessage::InetRequest(request), true, |answer| {
                if let SockDiagMessage::InetResponse(response) = answer {
                    sockets.push(u64::from(response.header.inode), inet(&response));
                }
            })?;
        }
        Ok(sockets.complete())
    }

    /// How long nothing has come or gone on a connection, ms; `None` if it is not known any more.
    ///
    /// The kernel counts in 32 bits: what is longer than 49 days begins anew at 0.
    pub(super) fn idle_ms(&mut self, protocol: u8, id: &Id) -> Option<u64> {
        let family = if id.0.source_address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let request = InetRequest {
            family: family as u8,
            protocol,
            extensions: ExtensionFlags::INFO,
            states: StateFlags::all(),
            socket_id: id.0.clone(),
        };
        let mut idle = None;
        self.ask(SockDiagMessage::InetRequest(request), false, |answer| {
            if let SockDiagMessage::InetResponse(response) = answer {
                let info = response.nlas.iter().find_map(|nla| match nla {
                    Nla::TcpInfo(info) => Some(info.as_slice()),
                    _ => None,
                });
                idle = info.and_then(idle_of);
            }
        })
        .ok()?;
        idle
    }

    /// A socket of this machine; `None` if there is none of that inode.
    pub(super) fn unix(&mut self, inode: u64) -> Result<Option<Unix>, String> {
        let Ok(inode) = u32::try_from(inode) else { return Ok(None) };
        let request = UnixRequest {
            state_flags: UnixStates::all(),
            inode,
            show_flags: ShowFlags::NAME | ShowFlags::PEER | ShowFlags::RQLEN,
            cookie: [0xff; 8],
        };
        let mut found = None;
        self.ask(SockDiagMessage::UnixRequest(request), false, |answer| {
            if let SockDiagMessage::UnixResponse(response) = answer {
                found = Some(unix(&response));
            }
        })?;
        Ok(found)
    }

    /// Sends a request, and hands over each answer. That a single socket is not there is no error.
    fn ask(
        &mut self,
        request: SockDiagMessage,
        all: bool,
        mut take: impl FnMut(SockDiagMessage),
    ) -> Result<(), String> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = if all { NLM_F_REQUEST | NLM_F_DUMP } else { NLM_F_REQUEST };
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, request.into());
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        let failed = |error: io::Error| format!("the kernel does not tell its sockets: {error}");
        self.socket.send(&bytes, 0).map_err(failed)?;
        loop {
            // The answer is made while the request is sent, and further ones while this one is received: there is never
            // anything to wait for.
            let size = self.socket.recv(&mut self.buffer.as_mut_slice(), libc::MSG_DONTWAIT).map_err(failed)?;
            if !self.take_in(size, all, &mut take)? {
                return Ok(());
            }
        }
    }

    /// Takes in what was received; the result says whether more is to come.
    fn take_in(&self, size: usize, all: bool, take: &mut impl FnMut(SockDiagMessage)) -> Result<bool, String> {
        answers(self.buffer.get(..size).unwrap_or_default(), self.sequence, all, take)
    }
}

/// Takes in the answers to the request `sequence`; the result says whether more are to come.
pub(super) fn answers(
    mut rest: &[u8],
    sequence: u32,
    all: bool,
    take: &mut impl FnMut(SockDiagMessage),
) -> Result<bool, String> {
    while !rest.is_empty() {
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)
            .map_err(|error| format!("the kernel's answer cannot be read: {error}"))?;
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
        // Each message begins at a multiple of four.
        rest = rest.get(length.max(1).next_multiple_of(4)..).unwrap_or_default();
        if message.header.sequence_number != sequence {
            continue;
        }
        match message.payload {
            NetlinkPayload::InnerMessage(answer) => {
                take(answer);
                if !all {
                    return Ok(false);
                }
            }
            NetlinkPayload::Done(_) => return Ok(false),
            NetlinkPayload::Error(error) => {
                let error = io::Error::from_raw_os_error(error.raw_code().saturating_abs());
                // ESTALE: it is another one by now.
                let is_gone = matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESTALE));
                return if is_gone && !all {
                    Ok(false)
                } else {
                    Err(format!("the kernel does not tell its sockets: {error}"))
                };
            }
            _ => {}
        }
    }
    Ok(true)
}

/// What is made of an answer.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz(data: &[u8]) {
    let sequence = data.get(8..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes));
    for all in [false, true] {
        let _ = answers(data, sequence, all, &mut |answer| match answer {
            SockDiagMessage::InetResponse(response) => {
                let _ = inet(&response);
            }
            SockDiagMessage::UnixResponse(response) => {
                let _ = unix(&response);
            }
            _ => {}
        });
    }
    let _ = idle_of(data);
}

fn open() -> io::Result<Socket> {
    let socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// A socket belongs to the namespace that it was made in, wherever it is used: so a thread that lives only for that enters it.
fn open_in(namespace: String) -> io::Result<Socket> {
    let enter = move || {
        let file = fs::File::open(&namespace)?;
        let _raised = privilege::raise(&[CAP_SYS_ADMIN]);
        setns(&file, CloneFlags::CLONE_NEWNET)?;
        open()
    };
    let thread = thread::Builder::new().name("namespace".to_owned()).spawn(enter)?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that entered it ended early")))
}

fn inet(response: &InetResponse) -> Inet {
    let (header, id) = (&response.header, &response.header.socket_id);
    Inet {
        local: plain(id.source_address, id.source_port),
        remote: plain(id.destination_address, id.destination_port),
        state: header.state,
        receive_queue: header.recv_queue,
        send_queue: header.send_queue,
        id: Some(Id(id.clone())),
    }
}

/// The shorter of the times since something was sent and since something was received.
fn idle_of(info: &[u8]) -> Option<u64> {
    let at = |place: usize| Some(u32::from_le_bytes(info.get(place..)?.first_chunk().copied()?));
    Some(at(LAST_SENT)?.min(at(LAST_RECEIVED)?).into())
}

fn unix(response: &UnixResponse) -> Unix {
    let name = match response.name() {
        Some(nlas::UnixDiagName::Pathname(path)) => String::from_utf8_lossy(path.as_bytes()).into_owned(),
        Some(nlas::UnixDiagName::Abstract(name)) => format!("@{}", String::from_utf8_lossy(name)),
        None => String::new(),
    };
    let queues = response.nlas.iter().find_map(|nla| match nla {
        nlas::Nla::ReceiveQueueLength(waits, most) => Some([*waits, *most]),
        _ => None,
    });
    // The peer of one that was closed is told as 0.
    let peer = response.peer().filter(|inode| *inode != 0).map(u64::from);
    Unix { name, listens: response.header.state == LISTEN, peer, queues }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_time_is_that_for_which_it_is_idle() {
        let mut info = [0_u8; 104];
        info[LAST_SENT..LAST_SENT + 4].copy_from_slice(&5_000_u32.to_le_bytes());
        info[LAST_RECEIVED..LAST_RECEIVED + 4].copy_from_slice(&7_000_u32.to_le_bytes());
        assert_eq!(idle_of(&info), Some(5_000));
        for end in 0..LAST_RECEIVED + 4 {
            assert_eq!(idle_of(&info[..end]), None);
        }
    }

    #[test]
    fn an_answer_that_is_broken_is_an_error_and_no_panic() {
        let mut diag = Diag::open(std::process::id()).unwrap();
        let _listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        // A real answer, cut short and damaged.
        let request = InetRequest {
            family: libc::AF_INET as u8,
            protocol: 6,
            extensions: ExtensionFlags::INFO,
            states: StateFlags::LISTEN,
            socket_id: SocketId::new_v4(),
        };
        let mut answers = 0;
        diag.ask(SockDiagMessage::InetRequest(request), true, |_| answers += 1).unwrap();
        assert!(answers > 0);
        let size = 2048;
        for cut in 0..size {
            let _ = diag.take_in(cut, true, &mut |_| {});
        }
        for place in 0..size {
            let was = diag.buffer[place];
            for byte in [0, 1, 0x7f, 0xff] {
                diag.buffer[place] = byte;
                let _ = diag.take_in(size, true, &mut |_| {});
            }
            diag.buffer[place] = was;
        }
    }

    #[test]
    fn a_socket_that_is_not_there_is_none() {
        let mut diag = Diag::open(std::process::id()).unwrap();
        assert_eq!(diag.unix(u64::MAX).unwrap(), None);
        assert_eq!(diag.unix(u64::from(u32::MAX) - 1).unwrap(), None);
        assert!(Diag::open(u32::MAX).is_err());
    }
}
