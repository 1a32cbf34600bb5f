//! Offsets of kernel struct fields, from the running kernel's BTF.
//!
//! A scan of our own, because the loader's own parser keeps members private and the general-purpose reader takes some
//! 120 ms for a kernel's BTF, more than a whole snapshot: this one takes a few. The format is
//! <https://docs.kernel.org/bpf/btf.html>. The data comes from the kernel, but nothing here trusts it.

use std::{collections::HashMap, fs, io};

use leakprobe_common::offsets::{ABSENT, KernelOffsets};

/// Where the kernel shows its BTF.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Why offsets could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The kernel shows no BTF.
    #[error("cannot read {VMLINUX}: {0}; leakprobe needs a kernel built with CONFIG_DEBUG_INFO_BTF (5.15 or later)")]
    Unreadable(#[source] io::Error),
    /// The data is no BTF.
    #[error("{VMLINUX} is not in BTF format: {0}")]
    Malformed(&'static str),
    /// A field that nothing works without.
    #[error("this kernel's {0} cannot be found in its BTF; leakprobe does not know such a kernel")]
    Missing(&'static str),
}

const MAGIC: u16 = 0xeb9f;
const KIND_INT: u32 = 1;
const KIND_POINTER: u32 = 2;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
/// Deepest nesting of anonymous members, and longest chain of typedefs, that is followed.
const MAX_DEPTH: u32 = 16;

/// A parsed table of types.
pub struct Btf {
    types: Vec<u8>,
    strings: Vec<u8>,
    /// Byte offset of each type in `types`, by type id.
    index: Vec<u32>,
    /// Structs of interest, by name.
    structs: HashMap<&'static str, u32>,
}

/// The structs in which fields are looked up.
const STRUCTS: &[&str] = &[
    "task_struct",
    "mm_struct",
    "signal_struct",
    "cfs_rq",
    "rq",
    "files_struct",
    "fdtable",
    "file",
    "inode",
    "socket",
    "sock",
];

/// The running kernel's BTF. The kernel hands out a page at a time: some 2 ms.
///
/// # Errors
/// If it is not there.
pub fn read_kernel() -> Result<Vec<u8>, BtfError> {
    fs::read(VMLINUX).map_err(BtfError::Unreadable)
}

impl Btf {
    /// Scans BTF data.
    ///
    /// # Errors
    /// If the header or a section lies outside the data.
    pub fn parse(data: &[u8]) -> Result<Self, BtfError> {
        let short = BtfError::Malformed("it is too short");
        let word = |at: usize| u32_at(data, at).map(|w| w as usize);
        let (Some(first), Some(header), Some(type_off), Some(type_len), Some(str_off), Some(str_len)) =
            (word(0), word(4), word(8), word(12), word(16), word(20))
        else {
            return Err(short);
        };
        if first as u16 != MAGIC {
            return Err(BtfError::Malformed("the magic number is wrong"));
        }
        let section = |offset: usize, len: usize| {
            let start = header.checked_add(offset)?;
            data.get(start..start.checked_add(len)?)
        };
        let (Some(types), Some(strings)) = (section(type_off, type_len), section(str_off, str_len)) else {
            return Err(short);
        };
        let mut btf = Self {
            types: types.to_vec(),
            strings: strings.to_vec(),
            index: vec![u32::MAX], // type 0 is void
            structs: HashMap::new(),
        };
        btf.scan();
        Ok(btf)
    }

    /// Finds where each type begins. A kind that is newer than this code ends the scan: what follows is not found.
    fn scan(&mut self) {
        let mut at = 0;
        while let (Some(name), Some(info)) = (u32_at(&self.types, at), u32_at(&self.types, at + 4)) {
            let (kind, count) = (kind(info), members(info));
            if kind == KIND_STRUCT
                && let Some(wanted) = STRUCTS.iter().find(|wanted| self.name_is(name, wanted))
            {
                let id = u32::try_from(self.index.len()).unwrap_or(u32::MAX);
                self.structs.entry(wanted).or_insert(id);
            }
            self.index.push(u32::try_from(at).unwrap_or(u32::MAX));
            let extra = match kind {
                2 | 7..=12 | 16 | 18 => 0, // pointer, forward, typedef, volatile, const, restrict, function, float, type tag
                1 | 14 | 17 => 4,          // integer, variable, declaration tag
                3 => 12,                   // array
                6 | 13 => 8 * count,       // enum, function prototype
                KIND_STRUCT | KIND_UNION | 15 | 19 => 12 * count, // data section, 64-bit enum
                _ => return,
            };
            at += 12 + extra;
        }
    }

    /// Byte offset and size of the field that `path` (`a.b.c`) leads to in `name`. The size is 0 for what is neither an integer
    /// nor a pointer.
    #[must_use]
    pub fn field(&self, name: &str, path: &str) -> Option<(u32, u32)> {
        let mut id = *self.structs.get(name)?;
        let mut bits = 0u32;
        for field in path.split('.') {
            let (offset, field_type) = self.member(id, field, 0)?;
            bits = bits.checked_add(offset)?;
            id = field_type;
        }
        bits.is_multiple_of(8).then_some((bits / 8, self.size(id).unwrap_or(0)))
    }

    /// Size of an integer or a pointer, behind typedefs and qualifiers.
    fn size(&self, mut id: u32) -> Option<u32> {
        for _ in 0..MAX_DEPTH {
            let at = *self.index.get(id as usize)? as usize;
            let last = u32_at(&self.types, at.checked_add(8)?)?;
            match kind(u32_at(&self.types, at + 4)?) {
                KIND_INT => return Some(last),
                KIND_POINTER => return Some(8),
                8..=11 | 18 => id = last,
                _ => return None,
            }
        }
        None
    }

    /// Bit offset and type of `field` in the struct or union `id`, looking into anonymous members as C does.
    fn member(&self, id: u32, field: &str, depth: u32) -> Option<(u32, u32)> {
        if depth > MAX_DEPTH {
            return None;
        }
        let at = self.resolve(id)?;
        let info = u32_at(&self.types, at + 4)?;
        for n in 0..members(info) {
            let entry = at + 12 + 12 * n;
            let name = u32_at(&self.types, entry)?;
            let field_type = u32_at(&self.types, entry + 4)?;
            let raw = u32_at(&self.types, entry + 8)?;
            // With the kind flag the upper byte is the size of a bit field.
            let offset = if info >> 31 == 1 { raw & 0x00ff_ffff } else { raw };
            if name == 0 {
                if let Some((inner, found)) = self.member(field_type, field, depth + 1) {
                    return Some((offset.checked_add(inner)?, found));
                }
            } else if self.name_is(name, field) {
                return Some((offset, field_type));
            }
        }
        None
    }

    /// Where the struct or union begins that `id` is, behind typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<usize> {
        for _ in 0..MAX_DEPTH {
            let at = *self.index.get(id as usize)? as usize;
            match kind(u32_at(&self.types, at.checked_add(4)?)?) {
                KIND_STRUCT | KIND_UNION => return Some(at),
                8..=11 | 18 => id = u32_at(&self.types, at + 8)?,
                _ => return None,
            }
        }
        None
    }

    fn name_is(&self, offset: u32, name: &str) -> bool {
        self.strings
            .get(offset as usize..)
            .and_then(|rest| rest.strip_prefix(name.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    }

    /// Every offset that the programs need. A field that is there but has another size than the programs read is as good as
    /// missing: kernels do change such things (`on_cpu`, an int for decades, is a byte in 7.2).
    ///
    /// # Errors
    /// If a field without which nothing works is missing. Other fields may be [`ABSENT`].
    pub fn kernel_offsets(&self) -> Result<KernelOffsets, BtfError> {
        let sized = |name, path, size| self.field(name, path).filter(|field| field.1 == size).map(|field| field.0);
        let need = |path: &'static str, size| sized("task_struct", path, size).ok_or(BtfError::Missing(path));
        let want = |name, path, size| sized(name, path, size).unwrap_or(ABSENT);
        let any = |path: &'static str| self.field("task_struct", path).map(|field| field.0);
        Ok(KernelOffsets {
            task_pid: need("pid", 4)?,
            task_tgid: need("tgid", 4)?,
            // `state` until 5.13: https://git.kernel.org/linus/2f064a59a11f
            task_state: need("__state", 4).or_else(|_| need("state", 8))?,
            task_exit_state: need("exit_state", 4)?,
            task_flags: need("flags", 4)?,
            task_on_cpu: any("on_cpu").unwrap_or(ABSENT), // its lowest byte is read; absent without SMP
            task_nvcsw: need("nvcsw", 8)?,
            task_nivcsw: need("nivcsw", 8)?,
            task_start_boottime: need("start_boottime", 8)?,
            task_comm: any("comm").ok_or(BtfError::Missing("comm"))?,
            task_group_leader: want("task_struct", "group_leader", 8),
            task_mm: want("task_struct", "mm", 8),
            mm_start_stack: want("mm_struct", "start_stack", 8),
            task_fsbase: want("task_struct", "thread.fsbase", 8),
            task_signal: want("task_struct", "signal", 8),
            signal_flags: want("signal_struct", "flags", 4),
            se_exec_start: want("task_struct", "se.exec_start", 8),
            se_sum_exec_runtime: want("task_struct", "se.sum_exec_runtime", 8),
            se_prev_sum_exec_runtime: want("task_struct", "se.prev_sum_exec_runtime", 8),
            se_cfs_rq: want("task_struct", "se.cfs_rq", 8),
            sched_last_arrival: want("task_struct", "sched_info.last_arrival", 8),
            cfs_rq_rq: want("cfs_rq", "rq", 8),
            rq_clock: want("rq", "clock", 8),
            rq_clock_task: want("rq", "clock_task", 8),
            task_files: want("task_struct", "files", 8),
            files_fdt: want("files_struct", "fdt", 8),
            fdtable_max_fds: want("fdtable", "max_fds", 4),
            fdtable_fd: want("fdtable", "fd", 8),
            file_inode: want("file", "f_inode", 8),
            inode_mode: want("inode", "i_mode", 2),
            file_private_data: want("file", "private_data", 8),
            socket_sk: want("socket", "sk", 8),
            sock_rcvtimeo: want("sock", "sk_rcvtimeo", 8),
            sock_sndtimeo: want("sock", "sk_sndtimeo", 8),
        })
    }
}

fn kind(info: u32) -> u32 {
    info >> 24 & 0x1f
}

fn members(info: u32) -> usize {
    (info & 0xffff) as usize
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BTF with `struct rq { int a; struct { u32 clock; u32 clock_task; }; }` behind a typedef of the inner struct.
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0rq\0a\0clock\0clock_task\0inner_t\0";
        let at = |name: &str| {
            let needle = [name.as_bytes(), b"\0"].concat();
            let found = strings.windows(needle.len()).enumerate();
            u32::try_from(found.filter(|(i, w)| *w == needle && strings[i - 1] == 0).map(|(i, _)| i).next().unwrap())
                .unwrap()
        };
        let mut types: Vec<u32> = Vec::new();
        types.extend([at("int"), 1 << 24, 4, 32]); // 1: int
        types.extend([0, KIND_STRUCT << 24 | 2, 8]); // 2: anonymous struct
        types.extend([at("clock"), 1, 0, at("clock_task"), 1, 32]);
        types.extend([at("inner_t"), 8 << 24, 2]); // 3: typedef of 2
        types.extend([at("rq"), KIND_STRUCT << 24 | 2, 12]); // 4: rq
        types.extend([at("a"), 1, 0, 0, 3, 32]);
        let types: Vec<u8> = types.iter().flat_map(|w| w.to_le_bytes()).collect();
        let len = |b: &[u8]| u32::try_from(b.len()).unwrap();
        let header = [u32::from(MAGIC) | 1 << 16, 24, 0, len(&types), len(&types), len(strings)];
        let mut data: Vec<u8> = header.iter().flat_map(|w| w.to_le_bytes()).collect();
        data.extend(types);
        data.extend(strings);
        data
    }

    #[test]
    fn fields_are_found_through_anonymous_members_and_typedefs() {
        let btf = Btf::parse(&sample()).unwrap();
        assert_eq!(btf.field("rq", "a"), Some((0, 4)));
        assert_eq!(btf.field("rq", "clock"), Some((4, 4)));
        assert_eq!(btf.field("rq", "clock_task"), Some((8, 4)));
        assert_eq!(btf.field("rq", "none"), None);
        assert_eq!(btf.field("task_struct", "pid"), None);
    }

    #[test]
    fn cut_or_changed_data_is_survived() {
        let data = sample();
        for len in 0..data.len() {
            if let Ok(btf) = Btf::parse(&data[..len]) {
                let _ = btf.kernel_offsets();
            }
        }
        for at in 0..data.len() {
            for value in [0, 0x7f, 0xff] {
                let mut changed = data.clone();
                changed[at] = value;
                if let Ok(btf) = Btf::parse(&changed) {
                    let _ = btf.field("rq", "clock_task");
                }
            }
        }
    }

    #[test]
    fn the_running_kernel_has_every_field() {
        let offsets = Btf::parse(&read_kernel().unwrap()).unwrap().kernel_offsets().unwrap();
        assert_ne!(offsets.sched_last_arrival, ABSENT);
        assert_ne!(offsets.rq_clock_task, ABSENT);
        assert_ne!(offsets.task_group_leader, ABSENT);
        let ends_of_stacks = [offsets.task_mm, offsets.mm_start_stack, offsets.task_fsbase];
        assert!(!ends_of_stacks.contains(&ABSENT), "{ends_of_stacks:?}");
        let sockets = [
            offsets.task_files,
            offsets.files_fdt,
            offsets.fdtable_max_fds,
            offsets.fdtable_fd,
            offsets.file_inode,
            offsets.inode_mode,
            offsets.file_private_data,
            offsets.socket_sk,
            offsets.sock_rcvtimeo,
            offsets.sock_sndtimeo,
        ];
        assert!(!sockets.contains(&ABSENT), "{sockets:?}");
    }
}
