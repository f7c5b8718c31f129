//! Cores, their lanes and connections, simulated in one thread: random interleavings of turns,
//! cores that stall, lanes that are full, clients that do not read or are gone.
//!
//! A seed gives one simulation, always the same. What is checked: every reply, in its place and
//! with its bytes; that nothing is lost and everybody comes to rest; that what one core waits for
//! another has; and the invariants of lanes and shards.
//!
//! `SIMULATION_SEEDS=10000` runs so many seeds, `SIMULATION_SEED=7` one.

#[path = "simulation/client.rs"]
mod client;
#[path = "simulation/ending.rs"]
mod ending;
#[path = "simulation/prng.rs"]
mod prng;
#[path = "simulation/replies.rs"]
mod replies;
#[path = "simulation/transport.rs"]
mod transport;
#[path = "simulation/world.rs"]
mod world;

use std::sync::atomic::AtomicU64;

use prng::Trace;
use world::World;

/// Seeds of an ordinary run.
const SEEDS: u64 = 300;

fn simulate(seed: u64, now_ns: &'static AtomicU64) -> Trace {
    match World::new(seed, now_ns).run() {
        Ok(trace) => trace,
        Err(error) => panic!("SIMULATION_SEED={seed}: {error}"),
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn whatever_happens_every_client_gets_its_replies() {
    static NOW_NS: AtomicU64 = AtomicU64::new(0);
    if let Some(seed) = number("SIMULATION_SEED") {
        simulate(seed, &NOW_NS);
        return;
    }
    for seed in 0..number("SIMULATION_SEEDS").unwrap_or(SEEDS) {
        simulate(seed, &NOW_NS);
    }
}

#[test]
fn a_seed_gives_the_same_every_time() {
    static NOW_NS: AtomicU64 = AtomicU64::new(0);
    for seed in 0..10 {
        assert_eq!(simulate(seed, &NOW_NS), simulate(seed, &NOW_NS), "SIMULATION_SEED={seed}");
    }
    assert_ne!(simulate(0, &NOW_NS), simulate(1, &NOW_NS));
}
