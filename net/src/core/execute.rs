//! Executing the commands of a batch, one by one: whether each may run now, its surroundings, its
//! reply, and what is to be done about what it asks for.

use pinion_engine::{KeyHash, Shard};
use pinion_ring::Key;

use super::age;
use super::batch::{Command, OWNER_ROUTED, ParseLimits, Source, Work};
use super::context::context;
use super::limits::ARGS_KEPT_MAX;
use super::tasks::{self, Sliced};
use super::{Core, Transport};
use crate::clock::Clock;
use crate::command::{self, Arguments, Context, Flow, Spec, Timed};
use crate::connection::{Closing, Connection};
use crate::protocol::memcached::binary;
use crate::protocol::{memcached, resp};

/// What a command may change of the memory that its connection holds: if this is as before, the
/// memory is.
#[derive(PartialEq, Eq)]
struct Held {
    output_bytes: usize,
    session_bytes: usize,
    has_inbound: bool,
}

impl Held {
    #[inline]
    fn by<S>(connection: &mut Connection<S>) -> Held {
        Held {
            output_bytes: connection.replies.writer().capacity(),
            session_bytes: connection.session.capacity_bytes(),
            has_inbound: connection.inbound.is_some(),
        }
    }
}

/// Executes a command.
#[inline(always)]
pub(super) fn perform(
    work: Work,
    context: &mut Context<'_>,
    frame: &[u8],
    args: &resp::Args,
    limits: &memcached::Limits,
    clock: &Clock,
) -> Flow {
    match work {
        Work::Resp(spec) => {
            let args = Arguments::new(frame, args);
            if spec.is_none_or(|spec| context.settings.times(spec, args.len())) {
                return perform_timed(context, spec, &args, clock);
            }
            command::run(context, spec, &args)
        }
        Work::Memcached => command::memcached::run(context, frame, limits),
        Work::Refused(error, noreply) => {
            command::memcached::refuse(context, error, noreply);
            Flow::Continue
        }
        Work::Http => {
            context.counters.http_requests += 1;
            Flow::Close
        }
        Work::Broken(error) => {
            context.counters.errors += 1;
            context.counters.oversized_requests += u64::from(error.is_size());
            error.write_reply(context.out);
            Flow::Close
        }
        Work::BrokenMemcached(reason) => {
            context.counters.errors += 1;
            let is_long = reason == memcached::CloseReason::LineTooLong;
            context.counters.oversized_requests += u64::from(is_long);
            if let Some(text) = reason.text() {
                memcached::Writer::new(context.out).line(text);
            }
            Flow::Close
        }
        Work::Binary => command::memcached::run_binary(context, frame, limits),
        Work::Swallowed | Work::Nothing => Flow::Continue,
    }
}

/// Refuses a command that is too old, unless it is one that is executed all the same.
#[cold]
fn refuse_or_perform(
    work: Work,
    context: &mut Context<'_>,
    frame: &[u8],
    args: &resp::Args,
    limits: &memcached::Limits,
    clock: &Clock,
) -> Flow {
    age::refuse(work, context, frame, args, limits)
        .unwrap_or_else(|| perform(work, context, frame, args, limits, clock))
}

/// The same, with a look at the clock before and after.
fn perform_timed(
    context: &mut Context<'_>,
    spec: Option<&'static Spec>,
    args: &Arguments<'_>,
    clock: &Clock,
) -> Flow {
    let begun_ns = clock.now_ns();
    let flow = command::run(context, spec, args);
    let taken_ns = clock.now_ns().saturating_sub(begun_ns);
    let goes_on = matches!(flow, Flow::Later(_) | Flow::Clients(_));
    let is_kept = goes_on || (spec.is_some() && context.settings.is_slow(taken_ns / 1_000));
    let args = if is_kept { command::kept_args(args) } else { Vec::new() };
    context.server.timed = Some(Timed { taken_ns, args });
    flow
}

/// The hash of a command's first key in a database, made again.
#[cold]
pub(super) fn rehash(
    shard: &Shard,
    db: u8,
    command: &Command,
    frame: &[u8],
    args: &resp::Args,
    limits: &ParseLimits,
) -> KeyHash {
    let mut progress = memcached::Progress::default();
    let key = match command.work {
        Work::Resp(Some(spec)) => args.get(frame, spec.first_key()),
        Work::Binary => binary_key(frame, limits),
        _ => match memcached::parse(frame, &mut progress, &limits.memcached) {
            memcached::Parse::Complete { request, .. } => command::memcached::first_key(&request),
            _ => None,
        },
    };
    shard.hash_in(db, key.unwrap_or_default())
}

fn binary_key<'a>(frame: &'a [u8], limits: &ParseLimits) -> Option<&'a [u8]> {
    let (mut progress, limits) = (binary::Progress::default(), limits.binary(false));
    match binary::parse(frame, &mut progress, &limits) {
        binary::Parse::Complete { request, .. } => Some(request.key),
        _ => None,
    }
}

impl<T: Transport> Core<T> {
    /// Executes a command of the batch. A large value that has come belongs to the first command of
    /// its connection that is executed from then on; one that is refused before it comes to its
    /// value leaves it.
    pub(super) fn execute(&mut self, number: usize) {
        let Command { connection: key, source, from, to, work, hash, owner } =
            self.batch.commands[number];
        if matches!(source, Source::Lane(_)) {
            return self.execute_guest(number);
        }
        let Some(connection) = self.connections.find(key) else { return };
        if matches!(work, Work::Nothing | Work::Swallowed)
            || connection.closing >= Closing::Flushing
        {
            return;
        }
        let has_memory = self.budget.may_answer(connection.output_bytes());
        let limits = &self.options.settings.limits;
        if connection.replies.held_bytes() > limits.output_bytes_max || !has_memory {
            return self.hold_back(number, !has_memory);
        }
        let is_old = age::is_old(connection, source, to, self.now_ms, limits.request_age_ms);
        let stays = self.reservations.is_empty()
            && self.lanes.as_ref().is_none_or(|lanes| {
                usize::from(owner) == lanes.me && connection.session.is_plain()
            });
        let connection = if stays && !is_old {
            connection
        } else {
            // What is too old is refused wherever its key is.
            if !is_old && self.leaves(number) {
                return;
            }
            self.keep_from_away(key);
            let Some(connection) = self.connections.find(key) else { return };
            connection
        };
        let before = Held::by(connection);
        let bytes = match source {
            Source::Loan(loan) => self.transport.bytes(&self.batch.loans[loan as usize]),
            Source::Input | Source::Lane(_) => &connection.input,
        };
        let frame = &bytes[from as usize..to as usize];
        let args = &self.batch.args[number];
        let db = connection.session.db;
        let hash = match hash {
            // A database may have been selected, swapped or flushed since the key was hashed.
            Some(hash) if !self.shard.is_of(hash, db) => {
                rehash(&self.shard, db, &self.batch.commands[number], frame, args, &self.limits)
            }
            hash => hash.unwrap_or(self.no_hash),
        };
        let out = connection.replies.writer();
        if out.capacity() == 0 {
            *out = self.spares.take();
        }
        let out_start = out.len();
        let room = self.budget.reply_room();
        let (hits, misses) = (self.counters.hits, self.counters.misses);
        let mut context = context!(self, &mut connection.session, out, {
            room: room,
            first_hash: hash,
            large: connection.inbound.take().map(|inbound| inbound.into_value()),
        });
        let (limits, clock) = (&self.limits.memcached, &self.clock);
        let flow = match is_old {
            false => perform(work, &mut context, frame, args, limits, clock),
            true => refuse_or_perform(work, &mut context, frame, args, limits, clock),
        };
        context.large.take().into_iter().for_each(|large| large.abort(context.shard));
        if let Flow::Wait = flow {
            (self.counters.hits, self.counters.misses) = (hits, misses);
            return self.wait(number);
        }
        let has_pins = !self.pins.is_empty();
        let muted = connection.end_reply(out_start, &mut self.pins, &mut self.shard, false);
        if !std::mem::replace(&mut connection.dirty, true) {
            self.dirty.push(key.index);
        }
        if has_pins || Held::by(connection) != before {
            self.budget.recount(connection);
        }
        if matches!(flow, Flow::Continue) && self.server.timed.is_none() {
            // Nothing is in it; to find that out once more would take longer than this.
            std::mem::forget(flow);
        } else {
            self.end_command(number, flow, muted);
        }
    }

    /// Hands a command over to other cores, if it is theirs. Whether it was dealt with.
    fn leaves(&mut self, number: usize) -> bool {
        let Command { connection: key, owner, work, .. } = self.batch.commands[number];
        let Some(connection) = self.connections.find(key) else { return true };
        let (session, settings) = (&connection.session, &self.options.settings);
        if matches!(work, Work::Memcached | Work::Binary)
            && !command::memcached::is_authenticated(settings, session)
        {
            // It is refused, and other cores let in whom this one has let in.
            return false;
        }
        // A core port answers for other cores' keys by itself, or does not.
        if owner == OWNER_ROUTED || session.core_port || !session.is_plain() {
            return self.route(number) || self.awaits_key(number);
        }
        if self.lanes.as_ref().is_none_or(|lanes| usize::from(owner) == lanes.me) {
            return self.awaits_key(number);
        }
        self.cross(number, usize::from(owner));
        true
    }

    /// Does what a command that was executed has asked for, and notes the time that it took.
    #[inline(never)]
    fn end_command(&mut self, number: usize, flow: Flow, muted: bool) {
        let timed = self.server.timed.take();
        let Command { connection: key, work, .. } = self.batch.commands[number];
        let is_known = !matches!(work, Work::Resp(None));
        if self.batch.args[number].len() > ARGS_KEPT_MAX {
            self.batch.args[number] = resp::Args::new();
        }
        let work = match flow {
            Flow::Later(task) => tasks::Work::Task(task),
            Flow::Clients(query) if query.is_wide() && self.speaks_for_all(key) => {
                return self.scatter_clients(key, *query, muted);
            }
            Flow::Clients(query) => tasks::Work::Clients(query),
            Flow::AwaitFill { hash, look_ms, until_ms } => {
                let frame = self.frame_of(number).into();
                return self.await_fill(key, frame, hash, look_ms, until_ms);
            }
            flow => {
                if let Some(Timed { taken_ns, args }) = timed.filter(|_| is_known) {
                    self.note_time(key, taken_ns, || args);
                }
                return self.follow(key, flow, muted);
            }
        };
        let Timed { taken_ns, args } = timed.unwrap_or_default();
        self.put_off(key, Sliced::new(work, muted, taken_ns, args));
        self.put_back(number + 1, key);
    }

    /// Whether commands of a connection that look at connections look at those of other cores, too:
    /// a core port is a node of its own.
    fn speaks_for_all(&mut self, key: Key) -> bool {
        let is_node = self.connections.find(key).is_some_and(|found| found.session.core_port);
        self.lanes.is_some() && !is_node
    }

    /// The bytes of a command of the batch.
    pub(super) fn frame_of(&mut self, number: usize) -> &[u8] {
        let Command { connection, source, from, to, .. } = self.batch.commands[number];
        let bytes = match source {
            Source::Loan(loan) => self.transport.bytes(&self.batch.loans[loan as usize]),
            Source::Input | Source::Lane(_) => {
                self.connections.find(connection).map_or(&[][..], |found| &found.input[..])
            }
        };
        bytes.get(from as usize..to as usize).unwrap_or_default()
    }

    /// Holds a command back that there was no memory for. It will be executed again, and counted
    /// then.
    fn wait(&mut self, number: usize) {
        let key = self.batch.commands[number].connection;
        self.server.timed = None;
        self.counters.commands -= 1;
        let connection = self.connections.find(key);
        if let Some(command) = connection.and_then(|connection| connection.session.last_command) {
            self.server.statistics.of(command).calls -= 1;
        }
        self.hold_back(number, true);
    }

    /// Holds a command back if CLIENT PAUSE wants it; whether it does.
    #[cold]
    pub(super) fn postpones(&mut self, number: usize) -> bool {
        let is_paused = self.is_paused(number);
        if is_paused {
            let key = self.batch.commands[number].connection;
            self.put_back(number, key);
            self.postpone(key);
        }
        is_paused
    }

    /// Whether a command is to wait for the end of the pause that goes on.
    fn is_paused(&mut self, number: usize) -> bool {
        let Some(pause) = self.pause else { return false };
        let Command { connection: key, source, from, to, work, .. } = self.batch.commands[number];
        if matches!(source, Source::Lane(_)) {
            // Its own core holds back what is to wait.
            return false;
        }
        let Some(connection) = self.connections.find(key) else { return false };
        match work {
            Work::Resp(Some(spec)) if pause.writes_only => {
                let transaction = &connection.session.transaction;
                let has_writes = transaction.as_ref().is_some_and(|queue| queue.has_writes());
                spec.is_write || (spec.name == "exec" && has_writes)
            }
            Work::Memcached if pause.writes_only => {
                let bytes = match source {
                    Source::Loan(loan) => self.transport.bytes(&self.batch.loans[loan as usize]),
                    Source::Input | Source::Lane(_) => &connection.input,
                };
                !bytes[from as usize..to as usize].starts_with(b"get")
            }
            Work::Binary if pause.writes_only => {
                let bytes = match source {
                    Source::Loan(loan) => self.transport.bytes(&self.batch.loans[loan as usize]),
                    Source::Input | Source::Lane(_) => &connection.input,
                };
                !binary::is_get(&bytes[from as usize..to as usize])
            }
            Work::Resp(Some(_)) | Work::Memcached | Work::Binary => true,
            _ => false,
        }
    }

    /// Puts a command and all that follow it on its connection back to the connection's input,
    /// because the client does not read its replies, or for want of memory. They run when it has
    /// read most of them, and there is memory.
    fn hold_back(&mut self, first: usize, wants_memory: bool) {
        let key = self.batch.commands[first].connection;
        self.put_back(first, key);
        let Some(connection) = self.connections.find(key) else { return };
        connection.paused = true;
        if wants_memory {
            self.budget.wait(connection);
            self.counters.budget_pauses += 1;
        } else {
            self.counters.output_pauses += 1;
        }
        if !self.budget.may_keep(connection, 0) {
            self.refuse_input(key.index);
        } else if self.budget.is_short() {
            self.stop_receiving(key);
        }
        self.mark_dirty(key.index);
    }

    /// Puts a connection's commands from `first` on back to its input.
    pub(super) fn put_back(&mut self, first: usize, key: Key) {
        let Some(connection) = self.connections.find(key) else { return };
        let mut input = Vec::new();
        let mut kept_from = connection.parsed;
        for command in &mut self.batch.commands[first..] {
            if command.connection != key || matches!(command.source, Source::Lane(_)) {
                continue;
            }
            let range = command.from as usize..command.to as usize;
            match command.source {
                Source::Loan(loan) => {
                    let bytes = self.transport.bytes(&self.batch.loans[loan as usize]);
                    input.extend_from_slice(&bytes[range]);
                }
                Source::Input | Source::Lane(_) => kept_from = kept_from.min(range.start),
            }
            command.work = Work::Nothing;
        }
        let loan_bytes = input.len();
        input.extend_from_slice(&connection.input[kept_from..]);
        connection.input = input;
        if loan_bytes > 0 && connection.arrivals.is_none() {
            let age_ms = self.options.settings.limits.request_age_ms;
            connection.note_arrival(loan_bytes, self.now_ms, age_ms);
        }
        connection.parsed = 0;
        connection.restart_parser();
        self.budget.recount(connection);
    }
}
