//! Send times at rates that change by steps, evenly or with random gaps.
//!
//! Time is turned into *credit*: what the rate has earned since the start, in units of 10^-12
//! requests, which are exactly nanoseconds times millihertz. A request is due when the credit
//! reaches what it needs: the number of requests before it for even arrivals, a sum of exponential
//! gaps for a Poisson process. All of it is integer arithmetic, so nothing drifts, and a step of
//! the rate neither loses nor repeats a fraction of a request.
//!
//! Cost: one division of 128 bits per request; passing over silent parts takes one step per
//! segment, whole cycles at once.

use std::sync::Arc;

use crate::config::Rate;
use crate::rng::Rng;

/// Credit of one request.
const CREDIT_PER_REQUEST: u128 = 1_000_000_000_000;

/// A part of the run with one rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Its length in nanoseconds, above 0.
    pub(crate) length_ns: u64,
    /// Requests per 1000 seconds; 0 is silence.
    pub(crate) millihertz: u64,
}

impl Segment {
    fn credit(&self) -> u128 {
        u128::from(self.length_ns) * u128::from(self.millihertz)
    }
}

/// Segments of one wave of a sine.
const WAVE_SEGMENTS: u64 = 256;

/// One wave around `mean`, by segments that each have the mean rate of their part of it; at the
/// mean and rising at `start_ns` and every period before and after it.
pub(crate) fn sine(mean: Rate, amplitude: Rate, period_ns: u64, start_ns: u64) -> Arc<[Segment]> {
    let turn = std::f64::consts::TAU / period_ns as f64;
    let phase_ns = (start_ns % period_ns) as f64;
    let from_ns =
        |at: u64| (u128::from(period_ns) * u128::from(at) / u128::from(WAVE_SEGMENTS)) as u64;
    (0..WAVE_SEGMENTS)
        .map(|at| {
            let (from_ns, to_ns) = (from_ns(at), from_ns(at + 1));
            let angle = |ns: u64| (ns as f64 - phase_ns) * turn;
            // The integral of the sine over the segment, by the length of the segment.
            let height =
                (angle(from_ns).cos() - angle(to_ns).cos()) / (turn * (to_ns - from_ns) as f64);
            let millihertz = mean.millihertz as f64 + amplitude.millihertz as f64 * height;
            Segment { length_ns: to_ns - from_ns, millihertz: millihertz.round().max(0.0) as u64 }
        })
        .collect()
}

/// Whether the gaps are even or random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spread {
    /// All alike.
    Even,
    /// Exponential, from this seed.
    Poisson(u64),
}

/// The times of a run, one after another.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    segments: Arc<[Segment]>,
    cyclic: bool,
    random: Option<Rng>,
    at: usize,
    segment_start_ns: u64,
    /// Credit at the start of the segment.
    credit: u128,
    /// Credit that the next request needs.
    need: u128,
    due_ns: u64,
}

impl Process {
    /// The times over `segments`: at least one, the last of them (or, if they repeat, any of
    /// them) with a rate above 0.
    pub(crate) fn new(segments: Arc<[Segment]>, cyclic: bool, spread: Spread) -> Process {
        let random = match spread {
            Spread::Even => None,
            Spread::Poisson(seed) => Some(Rng::new(seed, u64::MAX)),
        };
        let mut process = Process {
            segments,
            cyclic,
            random,
            at: 0,
            segment_start_ns: 0,
            credit: 0,
            need: 0,
            due_ns: 0,
        };
        if process.random.is_some() {
            process.need = process.gap();
        }
        process.settle();
        process
    }

    /// When the next request is due, in nanoseconds after the start.
    #[inline]
    pub(crate) fn due_ns(&self) -> u64 {
        self.due_ns
    }

    /// Goes on to the next request.
    #[inline]
    pub(crate) fn advance(&mut self) {
        self.need += self.gap();
        self.settle();
    }

    /// The mean gap in nanoseconds over all segments.
    pub(crate) fn gap_ns(&self) -> u64 {
        let credit: u128 = self.segments.iter().map(Segment::credit).sum();
        let length_ns: u128 = self.segments.iter().map(|s| u128::from(s.length_ns)).sum();
        let millihertz = (credit / length_ns.max(1)).max(1);
        u64::try_from(CREDIT_PER_REQUEST / millihertz).unwrap_or(u64::MAX)
    }

    fn gap(&mut self) -> u128 {
        match &mut self.random {
            None => CREDIT_PER_REQUEST,
            Some(rng) => (-(1.0 - rng.unit()).ln() * CREDIT_PER_REQUEST as f64) as u128,
        }
    }

    /// Finds the segment in which the credit reaches the need.
    fn settle(&mut self) {
        loop {
            if self.cyclic && self.at == 0 {
                self.skip_cycles();
            }
            let segment = self.segments[self.at];
            let last = !self.cyclic && self.at + 1 == self.segments.len();
            if last || self.need < self.credit + segment.credit() {
                let missing = self.need - self.credit;
                let offset_ns = missing / u128::from(segment.millihertz.max(1));
                let offset_ns = u64::try_from(offset_ns).unwrap_or(u64::MAX);
                self.due_ns = self.segment_start_ns.saturating_add(offset_ns);
                return;
            }
            self.credit += segment.credit();
            self.segment_start_ns = self.segment_start_ns.saturating_add(segment.length_ns);
            self.at = (self.at + 1) % self.segments.len();
        }
    }

    /// Passes over whole cycles that earn too little.
    fn skip_cycles(&mut self) {
        let credit: u128 = self.segments.iter().map(Segment::credit).sum();
        let cycles = (self.need - self.credit) / credit.max(1);
        if cycles > 0 {
            let length_ns: u64 = self.segments.iter().map(|segment| segment.length_ns).sum();
            let cycles_ns = length_ns.saturating_mul(u64::try_from(cycles).unwrap_or(u64::MAX));
            self.segment_start_ns = self.segment_start_ns.saturating_add(cycles_ns);
            self.credit += credit * cycles;
        }
    }
}
