//! Deadlines as items store them, in four bytes or six.
//!
//! D1. A deadline of four bytes is read as the one nearest to the clock that has these low bits. So
//! it is written for the next 24.8 days only, and no item may be overdue by as much: the shard
//! sees to that (`OVERDUE_MS_MAX`). Nothing beside the item has to be read for it, and an item moves
//! as it is.
//!
//! A deadline of which all bits are set stands for "none", so that one can be taken away in place.

use crate::bounds::DEADLINE_BITS;

/// How far away a deadline of four bytes may be when it is written (D1).
pub(super) const NEAR_MS_MAX: u64 = i32::MAX as u64;
pub(super) const NO_NEAR: u32 = u32::MAX;
const NO_FAR: u64 = (1 << DEADLINE_BITS) - 1;
/// The latest deadline that an item can carry, in milliseconds: some 4,400 years.
pub(crate) const DEADLINE_MS_MAX: u64 = NO_FAR - 1;

/// A deadline as the item stores it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StoredDeadline {
    /// No field.
    None,
    /// The low 32 bits (D1); `NO_NEAR` for no deadline.
    Near(u32),
    /// All of it; `NO_FAR` for no deadline.
    Far(u64),
}

impl StoredDeadline {
    /// The shortest form of `deadline_ms`, which is after `now_ms`.
    pub(crate) fn shortest(deadline_ms: Option<u64>, now_ms: u64) -> StoredDeadline {
        let Some(deadline_ms) = deadline_ms else { return StoredDeadline::None };
        let is_near = deadline_ms.checked_sub(now_ms).is_some_and(|ms| ms <= NEAR_MS_MAX);
        if is_near && deadline_ms as u32 != NO_NEAR {
            StoredDeadline::Near(deadline_ms as u32)
        } else {
            StoredDeadline::Far(deadline_ms.min(DEADLINE_MS_MAX))
        }
    }

    /// `deadline_ms` in the form that is there already, if that form can say it.
    pub(crate) fn same_form(self, deadline_ms: Option<u64>, now_ms: u64) -> Option<Self> {
        match (self, StoredDeadline::shortest(deadline_ms, now_ms)) {
            (StoredDeadline::None, StoredDeadline::None) => Some(self),
            (StoredDeadline::None, _) => None,
            (StoredDeadline::Near(_), StoredDeadline::None) => Some(StoredDeadline::Near(NO_NEAR)),
            (StoredDeadline::Near(_), StoredDeadline::Far(_)) => None,
            (StoredDeadline::Near(_), near) => Some(near),
            (StoredDeadline::Far(_), _) => {
                let ms = deadline_ms.map_or(NO_FAR, |ms| ms.min(DEADLINE_MS_MAX));
                Some(StoredDeadline::Far(ms))
            }
        }
    }

    /// The deadline in milliseconds on the shard's clock, which reads `now_ms` (D1).
    #[inline]
    pub(crate) fn resolve(self, now_ms: u64) -> Option<u64> {
        match self {
            StoredDeadline::None => None,
            StoredDeadline::Near(NO_NEAR) => None,
            StoredDeadline::Near(low_ms) => {
                Some(now_ms.saturating_add_signed(i64::from(left_ms(low_ms, now_ms))))
            }
            StoredDeadline::Far(NO_FAR) => None,
            StoredDeadline::Far(ms) => Some(ms),
        }
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            StoredDeadline::None => 0,
            StoredDeadline::Near(_) => 4,
            StoredDeadline::Far(_) => 6,
        }
    }
}

/// The time from `now_ms` to the deadline with these low bits (D1); 0 or less once it has come.
#[inline(always)]
pub(super) fn left_ms(low_ms: u32, now_ms: u64) -> i32 {
    low_ms.wrapping_sub(now_ms as u32) as i32
}
