//! Sending, back-pressure, and the end of a connection.

use std::io;

use pinion_ring::Key;

use super::limits::{
    FILL_BYTES_PER_TURN, GENTLE_GROWTH_BYTES, SEND_BYTES_MAX, SPARE_BYTES_MAX, SPARE_BYTES_MIN,
    SPARES_BYTES_MAX,
};
use super::{Core, Transport};
use crate::connection::Closing;

/// Buffers that wait for their next use, most recently used first, so that they are warm.
#[derive(Debug, Default)]
pub(super) struct Spares {
    buffers: Vec<Vec<u8>>,
    /// Capacity of all of them.
    bytes: usize,
}

impl Spares {
    /// An empty buffer with some capacity.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let Some(buffer) = self.buffers.pop() else {
            return Vec::with_capacity(SPARE_BYTES_MIN);
        };
        self.bytes -= buffer.capacity();
        buffer
    }

    /// Keeps a buffer, unless it is too large or there are enough.
    pub(super) fn keep(&mut self, mut buffer: Vec<u8>) {
        let useful = (1..=SPARE_BYTES_MAX).contains(&buffer.capacity());
        if useful && self.bytes + buffer.capacity() <= SPARES_BYTES_MAX {
            buffer.clear();
            self.bytes += buffer.capacity();
            self.buffers.push(buffer);
        }
    }

    /// Adds bytes to a buffer, which is taken from here if it has no memory yet. A large one grows
    /// by an eighth: doubling would take twice what a large request needs.
    pub(super) fn append(&mut self, buffer: &mut Vec<u8>, bytes: &[u8]) {
        if buffer.capacity() == 0 {
            *buffer = self.take();
        }
        if buffer.len() + bytes.len() > buffer.capacity().max(GENTLE_GROWTH_BYTES) {
            buffer.reserve_exact(bytes.len().max(buffer.len() / 8));
        }
        buffer.extend_from_slice(bytes);
    }

    /// Capacity of all buffers.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Frees buffers until they take no more than `bytes_max`. Each was kept once, so this costs
    /// what keeping them has saved.
    pub(super) fn shed(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let Some(buffer) = self.buffers.pop() else { break };
            self.bytes -= buffer.capacity();
        }
    }
}

impl<T: Transport> Core<T> {
    /// Starts a send for every connection that has output and none in flight.
    pub(super) fn flush(&mut self) {
        let mut filled_bytes = 0;
        // Those that have waited for longest come first.
        let waited = self.deferred.len();
        for number in 0..waited {
            filled_bytes += self.flush_one(self.deferred[number], filled_bytes);
        }
        while let Some(index) = self.dirty.pop() {
            filled_bytes += self.flush_one(index, filled_bytes);
        }
        self.deferred.drain(..waited);
    }

    /// Starts a send for a connection that has output and none in flight. Values that it refers
    /// to wait for the next turn, if `filled_bytes` of such were copied in this one already.
    /// Returns how many more were.
    fn flush_one(&mut self, index: u32, filled_bytes: usize) -> usize {
        let Some(connection) = self.connections.at(index) else { return 0 };
        connection.dirty = false;
        if connection.sending.is_some() || connection.closing == Closing::Dropped {
            return 0;
        }
        if connection.crossed > 0 && self.holds_output(index) {
            return 0;
        }
        let Some(connection) = self.connections.at(index) else { return 0 };
        if let Some(buffer) = connection.replies.take_tail() {
            self.spares.keep(buffer);
        }
        let mut copied_bytes = 0;
        if connection.replies.may_fill() {
            // While memory for buffers is short, readers go on in small pieces.
            let has_memory = self.budget.may_fill(connection.output_bytes());
            let piece_bytes = if has_memory { SEND_BYTES_MAX } else { SPARE_BYTES_MIN };
            let ready = connection.replies.ready();
            if filled_bytes < FILL_BYTES_PER_TURN {
                if ready.capacity() == 0 && has_memory {
                    *ready = self.spares.take();
                }
                copied_bytes = connection.replies.fill(&mut self.shard, piece_bytes);
            } else if ready.is_empty() {
                connection.dirty = true;
                self.deferred.push(index);
                return 0;
            }
        }
        if connection.replies.ready_bytes() == 0 && self.fetch_piece(index) {
            if let Some(connection) = self.connections.at(index) {
                connection.dirty = true;
                self.deferred.push(index);
            }
            return copied_bytes;
        }
        let Some(connection) = self.connections.at(index) else { return copied_bytes };
        let ready = connection.replies.ready();
        if ready.is_empty() {
            self.ending.push(connection.key);
            return copied_bytes;
        }
        let buffer = std::mem::take(ready);
        let to = buffer.len().min(SEND_BYTES_MAX);
        connection.sending = Some((0, to));
        connection.sending_bytes = buffer.capacity();
        connection.held_since_ns = 0;
        self.budget.recount(connection);
        self.counters.sends += 1;
        self.transport.send(&connection.socket, connection.key, buffer, 0, to);
        copied_bytes
    }

    /// Handles the end of a send: goes on with the rest of the buffer, or with newer output.
    pub(super) fn sent(&mut self, key: Key, buffer: Vec<u8>, result: io::Result<usize>) {
        let Some(connection) = self.connections.find(key) else {
            debug_assert!(false, "I3: a connection outlives its send");
            return;
        };
        let Some((from, _)) = connection.sending.take() else { return };
        connection.moved_ms = self.now_ms;
        let sent = match result {
            Ok(sent) if sent > 0 => sent,
            // The peer is gone, or the socket broken: nothing more can be said to it.
            _ => {
                connection.close(Closing::Dropped);
                connection.sending_bytes = 0;
                self.budget.recount(connection);
                self.spares.keep(buffer);
                self.ending.push(key);
                return;
            }
        };
        self.counters.bytes_out += sent as u64;
        let from = from + sent;
        if from < buffer.len() {
            let to = buffer.len().min(from + SEND_BYTES_MAX);
            connection.sending = Some((from, to));
            self.counters.sends += 1;
            self.transport.send(&connection.socket, key, buffer, from, to);
            return;
        }
        connection.sending_bytes = 0;
        self.budget.recount(connection);
        self.spares.keep(buffer);
        let held = connection.replies.held_bytes();
        if connection.paused && connection.may_resume() {
            self.resume(key);
        }
        if held > 0 {
            self.mark_dirty(key.index);
        } else if let Some(connection) = self.connections.find(key)
            && connection.closing > Closing::Open
        {
            self.ending.push(key);
        }
    }

    /// Lets a connection go on whose replies have been read, or lets it wait for memory.
    pub(super) fn resume(&mut self, key: Key) {
        let Some(connection) = self.connections.find(key) else { return };
        if self.budget.may_answer(connection.output_bytes()) {
            connection.paused = false;
            self.let_receive(key);
            self.mark_runnable(key.index);
        } else {
            self.budget.wait(connection);
        }
    }

    /// Ends connections that have come to their end: those whose output is out are shut down, and
    /// those that have nothing in flight any more are closed.
    pub(super) fn reap(&mut self) {
        while let Some(key) = self.ending.pop() {
            let Some(connection) = self.connections.find(key) else { continue };
            let pending = match connection.closing {
                Closing::Open => continue,
                Closing::Draining => {
                    connection.replies.outstanding()
                        || connection.replies.held_bytes() > 0
                        || connection.runnable
                        || connection.paused
                        || connection.postponed
                        || connection.lane_wait
                        || connection.task.is_some()
                }
                Closing::Flushing => {
                    connection.replies.outstanding() || connection.replies.held_bytes() > 0
                }
                Closing::Dropped => false,
            };
            if pending || (connection.sending.is_some() && connection.closing != Closing::Dropped) {
                continue;
            }
            connection.close(Closing::Dropped);
            if connection.receiving || connection.sending.is_some() {
                // Both operations end soon, and bring this connection here again.
                self.transport.shutdown(&connection.socket);
            } else if let Some(connection) = self.connections.remove(key) {
                self.release(connection);
            }
        }
    }
}
