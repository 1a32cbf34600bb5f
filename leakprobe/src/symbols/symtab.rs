//! Addresses looked up in ELF symbol tables.
//!
//! The tables are not sorted or kept: one pass over them answers all addresses at once. It costs one binary search among
//! the addresses for each symbol and no memory, so that a huge table, honest or not, does no harm.
//!
//! An address belongs to a symbol only if it lies within the symbol's size. Hand-written assembler often leaves the size
//! out (zero means "unknown", elf(5)); such a symbol reaches to the next one in its section, but only in `.symtab`: in
//! `.dynsym` the next one is usually far away, and what lies between are functions whose names were stripped.

use object::{
    Endianness, ReadRef, SymbolIndex, elf,
    read::elf::{FileHeader, SectionHeader, SectionTable, Sym, SymbolTable},
};

use std::{
    cell::{Cell, OnceCell},
    sync::Arc,
};

use super::name;

/// The most that one search compares, in pieces of [`PIECE`] bytes. A table whose symbols all cover all addresses would else take
/// forever; in honest tables hardly an address is covered twice.
const COMPARISONS: u64 = 200_000_000;
/// Bytes of a name that are compared at the cost of one symbol.
const PIECE: usize = 16;
/// Longest name, bytes: of a longer one this much is read. Names of C++ templates have some thousand.
const LONGEST_NAME: usize = 4096;

/// The function symbol that an address belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Symbol {
    /// Where it begins.
    pub(super) start: u64,
    /// Where it ends; of a symbol without size, where its section does.
    end: u64,
    sized: bool,
    /// Visible outside of its file, so that the name is the one that programs call it by.
    pub(super) global: bool,
    /// As in the file: mangled, possibly with version.
    pub(super) name: Arc<[u8]>,
}

/// A search for addresses in one or more tables of the same module.
pub(super) struct Search<'a> {
    addresses: &'a [u64],
    /// For each address the symbol whose size covers it.
    covering: Vec<Option<Symbol>>,
    /// For each address the nearest symbol of `.symtab` that begins at or below it and above the address before.
    below: Vec<Option<Symbol>>,
    left: u64,
    symtab: bool,
    dynsym: bool,
    /// What was wrong with a table that could not be read.
    pub(super) corrupt: Option<String>,
}

impl<'a> Search<'a> {
    /// `addresses` are sorted and distinct.
    pub(super) fn new(addresses: &'a [u64]) -> Self {
        Self {
            addresses,
            covering: vec![None; addresses.len()],
            below: vec![None; addresses.len()],
            left: COMPARISONS,
            symtab: false,
            dynsym: false,
            corrupt: None,
        }
    }

    /// Looks the addresses up in one more table.
    pub(super) fn scan<'data, E, R>(
        &mut self,
        endian: Endianness,
        sections: &SectionTable<'data, E, R>,
        table: &SymbolTable<'data, E, R>,
        dynamic: bool,
    ) where
        E: FileHeader<Endian = Endianness>,
        R: ReadRef<'data>,
    {
        for (index, symbol) in table.enumerate() {
            let Some(found) = function(endian, sections, table, index, symbol, dynamic) else {
                continue;
            };
            if dynamic {
                self.dynsym = true;
            } else {
                self.symtab = true;
            }
            // What is read of the names, which end where there is a zero, counts as well.
            let scanned = Cell::new(0);
            let bytes = || {
                let name = symbol.name(endian, table.strings()).unwrap_or_default();
                scanned.set(name.len() as u64);
                name.get(..LONGEST_NAME).unwrap_or(name)
            };
            // Held once, for however many addresses.
            let kept: OnceCell<Arc<[u8]>> = OnceCell::new();
            let name = || kept.get_or_init(|| bytes().into());
            let first = self.addresses.partition_point(|&a| a < found.start);
            if first == self.addresses.len() {
                continue;
            }
            if self.left == 0 {
                self.corrupt = Some("too many symbols overlap, or their names are too long".to_owned());
                return;
            }
            if !dynamic {
                let slot = &mut self.below[first];
                // Of two that begin at the same address the one with a size tells where the function ends.
                if slot.as_ref().is_none_or(|held| (held.start, held.sized) < (found.start, found.sized)) {
                    *slot = Some(found.named(name()));
                }
                self.left = self.left.saturating_sub(scanned.take() / PIECE as u64);
            }
            if !found.sized {
                continue;
            }
            let count = self.addresses[first..].partition_point(|&a| a < found.end);
            for slot in &mut self.covering[first..first + count] {
                let is_rival = slot.as_ref().filter(|held| held.start == found.start);
                let compared = is_rival.map_or(0, |held| held.name.len().max(name().len()) / PIECE);
                let Some(left) = self.left.checked_sub(1 + compared as u64) else {
                    self.left = 0;
                    self.corrupt = Some("too many symbols overlap, or their names are too long".to_owned());
                    return;
                };
                self.left = left;
                if found.beats(slot.as_ref(), || name()) {
                    *slot = Some(found.named(name()));
                }
            }
            self.left = self.left.saturating_sub(scanned.get() / PIECE as u64);
        }
    }

    /// The symbol of each address, or why there is none.
    pub(super) fn finish(self) -> Vec<Result<Symbol, String>> {
        let reason = match (&self.corrupt, self.symtab, self.dynsym) {
            (Some(why), ..) => format!("corrupt ELF: {why}"),
            (None, true, _) => "between symbols: no function of the symbol table covers this address".to_owned(),
            (None, false, true) => "between symbols: the file is stripped of local symbols".to_owned(),
            (None, false, false) => "no symbols in the file (stripped)".to_owned(),
        };
        let mut nearest: Option<Symbol> = None;
        let found = self.covering.into_iter().zip(self.below);
        found
            .zip(self.addresses)
            .map(|((covering, below), &address)| {
                if below.is_some() {
                    nearest = below;
                }
                let reaches = |symbol: &&Symbol| !symbol.sized && address < symbol.end;
                covering.or_else(|| nearest.as_ref().filter(reaches).cloned()).ok_or_else(|| reason.clone())
            })
            .collect()
    }
}

/// A function of a table whose name has not been read yet: reading it costs, and most are not wanted.
struct Function {
    start: u64,
    end: u64,
    sized: bool,
    global: bool,
}

impl Function {
    fn named(&self, name: &Arc<[u8]>) -> Symbol {
        Symbol { start: self.start, end: self.end, sized: self.sized, global: self.global, name: Arc::clone(name) }
    }

    /// Whether it says more about an address that both cover: the innermost, then the best known name.
    fn beats<'name>(&self, held: Option<&Symbol>, name: impl FnOnce() -> &'name Arc<[u8]>) -> bool {
        let Some(held) = held else {
            return true;
        };
        if self.start == held.start {
            let ours = name::preference(name(), self.global);
            return ours > name::preference(&held.name, held.global);
        }
        self.start > held.start
    }
}

/// What of a symbol matters, if it names code.
fn function<'data, E, R>(
    endian: Endianness,
    sections: &SectionTable<'data, E, R>,
    table: &SymbolTable<'data, E, R>,
    index: SymbolIndex,
    symbol: &E::Sym,
    dynamic: bool,
) -> Option<Function>
where
    E: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let kind = symbol.st_type();
    let typed = kind == elf::STT_FUNC || kind == elf::STT_GNU_IFUNC;
    if !typed && kind != elf::STT_NOTYPE || symbol.is_undefined(endian) || symbol.st_name(endian) == 0 {
        return None;
    }
    let start: u64 = symbol.st_value(endian).into();
    let size: u64 = symbol.st_size(endian).into();
    let mut found = Function { start, end: start.checked_add(size)?, sized: size > 0, global: !symbol.is_local() };
    if !typed || !found.sized {
        let section = table.symbol_section(endian, symbol, index).ok()??;
        let section = sections.section(section).ok()?;
        if !section.sh_flags(endian).contains(elf::SHF_EXECINSTR) {
            return None;
        }
        if !found.sized {
            // The one address that a symbol of `.dynsym` without size surely names is its own.
            let address: u64 = section.sh_addr(endian).into();
            let size: u64 = section.sh_size(endian).into();
            found.sized = dynamic;
            found.end = if dynamic { start.checked_add(1)? } else { address.checked_add(size)? };
        }
    }
    Some(found)
}
