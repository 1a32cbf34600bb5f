//! What leakprobe saw of a program of the corpus.

use leakprobe::model::{Recording, Role, Task};

use crate::{
    marks::{Kind, Line, lines},
    support::{self, stack_of},
    table::Case,
};

/// How many tasks a program has, without those of a runtime.
#[derive(Debug)]
pub(crate) struct Seen {
    /// All of them.
    pub(crate) all: usize,
    /// Those that are parked where the leaked ones should be.
    pub(crate) parked: usize,
    /// Those that are parked beside.
    pub(crate) beside: usize,
    /// What the others do, for messages.
    #[expect(dead_code, reason = "shown when a test fails")]
    others: Vec<Vec<String>>,
}

impl Seen {
    pub(crate) fn of(recording: &Recording, case: &Case) -> Self {
        let (lines, functions) =
            (lines(Kind::Beside, case), case.beside.iter().map(String::as_str).collect::<Vec<_>>());
        let parked = parked(recording, case);
        let rest = own(recording).filter(|task| !parked.iter().any(|leaked| leaked.id == task.id));
        let (beside, others): (Vec<_>, Vec<_>) = rest.partition(|task| is_at(recording, task, &lines, &functions));
        let names = |task: &Task| support::functions(recording, &task.stack);
        let others: Vec<_> = others.into_iter().map(names).collect();
        Self { all: own(recording).count(), parked: parked.len(), beside: beside.len(), others }
    }
}

fn own(recording: &Recording) -> impl Iterator<Item = &Task> {
    recording.tasks.iter().filter(|task| task.role == Role::Own)
}

/// The tasks that are parked where the leaked ones of this case should be.
pub(crate) fn parked<'a>(recording: &'a Recording, case: &Case) -> Vec<&'a Task> {
    let lines = lines(Kind::Parks, case);
    own(recording).filter(|task| is_at(recording, task, &lines, case.parks.as_deref().as_slice())).collect()
}

/// Whether a task is at one of these lines by its innermost frame of the program's own, or in one of these functions.
fn is_at(recording: &Recording, task: &Task, lines: &[Line], functions: &[&str]) -> bool {
    own_line(recording, &task.stack).is_some_and(|line| lines.contains(&line))
        || stack_of(recording, &task.stack).iter().any(|frame| functions.contains(&&*frame.function))
}

/// The line of the innermost frame that is in the corpus.
pub(crate) fn own_line(recording: &Recording, stack: &[u32]) -> Option<Line> {
    stack_of(recording, stack).into_iter().find_map(|frame| {
        let (_, file) = frame.file.as_deref()?.rsplit_once("tests/corpus/")?;
        Some((file.to_owned(), frame.line?))
    })
}
