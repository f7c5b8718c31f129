//! Replay of a trace as a look-aside client: read, and write what was missing. A trace with writes
//! of its own is replayed as it is, unless fills are asked for.
//!
//! Two ways. [`replay_timed`] sends at the times of the trace, or at a rate, over several
//! connections, and measures as a run does: requests that are under way at the same time may
//! overtake each other. [`replay`] keeps the order, and goes as fast as that allows:
//!
//! The order of effects is the trace's. All requests go over one connection, which the server
//! executes in order, and
//! - a request whose key has a read in flight waits until that one is answered, and nothing behind
//!   it overtakes it;
//! - a fill is sent as soon as its miss arrives, before any later read.
//!
//! So the effects *on every key* come exactly as in the trace, at any pipeline. With pipeline 1 the
//! whole sequence is exact: read, fill if missed, next read. (The next read travels right behind
//! the fill; it need not wait for the fill's acknowledgement to come after it.) With pipeline P a
//! fill comes up to P - 1 reads of *other* keys later than it would have; a server that evicts sees
//! them in that slightly different order.
//!
//! Cost: one round trip per request at pipeline 1; beyond that about half a microsecond of client
//! CPU per request, and one byte per unique key besides the trace and the ledger.

mod exact;
mod timed;

use std::path::Path;
use std::str::FromStr;

use hdrhistogram::Histogram;

use crate::config::{
    KeySize, MEMCACHED_TTL_S_MAX, PIPELINE_MAX, Protocol, Ttl, ValueSize, Verify, in_range,
};
use crate::error::Error;
use crate::keys::{KeyFormat, REPLAY_PREFIX};
use crate::protocol::Codec;
use crate::recorder::empty_histogram;
use crate::report::{Verdict, hgrm, json, ratio, text};
use crate::run::{check_pins, fresh_run_id};
use crate::sys::pin_current_thread;
use crate::target::Targets;
use crate::trace::{History, Trace};
use crate::value::{Sizes, Values};
use crate::verify::{Verifier, WrongValue};
use exact::{At, Replayer};

pub use timed::{ReplayPace, replay_timed};

/// Most wrong values that are kept in full; the others are counted.
const WRONG_KEPT_MAX: usize = 10;

/// Whether a read that misses is followed by a write of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fill {
    /// Only if the trace has no writes of its own.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Fill {
    fn applies(self, history: &History) -> bool {
        match self {
            Fill::Auto => history.ops.is_none(),
            Fill::Always => true,
            Fill::Never => false,
        }
    }
}

impl FromStr for Fill {
    type Err = String;

    fn from_str(text: &str) -> Result<Fill, String> {
        match text {
            "auto" => Ok(Fill::Auto),
            "always" => Ok(Fill::Always),
            "never" => Ok(Fill::Never),
            _ => Err("expected auto, always or never".to_owned()),
        }
    }
}

/// Options of [`replay`].
#[derive(Debug, Clone)]
pub struct ReplayConfig {
    /// The server, as `host:port` or `unix:path`.
    pub target: String,
    /// The language spoken to it.
    pub protocol: Protocol,
    /// Most reads in flight; 1 keeps the whole sequence of the trace.
    pub pipeline: usize,
    /// Number of requests to replay; all if `None`.
    pub requests: Option<u64>,
    /// Lengths of the keys.
    pub key_size: KeySize,
    /// Lengths of the values where the trace has no sizes.
    pub value_size: ValueSize,
    /// Lifetime given with every write, instead of those of the trace.
    pub ttl: Option<Ttl>,
    /// Whether a read that misses is followed by a write.
    pub fill: Fill,
    /// Every value derives from it.
    pub seed: u64,
    /// The CPU to run on; the calling thread stays pinned to it.
    pub pin: Option<usize>,
    /// How values are checked.
    pub verify: Verify,
    /// Print a line per second to the standard error.
    pub progress: bool,
}

impl Default for ReplayConfig {
    fn default() -> ReplayConfig {
        ReplayConfig {
            target: "127.0.0.1:6379".to_owned(),
            protocol: Protocol::Resp,
            pipeline: 1,
            requests: None,
            key_size: KeySize::fixed(16),
            value_size: ValueSize::fixed(64),
            ttl: None,
            fill: Fill::Auto,
            seed: 1,
            pin: None,
            verify: Verify::Full,
            progress: false,
        }
    }
}

/// The result of [`replay`].
#[derive(Debug, Clone)]
pub struct ReplayReport {
    /// The options of the replay.
    pub config: ReplayConfig,
    /// The name of the trace.
    pub trace: String,
    /// `Ok`, `Invalid` after errors, or `Wrong`.
    pub verdict: Verdict,
    /// Reads that were answered.
    pub requests: u64,
    /// Those that returned a value.
    pub hits: u64,
    /// Bytes of the values of hits.
    pub hit_bytes: u64,
    /// Bytes of the values of all reads.
    pub requested_bytes: u64,
    /// Writes after misses that the server accepted.
    pub fills: u64,
    /// Writes of the trace that the server accepted.
    pub writes: u64,
    /// Deletions of the trace that the server accepted.
    pub deletes: u64,
    /// Nanoseconds from the send to the reply of every read. Each waits for those before it, so
    /// these are no times of a user who sends when he wants to.
    pub read_service: Histogram<u64>,
    /// The same of every write and deletion.
    pub write_service: Histogram<u64>,
    /// Requests that the server refused or never answered.
    pub errors: u64,
    /// The first error, in words.
    pub first_error: Option<String>,
    /// Number of wrong values.
    pub wrong: u64,
    /// The first of them.
    pub wrong_values: Vec<WrongValue>,
    /// Length of the replay in seconds.
    pub duration_s: f64,
    /// CPU time of the client in nanoseconds.
    pub client_cpu_ns: u64,
}

impl ReplayReport {
    /// Hits per read; `None` without reads.
    #[must_use]
    pub fn object_hit_ratio(&self) -> Option<f64> {
        ratio(self.hits, self.requests - self.hits)
    }

    /// Bytes of hits per bytes asked for; `None` without reads.
    #[must_use]
    pub fn byte_hit_ratio(&self) -> Option<f64> {
        ratio(self.hit_bytes, self.requested_bytes - self.hit_bytes)
    }

    /// Requests per second; 0 for an empty trace.
    #[must_use]
    pub fn rate(&self) -> f64 {
        if self.duration_s > 0.0 { self.requests as f64 / self.duration_s } else { 0.0 }
    }

    /// CPU nanoseconds of the client per request, fills included in its cost.
    #[must_use]
    pub fn client_cpu_ns_per_request(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.client_cpu_ns as f64 / self.requests as f64)
    }

    /// The text report.
    #[must_use]
    pub fn text(&self) -> String {
        text::replay(self)
    }

    /// The machine-readable report.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        json::replay(self)
    }

    /// The percentile table of the service times of the reads.
    #[must_use]
    pub fn hgrm(&self) -> String {
        hgrm::table(&self.read_service)
    }

    /// The process exit code.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        self.verdict.exit_code()
    }
}

impl ReplayConfig {
    fn validate(&self, unique: u64) -> Result<(), Error> {
        in_range("--pipeline", self.pipeline, 1, PIPELINE_MAX)?;
        self.key_size.validate(unique.max(1), 0)?;
        self.value_size.validate()?;
        self.ttl.as_ref().map_or(Ok(()), |ttl| ttl.validate(self.protocol))?;
        check_pins(self.pin.as_slice())
    }
}

/// Replays `trace`, called `name` in the report, against the server of `config`.
///
/// # Errors
/// [`Error::Usage`] for options that make no sense, [`Error::Io`] or [`Error::Server`] if the
/// server cannot be reached or the connection breaks. Refusals and wrong values are in the report.
pub fn replay(config: &ReplayConfig, name: &str, trace: &Trace) -> Result<ReplayReport, Error> {
    replay_history(config, name, &History::from(trace.clone()))
}

/// As [`replay`], with the writes, deletions and lifetimes that the trace has.
///
/// # Errors
/// As [`replay`].
pub fn replay_history(
    config: &ReplayConfig,
    name: &str,
    history: &History,
) -> Result<ReplayReport, Error> {
    let trace = &history.trace;
    config.validate(trace.unique)?;
    let targets = Targets::resolve(&config.target)?;
    if targets.count() > 1 {
        return Err(Error::Usage("a replay has one --target, to keep its sequence".to_owned()));
    }
    if let Some(cpu) = config.pin {
        pin_current_thread(cpu)
            .map_err(|error| Error::io(format!("cannot pin to {cpu}"), error))?;
    }
    let values = values(
        history,
        &config.value_size,
        config.ttl.as_ref(),
        (config.seed, fresh_run_id(), config.protocol),
    );
    let keys = KeyFormat::sized(REPLAY_PREFIX, &config.key_size, trace.unique.max(1));
    let codec = Codec::new(config.protocol, keys, values.ttl_step_ms().is_some());
    let requests = config.requests.unwrap_or(u64::MAX).min(trace.keys.len() as u64) as usize;
    let replayer = Replayer {
        keys: &trace.keys[..requests],
        ops: history.ops.as_deref(),
        pipeline: config.pipeline,
        fills: config.fill.applies(history),
        codec,
        verifier: Verifier::new(values, config.verify, trace.unique)?,
        connection: targets.open(0, config.protocol)?,
        unresolved: vec![false; trace.unique as usize],
        report: ReplayReport::empty(config, name),
        at: At::default(),
    };
    replayer.run(config.progress)
}

/// The values of a replay: with the sizes and lifetimes of the trace, where it has any.
fn values(
    history: &History,
    value_size: &ValueSize,
    ttl: Option<&Ttl>,
    (seed, run, protocol): (u64, u32, Protocol),
) -> Values {
    let sizes = match &history.trace.key_sizes {
        Some(sizes) => Sizes::PerKey(sizes.clone()),
        None => Sizes::Drawn(value_size.clone()),
    };
    let values = Values::new(seed, run, sizes, ttl.cloned(), protocol);
    match (&history.key_ttls_s, ttl) {
        (Some(ttls_s), None) => {
            // What is longer memcached would take for a date; a month is for ever in a cache.
            let longest =
                if protocol.is_memcached() { MEMCACHED_TTL_S_MAX as u32 } else { u32::MAX };
            values.with_key_ttls(ttls_s.iter().map(|&ttl_s| ttl_s.min(longest)).collect())
        }
        _ => values,
    }
}

impl ReplayReport {
    fn empty(config: &ReplayConfig, name: &str) -> ReplayReport {
        ReplayReport {
            config: config.clone(),
            trace: name.to_owned(),
            verdict: Verdict::Ok,
            requests: 0,
            hits: 0,
            hit_bytes: 0,
            requested_bytes: 0,
            fills: 0,
            writes: 0,
            deletes: 0,
            read_service: empty_histogram(),
            write_service: empty_histogram(),
            errors: 0,
            first_error: None,
            wrong: 0,
            wrong_values: Vec::new(),
            duration_s: 0.0,
            client_cpu_ns: 0,
        }
    }
}

/// The name of a trace file without folder and endings, for the report.
#[must_use]
pub fn trace_name(path: &Path) -> String {
    let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let name = name.strip_suffix(".zst").unwrap_or(&name);
    let endings = [".ctr", ".csv", ".txt", ".log"];
    endings.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name).to_owned()
}
