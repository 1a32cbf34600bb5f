//! Which frames are the user's own, and which are the libraries and wrappers below and above them.

use super::Frame;

/// Begin of the file name of modules that hold the language's runtime and not the user's code.
const RUNTIME_MODULES: &[&str] = &[
    "libc.so",
    "libc-2.",
    "libc.musl-",
    "libpthread",
    "libstdc++.so",
    "libc++.so",
    "libc++abi.so",
    "libgcc_s",
    "librt.so",
    "librt-2.",
    "ld-linux",
    "ld-musl",
    "ld-2.",
    "ld.so",
    "ld64.so",
    "[vdso]",
    "[vsyscall]",
];

/// Begin of the qualified name of functions that wrap the user's code or wait on its behalf.
const RUNTIME_NAMESPACES: &[&str] = &[
    // Rust, C++ (`std::` is both).
    "std::",
    "core::",
    "alloc::",
    "parking_lot::",
    "parking_lot_core::",
    "lock_api::",
    "__gnu_cxx::",
    // What libstdc++ calls threads through, without a namespace, in a folder of its own beside c++/.
    "__gthread_",
    "__cxxabiv1::",
    // A libc that is linked into the executable has no module of its own.
    "pthread_",
    "__pthread_",
    "__libc_",
    "__futex_",
    "__lll_lock_",
    "__timedwait",
    "__syscall_",
];

/// Functions of a libc that is linked into the executable, and of every executable's start.
const RUNTIME_FUNCTIONS: &[&str] = &[
    "_start",
    "start_thread",
    "start",
    "thread_start",
    "clone",
    "clone3",
    "__clone",
    "__clone3",
    "__clone_internal",
    "syscall",
    "futex_wait",
    "rust_thread_start",
    "__rust_try",
];

/// Parts of the path of source files that come with the compiler. Debug information names inlined functions without their
/// namespace, so the file tells what the name does not.
const RUNTIME_SOURCES: &[&str] = &["/rustc/", "/rustlib/src/rust/library/", "/include/c++/"];

/// First part of the import paths of Go's standard library.
const GO_STANDARD_LIBRARY: &[&str] = &[
    "archive",
    "bufio",
    "builtin",
    "bytes",
    "cmp",
    "compress",
    "container",
    "context",
    "crypto",
    "database",
    "debug",
    "embed",
    "encoding",
    "errors",
    "expvar",
    "flag",
    "fmt",
    "go",
    "hash",
    "html",
    "image",
    "index",
    "internal",
    "io",
    "iter",
    "log",
    "maps",
    "math",
    "mime",
    "net",
    "os",
    "path",
    "plugin",
    "reflect",
    "regexp",
    "runtime",
    "slices",
    "sort",
    "strconv",
    "strings",
    "structs",
    "sync",
    "syscall",
    "testing",
    "text",
    "time",
    "type:",
    "unicode",
    "unique",
    "unsafe",
    "vendor",
    "weak",
];

impl Frame {
    /// Whether it is the user's own: neither libc's nor a well-known wrapper's.
    #[must_use]
    pub fn is_users(&self) -> bool {
        is_users(self)
    }

    /// Whether it is of the kernel or one of its modules.
    #[must_use]
    pub fn is_kernels(&self) -> bool {
        self.module.starts_with("[kernel")
    }
}

fn is_users(frame: &Frame) -> bool {
    if frame.go.is_some() || frame.function.starts_with("runtime.") {
        return !is_of_go_itself(&frame.function);
    }
    let module = frame.module_name();
    if frame.is_kernels() {
        return false;
    }
    if RUNTIME_MODULES.iter().any(|name| module.starts_with(name)) {
        return false;
    }
    let source = frame.file.as_deref().unwrap_or_default();
    if RUNTIME_SOURCES.iter().any(|part| source.contains(part)) {
        return false;
    }
    let name = qualified_name(&frame.function);
    !RUNTIME_FUNCTIONS.contains(&name) && !RUNTIME_NAMESPACES.iter().any(|namespace| name.starts_with(namespace))
}

/// Whether a Go function is of the standard library: its import path has a first part without a dot, and a known one.
fn is_of_go_itself(function: &str) -> bool {
    let first = function.split(['/', '.']).next().unwrap_or_default();
    GO_STANDARD_LIBRARY.contains(&first)
}

/// The function's name without what C++ puts before it (a template function's return type) and Rust around it (the `<` of
/// `<std::sync::Mutex<T> as …>::lock`).
fn qualified_name(function: &str) -> &str {
    let function = function.trim_start_matches('<');
    let mut depth = 0_usize;
    let mut start = 0;
    for (at, c) in function.char_indices() {
        match c {
            // `<A as B>::c`: the type that comes first decides.
            ' ' if function[at..].starts_with(" as ") => break,
            '<' | '[' | '{' => depth += 1,
            '>' | ']' | '}' => depth = depth.saturating_sub(1),
            // Parameters: the name is over. An anonymous namespace is part of it.
            '(' if depth == 0 && !function[at..].starts_with("(anonymous ") => break,
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ' ' if depth == 0 => start = at + 1,
            _ => {}
        }
    }
    let name = &function[start..];
    // `void foo()` has its type left of the name; `foo() const` and `operator new` have nothing there that matters.
    if name.is_empty() { function } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::GoFrame;

    fn frame(function: &str, module: &str) -> Frame {
        Frame { function: function.into(), module: module.into(), ..Frame::default() }
    }

    #[test]
    fn inlined_functions_of_the_standard_library_are_known_by_their_file() {
        let inlined = |file: &str| Frame { file: Some(file.into()), ..frame("recv<u64>", "/usr/bin/server") };
        assert!(!is_users(&inlined("/rustc/5980/library/std/src/sync/mpsc.rs")));
        assert!(!is_users(&inlined("/usr/include/c++/12/bits/std_thread.h")));
        assert!(is_users(&inlined("/home/me/server/src/mpsc.rs")));
    }

    #[test]
    fn libraries_of_the_language_are_not_the_users() {
        for module in [
            "/usr/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/libc-2.31.so",
            "/lib64/libpthread-2.31.so",
            "/lib/ld-musl-x86_64.so.1",
            "/lib64/ld-linux-x86-64.so.2",
            "/usr/lib/libstdc++.so.6.0.30",
            "/usr/lib/libgcc_s.so.1",
            "[vdso]",
        ] {
            assert!(!is_users(&frame("anything", module)), "{module}");
            assert!(!is_users(&frame("", module)), "{module}");
        }
        for module in ["/usr/bin/app", "/usr/lib/libcurl.so.4", "/usr/lib/libpq.so.5", ""] {
            assert!(is_users(&frame("anything", module)), "{module}");
            assert!(is_users(&frame("", module)), "{module}");
        }
    }

    #[test]
    fn go_s_own_packages_are_not_the_users() {
        let go = |function: &str| Frame {
            go: Some(GoFrame { offset: Some(1), hidden: false }),
            ..frame(function, "/usr/bin/server")
        };
        for function in
            ["runtime.gopark", "net/http.(*conn).serve", "sync.(*Mutex).Lock", "internal/poll.(*FD).Read", "time.Sleep"]
        {
            assert!(!is_users(&go(function)), "{function}");
        }
        for function in ["main.main", "github.com/a/net.Dial", "server/handlers.Get", "golang.org/x/net/http2.(*T).f"] {
            assert!(is_users(&go(function)), "{function}");
        }
    }

    #[test]
    fn wrappers_are_not_the_users() {
        for function in [
            "std::thread::Builder::spawn_unchecked_::{{closure}}",
            "std::condition_variable::wait(std::unique_lock<std::mutex>&)",
            "<std::sync::Mutex<T> as core::fmt::Debug>::fmt",
            "<alloc::boxed::Box<F,A> as core::ops::function::FnOnce<Args>>::call_once",
            "core::ops::function::FnOnce::call_once{{vtable.shim}}",
            "parking_lot_core::thread_parker::imp::ThreadParker::park",
            "void std::__invoke_impl<void, void (*)(int), int>(std::__invoke_other, void (*&&)(int), int&&)",
            "std::__invoke_result<void (*)(int), int>::type std::__invoke<void (*)(int), int>(void (*&&)(int), int&&)",
            "pthread_cond_wait",
            "__gthread_mutex_lock(pthread_mutex_t*)",
            "clone3",
            "_start",
            "runtime.futex",
        ] {
            assert!(!is_users(&frame(function, "/usr/bin/app")), "{function}");
        }
        for function in [
            "main",
            "app::std::fake",
            "stdlike::f",
            "void app::wait<std::mutex>(std::mutex&)",
            "app::Queue<std::string>::pop() const",
            "<app::Job as core::ops::function::FnOnce<()>>::call_once",
            "(anonymous namespace)::worker(std::string)",
            "operator new(unsigned long)",
            "startup",
            "ünï::cödé",
            "",
            "<",
            "a ",
        ] {
            assert!(is_users(&frame(function, "/usr/bin/app")), "{function}");
        }
    }
}
