//! Ranks with a Zipf law, for any exponent and any number of ranks.
//!
//! Invariant: a sampler over `n` ranks returns every rank in `0..n` and no other.
//!
//! Cost: 30 to 60 ns per draw (two transcendental functions), memory independent of the number of
//! ranks, no allocation.

use crate::rng::Rng;

/// Draws ranks with a Zipf law: the probability of rank `r` is proportional to `(r + 1)^-s`.
///
/// Exact for every `s >= 0`, by rejection-inversion (Hormann and Derflinger: Rejection-inversion
/// to generate variates from monotone discrete distributions, ACM TOMACS 6(3), 1996). The hat is
/// the integral of `x^-s`; a drawn area is inverted to a real number, rounded, and accepted if it
/// lies under the histogram. More than three out of four draws are accepted at once.
#[derive(Debug, Clone)]
pub(crate) struct Zipf {
    s: f64,
    count: f64,
    area_first: f64,
    area_last: f64,
    /// A rounded value no further than this above its real value is accepted without a test.
    accept_below: f64,
}

impl Zipf {
    /// A sampler over `count >= 1` ranks with exponent `s >= 0`.
    pub(crate) fn new(count: u64, s: f64) -> Zipf {
        debug_assert!(count >= 1);
        debug_assert!(s >= 0.0 && s.is_finite());
        let count = count as f64;
        Zipf {
            s,
            count,
            area_first: area(s, 1.5) - 1.0,
            area_last: area(s, count + 0.5),
            accept_below: 2.0 - area_inverse(s, area(s, 2.5) - 2.0_f64.powf(-s)),
        }
    }

    /// A rank, 0 being the most popular.
    #[inline]
    pub(crate) fn rank(&self, rng: &mut Rng) -> u64 {
        loop {
            let drawn = self.area_last + rng.unit() * (self.area_first - self.area_last);
            let real = area_inverse(self.s, drawn);
            let whole = real.round().clamp(1.0, self.count);
            if whole - real <= self.accept_below
                || drawn >= area(self.s, whole + 0.5) - whole.powf(-self.s)
            {
                return whole as u64 - 1;
            }
        }
    }
}

/// The integral of `x^-s` from 1 to `x`, stable around `s = 1` where it becomes the logarithm.
fn area(s: f64, x: f64) -> f64 {
    let log = x.ln();
    let t = (1.0 - s) * log;
    if t.abs() > 1e-8 { log * t.exp_m1() / t } else { log * (1.0 + t / 2.0) }
}

/// The inverse function of [`area`].
fn area_inverse(s: f64, y: f64) -> f64 {
    // Rounding may push the argument of the logarithm just below its domain for large s.
    let t = (y * (1.0 - s)).max(-1.0);
    let log = if t.abs() > 1e-8 { y * t.ln_1p() / t } else { y * (1.0 - t / 2.0) };
    log.exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frequencies of the leading ranks, of one middle rank and of the tail against theory.
    fn frequencies_follow_theory(count: u64, s: f64) {
        let seed = 11;
        let draws = 1_000_000_u64;
        let zipf = Zipf::new(count, s);
        let mut rng = Rng::new(seed, 0);
        let mut seen = vec![0_u64; count as usize];
        for _ in 0..draws {
            seen[zipf.rank(&mut rng) as usize] += 1;
        }
        let total: f64 = (1..=count).map(|k| (k as f64).powf(-s)).sum();
        let mut tail_expected = 1.0;
        let mut tail_seen = draws;
        for rank in 0..count.min(20) {
            let p = ((rank + 1) as f64).powf(-s) / total;
            let sigma = (draws as f64 * p * (1.0 - p)).sqrt();
            let off = seen[rank as usize] as f64 - draws as f64 * p;
            assert!(off.abs() <= 3.0 * sigma + 1.0, "seed {seed}, s {s}, rank {rank}, off {off}");
            tail_expected -= p;
            tail_seen -= seen[rank as usize];
        }
        let tail = tail_expected.max(0.0);
        let sigma = (draws as f64 * tail * (1.0 - tail)).sqrt();
        let off = tail_seen as f64 - draws as f64 * tail;
        assert!(off.abs() <= 3.0 * sigma + 1.0, "seed {seed}, s {s}, tail off {off}");
    }

    #[test]
    fn zipf_frequencies_follow_theory() {
        for s in [0.0, 0.6, 0.99, 1.0, 1.2, 2.5] {
            frequencies_follow_theory(10_000, s);
        }
        frequencies_follow_theory(1, 0.99);
        frequencies_follow_theory(2, 1.2);
        frequencies_follow_theory(3, 0.6);
    }

    #[test]
    fn a_large_key_space_and_a_steep_law_stay_in_range() {
        let mut rng = Rng::new(5, 0);
        for (count, s) in [(1_u64 << 32, 0.99), (1 << 32, 0.0), (1_000_000, 8.0), (7, 40.0)] {
            let zipf = Zipf::new(count, s);
            for _ in 0..20_000 {
                assert!(zipf.rank(&mut rng) < count, "count {count}, s {s}");
            }
        }
    }
}
