//! Commands that another core executes, on the side that asks: sent by lane, and answered in their
//! place when the reply is back.
//!
//! - C1. A connection's commands are sent in their order, and each lane keeps it, so commands on a
//!   key are executed in the order in which the client sent them. Commands on keys of different
//!   cores may be executed in another order than they were sent; their replies never change
//!   places.
//! - C2. While a lane is full, a connection with a command for it executes nothing more. Others go
//!   on.
//! - C3. A connection that ends leaves its requests to be executed; their replies meet nobody.
//!
//! Replies of a connection are held back for [`HOLD_NS`], or [`HOLD_BUSY_NS`], while others of it
//! are on their way, so that a pipeline over several cores is answered with few sends.

use pinion_engine::SetError;
use pinion_ring::Key;

use super::batch::{Command, Source, Work};
use super::foreign::{Errand, LargeFrame, Outcome, flag, kind};
use super::limits::{HOLD_BUSY_NS, HOLD_NS, LANE_COPY_BYTES_MAX};
use super::{Core, Transport};
use crate::connection::{Closing, LargeValue, Session, Ticket};
use crate::lane::{Bundle, HEAD_BYTES, Head};

/// Stands for the time since when output was held back that is not to be any longer.
const RELEASED: u64 = u64::MAX;

/// The flags that a session gives its requests.
pub(super) fn flags_of(session: &Session) -> u8 {
    (if session.resp3 { flag::RESP3 } else { 0 })
        | (if session.no_touch { flag::NO_TOUCH } else { 0 })
}

impl<T: Transport> Core<T> {
    /// Sends a command of the batch to another core, or lets its connection wait for room.
    pub(super) fn cross(&mut self, number: usize, to: usize) {
        let Command { connection: key, source, from, to: end, work, .. } =
            self.batch.commands[number];
        let Some(lanes) = &mut self.lanes else { return };
        if !lanes.has_room(to) {
            return self.await_room(number, to);
        }
        let Some(connection) = self.connections.find(key) else { return };
        let ticket = connection.replies.defer_crossed().number();
        connection.crossed += 1;
        let mut flags = flags_of(&connection.session);
        if connection.session.mutes() {
            flags |= flag::MUTED;
        }
        let kind = match work {
            Work::Resp(spec) => {
                connection.session.last_command = spec.map(|spec| spec.number);
                kind::RESP
            }
            Work::Binary => kind::BINARY,
            _ => kind::MEMCACHED,
        };
        let db = connection.session.db;
        let bytes = match source {
            Source::Loan(loan) => self.transport.bytes(&self.batch.loans[loan as usize]),
            Source::Input | Source::Lane(_) => &connection.input,
        };
        let frame = &bytes[from as usize..end as usize];
        let head = Head { key, ticket, length: 0, kind, db, flags, has_cargo: false };
        let large = connection.inbound.take().map(|inbound| inbound.into_value());
        if let Some(bundle) = lanes.ask(to) {
            if let Some(value) = large {
                let value = match value {
                    LargeValue::Away(away) => Ok(away.stream),
                    LargeValue::Refused(error) => Err(error),
                    // It came here for a command that is executed elsewhere after all.
                    value => {
                        value.abort(&mut self.shard);
                        Err(SetError::Incomplete)
                    }
                };
                let request = LargeFrame { kind, frame: frame.to_vec(), value };
                bundle.push_cargo(head, Errand::Store(Box::new(request)));
            } else if frame.len() <= LANE_COPY_BYTES_MAX {
                bundle.push(head, frame);
            } else {
                bundle.push_cargo(head, Errand::Frame(frame.to_vec()));
            }
        }
        // What its reply is expected to take is counted with the next output.
        self.counters.lanes.crossed_out += 1;
    }

    /// Sends cargo to another core on behalf of a connection; its reply gets a place. The caller
    /// has seen that there is room.
    pub(super) fn send_errand(&mut self, key: Key, to: usize, errand: Errand, flags: u8) {
        let Some(connection) = self.connections.find(key) else { return };
        let Some(lanes) = &mut self.lanes else { return };
        let ticket = connection.replies.defer_crossed().number();
        connection.crossed += 1;
        let (db, flags) = (connection.session.db, flags | flags_of(&connection.session));
        let head = Head { key, ticket, length: 0, kind: kind::OTHER, db, flags, has_cargo: false };
        if let Some(bundle) = lanes.ask(to) {
            bundle.push_cargo(head, errand);
        }
        self.counters.lanes.crossed_out += 1;
        self.budget.recount(connection);
    }

    /// Holds a command and those behind it back until there is room in a lane.
    pub(super) fn await_room(&mut self, number: usize, to: usize) {
        let key = self.batch.commands[number].connection;
        self.put_back(number, key);
        self.counters.lanes.room_waits += 1;
        if let Some(connection) = self.connections.find(key) {
            connection.lane_wait = true;
        }
        if let Some(lanes) = &mut self.lanes {
            lanes.wait_for_room(to, key);
        }
    }

    /// Holds a command and those behind it back until all replies of its connection that other
    /// cores owe it are there.
    pub(super) fn await_crossed(&mut self, number: usize) {
        let key = self.batch.commands[number].connection;
        self.put_back(number, key);
        if let Some(connection) = self.connections.find(key) {
            (connection.lane_wait, connection.settle_wait) = (true, true);
        }
    }

    /// Lets a connection go on that has waited for a lane.
    pub(super) fn go_on(&mut self, key: Key) {
        let Some(connection) = self.connections.find(key) else { return };
        if connection.settle_wait && connection.crossed > 0 {
            // It had also waited for room, earlier.
            return;
        }
        (connection.lane_wait, connection.settle_wait) = (false, false);
        self.let_receive(key);
        self.mark_runnable(key.index);
        self.ending.push(key);
    }

    /// Gives the replies of a bundle to those who wait for them.
    pub(super) fn settle(&mut self, bundle: &mut Bundle<Outcome>) {
        let mut at = 0;
        while let Some((head, bytes)) = bundle.at(at) {
            at += HEAD_BYTES + bytes.len();
            if head.has_cargo {
                if let Some(outcome) = bundle.take_cargo() {
                    self.settle_cargo(&head, outcome);
                }
            } else if head.flags & flag::PART != 0 {
                self.take_part(head.ticket, bytes.to_vec());
            } else {
                self.settle_one(&head, bytes);
            }
        }
    }

    /// Gives a reply that is cargo to whom it belongs.
    fn settle_cargo(&mut self, head: &Head, outcome: Outcome) {
        let connection = self.connections.find(head.key);
        match (outcome, connection) {
            (Outcome::Reply(bytes), _) if head.flags & flag::PART != 0 => {
                self.take_part(head.ticket, bytes);
            }
            (Outcome::Step(found), _) => self.take_found(head.ticket, *found),
            (Outcome::Clients(lines, found), _) => {
                self.take_clients(head.ticket, &lines, found);
            }
            (Outcome::Lent { core, number, .. }, None) => self.unwanted.push((core, number)),
            (Outcome::Lent { core, number, bytes }, Some(connection)) => {
                let ticket = Ticket::from_number(head.ticket);
                connection.replies.lend(ticket, core, number, bytes);
                self.settled(head);
            }
            (Outcome::Piece(bytes), Some(connection)) => {
                connection.replies.piece(Ticket::from_number(head.ticket), &bytes);
                if bytes.is_empty() {
                    // It cannot be made whole any more.
                    connection.close(Closing::Dropped);
                }
                self.budget.recount(connection);
                self.ending.push(head.key);
                self.mark_dirty(head.key.index);
            }
            (_, None) => {}
            (Outcome::Reply(bytes), Some(connection)) => {
                connection.replies.resolve(Ticket::from_number(head.ticket), bytes);
                self.settled(head);
            }
            (Outcome::Transaction(bytes, db), Some(connection)) => {
                connection.session.db = db;
                connection.replies.resolve(Ticket::from_number(head.ticket), bytes);
                self.settled(head);
            }
            (Outcome::Watches(watches, bytes), Some(connection)) => {
                connection.session.watches.add(watches);
                connection.session.recount();
                connection.replies.resolve(Ticket::from_number(head.ticket), bytes);
                self.settled(head);
            }
        }
    }

    #[inline]
    fn settle_one(&mut self, head: &Head, bytes: &[u8]) {
        let Some(connection) = self.connections.find(head.key) else { return };
        connection.replies.resolve_slice(Ticket::from_number(head.ticket), bytes);
        self.settled(head);
    }

    /// Sees to a connection one of whose replies has come from another core.
    #[inline]
    fn settled(&mut self, head: &Head) {
        let Some(connection) = self.connections.find(head.key) else { return };
        connection.crossed -= 1;
        if head.flags & flag::CLOSE != 0 {
            connection.close(Closing::Flushing);
        }
        let is_last = connection.crossed == 0;
        if !std::mem::replace(&mut connection.dirty, true) {
            self.dirty.push(head.key.index);
        }
        if connection.closing > Closing::Open {
            self.ending.push(head.key);
        }
        if is_last {
            self.all_settled(head.key);
        }
    }

    /// Sees to a connection that waits for no other core any more.
    pub(super) fn all_settled(&mut self, key: Key) {
        let Some(connection) = self.connections.find(key) else { return };
        self.budget.recount(connection);
        if connection.paused && connection.sending.is_none() && connection.may_resume() {
            self.resume(key);
        }
        if let Some(connection) = self.connections.find(key)
            && connection.lane_wait
        {
            self.go_on(key);
        }
    }

    /// Whether a connection's output is to wait for replies of other cores. It is noted then, to
    /// be sent in time.
    pub(super) fn holds_output(&mut self, index: u32) -> bool {
        let now_ns = self.now_ns();
        let Some(connection) = self.connections.at(index) else { return false };
        if connection.replies.ready_bytes() == 0 || connection.closing > Closing::Open {
            return false;
        }
        match connection.held_since_ns {
            RELEASED => {
                connection.held_since_ns = 0;
                return false;
            }
            0 => {
                connection.held_since_ns = now_ns;
                self.held.push_back((connection.key, now_ns));
            }
            _ => {}
        }
        true
    }

    /// Lets those send what they have whose replies have been held back for long enough: for
    /// [`HOLD_NS`] if the core has nothing else to do, for [`HOLD_BUSY_NS`] if it has. When it has,
    /// so have others, and a send more for each pipeline would keep all of them waiting for longer.
    pub(super) fn look_at_held(&mut self, is_busy: bool) {
        let hold_ns = if is_busy { HOLD_BUSY_NS } else { HOLD_NS };
        while let Some(&(key, since_ns)) = self.held.front()
            && since_ns + hold_ns <= self.now_ns()
        {
            self.held.pop_front();
            if let Some(connection) = self.connections.find(key)
                && connection.held_since_ns == since_ns
                && connection.crossed > 0
            {
                connection.held_since_ns = RELEASED;
                self.mark_dirty(key.index);
            }
        }
    }
}
