//! Sockets in words.

use super::{Inet, Unix};
use crate::model::{span, thousands};

/// `TCP_ESTABLISHED`, `TCP_SYN_SENT` and `TCP_LISTEN`.
const ESTABLISHED: u8 = 1;
const CONNECTING: u8 = 2;
pub(super) const LISTEN: u8 = 10;

/// A TCP socket, with the time for which nothing has come or gone if that is known.
pub(super) fn tcp(socket: &Inet, idle_ms: Option<u64>) -> String {
    let mut words = format!("{}, {}", ends("tcp", socket), state(socket.state));
    if socket.state == LISTEN {
        if socket.id.is_some() {
            words += &waiting(socket.receive_queue, socket.send_queue);
        }
        return words;
    }
    if matches!(socket.state, CONNECTING | 3 | 12) {
        // Nothing has come or gone yet, and what is not acknowledged is the request itself.
        return words;
    }
    if let Some(idle) = idle_ms {
        words += &format!(", idle {}", span(idle));
    }
    for (bytes, what) in [(socket.receive_queue, "unread"), (socket.send_queue, "not acknowledged")] {
        if bytes > 0 {
            let noun = if bytes == 1 { "byte" } else { "bytes" };
            words += &format!(", {} {noun} {what}", thousands(bytes.into()));
        }
    }
    words
}

/// A UDP socket.
pub(super) fn datagram(protocol: &str, socket: &Inet) -> String {
    ends(protocol, socket)
}

fn ends(protocol: &str, socket: &Inet) -> String {
    let Inet { local, remote, .. } = socket;
    if remote.port() == 0 { format!("{protocol} {local}") } else { format!("{protocol} {local} → {remote}") }
}

/// A socket of this machine, whose other end has the name `peer`, which may be empty.
pub(super) fn unix(socket: &Unix, peer: &str) -> String {
    let mut words = match (socket.name.as_str(), peer) {
        ("", "") => "unix".to_owned(),
        ("", peer) => format!("unix → {peer}"),
        (own, _) => format!("unix {own}"),
    };
    if socket.listens {
        words += ", listening";
        if let Some([waits, most]) = socket.queues {
            words += &waiting(waits, most);
        }
    } else if socket.peer.is_some() {
        words += ", established";
    }
    words
}

fn waiting(waits: u32, most: u32) -> String {
    format!(", {} of {} waiting to be accepted", thousands(waits.into()), thousands(most.into()))
}

/// States of TCP. Source: <https://elixir.bootlin.com/linux/v6.12/source/include/net/tcp_states.h#L13>
fn state(state: u8) -> &'static str {
    match state {
        ESTABLISHED => "established",
        CONNECTING => "connecting",
        3 | 12 => "being accepted",
        4 | 5 => "closed by us",
        6 => "waiting for late packets",
        7 => "not connected",
        8 => "closed by the peer",
        9 | 11 => "closed by both",
        LISTEN => "listening",
        _ => "in an unknown state",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(state: u8, remote: &str, queues: [u32; 2]) -> Inet {
        let [receive_queue, send_queue] = queues;
        let (local, remote) = ("10.0.0.1:4312".parse().unwrap(), remote.parse().unwrap());
        Inet { local, remote, state, receive_queue, send_queue, id: Some(super::super::diag::Id::default()) }
    }

    #[test]
    fn connections_are_told_with_state_queues_and_idle_time() {
        let told = tcp(&socket(1, "10.0.0.2:5432", [0, 0]), Some(10_800_000));
        assert_eq!(told, "tcp 10.0.0.1:4312 → 10.0.0.2:5432, established, idle 3h 0m");
        let told = tcp(&socket(8, "10.0.0.2:5432", [17, 2_600]), None);
        assert_eq!(
            told,
            "tcp 10.0.0.1:4312 → 10.0.0.2:5432, closed by the peer, 17 bytes unread, 2,600 bytes not acknowledged"
        );
        let told = tcp(&socket(2, "10.0.0.2:5432", [0, 1]), Some(9_000));
        assert_eq!(told, "tcp 10.0.0.1:4312 → 10.0.0.2:5432, connecting");
        let told = tcp(&socket(10, "0.0.0.0:0", [2, 511]), None);
        assert_eq!(told, "tcp 10.0.0.1:4312, listening, 2 of 511 waiting to be accepted");
    }

    #[test]
    fn local_sockets_are_told_by_the_name_of_either_end() {
        let of = |name: &str| Unix { name: name.to_owned(), peer: Some(7), ..Unix::default() };
        assert_eq!(unix(&of(""), "/run/x"), "unix → /run/x, established");
        assert_eq!(unix(&of("/run/x"), ""), "unix /run/x, established");
        assert_eq!(unix(&Unix::default(), ""), "unix");
    }
}
