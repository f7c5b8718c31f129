//! Reports for programs: stable names, times in nanoseconds, `null` where there is no number.

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::Report;
use crate::config::{Load, RunConfig};
use crate::prefill::PrefillReport;
use crate::recorder::{Class, ClassRecord, quantile_ns};
use crate::replay::ReplayReport;
use crate::verify::WrongValue;

/// Version of the form; it goes up when a name changes its meaning or goes away.
const SCHEMA: u32 = 1;

/// The report of a run.
pub(crate) fn run(report: &Report) -> Value {
    let classes: Map<String, Value> = report
        .classes
        .iter()
        .map(|(class, record)| (class.name().to_owned(), class_record(record)))
        .chain([("all".to_owned(), class_record(&report.total))])
        .collect();
    let fills = report.classes.iter().find(|(class, _)| *class == Class::Fill);
    json!({
        "schema": SCHEMA,
        "command": "run",
        "config": config(&report.config),
        "run_id": report.run_id,
        "verdict": report.verdict.name(),
        "reasons": report.reasons,
        "warnings": report.warnings,
        "open_loop": matches!(report.config.load, Load::Open(_)),
        "requests": report.requests,
        "fills": fills.map_or(0, |(_, record)| record.count()),
        "duration_s": report.duration_s,
        "rate": report.rate,
        "hits": report.total.hits,
        "misses": report.total.misses,
        "hit_ratio": report.hit_ratio(),
        "byte_hit_ratio": report.byte_hit_ratio(),
        "errors": report.errors(),
        "first_error": report.first_error,
        "unanswered": report.unanswered,
        "connections_lost": report.connections_lost,
        "wrong": report.wrong,
        "wrong_values": wrong_values(&report.wrong_values),
        "client_cpu_ns_per_request": report.client_cpu_ns_per_request(),
        "pace": {
            "mode": report.pace.mode.to_string(),
            "sleeps": report.pace.sleeps,
            "idle_polls": report.pace.idle_polls,
            "polling_ns": report.pace.polling_ns,
            "late": quantiles(&report.pace.late),
        },
        "prefill": report.prefill.as_ref().map(prefill),
        "classes": classes,
    })
}

/// The report of a filling.
pub(crate) fn prefill(report: &PrefillReport) -> Value {
    json!({
        "schema": SCHEMA,
        "command": "prefill",
        "verdict": report.verdict.name(),
        "keys": report.keys,
        "present": report.present,
        "errors": report.errors,
        "first_error": report.first_error,
        "wrong": report.wrong,
        "wrong_values": wrong_values(&report.wrong_values),
        "duration_s": report.duration_s,
    })
}

/// The report of a replay.
pub(crate) fn replay(report: &ReplayReport) -> Value {
    json!({
        "schema": SCHEMA,
        "command": "replay",
        "trace": report.trace,
        "target": report.config.target,
        "protocol": report.config.protocol.to_string(),
        "pipeline": report.config.pipeline,
        "seed": report.config.seed,
        "verify": report.config.verify.to_string(),
        "verdict": report.verdict.name(),
        "requests": report.requests,
        "hits": report.hits,
        "misses": report.requests - report.hits,
        "hit_ratio": report.object_hit_ratio(),
        "byte_hit_ratio": report.byte_hit_ratio(),
        "hit_bytes": report.hit_bytes,
        "requested_bytes": report.requested_bytes,
        "fills": report.fills,
        "errors": report.errors,
        "first_error": report.first_error,
        "wrong": report.wrong,
        "wrong_values": wrong_values(&report.wrong_values),
        "duration_s": report.duration_s,
        "rate": report.rate(),
        "client_cpu_ns_per_request": report.client_cpu_ns_per_request(),
    })
}

fn config(config: &RunConfig) -> Value {
    let rate = match config.load {
        Load::Open(rate) => Some(rate.per_second()),
        Load::Closed => None,
    };
    json!({
        "target": config.target,
        "protocol": config.protocol.to_string(),
        "connections": config.connections,
        "pipeline": config.pipeline,
        "rate": rate,
        "duration_s": config.duration.as_secs_f64(),
        "warmup_s": config.warmup.as_secs_f64(),
        "requests": config.requests,
        "keys": config.keys,
        "key_size": config.key_bytes,
        "key_dist": config.key_dist.to_string(),
        "value_size": config.value_size.to_string(),
        "mix": config.mix.to_string(),
        "ttl_s": config.ttl.map(|ttl| ttl.as_secs_f64()),
        "prefill": config.prefill,
        "read_through": config.read_through,
        "seed": config.seed,
        "pin": config.pin,
        "threads": config.threads,
        "verify": config.verify.to_string(),
        "pace": config.pace.to_string(),
    })
}

fn class_record(record: &ClassRecord) -> Value {
    json!({
        "count": record.count(),
        "hits": record.hits,
        "misses": record.misses,
        "errors": record.errors,
        "out_of_range": record.out_of_range,
        "response": quantiles(&record.response),
        "service": quantiles(&record.service),
        "lag": quantiles(&record.lag),
    })
}

fn quantiles(histogram: &Histogram<u64>) -> Value {
    let some = !histogram.is_empty();
    json!({
        "count": histogram.len(),
        "p50_ns": quantile_ns(histogram, 0.5),
        "p90_ns": quantile_ns(histogram, 0.9),
        "p99_ns": quantile_ns(histogram, 0.99),
        "p999_ns": quantile_ns(histogram, 0.999),
        "p9999_ns": quantile_ns(histogram, 0.9999),
        "max_ns": some.then(|| histogram.max()),
        "mean_ns": some.then(|| histogram.mean()),
    })
}

fn wrong_values(values: &[WrongValue]) -> Value {
    values
        .iter()
        .map(|wrong| {
            json!({
                "key": wrong.key,
                "kind": wrong.kind.name(),
                "expected": wrong.expected,
                "got": wrong.got,
            })
        })
        .collect()
}
