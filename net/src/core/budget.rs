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
//! replies wait, for the moment that items need to make room, while what is held comes near to what
//! is not lent; requests do not.
//!
//! - B1. `held_bytes` is the sum of the connections' `counted_bytes`.
//! - B2. A connection held back for want of memory is in `waiting`.
//! - B3. Held and spare bytes together exceed the share at most by one reply and one receive.
//! - B4. `free_bytes` is at most `limit_bytes`, and no less than is held once the loan is back.
//!
//! Cost: a few additions a command. Waiting connections are looked at when memory has come back,
//! [`WAITING_PER_TURN`] in a turn.

use std::collections::VecDeque;

use pinion_ring::Key;

use super::limits::{
    SMALL_BYTES, SPARE_BYTES_MIN, STALL_MS, STALL_SLOTS_PER_LOOK, STALLED_LOOK_MS, TRIM_AFTER_MS,
    TRIM_BYTES_MIN, WAITING_PER_TURN,
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

/// The state of the budget.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// The share.
    limit_bytes: usize,
    /// What of it is not in the hands of items.
    free_bytes: usize,
    held_bytes: usize,
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

    /// Sets the share, and what of it is not in the hands of items.
    pub(super) fn set_limit(&mut self, limit_bytes: usize, free_bytes: usize) {
        if limit_bytes > self.limit_bytes || free_bytes > self.free_bytes {
            self.unexamined = self.waiting.len();
        }
        self.limit_bytes = limit_bytes;
        self.free_bytes = free_bytes.min(limit_bytes);
    }

    /// The most that was held, or kept for reuse, since the allocator last gave back what is free;
    /// `spare_bytes` are kept now.
    pub(super) fn recent_peak_bytes(&mut self, spare_bytes: usize) -> usize {
        self.peak_with_spares_bytes =
            self.peak_with_spares_bytes.max(self.held_bytes + spare_bytes);
        self.peak_with_spares_bytes.max(self.peak_since_trim_bytes)
    }

    /// Whether more is held than is not in the hands of items.
    pub(super) fn is_overdrawn(&self) -> bool {
        self.held_bytes > self.free_bytes
    }

    /// What replies may take of the share now.
    #[inline]
    fn replies_bytes(&self) -> usize {
        (self.limit_bytes / 16 * REPLIES).min(self.free_bytes - self.free_bytes / 4)
    }

    /// Bytes that are left.
    pub(super) fn room(&self) -> usize {
        self.limit_bytes.saturating_sub(self.held_bytes)
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

    /// Whether a connection may add `more` bytes to its input.
    pub(super) fn may_keep<S>(&self, connection: &Connection<S>, more: usize) -> bool {
        let sixteenths = match connection.input.len() + more {
            0..=SPARE_BYTES_MIN => 16,
            _ if connection.paused => WAITING,
            _ => REQUESTS,
        };
        self.held_bytes + more <= self.limit_bytes / 16 * sixteenths
    }

    /// Bytes that the reply to one command may take; the flag tells that a larger one has to wait
    /// for memory, since this is the reserve.
    #[inline]
    pub(super) fn reply_room(&self) -> (usize, bool) {
        if self.is_full() { (SMALL_BYTES, true) } else { (self.room(), false) }
    }

    /// Whether the replies' part is used up.
    #[inline]
    fn is_full(&self) -> bool {
        self.held_bytes >= self.limit_bytes / 16 * REPLIES
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

    /// Whether there are connections to look at without anything happening.
    pub(super) fn has_unexamined(&self) -> bool {
        self.unexamined > 0
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
        if !self.budget.is_full() || self.budget.waiting.is_empty() {
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
        if self.budget.is_full() {
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
mod tests {
    use super::*;

    const LIMIT: usize = 16 << 20;

    fn with_held(held_bytes: usize) -> Budget {
        Budget { held_bytes, ..Budget::new(LIMIT) }
    }

    #[test]
    fn those_with_the_most_output_stop_first() {
        // 600 clients that take a reply of 32 KiB whenever they may, and read nothing.
        let (mut outputs, reply_bytes) = (vec![0; 600], 32 << 10);
        let mut grown = true;
        while std::mem::take(&mut grown) {
            for number in 0..outputs.len() {
                let budget = with_held(outputs.iter().sum());
                if budget.may_answer(outputs[number]) {
                    outputs[number] += reply_bytes;
                    grown = true;
                }
            }
        }
        let held: usize = outputs.iter().sum();
        assert!(held <= LIMIT + reply_bytes, "{held}");
        let (least, most) = (outputs.iter().min(), outputs.iter().max());
        assert!(most <= Some(&(2 * reply_bytes)), "{most:?} beside {least:?}");
    }

    #[test]
    fn each_part_is_kept_for_those_that_it_is_for() {
        let mut idle = Connection::new((), Key::new(0, 0), 1, Protocol::Resp);
        let mut paused = Connection::new((), Key::new(1, 0), 2, Protocol::Resp);
        paused.paused = true;
        let sixteenth = LIMIT / 16;
        let replies_full = with_held(sixteenth * REPLIES);
        assert!(!replies_full.may_answer(SMALL_BYTES + 1) && replies_full.may_answer(0));
        assert_eq!(replies_full.reply_room(), (SMALL_BYTES, true));
        assert!(replies_full.may_keep(&paused, sixteenth * 5));
        assert!(!replies_full.may_keep(&paused, sixteenth * 6));
        assert!(replies_full.may_keep(&idle, sixteenth * 7));
        assert!(!replies_full.may_keep(&idle, sixteenth * 8));
        let requests_full = with_held(sixteenth * REQUESTS);
        assert!(requests_full.may_keep(&paused, 100) && requests_full.may_keep(&idle, 100));
        idle.input = vec![0; SPARE_BYTES_MIN];
        assert!(!requests_full.may_keep(&idle, 1));
        assert!(requests_full.may_answer(SMALL_BYTES));
        let full = with_held(LIMIT);
        assert!(!full.may_answer(0) && !full.may_keep(&paused, 1));
        assert_eq!(with_held(0).reply_room(), (LIMIT, false));
    }

    #[test]
    fn a_loan_holds_replies_back_and_refuses_nobody() {
        let idle = Connection::new((), Key::new(0, 0), 1, Protocol::Resp);
        let mut budget = with_held(LIMIT / 8);
        budget.set_limit(LIMIT, LIMIT / 8);
        assert!(!budget.is_overdrawn());
        assert!(!budget.may_answer(SMALL_BYTES + 1), "it would take from items");
        assert!(budget.may_answer(SMALL_BYTES), "that is always there");
        assert!(budget.may_keep(&idle, LIMIT / 4), "requests go first");
        assert_eq!(budget.reply_room(), (LIMIT - LIMIT / 8, false));
        budget.held_bytes += 1;
        assert!(budget.is_overdrawn());
        let mut waits = Connection::new((), Key::new(1, 0), 2, Protocol::Resp);
        budget.wait(&mut waits);
        budget.set_limit(LIMIT, LIMIT / 8);
        assert!(!budget.has_unexamined(), "nothing has changed");
        budget.set_limit(LIMIT, LIMIT / 2);
        assert!(budget.has_unexamined() && budget.may_answer(SMALL_BYTES + 1));
    }

    #[test]
    fn what_connections_hold_adds_up() {
        let mut budget = with_held(0);
        let mut connection = Connection::new((), Key::new(0, 0), 1, Protocol::Memcached);
        connection.input.reserve_exact(5_000);
        connection.sending_bytes = 700;
        connection.session.name.reserve_exact(30);
        connection.session.recount();
        budget.recount(&mut connection);
        assert_eq!(budget.held_bytes, 5_730);
        budget.wait(&mut connection);
        budget.wait(&mut connection);
        assert_eq!((budget.waiting.len(), budget.unexamined), (1, 0), "it waits once");
        connection.sending_bytes = 0;
        budget.recount(&mut connection);
        assert_eq!((budget.held_bytes, budget.unexamined), (5_030, 1));
        budget.forget(&connection);
        assert_eq!(budget.held_bytes, 0);
    }

    #[test]
    fn memory_goes_back_once_a_peak_is_long_gone() {
        let mut budget = with_held(0);
        budget.peak_since_trim_bytes = TRIM_BYTES_MIN;
        assert!(!budget.trim_is_due(100));
        assert_eq!(budget.timer_ms(), Some(100 + TRIM_AFTER_MS));
        budget.held_bytes = TRIM_BYTES_MIN / 2;
        assert!(!budget.trim_is_due(150), "it has come back");
        assert_eq!(budget.timer_ms(), None);
        budget.held_bytes = 0;
        assert!(!budget.trim_is_due(200));
        assert_eq!(budget.recent_peak_bytes(1), TRIM_BYTES_MIN);
        assert_eq!(budget.recent_peak_bytes(TRIM_BYTES_MIN + 1), TRIM_BYTES_MIN + 1);
        assert!(budget.trim_is_due(200 + TRIM_AFTER_MS));
        assert_eq!(budget.recent_peak_bytes(1), 1, "what was free is the kernel's again");
        assert!(!budget.trim_is_due(9_000) && budget.timer_ms().is_none(), "once");
    }
}
