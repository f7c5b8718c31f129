//! Commands of other cores' connections, on the side that executes them: as those of one's own
//! connections, but with a session that knows only what the request has brought along, and with
//! replies that go back by lane.
//!
//! Nothing of a guest waits for memory: it would hold up those behind it in the lane. A reply that
//! would have to is refused. What takes long goes on in slices, and what waits for another client
//! (`fills`) does so here; replies come back in any order, and find their places by their tickets.

use pinion_ring::Key;

use super::batch::{Command, Source, Work, parse_guest};
use super::behind::Behind;
use super::clients::ClientsQuery;
use super::context::context;
use super::execute::{perform, rehash};
use super::foreign::{Dest, Errand, Outcome, flag};
use super::lent::Lent;
use super::limits::{BATCH_COMMANDS_MAX, LANE_COPY_BYTES_MAX, LANE_REQUESTS_PER_TURN, SLICE_BYTES};
use super::tasks;
use super::{Core, Counters, Transport};
use crate::command::{Flow, ServerState, Step};
use crate::connection::{LargeValue, Session};
use crate::lane::{HEAD_BYTES, Head};

/// A guest's command that is executed in slices.
#[derive(Debug)]
pub(super) struct GuestTask {
    pub(super) dest: Dest,
    work: GuestWork,
    out: Vec<u8>,
    /// Requests of the same connection that have come meanwhile.
    pub(super) behind: Vec<Behind>,
}

impl GuestTask {
    fn new(dest: Dest, work: GuestWork, out: Vec<u8>) -> GuestTask {
        GuestTask { dest, work, out, behind: Vec::new() }
    }

    /// Whether it is a command on items, behind which others of its connection wait.
    pub(super) fn is_command(&self) -> bool {
        matches!(self.work, GuestWork::Command(tasks::Work::Task(_)))
    }
}

#[derive(Debug)]
enum GuestWork {
    Command(tasks::Work),
    /// Copies a part of a reply that refers to large values.
    Copy(Lent),
    /// Stores a piece of a large value that another core sends.
    Append {
        piece: Vec<u8>,
        appended_bytes: usize,
    },
}

impl GuestTask {
    /// The rest of a piece, of which some bytes are stored.
    pub(super) fn appending(dest: Dest, piece: Vec<u8>, appended_bytes: usize) -> GuestTask {
        GuestTask::new(dest, GuestWork::Append { piece, appended_bytes }, Vec::new())
    }
}

/// Lets the session of guests be that of a request.
pub(super) fn enter(session: &mut Session, flags: u8, db: u8) {
    session.db = db;
    session.resp3 = flags & flag::RESP3 != 0;
    session.no_touch = flags & flag::NO_TOUCH != 0;
}

/// The session of guests: their own cores have let them in.
pub(super) fn session() -> Session {
    let mut session = Session::new(0);
    (session.authenticated, session.memcached_user) = (true, true);
    session
}

/// What stood there before a part of a command: the part counts nothing of its own, since whoever
/// has split the command counts it as a whole.
struct Tally {
    commands: u64,
    errors: u64,
    flushes: u64,
}

impl Tally {
    fn begin(counters: &Counters, server: &mut ServerState, guest: &mut Session) -> Tally {
        server.statistics.set_partial(true);
        guest.last_command = None;
        Tally {
            commands: counters.commands,
            errors: counters.errors,
            flushes: counters.memcached.flushes,
        }
    }

    /// Takes back what was counted meanwhile; `is_own` is the part on the core that has split the
    /// command.
    fn end(self, counters: &mut Counters, server: &mut ServerState, guest: &Session, is_own: bool) {
        server.statistics.set_partial(false);
        if let Some(number) = guest.last_command {
            let count = server.statistics.of(number);
            count.calls = count.calls.saturating_sub(1);
            let has_failed = counters.errors > self.errors;
            count.failed = count.failed.saturating_sub(u64::from(has_failed));
        }
        // The command may have zeroed them.
        counters.commands = counters.commands.min(self.commands);
        counters.errors = counters.errors.min(self.errors);
        if !is_own {
            counters.memcached.flushes = counters.memcached.flushes.min(self.flushes);
        }
    }
}

impl Dest {
    pub(super) fn of(head: &Head, core: usize) -> Dest {
        Dest { core, key: head.key, ticket: head.ticket, flags: head.flags, db: head.db }
    }

    fn head(&self) -> Head {
        Head {
            key: self.key,
            ticket: self.ticket,
            length: 0,
            kind: 0,
            db: 0,
            flags: self.flags & flag::PART,
            has_cargo: false,
        }
    }
}

impl<T: Transport> Core<T> {
    /// Executes requests of a core, as many as a turn has room for. Returns how many.
    pub(super) fn take_requests(&mut self, from: usize) -> u32 {
        let mut taken = 0;
        while taken < LANE_REQUESTS_PER_TURN && !self.has_answered_much(from) {
            if !self.next_requests(from) {
                return taken as u32;
            }
            taken += self.parse_requests(from);
            self.execute_batch();
            taken += self.run_errand(from);
        }
        if self.next_requests(from)
            && let Some(lanes) = &mut self.lanes
        {
            lanes.unfinished.push(from);
        }
        taken as u32
    }

    /// Parses requests of a core into the batch, until that is full, cargo comes, or there is no
    /// more.
    fn parse_requests(&mut self, from: usize) -> usize {
        let Some(peer) = self.lanes.as_mut().and_then(|lanes| lanes.peers[from].as_mut()) else {
            return 0;
        };
        let mut count = 0;
        while self.batch.len() < BATCH_COMMANDS_MAX {
            let Some((head, frame)) = peer.taken.at(peer.taken_at) else { break };
            if head.has_cargo {
                break;
            }
            let at = peer.taken_at + HEAD_BYTES;
            peer.taken_at = at + frame.len();
            self.batch.add_guest(&head, frame, (from, at), &self.shard, &self.limits);
            count += 1;
        }
        self.counters.lanes.crossed_in += count as u64;
        count
    }

    /// Executes the cargo that is next in the requests of a core, if some is.
    fn run_errand(&mut self, from: usize) -> usize {
        let Some(peer) = self.lanes.as_mut().and_then(|lanes| lanes.peers[from].as_mut()) else {
            return 0;
        };
        let Some((head, _)) = peer.taken.at(peer.taken_at) else { return 0 };
        if !head.has_cargo {
            return 0;
        }
        peer.taken_at += HEAD_BYTES;
        let Some(errand) = peer.taken.take_cargo() else { return 0 };
        self.counters.lanes.crossed_in += 1;
        self.run_in_order(Behind { dest: Dest::of(&head, from), kind: head.kind, errand });
        1
    }

    /// Executes what a request has brought along.
    pub(super) fn run_cargo(&mut self, dest: Dest, kind: u8, errand: Errand) {
        match errand {
            Errand::Frame(frame) => self.run_frame(dest, kind, &frame),
            Errand::Store(request) => self.run_store(dest, *request),
            Errand::Transaction(transaction, watches) => {
                self.take_transaction(dest, transaction, watches);
            }
            Errand::Step(step) => self.run_step(dest, *step),
            Errand::Fetch { number, bytes_max } => self.hand_out(dest, number, bytes_max),
            Errand::GiveBack(number) => {
                self.take_back_reply(number);
                self.answer_guest(dest, Vec::new(), false);
            }
            Errand::Watch(frame) => self.run_watch(dest, &frame),
            Errand::Clients(query) => {
                self.counters.lanes.parts_in += 1;
                self.begin_clients(dest, query);
            }
        }
    }

    /// Begins a look at this core's connections.
    pub(super) fn begin_clients(&mut self, dest: Dest, query: Box<ClientsQuery>) {
        let work = GuestWork::Command(tasks::Work::Clients(query));
        self.guest_tasks.push_back(GuestTask::new(dest, work, Vec::new()));
    }

    /// Executes a guest's command of the batch.
    pub(super) fn execute_guest(&mut self, number: usize) {
        let Command { source, from: at, work, hash, .. } = self.batch.commands[number];
        let Source::Lane(core) = source else { return };
        let core = usize::from(core);
        if !self.guest_tasks.is_empty() && self.waits_behind(core, at as usize) {
            return;
        }
        let Some((taken, answered)) =
            self.lanes.as_mut().and_then(|lanes| lanes.guest_bundles(core))
        else {
            return;
        };
        let Some((head, frame)) = taken.at(at as usize - HEAD_BYTES) else { return };
        let dest = Dest::of(&head, core);
        if !self.reservations.is_empty() {
            let frame = frame.to_vec();
            return self.run_frame(dest, head.kind, &frame);
        }
        enter(&mut self.guest, head.flags, head.db);
        let tally = (head.flags & flag::PART != 0).then(|| {
            self.counters.lanes.parts_in += 1;
            Tally::begin(&self.counters, &mut self.server, &mut self.guest)
        });
        let start = answered.open(dest.head());
        let args = &self.batch.args[number];
        let hash = match hash {
            // A database may have been swapped or flushed since the key was hashed.
            Some(hash) if !self.shard.is_of(hash, head.db) => {
                let command = &self.batch.commands[number];
                Some(rehash(&self.shard, head.db, command, frame, args, &self.limits))
            }
            hash => hash,
        };
        let mut context = context!(self, &mut self.guest, answered.writer(), {
            room: self.budget.reply_room().at_once(),
            first_hash: hash.unwrap_or(self.no_hash),
            large: None,
        });
        let flow = perform(work, &mut context, frame, args, &self.limits.memcached, &self.clock);
        if let Some(tally) = tally {
            tally.end(&mut self.counters, &mut self.server, &self.guest, false);
        }
        if matches!(flow, Flow::Continue)
            && self.pins.is_empty()
            && self.server.timed.is_none()
            && head.flags & flag::MUTED == 0
        {
            answered.close(start);
            return;
        }
        let text = answered.bytes()[start + HEAD_BYTES..].to_vec();
        answered.cancel(start);
        for (at, _) in &mut self.pins {
            *at -= start + HEAD_BYTES;
        }
        let frame = frame.to_vec();
        self.end_guest(dest, text, flow, work, &frame);
    }

    /// Executes a request that has come on its own, or a part of one.
    pub(super) fn run_frame(&mut self, dest: Dest, kind: u8, frame: &[u8]) {
        self.run_large_frame(dest, kind, frame, None);
    }

    /// The same for one whose large value has come before.
    pub(super) fn run_large_frame(
        &mut self,
        dest: Dest,
        kind: u8,
        frame: &[u8],
        mut large: Option<LargeValue>,
    ) {
        let head = Head { kind, db: dest.db, ..dest.head() };
        let args = &mut self.guest_args;
        let (work, hash) = parse_guest(&head, frame, args, &self.shard, &self.limits);
        if !self.reservations.is_empty() {
            let args = std::mem::take(&mut self.guest_args);
            let is_parked = self.parks(dest, (kind, work), frame, &args, &mut large);
            self.guest_args = args;
            if is_parked {
                return;
            }
        }
        enter(&mut self.guest, dest.flags, dest.db);
        let is_own = self.lanes.as_ref().is_some_and(|lanes| lanes.me == dest.core);
        let tally = (dest.flags & flag::PART != 0).then(|| {
            self.counters.lanes.parts_in += u64::from(!is_own);
            Tally::begin(&self.counters, &mut self.server, &mut self.guest)
        });
        let mut out = Vec::new();
        let args = &self.guest_args;
        let mut context = context!(self, &mut self.guest, &mut out, {
            room: self.budget.reply_room().at_once(),
            first_hash: hash.unwrap_or(self.no_hash),
            large: large,
        });
        let flow = perform(work, &mut context, frame, args, &self.limits.memcached, &self.clock);
        if let Some(large) = context.large.take() {
            large.abort(context.shard);
        }
        if let Some(tally) = tally {
            tally.end(&mut self.counters, &mut self.server, &self.guest, is_own);
        }
        self.end_guest(dest, out, flow, work, frame);
    }

    /// Does what a guest's command has asked for, and answers it: now or later.
    pub(super) fn end_guest(
        &mut self,
        dest: Dest,
        mut out: Vec<u8>,
        flow: Flow,
        work: Work,
        frame: &[u8],
    ) {
        let timed = self.server.timed.take();
        let number = self.guest.last_command;
        if let (Some(timed), Work::Resp(Some(_)), Some(number)) = (timed, work, number) {
            self.note_guest_time(number, timed.taken_ns, timed.args);
        }
        if dest.flags & flag::MUTED != 0 {
            out.clear();
            for (_, pinned) in self.pins.drain(..) {
                self.shard.unpin(pinned);
            }
        }
        let mut close = false;
        match flow {
            Flow::Later(task) => {
                let work = GuestWork::Command(tasks::Work::Task(task));
                self.guest_tasks.push_back(GuestTask::new(dest, work, out));
                return;
            }
            Flow::Clients(query) => return self.begin_clients(dest, query),
            Flow::AwaitFill { hash, look_ms, until_ms } => {
                return self.await_guest_fill(dest, frame.into(), hash, look_ms, until_ms);
            }
            Flow::Close => close = true,
            flow => self.follow_guest(flow),
        }
        if !self.pins.is_empty() {
            let lent = Lent::new(out, std::mem::take(&mut self.pins));
            if dest.flags & flag::PART == 0 {
                return self.lend_reply(dest, lent);
            }
            let work = GuestWork::Copy(lent);
            self.guest_tasks.push_back(GuestTask::new(dest, work, Vec::new()));
            return;
        }
        self.answer_guest(dest, out, close);
    }

    /// Does what a guest's command has asked the core for.
    fn follow_guest(&mut self, flow: Flow) {
        match flow {
            Flow::Ask(_) | Flow::Exec(_) | Flow::Wait => {
                debug_assert!(false, "these do not cross");
            }
            // There is no connection here that it could be about.
            flow => self.follow(Key::new(u32::MAX, 0), flow, false),
        }
    }

    /// Sends a reply back to the core that has asked.
    pub(super) fn answer_guest(&mut self, dest: Dest, reply: Vec<u8>, close: bool) {
        let Some(lanes) = &mut self.lanes else { return };
        if dest.core == lanes.me {
            return self.take_part(dest.ticket, reply);
        }
        let mut head = dest.head();
        if close {
            head.flags |= flag::CLOSE;
        }
        let Some(bundle) = lanes.answer(dest.core) else { return };
        if reply.len() <= LANE_COPY_BYTES_MAX {
            bundle.push(head, &reply);
        } else {
            bundle.push_cargo(head, Outcome::Reply(reply));
        }
    }

    /// Sends something else than a reply's bytes back to the core that has asked.
    pub(super) fn answer_cargo(&mut self, dest: Dest, outcome: Outcome) {
        let Some(lanes) = &mut self.lanes else { return };
        if dest.core == lanes.me {
            match outcome {
                Outcome::Clients(lines, found) => {
                    self.take_clients(dest.ticket, &lines, found);
                }
                Outcome::Step(found) => self.take_found(dest.ticket, *found),
                _ => debug_assert!(false, "no core asks itself for this"),
            }
        } else if let Some(bundle) = lanes.answer(dest.core) {
            bundle.push_cargo(dest.head(), outcome);
        }
    }

    /// Executes a slice of every guest's command that takes long.
    pub(super) fn run_guest_tasks(&mut self) {
        for _ in 0..self.guest_tasks.len() {
            let Some(mut task) = self.guest_tasks.pop_front() else { return };
            if self.run_guest_slice(&mut task) {
                self.guest_tasks.push_back(task);
            } else {
                task.behind.into_iter().for_each(|behind| self.run_in_order(behind));
            }
        }
    }

    /// Executes a slice; whether there is more to do. If not, it was answered.
    fn run_guest_slice(&mut self, task: &mut GuestTask) -> bool {
        let dest = task.dest;
        match &mut task.work {
            GuestWork::Copy(lent) => {
                if !lent.next(&mut self.shard, SLICE_BYTES, &mut task.out) {
                    return true;
                }
                lent.release(&mut self.shard);
                self.answer_guest(dest, std::mem::take(&mut task.out), false);
                false
            }
            GuestWork::Append { piece, appended_bytes } => {
                self.go_on_appending(dest, piece, appended_bytes)
            }
            GuestWork::Command(tasks::Work::Clients(query)) => {
                let asker = query.asker().unwrap_or(Key::new(u32::MAX, 0));
                if self.look_at_clients(asker, query) {
                    return true;
                }
                let (lines, found) = query.take_findings();
                self.answer_cargo(dest, Outcome::Clients(lines, found));
                false
            }
            GuestWork::Command(tasks::Work::Task(work)) => {
                enter(&mut self.guest, dest.flags, dest.db);
                let mut context = context!(self, &mut self.guest, &mut task.out, {
                    room: self.budget.reply_room().at_once(),
                    first_hash: self.no_hash,
                    large: None,
                });
                match work.step(&mut context) {
                    Step::More => true,
                    Step::Done(flow) => {
                        let out = std::mem::take(&mut task.out);
                        self.end_guest(dest, out, flow, Work::Nothing, &[]);
                        false
                    }
                }
            }
        }
    }
}
