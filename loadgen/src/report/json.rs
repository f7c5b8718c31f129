//! Reports for programs: stable names, times in nanoseconds, `null` where there is no number.

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::Report;
use crate::config::{Load, Profile, RunConfig, Steer};
use crate::hlog::Log;
use crate::prefill::PrefillReport;
use crate::recorder::{Class, ClassRecord, LaneRecord, quantile_ns};
use crate::replay::ReplayReport;
use crate::series::Second;
use crate::verify::WrongValue;
use crate::worker::Steering;

/// Version of the form; it goes up when a name changes its meaning or goes away.
const SCHEMA: u32 = 2;

/// The report of a run.
pub(crate) fn run(report: &Report) -> Value {
    let classes: Map<String, Value> = report
        .classes
        .iter()
        .map(|(class, record)| (class.name().to_owned(), class_record(record)))
        .chain([("all".to_owned(), class_record(&report.total))])
        .collect();
    let fills = report.classes.iter().find(|(class, _)| *class == Class::Fill);
    let mut value = json!({
        "schema": SCHEMA,
        "command": if report.trace.is_some() { "replay" } else { "run" },
        "config": config(&report.config),
        "trace": report.trace.as_ref().map(|(name, _)| name.as_str()),
        "replay_pace": report.trace.as_ref().map(|(_, pace)| pace.to_string()),
        "run_id": report.run_id,
        "verdict": report.verdict.name(),
        "reasons": report.reasons,
        "warnings": report.warnings,
        "open_loop": matches!(report.config.load, Load::Open(_)),
        "requests": report.requests,
        "fills": fills.map_or(0, |(_, record)| record.count()),
        "duration_s": report.duration_s,
        "rate": report.rate,
        "offered": report.offered,
        "hits": report.total.hits,
        "misses": report.total.misses,
        "hit_ratio": report.hit_ratio(),
        "byte_hit_ratio": report.byte_hit_ratio(),
        "errors": report.errors(),
        "first_error": report.first_error,
        "prefill": report.prefill.as_ref().map(prefill),
        "classes": classes,
        "targets": report.targets.iter().map(|(name, lane)| target(name, lane)).collect::<Value>(),
        "seconds": report.seconds.iter().map(second).collect::<Value>(),
        "host": report
            .facts
            .iter()
            .map(|(name, fact)| ((*name).to_owned(), Value::from(fact.as_str())))
            .collect::<Map<String, Value>>(),
    });
    if let (Value::Object(all), Value::Object(health)) = (&mut value, health(report)) {
        all.extend(health);
    }
    value
}

/// What happened to the run beside its load: more names on the same level.
fn health(report: &Report) -> Value {
    json!({
        "unanswered": report.unanswered,
        "connections_lost": report.connections_lost,
        "reconnected": report.reconnected,
        "gap_s": report.gap_s,
        "churned": report.churned,
        "counters_restarted": report.counters_restarted,
        "steering": (report.config.steer != Steer::None).then(|| steering(report.steering)),
        "retransmits": report.retransmits,
        "involuntary_switches": report.switches,
        "counters": report
            .counters
            .iter()
            .map(|(name, count)| ((*name).to_owned(), Value::from(*count)))
            .collect::<Map<String, Value>>(),
        "throttled": report.throttled,
        "busy": report.busy,
        "stolen": report.stolen,
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
    })
}

fn steering(steering: Steering) -> Value {
    json!({
        "connections": steering.connections,
        "missed": steering.missed,
        "unknown": steering.unknown,
        "moved": steering.moved,
    })
}

fn target(name: &str, lane: &LaneRecord) -> Value {
    json!({
        "name": name,
        "requests": lane.response.len(),
        "errors": lane.errors,
        "response": quantiles(&lane.response),
    })
}

fn second(second: &Second) -> Value {
    json!({
        "second": second.second,
        "requests": second.requests,
        "hits": second.hits,
        "misses": second.misses,
        "errors": second.errors,
        "p50_ns": second.p50_ns,
        "p99_ns": second.p99_ns,
        "p999_ns": second.p999_ns,
        "max_ns": second.max_ns,
        "lag_p99_ns": second.lag_p99_ns,
    })
}

/// The sums of an interval log, by tag.
pub(crate) fn log(log: &Log) -> Value {
    let tags: Map<String, Value> =
        log.sums.iter().map(|(tag, sum)| (tag.clone(), quantiles(sum))).collect();
    json!({
        "schema": SCHEMA,
        "command": "report",
        "rows": log.rows,
        "duration_s": log.duration_s,
        "tags": tags,
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
        "writes": report.writes,
        "deletes": report.deletes,
        "read_service": quantiles(&report.read_service),
        "write_service": quantiles(&report.write_service),
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
        "steer": config.steer.to_string(),
        "rate": rate,
        "arrival": config.arrival.to_string(),
        "profile": (config.profile != Profile::Level).then(|| config.profile.to_string()),
        "backlog_max_s": config.backlog_max.as_secs_f64(),
        "churn": config.churn.map(crate::config::Rate::per_second),
        "duration_s": config.duration.as_secs_f64(),
        "warmup_s": config.warmup.as_secs_f64(),
        "requests": config.requests,
        "keys": config.keys,
        "key_size": config
            .key_size
            .one()
            .map_or_else(|| Value::from(config.key_size.to_string()), Value::from),
        "key_dist": config.key_dist.to_string(),
        "value_size": config.value_size.to_string(),
        "mix": config.mix.to_string(),
        "ttl": config.ttl.as_ref().map(ToString::to_string),
        "multiget": config.multiget.to_string(),
        "hot_one": config.hot_one,
        "prefill": config.prefill,
        "read_through": config.read_through,
        "seed": config.seed,
        "pin": config.pin,
        "threads": config.threads,
        "verify": config.verify.to_string(),
        "pace": config.pace.to_string(),
        "guards": config.guards.to_string(),
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
