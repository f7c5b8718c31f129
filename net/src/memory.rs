//! How the memory that the process may use is divided, and how that changes at run time.
//!
//! ```text
//! --memory = program + connections + buffers + items
//!            fixed     fixed each    1/16 *    the rest: log segments and table lines
//!                                    (* or what --buffers says, at every limit)
//! ```
//!
//! - D1. The shares add up to the whole. So the process stays within it as long as each part stays
//!   within its share: the shard does by itself, the buffers by `core::budget`.
//! - D2. What connections and buffers do not need of their shares may be lent to items, and is
//!   taken back when they do (`core::lending`). Then the shard's limit is its share and the loan.
//!
//! The program's share holds what does not grow: code and stacks, the rings and the receive
//! buffers, the allocator's own, and the huge pages that are populated ahead of the shard.

use pinion_engine::{EngineError, LOG_BYTES_MAX, Limits, Shard};

/// The program's share.
const PROGRAM_BYTES: u64 = 14 << 20;
/// An idle connection: its place in the slab, its session, its completion in the ring.
pub const CONNECTION_BYTES: u64 = 640;
/// Buffers take one part in this many of the memory,
const BUFFERS_ONE_IN: u64 = 16;
/// and no less than this, whatever is asked for.
pub const BUFFERS_BYTES_MIN: u64 = 8 << 20;
/// One part in this many of the shares of connections and buffers is never lent,
const RESERVE_ONE_IN: u64 = 8;
/// and no less than this.
const RESERVE_BYTES_MIN: u64 = 2 << 20;
/// The least memory for items.
const ITEMS_BYTES_MIN: u64 = 16 << 20;
/// Address space beyond the highest limit, so that lent segments are never missed.
const RESERVE_SLACK_BYTES: u64 = 16 << 20;

const _: () = assert!(RESERVE_BYTES_MIN < BUFFERS_BYTES_MIN);

/// The least memory to run with.
pub const MEMORY_BYTES_MIN: u64 = 64 << 20;

/// What is asked for beside a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Connections at a time.
    pub connections_max: usize,
    /// The share of buffers, in bytes; `None`: one part in sixteen, and at least
    /// [`BUFFERS_BYTES_MIN`].
    pub buffers_bytes: Option<u64>,
}

impl Wanted {
    /// So many connections, and the usual share of buffers.
    pub fn connections(connections_max: usize) -> Wanted {
        Wanted { connections_max, buffers_bytes: None }
    }
}

/// The shares of one limit, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Division {
    /// All of it.
    pub memory_bytes: u64,
    /// What does not grow.
    pub program_bytes: u64,
    /// Idle connections, as many as are allowed.
    pub connections_bytes: u64,
    /// Input and output of all connections.
    pub buffers_bytes: u64,
    /// Log and table of the shard.
    pub items_bytes: u64,
}

impl Division {
    /// Divides `memory_bytes` as `wanted` says.
    ///
    /// # Errors
    /// The least memory that would do, in bytes.
    pub fn of(memory_bytes: u64, wanted: Wanted) -> Result<Division, u64> {
        let connections_bytes = wanted.connections_max as u64 * CONNECTION_BYTES;
        let usual_bytes = (memory_bytes / BUFFERS_ONE_IN).max(BUFFERS_BYTES_MIN);
        let buffers_bytes = wanted.buffers_bytes.unwrap_or(usual_bytes);
        let fixed_bytes = PROGRAM_BYTES + connections_bytes;
        let items_bytes = memory_bytes.saturating_sub(fixed_bytes.saturating_add(buffers_bytes));
        if memory_bytes < MEMORY_BYTES_MIN || items_bytes < ITEMS_BYTES_MIN {
            let others_bytes = fixed_bytes + ITEMS_BYTES_MIN;
            let least_bytes = match wanted.buffers_bytes {
                Some(buffers_bytes) => others_bytes.saturating_add(buffers_bytes),
                None => (others_bytes + BUFFERS_BYTES_MIN)
                    .max((others_bytes * BUFFERS_ONE_IN).div_ceil(BUFFERS_ONE_IN - 1)),
            };
            let least_bytes = least_bytes.max(MEMORY_BYTES_MIN);
            return Err(least_bytes.checked_next_multiple_of(1 << 20).unwrap_or(u64::MAX));
        }
        let program_bytes = PROGRAM_BYTES;
        Ok(Division { memory_bytes, program_bytes, connections_bytes, buffers_bytes, items_bytes })
    }

    /// Bytes that may be lent to items while no client needs anything: the shares of connections
    /// and buffers, without a reserve for what comes at once.
    pub fn lendable_bytes(&self) -> u64 {
        let bytes = self.connections_bytes + self.buffers_bytes;
        bytes - (bytes / RESERVE_ONE_IN).max(RESERVE_BYTES_MIN)
    }
}

/// The memory of the process as it is divided now, and what may change about it.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    division: Division,
    wanted: Wanted,
    /// The highest limit that can be set.
    bytes_max: u64,
    /// Bytes of the shares of connections and buffers that items may use now (D2).
    lent_bytes: u64,
}

impl Memory {
    /// A division that can be raised up to `bytes_max`, such as the machine's memory.
    pub fn new(division: Division, wanted: Wanted, bytes_max: u64) -> Memory {
        let bytes_max = bytes_max.max(division.memory_bytes);
        Memory { division, wanted, bytes_max, lent_bytes: 0 }
    }

    /// The shares.
    pub fn division(&self) -> &Division {
        &self.division
    }

    /// Bytes of the shares of connections and buffers that items may use now.
    pub fn lent_bytes(&self) -> u64 {
        self.lent_bytes
    }

    /// Lets items use so many bytes of the shares of connections and buffers: O(1). The shard
    /// shrinks bit by bit, or may grow at once. Whether it did; an extreme limit may have no
    /// address space for it.
    pub fn lend(&mut self, lent_bytes: u64, shard: &mut Shard) -> bool {
        let total_bytes = (self.division.items_bytes + lent_bytes) as usize;
        let done = shard.set_limits(Limits { total_bytes, ..shard.limits() }).is_ok();
        if done {
            self.lent_bytes = lent_bytes;
        }
        done
    }

    /// Address space that a shard needs so that every limit up to the highest can be set.
    pub fn reserve_bytes(&self) -> usize {
        (self.bytes_max + RESERVE_SLACK_BYTES).min(LOG_BYTES_MAX as u64) as usize
    }

    /// Sets another limit: the shard shrinks to it bit by bit, or may grow at once.
    ///
    /// # Errors
    /// Why not, in words for a client.
    pub fn set(&mut self, memory_bytes: u64, shard: &mut Shard) -> Result<(), String> {
        if memory_bytes > self.bytes_max {
            return Err(format!("at most {} bytes are possible", self.bytes_max));
        }
        let division = Division::of(memory_bytes, self.wanted)
            .map_err(|least_bytes| format!("at least {least_bytes} bytes are needed"))?;
        // A loan stays one: items would go, and come back, for nothing.
        let lent_bytes = self.lent_bytes.min(division.lendable_bytes());
        let total_bytes = (division.items_bytes + lent_bytes) as usize;
        let limits = Limits { total_bytes, ..shard.limits() };
        shard.set_limits(limits).map_err(|error| match error {
            EngineError::LimitTooLarge { bytes_max, .. } => {
                let overhead_bytes = memory_bytes - division.items_bytes - lent_bytes;
                format!("at most {} bytes are possible", bytes_max as u64 + overhead_bytes)
            }
            other => other.to_string(),
        })?;
        self.division = division;
        self.lent_bytes = lent_bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_engine::ShardConfig;

    #[test]
    fn shares_add_up_at_every_size() {
        for memory_bytes in [64 << 20, 100_000_000, 256 << 20, 1 << 30, 100 << 30] {
            let shares =
                Division::of(memory_bytes, Wanted::connections(10_000)).expect("it is enough");
            let sum = shares.program_bytes
                + shares.connections_bytes
                + shares.buffers_bytes
                + shares.items_bytes;
            assert_eq!(sum, memory_bytes);
            assert!(shares.items_bytes * 4 >= memory_bytes, "{shares:?}");
        }
    }

    #[test]
    fn too_little_is_refused_and_what_is_asked_for_instead_is_enough() {
        for (memory_bytes, connections) in [(0, 1), (63 << 20, 1), (256 << 20, 1_000_000)] {
            for buffers_bytes in [None, Some(BUFFERS_BYTES_MIN), Some(1 << 30)] {
                let wanted = Wanted { connections_max: connections, buffers_bytes };
                let least_bytes = Division::of(memory_bytes, wanted).expect_err("too little");
                assert!(least_bytes > memory_bytes);
                assert!(Division::of(least_bytes, wanted).is_ok(), "{least_bytes}");
            }
        }
    }

    #[test]
    fn a_share_of_buffers_that_was_asked_for_stays_at_every_limit() {
        let wanted = Wanted { connections_max: 100, buffers_bytes: Some(40 << 20) };
        let division = Division::of(128 << 20, wanted).expect("it is enough");
        assert_eq!(division.buffers_bytes, 40 << 20);
        let mut memory = Memory::new(division, wanted, 512 << 20);
        let limits = Limits { total_bytes: division.items_bytes as usize, data: None };
        let reserve_bytes = Some(memory.reserve_bytes());
        let config = ShardConfig { limits, reserve_bytes, ..ShardConfig::default() };
        let mut shard = Shard::new(&config).expect("a shard");
        memory.set(512 << 20, &mut shard).expect("the highest");
        assert_eq!(memory.division().buffers_bytes, 40 << 20);
        let error = memory.set(64 << 20, &mut shard).expect_err("items have no room");
        assert!(error.contains("at least"), "{error}");
    }

    #[test]
    fn the_limit_moves_within_the_reservation() {
        let division = Division::of(128 << 20, Wanted::connections(100)).expect("it is enough");
        let mut memory = Memory::new(division, Wanted::connections(100), 512 << 20);
        let limits = Limits { total_bytes: division.items_bytes as usize, data: Some(1 << 40) };
        let reserve_bytes = Some(memory.reserve_bytes());
        let config = ShardConfig { limits, reserve_bytes, ..ShardConfig::default() };
        let mut shard = Shard::new(&config).expect("a shard");
        memory.set(512 << 20, &mut shard).expect("the highest");
        assert_eq!(shard.limits().total_bytes as u64, memory.division().items_bytes);
        assert_eq!(shard.limits().data, Some(1 << 40), "it is another limit");
        for (bytes, word) in [((512 << 20) + 1, "at most"), (1 << 20, "at least")] {
            let error = memory.set(bytes, &mut shard).expect_err("out of range");
            assert!(error.contains(word), "{error}");
            assert_eq!(memory.division().memory_bytes, 512 << 20);
        }
        memory.set(64 << 20, &mut shard).expect("the lowest");
    }

    #[test]
    fn a_loan_raises_the_limit_of_items_and_survives_a_change_of_the_whole() {
        let division = Division::of(128 << 20, Wanted::connections(100)).expect("it is enough");
        let mut memory = Memory::new(division, Wanted::connections(100), 512 << 20);
        let limits = Limits { total_bytes: division.items_bytes as usize, data: None };
        let reserve_bytes = Some(memory.reserve_bytes());
        let config = ShardConfig { limits, reserve_bytes, ..ShardConfig::default() };
        let mut shard = Shard::new(&config).expect("a shard");
        let lendable_bytes = division.lendable_bytes();
        assert!(lendable_bytes < division.buffers_bytes + division.connections_bytes);
        assert!(memory.lend(lendable_bytes, &mut shard));
        let total = |shard: &Shard| shard.limits().total_bytes as u64;
        assert_eq!(total(&shard), division.items_bytes + lendable_bytes);
        memory.set(512 << 20, &mut shard).expect("the highest");
        assert_eq!(memory.lent_bytes(), lendable_bytes);
        assert_eq!(total(&shard), memory.division().items_bytes + lendable_bytes);
        assert!(memory.lend(memory.division().lendable_bytes(), &mut shard));
        memory.set(64 << 20, &mut shard).expect("the lowest");
        assert_eq!(memory.lent_bytes(), memory.division().lendable_bytes());
        assert_eq!(total(&shard), memory.division().items_bytes + memory.lent_bytes());
        assert!(!memory.lend(1 << 40, &mut shard), "there is no address space for that");
        assert_eq!(memory.lent_bytes(), memory.division().lendable_bytes());
        assert!(memory.lend(0, &mut shard));
        assert_eq!(total(&shard), memory.division().items_bytes);
    }
}
