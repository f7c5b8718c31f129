//! Where the requests of a worker come from: an operation and a key at a time.
//!
//! Cost: a random request takes one random number for the operation and what the key distribution
//! takes; no allocation.

use crate::config::Mix;
use crate::dist::KeySampler;
use crate::protocol::Op;
use crate::rng::Rng;

/// A sequence of requests.
pub(crate) trait Source {
    /// The next request; `None` when there are no more.
    fn next(&mut self) -> Option<(Op, u64)>;
}

/// Random requests without end, as the mix and the key distribution say.
pub(crate) struct RandomSource {
    rng: Rng,
    keys: KeySampler,
    get_below: u64,
    set_below: u64,
    total: u64,
}

impl RandomSource {
    /// The requests of worker `worker`; workers draw from unrelated streams of one seed.
    pub(crate) fn new(mix: Mix, keys: KeySampler, seed: u64, worker: usize) -> RandomSource {
        let get_below = u64::from(mix.get);
        let set_below = get_below + u64::from(mix.set);
        let total = set_below + u64::from(mix.delete);
        RandomSource { rng: Rng::new(seed, worker as u64), keys, get_below, set_below, total }
    }
}

impl Source for RandomSource {
    #[inline]
    fn next(&mut self) -> Option<(Op, u64)> {
        let draw = self.rng.below(self.total);
        let op = if draw < self.get_below {
            Op::Get
        } else if draw < self.set_below {
            Op::Set
        } else {
            Op::Delete
        };
        Some((op, self.keys.key(&mut self.rng)))
    }
}

/// One operation on every key once: the keys `first`, `first + step`, and so on.
pub(crate) struct EveryKey {
    op: Op,
    next: u64,
    step: u64,
    keys: u64,
}

impl EveryKey {
    /// The share of worker `worker` of `workers` in `keys` keys.
    pub(crate) fn new(op: Op, keys: u64, worker: usize, workers: usize) -> EveryKey {
        EveryKey { op, next: worker as u64, step: workers as u64, keys }
    }
}

impl Source for EveryKey {
    #[inline]
    fn next(&mut self) -> Option<(Op, u64)> {
        let key = self.next;
        self.next = key + self.step;
        (key < self.keys).then_some((self.op, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeyDist;

    #[test]
    fn the_mix_is_kept() {
        let mix = Mix { get: 7, set: 2, delete: 1 };
        let mut source = RandomSource::new(mix, KeySampler::new(KeyDist::Uniform, 50, 1), 1, 0);
        let mut seen = [0_u32; 3];
        for _ in 0..100_000 {
            let (op, key) = source.next().expect("no end");
            assert!(key < 50);
            seen[op as usize] += 1;
        }
        for (count, expected) in seen.into_iter().zip([70_000, 20_000, 10_000]) {
            assert!(count.abs_diff(expected) < 800, "{seen:?}");
        }
    }

    #[test]
    fn an_operation_without_weight_never_comes() {
        let mix = Mix { get: 0, set: 1, delete: 0 };
        let mut source = RandomSource::new(mix, KeySampler::new(KeyDist::Uniform, 5, 1), 1, 0);
        assert!((0..10_000).all(|_| source.next().expect("no end").0 == Op::Set));
    }

    #[test]
    fn the_workers_together_visit_every_key_once() {
        let mut seen = vec![0; 100];
        for worker in 0..3 {
            let mut source = EveryKey::new(Op::Set, 100, worker, 3);
            while let Some((op, key)) = source.next() {
                assert_eq!(op, Op::Set);
                seen[key as usize] += 1;
            }
            assert_eq!(source.next(), None);
        }
        assert_eq!(seen, vec![1; 100]);
    }
}
