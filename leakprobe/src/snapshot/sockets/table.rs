//! `/proc/PID/net`: what can be known of sockets where sock_diag is not to be had, and of the protocols that it does not know.

use std::{collections::HashMap, net::SocketAddr};

use procfs::process::Process;

use super::{Inet, TCP, UDP, Unix, plain};
use crate::snapshot::proc;

/// The flag of a Unix socket that listens; its state there is that of the file, not of the socket.
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/net/unix/af_unix.c#L3456>
const ACCEPTS: u32 = 0x1_0000;
/// Bytes of a table that are read at most.
const MOST_BYTES: usize = 4 << 20;

/// The TCP or UDP sockets in the network namespace of `task`, by inode.
pub(super) fn inet(task: u32, protocol: u8) -> HashMap<u64, Inet> {
    let Some(process) = process(task) else { return HashMap::new() };
    let socket = |inode, local: SocketAddr, remote: SocketAddr, state, queues: [u32; 2]| {
        let [receive_queue, send_queue] = queues;
        let (local, remote) = (plain(local.ip(), local.port()), plain(remote.ip(), remote.port()));
        (inode, Inet { local, remote, state, receive_queue, send_queue, id: None })
    };
    let mut sockets = HashMap::new();
    match protocol {
        TCP => {
            for entry in process.tcp().into_iter().chain(process.tcp6()).flatten() {
                let queues = [entry.rx_queue, entry.tx_queue];
                let state = entry.state as u8;
                sockets.extend([socket(entry.inode, entry.local_address, entry.remote_address, state, queues)]);
            }
        }
        UDP => {
            for entry in process.udp().into_iter().chain(process.udp6()).flatten() {
                let state = entry.state as u8;
                sockets.extend([socket(entry.inode, entry.local_address, entry.remote_address, state, [0; 2])]);
            }
        }
        _ => {}
    }
    sockets
}

/// The sockets of this machine in the network namespace of `task`, by inode.
pub(super) fn unix(task: u32) -> HashMap<u64, Unix> {
    let Some((text, _)) = proc::text(format!("/proc/{task}/net/unix"), MOST_BYTES) else { return HashMap::new() };
    text.lines().skip(1).filter_map(unix_socket).collect()
}

/// `Num: RefCount Protocol Flags Type St Inode Path`.
fn unix_socket(line: &str) -> Option<(u64, Unix)> {
    let mut rest = line;
    let mut fields = [""; 7];
    for field in &mut fields {
        rest = rest.trim_start();
        (*field, rest) = rest.split_at(rest.find(' ').unwrap_or(rest.len()));
    }
    let flags = u32::from_str_radix(fields[3], 16).ok()?;
    // A path may have spaces in it, also at its end.
    let name = rest.strip_prefix(' ').unwrap_or_default().to_owned();
    Some((fields[6].parse().ok()?, Unix { name, listens: flags & ACCEPTS != 0, peer: None, queues: None }))
}

/// The sockets of another protocol, by inode, in words.
pub(super) fn other(task: u32, protocol: &str) -> HashMap<u64, String> {
    let Some((text, _)) = proc::text(format!("/proc/{task}/net/{protocol}"), MOST_BYTES) else { return HashMap::new() };
    let entry = match protocol {
        "netlink" => netlink,
        "packet" => packet,
        _ => raw,
    };
    text.lines().skip(1).filter_map(entry).collect()
}

fn process(task: u32) -> Option<Process> {
    Process::new(i32::try_from(task).ok()?).ok()
}

/// `sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode`.
fn netlink(line: &str) -> Option<(u64, String)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let family: u16 = fields.get(1)?.parse().ok()?;
    let groups = u32::from_str_radix(fields.get(3)?, 16).ok()?;
    // Source: <https://elixir.bootlin.com/linux/v6.12/source/include/uapi/linux/netlink.h#L9>
    let name = match family {
        0 => "route",
        4 => "sock_diag",
        6 => "xfrm",
        7 => "selinux",
        9 => "audit",
        11 => "connector",
        12 => "netfilter",
        15 => "kobject_uevent",
        16 => "generic",
        _ => "",
    };
    let name = if name.is_empty() { format!("netlink protocol {family}") } else { format!("netlink {name}") };
    let groups = if groups == 0 { String::new() } else { format!(", groups {groups:#x}") };
    Some((fields.get(9)?.parse().ok()?, name + &groups))
}

/// `sk RefCnt Type Proto Iface R Rmem User Inode`.
fn packet(line: &str) -> Option<(u64, String)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let protocol = u16::from_str_radix(fields.get(3)?, 16).ok()?;
    let interface: u32 = fields.get(4)?.parse().ok()?;
    let on = if interface == 0 { "any interface".to_owned() } else { format!("interface {interface}") };
    Some((fields.get(8)?.parse().ok()?, format!("packet protocol {protocol:#06x}, {on}")))
}

/// `sl local_address rem_address …`, where the port is the protocol.
fn raw(line: &str) -> Option<(u64, String)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (_, protocol) = fields.get(1)?.split_once(':')?;
    let protocol = u16::from_str_radix(protocol, 16).ok()?;
    Some((fields.get(9)?.parse().ok()?, format!("raw protocol {protocol}")))
}

#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz(line: &str) {
    let _ = (unix_socket(line), netlink(line), packet(line), raw(line));
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETLINK: &str = "00000000a1b2 15  4711       00000003 0        0        0     2        0        9876";
    const PACKET: &str = "00000000a1b2 3      3    0003   2     1 0      0      4321";
    const UNIX: &str = "0000000000000000: 00000002 00000000 00010000 0001 01 21543 /run/a b";
    const RAW: &str =
        "   1: 00000000:0001 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 777 2 0 0";

    #[test]
    fn other_protocols_are_told() {
        assert_eq!(netlink(NETLINK), Some((9876, "netlink kobject_uevent, groups 0x3".to_owned())));
        assert_eq!(packet(PACKET), Some((4321, "packet protocol 0x0003, interface 2".to_owned())));
        assert_eq!(raw(RAW), Some((777, "raw protocol 1".to_owned())));
    }

    #[test]
    fn unix_sockets_that_listen_are_told_by_their_flags() {
        let listens = Unix { name: "/run/a b".to_owned(), listens: true, ..Unix::default() };
        assert_eq!(unix_socket(UNIX), Some((21543, listens)));
        let nameless = "ffff: 00000003 00000000 00000000 0001 03 77";
        assert_eq!(unix_socket(nameless), Some((77, Unix::default())));
        for end in 0..UNIX.len() {
            let _ = unix_socket(&UNIX[..end]);
        }
    }

    #[test]
    fn what_is_cut_is_no_socket() {
        for (parse, line) in [(netlink as fn(&str) -> Option<(u64, String)>, NETLINK), (packet, PACKET), (raw, RAW)] {
            for end in 0..line.len() {
                let _ = parse(&line[..end]);
            }
            assert_eq!(parse(""), None);
            assert_eq!(parse(&"z ".repeat(12)), None);
        }
    }
}
