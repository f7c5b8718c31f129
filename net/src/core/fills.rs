//! Reads that wait until another client has fetched the value (memcached's leases, `mg` with `w`).
//!
//! ```text
//! command -> Flow::AwaitFill -> ticket, Waiter ---- its lease has ended, or its time has come
//!                                   ^                      |
//!                                   +--- still out --- executed again --- reply for the ticket
//! ```
//!
//! - F1. A reader waits no longer than until its `until_ms`, and is looked at once in
//!   [`FILL_LOOK_MS`] whatever happens: the shard tells of leases that end by a store, a delete or
//!   expiry, and not of items that are evicted or flushed.
//! - F2. Readers of a key are answered in the order in which they came.
//! - F3. A turn looks at [`FILL_LOOKS_PER_TURN`] readers at most; the others come in the next.
//! - F4. There are [`FILL_WAITERS_MAX`] readers at most. Who comes then is answered at once.
//!
//! Cost: a few hundred nanoseconds to wait and as much to be woken, in ordered maps; a turn in
//! which nobody waits looks at two empty ones.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pinion_engine::KeyHash;
use pinion_ring::Key;

use super::batch::Work;
use super::context::context;
use super::foreign::Dest;
use super::guest;
use super::limits::{FILL_LOOK_MS, FILL_LOOKS_PER_TURN, FILL_WAITERS_MAX};
use super::{Core, Transport};
use crate::command::{self, Flow};
use crate::connection::{Closing, Ticket};

/// Who waits.
#[derive(Clone, Copy, Debug)]
enum Asker {
    /// A connection, with the place of its reply.
    Connection(Key, Ticket),
    /// One of another core.
    Guest(Dest),
}

/// A read that waits.
#[derive(Debug)]
struct Waiter {
    asker: Asker,
    /// The request.
    frame: Box<[u8]>,
    hash: KeyHash,
    /// When it is looked at next.
    look_ms: u64,
    /// When it is answered at the latest.
    until_ms: u64,
}

/// Readers of one key whose lease has ended, by number.
#[derive(Clone, Copy, Debug)]
struct Woken {
    hash: u64,
    from: u64,
    to: u64,
}

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Fills {
    /// By the hash of the key, and the order in which they came.
    waiters: BTreeMap<(u64, u64), Waiter>,
    /// When each is looked at next.
    looks: BTreeSet<(u64, u64, u64)>,
    woken: VecDeque<Woken>,
    next_number: u64,
}

impl Fills {
    /// Whether there are readers to be looked at now.
    #[inline]
    pub(super) fn has_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    /// How many readers wait.
    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    /// When the next reader is to be looked at.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.looks.first().map(|&(look_ms, _, _)| look_ms)
    }

    /// Readers of another core that wait here.
    pub(super) fn guests_of(&self, core: usize) -> usize {
        let is_its =
            |waiter: &&Waiter| matches!(waiter.asker, Asker::Guest(dest) if dest.core == core);
        self.waiters.values().filter(is_its).count()
    }

    fn insert(&mut self, number: u64, waiter: Waiter) {
        let hash = waiter.hash.bits();
        self.looks.insert((waiter.look_ms, hash, number));
        self.waiters.insert((hash, number), waiter);
    }

    fn remove(&mut self, hash: u64, number: u64) -> Option<(u64, Waiter)> {
        let waiter = self.waiters.remove(&(hash, number))?;
        self.looks.remove(&(waiter.look_ms, hash, number));
        Some((number, waiter))
    }

    /// Wakes all that wait for a key now.
    fn wake(&mut self, hash: u64) {
        if self.waiters.range((hash, 0)..=(hash, u64::MAX)).next().is_some() {
            self.woken.push_back(Woken { hash, from: 0, to: self.next_number });
        }
    }

    /// The next reader to look at, with its number.
    fn next(&mut self, now_ms: u64) -> Option<(u64, Waiter)> {
        while let Some(woken) = self.woken.front_mut() {
            let range = (woken.hash, woken.from)..(woken.hash, woken.to);
            let Some((&(hash, number), _)) = self.waiters.range(range).next() else {
                self.woken.pop_front();
                continue;
            };
            woken.from = number + 1;
            return self.remove(hash, number);
        }
        let &(look_ms, hash, number) = self.looks.first()?;
        if look_ms > now_ms {
            return None;
        }
        self.remove(hash, number)
    }
}

impl<T: Transport> Core<T> {
    /// Lets a read wait: see [`Flow::AwaitFill`]. `frame` is its request.
    pub(super) fn await_fill(
        &mut self,
        connection: Key,
        frame: Box<[u8]>,
        hash: KeyHash,
        look_ms: u64,
        until_ms: u64,
    ) {
        let Some(found) = self.connections.find(connection) else { return };
        let ticket = found.replies.defer();
        self.budget.recount(found);
        self.let_wait(Asker::Connection(connection, ticket), frame, hash, look_ms, until_ms);
    }

    /// The same for a connection of another core.
    pub(super) fn await_guest_fill(
        &mut self,
        dest: Dest,
        frame: Box<[u8]>,
        hash: KeyHash,
        look_ms: u64,
        until_ms: u64,
    ) {
        self.let_wait(Asker::Guest(dest), frame, hash, look_ms, until_ms);
    }

    fn let_wait(
        &mut self,
        asker: Asker,
        frame: Box<[u8]>,
        hash: KeyHash,
        look_ms: u64,
        until_ms: u64,
    ) {
        let look_ms = look_ms.min(self.now_ms + FILL_LOOK_MS);
        let mut waiter = Waiter { asker, frame, hash, look_ms, until_ms };
        let number = self.fills.next_number;
        self.fills.next_number += 1;
        if self.fills.waiters.len() >= FILL_WAITERS_MAX {
            waiter.until_ms = self.now_ms;
            self.look_again(number, waiter);
            return;
        }
        self.fills.insert(number, waiter);
    }

    /// Looks at readers whose lease has ended, or whose time has come.
    pub(super) fn look_at_fills(&mut self) {
        while let Some(hash) = self.shard.ended_lease() {
            self.fills.wake(hash);
        }
        for _ in 0..FILL_LOOKS_PER_TURN {
            let Some((number, waiter)) = self.fills.next(self.now_ms) else { return };
            self.look_again(number, waiter);
        }
    }

    /// Executes a read again. Its reply takes the place that was kept for it, or it waits on.
    fn look_again(&mut self, number: u64, mut waiter: Waiter) {
        let session = match waiter.asker {
            Asker::Guest(dest) => {
                guest::enter(&mut self.guest, dest.flags, dest.db);
                &mut self.guest
            }
            Asker::Connection(key, _) => match self.connections.find(key) {
                Some(found) if found.closing < Closing::Dropped => &mut found.session,
                _ => return,
            },
        };
        let mut reply = Vec::new();
        let mut context = context!(self, session, &mut reply, {
            // A reply that has been waited for is refused rather than waited for again.
            room: self.budget.reply_room().at_once(),
            first_hash: waiter.hash,
            large: None,
        });
        let (frame, limits) = (&waiter.frame, &self.limits.memcached);
        let flow = command::memcached::resume(&mut context, frame, limits, waiter.until_ms);
        if let Flow::AwaitFill { look_ms, .. } = flow {
            waiter.look_ms = look_ms.min(self.now_ms + FILL_LOOK_MS);
            self.fills.insert(number, waiter);
            return;
        }
        debug_assert!(matches!(flow, Flow::Continue), "a read has a reply");
        match waiter.asker {
            Asker::Guest(dest) => self.end_guest(dest, reply, flow, Work::Nothing, &[]),
            Asker::Connection(key, ticket) => {
                if let Some(connection) = self.connections.find(key) {
                    connection.replies.resolve_with(ticket, reply, &mut self.pins);
                    self.budget.recount(connection);
                }
                for (_, pinned) in self.pins.drain(..) {
                    self.shard.unpin(pinned);
                }
                self.ending.push(key);
                self.mark_dirty(key.index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Replies;
    use pinion_engine::{Shard, ShardConfig};

    fn waiter(shard: &Shard, key: &[u8], look_ms: u64) -> Waiter {
        Waiter {
            asker: Asker::Connection(Key { index: 0, generation: 0 }, Replies::default().defer()),
            frame: Box::default(),
            hash: shard.hash(key),
            look_ms,
            until_ms: u64::MAX,
        }
    }

    #[test]
    fn readers_of_a_key_are_woken_in_order_and_others_by_their_time() {
        let shard = Shard::new(&ShardConfig::default()).expect("memory");
        let mut fills = Fills::default();
        for (number, (key, look_ms)) in
            [(b"a", 50), (b"b", 20), (b"a", 10), (b"a", 90)].into_iter().enumerate()
        {
            fills.insert(number as u64, waiter(&shard, key, look_ms));
        }
        fills.next_number = 4;
        assert_eq!(fills.next_ms(), Some(10));
        assert!(fills.next(9).is_none());
        fills.wake(shard.hash(b"none").bits());
        assert!(!fills.has_woken());
        fills.wake(shard.hash(b"a").bits());
        let mut order = Vec::new();
        while let Some((number, waiter)) = fills.next(9) {
            order.push(number);
            // Still out: it waits on, and is not woken again by the same end.
            fills.insert(number, Waiter { look_ms: 30, ..waiter });
        }
        assert_eq!(order, [0, 2, 3]);
        assert!(!fills.has_woken());
        let mut order = Vec::new();
        while let Some((number, _)) = fills.next(30) {
            order.push(number);
        }
        order.sort_unstable();
        assert_eq!(order, [0, 1, 2, 3]);
        assert_eq!((fills.next_ms(), fills.waiters.len(), fills.looks.len()), (None, 0, 0));
    }
}
