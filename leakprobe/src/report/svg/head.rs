//! What stands above the frames: title, subtitle, legend, and what was not seen.
//!
//! inferno leaves no room between subtitle and frames, so that the picture it drew is made higher and everything below the
//! subtitle moved down. Its script never looks at what is added, and places what it moves itself only sideways.

use std::io;

use inferno::flamegraph::color::Color;
use quick_xml::{
    Reader, Writer,
    events::{BytesStart, BytesText, Event},
};

use super::{
    layout::Point,
    palette::{self, Runs},
};
use crate::{
    model::WaitKind,
    report::{stacks::wait_label, words},
};

/// Size of all text but the title, pixels.
pub(super) const FONT_SIZE: usize = 12;

/// Behind everything.
pub(super) const BACKGROUND: Color = Color { r: 0xff, g: 0xff, b: 0xff };

/// Width of a character to its height: that of the widest usual monospace fonts.
pub(super) const FONT_ASPECT: f64 = 0.61;

/// Space left and right, as inferno leaves it.
const MARGIN: usize = 10;

/// Height of a row of the legend, and of a line of text.
const ROW: usize = 18;

/// Side of a colour's square in the legend.
const SQUARE: usize = 12;

/// Where inferno begins to draw frames if there is a subtitle.
const HEAD_BOTTOM: usize = FONT_SIZE * 5;

/// The legend wraps here even in a wider picture, since a browser's window may be narrower than the picture was made for.
const LEGEND_WIDTH: usize = 1_000;

/// At most this many clauses on what was not seen get a line; the text report has all.
const MAX_UNSEEN: usize = 4;

const SUBTITLE_FILL: &str = "#555555";
const UNSEEN_FILL: &str = "#8a3324";

/// One colour and what it stands for.
pub(super) struct LegendEntry {
    pub(super) color: Color,
    pub(super) name: &'static str,
    /// How much of it there is, as text; may be empty.
    pub(super) amount: String,
    /// A sentence for those who point at it.
    pub(super) about: String,
    /// The kind of wait; clicking marks its frames.
    pub(super) kind: Option<WaitKind>,
}

/// All that stands above the frames.
pub(super) struct Head {
    pub(super) title: String,
    pub(super) subtitle: String,
    /// Name of the frame that all others stand on.
    pub(super) root: String,
    pub(super) legend: Vec<LegendEntry>,
    /// What was not seen, one clause each.
    pub(super) unseen: Vec<String>,
    /// Of the whole picture, pixels.
    pub(super) width: usize,
}

impl Head {
    /// Writes `picture`, which inferno drew with this title and subtitle, with legend and notes added, and with the frames'
    /// colours taken from `runs`.
    pub(super) fn write_into(&self, picture: &str, runs: &Runs, out: &mut dyn io::Write) -> io::Result<()> {
        let legend = self.legend_places();
        let unseen = self.unseen_lines();
        let rows = legend.last().map_or(0, |&(_, row)| row + 1) + unseen.len();
        let added = rows * ROW + FONT_SIZE / 2;

        let mut reader = Reader::from_str(picture);
        let mut writer = Writer::new(&mut *out);
        let mut is_root = true;
        let mut root_text = false;
        loop {
            match reader.read_event().map_err(invalid)? {
                Event::Start(tag) if tag.name().as_ref() == b"svg" && is_root => {
                    is_root = false;
                    writer.write_event(Event::Start(moved(&tag, &["height", "viewBox"], added)?))?;
                }
                Event::Start(tag) if tag.name().as_ref() == b"svg" => {
                    self.write_legend(&mut writer, &legend)?;
                    let top = HEAD_BOTTOM + (rows - unseen.len()) * ROW;
                    write_unseen(&mut writer, &unseen, top)?;
                    let mut frames = tag.into_owned();
                    frames.push_attribute(("y", added.to_string().as_str()));
                    writer.write_event(Event::Start(frames))?;
                }
                Event::Empty(tag) if tag.try_get_attribute("fg:x").is_ok_and(|x| x.is_some()) => {
                    writer.write_event(Event::Empty(tinted(tag, runs)?))?;
                }
                Event::Empty(tag) if tag.name().as_ref() == b"rect" => {
                    writer.write_event(Event::Empty(moved(&tag, &["height"], added)?))?;
                }
                Event::Start(tag) if has_id(&tag, "details") || has_id(&tag, "matched") => {
                    writer.write_event(Event::Start(moved(&tag, &["y"], added)?))?;
                }
                Event::Start(tag) if has_id(&tag, "subtitle") => {
                    let mut subtitle = tag.into_owned();
                    subtitle.push_attribute(("fill", SUBTITLE_FILL));
                    writer.write_event(Event::Start(subtitle))?;
                }
                Event::Start(tag) if tag.name().as_ref() == b"text" && root_text => {
                    root_text = false;
                    writer.write_event(Event::Start(tag))?;
                    writer.write_event(Event::Text(BytesText::new(&self.root)))?;
                }
                Event::Text(text) => {
                    let text = text.decode().map_err(invalid)?;
                    // inferno calls the root `all`, with a percentage as no other frame has it, and writes nothing on it. Its
                    // script takes what it writes on a frame from this title.
                    if let Some(amount) = text.strip_prefix("all (").filter(|amount| amount.ends_with(", 100%)")) {
                        root_text = true;
                        writer.write_event(Event::Text(BytesText::new(&self.root)))?;
                        let amount = singular(&format!(" ({amount}"));
                        writer.write_event(Event::Text(BytesText::from_escaped(amount)))?;
                    } else {
                        writer.write_event(Event::Text(BytesText::from_escaped(singular(&text))))?;
                    }
                }
                Event::Eof => return Ok(()),
                other => writer.write_event(other)?,
            }
        }
    }

    /// Pixels that a picture may be wide within the margins.
    pub(super) fn room(&self) -> f64 {
        self.width.saturating_sub(2 * MARGIN) as f64
    }

    /// Makes the picture wide enough for something of that width.
    pub(super) fn widen(&mut self, width: f64) {
        self.width = self.width.max(width.ceil() as usize + 2 * MARGIN);
    }

    /// Writes a picture without frames that says `message`.
    pub(super) fn write_alone(&self, message: &str, out: &mut dyn io::Write) -> io::Result<()> {
        let unseen = self.unseen_lines();
        let top = HEAD_BOTTOM + 4 * ROW;
        self.write_picture(top + unseen.len() * ROW + ROW, out, |writer| {
            let center = middle(HEAD_BOTTOM + 2 * ROW, FONT_SIZE + 3, "#000000");
            write_text(writer, &center, message)?;
            write_unseen(writer, &unseen, top)
        })
    }

    /// Writes a picture of our own, `height` pixels high, with this head and a `note`, if that is not empty. `body` is called with
    /// its left upper corner.
    pub(super) fn write_around(
        &self,
        height: f64,
        note: &str,
        out: &mut dyn io::Write,
        body: impl FnOnce(&mut Writer<&mut dyn io::Write>, Point) -> io::Result<()>,
    ) -> io::Result<()> {
        let legend = self.legend_places();
        let mut lines = self.unseen_lines();
        lines.extend((!note.is_empty()).then(|| note.to_owned()));
        let lines_top = HEAD_BOTTOM + legend.last().map_or(0, |&(_, row)| row + 1) * ROW;
        let top = lines_top + lines.len() * ROW + ROW / 2;
        self.write_picture(top + height.ceil() as usize + ROW, out, |writer| {
            self.write_legend(writer, &legend)?;
            write_unseen(writer, &lines, lines_top)?;
            body(writer, Point { x: MARGIN as f64, y: top as f64 })
        })
    }

    /// Writes a picture that begins with title and subtitle.
    fn write_picture(
        &self,
        height: usize,
        mut out: &mut dyn io::Write,
        body: impl FnOnce(&mut Writer<&mut dyn io::Write>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut writer = Writer::new(&mut out as &mut dyn io::Write);
        let root = [
            ("version", "1.1".to_owned()),
            ("width", self.width.to_string()),
            ("height", height.to_string()),
            ("viewBox", format!("0 0 {} {height}", self.width)),
            ("xmlns", "http://www.w3.org/2000/svg".into()),
            ("font-family", "monospace".into()),
            ("font-size", FONT_SIZE.to_string()),
        ];
        let root = root.iter().map(|(name, value)| (*name, value.as_str()));
        writer.create_element("svg").with_attributes(root).write_inner_content(|writer| {
            let fill = hex(BACKGROUND);
            let background = [("width", "100%"), ("height", "100%"), ("fill", &fill)];
            writer.create_element("rect").with_attributes(background).write_empty()?;
            let title = middle(FONT_SIZE * 2, FONT_SIZE + 5, "#000000");
            write_text(writer, &title, &self.title)?;
            let subtitle = middle(FONT_SIZE * 4, FONT_SIZE, SUBTITLE_FILL);
            write_text(writer, &subtitle, &self.subtitle)?;
            body(writer)
        })?;
        writeln!(writer.get_mut())
    }

    /// Where each entry of the legend goes: its x in pixels and its row.
    fn legend_places(&self) -> Vec<(usize, usize)> {
        let right = self.width.min(LEGEND_WIDTH).saturating_sub(MARGIN);
        let (mut x, mut row) = (MARGIN, 0);
        let mut places = Vec::with_capacity(self.legend.len());
        for entry in &self.legend {
            let width = SQUARE + text_width(&entry.text()) + 2 * SQUARE;
            if x > MARGIN && x + width > right {
                (x, row) = (MARGIN, row + 1);
            }
            places.push((x, row));
            x += width;
        }
        places
    }

    fn write_legend<W: io::Write>(&self, writer: &mut Writer<W>, places: &[(usize, usize)]) -> io::Result<()> {
        let group = [("id", "legend")];
        writer.create_element("g").with_attributes(group).write_inner_content(|writer| {
            for (entry, &(x, row)) in self.legend.iter().zip(places) {
                entry.write(writer, x, HEAD_BOTTOM + row * ROW)?;
            }
            Ok(())
        })?;
        Ok(())
    }

    /// What was not seen, a line each, cut to what the picture has room for.
    fn unseen_lines(&self) -> Vec<String> {
        let room = self.width.saturating_sub(2 * MARGIN) / text_width("m").max(1);
        let found = self.unseen.len();
        // A line that says that one is left out would take as much room as the one.
        let shown = if found <= MAX_UNSEEN + 1 { found } else { MAX_UNSEEN };
        let left_out = found - shown;
        let shown = self.unseen.iter().take(shown);
        let mut lines: Vec<String> = shown.map(|clause| format!("Not seen: {clause}")).collect();
        if left_out > 0 {
            lines.push(format!("Not seen: {left_out} more, which the .txt and .json outputs name"));
        }
        let cut = |line: String| words::cut_middle(&line, room);
        lines.into_iter().map(cut).collect()
    }
}

impl LegendEntry {
    fn text(&self) -> String {
        format!("{} {}", self.name, self.amount).trim_end().into()
    }

    fn write<W: io::Write>(&self, writer: &mut Writer<W>, x: usize, y: usize) -> io::Result<()> {
        let mut group = Vec::new();
        if let Some(kind) = self.kind {
            let pattern = wait_label(kind).replace('[', "\\\\[").replace(']', "\\\\]");
            // Both functions are those behind the picture's search button.
            group.push(("onclick", format!("reset_search();search('^{pattern} ')")));
            group.push(("style", "cursor:pointer".into()));
        }
        let group = group.iter().map(|(name, value)| (*name, value.as_str()));
        writer.create_element("g").with_attributes(group).write_inner_content(|writer| {
            write_title(writer, &self.about)?;
            let square = [
                ("x", x.to_string()),
                ("y", y.to_string()),
                ("width", SQUARE.to_string()),
                ("height", SQUARE.to_string()),
                ("fill", hex(self.color)),
                ("stroke", "#888888".into()),
                ("stroke-width", "0.5".into()),
            ];
            let square = square.iter().map(|(name, value)| (*name, value.as_str()));
            writer.create_element("rect").with_attributes(square).write_empty()?;
            let text = [("x", (x + SQUARE + SQUARE / 2).to_string()), ("y", (y + SQUARE - 2).to_string())];
            write_text(writer, &text, &self.text())
        })?;
        Ok(())
    }
}

/// The attributes of a line of text in the middle of the picture.
fn middle(y: usize, size: usize, fill: &str) -> [(&'static str, String); 5] {
    [
        ("x", "50%".to_owned()),
        ("y", y.to_string()),
        ("text-anchor", "middle".into()),
        ("font-size", size.to_string()),
        ("fill", fill.into()),
    ]
}

/// Pixels that `text` takes at most.
pub(super) fn text_width(text: &str) -> usize {
    (text.chars().count() as f64 * FONT_SIZE as f64 * FONT_ASPECT).ceil() as usize
}

fn write_unseen<W: io::Write>(writer: &mut Writer<W>, lines: &[String], top: usize) -> io::Result<()> {
    for (row, line) in lines.iter().enumerate() {
        let place = [
            ("x", MARGIN.to_string()),
            ("y", (top + row * ROW + SQUARE - 2).to_string()),
            ("fill", UNSEEN_FILL.into()),
        ];
        write_text(writer, &place, line)?;
    }
    Ok(())
}

pub(super) fn write_text<W: io::Write>(
    writer: &mut Writer<W>,
    attributes: &[(&str, String)],
    text: &str,
) -> io::Result<()> {
    let attributes = attributes.iter().map(|(name, value)| (*name, value.as_str()));
    writer.create_element("text").with_attributes(attributes).write_text_content(BytesText::new(text))?;
    Ok(())
}

pub(super) fn write_title<W: io::Write>(writer: &mut Writer<W>, text: &str) -> io::Result<()> {
    writer.create_element("title").write_text_content(BytesText::new(text))?;
    Ok(())
}

/// `tag` with `pixels` added to the last number of each of `attributes`.
fn moved(tag: &BytesStart<'_>, attributes: &[&str], pixels: usize) -> io::Result<BytesStart<'static>> {
    let name = String::from_utf8(tag.name().as_ref().to_vec()).map_err(invalid)?;
    let mut moved = BytesStart::new(name);
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(invalid)?;
        let is_moved = attributes.iter().any(|name| attribute.key.as_ref() == name.as_bytes());
        if !is_moved {
            moved.push_attribute(attribute);
            continue;
        }
        let value = String::from_utf8(attribute.value.to_vec()).map_err(invalid)?;
        let start = value.rfind(' ').map_or(0, |space| space + 1);
        let number: f64 = value[start..].parse().map_err(invalid)?;
        let value = format!("{}{}", &value[..start], number + pixels as f64);
        moved.push_attribute((attribute.key.as_ref(), value.as_bytes()));
    }
    Ok(moved)
}

/// A frame's rectangle in the colour of what lies above it. inferno has coloured waits already.
fn tinted<'a>(tag: BytesStart<'a>, runs: &Runs) -> io::Result<BytesStart<'a>> {
    let value = |name: &str| -> io::Result<Option<String>> {
        let attribute = tag.try_get_attribute(name).map_err(invalid)?;
        let value = attribute.map(|attribute| String::from_utf8(attribute.value.to_vec()));
        value.transpose().map_err(invalid)
    };
    let number = |name: &str| -> io::Result<u64> {
        let value = value(name)?.unwrap_or_default();
        value.parse().map_err(invalid)
    };
    let Color { r, g, b } = palette::MIXED;
    if value("fill")? != Some(format!("rgb({r},{g},{b})")) {
        return Ok(tag);
    }
    let Color { r, g, b } = runs.color(number("fg:x")?, number("fg:w")?);
    let fill = format!("rgb({r},{g},{b})");
    let mut tinted = BytesStart::new("rect");
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(invalid)?;
        if attribute.key.as_ref() == b"fill" {
            tinted.push_attribute(("fill", fill.as_str()));
        } else {
            tinted.push_attribute(attribute);
        }
    }
    Ok(tinted)
}

fn has_id(tag: &BytesStart<'_>, id: &str) -> bool {
    let found = tag.try_get_attribute("id").ok().flatten();
    found.is_some_and(|found| found.value.as_ref() == id.as_bytes())
}

pub(super) fn hex(color: Color) -> String {
    format!("#{:02x}{:02x}{:02x}", color.r, color.g, color.b)
}

/// `f (1 threads, 2.5%)`, as inferno says it, with the noun put right.
fn singular(text: &str) -> String {
    ["thread", "goroutine", "task"]
        .iter()
        .fold(text.to_owned(), |text, noun| text.replace(&format!(" (1 {noun}s, "), &format!(" (1 {noun}, ")))
}

pub(super) fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
