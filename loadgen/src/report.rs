//! What a run found, and whether its numbers may be believed.
//!
//! A [`Report`] is plain data; its three written forms are the text for people ([`text`]), the JSON
//! for programs ([`json`]) and the percentile table for plots ([`hgrm`]).
//!
//! The verdict is decided here and nowhere else, from the same counters that are printed.

pub(crate) mod hgrm;
pub(crate) mod json;
pub(crate) mod text;

use hdrhistogram::Histogram;

use crate::config::{Load, Pace, RunConfig};
use crate::drive::Phase;
use crate::error::{EXIT_INVALID, EXIT_OK, EXIT_OVERLOADED, EXIT_WRONG};
use crate::prefill::PrefillReport;
use crate::recorder::{Class, ClassRecord, quantile_ns};
use crate::verify::WrongValue;
use crate::worker::{Outcome, Stop};

/// Largest relative difference between the achieved and the offered rate.
const RATE_DEVIATION_MAX: f64 = 0.005;
/// Lag below which no warning is given, whatever the response times are.
const LAG_NS_NOTICED: u64 = 20_000;

/// Whether the numbers of a run may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They may.
    Ok,
    /// Something happened that makes them meaningless; the reasons say what.
    Invalid,
    /// The run fell more than a second behind its schedule and was stopped.
    Overloaded,
    /// The server returned a value that it must not return.
    Wrong,
}

impl Verdict {
    /// The name used in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "OK",
            Verdict::Invalid => "INVALID",
            Verdict::Overloaded => "OVERLOADED",
            Verdict::Wrong => "WRONG",
        }
    }

    /// The exit code that goes with it.
    #[must_use]
    pub fn exit_code(self) -> i32 {
        match self {
            Verdict::Ok => EXIT_OK,
            Verdict::Invalid => EXIT_INVALID,
            Verdict::Overloaded => EXIT_OVERLOADED,
            Verdict::Wrong => EXIT_WRONG,
        }
    }
}

/// What waiting for the send times cost the client, over the whole run with its warm-up.
#[derive(Debug, Clone)]
pub struct PaceReport {
    /// The mode that was used: never `Auto`.
    pub mode: Pace,
    /// Number of sleeps.
    pub sleeps: u64,
    /// Number of looks at the sockets that found nothing.
    pub idle_polls: u64,
    /// Nanoseconds spent in such looks, over all workers.
    pub polling_ns: u64,
    /// Nanoseconds from a send time to the end of the sleep that aimed at it, where it was late.
    pub late: Histogram<u64>,
}

/// The result of [`crate::run()`].
#[derive(Debug, Clone)]
pub struct Report {
    /// The options of the run.
    pub config: RunConfig,
    /// The number in the header of every value that this run wrote.
    pub run_id: u32,
    /// Whether the numbers may be used.
    pub verdict: Verdict,
    /// Why not.
    pub reasons: Vec<String>,
    /// What else a reader should know.
    pub warnings: Vec<String>,
    /// Measured requests of the mix; fills of read-through mode are not among them.
    pub requests: u64,
    /// Length of the measured phase in seconds, until its last request was sent (open loop) or
    /// answered (closed loop).
    pub duration_s: f64,
    /// `requests` per second of `duration_s`.
    pub rate: f64,
    /// The measurements, by class; classes without requests are left out.
    pub classes: Vec<(Class, ClassRecord)>,
    /// The measurements of all classes together, without the fills.
    pub total: ClassRecord,
    /// Requests that were never answered, measured or not.
    pub unanswered: u64,
    /// Connections that broke.
    pub connections_lost: u64,
    /// The first error, in words.
    pub first_error: Option<String>,
    /// Number of wrong values.
    pub wrong: u64,
    /// The first of them.
    pub wrong_values: Vec<WrongValue>,
    /// CPU time of the workers during the measured phase, in nanoseconds.
    pub client_cpu_ns: u64,
    /// What waiting cost.
    pub pace: PaceReport,
    /// The filling before the run, if there was one.
    pub prefill: Option<PrefillReport>,
}

/// The measured phase, as planned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// Its start, in nanoseconds after the start of the run.
    pub(crate) start_ns: u64,
    /// Its length, if the plan fixes it.
    pub(crate) length_ns: Option<u64>,
}

impl Report {
    pub(crate) fn new(
        config: &RunConfig,
        run_id: u32,
        mode: Pace,
        window: Window,
        phase: Phase,
        prefill: Option<PrefillReport>,
    ) -> Report {
        let outcome = phase.outcome;
        let mut total = ClassRecord::new();
        let mut classes = Vec::new();
        for (class, record) in Class::ALL.into_iter().zip(outcome.recorder.into_classes()) {
            if class != Class::Fill {
                total.merge(&record);
            }
            if record.count() > 0 {
                classes.push((class, record));
            }
        }
        let last_ns = match config.load {
            Load::Open(_) => outcome.last_sent_ns,
            Load::Closed => outcome.last_done_ns,
        };
        let seen_ns = last_ns.saturating_sub(phase.start_ns + window.start_ns);
        let open_length_ns = match config.load {
            Load::Open(_) => window.length_ns.unwrap_or(0),
            Load::Closed => 0,
        };
        let duration_s = seen_ns.max(open_length_ns) as f64 / 1e9;
        let requests = total.count();
        let rate = if duration_s > 0.0 { requests as f64 / duration_s } else { 0.0 };
        let mut report = Report {
            config: config.clone(),
            run_id,
            verdict: Verdict::Ok,
            reasons: Vec::new(),
            warnings: Vec::new(),
            requests,
            duration_s,
            rate,
            classes,
            total,
            unanswered: outcome.unanswered,
            connections_lost: outcome.connections_lost,
            first_error: outcome.first_error,
            wrong: outcome.wrong_count,
            wrong_values: outcome.wrong,
            client_cpu_ns: outcome.cpu_ns,
            pace: PaceReport {
                mode,
                sleeps: outcome.pace.sleeps,
                idle_polls: outcome.pace.idle_polls,
                polling_ns: outcome.pace.polling_ns,
                late: outcome.pace.late,
            },
            prefill,
        };
        report.judge(phase.stop);
        report.warn();
        report
    }

    /// The report of a run that ended with the filling, because the server got it wrong.
    pub(crate) fn of_wrong_prefill(
        config: &RunConfig,
        run_id: u32,
        prefill: Option<PrefillReport>,
    ) -> Report {
        let window = Window { start_ns: 0, length_ns: None };
        let (wrong, wrong_values) = prefill
            .as_ref()
            .map_or((0, Vec::new()), |prefill| (prefill.wrong, prefill.wrong_values.clone()));
        let mut phase = Phase { outcome: Outcome::new(), start_ns: 0, stop: Stop::Wrong };
        phase.outcome.wrong_count = wrong;
        phase.outcome.wrong = wrong_values;
        Report::new(config, run_id, config.pace, window, phase, prefill)
    }

    /// Finds the reasons against the run, and the verdict that follows from them.
    fn judge(&mut self, stop: Stop) {
        let mut reasons = Vec::new();
        let because = self.first_error.as_deref().map_or(String::new(), |e| format!(" ({e})"));
        // What a run that was stopped did not get to is no reason of its own.
        let ran_out = stop == Stop::No || stop == Stop::Failed;
        let errors = self.errors();
        if errors > 0 && ran_out {
            reasons.push(format!("{errors} requests failed{because}"));
        }
        if self.unanswered > 0 && ran_out {
            reasons.push(format!("{} requests were never answered{because}", self.unanswered));
        }
        if self.connections_lost > 0 {
            reasons.push(format!("{} connections were lost{because}", self.connections_lost));
        }
        if let Some(prefill) = &self.prefill
            && prefill.verdict != Verdict::Ok
        {
            reasons.push(format!("the filling was {}", prefill.verdict.name()));
        }
        if self.requests == 0 && ran_out {
            reasons.push("no request was measured".to_owned());
        }
        if let Load::Open(offered) = self.config.load {
            let deviation = self.rate / offered.per_second() - 1.0;
            if deviation.abs() > RATE_DEVIATION_MAX && ran_out {
                reasons.push(format!(
                    "the achieved rate is {:+.2} % off the offered one",
                    deviation * 100.0
                ));
            }
        }
        self.verdict = match stop {
            _ if self.wrong > 0 => Verdict::Wrong,
            Stop::Overloaded => {
                reasons.push("sending fell more than 1 s behind the schedule".to_owned());
                Verdict::Overloaded
            }
            _ if reasons.is_empty() => Verdict::Ok,
            _ => Verdict::Invalid,
        };
        self.reasons = reasons;
    }

    fn warn(&mut self) {
        if self.config.load == Load::Closed {
            self.warnings.push("closed loop: latency is not comparable".to_owned());
        } else if let (Some(lag_ns), Some(p50_ns)) =
            (quantile_ns(&self.total.lag, 0.99), quantile_ns(&self.total.response, 0.5))
            && lag_ns > LAG_NS_NOTICED.max(p50_ns / 10)
        {
            self.warnings.push(format!(
                "requests left late (lag p99 {}): full pipelines, or a client without enough CPU; \
                 the response times contain it",
                text::time(Some(lag_ns))
            ));
        }
        let out_of_range: u64 = self.classes.iter().map(|(_, record)| record.out_of_range).sum();
        if out_of_range > 0 {
            self.warnings.push(format!("{out_of_range} times above 100 s are shown as 100 s"));
        }
        if let Some(prefill) = &self.prefill
            && prefill.present < prefill.keys
        {
            self.warnings.push(format!(
                "after the filling, {} of {} keys were present",
                prefill.present, prefill.keys
            ));
        }
    }

    /// The process exit code.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        self.verdict.exit_code()
    }

    /// Measured requests that failed or were never answered, fills included.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.classes.iter().map(|(_, record)| record.errors).sum()
    }

    /// Hits per read; `None` without reads.
    #[must_use]
    pub fn hit_ratio(&self) -> Option<f64> {
        ratio(self.total.hits, self.total.misses)
    }

    /// Bytes of the values of hits, per bytes asked for; `None` without reads.
    #[must_use]
    pub fn byte_hit_ratio(&self) -> Option<f64> {
        ratio(self.total.hit_bytes, self.total.miss_bytes)
    }

    /// CPU nanoseconds of the client per request, fills included; `None` without requests.
    #[must_use]
    pub fn client_cpu_ns_per_request(&self) -> Option<f64> {
        let requests: u64 = self.classes.iter().map(|(_, record)| record.count()).sum();
        (requests > 0).then(|| self.client_cpu_ns as f64 / requests as f64)
    }

    /// The text report.
    #[must_use]
    pub fn text(&self) -> String {
        text::run(self)
    }

    /// The machine-readable report.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        json::run(self)
    }

    /// The percentile table of the response times of all requests of the mix.
    #[must_use]
    pub fn hgrm(&self) -> String {
        hgrm::table(&self.total.response)
    }
}

pub(crate) fn ratio(part: u64, rest: u64) -> Option<f64> {
    (part + rest > 0).then(|| part as f64 / (part + rest) as f64)
}
