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

use pinion_engine::{EngineError, LOG_BYTES_MAX, Limits, SEGMENT_BYTES_MAX, Shard};

/// The program's share.
const PROGRAM_BYTES: u64 = 14 << 20;
/// What each core beyond the first adds to it: rings, receive buffers, lanes, memory ahead.
const PROGRAM_CORE_BYTES: u64 = 8 << 20;
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
/// What a shard may have left of what was called back for more to be called back.
const UNPAID_BYTES_MAX: u64 = 4 * SEGMENT_BYTES_MAX as u64;
/// The least memory for items,
const ITEMS_BYTES_MIN: u64 = 16 << 20;
/// and on each core.
const CORE_ITEMS_BYTES_MIN: u64 = 4 << 20;
/// The least memory for buffers on each core.
const CORE_BUFFERS_BYTES_MIN: u64 = 4 << 20;
/// Address space beyond the highest limit, so that lent segments are never missed.
const RESERVE_SLACK_BYTES: u64 = 16 << 20;

const _: () = assert!(RESERVE_BYTES_MIN < CORE_BUFFERS_BYTES_MIN);

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
    /// Cores that share all of it alike.
    pub cores: usize,
}

impl Wanted {
    /// So many connections, the usual share of buffers, and one core.
    pub fn connections(connections_max: usize) -> Wanted {
        Wanted { connections_max, buffers_bytes: None, cores: 1 }
    }
}

/// The shares of one limit, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Division {
    /// The limit of all cores together.
    pub whole_bytes: u64,
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
    /// Divides `memory_bytes` as `wanted` says: the share of each core.
    ///
    /// # Errors
    /// The least memory that would do, in bytes.
    pub fn of(memory_bytes: u64, wanted: Wanted) -> Result<Division, u64> {
        let cores = wanted.cores.max(1) as u64;
        let whole = Division::whole(memory_bytes, wanted, cores)?;
        Ok(Division {
            whole_bytes: memory_bytes,
            memory_bytes: whole.memory_bytes / cores,
            program_bytes: whole.program_bytes / cores,
            connections_bytes: whole.connections_bytes / cores,
            buffers_bytes: whole.buffers_bytes / cores,
            items_bytes: whole.items_bytes / cores,
        })
    }

    fn whole(memory_bytes: u64, wanted: Wanted, cores: u64) -> Result<Division, u64> {
        let connections_bytes = wanted.connections_max as u64 * CONNECTION_BYTES;
        let buffers_min = BUFFERS_BYTES_MIN.max(cores * CORE_BUFFERS_BYTES_MIN);
        let usual_bytes = (memory_bytes / BUFFERS_ONE_IN).max(buffers_min);
        let buffers_bytes =
            wanted.buffers_bytes.map_or(usual_bytes, |bytes| bytes.max(buffers_min));
        let program_bytes = PROGRAM_BYTES + (cores - 1) * PROGRAM_CORE_BYTES;
        let fixed_bytes = program_bytes + connections_bytes;
        let items_min = ITEMS_BYTES_MIN.max(cores * CORE_ITEMS_BYTES_MIN);
        let items_bytes = memory_bytes.saturating_sub(fixed_bytes.saturating_add(buffers_bytes));
        if memory_bytes < MEMORY_BYTES_MIN || items_bytes < items_min {
            let others_bytes = fixed_bytes + items_min;
            let least_bytes = match wanted.buffers_bytes {
                Some(_) => others_bytes.saturating_add(buffers_bytes),
                None => (others_bytes + buffers_min)
                    .max((others_bytes * BUFFERS_ONE_IN).div_ceil(BUFFERS_ONE_IN - 1)),
            };
            let least_bytes = least_bytes.max(MEMORY_BYTES_MIN);
            return Err(least_bytes.checked_next_multiple_of(1 << 20).unwrap_or(u64::MAX));
        }
        Ok(Division {
            whole_bytes: memory_bytes,
            memory_bytes,
            program_bytes,
            connections_bytes,
            buffers_bytes,
            items_bytes,
        })
    }

    /// Bytes of the shares of connections and buffers together.
    pub fn clients_bytes(&self) -> u64 {
        self.connections_bytes + self.buffers_bytes
    }

    /// Bytes of them that are never lent: for what comes at once.
    pub fn reserve_bytes(&self) -> u64 {
        (self.clients_bytes() / RESERVE_ONE_IN).max(RESERVE_BYTES_MIN)
    }

    /// Bytes that may be lent to items while no client needs anything: the shares of connections
    /// and buffers without the reserve.
    pub fn lendable_bytes(&self) -> u64 {
        self.clients_bytes() - self.reserve_bytes()
    }
}

/// The memory of the process as it is divided now, and what may change about it.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    division: Division,
    wanted: Wanted,
    /// The highest limit that can be set, for all cores.
    bytes_max: u64,
    /// Bytes of the shares of connections and buffers that items may use now (D2).
    lent_bytes: u64,
    /// The same, with what was called back and the shard has not given back yet.
    owed_bytes: u64,
    /// Bytes of the items' share that have come from other cores, or gone to them.
    shifted_bytes: i64,
}

impl Memory {
    /// The share of a core; the whole can be raised up to `bytes_max`, such as the machine's memory.
    pub fn new(division: Division, wanted: Wanted, bytes_max: u64) -> Memory {
        let bytes_max = bytes_max.max(division.memory_bytes * wanted.cores as u64);
        Memory { division, wanted, bytes_max, lent_bytes: 0, owed_bytes: 0, shifted_bytes: 0 }
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
            self.owed_bytes = self.owed_bytes.max(lent_bytes);
        }
        done
    }

    /// Bytes of the items' share that have come from other cores, or gone to them.
    pub fn shifted_bytes(&self) -> i64 {
        self.shifted_bytes
    }

    /// Gives the items' share more bytes, or fewer, which are another core's then: O(1), as
    /// [`Memory::lend`]. Nothing changes if there is no address space for it. A new limit of the
    /// whole divides everything alike again.
    pub fn shift(&mut self, bytes: i64, shard: &mut Shard) {
        let before = *self;
        let division = &mut self.division;
        division.items_bytes = division.items_bytes.saturating_add_signed(bytes);
        division.memory_bytes = division.memory_bytes.saturating_add_signed(bytes);
        self.shifted_bytes += bytes;
        if !self.lend(self.lent_bytes, shard) {
            *self = before;
        }
    }

    /// Bytes of the shares of connections and buffers that are in the hands of a shard that takes
    /// `shard_bytes`, and whether it has given back all that was called back: O(1). What it has
    /// beyond that is no loan: the limit of the whole was lowered, and it shrinks.
    pub fn owed(&mut self, shard_bytes: u64) -> (u64, bool) {
        let beyond_bytes = shard_bytes.saturating_sub(self.division.items_bytes);
        let is_loan = beyond_bytes <= self.owed_bytes + UNPAID_BYTES_MAX;
        let unpaid_bytes = if is_loan { beyond_bytes.min(self.owed_bytes) } else { 0 };
        let is_paid = unpaid_bytes <= self.lent_bytes + UNPAID_BYTES_MAX;
        self.owed_bytes = self.lent_bytes.max(unpaid_bytes);
        (beyond_bytes.min(self.owed_bytes), is_paid)
    }

    /// Address space that a shard needs so that every limit up to the highest can be set.
    pub fn reserve_bytes(&self) -> usize {
        (self.bytes_max + RESERVE_SLACK_BYTES).min(LOG_BYTES_MAX as u64) as usize
    }

    /// What the share would be of another limit for all cores together, which may be `bytes_max`
    /// at most. All cores answer the same.
    ///
    /// # Errors
    /// Why it is not possible, in words for a client.
    pub fn divide(&self, memory_bytes: u64, bytes_max: u64) -> Result<Division, String> {
        let bytes_max = self.bytes_max.min(bytes_max);
        if memory_bytes > bytes_max {
            return Err(format!("at most {bytes_max} bytes are possible"));
        }
        Division::of(memory_bytes, self.wanted)
            .map_err(|least_bytes| format!("at least {least_bytes} bytes are needed"))
    }

    /// Sets another limit for all cores together, of which this is one's share: the shard shrinks
    /// to it bit by bit, or may grow at once.
    ///
    /// # Errors
    /// Why not, in words for a client.
    pub fn set(&mut self, memory_bytes: u64, shard: &mut Shard) -> Result<(), String> {
        let division = self.divide(memory_bytes, u64::MAX)?;
        // A loan stays one: items would go, and come back, for nothing.
        let lent_bytes = self.lent_bytes.min(division.lendable_bytes());
        let total_bytes = (division.items_bytes + lent_bytes) as usize;
        let limits = Limits { total_bytes, ..shard.limits() };
        shard.set_limits(limits).map_err(|error| match error {
            EngineError::LimitTooLarge { bytes_max, .. } => {
                let overhead_bytes = division.memory_bytes - division.items_bytes - lent_bytes;
                let each_bytes = bytes_max as u64 + overhead_bytes;
                format!("at most {} bytes are possible", each_bytes * self.wanted.cores as u64)
            }
            other => other.to_string(),
        })?;
        self.division = division;
        (self.lent_bytes, self.owed_bytes) = (lent_bytes, lent_bytes);
        self.shifted_bytes = 0;
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
                let wanted = Wanted { connections_max: connections, buffers_bytes, cores: 1 };
                let least_bytes = Division::of(memory_bytes, wanted).expect_err("too little");
                assert!(least_bytes > memory_bytes);
                assert!(Division::of(least_bytes, wanted).is_ok(), "{least_bytes}");
            }
        }
    }

    #[test]
    fn a_share_of_buffers_that_was_asked_for_stays_at_every_limit() {
        let wanted = Wanted { buffers_bytes: Some(40 << 20), ..Wanted::connections(100) };
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

    #[test]
    fn what_was_called_back_is_owed_until_the_shard_has_shrunk() {
        let division = Division::of(128 << 20, Wanted::connections(100)).expect("it is enough");
        let mut memory = Memory::new(division, Wanted::connections(100), 128 << 20);
        let limits = Limits { total_bytes: division.items_bytes as usize, data: None };
        let reserve_bytes = Some(memory.reserve_bytes());
        let config = ShardConfig { limits, reserve_bytes, ..ShardConfig::default() };
        let mut shard = Shard::new(&config).expect("a shard");
        let (own, loan) = (division.items_bytes, division.lendable_bytes());
        assert_eq!(memory.owed(own), (0, true));
        assert!(memory.lend(loan, &mut shard));
        assert_eq!(memory.owed(own + 5), (5, true), "it has not taken more yet");
        assert_eq!(memory.owed(own + loan), (loan, true));
        assert!(memory.lend(loan / 2, &mut shard));
        assert_eq!(memory.owed(own + loan), (loan, false));
        assert_eq!(memory.owed(own + loan / 4 * 3), (loan / 4 * 3, false), "step by step");
        assert_eq!(memory.owed(own + loan / 2), (loan / 2, true));
        assert!(memory.lend(0, &mut shard));
        assert_eq!(memory.owed(own), (0, true));
        // A shard that is far above its limit owes what was lent, and shrinks as it can.
        assert!(memory.lend(loan / 2, &mut shard));
        assert_eq!(memory.owed(own + (100 << 20)), (loan / 2, true));
    }
}
