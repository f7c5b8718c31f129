//! One worker: a thread that keeps its share of the schedule over its share of the connections.
//!
//! ```text
//!  clock --> issue what is due --> one send per dirty connection --> wait --> receive, record
//!    ^                                                                           |
//!    +---------------------------------------------------------------------------+
//! ```
//!
//! Invariants:
//! - I1. Requests are issued in the order of the schedule. If no connection has room they wait;
//!   their intended time does not move and none is dropped.
//! - I2. A connection is in the line of connections with room (`free`) at most once, and only the
//!   front is used: requests go round-robin over those with room.
//! - I3. Every request that was issued is recorded exactly once: with its reply, or at the end with
//!   its age and as an error.
//!
//! Cost in steady state: one `epoll` wait per turn, one `recv` and one `send` per ready connection
//! and turn, and no allocation.

mod parts;
mod replies;

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::conn::{Connection, Pending};
use crate::error::Error;
use crate::pace::Pacer;
use crate::protocol::Op;
use crate::recorder::Class;
use crate::source::Source;
use crate::sys::{Epoll, Event, Wait, monotonic_ns, thread_cpu_ns};

pub(crate) use parts::{Arrivals, Outcome, Plan, Progress, Shared, Stop};

/// An open loop that falls further behind than this is stopped.
pub(crate) const BACKLOG_NS_MAX: u64 = 1_000_000_000;
/// How long the last replies may take after the last request.
pub(crate) const DRAIN_NS_MAX: u64 = 5_000_000_000;
/// How long a server may be silent altogether while requests are outstanding.
pub(crate) const SILENCE_NS_MAX: u64 = 30_000_000_000;
/// Size of the buffer that a worker receives into.
const SCRATCH_BYTES: usize = 256 * 1024;

/// A fill that waits for a connection with room.
struct Fill {
    key: u64,
    intended_ns: u64,
    measured: bool,
}

/// Totals over all phases, for the progress line.
#[derive(Debug, Default, Clone, Copy)]
struct Totals {
    done: u64,
    hits: u64,
    misses: u64,
    errors: u64,
}

/// A worker and all its state.
pub(crate) struct Worker<'a, S> {
    shared: &'a Shared<'a>,
    progress: &'a Progress,
    connections: Vec<Connection>,
    arrivals: Arrivals,
    source: S,
    pipeline: usize,
    read_through: bool,
    epoll: Epoll,
    pacer: Pacer,
    start_ns: u64,
    /// Connections with room, in turn (I2).
    free: VecDeque<u32>,
    dirty: Vec<u32>,
    fills: VecDeque<Fill>,
    scratch: Vec<u8>,
    outstanding: usize,
    open_count: usize,
    exhausted: bool,
    /// When something last came back, or sending ended.
    last_sign_ns: u64,
    cpu_from_ns: Option<u64>,
    totals: Totals,
    out: Outcome,
}

impl<'a, S: Source> Worker<'a, S> {
    /// A worker over open connections.
    ///
    /// # Errors
    /// [`Error::Io`] if the connections cannot be watched.
    pub(crate) fn new(
        shared: &'a Shared<'a>,
        progress: &'a Progress,
        connections: Vec<Connection>,
        plan: Plan<S>,
    ) -> Result<Worker<'a, S>, Error> {
        let failed = |error| Error::io("cannot watch the connections", error);
        let epoll = Epoll::new().map_err(failed)?;
        for (token, connection) in connections.iter().enumerate() {
            epoll.add(connection.fd(), token as u32).map_err(failed)?;
        }
        let gap_ns = match &plan.arrivals {
            Arrivals::Open { schedule, .. } => schedule.gap_ns(),
            Arrivals::Closed { .. } => 0,
        };
        let mut worker = Worker {
            shared,
            progress,
            arrivals: plan.arrivals,
            source: plan.source,
            pipeline: plan.pipeline,
            read_through: plan.read_through,
            epoll,
            pacer: Pacer::new(plan.spin, gap_ns),
            start_ns: 0,
            free: VecDeque::with_capacity(connections.len()),
            dirty: Vec::with_capacity(connections.len()),
            fills: VecDeque::new(),
            scratch: vec![0; SCRATCH_BYTES],
            outstanding: 0,
            open_count: connections.len(),
            exhausted: false,
            last_sign_ns: 0,
            cpu_from_ns: None,
            totals: Totals::default(),
            out: Outcome::new(),
            connections,
        };
        for index in 0..worker.connections.len() {
            worker.offer(index);
        }
        Ok(worker)
    }

    /// Works until everything is sent and answered, or until the run is stopped.
    ///
    /// # Errors
    /// [`Error::Io`] if waiting fails; what happens to single connections is counted instead.
    pub(crate) fn run(mut self, start_ns: u64) -> Result<Outcome, Error> {
        self.start_ns = start_ns;
        self.last_sign_ns = start_ns;
        std::thread::sleep(Duration::from_nanos(start_ns.saturating_sub(monotonic_ns())));
        let mut events: Vec<Event> = Vec::new();
        loop {
            let now_ns = monotonic_ns();
            if self.shared.stopped() {
                break;
            }
            self.issue(now_ns);
            self.flush_dirty();
            if self.finished(now_ns) {
                break;
            }
            let wait = self.next_wait(now_ns);
            self.epoll
                .wait(&mut events, wait)
                .map_err(|error| Error::io("cannot wait for replies", error))?;
            self.pacer.woke(monotonic_ns(), !events.is_empty());
            for event in &events {
                let index = event.token as usize;
                if event.writable {
                    self.flush(index);
                    self.offer(index);
                }
                if event.readable {
                    self.receive(index);
                }
            }
            self.publish(now_ns);
        }
        Ok(self.end())
    }

    /// Sends whatever may be sent now.
    fn issue(&mut self, now_ns: u64) {
        while !self.fills.is_empty() {
            let Some(index) = self.next_free() else { return };
            let Some(fill) = self.fills.pop_front() else { return };
            self.submit(index, (Op::Set, fill.key), Class::Fill, fill.intended_ns, fill.measured);
        }
        if !self.exhausted {
            match self.arrivals {
                Arrivals::Open { .. } => self.issue_open(now_ns),
                Arrivals::Closed { .. } => self.issue_closed(now_ns),
            }
            if self.exhausted {
                self.last_sign_ns = now_ns;
            }
        }
    }

    fn issue_open(&mut self, now_ns: u64) {
        loop {
            let Arrivals::Open { schedule, measure_from, end } = &self.arrivals else { return };
            if schedule.index() >= *end {
                self.exhausted = true;
                return;
            }
            let intended_ns = self.start_ns + schedule.due_ns();
            if intended_ns > now_ns {
                return;
            }
            if now_ns - intended_ns > BACKLOG_NS_MAX {
                self.shared.stop(Stop::Overloaded);
                return;
            }
            let measured = schedule.index() >= *measure_from;
            let Some(index) = self.next_free() else { return };
            let Some(request) = self.source.next() else {
                self.exhausted = true;
                return;
            };
            self.submit(index, request, class_of(request.0), intended_ns, measured);
            if let Arrivals::Open { schedule, .. } = &mut self.arrivals {
                schedule.advance();
            }
        }
    }

    fn issue_closed(&mut self, now_ns: u64) {
        let Arrivals::Closed { measure_from_ns, end_ns, requests_max } = self.arrivals else {
            return;
        };
        let offset_ns = now_ns.saturating_sub(self.start_ns);
        let measured = offset_ns >= measure_from_ns;
        let mut left = requests_max;
        while !self.exhausted {
            if offset_ns >= end_ns || left == 0 {
                self.exhausted = true;
                break;
            }
            let Some(index) = self.next_free() else { break };
            let Some(request) = self.source.next() else {
                self.exhausted = true;
                break;
            };
            self.submit(index, request, class_of(request.0), now_ns, measured);
            left -= u64::from(measured);
        }
        if let Arrivals::Closed { requests_max, .. } = &mut self.arrivals {
            *requests_max = left;
        }
    }

    /// The next connection with room, taken off the line (I2).
    #[inline]
    fn next_free(&mut self) -> Option<usize> {
        while let Some(index) = self.free.pop_front() {
            let connection = &mut self.connections[index as usize];
            connection.offered = false;
            if connection.has_room(self.pipeline) {
                return Some(index as usize);
            }
        }
        None
    }

    /// Puts a connection that has room at the end of the line (I2).
    #[inline]
    fn offer(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if !connection.offered && connection.has_room(self.pipeline) {
            connection.offered = true;
            self.free.push_back(index as u32);
        }
    }

    #[inline]
    fn submit(
        &mut self,
        index: usize,
        (op, key): (Op, u64),
        class: Class,
        intended_ns: u64,
        measured: bool,
    ) {
        let Shared { codec, verifier, .. } = *self.shared;
        let connection = &mut self.connections[index];
        let mut pending = Pending {
            intended_ns,
            sent_ns: 0,
            end: 0,
            key: key as u32,
            version: 0,
            base: 0,
            op,
            class,
            measured,
        };
        if op == Op::Get {
            pending.version = verifier.before_read(key);
            connection.push(pending, |out| codec.append_get(key, out));
        } else {
            let stamp = verifier.before_write(key);
            (pending.version, pending.base) = (stamp.version, stamp.base);
            connection.push(pending, |out| match op {
                Op::Delete => codec.append_delete(key, out),
                _ => codec.append_set(key, stamp, verifier.values(), out),
            });
        }
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(index as u32);
        }
        if self.outstanding == 0 {
            // The server could not give a sign of life while nothing was asked.
            self.last_sign_ns = self.last_sign_ns.max(intended_ns);
        }
        self.outstanding += 1;
        if measured && self.cpu_from_ns.is_none() {
            self.cpu_from_ns = Some(thread_cpu_ns());
        }
        self.offer(index);
    }

    fn flush_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for &index in &dirty {
            self.connections[index as usize].dirty = false;
            self.flush(index as usize);
            self.offer(index as usize);
        }
        dirty.clear();
        self.dirty = dirty;
    }

    fn flush(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if !connection.open {
            return;
        }
        if let Err(error) = connection.flush() {
            self.give_up(index, &format!("cannot send: {error}"));
            return;
        }
        let blocked = connection.unsent_bytes() > 0;
        if blocked != connection.writes_watched {
            connection.writes_watched = blocked;
            let watched = self.epoll.watch_writes(connection.fd(), index as u32, blocked);
            if let Err(error) = watched {
                self.give_up(index, &format!("cannot watch: {error}"));
            }
        }
    }

    /// Whether there is nothing more to send or to wait for.
    fn finished(&mut self, now_ns: u64) -> bool {
        if self.exhausted && self.outstanding == 0 && self.fills.is_empty() {
            return true;
        }
        if self.open_count == 0 {
            self.shared.stop(Stop::Failed);
            return true;
        }
        let patience_ns = if self.exhausted { DRAIN_NS_MAX } else { SILENCE_NS_MAX };
        let silent_ns = now_ns.saturating_sub(self.last_sign_ns);
        if self.outstanding > 0 && silent_ns > patience_ns {
            self.shared.stop(Stop::Failed);
            return true;
        }
        false
    }

    fn next_wait(&mut self, now_ns: u64) -> Wait {
        match &self.arrivals {
            Arrivals::Open { schedule, .. } if !self.exhausted && !self.free.is_empty() => {
                self.pacer.wait_for_send(now_ns, self.start_ns + schedule.due_ns())
            }
            // A closed loop without a reply to wait for has the end of the phase to wait for.
            _ => self.pacer.wait_for_replies(now_ns),
        }
    }

    #[inline]
    fn publish(&mut self, now_ns: u64) {
        let backlog = match &self.arrivals {
            Arrivals::Open { schedule, .. } if !self.exhausted => {
                schedule.backlog(now_ns.saturating_sub(self.start_ns))
            }
            _ => 0,
        };
        let Progress { done, hits, misses, errors, backlog: due } = self.progress;
        done.store(self.totals.done, Ordering::Relaxed);
        hits.store(self.totals.hits, Ordering::Relaxed);
        misses.store(self.totals.misses, Ordering::Relaxed);
        errors.store(self.totals.errors, Ordering::Relaxed);
        due.store(backlog, Ordering::Relaxed);
    }

    /// Records what is still outstanding with its age (I3), and packs up.
    fn end(mut self) -> Outcome {
        for index in 0..self.connections.len() {
            self.abandon_queue(index);
        }
        self.out.cpu_ns = self.cpu_from_ns.map_or(0, |from_ns| thread_cpu_ns() - from_ns);
        self.out.pace = self.pacer.into_cost();
        self.out
    }
}

fn class_of(op: Op) -> Class {
    match op {
        Op::Get => Class::Get,
        Op::Set => Class::Set,
        Op::Delete => Class::Delete,
    }
}
