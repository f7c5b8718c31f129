//! The deep check of the expiry structure, for `Shard::validate`.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::{Expiry, Group};
use crate::bounds::EXPIRY_GROUPS;

impl Expiry {
    /// Walks all groups and checks X1, X3 and X4, the chains and the counts. `items` are the live
    /// items with a deadline: prefix, plane and deadline.
    ///
    /// # Errors
    ///
    /// Says which invariant does not hold, and where.
    pub(crate) fn check(
        &self,
        items: impl Iterator<Item = (u32, bool, u64)>,
    ) -> Result<(), String> {
        let starts = self.check_groups()?;
        let (mut count, mut sum_ms) = (0, 0);
        for (prefix, plane, deadline_ms) in items {
            count += 1;
            sum_ms += u128::from(deadline_ms);
            let latest_ms = self.group_of(deadline_ms).start_ms();
            match starts.get(&(prefix, plane)) {
                None => return Err(format!("no entry for the item due at {deadline_ms} (X1)")),
                Some(&start_ms) if start_ms > latest_ms => {
                    return Err(format!("due at {deadline_ms}, filed at {start_ms} (X1)"));
                }
                Some(_) => {}
            }
        }
        if (count, sum_ms) != (self.items, self.deadlines_ms) {
            return Err(format!("{count} items with deadlines, {} counted", self.items));
        }
        Ok(())
    }

    /// Checks groups, heap and chains, and returns the start of the earliest group with an entry
    /// for each prefix and plane.
    fn check_groups(&self) -> Result<HashMap<(u32, bool), u64>, String> {
        let mut groups: HashMap<usize, Group> = HashMap::new();
        for &Reverse(node) in &self.heap {
            let group = Group::from_node(node);
            if !self.queued[group.id()] || self.cursor_ms > group.due_ms() {
                return Err(format!("{group:?} is queued, cursor {} (X3)", self.cursor_ms));
            }
            groups.insert(group.id(), group);
        }
        if groups.len() != self.queued.iter().filter(|queued| **queued).count() {
            return Err("groups are marked as queued that are not, or queued twice".into());
        }
        for &group in self.splits.iter().flatten() {
            if groups.insert(group.id(), group).is_some() || self.cursor_ms > group.start_ms() {
                return Err(format!("{group:?} is split, cursor {} (X3)", self.cursor_ms));
            }
        }
        let mut starts = HashMap::new();
        let (mut entries, mut chunks) = (0, 0);
        for (plane, chains) in [(false, &self.chains[0]), (true, &self.chains[1])] {
            for id in (0..EXPIRY_GROUPS).filter(|&id| chains[id] != 0) {
                let group = groups.get(&id).ok_or(format!("place {id} is in no heap"))?;
                if *group != Group::at(id, self.cursor_ms) {
                    return Err(format!("{group:?} is out of reach of {}", self.cursor_ms));
                }
                if plane != self.plane && self.sweep.is_none_or(|swept| id < swept) {
                    return Err(format!("{group:?} has entries of the old plane (X4)"));
                }
                chunks += self.chunks.check(chains[id], |prefix| {
                    let start_ms = starts.entry((prefix, plane)).or_insert(u64::MAX);
                    *start_ms = group.start_ms().min(*start_ms);
                    entries += 1;
                })?;
            }
        }
        if entries != self.entries {
            return Err(format!("{entries} entries, {} counted", self.entries));
        }
        self.chunks.check_count(chunks)?;
        Ok(starts)
    }
}
