//! Very many keys that are due in one millisecond, and another client meanwhile.
//!
//! Keys are written with one absolute deadline. The other client reads keys of its own in an open
//! loop, once before the deadline and once from just before it on: what its requests take longer is
//! what the removal costs others. A third connection asks for DBSIZE every millisecond.

use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use serde_json::json;

use super::{MEMORY_BYTES, OwnLag, check_keys, check_seconds, wall_ms};
use crate::caches::{Answer, Cache, CacheOptions, Expiry, Key, Running};
use crate::client::{
    Arrivals, Client, ClientError, Group, KeyDistribution, OpenPlan, Pace, Workload,
};
use crate::harness::{HarnessError, Table};

/// Keys of the other client.
const OTHER_KEYS: u64 = 10_000;
/// Bytes of a value.
const VALUE: [u8; 64] = [b'v'; 64];
/// The other client is under way so long before the deadline.
const HEAD_START: Duration = Duration::from_millis(200);
/// Between two looks at the number of keys.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Options of the benchmark.
#[derive(Clone, Debug, Args)]
pub struct BurstOptions {
    /// Which servers.
    #[command(flatten)]
    pub caches: CacheOptions,
    /// Keys that are due at once
    #[arg(long, default_value_t = 1_000_000)]
    pub keys: u64,
    /// Requests per second of the other client
    #[arg(long, default_value_t = 10_000.0)]
    pub rate: f64,
    /// Time for writing the keys, until they are due
    #[arg(long, default_value_t = 20.0)]
    pub lead_seconds: f64,
    /// How long the other client is measured, before and from the deadline on
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// How long to wait for the keys to go
    #[arg(long, default_value_t = 30.0)]
    pub wait_seconds: f64,
}

/// What the burst did.
struct Outcome {
    /// Until half, 99 % and all of the keys were gone, in milliseconds after the deadline.
    gone_ms: [Option<f64>; 3],
    left: u64,
    before_ns: Histogram<u64>,
    during_ns: Histogram<u64>,
    own: OwnLag,
}

pub(super) fn run(options: &BurstOptions) -> Result<(), HarnessError> {
    check_keys(options.keys, "--keys")?;
    for (seconds, name) in [
        (options.lead_seconds, "--lead-seconds"),
        (options.seconds, "--seconds"),
        (options.wait_seconds, "--wait-seconds"),
    ] {
        check_seconds(seconds, name)?;
    }
    let caches = options.caches.prepare()?;
    let mut table = Table::new(&[
        "server",
        "keys",
        "half gone ms",
        "99 %",
        "all",
        "left",
        "others before p50/p99/max us",
        "during p50/p99/max us",
        "own lag p50/p99/max ms",
    ]);
    let mut results = Vec::new();
    for cache in &caches {
        eprintln!("expiry-lag: {}", cache.name);
        let outcome = burst(options, cache)?;
        let gone = |index: usize| {
            outcome.gone_ms[index].map_or("-".to_string(), |gone_ms| format!("{gone_ms:.0}"))
        };
        table.push(vec![
            cache.name.clone(),
            options.keys.to_string(),
            gone(0),
            gone(1),
            gone(2),
            outcome.left.to_string(),
            latency_text(&outcome.before_ns),
            latency_text(&outcome.during_ns),
            outcome.own.text(),
        ]);
        results.push(json!({
            "server": cache.name,
            "keys": options.keys,
            "rate_per_s": options.rate,
            "gone_50_ms": outcome.gone_ms[0],
            "gone_99_ms": outcome.gone_ms[1],
            "gone_100_ms": outcome.gone_ms[2],
            "left": outcome.left,
            "before_us": latency_json(&outcome.before_ns),
            "during_us": latency_json(&outcome.during_ns),
            "own_lag_p50_ms": outcome.own.p50_ms,
            "own_lag_p99_ms": outcome.own.p99_ms,
            "own_lag_max_ms": outcome.own.max_ms,
        }));
    }
    print!("{}", table.render());
    options.caches.write_json("expiry-lag-burst", results)
}

fn burst(options: &BurstOptions, cache: &Cache) -> Result<Outcome, HarnessError> {
    let running = cache.start(MEMORY_BYTES)?;
    let mut other = running.named(other_client(&running))?;
    let mut measure = |seconds: f64| {
        let plan = OpenPlan {
            groups: vec![Group { connections: 1, pipeline: 1, rate_per_s: options.rate }],
            duration: Duration::from_secs_f64(seconds),
            arrivals: Arrivals::Poisson,
            // It shares its CPU with the one that looks.
            pace: Pace::Block,
        };
        other.run_open_loop(&plan).map(|outcome| outcome.groups[0].latency_ns.clone())
    };
    let (deadline, deadline_ms) = write_keys(options, &running)?;
    let before_ns = running.named(measure(options.seconds))?;
    let start = deadline.checked_sub(HEAD_START).unwrap_or(deadline);
    let wait = start.checked_duration_since(Instant::now()).ok_or_else(|| {
        HarnessError::Usage(format!(
            "{} was still busy when its keys were due: raise --lead-seconds",
            running.name
        ))
    })?;
    std::thread::sleep(wait);
    let (gone, during_ns) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(options, &running, deadline_ms));
        let during_ns = running.named(measure(options.seconds));
        let gone = watching.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (gone, during_ns)
    });
    let (gone_ms, left) = gone?;
    let mut wire = running.connect()?;
    let own = running.named(OwnLag::of(&mut wire))?;
    Ok(Outcome { gone_ms, left, before_ns, during_ns: during_ns?, own })
}

/// The client whose requests are timed, with its keys set.
fn other_client(running: &Running) -> Result<Client, ClientError> {
    let workload = Workload {
        protocol: running.protocol(),
        key_count: OTHER_KEYS,
        key_bytes: 12,
        value_bytes: VALUE.len(),
        distribution: KeyDistribution::Uniform,
        gets: 1,
        sets: 0,
        seed: 1,
        subset: None,
    };
    let mut client = Client::connect(running.address(), &workload, 1)?;
    client.prefill()?;
    Ok(client)
}

/// Writes the keys; their deadline on both clocks. It is a whole second, for memcached.
fn write_keys(options: &BurstOptions, running: &Running) -> Result<(Instant, u64), HarnessError> {
    let mut wire = running.connect()?;
    let (now, now_ms) = (Instant::now(), wall_ms());
    let deadline_ms = (now_ms + (options.lead_seconds * 1e3) as u64).div_ceil(1000) * 1000;
    let mut refused = 0;
    let pumped = wire.pump(
        options.keys,
        |number, requests| {
            requests.set(Key::new(number).bytes(), &VALUE, Expiry::At(deadline_ms));
        },
        |_, answer| refused += u64::from(answer != Answer::Stored),
    );
    running.named(pumped)?;
    let items = running.named(wire.items())?;
    if refused > 0 || items != options.keys + OTHER_KEYS {
        let text = format!("holds {items} keys, and refused {refused} of {}", options.keys);
        return Err(running.error(text));
    }
    Ok((now + Duration::from_millis(deadline_ms - now_ms), deadline_ms))
}

/// Looks at the number of keys until those that are due have gone, or the time is up. Returns when
/// half, 99 % and all were gone, and how many are left.
fn watch(
    options: &BurstOptions,
    running: &Running,
    deadline_ms: u64,
) -> Result<([Option<f64>; 3], u64), HarnessError> {
    let mut wire = running.connect()?;
    let marks = [options.keys / 2, options.keys / 100, 0];
    let mut gone_ms = [None; 3];
    loop {
        let items = running.named(wire.items())?;
        let left = items.saturating_sub(OTHER_KEYS);
        let late_ms = wall_ms() as f64 - deadline_ms as f64;
        for (gone, mark) in gone_ms.iter_mut().zip(marks) {
            if gone.is_none() && left <= mark {
                *gone = Some(late_ms);
            }
        }
        if left == 0 || late_ms > options.wait_seconds * 1e3 {
            return Ok((gone_ms, left));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn latency_us(latency_ns: &Histogram<u64>) -> [f64; 3] {
    let us = |quantile: f64| latency_ns.value_at_quantile(quantile) as f64 / 1e3;
    [us(0.5), us(0.99), latency_ns.max() as f64 / 1e3]
}

fn latency_text(latency_ns: &Histogram<u64>) -> String {
    latency_us(latency_ns).map(|us| format!("{us:.0}")).join("/")
}

fn latency_json(latency_ns: &Histogram<u64>) -> serde_json::Value {
    let [p50, p99, max] = latency_us(latency_ns);
    json!({"p50": p50, "p99": p99, "max": max})
}
