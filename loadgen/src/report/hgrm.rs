//! The percentile table that HdrHistogram's `plotFiles.html` and its relatives read.
//!
//! Columns `Value Percentile TotalCount 1/(1-Percentile)`, five rows per half distance to 100 %,
//! and a footer of three lines. Values are milliseconds with six digits, so that nanoseconds are
//! kept.

use std::fmt::Write;

use hdrhistogram::Histogram;

const NS_PER_MS: f64 = 1e6;
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// Writes the table of a histogram of nanoseconds.
pub(crate) fn table(histogram: &Histogram<u64>) -> String {
    let mut out = String::new();
    let _ = write!(
        out,
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut count = 0;
    for row in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        count += row.count_since_last_iteration();
        let value = row.value_iterated_to() as f64 / NS_PER_MS;
        let quantile = row.quantile_iterated_to();
        let _ = write!(out, "{value:>12.6} {quantile:>2.12} {count:>10}");
        if quantile < 1.0 {
            let _ = write!(out, " {:>14.2}", 1.0 / (1.0 - quantile));
        }
        out.push('\n');
    }
    let (buckets, sub_buckets) = shape(histogram);
    let _ = writeln!(
        out,
        "#[Mean    = {:>12.6}, StdDeviation   = {:>12.6}]",
        histogram.mean() / NS_PER_MS,
        histogram.stdev() / NS_PER_MS
    );
    let _ = writeln!(
        out,
        "#[Max     = {:>12.6}, Total count    = {:>12}]",
        histogram.max() as f64 / NS_PER_MS,
        histogram.len()
    );
    let _ = writeln!(out, "#[Buckets = {buckets:>12}, SubBuckets     = {sub_buckets:>12}]");
    out
}

/// The numbers of buckets and of sub-buckets, as HdrHistogram defines them for this range.
fn shape(histogram: &Histogram<u64>) -> (u32, u64) {
    let largest_exact = 2 * 10_u64.pow(u32::from(histogram.sigfig()));
    let sub_buckets = largest_exact.next_power_of_two();
    let mut buckets = 1;
    let mut untracked = sub_buckets.saturating_mul(histogram.low());
    while untracked <= histogram.high() {
        untracked = untracked.saturating_mul(2);
        buckets += 1;
    }
    (buckets, sub_buckets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::empty_histogram;
    use crate::rng::Rng;

    /// Reads the table as `plotFiles.html` does: rows of numbers between header and footer.
    fn rows(table: &str) -> Vec<Vec<f64>> {
        table
            .lines()
            .skip(1)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|word| word.parse().expect("number")).collect())
            .collect()
    }

    #[test]
    fn the_table_reads_back() {
        let seed = 4;
        let mut rng = Rng::new(seed, 0);
        let mut histogram = empty_histogram();
        for _ in 0..100_000 {
            let exponent = rng.unit() * 12.0;
            histogram.record(exponent.exp() as u64 + 1).expect("in range");
        }
        let table = table(&histogram);
        let rows = rows(&table);
        for (at, row) in rows.iter().enumerate() {
            let [value, quantile, count, ..] = row[..] else { panic!("seed {seed}: {row:?}") };
            let expected = histogram.value_at_quantile(quantile) as f64 / NS_PER_MS;
            assert!((value - expected).abs() <= expected * 0.002 + 1e-6, "seed {seed}: {row:?}");
            assert!(count >= quantile * 100_000.0 - 1.0);
            if at > 0 {
                assert!(rows[at - 1][0] <= value && rows[at - 1][1] <= quantile);
            }
            assert_eq!(row.len(), if quantile < 1.0 { 4 } else { 3 });
        }
        let last = rows.last().expect("rows");
        assert_eq!((last[1], last[2]), (1.0, 100_000.0));
        assert!(table.contains("Total count    =       100000]"));
        assert!(table.lines().next().expect("header").trim_start().starts_with("Value "));
    }

    #[test]
    fn the_form_is_the_usual_one() {
        let mut histogram = empty_histogram();
        histogram.record(1_500_000).expect("in range");
        let expected = "       Value     Percentile TotalCount 1/(1-Percentile)\n\n    \
            1.500159 0.000000000000          1           1.00\n    \
            1.500159 1.000000000000          1\n\
            #[Mean    =     1.499648, StdDeviation   =     0.000000]\n\
            #[Max     =     1.500159, Total count    =            1]\n\
            #[Buckets =           27, SubBuckets     =         2048]\n";
        assert_eq!(table(&histogram), expected);
    }
}
