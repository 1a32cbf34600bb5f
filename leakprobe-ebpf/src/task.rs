//! Fields of `task_struct` and their like, by the offsets that user space looked up in the kernel's BTF.

use aya_ebpf::{
    bindings::task_struct,
    helpers::{bpf_get_current_task_btf, bpf_probe_read_kernel, generated::bpf_task_pt_regs},
};
use leakprobe_common::{
    arch::Regs,
    event::{Header, Kind},
    offsets::ABSENT,
};

use crate::config::offset;

/// A kernel structure that fields are read from. The pointer may be wild: reads then fail.
#[derive(Clone, Copy)]
pub struct Kernel(pub *const u8);

impl Kernel {
    /// The field at `offset`; `None` if this kernel has no such field or it cannot be read.
    #[inline(always)]
    pub fn read<T>(self, offset: u32) -> Option<T> {
        if offset == ABSENT || self.0.is_null() {
            return None;
        }
        let field = self.0.wrapping_add(offset as usize).cast::<T>();
        // SAFETY: the helper checks the address and fails if nothing is mapped there; `T` is plain data.
        unsafe { bpf_probe_read_kernel(field) }.ok()
    }

    /// The thread that runs now.
    #[inline(always)]
    pub fn current() -> Self {
        current().cast_const().into()
    }

    /// The structure that the pointer at `offset` leads to.
    #[inline(always)]
    pub fn follow(self, offset: u32) -> Option<Self> {
        self.read::<*const u8>(offset).map(Self)
    }
}

impl From<*const task_struct> for Kernel {
    #[inline(always)]
    fn from(task: *const task_struct) -> Self {
        Self(task.cast())
    }
}

/// A structure whose type the verifier knows, so that fields are plain loads, where [`Kernel::read`] costs a call of some 20 ns.
#[derive(Clone, Copy)]
pub struct Known(*const u8);

impl Known {
    /// The field at `offset`; `None` if this kernel has no such field. Elsewhere than where a field of that size lies, the program is not
    /// loaded.
    #[inline(always)]
    pub fn read<T: Copy>(self, offset: u32) -> Option<T> {
        if offset == ABSENT {
            return None;
        }
        let field = self.0.wrapping_add(offset as usize).cast::<T>();
        // SAFETY: the verifier checks that a field lies there; a load that faults all the same gives 0.
        Some(unsafe { field.read_volatile() })
    }

    /// The structure that the pointer at `offset` leads to. Of what it leads to if it is null all fields are 0.
    #[inline(always)]
    pub fn follow(self, offset: u32) -> Option<Self> {
        self.read::<*const u8>(offset).map(Self)
    }
}

impl From<*mut task_struct> for Known {
    #[inline(always)]
    fn from(task: *mut task_struct) -> Self {
        Self(task.cast_const().cast())
    }
}

/// The thread that runs now, as the verifier knows it.
#[inline(always)]
pub fn current() -> *mut task_struct {
    // SAFETY: the helper has no preconditions (kernel 5.11).
    unsafe { bpf_get_current_task_btf() }
}

/// The front of a record about the thread `about`, with the id `tid`, of the target `tgid`. `task` is any thread of that target.
#[inline(always)]
pub fn header(kind: Kind, task: Kernel, about: Kernel, tgid: u32, tid: u32, time_ns: u64) -> Header {
    let start = |task: Kernel| task.read(offset!(task_start_boottime)).unwrap_or(0);
    let process_start = task.follow(offset!(task_group_leader)).map_or(0, start);
    Header { kind: kind as u32, tid, tgid, pad: 0, process_start, thread_start: start(about), time_ns }
}

/// Copies the saved user registers of `task` into `into`.
///
/// `task` must be a pointer that the verifier knows as a `task_struct` (kernel 5.15).
#[inline(always)]
pub fn user_regs(task: *mut task_struct, into: &mut Regs) -> Option<()> {
    // SAFETY: the verifier checks that `task` is a valid task_struct.
    let regs = unsafe { bpf_task_pt_regs(task) } as *const Regs;
    // SAFETY: `into` has the size given; the helper checks the source.
    let result = unsafe {
        aya_ebpf::helpers::generated::bpf_probe_read_kernel(
            core::ptr::from_mut(into).cast(),
            size_of::<Regs>() as u32,
            regs.cast(),
        )
    };
    (result == 0).then_some(())
}
