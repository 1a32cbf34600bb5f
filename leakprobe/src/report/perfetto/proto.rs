//! The messages of Perfetto's traces, as far as they are written.
//!
//! Source: <https://github.com/google/perfetto/tree/main/protos/perfetto/trace> (`trace_packet.proto`, `track_event/*.proto`,
//! `interned_data/interned_data.proto`, `clock_snapshot.proto`).

/// The whole file. Two traces one after the other are one trace.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Trace {
    #[prost(message, repeated, tag = "1")]
    pub(crate) packet: Vec<TracePacket>,
}

/// `TracePacket.sequence_flags`: what was interned before holds no longer.
pub(crate) const SEQ_INCREMENTAL_STATE_CLEARED: u32 = 1;

/// `TracePacket.sequence_flags`: of no use without what was interned before.
pub(crate) const SEQ_NEEDS_INCREMENTAL_STATE: u32 = 2;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TracePacket {
    #[prost(message, optional, tag = "6")]
    pub(crate) clock_snapshot: Option<ClockSnapshot>,
    /// ns, of the trace's clock.
    #[prost(uint64, optional, tag = "8")]
    pub(crate) timestamp: Option<u64>,
    #[prost(uint32, tag = "10")]
    pub(crate) trusted_packet_sequence_id: u32,
    #[prost(message, optional, tag = "11")]
    pub(crate) track_event: Option<TrackEvent>,
    #[prost(message, optional, tag = "12")]
    pub(crate) interned_data: Option<InternedData>,
    #[prost(uint32, tag = "13")]
    pub(crate) sequence_flags: u32,
    #[prost(message, optional, tag = "60")]
    pub(crate) track_descriptor: Option<TrackDescriptor>,
    #[prost(bool, tag = "87")]
    pub(crate) first_packet_on_sequence: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ClockSnapshot {
    #[prost(message, repeated, tag = "1")]
    pub(crate) clocks: Vec<Clock>,
    #[prost(uint32, tag = "2")]
    pub(crate) primary_trace_clock: u32,
}

/// `BuiltinClock`: the time of day.
pub(crate) const REALTIME: u32 = 1;

/// `BuiltinClock`: the one that traces are in if they do not say otherwise.
pub(crate) const BOOTTIME: u32 = 6;

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Clock {
    #[prost(uint32, tag = "1")]
    pub(crate) clock_id: u32,
    #[prost(uint64, tag = "2")]
    pub(crate) timestamp: u64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct TrackDescriptor {
    #[prost(uint64, tag = "1")]
    pub(crate) uuid: u64,
    #[prost(string, optional, tag = "2")]
    pub(crate) name: Option<String>,
    #[prost(message, optional, tag = "3")]
    pub(crate) process: Option<ProcessDescriptor>,
    #[prost(message, optional, tag = "4")]
    pub(crate) thread: Option<ThreadDescriptor>,
    #[prost(uint64, optional, tag = "5")]
    pub(crate) parent_uuid: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct ProcessDescriptor {
    #[prost(int32, tag = "1")]
    pub(crate) pid: i32,
    #[prost(string, repeated, tag = "2")]
    pub(crate) cmdline: Vec<String>,
    #[prost(string, tag = "6")]
    pub(crate) process_name: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct ThreadDescriptor {
    #[prost(int32, tag = "1")]
    pub(crate) pid: i32,
    #[prost(int64, tag = "2")]
    pub(crate) tid: i64,
    #[prost(string, tag = "5")]
    pub(crate) thread_name: String,
}

/// `TrackEvent.Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum EventType {
    Unspecified = 0,
    SliceBegin = 1,
    SliceEnd = 2,
    Instant = 3,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TrackEvent {
    #[prost(uint64, repeated, packed = "false", tag = "3")]
    pub(crate) category_iids: Vec<u64>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) debug_annotations: Vec<DebugAnnotation>,
    #[prost(enumeration = "EventType", tag = "9")]
    pub(crate) r#type: i32,
    #[prost(uint64, optional, tag = "10")]
    pub(crate) name_iid: Option<u64>,
    #[prost(uint64, tag = "11")]
    pub(crate) track_uuid: u64,
    /// Arrows that begin here.
    #[prost(fixed64, repeated, packed = "false", tag = "47")]
    pub(crate) flow_ids: Vec<u64>,
    /// Arrows that end here.
    #[prost(fixed64, repeated, packed = "false", tag = "48")]
    pub(crate) terminating_flow_ids: Vec<u64>,
}

/// A name and one value.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct DebugAnnotation {
    #[prost(uint64, tag = "1")]
    pub(crate) name_iid: u64,
    #[prost(bool, optional, tag = "2")]
    pub(crate) bool_value: Option<bool>,
    #[prost(uint64, optional, tag = "3")]
    pub(crate) uint_value: Option<u64>,
    #[prost(uint64, optional, tag = "17")]
    pub(crate) string_value_iid: Option<u64>,
}

/// Texts that later packets name by number.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct InternedData {
    #[prost(message, repeated, tag = "1")]
    pub(crate) event_categories: Vec<Named>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) event_names: Vec<Named>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) debug_annotation_names: Vec<Named>,
    #[prost(message, repeated, tag = "29")]
    pub(crate) debug_annotation_string_values: Vec<Named>,
}

/// `EventCategory`, `EventName`, `DebugAnnotationName` or `InternedString`: all have the same shape.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Named {
    #[prost(uint64, tag = "1")]
    pub(crate) iid: u64,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
}
