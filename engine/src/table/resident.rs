//! Which of the table's memory is in use by the process: what was touched counts against the
//! limit until it is given back, however small the table has become since.
//!
//! - N1. The table has no more than `lines_end` buckets. While lines behind its last bucket are
//!   lent, that is where they begin.
//! - N2. `touched` is at least `buckets`; lines from there on are in memory only if they were
//!   populated ahead.
//!
//! The overflow lines are not given back, since free ones are linked through their own memory.
//! Free ones are used again before fresh ones are, so there are never more than were in use at a
//! time: a third of the largest table's lines, just before its buckets have doubled.

use super::Table;
use crate::bounds::{LINE_BYTES, TABLE_KEEP_ONE_IN, TABLE_STEP_BYTES};
use crate::mapping::Part;

/// Lines of a huge page.
pub(super) const STEP_LINES: usize = TABLE_STEP_BYTES / LINE_BYTES;

#[derive(Debug)]
pub(super) struct Resident {
    /// Primary lines that were ever in use since memory was last given back.
    touched: usize,
    /// Primary and overflow lines that were populated, or are being so.
    primary_asked: usize,
    overflow_asked: usize,
    /// Primary lines that stay in memory for good.
    kept: usize,
    /// The most buckets that the table may have now.
    pub(super) lines_end: usize,
}

impl Resident {
    pub(super) fn new(lines_max: usize) -> Resident {
        let (primary_asked, overflow_asked) = (0, 0);
        Resident { touched: 1, primary_asked, overflow_asked, kept: 0, lines_end: lines_max }
    }

    /// Notes that the table has come to have this many buckets.
    #[inline]
    pub(super) fn touch(&mut self, buckets: usize) {
        self.touched = self.touched.max(buckets);
    }
}

impl Table {
    /// Lines that count against the limit: those in use, and those that were.
    #[inline]
    pub(crate) fn lines_resident(&self) -> usize {
        self.resident.touched + self.overflow_fresh as usize - 1
    }

    /// Touches the first `lines` primary lines, which stay in memory from now on.
    pub(crate) fn prefault(&mut self, lines: usize) {
        let lines = lines.min(self.primary_lines_max);
        self.lines.prefault(lines);
        self.resident.touch(lines);
        self.resident.primary_asked = self.resident.primary_asked.max(lines);
        self.resident.kept = lines;
    }

    /// Asks for memory of a node of the machine; whether the kernel agreed.
    pub(crate) fn prefer_node(&mut self, node: usize) -> bool {
        self.lines.prefer_node(node)
    }

    /// The next `lines` to populate, once the table has come within half of that of what is.
    pub(crate) fn ahead(&mut self, lines: usize) -> Option<Part> {
        let resident = &mut self.resident;
        let (primary, overflow) = (0..self.primary_lines_max, self.overflow_at..self.lines.len());
        let sides = [
            (primary, self.buckets, &mut resident.primary_asked),
            (overflow, self.overflow_fresh as usize, &mut resident.overflow_asked),
        ];
        for (side, used, asked) in sides {
            *asked = (*asked).max(used);
            if used + lines / 2 > *asked && *asked < side.len() {
                let end = (*asked + lines).min(side.len());
                let part = self.lines.part(side.start + *asked..side.start + end);
                *asked = end;
                return Some(part);
            }
        }
        None
    }

    /// Lends the memory behind the table's last bucket, from the first huge page that the table is
    /// not about to grow into, if that is half a huge page or more.
    pub(crate) fn lend_tail(&mut self) -> Option<Part> {
        let resident = &mut self.resident;
        let wanted = self.buckets + (self.buckets / TABLE_KEEP_ONE_IN).max(STEP_LINES / 2);
        let from = wanted.next_multiple_of(STEP_LINES).max(resident.kept);
        let end = resident.touched.max(resident.primary_asked);
        if from + STEP_LINES / 2 > end {
            return None;
        }
        resident.lines_end = from;
        Some(self.lines.part(from..end))
    }

    /// Takes the lent memory back: it is out of memory now.
    pub(crate) fn take_back_tail(&mut self) {
        let from = self.resident.lines_end;
        self.resident.touched = self.resident.touched.min(from);
        self.resident.primary_asked = self.resident.primary_asked.min(from);
        self.resident.lines_end = self.primary_lines_max;
    }

    /// Checks N1 and N2: for `check`.
    pub(super) fn check_resident(&self) -> Result<(), String> {
        let resident = &self.resident;
        if self.buckets > resident.lines_end || self.buckets > resident.touched {
            return Err(format!("{} buckets, but {resident:?} (N1, N2)", self.buckets));
        }
        Ok(())
    }
}
