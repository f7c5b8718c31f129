//! Commands over several cores on the side that asks: the connection waits, and the steps of
//! `joint` go to the cores of the keys, this one among them.
//!
//! Their messages need no room in a lane, so that keys are given back although the lanes are full
//! of commands that wait for them: [`JOINTS_MAX`] places of each lane are theirs, and a command over
//! several cores has one step on its way at a time.

use std::collections::{BTreeMap, VecDeque};

use pinion_ring::Key;

use super::batch::Work;
use super::cross::flags_of;
use super::foreign::{Dest, Errand, flag, kind};
use super::joint::{Answer, Ask, Found, Joint};
use super::limits::{JOINTS_MAX, JOINTS_WOKEN};
use super::{Core, Transport};
use crate::connection::Ticket;
use crate::lane::Head;
use crate::protocol::resp::{Version, Writer};

/// A command over several cores whose steps are being done.
#[derive(Debug)]
struct Asked {
    connection: Key,
    ticket: Ticket,
    is_muted: bool,
    version: Version,
    flags: u8,
    db: u8,
    /// The command's number.
    number: u16,
    memory_bytes: usize,
    joint: Joint,
}

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Joints {
    asked: BTreeMap<u64, Asked>,
    next: u64,
    /// Large values for other cores of which a piece is on its way: their connections, and its
    /// bytes.
    pub(super) pieces: BTreeMap<u64, (Key, usize)>,
    /// Connections that wait until there are fewer.
    waiting: VecDeque<Key>,
}

impl Joints {
    /// A number that no other command over several cores has, and no large value for another core.
    pub(super) fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// How many are under way, and large values of which a piece is.
    pub(super) fn len(&self) -> usize {
        self.asked.len() + self.pieces.len()
    }

    /// Whether a connection waits, for tests: for a place, or for a piece to be stored.
    pub(super) fn has_waiting(&self, key: Key) -> bool {
        self.waiting.contains(&key) || self.pieces.values().any(|(other, _)| *other == key)
    }

    /// Whether none is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }
}

impl<T: Transport> Core<T> {
    /// Begins a command of the batch whose keys are on several cores; its connection waits.
    pub(super) fn begin_joint(&mut self, number: usize, joint: Joint) {
        let command = self.batch.commands[number];
        let (key, Work::Resp(Some(spec))) = (command.connection, command.work) else { return };
        let Some(connection) = self.connections.find(key) else { return };
        if connection.crossed > 0 {
            // What it has sent before comes first on every core.
            return self.await_crossed(number);
        }
        let memory_bytes = joint.memory_bytes();
        if self.joints.asked.len() >= JOINTS_MAX {
            self.put_back(number, key);
            self.hold(key);
            self.joints.waiting.push_back(key);
            return;
        }
        let ticket = connection.replies.defer_crossed();
        connection.crossed += 1;
        let session = &mut connection.session;
        let (is_muted, version, db) = (session.mutes(), session.version(), session.db);
        let flags = flags_of(session) | flag::PART;
        session.last_command = Some(spec.number);
        self.counters.commands += 1;
        self.counters.lanes.scattered += 1;
        self.server.statistics.of(spec.number).calls += 1;
        self.budget.recount(connection);
        self.budget.hold_cargo(memory_bytes);
        // What it sends from now on comes after.
        self.put_back(number + 1, key);
        self.hold_for_crossed(key);
        let id = self.joints.next_number();
        let (connection, number) = (key, spec.number);
        let mut asked =
            Asked { connection, ticket, is_muted, version, flags, db, number, memory_bytes, joint };
        let ask = asked.joint.begin();
        let head = (asked.flags, asked.db);
        self.joints.asked.insert(id, asked);
        self.send_step(id, head, ask);
    }

    fn hold(&mut self, key: Key) {
        if let Some(connection) = self.connections.find(key) {
            connection.lane_wait = true;
        }
    }

    /// Lets a core do a step.
    fn send_step(&mut self, id: u64, (flags, selected): (u8, u8), ask: Ask) {
        let Ask { core, db, step } = ask;
        let (db, place) = (db.unwrap_or(selected), Key { index: 0, generation: 0 });
        let Some(lanes) = &mut self.lanes else { return };
        if core == lanes.me {
            return self.run_step(Dest { core, key: place, ticket: id, flags, db }, step);
        }
        let head = Head {
            key: place,
            ticket: id,
            length: 0,
            kind: kind::OTHER,
            db,
            flags,
            has_cargo: true,
        };
        if let Some(bundle) = lanes.ask(core) {
            bundle.push_cargo(head, Errand::Step(Box::new(step)));
            self.counters.lanes.crossed_out += 1;
        }
    }

    /// Takes what a step came to: the next one follows, or the reply.
    pub(super) fn take_found(&mut self, id: u64, found: Found) {
        let Some(asked) = self.joints.asked.get_mut(&id) else {
            return self.take_receipt(id, &found);
        };
        match asked.joint.next(found) {
            Ok(ask) => {
                let head = (asked.flags, asked.db);
                self.send_step(id, head, ask);
            }
            Err(answer) => self.end_joint(id, &answer),
        }
    }

    /// Lets connections go on that wait until fewer commands over several cores are under way: the
    /// first that are still there, or all when none is.
    fn let_others_begin(&mut self) {
        let mut woken = 0;
        while woken < JOINTS_WOKEN || self.joints.is_empty() {
            let Some(key) = self.joints.waiting.pop_front() else { return };
            woken += usize::from(self.connections.find(key).is_some());
            self.go_on(key);
        }
    }

    fn end_joint(&mut self, id: u64, answer: &Answer) {
        let Some(asked) = self.joints.asked.remove(&id) else { return };
        self.budget.release_cargo(asked.memory_bytes);
        if let Answer::Error(text) = answer {
            self.counters.errors += 1;
            self.server.statistics.count_error(text);
            self.server.statistics.of(asked.number).failed += 1;
        }
        self.let_others_begin();
        let key = asked.connection;
        let Some(connection) = self.connections.find(key) else { return };
        let mut reply = Vec::new();
        if !asked.is_muted {
            let mut writer = Writer::new(&mut reply, asked.version);
            match answer {
                Answer::Ok => writer.ok(),
                Answer::Integer(number) => writer.integer(*number),
                Answer::Error(text) => writer.error(text),
            }
        }
        connection.replies.resolve(asked.ticket, reply);
        connection.crossed -= 1;
        let is_last = connection.crossed == 0;
        self.budget.recount(connection);
        self.ending.push(key);
        self.mark_dirty(key.index);
        if is_last {
            self.all_settled(key);
        }
    }
}
