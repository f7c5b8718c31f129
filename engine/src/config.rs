//! What a shard is told at start, and what can be wrong with it.

use std::fmt;
use std::io;

use crate::bounds::{
    KEY_BYTES_MAX, LINE_BYTES, LINES_PER_INSERT_MAX, LOG_BYTES_MAX, SEGMENT_BYTES_MAX,
    SEGMENT_BYTES_MIN, SEGMENTS_MIN, SEGMENTS_WANTED,
};

/// How much a shard may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of log segments and table lines in use. Never exceeded, except for the time that it
    /// takes to shrink after the limit was lowered.
    pub total_bytes: usize,
    /// What live items may cost together, in units of [`Cost`], exact to the item. For replays of
    /// traces at small capacities; `None` for servers.
    pub data: Option<u64>,
}

/// What an item costs: the unit of [`Limits::data`] and of the eviction policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Cost {
    /// Its bytes: header, key and value, and whole pages of a large value.
    #[default]
    Bytes,
    /// The bytes of its value, at least 1, as published comparisons of policies count.
    Values,
    /// 1, as published comparisons of policies by entries count.
    Items,
}

/// What happens when an item needs room and there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Eviction {
    /// W-TinyLFU: a new item stays if it is used more often than the one that it would replace.
    #[default]
    TinyLfu,
    /// The least recently used item goes, nearly.
    Lru,
    /// The least frequently used item goes, nearly; frequencies age.
    Lfu,
    /// The oldest item goes.
    Fifo,
    /// Any item goes.
    Random,
    /// Nothing goes: the write fails with [`crate::SetError::NoSpace`].
    None,
}

/// Everything that a shard is told at start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShardConfig {
    /// Seed of the key hash. A secret one keeps clients from aiming keys at one bucket.
    pub hash_seed: u64,
    /// How much the shard may hold.
    pub limits: Limits,
    /// Address space to reserve, in bytes: the highest `total_bytes` that
    /// [`crate::Shard::set_limits`] can ever ask for. `None` reserves for `limits` alone. Costs no
    /// memory.
    pub reserve_bytes: Option<usize>,
    /// Bytes of a log segment, a power of two from 4 to 256 KiB. `None` chooses the largest that
    /// the limit has room for 512 of.
    pub segment_bytes: Option<usize>,
    /// What happens when there is no room.
    pub eviction: Eviction,
    /// What items cost.
    pub cost: Cost,
    /// Ask the kernel for transparent huge pages.
    pub huge_pages: bool,
    /// The machine's memory node to take memory from, as long as it has some. `None` leaves that
    /// to the kernel, which takes the node of the thread that first touches a page.
    pub numa_node: Option<usize>,
    /// The longest key accepted, in bytes, at most 65,535.
    pub key_bytes_max: usize,
    /// The longest value accepted, in bytes, at most 4 GiB less one byte.
    pub value_bytes_max: usize,
}

impl Default for ShardConfig {
    /// 64 MiB, W-TinyLFU, ordinary pages, keys up to 65,535 bytes and values up to 8 MiB.
    fn default() -> ShardConfig {
        ShardConfig {
            hash_seed: 0,
            limits: Limits { total_bytes: 64 << 20, data: None },
            reserve_bytes: None,
            segment_bytes: None,
            eviction: Eviction::default(),
            cost: Cost::default(),
            huge_pages: false,
            numa_node: None,
            key_bytes_max: KEY_BYTES_MAX,
            value_bytes_max: 8 << 20,
        }
    }
}

/// A checked configuration, in numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) segment_bytes: usize,
    pub(crate) reserve_bytes: usize,
}

impl ShardConfig {
    /// Checks the configuration and settles what it left open.
    pub(crate) fn plan(&self) -> Result<Plan, EngineError> {
        if self.key_bytes_max > KEY_BYTES_MAX {
            return Err(EngineError::KeyLimit { bytes_max: KEY_BYTES_MAX });
        }
        if u32::try_from(self.value_bytes_max).is_err() {
            return Err(EngineError::ValueLimit { bytes_max: u32::MAX as usize });
        }
        let segment_bytes = match self.segment_bytes {
            Some(bytes) => bytes,
            None => default_segment_bytes(self.limits.total_bytes),
        };
        if !segment_bytes.is_power_of_two()
            || !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&segment_bytes)
        {
            return Err(EngineError::SegmentSize { bytes: segment_bytes });
        }
        let reserve_bytes = self.reserve_bytes.unwrap_or(0).max(self.limits.total_bytes);
        check_limits(&self.limits, segment_bytes, reserve_bytes)?;
        if reserve_bytes > LOG_BYTES_MAX {
            return Err(EngineError::LimitTooLarge {
                bytes: reserve_bytes,
                bytes_max: LOG_BYTES_MAX,
            });
        }
        Ok(Plan { segment_bytes, reserve_bytes })
    }
}

/// Checks limits against a shard's segment size and reservation.
pub(crate) fn check_limits(
    limits: &Limits,
    segment_bytes: usize,
    reserve_bytes: usize,
) -> Result<(), EngineError> {
    // The table begins with one line, and an insert keeps room for the lines that it may add.
    let bytes_min = SEGMENTS_MIN * segment_bytes + (1 + LINES_PER_INSERT_MAX) * LINE_BYTES;
    let bytes = limits.total_bytes;
    if bytes < bytes_min {
        return Err(EngineError::LimitTooSmall { bytes, bytes_min });
    }
    if bytes > reserve_bytes {
        return Err(EngineError::LimitTooLarge { bytes, bytes_max: reserve_bytes });
    }
    Ok(())
}

fn default_segment_bytes(total_bytes: usize) -> usize {
    let fitting = (total_bytes / SEGMENTS_WANTED).max(1);
    let power = 1 << fitting.ilog2();
    power.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
}

/// Why a shard cannot be made, or a limit not be set.
#[derive(Debug)]
pub enum EngineError {
    /// The kernel did not reserve the memory.
    Reserve {
        /// Address space asked for.
        bytes: usize,
        /// The kernel's reason.
        error: io::Error,
    },
    /// The total limit has no room for a handful of segments.
    LimitTooSmall {
        /// The limit asked for.
        bytes: usize,
        /// The smallest limit for this segment size.
        bytes_min: usize,
    },
    /// The total limit is more than was reserved, or than a shard can address.
    LimitTooLarge {
        /// The limit asked for.
        bytes: usize,
        /// The largest limit of this shard.
        bytes_max: usize,
    },
    /// The segment size is no power of two from 4 to 256 KiB.
    SegmentSize {
        /// The size asked for.
        bytes: usize,
    },
    /// The limit on keys is longer than an item can name.
    KeyLimit {
        /// The longest key that an item can name.
        bytes_max: usize,
    },
    /// The limit on values is longer than an item can name.
    ValueLimit {
        /// The longest value that an item can name.
        bytes_max: usize,
    },
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineError::Reserve { bytes, error } => write!(
                f,
                "cannot reserve {bytes} bytes of address space: {error}; \
                 lower the memory limit or raise `ulimit -v` and vm.overcommit limits"
            ),
            EngineError::LimitTooSmall { bytes, bytes_min } => {
                write!(f, "a limit of {bytes} bytes is too small: at least {bytes_min} are needed")
            }
            EngineError::LimitTooLarge { bytes, bytes_max } => {
                write!(f, "a limit of {bytes} bytes is too large: at most {bytes_max} are possible")
            }
            EngineError::SegmentSize { bytes } => write!(
                f,
                "a segment of {bytes} bytes is not possible: \
                 it must be a power of two from {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}"
            ),
            EngineError::KeyLimit { bytes_max } => {
                write!(f, "keys can be at most {bytes_max} bytes long")
            }
            EngineError::ValueLimit { bytes_max } => {
                write!(f, "values can be at most {bytes_max} bytes long")
            }
        }
    }
}

impl std::error::Error for EngineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            EngineError::Reserve { error, .. } => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_total(total_bytes: usize) -> ShardConfig {
        ShardConfig { limits: Limits { total_bytes, data: None }, ..ShardConfig::default() }
    }

    #[test]
    fn small_limits_get_small_segments() {
        assert_eq!(with_total(1 << 30).plan().unwrap().segment_bytes, 256 << 10);
        assert_eq!(with_total(128 << 20).plan().unwrap().segment_bytes, 256 << 10);
        assert_eq!(with_total((128 << 20) - 1).plan().unwrap().segment_bytes, 128 << 10);
        assert_eq!(with_total(2 << 20).plan().unwrap().segment_bytes, 4 << 10);
        assert_eq!(with_total(66 << 10).plan().unwrap().segment_bytes, 4 << 10);
    }

    #[test]
    fn every_mistake_has_its_error() {
        let error = |config: ShardConfig| config.plan().unwrap_err();
        let small = error(with_total(10_000));
        assert!(matches!(small, EngineError::LimitTooSmall { bytes: 10_000, bytes_min: 65_728 }));
        assert!(matches!(error(with_total(0)), EngineError::LimitTooSmall { .. }));
        let large = error(with_total(LOG_BYTES_MAX + 1));
        assert!(matches!(large, EngineError::LimitTooLarge { .. }));
        for bytes in [0, 5_000, 2 << 10, 512 << 10] {
            let config = ShardConfig { segment_bytes: Some(bytes), ..ShardConfig::default() };
            assert!(matches!(error(config), EngineError::SegmentSize { .. }));
        }
        let keys = ShardConfig { key_bytes_max: 1 << 16, ..ShardConfig::default() };
        assert!(matches!(error(keys), EngineError::KeyLimit { .. }));
        let values = ShardConfig { value_bytes_max: 1 << 32, ..ShardConfig::default() };
        assert!(matches!(error(values), EngineError::ValueLimit { .. }));
        assert!(small.to_string().contains("at least 65728"));
    }
}
