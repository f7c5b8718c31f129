//! What a core counts about itself. Plain integers that only the core touches; the control thread
//! gets a copy when somebody asks.

use pinion_engine::{Refusal, SetError, Stored};

/// Counters of one core since its start, or since CONFIG RESETSTAT where Redis resets them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub connections_accepted: u64,
    /// Connections refused because there were too many.
    pub connections_refused: u64,
    /// Those of them that came too fast.
    pub accept_rate_refusals: u64,
    /// Connections closed because they were quiet for too long.
    pub timeouts: u64,
    /// Requests refused because they, or their keys, were longer, or had more arguments, than is
    /// allowed.
    pub oversized_requests: u64,
    /// Requests refused because they had waited for too long.
    pub request_age_refusals: u64,
    /// Times that a connection had more commands than are executed before others have their turn.
    pub pipeline_pauses: u64,
    /// Connections of web clients, cut.
    pub http_requests: u64,
    /// Failed accepts, such as for want of descriptors.
    pub accept_failures: u64,
    /// Commands executed.
    pub commands: u64,
    /// Commands answered with an error.
    pub errors: u64,
    /// Reads that found their key.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Sends.
    pub sends: u64,
    /// Turns that found work.
    pub turns: u64,
    /// Batches executed.
    pub batches: u64,
    /// Times that a connection was held back because its replies were not read.
    pub output_pauses: u64,
    /// Times that a connection was held back because the memory for buffers was short.
    pub budget_pauses: u64,
    /// Connections ended because there was no memory for their request.
    pub buffer_refusals: u64,
    /// Connections closed because they held much, stood still, and others got no memory.
    pub buffer_evictions: u64,
    /// Times that the receive buffers ran out.
    pub receive_starvations: u64,
    /// Naps in the data ring.
    pub naps: u64,
    /// Parks, outside the ring or without a limit.
    pub parks: u64,
    /// What clients of the memcached port did.
    pub memcached: MemcachedCounters,
    /// What went to other cores and came from them.
    pub lanes: LaneCounters,
}

/// Commands that cross between cores.
#[derive(Clone, Copy, Debug, Default)]
pub struct LaneCounters {
    /// Requests sent to other cores.
    pub crossed_out: u64,
    /// Requests of other cores executed here.
    pub crossed_in: u64,
    /// Those of them that were parts of a command that several cores execute: it is counted where
    /// the client is.
    pub parts_in: u64,
    /// Times that something was posted for another core,
    pub posts: u64,
    /// and that it had to be woken.
    pub wakes: u64,
    /// The most requests to one core that were outstanding at a time.
    pub asked_peak: u64,
    /// Times that a connection waited because a lane was full.
    pub room_waits: u64,
    /// Commands executed by several cores.
    pub scattered: u64,
    /// Times that a command waited for a key that another, over several cores, had reserved.
    pub key_waits: u64,
}

/// What memcached's `stats` tells of the commands of its protocols beside hits and misses, which
/// are those of all reads.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemcachedCounters {
    /// Requests to store a value, whatever became of them.
    pub sets: u64,
    /// Requests to flush.
    pub flushes: u64,
    /// Meta commands.
    pub metas: u64,
    /// Deletes that found their key.
    pub delete_hits: u64,
    /// Deletes that did not.
    pub delete_misses: u64,
    /// Increments that found their key.
    pub incr_hits: u64,
    /// Increments that did not.
    pub incr_misses: u64,
    /// Decrements that found their key.
    pub decr_hits: u64,
    /// Decrements that did not.
    pub decr_misses: u64,
    /// Stores on the condition of a version that was right.
    pub cas_hits: u64,
    /// Such stores of a key that was not there.
    pub cas_misses: u64,
    /// Such stores whose version was wrong.
    pub cas_badval: u64,
    /// Requests for a new expiry time that found their key.
    pub touch_hits: u64,
    /// Such requests that did not.
    pub touch_misses: u64,
    /// Values refused because they were too large.
    pub store_too_large: u64,
    /// Values refused because there was no memory for them.
    pub store_no_memory: u64,
    /// Passwords told.
    pub auth_commands: u64,
    /// Of these, wrong ones.
    pub auth_errors: u64,
}

impl MemcachedCounters {
    /// Counts an increment or a decrement.
    #[inline]
    pub fn count_arithmetic(&mut self, is_decrement: bool, hit: bool) {
        match (is_decrement, hit) {
            (false, true) => self.incr_hits += 1,
            (false, false) => self.incr_misses += 1,
            (true, true) => self.decr_hits += 1,
            (true, false) => self.decr_misses += 1,
        }
    }

    /// Counts a request for a new expiry time.
    #[inline]
    pub fn count_touch(&mut self, hit: bool) {
        self.touch_hits += u64::from(hit);
        self.touch_misses += u64::from(!hit);
    }

    /// Counts a request to store a value by what came of it; `has_version` if it was on the
    /// condition of a version.
    #[inline]
    pub fn count_store(&mut self, outcome: &Result<Stored, SetError>, has_version: bool) {
        self.sets += 1;
        match outcome {
            Ok(_) if !has_version => {}
            Ok(Stored::Stored { .. }) => self.cas_hits += 1,
            Ok(Stored::ConditionFailed(Refusal::Absent)) => self.cas_misses += 1,
            Ok(Stored::ConditionFailed(_)) => self.cas_badval += 1,
            Err(SetError::NoSpace) => self.store_no_memory += 1,
            Err(SetError::ValueTooLong { .. } | SetError::TooLarge) => self.store_too_large += 1,
            Err(_) => {}
        }
    }
}

impl Counters {
    /// Commands executed here for connections of this core.
    pub fn local_commands(&self) -> u64 {
        let lanes = &self.lanes;
        self.commands.saturating_sub(lanes.crossed_in.saturating_sub(lanes.parts_in))
    }

    /// Zeroes what `stats reset` zeroes: what happened, not what is. The commands are still told
    /// of, and so is where they came from.
    pub fn reset(&mut self) {
        let lanes = LaneCounters { asked_peak: 0, ..self.lanes };
        *self = Counters { commands: self.commands, lanes, ..Counters::default() };
    }
}
