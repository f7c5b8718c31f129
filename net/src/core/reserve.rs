//! The keys of a core that commands over several cores have reserved, and those who wait for them.
//!
//! A reserved key has a queue. Commands that name the key wait in it in the order in which they
//! came: those of other cores with all that they need to be executed; the connections of this one,
//! which do nothing else meanwhile; and other commands over several cores, which get the key next.
//!
//! - R1. A key has an entry while it is reserved, or somebody waits for it.
//! - R2. A command of another core passes nobody in the queue. One of this core may pass while a key
//!   that was given back is not reserved again: its connection waits itself, so nothing of it can
//!   be passed.
//! - R3. Who reserves several keys does so in the order of their bytes (`joint`, J1).
//!
//! Cost: nothing but a look at an empty map while no key is reserved. Then each command is looked
//! through for its keys.

use std::collections::{BTreeMap, VecDeque};

use pinion_ring::Key;

use super::foreign::Dest;
use super::joint::ReservedKey;
use crate::command::{Transaction, Watches};
use crate::connection::LargeValue;

/// Who waits for a key.
#[derive(Debug)]
pub(super) enum Waiter {
    /// A connection of this core: its command was put back.
    Connection(Key),
    /// A command of another core.
    Guest(Dest, Parked),
    /// A command over several cores.
    Reserve(Reserving),
}

/// A command that waits.
#[derive(Debug)]
pub(super) enum Parked {
    /// A request of this kind, and its value if that has come before.
    Frame(u8, Box<[u8]>, Option<LargeValue>),
    /// A transaction.
    Transaction(Box<Transaction>, Watches),
}

/// Keys that are being reserved.
#[derive(Debug)]
pub(super) struct Reserving {
    pub(super) dest: Dest,
    /// In order.
    pub(super) keys: Vec<ReservedKey>,
    /// How many are.
    pub(super) reserved: usize,
}

#[derive(Debug, Default)]
struct Entry {
    /// Whether it is reserved; if not, it was given back, and those in the queue come next.
    is_reserved: bool,
    queue: VecDeque<Waiter>,
}

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Reservations {
    entries: BTreeMap<ReservedKey, Entry>,
    /// Keys that connections of this core may use before they are reserved again.
    open: Vec<ReservedKey>,
}

impl Reservations {
    /// Whether no key is reserved, and nobody waits.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys that are reserved, or somebody waits for.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Commands of another core that wait, for tests.
    pub(super) fn guests_of(&self, core: usize) -> usize {
        let is_its = |waiter: &&Waiter| match waiter {
            Waiter::Connection(_) => false,
            Waiter::Guest(dest, _) => dest.core == core,
            Waiter::Reserve(reserving) => reserving.dest.core == core,
        };
        self.entries.values().flat_map(|entry| &entry.queue).filter(is_its).count()
    }

    /// Whether a connection waits, for tests.
    pub(super) fn has_waiting(&self, key: Key) -> bool {
        let is_it = |waiter: &Waiter| matches!(waiter, Waiter::Connection(other) if *other == key);
        self.entries.values().flat_map(|entry| &entry.queue).any(is_it)
    }

    /// Whether a command that names a key is to wait: one of this core, or of another.
    pub(super) fn blocks(&self, key: &[u8], is_guest: bool) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.is_reserved || is_guest)
    }

    /// Lets somebody wait for a key that is reserved.
    pub(super) fn wait(&mut self, key: &[u8], waiter: Waiter) {
        debug_assert!(self.entries.contains_key(key), "R1");
        if let Some(entry) = self.entries.get_mut(key) {
            entry.queue.push_back(waiter);
        }
    }

    /// Reserves keys, or lets this wait for the first that somebody else has. Back comes what has
    /// all its keys.
    pub(super) fn reserve(&mut self, mut reserving: Reserving) -> Option<Reserving> {
        while let Some(key) = reserving.keys.get(reserving.reserved) {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.queue.push_back(Waiter::Reserve(reserving));
                return None;
            }
            let entry = Entry { is_reserved: true, queue: VecDeque::new() };
            self.entries.insert(key.clone(), entry);
            reserving.reserved += 1;
        }
        Some(reserving)
    }

    /// Takes the queue of a key, which is not reserved any more.
    pub(super) fn take(&mut self, key: &[u8]) -> VecDeque<Waiter> {
        self.entries.remove(key).map_or_else(VecDeque::new, |entry| entry.queue)
    }

    /// Reserves a key for the next in its queue, those behind that being these.
    pub(super) fn reserve_again(&mut self, key: ReservedKey, queue: VecDeque<Waiter>) {
        self.entries.insert(key, Entry { is_reserved: true, queue });
    }

    /// Lets the connections of this core go first that were woken; the queue goes on later.
    pub(super) fn leave_open(&mut self, key: ReservedKey, queue: VecDeque<Waiter>) {
        self.open.push(key.clone());
        self.entries.insert(key, Entry { is_reserved: false, queue });
    }

    /// Whether queues are to go on.
    #[inline]
    pub(super) fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Keys whose queues are to go on.
    pub(super) fn take_open(&mut self) -> Vec<ReservedKey> {
        std::mem::take(&mut self.open)
    }
}
