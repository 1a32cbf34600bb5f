//! One GET over HTTP without TLS, bounded in time and size: who answers may hang or lie.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time,
};

/// Most bytes of an answer that are read; the rest is left where it is.
const MOST_BYTES: u64 = 1 << 20;

/// Asks the server at `host:port` for `path`, and gives it `patience` for all of its answer. Returns the first MiB of the body.
///
/// # Errors
/// In words that follow the address: it was not reached, took too long, did not speak HTTP, or answered with another status than 200.
pub(super) async fn get(at: &str, path: &str, patience: Duration) -> Result<Vec<u8>, String> {
    let answer = match time::timeout(patience, exchange(at, path)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(format!("cannot be reached: {error}")),
        Err(_) => return Err(format!("did not answer within {} s", patience.as_secs_f64())),
    };
    let (status, body) = parse(&answer).ok_or("does not answer in HTTP")?;
    match status {
        200 => Ok(body.to_vec()),
        _ => Err(format!("answered with status {status}")),
    }
}

/// By HTTP/1.0 the answer ends when the connection does, and is not cut into chunks.
async fn exchange(at: &str, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(at).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {at}\r\nUser-Agent: leakprobe\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MOST_BYTES).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// The status of an answer, and its body.
fn parse(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let line = answer.get(..end)?.split(|&byte| byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    let status = words.next().filter(|status| status.len() == 3)?;
    Some((status.parse().ok()?, answer.get(end + 4..)?))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
        thread,
    };

    use tokio::runtime;

    use super::*;

    /// What comes of a server that answers with `answer`, and then closes the connection or hangs.
    fn got(answer: Vec<u8>, hangs: bool) -> Result<Vec<u8>, String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"GET /a?b HTTP/1.0\r\n"));
            // It may be hung up on.
            let _ = stream.write_all(&answer);
            if hangs {
                let _ = stream.read(&mut request);
            }
        });
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let patience = if hangs { Duration::from_millis(200) } else { Duration::from_secs(60) };
        let got = runtime.block_on(get(&at, "/a?b", patience));
        server.join().unwrap();
        got
    }

    #[test]
    fn answers_are_taken_or_refused_in_words() {
        assert_eq!(got(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\nbody".to_vec(), false), Ok(b"body".to_vec()));
        let refused = |answer: &[u8]| got(answer.to_vec(), false).unwrap_err();
        assert_eq!(refused(b"HTTP/1.1 404 Not Found\r\n\r\nno"), "answered with status 404");
        for other in
            [&b""[..], b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 2000 \r\n\r\n", b"\xff\r\n\r\n"]
        {
            assert_eq!(refused(other), "does not answer in HTTP");
        }
        let unreachable = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error = unreachable.block_on(get("127.0.0.1:1", "/", Duration::from_secs(60))).unwrap_err();
        assert!(error.starts_with("cannot be reached: "), "{error}");
    }

    #[test]
    fn who_hangs_or_never_ends_is_left() {
        assert_eq!(got(b"HTTP/1.0 200 OK\r\n".to_vec(), true), Err("did not answer within 0.2 s".to_owned()));
        let mut endless = b"HTTP/1.0 200 OK\r\n\r\n".to_vec();
        endless.resize(4 << 20, b'x');
        let body = got(endless, false).unwrap();
        assert!(body.len() as u64 <= MOST_BYTES && body.len() > 1 << 19);
    }

    #[test]
    fn who_drips_has_no_more_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n");
            while stream.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(10));
            }
        });
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let got = runtime.block_on(get(&at, "/", Duration::from_millis(300)));
        assert_eq!(got, Err("did not answer within 0.3 s".to_owned()));
        server.join().unwrap();
    }

    #[test]
    fn what_is_cut_short_does_no_harm() {
        let whole = b"HTTP/1.0 200 OK\r\nA: b\r\n\r\nbody";
        for end in 0..whole.len() {
            let _ = parse(&whole[..end]);
        }
    }
}
