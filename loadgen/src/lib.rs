//! A load generator for caches that measures from the intended send time and checks every value.
//!
//! The same load can be run from the command line (`pinion-loadgen`) and in process:
//!
//! ```no_run
//! use pinion_loadgen::{Load, Rate, RunConfig, run};
//!
//! let config = RunConfig {
//!     target: "127.0.0.1:6379".to_owned(),
//!     load: Load::Open(Rate { millihertz: 20_000_000 }),
//!     prefill: true,
//!     ..RunConfig::default()
//! };
//! let report = run(&config)?;
//! println!("{}", report.text());
//! # Ok::<(), pinion_loadgen::Error>(())
//! ```
//!
//! How a request travels: `schedule` says when, `source` says what, `protocol` turns
//! it into bytes, `conn` sends them, `worker` ties it together and judges the reply with `verify`
//! (`value`: what a value says about itself, `ledger`: what the run knows), `recorder` writes the
//! times down, and `report` decides what they are worth.
//!
//! It is an independent witness: it shares no code with the server, neither its codec nor its hash.
//!
//! Method: three times per request (intended, sent, done; `CLOCK_MONOTONIC`), of which
//! *response* = done - intended is the headline. The schedule of an open loop is absolute: a full
//! pipeline delays the sending, but never moves an intended time and never drops a request.

#![deny(unsafe_code)]

mod config;
mod conn;
mod connector;
mod counters;
mod discover;
mod dist;
mod drive;
mod error;
mod expiry;
mod hlog;
mod host;
mod keys;
mod ledger;
mod pace;
mod prefill;
mod protocol;
mod recorder;
mod replay;
mod report;
mod rng;
mod run;
mod schedule;
mod selftest;
mod series;
mod source;
mod steer;
mod sweep;
#[expect(unsafe_code, reason = "the one file with system calls that std does not offer")]
mod sys;
mod target;
pub mod trace;
mod value;
mod verify;
mod worker;

pub use config::{
    Arrival, CHURN_PER_S_MAX, CONNECTIONS_MAX, DRAWN_BYTES_MAX, Guards, KEY_BYTES_MAX, KEYS_MAX,
    KeyDist, KeySize, LIST_MAX, Load, MEMCACHED_TTL_S_MAX, MULTIGET_MAX, Mix, Multiget,
    PIPELINE_MAX, Pace, Preset, Profile, Protocol, RATE_MAX, Rate, RunConfig, STEPS_MAX, Steer,
    Step, TARGETS_MAX, THREADS_MAX, Ttl, VALUE_BYTES_MAX, ValueSize, Verify, Weighted,
    parse_duration,
};
pub use error::{
    EXIT_INVALID, EXIT_OBJECTIVE, EXIT_OK, EXIT_OVERLOADED, EXIT_USAGE, EXIT_WRONG, Error,
};
pub use hlog::{Log, read_log};
pub use host::Fact;
pub use prefill::{PrefillReport, prefill};
pub use recorder::{Class, ClassRecord, LaneRecord, quantile_ns};
pub use replay::{
    Fill, ReplayConfig, ReplayPace, ReplayReport, replay, replay_history, replay_timed, trace_name,
};
pub use report::{PaceReport, Report, Verdict};
pub use run::run;
pub use selftest::{Cost, Measure, Selftest, StallCheck, selftest};
pub use series::Second;
pub use sweep::{Objective, Point, REPEATS_MAX, SweepConfig, SweepReport, sweep};
pub use verify::{WrongKind, WrongValue};
pub use worker::Steering;
