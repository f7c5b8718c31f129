//! What goes into a worker and what comes out of it.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::pace::PaceCost;
use crate::protocol::Codec;
use crate::recorder::Recorder;
use crate::schedule::Schedule;
use crate::verify::{Verifier, WrongValue};

/// What decides when a worker sends.
pub(crate) enum Arrivals {
    /// At the times of a schedule, up to the request number `end`.
    Open {
        /// The worker's share of the schedule.
        schedule: Schedule,
        /// Number of the first request that is measured.
        measure_from: u64,
        /// Number of the first request that is not sent any more.
        end: u64,
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
}

/// What a worker brings home.
pub(crate) struct Outcome {
    /// The measurements.
    pub(crate) recorder: Recorder,
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
            pace: PaceCost::new(),
            cpu_ns: 0,
            last_sent_ns: 0,
            last_done_ns: 0,
            unanswered: 0,
            connections_lost: 0,
            first_error: None,
            wrong_count: 0,
            wrong: Vec::new(),
        }
    }
}
