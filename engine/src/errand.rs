//! Errands: what a shard asks of another thread, because the kernel takes its time over it.
//!
//! ```text
//!   shard (its own thread)                      another thread
//!   Shard::errand() -> Errand  ------------->   Errand::run()      populates, or gives back
//!   Shard::take_back(Returned) <-------------   -> Returned
//! ```
//!
//! The first touch of a page costs microseconds, that of a huge page up to milliseconds in a
//! virtual machine, and giving memory back interrupts every processor of the process. So both
//! happen elsewhere, a few megabytes at a time. A shard has one errand out at most. Nothing waits
//! for it: while memory is being populated the shard may use it, or other memory, and touch it
//! itself.
//!
//! - E1. Memory that an errand gives back is in use by nobody from [`Errand`] to [`Returned`]: the
//!   shard takes its segments out of the list of free ones, and keeps its table below its tail.
//!   Afterwards it relies on no value there (the log writes before it reads; the table's lines
//!   were empty, and zero is an empty line).
//!
//! An errand that is dropped unrun is lost, with its memory out of use: only an ending process
//! does that.

#![expect(unsafe_code, reason = "the one place that gives a shard's memory back to the kernel")]

use crate::mapping::Part;

/// What the errand is about, for the shard when it is back.
#[derive(Debug)]
pub(crate) enum Away {
    /// Segments that were not in use.
    Segments {
        /// Their indices.
        indices: Vec<u32>,
        /// Whether they come back populated.
        warm: bool,
    },
    /// Lines ahead of the table, which the table may have begun to use meanwhile.
    TableAhead,
    /// Lines behind the table's last one, which it leaves alone until they are back.
    TableTail,
}

/// Work of the kernel's for another thread; see the module's page. Made by
/// [`Shard::errand`](crate::Shard::errand).
#[derive(Debug)]
#[must_use = "a dropped errand keeps its memory out of use"]
pub struct Errand {
    parts: Vec<Part>,
    away: Away,
}

/// An errand that is done, for [`Shard::take_back`](crate::Shard::take_back).
#[derive(Debug)]
#[must_use = "the shard waits for it before it asks for anything else"]
pub struct Returned {
    pub(crate) away: Away,
}

impl Errand {
    pub(crate) fn new(parts: Vec<Part>, away: Away) -> Errand {
        Errand { parts, away }
    }

    /// Does the work: a fraction of a millisecond to tens of milliseconds, in steps of two
    /// megabytes, so that the kernel's lock on the address space is never held for long.
    pub fn run(self) -> Returned {
        let populates = match &self.away {
            Away::Segments { warm, .. } => *warm,
            Away::TableAhead => true,
            Away::TableTail => false,
        };
        for part in joined(self.parts) {
            if populates {
                part.populate();
            } else {
                // SAFETY: E1.
                unsafe { part.discard() };
            }
        }
        Returned { away: self.away }
    }
}

/// Neighbouring parts as one, so that huge pages go back whole.
fn joined(mut parts: Vec<Part>) -> Vec<Part> {
    parts.sort_unstable_by_key(Part::address);
    let mut joined: Vec<Part> = Vec::with_capacity(parts.len());
    for part in parts {
        match joined.last_mut() {
            Some(last) if last.is_followed_by(&part) => last.extend_over(&part),
            _ => joined.push(part),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::Mapped;

    #[test]
    fn neighbours_are_joined() {
        let (one, other) = (
            Mapped::<u8>::reserve(16 << 10, false).unwrap(),
            Mapped::<u8>::reserve(16 << 10, false).unwrap(),
        );
        let page = |mapped: &Mapped<u8>, index: usize| mapped.part(index << 12..(index + 1) << 12);
        let parts = vec![page(&one, 2), page(&other, 3), page(&one, 0), page(&one, 1)];
        let joined = joined(parts);
        assert_eq!(joined.len(), 2);
        let first = one.part(0..0).address();
        assert!(joined.iter().any(|part| part.address() == first));
    }
}
