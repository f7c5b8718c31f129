//! What a worker writes down: three histograms and the counters of each class of requests.
//!
//! - *response* = done - intended: what a user who wanted to send at the intended time waited.
//! - *service* = done - sent: what the server and the network took.
//! - *lag* = sent - intended: how late this tool (or a full pipeline) sent.
//!
//! *Sent* is the return of the `send` that took the last byte. On loopback that call also carries
//! the packet to the server and wakes it, so a part of the server's time shows in the lag there.
//! The response time, from end to end, does not depend on where that border lies.
//!
//! Histograms reach from 1 ns to 100 s with 3 significant digits. A longer time is counted as 100 s
//! and in `out_of_range`, which the report shows.
//!
//! Cost: about 20 ns per request; 230 KB per histogram, of which a run touches a few pages. Each
//! worker has its own and hands it over once per second ([`crate::series`]): no lock, no sharing.

use hdrhistogram::Histogram;

/// Longest time that a histogram holds.
pub(crate) const TRACKED_NS_MAX: u64 = 100_000_000_000;

/// The classes of requests that are reported apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Reads.
    Get,
    /// Writes of the mix.
    Set,
    /// Deletes of the mix.
    Delete,
    /// New lifetimes of the mix.
    Touch,
    /// Writes after a miss, in read-through mode, and counters that are set up; due when the miss
    /// arrived.
    Fill,
    /// Increments of the mix.
    Incr,
}

impl Class {
    /// All classes in the order of the report.
    pub const ALL: [Class; 6] =
        [Class::Get, Class::Set, Class::Delete, Class::Touch, Class::Fill, Class::Incr];

    /// The name used in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Class::Get => "get",
            Class::Set => "set",
            Class::Delete => "delete",
            Class::Touch => "touch",
            Class::Fill => "fill",
            Class::Incr => "incr",
        }
    }
}

/// Makes an empty histogram of the form used everywhere here.
pub(crate) fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, TRACKED_NS_MAX, 3).expect("constant bounds are valid")
}

/// The measurements of one class.
#[derive(Debug, Clone)]
pub struct ClassRecord {
    /// Nanoseconds from the intended send time to the last byte of the reply.
    pub response: Histogram<u64>,
    /// Nanoseconds from the actual send time to the last byte of the reply.
    pub service: Histogram<u64>,
    /// Nanoseconds from the intended to the actual send time.
    pub lag: Histogram<u64>,
    /// Keys of reads that had a value.
    pub hits: u64,
    /// Keys of reads that had none.
    pub misses: u64,
    /// Requests that the server refused, or never answered.
    pub errors: u64,
    /// Bytes of the values that reads returned.
    pub hit_bytes: u64,
    /// Bytes that the missed reads would have returned.
    pub miss_bytes: u64,
    /// Times above 100 s, recorded as 100 s.
    pub out_of_range: u64,
}

impl ClassRecord {
    pub(crate) fn new() -> ClassRecord {
        ClassRecord {
            response: empty_histogram(),
            service: empty_histogram(),
            lag: empty_histogram(),
            hits: 0,
            misses: 0,
            errors: 0,
            hit_bytes: 0,
            miss_bytes: 0,
            out_of_range: 0,
        }
    }

    /// Number of requests recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.response.len()
    }

    /// Records the three times of one request.
    #[inline]
    pub(crate) fn record(&mut self, intended_ns: u64, sent_ns: u64, done_ns: u64) {
        let response_ns = done_ns.saturating_sub(intended_ns);
        self.out_of_range += u64::from(response_ns > TRACKED_NS_MAX);
        self.response.saturating_record(response_ns);
        self.service.saturating_record(done_ns.saturating_sub(sent_ns));
        self.lag.saturating_record(sent_ns.saturating_sub(intended_ns));
    }

    /// Whether nothing has been written down.
    pub(crate) fn is_untouched(&self) -> bool {
        self.response.is_empty() && self.hits + self.misses + self.errors == 0
    }

    fn clear(&mut self) {
        self.response.reset();
        self.service.reset();
        self.lag.reset();
        (self.hits, self.misses, self.errors) = (0, 0, 0);
        (self.hit_bytes, self.miss_bytes, self.out_of_range) = (0, 0, 0);
    }

    pub(crate) fn merge(&mut self, other: &ClassRecord) {
        for (into, from) in [
            (&mut self.response, &other.response),
            (&mut self.service, &other.service),
            (&mut self.lag, &other.lag),
        ] {
            into.add(from).expect("all histograms have the same bounds");
        }
        self.hits += other.hits;
        self.misses += other.misses;
        self.errors += other.errors;
        self.hit_bytes += other.hit_bytes;
        self.miss_bytes += other.miss_bytes;
        self.out_of_range += other.out_of_range;
    }
}

/// What went to one target, without the fills.
#[derive(Debug, Clone)]
pub struct LaneRecord {
    /// Nanoseconds from the intended send time to the last byte of the reply.
    pub response: Histogram<u64>,
    /// Requests that the target refused, or never answered.
    pub errors: u64,
}

impl LaneRecord {
    pub(crate) fn new() -> LaneRecord {
        LaneRecord { response: empty_histogram(), errors: 0 }
    }

    pub(crate) fn merge(&mut self, other: &LaneRecord) {
        self.response.add(&other.response).expect("all histograms have the same bounds");
        self.errors += other.errors;
    }
}

/// The measurements of all classes.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    classes: Vec<ClassRecord>,
}

impl Recorder {
    pub(crate) fn new() -> Recorder {
        Recorder { classes: Class::ALL.iter().map(|_| ClassRecord::new()).collect() }
    }

    #[inline]
    pub(crate) fn class(&mut self, class: Class) -> &mut ClassRecord {
        &mut self.classes[class as usize]
    }

    pub(crate) fn merge(&mut self, other: &Recorder) {
        for (into, from) in self.classes.iter_mut().zip(&other.classes) {
            if !from.is_untouched() {
                into.merge(from);
            }
        }
    }

    /// The classes in the order of [`Class::ALL`].
    pub(crate) fn classes(&self) -> &[ClassRecord] {
        &self.classes
    }

    /// Forgets everything; the memory stays.
    pub(crate) fn clear(&mut self) {
        for record in self.classes.iter_mut().filter(|record| !record.is_untouched()) {
            record.clear();
        }
    }

    /// The classes in the order of [`Class::ALL`].
    pub(crate) fn into_classes(self) -> Vec<ClassRecord> {
        self.classes
    }
}

/// The value of quantile `q`, or `None` if fewer than 10 samples lie beyond it.
///
/// A quantile with fewer samples beyond it is decided by single events and would not repeat.
#[must_use]
pub fn quantile_ns(histogram: &Histogram<u64>, q: f64) -> Option<u64> {
    let beyond = histogram.len() as f64 * (1.0 - q);
    // The subtraction leaves a rounding error that must not refuse an exact 10.
    (beyond >= 10.0 - 1e-6).then(|| histogram.value_at_quantile(q))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_starts_at_its_own_stamp() {
        let mut record = ClassRecord::new();
        record.record(1000, 1300, 1700);
        assert_eq!(record.response.max(), 700);
        assert_eq!(record.service.max(), 400);
        assert_eq!(record.lag.max(), 300);
        assert_eq!(record.count(), 1);
    }

    #[test]
    fn times_beyond_the_range_are_counted() {
        let mut record = ClassRecord::new();
        record.record(0, 0, TRACKED_NS_MAX + 1);
        record.record(0, 0, TRACKED_NS_MAX);
        assert_eq!((record.count(), record.out_of_range), (2, 1));
    }

    #[test]
    fn a_quantile_needs_ten_samples_beyond_it() {
        let mut histogram = empty_histogram();
        for _ in 0..999 {
            histogram.record(5).expect("in range");
        }
        assert_eq!(quantile_ns(&histogram, 0.99), None);
        histogram.record(5).expect("in range");
        assert_eq!(quantile_ns(&histogram, 0.99), Some(5));
        assert_eq!(quantile_ns(&histogram, 0.999), None);
        histogram.record_n(5, 9000).expect("in range");
        assert_eq!(quantile_ns(&histogram, 0.999), Some(5));
        assert_eq!(quantile_ns(&empty_histogram(), 0.5), None);
    }

    #[test]
    fn merging_adds_everything() {
        let (mut a, mut b) = (Recorder::new(), Recorder::new());
        a.class(Class::Get).record(0, 1, 2);
        b.class(Class::Get).record(0, 1, 3);
        b.class(Class::Get).hits = 4;
        b.class(Class::Fill).errors = 1;
        a.merge(&b);
        let classes = a.clone().into_classes();
        assert_eq!((classes[0].count(), classes[0].hits, classes[4].errors), (2, 4, 1));
        a.clear();
        assert!(a.classes().iter().all(ClassRecord::is_untouched));
    }
}
