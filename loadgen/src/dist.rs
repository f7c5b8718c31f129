//! Which key comes next.
//!
//! Zipf laws draw a *rank* (0 is the most popular), and a [`Scramble`] turns the rank into a key
//! number. Walks (`seq`, `latest`, the scans of `scan`) are shared by the workers: each takes the
//! next key of one walk.
//!
//! Cost: uniform 2 ns, Zipf 40 to 70 ns with the scramble, a walk one atomic addition; no
//! allocation.

mod draws;
mod scramble;
mod zipf;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use draws::{draw_size, draw_ttl_ms};

use crate::config::KeyDist;
use crate::protocol::Op;
use crate::rng::{Rng, mix64};
use draws::normal;
use scramble::Scramble;
use zipf::Zipf;

/// Draws of a normal distribution outside the keys after which the middle is taken: reached only
/// by deviations so large that nearly every draw is outside.
const GAUSS_TRIES_MAX: u32 = 1000;

/// Draws key numbers in `0..count` as the options say; clones share their walk.
#[derive(Debug, Clone)]
pub(crate) struct KeySampler {
    count: u64,
    hot_one: f64,
    hot_key: u64,
    law: Law,
    walk: Arc<AtomicU64>,
}

#[derive(Debug, Clone)]
enum Law {
    Uniform,
    Zipf(Zipf, Scramble),
    Hotspot { hot: u64, requests: f64, scramble: Scramble },
    Latest(Zipf),
    Gauss { deviation: f64 },
    Seq,
    Shift { zipf: Zipf, scramble: Scramble, every_ns: u64 },
    Scan { zipf: Zipf, scramble: Scramble, share: f64 },
}

impl KeySampler {
    /// The sampler of `dist` over `count >= 1` keys; `hot_one` is the share of one single key, and
    /// `seed` decides which keys are popular.
    pub(crate) fn new(dist: KeyDist, hot_one: f64, count: u64, seed: u64) -> KeySampler {
        let scramble = Scramble::new(count, mix64(seed));
        let hot_key = scramble.key(0);
        let law = match dist {
            KeyDist::Uniform => Law::Uniform,
            KeyDist::Zipf(s) => Law::Zipf(Zipf::new(count, s), scramble),
            KeyDist::Hotspot { keys, requests } => {
                let hot = ((count as f64 * keys).round() as u64).clamp(1, count);
                Law::Hotspot { hot, requests, scramble }
            }
            KeyDist::Latest(s) => Law::Latest(Zipf::new(count, s)),
            KeyDist::Gauss(sd) => Law::Gauss { deviation: count as f64 * sd },
            KeyDist::Seq => Law::Seq,
            KeyDist::Shift { s, every } => {
                let every_ns = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
                Law::Shift { zipf: Zipf::new(count, s), scramble, every_ns }
            }
            KeyDist::Scan { s, share } => Law::Scan { zipf: Zipf::new(count, s), scramble, share },
        };
        KeySampler { count, hot_one, hot_key, law, walk: Arc::default() }
    }

    /// The key of a request that does `op` and is intended `offset_ns` after the start of the run.
    #[inline]
    pub(crate) fn key(&self, rng: &mut Rng, op: Op, offset_ns: u64) -> u64 {
        if self.hot_one > 0.0 && rng.unit() < self.hot_one {
            return self.hot_key;
        }
        match &self.law {
            Law::Uniform => rng.below(self.count),
            Law::Zipf(zipf, scramble) => scramble.key(zipf.rank(rng)),
            Law::Hotspot { hot, requests, scramble } => {
                let cold = self.count - hot;
                let is_hot = cold == 0 || rng.unit() < *requests;
                scramble.key(if is_hot { rng.below(*hot) } else { hot + rng.below(cold) })
            }
            Law::Latest(zipf) => self.latest(zipf, rng, op),
            Law::Gauss { deviation } => self.gauss(*deviation, rng),
            Law::Seq => self.walk_on(),
            Law::Shift { zipf, scramble, every_ns } => {
                // Another rotation of the scrambled ranks for each period: a bijection, too.
                let turn = mix64(offset_ns / every_ns) % self.count;
                (scramble.key(zipf.rank(rng)) + turn) % self.count
            }
            Law::Scan { zipf, scramble, share } => {
                if rng.unit() < *share {
                    self.walk_on()
                } else {
                    scramble.key(zipf.rank(rng))
                }
            }
        }
    }

    fn walk_on(&self) -> u64 {
        self.walk.fetch_add(1, Ordering::Relaxed) % self.count
    }

    /// Writes go on with the walk; everything else looks back from where it is.
    fn latest(&self, zipf: &Zipf, rng: &mut Rng, op: Op) -> u64 {
        if op == Op::Set {
            return self.walk_on();
        }
        // Before the first write the last key is the latest.
        let written = self.walk.load(Ordering::Relaxed) % self.count;
        (written + self.count - 1 - zipf.rank(rng)) % self.count
    }

    fn gauss(&self, deviation: f64, rng: &mut Rng) -> u64 {
        let middle = self.count as f64 / 2.0;
        for _ in 0..GAUSS_TRIES_MAX {
            let drawn = (middle + normal(rng) * deviation).floor();
            if (0.0..self.count as f64).contains(&drawn) {
                return drawn as u64;
            }
        }
        self.count / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const DRAWS: u64 = 200_000;

    fn frequencies(dist: KeyDist, hot_one: f64, count: u64, offset_ns: u64) -> Vec<u64> {
        let sampler = KeySampler::new(dist, hot_one, count, 3);
        let mut rng = Rng::new(17, 0);
        let mut seen = vec![0; count as usize];
        for _ in 0..DRAWS {
            seen[sampler.key(&mut rng, Op::Get, offset_ns) as usize] += 1;
        }
        seen
    }

    fn near(seen: u64, share: f64) -> bool {
        let expected = DRAWS as f64 * share;
        let sigma = (expected * (1.0 - share)).sqrt();
        (seen as f64 - expected).abs() <= 5.0 * sigma + 1.0
    }

    #[test]
    fn a_hotspot_has_its_share_of_keys_and_requests() {
        let dist = KeyDist::Hotspot { keys: 0.1, requests: 0.9 };
        let mut seen = frequencies(dist, 0.0, 1000, 0);
        seen.sort_unstable_by(|a, b| b.cmp(a));
        assert!(near(seen[..100].iter().sum(), 0.9));
        assert!(seen[..100].iter().all(|&n| near(n, 0.009)), "{:?}", &seen[..100]);
        assert!(seen[100..].iter().all(|&n| near(n, 0.1 / 900.0)));
    }

    #[test]
    fn one_key_can_have_a_share_of_its_own() {
        for dist in [KeyDist::Uniform, KeyDist::Zipf(0.99)] {
            let without = frequencies(dist, 0.0, 1000, 0);
            let with = frequencies(dist, 0.3, 1000, 0);
            let hottest = (0..1000).max_by_key(|&key| with[key]).expect("keys");
            let share = 0.3 + 0.7 * without[hottest] as f64 / DRAWS as f64;
            assert!(with[hottest].abs_diff((DRAWS as f64 * share) as u64) < 2000);
        }
    }

    #[test]
    fn gauss_is_normal_around_the_middle() {
        let seen = frequencies(KeyDist::Gauss(0.1), 0.0, 1000, 0);
        // One deviation to each side holds 68.27 %, two hold 95.45 %.
        assert!(near(seen[400..600].iter().sum(), 0.6827));
        assert!(near(seen[300..700].iter().sum(), 0.9545));
        assert!(near(seen[..500].iter().sum(), 0.5));
        // A deviation far beyond the keys is all but uniform, and ends.
        let wide = frequencies(KeyDist::Gauss(50.0), 0.0, 10, 0);
        assert!(wide.iter().all(|&n| n > DRAWS / 20), "{wide:?}");
    }

    #[test]
    fn walks_visit_every_key_and_are_shared() {
        let sampler = KeySampler::new(KeyDist::Seq, 0.0, 100, 1);
        let other = sampler.clone();
        let mut rng = Rng::new(1, 0);
        for key in 0..250 {
            let from = if key % 3 == 0 { &other } else { &sampler };
            assert_eq!(from.key(&mut rng, Op::Get, 0), key % 100);
        }
        let seen = frequencies(KeyDist::Scan { s: 0.99, share: 0.2 }, 0.0, 1000, 0);
        let zipf = frequencies(KeyDist::Zipf(0.99), 0.0, 1000, 0);
        let least = seen.iter().min().expect("keys");
        assert!(*least >= DRAWS / 1000 / 6, "the walk reaches every key: {least}");
        let top = |seen: &[u64]| *seen.iter().max().expect("keys") as f64;
        assert!((top(&seen) / top(&zipf) - 0.8).abs() < 0.03);
    }

    #[test]
    fn latest_reads_follow_the_writes() {
        let sampler = KeySampler::new(KeyDist::Latest(1.2), 0.0, 1000, 1);
        let mut rng = Rng::new(1, 0);
        for written in 0..700 {
            assert_eq!(sampler.key(&mut rng, Op::Set, 0), written);
        }
        let mut back = [0_u64; 1000];
        for _ in 0..DRAWS {
            let key = sampler.key(&mut rng, Op::Get, 0);
            back[((699 + 1000 - key) % 1000) as usize] += 1;
        }
        assert!(back[0] > back[1] && back[1] > back[10] && back[10] > back[500], "{back:?}");
    }

    #[test]
    fn shifted_keys_are_others_after_every_period() {
        let dist = KeyDist::Shift { s: 1.2, every: Duration::from_secs(10) };
        let top = |offset_s: u64| {
            let seen = frequencies(dist, 0.0, 10_000, offset_s * 1_000_000_000);
            (0..10_000).max_by_key(|&key| seen[key]).expect("keys")
        };
        assert_eq!(top(0), top(9));
        assert_ne!(top(9), top(10));
        assert_ne!(top(10), top(20));
    }
}
