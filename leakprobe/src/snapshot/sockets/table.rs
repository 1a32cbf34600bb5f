//! `/proc/PID/net`: what can be known of sockets where sock_diag is not to be had, and of the protocols that it does not know.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
};

use procfs::{
    FromBufReadSI, current_system_info,
    net::{TcpNetEntries, UdpNetEntries},
};

use super::{Inet, List, TCP, UDP, Unix, plain};
use crate::{snapshot::proc, target::Budget};

/// The flag of a Unix socket that listens; its state there is that of the file, not of the socket.
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/net/unix/af_unix.c#L3456>
const ACCEPTS: u32 = 0x1_0000;
/// Bytes of a table that are read at most.
const MOST_BYTES: usize = 4 << 20;
/// The same of a table of internet sockets, which is read line by line: some 150 bytes each.
const MOST_BYTES_OF_INET: u64 = 160 << 20;

/// The TCP or UDP sockets in the network namespace of `task`.
pub(super) fn inet(task: u32, protocol: u8, budget: &Budget) -> List {
    let mut sockets = List::new(budget);
    let names = match protocol {
        TCP => ["tcp", "tcp6"],
        UDP => ["udp", "udp6"],
        _ => return sockets,
    };
    for name in names {
        let Ok(file) = File::open(format!("/proc/{task}/net/{name}")) else { continue };
        let lines = BufReader::new(file.take(MOST_BYTES_OF_INET)).lines();
        for (inode, socket) in lines.skip(1).map_while(Result::ok).filter_map(|line| inet_socket(&line, protocol)) {
            sockets.push(inode, socket);
        }
    }
    sockets.complete()
}

/// A line of such a table, after its head.
fn inet_socket(line: &str, protocol: u8) -> Option<(u64, Inet)> {
    let text = format!("\n{line}");
    let socket = |inode, local: SocketAddr, remote: SocketAddr, state, [receive_queue, send_queue]: [u32; 2]| {
        let [local, remote] = [local, remote].map(|address| plain(address.ip(), address.port()));
        (inode, Inet { local, remote, state, receive_queue, send_queue, id: None })
    };
    if protocol == TCP {
        let TcpNetEntries(entries) = TcpNetEntries::from_buf_read(text.as_bytes(), current_system_info()).ok()?;
        let it = entries.into_iter().next()?;
        Some(socket(it.inode, it.local_address, it.remote_address, it.state as u8, [it.rx_queue, it.tx_queue]))
    } else {
        let UdpNetEntries(entries) = UdpNetEntries::from_buf_read(text.as_bytes(), current_system_info()).ok()?;
        let it = entries.into_iter().next()?;
        Some(socket(it.inode, it.local_address, it.remote_address, it.state as u8, [0; 2]))
    }
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
    let _ = (unix_socket(line), netlink(line), packet(line), raw(line), inet_socket(line, TCP));
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
    fn internet_sockets_are_told_with_addresses_and_queues() {
        const V4: &str =
            "   3: 0100007F:1F90 0200007F:0050 01 00000005:00000007 00:00000000 00000000  1000        0 4711 1 x";
        const V6: &str = "   0: 00000000000000000000000001000000:8AE0 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1 x";
        let (inode, socket) = inet_socket(V4, TCP).unwrap();
        assert_eq!((inode, socket.local), (4711, "127.0.0.1:8080".parse().unwrap()));
        assert_eq!((socket.remote, socket.state), ("127.0.0.2:80".parse().unwrap(), 1));
        assert_eq!([socket.receive_queue, socket.send_queue], [7, 5]);
        let (inode, socket) = inet_socket(V6, TCP).unwrap();
        assert_eq!((inode, socket.local), (77, "[::1]:35552".parse().unwrap()));
        for line in [V4, V6] {
            for end in 0..line.len() {
                let _ = inet_socket(&line[..end], UDP);
            }
        }
    }

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
