//! Questions about all cores: what each has to tell is asked for and joined.
//!
//! The core that was asked has told its part along with the question; the others are asked by
//! message, all at once. One that does not answer within [`ANSWER_MS`] (its thread is stopped, or
//! kept busy by DEBUG SLEEP) is told of as missing, so that the others can be looked at just when
//! it matters.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::command::{Latency, SlowCommand};
use crate::core::{CoreHandle, CoreMessage, Findings, Snapshot, Wanted};

/// How long cores have for an answer, all together.
const ANSWER_MS: u64 = 100;

/// Figures of cores, and of all of them.
#[derive(Debug)]
pub(super) struct Survey {
    /// Of those that have answered, by core.
    pub(super) cores: Vec<Snapshot>,
    /// Of all these together.
    pub(super) sum: Snapshot,
    /// Those that have not answered.
    pub(super) missing: Vec<usize>,
    /// The core of the connection that asks.
    pub(super) asked: usize,
    /// How many cores the server has.
    pub(super) count: usize,
}

/// What cores have told, by core, without those that have told nothing.
pub(super) fn ask(
    cores: &[CoreHandle],
    (asked, own): (usize, Findings),
    wanted: &Wanted,
    is_wide: bool,
) -> Vec<(usize, Findings)> {
    let mut told = vec![(asked, own)];
    if !is_wide || cores.len() == 1 {
        return told;
    }
    let (to, answers) = channel();
    for (_, core) in cores.iter().enumerate().filter(|&(number, _)| number != asked) {
        core.tell(CoreMessage::Find { wanted: wanted.clone(), to: to.clone() });
    }
    // So that the end of a core that has taken the message along is seen.
    drop(to);
    let until = Instant::now() + Duration::from_millis(ANSWER_MS);
    while told.len() < cores.len() {
        match answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(answer) => told.push(answer),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    told.sort_unstable_by_key(|&(core, _)| core);
    told
}

impl Survey {
    /// The figures among what cores have told to `asked`: all `count`, if the question `is_wide`.
    pub(super) fn of(
        told: Vec<(usize, Findings)>,
        asked: usize,
        is_wide: bool,
        count: usize,
    ) -> Option<Survey> {
        let figures = told.into_iter().filter_map(|(_, findings)| match findings {
            Findings::Figures(snapshot) => Some(*snapshot),
            _ => None,
        });
        let cores: Vec<Snapshot> = figures.collect();
        let own = cores.iter().find(|snapshot| snapshot.core == asked)?;
        let mut sum = own.clone();
        for other in cores.iter().filter(|snapshot| snapshot.core != asked) {
            sum.add(other);
        }
        let is_known = |core: &usize| cores.iter().any(|snapshot| snapshot.core == *core);
        let missing = (0..count).filter(|core| is_wide && !is_known(core)).collect();
        Some(Survey { cores, sum, missing, asked, count })
    }
}

/// The slow commands among what cores have told.
pub(super) fn slow_commands(told: Vec<(usize, Findings)>) -> Vec<SlowCommand> {
    let commands = told.into_iter().map(|(_, findings)| match findings {
        Findings::Slowlog(commands) => commands,
        _ => Vec::new(),
    });
    commands.flatten().collect()
}

/// The latency events of all cores.
pub(super) fn latency(told: Vec<(usize, Findings)>) -> Latency {
    let mut sum = Latency::default();
    for (_, findings) in told {
        if let Findings::Latency(latency) = findings {
            sum.add(&latency);
        }
    }
    sum
}
