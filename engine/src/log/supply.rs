//! Where segments come from: freed ones that are still in memory (*warm*), then those that are
//! not (*cold*: given back to the kernel, or never touched).
//!
//! Free segments can be lent to another thread that populates them or gives their memory back
//! (`crate::errand`). A lent segment is `Away`: in no list, and in nobody's use.
//!
//! - U1. A free segment is in exactly one of the lists of warm and cold ones, or `Away`.

use super::Log;
use super::segment::{Kind, NO_SEGMENT, Segment};
use crate::mapping::Part;

/// The free segments, as lists linked by `Segment::next`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Supply {
    warm: u32,
    warm_count: usize,
    cold: u32,
    away_count: usize,
}

impl Supply {
    pub(super) const EMPTY: Supply =
        Supply { warm: NO_SEGMENT, warm_count: 0, cold: NO_SEGMENT, away_count: 0 };
}

impl Log {
    /// Free segments that are in memory.
    #[inline]
    pub(crate) fn warm_segments(&self) -> usize {
        self.supply.warm_count
    }

    /// Segments that another thread works on.
    #[inline]
    pub(crate) fn away_segments(&self) -> usize {
        self.supply.away_count
    }

    /// Bytes of a segment's memory, for another thread.
    pub(crate) fn segment_part(&self, index: u32) -> Part {
        let start = (index as usize) << self.segment_shift;
        self.bytes.part(start..start + self.segment_bytes())
    }

    /// Lends up to `count` free segments that are in memory.
    pub(crate) fn lend_warm(&mut self, count: usize) -> Vec<u32> {
        let taken = std::iter::from_fn(|| self.pop_warm()).take(count).collect();
        self.lend(taken)
    }

    /// Lends up to `count` segments that are not in memory. Of those never touched it takes up to
    /// the end of a huge page, since a part of one costs as much as all of it.
    pub(crate) fn lend_cold(&mut self, count: usize, huge_page_bytes: usize) -> Vec<u32> {
        let mut taken: Vec<u32> = std::iter::from_fn(|| self.pop_cold()).take(count).collect();
        if taken.is_empty() {
            let fresh = self.segments.len();
            let whole = (huge_page_bytes >> self.segment_shift).max(1);
            let end = (fresh + count).min(self.segments_max);
            let aligned = end / whole * whole;
            let end = if aligned > fresh { aligned } else { end };
            taken.extend((fresh..end).filter_map(|_| self.push_fresh()));
        }
        self.lend(taken)
    }

    /// Takes lent segments back, in memory or not.
    pub(crate) fn take_back(&mut self, indices: &[u32], warm: bool) {
        for &index in indices {
            debug_assert_eq!(self.segments[index as usize].kind, Kind::Away, "U1");
            self.segments[index as usize].kind = Kind::Free;
            self.supply.away_count -= 1;
            if warm { self.push_warm(index) } else { self.push_cold(index) }
        }
    }

    /// Declares the first `count` segments, as far as they were never used, to be in memory.
    pub(super) fn declare_warm(&mut self, count: usize) {
        let fresh = self.segments.len();
        while self.segments.len() < count && self.push_fresh().is_some() {}
        for index in (fresh..self.segments.len()).rev() {
            self.push_warm(index as u32);
        }
    }

    /// A free segment, one in memory if there is one.
    pub(super) fn take_free(&mut self) -> Option<u32> {
        self.pop_warm().or_else(|| self.pop_cold()).or_else(|| self.push_fresh())
    }

    /// Adds a free segment whose memory was just in use.
    pub(super) fn push_warm(&mut self, index: u32) {
        self.segments[index as usize].next = std::mem::replace(&mut self.supply.warm, index);
        self.supply.warm_count += 1;
    }

    fn push_cold(&mut self, index: u32) {
        self.segments[index as usize].next = std::mem::replace(&mut self.supply.cold, index);
    }

    fn pop_warm(&mut self) -> Option<u32> {
        let index = self.supply.warm;
        self.supply.warm = self.segments.get(index as usize)?.next;
        self.supply.warm_count -= 1;
        Some(index)
    }

    fn pop_cold(&mut self) -> Option<u32> {
        let index = self.supply.cold;
        self.supply.cold = self.segments.get(index as usize)?.next;
        Some(index)
    }

    /// The next segment that was never used.
    fn push_fresh(&mut self) -> Option<u32> {
        if self.segments.len() == self.segments_max {
            return None;
        }
        self.segments.push(Segment::FREE);
        Some((self.segments.len() - 1) as u32)
    }

    fn lend(&mut self, taken: Vec<u32>) -> Vec<u32> {
        for &index in &taken {
            self.segments[index as usize].kind = Kind::Away;
        }
        self.supply.away_count += taken.len();
        taken
    }

    /// Checks U1: for `Log::check`.
    pub(super) fn check_supply(&self) -> Result<(), String> {
        let count = |kind| self.segments.iter().filter(|segment| segment.kind == kind).count();
        let mut listed = [0, 0];
        for (first, listed) in [self.supply.warm, self.supply.cold].into_iter().zip(&mut listed) {
            let mut index = first;
            while let Some(segment) = self.segments.get(index as usize) {
                if segment.kind != Kind::Free || *listed > self.segments.len() {
                    return Err(format!("segment {index} is listed as free: {segment:?} (U1)"));
                }
                *listed += 1;
                index = segment.next;
            }
        }
        let found = (listed[0], listed[0] + listed[1], count(Kind::Away));
        let stated = (self.supply.warm_count, count(Kind::Free), self.supply.away_count);
        if found != stated {
            return Err(format!("warm, free, away are {found:?}, said to be {stated:?} (U1)"));
        }
        Ok(())
    }
}
