//! Commands that are parsed and not yet executed.
//!
//! A batch collects commands of all connections, so that the memory that their keys need is
//! fetched while others are parsed: the table's line when a command is parsed, the item once the
//! batch is full, and only then are they executed, in order.
//!
//! A command's bytes stay where they came to: in a loan of the transport or in its connection's
//! `input`. The batch refers to them by offsets, and gives the loans back when it is executed.

use pinion_engine::{KeyHash, Shard};
use pinion_ring::Key;
use pinion_router::{CoreCount, core_of_key};

use super::foreign::kind;
use super::limits::{BATCH_COMMANDS_MAX, FRAME_BYTES_MIN, INLINE_BYTES_MAX};
use super::{Core, Transport};
use crate::command::{self, Reach, Renames, Settings, Spec};
use crate::connection::{Closing, Connection, Progress, Protocol};
use crate::lane::Head;
use crate::protocol::memcached::binary;
use crate::protocol::{memcached, resp};

/// Where a command's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// In a loan of the batch.
    Loan(u32),
    /// In the connection's `input`.
    Input,
    /// Among the requests of this core: the connection is one of that core's.
    Lane(u16),
}

/// The owner of a command whose core takes a second look to see: see `route`.
pub(super) const OWNER_ROUTED: u16 = u16::MAX;

const _: () = assert!(pinion_router::CORE_COUNT_MAX < OWNER_ROUTED);

/// Where this core is among those of the server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    me: u16,
    cores: CoreCount,
}

impl Place {
    /// The core of a key.
    #[inline]
    fn owner(&self, key: &[u8]) -> u16 {
        if self.cores == CoreCount::ONE { 0 } else { core_of_key(key, self.cores).index() as u16 }
    }
}

impl Origin {
    #[inline]
    fn of<S>(connection: &Connection<S>, source: Source, settings: &Settings) -> Origin {
        let session = &connection.session;
        let is_locked = match connection.protocol() {
            Protocol::Resp => settings.has_password() && !session.authenticated,
            Protocol::Memcached => !command::memcached::is_authenticated(settings, session),
        };
        Origin { connection: connection.key, source, db: session.db, is_locked }
    }
}

/// What is to be executed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    /// A RESP command; `None` if there is none of its name.
    Resp(Option<&'static Spec>),
    /// A memcached request.
    Memcached,
    /// A request of memcached's binary protocol, or the refusal of one.
    Binary,
    /// Data of a refused request. There is nothing to do, but it must not be lost if the requests
    /// before it are put back.
    Swallowed,
    /// A memcached request that was refused; the flag says that the client wants no reply.
    Refused(memcached::RequestError, bool),
    /// An error of the protocol: answered in its order, then the connection closes.
    Broken(resp::ProtocolError),
    /// A request of a web client, sent by somebody's browser perhaps: the connection closes.
    Http,
    /// The same, of memcached's.
    BrokenMemcached(memcached::CloseReason),
    /// Put back: its connection is held back or closed.
    Nothing,
}

/// Whose bytes are parsed.
#[derive(Clone, Copy, Debug)]
struct Origin {
    connection: Key,
    source: Source,
    /// The database that the connection has selected.
    db: u8,
    /// Whether it has yet to give the password.
    is_locked: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Command {
    pub(super) connection: Key,
    pub(super) source: Source,
    /// The frame, within its source.
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) work: Work,
    /// Of the first key, if there is one and this core owns it.
    pub(super) hash: Option<KeyHash>,
    /// The core that executes it, or [`OWNER_ROUTED`].
    pub(super) owner: u16,
}

/// See the module's page.
pub(super) struct Batch<L> {
    pub(super) commands: Vec<Command>,
    /// The arguments of `commands[i]`, kept for their memory.
    pub(super) args: Vec<resp::Args>,
    pub(super) loans: Vec<L>,
    /// Connections whose `input` the batch refers to.
    owners: Vec<Key>,
}

/// Hashes a key and asks for the line of the table where it would be.
fn fetch_line(shard: &Shard, db: u8, key: &[u8]) -> KeyHash {
    let hash = shard.hash_in(db, key);
    shard.prefetch_line(hash);
    hash
}

/// Whether a word that is no command is how a web client's request begins or goes on, as in Redis:
/// what follows may have been made up by a web page to look like commands.
#[cold]
fn is_http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"Host:")
}

/// Why parsing stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The batch is full.
    Full,
    /// What is left is the beginning of a frame, or nothing.
    Torn,
    /// The protocol was broken; nothing further is parsed.
    Broken,
}

/// What parsing needs to know.
pub(super) struct ParseLimits {
    pub(super) resp: resp::Limits,
    /// Before the client has given the password.
    resp_locked: resp::Limits,
    pub(super) memcached: memcached::Limits,
    /// Commands of one connection before others have their turn.
    run_commands_max: usize,
    renames: Renames,
    place: Place,
}

impl ParseLimits {
    pub(super) fn new(settings: &Settings) -> ParseLimits {
        let value_bytes_max = settings.value_bytes_max as u32;
        let resp = resp::Limits {
            args_max: settings.limits.args_max,
            // A longer key or inline argument must not be refused because values are short.
            bulk_bytes_max: value_bytes_max.max(INLINE_BYTES_MAX),
            inline_bytes_max: INLINE_BYTES_MAX,
            frame_bytes_max: settings
                .limits
                .request_bytes_max
                .unwrap_or(value_bytes_max.saturating_mul(2).max(FRAME_BYTES_MIN)),
            ..resp::Limits::default()
        };
        ParseLimits {
            resp,
            resp_locked: resp::Limits { unauthenticated: true, ..resp },
            memcached: memcached::Limits { value_bytes_max, ..memcached::Limits::default() },
            run_commands_max: settings.limits.run_commands_max,
            renames: settings.renames.clone(),
            place: Place {
                me: settings.core,
                cores: CoreCount::new(usize::from(settings.cores)).unwrap_or(CoreCount::ONE),
            },
        }
    }

    /// Whether a key is one of this core's.
    pub(super) fn is_mine(&self, key: &[u8]) -> bool {
        self.place.owner(key) == self.place.me
    }

    /// The core of a key.
    pub(super) fn owner(&self, key: &[u8]) -> u16 {
        self.place.owner(key)
    }

    /// Commands under other names.
    pub(super) fn renames(&self) -> &Renames {
        &self.renames
    }

    /// What requests of the binary protocol may take. Those of a stranger are small: nothing is
    /// kept for one who has yet to tell a password.
    #[inline]
    pub(super) fn binary(&self, is_locked: bool) -> memcached::Limits {
        let value_bytes_max = match is_locked {
            true => self.memcached.value_bytes_max.min(binary::MESSAGE_BYTES_MAX),
            false => self.memcached.value_bytes_max,
        };
        memcached::Limits { value_bytes_max, ..self.memcached }
    }
}

impl<L> Batch<L> {
    pub(super) fn new() -> Batch<L> {
        Batch {
            commands: Vec::with_capacity(BATCH_COMMANDS_MAX),
            args: (0..BATCH_COMMANDS_MAX).map(|_| resp::Args::new()).collect(),
            loans: Vec::with_capacity(BATCH_COMMANDS_MAX),
            owners: Vec::with_capacity(BATCH_COMMANDS_MAX),
        }
    }

    /// Arguments for another use, while no command is in the batch.
    pub(super) fn spare_args(&mut self) -> &mut resp::Args {
        debug_assert!(self.commands.is_empty());
        &mut self.args[0]
    }

    /// Commands parsed and not yet executed.
    pub(super) fn len(&self) -> usize {
        self.commands.len()
    }

    /// Parses commands from `bytes[at..]` until the batch is full or no whole command is left.
    /// Returns where it stopped, and why.
    fn parse(
        &mut self,
        progress: &mut Progress,
        origin: Origin,
        bytes: &[u8],
        at: usize,
        shard: &Shard,
        limits: &ParseLimits,
    ) -> (usize, Stop) {
        progress.decide(&bytes[at..]);
        match progress {
            Progress::Resp(progress) => self.parse_resp(progress, origin, bytes, at, shard, limits),
            Progress::Memcached(progress) => {
                self.parse_memcached(progress, origin, bytes, at, shard, limits)
            }
            Progress::Binary(progress) => {
                self.parse_binary(progress, origin, bytes, at, shard, limits)
            }
            Progress::Undecided => (at, Stop::Torn),
        }
    }

    fn parse_resp(
        &mut self,
        progress: &mut resp::Progress,
        origin: Origin,
        bytes: &[u8],
        mut at: usize,
        shard: &Shard,
        limits: &ParseLimits,
    ) -> (usize, Stop) {
        let Origin { connection, source, .. } = origin;
        let (renames, place) = (&limits.renames, limits.place);
        let limits = if origin.is_locked { &limits.resp_locked } else { &limits.resp };
        loop {
            if at == bytes.len() {
                return (at, Stop::Torn);
            }
            if self.commands.len() == BATCH_COMMANDS_MAX {
                return (at, Stop::Full);
            }
            let args = &mut self.args[self.commands.len()];
            let frame = &bytes[at..];
            let (work, consumed, stop) = match resp::parse(frame, progress, args, limits) {
                resp::Parse::Incomplete { .. } => return (at, Stop::Torn),
                resp::Parse::Complete { consumed } if args.is_empty() => {
                    at += consumed;
                    continue;
                }
                resp::Parse::Complete { consumed } => {
                    let name = args.arg(frame, 0);
                    match renames.find(name) {
                        None if is_http(name) => (Work::Http, frame.len(), true),
                        spec => (Work::Resp(spec), consumed, false),
                    }
                }
                resp::Parse::Error(error) => (Work::Broken(error), frame.len(), true),
            };
            let (mut hash, mut owner) = (None, place.me);
            if let Work::Resp(Some(spec)) = work {
                if let index @ 1.. = spec.first_key()
                    && let Some(key) = args.get(frame, index)
                {
                    owner = place.owner(key);
                    if owner == place.me {
                        hash = Some(fetch_line(shard, origin.db, key));
                    }
                }
                if !matches!(spec.reach, Reach::Key(_) | Reach::Here) {
                    owner = OWNER_ROUTED;
                }
            }
            let (from, to) = (at as u32, (at + consumed) as u32);
            self.commands.push(Command { connection, source, from, to, work, hash, owner });
            at += consumed;
            if stop {
                return (at, Stop::Broken);
            }
            if origin.is_locked {
                // It may be the password, on which it depends what comes next.
                return (at, Stop::Full);
            }
        }
    }

    fn parse_memcached(
        &mut self,
        progress: &mut memcached::Progress,
        origin: Origin,
        bytes: &[u8],
        mut at: usize,
        shard: &Shard,
        limits: &ParseLimits,
    ) -> (usize, Stop) {
        let Origin { connection, source, .. } = origin;
        let (place, limits) = (limits.place, &limits.memcached);
        loop {
            if at == bytes.len() {
                return (at, Stop::Torn);
            }
            if self.commands.len() == BATCH_COMMANDS_MAX {
                return (at, Stop::Full);
            }
            let frame = &bytes[at..];
            let (mut hash, mut owner) = (None, place.me);
            let (work, consumed) = match memcached::parse(frame, progress, limits) {
                memcached::Parse::Incomplete { .. } => return (at, Stop::Torn),
                memcached::Parse::Swallowed { consumed } => (Work::Swallowed, consumed),
                memcached::Parse::Complete { request, consumed } => {
                    if let Some(key) = command::memcached::first_key(&request) {
                        owner = place.owner(key);
                        if owner == place.me {
                            hash = Some(fetch_line(shard, origin.db, key));
                        }
                    }
                    if !command::memcached::is_plain(&request) {
                        owner = OWNER_ROUTED;
                    }
                    (Work::Memcached, consumed)
                }
                memcached::Parse::Refused { error, noreply, consumed } => {
                    (Work::Refused(error, noreply), consumed)
                }
                memcached::Parse::Close(reason) => (Work::BrokenMemcached(reason), frame.len()),
            };
            let (from, to) = (at as u32, (at + consumed) as u32);
            self.commands.push(Command { connection, source, from, to, work, hash, owner });
            at += consumed;
            if matches!(work, Work::BrokenMemcached(_)) {
                return (at, Stop::Broken);
            }
        }
    }

    fn parse_binary(
        &mut self,
        progress: &mut binary::Progress,
        origin: Origin,
        bytes: &[u8],
        mut at: usize,
        shard: &Shard,
        limits: &ParseLimits,
    ) -> (usize, Stop) {
        let Origin { connection, source, .. } = origin;
        let (place, limits) = (limits.place, &limits.binary(origin.is_locked));
        loop {
            if at == bytes.len() {
                return (at, Stop::Torn);
            }
            if self.commands.len() == BATCH_COMMANDS_MAX {
                return (at, Stop::Full);
            }
            let frame = &bytes[at..];
            let (mut hash, mut stop, mut owner) = (None, None, place.me);
            let (work, consumed) = match binary::parse(frame, progress, limits) {
                binary::Parse::Incomplete { .. } => return (at, Stop::Torn),
                binary::Parse::Swallowed { consumed } => (Work::Swallowed, consumed),
                binary::Parse::Complete { request, consumed } => {
                    if !request.key.is_empty() && !command::memcached::is_about_server(&request) {
                        owner = place.owner(request.key);
                        if owner == place.me {
                            hash = Some(fetch_line(shard, origin.db, request.key));
                        }
                    }
                    if matches!(
                        request.command,
                        binary::Command::Flush { .. } | binary::Command::Stat
                    ) {
                        owner = OWNER_ROUTED;
                    }
                    // It may be the password, on which it depends what comes next.
                    stop = origin.is_locked.then_some(Stop::Full);
                    match request.command {
                        binary::Command::Refused { closes: true, .. } => {
                            stop = Some(Stop::Broken);
                            (Work::Binary, frame.len())
                        }
                        _ => (Work::Binary, consumed),
                    }
                }
                binary::Parse::Close(reason) => {
                    stop = Some(Stop::Broken);
                    (Work::BrokenMemcached(reason), frame.len())
                }
            };
            let (from, to) = (at as u32, (at + consumed) as u32);
            self.commands.push(Command { connection, source, from, to, work, hash, owner });
            at += consumed;
            if let Some(stop) = stop {
                return (at, stop);
            }
        }
    }
}

/// What a request of another core is, and the hash of its first key.
pub(super) fn parse_guest(
    head: &Head,
    frame: &[u8],
    args: &mut resp::Args,
    shard: &Shard,
    limits: &ParseLimits,
) -> (Work, Option<KeyHash>) {
    let mut hash = None;
    let work = match head.kind {
        kind::MEMCACHED => {
            let mut progress = memcached::Progress::default();
            match memcached::parse(frame, &mut progress, &limits.memcached) {
                memcached::Parse::Complete { request, .. } => {
                    let key = command::memcached::first_key(&request);
                    hash = key.map(|key| fetch_line(shard, head.db, key));
                    Work::Memcached
                }
                memcached::Parse::Refused { error, noreply, .. } => Work::Refused(error, noreply),
                memcached::Parse::Close(reason) => Work::BrokenMemcached(reason),
                memcached::Parse::Swallowed { .. } | memcached::Parse::Incomplete { .. } => {
                    Work::Nothing
                }
            }
        }
        kind::BINARY => {
            let mut progress = binary::Progress::default();
            match binary::parse(frame, &mut progress, &limits.binary(false)) {
                binary::Parse::Complete { request, .. } => {
                    hash = Some(fetch_line(shard, head.db, request.key));
                    Work::Binary
                }
                binary::Parse::Close(reason) => Work::BrokenMemcached(reason),
                binary::Parse::Swallowed { .. } | binary::Parse::Incomplete { .. } => Work::Nothing,
            }
        }
        _ => match resp::parse(frame, &mut resp::Progress::default(), args, &limits.resp) {
            resp::Parse::Complete { .. } if !args.is_empty() => {
                let spec = limits.renames.find(args.arg(frame, 0));
                let key = spec.map_or(0, Spec::first_key);
                let key = if key > 0 { args.get(frame, key) } else { None };
                hash = key.map(|key| fetch_line(shard, head.db, key));
                Work::Resp(spec)
            }
            resp::Parse::Error(error) => Work::Broken(error),
            resp::Parse::Complete { .. } | resp::Parse::Incomplete { .. } => Work::Nothing,
        },
    };
    debug_assert!(!matches!(work, Work::Nothing), "requests cross when they are whole");
    (work, hash)
}

impl<L> Batch<L> {
    /// Adds a request of another core: `from` is the core, and where in its requests this one is.
    pub(super) fn add_guest(
        &mut self,
        head: &Head,
        frame: &[u8],
        (core, at): (usize, usize),
        shard: &Shard,
        limits: &ParseLimits,
    ) {
        let args = &mut self.args[self.commands.len()];
        let (work, hash) = parse_guest(head, frame, args, shard, limits);
        let (source, owner) = (Source::Lane(core as u16), limits.place.me);
        let (from, to) = (at as u32, (at + frame.len()) as u32);
        self.commands.push(Command { connection: head.key, source, from, to, work, hash, owner });
    }
}

impl<T: Transport> Core<T> {
    /// Parses what has just come for a connection without pending input, in place, and executes
    /// as often as the batch is full. What is left of a torn frame moves to the connection.
    pub(super) fn parse_loan(&mut self, index: u32, loan: T::Loan) {
        self.batch.loans.push(loan);
        let mut at = 0;
        loop {
            let number = self.batch.loans.len() - 1;
            let Some(loan) = self.batch.loans.pop() else { return };
            let bytes = self.transport.bytes(&loan);
            let Some(connection) = self.connections.at(index) else { return };
            let (mut stop, mut refused) = (Stop::Torn, false);
            if connection.may_run() {
                let settings = &self.options.settings;
                let origin = Origin::of(connection, Source::Loan(number as u32), settings);
                let (progress, limits) = (&mut connection.progress, &self.limits);
                (at, stop) = self.batch.parse(progress, origin, bytes, at, &self.shard, limits);
            }
            if stop == Stop::Torn && at < bytes.len() && connection.closing < Closing::Flushing {
                let torn = &bytes[at..];
                let input_bytes_max = self.options.settings.limits.input_bytes_max;
                if self.budget.may_keep(connection, torn.len())
                    && connection.input.len() + torn.len() <= input_bytes_max
                {
                    self.spares.append(&mut connection.input, torn);
                    let age_ms = self.options.settings.limits.request_age_ms;
                    connection.note_arrival(torn.len(), self.now_ms, age_ms);
                    self.budget.recount(connection);
                } else {
                    refused = true;
                }
            }
            self.batch.loans.push(loan);
            if refused {
                // What was whole comes first, and its replies before the error.
                self.execute_commands();
                self.release_loans(0);
                self.refuse_input(index);
                return;
            }
            if stop == Stop::Torn {
                self.note_torn(index);
            }
            if stop != Stop::Full {
                return;
            }
            self.execute_commands();
            self.release_loans(1);
        }
    }

    /// Parses and executes what connections have in their own buffers, each for a bounded number
    /// of commands; those with more stay in the list for the next turn.
    pub(super) fn run_runnable(&mut self) {
        let count = self.runnable.len();
        for number in 0..count {
            let index = self.runnable[number];
            let Some(connection) = self.connections.at(index) else { continue };
            connection.runnable = false;
            if connection.is_arriving() {
                if connection.may_run() {
                    self.feed_input(index);
                }
                continue;
            }
            self.parse_input(index);
        }
        // What was added meanwhile waits for the next turn.
        self.runnable.drain(..count);
    }

    fn parse_input(&mut self, index: u32) {
        for _ in 0..self.limits.run_commands_max / BATCH_COMMANDS_MAX {
            let Some(connection) = self.connections.at(index) else { return };
            if !connection.may_run() {
                return;
            }
            let key = connection.key;
            let Some(stop) = self.parse_some(index) else { return };
            let Some(connection) = self.connections.at(index) else { return };
            if stop != Stop::Full {
                if std::mem::take(&mut connection.backlog) {
                    self.let_receive(key);
                }
                if stop == Stop::Torn {
                    self.note_torn(index);
                }
                return;
            }
            self.execute_batch();
        }
        if let Some(connection) = self.connections.at(index) {
            connection.backlog = true;
            self.counters.pipeline_pauses += 1;
        }
        self.mark_runnable(index);
    }

    /// Parses what a connection has in its own buffer until the batch is full.
    pub(super) fn parse_some(&mut self, index: u32) -> Option<Stop> {
        let connection = self.connections.at(index)?;
        let origin = Origin::of(connection, Source::Input, &self.options.settings);
        let (progress, bytes, at) =
            (&mut connection.progress, &connection.input, connection.parsed);
        let (shard, limits) = (&self.shard, &self.limits);
        let (at, stop) = self.batch.parse(progress, origin, bytes, at, shard, limits);
        connection.parsed = at;
        self.batch.owners.push(connection.key);
        Some(stop)
    }

    /// Executes all that is parsed and gives the loans back.
    pub(super) fn execute_batch(&mut self) {
        self.execute_commands();
        self.release_loans(0);
    }

    fn release_loans(&mut self, kept: usize) {
        let released = self.batch.loans.len() - kept;
        for loan in self.batch.loans.drain(..released) {
            self.transport.give_back(loan);
        }
    }

    fn execute_commands(&mut self) {
        self.counters.batches += u64::from(self.batch.len() > 0);
        for command in &self.batch.commands {
            if let Some(hash) = command.hash {
                self.shard.prefetch_item(hash);
            }
        }
        for number in 0..self.batch.commands.len() {
            if self.pause.is_none() || !self.postpones(number) {
                self.execute(number);
            }
        }
        self.end_batch();
    }

    /// Empties the batch, whose commands are executed or put back.
    pub(super) fn end_batch(&mut self) {
        self.batch.commands.clear();
        while let Some(key) = self.batch.owners.pop() {
            let Some(connection) = self.connections.find(key) else { continue };
            connection.input.drain(..connection.parsed);
            connection.parsed = 0;
            if connection.input.is_empty() {
                self.spares.keep(std::mem::take(&mut connection.input));
                connection.arrivals = None;
            }
            self.budget.recount(connection);
            self.ending.push(key);
        }
    }
}
