//! Values of options.

use std::{ffi::OsString, time::Duration};

use clap::ValueEnum;
use nix::sys::signal::Signal;

use super::{LeakProfile, Ready};
use crate::report::GroupBy;

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What the width of a flame graph's frame means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Weight {
    /// The number of parked threads.
    #[default]
    Tasks,
    /// How long they have been parked together, ms.
    Time,
}

/// Which stacks a flame graph shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum View {
    /// Where threads are parked.
    #[default]
    Parked,
    /// Where parked threads were created.
    Creation,
}

/// Which tasks are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Threads, whatever they run.
    Threads,
    /// Goroutines.
    Goroutines,
    /// Goroutines, and threads that do not belong to Go's runtime.
    #[default]
    All,
}

/// `creator`, `site`, `wait`, `channel`, `label`, `label=KEY` or `thread-name`.
pub(super) fn group_by(text: &str) -> Result<GroupBy, String> {
    Ok(match text {
        "creator" => GroupBy::Creator,
        "site" => GroupBy::Site,
        "wait" => GroupBy::Wait,
        "channel" => GroupBy::Channel,
        "label" => GroupBy::Label(None),
        "thread-name" => GroupBy::ThreadName,
        _ => match text.strip_prefix("label=") {
            Some(key) if !key.is_empty() => GroupBy::Label(Some(key.to_owned())),
            _ => {
                return Err(format!(
                    "'{text}' is nothing to group by; use creator, site, wait, channel, label, label=KEY or thread-name"
                ));
            }
        },
    })
}

/// The id of one process.
pub(super) fn pid(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(pid) if pid > 0 => Ok(pid),
        _ => Err("a process id is a number from 1 on; `pgrep -a NAME` finds it".to_owned()),
    }
}

/// A hundred years. What is longer is a mistake, and its end could not be computed.
const LONGEST_SECONDS: f64 = 100.0 * 365.0 * 24.0 * 3600.0;

/// A span of time with its unit: `500ms`, `1.5s`, `2m`, `1h`, `250us`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let help = || format!("'{text}' is no duration; write a number and a unit, such as 500ms, 30s, 5m or 1h");
    let split = text.find(|c: char| c.is_ascii_alphabetic() || c == 'µ').ok_or_else(help)?;
    let (number, unit) = text.split_at(split);
    let number: f64 = number.trim().parse().map_err(|_| help())?;
    let unit_seconds = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(help()),
    };
    let seconds = number * unit_seconds;
    if seconds > LONGEST_SECONDS {
        return Err(format!("'{text}' is more than a hundred years"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| help())
}

/// A span of time that is not zero.
pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it must be longer than zero".to_owned()),
        duration => Ok(duration),
    }
}

/// The interval between snapshots: bounded below, so that a slip of the finger costs no core.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if interval < Duration::from_millis(10) {
        return Err("it must be 10ms at least".to_owned());
    }
    Ok(interval)
}

/// A number of frames, at least one.
pub(super) fn max_depth(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(depth) if depth > 0 => Ok(depth),
        _ => Err(format!("'{text}' is no number of frames; give one from 1 on, such as 64")),
    }
}

/// A share of one core that may be used; `None`: any.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Overhead(pub(super) Option<f64>);

/// `1%`, `0.5%`, `2`, or `off`.
pub(super) fn overhead(text: &str) -> Result<Overhead, String> {
    if text == "off" {
        return Ok(Overhead(None));
    }
    match text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>() {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Overhead(Some(percent / 100.0))),
        _ => Err(format!("'{text}' is no share of a core; give a percentage above 0%, such as 1% or 0.5%, or off")),
    }
}

/// The size of a ring buffer: a power of two, of pages.
pub(super) fn ring_bytes(text: &str) -> Result<u32, String> {
    let help = || format!("'{text}' is no ring size; give a power of two from 4096 to 1073741824 (bytes)");
    let bytes: u32 = text.parse().map_err(|_| help())?;
    if bytes.is_power_of_two() && (4096..=1 << 30).contains(&bytes) { Ok(bytes) } else { Err(help()) }
}

/// The verdict from which on a check fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// Only what cannot wake, by construction.
    Proven,
    /// Also what grows with every round and never wakes.
    #[default]
    Likely,
    /// Also what grew once, or was parked long and left by its creators.
    Suspect,
}

/// A command in words.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Words(pub(super) Vec<OsString>);

/// `server --port 80`, with quotes as in a shell.
pub(super) fn command(text: &str) -> Result<Words, String> {
    match shlex::split(text) {
        Some(words) if !words.is_empty() => Ok(Words(words.into_iter().map(OsString::from).collect())),
        Some(_) => Err("it names no program".to_owned()),
        None => Err("a quote is not closed".to_owned()),
    }
}

/// `HOST:PORT`, `:PORT`, `http://HOST[:PORT]/PATH` or `/REGEX/`.
pub(super) fn ready(text: &str) -> Result<Ready, String> {
    let help = || format!("'{text}' is none of HOST:PORT, http://HOST:PORT/PATH and /REGEX/");
    if text.starts_with("https://") {
        return Err("https is not spoken here; give HOST:PORT, which waits until connections are accepted".to_owned());
    }
    if let Some(url) = text.strip_prefix("http://") {
        return http(url).map(|(at, path)| Ready::Http(at, path)).ok_or_else(help);
    }
    if let Some(pattern) = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
        return if pattern.is_empty() { Err(help()) } else { Ok(Ready::Line(pattern.to_owned())) };
    }
    address(text).map(Ready::Tcp).ok_or_else(help)
}

/// `host:port` and the path of a URL without its scheme.
fn http(url: &str) -> Option<(String, String)> {
    let (host, path) = url.split_once('/').unwrap_or((url, ""));
    let at = if has_port(host) { host.to_owned() } else { format!("{host}:80") };
    address(&at).filter(|_| !host.is_empty()).map(|at| (at, format!("/{path}")))
}

/// Where `net/http/pprof` serves the profile of leaked goroutines.
const LEAK_PROFILE: &str = "/debug/pprof/goroutineleak";

/// `http://HOST:PORT`, with a path if the profile is not where it usually is. Whatever is asked for, it is the text that counts them.
pub(super) fn leak_profile(text: &str) -> Result<LeakProfile, String> {
    let help = || format!("'{text}' is no URL of the profile; give one such as http://127.0.0.1:6060{LEAK_PROFILE}");
    if text.starts_with("https://") {
        return Err("https is not supported; give the http:// URL of a port on this machine".to_owned());
    }
    if !text.chars().all(|c| c.is_ascii_graphic()) {
        return Err(help());
    }
    let (at, path) = text.strip_prefix("http://").and_then(http).ok_or_else(help)?;
    let path = path.split('#').next().unwrap_or_default();
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let path = if path == "/" { LEAK_PROFILE } else { path };
    let others = query.split('&').filter(|one| !one.is_empty() && !one.starts_with("debug="));
    let query: Vec<&str> = others.chain(["debug=1"]).collect();
    Ok(LeakProfile { at, path: format!("{path}?{}", query.join("&")) })
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
}

/// With the host that is meant if none is named.
fn address(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let port: u16 = port.parse().ok().filter(|&port| port > 0)?;
    let is_host = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    host.chars().all(is_host).then(|| format!("{host}:{port}"))
}

/// A signal by its name or number.
pub(super) fn signal(text: &str) -> Result<i32, String> {
    let name = text.to_uppercase();
    let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    let by_number = || text.parse::<i32>().ok().and_then(|number| Signal::try_from(number).ok());
    let signal = name.parse::<Signal>().ok().or_else(by_number);
    signal.map(|signal| signal as i32).ok_or_else(|| format!("'{text}' is no signal; give a name such as TERM or INT"))
}

/// `5%`, or `5`.
pub(super) fn percent(text: &str) -> Result<f64, String> {
    match text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err(format!("'{text}' is no percentage; give one from 0% to 100%, such as 5%")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_is_ready_by() {
        let tcp = |at: &str| Ok(Ready::Tcp(at.to_owned()));
        assert_eq!(ready("localhost:80"), tcp("localhost:80"));
        assert_eq!((ready(":80"), ready("8080")), (tcp("127.0.0.1:80"), tcp("127.0.0.1:8080")));
        assert_eq!(ready("[::1]:80"), tcp("[::1]:80"));
        assert_eq!(ready("http://a.b/c/d?e"), Ok(Ready::Http("a.b:80".to_owned(), "/c/d?e".to_owned())));
        assert_eq!(ready("http://:81"), Ok(Ready::Http("127.0.0.1:81".to_owned(), "/".to_owned())));
        assert_eq!(ready("/listening on .*/"), Ok(Ready::Line("listening on .*".to_owned())));
        for bad in ["", "//", "https://a", "a:b", "a:0", "a b:80", "http://", "http://a b/"] {
            assert!(ready(bad).is_err(), "{bad}: {:?}", ready(bad));
        }
    }

    #[test]
    fn commands_signals_and_percentages() {
        assert_eq!(command("a 'b c' \"d\"").map(|words| words.0), Ok(["a", "b c", "d"].map(OsString::from).to_vec()));
        assert!(command("a 'b").is_err() && command(" ").is_err());
        assert_eq!((signal("TERM"), signal("SIGINT"), signal("int"), signal("9")), (Ok(15), Ok(2), Ok(2), Ok(9)));
        assert!(signal("NONE").is_err() && signal("0").is_err() && signal("99").is_err());
        assert_eq!((percent("5%"), percent("0"), percent("2.5 %")), (Ok(5.0), Ok(0.0), Ok(2.5)));
        for bad in ["", "-1", "101%", "nan", "x"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_leak_profile_is_asked_for_as_text() {
        let of = |text| leak_profile(text).map(|LeakProfile { at, path }| format!("{at}{path}"));
        let usual = Ok("127.0.0.1:6060/debug/pprof/goroutineleak?debug=1".to_owned());
        for text in ["http://127.0.0.1:6060", "http://:6060/", "http://:6060/debug/pprof/goroutineleak?debug=2#x"] {
            assert_eq!(of(text), usual, "{text}");
        }
        assert_eq!(of("http://a.b/p?x=1&debug=2&y"), Ok("a.b:80/p?x=1&y&debug=1".to_owned()));
        assert_eq!(of("http://[::1]:80/p"), Ok("[::1]:80/p?debug=1".to_owned()));
        for bad in
            ["", "6060", "127.0.0.1:6060", "https://a", "http://", "http://a b", "http://u@a", "http://a/\r\nX: y"]
        {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "5", "s", "5 parsecs", "-1s", "infs", "1e400h", "5d", "876001h", "5000000000000000h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_stack_has_at_least_one_frame() {
        assert_eq!(max_depth("64"), Ok(64));
        for bad in ["", "0", "-1", "all"] {
            assert!(max_depth(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn overhead_is_a_percentage_or_off() {
        assert_eq!(overhead("1%"), Ok(Overhead(Some(0.01))));
        assert_eq!(overhead("0.5"), Ok(Overhead(Some(0.005))));
        assert_eq!(overhead("off"), Ok(Overhead(None)));
        for bad in ["", "0", "0%", "-1%", "101%", "nan", "inf%", "one"] {
            assert!(overhead(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pid_is_one_number() {
        assert_eq!(pid("1234"), Ok(1234));
        for bad in ["", "0", "-5", "abc", "4294967296"] {
            assert!(pid(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ring_sizes_are_powers_of_two() {
        assert_eq!(ring_bytes("8388608"), Ok(8 << 20));
        for bad in ["0", "4095", "5000", "2048", "4294967296"] {
            assert!(ring_bytes(bad).is_err(), "{bad}");
        }
    }
}
