//! The receiving half of a worker: bytes in, replies judged and recorded.
//!
//! A reply is parsed where it was received, in the worker's buffer; only one torn at the end of it
//! is copied, into the connection's own. The time of a reply is the return of the `recv` that
//! brought its last byte.

use super::{Fill, Outcome, Worker};
use crate::conn::{Pending, Received};
use crate::counters::Counted;
use crate::ledger::Stamp;
use crate::protocol::{Op, Parsed, Reply};
use crate::recorder::Class;
use crate::source::Source;
use crate::sys::monotonic_ns;
use crate::verify::{Asked, WrongValue};

/// Most wrong values that are kept in full; the others are counted.
const WRONG_KEPT_MAX: usize = 10;

impl<S: Source> Worker<'_, S> {
    /// One `recv`, and all whole replies that it brought.
    pub(super) fn receive(&mut self, index: usize) {
        if !self.connections[index].open {
            return;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        match self.connections[index].receive(&mut scratch) {
            Received::Bytes(bytes) => {
                let done_ns = monotonic_ns();
                self.last_sign_ns = done_ns;
                if let Err(why) = self.take_in(index, &scratch[..bytes], done_ns) {
                    self.give_up(index, &why);
                }
                self.leave_if_idle(index);
                self.offer(index);
            }
            Received::Nothing => {}
            Received::Closed(None) => self.give_up(index, "the server closed the connection"),
            Received::Closed(Some(error)) => {
                self.give_up(index, &format!("the connection broke: {error}"));
            }
        }
        self.scratch = scratch;
    }

    fn take_in(&mut self, index: usize, received: &[u8], done_ns: u64) -> Result<(), String> {
        let Some(input) = self.connections[index].join(received) else { return Ok(()) };
        let (consumed, bytes_min) = self.replies(index, &input, done_ns)?;
        self.connections[index].keep(input, consumed, bytes_min);
        Ok(())
    }

    /// Handles the whole replies at the start of `input`; returns how many bytes they take, and
    /// how many the torn one after them must have.
    fn replies(
        &mut self,
        index: usize,
        input: &[u8],
        done_ns: u64,
    ) -> Result<(usize, usize), String> {
        let codec = self.shared.codec;
        let mut at = 0;
        while at < input.len() {
            let rest = &input[at..];
            let Some(ask) = self.connections[index].front().map(Pending::ask) else {
                let shown = rest[..rest.len().min(80)].escape_ascii();
                return Err(format!("the server sent what nobody asked for: {shown}"));
            };
            match codec.parse(ask, rest) {
                Parsed::Complete { reply, consumed } => {
                    at += consumed;
                    if let Some(pending) = self.connections[index].pop() {
                        self.outstanding -= usize::from(pending.part.ends());
                        self.reply(index, &pending, reply, done_ns);
                        let refused = matches!(reply, Reply::Error(_)) && codec.error_ends_read();
                        if refused && !pending.part.ends() {
                            self.skip_read(index, done_ns);
                        }
                    }
                }
                Parsed::Incomplete { bytes_min } => return Ok((at, bytes_min)),
                Parsed::Broken(why) => {
                    let shown = rest[..rest.len().min(80)].escape_ascii();
                    return Err(format!("{why}: {shown}"));
                }
            }
        }
        Ok((at, 0))
    }

    /// Takes the remaining keys of a refused read off the queue.
    #[cold]
    fn skip_read(&mut self, index: usize, done_ns: u64) {
        while let Some(pending) = self.connections[index].pop() {
            if pending.part.ends() {
                self.outstanding -= 1;
                self.totals.done += 1;
                if pending.measured {
                    self.record(index, &pending, done_ns);
                }
                return;
            }
        }
    }

    fn reply(&mut self, index: usize, pending: &Pending, reply: Reply<'_>, done_ns: u64) {
        let verifier = self.shared.verifier;
        let key = u64::from(pending.key);
        let stamp = Stamp { version: pending.version, base: pending.base };
        self.totals.done += u64::from(pending.part.ends());
        let (mut hit_bytes, mut miss_bytes, mut error) = (None, None, false);
        match reply {
            Reply::Hit { key: named, value } => {
                hit_bytes = Some(value.len() as u64);
                self.judge(pending, named, value);
            }
            Reply::Miss if pending.op == Op::Incr => {
                verifier.counter_missing(key);
                self.fill_later(pending, Op::Create, done_ns);
            }
            Reply::Miss => {
                miss_bytes = Some(verifier.likely_bytes(key) as u64);
                if self.read_through {
                    self.fill_later(pending, Op::Set, done_ns);
                }
            }
            Reply::Count(number) => self.count(pending, number),
            Reply::Done if pending.op == Op::Create => {}
            Reply::Done if pending.op == Op::Touch => verifier.touched(key),
            Reply::Done => verifier.written(key, stamp, pending.op == Op::Delete, done_ns),
            Reply::Error(text) => {
                error = true;
                self.out.steering.moved += u64::from(text.starts_with(b"MOVED "));
                match pending.op {
                    Op::Get | Op::Create => {}
                    Op::Incr => verifier.counter_refused(key),
                    Op::Touch => verifier.touched(key),
                    Op::Set | Op::Delete => verifier.refused(key),
                }
                note(&mut self.out, || format!("the server said: {}", text.escape_ascii()));
            }
        }
        self.totals.hits += u64::from(hit_bytes.is_some());
        self.totals.misses += u64::from(miss_bytes.is_some());
        self.totals.errors += u64::from(error);
        if pending.measured {
            let record = self.out.recorder.class(pending.class);
            record.hits += u64::from(hit_bytes.is_some());
            record.misses += u64::from(miss_bytes.is_some());
            record.hit_bytes += hit_bytes.unwrap_or(0);
            record.miss_bytes += miss_bytes.unwrap_or(0);
            record.errors += u64::from(error);
            if error {
                self.blame(index, pending.class);
            }
            if pending.part.ends() {
                self.record(index, pending, done_ns);
            }
        }
    }

    /// Puts a write of what was missing in line.
    fn fill_later(&mut self, pending: &Pending, op: Op, done_ns: u64) {
        let (key, measured) = (u64::from(pending.key), pending.measured);
        if op != Op::Create || self.shared.codec.creates_counters() {
            self.fills.push_back(Fill { op, key, intended_ns: done_ns, measured });
        }
    }

    fn count(&mut self, pending: &Pending, number: u64) {
        let (codec, key) = (self.shared.codec, u64::from(pending.key));
        let form = codec.form(Op::Incr);
        match self.shared.verifier.counted(form, key, pending.above(), number) {
            Ok(Counted::Fits) => {}
            Ok(Counted::Restarted) => self.out.counters_restarted += 1,
            Err(wrong) => self.accuse(*wrong),
        }
    }

    fn judge(&mut self, pending: &Pending, named: Option<&[u8]>, value: &[u8]) {
        let key = u64::from(pending.key);
        let keys = self.shared.codec.keys();
        let verifier = self.shared.verifier;
        let verdict = match named {
            Some(named) => verifier.named(keys, key, named),
            None => Ok(()),
        }
        .and_then(|()| {
            let asked = Asked { floor: pending.version, issued_ns: pending.issued_ns };
            verifier.read(keys, key, asked, value)
        });
        if let Err(wrong) = verdict {
            self.accuse(*wrong);
        }
    }

    #[cold]
    fn accuse(&mut self, wrong: WrongValue) {
        self.out.wrong_count += 1;
        if self.out.wrong.len() < WRONG_KEPT_MAX {
            self.out.wrong.push(wrong);
        }
        self.shared.stop(super::Stop::Wrong);
    }

    /// Counts an error of a measured request against its target.
    #[cold]
    pub(super) fn blame(&mut self, index: usize, class: Class) {
        if let Some(lane) = self.out.lanes.get_mut(self.connections[index].lane)
            && class != Class::Fill
        {
            lane.errors += 1;
        }
    }

    /// Writes down the times of a measured request.
    #[inline]
    pub(super) fn record(&mut self, index: usize, pending: &Pending, done_ns: u64) {
        // A refusal can arrive before the last byte of the request has been accepted.
        let sent_ns = if pending.sent_ns == 0 { done_ns } else { pending.sent_ns };
        self.out.recorder.class(pending.class).record(pending.intended_ns, sent_ns, done_ns);
        if pending.class != Class::Fill {
            self.out.last_sent_ns = self.out.last_sent_ns.max(sent_ns);
            if let Some(lane) = self.out.lanes.get_mut(self.connections[index].lane) {
                lane.response.saturating_record(done_ns.saturating_sub(pending.intended_ns));
            }
        }
        self.out.last_done_ns = self.out.last_done_ns.max(done_ns);
    }
}

/// Keeps the first error.
#[cold]
pub(super) fn note(out: &mut Outcome, text: impl FnOnce() -> String) {
    if out.first_error.is_none() {
        out.first_error = Some(text());
    }
}
