//! The deep check of the log, for `Shard::validate`.

use super::segment::Kind;
use super::{Log, NO_SEGMENT};
use crate::item::Header;
use crate::policy::Queue;

/// What a walk over the queues adds up.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    live_bytes: u64,
    dead_bytes: u64,
    segments: usize,
    /// Items whose values are pinned.
    pins: usize,
}

impl Log {
    /// Walks all items ahead of the cursor and all segments, and checks G1 to G5, P1, P2, U1 and V1
    /// to V4. `f` is called with each item and says whether it counts as live.
    ///
    /// # Errors
    ///
    /// Says which invariant does not hold, and where; or what `f` says.
    pub(crate) fn check(
        &self,
        mut f: impl FnMut(u64, &Header) -> Result<bool, String>,
    ) -> Result<(), String> {
        let mut totals = Totals::default();
        let mut pages = vec![0u16; self.segments.len()];
        for queue in Queue::ALL {
            self.check_chain(queue, &mut totals, &mut pages, &mut f)?;
        }
        if (totals.live_bytes, totals.dead_bytes) != (self.live_bytes, self.dead_bytes) {
            return Err(format!(
                "live and dead bytes are {totals:?}, counted {} and {} (G2)",
                self.live_bytes, self.dead_bytes
            ));
        }
        let slack_bytes: u64 = self.segments.iter().map(|s| u64::from(s.slack_bytes)).sum();
        if slack_bytes != self.slack_bytes {
            return Err(format!("{slack_bytes} bytes of slack, counted {}", self.slack_bytes));
        }
        if let Some(hand) = self.segments.get(self.hand as usize)
            && (!matches!(hand.kind, Kind::Log(_)) || hand.next == NO_SEGMENT)
        {
            return Err(format!("the hand is at segment {}: {hand:?} (H1)", self.hand));
        }
        self.check_held(totals.pins, |page| self.claim_page(page, &mut pages))?;
        self.check_pages(&pages, totals.segments)
    }

    fn check_chain(
        &self,
        queue: Queue,
        totals: &mut Totals,
        pages: &mut [u16],
        f: &mut impl FnMut(u64, &Header) -> Result<bool, String>,
    ) -> Result<(), String> {
        let chain = self.chain(queue);
        let mut cost = 0;
        let mut previous = NO_SEGMENT;
        let mut index = chain.tail;
        while index != NO_SEGMENT {
            let segment = &self.segments[index as usize];
            if segment.kind != Kind::Log(queue) || segment.previous != previous {
                return Err(format!("segment {index} is out of place in {queue:?}: {segment:?}"));
            }
            totals.segments += 1;
            if totals.segments > self.in_use {
                return Err("the queues have more segments than are in use".into());
            }
            let current = segment.epoch == self.epoch;
            let (live_bytes, segment_cost) = self.check_items(index, totals, pages, f)?;
            let stated = (segment.live_bytes as usize, segment.cost);
            if (live_bytes, segment_cost) != if current { stated } else { (0, 0) } {
                return Err(format!("segment {index}: {live_bytes} live, {segment:?}"));
            }
            let inside = previous != NO_SEGMENT && segment.next != NO_SEGMENT;
            if inside && current && live_bytes == 0 && index != self.hand {
                return Err(format!("segment {index} is dead and not free (G4)"));
            }
            cost += segment_cost;
            previous = index;
            index = segment.next;
        }
        if previous != chain.head || cost != chain.cost {
            return Err(format!("{queue:?} ends at {previous} and costs {cost}: {chain:?}"));
        }
        Ok(())
    }

    /// Walks the items of a segment; returns its live bytes and their cost.
    fn check_items(
        &self,
        index: u32,
        totals: &mut Totals,
        pages: &mut [u16],
        f: &mut impl FnMut(u64, &Header) -> Result<bool, String>,
    ) -> Result<(usize, u64), String> {
        let segment = &self.segments[index as usize];
        let start = self.start_of(index);
        let (mut offset, end) =
            (start + u64::from(segment.passed_bytes), start + u64::from(segment.fill_bytes));
        let (mut live_bytes, mut cost) = (0, 0);
        while offset < end {
            let header = self.header(offset);
            let item_bytes = self.item_bytes(&header);
            if f(offset, &header)? {
                live_bytes += item_bytes;
                cost += self.cost_of(&header);
                totals.live_bytes += item_bytes as u64;
            } else {
                totals.dead_bytes += item_bytes as u64;
            }
            if !header.dead {
                self.claim_pages(offset, &header, pages)?;
                totals.pins += usize::from(self.check_pin(offset, &header)?);
            }
            offset += item_bytes as u64;
        }
        if offset != end || end - start > self.segment_bytes() as u64 {
            return Err(format!("segment {index} does not end with an item (G1)"));
        }
        Ok((live_bytes, cost))
    }

    /// Marks the pages of an item as owned, and fails when one has another owner (G5).
    fn claim_pages(&self, offset: u64, header: &Header, pages: &mut [u16]) -> Result<(), String> {
        let ids_offset = self.page_ids_offset(offset, header);
        for index in 0..header.pages(self.page_bytes()) {
            self.claim_page(self.page_id(ids_offset, index), pages)?;
        }
        Ok(())
    }

    fn claim_page(&self, page: u32, pages: &mut [u16]) -> Result<(), String> {
        let place = page as usize;
        let bit = 1 << (place % self.pages_per_segment());
        let owned = &mut pages[place / self.pages_per_segment()];
        if *owned & bit != 0 {
            return Err(format!("page {page} has two owners (G5)"));
        }
        *owned |= bit;
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
        self.check_supply()
    }
}
