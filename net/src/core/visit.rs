//! Commands over several cores on the side of the keys: the steps that a core is asked to do, who
//! waits for the keys meanwhile, and what follows when they are given back. See `joint` for what
//! the steps are, and `reserve` for who waits.
//!
//! A step takes no longer than a command on its bytes would: a large value is read, stored and
//! taken [`JOINT_PIECE_BYTES`] at a time, in slices if the shard has to make room first.

use std::collections::BTreeMap;

use pinion_engine::{LargeWrite, PinnedValue, SetError, SetOptions, Stored};

use super::batch::{Command, ParseLimits, Source, Work};
use super::foreign::{Dest, LargeFrame, Outcome};
use super::guest::GuestTask;
use super::joint::{Found, ReservedKey, Step, Terms};
use super::limits::{JOINT_PIECE_BYTES, LANE_REQUESTS_PER_TURN};
use super::reserve::{Parked, Reserving, Waiter};
use super::{Core, Transport};
use crate::command::{self, Arguments, Transaction, Watches};
use crate::connection::LargeValue;
use crate::protocol::memcached::binary;
use crate::protocol::{memcached, resp};

/// What a core keeps for a command that has reserved keys of it.
#[derive(Debug)]
struct Visit {
    /// Flushes before.
    wipes: u64,
    /// The value that is being read.
    pinned: Option<PinnedValue>,
    /// The value that is arriving.
    write: Option<LargeWrite>,
}

/// Commands that have reserved keys here, by the core that asks and its number for them.
#[derive(Debug, Default)]
pub(super) struct Visits(BTreeMap<(usize, u64), Visit>);

impl Visits {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn of(&mut self, dest: Dest) -> Option<&mut Visit> {
        self.0.get_mut(&(dest.core, dest.ticket))
    }
}

/// The first key of a request that `blocks` says yes to.
fn blocked_key(
    work: Work,
    frame: &[u8],
    args: &resp::Args,
    limits: &ParseLimits,
    blocks: impl Fn(&[u8]) -> bool,
) -> Option<ReservedKey> {
    match work {
        Work::Resp(Some(spec)) => {
            let args = Arguments::new(frame, args);
            if !spec.accepts(args.len()) {
                return None;
            }
            let mut indices = command::key_indices(spec, args);
            indices.find(|&index| blocks(args.at(index))).map(|index| args.at(index).into())
        }
        Work::Memcached => {
            let mut progress = memcached::Progress::default();
            let memcached::Parse::Complete { request, .. } =
                memcached::parse(frame, &mut progress, &limits.memcached)
            else {
                return None;
            };
            let mut decoded = None;
            let key = match request {
                memcached::Request::Get { keys, .. }
                | memcached::Request::GetAndTouch { keys, .. } => {
                    return keys.into_iter().find(|key| blocks(key)).map(ReservedKey::from);
                }
                memcached::Request::Meta(meta) => {
                    command::memcached::plain_key(&meta, &mut decoded)
                }
                ref request => command::memcached::first_key(request),
            };
            key.filter(|key| blocks(key)).map(ReservedKey::from)
        }
        Work::Binary => {
            let mut progress = binary::Progress::default();
            match binary::parse(frame, &mut progress, &limits.binary(false)) {
                binary::Parse::Complete { request, .. } => {
                    Some(request.key).filter(|key| blocks(key)).map(ReservedKey::from)
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// The same of the commands of a transaction.
fn blocked_key_of_all(
    transaction: &Transaction,
    limits: &ParseLimits,
    blocks: impl Fn(&[u8]) -> bool,
) -> Option<ReservedKey> {
    let mut args = resp::Args::new();
    transaction.commands().find_map(|(spec, frame)| {
        let mut progress = resp::Progress::default();
        let outcome = resp::parse(frame, &mut progress, &mut args, &limits.resp);
        debug_assert!(matches!(outcome, resp::Parse::Complete { .. }), "it was whole when queued");
        blocked_key(Work::Resp(Some(spec)), frame, &args, limits, &blocks)
    })
}

impl<T: Transport> Core<T> {
    /// Whether a command of the batch waits for a key that is reserved: it is put back then, and
    /// its connection waits.
    #[cold]
    pub(super) fn awaits_key(&mut self, number: usize) -> bool {
        if self.reservations.is_empty() {
            return false;
        }
        let Command { connection: key, source, from, to, work, .. } = self.batch.commands[number];
        let Some(connection) = self.connections.find(key) else { return false };
        let bytes = match source {
            Source::Loan(loan) => self.transport.bytes(&self.batch.loans[loan as usize]),
            Source::Input | Source::Lane(_) => &connection.input,
        };
        let frame = &bytes[from as usize..to as usize];
        let blocks = |key: &[u8]| self.reservations.blocks(key, false);
        let (args, limits) = (&self.batch.args[number], &self.limits);
        let found = match (&connection.session.transaction, work) {
            (Some(transaction), Work::Resp(Some(spec))) if spec.name == "exec" => {
                blocked_key_of_all(transaction, limits, blocks)
            }
            // It is queued, or about the transaction.
            (Some(_), _) => None,
            _ => blocked_key(work, frame, args, limits, blocks),
        };
        let Some(reserved) = found else { return false };
        self.reservations.wait(&reserved, Waiter::Connection(key));
        self.put_back(number, key);
        if let Some(connection) = self.connections.find(key) {
            connection.lane_wait = true;
        }
        self.counters.lanes.key_waits += 1;
        true
    }

    /// Whether a request of another core, or a part of one, waits for a key that is reserved.
    #[cold]
    pub(super) fn parks(
        &mut self,
        dest: Dest,
        (kind, work): (u8, Work),
        frame: &[u8],
        args: &resp::Args,
        large: &mut Option<LargeValue>,
    ) -> bool {
        let blocks = |key: &[u8]| self.reservations.blocks(key, true);
        let Some(reserved) = blocked_key(work, frame, args, &self.limits, blocks) else {
            return false;
        };
        self.budget.hold_cargo(frame.len());
        let parked = Parked::Frame(kind, frame.into(), large.take());
        self.reservations.wait(&reserved, Waiter::Guest(dest, parked));
        self.counters.lanes.key_waits += 1;
        true
    }

    /// Executes a transaction of another core, unless it waits for a key that is reserved.
    pub(super) fn take_transaction(
        &mut self,
        dest: Dest,
        transaction: Box<Transaction>,
        watches: Watches,
    ) {
        if !self.reservations.is_empty() {
            let blocks = |key: &[u8]| self.reservations.blocks(key, true);
            if let Some(reserved) = blocked_key_of_all(&transaction, &self.limits, blocks) {
                self.budget.hold_cargo(transaction.memory_bytes());
                let parked = Parked::Transaction(transaction, watches);
                self.reservations.wait(&reserved, Waiter::Guest(dest, parked));
                self.counters.lanes.key_waits += 1;
                return;
            }
        }
        self.run_transaction(dest, *transaction, watches);
    }

    /// Does a step of a command over several cores.
    pub(super) fn run_step(&mut self, dest: Dest, step: Step) {
        let found = match step {
            Step::Reserve(keys) => {
                return self.reserve(Reserving { dest, keys, reserved: 0 });
            }
            Step::Read { key, is_counted } => self.read_item(dest, &key, is_counted),
            Step::ReadOn(from) => Found::Piece(self.read_piece(dest, from)),
            Step::Write(items, options) => Found::Stored(self.write_items(dest, &items, &options)),
            Step::Append { key, value_bytes, piece } => {
                return self.append_piece(dest, &key, value_bytes, piece);
            }
            Step::Finish(options) => Found::Stored(self.finish_value(dest, &options)),
            Step::Release { keys, delete, undo, is_undone } => {
                return self.release_keys(dest, keys, delete, &undo, is_undone);
            }
        };
        self.answer_step(dest, found);
    }

    fn answer_step(&mut self, dest: Dest, found: Found) {
        self.answer_cargo(dest, Outcome::Step(Box::new(found)));
    }

    /// Reserves keys, or the rest of them. Answered when all are.
    fn reserve(&mut self, reserving: Reserving) {
        let Some(Reserving { dest, keys, .. }) = self.reservations.reserve(reserving) else {
            self.counters.lanes.key_waits += 1;
            return;
        };
        let now_ms = self.now_ms;
        let is_present = keys.iter().any(|key| {
            let hash = self.shard.hash_in(dest.db, key);
            self.shard.peek(hash, key, now_ms).is_some()
        });
        let visit = Visit { wipes: self.shard.wipes(), pinned: None, write: None };
        self.visits.0.insert((dest.core, dest.ticket), visit);
        self.answer_step(dest, Found::Reserved { is_present });
    }

    fn read_item(&mut self, dest: Dest, key: &[u8], is_counted: bool) -> Found {
        let hash = self.shard.hash_in(dest.db, key);
        let entry = self.shard.peek(hash, key, self.now_ms);
        self.counters.hits += u64::from(is_counted && entry.is_some());
        self.counters.misses += u64::from(is_counted && entry.is_none());
        let Some(entry) = entry else { return Found::Absent };
        let terms =
            Terms { flags: entry.flags(), deadline_ms: entry.deadline_ms(), marks: entry.marks() };
        let (version, value_bytes) = (entry.version(), entry.value.len());
        if value_bytes <= JOINT_PIECE_BYTES {
            let piece = entry.value.to_vec();
            return Found::Item { terms, version, value_bytes, piece };
        }
        let Ok(Some(pinned)) = self.shard.pin(hash, key, self.now_ms) else {
            return Found::Refused;
        };
        let Some(visit) = self.visits.of(dest) else {
            self.shard.unpin(pinned);
            return Found::Absent;
        };
        if let Some(before) = visit.pinned.replace(pinned) {
            self.shard.unpin(before);
        }
        let piece = self.read_piece(dest, 0);
        Found::Item { terms, version, value_bytes, piece }
    }

    fn read_piece(&mut self, dest: Dest, from: usize) -> Vec<u8> {
        let mut piece = Vec::new();
        let Some(pinned) = self.visits.of(dest).and_then(|visit| visit.pinned.as_ref()) else {
            return piece;
        };
        let end = pinned.len().min(from + JOINT_PIECE_BYTES);
        piece.reserve_exact(end.saturating_sub(from));
        while from + piece.len() < end {
            let chunk = self.shard.pinned_chunk(pinned, from + piece.len());
            piece.extend_from_slice(&chunk[..chunk.len().min(end - from - piece.len())]);
        }
        piece
    }

    /// Stores items. If one cannot be, those before it go: none of them was there before.
    fn write_items(
        &mut self,
        dest: Dest,
        items: &[(ReservedKey, Vec<u8>)],
        options: &SetOptions,
    ) -> Result<Stored, SetError> {
        let mut outcome = Err(SetError::Incomplete);
        for (index, (key, value)) in items.iter().enumerate() {
            let hash = self.shard.hash_in(dest.db, key);
            outcome = self.shard.set(hash, key, value, options, self.now_ms);
            if outcome.is_err() {
                for (stored, _) in &items[..index] {
                    self.remove(dest.db, stored);
                }
                break;
            }
        }
        outcome
    }

    fn remove(&mut self, db: u8, key: &[u8]) {
        let hash = self.shard.hash_in(db, key);
        self.shard.delete(hash, key, None, self.now_ms);
    }

    /// Takes bytes of a large value: at once, or in slices while the shard makes room.
    fn append_piece(&mut self, dest: Dest, key: &[u8], value_bytes: usize, piece: Vec<u8>) {
        let is_begun = self.visits.of(dest).is_some_and(|visit| visit.write.is_some());
        if !is_begun {
            let write = match self.shard.begin_large(key, value_bytes) {
                Ok(write) => write,
                Err(error) => return self.answer_step(dest, Found::Appended(Err(error))),
            };
            let wipes = self.shard.wipes();
            let visit = self.visits.0.entry((dest.core, dest.ticket));
            // A value that a connection sends comes without a reservation.
            visit.or_insert(Visit { wipes, pinned: None, write: None }).write = Some(write);
        }
        let mut appended_bytes = 0;
        if let Some(outcome) = self.append_some(dest, &piece, &mut appended_bytes) {
            return self.answer_step(dest, Found::Appended(outcome));
        }
        self.guest_tasks.push_back(GuestTask::appending(dest, piece, appended_bytes));
    }

    /// Takes as much of a piece as there is room for now. The outcome, unless there is more to do.
    pub(super) fn append_some(
        &mut self,
        dest: Dest,
        piece: &[u8],
        appended_bytes: &mut usize,
    ) -> Option<Result<(), SetError>> {
        // Whoever sent it may have given up.
        let write = self.visits.0.get_mut(&(dest.core, dest.ticket));
        let Some(write) = write.and_then(|visit| visit.write.as_mut()) else {
            return Some(Err(SetError::Incomplete));
        };
        while *appended_bytes < piece.len() {
            match self.shard.append_large(write, &piece[*appended_bytes..], self.now_ms) {
                Ok(0) => return None,
                Ok(taken_bytes) => *appended_bytes += taken_bytes,
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Ok(()))
    }

    /// Goes on with a piece that the shard has had no room for. Whether it has to go on again.
    pub(super) fn go_on_appending(
        &mut self,
        dest: Dest,
        piece: &[u8],
        appended_bytes: &mut usize,
    ) -> bool {
        let Some(outcome) = self.append_some(dest, piece, appended_bytes) else { return true };
        self.answer_step(dest, Found::Appended(outcome));
        false
    }

    /// Executes a request whose large value has come before.
    pub(super) fn run_store(&mut self, dest: Dest, request: LargeFrame) {
        let LargeFrame { kind, frame, value } = request;
        let value = match value {
            Err(error) => LargeValue::Refused(error),
            Ok(stream) => {
                let visit = self.visits.0.remove(&(dest.core, stream));
                let write = visit.and_then(|visit| visit.write);
                write.map_or(LargeValue::Refused(SetError::Incomplete), LargeValue::Write)
            }
        };
        self.run_large_frame(dest, kind, &frame, Some(value));
    }

    fn finish_value(&mut self, dest: Dest, options: &SetOptions) -> Result<Stored, SetError> {
        let write = self.visits.of(dest).and_then(|visit| visit.write.take());
        let write = write.ok_or(SetError::Incomplete)?;
        let hash = self.shard.hash_in(dest.db, write.key());
        self.shard.finish_large(write, hash, options, self.now_ms)
    }

    /// Gives keys back, and lets those go on who have waited for them.
    fn release_keys(
        &mut self,
        dest: Dest,
        keys: Vec<ReservedKey>,
        delete: Option<(ReservedKey, u64)>,
        undo: &[ReservedKey],
        is_undone: bool,
    ) {
        if let Some((key, version)) = delete {
            let hash = self.shard.hash_in(dest.db, &key);
            let outcome = self.shard.delete(hash, &key, Some(version), self.now_ms);
            if outcome == pinion_engine::Deleted::VersionMismatch {
                return self.answer_step(dest, Found::Changed);
            }
        }
        let Some(visit) = self.visits.0.remove(&(dest.core, dest.ticket)) else {
            return self.answer_step(dest, Found::Released { was_flushed: false });
        };
        let was_flushed = visit.wipes != self.shard.wipes();
        if let Some(pinned) = visit.pinned {
            self.shard.unpin(pinned);
        }
        if let Some(write) = visit.write {
            self.shard.abort_large(write);
        }
        if is_undone || was_flushed {
            undo.iter().for_each(|key| self.remove(dest.db, key));
        }
        for key in keys {
            self.pass_on(key);
        }
        self.answer_step(dest, Found::Released { was_flushed });
    }

    /// Lets those go on who wait for a key that is not reserved any more: commands of other cores
    /// at once, connections of this one when their turn comes, up to the next that reserves it.
    fn pass_on(&mut self, key: ReservedKey) {
        let mut queue = self.reservations.take(&key);
        let (mut has_woken, mut executed) = (false, 0);
        while let Some(waiter) = queue.pop_front() {
            match waiter {
                Waiter::Connection(connection) => {
                    self.go_on(connection);
                    has_woken = true;
                }
                Waiter::Guest(dest, parked) if executed < LANE_REQUESTS_PER_TURN => {
                    self.run_parked(dest, parked);
                    executed += 1;
                }
                Waiter::Reserve(mut reserving) if !has_woken => {
                    self.reservations.reserve_again(key, queue);
                    reserving.reserved += 1;
                    return self.reserve(reserving);
                }
                waiter => {
                    queue.push_front(waiter);
                    return self.reservations.leave_open(key, queue);
                }
            }
        }
    }

    fn run_parked(&mut self, dest: Dest, parked: Parked) {
        match parked {
            Parked::Frame(kind, frame, large) => {
                self.budget.release_cargo(frame.len());
                self.run_large_frame(dest, kind, &frame, large);
            }
            Parked::Transaction(transaction, watches) => {
                self.budget.release_cargo(transaction.memory_bytes());
                self.take_transaction(dest, transaction, watches);
            }
        }
    }

    /// Lets the queues go on of keys that connections of this core were to use first.
    pub(super) fn pass_on_open(&mut self) {
        if self.reservations.has_open() {
            for key in self.reservations.take_open() {
                self.pass_on(key);
            }
        }
    }
}
