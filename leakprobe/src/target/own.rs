//! What we ourselves use.

/// Our largest resident memory so far, KB; 0 if it cannot be had. Not that of getrusage, which counts from before exec: it would be
/// that of whoever started us, if that is larger. Source: <https://elixir.bootlin.com/linux/v6.12/source/fs/exec.c#L1002>
#[must_use]
pub fn peak_memory_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|peak| peak.trim().trim_end_matches("kB").trim_end().parse().ok()).unwrap_or(0)
}
