//! Stacks through the code that Java and node make as they run, against what the runtimes themselves say of them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use leakprobe::model::{Frame, Recording, StackEnd, Task};
use tempfile::TempDir;

use crate::{
    built::run,
    made::Map,
    support::{Program, need_root, settle, snapshot, stack_of, task_named, wait_for},
};

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/binaries").join(name)
}

/// The frames of a thread from its first one on, which is the innermost; its stack is to be whole.
fn whole<'a>(recording: &'a Recording, task: &Task) -> Vec<&'a Frame> {
    let frames = stack_of(recording, &task.stack);
    assert_eq!(task.stack_end, StackEnd::Complete, "{frames:#?}");
    assert!(frames.iter().any(|frame| frame.function == "start_thread"), "{frames:#?}");
    frames
}

/// What a JVM's `jcmd PID WORDS` says.
fn jcmd(pid: u32, words: &[&str]) -> String {
    let output = Command::new("jcmd").arg(pid.to_string()).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run jcmd: {error}; `cargo xtask test` installs it"));
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// `Parked.java`, running, and the methods that the JVM says its thread is in, innermost first.
struct Java {
    program: Program,
    methods: Vec<String>,
    _folder: TempDir,
}

impl Java {
    fn start(flags: &[&str]) -> Self {
        need_root();
        let folder = tempfile::tempdir().unwrap();
        run(Command::new("javac").arg("-d").arg(folder.path()).arg(source("Parked.java")));
        let mut command = Command::new("java");
        command.args(["-Xmx64m", "-XX:+UseSerialGC"]).args(flags).arg("-cp").arg(folder.path()).arg("Parked");
        let mut program = Program::start(&mut command);
        program.expect("ready");
        let methods = wait_for("the thread to be parked", || parked(&jcmd(program.pid(), &["Thread.print"])));
        Self { program, methods, _folder: folder }
    }

    /// Of these methods of `Parked`, and the one that parks, the code is compiled before they run; none is inlined.
    fn compiled(flags: &[&str]) -> Self {
        let park = "java.util.concurrent.locks.LockSupport::park";
        let only = format!("-XX:CompileCommand=compileonly,{park}");
        let command = ["quiet", "compileonly,Parked::*", "dontinline,Parked::*"];
        let commands: Vec<String> = command.map(|command| format!("-XX:CompileCommand={command}")).into();
        let apart = format!("-XX:CompileCommand=dontinline,{park}");
        let all: Vec<&str> = commands.iter().map(String::as_str).chain([&*only, &*apart, "-Xcomp"]).collect();
        Self::start(&[&all, flags].concat())
    }

    /// The frames of the parked thread that are the JVM's own code, innermost first.
    fn made<'a>(&self, recording: &'a Recording) -> Vec<&'a Frame> {
        let frames = whole(recording, task_named(recording, "compiled"));
        let from = frames.iter().position(|frame| frame.function == "Unsafe_Park").expect("it is parked") + 1;
        let to = frames.iter().position(|frame| frame.function.starts_with("JavaCalls::call_helper"));
        // The last one is the stub that enters Java.
        frames[from..to.expect("it has been called") - 1].to_vec()
    }
}

/// The methods of the thread `compiled` in what `Thread.print` says, once it is parked.
fn parked(text: &str) -> Option<Vec<String>> {
    let thread = text.split("\n\n").find(|thread| thread.trim_start().starts_with("\"compiled\""))?;
    thread.contains("WAITING (parking)").then_some(())?;
    let method = |line: &str| Some(line.trim().strip_prefix("at ")?.split_once('(')?.0.to_owned());
    Some(thread.lines().filter_map(method).collect())
}

/// `void Parked.inner()` without what comes before and after the name.
fn method(frame: &Frame) -> &str {
    let name = frame.function.split('(').next().unwrap_or_default();
    name.rsplit(' ').next().unwrap_or_default()
}

/// By either compiler, and whether or not compiled code keeps frame pointers, which it does only if it is told to.
#[test]
fn compiled_java_methods_are_those_that_the_jvm_says() {
    for (level, pointers) in [("1", "-"), ("4", "-"), ("4", "+")] {
        let java = Java::compiled(&[
            &format!("-XX:TieredStopAtLevel={level}"),
            &format!("-XX:{pointers}PreserveFramePointer"),
        ]);
        let pid = java.program.pid();
        let _map = Map::of(pid);
        jcmd(pid, &["Compiler.perfmap"]);
        let recording = snapshot(pid);
        let made = java.made(&recording);
        assert_eq!(made.len(), java.methods.len(), "{level} {pointers}: {made:#?} {:?}", java.methods);
        for (frame, expected) in made.iter().zip(&java.methods) {
            assert_eq!(frame.module, "[jit]", "{frame:?}");
            let is_compiled = expected.starts_with("Parked.") || expected.ends_with("LockSupport.park");
            if is_compiled {
                assert_eq!((method(frame), &frame.unknown), (expected.as_str(), &None), "{level} {pointers}");
            } else {
                assert_eq!(frame.function, "Interpreter", "{level} {pointers}: {expected}");
                assert!(frame.unknown.as_ref().is_some_and(|why| why.contains("interpreted")), "{frame:?}");
            }
        }
    }
}

#[test]
fn java_methods_without_a_map_are_as_many_and_say_how_to_have_one() {
    let java = Java::start(&[]);
    let pid = java.program.pid();
    let recording = snapshot(pid);
    let made = java.made(&recording);
    assert_eq!(made.len(), java.methods.len(), "{made:#?} {:?}", java.methods);
    for frame in made {
        let why = frame.unknown.as_deref().unwrap_or_default();
        assert!(frame.function.is_empty() && why.contains(&format!("run `jcmd {pid} Compiler.perfmap`")), "{frame:?}");
    }
}

#[test]
fn what_java_waits_for_has_its_own_name() {
    need_root();
    let folder = tempfile::tempdir().unwrap();
    run(Command::new("javac").arg("-d").arg(folder.path()).arg(source("Waits.java")));
    let mut command = Command::new("java");
    command.args(["-Xmx64m", "-XX:+UseSerialGC", "-cp"]).arg(folder.path()).arg("Waits");
    let mut program = Program::start(&mut command);
    program.expect("ready");
    // HotSpot looks again now and then whether the monitor is free.
    wait_for("each thread to be seen in its wait", || {
        let recording = snapshot(program.pid());
        let is_called = |name: &str, wait: &str| {
            let mut tasks = recording.tasks.iter().filter(|task| &*task.name == name).peekable();
            tasks.peek().is_some() && tasks.all(|task| task.wait.as_ref().is_some_and(|is| &*is.reason == wait))
        };
        let expected = [
            ("enter", "monitor enter"),
            ("wait", "Object.wait"),
            ("park", "LockSupport.park"),
            ("sleep", "Thread.sleep"),
        ];
        expected.into_iter().all(|(name, wait)| is_called(name, wait)).then_some(())
    });
}

/// Ruby keeps the stack of its own machine, 1 MB, in a frame of the thread's.
#[test]
fn stacks_of_ruby_are_whole() {
    need_root();
    let mut command = Command::new("ruby");
    command.args(["-e", "3.times { Thread.new { sleep } }; $stdout.sync = true; puts 'ready'; $stdin.read"]);
    let mut program = Program::start(&mut command);
    program.expect("ready");
    settle(program.pid());
    let recording = snapshot(program.pid());
    let others: Vec<&Task> = recording.tasks.iter().filter(|task| task.id != u64::from(program.pid())).collect();
    assert!(others.len() >= 3, "{others:?}");
    for task in others {
        whole(&recording, task);
    }
}

/// The function and the file in `JS:*inner /srv/app.js:10:17`, as V8 writes it: before the first `:` what it is, then how it was
/// compiled.
fn javascript(name: &str) -> Option<(&str, &str)> {
    let (function, place) = name.split_once(':')?.1.trim_start_matches(['~', '*', '^', '+']).split_once(' ')?;
    let file = place.rsplitn(3, ':').nth(2)?;
    Some((function, file))
}

/// Compares the stack of the blocked worker of `parked.js` with what node says; returns how many of its functions have no name.
fn javascript_is_what_node_says(flags: &[&str]) -> usize {
    need_root();
    // It leaves logs where it runs.
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("node");
    let mut program = Program::start(command.args(flags).arg(source("parked.js")).current_dir(folder.path()));
    let _map = Map::of(program.pid());
    program.expect("ready");
    let said = program.passed();
    let said: Vec<(&str, &str)> = said.iter().filter_map(|line| line.strip_prefix("stack ")?.split_once(' ')).collect();
    settle(program.pid());
    let recording = snapshot(program.pid());
    let is_blocked = |task: &&Task| {
        let frames = stack_of(&recording, &task.stack);
        frames.iter().any(|frame| frame.function.contains("Builtin_AtomicsWait"))
    };
    let task = recording.tasks.iter().find(is_blocked).expect("the worker is blocked");
    let frames = whole(&recording, task);
    let interpreter = "Builtins_InterpreterEntryTrampoline";
    let of_javascript = frames.iter().filter(|frame| frame.module == "[jit]" || frame.function == interpreter);
    let made: Vec<&&Frame> = of_javascript.collect();
    assert_eq!(made.len(), said.len(), "{flags:?}: {made:#?} {said:#?}");
    let mut nameless = 0;
    for (frame, (function, file)) in made.into_iter().zip(said) {
        if frame.function == interpreter {
            let why = frame.unknown.as_deref().unwrap_or_default();
            assert!(why.contains("--interpreted-frames-native-stack"), "{frame:?}");
            nameless += 1;
            continue;
        }
        let (its, its_file) = javascript(&frame.function).unwrap_or_else(|| panic!("no JavaScript: {frame:?}"));
        assert_eq!((its_file, &frame.unknown), (file, &None), "{flags:?}: {function}");
        // Where a function has no name of its own, node calls it by what it is a property of.
        assert!(its == function || its.is_empty() || file.starts_with("node:"), "{flags:?}: {its} is not {function}");
        nameless += usize::from(file.ends_with("parked.js") && its.is_empty() && !function.is_empty());
    }
    nameless
}

#[test]
fn javascript_functions_are_those_that_node_says() {
    // Those that V8 has ready made are run by the interpreter's own code.
    for flags in [
        &["--interpreted-frames-native-stack"][..],
        &["--always-sparkplug"],
        &["--always-turbofan", "--no-turbo-inlining"],
    ] {
        let nameless = javascript_is_what_node_says(&[&["--perf-basic-prof"], flags].concat());
        assert!(nameless <= 3, "{flags:?}: {nameless} functions have no name");
    }
}

#[test]
fn interpreted_javascript_without_a_name_says_why() {
    assert!(javascript_is_what_node_says(&["--perf-basic-prof"]) >= 3);
    assert!(javascript_is_what_node_says(&[]) >= 3);
}
