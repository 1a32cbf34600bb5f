//! The code and the symbols of a process, read without leakprobe: which module an address lies in, and which names it has.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

use object::{Object, ObjectSegment, ObjectSymbol};

/// The mappings of a process and the symbols of the files mapped.
pub(crate) struct Code {
    /// Begin, end, file offset, path.
    mappings: Vec<(u64, u64, u64, String)>,
    files: HashMap<String, File>,
}

/// A mapped ELF file: file offset, size and address of each segment; begin, end and name of each symbol.
#[derive(Default)]
struct File {
    segments: Vec<(u64, u64, u64)>,
    symbols: Vec<(u64, u64, String)>,
}

impl Code {
    pub(crate) fn of(pid: u32) -> Self {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let mut code = Self { mappings: Vec::new(), files: HashMap::new() };
        for line in maps.lines() {
            let mut words = line.split_whitespace();
            let (begin, end) = words.next().unwrap().split_once('-').unwrap();
            let number = |hex: &str| u64::from_str_radix(hex, 16).unwrap();
            let offset = number(words.nth(1).unwrap());
            let path = words.skip(2).collect::<Vec<_>>().join(" ");
            if path.starts_with('/') && !code.files.contains_key(&path) {
                code.files.insert(path.clone(), File::read(Path::new(&path)));
            }
            code.mappings.push((number(begin), number(end), offset, path));
        }
        code
    }

    /// The module that an address in memory lies in, and the address that the module itself gives it.
    pub(crate) fn locate(&self, address: u64) -> (String, u64) {
        let mapping = self.mappings.iter().find(|(begin, end, ..)| (*begin..*end).contains(&address));
        let Some((begin, _, offset, path)) = mapping else {
            return (String::new(), address);
        };
        if path.is_empty() || path.starts_with("[anon:") {
            return ("[anon]".to_owned(), address); // code that was made at run time
        }
        if path == "[vdso]" {
            return (path.clone(), address - begin);
        }
        let in_file = address - begin + offset;
        let segment = self.files.get(path).and_then(|file| {
            file.segments.iter().find(|(offset, size, _)| (*offset..offset + size).contains(&in_file))
        });
        segment.map_or((String::new(), address), |(offset, _, svma)| (path.clone(), in_file - offset + svma))
    }

    /// Every symbol, as it is in the file, of the function that lies at `svma`.
    pub(crate) fn symbols(&self, module: &str, svma: u64) -> BTreeSet<&str> {
        let symbols = self.files.get(module).map_or(&[][..], |file| &file.symbols);
        symbols
            .iter()
            .filter(|(begin, end, _)| (*begin..*end).contains(&svma))
            .map(|(.., name)| name.as_str())
            .collect()
    }
}

impl File {
    fn read(path: &Path) -> Self {
        let mut file = Self::default();
        let Ok(bytes) = fs::read(path) else {
            return file;
        };
        let Ok(elf) = object::File::parse(&*bytes) else {
            return file; // data that is mapped, such as fonts
        };
        file.segments =
            elf.segments().map(|segment| (segment.file_range().0, segment.file_range().1, segment.address())).collect();
        file.add_symbols(&elf);
        if let Ok(Some(id)) = elf.build_id() {
            let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
            let split = PathBuf::from(format!("/usr/lib/debug/.build-id/{}/{}.debug", &hex[..2], &hex[2..]));
            if let Ok(bytes) = fs::read(split) {
                file.add_symbols(&object::File::parse(&*bytes).unwrap());
            }
        }
        file
    }

    fn add_symbols(&mut self, elf: &object::File<'_>) {
        for symbol in elf.symbols().chain(elf.dynamic_symbols()).filter(|symbol| !symbol.is_undefined()) {
            if let Ok(name) = symbol.name() {
                // Symbols without a size, as those of hand-written code, are good for one byte at least.
                self.symbols.push((symbol.address(), symbol.address() + symbol.size().max(1), name.to_owned()));
            }
        }
    }
}

/// A symbol as leakprobe shows it: without version, demangled.
pub(crate) fn shown(symbol: &str) -> String {
    let plain = without_version(symbol);
    if let Ok(rust) = rustc_demangle::try_demangle(plain) {
        return format!("{rust:#}");
    }
    let cpp = plain.starts_with("_Z").then(|| cpp_demangle::Symbol::new(plain).ok()?.demangle().ok()).flatten();
    cpp.unwrap_or_else(|| plain.to_owned())
}

/// `pthread_create@@GLIBC_2.34` is `pthread_create` in one of its versions.
pub(crate) fn without_version(symbol: &str) -> &str {
    symbol.find('@').filter(|&at| at > 0).map_or(symbol, |at| &symbol[..at])
}

/// `f.constprop.0`, `f.isra.0.cold` and the like are copies and parts of `f`, made by the compiler.
pub(crate) fn without_clone(symbol: &str) -> &str {
    let marks = [".constprop.", ".isra.", ".part.", ".cold", ".lto_priv."];
    let at = marks.iter().filter_map(|mark| symbol.find(mark)).min();
    at.map_or(symbol, |at| &symbol[..at])
}
