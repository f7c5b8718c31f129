//! Where the requests of a worker come from: an operation and its keys at a time.
//!
//! Cost: a random request takes one random number for the operation and what the key distribution
//! takes for each key; no allocation.

use crate::config::{Mix, Multiget};
use crate::dist::KeySampler;
use crate::protocol::Op;
use crate::rng::Rng;

/// A sequence of requests.
pub(crate) trait Source {
    /// The next request, which is intended `offset_ns` after the start: its operation, and its
    /// keys in place of what `keys` held (more than one only for reads); `None` when there are no
    /// more.
    fn next(&mut self, offset_ns: u64, keys: &mut Vec<u64>) -> Option<Op>;
}

/// Random requests without end, as the mix and the key distribution say.
pub(crate) struct RandomSource {
    rng: Rng,
    sampler: KeySampler,
    /// The operations with the sums of their weights.
    bounds: [(Op, u64); 5],
    multiget: Multiget,
}

impl RandomSource {
    /// The requests of worker `worker`; workers draw from unrelated streams of one seed.
    pub(crate) fn new(
        mix: Mix,
        multiget: Multiget,
        sampler: KeySampler,
        seed: u64,
        worker: usize,
    ) -> RandomSource {
        let mut sum = 0;
        let bounds = [
            (Op::Get, mix.get),
            (Op::Set, mix.set),
            (Op::Delete, mix.delete),
            (Op::Touch, mix.touch),
            (Op::Incr, mix.incr),
        ]
        .map(|(op, weight)| {
            sum += u64::from(weight);
            (op, sum)
        });
        RandomSource { rng: Rng::new(seed, worker as u64), sampler, bounds, multiget }
    }
}

impl Source for RandomSource {
    #[inline]
    fn next(&mut self, offset_ns: u64, keys: &mut Vec<u64>) -> Option<Op> {
        let draw = self.rng.below(self.bounds[4].1);
        let op = self.bounds.iter().find(|(_, sum)| draw < *sum).map(|&(op, _)| op)?;
        let Multiget { keys_min, keys_max } = self.multiget;
        let count = if op == Op::Get && keys_max > 1 {
            keys_min as u64 + self.rng.below((keys_max - keys_min + 1) as u64)
        } else {
            1
        };
        keys.clear();
        for _ in 0..count {
            keys.push(self.sampler.key(&mut self.rng, op, offset_ns));
        }
        Some(op)
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
    fn next(&mut self, _offset_ns: u64, keys: &mut Vec<u64>) -> Option<Op> {
        let key = self.next;
        self.next = key + self.step;
        keys.clear();
        keys.push(key);
        (key < self.keys).then_some(self.op)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeyDist;

    const ONE: Multiget = Multiget { keys_min: 1, keys_max: 1 };

    fn uniform(count: u64) -> KeySampler {
        KeySampler::new(KeyDist::Uniform, 0.0, count, 1)
    }

    #[test]
    fn the_mix_is_kept() {
        let mix = Mix { get: 6, set: 2, delete: 1, touch: 1, incr: 0 };
        let mut source = RandomSource::new(mix, ONE, uniform(50), 1, 0);
        let (mut seen, mut keys) = ([0_u32; 4], Vec::new());
        for _ in 0..100_000 {
            let op = source.next(0, &mut keys).expect("no end");
            assert!(keys.len() == 1 && keys[0] < 50);
            seen[op as usize] += 1;
        }
        for (count, expected) in seen.into_iter().zip([60_000, 20_000, 10_000, 10_000]) {
            assert!(count.abs_diff(expected) < 800, "{seen:?}");
        }
    }

    #[test]
    fn an_operation_without_weight_never_comes() {
        let mix = Mix { set: 1, ..Mix::default() };
        let mut source = RandomSource::new(mix, ONE, uniform(5), 1, 0);
        let mut keys = Vec::new();
        assert!((0..10_000).all(|_| source.next(0, &mut keys) == Some(Op::Set)));
    }

    #[test]
    fn reads_alone_have_several_keys() {
        let mix = Mix { get: 1, set: 1, ..Mix::default() };
        let multiget = Multiget { keys_min: 2, keys_max: 5 };
        let mut source = RandomSource::new(mix, multiget, uniform(50), 1, 0);
        let (mut seen, mut keys) = ([0_u32; 6], Vec::new());
        for _ in 0..40_000 {
            match source.next(0, &mut keys) {
                Some(Op::Get) => seen[keys.len()] += 1,
                _ => assert_eq!(keys.len(), 1),
            }
        }
        assert_eq!(seen[..2], [0, 0]);
        assert!(seen[2..].iter().all(|&count| count.abs_diff(5000) < 400), "{seen:?}");
    }

    #[test]
    fn the_workers_together_visit_every_key_once() {
        let (mut seen, mut keys) = (vec![0; 100], Vec::new());
        for worker in 0..3 {
            let mut source = EveryKey::new(Op::Set, 100, worker, 3);
            while let Some(op) = source.next(0, &mut keys) {
                assert_eq!(op, Op::Set);
                seen[keys[0] as usize] += 1;
            }
        }
        assert_eq!(seen, vec![1; 100]);
    }
}
