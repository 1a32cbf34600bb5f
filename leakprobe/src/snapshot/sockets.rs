//! What sockets are: their addresses, state, queues, how long nothing has come or gone, and who is at the other end.
//!
//! The kernel is asked by sock_diag, in the network namespace of the target; where that is not to be had, `/proc/PID/net` tells
//! addresses and states. Only when a socket is met, and then once: a list of all TCP sockets without anything else (some 0.3 µs
//! for each on the machine), and then single ones.

mod diag;
mod list;
mod table;
mod words;

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::UnixDatagram,
    },
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Instant,
};

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, getxattr, open, statx};

use self::diag::Diag;
pub(crate) use self::list::List;
use super::machine::Machine;
use crate::target::Budget;

/// `IPPROTO_TCP` and `IPPROTO_UDP`.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// An internet socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inet {
    pub(crate) local: SocketAddr,
    /// Without port if it has none.
    pub(crate) remote: SocketAddr,
    /// A state of TCP, which other protocols use, too.
    pub(crate) state: u8,
    /// Bytes that wait to be read; of a listening socket connections that wait to be accepted.
    pub(crate) receive_queue: u32,
    /// Bytes that wait to be acknowledged; of a listening socket the most that may wait.
    pub(crate) send_queue: u32,
    /// By what the kernel finds it again; `None` if it was not asked.
    pub(crate) id: Option<diag::Id>,
}

/// A socket of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unix {
    /// The path, or `@` and the abstract name; empty if it has none.
    pub(crate) name: String,
    /// Whether it listens.
    pub(crate) listens: bool,
    /// The inode of the other end.
    pub(crate) peer: Option<u64>,
    /// See [`Inet::receive_queue`].
    pub(crate) queues: Option<[u32; 2]>,
}

/// The sockets of a network namespace, at one moment.
#[derive(Debug)]
pub(crate) struct Sockets {
    task: u32,
    /// Those who look at the same namespace at the same time share lists.
    shared: Option<(Machine, PathBuf)>,
    began: Instant,
    budget: Budget,
    /// How to ask the kernel, once that was tried.
    kernel: Option<Result<Diag, String>>,
    /// By protocol.
    inet: HashMap<u8, Arc<List>>,
    unix: HashMap<u64, Option<Unix>>,
    /// All of them, where single ones cannot be asked for.
    unix_list: Option<HashMap<u64, Unix>>,
    /// Other protocols, by inode, in words.
    others: HashMap<&'static str, HashMap<u64, String>>,
    /// Those of TCP and UDP that were asked for and are in no list.
    unlisted: HashSet<u64>,
}

impl Sockets {
    /// Those of the namespace of `task`.
    pub(crate) fn new(task: u32) -> Self {
        Self {
            task,
            shared: None,
            began: Instant::now(),
            budget: Budget::default(),
            kernel: None,
            inet: HashMap::new(),
            unix: HashMap::new(),
            unix_list: None,
            others: HashMap::new(),
            unlisted: HashSet::new(),
        }
    }

    /// Those of the namespace of `task`, which its link in `/proc` names so; what is read takes memory of `budget`, and is shared by
    /// all who look at the same time.
    pub(crate) fn in_network(task: u32, network: PathBuf, machine: Machine, budget: Budget) -> Self {
        Self { shared: Some((machine, network)), budget, ..Self::new(task) }
    }

    /// The same, but the kernel is not asked: one more socket of ours would be one too many.
    #[must_use]
    pub(crate) fn without_kernel(self, why: &str) -> Self {
        Self { kernel: Some(Err(why.to_owned())), ..self }
    }

    /// Why the kernel does not tell idle times and other ends, if sockets were met and it does not.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.kernel.as_ref()?.as_ref().err().map(String::as_str)
    }

    /// Sockets that were met and are in no list of this namespace: they are not connected, or of another one.
    pub(crate) fn unlisted(&self) -> u64 {
        self.unlisted.len() as u64
    }

    /// What a socket is: `tcp 127.0.0.1:80 → 127.0.0.1:40112, established, idle 3.2 s`; `None` if nothing is known of it.
    pub(crate) fn words(&mut self, task: u32, fd: i32, inode: u64) -> Option<String> {
        match protocol(task, fd).as_deref() {
            // What is said of a connection of MPTCP is that of its first path, by which the kernel lists it.
            Some("TCP" | "TCPv6" | "MPTCP" | "MPTCPv6") => {
                let socket = self.listed(TCP, inode)?;
                let idle = self.idle_ms(&socket);
                Some(words::tcp(&socket, idle))
            }
            Some("UDP" | "UDPv6") => Some(words::datagram("udp", &self.listed(UDP, inode)?)),
            Some("UNIX" | "UNIX-STREAM") => self.unix_words(inode),
            Some("NETLINK") => self.other("netlink", inode),
            Some("PACKET") => self.other("packet", inode),
            Some("RAW") => self.other("raw", inode),
            Some("AF_VSOCK") => Some("vsock".to_owned()),
            Some(name) => Some(format!("{} socket", name.to_ascii_lowercase())),
            // The kernel does not tell the protocol.
            None => {
                let tcp = self.inet(TCP).get(inode).cloned();
                if let Some(socket) = tcp {
                    let idle = self.idle_ms(&socket);
                    return Some(words::tcp(&socket, idle));
                }
                let udp = self.inet(UDP).get(inode).map(|socket| words::datagram("udp", socket));
                udp.or_else(|| self.unix_words(inode))
            }
        }
    }

    /// The inode of the socket at the other end, if that is on this machine and it is certain which one it is.
    pub(crate) fn peer(&mut self, task: u32, fd: i32, inode: u64) -> Option<u64> {
        match protocol(task, fd)?.as_str() {
            "UNIX" | "UNIX-STREAM" => self.unix(inode)?.peer,
            "TCP" | "TCPv6" | "MPTCP" | "MPTCPv6" => {
                let sockets = self.inet(TCP);
                let own = sockets.get(inode).filter(|own| own.remote.port() != 0)?;
                // Both ends in one namespace: the addresses are those of one network, and no two connections have the same.
                sockets.connected(own.remote, own.local).filter(|peer| *peer != 0)
            }
            _ => None,
        }
    }

    /// The inode of the other end of a socket of this machine; `None` if it is one of another kind, or has none.
    pub(crate) fn unix_peer(&mut self, task: u32, fd: i32, inode: u64) -> Option<u64> {
        matches!(protocol(task, fd)?.as_str(), "UNIX" | "UNIX-STREAM").then(|| self.unix(inode)?.peer)?
    }

    fn kernel(&mut self) -> Option<&mut Diag> {
        let task = self.task;
        self.kernel.get_or_insert_with(|| Diag::open(task)).as_mut().ok()
    }

    /// All sockets of a protocol.
    fn inet(&mut self, protocol: u8) -> Arc<List> {
        if let Some(known) = self.inet.get(&protocol) {
            return Arc::clone(known);
        }
        let list = match self.shared.clone() {
            Some((machine, network)) => machine.inet((network, protocol), self.began, || self.read_inet(protocol)),
            None => Arc::new(self.read_inet(protocol)),
        };
        if let Some(scarce) = list.cut() {
            self.budget.leave_out(&format!("the list of sockets of thread {}'s network", self.task), scarce);
        }
        self.inet.insert(protocol, Arc::clone(&list));
        list
    }

    fn read_inet(&mut self, protocol: u8) -> List {
        let budget = self.budget.clone();
        match self.kernel().map(|kernel| kernel.inet(protocol, &budget)) {
            Some(Ok(list)) => return list,
            Some(Err(why)) => self.kernel = Some(Err(why)),
            None => {}
        }
        table::inet(self.task, protocol, &budget)
    }

    /// One of them, which is known to be of that protocol.
    fn listed(&mut self, protocol: u8, inode: u64) -> Option<Inet> {
        let list = self.inet(protocol);
        let socket = list.get(inode).cloned();
        if socket.is_none() && list.cut().is_none() {
            self.unlisted.insert(inode);
        }
        socket
    }

    /// How long nothing has come or gone on a TCP connection, ms.
    fn idle_ms(&mut self, socket: &Inet) -> Option<u64> {
        if socket.remote.port() == 0 {
            return None;
        }
        self.kernel()?.idle_ms(TCP, socket.id.as_ref()?)
    }

    fn unix(&mut self, inode: u64) -> Option<Unix> {
        if let Some(known) = self.unix.get(&inode) {
            return known.clone();
        }
        let asked = self.kernel().map(|kernel| kernel.unix(inode));
        let found = match asked {
            // The kernel gives the same answer if it has no such socket, and if it has no module for the question.
            Some(Ok(None)) => self.listed_unix(inode),
            Some(Ok(found)) => found,
            Some(Err(why)) => {
                self.kernel = Some(Err(why));
                self.listed_unix(inode)
            }
            None => self.listed_unix(inode),
        };
        self.unix.insert(inode, found.clone());
        found
    }

    fn listed_unix(&mut self, inode: u64) -> Option<Unix> {
        let task = self.task;
        self.unix_list.get_or_insert_with(|| table::unix(task)).get(&inode).cloned()
    }

    fn unix_words(&mut self, inode: u64) -> Option<String> {
        let own = self.unix(inode)?;
        // What a client is connected to is the name of the other end, and the client has none of its own.
        let peer = own.peer.and_then(|peer| self.unix(peer)).map(|peer| peer.name);
        Some(words::unix(&own, peer.as_deref().unwrap_or_default()))
    }

    fn other(&mut self, protocol: &'static str, inode: u64) -> Option<String> {
        let task = self.task;
        let sockets = self.others.entry(protocol).or_insert_with(|| table::other(task, protocol));
        Some(sockets.get(&inode).cloned().unwrap_or_else(|| protocol.to_owned()))
    }
}

/// The name of a socket's protocol: an attribute that the kernel makes up. A file whose server hangs could keep us for good if it were
/// asked for it, and the target may put another file in the descriptor's place at any time: so what is asked is held first, and is a
/// socket of the kernel's for certain.
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/net/socket.c#L355> (`sockfs_xattr_get`).
fn protocol(task: u32, fd: i32) -> Option<String> {
    // This opens no file, but takes hold of what the descriptor leads to.
    let held = open(format!("/proc/{task}/fd/{fd}"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    if sockets_device()? != device(&held)? {
        return None;
    }
    let mut name = [0_u8; 64];
    let path = format!("/proc/self/fd/{}", held.as_raw_fd());
    let length = getxattr(path, "system.sockprotoname", &mut name).ok()?;
    let name = name.get(..length)?.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(name).into_owned())
}

/// The device that all sockets of the machine are on, which no file is: that of one of ours.
fn sockets_device() -> Option<(u32, u32)> {
    static DEVICE: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    *DEVICE.get_or_init(|| device(&UnixDatagram::unbound().ok()?))
}

/// The device that it is on; no server is asked.
fn device(of: &impl AsFd) -> Option<(u32, u32)> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = statx(of, "", flags, StatxFlags::TYPE).ok()?;
    Some((stat.stx_dev_major, stat.stx_dev_minor))
}

/// An address as it is written most often: what of IPv4 came through an IPv6 socket is IPv4.
fn plain(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz_answer(data: &[u8]) {
    diag::fuzz(data);
}

#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz_line(line: &str) {
    table::fuzz(line);
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream, UdpSocket},
        os::{
            fd::AsRawFd,
            unix::net::{UnixListener, UnixStream},
        },
    };

    use super::*;
    use crate::snapshot::descriptors::Link;

    fn inode(socket: &impl AsRawFd) -> u64 {
        match Link::read(std::process::id(), socket.as_raw_fd()) {
            Some(Link::Socket(inode)) => inode,
            other => panic!("{other:?}"),
        }
    }

    fn words(sockets: &mut Sockets, socket: &impl AsRawFd) -> String {
        sockets.words(std::process::id(), socket.as_raw_fd(), inode(socket)).unwrap()
    }

    #[test]
    fn our_own_sockets_are_known_with_their_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let [at, from] = [client.peer_addr().unwrap(), client.local_addr().unwrap()];
        let id = std::process::id();
        let mut sockets = Sockets::new(id);
        assert!(words(&mut sockets, &listener).starts_with(&format!("tcp {at}, listening, 0 of ")));
        assert!(words(&mut sockets, &client).starts_with(&format!("tcp {from} → {at}, established, idle ")));
        assert!(words(&mut sockets, &server).starts_with(&format!("tcp {at} → {from}, established, idle ")));
        assert_eq!(sockets.peer(id, client.as_raw_fd(), inode(&client)), Some(inode(&server)));
        assert_eq!(sockets.peer(id, listener.as_raw_fd(), inode(&listener)), None);
        assert_eq!(sockets.problem(), None);
    }

    #[test]
    fn without_the_kernel_s_answers_addresses_are_known() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut sockets = Sockets::new(std::process::id());
        sockets.kernel = Some(Err("not allowed".to_owned()));
        let [at, from] = [client.peer_addr().unwrap(), client.local_addr().unwrap()];
        assert_eq!(words(&mut sockets, &client), format!("tcp {from} → {at}, established"));
        assert_eq!(words(&mut sockets, &listener), format!("tcp {at}, listening"));
        assert_eq!(words(&mut sockets, &udp), format!("udp {}", udp.local_addr().unwrap()));
        assert_eq!(sockets.problem(), Some("not allowed"));
    }

    #[test]
    fn unix_sockets_have_names_and_peers() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let (server, _) = listener.accept().unwrap();
        let (one, other) = UnixStream::pair().unwrap();
        let id = std::process::id();
        let mut sockets = Sockets::new(id);
        let path = path.display();
        assert!(words(&mut sockets, &listener).starts_with(&format!("unix {path}, listening, 0 of ")));
        assert_eq!(words(&mut sockets, &client), format!("unix → {path}, established"));
        assert_eq!(words(&mut sockets, &server), format!("unix {path}, established"));
        assert_eq!(words(&mut sockets, &one), "unix, established");
        let peer = |sockets: &mut Sockets, socket: &UnixStream| sockets.peer(id, socket.as_raw_fd(), inode(socket));
        assert_eq!(peer(&mut sockets, &one), Some(inode(&other)));
        assert_eq!(peer(&mut sockets, &server), Some(inode(&client)));
        drop(other);
        assert_eq!(peer(&mut Sockets::new(id), &one), None, "nobody is there any more");
    }
}
