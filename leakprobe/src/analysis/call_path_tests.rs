use super::*;

const EXE: &str = "/srv/app";

fn frame(module: &str, function: &str) -> Frame {
    Frame { module: module.into(), function: function.into(), address: "0x10".into(), ..Frame::default() }
}

fn anon(address: u64) -> Frame {
    Frame {
        module: "[anon]".into(),
        address: format!("{address:#x}"),
        unknown: Some("JIT code".into()),
        ..Frame::default()
    }
}

/// The path of a stack with these frames, innermost first, as text.
fn path_of(frames: &[Frame], exe: &str) -> Vec<String> {
    let paths = CallPaths::new(frames, exe);
    let stack: Vec<u32> = (0..u32::try_from(frames.len()).unwrap()).collect();
    paths.functions(&stack).map(|function| format!("{}!{}", function.module, function.name)).collect()
}

/// Of functions of the program; `std::` and the like are libraries'.
fn of(names: &str) -> String {
    let frames: Vec<Frame> = names.split(' ').map(|name| frame(EXE, name)).collect();
    let path = path_of(&frames, EXE);
    path.iter().map(|function| function.strip_prefix("[executable]!").unwrap()).collect::<Vec<_>>().join(" ")
}

/// A small generator of numbers that look random.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

#[test]
fn recursion_is_its_outermost_call() {
    for (stack, path) in [
        ("leak main", "leak main"),
        ("leak walk walk walk main", "leak walk main"),
        ("leak b a b a main", "leak b a main"),
        // Which way a recursion went does not matter, nor how it began.
        ("leak value array value object value main", "leak value main"),
        ("leak object value array value main", "leak object value main"),
        ("walk walk", "walk"),
    ] {
        assert_eq!(of(stack), path, "{stack}");
    }
}

#[test]
fn wrappers_of_libraries_close_no_loop_around_the_programs_own_functions() {
    assert_eq!(of("leak std::call b std::call main"), "leak std::call b std::call main");
    assert_ne!(of("leak std::call b std::call main"), of("leak std::call c std::call main"));
    assert_eq!(of("leak std::call std::try std::call main"), "leak std::call main");
    assert_eq!(of("leak visit std::walk visit std::walk visit std::walk main"), "leak visit std::walk main");
}

#[test]
fn depth_never_matters_and_functions_do() {
    let mut numbers = Numbers(1);
    let names = ["a", "b", "c", "std::x", "std::y"];
    for _ in 0..2_000 {
        // The outermost call of the recursion, what goes on within it, and the call that it ends in.
        let inside: Vec<&str> = (0..numbers.below(30)).map(|_| names[numbers.below(names.len())]).collect();
        let recursion = [&["leak", "recurse"], &inside[..], &["recurse", "main"]].concat().join(" ");
        assert_eq!(of(&recursion), "leak recurse main", "{recursion}");
        let path = of(&inside.join(" "));
        assert_eq!(of(&path), path, "what has no loops is left alone");
        for own in ["a", "b", "c"] {
            assert!(path.split(' ').filter(|&function| function == own).count() <= 1, "{path}");
        }
        // The innermost function decides what waits.
        if let Some(first) = inside.first() {
            assert_eq!(path.split(' ').next(), Some(*first));
        }
        let other = inside.join(" ").replace('a', "other");
        assert_eq!(of(&other) == path, !path.contains('a') && !of(&other).contains("other"), "{path}");
    }
}

#[test]
fn the_executables_file_name_does_not_matter() {
    let names =
        ["/srv/app", "/srv/app-1.2", "/tmp/go-build77/b001/exe/main", "/srv/app (deleted)", "/memfd:x (deleted)"];
    for name in names {
        let frames = [frame(name, "leak"), frame(&format!("{name} (unloaded)"), ""), frame("/lib/libfoo.so", "start")];
        assert_eq!(path_of(&frames, name), ["[executable]!leak", "[executable]!0x10", "libfoo!start"], "{name}");
    }
    assert_eq!(path_of(&[frame("/srv/app (deleted)", "leak")], EXE), ["[executable]!leak"], "deleted while watched");
    assert_eq!(path_of(&[frame("/srv/app", "leak")], "/srv/app (deleted)"), ["[executable]!leak"]);
    assert_eq!(path_of(&[frame("/srv/app", "leak")], ""), ["app!leak"], "not known which one it is");
    assert_ne!(path_of(&[frame("/srv/plugin.so", "leak")], EXE), path_of(&[frame(EXE, "leak")], EXE));
}

#[test]
fn libraries_have_no_versions() {
    for (file, name) in [
        ("libc.so.6", "libc"),
        ("libc-2.31.so", "libc"),
        ("libpython3.11.so.1.0", "libpython3"),
        ("libgfortran-040039e1.so.5.0.0", "libgfortran"),
        ("libnetty_transport_native_epoll_x86_641234567890123.so", "libnetty-transport-native-epoll-x86"),
        ("libstd-2f5bd2d32a3ee7a5.so", "libstd"),
        ("snappy-1.1.8-d2b6a6d0-1f9e-4d1c-9d7e-0f8a2d1c3b4a-libsnappyjava.so", "snappy-libsnappyjava"),
        ("_queue.cpython-311-x86_64-linux-gnu.so", "queue-cpython-x86-linux-gnu"),
        ("libx264.so.164", "libx264"),
        ("ld-linux-x86-64.so.2", "ld-linux-x86"),
        ("addon.node", "addon-node"),
        ("libsocket.some", "libsocket-some"),
        ("1.2.so", "1.2"),
        ("", ""),
    ] {
        assert_eq!(library(file), name, "{file}");
    }
}

#[test]
fn what_is_compiled_meanwhile_does_not_matter() {
    let native = |name: &str| frame("/usr/lib/jvm/libjvm.so", name);
    let java = |entry: &str, made: &[Frame]| {
        let frames = [
            &[native("ObjectMonitor::enter(JavaThread*)"), native(entry)][..],
            made,
            &[native("JavaCalls::call_virtual(JavaValue*)"), native("thread_native_entry(Thread*)")],
        ];
        path_of(&frames.concat(), "/usr/bin/java")
    };
    let interpreted =
        java("InterpreterRuntime::monitorenter(JavaThread*, BasicObjectLock*)", &[anon(1), anon(2), anon(2)]);
    let expected = [
        "ObjectMonitor::enter(JavaThread*)",
        "",
        "JavaCalls::call_virtual(JavaValue*)",
        "thread_native_entry(Thread*)",
    ];
    let expected = expected.map(|name| if name.is_empty() { "[made]!".to_owned() } else { format!("libjvm!{name}") });
    assert_eq!(interpreted, expected);
    let interpreter = Frame { unknown: Some("interpreted".into()), ..frame("[jit]", "Interpreter") };
    let mut numbers = Numbers(2);
    for _ in 0..500 {
        let entries =
            ["Runtime1::monitorenter(JavaThread*, oopDesc*)", "SharedRuntime::complete_monitor_locking_C(oopDesc*)"];
        let made: Vec<Frame> = (0..1 + numbers.below(9))
            .flat_map(|n| match numbers.below(4) {
                0 => vec![interpreter.clone()],
                // By reflection, which is native at first.
                1 => vec![
                    anon(n as u64),
                    frame("/usr/lib/jvm/libjava.so", "invoke0"),
                    native("JVM_InvokeMethod"),
                    anon(9),
                ],
                _ => vec![anon(numbers.below(1_000) as u64)],
            })
            .collect();
        let innermost = anon(numbers.below(100) as u64);
        assert_eq!(java(entries[numbers.below(2)], &[&[innermost], &made[..]].concat()), expected);
    }
    let native_library = [anon(1), frame("/app/libnative.so", "callback"), native("jni_CallVoidMethod"), anon(2)];
    assert!(java("Runtime1::x", &native_library).contains(&"libnative!callback".to_owned()), "is the program's own");
}

#[test]
fn with_names_made_code_is_told_apart_but_not_by_tier() {
    let jit = |name: &str| path_of(&[frame("[jit]", name)], EXE);
    for same in [
        &["LazyCompile:~load /srv/app.js:3:9", "LazyCompile:*load /srv/app.js:3:9", "JS:^load /srv/app.js:3:9"][..],
        &[
            "void [App] App::Main(int[])[Tier0]",
            "void [App] App::Main(int[])[OptimizedTier1]",
            "void [App] App::Main(int[])",
        ],
    ] {
        assert!(same.iter().all(|name| jit(name) == jit(same[0])), "{same:?}");
    }
    assert_ne!(jit("JS:~load /srv/app.js:3:9"), jit("JS:~load /srv/app.js:4:9"));
    assert_ne!(jit("py::debit:/srv/a.py"), jit("py::credit:/srv/a.py"));
    assert_eq!(jit("long[] com.example.Queue.take()"), ["[jit]!long[] com.example.Queue.take()"]);
    assert_eq!(jit("StubRoutines (1)"), jit("RuntimeStub - resolve_virtual"));
}

#[test]
fn the_functions_of_interpreters_close_no_loop_around_names() {
    let eval = || frame(EXE, "_PyEval_EvalFrameDefault");
    let call = || frame(EXE, "PyObject_Vectorcall");
    let py = |name: &str| frame("[jit]", name);
    let stack =
        |inner: &str, outer: &str| path_of(&[call(), eval(), py(inner), call(), eval(), py(outer), call()], EXE);
    assert_ne!(stack("py::a", "py::b"), stack("py::c", "py::b"));
    assert_ne!(stack("py::a", "py::b"), stack("py::a", "py::c"));
    let nameless = |depth: usize| {
        let frames = (0..depth).flat_map(|_| [eval(), call()]).chain([frame(EXE, "thread_run")]);
        path_of(&frames.collect::<Vec<_>>(), EXE)
    };
    assert_eq!(nameless(1), nameless(7));
}

#[test]
fn places_that_are_not_there_are_functions_of_their_own() {
    let paths = CallPaths::new(&[], EXE);
    assert_eq!(paths.path(&[7, 7, 8]), [7, 8]);
    assert_eq!(paths.functions(&[7]).count(), 0);
}
