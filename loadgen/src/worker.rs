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
//! - I2. A connection is in its target's line of connections with room (`free`) at most once, and
//!   only the front is used: requests go round-robin over those with room.
//! - I3. Every request that was issued is recorded exactly once: with its reply, or at the end with
//!   its age and as an error.
//!
//! Cost in steady state: one `epoll` wait per turn, one `recv` and one `send` per ready connection
//! and turn, and no allocation.

mod parts;
mod replies;
mod send;
mod slots;

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::config::MULTIGET_MAX;
use crate::conn::Connection;
use crate::error::Error;
use crate::pace::Pacer;
use crate::protocol::Op;
use crate::recorder::LaneRecord;
use crate::source::Source;
use crate::steer::Placement;
use crate::sys::{Epoll, Event, Wait, involuntary_switches, monotonic_ns, perf, thread_cpu_ns};

pub use parts::Steering;
pub(crate) use parts::{Arrivals, Links, Outcome, Plan, Progress, Shared, Stop};

/// How long the last replies may take after the last request.
pub(crate) const DRAIN_NS_MAX: u64 = 5_000_000_000;
/// How long a server may be silent altogether while requests are outstanding.
pub(crate) const SILENCE_NS_MAX: u64 = 30_000_000_000;
/// How long a worker may be without any connection.
const ALONE_NS_MAX: u64 = 5_000_000_000;
/// How often a worker without connections, or with one under way, looks for new ones.
const FRESH_WAIT_NS: u64 = 1_000_000;
/// Size of the buffer that a worker receives into.
const SCRATCH_BYTES: usize = 256 * 1024;

/// A fill that waits for a connection with room.
struct Fill {
    op: Op,
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
    links: Links,
    epoll: Epoll,
    pacer: Pacer,
    start_ns: u64,
    /// The next request, if it has been drawn already; its keys are in `keys`.
    next: Option<Op>,
    keys: Vec<u64>,
    /// Connections with room, in turn, for every target that owns keys (I2).
    free: Vec<VecDeque<u32>>,
    /// Space for the text of a key whose owner is looked up.
    key_text: Vec<u8>,
    dirty: Vec<u32>,
    fills: VecDeque<Fill>,
    scratch: Vec<u8>,
    outstanding: usize,
    open_count: usize,
    /// Slots that wait for a new connection, and since when the lost ones do.
    awaited: Vec<(usize, Option<u64>)>,
    churn_ns: Option<u64>,
    next_churn_ns: u64,
    next_retired: usize,
    exhausted: bool,
    /// When something last came back, or sending ended.
    last_sign_ns: u64,
    /// CPU time, time, and time spent polling, at the first measured request.
    measured_from: Option<(u64, u64, u64)>,
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
        links: Links,
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
        let lanes = shared.owners.map_or(1, Placement::lanes);
        let mut worker = Worker {
            shared,
            progress,
            arrivals: plan.arrivals,
            source: plan.source,
            pipeline: plan.pipeline,
            read_through: plan.read_through,
            links,
            epoll,
            pacer: Pacer::new(plan.spin, gap_ns),
            start_ns: 0,
            next: None,
            keys: Vec::with_capacity(MULTIGET_MAX),
            free: vec![VecDeque::with_capacity(connections.len()); lanes],
            key_text: Vec::with_capacity(shared.codec.keys().longest()),
            dirty: Vec::with_capacity(connections.len()),
            fills: VecDeque::new(),
            scratch: vec![0; SCRATCH_BYTES],
            outstanding: 0,
            open_count: connections.len(),
            awaited: Vec::new(),
            churn_ns: plan.churn_ns,
            next_churn_ns: u64::MAX,
            next_retired: 0,
            exhausted: false,
            last_sign_ns: 0,
            measured_from: None,
            totals: Totals::default(),
            out: Outcome::new(),
            connections,
        };
        if shared.targets > 1 {
            worker.out.lanes = vec![LaneRecord::new(); shared.targets];
        }
        for index in 0..worker.connections.len() {
            worker.note_reached(index);
            worker.offer(index);
        }
        Ok(worker)
    }

    /// Works until everything is sent and answered, or until the run is stopped.
    ///
    /// # Errors
    /// [`Error::Io`] if waiting fails; what happens to single connections is counted instead.
    pub(crate) fn run(mut self, start_ns: u64) -> Result<(Outcome, Links), Error> {
        self.start_ns = start_ns;
        self.last_sign_ns = start_ns;
        self.links.cutter.start(start_ns);
        if let Some(gap_ns) = self.churn_ns {
            self.next_churn_ns = start_ns.saturating_add(gap_ns);
        }
        let mut counters = perf::Counters::start();
        let switches_before = involuntary_switches();
        std::thread::sleep(Duration::from_nanos(start_ns.saturating_sub(monotonic_ns())));
        let mut events: Vec<Event> = Vec::new();
        loop {
            let now_ns = monotonic_ns();
            if self.shared.stopped() {
                break;
            }
            self.links.cutter.cut(now_ns, &mut self.out.recorder);
            self.replace(now_ns);
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
        self.out.counters = counters.read();
        self.out.switches = involuntary_switches().saturating_sub(switches_before);
        Ok(self.end())
    }

    /// Whether there is nothing more to send or to wait for.
    fn finished(&mut self, now_ns: u64) -> bool {
        if self.exhausted && self.outstanding == 0 && self.fills.is_empty() {
            return true;
        }
        let silent_ns = now_ns.saturating_sub(self.last_sign_ns);
        let patience_ns = match () {
            () if self.exhausted => DRAIN_NS_MAX,
            () if self.open_count == 0 => ALONE_NS_MAX,
            () => SILENCE_NS_MAX,
        };
        // What has been drawn and cannot be sent waits for a connection, if not for a reply.
        let stuck = self.open_count == 0 || self.next.is_some() || !self.fills.is_empty();
        let waits = self.outstanding > 0 || stuck;
        if waits && silent_ns > patience_ns {
            self.shared.stop(Stop::Failed);
            return true;
        }
        false
    }

    fn next_wait(&mut self, now_ns: u64) -> Wait {
        let wait = match &self.arrivals {
            Arrivals::Open { schedule, .. } if !self.exhausted && self.has_room() => {
                let due_ns = schedule.peek().map_or(0, |due| due.due_ns);
                self.pacer.wait_for_send(now_ns, self.start_ns + due_ns)
            }
            // A closed loop without a reply to wait for has the end of the phase to wait for.
            _ => self.pacer.wait_for_replies(now_ns),
        };
        match wait {
            // New connections come through a channel, which wakes nobody.
            Wait::AtMostNs(ns) if !self.awaited.is_empty() => Wait::AtMostNs(ns.min(FRESH_WAIT_NS)),
            wait => wait,
        }
    }

    /// Whether the next request could be sent now.
    fn has_room(&self) -> bool {
        self.free.iter().any(|lane| !lane.is_empty())
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
    fn end(mut self) -> (Outcome, Links) {
        for index in 0..self.connections.len() {
            self.abandon_queue(index);
            self.out.retransmits += self.connections[index].retransmits();
        }
        if let Some((cpu_ns, time_ns, polling_ns)) = self.measured_from {
            self.out.cpu_ns = thread_cpu_ns() - cpu_ns;
            let working_ns =
                self.out.cpu_ns.saturating_sub(self.pacer.cost().polling_ns - polling_ns);
            let passed_ns = monotonic_ns().saturating_sub(time_ns).max(1);
            self.out.busy = working_ns as f64 / passed_ns as f64;
        }
        self.out.pace = self.pacer.into_cost();
        (self.out, self.links)
    }
}
