//! Memory that another thread sees to: populated ahead of the writer, and given back when it is
//! no longer wanted. See `crate::errand`.
//!
//! - Of the log, up to [`ERRAND_SEGMENTS_MAX`] free segments are kept populated ahead of the
//!   writer, never beyond the limit; of the table, up to two huge pages ahead of its last line.
//! - What the limit does not allow any more goes back to the kernel: segments beyond it (it was
//!   lowered, or the table grew), most of what a flush has freed, lines behind the table's end.
//!
//! Cost: a handful of comparisons when there is nothing to do; else one allocation for a few
//! megabytes.

use super::Shard;
use crate::bounds::{
    ERRAND_SEGMENTS_MAX, KEEP_ONE_FREE_IN, LINE_BYTES, RELEASE_SEGMENTS_MAX, SURPLUS_SEGMENTS_MIN,
    TABLE_STEP_BYTES, TABLE_STEP_SHARE, WARM_SEGMENTS_LOW,
};
use crate::errand::{Away, Errand, Returned};

impl Shard {
    /// The next errand for another thread, if there is one and none is out. To be asked for once
    /// in a while, such as after each batch of commands.
    #[inline]
    pub fn errand(&mut self) -> Option<Errand> {
        if self.errand_is_out {
            return None;
        }
        let errand =
            self.warm_segments().or_else(|| self.warm_table()).or_else(|| self.give_surplus_back());
        self.errand_is_out = errand.is_some();
        errand
    }

    /// Takes back what an errand was about: constant time for each segment of it.
    ///
    /// # Panics
    ///
    /// If the errand was not this shard's last.
    pub fn take_back(&mut self, returned: Returned) {
        assert!(std::mem::take(&mut self.errand_is_out), "an errand of this shard is out");
        match returned.away {
            Away::Segments { indices, warm } => self.log.take_back(&indices, warm),
            Away::TableAhead => {}
            Away::TableTail => self.table.take_back_tail(),
        }
    }

    /// Segments that the limit allows and nobody has.
    fn segments_left(&self) -> usize {
        let taken = self.log.segments_in_use() + self.log.warm_segments();
        self.segments_allowed(0).saturating_sub(taken)
    }

    fn warm_segments(&mut self) -> Option<Errand> {
        if self.log.warm_segments() >= WARM_SEGMENTS_LOW || self.ceiling.is_some() {
            return None;
        }
        // What is lent must never be missed: the reservation has to have as much again.
        let beyond = self.log.segments_max().saturating_sub(self.segments_allowed(0));
        let count = ERRAND_SEGMENTS_MAX.min(self.segments_left()).min(beyond);
        if count == 0 {
            return None;
        }
        let indices = self.log.lend_cold(count, TABLE_STEP_BYTES);
        self.with_segments(indices, true)
    }

    fn warm_table(&mut self) -> Option<Errand> {
        let step_bytes = TABLE_STEP_BYTES.min(self.limits.total_bytes / TABLE_STEP_SHARE);
        let part = self.table.ahead((step_bytes / LINE_BYTES).max(1))?;
        Some(Errand::new(vec![part], Away::TableAhead))
    }

    /// Gives free memory beyond the limit back to the kernel, about `bytes` of it at most, and at
    /// most as much as an errand does: for callers who cannot wait for another thread. Returns the
    /// bytes. Costs a system call, some ten microseconds for each segment, and an interruption of
    /// the process's other processors.
    pub fn give_back(&mut self, bytes: usize) -> usize {
        let usable = self.segments_allowed(0).saturating_sub(self.log.segments_in_use());
        let surplus = self.log.warm_segments().saturating_sub(usable);
        let count = surplus.min(bytes.div_ceil(self.log.segment_bytes())).min(RELEASE_SEGMENTS_MAX);
        let indices = self.log.lend_warm(count);
        let Some(errand) = self.with_segments(indices, false) else { return 0 };
        if let Away::Segments { indices, warm } = errand.run().away {
            self.log.take_back(&indices, warm);
        }
        count * self.log.segment_bytes()
    }

    /// Memory that the limit does not allow, or that a flush has freed.
    fn give_surplus_back(&mut self) -> Option<Errand> {
        let allowed = self.segments_allowed(0);
        let usable = allowed.saturating_sub(self.log.segments_in_use());
        let kept = match self.is_prefaulted {
            true => usable,
            false => usable.min(allowed / KEEP_ONE_FREE_IN + ERRAND_SEGMENTS_MAX),
        };
        let surplus = self.log.warm_segments().saturating_sub(kept);
        if surplus >= SURPLUS_SEGMENTS_MIN {
            let indices = self.log.lend_warm(surplus.min(RELEASE_SEGMENTS_MAX));
            return self.with_segments(indices, false);
        }
        let part = self.table.lend_tail()?;
        Some(Errand::new(vec![part], Away::TableTail))
    }

    fn with_segments(&self, indices: Vec<u32>, warm: bool) -> Option<Errand> {
        let parts: Vec<_> = indices.iter().map(|&index| self.log.segment_part(index)).collect();
        (!parts.is_empty()).then(|| Errand::new(parts, Away::Segments { indices, warm }))
    }
}

#[cfg(test)]
mod tests;
