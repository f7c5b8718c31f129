//! The guards: what makes the numbers of a run invalid, and what a reader should merely know.
//!
//! Errors, unanswered requests and a rate that was not kept always count. What the client or the
//! host did to the numbers (late sending, a busy client, stolen CPU time, TCP repeats on this very
//! machine, a pinned worker that was interrupted) counts with [`Guards::Strict`], and is a note
//! otherwise.

use super::{Report, Verdict, text};
use crate::config::{Guards, Load};
use crate::recorder::quantile_ns;
use crate::worker::{Steering, Stop};

/// Largest relative difference between the achieved and the offered rate.
const RATE_DEVIATION_MAX: f64 = 0.005;
/// Lag that is never held against a run, whatever the response times are.
const LAG_NS_NOTICED: u64 = 20_000;
/// Largest share of a CPU that a worker may use besides polling.
const BUSY_MAX: f64 = 0.9;
/// Largest share of CPU time that the hypervisor may take.
const STOLEN_MAX: f64 = 0.005;
/// Most involuntary context switches of a pinned worker per second.
const SWITCHES_PER_S_MAX: f64 = 50.0;

/// Finds the reasons against the run and what else to note, and the verdict that follows.
pub(super) fn judge(report: &mut Report, stop: Stop) {
    let mut reasons = failures(report, stop);
    let mut warnings = notes(report);
    let ran_out = stop == Stop::No;
    match report.config.guards {
        Guards::Strict if ran_out => reasons.extend(doubts(report)),
        _ => warnings.extend(doubts(report)),
    }
    report.verdict = match stop {
        _ if report.wrong > 0 => Verdict::Wrong,
        Stop::Overloaded => {
            let limit = report.config.backlog_max;
            reasons.push(format!("sending fell more than {limit:?} behind the schedule"));
            Verdict::Overloaded
        }
        _ if reasons.is_empty() => Verdict::Ok,
        _ => Verdict::Invalid,
    };
    (report.reasons, report.warnings) = (reasons, warnings);
}

/// What makes the numbers of any run meaningless.
fn failures(report: &Report, stop: Stop) -> Vec<String> {
    let mut reasons = Vec::new();
    let because = report.first_error.as_deref().map_or(String::new(), |e| format!(" ({e})"));
    // What a run that was stopped did not get to is no reason of its own.
    let ran_out = stop == Stop::No || stop == Stop::Failed;
    let errors = report.errors();
    if errors > 0 && ran_out {
        reasons.push(format!("{errors} requests failed{because}"));
    }
    if report.unanswered > 0 && ran_out {
        reasons.push(format!("{} requests were never answered{because}", report.unanswered));
    }
    if report.connections_lost > 0 {
        reasons.push(format!(
            "{} connections were lost{because}, {} came back after {:.3} s together",
            report.connections_lost, report.reconnected, report.gap_s
        ));
    }
    if let Some(prefill) = &report.prefill
        && prefill.verdict != Verdict::Ok
    {
        reasons.push(format!("the filling was {}", prefill.verdict.name()));
    }
    if report.requests == 0 && ran_out {
        reasons.push("no request was measured".to_owned());
    }
    if let Some(offered) = report.offered.filter(|&offered| offered > 0.0) {
        let deviation = report.rate / offered - 1.0;
        if deviation.abs() > RATE_DEVIATION_MAX && ran_out {
            reasons.push(format!(
                "the achieved rate is {:+.2} % off the offered one",
                deviation * 100.0
            ));
        }
    }
    reasons
}

/// What the client or the host did to the numbers.
fn doubts(report: &Report) -> Vec<String> {
    let mut doubts = Vec::new();
    let open = report.config.load != Load::Closed;
    if let (Some(lag_ns), Some(p50_ns)) =
        (quantile_ns(&report.total.lag, 0.99), quantile_ns(&report.total.response, 0.5))
        && open
        && lag_ns > LAG_NS_NOTICED.max(p50_ns / 10)
    {
        doubts.push(format!(
            "requests left late (lag p99 {}): full pipelines, or a client without enough CPU; \
             the response times contain it",
            text::time(Some(lag_ns))
        ));
    }
    if open && report.busy > BUSY_MAX {
        let percent = report.busy * 100.0;
        doubts.push(format!("the busiest worker used {percent:.0} % of a CPU: add --threads"));
    }
    if let Some(stolen) = report.stolen.filter(|&stolen| stolen > STOLEN_MAX) {
        doubts.push(format!("the hypervisor took {:.2} % of the CPU time", stolen * 100.0));
    }
    if let Some(events @ 1..) = report.throttled {
        doubts.push(format!("CPUs were slowed down because of heat {events} times"));
    }
    if report.local && report.retransmits > 0 {
        doubts.push(format!("TCP sent {} segments again on loopback", report.retransmits));
    }
    let per_s = report.switches as f64 / report.duration_s.max(1.0) / report.config.threads as f64;
    if !report.config.pin.is_empty() && per_s > SWITCHES_PER_S_MAX {
        doubts.push(format!("pinned workers were interrupted {per_s:.0} times per second"));
    }
    doubts
}

/// What else a reader should know.
fn notes(report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    if report.config.load == Load::Closed {
        notes.push("closed loop: latency is not comparable".to_owned());
    }
    let out_of_range: u64 = report.classes.iter().map(|(_, record)| record.out_of_range).sum();
    if out_of_range > 0 {
        notes.push(format!("{out_of_range} times above 100 s are shown as 100 s"));
    }
    if let Some(prefill) = &report.prefill
        && prefill.present < prefill.keys
    {
        notes.push(format!(
            "after the filling, {} of {} keys were present",
            prefill.present, prefill.keys
        ));
    }
    let Steering { connections, missed, unknown, moved } = report.steering;
    if missed > 0 {
        notes.push(format!(
            "{missed} of {connections} connections reached another core than the one aimed at"
        ));
    }
    if unknown > 0 {
        notes.push(format!("the server does not say which core {unknown} connections reached"));
    }
    if moved > 0 {
        notes.push(format!("{moved} requests were answered with the name of another node"));
    }
    if report.counters_restarted > 0 {
        notes.push(format!("{} counters had been lost and began again", report.counters_restarted));
    }
    if report.churned > 0 {
        notes.push(format!("{} connections were replaced by new ones", report.churned));
    }
    notes
}
