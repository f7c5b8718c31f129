//! Sizes of values, drawn by key from a recorded distribution.

use pinion_loadgen::trace::Trace;

use crate::caches::mix;

/// Sizes that a distribution is reduced to.
const QUANTILES: usize = 100;

/// Sizes of the unique keys of Twitter's cluster 52 (twitter/cache-trace, the trace of Yang, Yue
/// and Rashmi, OSDI 2020, CC BY 4.0; sample of ten million requests), in hundredths. Mean 193.
const TWITTER_C52: [u32; QUANTILES] = [
    16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 17, 17, 17, 17, 17, 23, 26, 26, 27, 27, 27, 27, 27,
    34, 53, 53, 54, 54, 54, 54, 54, 54, 54, 54, 54, 54, 54, 54, 54, 54, 54, 54, 54, 54, 54, 54, 54,
    54, 54, 54, 54, 54, 54, 54, 54, 54, 54, 54, 54, 54, 65, 147, 182, 205, 221, 227, 230, 233, 244,
    255, 265, 274, 284, 293, 302, 312, 322, 332, 343, 355, 368, 383, 399, 417, 435, 456, 479, 502,
    526, 551, 577, 607, 643, 685, 735, 799, 893, 1034, 1322,
];

/// Salt that keeps sizes apart from other numbers that belong to a key.
const SALT: u64 = 0x7369_7a65;

/// A distribution of sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sizes(Vec<u32>);

impl Sizes {
    /// That of Twitter's cluster 52.
    pub(super) fn twitter_c52() -> Sizes {
        Sizes(TWITTER_C52.to_vec())
    }

    /// That of the unique keys of a trace; `None` if it has no sizes.
    pub(super) fn of_trace(trace: &Trace) -> Option<Sizes> {
        let mut sizes: Vec<u32> =
            trace.key_sizes.as_ref()?.iter().map(|&size| size.max(1)).collect();
        if sizes.is_empty() {
            return None;
        }
        sizes.sort_unstable();
        let middle = |part: usize| (2 * part + 1) * sizes.len() / (2 * QUANTILES);
        Some(Sizes((0..QUANTILES).map(|part| sizes[middle(part)]).collect()))
    }

    /// The size of a key's value, always the same.
    pub(super) fn of_key(&self, key: u64) -> usize {
        self.0[(mix(key, SALT) % self.0.len() as u64) as usize] as usize
    }

    /// The largest size.
    pub(super) fn max(&self) -> usize {
        self.0.iter().copied().max().unwrap_or(0) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_belong_to_keys_and_have_the_mean_of_the_distribution() {
        let sizes = Sizes::twitter_c52();
        assert_eq!(sizes.of_key(7), sizes.of_key(7));
        let sum: usize = (0..100_000).map(|key| sizes.of_key(key)).sum();
        assert!((185..=202).contains(&(sum / 100_000)), "{sum}");
        assert_eq!(sizes.max(), 1322);
    }

    #[test]
    fn a_trace_gives_its_own_distribution() {
        let trace = |key_sizes| Trace { keys: vec![], key_sizes, unique: 0, unique_bytes: 0 };
        let sizes = Sizes::of_trace(&trace(Some((0..200).collect()))).unwrap();
        assert_eq!((sizes.0[0], sizes.0[1], sizes.0[99]), (1, 3, 199));
        assert_eq!(Sizes::of_trace(&trace(None)), None);
        assert_eq!(Sizes::of_trace(&trace(Some(vec![]))), None);
    }
}
