//! The judgement over what a read returned: is the value whole, the right one, and not too old?
//!
//! Puts together the values (what a value says about itself) and the ledger (what the run knows).
//! A miss is always allowed: the server is a cache.
//!
//! Cost per read: two loads of one word of the ledger and the check of the value. A wrong value
//! builds its message on the heap; that ends the run or counts against it.

use std::fmt;

use crate::config::Verify;
use crate::counters::{Counted, CounterFlaw, Counters};
use crate::error::Error;
use crate::expiry::Expiry;
use crate::keys::KeyFormat;
use crate::ledger::{Ledger, Stamp};
use crate::value::{Flaw, Origin, Values};

/// A value that the server must not have returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongValue {
    /// The key that was asked for.
    pub key: String,
    /// What kind of wrong it is.
    pub kind: WrongKind,
    /// What would have been right.
    pub expected: String,
    /// What came instead.
    pub got: String,
}

/// The ways in which a value can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongKind {
    /// It was not written by this tool.
    NotOurs,
    /// It was written with another seed.
    OtherSeed,
    /// It belongs to another key.
    OtherKey,
    /// It is shorter or longer than it was written.
    Length,
    /// Some of its bytes are not those that were written.
    Damaged,
    /// It was overwritten by a write that had been acknowledged before the read was sent.
    Stale,
    /// It was deleted by a delete that had been acknowledged before the read was sent.
    Resurrected,
    /// It had expired before the read was sent.
    Expired,
    /// Its version has not been sent yet.
    FromTheFuture,
    /// A counter is not above what it was before the increment was sent.
    CounterBack,
    /// A counter is above what all increments together can have reached.
    CounterSkipped,
    /// Several increments brought the same number: some of them were lost.
    CounterLost,
}

impl WrongKind {
    /// The name used in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            WrongKind::NotOurs => "not a value of this tool",
            WrongKind::OtherSeed => "value of another seed",
            WrongKind::OtherKey => "value of another key",
            WrongKind::Length => "wrong length",
            WrongKind::Damaged => "damaged value",
            WrongKind::Stale => "stale value",
            WrongKind::Resurrected => "deleted value came back",
            WrongKind::Expired => "expired value",
            WrongKind::FromTheFuture => "version that was never sent",
            WrongKind::CounterBack => "counter went back",
            WrongKind::CounterSkipped => "counter skipped a number",
            WrongKind::CounterLost => "increments were lost",
        }
    }
}

impl fmt::Display for WrongValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, key) = (self.kind.name(), &self.key);
        write!(f, "{kind}: key {key}, expected {}, got {}", self.expected, self.got)
    }
}

/// Checks the reads of one run; shared by its workers.
pub(crate) struct Verifier {
    values: Values,
    level: Verify,
    /// Absent if nothing is checked, so that such a run does not pay for it.
    ledger: Option<Ledger>,
    /// Absent if nothing expires, or nothing is checked.
    expiry: Option<Expiry>,
    /// Absent if nothing is counted, or nothing is checked.
    counters: Option<Counters>,
}

/// What a read knew when it was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// From [`Verifier::before_read`].
    pub(crate) floor: u32,
    /// The time before it was sent, in nanoseconds.
    pub(crate) issued_ns: u64,
}

impl Verifier {
    /// A verifier over `keys` keys that this run has not written yet.
    ///
    /// # Errors
    /// [`Error::Usage`] if the machine has no memory for the versions of so many keys.
    pub(crate) fn new(values: Values, level: Verify, keys: u64) -> Result<Verifier, Error> {
        let no_memory = |_| {
            let mib = keys >> 17;
            Error::Usage(format!("{keys} keys: no {mib} MiB of memory to remember their versions"))
        };
        let checks = level != Verify::Off;
        let ledger = if checks { Some(Ledger::new(keys).map_err(no_memory)?) } else { None };
        let expiry = match values.ttl_step_ms() {
            Some(step_ms) if checks => Some(Expiry::new(keys, step_ms).map_err(no_memory)?),
            _ => None,
        };
        Ok(Verifier { values, level, ledger, expiry, counters: None })
    }

    /// The same verifier with `keys` counters.
    ///
    /// # Errors
    /// [`Error::Usage`] if the machine has no memory for them.
    pub(crate) fn with_counters(mut self, keys: u64) -> Result<Verifier, Error> {
        if self.level != Verify::Off {
            let counters = Counters::new(keys).map_err(|_| {
                Error::Usage(format!("{keys} counters: no memory to remember their numbers"))
            })?;
            self.counters = Some(counters);
        }
        Ok(self)
    }

    /// To be called right before an increment is sent; the result goes to [`Verifier::counted`].
    pub(crate) fn before_incr(&self, key: u64) -> u64 {
        self.counters.as_ref().map_or(0, |counters| counters.before(key))
    }

    /// Judges the number that an increment brought; `above` is from [`Verifier::before_incr`].
    ///
    /// # Errors
    /// The complete description of a wrong number.
    pub(crate) fn counted(
        &self,
        keys: &KeyFormat,
        key: u64,
        above: u64,
        number: u64,
    ) -> Result<Counted, Box<WrongValue>> {
        let Some(counters) = &self.counters else { return Ok(Counted::Fits) };
        counters.counted(key, above, number).map_err(|flaw| {
            let (kind, expected) = match flaw {
                CounterFlaw::Back { above } => {
                    (WrongKind::CounterBack, format!("{}, or 1 again", above + 1))
                }
                CounterFlaw::Skipped { at_most } => {
                    (WrongKind::CounterSkipped, format!("at most {at_most}"))
                }
                CounterFlaw::Lost { expected } => {
                    (WrongKind::CounterLost, format!("{expected} after as many increments"))
                }
            };
            let got = number.to_string();
            Box::new(WrongValue { key: keys.text(key), kind, expected, got })
        })
    }

    /// The server answered an increment with the absence of the counter.
    pub(crate) fn counter_missing(&self, key: u64) {
        if let Some(counters) = &self.counters {
            counters.missing(key);
        }
    }

    /// The server refused an increment.
    pub(crate) fn counter_refused(&self, key: u64) {
        if let Some(counters) = &self.counters {
            counters.refused(key);
        }
    }

    /// The values of the run.
    pub(crate) fn values(&self) -> &Values {
        &self.values
    }

    /// To be called right before a write is sent.
    #[inline]
    pub(crate) fn before_write(&self, key: u64) -> Stamp {
        self.ledger.as_ref().map_or(Stamp { version: 1, base: 1 }, |ledger| ledger.issue(key))
    }

    /// The server acknowledged the write, at `done_ns`.
    #[inline]
    pub(crate) fn written(&self, key: u64, stamp: Stamp, is_delete: bool, done_ns: u64) {
        if let Some(ledger) = &self.ledger {
            ledger.acknowledge(key, stamp, is_delete);
        }
        if let Some(expiry) = &self.expiry
            && !is_delete
            && let Some(ttl_ms) = self.values.ttl_ms(key, stamp.version)
        {
            expiry.written(key, stamp.version, done_ns, ttl_ms);
        }
    }

    /// To be called right before a touch is sent; returns the lifetime that it gives.
    pub(crate) fn before_touch(&self, key: u64) -> u64 {
        if let Some(expiry) = &self.expiry {
            expiry.before_touch(key);
        }
        let newest = self.ledger.as_ref().map_or(1, |ledger| ledger.newest(key));
        // A lifetime of its own, not the one that the write had.
        self.values.ttl_ms(key, newest | 1 << 31).unwrap_or(1)
    }

    /// The server answered a touch, in whatever way.
    pub(crate) fn touched(&self, key: u64) {
        if let (Some(expiry), Some(ledger)) = (&self.expiry, &self.ledger) {
            expiry.touched(key, ledger.newest(key));
        }
    }

    /// The server answered the write with an error.
    pub(crate) fn refused(&self, key: u64) {
        if let Some(ledger) = &self.ledger {
            ledger.give_up(key);
        }
    }

    /// To be called right before a read is sent; the result goes to [`Verifier::read`].
    #[inline]
    pub(crate) fn before_read(&self, key: u64) -> u32 {
        self.ledger.as_ref().map_or(0, |ledger| ledger.floor(key))
    }

    /// Bytes that a read of `key` would have returned, had it hit.
    #[inline]
    pub(crate) fn likely_bytes(&self, key: u64) -> usize {
        let newest = self.ledger.as_ref().map_or(1, |ledger| ledger.newest(key));
        self.values.size_bytes(key, newest.max(1))
    }

    /// Judges the value that a read returned.
    ///
    /// # Errors
    /// The complete description of a wrong value.
    #[inline]
    pub(crate) fn read(
        &self,
        keys: &KeyFormat,
        key: u64,
        Asked { floor, issued_ns }: Asked,
        data: &[u8],
    ) -> Result<(), Box<WrongValue>> {
        let Some(ledger) = &self.ledger else { return Ok(()) };
        match self.values.check(key, data, self.level) {
            Ok(Origin::ThisRun(stamp)) => {
                if stamp.version < floor || stamp.version > ledger.newest(key) {
                    return Err(self.wrong_version(keys, key, floor, stamp));
                }
                ledger.seen(key, stamp);
                match &self.expiry {
                    Some(expiry) => expiry
                        .check(key, stamp.version, issued_ns)
                        .map_err(|late_ms| self.expired(keys, key, stamp, late_ms)),
                    None => Ok(()),
                }
            }
            Ok(Origin::OtherRun) if floor > 0 => Err(self.before_this_run(keys, key, floor)),
            Ok(Origin::OtherRun | Origin::Unknown) => Ok(()),
            Err(flaw) => Err(self.flawed(keys, key, data, flaw)),
        }
    }

    /// Judges the key that a reply names.
    ///
    /// # Errors
    /// The complete description, if it is not the key that was asked for.
    #[inline]
    pub(crate) fn named(
        &self,
        keys: &KeyFormat,
        key: u64,
        named: &[u8],
    ) -> Result<(), Box<WrongValue>> {
        if self.level == Verify::Off || keys.matches(key, named) {
            return Ok(());
        }
        let got = format!("a reply for key {}", named.escape_ascii());
        let expected = "a reply for this key".to_owned();
        Err(Box::new(WrongValue { key: keys.text(key), kind: WrongKind::OtherKey, expected, got }))
    }

    #[cold]
    fn wrong_version(
        &self,
        keys: &KeyFormat,
        key: u64,
        floor: u32,
        stamp: Stamp,
    ) -> Box<WrongValue> {
        let newest = self.ledger.as_ref().map_or(0, |ledger| ledger.newest(key));
        let (kind, expected) = if stamp.version > newest {
            (WrongKind::FromTheFuture, format!("a version up to {newest}"))
        } else {
            self.too_old(key, floor)
        };
        let got = format!("version {}", stamp.version);
        Box::new(WrongValue { key: keys.text(key), kind, expected, got })
    }

    #[cold]
    fn expired(&self, keys: &KeyFormat, key: u64, stamp: Stamp, late_ms: u64) -> Box<WrongValue> {
        let expected = "a miss, or a later version".to_owned();
        let version = stamp.version;
        let got = format!("version {version}, {late_ms} ms after its deadline");
        Box::new(WrongValue { key: keys.text(key), kind: WrongKind::Expired, expected, got })
    }

    #[cold]
    fn before_this_run(&self, keys: &KeyFormat, key: u64, floor: u32) -> Box<WrongValue> {
        let (kind, expected) = self.too_old(key, floor);
        let got = "a value of an earlier run".to_owned();
        Box::new(WrongValue { key: keys.text(key), kind, expected, got })
    }

    fn too_old(&self, key: u64, floor: u32) -> (WrongKind, String) {
        if self.ledger.as_ref().is_some_and(|ledger| ledger.floor_is_delete(key)) {
            (WrongKind::Resurrected, format!("a miss, deleted as version {floor}"))
        } else {
            (WrongKind::Stale, format!("version {floor} or later, or a miss"))
        }
    }

    #[cold]
    fn flawed(&self, keys: &KeyFormat, key: u64, data: &[u8], flaw: Flaw) -> Box<WrongValue> {
        let got_bytes = format!("{} bytes: {}", data.len(), preview(data));
        let (kind, expected, got) = match flaw {
            Flaw::NotOurs => (WrongKind::NotOurs, "a value with our header".to_owned(), got_bytes),
            Flaw::OtherSeed => {
                let expected = "a value of this run's seed (use that seed, or an empty server)";
                (WrongKind::OtherSeed, expected.to_owned(), got_bytes)
            }
            Flaw::HeaderDamaged => {
                (WrongKind::Damaged, "a header with its check sum".to_owned(), got_bytes)
            }
            Flaw::OtherKey(owner) => (
                WrongKind::OtherKey,
                "a value of this key".to_owned(),
                format!("the value of key {}", keys.text(owner)),
            ),
            Flaw::Length { expected } => {
                (WrongKind::Length, format!("{expected} bytes"), format!("{} bytes", data.len()))
            }
            Flaw::Body { offset } => (
                WrongKind::Damaged,
                "the bytes that were written".to_owned(),
                format!("another byte at offset {offset} of {}", data.len()),
            ),
        };
        Box::new(WrongValue { key: keys.text(key), kind, expected, got })
    }
}

/// The first bytes of a value in a form that a terminal can show.
fn preview(data: &[u8]) -> String {
    let shown = &data[..data.len().min(40)];
    let dots = if shown.len() < data.len() { "..." } else { "" };
    format!("\"{}\"{dots}", shown.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Protocol, Ttl, ValueSize};
    use crate::keys::RUN_PREFIX;
    use crate::value::Sizes;

    struct Bench {
        verifier: Verifier,
        keys: KeyFormat,
    }

    impl Bench {
        fn new(run: u32) -> Bench {
            Bench::with_ttl(run, None)
        }

        fn with_ttl(run: u32, ttl: Option<Ttl>) -> Bench {
            let sizes = Sizes::Drawn(ValueSize::range(48, 80));
            let values = Values::new(1, run, sizes, ttl, Protocol::Resp);
            let verifier = Verifier::new(values, Verify::Full, 10).expect("memory");
            Bench { verifier, keys: KeyFormat::new(RUN_PREFIX, 8, 10) }
        }

        fn value(&self, key: u64, stamp: Stamp) -> Vec<u8> {
            let values = self.verifier.values();
            let mut value = vec![0; values.size_bytes(key, stamp.version)];
            values.write(key, stamp, &mut value);
            value
        }

        fn write(&self, key: u64) -> Vec<u8> {
            let stamp = self.verifier.before_write(key);
            self.verifier.written(key, stamp, false, 0);
            self.value(key, stamp)
        }

        fn kind(&self, key: u64, data: &[u8]) -> Option<WrongKind> {
            self.kind_at(key, data, 0)
        }

        fn kind_at(&self, key: u64, data: &[u8], issued_ns: u64) -> Option<WrongKind> {
            let asked = Asked { floor: self.verifier.before_read(key), issued_ns };
            self.verifier.read(&self.keys, key, asked, data).err().map(|wrong| wrong.kind)
        }
    }

    #[test]
    fn each_kind_of_wrong_is_told_apart() {
        let bench = Bench::new(1);
        let old = bench.write(3);
        assert_eq!(bench.kind(3, &old), None);
        let new = bench.write(3);
        assert_eq!(bench.kind(3, &new), None);
        assert_eq!(bench.kind(3, &old), Some(WrongKind::Stale));
        assert_eq!(bench.kind(4, &new), Some(WrongKind::OtherKey));
        assert_eq!(bench.kind(3, &new[..40]), Some(WrongKind::Length));
        assert_eq!(bench.kind(3, b"hello"), Some(WrongKind::Length));
        assert_eq!(bench.kind(3, &[b'x'; 64]), Some(WrongKind::NotOurs));
        let future = bench.value(3, Stamp { version: 9, base: 9 });
        assert_eq!(bench.kind(3, &future), Some(WrongKind::FromTheFuture));
        let stamp = bench.verifier.before_write(3);
        bench.verifier.written(3, stamp, true, 0);
        assert_eq!(bench.kind(3, &new), Some(WrongKind::Resurrected));
    }

    #[test]
    fn a_value_of_an_earlier_run_is_fine_until_it_is_overwritten() {
        let before = Bench::new(1).write(2);
        let bench = Bench::new(2);
        assert_eq!(bench.kind(2, &before), None);
        let stamp = bench.verifier.before_write(2);
        assert_eq!(bench.kind(2, &before), None, "the write is not acknowledged");
        bench.verifier.written(2, stamp, false, 0);
        assert_eq!(bench.kind(2, &before), Some(WrongKind::Stale));
    }

    #[test]
    fn a_read_sent_before_the_acknowledgement_may_return_the_old_value() {
        let bench = Bench::new(1);
        let old = bench.write(5);
        let floor = bench.verifier.before_read(5);
        bench.write(5);
        let asked = Asked { floor, issued_ns: 0 };
        assert!(bench.verifier.read(&bench.keys, 5, asked, &old).is_ok());
        assert_eq!(bench.kind(5, &old), Some(WrongKind::Stale));
    }

    #[test]
    fn the_message_names_key_expected_and_got() {
        let bench = Bench::new(1);
        let value = bench.write(5);
        let asked = Asked { floor: 0, issued_ns: 0 };
        let wrong = bench.verifier.read(&bench.keys, 6, asked, &value).expect_err("another key");
        let text = wrong.to_string();
        assert!(text.contains("key:0006") && text.contains("key:0005"), "{text}");
    }
    #[test]
    fn a_value_is_expired_after_its_deadline() {
        let ttl = Ttl::fixed(std::time::Duration::from_secs(2));
        let bench = Bench::with_ttl(1, Some(ttl));
        let base_ns = crate::sys::monotonic_ns();
        let value = bench.write(5);
        let late_ns = base_ns + 3_000_000_000;
        assert_eq!(bench.kind_at(5, &value, base_ns + 1_000_000_000), None);
        assert_eq!(bench.kind_at(5, &value, late_ns), Some(WrongKind::Expired));
        bench.verifier.before_touch(5);
        assert_eq!(bench.kind_at(5, &value, late_ns), None, "it may live longer now");
    }
}
