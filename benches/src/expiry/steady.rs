//! Keys that expire at a constant rate, while as many are written.
//!
//! One connection writes what is due and asks for DBSIZE behind it, a thousand times a second, so
//! that at each answer the number of keys written is known exactly. What was written and is not
//! there any more was removed; keys go in the order of their deadlines, all of which lie equally far
//! from their writing; so the deadline of the oldest key that is still there is known, and the time
//! since then is the lag. It is too large by up to the time that a request takes, and where a
//! server does not remove in order, it is the lag that one would have that removes as many.

use std::time::Duration;

use clap::Args;
use hdrhistogram::Histogram;
use serde_json::json;

use super::{MEMORY_BYTES, OwnLag, check_keys, check_seconds};
use crate::caches::{Answer, Cache, CacheOptions, Expiry, Key};
use crate::harness::{HarnessError, Table};
use crate::sys::cpu;

/// Writes and looks per second.
const TICKS_PER_SECOND: u64 = 1000;
const TICK_NS: u64 = 1_000_000_000 / TICKS_PER_SECOND;
/// A client that is later than this gives up: the server cannot keep up with the rate.
const DELAY_MAX_NS: u64 = 5_000_000_000;
/// Longest lag that is told apart; anything above counts as this.
const LAG_MAX_US: u64 = 3_600_000_000;
/// Bytes of a value.
const VALUE: [u8; 64] = [b'v'; 64];

/// Options of the benchmark.
#[derive(Clone, Debug, Args)]
pub struct SteadyOptions {
    /// Which servers.
    #[command(flatten)]
    pub caches: CacheOptions,
    /// Keys that are there at a time
    #[arg(long, default_value_t = 1_000_000)]
    pub keys: u64,
    /// Keys that expire per second
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1000..))]
    pub rate: u64,
    /// How long, once the first have expired
    #[arg(long, default_value_t = 20.0)]
    pub seconds: f64,
}

/// Lags as an observer sees them.
struct Observed {
    /// Microseconds.
    lag_us: Histogram<u64>,
    /// The most keys that had expired and were still there.
    expired_max: u64,
    own: OwnLag,
}

pub(super) fn run(options: &SteadyOptions) -> Result<(), HarnessError> {
    check_keys(options.keys, "--keys")?;
    check_seconds(options.seconds, "--seconds")?;
    let caches = options.caches.prepare()?;
    let mut table = Table::new(&[
        "server",
        "keys",
        "rate/s",
        "lag p50 ms",
        "p99",
        "max",
        "expired held max",
        "own p50/p99/max ms",
    ]);
    let mut results = Vec::new();
    for cache in &caches {
        eprintln!("expiry-lag: {}", cache.name);
        let observed = observe(options, cache)?;
        let ms = |quantile: f64| observed.lag_us.value_at_quantile(quantile) as f64 / 1e3;
        let max_ms = observed.lag_us.max() as f64 / 1e3;
        table.push(vec![
            cache.name.clone(),
            options.keys.to_string(),
            options.rate.to_string(),
            format!("{:.1}", ms(0.5)),
            format!("{:.1}", ms(0.99)),
            format!("{max_ms:.1}"),
            observed.expired_max.to_string(),
            observed.own.text(),
        ]);
        results.push(json!({
            "server": cache.name,
            "keys": options.keys,
            "rate_per_s": options.rate,
            "samples": observed.lag_us.len(),
            "lag_p50_ms": ms(0.5),
            "lag_p99_ms": ms(0.99),
            "lag_max_ms": max_ms,
            "expired_held_max": observed.expired_max,
            "own_lag_p50_ms": observed.own.p50_ms,
            "own_lag_p99_ms": observed.own.p99_ms,
            "own_lag_max_ms": observed.own.max_ms,
        }));
    }
    print!("{}", table.render());
    options.caches.write_json("expiry-lag-steady", results)
}

fn observe(options: &SteadyOptions, cache: &Cache) -> Result<Observed, HarnessError> {
    let running = cache.start(MEMORY_BYTES)?;
    let mut wire = running.connect()?;
    // Whole seconds for memcached, which knows no others.
    let ttl_ms = (options.keys * 1000 / options.rate).max(1);
    let mut log = Writes::new(ttl_ms * 1_000_000);
    let mut lag_us = Histogram::new_with_max(LAG_MAX_US, 3)
        .unwrap_or_else(|_| unreachable!("range and digits are valid"));
    let mut expired_max = 0;
    let start_ns = cpu::monotonic_ns();
    let end_ns = ttl_ms * 1_000_000 + Duration::from_secs_f64(options.seconds).as_nanos() as u64;
    let mut tick_ns = 0;
    while tick_ns < end_ns {
        let now_ns = cpu::monotonic_ns() - start_ns;
        if now_ns < tick_ns {
            std::thread::sleep(Duration::from_nanos(tick_ns - now_ns));
        }
        let now_ns = cpu::monotonic_ns() - start_ns;
        if now_ns > tick_ns + DELAY_MAX_NS {
            let text = format!("does not keep up with {} writes per second", options.rate);
            return Err(running.error(text));
        }
        let first = log.written;
        let due = (u128::from(now_ns) * u128::from(options.rate) / 1_000_000_000) as u64;
        let mut refused = 0;
        let expiry = Expiry::After(ttl_ms);
        let pumped = wire.pump(
            due.saturating_sub(first),
            |index, requests| requests.set(Key::new(first + index).bytes(), &VALUE, expiry),
            |_, answer| refused += u64::from(answer != Answer::Stored),
        );
        running.named(pumped)?;
        if refused > 0 {
            return Err(running.error(format!("refused {refused} writes")));
        }
        log.add(now_ns, due.saturating_sub(first));
        let asked_ns = cpu::monotonic_ns() - start_ns;
        let items = running.named(wire.items())?;
        if let Some((lag_ns, expired)) = log.look(asked_ns, items) {
            lag_us.saturating_record(lag_ns / 1000);
            expired_max = expired_max.max(expired);
        }
        // Ticks that were missed are not made up for; what they had to write was written above.
        tick_ns = (tick_ns + TICK_NS).max(now_ns / TICK_NS * TICK_NS);
    }
    Ok(Observed { lag_us, expired_max, own: running.named(OwnLag::of(&mut wire))? })
}

/// What was written when.
struct Writes {
    ttl_ns: u64,
    written: u64,
    /// Time of writing and the number of keys written until then.
    batches: Vec<(u64, u64)>,
    /// The batch of the last answer: answers only move on.
    oldest: usize,
}

impl Writes {
    fn new(ttl_ns: u64) -> Writes {
        Writes { ttl_ns, written: 0, batches: Vec::new(), oldest: 0 }
    }

    fn add(&mut self, time_ns: u64, count: u64) {
        self.written += count;
        self.batches.push((time_ns, self.written));
    }

    /// How long the oldest of the `items` keys still there has been expired, and how many have;
    /// `None` before the first key was due.
    fn look(&mut self, now_ns: u64, items: u64) -> Option<(u64, u64)> {
        if now_ns <= self.batches.first()?.0 + self.ttl_ns {
            return None;
        }
        let removed = self.written.saturating_sub(items);
        while self.oldest + 1 < self.batches.len() && self.batches[self.oldest].1 <= removed {
            self.oldest += 1;
        }
        let due_until_now = now_ns - self.ttl_ns;
        let due = self.batches.partition_point(|&(time_ns, _)| time_ns <= due_until_now);
        let due_keys = due.checked_sub(1).map_or(0, |last| self.batches[last].1);
        let expired = due_keys.saturating_sub(removed);
        let deadline_ns = self.batches[self.oldest].0 + self.ttl_ns;
        Some((if expired == 0 { 0 } else { now_ns.saturating_sub(deadline_ns) }, expired))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_the_age_of_the_oldest_key_still_there() {
        let mut writes = Writes::new(100);
        for time_ns in [0, 10, 20, 30] {
            writes.add(time_ns, 5);
        }
        assert_eq!(writes.look(100, 20), None, "nothing is due yet");
        assert_eq!(writes.look(105, 20), Some((5, 5)));
        assert_eq!(writes.look(105, 15), Some((0, 0)), "all that was due is gone");
        assert_eq!(writes.look(125, 12), Some((15, 7)), "the second batch began to go");
        assert_eq!(writes.look(131, 0), Some((0, 0)));
    }
}
