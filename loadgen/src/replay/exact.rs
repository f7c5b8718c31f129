//! The exact replay: one connection, and nothing overtakes what must come first.
//!
//! The parent module says which order is kept.

use super::{ReplayReport, WRONG_KEPT_MAX};
use crate::conn::{Connection, Pending, Received};
use crate::error::Error;
use crate::ledger::Stamp;
use crate::protocol::{Codec, Op, Parsed, Reply};
use crate::recorder::Class;
use crate::report::Verdict;
use crate::sys::{Epoll, Event, Wait, monotonic_ns, thread_cpu_ns};
use crate::trace::TraceOp;
use crate::verify::{Asked, Verifier};
use crate::worker::SILENCE_NS_MAX;

/// Size of the buffer to receive into.
const SCRATCH_BYTES: usize = 256 * 1024;
/// Longest single wait, so that the silence of a server is noticed.
const WAIT_NS_MAX: u64 = 100_000_000;

/// A replay under way.
pub(super) struct Replayer<'a> {
    pub(super) keys: &'a [u32],
    /// What each request does; all of them read if `None`.
    pub(super) ops: Option<&'a [TraceOp]>,
    pub(super) pipeline: usize,
    /// Whether a read that misses is followed by a write.
    pub(super) fills: bool,
    pub(super) codec: Codec,
    pub(super) verifier: Verifier,
    pub(super) connection: Connection,
    /// Whether a read of the key is in flight.
    pub(super) unresolved: Vec<bool>,
    pub(super) report: ReplayReport,
    pub(super) at: At,
}

/// How far it has come.
#[derive(Debug, Default)]
pub(super) struct At {
    next: usize,
    in_flight: usize,
    last_sign_ns: u64,
}

impl Replayer<'_> {
    /// Replays everything.
    ///
    /// # Errors
    /// As [`super::replay`].
    pub(super) fn run(mut self, progress: bool) -> Result<ReplayReport, Error> {
        let mut epoll = Epoll::new().map_err(cannot_wait)?;
        epoll.add(self.connection.fd(), 0).map_err(cannot_wait)?;
        let cpu_from_ns = thread_cpu_ns();
        let start_ns = monotonic_ns();
        self.at.last_sign_ns = start_ns;
        let mut scratch = vec![0; SCRATCH_BYTES];
        let mut events: Vec<Event> = Vec::new();
        let mut meter = progress.then(|| Meter::new(start_ns));
        loop {
            self.issue(monotonic_ns());
            self.flush(&epoll)?;
            if self.at.next == self.keys.len() && self.connection.outstanding() == 0 {
                break;
            }
            epoll.wait(&mut events, Wait::AtMostNs(WAIT_NS_MAX)).map_err(cannot_wait)?;
            let now_ns = monotonic_ns();
            if events.iter().any(|event| event.readable) {
                self.receive(&mut scratch, now_ns)?;
            } else if now_ns - self.at.last_sign_ns > SILENCE_NS_MAX {
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

    /// Sends requests in the order of the trace, up to the first that must wait.
    fn issue(&mut self, now_ns: u64) {
        while self.at.in_flight < self.pipeline && self.connection.has_room(usize::MAX) {
            let Some(&key) = self.keys.get(self.at.next) else { return };
            let number = u64::from(key);
            let op = self.ops.map_or(TraceOp::Read, |ops| ops[self.at.next]);
            // A fill that this read may still cause comes before any later request of its key.
            if self.unresolved[key as usize] {
                return;
            }
            let codec = &self.codec;
            match op {
                TraceOp::Read => {
                    self.unresolved[key as usize] = true;
                    let floor = self.verifier.before_read(number);
                    let stamp = Stamp { version: floor, base: 0 };
                    let mut read = pending(key, Op::Get, Class::Get, stamp);
                    read.issued_ns = now_ns;
                    self.connection.push(read, |out| codec.append_get(number, out));
                }
                TraceOp::Write => {
                    let stamp = self.verifier.before_write(number);
                    let values = self.verifier.values();
                    let write = pending(key, Op::Set, Class::Set, stamp);
                    self.connection.push(write, |out| codec.append_set(number, stamp, values, out));
                }
                TraceOp::Delete => {
                    let stamp = self.verifier.before_write(number);
                    let delete = pending(key, Op::Delete, Class::Delete, stamp);
                    self.connection.push(delete, |out| codec.append_delete(number, out));
                }
            }
            self.at.in_flight += 1;
            self.at.next += 1;
        }
    }

    fn flush(&mut self, epoll: &Epoll) -> Result<(), Error> {
        self.connection.flush().map_err(|error| Error::io("cannot send", error))?;
        let blocked = self.connection.unsent_bytes() > 0;
        if blocked != self.connection.writes_watched {
            self.connection.writes_watched = blocked;
            epoll.watch_writes(self.connection.fd(), 0, blocked).map_err(cannot_wait)?;
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
        self.at.last_sign_ns = now_ns;
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
        if request.class != Class::Fill {
            self.at.in_flight -= 1;
        }
        self.count(&request, reply);
        match reply {
            Reply::Hit { key: named, value } => self.judge(&request, named, value),
            Reply::Miss if self.fills => {
                let stamp = self.verifier.before_write(key);
                let fill = pending(request.key, Op::Set, Class::Fill, stamp);
                let (codec, values) = (&self.codec, self.verifier.values());
                self.connection.push(fill, |out| codec.append_set(key, stamp, values, out));
            }
            // No increments are sent, so the codec makes no number of any reply.
            Reply::Miss | Reply::Count(_) => {}
            Reply::Done => {
                let stamp = Stamp { version: request.version, base: request.base };
                let is_delete = request.op == Op::Delete;
                self.verifier.written(key, stamp, is_delete, self.at.last_sign_ns);
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

    fn count(&mut self, request: &Pending, reply: Reply<'_>) {
        let service_ns = self.at.last_sign_ns.saturating_sub(request.sent_ns);
        let (report, done) = (&mut self.report, matches!(reply, Reply::Done));
        match request.class {
            Class::Get => {
                self.unresolved[request.key as usize] = false;
                report.requests += 1;
                let bytes = self.verifier.likely_bytes(u64::from(request.key)) as u64;
                report.requested_bytes += bytes;
                if let Reply::Hit { .. } = reply {
                    report.hits += 1;
                    report.hit_bytes += bytes;
                }
                report.read_service.saturating_record(service_ns);
                return;
            }
            Class::Fill => report.fills += u64::from(done),
            Class::Delete => report.deletes += u64::from(done),
            _ => report.writes += u64::from(done),
        }
        report.write_service.saturating_record(service_ns);
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

fn pending(key: u32, op: Op, class: Class, stamp: Stamp) -> Pending {
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
