//! The timed replay: the requests of a trace as an open loop, at its own times or at a rate.
//!
//! It is a run whose keys, operations, sizes and lifetimes come from the trace, so everything
//! that holds for a run holds for it: intended times, lag, guards, OVERLOADED, checked values.

use std::fmt;
use std::sync::Arc;

use super::{Fill, REPLAY_PREFIX};
use crate::config::{Load, RATE_MAX, Rate, RunConfig};
use crate::error::Error;
use crate::keys::KeyFormat;
use crate::protocol::{Codec, Op};
use crate::report::Report;
use crate::run::{Stage, run_open};
use crate::schedule::{End, Times, Timetable, first_index_at};
use crate::source::Source;
use crate::trace::{History, TraceOp};
use crate::verify::Verifier;

/// When the requests of a trace are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ReplayPace {
    /// At the times of the trace, so many times as fast: 1 is as it was.
    Speed(f64),
    /// Evenly at this rate.
    Rate(Rate),
}

impl fmt::Display for ReplayPace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplayPace::Speed(speed) => write!(f, "speed {speed}"),
            ReplayPace::Rate(rate) => write!(f, "rate {rate}"),
        }
    }
}

/// The requests of a trace that belong to one worker.
struct TraceSource {
    history: Arc<History>,
    next: usize,
    step: usize,
    end: usize,
}

impl Source for TraceSource {
    #[inline]
    fn next(&mut self, _offset_ns: u64, keys: &mut Vec<u64>) -> Option<Op> {
        let at = self.next;
        if at >= self.end {
            return None;
        }
        self.next = at + self.step;
        keys.clear();
        keys.push(u64::from(self.history.trace.keys[at]));
        let op = self.history.ops.as_ref().map_or(TraceOp::Read, |ops| ops[at]);
        Some(match op {
            TraceOp::Read => Op::Get,
            TraceOp::Write => Op::Set,
            TraceOp::Delete => Op::Delete,
        })
    }
}

/// Replays `history`, called `name` in the report, at the pace asked for. Of `config`, what is
/// about keys, operations, rates and phases does not count: the trace has it. `requests` limits
/// the requests.
///
/// # Errors
/// [`Error::Usage`] for options that make no sense, or a speed for a trace without times;
/// [`Error::Io`] or [`Error::Server`] if the server cannot be reached.
pub fn replay_timed(
    config: &RunConfig,
    pace: ReplayPace,
    fill: Fill,
    name: &str,
    history: History,
) -> Result<Report, Error> {
    let history = Arc::new(history);
    let count = history.trace.keys.len().min(config.requests.unwrap_or(u64::MAX) as usize);
    if count == 0 {
        return Err(Error::Usage("a replay needs requests".to_owned()));
    }
    let times = times(pace, &history, count)?;
    let rate = match (&times, pace) {
        (_, ReplayPace::Rate(rate)) => rate,
        (Times::Listed(times), _) => {
            let length_ns = times.last().copied().unwrap_or(0).max(1);
            let millihertz = count as u128 * 1_000_000_000_000 / u128::from(length_ns);
            let millihertz = u64::try_from(millihertz).unwrap_or(u64::MAX);
            Rate { millihertz: millihertz.clamp(1, RATE_MAX * 1000) }
        }
        _ => return Err(Error::Usage("a replay needs times or a rate".to_owned())),
    };
    let config = RunConfig {
        load: Load::Open(rate),
        keys: history.trace.unique.max(1),
        requests: Some(count as u64),
        warmup: std::time::Duration::ZERO,
        read_through: fill.applies(&history),
        ..config.clone()
    };
    let mut stage = Stage::new(&config)?;
    let values = super::values(
        &history,
        &config.value_size,
        config.ttl.as_ref(),
        (config.seed, stage.run_id, config.protocol),
    );
    let keys = KeyFormat::sized(REPLAY_PREFIX, &config.key_size, config.keys);
    stage.codec = Codec::new(config.protocol, keys, values.ttl_step_ms().is_some());
    stage.verifier = Verifier::new(values, config.verify, config.keys)?;
    let table = Timetable { times, measure_from_ns: 0, end: End::Requests(count as u64) };
    let sources = (0..config.threads).map(|worker| TraceSource {
        history: history.clone(),
        next: worker,
        step: config.threads,
        end: count,
    });
    let mut report = run_open(&config, &stage, &table, rate, sources.collect())?;
    report.trace = Some((name.to_owned(), pace));
    Ok(report)
}

/// When the requests are due.
fn times(pace: ReplayPace, history: &History, count: usize) -> Result<Times, Error> {
    let bad = |why: &str| Err(Error::Usage(why.to_owned()));
    match pace {
        ReplayPace::Rate(rate) => {
            let year_ns = 366 * 24 * 3600 * 1_000_000_000;
            if count as u64 > first_index_at(rate, year_ns) {
                return bad("--rate: the replay would take more than 366 days");
            }
            Ok(Times::Steady(rate))
        }
        ReplayPace::Speed(speed) if !(1e-6..=1e9).contains(&speed) => {
            bad("--speed must be 0.000001 to 1000000000")
        }
        ReplayPace::Speed(speed) => match &history.times_ns {
            None => bad("--speed: this trace has no times; give a --rate"),
            Some(times_ns) => {
                let scaled =
                    times_ns[..count].iter().map(|&time_ns| (time_ns as f64 / speed) as u64);
                Ok(Times::Listed(scaled.collect()))
            }
        },
    }
}
