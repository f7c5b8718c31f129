//! Held pages: those of values that are still arriving, and those of values that readers hold.
//!
//! ```text
//! arriving:  append, append, ..        -> adopted by a new item, or freed
//! pinned:    owned by its item         -> the last reader leaves: nothing to do
//!            the item goes: disowned   -> the last reader leaves: freed
//! ```
//!
//! - V1. A page of an arriving value belongs to it alone.
//! - V2. The pages of a pinned value stay where they are and as they are while it has readers:
//!   they belong to an item, or to the pin alone once that item is gone.
//! - V3. `by_first_page` holds the pinned values and nothing else. A page in use has one owner,
//!   so a value's first page names it.
//! - V4. `arriving_pages` and `pinned_pages` count the pages of each kind.
//!
//! An item's bytes do not say that it is pinned; whoever frees, moves or overwrites pages asks
//! here, which costs nothing while nothing is pinned, and one look-up for a paged item otherwise.
//!
//! Cost: 4 bytes for each held page. The lists of page numbers come from the allocator, and a few
//! are kept for reuse.

use std::collections::HashMap;

use super::Log;
use crate::bounds::{HELD_IDS_KEPT_MAX, HELD_LISTS_KEPT_MAX, PAGE_ID_BYTES};
use crate::item::Header;

/// What a slot of the slab holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hold {
    Free,
    Arriving,
    /// `is_owned` while an item has the pages too.
    Pinned {
        readers: u32,
        is_owned: bool,
    },
}

#[derive(Debug)]
struct Slot {
    hold: Hold,
    /// The numbers of the value's pages, in order.
    pages: Vec<u32>,
}

/// All held values of a log.
#[derive(Debug, Default)]
pub(super) struct Held {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_first_page: HashMap<u32, u32>,
    arriving_pages: usize,
    pinned_pages: usize,
}

impl Held {
    fn take_slot(&mut self, hold: Hold) -> u32 {
        let Some(index) = self.free.pop() else {
            self.slots.push(Slot { hold, pages: Vec::new() });
            return self.slots.len() as u32 - 1;
        };
        self.slots[index as usize].hold = hold;
        index
    }

    /// Empties a slot. Its list is kept for reuse unless it is long, or enough are kept.
    fn give_slot(&mut self, index: u32, mut pages: Vec<u32>) {
        pages.clear();
        if pages.capacity() > HELD_IDS_KEPT_MAX || self.free.len() >= HELD_LISTS_KEPT_MAX {
            pages = Vec::new();
        }
        self.slots[index as usize] = Slot { hold: Hold::Free, pages };
        self.free.push(index);
    }

    fn pages_of(&self, index: u32) -> &[u32] {
        &self.slots[index as usize].pages
    }
}

impl Log {
    /// Pages of arriving values.
    pub(crate) fn arriving_pages(&self) -> usize {
        self.held.arriving_pages
    }

    /// Pages of pinned values.
    pub(crate) fn pinned_pages(&self) -> usize {
        self.held.pinned_pages
    }

    /// Begins an arriving value; it has no page yet. Returns its slot.
    pub(crate) fn begin_arriving(&mut self) -> u32 {
        self.held.take_slot(Hold::Arriving)
    }

    /// Pages to take before `bytes` more bytes follow the first `written` ones of a value.
    pub(crate) fn pages_to_take(&self, written: usize, bytes: usize) -> usize {
        let page_bytes = self.page_bytes();
        (written + bytes).div_ceil(page_bytes) - written.div_ceil(page_bytes)
    }

    /// Bytes that can follow the first `written` ones of a value without opening a segment.
    pub(crate) fn bytes_open(&self, written: usize) -> usize {
        written.next_multiple_of(self.page_bytes()) - written
            + (self.pages_free() << self.page_shift)
    }

    /// Writes `bytes` behind the first `written` ones of an arriving value. The pages that it
    /// takes are there (`pages_to_take`, `open_pages`).
    pub(crate) fn append_arriving(&mut self, slot: u32, mut written: usize, mut bytes: &[u8]) {
        debug_assert_eq!(self.held.slots[slot as usize].hold, Hold::Arriving);
        while !bytes.is_empty() {
            let within = written & (self.page_bytes() - 1);
            if within == 0 {
                let page = self.take_page();
                self.held.arriving_pages += 1;
                self.held.slots[slot as usize].pages.push(page);
            }
            let page = self.held.pages_of(slot)[written >> self.page_shift];
            let (now, later) = bytes.split_at(bytes.len().min(self.page_bytes() - within));
            let start = ((page as usize) << self.page_shift) + within;
            self.bytes[start..start + now.len()].copy_from_slice(now);
            written += now.len();
            bytes = later;
        }
    }

    /// Gives the pages of an arriving value to an item: writes their numbers to `ids_offset`.
    pub(crate) fn adopt_arriving(&mut self, slot: u32, ids_offset: u64) {
        let pages = self.end_arriving(slot);
        for (index, &page) in pages.iter().enumerate() {
            self.set_page_id(ids_offset, index, page);
        }
        self.held.give_slot(slot, pages);
    }

    /// Frees the pages of an arriving value, unless an item has adopted them.
    pub(crate) fn drop_arriving(&mut self, slot: u32) {
        if self.held.slots[slot as usize].hold != Hold::Arriving {
            return;
        }
        let pages = self.end_arriving(slot);
        for &page in &pages {
            self.free_page(page);
        }
        self.held.give_slot(slot, pages);
    }

    fn end_arriving(&mut self, slot: u32) -> Vec<u32> {
        let slot = &mut self.held.slots[slot as usize];
        debug_assert_eq!(slot.hold, Hold::Arriving);
        self.held.arriving_pages -= slot.pages.len();
        std::mem::take(&mut slot.pages)
    }

    /// The slot of the item at `offset`, if it is pinned.
    pub(crate) fn pin_of(&self, offset: u64, header: &Header) -> Option<u32> {
        if self.held.by_first_page.is_empty() || !header.paged || header.value_bytes == 0 {
            return None;
        }
        let first = self.page_id(self.page_ids_offset(offset, header), 0);
        self.held.by_first_page.get(&first).copied()
    }

    /// Adds a reader to a value that is pinned.
    pub(crate) fn pin_again(&mut self, slot: u32) {
        match &mut self.held.slots[slot as usize].hold {
            Hold::Pinned { readers, .. } => *readers += 1,
            other => debug_assert!(false, "{other:?} is not pinned (V3)"),
        }
    }

    /// Pins the paged, not empty value of the item at `offset`, which is not pinned yet.
    pub(crate) fn pin_first(&mut self, offset: u64, header: &Header) -> u32 {
        let ids_offset = self.page_ids_offset(offset, header);
        let count = header.pages(self.page_bytes());
        let slot = self.held.take_slot(Hold::Pinned { readers: 1, is_owned: true });
        let mut pages = std::mem::take(&mut self.held.slots[slot as usize].pages);
        pages.extend((0..count).map(|index| self.page_id(ids_offset, index)));
        self.held.by_first_page.insert(pages[0], slot);
        self.held.pinned_pages += count;
        self.held.slots[slot as usize].pages = pages;
        slot
    }

    /// The bytes of a pinned value from `offset` to the end of its page.
    pub(crate) fn pinned_page(&self, slot: u32, offset: usize) -> &[u8] {
        let Some(&page) = self.held.pages_of(slot).get(offset >> self.page_shift) else {
            return &[];
        };
        let start = (page as usize) << self.page_shift;
        let within = offset & (self.page_bytes() - 1);
        &self.bytes[start + within..start + self.page_bytes()]
    }

    /// Takes a reader from a pinned value; after the last one, the pages are free, or the item's
    /// alone.
    pub(crate) fn unpin(&mut self, slot: u32) {
        let Hold::Pinned { readers, is_owned } = &mut self.held.slots[slot as usize].hold else {
            debug_assert!(false, "a value that is not pinned is unpinned (V3)");
            return;
        };
        *readers -= 1;
        if *readers > 0 {
            return;
        }
        let is_owned = *is_owned;
        let pages = std::mem::take(&mut self.held.slots[slot as usize].pages);
        self.held.by_first_page.remove(&pages[0]);
        self.held.pinned_pages -= pages.len();
        if !is_owned {
            for &page in &pages {
                self.free_page(page);
            }
        }
        self.held.give_slot(slot, pages);
    }

    /// Leaves the pages of the item at `offset`, which goes, to its readers. `false` when it has
    /// none.
    pub(super) fn disown(&mut self, offset: u64, header: &Header) -> bool {
        let Some(slot) = self.pin_of(offset, header) else { return false };
        if let Hold::Pinned { is_owned, .. } = &mut self.held.slots[slot as usize].hold {
            debug_assert!(*is_owned, "two items have the same pages (G5)");
            *is_owned = false;
        }
        true
    }

    /// Claims the pages that no item has (V1, V2), by `claim`, and checks V3 and V4.
    /// `items_pinned` items were found to be pinned.
    pub(super) fn check_held(
        &self,
        items_pinned: usize,
        mut claim: impl FnMut(u32) -> Result<(), String>,
    ) -> Result<(), String> {
        let (mut arriving, mut pinned, mut named, mut owned) = (0, 0, 0, 0);
        for (index, slot) in self.held.slots.iter().enumerate() {
            let is_own = match slot.hold {
                Hold::Free if slot.pages.is_empty() => continue,
                Hold::Free => return Err(format!("free slot {index} holds pages (V4)")),
                Hold::Arriving => {
                    arriving += slot.pages.len();
                    true
                }
                Hold::Pinned { readers, is_owned } => {
                    let first = slot.pages.first();
                    let name = first.and_then(|page| self.held.by_first_page.get(page));
                    if readers == 0 || name != Some(&(index as u32)) {
                        return Err(format!("pinned slot {index} is lost: {slot:?} (V3)"));
                    }
                    pinned += slot.pages.len();
                    named += 1;
                    owned += usize::from(is_owned);
                    !is_owned
                }
            };
            if is_own {
                slot.pages.iter().try_for_each(|&page| claim(page))?;
            }
        }
        if owned != items_pinned {
            return Err(format!("{items_pinned} items are pinned, {owned} pins have one (V2)"));
        }
        let counted = (arriving, pinned, named);
        let held = &self.held;
        let stated = (held.arriving_pages, held.pinned_pages, held.by_first_page.len());
        if counted != stated {
            return Err(format!("held pages are {counted:?}, counted as {stated:?} (V4)"));
        }
        Ok(())
    }

    /// Checks that a pinned item's pages are those of its pin (V2). Returns whether it is pinned.
    pub(super) fn check_pin(&self, offset: u64, header: &Header) -> Result<bool, String> {
        let Some(slot) = self.pin_of(offset, header) else { return Ok(false) };
        let ids_offset = self.page_ids_offset(offset, header);
        let count = header.pages(self.page_bytes());
        let pages = (0..count).map(|index| self.page_id(ids_offset, index));
        let slot = &self.held.slots[slot as usize];
        let is_owned = matches!(slot.hold, Hold::Pinned { is_owned: true, .. });
        if is_owned && pages.eq(slot.pages.iter().copied()) {
            return Ok(true);
        }
        Err(format!("the item at {offset} does not have the pages of its pin: {slot:?} (V2)"))
    }
}

const _: () = assert!(size_of::<u32>() == PAGE_ID_BYTES, "a page's number is a u32");
