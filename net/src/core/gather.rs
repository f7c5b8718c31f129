//! Commands that several cores execute: split into a part for each, and joined from their replies.
//!
//! Each part is atomic on its core, the whole is not: who looks meanwhile may see some parts done
//! and others not. If a part fails, the reply is its error, and the others are done all the same.
//!
//! Cost: a frame and a reply are allocated for each part. A reply is as long as those of all parts
//! together, and joined at once.

use std::collections::BTreeMap;

use pinion_ring::Key;

use super::clients::ClientsQuery;
use super::foreign::{Dest, Errand, flag, kind};
use super::join::{Join, join};
use super::limits::LANE_COPY_BYTES_MAX;
use super::{Core, Transport};
use crate::connection::Ticket;
use crate::lane::Head;
use crate::protocol::resp::Version;

/// A part of a command: the core that executes it, and its request.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) core: usize,
    pub(super) frame: Vec<u8>,
}

/// A command whose parts are being executed.
#[derive(Debug)]
struct Gather {
    connection: Key,
    ticket: Ticket,
    muted: bool,
    version: Version,
    join: Join,
    /// For each key of the command, the part that it is in.
    order: Vec<u16>,
    replies: Vec<Vec<u8>>,
    left: usize,
    /// What was found so far, of a look at the connections of all cores.
    query: Option<Box<ClientsQuery>>,
}

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Gathers {
    open: BTreeMap<u64, Gather>,
    next: u64,
}

impl<T: Transport> Core<T> {
    /// Lets several cores execute a command of the batch, a part each; `order` says for each key in
    /// which part it is. If a lane is full, the connection waits.
    pub(super) fn scatter(
        &mut self,
        number: usize,
        kind: u8,
        parts: Vec<Part>,
        join: Join,
        order: Vec<u16>,
    ) {
        let key = self.batch.commands[number].connection;
        let Some(lanes) = &self.lanes else { return };
        let me = lanes.me;
        let is_full = |part: &&Part| part.core != me && !lanes.has_room(part.core);
        if let Some(full) = parts.iter().find(is_full) {
            let to = full.core;
            return self.await_room(number, to);
        }
        let Some(connection) = self.connections.find(key) else { return };
        let ticket = connection.replies.defer_crossed();
        connection.crossed += 1;
        let muted = connection.session.mutes();
        let version = connection.session.version();
        let flags = super::cross::flags_of(&connection.session) | flag::PART;
        let db = connection.session.db;
        self.budget.recount(connection);
        self.counters.lanes.scattered += 1;
        let id = self.gathers.next;
        self.gathers.next += 1;
        let (replies, left) = (vec![Vec::new(); parts.len()], parts.len());
        let gather = Gather {
            connection: key,
            ticket,
            muted,
            version,
            join,
            order,
            replies,
            left,
            query: None,
        };
        self.gathers.open.insert(id, gather);
        let mut own = None;
        for (index, part) in parts.into_iter().enumerate() {
            let place = Key { index: index as u32, generation: 0 };
            if part.core == me {
                own = Some((place, part.frame));
                continue;
            }
            let Some(lanes) = &mut self.lanes else { return };
            let Some(bundle) = lanes.ask(part.core) else { continue };
            let head =
                Head { key: place, ticket: id, length: 0, kind, db, flags, has_cargo: false };
            if part.frame.len() <= LANE_COPY_BYTES_MAX {
                bundle.push(head, &part.frame);
            } else {
                bundle.push_cargo(head, Errand::Frame(part.frame));
            }
            self.counters.lanes.crossed_out += 1;
        }
        if let Some((place, frame)) = own {
            let dest = Dest { core: me, key: place, ticket: id, flags, db };
            self.run_frame(dest, kind, &frame);
        }
    }

    /// Lets all cores look at their connections on behalf of the one under `key`, which has asked.
    pub(super) fn scatter_clients(&mut self, key: Key, query: ClientsQuery, muted: bool) {
        let Some(lanes) = &self.lanes else { return };
        let (me, cores) = (lanes.me, usize::from(lanes.cores.count()));
        let Some(connection) = self.connections.find(key) else { return };
        let ticket = connection.replies.defer_crossed();
        connection.crossed += 1;
        let version = connection.session.version();
        self.budget.recount(connection);
        self.counters.lanes.scattered += 1;
        let id = self.gathers.next;
        self.gathers.next += 1;
        let gather = Gather {
            connection: key,
            ticket,
            muted,
            version,
            join: Join::First,
            order: Vec::new(),
            replies: Vec::new(),
            left: cores,
            query: Some(Box::new(query.clone())),
        };
        self.gathers.open.insert(id, gather);
        for core in 0..cores {
            let place = Key { index: core as u32, generation: 0 };
            if core == me {
                let dest = Dest { core, key: place, ticket: id, flags: flag::PART, db: 0 };
                self.begin_clients(dest, Box::new(query.clone().asked_by(key)));
                continue;
            }
            let head = Head {
                key: place,
                ticket: id,
                length: 0,
                kind: kind::OTHER,
                db: 0,
                flags: flag::PART,
                has_cargo: true,
            };
            let Some(lanes) = &mut self.lanes else { return };
            // These are few, and need no room: there is a place for the reply to each.
            if let Some(bundle) = lanes.ask(core) {
                bundle.push_cargo(head, Errand::Clients(Box::new(query.clone())));
                self.counters.lanes.crossed_out += 1;
            }
        }
    }

    /// Takes what a core has found among its connections.
    pub(super) fn take_clients(&mut self, id: u64, part: u32, text: &[u8], found: usize) {
        if let Some(gather) = self.gathers.open.get_mut(&id)
            && let Some(query) = &mut gather.query
        {
            query.add_findings(text, found);
        }
        self.take_part(id, part, Vec::new());
    }

    /// Takes the reply to a part, and answers the command if it was the last.
    pub(super) fn take_part(&mut self, id: u64, part: u32, reply: Vec<u8>) {
        let Some(gather) = self.gathers.open.get_mut(&id) else { return };
        if let Some(place) = gather.replies.get_mut(part as usize) {
            *place = reply;
        }
        gather.left -= 1;
        if gather.left > 0 {
            return;
        }
        let chance = self.now_ns();
        let Some(gather) = self.gathers.open.remove(&id) else { return };
        let Gather { connection: key, ticket, muted, version, replies, order, query, .. } = gather;
        let Some(connection) = self.connections.find(key) else { return };
        let reply = match (muted, query) {
            (true, _) => Vec::new(),
            (false, None) => join(gather.join, &replies, &order, version, chance),
            (false, Some(query)) => {
                let mut reply = Vec::new();
                query.reply(&mut reply, version);
                reply
            }
        };
        connection.replies.resolve(ticket, reply);
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
