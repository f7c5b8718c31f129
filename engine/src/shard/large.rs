//! Large values: written as they arrive, and read piece by piece.
//!
//! ```text
//! begin_large -> append_large, ... -> finish_large     the item appears, whole
//!                                  -> abort_large      nothing has happened
//! pin -> pinned_chunk, ...         -> unpin            one version, whatever happens to the item
//! ```
//!
//! - L1. No call does more than a bounded piece of work. `append_large` may take fewer bytes than
//!   it is given, when there is not yet room for more; calling it again goes on making room.
//! - L2. Pages of arriving and of pinned values count against the limits as those of items do.
//!   Arriving values take no more than one part in `ARRIVING_SHARE` of the total limit, pinned ones
//!   one in `PINNED_SHARE`; but a single value of either kind is always let in. So there is always
//!   room that eviction can free.
//! - L3. An arriving value evicts what its own bytes push out, as they come, and at most a segment
//!   more. Nothing that a client only announces evicts anything.
//!
//! The tokens of both are not clonable, so that a value ends once. A token that is dropped without
//! its end leaves its pages taken for as long as the shard lives.

use super::Shard;
use super::room::Need;
use super::write::NewValue;
use crate::bounds::{
    APPEND_BYTES_MAX, APPEND_STEPS_MAX, APPEND_TRIES_MAX, ARRIVING_SHARE, PINNED_SHARE,
};
use crate::hash::KeyHash;
use crate::request::{SetError, SetOptions, Stored};

/// A value that is arriving, from [`Shard::begin_large`]. To be handed to [`Shard::finish_large`]
/// or [`Shard::abort_large`] of the same shard.
#[derive(Debug)]
#[must_use = "its pages stay taken until it is finished or aborted"]
pub struct LargeWrite {
    slot: u32,
    key: Box<[u8]>,
    value_bytes: usize,
    written_bytes: usize,
    /// Calls in a row that took nothing.
    tries: u32,
}

impl LargeWrite {
    /// The key that the value is for.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Bytes of the value that have not arrived yet.
    #[must_use]
    pub fn missing_bytes(&self) -> usize {
        self.value_bytes - self.written_bytes
    }
}

/// A value that is kept for a reader, from [`Shard::pin`]. To be handed to [`Shard::unpin`] of the
/// same shard.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "its pages stay taken until it is unpinned"]
pub struct PinnedValue {
    slot: u32,
    /// Bytes of the item's value before the first that the reader wants.
    skip_bytes: usize,
    value_bytes: usize,
}

impl PinnedValue {
    /// Bytes of the value, or of the part of it that [`PinnedValue::narrow`] left.
    #[expect(clippy::len_without_is_empty, reason = "a pinned value is never empty")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.value_bytes
    }

    /// Leaves the bytes from `start` to before `end` to be read, as if they were the whole value.
    /// At least one must be left; what lies beyond the end is not there.
    pub fn narrow(&mut self, start: usize, end: usize) {
        debug_assert!(start < end && end <= self.value_bytes, "a part of the value");
        self.skip_bytes += start;
        self.value_bytes = end.min(self.value_bytes).saturating_sub(start);
    }
}

/// The values that are being read take as much memory as they may: see [`Shard::pin`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PinLimit;

impl std::fmt::Display for PinLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("too many large values are being read")
    }
}

impl std::error::Error for PinLimit {}

impl Shard {
    /// The longest value that lies in the log beside its key, in bytes. Longer ones are large:
    /// they lie in pages, can be written as they arrive, and be pinned.
    #[inline]
    #[must_use]
    pub fn inline_value_bytes_max(&self) -> usize {
        self.inline_bytes_max()
    }

    /// Begins a value of `value_bytes` that is still to come. Nothing is taken, evicted or visible
    /// yet, and conditions are those of the end. `key` is copied: one allocation.
    ///
    /// # Errors
    ///
    /// The key or the value is longer than the shard accepts, or the item too large for it.
    pub fn begin_large(&mut self, key: &[u8], value_bytes: usize) -> Result<LargeWrite, SetError> {
        self.check_large(key, value_bytes)?;
        let slot = self.log.begin_arriving();
        Ok(LargeWrite { slot, key: key.into(), value_bytes, written_bytes: 0, tries: 0 })
    }

    /// Writes bytes that have come, and makes room for them. Returns how many it took from the
    /// front of `bytes`, at most 32 KiB and none beyond the value's end. When it is fewer, room is
    /// being made: call again with the rest, after other work. Does not allocate but for the list
    /// of page numbers, now and then.
    ///
    /// # Errors
    ///
    /// [`SetError::NoSpace`] when all arriving values together take as much as they may, or when
    /// there is no room, be it that nothing may be evicted or that others take what is freed. The
    /// write is to be aborted then.
    pub fn append_large(
        &mut self,
        write: &mut LargeWrite,
        bytes: &[u8],
        now_ms: u64,
    ) -> Result<usize, SetError> {
        self.begin(now_ms);
        let wanted = bytes.len().min(write.missing_bytes()).min(APPEND_BYTES_MAX);
        let pages = self.log.pages_to_take(write.written_bytes, wanted);
        if pages > 0 {
            self.check_arriving(write, pages)?;
            let need = Need { pages, ..Need::default() };
            self.expire_for(&need);
            if self.make_room_in_steps(&need, APPEND_STEPS_MAX)? && !self.log.open_pages(pages) {
                return self.no_space();
            }
        }
        if write.tries == APPEND_TRIES_MAX {
            return self.no_space();
        }
        let taken = wanted.min(self.log.bytes_open(write.written_bytes));
        self.log.append_arriving(write.slot, write.written_bytes, &bytes[..taken]);
        write.written_bytes += taken;
        write.tries = if taken > 0 { 0 } else { write.tries + 1 };
        Ok(taken)
    }

    /// Makes a value that has come whole the value of its key, as [`Shard::set`] does, if the
    /// condition holds now. `hash` is this shard's hash of the key, in whichever database. Whatever
    /// the outcome, the write has ended. Copies no value.
    ///
    /// # Errors
    ///
    /// As [`Shard::set`], and [`SetError::Incomplete`] when bytes of the value are missing. The key
    /// is then as it was before, unless eviction took it.
    pub fn finish_large(
        &mut self,
        write: LargeWrite,
        hash: KeyHash,
        options: &SetOptions,
        now_ms: u64,
    ) -> Result<Stored, SetError> {
        self.begin(now_ms);
        let LargeWrite { slot, ref key, value_bytes: bytes, .. } = write;
        let outcome = if write.missing_bytes() > 0 {
            Err(SetError::Incomplete)
        } else {
            self.store(hash, key, NewValue::Arrived { slot, bytes }, options)
        };
        self.log.drop_arriving(slot);
        outcome
    }

    /// Ends a write that will not be finished, and frees its pages.
    pub fn abort_large(&mut self, write: LargeWrite) {
        self.log.drop_arriving(write.slot);
    }

    /// Pins the value of a key for a reader: until [`Shard::unpin`] its bytes stay, whatever
    /// becomes of the item. A value may have many readers. Does not count as a use of the item.
    /// `None` when there is no such item, or its value does not lie in pages
    /// ([`crate::Value::as_slice`] has it then). Copies the page numbers: 4 bytes for each 16 KiB.
    ///
    /// # Errors
    ///
    /// [`PinLimit`], when other values are pinned already and with this one they would take more
    /// than a quarter of the total limit.
    pub fn pin(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        now_ms: u64,
    ) -> Result<Option<PinnedValue>, PinLimit> {
        self.tick(now_ms);
        let Some(found) = self.find_live(hash, key) else { return Ok(None) };
        let (offset, header) = (found.offset, found.header);
        if !header.paged || header.value_bytes == 0 {
            return Ok(None);
        }
        let slot = match self.log.pin_of(offset, &header) {
            Some(slot) => {
                self.log.pin_again(slot);
                slot
            }
            None => {
                let pinned = self.log.pinned_pages();
                let bytes = (pinned + header.pages(self.log.page_bytes())) * self.log.page_bytes();
                if pinned > 0 && bytes > self.limits.total_bytes / PINNED_SHARE {
                    return Err(PinLimit);
                }
                self.log.pin_first(offset, &header)
            }
        };
        Ok(Some(PinnedValue { slot, skip_bytes: 0, value_bytes: header.value_bytes }))
    }

    /// Bytes of a pinned value from `offset` on, as many as lie together: up to the end of a page.
    /// Empty at the value's end and beyond.
    #[must_use]
    pub fn pinned_chunk(&self, pinned: &PinnedValue, offset: usize) -> &[u8] {
        let left = pinned.value_bytes.saturating_sub(offset);
        let page = self.log.pinned_page(pinned.slot, pinned.skip_bytes + offset);
        &page[..page.len().min(left)]
    }

    /// Ends a reader. After the last one of a value whose item is gone, its pages are free.
    pub fn unpin(&mut self, pinned: PinnedValue) {
        self.log.unpin(pinned.slot);
    }

    /// Whether arriving values may take `pages` more pages (L2).
    fn check_arriving(&mut self, write: &LargeWrite, pages: usize) -> Result<(), SetError> {
        let page_bytes = self.log.page_bytes();
        let arriving = self.log.arriving_pages();
        let is_alone = arriving == write.written_bytes.div_ceil(page_bytes);
        if is_alone || (arriving + pages) * page_bytes <= self.limits.total_bytes / ARRIVING_SHARE {
            return Ok(());
        }
        self.no_space()
    }

    fn no_space<T>(&mut self) -> Result<T, SetError> {
        self.counters.no_space += 1;
        Err(SetError::NoSpace)
    }

    /// Makes room as [`Shard::make_room`] does, but examines at most `steps_max` tail items.
    /// Whether there is room now; if not, another call goes on.
    fn make_room_in_steps(&mut self, need: &Need, steps_max: u64) -> Result<bool, SetError> {
        let goes_on = self.go_for_room(need, steps_max);
        if self.fits(need) {
            return Ok(true);
        }
        // Where nothing may be evicted, only garbage is worth another call.
        if goes_on && (self.policy.is_some() || self.garbage_is_much()) {
            return Ok(false);
        }
        self.no_space()
    }
}
