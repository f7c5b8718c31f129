//! Storing, touching and deleting.
//!
//! A write that leaves the item's size as it was happens in place. Any other appends a new item
//! and marks the old one dead. Both count as a use of the key.

use super::{Found, Shard};
use crate::bounds::{INLINE_VALUE_BYTES_MAX, ITEM_SHARE};
use crate::hash::KeyHash;
use crate::item::{self, DEADLINE_MS_MAX, Header, StoredDeadline, Version};
use crate::log::State;
use crate::policy::Queue;
use crate::request::{Deadline, Deleted, Marks, SetError, SetOptions, Stored};
use crate::shard::room::Need;

/// An item on its way in. The header's deadline and plane are settled when it is written.
struct NewItem<'a> {
    hash: KeyHash,
    key: &'a [u8],
    value: NewValue<'a>,
    header: Header,
    deadline_ms: Option<u64>,
}

/// The value of an item on its way in.
#[derive(Clone, Copy)]
pub(super) enum NewValue<'a> {
    /// To be copied.
    Bytes(&'a [u8]),
    /// In pages already, under this slot of arriving values.
    Arrived { slot: u32, bytes: usize },
}

impl NewValue<'_> {
    fn len(self) -> usize {
        match self {
            NewValue::Bytes(value) => value.len(),
            NewValue::Arrived { bytes, .. } => bytes,
        }
    }
}

impl Shard {
    /// Stores `value` under `key`, if the condition holds. `hash` is this shard's hash of `key`.
    /// Does not allocate. Copies the value once; beside that the work is bounded by constants and
    /// by the item's size.
    ///
    /// # Errors
    ///
    /// [`SetError`]; the key is then as it was before, unless eviction took it.
    pub fn set(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        value: &[u8],
        options: &SetOptions,
        now_ms: u64,
    ) -> Result<Stored, SetError> {
        self.begin(now_ms);
        self.store(hash, key, NewValue::Bytes(value), options)
    }

    /// Stores a value, as [`Shard::set`] says. One that has arrived and is not stored stays in its
    /// slot.
    pub(super) fn store(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        value: NewValue<'_>,
        options: &SetOptions,
    ) -> Result<Stored, SetError> {
        self.check_lengths(key, value.len())?;
        let old = self.find_live(hash, key);
        let old_version = old.map(|old| old.header.version.number());
        if let Some(refusal) = options.condition.refusal(old_version) {
            return Ok(Stored::ConditionFailed(refusal));
        }
        let deadline_ms = match options.deadline {
            Deadline::None => None,
            Deadline::At(deadline_ms) => Some(deadline_ms),
            Deadline::Keep => old.and_then(|old| old.header.deadline.resolve(self.now_ms)),
        };
        let version = match options.version {
            Some(version) => Version::Wide(version),
            None => Version::counted(self.version + 1),
        };
        let stored = Stored::Stored { version: version.number() };
        if deadline_ms.is_some_and(|deadline_ms| deadline_ms <= self.now_ms) {
            if let Some(old) = old {
                self.drop_item(hash, &old, State::Live);
            }
            self.version += 1;
            self.finish_write();
            return Ok(stored);
        }
        let header = Header {
            dead: false,
            paged: matches!(value, NewValue::Arrived { .. })
                || value.len() > self.inline_bytes_max(),
            key_bytes: key.len(),
            value_bytes: value.len(),
            version,
            flags: options.flags.or(old.map(|old| old.header.flags)).unwrap_or(0),
            deadline: StoredDeadline::None,
            plane: false,
            space: hash.space(),
            marks: options.marks,
        };
        let new = NewItem { hash, key, value, header, deadline_ms };
        if !old.is_some_and(|old| self.overwrite(&new, &old)) {
            self.place(&new, old)?;
        }
        let had_lease = old.is_some_and(|old| old.header.marks.token_sent);
        if had_lease || options.marks.token_sent {
            self.leases.stored(hash, had_lease, options.marks.token_sent, self.now_ms);
        }
        self.counters.stores += 1;
        self.version += 1;
        self.finish_write();
        Ok(stored)
    }

    /// Gives an item another deadline (`None` takes it away), and returns its version, which stays
    /// the same; `None` when there is no such item. A deadline that has come deletes it. Happens
    /// in place unless the item had no deadline before, or a near one that goes beyond 24 days.
    ///
    /// # Errors
    ///
    /// [`SetError::NoSpace`] when the item must be rewritten, there is no room and nothing may be
    /// evicted. The item then is as it was.
    pub fn set_deadline(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        deadline_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<Option<u64>, SetError> {
        self.begin(now_ms);
        let Some(found) = self.find_live(hash, key) else { return Ok(None) };
        let version = found.header.version.number();
        if deadline_ms.is_some_and(|deadline_ms| deadline_ms <= self.now_ms) {
            self.drop_item(hash, &found, State::Live);
            self.version += 1;
            self.finish_write();
            return Ok(Some(version));
        }
        if let Some(deadline) = found.header.deadline.same_form(deadline_ms, self.now_ms) {
            let filing = self.plan_filing(Some(&found), deadline_ms);
            let header = Header { plane: filing.plane, ..found.header };
            let item = self.log.at_mut(found.offset, found.header_bytes);
            item::set_deadline(item, &header, deadline);
            self.mark_used(hash, found.slot, found.offset);
            self.finish_filing(hash, &filing);
            self.sweep_some();
            return Ok(Some(version));
        }
        let widest = Header { deadline: StoredDeadline::Far(0), ..found.header };
        let queue = self.log.queue_of(found.offset);
        let Some(found) = self.open_for_rewrite(hash, key, &found, &widest)? else {
            return Ok(None);
        };
        let deadline = StoredDeadline::shortest(deadline_ms, self.now_ms);
        let filing = self.plan_filing(Some(&found), deadline_ms);
        let header = Header { deadline, plane: filing.plane, ..found.header };
        let offset = self.rewrite(&found, queue, &header);
        self.mark_used(hash, found.slot, offset);
        self.finish_filing(hash, &filing);
        self.sweep_some();
        Ok(Some(version))
    }

    /// Makes room in its queue for an item to be written again, with a header that is no longer
    /// than `widest`. Where the item is then, or `None` if making room has evicted it.
    pub(super) fn open_for_rewrite(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        found: &Found,
        widest: &Header,
    ) -> Result<Option<Found>, SetError> {
        let queue = self.log.queue_of(found.offset);
        let cost = self.log.cost_of(widest).saturating_sub(self.log.cost_of(&found.header));
        let need = Need { queue, log_bytes: self.log.item_bytes(widest), pages: 0, cost };
        if need.log_bytes > self.log.segment_bytes() {
            return Err(SetError::TooLarge);
        }
        self.expire_for(&need);
        self.make_room(&need)?;
        // Making room may have moved the item, or evicted it.
        let Some(found) = self.find_live(hash, key) else { return Ok(None) };
        if !self.log.open_head(queue, need.log_bytes) {
            return Err(SetError::NoSpace);
        }
        Ok(Some(found))
    }

    /// Writes an item again at the open head of `queue`, with another header. Where it is now.
    pub(super) fn rewrite(&mut self, found: &Found, queue: Queue, header: &Header) -> u64 {
        let item_bytes = self.log.item_bytes(header);
        let offset = self.log.append(queue, item_bytes, self.log.cost_of(header));
        header.encode(self.log.at_mut(offset, item_bytes));
        self.log.copy_body(found.offset, &found.header, offset, header);
        self.log.retire(found.offset, &found.header, State::Live);
        self.table.relocate(found.slot, offset);
        self.work.bytes_copied += item_bytes as u64;
        offset
    }

    /// Deletes a key, with `version` only if the item has that version.
    pub fn delete(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        version: Option<u64>,
        now_ms: u64,
    ) -> Deleted {
        self.begin(now_ms);
        let found = self.find_live(hash, key);
        let outcome = match (found, version) {
            (None, _) => Deleted::Absent,
            (Some(found), Some(wanted)) if found.header.version.number() != wanted => {
                Deleted::VersionMismatch
            }
            (Some(found), _) => {
                self.drop_item(hash, &found, State::Live);
                self.version += 1;
                Deleted::Deleted
            }
        };
        self.finish_write();
        outcome
    }

    /// The longest value that lies in the log beside its key.
    pub(super) fn inline_bytes_max(&self) -> usize {
        INLINE_VALUE_BYTES_MAX.min(self.log.segment_bytes() / 4)
    }

    pub(super) fn check_lengths(&self, key: &[u8], value_bytes: usize) -> Result<(), SetError> {
        if key.len() > self.key_bytes_max {
            return Err(SetError::KeyTooLong { bytes_max: self.key_bytes_max });
        }
        if value_bytes > self.value_bytes_max {
            return Err(SetError::ValueTooLong { bytes_max: self.value_bytes_max });
        }
        Ok(())
    }

    /// Stores `new` over `old` in place, if its size allows. Returns whether it did.
    fn overwrite(&mut self, new: &NewItem<'_>, old: &Found) -> bool {
        let NewValue::Bytes(value) = new.value else { return false };
        let page_bytes = self.log.page_bytes();
        let deadline = old.header.deadline.same_form(new.deadline_ms, self.now_ms);
        let deadline =
            deadline.unwrap_or_else(|| StoredDeadline::shortest(new.deadline_ms, self.now_ms));
        let header = Header { deadline, ..new.header };
        let item_bytes = header.item_bytes(page_bytes);
        if header.paged != old.header.paged
            || header.pages(page_bytes) != old.header.pages(page_bytes)
            || item_bytes != old.header.item_bytes(page_bytes)
            || self.log.pin_of(old.offset, &old.header).is_some()
        {
            return false;
        }
        let filing = self.plan_filing(Some(old), new.deadline_ms);
        let header = Header { plane: filing.plane, ..header };
        let item = self.log.at_mut(old.offset, item_bytes);
        let key_at = header.encode(item);
        let value_at = key_at + new.key.len();
        if header.paged {
            // Key and page numbers are where they were: equal sizes leave equal headers.
            let ids_offset = self.log.page_ids_offset(old.offset, &header);
            self.log.overwrite_pages(ids_offset, value);
        } else {
            item[key_at..value_at].copy_from_slice(new.key);
            item[value_at..].copy_from_slice(value);
        }
        self.mark_used(new.hash, old.slot, old.offset);
        self.finish_filing(new.hash, &filing);
        self.counters.overwrites_in_place += 1;
        true
    }

    /// Appends `new` at the head, and lets its slot replace that of `old`.
    fn place(&mut self, new: &NewItem<'_>, old: Option<Found>) -> Result<(), SetError> {
        let queue = old.map_or(Queue::Window, |old| self.log.queue_of(old.offset));
        let has_arrived = matches!(new.value, NewValue::Arrived { .. });
        let need = self.need_of(&new.header, new.deadline_ms.is_some(), has_arrived, queue)?;
        let replaces_pages = need.pages > 0 && self.policy.is_some();
        if let Some(old) = old.filter(|old| old.header.paged && replaces_pages) {
            // Its pages are room for the new value; otherwise they would push others out.
            self.drop_item(new.hash, &old, State::Live);
        }
        let frequency = match old {
            Some(_) => 0,
            None => self.count_insert(new.hash, need.cost),
        };
        self.expire_for(&need);
        self.make_room(&need)?;
        // Making room may have moved the old item, or evicted it.
        let old = old.and_then(|_| self.find_live(new.hash, new.key));
        if !self.log.open_pages(need.pages) || !self.log.open_head(queue, need.log_bytes) {
            return Err(SetError::NoSpace);
        }
        let deadline = StoredDeadline::shortest(new.deadline_ms, self.now_ms);
        let filing = self.plan_filing(old.as_ref(), new.deadline_ms);
        let header = Header { deadline, plane: filing.plane, ..new.header };
        let item_bytes = self.log.item_bytes(&header);
        let offset = self.log.append(queue, item_bytes, self.log.cost_of(&header));
        let item = self.log.at_mut(offset, item_bytes);
        let key_at = header.encode(item);
        let value_at = key_at + new.key.len();
        item[key_at..value_at].copy_from_slice(new.key);
        match new.value {
            NewValue::Bytes(value) if header.paged => {
                self.log.write_pages(self.log.page_ids_offset(offset, &header), value);
            }
            NewValue::Bytes(value) => item[value_at..].copy_from_slice(value),
            NewValue::Arrived { slot, .. } => {
                self.log.adopt_arriving(slot, self.log.page_ids_offset(offset, &header));
            }
        }
        match old {
            Some(old) => {
                self.log.bury(old.offset, &old.header, State::Live);
                self.table.relocate(old.slot, offset);
                self.mark_used(new.hash, old.slot, offset);
            }
            None => {
                self.add_slot(new.hash, offset, &header, frequency)?;
                self.databases.note_added(header.space);
            }
        }
        self.finish_filing(new.hash, &filing);
        Ok(())
    }

    /// What a new item takes at most in `queue`, or that it is too large for this shard. The pages
    /// of a value that has arrived are there already.
    pub(super) fn need_of(
        &self,
        header: &Header,
        has_deadline: bool,
        has_arrived: bool,
        queue: Queue,
    ) -> Result<Need, SetError> {
        let page_bytes = self.log.page_bytes();
        let deadline = match has_deadline {
            false => StoredDeadline::None,
            true => StoredDeadline::Far(DEADLINE_MS_MAX),
        };
        let widest = Header { deadline, ..*header };
        let pages = widest.pages(page_bytes);
        let cost = self.log.cost_of(&widest);
        let bytes = widest.item_bytes(page_bytes) + pages * page_bytes;
        let missing = if has_arrived { 0 } else { pages };
        let log_bytes = widest.item_bytes(page_bytes);
        let need = Need { queue, log_bytes, pages: missing, cost };
        let bytes_max = self.limits.total_bytes / ITEM_SHARE;
        let too_large = need.log_bytes > self.log.segment_bytes()
            || bytes > bytes_max
            || self.limits.data.is_some_and(|data_max| cost > data_max);
        if too_large { Err(SetError::TooLarge) } else { Ok(need) }
    }

    /// Whether an item with a large value of `value_bytes` could be stored, whatever its options.
    pub(super) fn check_large(&self, key: &[u8], value_bytes: usize) -> Result<(), SetError> {
        self.check_lengths(key, value_bytes)?;
        let header = Header {
            dead: false,
            paged: true,
            key_bytes: key.len(),
            value_bytes,
            version: Version::Wide(0),
            flags: 1,
            deadline: StoredDeadline::None,
            plane: false,
            // Any but 0 takes a byte.
            space: 1,
            marks: Marks::default(),
        };
        self.need_of(&header, true, true, Queue::Window).map(|_| ())
    }

    /// Gives a new item its slot. A full chain without a free overflow line evicts another item
    /// of the chain, or refuses the new one where nothing may be evicted.
    fn add_slot(
        &mut self,
        hash: KeyHash,
        offset: u64,
        header: &Header,
        frequency: u8,
    ) -> Result<(), SetError> {
        if self.insert_slot(hash, offset, frequency) {
            return Ok(());
        }
        self.log.bury(offset, header, State::Live);
        self.counters.no_space += 1;
        Err(SetError::NoSpace)
    }

    /// Inserts a slot for the item at `offset`, as `add_slot` says. Whether it did.
    pub(super) fn insert_slot(&mut self, hash: KeyHash, offset: u64, frequency: u8) -> bool {
        if self.table.insert(hash, offset, frequency).is_ok() {
            return true;
        }
        let victim = self.table.any_of(hash).filter(|_| self.policy.is_some());
        let Some(slot) = victim else { return false };
        let victim_offset = self.table.offset(slot);
        let victim_header = self.log.header(victim_offset);
        let state = self.log.state(victim_offset, &victim_header, self.now_ms);
        self.drop_slot(hash, slot, victim_offset, &victim_header, state);
        self.counters.chain_evictions += 1;
        self.counters.evictions += 1;
        let inserted = self.table.insert(hash, offset, frequency);
        debug_assert!(inserted.is_ok(), "the removal left a free slot in the chain");
        inserted.is_ok()
    }
}
