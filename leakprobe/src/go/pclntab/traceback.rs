//! What Go's own tracebacks show of a stack, and under which names: the rules of `runtime.Stack`, of the `goroutine`
//! profile with `debug=2`, and of crashes.
//!
//! Sources: `showfuncinfo`, `isExportedRuntime` and `printFuncName` in
//! [Go 1.19](https://github.com/golang/go/blob/go1.19.8/src/runtime/traceback.go),
//! [1.22](https://github.com/golang/go/blob/go1.22.10/src/runtime/traceback.go),
//! [1.23](https://github.com/golang/go/blob/go1.23.9/src/runtime/traceback.go),
//! [1.25](https://github.com/golang/go/blob/go1.25.5/src/runtime/traceback.go) and
//! [1.27](https://github.com/golang/go/blob/go1.27.0/src/runtime/traceback.go).

use std::borrow::Cow;

use super::{FuncId, Table};

/// The first minor version of Go whose tracebacks show exported methods of the runtime only if their type is exported
/// too. Before, it was the first letter behind `runtime.` that counted.
const METHODS_JUDGED: u32 = 23;

/// The first minor version of Go with generic methods, whose names may have two lists of type arguments.
const GENERIC_METHODS: u32 = 27;

/// The rules of one program.
#[derive(Clone, Debug)]
pub struct Traceback {
    /// Minor version of Go.
    minor: u32,
    wrapper: Option<FuncId>,
    /// What shows that a wrapper was called for its own sake: it panicked.
    panics: [Option<FuncId>; 3],
    /// Functions of the runtime that are always shown.
    always: [Option<FuncId>; 2],
}

impl Traceback {
    /// The rules of a program made by Go 1.`minor`.
    ///
    /// The ids of special functions are those that the table itself gives to functions of these names, because they
    /// differ between versions and future ones are unknown. `table` is that of the module that has the runtime. All its
    /// functions are looked at once: some 20 ns each.
    #[must_use]
    pub fn new(table: &Table, minor: u32) -> Self {
        let mut rules = Self { minor, wrapper: None, panics: [None; 3], always: [None; 2] };
        for function in table.functions().filter(|function| function.id() != FuncId::NORMAL) {
            let slot = match &*function.name() {
                "runtime.gopanic" => &mut rules.panics[0],
                "runtime.sigpanic" => &mut rules.panics[1],
                "runtime.panicwrap" => &mut rules.panics[2],
                // Since Go 1.25; before, the finalizers' function is `runtime.runfinq` and is hidden.
                "runtime.runFinalizers" => &mut rules.always[0],
                "runtime.runCleanups" => &mut rules.always[1],
                // No function has the id of wrappers to itself, but it is the one after this in all versions.
                "runtime.systemstack_switch" => {
                    rules.wrapper = function.id().0.checked_add(1).map(FuncId);
                    continue;
                }
                _ => continue,
            };
            *slot = Some(function.id());
        }
        rules
    }

    /// Whether a frame is shown. `first` says that no frame of this stack has been shown yet, `callee` is the id of the
    /// frame before it, shown or not (normal for the innermost one).
    ///
    /// If nothing of a stack is shown, the runtime shows all of it. The function that created a goroutine is shown by the
    /// same rule, as not `first` and with a normal `callee`.
    #[must_use]
    pub fn shows(&self, name: &str, id: FuncId, first: bool, callee: FuncId) -> bool {
        if self.elides(id, callee) {
            return false;
        }
        if self.always.contains(&Some(id)) {
            return true;
        }
        // The boundary between ordinary code and what a panic runs.
        if name == "runtime.gopanic" && !first {
            return true;
        }
        name.contains('.') && name.strip_prefix("runtime.").is_none_or(|name| self.is_exported(name))
    }

    /// Whether the frame is one that the compiler made to call the next one, which neither tracebacks nor
    /// `runtime.Callers` show, unless it is the wrapper itself that panicked.
    #[must_use]
    pub fn elides(&self, id: FuncId, callee: FuncId) -> bool {
        self.wrapper == Some(id) && !self.panics.contains(&Some(callee))
    }

    /// The name as tracebacks show it: type arguments are `[...]`, and `runtime.gopanic` is `panic`.
    #[must_use]
    pub fn printed<'n>(&self, name: &'n str) -> Cow<'n, str> {
        if name == "runtime.gopanic" {
            return Cow::Borrowed("panic");
        }
        let Some((start, end)) = name.find('[').zip(name.rfind(']')).filter(|(start, end)| start < end) else {
            return Cow::Borrowed(name);
        };
        let (head, list, tail) = (&name[..start], &name[start + 1..end], &name[end + 1..]);
        if self.minor < GENERIC_METHODS || !list.contains('[') {
            return Cow::Owned(format!("{head}[...]{tail}"));
        }
        match Lists::within(list) {
            Lists::One => Cow::Owned(format!("{head}[...]{tail}")),
            Lists::Two { between } => Cow::Owned(format!("{head}[...]{between}[...]{tail}")),
            Lists::Unbalanced => Cow::Borrowed(name),
        }
    }

    /// Whether what follows `runtime.` is a name that programs can use.
    fn is_exported(&self, name: &str) -> bool {
        let upper = |name: &str| name.starts_with(|first: char| first.is_ascii_uppercase());
        if self.minor < METHODS_JUDGED {
            return upper(name);
        }
        let Some((receiver, method)) = name.rsplit_once('.') else { return upper(name) };
        let receiver = receiver.strip_prefix("(*").and_then(|rest| rest.strip_suffix(')')).unwrap_or(receiver);
        upper(method) && (receiver.is_empty() || upper(receiver))
    }
}

/// What stands between the first `[` and the last `]` of a name.
enum Lists<'n> {
    /// A list of type arguments that has brackets in it.
    One,
    /// The rest of one list, something, and the beginning of another list.
    Two {
        between: &'n str,
    },
    Unbalanced,
}

impl<'n> Lists<'n> {
    fn within(inside: &'n str) -> Self {
        let mut depth = 1u32;
        let mut first_end = None;
        for (at, byte) in inside.bytes().enumerate() {
            match (byte, first_end) {
                (b'[', Some(end)) => {
                    return inside.get(end..at).map_or(Self::Unbalanced, |between| Self::Two { between });
                }
                (b']', Some(_)) => return Self::Unbalanced,
                (b'[', None) => depth += 1,
                (b']', None) => {
                    depth -= 1;
                    first_end = (depth == 0).then_some(at + 1);
                }
                _ => {}
            }
        }
        if depth == 1 { Self::One } else { Self::Unbalanced }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRAPPER: FuncId = FuncId(23);
    const GOPANIC: FuncId = FuncId(10);
    const CLEANUPS: FuncId = FuncId(19);

    fn rules(minor: u32) -> Traceback {
        Traceback {
            minor,
            wrapper: Some(WRAPPER),
            panics: [Some(GOPANIC), None, None],
            always: [None, (minor >= 25).then_some(CLEANUPS)],
        }
    }

    #[test]
    fn the_inside_of_the_runtime_is_hidden() {
        let shows = |minor, name| rules(minor).shows(name, FuncId::NORMAL, false, FuncId::NORMAL);
        for minor in [19, 22, 23, 27] {
            for name in ["main.main", "runtime/debug.Stack", "runtime.Goexit", "internal/runtime/maps.f", "runtimes.f"]
            {
                assert!(shows(minor, name), "1.{minor} {name}");
            }
            for name in ["runtime.gopark", "runtime.(*mheap).alloc", "runtime.", "_cgo_start", "?", ""] {
                assert!(!shows(minor, name), "1.{minor} {name}");
            }
        }
        // Methods and closures are judged by their own name and that of their type since Go 1.23.
        for (name, before, since) in [
            ("runtime.(*Func).Name", false, true),
            ("runtime.(*Frames).next", false, false),
            ("runtime.Frame.next", true, false),
            ("runtime.Goexit.func1", true, false),
            ("runtime.errorString.Error", false, false),
            ("runtime.(*errorString).Error", false, false),
        ] {
            assert_eq!([shows(22, name), shows(23, name)], [before, since], "{name}");
        }
    }

    #[test]
    fn a_panic_is_shown_unless_it_is_innermost() {
        for minor in [19, 27] {
            assert!(rules(minor).shows("runtime.gopanic", GOPANIC, false, FuncId::NORMAL));
            assert!(!rules(minor).shows("runtime.gopanic", GOPANIC, true, FuncId::NORMAL));
        }
    }

    #[test]
    fn a_wrapper_is_shown_only_if_it_panicked() {
        assert!(!rules(27).shows("main.(*T).Close", WRAPPER, true, FuncId::NORMAL));
        assert!(rules(27).shows("main.(*T).Close", WRAPPER, true, GOPANIC));
    }

    #[test]
    fn cleanups_are_shown_by_versions_that_have_them() {
        let shows = |minor| rules(minor).shows("runtime.runCleanups", CLEANUPS, true, FuncId::NORMAL);
        assert_eq!([shows(24), shows(25)], [false, true]);
    }

    #[test]
    fn ids_are_those_of_the_version() {
        for fixture in super::super::tests::fixtures() {
            let rules = Traceback::new(&fixture.table(), fixture.minor);
            let (wrapper, gopanic) = match fixture.minor {
                ..22 => (21, 9),
                22..25 => (22, 10),
                _ => (23, 10),
            };
            assert_eq!(rules.wrapper, Some(FuncId(wrapper)));
            assert_eq!(rules.panics[0], Some(FuncId(gopanic)));
            assert_eq!(rules.always, if fixture.minor < 25 { [None; 2] } else { [Some(FuncId(18)), Some(CLEANUPS)] });
            let most = fixture.table().functions().map(|function| function.id()).max();
            assert_eq!(most, Some(FuncId(wrapper)), "wrappers have the highest id");
        }
    }

    #[test]
    fn type_arguments_are_left_out_of_names() {
        for (name, before, since) in [
            ("main.f", "main.f", "main.f"),
            ("runtime.gopanic", "panic", "panic"),
            ("main.f[...]", "main.f[...]", "main.f[...]"),
            ("main.f[go.shape.int].func1", "main.f[...].func1", "main.f[...].func1"),
            ("main.(*B[go.shape.[]int]).m", "main.(*B[...]).m", "main.(*B[...]).m"),
            ("main.B[a].m[b].func1", "main.B[...].func1", "main.B[...].m[...].func1"),
            ("main.B[a[]].m[b[[]]]", "main.B[...]", "main.B[...].m[...]"),
            ("main.B[a][b]", "main.B[...]", "main.B[...][...]"),
            ("main.B[a].m[b].n[c]", "main.B[...]", "main.B[...].m[...]"),
            ("main.B[a]]m[b]", "main.B[...]", "main.B[a]]m[b]"),
            ("main.B[a[b]", "main.B[...]", "main.B[a[b]"),
            ("main.]b[", "main.]b[", "main.]b["),
        ] {
            assert_eq!([rules(26).printed(name), rules(27).printed(name)], [before, since], "{name}");
        }
    }
}
