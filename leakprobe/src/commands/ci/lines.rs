//! What the programs that we start write, line by line.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    thread,
};

/// The longest line that is looked at, bytes: of a longer one the rest is the next.
const MAX_LINE: u64 = 64 << 10;

/// Calls `line` with each line of `output`, until it ends. A thread of its own does so: a program must never wait for us, whatever we
/// are at. Our stderr gets all of it if it `is_shown`: what programs say is no part of our report.
pub(super) fn listen(output: impl Read + Send + 'static, is_shown: bool, mut line: impl FnMut(&str) + Send + 'static) {
    thread::spawn(move || {
        let mut reader = BufReader::new(output);
        let mut bytes = Vec::new();
        while matches!(reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes), Ok(read) if read > 0) {
            if is_shown {
                // Nobody may be left to see it.
                let _ = io::stderr().write_all(&bytes);
            }
            line(String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']));
            bytes.clear();
        }
    });
}
