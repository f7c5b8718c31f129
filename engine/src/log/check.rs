//! The deep check of the log, for `Shard::validate`.

use super::segment::Kind;
use super::{Log, NO_SEGMENT};
use crate::item::Header;

impl Log {
    /// Walks all items ahead of the cursor and all segments, and checks G1 to G5, P1 and P2. `f`
    /// is called with each item and says whether it counts as live.
    ///
    /// # Errors
    ///
    /// Says which invariant does not hold, and where; or what `f` says.
    pub(crate) fn check(
        &self,
        mut f: impl FnMut(u64, &Header) -> Result<bool, String>,
    ) -> Result<(), String> {
        let mut live_bytes = 0;
        let mut dead_bytes = 0;
        let mut pages = vec![0u16; self.segments.len()];
        let mut log_segments = 0;
        let mut index = self.tail;
        let mut base_ms = 0;
        while index != NO_SEGMENT {
            let segment = self.segments[index as usize];
            if segment.kind != Kind::Log || segment.base_ms < base_ms {
                return Err(format!("segment {index} is out of place in the log: {segment:?}"));
            }
            base_ms = segment.base_ms;
            log_segments += 1;
            let passed = if index == self.tail { self.cursor_bytes } else { 0 };
            let start = u64::from(index) << self.segment_shift;
            let (mut offset, end) =
                (start + u64::from(passed), start + u64::from(segment.fill_bytes));
            let mut segment_live_bytes = 0;
            while offset < end {
                let header = self.header(offset);
                let item_bytes = self.item_bytes(&header) as u64;
                if f(offset, &header)? {
                    segment_live_bytes += item_bytes;
                } else {
                    dead_bytes += item_bytes;
                }
                if !header.dead {
                    self.claim_pages(offset, &header, &mut pages)?;
                }
                offset += item_bytes;
            }
            if offset != end || end - start > self.segment_bytes() as u64 {
                return Err(format!("segment {index} does not end with an item (G1)"));
            }
            let epoch_live = if segment.epoch == self.epoch { segment.live_bytes } else { 0 };
            if u64::from(epoch_live) != segment_live_bytes {
                return Err(format!("segment {index}: {segment_live_bytes} live, {segment:?}"));
            }
            live_bytes += segment_live_bytes;
            if segment.next == NO_SEGMENT && index != self.head {
                return Err("the log does not end at its head".into());
            }
            index = segment.next;
        }
        if (live_bytes, dead_bytes) != (self.live_bytes, self.dead_bytes) {
            return Err(format!(
                "live and dead bytes are {live_bytes} and {dead_bytes}, counted {} and {} (G2)",
                self.live_bytes, self.dead_bytes
            ));
        }
        self.check_pages(&pages, log_segments)
    }

    /// Marks the pages of an item as owned, and fails when one has another owner (G5).
    fn claim_pages(&self, offset: u64, header: &Header, pages: &mut [u16]) -> Result<(), String> {
        let ids_offset = self.page_ids_offset(offset, header);
        for index in 0..header.pages(self.page_bytes()) {
            let page = self.page_id(ids_offset, index) as usize;
            let bit = 1 << (page % self.pages_per_segment());
            let owned = &mut pages[page / self.pages_per_segment()];
            if *owned & bit != 0 {
                return Err(format!("page {page} has two owners (G5)"));
            }
            *owned |= bit;
        }
        Ok(())
    }

    fn check_pages(&self, pages: &[u16], log_segments: usize) -> Result<(), String> {
        let mut in_use = log_segments;
        let (mut used, mut free) = (0, 0);
        for (index, segment) in self.segments.iter().enumerate() {
            let expected = if segment.kind == Kind::Pages { segment.pages } else { 0 };
            if pages[index] != expected {
                return Err(format!("pages {:b} are owned, {segment:?} (G5)", pages[index]));
            }
            if segment.kind == Kind::Pages {
                in_use += 1;
                used += segment.pages.count_ones() as usize;
                free += self.pages_per_segment() - segment.pages.count_ones() as usize;
            }
        }
        let mut listed = 0;
        for (list, &first) in self.page_lists.iter().enumerate() {
            let mut index = first;
            while index != NO_SEGMENT {
                let segment = self.segments[index as usize];
                let in_list = segment.pages.count_ones() as usize;
                if segment.kind != Kind::Pages || in_list != list || list == 0 {
                    return Err(format!("segment {index} is in page list {list} (P1)"));
                }
                listed += self.pages_per_segment() - in_list;
                index = segment.next;
            }
        }
        let counted = (in_use, used, free, listed);
        let stated = (self.in_use, self.pages_used, self.pages_free, self.pages_free);
        if counted != stated {
            return Err(format!("segments, pages are {counted:?}, counted as {stated:?} (P2)"));
        }
        Ok(())
    }
}
