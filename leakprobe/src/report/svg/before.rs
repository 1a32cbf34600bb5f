//! What each frame of a picture weighed before: its colour, and a word in its title.

use std::{
    collections::{BTreeMap, HashMap},
    io,
};

use inferno::flamegraph::color::Color;
use quick_xml::{
    Reader, Writer,
    events::{BytesEnd, BytesStart, BytesText, Event},
};

use super::head::invalid;
use crate::report::words;

/// A frame of which all is new, one of which all has gone, and one that has not changed; and what has no width in the picture,
/// so that no frame has its colour.
pub(super) const MORE: Color = Color { r: 0xff, g: 0x50, b: 0x50 };
pub(super) const FEWER: Color = Color { r: 0x60, g: 0x90, b: 0xff };
pub(super) const NO_WIDTH: Color = Color { r: 0xff, g: 0xff, b: 0xff };
pub(super) const SAME: Color = Color { r: 0xf2, g: 0xf2, b: 0xf2 };

/// The least part of a colour that a change has, in percent, so that it can be seen.
const LEAST_PERCENT: u64 = 20;

/// Of a frame in pixels, as inferno draws it.
const FRAME_HEIGHT: f64 = 16.0;

/// The weight of each frame before, by where the picture has the frame: its begin, its weight, its distance from the root.
pub(super) struct Before(HashMap<(u64, u64, usize), u64>);

/// A frame of the tree of all stacks.
#[derive(Clone, Copy, Default)]
struct Node {
    before: u64,
    after: u64,
    start: u64,
    depth: usize,
}

#[derive(Default)]
struct Tree<'a> {
    nodes: Vec<Node>,
    children: HashMap<(usize, &'a str), usize>,
}

impl<'a> Tree<'a> {
    /// Calls `visit` with the root and with each frame of `stack`.
    fn walk(&mut self, stack: &'a str, visit: impl Fn(&mut Node)) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0;
        self.nodes.iter_mut().take(1).for_each(&visit);
        for (depth, frame) in (1..).zip(stack.split(';')) {
            let next = self.nodes.len();
            at = *self.children.entry((at, frame)).or_insert(next);
            if at == next {
                self.nodes.push(Node { depth, ..Node::default() });
            }
            self.nodes.get_mut(at).into_iter().for_each(&visit);
        }
    }
}

impl Before {
    /// From all stacks with their weights before and after, and those that are drawn, in the order of the picture.
    pub(super) fn of<'a>(stacks: &'a BTreeMap<String, [u64; 2]>, drawn: impl Iterator<Item = (&'a str, u64)>) -> Self {
        let mut tree = Tree::default();
        for (stack, &[before, _]) in stacks {
            tree.walk(stack, |node| node.before = node.before.saturating_add(before));
        }
        let mut x = 0_u64;
        for (stack, after) in drawn {
            tree.walk(stack, |node| {
                if node.after == 0 {
                    node.start = x;
                }
                node.after = node.after.saturating_add(after);
            });
            x = x.saturating_add(after);
        }
        Self(tree.nodes.iter().map(|node| ((node.start, node.after, node.depth), node.before)).collect())
    }

    /// Writes `picture`, as inferno drew it, with colours that tell of the change, and with the weights from before in the titles.
    pub(super) fn write_into(&self, picture: &str, out: &mut dyn io::Write) -> io::Result<()> {
        let bottom = bottom(picture)?;
        let mut reader = Reader::from_str(picture);
        let mut writer = Writer::new(out);
        // The title of a frame, until its rectangle comes, which tells which frame it is.
        let mut held: Vec<Event<'_>> = Vec::new();
        loop {
            match reader.read_event().map_err(invalid)? {
                Event::Start(tag) if tag.name().as_ref() == b"title" => held = vec![Event::Start(tag)],
                Event::Empty(tag) if number(&tag, "fg:x")?.is_some() => {
                    let at = |name| Ok::<f64, io::Error>(number(&tag, name)?.unwrap_or(0.0));
                    let (x, after) = (at("fg:x")? as u64, at("fg:w")? as u64);
                    let depth = ((bottom - at("y")?) / FRAME_HEIGHT).round() as usize;
                    let before = self.0.get(&(x, after, depth)).copied();
                    write_title(&mut writer, &held, before)?;
                    held.clear();
                    writer.write_event(Event::Empty(colored(&tag, color(before.unwrap_or(after), after))?))?;
                }
                Event::Eof => return write_all(&mut writer, held),
                event @ (Event::Text(_) | Event::GeneralRef(_)) if !held.is_empty() => held.push(event),
                event @ Event::End(_) if !held.is_empty() => held.push(event),
                event => {
                    write_all(&mut writer, std::mem::take(&mut held))?;
                    writer.write_event(event)?;
                }
            }
        }
    }
}

fn write_all(writer: &mut Writer<&mut dyn io::Write>, events: Vec<Event<'_>>) -> io::Result<()> {
    events.into_iter().try_for_each(|event| writer.write_event(event))
}

/// The title that was held, with what the frame weighed before.
fn write_title(writer: &mut Writer<&mut dyn io::Write>, held: &[Event<'_>], before: Option<u64>) -> io::Result<()> {
    // `f (12 threads, 3.00%)`: its last piece of text ends so.
    let last = held.iter().rposition(|event| matches!(event, Event::Text(text) if text.ends_with(b"%)")));
    for (place, event) in held.iter().enumerate() {
        match (event, before) {
            (Event::Text(text), Some(before)) if Some(place) == last => {
                let text = text.decode().map_err(invalid)?;
                let text = text.strip_suffix(')').unwrap_or(&text);
                let text = format!("{text}; before: {})", words::thousands(before));
                writer.write_event(Event::Text(BytesText::from_escaped(text)))?;
            }
            (Event::End(_), _) if place + 1 < held.len() => writer.write_event(Event::End(BytesEnd::new("title")))?,
            (event, _) => writer.write_event(event.borrow())?,
        }
    }
    Ok(())
}

/// The y of the root.
fn bottom(picture: &str) -> io::Result<f64> {
    let mut reader = Reader::from_str(picture);
    let mut bottom = 0.0_f64;
    loop {
        match reader.read_event().map_err(invalid)? {
            Event::Empty(tag) if number(&tag, "fg:x")?.is_some() => {
                bottom = bottom.max(number(&tag, "y")?.unwrap_or(0.0));
            }
            Event::Eof => return Ok(bottom),
            _ => {}
        }
    }
}

fn number(tag: &BytesStart<'_>, name: &str) -> io::Result<Option<f64>> {
    let Some(attribute) = tag.try_get_attribute(name).map_err(invalid)? else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&attribute.value).map_err(invalid)?;
    text.parse().map(Some).map_err(invalid)
}

fn colored(tag: &BytesStart<'_>, Color { r, g, b }: Color) -> io::Result<BytesStart<'static>> {
    let fill = format!("rgb({r},{g},{b})");
    let mut colored = BytesStart::new("rect");
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(invalid)?;
        if attribute.key.as_ref() == b"fill" {
            colored.push_attribute(("fill", fill.as_str()));
        } else {
            colored.push_attribute(attribute);
        }
    }
    Ok(colored)
}

/// The colour of a frame: the larger the part that is new or has gone, the stronger.
fn color(before: u64, after: u64) -> Color {
    let changed = before.abs_diff(after);
    if changed == 0 {
        return SAME;
    }
    let percent = u128::from(changed) * 100 / u128::from(before.max(after));
    let percent = u64::try_from(percent).unwrap_or(100).max(LEAST_PERCENT);
    let end = if after > before { MORE } else { FEWER };
    let mix = |from: u8, to: u8| {
        let mixed = (u64::from(from) * (100 - percent) + u64::from(to) * percent) / 100;
        u8::try_from(mixed).unwrap_or(u8::MAX)
    };
    Color { r: mix(SAME.r, end.r), g: mix(SAME.g, end.g), b: mix(SAME.b, end.b) }
}
