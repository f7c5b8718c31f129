//! What clients do not need of the memory for connections and buffers is lent to items, and taken
//! back when they do.
//!
//! ```text
//! shares of connections and buffers: |<- in use ->|<- reserve ->|<-------- lent -------->|
//! ```
//!
//! In use counts what was: the allocator and the slab of connections keep the memory of a peak,
//! until the former is told to give it back. When clients come to use some of the reserve, the
//! loan shrinks by as much, as a limit; and what the shard has not given back yet is not there for
//! anybody (`budget`): replies that take much wait for it. What cannot wait goes into the reserve:
//! requests, small replies, and replies of commands that are executed in slices or by EXEC. When
//! that has taken half of the reserve, the shard pays within the turn: as many items go as it
//! takes, like when the same bytes were stored, and the memory is the kernel's again when the turn
//! ends.
//!
//! - N1. At the end of a turn, the loan, what is in use and the reserve add up to the shares at
//!   most; and so do what items still have of the shares and what is in use. The half of the
//!   reserve that is always there at the beginning of a turn covers what the turn receives (1 MiB)
//!   and its small replies. What is left: a reply that cannot be put off (of EXEC, or of a command
//!   in slices) and needs more than that, for as many turns as it takes to evict as much, at
//!   [`MAINTENANCE_ITEMS_MAX`] items a turn.
//! - N2. Nothing is lent where no item may be evicted: it might never come back.
//!
//! Cost: some additions a turn. A turn that pays takes as long as storing what it pays for.

use super::limits::{
    LOAN_STEPS, MAINTENANCE_ITEMS, MAINTENANCE_ITEMS_MAX, MAINTENANCE_ITEMS_OVERDRAWN,
    OVERDRAFT_BYTES_PER_ITEM,
};
use super::{Core, Transport, Weight};
use crate::memory::{CONNECTION_BYTES, Division};

impl<T: Transport> Core<T> {
    /// Lends what nobody needs, or takes back what somebody does, and tells the budget how much of
    /// its share is free.
    pub(super) fn tend_loan(&mut self) {
        let is_paid = self.note_owed();
        let asked_bytes = self.budget.ask(is_paid);
        if !self.shard.may_evict() {
            return;
        }
        let buffers_bytes = self.budget.recent_peak_bytes(self.spares.bytes()).max(asked_bytes);
        let in_use_bytes = self.connections_bytes() + buffers_bytes as u64;
        let memory = &mut self.options.memory;
        let lent_bytes = memory.lent_bytes();
        let wanted_bytes = loan(memory.division(), in_use_bytes, lent_bytes);
        if wanted_bytes != lent_bytes {
            memory.lend(wanted_bytes, &mut self.shard);
        }
    }

    /// Does background work of the shard: more while clients wait for what was lent, and as much as
    /// it takes when they have taken of the reserve. Whether there was any.
    pub(super) fn maintain_shard(&mut self) -> bool {
        let overdraft_bytes = self.budget.overdraft_bytes();
        let items = match overdraft_bytes {
            0 if self.budget.has_waiting() => MAINTENANCE_ITEMS_OVERDRAWN,
            0 => MAINTENANCE_ITEMS,
            _ => {
                let items = overdraft_bytes / OVERDRAFT_BYTES_PER_ITEM;
                (MAINTENANCE_ITEMS_OVERDRAWN + items).min(MAINTENANCE_ITEMS_MAX)
            }
        };
        let done = self.shard.maintain(self.now_ms, items);
        let given_back = match overdraft_bytes {
            // The last few segments, which are not worth an errand.
            0 if self.budget.has_waiting() && done == 0 => self.shard.give_back(usize::MAX),
            bytes => self.shard.give_back(bytes),
        };
        if given_back > 0 {
            self.note_owed();
        }
        done > 0
    }

    /// Tells the budget what of its share is free. Whether the shard has given back what was called
    /// back.
    fn note_owed(&mut self) -> bool {
        let connections_bytes = self.connections_bytes();
        let memory = &mut self.options.memory;
        let (owed_bytes, is_paid) = memory.owed(self.shard.memory_bytes() as u64);
        let division = memory.division();
        let free_bytes = division.clients_bytes().saturating_sub(connections_bytes + owed_bytes);
        let (limit_bytes, reserve_bytes) = (division.buffers_bytes, division.reserve_bytes());
        self.budget.set_limit(limit_bytes as usize, free_bytes as usize, reserve_bytes as usize);
        is_paid
    }

    /// How full the core is.
    pub(super) fn weigh(&self) -> Weight {
        let memory = &self.options.memory;
        let stats = self.shard.stats();
        let shifted_bytes = memory.shifted_bytes();
        let items_bytes = memory.division().items_bytes;
        Weight {
            used_bytes: self.shard.memory_bytes() as u64,
            limit_bytes: self.shard.limits().total_bytes as u64,
            share_bytes: items_bytes.saturating_add_signed(-shifted_bytes),
            shifted_bytes,
            evictions: stats.counters.evictions,
        }
    }

    /// Bytes of the connections' share that are in use, or were.
    fn connections_bytes(&self) -> u64 {
        let bytes = self.connections.slots() as u64 * CONNECTION_BYTES;
        bytes.min(self.options.memory.division().connections_bytes)
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
mod turns;

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
