//! From a slot, or from a client's source port, to the core of a node.
//!
//! A node with `n` cores gives slot `s` to core `s * n / 16384`, rounded down. That makes one
//! contiguous range per core, so a whole node is described by its core count alone, and a cluster
//! client that learns the ranges sends each key straight to its core.
//!
//! A connection on a port that all cores share reaches core `(source port >> 1) mod n`. The shift
//! is there because Linux hands out ephemeral ports of one parity to outgoing connections: without
//! it an even number of cores would be used by half.
//!
//! Cost: one multiplication or division per call; no allocation.

use crate::slot::{SLOT_COUNT, Slot, slot};
use std::fmt;
use std::num::NonZeroU16;
use std::ops::Range;

/// The most cores that a node can have: with more, some core would own no slot.
pub const CORE_COUNT_MAX: u16 = SLOT_COUNT;

// `slot * cores` and `(core + 1) * SLOT_COUNT` are computed in 32 bits, for any core index.
const _: () =
    assert!((u16::MAX as u64 + 1) * (SLOT_COUNT as u64) + (CORE_COUNT_MAX as u64) < 1 << 32);

/// How many cores a node serves with: between 1 and [`CORE_COUNT_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreCount(NonZeroU16);

impl CoreCount {
    /// One core, which then owns every slot.
    pub const ONE: Self = Self(NonZeroU16::MIN);

    /// Checks the number of cores.
    ///
    /// # Errors
    ///
    /// [`CoreCountOutOfRange`] if `cores` is 0 or above [`CORE_COUNT_MAX`].
    pub fn new(cores: usize) -> Result<Self, CoreCountOutOfRange> {
        u16::try_from(cores)
            .ok()
            .filter(|&cores| cores <= CORE_COUNT_MAX)
            .and_then(NonZeroU16::new)
            .map(Self)
            .ok_or(CoreCountOutOfRange { cores })
    }

    /// The number of cores.
    #[must_use]
    pub const fn count(self) -> u16 {
        self.0.get()
    }

    /// The indices of all cores in ascending order.
    pub fn indices(self) -> impl ExactSizeIterator<Item = CoreIndex> + DoubleEndedIterator {
        (0..self.count()).map(CoreIndex)
    }
}

impl fmt::Display for CoreCount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

/// A number of cores that no node can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreCountOutOfRange {
    /// The number that was refused.
    pub cores: usize,
}

impl fmt::Display for CoreCountOutOfRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} cores: a node has between 1 and {CORE_COUNT_MAX}", self.cores)
    }
}

impl std::error::Error for CoreCountOutOfRange {}

/// The position of a core among the cores that a node serves with, from 0.
///
/// Not the number of a CPU: a node that is pinned to the CPUs 2 to 5 has the cores 0 to 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreIndex(u16);

impl CoreIndex {
    /// The core at this position. Whether a node has it is the caller's to know.
    #[must_use]
    pub const fn new(index: u16) -> Self {
        Self(index)
    }

    /// The position, to index an array of cores with.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for CoreIndex {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

/// The core that owns `slot` on a node with `cores` cores.
///
/// ```
/// use pinion_router::{CoreCount, core_of_slot, slot};
///
/// let cores = CoreCount::new(4)?;
/// assert_eq!(core_of_slot(slot(b"foo"), cores).index(), 12182 * 4 / 16384);
/// # Ok::<(), pinion_router::CoreCountOutOfRange>(())
/// ```
#[inline]
#[must_use]
pub const fn core_of_slot(slot: Slot, cores: CoreCount) -> CoreIndex {
    let scaled = slot.number() as u32 * cores.count() as u32;
    CoreIndex((scaled / SLOT_COUNT as u32) as u16)
}

/// The core that owns `key` on a node with `cores` cores: [`core_of_slot`] of its [`slot`].
#[inline]
#[must_use]
pub fn core_of_key(key: &[u8], cores: CoreCount) -> CoreIndex {
    core_of_slot(slot(key), cores)
}

/// The numbers of the slots that `core` owns on a node with `cores` cores.
///
/// Exactly the slots for which [`core_of_slot`] answers `core`. A core that the node does not have
/// owns none: the range is empty.
///
/// ```
/// use pinion_router::{CoreCount, CoreIndex, slots_of_core};
///
/// let cores = CoreCount::new(3)?;
/// let ranges: Vec<_> = cores.indices().map(|core| slots_of_core(core, cores)).collect();
/// assert_eq!(ranges, [0..5462, 5462..10923, 10923..16384]);
/// # Ok::<(), pinion_router::CoreCountOutOfRange>(())
/// ```
#[must_use]
pub const fn slots_of_core(core: CoreIndex, cores: CoreCount) -> Range<u16> {
    slot_bound(core.0 as u32, cores)..slot_bound(core.0 as u32 + 1, cores)
}

/// The first slot whose core is `core` or a later one; [`SLOT_COUNT`] if there is none.
const fn slot_bound(core: u32, cores: CoreCount) -> u16 {
    let bound = (core * SLOT_COUNT as u32).div_ceil(cores.count() as u32);
    if bound < SLOT_COUNT as u32 { bound as u16 } else { SLOT_COUNT }
}

/// The core that a connection from `source_port` reaches on a port that all cores share.
///
/// The port is the one that the server sees: address translation on the way may have changed it.
///
/// ```
/// use pinion_router::{CoreCount, core_of_source_port};
///
/// let cores = CoreCount::new(2)?;
/// let reached: Vec<_> =
///     [40000, 40002, 40004].map(|port| core_of_source_port(port, cores).index()).into();
/// assert_eq!(reached, [0, 1, 0]);
/// # Ok::<(), pinion_router::CoreCountOutOfRange>(())
/// ```
#[inline]
#[must_use]
pub const fn core_of_source_port(source_port: u16, cores: CoreCount) -> CoreIndex {
    CoreIndex((source_port >> 1) % cores.count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn count(cores: u16) -> CoreCount {
        CoreCount::new(usize::from(cores)).expect("the test asks for a valid count")
    }

    /// I2 and I3 of the crate, for one core count.
    fn validate(cores: CoreCount) {
        let mut next = 0;
        let share = SLOT_COUNT / cores.count();
        for core in cores.indices() {
            let range = slots_of_core(core, cores);
            assert_eq!(range.start, next, "{cores} cores: a gap or overlap before core {core}");
            assert!(!range.is_empty(), "{cores} cores: core {core} owns nothing");
            assert!((share..=share + 1).contains(&(range.end - range.start)));
            next = range.end;
            for number in range {
                let slot = Slot::new(number).expect("ranges hold valid slots");
                assert_eq!(core_of_slot(slot, cores), core, "{cores} cores: slot {slot}");
            }
        }
        assert_eq!(next, SLOT_COUNT, "{cores} cores do not cover all slots");
    }

    #[test]
    fn ranges_partition_the_slots() {
        for cores in (1..=300).chain([511, 1000, 8191, 8192, 8193, 16_383, CORE_COUNT_MAX]) {
            validate(count(cores));
        }
    }

    #[test]
    fn one_core_owns_everything() {
        assert_eq!(slots_of_core(CoreIndex::new(0), CoreCount::ONE), 0..SLOT_COUNT);
        assert_eq!(CoreCount::ONE, count(1));
    }

    #[test]
    fn a_core_that_does_not_exist_owns_nothing() {
        for core in [4, 5, 1000, u16::MAX] {
            assert!(slots_of_core(CoreIndex::new(core), count(4)).is_empty());
        }
    }

    #[test]
    fn core_counts_are_checked() {
        for cores in [0, usize::from(CORE_COUNT_MAX) + 1, 65_536, 65_537, usize::MAX] {
            assert_eq!(CoreCount::new(cores), Err(CoreCountOutOfRange { cores }));
        }
        assert_eq!(count(CORE_COUNT_MAX).count(), CORE_COUNT_MAX);
        let message = CoreCountOutOfRange { cores: 0 }.to_string();
        assert_eq!(message, "0 cores: a node has between 1 and 16384");
    }

    /// Ports of one parity, as Linux hands them out, must use all cores alike.
    #[test]
    fn ports_of_one_parity_reach_all_cores() {
        for cores in [1, 2, 3, 4, 7, 8, 64].map(count) {
            let mut reached = vec![0_u32; usize::from(cores.count())];
            for port in (32_768..60_998).step_by(2) {
                reached[core_of_source_port(port, cores).index()] += 1;
            }
            let least = reached.iter().min();
            let most = reached.iter().max();
            assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{reached:?}");
        }
    }

    proptest! {
        #[test]
        fn any_core_count_partitions_the_slots(cores in 1..=CORE_COUNT_MAX) {
            validate(count(cores));
        }

        #[test]
        fn both_ports_of_a_pair_reach_the_same_existing_core(
            port in any::<u16>(), cores in 1..=CORE_COUNT_MAX,
        ) {
            let core = core_of_source_port(port, count(cores));
            prop_assert_eq!(core, core_of_source_port(port ^ 1, count(cores)));
            prop_assert!(core.index() < usize::from(cores));
        }

        #[test]
        fn a_key_follows_its_slot(
            key in prop::collection::vec(any::<u8>(), 0..60), cores in 1..=CORE_COUNT_MAX,
        ) {
            let cores = count(cores);
            let core = core_of_key(&key, cores);
            prop_assert!(slots_of_core(core, cores).contains(&slot(&key).number()));
        }
    }
}
