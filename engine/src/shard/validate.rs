//! The deep check of everything that the modules promise, for tests and benchmarks.

use std::collections::HashMap;

use super::Shard;
use crate::bounds::LINE_BYTES;
use crate::hash::SPACES;

impl Shard {
    /// Checks the invariants of table, log, pages and expiry against each other, by walking all of
    /// them. For tests: takes about a microsecond an item, and allocates.
    ///
    /// # Errors
    ///
    /// Says which invariant does not hold, and where.
    pub fn validate(&self) -> Result<(), String> {
        let mut slots = HashMap::new();
        let mut misplaced = None;
        self.table.check(|bucket, slot| {
            if slots.insert(slot.offset, (bucket, slot.tag)).is_some() {
                misplaced = Some(format!("two slots refer to offset {}", slot.offset));
            }
        })?;
        if let Some(error) = misplaced {
            return Err(error);
        }
        let (mut live_items, mut spaces) = (0, [0; SPACES]);
        let mut with_deadline = Vec::new();
        self.log.check(|offset, header| {
            if header.dead {
                return Ok(false);
            }
            let hash = self.log.key_hash(offset, header, self.hash_seed);
            let expected = (self.table.bucket_of(hash), hash.tag());
            match slots.remove(&offset) {
                None => return Err(format!("the item at {offset} has no slot (S1)")),
                Some(slot) if slot != expected => {
                    return Err(format!("the slot of {offset} is {slot:?}, not {expected:?}"));
                }
                Some(_) => {}
            }
            let live = !self.log.is_flushed(offset, header);
            live_items += u64::from(live);
            spaces[usize::from(header.space)] += u64::from(live);
            if live && let Some(deadline_ms) = header.deadline.resolve(self.now_ms) {
                with_deadline.push((hash.prefix(), header.plane, deadline_ms));
            }
            Ok(live)
        })?;
        if let Some((offset, _)) = slots.iter().next() {
            return Err(format!("a slot refers to offset {offset}, where no item is (S1)"));
        }
        if live_items != self.log.live_items() {
            return Err(format!("{live_items} items live, {} counted", self.log.live_items()));
        }
        self.databases.check(&spaces)?;
        self.expiry.check(with_deadline.into_iter())?;
        self.check_limits_hold()
    }

    fn check_limits_hold(&self) -> Result<(), String> {
        if self.ceiling.is_some() {
            return Ok(());
        }
        let log_bytes = self.log.segments_in_use() * self.log.segment_bytes();
        let total_bytes = log_bytes + self.table.lines_resident() * LINE_BYTES;
        if total_bytes > self.limits.total_bytes {
            return Err(format!("{total_bytes} bytes exceed {:?}", self.limits));
        }
        if self.limits.data.is_some_and(|data_max| self.log.cost() > data_max) {
            return Err(format!("items that cost {} exceed {:?}", self.log.cost(), self.limits));
        }
        Ok(())
    }
}
