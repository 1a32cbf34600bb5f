use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use nix::{sys::stat::Mode as NixMode, unistd::mkfifo};

use super::*;

/// A user who is neither root nor us.
const OTHER: u32 = 4711;

fn names_in(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn hello(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(b"hello")
}

fn plain(path: &Path) -> Result<Written, Error> {
    write(path, Access::default(), hello)
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

/// A directory that everybody may write to, as /tmp, but without the sticky bit, for which the kernel has no rule of its own.
fn open_directory(parent: &Path) -> PathBuf {
    let open = parent.join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    open
}

fn link_of(user: u32, target: &Path, link: &Path) {
    symlink(target, link).unwrap();
    std::os::unix::fs::lchown(link, Some(user), Some(user)).unwrap();
}

#[test]
fn what_is_created_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.json");
    let private = Access { owner: None, private: true };
    create(&path, private, hello).unwrap();
    assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode_of(&path)), ("hello", 0o600));
    let link = dir.path().join("link");
    symlink("/nowhere", &link).unwrap();
    for taken in [path.as_path(), &link, Path::new("/dev/null")] {
        let error = create(taken, private, |_| unreachable!("{}", taken.display())).unwrap_err();
        assert!(error.is_taken(), "{error}");
    }
    let raced = create(&dir.path().join("raced"), private, |out| {
        fs::write(dir.path().join("raced"), "theirs")?;
        hello(out)
    });
    assert!(raced.unwrap_err().is_taken());
    assert_eq!(fs::read_to_string(dir.path().join("raced")).unwrap(), "theirs");
    assert_eq!(names_in(dir.path()), ["link", "raced", "x.json"]);
}

#[test]
fn a_file_is_replaced_and_has_the_mode_of_a_plain_new_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.svg");
    fs::write(&path, "old and longer").unwrap();
    assert_eq!(plain(&path).unwrap(), Written::Whole);
    assert_eq!(fs::read_to_string(&path).unwrap(), "hello");

    let new = dir.path().join("plain");
    fs::write(&new, "").unwrap();
    assert_eq!(mode_of(&path), mode_of(&new));
    assert_eq!(names_in(dir.path()), ["plain", "x.svg"]);

    let private = Access { private: true, ..Access::default() };
    assert_eq!(write(&path, private, hello).unwrap(), Written::Whole);
    assert_eq!(mode_of(&path), 0o600);
}

#[test]
fn a_failure_leaves_everything_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.svg");
    fs::write(&path, "old").unwrap();
    let error = write(&path, Access::default(), |out| {
        out.write_all(b"half")?;
        Err(io::ErrorKind::StorageFull.into())
    });
    let error = error.unwrap_err().to_string();
    let sentence = "no space is left in";
    assert!(error.contains(sentence), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(names_in(dir.path()), ["x.svg"]);
}

#[test]
fn a_file_system_without_unnamed_files_will_do() {
    let dir = tempfile::tempdir().unwrap();
    let directory = OwnedFd::from(File::open(dir.path()).unwrap());
    let private = Access { private: true, ..Access::default() };
    let named = |render: fn(&mut dyn Write) -> io::Result<()>| {
        put(&directory, "x.json".as_ref(), private, Put { replaces: true, unnamed: false }, render)
    };
    named(hello).unwrap();
    let path = dir.path().join("x.json");
    assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode_of(&path)), ("hello", 0o600));
    named(|_| Err(io::ErrorKind::StorageFull.into())).unwrap_err();
    assert_eq!(names_in(dir.path()), ["x.json"]);
}

#[test]
fn places_that_cannot_be_written_are_told_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let mut errors = String::new();
    for path in ["missing/x.svg", "file/x.svg", "", "file/..", "new/"] {
        let error = plain(&dir.path().join(path)).unwrap_err();
        let place = dir.path().display().to_string();
        errors += &format!("{error}\n").replace(&place, "DIR");
    }
    insta::assert_snapshot!(errors);
    assert_eq!(names_in(dir.path()), ["file"]);
}

#[test]
fn root_gives_the_file_away_and_the_directories_that_it_creates() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let owner = Owner { uid: 1234, gid: 56 };
    let access = Access { owner: Some(owner), private: false };
    let below = dir.path().join("a/b");
    create_directory(&below, Some(owner)).unwrap();
    let path = below.join("x.json");
    assert_eq!(write(&path, access, hello).unwrap(), Written::Whole);
    for path in [dir.path().join("a"), below, path] {
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.uid(), found.gid()), (1234, 56), "{}", path.display());
    }
    assert_eq!(fs::metadata(dir.path()).unwrap().uid(), 0, "it was there before");
}

#[test]
fn devices_are_written_in_place_and_links_are_replaced() {
    assert_eq!(plain(Path::new("/dev/null")).unwrap(), Written::Whole);
    let full = plain(Path::new("/dev/full")).unwrap_err();
    assert!(full.to_string().contains("no space is left"), "{full}");
    assert!(fs::metadata("/dev/full").unwrap().file_type().is_char_device());

    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    let link = dir.path().join("link");
    fs::write(&target, "old").unwrap();
    for to in [target.as_path(), Path::new("/dev/null"), Path::new("/dev/full"), Path::new("nothing")] {
        let _ = fs::remove_file(&link);
        symlink(to, &link).unwrap();
        assert_eq!(plain(&link).unwrap(), Written::Whole);
        assert!(!link.is_symlink() && fs::read_to_string(&link).unwrap() == "hello");
    }
    assert_eq!(fs::read_to_string(&target).unwrap(), "old");
}

#[test]
fn descriptors_that_we_were_started_with_are_written_to() {
    let file = tempfile::tempfile().unwrap();
    let name = |fd: i32| PathBuf::from(format!("/proc/self/fd/{fd}"));
    // Ours is closed on exec: it is none of those.
    let error = plain(&name(file.as_raw_fd())).unwrap_err().to_string();
    assert!(error.contains("without a descriptor"), "{error}");
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    assert_eq!(plain(&name(file.as_raw_fd())).unwrap(), Written::Whole);
    assert_eq!(plain(&PathBuf::from(format!("/dev/fd/{}", file.as_raw_fd()))).unwrap(), Written::Whole);
    assert_eq!(file.metadata().unwrap().len(), 10, "both were added");
    assert!(plain(&name(i32::MAX)).unwrap_err().to_string().contains("without a descriptor"));
}

#[test]
fn a_fifo_is_not_waited_for_and_a_slow_reader_is() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("x.svg");
    mkfifo(&fifo, NixMode::S_IRWXU).unwrap();
    let error = plain(&fifo).unwrap_err().to_string();
    assert!(error.contains("it is a FIFO that has no reader"), "{error}");
    assert!(check_default(&fifo, None).unwrap_err().to_string().contains("not a regular file"));

    let reader = File::options().read(true).write(true).open(&fifo).unwrap();
    let written = thread::spawn({
        let fifo = fifo.clone();
        // More than a pipe holds.
        move || write(&fifo, Access::default(), |out| out.write_all(&vec![b'x'; 1 << 20]))
    });
    let mut read = vec![0; 1 << 20];
    (&reader).read_exact(&mut read).unwrap();
    assert_eq!(written.join().unwrap().unwrap(), Written::Whole);
    assert!(fs::metadata(&fifo).unwrap().file_type().is_fifo());
}

#[test]
fn a_socket_is_no_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.svg");
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert!(plain(&path).unwrap_err().to_string().contains("it is a socket"));
    assert!(fs::metadata(&path).unwrap().file_type().is_socket());
}

#[test]
fn a_block_device_is_never_written() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let device = dir.path().join("x.svg");
    // ram0: should there be such a disk, nothing is on it.
    nix::sys::stat::mknod(&device, nix::sys::stat::SFlag::S_IFBLK, NixMode::S_IRWXU, libc::makedev(1, 0)).unwrap();
    assert!(plain(&device).unwrap_err().to_string().contains("it is a block device"));
    assert!(fs::metadata(&device).unwrap().file_type().is_block_device());
    let link = dir.path().join("y.svg");
    symlink(&device, &link).unwrap();
    assert_eq!(plain(&link).unwrap(), Written::Whole);
    assert!(fs::symlink_metadata(&link).unwrap().is_file());
}

#[test]
fn links_of_others_are_not_followed_on_the_way() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (open, victim) = (open_directory(dir.path()), dir.path().join("victim"));
    fs::create_dir(&victim).unwrap();
    link_of(OTHER, &victim, &open.join("theirs"));
    link_of(0, &victim, &open.join("ours"));
    link_of(OTHER, &victim, &dir.path().join("closed"));
    link_of(0, Path::new("open/theirs"), &dir.path().join("both"));
    for path in [open.join("theirs/x"), open.join("theirs/../y"), dir.path().join("both/x")] {
        let error = plain(&path).unwrap_err().to_string();
        assert!(error.contains("is a link of user 4711"), "{error}");
        assert!(create_directory(&path, None).is_err());
    }
    assert_eq!(names_in(&victim), [""; 0]);
    assert_eq!(plain(&open.join("ours/a")).unwrap(), Written::Whole);
    assert_eq!(plain(&dir.path().join("closed/b")).unwrap(), Written::Whole, "only root could have put it there");
    let owner = Some(Owner { uid: OTHER, gid: OTHER });
    let by_caller = Access { owner, private: false };
    assert_eq!(
        write(&open.join("theirs/c"), by_caller, hello).unwrap(),
        Written::Whole,
        "the link is the caller's own"
    );
    assert_eq!(names_in(&victim), ["a", "b", "c"]);
    symlink("loop", open.join("loop")).unwrap();
    assert!(plain(&open.join("loop/x")).is_err());
}

#[test]
fn a_link_that_flips_leads_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let open = open_directory(dir.path());
    let (victim, path, spare) = (dir.path().join("victim"), open.join("x.svg"), open.join("spare"));
    fs::write(&victim, "old").unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for to in [Path::new("/dev/null"), &victim].into_iter().cycle() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let _ = fs::remove_file(&spare);
                symlink(to, &spare).unwrap();
                fs::rename(&spare, &path).unwrap();
            }
        });
        for _ in 0..500 {
            assert_eq!(plain(&path).unwrap(), Written::Whole);
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read_to_string(&victim).unwrap(), "old");
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
}

#[test]
fn the_default_name_is_for_where_the_caller_may_write() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let closed = dir.path().join("x.svg");
    let open = open_directory(dir.path()).join("x.svg");
    let caller = Some(Owner { uid: OTHER, gid: OTHER });
    let error = check_default(&closed, caller).unwrap_err().to_string();
    assert!(error.contains("user 4711 may not write") && error.contains("-o"), "{error}");
    check_default(&open, caller).unwrap();
    check_default(&closed, None).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o770)).unwrap();
    std::os::unix::fs::chown(dir.path(), Some(0), Some(OTHER)).unwrap();
    check_default(&closed, caller).unwrap();
    std::os::unix::fs::chown(dir.path(), Some(OTHER), Some(0)).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o577)).unwrap();
    assert!(check_default(&closed, caller).is_err(), "its owner is not among the others");
}

#[test]
fn what_is_added_to_is_a_file_with_one_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("summary.md");
    append(&path, Access::default(), b"a").unwrap();
    append(&path, Access::default(), b"b").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "ab");
    symlink(&path, dir.path().join("link")).unwrap();
    assert!(append(&dir.path().join("link"), Access::default(), b"c").is_err());
    fs::hard_link(&path, dir.path().join("other")).unwrap();
    assert!(append(&path, Access::default(), b"c").unwrap_err().to_string().contains("more than one name"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "ab");
}

#[test]
fn only_files_and_descriptors_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    mkfifo(&fifo, NixMode::S_IRWXU).unwrap();
    for path in [&fifo, Path::new("/dev/zero"), Path::new("/dev/tty"), dir.path(), Path::new("/nowhere")] {
        assert!(open_input(path).is_err(), "{}", path.display());
    }
    let file = dir.path().join("file");
    fs::write(&file, "text").unwrap();
    symlink("file", dir.path().join("link")).unwrap();
    for path in [file, dir.path().join("link")] {
        let mut text = String::new();
        open_input(&path).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
    }
}

#[test]
fn a_reader_who_leaves_is_no_error() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    assert_eq!(stream(&mut Closed, hello).unwrap(), Written::UntilReaderLeft);
}
