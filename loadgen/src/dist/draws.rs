//! Lengths of values and lifetimes: one draw from a distribution.
//!
//! The caller seeds the generator, so that the length of a value can be a pure function of its key
//! and version.
//!
//! Cost: up to two transcendental functions; a list a binary search. No allocation.

use crate::config::{DRAWN_BYTES_MAX, Ttl, ValueSize};
use crate::rng::Rng;

/// Shares of the lengths 0 to 14 in Facebook's ETC pool (Atikoglu et al., SIGMETRICS 2012,
/// section 5.3), in units of 10^-5.
const ETC_SHORT: [u32; 15] =
    [536, 47, 17_820, 9_239, 18, 2_740, 65, 606, 23, 837, 837, 8_989, 92, 326, 1_980];
/// Location, scale and shape of the generalized Pareto law of the longer ones, ibid.
const ETC_LONG: (f64, f64, f64) = (15.0, 214.476, 0.348238);

/// A standard normal number (Box and Muller 1958, one of the pair).
pub(super) fn normal(rng: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.unit()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.unit()).cos()
}

/// A generalized Pareto number, by inversion.
fn generalized_pareto(rng: &mut Rng, (location, scale, shape): (f64, f64, f64)) -> f64 {
    location + scale * ((1.0 - rng.unit()).powf(-shape) - 1.0) / shape
}

/// Bounds a drawn length; 0 becomes 1, because a value of this tool has at least a byte.
fn bounded(bytes: f64) -> usize {
    bytes.clamp(1.0, DRAWN_BYTES_MAX as f64) as usize
}

/// The length of a value, in bytes.
pub(crate) fn draw_size(size: &ValueSize, rng: &mut Rng) -> usize {
    match size {
        ValueSize::Range { bytes_min, bytes_max } => {
            bytes_min + rng.below((bytes_max - bytes_min + 1) as u64) as usize
        }
        ValueSize::Lognormal { median, sigma } => {
            bounded((median * (sigma * normal(rng)).exp()).round())
        }
        ValueSize::Pareto { min, alpha } => bounded(min * (1.0 - rng.unit()).powf(-1.0 / alpha)),
        ValueSize::List(list) => list.at(rng.below(list.total())) as usize,
        ValueSize::Etc => {
            let mut point = rng.below(100_000) as u32;
            for (length, &share) in ETC_SHORT.iter().enumerate() {
                if point < share {
                    return length.max(1);
                }
                point -= share;
            }
            bounded(generalized_pareto(rng, ETC_LONG))
        }
    }
}

/// A lifetime, in milliseconds.
pub(crate) fn draw_ttl_ms(ttl: &Ttl, rng: &mut Rng) -> u64 {
    let (min_ms, max_ms) = ttl.ends_ms();
    match ttl {
        Ttl::Range { .. } => min_ms + rng.below(max_ms - min_ms + 1),
        Ttl::Exponential(mean) => {
            let drawn = -(1.0 - rng.unit()).ln() * mean.as_secs_f64() * 1e3;
            (drawn.round() as u64).clamp(min_ms, max_ms)
        }
        Ttl::List(list) => list.at(rng.below(list.total())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Weighted;
    use std::time::Duration;

    const DRAWS: usize = 200_000;

    fn sizes(text: &str) -> Vec<usize> {
        let size: ValueSize = text.parse().expect("a distribution");
        let mut rng = Rng::new(23, 0);
        let mut drawn: Vec<usize> = (0..DRAWS).map(|_| draw_size(&size, &mut rng)).collect();
        drawn.sort_unstable();
        drawn
    }

    /// The share of draws up to `bytes` against the distribution function, within 4 sigma.
    fn check(drawn: &[usize], bytes: usize, expected: f64) {
        let seen = drawn.partition_point(|&length| length <= bytes) as f64 / DRAWS as f64;
        let sigma = (expected * (1.0 - expected) / DRAWS as f64).sqrt();
        assert!((seen - expected).abs() <= 4.0 * sigma, "up to {bytes}: {seen}, not {expected}");
    }

    #[test]
    fn etc_lengths_have_the_published_quantiles() {
        let drawn = sizes("etc");
        let mut sum = 0.00536;
        for (length, share) in ETC_SHORT.iter().enumerate().skip(1) {
            sum += f64::from(*share) / 1e5;
            check(&drawn, length, sum);
        }
        let short = ETC_SHORT.iter().sum::<u32>() as f64 / 1e5;
        let (location, scale, shape) = ETC_LONG;
        for bytes in [50_usize, 100, 300, 1000, 5000] {
            // A length is rounded down, so up to `bytes` means below `bytes + 1`.
            let x = (bytes + 1) as f64 - location;
            let tail = (1.0 + shape * x / scale).powf(-1.0 / shape);
            check(&drawn, bytes, short + (1.0 - short) * (1.0 - tail));
        }
        let mean = drawn.iter().sum::<usize>() as f64 / DRAWS as f64;
        let long = location + scale / (1.0 - shape);
        let small: f64 =
            ETC_SHORT.iter().enumerate().map(|(l, &s)| l as f64 * f64::from(s) / 1e5).sum();
        let expected = small + (1.0 - short) * long;
        assert!((mean / expected - 1.0).abs() < 0.03, "{mean} {expected}");
    }

    #[test]
    fn lognormal_and_pareto_have_their_quantiles() {
        let drawn = sizes("lognormal:250,0.7");
        check(&drawn, 250, 0.5 + 0.5 * (0.5_f64 / 250.0 / 0.7 * 0.7979));
        check(&drawn, (250.0 * 0.7_f64.exp()) as usize, 0.8413);
        let drawn = sizes("pareto:100,1.5");
        assert!(drawn[0] >= 100);
        check(&drawn, 199, 1.0 - 0.5_f64.powf(1.5));
        check(&drawn, 999, 1.0 - 0.1_f64.powf(1.5));
        assert!(*drawn.last().expect("draws") <= DRAWN_BYTES_MAX);
    }

    #[test]
    fn lists_ranges_and_files_have_their_shares() {
        let drawn = sizes("list:64=7,1024=2,9000=1");
        check(&drawn, 64, 0.7);
        check(&drawn, 1024, 0.9);
        assert_eq!(*drawn.last().expect("draws"), 9000);
        check(&sizes("1..1000"), 250, 0.25);
        let path = std::env::temp_dir().join(format!("pinion-sizes-{}", std::process::id()));
        std::fs::write(&path, "# bytes weight\n10 1\n\n20 3 # most\n").expect("written");
        check(&sizes(&format!("hist:{}", path.display())), 10, 0.25);
        std::fs::write(&path, "10\n").expect("written");
        let bad = format!("hist:{}", path.display()).parse::<ValueSize>();
        assert!(bad.expect_err("no weight").contains(":1: expected"));
        std::fs::remove_file(&path).expect("removed");
    }

    #[test]
    fn lifetimes_have_their_distribution() {
        let mut rng = Rng::new(5, 0);
        let mut mean = |ttl: &Ttl| {
            (0..DRAWS).map(|_| draw_ttl_ms(ttl, &mut rng)).sum::<u64>() as f64 / DRAWS as f64
        };
        assert_eq!(mean(&Ttl::fixed(Duration::from_secs(3))), 3000.0);
        let range = Ttl::Range { min: Duration::from_secs(1), max: Duration::from_secs(3) };
        assert!((mean(&range) - 2000.0).abs() < 10.0);
        assert!((mean(&Ttl::Exponential(Duration::from_secs(1))) - 1000.0).abs() < 12.0);
        let list = Weighted::new(&[(100, 1), (200, 1)], "").expect("a list");
        assert!((mean(&Ttl::List(list)) - 150.0).abs() < 1.0);
    }
}
