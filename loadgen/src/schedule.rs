//! The absolute schedule of an open loop.
//!
//! Every send time is computed from the rate and the seed before anything is sent, never from
//! "now plus a gap". Worker `w` of `n` owns the requests with `k mod n = w`, so that the workers
//! together keep the one schedule of the run, which does not depend on their number.
//!
//! Invariants:
//! - I1. Times never decrease, and no rounding error adds up.
//! - I2. Nothing that happens in the run moves a time or drops a request.
//! - I3. All workers agree on the number of every request, and on which are measured.
//!
//! Cost: even arrivals two additions; others a division of 128 bits per request of *all* workers
//! (a worker passes over those of the others), Poisson a logarithm besides.

mod process;
mod steady;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(crate) use process::{Segment, Spread, sine};
pub(crate) use steady::{due_ns, first_index_at};

use crate::config::Rate;
use process::Process;
use steady::Steady;

/// Where the measured phase ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing is due from this offset on.
    AtNs(u64),
    /// After so many measured requests.
    Requests(u64),
}

/// How the times of a run arise.
#[derive(Debug, Clone)]
pub(crate) enum Times {
    /// Evenly, at one rate.
    Steady(Rate),
    /// At rates that change, or with random gaps.
    Process {
        /// The rates, one after another.
        segments: Arc<[Segment]>,
        /// Whether they start again after the last; else the last one lasts.
        cyclic: bool,
        /// Even or random.
        spread: Spread,
    },
    /// At these offsets.
    Listed(Arc<[u64]>),
}

/// The whole plan of an open loop, from which every worker takes its share.
#[derive(Debug, Clone)]
pub(crate) struct Timetable {
    /// How the times arise.
    pub(crate) times: Times,
    /// Requests due from this offset on are measured.
    pub(crate) measure_from_ns: u64,
    /// Where it ends.
    pub(crate) end: End,
}

/// A request of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    /// When it is due, in nanoseconds after the start of the run.
    pub(crate) due_ns: u64,
    /// Whether it belongs to the measured phase.
    pub(crate) measured: bool,
}

/// The requests of one worker, in order.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    clock: Clock,
    measure_from_ns: u64,
    end: End,
    /// Number of the first measured request, once it is known.
    measured_index: Option<u64>,
    gap_ns: u64,
}

#[derive(Debug, Clone)]
enum Clock {
    Steady(Steady),
    Process { process: Process, index: u64, stride: u64 },
    Listed { times: Arc<[u64]>, index: u64, stride: u64 },
}

impl Schedule {
    /// The share of worker `worker` of `workers`.
    pub(crate) fn new(table: &Timetable, worker: usize, workers: usize) -> Schedule {
        let (first, stride) = (worker as u64, workers as u64);
        let from_ns = table.measure_from_ns;
        let (clock, measured_index, gap_ns) = match &table.times {
            Times::Steady(rate) => {
                let steady = Steady::new(*rate, worker, workers);
                let gap_ns = steady.gap_ns();
                (Clock::Steady(steady), Some(first_index_at(*rate, from_ns)), gap_ns)
            }
            Times::Process { segments, cyclic, spread } => {
                let process = Process::new(segments.clone(), *cyclic, *spread);
                let gap_ns = process.gap_ns().saturating_mul(stride);
                (Clock::Process { process, index: 0, stride }, None, gap_ns)
            }
            Times::Listed(times) => {
                let measured = times.partition_point(|&time| time < from_ns) as u64;
                let last_ns = times.last().copied().unwrap_or(0);
                let gap_ns = last_ns / (times.len() as u64).max(1) * stride;
                let times = times.clone();
                (Clock::Listed { times, index: first, stride }, Some(measured), gap_ns)
            }
        };
        let mut schedule =
            Schedule { clock, measure_from_ns: from_ns, end: table.end, measured_index, gap_ns };
        schedule.note_measured();
        if let Clock::Process { .. } = schedule.clock {
            for _ in 0..first {
                schedule.step();
            }
        }
        schedule
    }

    /// The next request; `None` when there are no more.
    #[inline]
    pub(crate) fn peek(&self) -> Option<Due> {
        let (due_ns, index) = match &self.clock {
            Clock::Steady(steady) => (steady.due_ns(), steady.index()),
            Clock::Process { process, index, .. } => (process.due_ns(), *index),
            Clock::Listed { times, index, .. } => (*times.get(*index as usize)?, *index),
        };
        let ended = match self.end {
            End::AtNs(end_ns) => due_ns >= end_ns,
            End::Requests(requests) => {
                self.measured_index.is_some_and(|first| index >= first.saturating_add(requests))
            }
        };
        (!ended).then_some(Due { due_ns, measured: due_ns >= self.measure_from_ns })
    }

    /// Goes on to the worker's next request.
    #[inline]
    pub(crate) fn advance(&mut self) {
        match &mut self.clock {
            Clock::Steady(steady) => steady.advance(),
            Clock::Listed { index, stride, .. } => *index += *stride,
            Clock::Process { stride, .. } => {
                for _ in 0..*stride {
                    self.step();
                }
            }
        }
    }

    /// Passes over one request of a process.
    #[inline]
    fn step(&mut self) {
        if let Clock::Process { process, index, .. } = &mut self.clock {
            process.advance();
            *index += 1;
            self.note_measured();
        }
    }

    /// Notes the number of the first measured request when a process comes to it (I3).
    #[inline]
    fn note_measured(&mut self) {
        if let Clock::Process { process, index, .. } = &self.clock
            && self.measured_index.is_none()
            && process.due_ns() >= self.measure_from_ns
        {
            self.measured_index = Some(*index);
        }
    }

    /// How many requests of this worker are due at `offset_ns` and not yet taken; an estimate by
    /// the mean gap unless the arrivals are even.
    pub(crate) fn backlog(&self, offset_ns: u64) -> u64 {
        match &self.clock {
            Clock::Steady(steady) => steady.backlog(offset_ns),
            _ => self
                .peek()
                .filter(|due| due.due_ns <= offset_ns)
                .map_or(0, |due| (offset_ns - due.due_ns) / self.gap_ns.max(1) + 1),
        }
    }

    /// The mean gap between two requests of this worker, rounded down to nanoseconds.
    pub(crate) fn gap_ns(&self) -> u64 {
        self.gap_ns
    }
}
