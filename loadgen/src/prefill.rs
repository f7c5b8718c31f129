//! Filling: every key is written once, and then every key is read back.
//!
//! Reading back costs a second pass, but it is the only count that holds for every server: a
//! server's own item counter includes other people's keys and items that can no longer be read.
//! A server with less memory than the keys need may have fewer of them left; that is reported, and
//! it is no error.

use crate::config::RunConfig;
use crate::drive::{Crew, Phase, Recording};
use crate::error::Error;
use crate::protocol::{Codec, Op};
use crate::recorder::Class;
use crate::report::{Verdict, json, text};
use crate::run::Stage;
use crate::source::EveryKey;
use crate::verify::{Verifier, WrongValue};
use crate::worker::{Arrivals, Plan, Stop};

/// Pipeline of the filling, if the run itself has a shorter one: nobody measures its latency.
const PIPELINE_MIN: usize = 16;

/// The result of a filling.
#[derive(Debug, Clone)]
pub struct PrefillReport {
    /// Keys that were written.
    pub keys: u64,
    /// Keys that were there when they were read back.
    pub present: u64,
    /// Requests that failed or were never answered.
    pub errors: u64,
    /// The first of them, in words.
    pub first_error: Option<String>,
    /// Number of wrong values among those read back.
    pub wrong: u64,
    /// The first of them.
    pub wrong_values: Vec<WrongValue>,
    /// Time for writing and reading back.
    pub duration_s: f64,
    /// `Ok`, `Invalid` after errors, or `Wrong`.
    pub verdict: Verdict,
}

impl PrefillReport {
    /// The text report.
    #[must_use]
    pub fn text(&self) -> String {
        text::prefill(self)
    }

    /// The machine-readable report.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        json::prefill(self)
    }

    /// The process exit code.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        self.verdict.exit_code()
    }
}

/// Writes every key of `config` once, and reads all of them back.
///
/// # Errors
/// [`Error::Usage`] for options that make no sense, [`Error::Io`] or [`Error::Server`] if the
/// server cannot be reached. Refused writes and wrong values are in the report.
pub fn prefill(config: &RunConfig) -> Result<PrefillReport, Error> {
    let stage = Stage::new(config)?;
    fill(config, &stage)
}

/// The filling of a run, with the run's own witness.
pub(crate) fn fill(config: &RunConfig, stage: &Stage) -> Result<PrefillReport, Error> {
    let Stage { crew, codec, verifier, .. } = stage;
    let write = pass("prefill", Op::Set, config, crew, codec, verifier)?;
    let mut report = PrefillReport {
        keys: config.keys,
        present: 0,
        errors: 0,
        first_error: None,
        wrong: 0,
        wrong_values: Vec::new(),
        duration_s: 0.0,
        verdict: Verdict::Ok,
    };
    report.add(write);
    if report.errors == 0 {
        report.add(pass("read back", Op::Get, config, crew, codec, verifier)?);
    }
    Ok(report)
}

fn pass(
    label: &str,
    op: Op,
    config: &RunConfig,
    crew: &Crew,
    codec: &Codec,
    verifier: &Verifier,
) -> Result<Phase, Error> {
    let plans = (0..config.threads)
        .map(|worker| Plan {
            arrivals: Arrivals::Closed {
                measure_from_ns: 0,
                end_ns: u64::MAX,
                requests_max: u64::MAX,
            },
            source: EveryKey::new(op, config.keys, worker, config.threads),
            pipeline: config.pipeline.max(PIPELINE_MIN),
            read_through: false,
            spin: false,
            churn_ns: None,
        })
        .collect();
    crew.drive(label, codec, verifier, plans, &Recording::default())
}

impl PrefillReport {
    fn add(&mut self, phase: Phase) {
        let outcome = phase.outcome;
        let classes = outcome.recorder.into_classes();
        self.present += classes[Class::Get as usize].hits;
        self.errors += classes.iter().map(|record| record.errors).sum::<u64>();
        self.first_error = self.first_error.take().or(outcome.first_error);
        self.wrong += outcome.wrong_count;
        self.wrong_values.extend(outcome.wrong);
        self.duration_s += outcome.last_done_ns.saturating_sub(phase.start_ns) as f64 / 1e9;
        self.verdict = if self.wrong > 0 {
            Verdict::Wrong
        } else if self.errors > 0 || phase.stop != Stop::No {
            Verdict::Invalid
        } else {
            self.verdict
        };
    }
}
