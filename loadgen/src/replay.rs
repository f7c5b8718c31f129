//! Replay of a trace as a look-aside client: read, and write what was missing.
//!
//! The order of effects is the trace's. All requests go over one connection, which the server
//! executes in order, and
//! - a read whose key has a read in flight waits until that one is answered, and nothing behind it
//!   overtakes it;
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

use std::path::Path;

use crate::config::{KeySize, PIPELINE_MAX, Protocol, Ttl, ValueSize, Verify, in_range};
use crate::conn::{Connection, Pending, Received};
use crate::error::Error;
use crate::keys::{KeyFormat, REPLAY_PREFIX};
use crate::ledger::Stamp;
use crate::protocol::{Codec, Op, Parsed, Reply};
use crate::recorder::Class;
use crate::report::{Verdict, json, ratio, text};
use crate::run::{check_pins, fresh_run_id};
use crate::sys::{Epoll, Event, Wait, monotonic_ns, pin_current_thread, thread_cpu_ns};
use crate::target::Targets;
use crate::trace::Trace;
use crate::value::{Sizes, Values};
use crate::verify::{Asked, Verifier, WrongValue};
use crate::worker::SILENCE_NS_MAX;

/// Most wrong values that are kept in full; the others are counted.
const WRONG_KEPT_MAX: usize = 10;
/// Size of the buffer to receive into.
const SCRATCH_BYTES: usize = 256 * 1024;
/// Longest single wait, so that the silence of a server is noticed.
const WAIT_NS_MAX: u64 = 100_000_000;

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
    /// Lifetime given with every write.
    pub ttl: Option<Ttl>,
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
    config.validate(trace.unique)?;
    let targets = Targets::resolve(&config.target)?;
    if targets.count() > 1 {
        return Err(Error::Usage("a replay has one --target, to keep its sequence".to_owned()));
    }
    if let Some(cpu) = config.pin {
        pin_current_thread(cpu)
            .map_err(|error| Error::io(format!("cannot pin to {cpu}"), error))?;
    }
    let sizes = match &trace.key_sizes {
        Some(sizes) => Sizes::PerKey(sizes.clone()),
        None => Sizes::Drawn(config.value_size.clone()),
    };
    let values =
        Values::new(config.seed, fresh_run_id(), sizes, config.ttl.clone(), config.protocol);
    let codec = Codec::new(
        config.protocol,
        KeyFormat::sized(REPLAY_PREFIX, &config.key_size, trace.unique.max(1)),
        config.ttl.is_some(),
    );
    let connection = targets.open(0, config.protocol)?;
    let epoll = Epoll::new().map_err(cannot_wait)?;
    epoll.add(connection.fd(), 0).map_err(cannot_wait)?;
    let requests = config.requests.unwrap_or(u64::MAX).min(trace.keys.len() as u64) as usize;
    let replayer = Replayer {
        keys: &trace.keys[..requests],
        next: 0,
        pipeline: config.pipeline,
        codec,
        verifier: Verifier::new(values, config.verify, trace.unique)?,
        connection,
        epoll,
        unresolved: vec![false; trace.unique as usize],
        reads_in_flight: 0,
        last_sign_ns: 0,
        report: ReplayReport::empty(config, name),
    };
    replayer.run(config.progress)
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
            errors: 0,
            first_error: None,
            wrong: 0,
            wrong_values: Vec::new(),
            duration_s: 0.0,
            client_cpu_ns: 0,
        }
    }
}

struct Replayer<'a> {
    keys: &'a [u32],
    next: usize,
    pipeline: usize,
    codec: Codec,
    verifier: Verifier,
    connection: Connection,
    epoll: Epoll,
    /// Whether a read of the key is in flight.
    unresolved: Vec<bool>,
    reads_in_flight: usize,
    last_sign_ns: u64,
    report: ReplayReport,
}

impl Replayer<'_> {
    fn run(mut self, progress: bool) -> Result<ReplayReport, Error> {
        let cpu_from_ns = thread_cpu_ns();
        let start_ns = monotonic_ns();
        self.last_sign_ns = start_ns;
        let mut scratch = vec![0; SCRATCH_BYTES];
        let mut events: Vec<Event> = Vec::new();
        let mut meter = progress.then(|| Meter::new(start_ns));
        loop {
            self.issue(monotonic_ns());
            self.flush()?;
            if self.next == self.keys.len() && self.connection.outstanding() == 0 {
                break;
            }
            self.epoll.wait(&mut events, Wait::AtMostNs(WAIT_NS_MAX)).map_err(cannot_wait)?;
            let now_ns = monotonic_ns();
            if events.iter().any(|event| event.readable) {
                self.receive(&mut scratch, now_ns)?;
            } else if now_ns - self.last_sign_ns > SILENCE_NS_MAX {
                self.report.errors += self.connection.outstanding() as u64;
                note(&mut self.report, || "the server has stopped answering".to_owned());
                break;
            }
            if let Some(meter) = &mut meter {
                meter.tick(now_ns, &self.report);
            }
        }
        let mut report = self.report;
        report.duration_s = (monotonic_ns() - start_ns) as f64 / 1e9;
        report.client_cpu_ns = thread_cpu_ns() - cpu_from_ns;
        report.verdict = if report.wrong > 0 {
            Verdict::Wrong
        } else if report.errors > 0 {
            Verdict::Invalid
        } else {
            Verdict::Ok
        };
        Ok(report)
    }

    /// Sends reads in the order of the trace, up to the first that must wait.
    fn issue(&mut self, now_ns: u64) {
        while self.reads_in_flight < self.pipeline && self.connection.has_room(usize::MAX) {
            let Some(&key) = self.keys.get(self.next) else { return };
            if std::mem::replace(&mut self.unresolved[key as usize], true) {
                return;
            }
            let floor = self.verifier.before_read(u64::from(key));
            let mut read = pending(key, Op::Get, Stamp { version: floor, base: 0 });
            read.issued_ns = now_ns;
            let codec = &self.codec;
            self.connection.push(read, |out| codec.append_get(u64::from(key), out));
            self.reads_in_flight += 1;
            self.next += 1;
        }
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.connection.flush().map_err(|error| Error::io("cannot send", error))?;
        let blocked = self.connection.unsent_bytes() > 0;
        if blocked != self.connection.writes_watched {
            self.connection.writes_watched = blocked;
            self.epoll.watch_writes(self.connection.fd(), 0, blocked).map_err(cannot_wait)?;
        }
        Ok(())
    }

    fn receive(&mut self, scratch: &mut [u8], now_ns: u64) -> Result<(), Error> {
        let bytes = match self.connection.receive(scratch) {
            Received::Bytes(bytes) => bytes,
            Received::Nothing => return Ok(()),
            Received::Closed(None) => {
                return Err(Error::Server("the server closed the connection".to_owned()));
            }
            Received::Closed(Some(error)) => {
                return Err(Error::io("the connection broke", error));
            }
        };
        self.last_sign_ns = now_ns;
        let Some(input) = self.connection.join(&scratch[..bytes]) else { return Ok(()) };
        let (consumed, bytes_min) = self.replies(&input)?;
        self.connection.keep(input, consumed, bytes_min);
        Ok(())
    }

    /// Handles the whole replies at the start of `input`; returns how many bytes they take, and
    /// how many the torn one after them must have.
    fn replies(&mut self, input: &[u8]) -> Result<(usize, usize), Error> {
        let mut at = 0;
        while at < input.len() {
            let rest = &input[at..];
            let ask = self.connection.front().map(Pending::ask);
            let parsed = match ask {
                Some(ask) => self.codec.parse(ask, rest),
                None => Parsed::Broken("the server sent what nobody asked for"),
            };
            match parsed {
                Parsed::Complete { reply, consumed } => {
                    at += consumed;
                    if let Some(pending) = self.connection.pop() {
                        // The reply borrows `input`, which is not part of `self`.
                        self.reply(pending, reply);
                    }
                }
                Parsed::Incomplete { bytes_min } => return Ok((at, bytes_min)),
                Parsed::Broken(why) => {
                    let shown = rest[..rest.len().min(80)].escape_ascii();
                    return Err(Error::Server(format!("{why}: {shown}")));
                }
            }
        }
        Ok((at, 0))
    }

    fn reply(&mut self, request: Pending, reply: Reply<'_>) {
        let key = u64::from(request.key);
        if request.op == Op::Get {
            self.unresolved[request.key as usize] = false;
            self.reads_in_flight -= 1;
            self.report.requests += 1;
            let bytes = self.verifier.likely_bytes(key) as u64;
            self.report.requested_bytes += bytes;
            if let Reply::Hit { .. } = reply {
                self.report.hits += 1;
                self.report.hit_bytes += bytes;
            }
        }
        match reply {
            Reply::Hit { key: named, value } => self.judge(&request, named, value),
            Reply::Miss => {
                let stamp = self.verifier.before_write(key);
                let fill = pending(request.key, Op::Set, stamp);
                let (codec, values) = (&self.codec, self.verifier.values());
                self.connection.push(fill, |out| codec.append_set(key, stamp, values, out));
            }
            // No increments are sent, so the codec makes no number of any reply.
            Reply::Count(_) => {}
            Reply::Done => {
                let stamp = Stamp { version: request.version, base: request.base };
                self.verifier.written(key, stamp, false, self.last_sign_ns);
                self.report.fills += 1;
            }
            Reply::Error(text) => {
                if request.op != Op::Get {
                    self.verifier.refused(key);
                }
                self.report.errors += 1;
                note(&mut self.report, || format!("the server said: {}", text.escape_ascii()));
            }
        }
    }

    fn judge(&mut self, request: &Pending, named: Option<&[u8]>, value: &[u8]) {
        let (key, keys) = (u64::from(request.key), self.codec.keys());
        let verdict = match named {
            Some(named) => self.verifier.named(keys, key, named),
            None => Ok(()),
        }
        .and_then(|()| {
            let asked = Asked { floor: request.version, issued_ns: request.issued_ns };
            self.verifier.read(keys, key, asked, value)
        });
        if let Err(wrong) = verdict {
            self.report.wrong += 1;
            if self.report.wrong_values.len() < WRONG_KEPT_MAX {
                self.report.wrong_values.push(*wrong);
            }
        }
    }
}

fn pending(key: u32, op: Op, stamp: Stamp) -> Pending {
    let class = if op == Op::Get { Class::Get } else { Class::Fill };
    let (version, base) = (stamp.version, stamp.base);
    Pending { version, base, ..Pending::new(op, class, u64::from(key)) }
}

fn cannot_wait(error: std::io::Error) -> Error {
    Error::io("cannot wait for replies", error)
}

#[cold]
fn note(report: &mut ReplayReport, text: impl FnOnce() -> String) {
    if report.first_error.is_none() {
        report.first_error = Some(text());
    }
}

/// Prints a line per second.
struct Meter {
    start_ns: u64,
    next_ns: u64,
    requests: u64,
}

impl Meter {
    fn new(start_ns: u64) -> Meter {
        Meter { start_ns, next_ns: start_ns + 1_000_000_000, requests: 0 }
    }

    fn tick(&mut self, now_ns: u64, report: &ReplayReport) {
        if now_ns < self.next_ns {
            return;
        }
        self.next_ns = now_ns + 1_000_000_000;
        let second = (now_ns - self.start_ns) / 1_000_000_000;
        let rate = report.requests - self.requests;
        let hits = 100.0 * report.hits as f64 / report.requests.max(1) as f64;
        self.requests = report.requests;
        // A closed standard error must not end the replay.
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!(
                "replay {second:>4} s  {rate:>9} requests/s  hits {hits:.2} %  errors {}\n",
                report.errors
            ),
        );
    }
}

/// The name of a trace file without folder and endings, for the report.
#[must_use]
pub fn trace_name(path: &Path) -> String {
    let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    name.strip_suffix(".ctr.zst").unwrap_or(&name).to_owned()
}
