//! What we and the helper say to each other: a length of four bytes, to which a descriptor may be attached, and as much JSON.
//!
//! What the helper answers is as little to be trusted as the file that it reads: it is bounded in size and in time.

use std::{
    fmt,
    fs::File,
    io::{self, IoSlice, IoSliceMut, Read, Write},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use nix::{
    cmsg_space,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Most bytes of a message.
const LARGEST: usize = 64 << 20;

/// What we ask. Each is answered with a `Result`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Request {
    /// To keep the file whose descriptor comes with it, an [`Answer`] being the descriptor's number at the other end.
    Keep,
    /// To look up addresses, as the file itself counts, in a file that was kept; the answer has the functions at each.
    LookUp { file: i32, addresses: Vec<u64> },
}

/// What the helper answers.
pub(super) type Answer<T> = Result<T, Failure>;

/// Why there is nothing of a file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Failure {
    /// The helper has not the right to open it.
    MayNotOpen,
    /// It could not be read; says why.
    Unreadable(String),
    /// Reading it ended in a panic.
    Panicked,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MayNotOpen => f.write_str("debug information could not be read: permission denied"),
            Self::Unreadable(why) => write!(f, "debug information could not be read: {why}"),
            Self::Panicked => f.write_str("debug information is corrupt: its reader panicked"),
        }
    }
}

/// Sends a message, and a descriptor with it.
pub(super) fn send(
    stream: &UnixStream,
    message: &impl Serialize,
    file: Option<&File>,
    until: Instant,
) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).ok().filter(|&length| length as usize <= LARGEST);
    let length = length.ok_or_else(|| io::Error::other("the message is too long"))?.to_le_bytes();
    let descriptors: Vec<RawFd> = file.iter().map(|file| file.as_raw_fd()).collect();
    let control = [ControlMessage::ScmRights(&descriptors)];
    let control = if descriptors.is_empty() { &control[..0] } else { &control[..] };
    // Four bytes always fit, or none of them do.
    repeated(|| {
        stream.set_write_timeout(Some(left(until)?))?;
        Ok(sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&length)], control, MsgFlags::MSG_NOSIGNAL, None)?)
    })?;
    let (mut rest, mut stream) = (&body[..], stream);
    while !rest.is_empty() {
        stream.set_write_timeout(Some(left(until)?))?;
        match stream.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest = &rest[written..],
            Err(error) => late_or(error)?,
        }
    }
    Ok(())
}

/// The next request and its descriptor; `None` if none comes for so long, or ever.
pub(super) fn receive_request(stream: &UnixStream, idle: Duration) -> Option<(Request, Option<OwnedFd>)> {
    stream.set_read_timeout(Some(idle)).ok()?;
    let mut length = [0; 4];
    let mut space = cmsg_space!(RawFd);
    let mut into = [IoSliceMut::new(&mut length)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_WAITALL;
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut into, Some(&mut space), flags).ok()?;
    let is_whole = message.bytes == 4;
    let mut file = None;
    for control in message.cmsgs().ok()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            for descriptor in descriptors {
                // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
                file = Some(unsafe { OwnedFd::from_raw_fd(descriptor) });
            }
        }
    }
    let request = is_whole.then(|| read(stream, length, Instant::now() + idle))?;
    Some((request.ok()?, file))
}

/// Waits until a reply begins.
pub(super) fn await_reply(stream: &UnixStream, until: Instant) -> io::Result<()> {
    let mut length = [0; 4];
    let received = repeated(|| {
        stream.set_read_timeout(Some(left(until)?))?;
        let mut into = [IoSliceMut::new(&mut length)];
        Ok(recvmsg::<()>(stream.as_raw_fd(), &mut into, None, MsgFlags::MSG_PEEK)?.bytes)
    });
    match received {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::TimedOut.into()),
        Err(error) => Err(error),
    }
}

/// What `call` gives once no signal comes in between: the kernel never restarts calls on sockets that have a time-out
/// (<https://man7.org/linux/man-pages/man7/signal.7.html>, "Interruption of system calls").
fn repeated<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// The reply.
pub(super) fn receive_reply<T: DeserializeOwned>(stream: &UnixStream, until: Instant) -> io::Result<T> {
    let mut length = [0; 4];
    fill(stream, &mut length, until)?;
    read(stream, length, until)
}

/// The rest of a message.
fn read<T: DeserializeOwned>(stream: &UnixStream, length: [u8; 4], until: Instant) -> io::Result<T> {
    let length = u32::from_le_bytes(length) as usize;
    if length > LARGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length];
    fill(stream, &mut body, until)?;
    Ok(serde_json::from_slice(&body)?)
}

fn fill(mut stream: &UnixStream, into: &mut [u8], until: Instant) -> io::Result<()> {
    let mut filled = 0;
    while filled < into.len() {
        stream.set_read_timeout(Some(left(until)?))?;
        match stream.read(&mut into[filled..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => filled += read,
            Err(error) => late_or(error)?,
        }
    }
    Ok(())
}

/// The time that is left.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Nothing if it is worth another try, for which there may be no time left.
fn late_or(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn a_request_brings_its_file_and_a_reply_comes_back() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"hello").unwrap();
        let addresses: Vec<u64> = (0..100_000).collect();
        let other = thread::spawn(move || {
            let (request, file) = receive_request(&theirs, Duration::from_secs(20)).unwrap();
            assert!(matches!(request, Request::LookUp { file: 7, addresses } if addresses.len() == 100_000));
            let size = File::from(file.unwrap()).metadata().unwrap().len();
            let answer: Answer<u64> = Ok(size);
            send(&theirs, &answer, None, soon()).unwrap();
            assert!(receive_request(&theirs, Duration::from_millis(20)).is_none());
        });
        send(&ours, &Request::LookUp { file: 7, addresses }, Some(&file), soon()).unwrap();
        await_reply(&ours, soon()).unwrap();
        assert!(matches!(receive_reply::<Answer<u64>>(&ours, soon()), Ok(Ok(5))));
        other.join().unwrap();
    }

    #[test]
    fn lies_about_the_length_nonsense_and_silence_are_errors() {
        let answered = |bytes: &[u8]| {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(bytes).unwrap();
            drop(theirs);
            receive_reply::<Answer<u64>>(&ours, soon()).unwrap_err().kind()
        };
        assert_eq!(answered(&u32::MAX.to_le_bytes()), io::ErrorKind::InvalidData);
        assert_eq!(answered(&[9, 0, 0, 0, b'{']), io::ErrorKind::UnexpectedEof);
        assert_eq!(answered(&[2, 0]), io::ErrorKind::UnexpectedEof);
        assert_eq!(answered(&[1, 0, 0, 0, b'x']), io::ErrorKind::InvalidData);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let until = || Instant::now() + Duration::from_millis(30);
        assert_eq!(await_reply(&ours, until()).unwrap_err().kind(), io::ErrorKind::TimedOut);
        // Who drips has no more time.
        theirs.write_all(&[100, 0, 0, 0, b'{']).unwrap();
        await_reply(&ours, soon()).unwrap();
        assert_eq!(receive_reply::<Answer<u64>>(&ours, until()).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
