//! Frames of runtimes that do not tell which function runs: of interpreters, whose own functions have names, and of code that .NET
//! has compiled ahead.

use crate::model::Frame;

/// A module, by how its file name begins; the interpreter's function in it; and why it does not tell what it runs.
const INTERPRETERS: [(&str, &str, &str); 3] = [
    // <https://github.com/openjdk/jdk/blob/jdk-17%2B35/src/hotspot/share/interpreter/abstractInterpreter.cpp#L52>
    ("[jit]", "Interpreter", "a Java method that is interpreted: perf maps name compiled ones alone"),
    // <https://github.com/nodejs/node/blob/v20.20.0/deps/v8/src/builtins/builtins-definitions.h#L171>
    ("node", NODE, IN_NODE),
    ("libnode.so", NODE, IN_NODE),
];
const NODE: &str = "Builtins_InterpreterEntryTrampoline";
const IN_NODE: &str = "a JavaScript function that is interpreted: \
    start node with --perf-basic-prof --interpreted-frames-native-stack to have its name";
/// <https://github.com/dotnet/runtime/blob/v8.0.0/docs/design/coreclr/botr/readytorun-overview.md>
const COMPILED_AHEAD: &str =
    "compiled ahead, and perf maps name what is compiled at run time; start .NET with DOTNET_ReadyToRun=0";

/// Has the frame say why it does not tell what runs, if it is one of these.
pub(super) fn explain(frame: &mut Frame) {
    if frame.function.is_empty() && frame.module.ends_with(".dll") {
        frame.unknown = Some(COMPILED_AHEAD.to_owned());
        return;
    }
    let module = frame.module_name();
    let is_of = |(file, function, _): &&(&str, &str, &str)| *function == frame.function && module.starts_with(file);
    if let Some((_, _, why)) = INTERPRETERS.iter().find(is_of) {
        frame.unknown = Some((*why).to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_runtimes_say_why_they_do_not_tell_what_runs() {
        let explained = |module: &str, function: &str| {
            let mut frame = Frame { module: module.to_owned(), function: function.to_owned(), ..Frame::default() };
            explain(&mut frame);
            frame.unknown.unwrap_or_default()
        };
        assert!(explained("[jit]", "Interpreter").contains("Java"));
        for module in ["/usr/bin/node", "/usr/lib/libnode.so.108"] {
            assert!(explained(module, NODE).contains("--interpreted-frames-native-stack"));
        }
        assert!(explained("/srv/System.Private.CoreLib.dll", "").contains("DOTNET_ReadyToRun=0"));
        for (module, function) in [("[jit]", "Interpreters"), ("/srv/app", "Interpreter"), ("/srv/app", NODE), ("", "")]
        {
            assert_eq!(explained(module, function), "");
        }
    }
}
