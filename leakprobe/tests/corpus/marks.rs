//! The marks in the sources: `// PARKS: CASE`, `// CREATES: CASE`, `// BESIDE: CASE`.

use std::fs;

use crate::table::{CORPUS, Case};

/// What a line is marked as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The leaked tasks are parked here.
    Parks,
    /// They are created here.
    Creates,
    /// Others are parked here as a consequence.
    Beside,
}

/// A file, as the end of its path, and a line in it.
pub(crate) type Line = (String, u32);

/// One mark.
#[derive(Debug)]
pub(crate) struct Mark {
    kind: Kind,
    pub(crate) language: String,
    pub(crate) case: String,
    line: Line,
}

impl Mark {
    pub(crate) fn is(&self, kind: Kind, language: &str, case: &str) -> bool {
        self.kind == kind && self.language == language && self.case == case
    }
}

/// The lines of a case that are marked as that.
pub(crate) fn lines(kind: Kind, case: &Case) -> Vec<Line> {
    let marks = all().into_iter().filter(|mark| mark.is(kind, &case.language, &case.name));
    // What has no lines on its stacks is marked for people alone.
    marks.filter(|_| case.parks.is_none()).map(|mark| mark.line).collect()
}

/// All of them.
pub(crate) fn all() -> Vec<Mark> {
    let mut marks = Vec::new();
    for folder in ["go", "threads"] {
        for entry in fs::read_dir(CORPUS.source().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let language = match path.extension().unwrap().to_str().unwrap() {
                "py" => "python",
                "rs" => "rust",
                other => other,
            };
            let file = format!("{folder}/{}", path.file_name().unwrap().to_string_lossy());
            for (number, text) in (1..).zip(fs::read_to_string(&path).unwrap().lines()) {
                let words: Vec<&str> = text.split_whitespace().collect();
                for pair in words.windows(2) {
                    let kind = match pair[0] {
                        "PARKS:" => Kind::Parks,
                        "CREATES:" => Kind::Creates,
                        "BESIDE:" => Kind::Beside,
                        _ => continue,
                    };
                    let (language, case) = (language.to_owned(), pair[1].to_owned());
                    marks.push(Mark { kind, language, case, line: (file.clone(), number) });
                }
            }
        }
    }
    marks
}
