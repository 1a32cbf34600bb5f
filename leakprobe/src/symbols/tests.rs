//! Real compilers make the files, so that the tests fail where a compiler begins to write something new.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Instant,
};

use object::{Object, ObjectSymbol};
use tempfile::TempDir;

use super::*;
use crate::target::budget::Limits;

mod damage;

const C: &str = r#"
volatile int sink;
static inline __attribute__((always_inline)) void innermost(void) {
    sink++;
}
static inline __attribute__((always_inline)) void middle(void) {
    innermost();
}
__attribute__((noinline)) void exported(void) {
    middle();
}
static __attribute__((noinline)) void hidden(void) { sink += 2; }
int main(void) { exported(); hidden(); return 0; }
"#;

/// Where in [`C`] the code of `exported` comes from, innermost first.
const C_INLINED: [(&str, u32); 3] = [("innermost", 4), ("middle", 7), ("exported", 10)];

struct Built {
    directory: TempDir,
    program: PathBuf,
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("these tests need {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn build(compiler: &str, extension: &str, source: &str, flags: &[&str]) -> Built {
    let directory = tempfile::tempdir().unwrap();
    let code = directory.path().join(format!("source.{extension}"));
    let program = directory.path().join("program");
    fs::write(&code, source).unwrap();
    run(Command::new(compiler).args(flags).arg("-o").arg(&program).arg(&code));
    Built { directory, program }
}

fn c(flags: &[&str]) -> Built {
    build("cc", "c", C, &[&["-g", "-O2"], flags].concat())
}

impl Built {
    fn run(&self, tool: &str, flags: &[&str]) {
        run(Command::new(tool).args(flags).current_dir(self.directory.path()));
    }

    fn module(&self) -> Module {
        module(&self.program)
    }

    fn frames(&self, svma: u64) -> Vec<Frame> {
        resolve(&self.module(), svma)
    }
}

fn module(path: &Path) -> Module {
    Module { path: path.display().to_string(), source: Source::File(path.to_owned()) }
}

/// Where a function is, by another reader than ours; the last byte is still inside.
fn range(program: &Path, name: &str) -> (u64, u64) {
    let data = fs::read(program).unwrap();
    let file = object::File::parse(&*data).unwrap();
    let symbol = file
        .symbols()
        .chain(file.dynamic_symbols())
        .find(|symbol| symbol.name().is_ok_and(|found| found.contains(name)) && symbol.size() > 0)
        .unwrap_or_else(|| panic!("no {name}"));
    (symbol.address(), symbol.address() + symbol.size() - 1)
}

fn at(svma: u64) -> Lookup {
    Lookup { svma, is_return: false }
}

fn resolve(module: &Module, svma: u64) -> Vec<Frame> {
    let mut symbolizer = Symbolizer::new(Options::default());
    let mut found = symbolizer.resolve(module, &[at(svma)]);
    assert_eq!(found.len(), 1);
    found.remove(0)
}

fn name(frames: &[Frame]) -> &str {
    assert_eq!(frames.len(), 1, "{frames:#?}");
    &frames[0].function
}

#[track_caller]
fn assert_unknown(frames: &[Frame], reason: &str) {
    assert_eq!(name(frames), "");
    assert_eq!(frames[0].unknown.as_deref(), Some(reason));
}

fn assert_inlined(frames: &[Frame]) {
    let found: Vec<_> = frames.iter().map(|frame| (frame.function.as_str(), frame.line.unwrap_or_default())).collect();
    assert_eq!(found, C_INLINED);
    assert_eq!(frames.iter().map(|frame| frame.inlined).collect::<Vec<_>>(), [true, true, false]);
    assert!(frames.iter().all(|frame| { frame.file.as_deref().is_some_and(|file| file.ends_with("/source.c")) }));
}

#[test]
fn inlined_functions_and_lines_however_linked() {
    for flags in [&["-pie", "-fPIE"][..], &["-no-pie", "-fno-pie"], &["-static"], &["-gz=zlib"], &["-gdwarf-4"]] {
        let built = c(flags);
        let (start, _) = range(&built.program, "exported");
        let frames = built.frames(start);
        assert_inlined(&frames);
        assert_eq!(frames[0].address, format!("{start:#x}"), "{flags:?}");
        assert_eq!(frames[0].module_name(), "program");
        assert_eq!(frames[0].unknown, None);
    }
}

#[test]
fn a_return_address_is_looked_up_before_itself() {
    let built = c(&[]);
    let (_, last) = range(&built.program, "main");
    let mut symbolizer = Symbolizer::new(Options::default());
    let returned = Lookup { svma: last + 1, is_return: true };
    let found = symbolizer.resolve(&built.module(), &[returned, at(last + 1)]);
    assert_eq!(found[0][0].function, "main");
    assert_eq!(found[0][0].address, format!("{:#x}", last + 1));
    assert_ne!(found[1][0].function, "main");
}

#[test]
fn without_debug_information_names_remain() {
    let built = c(&[]);
    let (start, _) = range(&built.program, "exported");
    let (hidden, _) = range(&built.program, "hidden");
    let options = Options { debug_info: false, ..Options::default() };
    let found = Symbolizer::new(options).resolve(&built.module(), &[at(start)]);
    assert_eq!((name(&found[0]), found[0][0].line), ("exported", None));

    built.run("strip", &["--strip-debug", "program"]);
    assert_eq!(name(&built.frames(start)), "exported");
    assert_eq!(name(&built.frames(hidden)), "hidden");
}

#[test]
fn of_a_stripped_file_exported_names_remain_and_only_those() {
    let built = c(&["-rdynamic"]);
    let (start, last) = range(&built.program, "exported");
    let (hidden, _) = range(&built.program, "hidden");
    built.run("strip", &["-s", "program"]);
    assert_eq!(name(&built.frames(start)), "exported");
    assert_eq!(name(&built.frames(last)), "exported");
    let reason = "between symbols: the file is stripped of local symbols";
    assert_unknown(&built.frames(hidden), reason);
    assert_unknown(&built.frames(u64::MAX), reason);

    let built = c(&["-static"]);
    built.run("strip", &["-s", "program"]);
    assert_unknown(&built.frames(start), "no symbols in the file (stripped)");
}

#[test]
fn split_debug_information_is_found_and_must_be_of_the_same_build() {
    let built = c(&["-Wl,--build-id"]);
    let (start, _) = range(&built.program, "exported");
    let (hidden, _) = range(&built.program, "hidden");
    built.run("objcopy", &["--only-keep-debug", "program", "program.debug"]);
    built.run("strip", &["-s", "program"]);
    assert_unknown(&built.frames(start), "no symbols in the file (stripped)");

    built.run("objcopy", &["--add-gnu-debuglink=program.debug", "program"]);
    assert_inlined(&built.frames(start));
    assert_eq!(name(&built.frames(hidden)[..1]), "hidden");

    let options = Options { debug_info: false, ..Options::default() };
    let found = Symbolizer::new(options).resolve(&built.module(), &[at(hidden)]);
    assert_eq!((name(&found[0]), found[0][0].line), ("hidden", None));

    let other = build("cc", "c", &C.replace("+= 2", "+= 3"), &["-g", "-O2", "-Wl,--build-id"]);
    fs::copy(&other.program, built.directory.path().join("program.debug")).unwrap();
    assert_unknown(&built.frames(start), "no symbols in the file (stripped)");
}

#[test]
fn without_a_build_id_the_checksum_decides() {
    let built = c(&["-Wl,--build-id=none"]);
    let (hidden, _) = range(&built.program, "hidden");
    built.run("objcopy", &["--only-keep-debug", "program", "program.debug"]);
    built.run("strip", &["-s", "program"]);
    built.run("objcopy", &["--add-gnu-debuglink=program.debug", "program"]);
    assert_eq!(name(&built.frames(hidden)), "hidden");
    let debug = built.directory.path().join("program.debug");
    let mut damaged = fs::read(&debug).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&debug, damaged).unwrap();
    assert_unknown(&built.frames(hidden), "no symbols in the file (stripped)");
}

#[test]
fn debug_files_are_looked_for_in_the_root_of_the_target_and_never_outside() {
    let built = c(&["-Wl,--build-id=0x0123456789abcdef0123"]);
    let (hidden, _) = range(&built.program, "hidden");
    built.run("objcopy", &["--only-keep-debug", "program", "program.debug"]);
    built.run("strip", &["-s", "program"]);
    let root = tempfile::tempdir().unwrap();
    let place = root.path().join("usr/lib/debug/.build-id/01");
    fs::create_dir_all(&place).unwrap();
    let frames = || {
        let mut symbolizer = Symbolizer::new(Options::default());
        symbolizer.set_root(Some(Root::at(root.path()).unwrap()));
        symbolizer.resolve(&built.module(), &[at(hidden)]).remove(0)
    };
    assert_unknown(&frames(), "no symbols in the file (stripped)");
    let file = place.join("23456789abcdef0123.debug");
    std::os::unix::fs::symlink(built.directory.path().join("program.debug"), &file).unwrap();
    assert_unknown(&frames(), "no symbols in the file (stripped)");
    fs::remove_file(&file).unwrap();
    fs::copy(built.directory.path().join("program.debug"), &file).unwrap();
    let found = frames();
    assert_eq!((name(&found), found[0].line), ("hidden", Some(12)));
}

/// A stripped program with the names of its hidden functions in `.gnu_debugdata`, as Fedora builds them.
fn with_debug_data() -> (Built, u64) {
    let built = c(&["-rdynamic"]);
    let (hidden, _) = range(&built.program, "hidden");
    built.run("objcopy", &["--only-keep-debug", "program", "full"]);
    built.run("objcopy", &["-S", "--remove-section=.comment", "--keep-symbol=hidden", "full", "mini"]);
    built.run("xz", &["-f", "mini"]);
    built.run("strip", &["-s", "program"]);
    built.run("objcopy", &["--add-section=.gnu_debugdata=mini.xz", "program"]);
    (built, hidden)
}

#[test]
fn the_symbol_table_left_in_a_stripped_file_is_read() {
    let (built, hidden) = with_debug_data();
    let (exported, _) = range(&built.program, "exported");
    assert_eq!(name(&built.frames(hidden)), "hidden");
    assert_eq!(name(&built.frames(exported)), "exported");
    // Asked again, it is not decompressed again.
    let mut symbolizer = Symbolizer::new(Options::default());
    for address in [exported, hidden, hidden + 1] {
        assert_ne!(name(&symbolizer.resolve(&built.module(), &[at(address)])[0]), "");
    }
}

#[test]
fn a_damaged_symbol_table_of_a_stripped_file_is_told() {
    let (built, hidden) = with_debug_data();
    let xz = fs::read(built.directory.path().join("mini.xz")).unwrap();
    let whole = fs::read(&built.program).unwrap();
    let place = whole.windows(xz.len()).position(|window| window == xz).unwrap();
    for at in (0..xz.len()).step_by(23) {
        let mut damaged = whole.clone();
        damaged[place + at] ^= 0x41;
        fs::write(&built.program, &damaged).unwrap();
        let frames = built.frames(hidden);
        let why = frames[0].unknown.clone().unwrap_or_default();
        assert!(name(&frames) == "hidden" || why.contains(".gnu_debugdata"), "{at}: {frames:?}");
    }
    damaged_length(&built, &whole, place);
    let why = built.frames(hidden)[0].unknown.clone().unwrap();
    assert!(why.starts_with("corrupt ELF: .gnu_debugdata: "), "{why}");
}

#[test]
fn corrupt_files_are_named_for_each_target() {
    let (built, sound) = (c(&[]), c(&[]));
    let (start, _) = range(&built.program, "exported");
    let file = fs::OpenOptions::new().write(true).open(&built.program).unwrap();
    file.write_all_at(&u64::MAX.to_le_bytes(), 0x28).unwrap(); // where its section headers are
    let cache = Cache::default();
    for _ in 0..2 {
        let mut symbolizer = Symbolizer::new(Options { cache: cache.clone(), ..Options::default() });
        for module in [built.module(), sound.module()] {
            symbolizer.resolve(&module, &[at(start)]);
        }
        let corrupt: Vec<&str> = symbolizer.corrupt().map(|(path, _)| path).collect();
        assert_eq!(corrupt, [built.program.to_str().unwrap()]);
    }
}

#[test]
fn a_debug_file_that_is_corrupt_is_named() {
    let built = c(&[]);
    let (start, _) = range(&built.program, "exported");
    built.run("objcopy", &["--only-keep-debug", "program", "program.debug"]);
    built.run("strip", &["--strip-all", "program"]);
    built.run("objcopy", &["--add-gnu-debuglink=program.debug", "program"]);
    fs::write(built.directory.path().join("program.debug"), "no ELF file").unwrap();
    let options = Options { debug_directories: Vec::new(), ..Options::default() };
    let mut symbolizer = Symbolizer::new(options);
    symbolizer.resolve(&built.module(), &[at(start)]);
    let told: Vec<_> = symbolizer.losses().collect();
    assert_eq!(told, [(built.program.to_str().unwrap(), "its debug file is corrupt: not an ELF file")]);
}

/// The first bytes of the section alone are right.
fn damaged_length(built: &Built, whole: &[u8], place: usize) {
    let mut damaged = whole.to_vec();
    damaged[place + 32..place + 64].fill(0);
    fs::write(&built.program, &damaged).unwrap();
}

#[test]
fn debug_information_compressed_with_zstandard_is_read() {
    let built = c(&[]);
    let (start, _) = range(&built.program, "exported");
    built.run("objcopy", &["--compress-debug-sections=zstd", "program"]);
    assert_inlined(&built.frames(start));

    // A claim that is smaller than the truth: the size in the section's header.
    let whole = fs::read(&built.program).unwrap();
    let options = Options { largest_inflated: 64, ..Options::default() };
    let claims: Vec<usize> = whole
        .windows(12)
        .enumerate()
        .filter(|(_, window)| window[..8] == [2, 0, 0, 0, 0, 0, 0, 0] && window[10..] == [0, 0])
        .map(|(at, _)| at + 8)
        .collect();
    assert!(!claims.is_empty());
    let mut damaged = whole;
    for claim in claims {
        damaged[claim..claim + 8].copy_from_slice(&1u64.to_le_bytes());
    }
    fs::write(&built.program, &damaged).unwrap();
    let mut symbolizer = Symbolizer::new(options);
    let found = symbolizer.resolve(&built.module(), &[at(start)]);
    assert_eq!(found[0].last().unwrap().function, "exported");
}

#[test]
fn assembler_without_sizes_reaches_to_the_next_symbol_and_no_further() {
    let source = "
        .globl sizeless, sized, main
        .text
        .type sizeless, @function
        sizeless: nop; nop; nop; nop
        .type sized, @function
        sized: nop; nop
        .size sized, 2
        gap: .skip 64, 0x90
        .type main, @function
        main: ret
        .size main, . - main
        .section .note.GNU-stack
    ";
    let built = build("cc", "s", source, &["-no-pie"]);
    built.run("strip", &["-N", "gap", "program"]);
    let (sized, last) = range(&built.program, "sized");
    assert_eq!(name(&built.frames(sized - 4)), "sizeless");
    assert_eq!(name(&built.frames(sized - 1)), "sizeless");
    assert_eq!(name(&built.frames(sized)), "sized");
    assert_unknown(&built.frames(last + 1), "between symbols: no function of the symbol table covers this address");
}

#[test]
fn names_of_cpp_and_rust() {
    let source = r"
        template <typename T> struct Queue { T last; __attribute__((noinline)) void push(const T& v) { last = v; } };
        template struct Queue<Queue<int>>;
        int main() { Queue<long> q; q.push(3); return (int)q.last; }
    ";
    for flags in [&["-g"][..], &[]] {
        let built = build("g++", "cc", source, flags);
        let (start, _) = range(&built.program, "_ZN5QueueIS_IiEE4push");
        assert_eq!(name(&built.frames(start)), "Queue<Queue<int> >::push(Queue<int> const&)");
    }
    let source = "
        mod park { #[inline(never)] pub fn here<T>(v: T) -> T { std::hint::black_box(v) } }
        fn main() { park::here(3u8); }
    ";
    for flags in [&["-g"][..], &["-Csymbol-mangling-version=v0"]] {
        let built = build("rustc", "rs", source, flags);
        let (start, _) = range(&built.program, "4park4here");
        let frames = built.frames(start);
        let found = &frames.last().unwrap().function;
        assert!(
            found == "program::park::here" || found == "source::park::here" || found.ends_with("::park::here::<u8>"),
            "{found}"
        );
    }
}

#[test]
fn libc_is_named_by_its_plain_aliases() {
    let libc = fs::read_to_string("/proc/self/maps")
        .unwrap()
        .lines()
        .find_map(|line| line.split_whitespace().nth(5).filter(|path| path.contains("/libc.so")).map(PathBuf::from))
        .expect("these tests need a dynamic glibc");
    for wanted in ["read", "nanosleep", "poll", "clone", "pthread_cond_wait", "epoll_wait"] {
        let data = fs::read(&libc).unwrap();
        let file = object::File::parse(&*data).unwrap();
        let symbol = file.dynamic_symbols().find(|symbol| symbol.name() == Ok(wanted)).unwrap();
        let frames = resolve(&module(&libc), symbol.address());
        assert_eq!(frames.last().unwrap().function, wanted);
    }
}

#[test]
fn the_vdso_is_read_from_memory() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.ends_with("[vdso]")).expect("this kernel maps no vDSO");
    let (from, to) = line.split(' ').next().and_then(|range| range.split_once('-')).unwrap();
    let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).unwrap());
    let mut image = vec![0; usize::try_from(to - from).unwrap()];
    File::open("/proc/self/mem").unwrap().read_exact_at(&mut image, from).unwrap();

    let file = object::File::parse(&*image).unwrap();
    let symbol =
        file.dynamic_symbols().find(|symbol| symbol.name().is_ok_and(|name| name.contains("clock_gettime"))).unwrap();
    let vdso = |image: Vec<u8>| Module { path: "[vdso]".into(), source: Source::Image(image.into()) };
    let frames = resolve(&vdso(image.clone()), symbol.address() + 1);
    assert!(name(&frames).ends_with("clock_gettime"), "{frames:?}");
    for cut in (0..image.len()).step_by(64) {
        assert!(!resolve(&vdso(image[..cut].to_vec()), symbol.address()).is_empty());
    }
}

#[test]
fn what_cannot_be_read_says_so() {
    let unreadable = |source| resolve(&Module { path: "/x/y".into(), source }, 0x10);
    assert_unknown(&unreadable(Source::Anonymous), "anonymous memory");
    assert_unknown(&unreadable(Source::Missing("deleted".into())), "module could not be read: deleted");
    assert_unknown(
        &unreadable(Source::File("/nonexistent".into())),
        "module could not be read: No such file or directory (os error 2)",
    );
    assert_unknown(&unreadable(Source::File("/dev/zero".into())), "module could not be read: it is not a regular file");
    assert_unknown(&unreadable(Source::Image(Arc::from(&b"MZ"[..]))), "corrupt ELF: not an ELF file");
    assert_eq!(unreadable(Source::Anonymous)[0].label(), "[y+0x10]");
    assert_eq!(unmapped(0x10).label(), "[unknown 0x10]");

    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    run(Command::new("mkfifo").arg(&fifo));
    assert_unknown(&unreadable(Source::File(fifo)), "module could not be read: it is not a regular file");
}

#[test]
fn debug_information_over_the_limit_is_refused_by_name() {
    for flags in [&[][..], &["-gz=zlib"]] {
        let built = c(flags);
        let (start, _) = range(&built.program, "exported");
        let options = Options { largest_debug_info: 100, largest_inflated: 100, ..Options::default() };
        let mut symbolizer = Symbolizer::new(options);
        let found = symbolizer.resolve(&built.module(), &[at(start)]);
        assert_eq!(name(&found[0]), "exported");
        let losses: Vec<_> = symbolizer.losses().collect();
        assert!(losses[0].1.contains("larger than the limit of 0 MiB"), "{losses:?}");
    }
}

#[test]
fn debug_information_that_takes_too_long_is_given_up() {
    let built = c(&[]);
    let (start, _) = range(&built.program, "exported");
    let options = Options { debug_info_timeout: Duration::ZERO, ..Options::default() };
    let mut symbolizer = Symbolizer::new(options);
    let found = symbolizer.resolve(&built.module(), &[at(start)]);
    assert_eq!(name(&found[0]), "exported");
    let losses: Vec<_> = symbolizer.losses().collect();
    assert!(losses[0].1.contains("took longer"), "{losses:?}");
}

#[test]
fn the_same_address_is_looked_up_once() {
    let built = c(&[]);
    let (start, _) = range(&built.program, "exported");
    let mut symbolizer = Symbolizer::new(Options::default());
    let lookups = vec![at(start); 100_000];
    let first = symbolizer.resolve(&built.module(), &lookups[..1]);
    let began = Instant::now();
    let many = symbolizer.resolve(&built.module(), &lookups);
    assert!(many.iter().all(|frames| *frames == first[0]));
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(symbolizer.options.cache.frames(), 1);
}

#[test]
fn what_one_target_has_looked_up_another_one_knows() {
    let built = c(&[]);
    let (start, _) = range(&built.program, "exported");
    let options = Options::default();
    let first = Symbolizer::new(options.clone()).resolve(&built.module(), &[at(start)]);
    let file = File::options().append(true).open(&built.program).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    // As if it were the same file: nothing of it is read again.
    let size = usize::try_from(file.metadata().unwrap().len()).unwrap();
    fs::write(&built.program, vec![0; size]).unwrap();
    file.set_modified(modified).unwrap();
    assert_eq!(Symbolizer::new(options.clone()).resolve(&built.module(), &[at(start)]), first);
    let mut elsewhere = Symbolizer::new(options);
    elsewhere.set_root(Some(Root::at(built.program.parent().unwrap()).unwrap()));
    assert_ne!(elsewhere.resolve(&built.module(), &[at(start)]), first, "another root may hold other debug files");
}

#[test]
fn what_a_target_s_limits_kept_from_it_others_have() {
    let built = c(&["-gz=zlib"]);
    let (start, _) = range(&built.program, "exported");
    let limits = Limits { held: 1 << 10, ..Limits::of_memory(0) };
    let scarce = Options { budget: Budget::new(limits), ..Options::default() };
    let ample = Options { cache: scarce.cache.clone(), ..Options::default() };
    let mut limited = Symbolizer::new(scarce);
    for _ in 0..2 {
        assert!(limited.resolve(&built.module(), &[at(start)])[0].iter().all(|frame| frame.line.is_none()));
    }
    assert!(limited.options.budget.count_left_out() > 0);
    assert_inlined(&Symbolizer::new(ample).resolve(&built.module(), &[at(start)])[0]);
}
