//! Names of kernel functions, from `/proc/kallsyms`.
//!
//! A line is `ADDRESS TYPE name`, and `[module]` if it is not of the kernel itself; one pass answers all addresses. Addresses are
//! all zero for those who may not see them (`kernel.kptr_restrict`):
//! <https://docs.kernel.org/admin-guide/sysctl/kernel.html#kptr-restrict>

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
};

use caps::Capability::CAP_SYSLOG;

use crate::{model::Frame, privilege};

/// The module of the kernel's own functions; those of its modules are in `[kernel NAME]`.
const KERNEL: &str = "[kernel]";
/// Longest line that is read.
const LONGEST_LINE: u64 = 4096;
/// A function of the kernel is not larger: beyond that an address belongs to none that is listed.
const LARGEST: u64 = 1 << 20;
/// Most addresses whose names are kept; then they are forgotten.
const MOST_KNOWN: usize = 1 << 16;

/// Names kernel functions, and remembers them.
#[derive(Default)]
pub(super) struct Kernel {
    known: HashMap<u64, Frame>,
    hidden: Option<String>,
}

/// The function nearest below an address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Function {
    start: u64,
    name: String,
    module: String,
}

/// What a pass has found.
#[derive(Debug, Default)]
struct Found {
    /// In the order of the addresses.
    functions: Vec<Option<Function>>,
    /// Where the code of the kernel, and of each of its modules, begins.
    begins: HashMap<String, u64>,
    /// Whether any address was told at all.
    is_told: bool,
}

impl Kernel {
    /// The frames of addresses that calls return to.
    pub(super) fn frames(&mut self, addresses: &[u64]) -> HashMap<u64, Frame> {
        if self.known.len() + addresses.len() > MOST_KNOWN {
            self.known.clear();
        }
        let mut new: Vec<u64> = addresses.iter().copied().filter(|address| !self.known.contains_key(address)).collect();
        new.sort_unstable();
        new.dedup();
        if !new.is_empty() {
            let _raised = privilege::raise(&[CAP_SYSLOG]);
            let found = File::open("/proc/kallsyms").and_then(|file| search(BufReader::new(file), &new));
            self.take_in(&new, found);
        }
        addresses.iter().filter_map(|address| Some((*address, self.known.get(address)?.clone()))).collect()
    }

    /// Why the names of kernel functions cannot be had, if they cannot.
    pub(super) fn hidden(&self) -> Option<&str> {
        self.hidden.as_deref()
    }

    fn take_in(&mut self, addresses: &[u64], found: io::Result<Found>) {
        let why = match &found {
            Err(error) => Some(format!("/proc/kallsyms cannot be read: {error}")),
            Ok(found) if !found.is_told => {
                let setting = fs::read_to_string("/proc/sys/kernel/kptr_restrict").unwrap_or_default();
                Some(format!("hidden by kernel.kptr_restrict={}", setting.trim()))
            }
            Ok(_) => None,
        };
        let found = found.unwrap_or_default();
        let mut functions = found.functions.into_iter();
        for &address in addresses {
            let frame = match functions.next().flatten() {
                Some(function) => {
                    let begin = found.begins.get(&function.module).copied().unwrap_or(function.start);
                    Frame {
                        function: super::name::bounded(&function.name),
                        module: module(&function.module),
                        address: format!("{:#x}", address.wrapping_sub(begin)),
                        ..Frame::default()
                    }
                }
                None => {
                    let why = why.as_deref().unwrap_or("no function of /proc/kallsyms is near");
                    super::unknown(KERNEL, address, why)
                }
            };
            self.known.insert(address, frame);
        }
        self.hidden = why.or(self.hidden.take());
    }
}

fn module(name: &str) -> String {
    if name.is_empty() { KERNEL.to_owned() } else { format!("[kernel {name}]") }
}

/// Looks up return addresses, which are sorted.
fn search(mut list: impl BufRead, addresses: &[u64]) -> io::Result<Found> {
    let mut found = Found { functions: vec![None; addresses.len()], ..Found::default() };
    // For each place among the addresses the nearest function that begins between it and the one before.
    let mut nearest: Vec<Option<Function>> = vec![None; addresses.len()];
    let mut line = Vec::new();
    loop {
        line.clear();
        if list.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let Some((start, name, module)) = parse(&line) else { continue };
        found.is_told |= start != 0;
        if let Some(begin) = found.begins.get_mut(module) {
            *begin = (*begin).min(start);
        } else {
            found.begins.insert(module.to_owned(), start);
        }
        // A call lies before what it returns to.
        let Some(slot) = nearest.get_mut(addresses.partition_point(|&address| address <= start)) else { continue };
        let is_better = slot.as_ref().is_none_or(|held| {
            held.start < start
                || held.start == start
                    && super::name::preference(name.as_bytes(), true)
                        > super::name::preference(held.name.as_bytes(), true)
        });
        if start != 0 && is_better {
            *slot = Some(Function { start, name: name.to_owned(), module: module.to_owned() });
        }
    }
    let mut last: Option<Function> = None;
    for ((slot, nearest), &address) in found.functions.iter_mut().zip(nearest).zip(addresses) {
        last = nearest.or(last);
        *slot = last.clone().filter(|function| address - function.start <= LARGEST);
    }
    Ok(found)
}

/// Address, name and module of a function.
fn parse(line: &[u8]) -> Option<(u64, &str, &str)> {
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    if !matches!(words.next()?, "t" | "T" | "w" | "W" | "i") {
        return None;
    }
    let name = words.next()?;
    let module = words.next().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    Some((address, name, module))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
ffffffff81000000 T _text\n\
ffffffff81000100 T __x64_sys_futex\n\
ffffffff81000100 T __pi___x64_sys_futex\n\
ffffffff81000200 t futex_wait\n\
ffffffff81000280 d data\n\
ffffffff81000300 T schedule\n\
ffffffffc0000000 t xfs_first\t[xfs]\n\
ffffffffc0000040 t xfs_wait\t[xfs]\n";

    fn frames(list: &str, addresses: &[u64]) -> Vec<(String, String, String)> {
        let mut kernel = Kernel::default();
        kernel.take_in(addresses, search(list.as_bytes(), addresses));
        let frame = |address| {
            let frame: &Frame = &kernel.known[address];
            assert_eq!(frame.function.is_empty(), frame.unknown.is_some());
            (frame.function.clone(), frame.module.clone(), frame.address.clone())
        };
        addresses.iter().map(frame).collect()
    }

    #[test]
    fn addresses_belong_to_the_function_before_them() {
        let at = [0x50, 0xffff_ffff_8100_0180, 0xffff_ffff_8100_0290, 0xffff_ffff_8100_0300, 0xffff_ffff_c000_0050];
        let found = frames(LIST, &at);
        let names: Vec<&str> = found.iter().map(|(name, ..)| name.as_str()).collect();
        // The third lies behind data, and the fourth is what the last call of a function returns to.
        assert_eq!(names, ["", "__x64_sys_futex", "futex_wait", "futex_wait", "xfs_wait"]);
        assert_eq!((found[1].1.as_str(), found[1].2.as_str()), ("[kernel]", "0x180"));
        assert_eq!((found[4].1.as_str(), found[4].2.as_str()), ("[kernel xfs]", "0x50"));
        assert_eq!(frames(LIST, &[u64::MAX])[0].0, "", "too far from any");
    }

    #[test]
    fn addresses_that_are_hidden_are_told_to_be() {
        let hidden: String = LIST.lines().map(|line| format!("0000000000000000{}\n", &line[16..])).collect();
        let mut kernel = Kernel::default();
        kernel.take_in(&[0xffff_ffff_8100_0180], search(hidden.as_bytes(), &[0xffff_ffff_8100_0180]));
        assert!(kernel.hidden().unwrap().starts_with("hidden by kernel.kptr_restrict="), "{:?}", kernel.hidden());
        assert_eq!(kernel.known[&0xffff_ffff_8100_0180].function, "");
        kernel.take_in(&[1], Err(io::Error::other("no")));
        assert_eq!(kernel.hidden(), Some("/proc/kallsyms cannot be read: no"));
    }

    #[test]
    fn a_cut_or_damaged_list_does_no_harm() {
        let at = [0x50, 0xffff_ffff_8100_0180, 0xffff_ffff_c000_0050, u64::MAX];
        for cut in 0..LIST.len() {
            frames(&LIST[..cut], &at);
            for value in [0, b'\n', b'f', 0xff] {
                let mut damaged = LIST.as_bytes().to_vec();
                damaged[cut] = value;
                search(&damaged[..], &at).unwrap();
            }
        }
        search(BufReader::new(io::repeat(b'0').take(1 << 20)), &at).unwrap();
    }

    #[test]
    fn this_kernel_is_read() {
        let list = fs::read_to_string("/proc/kallsyms").unwrap();
        let schedule = list.lines().find(|line| line.ends_with(" schedule")).unwrap();
        let address = u64::from_str_radix(schedule.split(' ').next().unwrap(), 16).unwrap();
        if address == 0 {
            return; // hidden from us: as above
        }
        assert_eq!(Kernel::default().frames(&[address + 1])[&(address + 1)].function, "schedule");
    }
}
