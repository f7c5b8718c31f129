//! The terms of a write, and its outcomes.

use std::fmt;

/// When a [`crate::Shard::set`] takes place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Condition {
    /// Always.
    #[default]
    Always,
    /// Only if the key is absent (add, SET NX).
    IfAbsent,
    /// Only if the key is present (replace, SET XX).
    IfPresent,
    /// Only if the key is present with this version (cas).
    IfVersion(u64),
}

/// The deadline that a [`crate::Shard::set`] leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Deadline {
    /// None: the item stays until it is evicted.
    #[default]
    None,
    /// This one, in milliseconds on the shard's clock. One that has come already deletes the key.
    At(u64),
    /// The old item's, or none if there is no old item (SET KEEPTTL).
    Keep,
}

/// What leases have marked an item with: see [`crate::Shard::grant_lease`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Marks {
    /// The value is known to be out of date, and kept until somebody has fetched a new one.
    pub stale: bool,
    /// A client was told to fetch a new value.
    pub token_sent: bool,
}

impl Marks {
    /// No mark: an item as any other.
    pub const NONE: Marks = Marks { stale: false, token_sent: false };
}

/// The terms of a [`crate::Shard::set`]. The default stores unconditionally, without deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SetOptions {
    /// When the write takes place.
    pub condition: Condition,
    /// Client flags. `None` keeps the old item's, or 0 if there is no old item.
    pub flags: Option<u32>,
    /// The deadline to leave.
    pub deadline: Deadline,
    /// A version of the client's choice (memcached `E`). `None` takes the shard's next.
    pub version: Option<u64>,
    /// The marks that the item has from now on; none, unless a lease says otherwise.
    pub marks: Marks,
}

/// Why a conditional write did not take place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The key is absent.
    Absent,
    /// The key is present.
    Present,
    /// The key is present with another version.
    VersionMismatch,
}

/// The outcome of a [`crate::Shard::set`] that did not fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stored {
    /// The item is stored (or deleted, where its deadline had come).
    Stored {
        /// The item's version.
        version: u64,
    },
    /// The condition did not hold; nothing changed.
    ConditionFailed(Refusal),
}

/// The outcome of a [`crate::Shard::delete`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deleted {
    /// The item is gone.
    Deleted,
    /// There was none.
    Absent,
    /// There is one, with another version than asked for.
    VersionMismatch,
}

/// Why a write failed. Nothing is changed then, but for items that eviction took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetError {
    /// The key is longer than the shard accepts.
    KeyTooLong {
        /// The longest key accepted, in bytes.
        bytes_max: usize,
    },
    /// The value is longer than the shard accepts.
    ValueTooLong {
        /// The longest value accepted, in bytes.
        bytes_max: usize,
    },
    /// The item does not fit into a segment, or takes more than a quarter of the shard's limit.
    TooLarge,
    /// There is no room, and the eviction policy does not make any.
    NoSpace,
    /// A large value was to be finished before all its bytes had come.
    Incomplete,
}

impl Condition {
    /// Why the condition does not hold for an item of this version (`None`: no item).
    pub(crate) fn refusal(self, version: Option<u64>) -> Option<Refusal> {
        match (self, version) {
            (Condition::Always, _) => None,
            (Condition::IfAbsent, version) => version.map(|_| Refusal::Present),
            (Condition::IfPresent | Condition::IfVersion(_), None) => Some(Refusal::Absent),
            (Condition::IfPresent, Some(_)) => None,
            (Condition::IfVersion(wanted), Some(version)) => {
                (wanted != version).then_some(Refusal::VersionMismatch)
            }
        }
    }
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetError::KeyTooLong { bytes_max } => {
                write!(f, "the key is longer than {bytes_max} bytes")
            }
            SetError::ValueTooLong { bytes_max } => {
                write!(f, "the value is longer than {bytes_max} bytes")
            }
            SetError::TooLarge => write!(f, "the item is too large for this shard"),
            SetError::NoSpace => write!(f, "no space left, and nothing may be evicted"),
            SetError::Incomplete => write!(f, "the value has not come whole"),
        }
    }
}

impl std::error::Error for SetError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_say_why_they_fail() {
        assert_eq!(Condition::Always.refusal(None), None);
        assert_eq!(Condition::Always.refusal(Some(1)), None);
        assert_eq!(Condition::IfAbsent.refusal(None), None);
        assert_eq!(Condition::IfAbsent.refusal(Some(1)), Some(Refusal::Present));
        assert_eq!(Condition::IfPresent.refusal(None), Some(Refusal::Absent));
        assert_eq!(Condition::IfPresent.refusal(Some(1)), None);
        assert_eq!(Condition::IfVersion(1).refusal(None), Some(Refusal::Absent));
        assert_eq!(Condition::IfVersion(1).refusal(Some(1)), None);
        assert_eq!(Condition::IfVersion(1).refusal(Some(2)), Some(Refusal::VersionMismatch));
    }
}
