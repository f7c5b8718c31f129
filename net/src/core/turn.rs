//! The turn: what has happened, in order; then what the connections have to say, in one go.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use pinion_engine::{DATABASES, KeyHash, PinnedValue, Shard};
use pinion_ring::{EndReason, Event, Key, Wait};

use super::accept::{Rate, Spare};
use super::age::AgeLook;
use super::batch::{Batch, ParseLimits};
use super::budget::Budget;
use super::fills::Fills;
use super::gather::Gathers;
use super::guest::{self, GuestTask};
use super::inbox::{CoreMessage, Inbox, Reload, Request};
use super::jointly::Joints;
use super::lanes::Lanes;
use super::lent::LentReplies;
use super::limits::{
    EXPIRY_ENTRIES, EXPIRY_SHARE, HOLD_NS, INPUT_BYTES_HIGH, STREAM_BYTES_PER_TURN,
};
use super::output::Spares;
use super::pause::Pause;
use super::quiet::Look;
use super::rates::Rates;
use super::reserve::Reservations;
use super::visit::Visits;
use super::{Counters, Transport};
use crate::clock::Clock;
use crate::command::{ServerState, Settings};
use crate::connection::{Closing, Connection, Protocol, Session, Slab};
use crate::log::{Level, Line};
use crate::memory::Memory;
use crate::protocol::resp;

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerKind {
    /// What its connections speak.
    pub protocol: Protocol,
    /// Whether it is a core port: then they talk to a node of a cluster.
    pub is_core_port: bool,
    /// Whether its connections are dealt to all cores in turn. One core accepts them.
    pub is_dealt: bool,
}

impl ListenerKind {
    /// A listener of an ordinary port, whose connections stay where they come.
    pub const fn plain(protocol: Protocol) -> ListenerKind {
        ListenerKind { protocol, is_core_port: false, is_dealt: false }
    }
}

/// What a core is made with.
#[derive(Clone, Debug)]
pub struct CoreOptions {
    /// Connections at a time.
    pub connections_max: usize,
    /// Commands executed before their replies are sent.
    pub flush_after: usize,
    /// What commands may ask for.
    pub settings: Settings,
    /// The memory of the process, and how it is divided.
    pub memory: Memory,
    /// How long the end waits for clients to take their replies, in milliseconds.
    pub drain_ms: u64,
    /// What the listeners are for, by the transport's numbers.
    pub listeners: Vec<ListenerKind>,
}

/// What a turn did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Whether anything had happened; if not, the caller may let the core rest.
    pub worked: bool,
    /// Whether there is more to do at once, without anything happening.
    pub more: bool,
    /// Whether the core has been told to end and has nothing left to send.
    pub ended: bool,
}

/// One core's state. `T` moves its bytes.
pub struct Core<T: Transport> {
    pub(super) transport: T,
    pub(super) shard: Shard,
    pub(super) connections: Slab<Connection<T::Socket>>,
    pub(super) batch: Batch<T::Loan>,
    pub(super) limits: ParseLimits,
    /// Stands for the hash of a command without a key.
    pub(super) no_hash: KeyHash,
    /// Connections with output to send.
    pub(super) dirty: Vec<u32>,
    /// Connections with input of their own to parse.
    pub(super) runnable: Vec<u32>,
    /// Connections that may have come to their end.
    pub(super) ending: Vec<Key>,
    /// Connections whose command is executed in slices.
    pub(super) tasks: VecDeque<Key>,
    /// The lanes to other cores, if there are any.
    pub(super) lanes: Option<Lanes>,
    /// Commands that several cores execute.
    pub(super) gathers: Gathers,
    /// Commands over several cores that this one has begun,
    pub(super) joints: Joints,
    /// keys of this core that such commands have reserved,
    pub(super) reservations: Reservations,
    /// and those commands.
    pub(super) visits: Visits,
    /// Connections whose output is held back, and since when, in nanoseconds.
    pub(super) held: VecDeque<(Key, u64)>,
    /// Replies with large values that other cores fetch,
    pub(super) lent: LentReplies,
    /// and those of other cores that nobody waits for any more, by core and number.
    pub(super) unwanted: Vec<(u16, u64)>,
    /// The session of other cores' commands.
    pub(super) guest: Session,
    pub(super) guest_args: resp::Args,
    /// Those of them that are executed in slices.
    pub(super) guest_tasks: VecDeque<GuestTask>,
    /// Reads that wait for another client.
    pub(super) fills: Fills,
    /// Connections whose parsing has stopped within a large value.
    pub(super) torn: Vec<Key>,
    /// Connections whose output waits for the next turn.
    pub(super) deferred: Vec<u32>,
    /// The values that the reply of the command being executed refers to.
    pub(super) pins: Vec<(usize, PinnedValue)>,
    /// Bytes of large values received in this turn.
    pub(super) streamed_bytes: usize,
    /// Connections whose receive found no buffer.
    starved: Vec<Key>,
    pub(super) spares: Spares,
    pub(super) budget: Budget,
    pub(super) counters: Counters,
    pub(super) server: ServerState,
    pub(super) rates: Rates,
    /// CLIENT PAUSE, while it goes on.
    pub(super) pause: Option<Pause>,
    /// Connections that wait for its end.
    pub(super) postponed: Vec<Key>,
    pub(super) clock: Clock,
    /// The time of this turn, twice.
    now_ns: u64,
    /// Time spent looking for work in vain, without sleeping.
    pub(super) spun_ns: u64,
    /// Whether the last turn has found nothing to do.
    was_idle: bool,
    pub(super) now_ms: u64,
    pub(super) options: CoreOptions,
    pub(super) inbox: Inbox,
    pub(super) next_connection_id: u64,
    /// Listeners that rest after a failure, until the time given.
    pub(super) resting: Vec<(u32, u64)>,
    /// The core that gets the next connection that is dealt.
    pub(super) next_dealt: usize,
    /// How fast connections may come.
    pub(super) accept_rate: Arc<Rate>,
    /// A descriptor to be given up when there is no other.
    pub(super) spare: Spare,
    /// Where the look for quiet connections goes on.
    pub(super) quiet: Look,
    /// Where the look for old requests goes on.
    pub(super) age: AgeLook,
    /// When the core ends at the latest, once it has been told to.
    pub(super) stop_at_ms: Option<u64>,
    /// Turns since then that have left no event.
    pub(super) stop_turns: u32,
    /// When all items die, if a client has asked for it.
    flush_at_ms: Option<u64>,
}

impl<T: Transport> Core<T> {
    /// A core without connections.
    pub fn new(
        transport: T,
        shard: Shard,
        clock: Clock,
        options: CoreOptions,
        inbox: Inbox,
    ) -> Core<T> {
        Core {
            transport,
            no_hash: shard.hash(b""),
            shard,
            // One more than are allowed, for the one that is told so.
            connections: Slab::with_capacity(options.connections_max + 1),
            batch: Batch::new(),
            limits: ParseLimits::new(&options.settings),
            dirty: Vec::new(),
            runnable: Vec::new(),
            ending: Vec::new(),
            tasks: VecDeque::new(),
            lanes: None,
            gathers: Gathers::default(),
            joints: Joints::default(),
            reservations: Reservations::default(),
            visits: Visits::default(),
            held: VecDeque::new(),
            lent: LentReplies::default(),
            unwanted: Vec::new(),
            guest: guest::session(),
            guest_args: resp::Args::new(),
            guest_tasks: VecDeque::new(),
            fills: Fills::default(),
            torn: Vec::new(),
            deferred: Vec::new(),
            pins: Vec::new(),
            streamed_bytes: 0,
            starved: Vec::new(),
            spares: Spares::default(),
            budget: Budget::new(options.memory.division().buffers_bytes as usize),
            counters: Counters::default(),
            server: ServerState::default(),
            rates: Rates::default(),
            pause: None,
            postponed: Vec::new(),
            now_ns: clock.now_ns(),
            spun_ns: 0,
            was_idle: false,
            now_ms: clock.now_ms(),
            clock,
            options,
            inbox,
            next_connection_id: 0,
            resting: Vec::new(),
            next_dealt: 0,
            accept_rate: Arc::default(),
            spare: Spare::new(),
            quiet: Look::default(),
            age: AgeLook::default(),
            stop_at_ms: None,
            stop_turns: 0,
            flush_at_ms: None,
        }
    }

    /// Joins the core with others, before its first turn.
    pub fn join(&mut self, lanes: Lanes) {
        self.server.slowlog.number_by(lanes.slow_numbers());
        self.accept_rate = lanes.accept_rate();
        self.lanes = (lanes.cores().count() > 1).then_some(lanes);
    }

    /// The transport, for the driver.
    pub fn transport(&mut self) -> &mut T {
        &mut self.transport
    }

    /// The shard, for benchmarks and tests.
    pub fn shard(&mut self) -> &mut Shard {
        &mut self.shard
    }

    /// The counters.
    pub fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// Takes one turn: waits as told if there is nothing to do, handles what has happened,
    /// executes the commands that have come, and queues their replies for sending, which the next
    /// turn hands to the kernel.
    ///
    /// A turn executes about [`CoreOptions::flush_after`] commands; what is left is done by the
    /// next. It allocates nothing for commands that are answered at once from small values.
    ///
    /// # Errors
    /// When the transport fails for good.
    pub fn turn(&mut self, wait: Wait) -> io::Result<Turn> {
        let is_idle = !self.has_more();
        let wait = if is_idle { self.bounded(wait) } else { Wait::No };
        let wait = if wait == Wait::No || self.may_sleep() { wait } else { Wait::No };
        self.transport.enter(wait)?;
        self.wake_up();
        let before_ns = std::mem::replace(&mut self.now_ns, self.clock.now_ns());
        self.now_ms = self.now_ns / 1_000_000;
        if self.was_idle && wait == Wait::No {
            self.spun_ns += self.now_ns - before_ns;
        }
        if self.flush_at_ms.is_some_and(|at_ms| self.now_ms >= at_ms) {
            self.flush_at_ms = None;
            self.shard.flush();
        }
        if self.pause.is_some() {
            self.end_pause();
        }
        let (commands_before, mut events) = (self.counters.commands, 0u32);
        let had_work = !is_idle;
        self.streamed_bytes = 0;
        events += self.take_post();
        let mut exhausted = true;
        while let Some(event) = self.transport.next_event() {
            events += 1;
            self.handle(event);
            let queued = self.batch.len() as u64;
            let commands = self.counters.commands + queued - commands_before;
            if commands >= self.options.flush_after as u64
                || self.streamed_bytes >= STREAM_BYTES_PER_TURN
            {
                exhausted = false;
                break;
            }
        }
        self.run_runnable();
        self.execute_batch();
        self.pass_on_open();
        self.run_tasks();
        self.run_guest_tasks();
        self.look_at_fills();
        self.answer_old();
        self.open_streams();
        if !self.unwanted.is_empty() {
            self.give_replies_back();
        }
        self.post();
        self.look_at_held(events > 0);
        self.flush();
        // Pieces of replies are asked for when what is before them is sent.
        self.post();
        self.receive_again();
        self.reap();
        self.accept_again();
        self.close_quiet();
        let worked = events > 0 || had_work;
        self.counters.turns += u64::from(worked);
        let behind = self.expire();
        self.tend_buffers();
        if worked && self.rates.is_due(self.now_ms) {
            self.rates.take(self.sample());
            self.server.memory_peak_bytes = self.used_bytes().max(self.server.memory_peak_bytes);
            if let Some(lanes) = &self.lanes {
                for db in 0..DATABASES {
                    lanes.tell_items(db, self.shard.database_stats(db as u8).items);
                }
            }
        }
        let maintained = self.maintain_shard();
        if let Some(errand) = self.shard.errand() {
            self.inbox.ask(Request::Errand(errand));
        }
        let more = behind || maintained || self.has_more() || self.budget.has_more();
        let ended = self.has_ended(exhausted);
        self.was_idle = !worked && !more;
        Ok(Turn { worked, more: more || self.is_settling(), ended })
    }

    /// Whether there is work left by the last turn.
    pub(super) fn has_more(&self) -> bool {
        !self.runnable.is_empty()
            || !self.deferred.is_empty()
            || !self.tasks.is_empty()
            || !self.guest_tasks.is_empty()
            || !self.unwanted.is_empty()
            || self.lanes.as_ref().is_some_and(Lanes::has_more)
            || self.reservations.has_open()
            || self.fills.has_woken()
    }

    /// Whether the core may sleep as far as other cores are concerned; who posts from now on wakes
    /// it.
    pub(super) fn may_sleep(&self) -> bool {
        self.lanes.as_ref().is_none_or(Lanes::fall_asleep)
    }

    /// Tells other cores that they need not wake this one.
    pub(super) fn wake_up(&self) {
        if let Some(lanes) = &self.lanes {
            lanes.wake_up();
        }
    }

    /// The time that the last turn read, in nanoseconds of the server's clock.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Removes items whose deadline has come: one slice of work, and more for as long as a quarter
    /// of the turn. Returns whether more is due.
    fn expire(&mut self) -> bool {
        let now_ms = self.now_ms;
        if self.shard.next_deadline_ms().is_none_or(|at_ms| at_ms > now_ms) {
            return false;
        }
        let begun_ns = self.clock.now_ns();
        let until_ns = begun_ns + begun_ns.saturating_sub(self.now_ns) / EXPIRY_SHARE;
        while self.shard.expire(now_ms, EXPIRY_ENTRIES).more_due {
            if self.clock.now_ns() >= until_ns {
                return true;
            }
        }
        false
    }

    /// When there is something to do without anything happening: items expire, a listener has
    /// rested, all items are to die, or the core is to end.
    pub(super) fn next_timer_ms(&self) -> Option<u64> {
        let rested = self.resting.iter().map(|&(_, until_ms)| until_ms).min();
        let paused = self.pause.map(|pause| pause.until_ms);
        let timers = rested.into_iter().chain(self.flush_at_ms).chain(self.stop_at_ms);
        let timers = timers.chain(paused).chain(self.fills.next_ms());
        let timers = timers.chain(self.quiet_timer_ms()).chain(self.age_timer_ms());
        timers.chain(self.budget.timer_ms()).chain(self.shard.next_deadline_ms()).min()
    }

    /// Shortens a wait so that it ends with the next timer.
    pub(super) fn bounded(&self, wait: Wait) -> Wait {
        let held = self.held.front().map(|&(_, since_ns)| {
            Duration::from_nanos((since_ns + HOLD_NS).saturating_sub(self.now_ns).max(1))
        });
        let timer = self
            .next_timer_ms()
            .map(|next_ms| Duration::from_millis(next_ms.saturating_sub(self.now_ms).max(1)));
        let Some(left) = held.into_iter().chain(timer).min() else { return wait };
        match wait {
            Wait::No => Wait::No,
            Wait::For(time) => Wait::For(time.min(left)),
            Wait::Forever => Wait::For(left),
        }
    }

    /// Lets all items die at a time, or at once if it has come; a second call replaces the first.
    pub(super) fn flush_at(&mut self, at_ms: u64) {
        self.flush_at_ms = Some(at_ms).filter(|&at_ms| at_ms > self.now_ms);
        if self.flush_at_ms.is_none() {
            self.shard.flush();
        }
    }

    fn handle(&mut self, event: Event<T::Socket, T::Loan>) {
        match event {
            Event::Received { key, data, armed } => self.received(key, data, armed),
            Event::Sent { key, buffer, result } => self.sent(key, buffer, result),
            Event::ReceiveEnded { key, reason } => self.receive_ended(key, reason),
            Event::Accepted { listener, socket } => self.deal(listener, socket),
            Event::AcceptFailed { listener, error } => self.accept_failed(listener, &error),
            Event::Woken => self.read_inbox(),
        }
    }

    fn received(&mut self, key: Key, loan: T::Loan, armed: bool) {
        let bytes = self.transport.bytes(&loan);
        self.counters.bytes_in += bytes.len() as u64;
        let Some(connection) = self.connections.find(key) else {
            self.transport.give_back(loan);
            return;
        };
        connection.receiving = armed;
        connection.moved_ms = self.now_ms;
        if !armed {
            self.starved.push(key);
        }
        if connection.closing >= Closing::Flushing {
            self.transport.give_back(loan);
            // Without a receive in flight, nothing else may bring it to its end.
            self.ending.push(key);
        } else if connection.input.is_empty() && connection.may_run() {
            if connection.is_arriving() {
                self.feed_loan(key.index, loan);
            } else {
                self.parse_loan(key.index, loan);
            }
        } else if !self.budget.may_keep(connection, bytes.len())
            || connection.input.len() + bytes.len() > self.options.settings.limits.input_bytes_max
        {
            self.transport.give_back(loan);
            // Its commands before this one are answered before the error.
            self.execute_batch();
            self.refuse_input(key.index);
        } else {
            // What piles up here is as much work as what goes to the shard.
            self.streamed_bytes += bytes.len();
            self.spares.append(&mut connection.input, bytes);
            let age_ms = self.options.settings.limits.request_age_ms;
            connection.note_arrival(bytes.len(), self.now_ms, age_ms);
            self.budget.recount(connection);
            let waiting = !connection.may_run() || connection.backlog;
            let hold =
                waiting && (connection.unparsed() > INPUT_BYTES_HIGH || self.budget.is_short());
            self.transport.give_back(loan);
            if hold {
                self.stop_receiving(key);
            }
            self.mark_runnable(key.index);
        }
    }

    /// Asks that receiving ends, for a connection whose input has piled up. Repeated with each
    /// further receive, since a request that comes at the wrong moment has no effect.
    pub(super) fn stop_receiving(&mut self, key: Key) {
        let Some(connection) = self.connections.find(key) else { return };
        connection.cancelling = true;
        if connection.receiving {
            self.transport.cancel_receive(key);
        }
    }

    fn receive_ended(&mut self, key: Key, reason: EndReason) {
        let Some(connection) = self.connections.find(key) else { return };
        connection.receiving = false;
        match reason {
            EndReason::NoBuffers => {
                self.counters.receive_starvations += 1;
                self.starved.push(key);
            }
            // It may be wanted again by now.
            EndReason::Cancelled if !connection.cancelling => self.starved.push(key),
            EndReason::Cancelled => {}
            EndReason::Eof => connection.close(Closing::Draining),
            EndReason::Failed(_) => connection.close(Closing::Dropped),
        }
        self.ending.push(key);
    }

    /// Receives again for connections whose receive has ended for want of a buffer (they are back
    /// now), by its kind, or because it had been held back.
    fn receive_again(&mut self) {
        while let Some(key) = self.starved.pop() {
            let Some(connection) = self.connections.find(key) else { continue };
            let held = connection.cancelling || connection.closing > Closing::Open;
            if !connection.receiving && !held {
                connection.receiving = true;
                self.transport.receive(&connection.socket, key);
            }
        }
    }

    /// Lets a connection that was held back receive again.
    pub(super) fn let_receive(&mut self, key: Key) {
        if let Some(connection) = self.connections.find(key)
            && std::mem::take(&mut connection.cancelling)
        {
            self.starved.push(key);
        }
    }

    fn read_inbox(&mut self) {
        while let Some(message) = self.inbox.next() {
            match message {
                CoreMessage::Reply { key, ticket, bytes } => {
                    if let Some(connection) = self.connections.find(key) {
                        connection.replies.resolve(ticket, bytes);
                        self.budget.recount(connection);
                        self.ending.push(key);
                        self.mark_dirty(key.index);
                    }
                }
                CoreMessage::Adopt { listener, socket } => self.adopt(listener, socket),
                CoreMessage::Returned(returned) => self.shard.take_back(returned),
                CoreMessage::Reload(reload) => self.reload(*reload),
                CoreMessage::Find { wanted, to } => {
                    let found = self.find(&wanted);
                    // Who has asked may have waited for long enough.
                    let _ = to.send((usize::from(self.options.settings.core), found));
                }
                CoreMessage::Weigh(to) => {
                    let weight = self.weigh();
                    // If nobody waits for it any more, it was too late.
                    let _ = to.send((usize::from(self.options.settings.core), weight));
                }
                CoreMessage::Shift(bytes) => {
                    self.options.memory.shift(bytes, &mut self.shard);
                }
                CoreMessage::Stop => self.stop(),
            }
        }
    }

    /// Lets other options take effect.
    fn reload(&mut self, reload: Reload) {
        let settings = &mut self.options.settings;
        if let Some(password) = reload.password {
            settings.password = password;
        }
        if reload.memcached_users.is_some() {
            settings.memcached_users = reload.memcached_users;
        }
        if let Some(limits) = reload.limits {
            settings.limits = limits;
            self.limits = ParseLimits::new(settings);
        }
        if let Some(drain_ms) = reload.drain_ms {
            self.options.drain_ms = drain_ms;
        }
        if let Some(memory_bytes) = reload.memory_bytes
            && let Err(why) = self.options.memory.set(memory_bytes, &mut self.shard)
        {
            let line = Line::new(Level::Warn, "reload", "memory stays as it is");
            self.inbox.ask(Request::Log(line.with("reason", why)));
        }
    }

    pub(super) fn mark_dirty(&mut self, index: u32) {
        if let Some(connection) = self.connections.at(index)
            && !std::mem::replace(&mut connection.dirty, true)
        {
            self.dirty.push(index);
        }
    }

    pub(super) fn mark_runnable(&mut self, index: u32) {
        if let Some(connection) = self.connections.at(index)
            && connection.may_run()
            && !std::mem::replace(&mut connection.runnable, true)
        {
            self.runnable.push(index);
        }
    }
}
