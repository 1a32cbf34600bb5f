//! The pieces that pages are made of. Whatever is not markup is made harmless and escaped here, and nowhere else.

use std::io;

use quick_xml::escape::escape;

use crate::{
    model::Frame,
    report::{frames, shown::Shown, words},
};

/// A picture that is larger is left out: a browser takes minutes for it.
const MAX_PICTURE: usize = 4 << 20;

/// Frames of a stack that are listed; the recording has all.
const MAX_FRAMES: usize = 200;

/// No resource from anywhere; scripts only those of the pictures.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";

/// What stands before a picture in its frame. The picture's script keeps its state in the page's address, which a frame without
/// an address of its own may not change: it would stop there, before it has told what a search has found.
const FRAME: &str = "<style>body{margin:0}svg{display:block;width:100%}</style>\
                     <script>history.replaceState=function(){}</script>";

/// The same for a picture that is as large as what it shows, and has no script.
const NATURAL_FRAME: &str = "<style>body{margin:0}svg{display:block}</style>";

/// A page that is being written.
pub(super) struct Page<'a> {
    out: &'a mut dyn io::Write,
}

/// A cell of a table: its text, or a link within the page, its target being named by the second text.
pub(super) enum Cell {
    Number(String),
    Text(String),
    Function(String),
    Link(String),
}

impl<'a> Page<'a> {
    pub(super) fn begin(out: &'a mut dyn io::Write, title: &str) -> io::Result<Self> {
        let title = text(title);
        writeln!(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">")?;
        writeln!(out, "<meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">")?;
        writeln!(out, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")?;
        writeln!(out, "<title>{title}</title>\n<style>\n{}</style>\n</head>\n<body>", include_str!("style.css"))?;
        writeln!(out, "<h1>{title}</h1>")?;
        Ok(Self { out })
    }

    pub(super) fn end(self) -> io::Result<()> {
        writeln!(self.out, "</body>\n</html>")
    }

    pub(super) fn heading(&mut self, title: &str) -> io::Result<()> {
        writeln!(self.out, "<h2>{}</h2>", text(title))
    }

    /// A sentence of a class of the style sheet; none if it is empty.
    pub(super) fn sentence(&mut self, class: &str, sentence: &str) -> io::Result<()> {
        if sentence.is_empty() {
            return Ok(());
        }
        writeln!(self.out, "<p class=\"{class}\">{}</p>", text(sentence))
    }

    /// A list of clauses; none if there is none.
    pub(super) fn list(&mut self, class: &str, clauses: &[String]) -> io::Result<()> {
        if clauses.is_empty() {
            return Ok(());
        }
        writeln!(self.out, "<ul class=\"{class}\">")?;
        for clause in clauses {
            writeln!(self.out, "<li>{}</li>", text(clause))?;
        }
        writeln!(self.out, "</ul>")
    }

    /// A table. Columns without any text are left out.
    pub(super) fn table(&mut self, titles: &[&str], rows: &[Vec<Cell>]) -> io::Result<()> {
        let is_used = |column: usize| rows.iter().any(|row| row.get(column).is_some_and(|cell| !cell.is_empty()));
        let columns: Vec<usize> = (0..titles.len()).filter(|&column| is_used(column)).collect();
        let is_number = |column: usize| rows.iter().any(|row| matches!(row.get(column), Some(Cell::Number(_))));
        writeln!(self.out, "<div class=\"wide\"><table>\n<thead><tr>")?;
        for &column in &columns {
            let class = if is_number(column) { " class=\"n\"" } else { "" };
            writeln!(self.out, "<th{class}>{}</th>", text(titles.get(column).copied().unwrap_or_default()))?;
        }
        writeln!(self.out, "</tr></thead>\n<tbody>")?;
        for row in rows {
            write!(self.out, "<tr>")?;
            for cell in columns.iter().filter_map(|&column| row.get(column)) {
                match cell {
                    Cell::Number(number) => write!(self.out, "<td class=\"n\">{}</td>", text(number))?,
                    Cell::Text(it) => write!(self.out, "<td>{}</td>", text(it))?,
                    Cell::Function(name) => write!(self.out, "<td class=\"f\">{}</td>", text(name))?,
                    Cell::Link(id) => write!(self.out, "<td><a href=\"#s{0}\"><code>{0}</code></a></td>", text(id))?,
                }
            }
            writeln!(self.out, "</tr>")?;
        }
        writeln!(self.out, "</tbody></table></div>")
    }

    /// Something that is unfolded by a click, which `write` writes; links lead to it by `id`.
    pub(super) fn details(
        &mut self,
        id: &str,
        title: &str,
        open: bool,
        write: impl FnOnce(&mut Page<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let open = if open { " open" } else { "" };
        writeln!(self.out, "<details id=\"s{}\"{open}><summary>{}</summary>\n<div>", text(id), text(title))?;
        write(&mut Page { out: &mut *self.out })?;
        writeln!(self.out, "</div></details>")
    }

    /// A stack, innermost function first, with where each stands.
    pub(super) fn stack(&mut self, title: &str, shown: &Shown<'_>, stack: &[u32], without: &str) -> io::Result<()> {
        self.sentence("dim", title)?;
        self.frames(shown, stack, without)
    }

    /// The frames of a stack; `without` says why it is not whole.
    pub(super) fn frames(&mut self, shown: &Shown<'_>, stack: &[u32], without: &str) -> io::Result<()> {
        let resolved = shown.frames(stack);
        let (cut, beyond) = shown.cut(&resolved);
        let frames = cut.get(..MAX_FRAMES).unwrap_or(cut);
        let more = beyond + (cut.len() - frames.len()) as u64;
        if frames.is_empty() {
            return self.sentence("warn", without);
        }
        writeln!(self.out, "<table>")?;
        for frame in frames {
            let class = if frame.is_users() { "f own" } else { "f" };
            let (name, place) = (text(&frames::label(frame)), text(&place(frame)));
            writeln!(self.out, "<tr><td class=\"{class}\">{name}</td><td class=\"f dim\">{place}</td></tr>")?;
        }
        writeln!(self.out, "</table>")?;
        if more > 0 {
            self.sentence("warn", &format!("{} left out", words::count(more, "outer frame")))?;
        }
        self.sentence("warn", without)
    }

    /// A picture with its script, in a frame of its own: what they call things must not meet the page's.
    pub(super) fn picture(&mut self, name: &str, svg: &[u8]) -> io::Result<()> {
        self.framed(name, svg, FRAME)
    }

    /// A picture without a script that is not stretched to the page, but can be scrolled.
    pub(super) fn natural_picture(&mut self, name: &str, svg: &[u8]) -> io::Result<()> {
        self.framed(name, svg, NATURAL_FRAME)
    }

    fn framed(&mut self, name: &str, svg: &[u8], frame: &str) -> io::Result<()> {
        let Some(svg) = std::str::from_utf8(svg).ok().and_then(|svg| Some(&svg[svg.find("<svg")?..])) else {
            return Ok(());
        };
        if svg.len() > MAX_PICTURE {
            return self.sentence("warn", "The picture is too large for this page; write it with -o FILE.svg.");
        }
        let height = svg.split("height=\"").nth(1).and_then(|rest| rest.split('"').next()?.parse::<f64>().ok());
        let height = height.unwrap_or(600.0).clamp(100.0, 20_000.0) + 20.0;
        let document = format!("<!DOCTYPE html>{frame}{svg}");
        writeln!(
            self.out,
            "<iframe title=\"{}\" style=\"height:{height}px\" srcdoc=\"{}\"></iframe>",
            text(name),
            escape(document.as_str())
        )
    }
}

impl Cell {
    fn is_empty(&self) -> bool {
        match self {
            Self::Number(it) | Self::Text(it) | Self::Function(it) | Self::Link(it) => it.is_empty(),
        }
    }
}

/// `text` as it can stand anywhere in a page.
fn text(text: &str) -> String {
    escape(words::harmless(text)).into_owned()
}

/// Where a frame's function stands: file and line, or module and address.
fn place(frame: &Frame) -> String {
    let place = match (&frame.file, frame.line) {
        (Some(file), Some(line)) => format!("{file}:{line}"),
        (Some(file), None) => file.clone(),
        (None, _) if frame.module.is_empty() => String::new(),
        (None, _) => format!("{}+{}", frame.module_name(), frame.address),
    };
    let inlined = if frame.inlined { " (inlined)" } else { "" };
    let remark = Some(frame.remark()).filter(|remark| !remark.is_empty());
    let remark = remark.map_or_else(String::new, |remark| format!(" ({remark})"));
    format!("{place}{inlined}{remark}")
}
