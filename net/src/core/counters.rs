//! What a core counts about itself. Plain integers that only the core touches; the control thread
//! gets a copy when somebody asks.

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
    /// Requests refused because they were longer, or had more arguments, than is allowed.
    pub oversized_requests: u64,
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
}

impl Counters {
    /// Zeroes what `stats reset` zeroes: what happened, not what is.
    pub fn reset(&mut self) {
        *self = Counters { commands: self.commands, ..Counters::default() };
    }
}
