//! What goes into a worker and what comes out of it.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};

use crate::conn::Reached;
use crate::connector::{Fresh, Wanted};

use crate::pace::PaceCost;
use crate::protocol::Codec;
use crate::recorder::{LaneRecord, Recorder};
use crate::schedule::Schedule;
use crate::series::Cutter;
use crate::steer::Placement;
use crate::sys::perf;
use crate::verify::{Verifier, WrongValue};

/// What decides when a worker sends.
pub(crate) enum Arrivals {
    /// At the times of a schedule.
    Open {
        /// The worker's share of the schedule.
        schedule: Schedule,
        /// It is stopped when it falls further behind than this, in nanoseconds.
        backlog_max_ns: u64,
    },
    /// Whenever a connection has room; times are in nanoseconds after the start.
    Closed {
        /// Requests sent from then on are measured.
        measure_from_ns: u64,
        /// No request is sent from then on.
        end_ns: u64,
        /// No more than this many are measured.
        requests_max: u64,
    },
}

/// Why all workers stop before their work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stop {
    /// They do not.
    No = 0,
    /// A worker fell too far behind its schedule.
    Overloaded = 1,
    /// A wrong value was returned.
    Wrong = 2,
    /// No connection is left, or the server is silent.
    Failed = 3,
}

impl Stop {
    /// The reason with this number, as stored in [`Shared::stop`].
    pub(crate) fn from_code(code: u8) -> Stop {
        [Stop::No, Stop::Overloaded, Stop::Wrong]
            .into_iter()
            .find(|stop| *stop as u8 == code)
            .unwrap_or(Stop::Failed)
    }
}

/// What the workers of one phase share.
pub(crate) struct Shared<'a> {
    /// Requests and replies.
    pub(crate) codec: &'a Codec,
    /// The judge of the values.
    pub(crate) verifier: &'a Verifier,
    /// Who owns which slot; `None` if every target takes every key.
    pub(crate) owners: Option<&'a Placement>,
    /// Number of targets.
    pub(crate) targets: usize,
    /// A [`Stop`]; the first reason stays.
    pub(crate) stop: &'a AtomicU8,
}

impl Shared<'_> {
    /// Makes all workers stop.
    pub(super) fn stop(&self, why: Stop) {
        let no = Stop::No as u8;
        // If another worker was faster, its reason is the one that is reported.
        let _ = self.stop.compare_exchange(no, why as u8, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether they shall stop.
    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) != Stop::No as u8
    }
}

/// What a worker publishes while it runs, for the progress line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Progress {
    /// Replies, measured or not.
    pub(crate) done: AtomicU64,
    /// Reads that hit.
    pub(crate) hits: AtomicU64,
    /// Reads that missed.
    pub(crate) misses: AtomicU64,
    /// Errors.
    pub(crate) errors: AtomicU64,
    /// Requests that are due and not sent.
    pub(crate) backlog: AtomicU64,
}

/// How one worker works.
pub(crate) struct Plan<S> {
    /// When to send.
    pub(crate) arrivals: Arrivals,
    /// What to send.
    pub(crate) source: S,
    /// Most outstanding requests per connection.
    pub(crate) pipeline: usize,
    /// Whether to write a key after its read missed.
    pub(crate) read_through: bool,
    /// Whether to poll instead of sleeping.
    pub(crate) spin: bool,
    /// Nanoseconds between two connections that are replaced; `None` to keep all.
    pub(crate) churn_ns: Option<u64>,
}

/// What joins a worker to the other threads of its phase.
pub(crate) struct Links {
    /// The number of the worker.
    pub(crate) worker: usize,
    /// Asks for connections.
    pub(crate) wanted: Sender<Wanted>,
    /// Brings them.
    pub(crate) fresh: Receiver<Fresh>,
    /// Hands over what was measured.
    pub(crate) cutter: Cutter,
}

/// What became of the steering: connections by where they ended, and requests sent away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Steering {
    /// Connections that were opened, while steering.
    pub connections: u64,
    /// Those that reached another core than the one aimed at.
    pub missed: u64,
    /// Those of which the server does not say which core they reached.
    pub unknown: u64,
    /// Requests that were answered with the name of another node (`MOVED`); they are errors.
    pub moved: u64,
}

impl Steering {
    /// Counts a connection.
    pub(crate) fn add(&mut self, reached: Reached) {
        self.connections += 1;
        self.missed += u64::from(reached == Reached::Missed);
        self.unknown += u64::from(reached == Reached::Unknown);
    }

    fn merge(&mut self, other: Steering) {
        self.connections += other.connections;
        self.missed += other.missed;
        self.unknown += other.unknown;
        self.moved += other.moved;
    }
}

/// What a worker brings home.
pub(crate) struct Outcome {
    /// The measurements since the last that were handed over.
    pub(crate) recorder: Recorder,
    /// What went to each target, if there are several.
    pub(crate) lanes: Vec<LaneRecord>,
    /// What waiting cost.
    pub(crate) pace: PaceCost,
    /// CPU time of the thread from the first measured request to the end.
    pub(crate) cpu_ns: u64,
    /// When the last measured request of the mix was sent; 0 if none was.
    pub(crate) last_sent_ns: u64,
    /// When the last measured reply arrived; 0 if none did.
    pub(crate) last_done_ns: u64,
    /// Requests that were never answered.
    pub(crate) unanswered: u64,
    /// Connections that broke.
    pub(crate) connections_lost: u64,
    /// Connections that were opened in place of broken ones.
    pub(crate) reconnected: u64,
    /// Time that slots of broken connections stood empty, over all of them.
    pub(crate) gap_ns: u64,
    /// Connections that were replaced on purpose.
    pub(crate) churned: u64,
    /// Counters that the server had lost, as seen by increments that brought 1 again.
    pub(crate) counters_restarted: u64,
    /// Counters of the processor and the scheduler, in the order of [`perf::NAMES`].
    pub(crate) counters: [Option<u64>; perf::COUNTERS],
    /// Where connections that were aimed at a core ended.
    pub(crate) steering: Steering,
    /// Segments that TCP had to send again.
    pub(crate) retransmits: u64,
    /// Involuntary context switches of the thread.
    pub(crate) switches: u64,
    /// Largest share of a CPU that a worker used besides polling, in the measured phase.
    pub(crate) busy: f64,
    /// The first error, in words.
    pub(crate) first_error: Option<String>,
    /// Wrong values.
    pub(crate) wrong_count: u64,
    /// The first of them.
    pub(crate) wrong: Vec<WrongValue>,
}

impl Outcome {
    /// Nothing yet.
    pub(crate) fn new() -> Outcome {
        Outcome {
            recorder: Recorder::new(),
            lanes: Vec::new(),
            pace: PaceCost::new(),
            cpu_ns: 0,
            last_sent_ns: 0,
            last_done_ns: 0,
            unanswered: 0,
            connections_lost: 0,
            reconnected: 0,
            gap_ns: 0,
            churned: 0,
            counters_restarted: 0,
            counters: [None; perf::COUNTERS],
            steering: Steering::default(),
            retransmits: 0,
            switches: 0,
            busy: 0.0,
            first_error: None,
            wrong_count: 0,
            wrong: Vec::new(),
        }
    }
    /// Adds what another worker brought.
    pub(crate) fn merge(&mut self, mut other: Outcome) {
        self.recorder.merge(&other.recorder);
        for (lane, other) in self.lanes.iter_mut().zip(&other.lanes) {
            lane.merge(other);
        }
        self.pace.merge(&other.pace);
        self.cpu_ns += other.cpu_ns;
        self.last_sent_ns = self.last_sent_ns.max(other.last_sent_ns);
        self.last_done_ns = self.last_done_ns.max(other.last_done_ns);
        self.unanswered += other.unanswered;
        self.connections_lost += other.connections_lost;
        self.reconnected += other.reconnected;
        self.gap_ns += other.gap_ns;
        self.churned += other.churned;
        self.counters_restarted += other.counters_restarted;
        for (counter, other) in self.counters.iter_mut().zip(other.counters) {
            // A sum that lacks a part would mislead.
            *counter = counter.zip(other).map(|(count, other)| count + other);
        }
        self.steering.merge(other.steering);
        self.retransmits += other.retransmits;
        self.switches += other.switches;
        self.busy = self.busy.max(other.busy);
        self.first_error = self.first_error.take().or(other.first_error);
        self.wrong_count += other.wrong_count;
        self.wrong.append(&mut other.wrong);
    }
}
