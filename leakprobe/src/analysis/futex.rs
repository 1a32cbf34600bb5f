//! What a futex wait is: told by the functions that wait, and never guessed.
//!
//! [`ROWS`] is the one table: functions, what they are called, and where the primitive says who holds it. The innermost function
//! that is not mere plumbing decides; if that is not in the table, e.g. since the program calls `futex` itself, or if it has no
//! name, it stays unknown.

use super::hotspot;
use crate::model::{Frame, FutexWait, Holder, Primitive};

/// Most frames that are looked at.
const MOST_FRAMES: usize = 24;
/// Futex commands. Source: <https://elixir.bootlin.com/linux/v6.12/source/include/uapi/linux/futex.h#L11>
const WAIT: u32 = 0;

/// What a row's functions stand for.
#[derive(Clone, Copy, Debug)]
enum Means {
    /// Part of how something else waits: the caller decides.
    Plumbing,
    /// This primitive.
    Is(&'static str, Holder),
    /// This one, unless a caller within the same library says it better.
    Unless(&'static str),
    /// The caller says better what it is if it is one of these; else this one.
    Lock(Lock),
}

/// A lock of one of the two C libraries: which one decides how it lies in memory.
#[derive(Clone, Copy, Debug)]
enum Lock {
    Mutex,
    RwlockRead,
    RwlockWrite,
    Join,
    Condition,
}

/// How a function is named.
#[derive(Clone, Copy, Debug)]
enum Named {
    /// C functions, without leading underscores, `GI_`, versions and the compiler's suffixes.
    C(&'static [&'static str]),
    /// Paths of Rust and C++ that begin with the first and contain one of the others.
    Path(&'static str, &'static [&'static str]),
}

struct Row {
    named: Named,
    means: Means,
}

const fn row(named: Named, means: Means) -> Row {
    Row { named, means }
}

use Holder::{Nobody, NotRecorded};
use Lock::{Condition, Join, Mutex, RwlockRead, RwlockWrite};
use Means::{Is, Plumbing, Unless};
use Named::{C, Path};

/// Every function that is known, and what it waits for.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    // The call itself.
    // <https://sourceware.org/git/?p=glibc.git;a=blob;f=nptl/futex-internal.c;hb=glibc-2.36>
    // <https://git.musl-libc.org/cgit/musl/tree/src/thread/__timedwait.c?h=v1.2.3>
    row(C(&[
            "syscall", "futex_wait", "futex_wait_simple", "futex_wait_cancelable", "futex_abstimed_wait",
            "futex_abstimed_wait64", "futex_abstimed_wait_common", "futex_abstimed_wait_common64",
            "futex_abstimed_wait_common32", "futex_abstimed_wait_cancelable", "futex_abstimed_wait_cancelable64",
            "futex_clocklock", "futex_clocklock64", "futex_lock_pi", "futex_lock_pi64", "futex_reltimed_wait", "internal_syscall_cancel", "syscall_cancel",
            "syscall_cancel_arch", "syscall_cp", "syscall_cp_c", "syscall_cp_asm", "sccp", "timedwait", "timedwait_cp",
            "futexwait", "futex4", "futex4_cp", "lll_mutex_lock_optimized", "lll_mutex_timedlock",
        ]), Plumbing),
    // glibc's locks end here; who called it says which lock. Private ones are the library's own.
    // <https://sourceware.org/git/?p=glibc.git;a=blob;f=nptl/lowlevellock.c;hb=glibc-2.36>
    row(C(&["lll_lock_wait", "lll_clocklock_wait", "lll_timedlock_wait", "lll_lock_wait_private"]), Plumbing),
    // <https://sourceware.org/git/?p=glibc.git;a=blob;f=nptl/pthread_mutex_lock.c;hb=glibc-2.36>
    // <https://git.musl-libc.org/cgit/musl/tree/src/thread/pthread_mutex_timedlock.c?h=v1.2.3>
    row(C(&[
            "pthread_mutex_lock", "pthread_mutex_lock_full", "pthread_mutex_timedlock", "pthread_mutex_clocklock",
            "pthread_mutex_clocklock_common", "pthread_mutex_cond_lock", "pthread_mutex_cond_lock_full",
            "pthread_mutex_timedlock_pi", "mtx_lock", "mtx_timedlock",
        ]), Means::Lock(Mutex)),
    // <https://sourceware.org/git/?p=glibc.git;a=blob;f=nptl/pthread_rwlock_common.c;hb=glibc-2.36>
    // <https://git.musl-libc.org/cgit/musl/tree/src/thread/pthread_rwlock_timedrdlock.c?h=v1.2.3>
    row(C(&[
            "pthread_rwlock_rdlock", "pthread_rwlock_rdlock_full64", "pthread_rwlock_rdlock_full",
            "pthread_rwlock_timedrdlock", "pthread_rwlock_clockrdlock",
        ]), Means::Lock(RwlockRead)),
    row(C(&[
            "pthread_rwlock_wrlock", "pthread_rwlock_wrlock_full64", "pthread_rwlock_wrlock_full",
            "pthread_rwlock_timedwrlock", "pthread_rwlock_clockwrlock",
        ]), Means::Lock(RwlockWrite)),
    // <https://sourceware.org/git/?p=glibc.git;a=blob;f=nptl/pthread_join_common.c;hb=glibc-2.36>
    // <https://git.musl-libc.org/cgit/musl/tree/src/thread/pthread_join.c?h=v1.2.3>
    row(C(&[
            "pthread_join", "pthread_clockjoin_ex", "pthread_timedjoin_ex", "pthread_timedjoin_np",
            "pthread_clockjoin_np", "pthread_timedjoin", "thrd_join", "std::thread::join",
        ]), Means::Lock(Join)),
    // <https://sourceware.org/git/?p=glibc.git;a=blob;f=nptl/pthread_cond_wait.c;hb=glibc-2.36>
    row(C(&[
            "pthread_cond_wait", "pthread_cond_timedwait", "pthread_cond_clockwait", "pthread_cond_wait_common",
            "private_cond_wait", "cnd_wait", "cnd_timedwait",
        ]), Means::Lock(Condition)),
    // <https://sourceware.org/git/?p=glibc.git;a=blob;f=nptl/sem_waitcommon.c;hb=glibc-2.36>
    row(C(&[
            "sem_wait", "sem_timedwait", "sem_clockwait", "new_sem_wait", "new_sem_wait_slow",
            "new_sem_wait_slow64", "old_sem_wait", "do_futex_wait", "sem_wait_slow",
        ]), Is("semaphore", Nobody)),
    // <https://sourceware.org/git/?p=glibc.git;a=blob;f=nptl/pthread_barrier_wait.c;hb=glibc-2.36>
    row(C(&["pthread_barrier_wait", "pthread_barrier_destroy"]), Is("barrier", Nobody)),
    // <https://sourceware.org/git/?p=glibc.git;a=blob;f=nptl/pthread_once.c;hb=glibc-2.36>
    // <https://github.com/gcc-mirror/gcc/blob/releases/gcc-12.2.0/libstdc%2B%2B-v3/libsupc%2B%2B/guard.cc>
    row(C(&["pthread_once", "pthread_once_slow", "pthread_once_full", "cxa_guard_acquire"]), Is("once", NotRecorded)),
    // Locks of the C library itself.
    // <https://sourceware.org/git/?p=glibc.git;a=blob;f=malloc/malloc.c;hb=glibc-2.36>
    row(C(&[
            "malloc", "free", "calloc", "realloc", "memalign", "posix_memalign", "aligned_alloc", "libc_malloc",
            "libc_free", "libc_calloc", "libc_realloc", "libc_memalign", "int_free", "int_malloc", "arena_get2",
            "arena_get_retry", "malloc_trim", "mallinfo", "mallinfo2", "malloc_stats", "malloc_info",
        ]), Is("malloc lock", NotRecorded)),
    // <https://sourceware.org/git/?p=glibc.git;a=blob;f=sysdeps/nptl/stdio-lock.h;hb=glibc-2.36>
    row(C(&[
            "flockfile", "IO_flockfile", "lockfile", "puts", "IO_puts", "fputs", "IO_fputs", "fputc", "putc",
            "IO_putc", "putchar", "fgetc", "getc", "IO_getc", "getchar", "fgets", "IO_fgets", "fwrite",
            "IO_fwrite", "fread", "IO_fread", "fflush", "IO_fflush", "fclose", "IO_fclose", "printf", "fprintf",
            "vfprintf", "vfprintf_internal", "vprintf", "printf_chk", "fprintf_chk", "getline", "getdelim",
            "IO_getdelim", "ungetc", "fseek", "ftell", "setvbuf", "IO_cleanup", "IO_flush_all",
            "IO_flush_all_lockp", "IO_list_lock", "IO_link_in", "IO_un_link",
        ]), Is("stdio lock", NotRecorded)),
    // Rust. Where each of them waits: <https://github.com/rust-lang/rust/tree/1.95.0/library/std/src/sys/sync>; before 1.84
    // in `sys/pal/unix/locks`, `sys/unix/locks` and `sys_common`.
    row(Path("std::sys",
            &["pal::unix::futex::futex_wait", "unix::futex::futex_wait", "futex::futex_wait", "spin_until"]), Plumbing),
    row(Path("std::sys", &["mutex::futex::Mutex", "futex_mutex::Mutex", "futex_mutex::lock"]), Is("mutex", NotRecorded)),
    row(Path("std::sys", &["rwlock::futex::RwLock::read", "futex_rwlock::RwLock::read"]), Is("rwlock (read)", NotRecorded)),
    row(Path("std::sys", &["rwlock::futex::RwLock::write", "futex_rwlock::RwLock::write"]), Is("rwlock (write)", NotRecorded)),
    row(Path("std::sys", &["condvar::futex::Condvar", "futex_condvar::Condvar", "futex_rwlock::Condvar"]), Is("condition variable", Nobody)),
    row(Path("std::sys", &["once::futex::Once"]), Is("once", NotRecorded)),
    row(Path("std::sys", &["thread_parking::futex::Parker", "thread_parker::futex::Parker", "thread_parking::Parker"]), Is("thread park", Nobody)),
    row(Path("std::thread", &["park"]), Is("thread park", Nobody)),
    row(Path("std::sys", &["thread::unix::Thread::join", "unix::thread::Thread::join", "thread::Thread::join"]), Means::Lock(Join)),
    // parking_lot. <https://github.com/Amanieu/parking_lot/tree/0.12.3/src>
    row(Path("parking_lot_core::",
            &["thread_parker", "parking_lot::park", "parking_lot::with_thread_data", "ThreadParker"]), Unless("thread park")),
    row(Path("parking_lot::raw_mutex::", &["RawMutex"]), Is("mutex", NotRecorded)),
    row(Path("parking_lot::raw_fair_mutex::", &["RawFairMutex"]), Is("mutex", NotRecorded)),
    row(Path("parking_lot::raw_rwlock::", &["lock_shared", "lock_upgradable", "RawRwLock::lock_common"]), Is("rwlock (read)", NotRecorded)),
    row(Path("parking_lot::raw_rwlock::", &["lock_exclusive", "wait_for_readers", "upgrade"]), Is("rwlock (write)", NotRecorded)),
    row(Path("parking_lot::condvar::", &["Condvar"]), Is("condition variable", Nobody)),
    row(Path("parking_lot::once::", &["Once"]), Is("once", NotRecorded)),
    // C++. <https://github.com/gcc-mirror/gcc/blob/releases/gcc-12.2.0/libstdc%2B%2B-v3/include/bits/atomic_wait.h>
    row(Path("std::call_once", &[""]), Is("once", NotRecorded)),
    row(Path("std::", &["__atomic_futex_unsigned"]), Is("future", Nobody)),
    row(Path("std::", &["__atomic_semaphore", "counting_semaphore", "__platform_semaphore"]), Is("semaphore", Nobody)),
    row(Path("std::", &["latch::"]), Is("latch", Nobody)),
    row(Path("std::", &["__tree_barrier", "barrier<", "__barrier"]), Is("barrier", Nobody)),
    // <https://github.com/llvm/llvm-project/blob/llvmorg-19.1.0/libcxx/src/atomic.cpp>
    row(Path("std::", &[
            "__platform_wait", "__atomic_wait", "__waiter", "__wait_impl", "__wait_until", "__libcpp_atomic_wait",
            "__libcpp_platform_wait", "__libcpp_contention_wait", "__cxx_atomic_wait", "__atomic_base", "atomic<",
            "atomic_wait",
        ]), Unless("atomic wait")),
];

/// What a thread with this stack waits on; the innermost frame comes first.
#[must_use]
pub(super) fn primitive<'a>(frames: impl IntoIterator<Item = &'a Frame>, wait: &FutexWait) -> Primitive {
    let is_pi = wait.is_lock_pi();
    // The kernel itself defines what is in the word of such a lock.
    let unknown = if is_pi { Primitive { name: "PI lock", holder: Holder::Kernel } } else { Primitive::UNKNOWN };
    let mut otherwise: Option<Primitive> = None;
    let mut is_musl = false;
    let mut frames = frames.into_iter().take(MOST_FRAMES);
    while let Some(frame) = frames.next() {
        is_musl |= is_musls(frame);
        // By what it was called as, a jump further it is one of the library's own, of which symbol tables often do not tell.
        let function = frame.called_as.as_deref().unwrap_or(&frame.function);
        if function.is_empty() {
            if is_library(frame) && otherwise.is_none() {
                continue;
            }
            break;
        }
        match means(function) {
            Some(Plumbing) => {}
            Some(Is(name, holder)) => return Primitive { name, holder },
            Some(Unless(name)) => otherwise = Some(Primitive { name, holder: Nobody }),
            None if frame.function.is_empty() && is_library(frame) && otherwise.is_none() => {}
            Some(Means::Lock(Mutex)) if frames.find(|frame| !frame.function.is_empty()).is_some_and(is_loader) => {
                return Primitive { name: "loader lock", ..Mutex.primitive(is_musl, is_pi, wait) };
            }
            Some(Means::Lock(lock)) => {
                let plain = lock.primitive(is_musl, is_pi, wait);
                return hotspot::primitive(frames.skip_while(|frame| is_library(frame))).unwrap_or(plain);
            }
            None => {
                if let Some(primitive) = hotspot::primitive([frame].into_iter().chain(frames)) {
                    return primitive;
                }
                break;
            }
        }
    }
    otherwise.unwrap_or(if wait.memory.as_ref().is_some_and(|memory| memory.is_thread_id) && is_join(wait) {
        JOIN
    } else {
        unknown
    })
}

const JOIN: Primitive = Primitive { name: "join", holder: Holder::GlibcJoin };

/// Whether it is a join for what is waited on, even if no function tells: a thread's id, in its descriptor, until it changes.
fn is_join(wait: &FutexWait) -> bool {
    matches!(wait.command, Some(WAIT | 9)) && wait.value > 0
}

impl Lock {
    fn primitive(self, is_musl: bool, is_pi: bool, wait: &FutexWait) -> Primitive {
        let (name, glibc, musl) = match self {
            // Having been woken, it takes its mutex again, which is another wait: that of glibc's is told by the operation.
            // Source: <https://sourceware.org/git/?p=glibc.git;a=blob;f=nptl/pthread_cond_wait.c;hb=glibc-2.36#l632>
            Self::Condition if !is_musl && wait.command == Some(WAIT) => {
                return Self::Mutex.primitive(false, is_pi, wait);
            }
            Self::Condition if is_pi => return Self::Mutex.primitive(is_musl, is_pi, wait),
            Self::Condition => ("condition variable", Nobody, Nobody),
            Self::Mutex if is_pi => ("mutex", Holder::Kernel, Holder::MuslMutex),
            Self::Mutex => ("mutex", Holder::GlibcMutex, Holder::MuslMutex),
            Self::RwlockRead => ("rwlock (read)", Holder::GlibcRwlock, Holder::MuslRwlock),
            Self::RwlockWrite => ("rwlock (write)", Holder::GlibcRwlock, Holder::MuslRwlock),
            Self::Join => ("join", Holder::GlibcJoin, Holder::MuslJoin),
        };
        Primitive { name, holder: if is_musl { musl } else { glibc } }
    }
}

/// The row of a function.
fn means(function: &str) -> Option<Means> {
    if function == "__wait" {
        return Some(Plumbing); // musl's; another function may be called `wait`
    }
    let c = c_name(function);
    let path = path_name(function);
    let has = |row: &&Row| match row.named {
        C(names) => names.contains(&c),
        Path(begin, parts) => path.starts_with(begin) && parts.iter().any(|part| path.contains(part)),
    };
    ROWS.iter().find(has).map(|row| row.means)
}

/// A C function's name without what versions and compilers add: `__GI___pthread_mutex_lock`, `pthread_cond_wait@@GLIBC_2.3.2`,
/// `__new_sem_wait_slow64.constprop.0`. C++ functions lose their parameters.
fn c_name(function: &str) -> &str {
    let name = function.split(['.', '@', '(']).next().unwrap_or(function);
    let name = name.trim_start_matches('_');
    name.strip_prefix("GI_").unwrap_or(name).trim_start_matches('_')
}

/// A path without `<` before it and `>` within, and without parameters and the result of a C++ template:
/// `<std::sys::sync::mutex::futex::Mutex>::lock_contended`.
fn path_name(function: &str) -> String {
    let name = function.split_once('(').map_or(function, |(name, _)| name);
    let name = name.trim_start_matches('<').trim_start_matches("&mut ");
    let name = ["void ", "bool "].iter().find_map(|result| name.strip_prefix(result)).unwrap_or(name);
    name.replacen(">::", "::", 1)
}

/// Whether it is the dynamic loader that takes its lock, a recursive mutex.
/// Source: <https://sourceware.org/git/?p=glibc.git;a=blob;f=elf/dl-open.c;hb=glibc-2.36#l852>
fn is_loader(frame: &Frame) -> bool {
    let name = c_name(&frame.function);
    name.starts_with("dl_")
        || ["dlopen", "dlclose", "dlsym", "dlvsym", "dlmopen", "dladdr", "rtld_mutex_lock"].contains(&name)
}

/// Whether the code is of a C or C++ library, whose own functions often have no names.
fn is_library(frame: &Frame) -> bool {
    let name = frame.module_name();
    ["libc.so", "libc-2", "libpthread", "ld-linux", "ld-musl", "ld-2", "libc.musl", "libstdc++.so", "libc++.so"]
        .iter()
        .any(|begin| name.starts_with(begin))
}

fn is_musls(frame: &Frame) -> bool {
    let own = ["timedwait", "timedwait_cp", "syscall_cp_asm", "syscall_cp_c", "syscall_cp", "wait", "futexwait"];
    frame.module_name().contains("musl")
        || (frame.function.starts_with("__") && own.contains(&c_name(&frame.function)))
        || c_name(&frame.function) == "pthread_mutex_timedlock_pi"
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIBC: &str = "/usr/lib/x86_64-linux-gnu/libc.so.6";

    /// `[]` in a name stands for a frame of libc without one, `[x]` for one of the program.
    fn of(names: &[&str], command: u32) -> (&'static str, Holder) {
        let frame = |name: &&str| match *name {
            "[]" => Frame { module: LIBC.to_owned(), ..Frame::default() },
            "[x]" => Frame { module: "/srv/app".to_owned(), ..Frame::default() },
            "[musl]" => Frame { module: "/lib/ld-musl-x86_64.so.1".to_owned(), ..Frame::default() },
            name => Frame { function: name.to_owned(), module: "/srv/app".to_owned(), ..Frame::default() },
        };
        let frames: Vec<Frame> = names.iter().map(frame).collect();
        let wait = FutexWait::new(0x1000, Some(command), 2);
        let found = primitive(&frames, &wait);
        (found.name, found.holder)
    }

    #[test]
    fn c_libraries() {
        for (frames, command, expected) in [
            (
                &["futex_wait", "__GI___lll_lock_wait", "lll_mutex_lock_optimized", "pthread_mutex_lock", "f"][..],
                0,
                ("mutex", Holder::GlibcMutex),
            ),
            (&["[]", "pthread_mutex_lock@@GLIBC_2.2.5", "f"], 0, ("mutex", Holder::GlibcMutex)),
            (&["__futex_lock_pi64", "__pthread_mutex_lock_full", "f"], 6, ("mutex", Holder::Kernel)),
            (&["[]", "pthread_cond_wait", "f"], 9, ("condition variable", Nobody)),
            (&["[]", "[]", "pthread_cond_wait", "f"], 0, ("mutex", Holder::GlibcMutex)),
            (&["__futex_abstimed_wait_common", "__new_sem_wait_slow64.constprop.0", "f"], 9, ("semaphore", Nobody)),
            (&["__futex_abstimed_wait_common", "__pthread_clockjoin_ex", "f"], 9, ("join", Holder::GlibcJoin)),
            (&["[]", "pthread_rwlock_wrlock", "f"], 9, ("rwlock (write)", Holder::GlibcRwlock)),
            (&["[]", "malloc", "f"], 0, ("malloc lock", NotRecorded)),
            (&["__lll_lock_wait_private", "_IO_puts", "f"], 0, ("stdio lock", NotRecorded)),
            (&["[]", "pthread_mutex_lock", "[]", "dl_iterate_phdr", "f"], 0, ("loader lock", Holder::GlibcMutex)),
            (&["[musl]", "pthread_rwlock_rdlock", "f"], 0, ("rwlock (read)", Holder::MuslRwlock)),
            (&["[musl]", "pthread_cond_wait", "f"], 0, ("condition variable", Nobody)),
        ] {
            assert_eq!(of(frames, command), expected, "{frames:?}");
        }
    }

    /// The frames of musl 1.2.3 that was built with debug information: those of Debian and Alpine are not, and end in the first.
    #[test]
    fn musl() {
        let begin = ["sccp", "__futex4_cp", "__timedwait_cp"];
        let (timed_lock, once) = ("pthread_mutex_timedlock", "__pthread_once_full");
        for (frames, expected) in [
            (&["__timedwait", timed_lock, "f"][..], ("mutex", Holder::MuslMutex)),
            (
                &["__timedwait", "__pthread_rwlock_timedrdlock", "pthread_rwlock_timedrdlock", "f"],
                ("rwlock (read)", Holder::MuslRwlock),
            ),
            (
                &["__timedwait", "__pthread_rwlock_timedwrlock", "pthread_rwlock_timedwrlock", "f"],
                ("rwlock (write)", Holder::MuslRwlock),
            ),
            (&["pthread_cond_timedwait", "f"], ("condition variable", Nobody)),
            (&["sem_timedwait", "f"], ("semaphore", Nobody)),
            (&["pthread_timedjoin_np", "f"], ("join", Holder::MuslJoin)),
        ] {
            assert_eq!(of(&[&begin, frames].concat(), 0), expected, "{frames:?}");
        }
        assert_eq!(of(&["__wait", once, "f"], 0), ("once", NotRecorded));
        assert_eq!(of(&["pthread_barrier_wait", "f"], 0), ("barrier", Nobody));
        assert_eq!(of(&["pthread_mutex_timedlock_pi", timed_lock, "f"], 6), ("mutex", Holder::MuslMutex));
    }

    #[test]
    fn a_function_without_a_name_is_what_it_was_called_as() {
        let nameless = |called_as: &str, module: &str| Frame {
            called_as: Some(called_as.to_owned()).filter(|name| !name.is_empty()),
            module: module.to_owned(),
            ..Frame::default()
        };
        let wait = FutexWait::new(0x1000, Some(9), 0);
        let of = |frames: &[Frame]| primitive(frames, &wait).name;
        assert_eq!(of(&[nameless("", LIBC), nameless("sem_wait", LIBC)]), "semaphore");
        assert_eq!(of(&[nameless("pthread_once", LIBC)]), "once");
        assert_eq!(of(&[nameless("own", LIBC), nameless("sem_wait", LIBC)]), "semaphore", "a part of it");
        assert_eq!(of(&[nameless("own", "/srv/app"), nameless("sem_wait", LIBC)]), "");
        assert_eq!(of(&[nameless("", "/srv/app"), nameless("sem_wait", LIBC)]), "");
    }

    #[test]
    fn hotspots_monitors_are_beyond_all_frames_of_the_c_library() {
        let of = |names: &[(&str, &str)]| {
            let frame = |(module, function): &(&str, &str)| Frame {
                module: (*module).to_owned(),
                function: (*function).to_owned(),
                ..Frame::default()
            };
            let frames: Vec<Frame> = names.iter().map(frame).collect();
            primitive(&frames, &FutexWait::new(0x1000, Some(9), 0)).name
        };
        let (jvm, libc) = ("/usr/lib/jvm/lib/server/libjvm.so", LIBC);
        let inlined =
            [(libc, "__futex_abstimed_wait_common"), (libc, "__pthread_cond_wait_common"), (libc, "pthread_cond_wait")];
        let enter = [(jvm, "os::PlatformEvent::park()"), (jvm, "ObjectMonitor::EnterI(JavaThread*)")];
        assert_eq!(of(&[&inlined[..], &enter].concat()), "monitor enter");
        assert_eq!(of(&[&inlined[..], &[(jvm, "os::PlatformMonitor::wait(long)")]].concat()), "condition variable");
        let safepoint = [(jvm, "LinuxWaitBarrier::wait(int)"), (jvm, "SafepointSynchronize::block(JavaThread*)")];
        assert_eq!(of(&[&[(libc, "syscall")][..], &safepoint].concat()), "safepoint");
    }

    #[test]
    fn rust_and_cpp() {
        for (frames, expected) in [
            (
                &[
                    "syscall",
                    "std::sys::pal::unix::futex::futex_wait",
                    "<std::sys::sync::mutex::futex::Mutex>::lock_contended",
                    "f",
                ][..],
                ("mutex", NotRecorded),
            ),
            (&["syscall", "std::sys::unix::locks::futex_mutex::Mutex::lock_contended", "f"], ("mutex", NotRecorded)),
            (
                &["syscall", "std::sys::sync::rwlock::futex::RwLock::write_contended", "f"],
                ("rwlock (write)", NotRecorded),
            ),
            (&["syscall", "std::sys::sync::once::futex::Once::call", "f"], ("once", NotRecorded)),
            (&["syscall", "std::thread::park", "f"], ("thread park", Nobody)),
            (&["[]", "[]", "<std::sys::thread::unix::Thread>::join", "f"], ("join", Holder::GlibcJoin)),
            (
                &["syscall", "parking_lot_core::parking_lot::park", "parking_lot::raw_mutex::RawMutex::lock_slow", "f"],
                ("mutex", NotRecorded),
            ),
            (&["syscall", "parking_lot_core::parking_lot::park", "own::Channel::receive"], ("thread park", Nobody)),
            (&["syscall", "void std::__detail::__platform_wait<int>(int const*, int)", "f()"], ("atomic wait", Nobody)),
            (
                &[
                    "syscall",
                    "void std::__detail::__platform_wait<int>(int const*, int)",
                    "void std::__atomic_wait_address<int, std::latch::wait() const::{lambda()#1}>(int const*, std::latch::wait() const::{lambda()#1})",
                ],
                ("latch", Nobody),
            ),
            (
                &["syscall", "std::__atomic_futex_unsigned_base::_M_futex_wait_until(unsigned int*, unsigned int)"],
                ("future", Nobody),
            ),
        ] {
            assert_eq!(of(frames, 0), expected, "{frames:?}");
        }
    }

    #[test]
    fn what_frames_do_not_tell_stays_unknown() {
        for frames in [
            &[][..],
            &["syscall", "own_lock", "pthread_mutex_lock"],
            &["[x]", "pthread_mutex_lock"],
            &["[]", "[]", "f"],
            &["syscall", "own::Queue<std::latch>::take"],
            &["own::Lock<std::sys::sync::mutex::futex::Mutex>::lock"],
        ] {
            assert_eq!(of(frames, 0), ("", Nobody), "{frames:?}");
        }
        assert_eq!(of(&["[x]"], 6), ("PI lock", Holder::Kernel));
    }

    #[test]
    fn a_join_is_told_by_the_descriptor_of_the_thread_alone() {
        let frames = [Frame { module: LIBC.to_owned(), ..Frame::default() }];
        let memory =
            |is_thread_id| Some(std::sync::Arc::new(crate::model::FutexMemory { is_thread_id, ..Default::default() }));
        let mut wait = FutexWait { memory: memory(true), ..FutexWait::new(8, Some(9), 77) };
        assert_eq!(primitive(&frames, &wait), JOIN);
        wait.memory = memory(false);
        assert_eq!(primitive(&frames, &wait), Primitive::UNKNOWN);
    }
}
