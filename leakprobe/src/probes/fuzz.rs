//! Records of the ring buffer, BTF, and what /proc says of system calls.

use leakprobe_common::arch::{REG_WORDS, Regs};

use super::{btf::Btf, event, proc};

/// Takes a record apart.
pub(crate) fn records(data: &[u8]) {
    let mut regs: Regs = [0; REG_WORDS];
    let _ = event::parse(data, &mut regs);
    let _ = event::is_end_of_process(data);
}

/// Reads BTF.
pub(crate) fn btf(data: &[u8]) {
    if let Ok(btf) = Btf::parse(data) {
        let _ = btf.kernel_offsets();
    }
}

/// Reads `/proc/PID/syscall`.
pub(crate) fn proc_texts(text: &[u8]) {
    let _ = proc::parse_call(text);
}
