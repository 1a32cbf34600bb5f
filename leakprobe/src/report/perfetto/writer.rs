//! Packets, one after the other, with each text written once.

use std::{collections::HashMap, io};

use prost::Message;

use super::proto::{
    BOOTTIME, Clock, ClockSnapshot, DebugAnnotation, EventType, InternedData, Named, REALTIME,
    SEQ_INCREMENTAL_STATE_CLEARED, SEQ_NEEDS_INCREMENTAL_STATE, Trace, TracePacket, TrackDescriptor, TrackEvent,
};

/// All packets are of one sequence.
const SEQUENCE: u32 = 1;

/// An event's name, as [`Writer::name`] knows it.
#[derive(Clone, Copy)]
pub(super) struct NameId(u64);

/// A text beside events, as [`Writer::text`] knows it.
#[derive(Clone, Copy)]
pub(super) struct TextId(u64);

/// A value beside an event.
#[derive(Clone)]
pub(super) enum Note {
    Bool(bool),
    Number(u64),
    Text(String),
    Known(TextId),
}

/// What is told of a slice or a moment.
pub(super) struct Event {
    pub(super) name: NameId,
    pub(super) category: &'static str,
    pub(super) notes: Vec<(&'static str, Note)>,
}

/// The numbers of texts that were written; each begins at 1.
#[derive(Default)]
struct Interned(HashMap<String, u64>);

impl Interned {
    fn number(&mut self, text: &str, new: &mut Vec<Named>) -> u64 {
        if let Some(&iid) = self.0.get(text) {
            return iid;
        }
        let iid = self.0.len() as u64 + 1;
        self.0.insert(text.to_owned(), iid);
        new.push(Named { iid, name: text.to_owned() });
        iid
    }
}

/// Writes a trace.
pub(super) struct Writer<'a> {
    out: &'a mut dyn io::Write,
    categories: Interned,
    names: Interned,
    note_names: Interned,
    texts: Interned,
    /// What the next event's packet has to tell before it is named by its number.
    new: InternedData,
}

impl<'a> Writer<'a> {
    /// Begins a trace that can be told by the time of day, of which `now` is one moment, ns since 1970.
    pub(super) fn begin(out: &'a mut dyn io::Write, now: u64) -> io::Result<Self> {
        let mut writer = Self {
            out,
            categories: Interned::default(),
            names: Interned::default(),
            note_names: Interned::default(),
            texts: Interned::default(),
            new: InternedData::default(),
        };
        let clocks = [BOOTTIME, REALTIME].map(|clock_id| Clock { clock_id, timestamp: now }).to_vec();
        writer.packet(TracePacket {
            clock_snapshot: Some(ClockSnapshot { clocks, primary_trace_clock: BOOTTIME }),
            sequence_flags: SEQ_INCREMENTAL_STATE_CLEARED,
            first_packet_on_sequence: true,
            ..TracePacket::default()
        })?;
        Ok(writer)
    }

    /// Describes a track, before its first event.
    pub(super) fn track(&mut self, track: TrackDescriptor) -> io::Result<()> {
        self.packet(TracePacket { track_descriptor: Some(track), ..TracePacket::default() })
    }

    /// The number of an event's name: who names many events the same asks once.
    pub(super) fn name(&mut self, name: &str) -> NameId {
        NameId(self.names.number(name, &mut self.new.event_names))
    }

    /// The number of a text beside events, likewise.
    pub(super) fn text(&mut self, text: &str) -> TextId {
        TextId(self.texts.number(text, &mut self.new.debug_annotation_string_values))
    }

    /// Something that lasts.
    pub(super) fn slice(&mut self, track: u64, begin: u64, end: u64, event: Event) -> io::Result<()> {
        self.event(track, begin, EventType::SliceBegin, Some(event), &[], &[])?;
        self.event(track, end, EventType::SliceEnd, None, &[], &[])
    }

    /// A moment, at which arrows begin and end.
    pub(super) fn instant(&mut self, track: u64, at: u64, event: Event, begin: &[u64], end: &[u64]) -> io::Result<()> {
        self.event(track, at, EventType::Instant, Some(event), begin, end)
    }

    fn event(
        &mut self,
        track_uuid: u64,
        at: u64,
        kind: EventType,
        event: Option<Event>,
        flow_ids: &[u64],
        terminating_flow_ids: &[u64],
    ) -> io::Result<()> {
        let mut new = std::mem::take(&mut self.new);
        let mut track_event = TrackEvent {
            r#type: kind as i32,
            track_uuid,
            flow_ids: flow_ids.to_vec(),
            terminating_flow_ids: terminating_flow_ids.to_vec(),
            ..TrackEvent::default()
        };
        if let Some(Event { name, category, notes }) = event {
            track_event.name_iid = Some(name.0);
            track_event.category_iids = vec![self.categories.number(category, &mut new.event_categories)];
            track_event.debug_annotations = notes.iter().map(|(name, note)| self.note(name, note, &mut new)).collect();
        }
        self.packet(TracePacket {
            timestamp: Some(at),
            track_event: Some(track_event),
            interned_data: (new != InternedData::default()).then_some(new),
            sequence_flags: SEQ_NEEDS_INCREMENTAL_STATE,
            ..TracePacket::default()
        })
    }

    fn note(&mut self, name: &str, note: &Note, new: &mut InternedData) -> DebugAnnotation {
        let name_iid = self.note_names.number(name, &mut new.debug_annotation_names);
        let mut annotation = DebugAnnotation { name_iid, ..DebugAnnotation::default() };
        match note {
            Note::Bool(value) => annotation.bool_value = Some(*value),
            Note::Number(value) => annotation.uint_value = Some(*value),
            Note::Text(text) => {
                let iid = self.texts.number(text, &mut new.debug_annotation_string_values);
                annotation.string_value_iid = Some(iid);
            }
            Note::Known(text) => annotation.string_value_iid = Some(text.0),
        }
        annotation
    }

    fn packet(&mut self, packet: TracePacket) -> io::Result<()> {
        let packet = TracePacket { trusted_packet_sequence_id: SEQUENCE, ..packet };
        self.out.write_all(&Trace { packet: vec![packet] }.encode_to_vec())
    }
}
