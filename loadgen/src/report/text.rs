//! Reports for people: two headline lines first, then the details.

use std::fmt::Write;

use hdrhistogram::Histogram;

use super::Report;
use crate::config::{Load, Profile, RunConfig};
use crate::hlog::Log;
use crate::prefill::PrefillReport;
use crate::recorder::{ClassRecord, quantile_ns};
use crate::replay::ReplayReport;
use crate::verify::WrongValue;

const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 0.9999];

/// The facts of the host that the text shows, with their names there; the JSON has all.
const FACTS: [(&str, &str); 5] = [
    ("kernel", "kernel"),
    ("cpu", "CPU"),
    ("cpus_allowed", "CPUs"),
    ("governor", "governor"),
    ("clocksource", "clock"),
];

/// The report of a run.
pub(crate) fn run(report: &Report) -> String {
    let mut out = String::new();
    headline(report, &mut out);
    out.push('\n');
    table(report, &mut out);
    for (name, lane) in &report.targets {
        let (count, errors) = (lane.response.len(), lane.errors);
        let _ = writeln!(out, "target {name}");
        let _ = write!(out, "{:<7}{:<9}{count:>11} {:>11} {errors:>7}", "", "response", "-");
        times(&lane.response, &mut out);
    }
    out.push('\n');
    let hit_ratio = percent(report.hit_ratio());
    let byte_hit_ratio = percent(report.byte_hit_ratio());
    let _ = writeln!(out, "hit ratio   {hit_ratio} of reads, {byte_hit_ratio} of bytes");
    let cpu = report.client_cpu_ns_per_request();
    let cpu = cpu.map_or("n/a".to_owned(), |ns| format!("{ns:.0} ns per request"));
    let _ = writeln!(out, "client CPU  {cpu}");
    let counters = report.counters.iter().map(|(name, count)| {
        let count = count.map_or("n/a".to_owned(), |count| count.to_string());
        format!("{} {count}", name.replace('_', " "))
    });
    let _ = writeln!(out, "counters    {}", counters.collect::<Vec<_>>().join(", "));
    pacing(report, &mut out);
    if let Some(prefill) = &report.prefill {
        let (present, keys) = (prefill.present, prefill.keys);
        let seconds = prefill.duration_s;
        let _ = writeln!(out, "filled      {present} of {keys} keys present, in {seconds:.1} s");
    }
    if let Some((name, pace)) = &report.trace {
        let _ = writeln!(out, "trace       {name} at {pace}; its keys, operations and sizes");
    }
    let _ = writeln!(out, "config      {}", config(&report.config));
    for (name, shown) in FACTS {
        if let Some((_, fact)) = report.facts.iter().find(|(fact, _)| *fact == name) {
            let _ = writeln!(out, "{shown:<12}{fact}");
        }
    }
    let _ = writeln!(out, "seed        {} (run {:08x})", report.config.seed, report.run_id);
    for warning in &report.warnings {
        let _ = writeln!(out, "note        {warning}");
    }
    wrong_values(&report.wrong_values, report.wrong, &mut out);
    for reason in &report.reasons {
        let _ = writeln!(out, "because     {reason}");
    }
    let _ = writeln!(out, "verdict     {}", report.verdict.name());
    out
}

fn headline(report: &Report, out: &mut String) {
    let (requests, rate) = (report.requests, report.rate);
    let seconds = report.duration_s;
    let p99 = time(quantile_ns(&report.total.response, 0.99));
    let _ = match report.offered {
        Some(offered) => writeln!(
            out,
            "{rate:.1} requests/s of {offered} offered (open loop, {requests} in {seconds:.2} s)\n\
             p99 response {p99}"
        ),
        None => writeln!(
            out,
            "{rate:.1} requests/s (closed loop, {requests} in {seconds:.2} s)\n\
             p99 response {p99} (closed loop: latency is not comparable)"
        ),
    };
}

fn table(report: &Report, out: &mut String) {
    let _ = writeln!(
        out,
        "{:<7}{:<9}{:>11} {:>11} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "", "", "count", "hits", "errors", "p50", "p90", "p99", "p99.9", "p99.99", "max", "mean"
    );
    for (class, record) in &report.classes {
        rows(class.name(), record, out);
    }
    rows("all", &report.total, out);
}

fn rows(name: &str, record: &ClassRecord, out: &mut String) {
    let hits = if record.hits + record.misses > 0 { record.hits.to_string() } else { "-".into() };
    let (count, errors) = (record.count(), record.errors);
    let _ = write!(out, "{name:<7}{:<9}{count:>11} {hits:>11} {errors:>7}", "response");
    times(&record.response, out);
    for (name, histogram) in [("service", &record.service), ("lag", &record.lag)] {
        let _ = write!(out, "{:<7}{name:<9}{:>11} {:>11} {:>7}", "", "", "", "");
        times(histogram, out);
    }
}

fn times(histogram: &Histogram<u64>, out: &mut String) {
    for q in QUANTILES {
        let _ = write!(out, " {:>9}", time(quantile_ns(histogram, q)));
    }
    let some = !histogram.is_empty();
    let max = time(some.then(|| histogram.max()));
    let mean = time(some.then(|| histogram.mean() as u64));
    let _ = writeln!(out, " {max:>9} {mean:>9}");
}

fn pacing(report: &Report, out: &mut String) {
    let pace = &report.pace;
    let (mode, sleeps, polls) = (pace.mode, pace.sleeps, pace.idle_polls);
    let polling_ms = pace.polling_ns as f64 / 1e6;
    let _ = write!(out, "pacing      {mode}: {sleeps} sleeps, {polls} empty polls");
    let _ = write!(out, " ({polling_ms:.1} ms)");
    if let Load::Open(_) = report.config.load {
        let p50 = time(quantile_ns(&pace.late, 0.5));
        let p99 = time(quantile_ns(&pace.late, 0.99));
        let _ = write!(out, ", woke late by p50 {p50}, p99 {p99}");
    }
    out.push('\n');
}

/// The sums of an interval log, by tag.
pub(crate) fn log(log: &Log) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{} rows over {:.1} s", log.rows, log.duration_s);
    let _ = writeln!(
        out,
        "\n{:<18}{:>11} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "", "count", "p50", "p90", "p99", "p99.9", "p99.99", "max", "mean"
    );
    for (tag, sum) in &log.sums {
        let name = if tag.is_empty() { "(no tag)" } else { tag };
        let _ = write!(out, "{name:<18}{:>11}", sum.len());
        times(sum, &mut out);
    }
    out
}

/// The report of a filling.
pub(crate) fn prefill(report: &PrefillReport) -> String {
    let mut out = String::new();
    let (present, keys) = (report.present, report.keys);
    let seconds = report.duration_s;
    let _ = writeln!(out, "{keys} keys written in {seconds:.2} s, {present} present");
    if let Some(error) = &report.first_error {
        let _ = writeln!(out, "because     {} requests failed ({error})", report.errors);
    }
    wrong_values(&report.wrong_values, report.wrong, &mut out);
    let _ = writeln!(out, "verdict     {}", report.verdict.name());
    out
}

/// The report of a replay.
pub(crate) fn replay(report: &ReplayReport) -> String {
    let mut out = String::new();
    let (requests, rate) = (report.requests, report.rate());
    let object = percent(report.object_hit_ratio());
    let byte = percent(report.byte_hit_ratio());
    let _ = writeln!(out, "object hit ratio {object}, byte hit ratio {byte}");
    let _ = writeln!(
        out,
        "{requests} requests in {:.2} s, {rate:.0} requests/s, pipeline {}",
        report.duration_s, report.config.pipeline
    );
    let _ = writeln!(out, "trace       {}", report.trace);
    let _ = writeln!(out, "hits        {}", report.hits);
    let _ = writeln!(out, "fills       {}", report.fills);
    if report.writes + report.deletes > 0 {
        let _ = writeln!(out, "writes      {}", report.writes);
        let _ = writeln!(out, "deletes     {}", report.deletes);
    }
    let _ = writeln!(out, "errors      {}", report.errors);
    let _ = writeln!(out, "wrong       {}", report.wrong);
    let _ = writeln!(
        out,
        "service     {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "p50", "p90", "p99", "p99.9", "p99.99", "max", "mean"
    );
    for (name, service) in [("reads", &report.read_service), ("writes", &report.write_service)] {
        if !service.is_empty() {
            let _ = write!(out, "  {name:<9}");
            times(service, &mut out);
        }
    }
    let cpu = report.client_cpu_ns_per_request();
    let cpu = cpu.map_or("n/a".to_owned(), |ns| format!("{ns:.0} ns per request"));
    let _ = writeln!(out, "client CPU  {cpu}");
    let _ = writeln!(out, "seed        {}", report.config.seed);
    if let Some(error) = &report.first_error {
        let _ = writeln!(out, "because     {error}");
    }
    wrong_values(&report.wrong_values, report.wrong, &mut out);
    let _ = writeln!(out, "verdict     {}", report.verdict.name());
    out
}

fn wrong_values(values: &[WrongValue], count: u64, out: &mut String) {
    for wrong in values {
        let _ = writeln!(out, "WRONG VALUE {wrong}");
    }
    if count > values.len() as u64 {
        let _ = writeln!(out, "WRONG VALUE and {} more", count - values.len() as u64);
    }
}

fn config(config: &RunConfig) -> String {
    let load = match config.load {
        Load::Open(_) if config.profile != Profile::Level => {
            format!("profile {} {}", config.profile, config.arrival)
        }
        Load::Open(rate) => format!("rate {rate} {}", config.arrival),
        Load::Closed => "closed".to_owned(),
    };
    let ttl = config.ttl.as_ref().map_or(String::new(), |ttl| format!(", ttl {ttl}"));
    let fill = if config.read_through { ", read-through" } else { "" };
    format!(
        "{} {}, {load}, {} connections x pipeline {}, {} threads, {} keys of {} bytes {}, \
         values {} bytes, mix {}{ttl}{fill}, verify {}",
        config.target,
        config.protocol,
        config.connections,
        config.pipeline,
        config.threads,
        config.keys,
        config.key_size,
        config.key_dist,
        config.value_size,
        config.mix,
        config.verify
    )
}

fn percent(ratio: Option<f64>) -> String {
    ratio.map_or("n/a".to_owned(), |ratio| format!("{:.4} %", ratio * 100.0))
}

/// A time with the unit that suits it, at most 9 characters wide.
pub(crate) fn time(ns: Option<u64>) -> String {
    let Some(ns) = ns else { return "n/a".to_owned() };
    // The borders are where rounding would show a thousand of the smaller unit.
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..999_950 => format!("{:.1} us", ns as f64 / 1e3),
        999_950..999_995_000 => format!("{:.2} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_suitable_unit() {
        assert_eq!(time(None), "n/a");
        assert_eq!(time(Some(999)), "999 ns");
        assert_eq!(time(Some(212_345)), "212.3 us");
        assert_eq!(time(Some(1_500_000)), "1.50 ms");
        assert_eq!(time(Some(99_000_000_000)), "99.00 s");
        assert!([0, 999_999, 999_999_999].iter().all(|&ns| time(Some(ns)).len() <= 9));
    }
}
