//! Commands that several cores execute: split into a part for each, and joined from their replies.
//!
//! Each part is atomic on its core, the whole is not: who looks meanwhile may see some parts done
//! and others not. If a part fails, the reply is its error, and the others are done all the same.
//!
//! Cost: a frame and a reply are allocated for each part. A reply is as long as those of all parts
//! together, and joined at once.

use std::collections::BTreeMap;

use pinion_ring::Key;

use super::batch::Work;
use super::clients::ClientsQuery;
use super::foreign::{Dest, Errand, flag, kind};
use super::join::{Join, Lot, join};
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
    /// The number of a RESP command, under which it is counted: once, and not in parts.
    number: Option<u16>,
    /// For each key of the command, the part that it is in.
    order: Vec<u16>,
    /// The request, if its keys tell the order of what is found.
    frame: Vec<u8>,
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

/// What a part's reply comes back with: which command it is of, and which part.
fn ticket_of(id: u64, part: usize) -> u64 {
    id << PART_BITS | part as u64
}

/// The inverse of [`ticket_of`].
fn part_of(ticket: u64) -> (u64, usize) {
    (ticket >> PART_BITS, (ticket & ((1 << PART_BITS) - 1)) as usize)
}

/// There is a part for each core at the most.
const PART_BITS: u32 = 16;

const _: () = assert!(pinion_router::CORE_COUNT_MAX as u32 <= 1 << PART_BITS);

impl Gathers {
    /// Commands whose parts are being executed, and how many of their parts are.
    pub(super) fn open(&self) -> (usize, usize) {
        (self.open.len(), self.open.values().map(|gather| gather.left).sum())
    }
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
        let counted = self.count_scattered(number);
        let frame = match join {
            Join::Lines => self.frame_of(number).to_vec(),
            _ => Vec::new(),
        };
        let Some(connection) = self.connections.find(key) else { return };
        let ticket = connection.replies.defer_crossed();
        connection.crossed += 1;
        connection.session.last_command = counted.or(connection.session.last_command);
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
            number: counted,
            order,
            frame,
            replies,
            left,
            query: None,
        };
        self.gathers.open.insert(id, gather);
        let mut own = None;
        for (index, part) in parts.into_iter().enumerate() {
            let ticket = ticket_of(id, index);
            if part.core == me {
                own = Some((ticket, part.frame));
                continue;
            }
            let Some(lanes) = &mut self.lanes else { return };
            let Some(bundle) = lanes.ask(part.core) else { continue };
            let head = Head { key, ticket, length: 0, kind, db, flags, has_cargo: false };
            if part.frame.len() <= LANE_COPY_BYTES_MAX {
                bundle.push(head, &part.frame);
            } else {
                bundle.push_cargo(head, Errand::Frame(part.frame));
            }
            self.counters.lanes.crossed_out += 1;
        }
        if let Some((ticket, frame)) = own {
            let dest = Dest { core: me, key, ticket, flags, db };
            self.run_frame(dest, kind, &frame);
            if self.is_in_slices(&dest) {
                // What follows would overtake it.
                self.put_back(number + 1, key);
                self.hold_for_crossed(key);
            }
        }
    }

    /// Counts a command of the batch that several cores execute; the number of a RESP command.
    fn count_scattered(&mut self, number: usize) -> Option<u16> {
        self.counters.commands += 1;
        let Work::Resp(Some(spec)) = self.batch.commands[number].work else { return None };
        let mut found = spec.number;
        if !spec.subcommands.is_empty() {
            let frame = self.frame_of(number).to_vec();
            let name = self.batch.args[number].get(&frame, 1).unwrap_or_default();
            found = spec.subcommand(name).map_or(found, |subcommand| spec.number_of(subcommand));
        }
        self.server.statistics.of(found).calls += 1;
        Some(found)
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
            number: None,
            order: Vec::new(),
            frame: Vec::new(),
            replies: Vec::new(),
            left: cores,
            query: Some(Box::new(query.clone())),
        };
        self.gathers.open.insert(id, gather);
        for core in 0..cores {
            let ticket = ticket_of(id, core);
            if core == me {
                let dest = Dest { core, key, ticket, flags: flag::PART, db: 0 };
                self.begin_clients(dest, Box::new(query.clone().asked_by(key)));
                continue;
            }
            let head = Head {
                key,
                ticket,
                length: 0,
                kind: kind::OTHER,
                db: 0,
                flags: flag::PART,
                has_cargo: true,
            };
            let Some(lanes) = &mut self.lanes else { return };
            // There was room before it ran: see `route`.
            if let Some(bundle) = lanes.ask(core) {
                bundle.push_cargo(head, Errand::Clients(Box::new(query.clone())));
                self.counters.lanes.crossed_out += 1;
            }
        }
    }

    /// Takes what a core has found among its connections.
    pub(super) fn take_clients(&mut self, ticket: u64, text: &[u8], found: usize) {
        let (id, _) = part_of(ticket);
        if let Some(gather) = self.gathers.open.get_mut(&id)
            && let Some(query) = &mut gather.query
        {
            query.add_findings(text, found);
        }
        self.take_part(ticket, Vec::new());
    }

    /// Takes the reply to a part, and answers the command if it was the last.
    pub(super) fn take_part(&mut self, ticket: u64, reply: Vec<u8>) {
        let (id, part) = part_of(ticket);
        let Some(gather) = self.gathers.open.get_mut(&id) else { return };
        if let Some(place) = gather.replies.get_mut(part) {
            *place = reply;
        }
        gather.left -= 1;
        if gather.left > 0 {
            return;
        }
        let Some(gather) = self.gathers.open.remove(&id) else { return };
        let Gather { connection: key, ticket, muted, version, ref replies, ref order, .. } = gather;
        let db = self.connections.find(key).map_or(0, |connection| connection.session.db);
        let weights = match (&self.lanes, gather.join) {
            (Some(lanes), Join::Any) => lanes.items(db),
            _ => Vec::new(),
        };
        let lot = Lot { frame: &gather.frame, chance: self.now_ns(), weights: &weights };
        let failed = replies.iter().find_map(|reply| error_in(reply));
        if let Some(text) = failed {
            self.counters.errors += 1;
            self.server.statistics.count_error(text);
            if let Some(number) = gather.number {
                self.server.statistics.of(number).failed += 1;
            }
        }
        let Some(connection) = self.connections.find(key) else { return };
        let reply = match (muted, &gather.query) {
            (true, _) => Vec::new(),
            (false, None) => join(gather.join, replies, order, version, lot),
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

/// The text of the error that a reply is, of RESP or of memcached's text protocol.
fn error_in(reply: &[u8]) -> Option<&str> {
    let text = match reply.strip_prefix(b"-") {
        Some(text) => text,
        None if reply.starts_with(b"SERVER_ERROR ") || reply.starts_with(b"CLIENT_ERROR ") => reply,
        None => return None,
    };
    let end = text.iter().position(|&byte| byte == b'\r').unwrap_or(text.len());
    Some(std::str::from_utf8(&text[..end]).unwrap_or("ERR"))
}
