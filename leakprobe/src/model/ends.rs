//! Who could end a wait from the other end of what is waited on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Owner, Relation};

/// Those who could end a wait: they hold the other end of a pipe or socket, or the lock, or are the child.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OtherEnds {
    /// The first of them, those of the target itself before all others.
    pub known: Vec<OtherEnd>,
    /// How many more there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
    /// Whether all processes were looked through; if not, there may be others.
    pub complete: bool,
}

impl OtherEnds {
    /// One that can be nobody else.
    #[must_use]
    pub fn of_one(end: OtherEnd) -> Self {
        Self { known: vec![end], more: 0, complete: true }
    }

    /// The one that would have to end the wait, if it can be nobody else: another process, which none of its threads stands for.
    #[must_use]
    pub fn only(&self) -> Option<Owner> {
        let [end] = self.known.as_slice() else { return None };
        // Which thread of the target itself it would be, nobody knows.
        if self.more > 0 || !self.complete || end.is_target {
            return None;
        }
        let relation = match end.role {
            EndRole::Holder => Relation::Holds,
            EndRole::Child => Relation::Joined,
            EndRole::Writer | EndRole::Reader | EndRole::Peer | EndRole::Tracer => Relation::OtherEnd,
        };
        let (task, process) = (u64::from(end.pid), Some(end.pid));
        Some(Owner { task, name: end.name.clone(), relation, process, state: None })
    }
}

/// A process at the other end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct OtherEnd {
    /// What it has there.
    pub role: EndRole,
    /// Its process id.
    pub pid: u32,
    /// Whether it is the target itself.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_target: bool,
    /// Its name; empty if it is gone.
    pub name: String,
    /// The descriptor by which it holds that end, if it holds it by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fd: Option<i32>,
    /// What it does, as a letter of `/proc/PID/stat`, if that was asked for: of children.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<char>,
}

/// What somebody has at the other end of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EndRole {
    /// The end of a pipe by which something is put in.
    Writer,
    /// The end of a pipe by which something is taken out.
    Reader,
    /// The other end of a connection.
    Peer,
    /// The lock.
    Holder,
    /// It is the child that is waited for.
    Child,
    /// It traces the task.
    Tracer,
}

impl EndRole {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Writer => "writer",
            Self::Reader => "reader",
            Self::Peer => "peer",
            Self::Holder => "holder",
            Self::Child => "child",
            Self::Tracer => "tracer",
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_process_that_is_alone_at_the_other_end_is_the_owner() {
        let end = |pid, is_target| OtherEnd {
            role: EndRole::Writer,
            pid,
            is_target,
            name: "feeder".to_owned(),
            fd: Some(4),
            state: None,
        };
        let ends = |known, more, complete| OtherEnds { known, more, complete }.only();
        let owner = ends(vec![end(9, false)], 0, true).unwrap();
        assert_eq!((owner.task, owner.process, owner.relation), (9, Some(9), Relation::OtherEnd));
        assert_eq!(ends(vec![end(9, false), end(10, false)], 0, true), None);
        assert_eq!(ends(vec![end(9, false)], 1, true), None);
        assert_eq!(ends(vec![end(9, false)], 0, false), None, "others may hold it, too");
        assert_eq!(ends(vec![end(9, true)], 0, true), None);
    }
}
