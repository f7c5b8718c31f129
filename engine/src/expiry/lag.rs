//! How late expired items are removed: a log-linear histogram of fixed size.
//!
//! Lags below 16 ms have a bucket each, longer ones eight buckets for each power of two, so a
//! quantile is at most an eighth above the truth. Cost: one addition a removal; 4 KiB.

const LINEAR: u64 = 16;
const PARTS_BITS: u32 = 3;
const BUCKETS: usize = LINEAR as usize + (64 - LINEAR.ilog2() as usize) * (1 << PARTS_BITS);

/// A summary of the lags so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct LagSummary {
    pub(crate) count: u64,
    pub(crate) p50_ms: u64,
    pub(crate) p99_ms: u64,
    pub(crate) max_ms: u64,
}

/// Lags between deadline and removal, in milliseconds.
#[derive(Clone, Debug)]
pub struct ExpiryLags {
    counts: [u64; BUCKETS],
    count: u64,
    max_ms: u64,
}

impl ExpiryLags {
    pub(super) fn new() -> ExpiryLags {
        ExpiryLags { counts: [0; BUCKETS], count: 0, max_ms: 0 }
    }

    /// Counts one removal.
    #[inline]
    pub(super) fn record(&mut self, lag_ms: u64) {
        self.counts[bucket_of(lag_ms)] += 1;
        self.count += 1;
        self.max_ms = self.max_ms.max(lag_ms);
    }

    /// Adds the lags of another shard: one pass over the buckets.
    pub fn add(&mut self, other: &ExpiryLags) {
        for (sum, count) in self.counts.iter_mut().zip(&other.counts) {
            *sum += count;
        }
        self.count += other.count;
        self.max_ms = self.max_ms.max(other.max_ms);
    }

    /// Median, 99th percentile and maximum: one pass over the buckets.
    pub(crate) fn summary(&self) -> LagSummary {
        let mut summary =
            LagSummary { count: self.count, max_ms: self.max_ms, ..Default::default() };
        let (half, most) = (self.count.div_ceil(2), self.count - self.count / 100);
        let mut seen = 0;
        for (bucket, &count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let last_ms = last_of(bucket).min(self.max_ms);
            if seen < half {
                summary.p50_ms = last_ms;
            }
            if seen < most {
                summary.p99_ms = last_ms;
            }
            seen += count;
        }
        summary
    }
}

fn bucket_of(lag_ms: u64) -> usize {
    if lag_ms < LINEAR {
        return lag_ms as usize;
    }
    let power = lag_ms.ilog2();
    let part = lag_ms >> (power - PARTS_BITS) & ((1 << PARTS_BITS) - 1);
    (LINEAR + (u64::from(power - LINEAR.ilog2()) << PARTS_BITS) + part) as usize
}

/// The longest lag of a bucket.
fn last_of(bucket: usize) -> u64 {
    let Some(above) = (bucket as u64).checked_sub(LINEAR) else { return bucket as u64 };
    let power = (above >> PARTS_BITS) as u32 + LINEAR.ilog2();
    let part = above & ((1 << PARTS_BITS) - 1);
    let width = 1 << (power - PARTS_BITS);
    (1 << power) + part * width + (width - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_cover_all_lags_in_order_within_an_eighth() {
        let mut before = 0;
        for lag in (0..2_000).chain((11..64).flat_map(|bits| [(1 << bits) - 1, 1 << bits])) {
            let bucket = bucket_of(lag);
            assert!(bucket >= before && bucket < BUCKETS);
            before = bucket;
            assert!(last_of(bucket) >= lag && last_of(bucket) - lag <= lag / 8, "{lag}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(last_of(BUCKETS - 1), u64::MAX);
    }

    #[test]
    fn quantiles_are_those_of_the_recorded_lags() {
        let mut lags = ExpiryLags::new();
        assert_eq!(lags.summary(), LagSummary::default());
        for lag in 1..=200 {
            lags.record(lag % 4);
        }
        lags.record(1_000);
        lags.record(5_000);
        lags.record(6_000);
        let summary = lags.summary();
        assert_eq!((summary.count, summary.p50_ms, summary.max_ms), (203, 2, 6_000));
        assert!((1_000..=1_125).contains(&summary.p99_ms), "{summary:?}");
        let mut others = ExpiryLags::new();
        (0..10_000).for_each(|_| others.record(7));
        others.add(&lags);
        let joined = others.summary();
        assert_eq!((joined.count, joined.p50_ms, joined.max_ms), (10_203, 7, 6_000));
    }
}
