//! What a run found, and whether its numbers may be believed.
//!
//! A [`Report`] is plain data; its three written forms are the text for people ([`text`]), the JSON
//! for programs ([`json`]) and the percentile table for plots ([`hgrm`]).
//!
//! The verdict is decided here and nowhere else, from the same counters that are printed.

mod guard;
pub(crate) mod hgrm;
pub(crate) mod json;
pub(crate) mod text;

use hdrhistogram::Histogram;

use crate::config::{Load, Pace, RunConfig};
use crate::drive::Phase;
use crate::error::{EXIT_INVALID, EXIT_OK, EXIT_OVERLOADED, EXIT_WRONG};
use crate::host::Fact;
use crate::pace::PaceCost;
use crate::prefill::PrefillReport;
use crate::recorder::{Class, ClassRecord, LaneRecord};
use crate::replay::ReplayPace;
use crate::series::{Second, mix_of};
use crate::sys::perf;
use crate::verify::WrongValue;
use crate::worker::{Outcome, Steering, Stop};

/// Whether the numbers of a run may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They may.
    Ok,
    /// Something happened that makes them meaningless; the reasons say what.
    Invalid,
    /// The run fell further behind its schedule than it may, and was stopped.
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

impl PaceReport {
    fn new(mode: Pace, cost: PaceCost) -> PaceReport {
        let PaceCost { sleeps, idle_polls, polling_ns, late } = cost;
        PaceReport { mode, sleeps, idle_polls, polling_ns, late }
    }
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
    /// The names of the targets or cores, and what went to each; empty if there is only one.
    pub targets: Vec<(String, LaneRecord)>,
    /// The measurements of all classes together, without the fills.
    pub total: ClassRecord,
    /// The rate that the schedule had in the measured phase; `None` for a closed loop.
    pub offered: Option<f64>,
    /// The numbers of every second of the measured phase in which a reply came.
    pub seconds: Vec<Second>,
    /// The trace that was replayed, and how; `None` for a run.
    pub trace: Option<(String, ReplayPace)>,
    /// What is known about the machine: names and texts.
    pub facts: Vec<Fact>,
    /// Requests that were never answered, measured or not.
    pub unanswered: u64,
    /// Connections that broke.
    pub connections_lost: u64,
    /// Connections that were opened in place of broken ones.
    pub reconnected: u64,
    /// Seconds without a connection, over all slots whose connection broke and came back.
    pub gap_s: f64,
    /// Connections that were replaced on purpose.
    pub churned: u64,
    /// Counters that the server had lost, as seen by increments that brought 1 again.
    pub counters_restarted: u64,
    /// Counters of the processor and the scheduler over all workers, the warm-up included, by
    /// name; `None` where the machine does not count.
    pub counters: Vec<(&'static str, Option<u64>)>,
    /// CPUs that were slowed down because of heat, in events; `None` if the machine does not say.
    pub throttled: Option<u64>,
    /// Where connections that were aimed at a core ended; all zero without steering.
    pub steering: Steering,
    /// Segments that TCP had to send again, on all connections.
    pub retransmits: u64,
    /// Involuntary context switches of the workers.
    pub switches: u64,
    /// Share of a CPU that the busiest worker used besides polling.
    pub busy: f64,
    /// Share of the machine's CPU time that the hypervisor took; `None` if it does not say.
    pub stolen: Option<f64>,
    /// Whether all targets are on this machine.
    pub local: bool,
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
    /// Its number of requests, if the plan fixes it.
    pub(crate) offered: Option<u64>,
}

/// What a run knew before it began.
pub(crate) struct Setting {
    /// The number of the run.
    pub(crate) run_id: u32,
    /// What is known about the machine.
    pub(crate) facts: Vec<Fact>,
    /// How the workers waited.
    pub(crate) mode: Pace,
    /// Whether all targets are on this machine.
    pub(crate) local: bool,
    /// Their names.
    pub(crate) targets: Vec<String>,
    /// The measured phase.
    pub(crate) window: Window,
}

impl Report {
    pub(crate) fn new(
        config: &RunConfig,
        setting: Setting,
        phase: Phase,
        prefill: Option<PrefillReport>,
    ) -> Report {
        let Setting { run_id, facts, mode, local, targets, window } = setting;
        let outcome = phase.outcome;
        let total = mix_of(&outcome.recorder);
        let classes: Vec<(Class, ClassRecord)> = Class::ALL
            .into_iter()
            .zip(outcome.recorder.into_classes())
            .filter(|(_, record)| record.count() > 0)
            .collect();
        let (last_ns, open_length_ns) = match config.load {
            Load::Open(_) => (outcome.last_sent_ns, window.length_ns.unwrap_or(0)),
            Load::Closed => (outcome.last_done_ns, 0),
        };
        let seen_ns = last_ns.saturating_sub(phase.start_ns + window.start_ns);
        let duration_s = seen_ns.max(open_length_ns) as f64 / 1e9;
        let requests = total.count();
        let per_second = |s: f64| if s > 0.0 { requests as f64 / s } else { 0.0 };
        let offered = match (config.load, window.offered) {
            (Load::Closed, _) => None,
            (Load::Open(rate), Some(_)) => Some(rate.per_second()),
            // Every request of the schedule is sent, or the run is stopped: so it offered these.
            (Load::Open(_), None) => Some(per_second(open_length_ns as f64 / 1e9)),
        };
        let mut report = Report {
            config: config.clone(),
            run_id,
            verdict: Verdict::Ok,
            reasons: Vec::new(),
            warnings: Vec::new(),
            requests,
            duration_s,
            rate: per_second(duration_s),
            classes,
            targets: targets.into_iter().zip(outcome.lanes).collect(),
            total,
            offered,
            seconds: phase.seconds,
            trace: None,
            facts,
            unanswered: outcome.unanswered,
            connections_lost: outcome.connections_lost,
            reconnected: outcome.reconnected,
            gap_s: outcome.gap_ns as f64 / 1e9,
            churned: outcome.churned,
            counters_restarted: outcome.counters_restarted,
            counters: perf::NAMES.into_iter().zip(outcome.counters).collect(),
            throttled: phase.throttled,
            steering: outcome.steering,
            retransmits: outcome.retransmits,
            switches: outcome.switches,
            busy: outcome.busy,
            stolen: phase.stolen,
            local,
            first_error: outcome.first_error,
            wrong: outcome.wrong_count,
            wrong_values: outcome.wrong,
            client_cpu_ns: outcome.cpu_ns,
            pace: PaceReport::new(mode, outcome.pace),
            prefill,
        };
        guard::judge(&mut report, phase.stop);
        report
    }

    /// The report of a run that ended with the filling, because the server got it wrong.
    pub(crate) fn of_wrong_prefill(
        config: &RunConfig,
        run_id: u32,
        facts: Vec<Fact>,
        prefill: Option<PrefillReport>,
    ) -> Report {
        let window = Window { start_ns: 0, length_ns: None, offered: None };
        let setting =
            Setting { run_id, facts, mode: config.pace, local: false, targets: Vec::new(), window };
        let (wrong, wrong_values) = prefill
            .as_ref()
            .map_or((0, Vec::new()), |prefill| (prefill.wrong, prefill.wrong_values.clone()));
        let mut outcome = Outcome::new();
        (outcome.wrong_count, outcome.wrong) = (wrong, wrong_values);
        let phase = Phase {
            outcome,
            seconds: Vec::new(),
            start_ns: 0,
            stolen: None,
            throttled: None,
            stop: Stop::Wrong,
        };
        Report::new(config, setting, phase, prefill)
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
