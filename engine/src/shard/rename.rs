//! Renaming: an item gets another key, or goes to another database, and keeps its value.
//!
//! A small value is copied within the log, as when an item is rewritten. The pages of a large one
//! stay where they are, and only their numbers are copied: the new item takes them over from the
//! old one, and readers that have pinned them do not notice.
//!
//! Cost: three or four look-ups, and one write of an item that has the page numbers for its value
//! if that is large. No allocation.

use super::room::Need;
use super::{Found, Shard};
use crate::hash::KeyHash;
use crate::item::{DEADLINE_MS_MAX, Header, StoredDeadline, Version};
use crate::log::State;
use crate::policy::Queue;
use crate::request::{Refusal, SetError, Stored};

impl Shard {
    /// Gives the item of `key` the key `new_key`, with its value, flags and deadline, and the next
    /// version. An item that had `new_key` goes, or is a reason not to if `replaces` is not set.
    /// The hashes are this shard's, in whichever databases. Does not count as a use of either key.
    /// The outcome is [`Stored::ConditionFailed`] if there is no such item, or one that is not to
    /// be replaced.
    ///
    /// # Errors
    ///
    /// [`SetError`]; both keys are then as they were before, unless eviction took them.
    pub fn rename(
        &mut self,
        (hash, key): (KeyHash, &[u8]),
        (new_hash, new_key): (KeyHash, &[u8]),
        replaces: bool,
        now_ms: u64,
    ) -> Result<Stored, SetError> {
        self.begin(now_ms);
        self.check_lengths(new_key, 0)?;
        let is_taken = self.find_live(new_hash, new_key).is_some();
        let Some(found) = self.find_live(hash, key) else {
            return Ok(Stored::ConditionFailed(Refusal::Absent));
        };
        if is_taken && !replaces {
            return Ok(Stored::ConditionFailed(Refusal::Present));
        }
        if hash == new_hash && key == new_key {
            return Ok(Stored::Stored { version: found.header.version.number() });
        }
        let need = self.need_to_rename(&found, new_hash, new_key)?;
        self.expire_for(&need);
        self.make_room(&need)?;
        // Making room may have moved the item, or evicted it.
        if self.find_live(hash, key).is_none() {
            return Ok(Stored::ConditionFailed(Refusal::Absent));
        }
        if !self.log.open_head(need.queue, need.log_bytes) {
            self.counters.no_space += 1;
            return Err(SetError::NoSpace);
        }
        if let Some(target) = self.find_live(new_hash, new_key) {
            self.drop_item(new_hash, &target, State::Live);
        }
        // Dropping an item may have moved the slots of others.
        let Some(found) = self.find_live(hash, key) else {
            return Ok(Stored::ConditionFailed(Refusal::Absent));
        };
        self.move_to_key(hash, &found, need.queue, new_hash, new_key)?;
        let stored = Stored::Stored { version: Version::counted(self.version + 1).number() };
        self.version += 1;
        self.finish_write();
        Ok(stored)
    }

    /// The header of an item under its new key, with a deadline in its widest form.
    fn renamed(&self, found: &Found, new_hash: KeyHash, new_key: &[u8]) -> Header {
        Header {
            key_bytes: new_key.len(),
            version: Version::counted(self.version + 1),
            deadline: match found.header.deadline.resolve(self.now_ms) {
                None => StoredDeadline::None,
                Some(_) => StoredDeadline::Far(DEADLINE_MS_MAX),
            },
            space: new_hash.space(),
            ..found.header
        }
    }

    /// What the new item takes, in the queue of the old one.
    fn need_to_rename(
        &self,
        found: &Found,
        new_hash: KeyHash,
        new_key: &[u8],
    ) -> Result<Need, SetError> {
        let widest = self.renamed(found, new_hash, new_key);
        let queue = self.log.queue_of(found.offset);
        let need = self.need_of(&widest, true, true, queue)?;
        // The old item goes, so that only what the new one costs beyond it is new.
        let cost = need.cost.saturating_sub(self.log.cost_of(&found.header));
        Ok(Need { cost, ..need })
    }

    /// Writes the new item, for which there is room at the head, and takes the old one out.
    /// `new_key` has no item.
    fn move_to_key(
        &mut self,
        hash: KeyHash,
        old: &Found,
        queue: Queue,
        new_hash: KeyHash,
        new_key: &[u8],
    ) -> Result<(), SetError> {
        let deadline_ms = old.header.deadline.resolve(self.now_ms);
        let filing = self.plan_filing(None, deadline_ms);
        let header = Header {
            deadline: StoredDeadline::shortest(deadline_ms, self.now_ms),
            plane: filing.plane,
            ..self.renamed(old, new_hash, new_key)
        };
        let (item_bytes, cost) = (self.log.item_bytes(&header), self.log.cost_of(&header));
        let frequency = self.table.slot(old.slot).frequency;
        let offset = self.log.append(queue, item_bytes, cost);
        let item = self.log.at_mut(offset, item_bytes);
        let key_at = header.encode(item);
        item[key_at..key_at + new_key.len()].copy_from_slice(new_key);
        self.log.copy_value(old.offset, &old.header, offset, &header);
        self.work.bytes_copied += item_bytes as u64;
        // From here on the pages of the value are the new item's. The old slot goes first, lest
        // the old item should be evicted for the new slot.
        self.table.remove(hash, old.slot);
        if !self.insert_slot(new_hash, offset, frequency) {
            self.log.retire(offset, &header, State::Live);
            let inserted = self.table.insert(hash, old.offset, frequency);
            debug_assert!(inserted.is_ok(), "the slot was just freed");
            self.counters.no_space += 1;
            return Err(SetError::NoSpace);
        }
        self.expiry.note_end(deadline_ms, State::Live, self.now_ms);
        self.databases.note_end(old.header.space, deadline_ms, State::Live);
        self.log.retire(old.offset, &old.header, State::Live);
        self.databases.note_added(header.space);
        self.finish_filing(new_hash, &filing);
        Ok(())
    }
}
