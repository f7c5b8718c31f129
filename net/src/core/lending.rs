//! What clients do not need of the memory for connections and buffers is lent to items, and taken
//! back when they do.
//!
//! ```text
//! shares of connections and buffers: |<- in use ->|<- reserve ->|<-------- lent -------->|
//! ```
//!
//! In use counts what was: the allocator and the slab of connections keep the memory of a peak,
//! until the former is told to give it back. When clients come to use some of the reserve, the
//! loan shrinks by as much: at once as a limit, and in the shard step by step, with each write
//! and some background work a turn. Until then replies that take much wait (`budget`).
//!
//! - N1. The loan, what is in use and the reserve add up to the shares at most, but for the time
//!   that the shard takes to shrink.
//! - N2. Nothing is lent where no item may be evicted: it might never come back.
//!
//! Cost: a few additions a turn.

use super::limits::{LOAN_STEPS, MAINTENANCE_ITEMS, MAINTENANCE_ITEMS_OVERDRAWN};
use super::{Core, Transport};
use crate::memory::{CONNECTION_BYTES, Division};

impl<T: Transport> Core<T> {
    /// Lends what nobody needs, or takes back what somebody does, and tells the budget how much of
    /// its share is free.
    pub(super) fn tend_loan(&mut self) {
        let division = *self.options.memory.division();
        let connections_bytes = self.connections.slots() as u64 * CONNECTION_BYTES;
        let buffers_bytes = self.budget.recent_peak_bytes(self.spares.bytes());
        if self.shard.may_evict() {
            let lent_bytes = self.options.memory.lent_bytes();
            let in_use_bytes = connections_bytes + buffers_bytes as u64;
            let wanted_bytes = loan(&division, in_use_bytes, lent_bytes);
            if wanted_bytes != lent_bytes {
                self.options.memory.lend(wanted_bytes, &mut self.shard);
            }
        }
        let items_bytes = self.shard.memory_bytes() as u64;
        let with_items_bytes = items_bytes.saturating_sub(division.items_bytes);
        let shares_bytes = division.connections_bytes + division.buffers_bytes;
        let free_bytes = shares_bytes.saturating_sub(connections_bytes + with_items_bytes);
        self.budget.set_limit(division.buffers_bytes as usize, free_bytes as usize);
    }

    /// Items of background work for this turn: more while clients wait for what was lent.
    pub(super) fn maintenance_items(&self) -> usize {
        let behind = self.budget.is_overdrawn() || self.budget.has_waiting();
        if behind { MAINTENANCE_ITEMS_OVERDRAWN } else { MAINTENANCE_ITEMS }
    }
}

/// What to lend when so much is in use and `lent_bytes` are lent: whole steps, and no more than
/// before unless it is two, so that clients who take and give do not move it all the time.
fn loan(division: &Division, in_use_bytes: u64, lent_bytes: u64) -> u64 {
    let step_bytes = (division.lendable_bytes() / LOAN_STEPS).max(1);
    let left_bytes = division.lendable_bytes().saturating_sub(in_use_bytes);
    let wanted_bytes = left_bytes / step_bytes * step_bytes;
    let rises = wanted_bytes > lent_bytes && wanted_bytes - lent_bytes < 2 * step_bytes;
    if rises { lent_bytes } else { wanted_bytes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Wanted;

    #[test]
    fn the_loan_and_what_is_in_use_never_exceed_what_may_be_lent() {
        for memory_bytes in [64 << 20, 256 << 20, 1 << 30, 64 << 30] {
            let division =
                Division::of(memory_bytes, Wanted::connections(1_000)).expect("it is enough");
            let lendable_bytes = division.lendable_bytes();
            let (mut lent_bytes, mut changes) = (0, 0);
            let grown = (0..=1_000).map(|part| lendable_bytes / 900 * part);
            let shrunk = (0..=1_000).rev().map(|part| lendable_bytes / 900 * part);
            for in_use_bytes in grown.chain(shrunk) {
                let wanted_bytes = loan(&division, in_use_bytes, lent_bytes);
                assert!(wanted_bytes + in_use_bytes <= lendable_bytes.max(in_use_bytes));
                changes += u64::from(wanted_bytes != lent_bytes);
                lent_bytes = wanted_bytes;
            }
            assert!(changes <= 2 * LOAN_STEPS + 2, "{changes} changes");
            assert!(lent_bytes >= lendable_bytes - 2 * (lendable_bytes / LOAN_STEPS + 1));
        }
    }

    #[test]
    fn small_changes_move_nothing() {
        let division = Division::of(256 << 20, Wanted::connections(1_000)).expect("it is enough");
        let step_bytes = division.lendable_bytes() / LOAN_STEPS;
        let lent_bytes = loan(&division, 0, 0);
        let less_bytes =
            loan(&division, step_bytes / 2 + division.lendable_bytes() % step_bytes, lent_bytes);
        assert_eq!(less_bytes, lent_bytes - step_bytes);
        assert_eq!(loan(&division, 0, less_bytes), less_bytes, "a step up is not worth it");
        assert_eq!(loan(&division, 0, less_bytes - step_bytes), lent_bytes, "two are");
    }
}
