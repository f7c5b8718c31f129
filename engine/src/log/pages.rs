//! Pages: the memory of values too long for the log.
//!
//! A page segment is cut into 4 to 16 pages. Segments with a free page are listed by their number
//! of used pages, and a page is taken from the fullest, so that sparse segments run empty and go
//! back to the log. When many pages are free all the same, an item that the cursor copies takes
//! its pages along into fuller segments (`gather_pages`): a change of value sizes strands nothing.
//!
//! - P1. A page segment with `n` used pages is in list `n`, unless it is full; it has at least one.
//! - P2. `pages_free` counts the free pages of page segments.
//!
//! A page's number is its offset in the log's memory divided by the page size.

use super::segment::Kind;
use super::{Log, NO_SEGMENT};
use crate::bounds::PAGE_ID_BYTES;
use crate::item::Header;

impl Log {
    /// Bytes of a page.
    #[inline]
    pub(crate) fn page_bytes(&self) -> usize {
        1 << self.page_shift
    }

    /// Pages of a page segment.
    pub(crate) fn pages_per_segment(&self) -> usize {
        1 << (self.segment_shift - self.page_shift)
    }

    /// Free pages of the page segments.
    pub(crate) fn pages_free(&self) -> usize {
        self.pages_free
    }

    /// Segments to open so that `pages` pages are free.
    #[inline]
    pub(crate) fn page_segments_missing(&self, pages: usize) -> usize {
        let missing = pages.saturating_sub(self.pages_free);
        if missing == 0 { 0 } else { missing.div_ceil(self.pages_per_segment()) }
    }

    /// Makes sure that `pages` pages are free. `false` when the reservation has no segment left.
    pub(crate) fn open_pages(&mut self, pages: usize) -> bool {
        while self.pages_free < pages {
            let Some(index) = self.open_segment(Kind::Pages) else { return false };
            self.pages_free += self.pages_per_segment();
            self.link_pages(index);
        }
        true
    }

    /// Writes a value into fresh pages, and their numbers to `ids_offset` in the item. The pages
    /// are there (`open_pages`).
    pub(crate) fn write_pages(&mut self, ids_offset: u64, value: &[u8]) {
        let page_bytes = self.page_bytes();
        for (index, chunk) in value.chunks(page_bytes).enumerate() {
            let page = self.take_page();
            let start = (page as usize) << self.page_shift;
            self.bytes[start..start + chunk.len()].copy_from_slice(chunk);
            self.set_page_id(ids_offset, index, page);
        }
    }

    /// Overwrites the pages of an item by a value of the same number of pages.
    pub(crate) fn overwrite_pages(&mut self, ids_offset: u64, value: &[u8]) {
        let page_bytes = self.page_bytes();
        for (index, chunk) in value.chunks(page_bytes).enumerate() {
            let start = (self.page_id(ids_offset, index) as usize) << self.page_shift;
            self.bytes[start..start + chunk.len()].copy_from_slice(chunk);
        }
    }

    /// Writes bytes into the pages of an item, from byte `at` of its value on.
    pub(crate) fn patch_pages(&mut self, ids_offset: u64, mut at: usize, mut bytes: &[u8]) {
        let page_bytes = self.page_bytes();
        while !bytes.is_empty() {
            let within = at & (page_bytes - 1);
            let (now, later) = bytes.split_at(bytes.len().min(page_bytes - within));
            let page = self.page_id(ids_offset, at >> self.page_shift) as usize;
            let start = (page << self.page_shift) + within;
            self.bytes[start..start + now.len()].copy_from_slice(now);
            (at, bytes) = (at + now.len(), later);
        }
    }

    /// Where the page numbers of the item at `offset` lie.
    pub(crate) fn page_ids_offset(&self, offset: u64, header: &Header) -> u64 {
        offset + (header.header_bytes() + header.key_bytes) as u64
    }

    /// The number of page `index` of an item.
    pub(crate) fn page_id(&self, ids_offset: u64, index: usize) -> u32 {
        let at = ids_offset as usize + index * PAGE_ID_BYTES;
        let mut id = [0; PAGE_ID_BYTES];
        id.copy_from_slice(&self.bytes[at..at + PAGE_ID_BYTES]);
        u32::from_le_bytes(id)
    }

    /// Frees the pages of the item at `offset`, unless readers hold them.
    pub(crate) fn free_pages_of(&mut self, offset: u64, header: &Header) {
        if self.disown(offset, header) {
            return;
        }
        let ids_offset = self.page_ids_offset(offset, header);
        for index in 0..header.pages(self.page_bytes()) {
            self.free_page(self.page_id(ids_offset, index));
        }
    }

    /// Whether more than one page in four of the page segments is free, beyond one segment.
    pub(crate) fn pages_are_sparse(&self) -> bool {
        self.pages_free > self.pages_per_segment() && self.pages_free * 3 > self.pages_used
    }

    /// Copies pages of the item at `offset` from sparse segments to fuller ones, at most `bytes`
    /// bytes; none while readers hold them. Returns the bytes copied.
    pub(crate) fn gather_pages(&mut self, offset: u64, header: &Header, bytes: usize) -> usize {
        if self.pin_of(offset, header).is_some() {
            return 0;
        }
        let ids_offset = self.page_ids_offset(offset, header);
        let pages = header.pages(self.page_bytes()).min(bytes >> self.page_shift);
        let mut copied_bytes = 0;
        for index in 0..pages {
            let page = self.page_id(ids_offset, index);
            if !self.has_fuller(self.page_segment(page)) {
                continue;
            }
            let target = self.take_page();
            let source = (page as usize) << self.page_shift;
            let source = source..source + self.page_bytes();
            self.bytes.copy_within(source, (target as usize) << self.page_shift);
            self.set_page_id(ids_offset, index, target);
            self.free_page(page);
            copied_bytes += self.page_bytes();
        }
        copied_bytes
    }

    /// Whether a page taken now comes from a segment at least as full as segment `index`, but
    /// another one: the move then makes full segments fuller and sparse ones sparser.
    fn has_fuller(&self, index: u32) -> bool {
        let used = self.segments[index as usize].pages.count_ones() as usize;
        let list = self.fullest_list();
        list.is_some_and(|list| list >= used && self.page_lists[list] != index)
    }

    /// Takes a page of the fullest segment that has a free one. There is one (`open_pages`).
    pub(super) fn take_page(&mut self) -> u32 {
        let list = self.fullest_list().expect("pages were opened before they are taken (P2)");
        let index = self.page_lists[list];
        self.unlink_pages(index);
        let pages = &mut self.segments[index as usize].pages;
        let page = pages.trailing_ones();
        *pages |= 1 << page;
        self.pages_free -= 1;
        self.pages_used += 1;
        self.link_pages(index);
        (index << (self.segment_shift - self.page_shift)) | page
    }

    pub(super) fn free_page(&mut self, page: u32) {
        let index = self.page_segment(page);
        self.unlink_pages(index);
        let bit = page & (self.pages_per_segment() as u32 - 1);
        let pages = &mut self.segments[index as usize].pages;
        debug_assert!(*pages & 1 << bit != 0, "a page was freed twice (G5)");
        *pages &= !(1 << bit);
        let empty = *pages == 0;
        self.pages_free += 1;
        self.pages_used -= 1;
        if empty {
            self.pages_free -= self.pages_per_segment();
            self.free_segment(index);
        } else {
            self.link_pages(index);
        }
    }

    fn page_segment(&self, page: u32) -> u32 {
        page >> (self.segment_shift - self.page_shift)
    }

    pub(super) fn set_page_id(&mut self, ids_offset: u64, index: usize, page: u32) {
        let at = ids_offset as usize + index * PAGE_ID_BYTES;
        self.bytes[at..at + PAGE_ID_BYTES].copy_from_slice(&page.to_le_bytes());
    }

    /// The highest number of used pages among segments with a free one.
    fn fullest_list(&self) -> Option<usize> {
        self.page_lists.iter().rposition(|&first| first != NO_SEGMENT)
    }

    /// Puts a page segment into its list, unless it is full.
    fn link_pages(&mut self, index: u32) {
        let used = self.segments[index as usize].pages.count_ones() as usize;
        if used == self.pages_per_segment() {
            return;
        }
        let next = std::mem::replace(&mut self.page_lists[used], index);
        if let Some(next) = self.segments.get_mut(next as usize) {
            next.previous = index;
        }
        let segment = &mut self.segments[index as usize];
        segment.next = next;
        segment.previous = NO_SEGMENT;
    }

    /// Takes a page segment out of its list, unless it is full and in none.
    fn unlink_pages(&mut self, index: u32) {
        let segment = self.segments[index as usize];
        let used = segment.pages.count_ones() as usize;
        if used == self.pages_per_segment() {
            return;
        }
        match self.segments.get_mut(segment.previous as usize) {
            Some(previous) => previous.next = segment.next,
            None => self.page_lists[used] = segment.next,
        }
        if let Some(next) = self.segments.get_mut(segment.next as usize) {
            next.previous = segment.previous;
        }
    }
}
