//! Which group a deadline belongs to.
//!
//! ```text
//! level  width           ring of 1,024 groups reaches, from the cursor
//! 0      4 ms            to the end of the next group of level 1: 2 to 4 s
//! 1      2.048 s         to the end of the next group of level 2: 17 to 35 min
//! 2      17.5 min        6.2 to 12.4 days
//! 3      6.2 days        8.7 to 17 years
//! 4      8.7 years       every deadline that an item can carry
//! ```
//!
//! A deadline belongs to the finest level that reaches it. The reach of a level ends where a group
//! of the next level ends, so at any moment the groups cut time into intervals that do not
//! overlap, and as the cursor moves on an interval is only ever cut into smaller ones.

use crate::bounds::{EXPIRY_FINEST_BITS, EXPIRY_LEVEL_BITS, EXPIRY_LEVELS, EXPIRY_RING};

/// Bits of a group's place in a heap node.
const ID_BITS: u32 = 13;

/// An interval of time, and the entries filed under it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Group {
    pub(super) level: usize,
    /// The interval's start in widths of the level.
    number: u64,
}

/// Bits of milliseconds in a group of `level`.
const fn width_bits(level: usize) -> u32 {
    EXPIRY_FINEST_BITS + level as u32 * EXPIRY_LEVEL_BITS
}

impl Group {
    /// The group of a deadline that is not before the cursor.
    #[inline]
    pub(super) fn of(deadline_ms: u64, cursor_ms: u64) -> Group {
        debug_assert!(deadline_ms >= cursor_ms);
        let mut level = 0;
        while level + 1 < EXPIRY_LEVELS {
            let wider = width_bits(level + 1);
            if deadline_ms >> wider <= (cursor_ms >> wider) + 1 {
                break;
            }
            level += 1;
        }
        Group { level, number: deadline_ms >> width_bits(level) }
    }

    /// The group in place `id` of the rings, which is known to be within reach of the cursor.
    pub(super) fn at(id: usize, cursor_ms: u64) -> Group {
        let (level, place) = (id / EXPIRY_RING, (id % EXPIRY_RING) as u64);
        let ring = EXPIRY_RING as u64;
        // A level reaches from the start of the present group of the next level.
        let first = cursor_ms >> width_bits(level + 1) << EXPIRY_LEVEL_BITS;
        Group { level, number: first + (place + ring - first % ring) % ring }
    }

    /// Its place among all rings.
    #[inline]
    pub(super) fn id(self) -> usize {
        self.level * EXPIRY_RING + self.number as usize % EXPIRY_RING
    }

    /// Its first millisecond.
    #[inline]
    pub(super) fn start_ms(self) -> u64 {
        self.number << width_bits(self.level)
    }

    /// When it is to be worked on: a group of level 0 fires once all of it has come; a coarser one
    /// is split from one width before its start on.
    #[inline]
    pub(super) fn due_ms(self) -> u64 {
        let (start_ms, width_ms) = (self.start_ms(), 1 << width_bits(self.level));
        if self.level == 0 { start_ms + width_ms - 1 } else { start_ms.saturating_sub(width_ms) }
    }

    /// Due time and place as one number that sorts by due time.
    #[inline]
    pub(super) fn to_node(self) -> u64 {
        self.due_ms() << ID_BITS | self.id() as u64
    }

    /// The group of a node.
    #[inline]
    pub(super) fn from_node(node: u64) -> Group {
        let level = (node & ((1 << ID_BITS) - 1)) as usize / EXPIRY_RING;
        let ahead = u64::from(level > 0);
        Group { level, number: (node >> ID_BITS >> width_bits(level)) + ahead }
    }
}

/// The due time of a node.
#[inline]
pub(super) fn node_due_ms(node: u64) -> u64 {
    node >> ID_BITS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::DEADLINE_BITS;
    use crate::item::DEADLINE_MS_MAX;

    fn samples() -> impl Iterator<Item = (u64, u64)> {
        let edges =
            (0..DEADLINE_BITS).flat_map(|bits| [(1 << bits) - 1, 1 << bits, 3 << bits >> 1]);
        let edges: Vec<u64> = edges.chain([DEADLINE_MS_MAX]).collect();
        let cursors = edges.clone();
        edges.into_iter().flat_map(move |deadline_ms| {
            let below = cursors.clone().into_iter().filter(move |&cursor| cursor <= deadline_ms);
            below.map(move |cursor_ms| (deadline_ms, cursor_ms))
        })
    }

    #[test]
    fn a_group_holds_its_deadline_and_names_read_back() {
        for (deadline_ms, cursor_ms) in samples() {
            let group = Group::of(deadline_ms, cursor_ms);
            let width_ms = 1 << width_bits(group.level);
            assert!((group.start_ms()..group.start_ms() + width_ms).contains(&deadline_ms));
            assert_eq!(Group::from_node(group.to_node()), group);
            assert_eq!(node_due_ms(group.to_node()), group.due_ms());
            assert_eq!(Group::at(group.id(), cursor_ms), group);
            if group.level == 0 {
                assert!(group.due_ms() >= deadline_ms && group.due_ms() < deadline_ms + 4);
            } else {
                assert!(group.due_ms() > cursor_ms, "a coarse group is split later");
                let split = Group::of(deadline_ms, group.due_ms());
                assert!(split.level < group.level, "when it is due, finer groups reach it");
            }
        }
    }

    #[test]
    fn groups_only_get_finer_as_the_cursor_moves_on() {
        for (deadline_ms, cursor_ms) in samples() {
            let early = Group::of(deadline_ms, cursor_ms);
            for later_ms in [cursor_ms + (deadline_ms - cursor_ms) / 2, deadline_ms] {
                let late = Group::of(deadline_ms, later_ms);
                assert!(late.level <= early.level && late.start_ms() >= early.start_ms());
            }
        }
    }
}
