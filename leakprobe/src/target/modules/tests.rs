use std::{fs::OpenOptions, io::Write as _, path::Path};

use super::{
    open::{PAGE, is_same_code},
    *,
};

/// Code of a file at `start`; the file's inode is looked up, so that it can be opened.
fn mapped(path: &Path, start: u64) -> Mapping {
    let (dev, inode) = fs::metadata(path)
        .map_or(((0, 0), 7), |metadata| ((libc::major(metadata.dev()), libc::minor(metadata.dev())), metadata.ino()));
    let file = FileKey { dev, inode, path: path.to_string_lossy().into() };
    Mapping { start, end: start + 0x1000, offset: 0, file: Some(Arc::new(file)), module: None }
}

fn own(mappings: Vec<Mapping>) -> Modules {
    let mut modules = Modules { pid: Some(std::process::id()), ..Modules::from_parts(Vec::new(), &[]) };
    modules.replace(mappings).unwrap();
    modules
}

fn module(modules: &mut Modules, address: u64) -> ModuleId {
    match modules.find(address) {
        Some(Code::Module(id)) => id,
        other => panic!("{address:#x}: {other:?}"),
    }
}

/// A file that is ELF: the test itself, of which the loader's part is enough.
fn elf_file(directory: &Path) -> PathBuf {
    let path = directory.join("plugin.so");
    fs::copy("/proc/self/exe", &path).unwrap();
    path
}

#[test]
fn a_process_that_has_ended_keeps_its_code() {
    let mut modules = own(vec![mapped(Path::new("/no/a.so"), 0x1000)]);
    assert!(modules.replace(Vec::new()).is_err());
    assert!(modules.find(0x1800).is_some());
}

#[test]
fn a_file_that_is_renamed_keeps_its_name_once_it_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = elf_file(folder.path());
    let mut modules = own(vec![mapped(&path, 0x1000)]);
    let renamed = folder.path().join("renamed.so");
    fs::rename(&path, &renamed).unwrap();
    let name = |modules: &Modules| modules.named_as_before(mapped(&renamed, 0x1000)).file.unwrap().path.clone();
    assert!(name(&modules).ends_with("renamed.so"), "not open yet: it may be another file with the same inode number");
    fs::rename(&renamed, &path).unwrap();
    module(&mut modules, 0x1800);
    fs::rename(&path, &renamed).unwrap();
    assert!(name(&modules).ends_with("plugin.so"));
    let elsewhere = modules.named_as_before(mapped(&renamed, 0x8000)).file.unwrap();
    assert!(elsewhere.path.ends_with("renamed.so"));
}

#[test]
fn another_file_at_the_same_address_is_another_module() {
    let mut modules = own(vec![mapped(Path::new("/no/a.so"), 0x1000)]);
    let (before, first) = (modules.generation(), module(&mut modules, 0x1800));
    modules.replace(vec![mapped(Path::new("/no/b.so"), 0x1000)]).unwrap();
    assert_ne!(modules.generation(), before);
    let second = module(&mut modules, 0x1800);
    assert_ne!(first, second);
    assert_eq!(modules.get(second).unwrap().path, "/no/b.so");
    assert_eq!(modules.mappings_of(first).count(), 0);
}

#[test]
fn the_same_mappings_change_nothing() {
    let mut modules = own(vec![mapped(Path::new("/no/a.so"), 0x1000)]);
    let (before, first) = (modules.generation(), module(&mut modules, 0x1800));
    modules.replace(vec![mapped(Path::new("/no/a.so"), 0x1000)]).unwrap();
    assert_eq!(modules.generation(), before);
    modules.replace(vec![mapped(Path::new("/no/a.so"), 0x1000), mapped(Path::new("/no/b.so"), 0x9000)]).unwrap();
    assert_ne!(modules.generation(), before);
    assert_eq!(module(&mut modules, 0x1800), first, "it is not opened again");
}

#[test]
fn code_that_is_gone_is_recalled_until_there_is_other_code() {
    let mut modules = own(vec![mapped(Path::new("/no/a.so"), 0x1000), mapped(Path::new("/no/b.so"), 0x9000)]);
    let first = module(&mut modules, 0x1800);
    modules.replace(vec![mapped(Path::new("/no/b.so"), 0x9000)]).unwrap();
    assert_eq!(modules.find(0x1800), None);
    assert_eq!(modules.find_or_recall(0x1800), Some(Code::Module(first)));
    modules.replace(vec![mapped(Path::new("/no/c.so"), 0x1000)]).unwrap();
    assert_ne!(modules.find_or_recall(0x1800), Some(Code::Module(first)));
}

#[test]
fn other_code_at_an_address_in_use_is_told_once() {
    let mut modules = own(vec![mapped(Path::new("/no/a.so"), 0x1000), mapped(Path::new("/no/b.so"), 0x9000)]);
    module(&mut modules, 0x1800);
    assert!(!modules.take_reuse());
    modules.replace(vec![mapped(Path::new("/no/b.so"), 0x9000)]).unwrap();
    assert!(!modules.take_reuse(), "it is gone, but nothing is in its place");
    assert_eq!(modules.last_mappings_of(ModuleId(0)).next(), Some(0x1000..0x2000));
    modules.replace(vec![mapped(Path::new("/no/c.so"), 0x1000)]).unwrap();
    assert!(modules.take_reuse());
    assert_eq!(modules.last_mappings_of(ModuleId(0)).count(), 0);
    modules.replace(vec![mapped(Path::new("/no/c.so"), 0x1000), mapped(Path::new("/no/d.so"), 0x5000)]).unwrap();
    assert!(!modules.take_reuse());
    // The same library again, at the same place.
    let mut modules = own(vec![mapped(Path::new("/no/a.so"), 0x1000)]);
    module(&mut modules, 0x1800);
    modules.replace(vec![mapped(Path::new("/no/b.so"), 0x9000)]).unwrap();
    modules.replace(vec![mapped(Path::new("/no/a.so"), 0x1000)]).unwrap();
    assert!(!modules.take_reuse());
}

#[test]
fn code_tells_files_apart_where_inode_numbers_do_not() {
    let mut modules = Modules::of(std::process::id()).unwrap();
    let address = code_tells_files_apart_where_inode_numbers_do_not as *const () as u64;
    module(&mut modules, address);
    let mapping = modules.mappings.iter().find(|mapping| (mapping.start..mapping.end).contains(&address)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("copy");
    fs::copy("/proc/self/exe", &copy).unwrap();
    let memory = ProcessMemory::new(std::process::id());
    assert!(is_same_code(&File::open(&copy).unwrap(), mapping, &memory));
    let other = Mapping { offset: mapping.offset + PAGE, ..mapping.clone() };
    assert!(!is_same_code(&File::open(&copy).unwrap(), &other, &memory));
    assert!(!is_same_code(&File::open("/etc/passwd").unwrap(), mapping, &memory));
}

#[test]
fn a_file_at_two_places_is_two_modules_and_read_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = elf_file(directory.path());
    let mut modules = own(vec![mapped(&path, 0x10_0000), mapped(&path, 0x90_0000)]);
    let (first, second) = (module(&mut modules, 0x10_0800), module(&mut modules, 0x90_0800));
    assert_ne!(first, second);
    let elf = |id| modules.get(id).and_then(|module| module.elf.clone().ok()).unwrap();
    assert!(Arc::ptr_eq(&elf(first), &elf(second)));
}

#[test]
fn a_file_that_was_written_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = elf_file(directory.path());
    let mut modules = own(vec![mapped(&path, 0x10_0000)]);
    let (before, first) = (modules.generation(), module(&mut modules, 0x10_0800));
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"!").unwrap();
    modules.replace(vec![mapped(&path, 0x10_0000)]).unwrap();
    assert_ne!(modules.generation(), before);
    assert_ne!(module(&mut modules, 0x10_0800), first);
}

#[test]
fn a_file_that_was_written_while_it_was_not_mapped_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = elf_file(directory.path());
    let other = mapped(Path::new("/no/b.so"), 0x90_0000);
    let mut modules = own(vec![mapped(&path, 0x10_0000), other.clone()]);
    let first = module(&mut modules, 0x10_0800);
    modules.replace(vec![other.clone()]).unwrap();
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"!").unwrap();
    modules.replace(vec![mapped(&path, 0x10_0000), other]).unwrap();
    assert_ne!(module(&mut modules, 0x10_0800), first);
}

#[test]
fn modules_that_are_mapped_no_more_are_forgotten_in_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = elf_file(directory.path());
    let stays = mapped(Path::new("/no/b.so"), 0x90_0000);
    let mut modules = own(vec![mapped(&path, 0x10_0000), stays.clone()]);
    let (file, kept) = (module(&mut modules, 0x10_0800), module(&mut modules, 0x90_0800));
    let ModuleSource::File { handle, .. } = &modules.get(file).unwrap().source else { panic!("it is not open") };
    let handle = Arc::downgrade(handle);
    let mut ids = HashSet::from([file, kept]);
    for count in 0..MAX_GONE + 8 {
        let next = mapped(Path::new(&format!("/no/{count}.so")), 0x20_0000);
        modules.replace(vec![next, stays.clone()]).unwrap();
        assert!(ids.insert(module(&mut modules, 0x20_0800)), "no id is used again");
        assert_eq!(modules.get(file).is_some(), handle.upgrade().is_some());
        assert_eq!(modules.find_or_recall(0x10_0800).is_some(), handle.upgrade().is_some());
        assert!(modules.modules.len() <= MAX_GONE + 2 && modules.opened.len() <= MAX_GONE + 2);
    }
    assert!(handle.upgrade().is_none(), "its file is closed");
    assert_eq!(module(&mut modules, 0x90_0800), kept, "what is mapped stays, whether it is looked up or not");
}

#[test]
fn files_beyond_the_limit_are_not_opened_until_others_are_closed() {
    let directory = tempfile::tempdir().unwrap();
    let copies: Vec<PathBuf> = (0..4).map(|count| directory.path().join(format!("{count}.so"))).collect();
    let path = elf_file(directory.path());
    for copy in &copies {
        fs::copy(&path, copy).unwrap();
    }
    let place = |count: usize| 0x1000_0000 * (count as u64 + 1);
    let all = || copies.iter().enumerate().map(|(count, copy)| mapped(copy, place(count)));
    let mut modules = Modules { most_files: 3, ..own(all().collect()) };
    let is_open = |modules: &mut Modules, count| {
        let id = module(modules, place(count));
        modules.get(id).unwrap().elf.is_ok()
    };
    assert_eq!([0, 1, 2, 3].map(|count| is_open(&mut modules, count)), [true, true, true, false]);
    let why = |modules: &mut Modules, count| {
        let id = module(modules, place(count));
        modules.get(id).unwrap().elf.as_ref().err().cloned()
    };
    assert_eq!(why(&mut modules, 3).unwrap(), "the limit of 3 open files of the target is used up");
    assert_eq!(modules.budget().count_left_out(), 1);
    // One that is gone may still be asked for, but not more than half of what there may be.
    modules.replace(all().skip(3).collect()).unwrap();
    assert_eq!((modules.gone.len(), modules.modules.len()), (1, 2));
    modules.replace(all().take(2).collect()).unwrap();
    assert_eq!([0, 1].map(|count| is_open(&mut modules, count)), [true; 2]);
}

#[test]
fn mappings_that_overlap_are_put_in_order() {
    let path = Path::new("/no/a.so");
    let in_order = in_order(vec![mapped(path, 0x3000), mapped(path, 0x1000), mapped(path, 0x1800)]);
    let starts: Vec<u64> = in_order.iter().map(|mapping| mapping.start).collect();
    assert_eq!(starts, [0x1000, 0x3000]);
}

#[test]
fn our_own_code_is_found() {
    let mut modules = Modules::of(std::process::id()).unwrap();
    let id = module(&mut modules, our_own_code_is_found as *const () as u64);
    assert!(modules.get(id).unwrap().elf.is_ok());
    assert!(!modules.refresh_for_unknown() || modules.age() < Duration::from_secs(5));
    assert_eq!(modules.find(8), None);
}
