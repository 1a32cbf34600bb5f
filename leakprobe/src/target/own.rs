//! What we ourselves use.

/// Memory of one of our processes, KB; 0 where it cannot be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnMemory {
    /// The largest resident so far. Not that of getrusage, which counts from before exec: it would be that of whoever started us, if
    /// that is larger. Source: <https://elixir.bootlin.com/linux/v6.12/source/fs/exec.c#L1002>
    pub peak_kb: u64,
    /// What is resident now, but for mapped files.
    pub private_kb: u64,
}

impl OwnMemory {
    /// That of a process, from what its `/proc/PID/status` says.
    #[must_use]
    pub fn of_status(status: &str) -> Self {
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim().trim_end_matches("kB").trim_end().parse().ok()).unwrap_or(0)
        };
        Self { peak_kb: number("VmHWM:"), private_kb: number("RssAnon:") }
    }

    /// That of this process.
    #[must_use]
    pub fn now() -> Self {
        Self::of_status(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
    }
}
