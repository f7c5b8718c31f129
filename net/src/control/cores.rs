//! What each core does and holds: INFO's section `cores`, memcached's `stats cores` and the command
//! CORES, with the same names.
//!
//! | name | is |
//! |---|---|
//! | `cpu` | the CPU that the core is pinned to |
//! | `commands` | commands executed by the core |
//! | `local` | of these, those that connections of the core have sent |
//! | `crossed_in` | requests of other cores, executed here |
//! | `crossed_out` | requests sent to other cores |
//! | `scattered` | commands of connections here that several cores have executed |
//! | `parts_in` | of `crossed_in`, parts of such commands of others |
//! | `lane_peak` | the most requests to one core that were on their way at a time |
//! | `posts`, `wakes` | how often something was handed to another core, and that it slept |
//! | `room_waits` | how often a connection waited because a lane was full |
//! | `turns` | turns that found work |
//! | `enters` | system calls that moved bytes or waited for some |
//! | `enters_per_command` | these divided by `commands` |
//! | `busy_percent` | the time that the core was busy, of the last second and a half |
//! | `busy_ms` | processor time that it was busy since the start |
//! | `connections`, `items` | open connections, and items stored |
//! | `bytes` | bytes of these items |
//! | `memory`, `memory_share` | bytes of items, table and buffers, and of the core's share of all |
//! | `get_hits`, `get_misses`, `evictions`, `expired` | as in `stats` |
//! | `ops_per_sec` | commands a second, of the last second and a half |

use std::fmt::{self, Write as _};

use super::ServerFacts;
use super::survey::Survey;
use crate::core::Snapshot;
use crate::protocol::memcached::{StatForm, Statistics};
use crate::protocol::resp::{Version, Writer};

/// A number of a core.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Figure {
    Count(u64),
    Part(f64),
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Figure::Count(count) => write!(f, "{count}"),
            Figure::Part(part) => write!(f, "{part:.3}"),
        }
    }
}

fn figures(snapshot: &Snapshot, cpu: usize) -> [(&'static str, Figure); 26] {
    use Figure::{Count, Part};
    let (counters, lanes) = (&snapshot.counters, &snapshot.counters.lanes);
    let shard = &snapshot.shard;
    let enters_each = snapshot.enters as f64 / counters.commands.max(1) as f64;
    [
        ("cpu", Count(cpu as u64)),
        ("commands", Count(counters.commands)),
        ("local", Count(counters.local_commands())),
        ("crossed_in", Count(lanes.crossed_in)),
        ("crossed_out", Count(lanes.crossed_out)),
        ("scattered", Count(lanes.scattered)),
        ("parts_in", Count(lanes.parts_in)),
        ("lane_peak", Count(lanes.asked_peak)),
        ("posts", Count(lanes.posts)),
        ("wakes", Count(lanes.wakes)),
        ("room_waits", Count(lanes.room_waits)),
        ("turns", Count(counters.turns)),
        ("enters", Count(snapshot.enters)),
        ("enters_per_command", Part(enters_each)),
        ("busy_percent", Part(snapshot.rates.busy_permille as f64 / 10.0)),
        ("busy_ms", Count(snapshot.busy_ns / 1_000_000)),
        ("connections", Count(snapshot.connections as u64)),
        ("items", Count(shard.items)),
        ("bytes", Count(shard.live_bytes)),
        ("memory", Count(snapshot.used_bytes())),
        ("memory_share", Count(snapshot.division.memory_bytes)),
        ("get_hits", Count(counters.hits)),
        ("get_misses", Count(counters.misses)),
        ("evictions", Count(shard.counters.evictions)),
        ("expired", Count(shard.counters.expired)),
        ("ops_per_sec", Count(snapshot.rates.commands)),
    ]
}

fn cpu_of(facts: &ServerFacts, core: usize) -> usize {
    facts.cpus.get(core).copied().unwrap_or_default()
}

/// INFO's section: a line for each core.
pub(super) fn info(out: &mut String, survey: &Survey, facts: &ServerFacts) -> fmt::Result {
    for snapshot in &survey.cores {
        let core = snapshot.core;
        for (index, (name, figure)) in figures(snapshot, cpu_of(facts, core)).iter().enumerate() {
            match index {
                0 => write!(out, "core{core}:{name}={figure}")?,
                _ => write!(out, ",{name}={figure}")?,
            }
        }
        write!(out, "\r\n")?;
    }
    for &core in &survey.missing {
        write!(out, "core{core}:cpu={},answered=no\r\n", cpu_of(facts, core))?;
    }
    Ok(())
}

/// The reply to CORES: of each core a map. One that has not answered has a short one.
pub(super) fn table(survey: &Survey, facts: &ServerFacts, version: Version) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1024);
    let mut reply = Writer::new(&mut bytes, version);
    reply.array(survey.cores.len() + survey.missing.len());
    for snapshot in &survey.cores {
        let figures = figures(snapshot, cpu_of(facts, snapshot.core));
        reply.map(figures.len() + 1);
        reply.bulk(b"core");
        reply.integer(snapshot.core as i64);
        for (name, figure) in figures {
            reply.bulk(name.as_bytes());
            match figure {
                Figure::Count(count) => reply.integer(count as i64),
                Figure::Part(part) => reply.double(part),
            }
        }
    }
    for &core in &survey.missing {
        reply.map(3);
        for (name, number) in [("core", core), ("cpu", cpu_of(facts, core)), ("answered", 0)] {
            reply.bulk(name.as_bytes());
            reply.integer(number as i64);
        }
    }
    bytes
}

/// `stats cores`: names begin with the number of the core.
pub(super) fn stats(survey: &Survey, facts: &ServerFacts, form: StatForm) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut lines = Statistics::new(&mut bytes, form);
    for snapshot in &survey.cores {
        let core = snapshot.core;
        for (name, figure) in figures(snapshot, cpu_of(facts, core)) {
            lines.add(format_args!("{core}:{name}"), figure);
        }
    }
    for &core in &survey.missing {
        lines.add(format_args!("{core}:answered"), "no");
    }
    lines.end();
    bytes
}
