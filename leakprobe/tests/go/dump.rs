//! Go's text of all goroutines, as `runtime/pprof` writes it with `debug=2` and as a program that panics prints it.
//!
//! <https://github.com/golang/go/blob/go1.27.0/src/runtime/traceback.go>, `goroutineheader` and below.

/// One goroutine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Goroutine {
    pub(crate) id: u64,
    /// What it does or waits for, e.g. `chan receive`, `running`.
    pub(crate) status: String,
    /// How long it has waited, if that is a minute or more.
    pub(crate) minutes: Option<u64>,
    /// Whether it is locked to its thread.
    pub(crate) locked: bool,
    /// The number of its bubble of testing/synctest.
    pub(crate) bubble: Option<u64>,
    /// Its labels as they are printed, with their braces; since Go 1.27.
    pub(crate) labels: Option<String>,
    /// Where it is, innermost first.
    pub(crate) stack: Vec<Line>,
    /// Who created it. The first goroutine was created by nobody.
    pub(crate) created_by: Option<Creator>,
}

/// One entry of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A call.
    Frame(Frame),
    /// A remark in place of frames, e.g. `...51 frames elided...`.
    Remark(String),
}

/// A call. Its arguments are left out: they are guesses from registers and stack, which nobody has from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) function: String,
    pub(crate) place: Place,
}

/// A place in the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: String,
    pub(crate) line: u64,
    /// From the function's entry; inlined calls have none.
    pub(crate) offset: Option<u64>,
}

/// Where a goroutine was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Creator {
    pub(crate) function: String,
    pub(crate) place: Place,
    /// The goroutine that created it; since Go 1.21.
    pub(crate) parent: Option<u64>,
}

impl Goroutine {
    /// Its functions, innermost first.
    pub(crate) fn functions(&self) -> Vec<&str> {
        let frames = self.stack.iter().filter_map(|line| match line {
            Line::Frame(frame) => Some(frame.function.as_str()),
            Line::Remark(_) => None,
        });
        frames.collect()
    }

    /// Whether it was created by this function.
    pub(crate) fn is_created_by(&self, function: &str) -> bool {
        self.created_by.as_ref().is_some_and(|creator| creator.function == function)
    }
}

/// Every goroutine of a text, in its order. Says which line is not as it should be.
pub(crate) fn parse(text: &str) -> Result<Vec<Goroutine>, String> {
    text.split("\n\n").filter(|record| !record.trim().is_empty()).map(record).collect()
}

fn record(text: &str) -> Result<Goroutine, String> {
    let mut lines = text.trim_matches('\n').lines();
    let mut goroutine = header(lines.next().unwrap_or_default())?;
    while let Some(line) = lines.next() {
        if let Some(creator) = line.strip_prefix("created by ") {
            goroutine.created_by = Some(created_by(creator, lines.next())?);
        } else if goroutine.created_by.is_some() {
            return Err(format!("a line after the creator: {line:?}"));
        } else if line.starts_with("...") || line.starts_with('\t') {
            goroutine.stack.push(Line::Remark(line.trim().to_owned()));
        } else {
            let call = line.strip_suffix(')').and_then(|line| line.rsplit_once('('));
            let (function, _) = call.ok_or_else(|| format!("no call: {line:?}"))?;
            let frame = Frame { function: function.to_owned(), place: place(lines.next())? };
            goroutine.stack.push(Line::Frame(frame));
        }
    }
    Ok(goroutine)
}

/// E.g. `goroutine 7 [chan receive, 2 minutes, locked to thread] {key: value}:`
fn header(line: &str) -> Result<Goroutine, String> {
    let wrong = || format!("no head of a goroutine: {line:?}");
    let rest = line.strip_prefix("goroutine ").ok_or_else(wrong)?.strip_suffix(':').ok_or_else(wrong)?;
    let (id, rest) = rest.split_once(" [").ok_or_else(wrong)?;
    let (state, labels) = rest.split_once(']').ok_or_else(wrong)?;
    let mut parts = state.split(", ");
    let mut goroutine = Goroutine {
        id: id.parse().map_err(|_| wrong())?,
        status: parts.next().unwrap_or_default().to_owned(),
        minutes: None,
        locked: false,
        bubble: None,
        labels: (!labels.is_empty()).then(|| labels.trim_start().to_owned()),
        stack: Vec::new(),
        created_by: None,
    };
    for part in parts {
        if part == "locked to thread" {
            goroutine.locked = true;
        } else if let Some(bubble) = part.strip_prefix("synctest bubble ") {
            goroutine.bubble = Some(bubble.parse().map_err(|_| wrong())?);
        } else {
            let minutes = part.strip_suffix(" minutes").and_then(|minutes| minutes.parse().ok());
            goroutine.minutes = Some(minutes.ok_or_else(wrong)?);
        }
    }
    Ok(goroutine)
}

fn created_by(creator: &str, next: Option<&str>) -> Result<Creator, String> {
    let (function, parent) = match creator.split_once(" in goroutine ") {
        Some((function, id)) => (function, Some(id.parse().map_err(|_| format!("no goroutine's id: {creator:?}"))?)),
        None => (creator, None),
    };
    Ok(Creator { function: function.to_owned(), place: place(next)?, parent })
}

/// E.g. `\t/src/main.go:12 +0x1d`
fn place(line: Option<&str>) -> Result<Place, String> {
    let wrong = || format!("no place in the code: {line:?}");
    let place = line.and_then(|line| line.strip_prefix('\t')).ok_or_else(wrong)?;
    let (place, offset) = match place.split_once(" +0x") {
        Some((place, offset)) => (place, Some(u64::from_str_radix(offset, 16).map_err(|_| wrong())?)),
        None => (place, None),
    };
    let (file, line) = place.rsplit_once(':').ok_or_else(wrong)?;
    Ok(Place { file: file.to_owned(), line: line.parse().map_err(|_| wrong())?, offset })
}

#[test]
fn dumps_of_several_versions_are_read() {
    let old = parse(include_str!("fixtures/go1.19.txt")).unwrap();
    let middle = parse(include_str!("fixtures/go1.23.txt")).unwrap();
    let new = parse(include_str!("fixtures/go1.27.txt")).unwrap();
    for dump in [&old, &middle, &new] {
        assert_eq!(dump[0].status, "running");
        let find = |function: &str| dump.iter().find(|goroutine| goroutine.functions().contains(&function)).unwrap();
        let cgo = find("main.inCLocked");
        assert_eq!((cgo.status.as_str(), cgo.locked), ("syscall", true));
        assert_eq!(cgo.functions(), ["main._Cfunc_block", "main.inCLocked"]);
        assert!(
            find("leakprobe.test/programs/kinds.(*locks).readLock")
                .is_created_by("leakprobe.test/programs/kinds.startLocks")
        );
        let inlined = find("leakprobe.test/programs/kinds.inlinedInner");
        let Line::Frame(frame) = &inlined.stack[0] else { panic!("{inlined:?}") };
        assert_eq!((frame.place.file.as_str(), frame.place.offset), ("leakprobe.test/programs/kinds/stacks.go", None));
        assert!(find("main.main").created_by.is_none());
    }
    let parent = |dump: &[Goroutine]| {
        dump.iter()
            .find(|goroutine| goroutine.functions().contains(&"main.inCLocked"))
            .unwrap()
            .created_by
            .clone()
            .unwrap()
            .parent
    };
    assert_eq!((parent(&old), parent(&middle), parent(&new)), (None, Some(1), Some(1)));
    let labelled = new.iter().find(|goroutine| goroutine.labels.is_some()).unwrap();
    assert_eq!(labelled.labels.as_deref(), Some(r#"{service: search, shard: 7, step: "first \"quoted\""}"#));
    let bubble = new.iter().find(|goroutine| goroutine.bubble == Some(1)).unwrap();
    assert_eq!(bubble.status, "synctest.Run (durable)");
    let deep =
        new.iter().find(|goroutine| goroutine.stack.contains(&Line::Remark("...1401 frames elided...".to_owned())));
    assert_eq!(deep.unwrap().functions().len(), 100);
}

#[test]
fn what_is_no_dump_is_refused() {
    for wrong in [
        "goroutine x [running]:\nmain.main()\n\t/a.go:1",
        "goroutine 1 [running]\nmain.main()\n\t/a.go:1",
        "goroutine 1 [running, soon]:\nmain.main()\n\t/a.go:1",
        "goroutine 1 [running]:\nmain.main()",
        "goroutine 1 [running]:\nmain.main\n\t/a.go:1",
        "goroutine 1 [running]:\nmain.main()\n\t/a.go:x",
        "goroutine 1 [running]:\nmain.main()\n\t/a.go:1 +0xg",
        "goroutine 1 [running]:\ncreated by main.main in goroutine one\n\t/a.go:1",
        "goroutine 1 [running]:\ncreated by main.main\n\t/a.go:1\nmain.main()\n\t/a.go:1",
    ] {
        assert!(parse(wrong).is_err(), "{wrong:?}");
    }
}
