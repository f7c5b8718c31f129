//! The memory of all connections' buffers: counted as it is taken, and kept within its share.
//!
//! A connection's *held* bytes are the capacities of its input, of its replies, of the buffer that
//! is being sent, and of what it told about itself. They are counted again whenever one of them
//! may have changed, so the sum is always known without a walk.
//!
//! ```text
//! share: |<----- replies: 8 ----->|<- what waits: 13 ->|<- requests: 15 ->|<- small: 16 ->|
//! ```
//!
//! (Sixteenths of the share, up to which each kind may fill it.)
//!
//! - *Replies.* A command runs only while its connection's output is smaller than what is left of
//!   the replies' part. So the threshold falls as memory fills, those with the most output stop
//!   first, and n clients that do not read come to hold `1/(n+1)` of it each (Choudhury and Hahne,
//!   "Dynamic queue length thresholds for shared-memory packet switches", 1998). A connection that
//!   is held back is not read from, and goes on when there is room, in turn: while m others wait,
//!   it may not take more than `1/(m+1)` of the part, or one reply.
//! - *Requests.* The beginning of a request has to be kept until the rest has come, and so have
//!   the commands behind one that is held back; waiting would not help. When there is no room for
//!   them they are refused with an error, and the connection ends: the latter first.
//! - The last sixteenth is for connections that hold next to nothing, and for small replies: these
//!   are served when all others wait.
//! - While the replies' part is full and somebody waits, connections that hold more than the mean
//!   and have neither taken nor sent a byte for [`STALL_MS`] are closed, so that nobody waits for
//!   ever for those who never read.
//!
//! What is not used of the share may be lent to items (`lending`). A loan refuses nobody anything:
//! replies that take much wait until items have made room for them, and while what is held comes
//! near to what is not lent; small ones and requests go on, into the reserve, which is made up for
//! at the end of the turn. While replies wait, the loan is called back, more each time.
//!
//! - B1. `held_bytes` is the sum of the connections' `counted_bytes`, and `cargo_bytes`.
//! - B2. A connection held back for want of memory is in `waiting`.
//! - B3. Held and spare bytes together exceed the share at most by one reply and one receive.
//! - B4. `free_bytes` is at most `limit_bytes`, and what of it is not in the hands of items. A
//!   reply that can be put off takes no more than three quarters of it, or is small.
//! - B5. Spare bytes fit into what is free beside held ones.
//!
//! Cost: a few additions a command. Waiting connections are looked at when memory has come back,
//! [`WAITING_PER_TURN`] in a turn.

use std::collections::VecDeque;

use pinion_ring::Key;

use super::limits::{
    SEND_BYTES_MAX, SMALL_BYTES, SPARE_BYTES_MIN, STALL_MS, STALL_SLOTS_PER_LOOK, STALLED_LOOK_MS,
    TRIM_AFTER_MS, TRIM_BYTES_MIN, WAITING_PER_TURN,
};
use super::{Core, Transport};
use crate::connection::{Closing, Connection, Protocol};

/// Sixteenths of the share up to which replies may fill it,
const REPLIES: usize = 8;
/// commands that wait behind one that is held back,
const WAITING: usize = 13;
/// and requests of which a part has come.
const REQUESTS: usize = 15;

const _: () = assert!(REPLIES < WAITING && WAITING < REQUESTS && REQUESTS < 16);

/// What INFO tells of the buffers.
#[derive(Clone, Copy, Debug, Default)]
pub struct BufferFigures {
    /// Bytes that connections hold.
    pub held_bytes: usize,
    /// The most that they held at a time.
    pub peak_bytes: usize,
    /// Bytes of buffers kept for reuse.
    pub spare_bytes: usize,
    /// Connections held back for want of memory.
    pub waiting: usize,
}

/// What the reply to a command may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReplyRoom {
    /// Bytes of the share.
    pub(super) share_bytes: usize,
    /// Bytes that are not lent to items: a larger reply waits, if it can be put off.
    pub(super) now_bytes: usize,
    /// Whether a reply that is larger than all that waits: others hold the rest.
    pub(super) may_wait: bool,
}

impl ReplyRoom {
    /// The same for a command that is answered now or never.
    pub(super) fn at_once(self) -> ReplyRoom {
        ReplyRoom { now_bytes: self.share_bytes, may_wait: false, ..self }
    }

    /// The same for one whose earlier slices have taken memory already.
    pub(super) fn in_slices(self) -> ReplyRoom {
        ReplyRoom { now_bytes: self.share_bytes, ..self }
    }
}

/// The state of the budget.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// The share.
    limit_bytes: usize,
    /// What of it is not in the hands of items.
    free_bytes: usize,
    /// What of that is kept for requests and small replies while something is lent.
    reserve_bytes: usize,
    /// What the loan is to leave for replies that wait; 0 while none waits for it.
    asked_bytes: usize,
    /// Whether more is to be asked for in the next turn.
    asks_on: bool,
    held_bytes: usize,
    /// What of it no connection holds: what crosses between cores, and commands that wait for keys.
    cargo_bytes: usize,
    peak_bytes: usize,
    /// The most held since the allocator was last asked to give back what is free.
    peak_since_trim_bytes: usize,
    /// The same with the buffers kept for reuse, at the ends of turns.
    peak_with_spares_bytes: usize,
    /// When it is to be asked.
    trim_at_ms: Option<u64>,
    /// Connections held back (B2), longest first.
    waiting: VecDeque<Key>,
    /// How many of them have not been looked at since memory came back.
    unexamined: usize,
    /// When stalled connections are looked for, and where the look goes on.
    stalled_at_ms: Option<u64>,
    hand: u32,
}

impl Budget {
    pub(super) fn new(limit_bytes: usize) -> Budget {
        Budget { limit_bytes, free_bytes: limit_bytes, ..Budget::default() }
    }

    /// Sets the share, what of it is not in the hands of items, and what of that is kept for what
    /// cannot wait.
    pub(super) fn set_limit(
        &mut self,
        limit_bytes: usize,
        free_bytes: usize,
        reserve_bytes: usize,
    ) {
        let free_bytes = free_bytes.min(limit_bytes);
        if limit_bytes > self.limit_bytes || free_bytes > self.free_bytes {
            self.unexamined = self.waiting.len();
        }
        self.limit_bytes = limit_bytes;
        self.free_bytes = free_bytes;
        self.reserve_bytes = reserve_bytes / 2;
    }

    /// What the loan is to leave because replies wait for it: more each time that `is_paid` what
    /// was called back, so that no more items go than have to. To be asked once a turn.
    pub(super) fn ask(&mut self, is_paid: bool) -> usize {
        let waits_for_loan = self.has_waiting() && self.is_lent() && !self.is_full();
        if !waits_for_loan {
            self.asked_bytes = 0;
        } else if is_paid {
            let least_bytes = self.held_bytes + 2 * self.reserve_bytes;
            self.asked_bytes = (2 * self.asked_bytes).max(least_bytes).min(self.limit_bytes);
        }
        self.asks_on = waits_for_loan && is_paid && self.asked_bytes < self.limit_bytes;
        self.asked_bytes
    }

    /// Whether items have some of the share.
    #[inline]
    fn is_lent(&self) -> bool {
        self.free_bytes < self.limit_bytes
    }

    /// What has been taken of the reserve, and the shard is to make up for at once.
    pub(super) fn overdraft_bytes(&self) -> usize {
        if !self.is_lent() {
            return 0;
        }
        (self.held_bytes + self.reserve_bytes).saturating_sub(self.free_bytes)
    }

    /// The most that was held, or kept for reuse, since the allocator last gave back what is free;
    /// `spare_bytes` are kept now.
    pub(super) fn recent_peak_bytes(&mut self, spare_bytes: usize) -> usize {
        self.peak_with_spares_bytes =
            self.peak_with_spares_bytes.max(self.held_bytes + spare_bytes);
        self.peak_with_spares_bytes.max(self.peak_since_trim_bytes)
    }

    /// What replies may take of the share now.
    #[inline]
    fn replies_bytes(&self) -> usize {
        (self.limit_bytes / 16 * REPLIES).min(self.free_bytes - self.free_bytes / 4)
    }

    /// Bytes that are left, and not in the hands of items.
    pub(super) fn room(&self) -> usize {
        self.free_bytes.saturating_sub(self.held_bytes)
    }

    /// Counts a connection's buffers again (B1).
    #[inline]
    pub(super) fn recount<S>(&mut self, connection: &mut Connection<S>) {
        let bytes = connection.buffer_bytes();
        let before = std::mem::replace(&mut connection.counted_bytes, bytes);
        self.held_bytes = self.held_bytes + bytes - before;
        self.peak_since_trim_bytes = self.peak_since_trim_bytes.max(self.held_bytes);
        if bytes < before && !self.waiting.is_empty() {
            self.unexamined = self.waiting.len();
        }
    }

    /// Counts memory that no connection holds,
    pub(super) fn hold_cargo(&mut self, bytes: usize) {
        self.cargo_bytes += bytes;
        self.held_bytes += bytes;
        self.peak_since_trim_bytes = self.peak_since_trim_bytes.max(self.held_bytes);
    }

    /// and counts it no more.
    pub(super) fn release_cargo(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.cargo_bytes, "it was counted");
        self.cargo_bytes -= bytes;
        self.held_bytes -= bytes;
        self.unexamined = self.waiting.len();
    }

    /// Forgets a connection that is gone.
    pub(super) fn forget<S>(&mut self, connection: &Connection<S>) {
        self.held_bytes -= connection.counted_bytes;
        self.unexamined = self.waiting.len();
    }

    /// Whether a connection with `output_bytes` of output may execute another command.
    #[inline]
    pub(super) fn may_answer(&self, output_bytes: usize) -> bool {
        let part_bytes = self.replies_bytes();
        let left = part_bytes.saturating_sub(self.held_bytes);
        let fair = part_bytes / (self.waiting.len() + 1);
        output_bytes < left.min(fair)
            || (output_bytes <= SMALL_BYTES && self.held_bytes < self.limit_bytes)
    }

    /// Whether a connection with `output_bytes` of output may copy a whole send of a large value.
    pub(super) fn may_fill(&self, output_bytes: usize) -> bool {
        let room = self.reply_room();
        let has_room = room.now_bytes >= SEND_BYTES_MAX || room.now_bytes == room.share_bytes;
        has_room && self.may_answer(output_bytes)
    }

    /// Whether a connection may add `more` bytes to its input.
    pub(super) fn may_keep<S>(&self, connection: &Connection<S>, more: usize) -> bool {
        let sixteenths = match connection.input.len() + more {
            0..=SPARE_BYTES_MIN => 16,
            _ if connection.paused => WAITING,
            _ => REQUESTS,
        };
        self.held_bytes + more <= self.limit_bytes / 16 * sixteenths
    }

    /// What the reply to one command may take. When the replies' part is used up, this is the
    /// reserve.
    #[inline]
    pub(super) fn reply_room(&self) -> ReplyRoom {
        if self.is_full() {
            let (share_bytes, now_bytes) = (SMALL_BYTES, SMALL_BYTES);
            return ReplyRoom { share_bytes, now_bytes, may_wait: true };
        }
        let share_bytes = self.limit_bytes - self.held_bytes;
        let mut now_bytes = share_bytes;
        if self.is_lent() {
            let free_bytes = self.free_bytes - self.free_bytes / 4;
            now_bytes = free_bytes.saturating_sub(self.held_bytes).max(SMALL_BYTES);
        }
        ReplyRoom { share_bytes, now_bytes: now_bytes.min(share_bytes), may_wait: false }
    }

    /// Whether the replies' part is used up.
    #[inline]
    fn is_full(&self) -> bool {
        self.held_bytes >= self.limit_bytes / 16 * REPLIES
    }

    /// Whether those who wait would only wait again.
    fn is_tight(&self) -> bool {
        self.held_bytes >= self.replies_bytes()
    }

    /// Whether memory is short enough that what is held back is not read from either.
    pub(super) fn is_short(&self) -> bool {
        self.held_bytes > self.limit_bytes / 4
    }

    /// Puts a connection that is held back into the queue (B2).
    pub(super) fn wait<S>(&mut self, connection: &mut Connection<S>) {
        if !std::mem::replace(&mut connection.waiting, true) {
            self.waiting.push_back(connection.key);
        }
    }

    /// Whether connections are held back.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether there is something to do at once: connections to look at, or memory to ask for.
    pub(super) fn has_more(&self) -> bool {
        self.unexamined > 0 || self.asks_on
    }

    /// When there is something to do without anything happening.
    pub(super) fn timer_ms(&self) -> Option<u64> {
        self.stalled_at_ms.into_iter().chain(self.trim_at_ms).min()
    }

    /// Whether the most that was held is long gone, so that the allocator should give memory back.
    /// Asks for a look later by `timer_ms` while that may come true.
    fn trim_is_due(&mut self, now_ms: u64) -> bool {
        let peak = self.peak_since_trim_bytes;
        if peak < TRIM_BYTES_MIN || self.held_bytes > peak / 4 {
            self.trim_at_ms = None;
            return false;
        }
        let at_ms = *self.trim_at_ms.get_or_insert(now_ms + TRIM_AFTER_MS);
        if now_ms < at_ms {
            return false;
        }
        self.trim_at_ms = None;
        self.peak_bytes = self.peak_bytes.max(peak);
        self.peak_since_trim_bytes = self.held_bytes;
        self.peak_with_spares_bytes = self.held_bytes;
        true
    }
}

impl<T: Transport> Core<T> {
    /// What INFO tells of the buffers.
    pub fn buffer_figures(&self) -> BufferFigures {
        let budget = &self.budget;
        BufferFigures {
            held_bytes: budget.held_bytes,
            peak_bytes: budget.peak_bytes.max(budget.peak_since_trim_bytes),
            spare_bytes: self.spares.bytes(),
            waiting: budget.waiting.len(),
        }
    }

    /// Ends the turn for the buffers: those who wait go on if they can, those who stall are closed
    /// if they must be, and what is not needed any more goes back.
    pub(super) fn tend_buffers(&mut self) {
        self.tend_loan();
        self.spares.shed(self.budget.room());
        if self.budget.unexamined > 0 {
            self.resume_waiting();
        }
        if !self.budget.is_tight() || self.budget.waiting.is_empty() {
            self.budget.stalled_at_ms = None;
        } else {
            let look_ms = self.now_ms + STALLED_LOOK_MS;
            let at_ms = *self.budget.stalled_at_ms.get_or_insert(look_ms);
            if self.now_ms >= at_ms {
                self.budget.stalled_at_ms = Some(look_ms);
                self.close_stalled();
            }
        }
        if self.budget.trim_is_due(self.now_ms) {
            self.spares.shed(TRIM_BYTES_MIN / 4);
            self.inbox.ask(super::Request::Trim);
        }
    }

    /// Lets connections go on that waited for memory, as far as there is some.
    fn resume_waiting(&mut self) {
        if self.budget.is_tight() {
            // The reserve is for those that come, not for those that wait.
            self.budget.unexamined = 0;
            return;
        }
        for _ in 0..WAITING_PER_TURN.min(self.budget.unexamined) {
            self.budget.unexamined -= 1;
            let Some(key) = self.budget.waiting.pop_front() else { break };
            let Some(connection) = self.connections.find(key) else { continue };
            if connection.paused && connection.closing < Closing::Flushing {
                if !connection.may_resume() || !self.budget.may_answer(connection.output_bytes()) {
                    self.budget.waiting.push_back(key);
                    continue;
                }
                connection.paused = false;
                self.let_receive(key);
                self.mark_runnable(key.index);
            }
            if let Some(connection) = self.connections.find(key) {
                connection.waiting = false;
            }
        }
    }

    /// Closes connections that hold more than the mean and have not moved for long; looks at a
    /// bounded number of slots.
    fn close_stalled(&mut self) {
        let mean_bytes = self.budget.held_bytes / self.connections.len().max(1);
        for _ in 0..STALL_SLOTS_PER_LOOK.min(self.connections.slots()) {
            self.budget.hand = (self.budget.hand + 1) % self.connections.slots() as u32;
            let Some(connection) = self.connections.at(self.budget.hand) else { continue };
            // One that waits, and has nothing to take, stands still because of us.
            let is_ours = connection.waiting && connection.sending.is_none();
            let is_ours = is_ours || connection.session.no_evict;
            let is_stalled = !is_ours && connection.moved_ms + STALL_MS <= self.now_ms;
            if is_stalled && connection.counted_bytes >= mean_bytes {
                // Its few bytes may lie in a buffer that was made for others.
                connection.input.shrink_to(SPARE_BYTES_MIN);
                self.budget.recount(connection);
            }
            if is_stalled
                && connection.counted_bytes >= mean_bytes
                && connection.closing < Closing::Dropped
            {
                connection.close(Closing::Dropped);
                let key = connection.key;
                self.counters.buffer_evictions += 1;
                self.ending.push(key);
            }
        }
    }

    /// Refuses what a connection wants to send, since there is no memory to keep it in: it gets an
    /// error, and ends.
    pub(super) fn refuse_input(&mut self, index: u32) {
        let Some(connection) = self.connections.at(index) else { return };
        let text: &[u8] = match connection.protocol() {
            Protocol::Resp => b"-OOM request does not fit into the memory left for buffers\r\n",
            Protocol::Memcached => b"SERVER_ERROR out of memory reading request\r\n",
        };
        connection.replies.writer().extend_from_slice(text);
        connection.close(Closing::Flushing);
        connection.input = Vec::new();
        connection.arrivals = None;
        connection.parsed = 0;
        self.budget.recount(connection);
        let key = connection.key;
        self.counters.buffer_refusals += 1;
        self.counters.errors += 1;
        self.mark_dirty(index);
        self.ending.push(key);
    }
}

#[cfg(test)]
mod tests;
