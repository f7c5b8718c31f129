//! Connections that are quiet: those that have been for too long are closed (`--timeout`), and at
//! the end all are, one by one, as soon as they have got what they are owed.

use super::limits::{QUIET_LOOK_MS, QUIET_SLOTS_PER_LOOK, SETTLING_TURNS};
use super::{Core, Transport};
use crate::connection::{Closing, Connection};

/// Where the look for quiet connections goes on, and when.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Look {
    at_ms: Option<u64>,
    hand: u32,
}

/// Whether nothing is being done for the client, and nothing is owed to it.
fn is_owed_nothing<S>(connection: &Connection<S>) -> bool {
    connection.sending.is_none()
        && !connection.replies.outstanding()
        && connection.replies.held_bytes() == 0
        && connection.task.is_none()
        && !connection.runnable
        && !connection.paused
        && !connection.postponed
        && !connection.lane_wait
}

impl<T: Transport> Core<T> {
    /// When the next look is due.
    pub(super) fn quiet_timer_ms(&self) -> Option<u64> {
        self.quiet.at_ms
    }

    /// Closes connections whose time is up; looks at a bounded number of slots, so that all are
    /// looked at within a second as long as there are no more than ten thousand.
    pub(super) fn close_quiet(&mut self) {
        let timeout_ms = self.options.settings.limits.timeout_ms;
        if timeout_ms == 0 || self.connections.is_empty() {
            self.quiet.at_ms = None;
            return;
        }
        let look_ms = self.now_ms + QUIET_LOOK_MS;
        let at_ms = *self.quiet.at_ms.get_or_insert(look_ms);
        if self.now_ms < at_ms {
            return;
        }
        self.quiet.at_ms = Some(look_ms);
        for _ in 0..QUIET_SLOTS_PER_LOOK.min(self.connections.slots()) {
            self.quiet.hand = (self.quiet.hand + 1) % self.connections.slots() as u32;
            let Some(connection) = self.connections.at(self.quiet.hand) else { continue };
            // One that waits because of us is not quiet; one that does not read is.
            let waits = connection.task.is_some() || connection.postponed || connection.waiting;
            let waits = waits || connection.lane_wait;
            let waits = waits || (connection.replies.outstanding() && connection.sending.is_none());
            let is_due = connection.moved_ms + timeout_ms <= self.now_ms;
            if is_due && !waits && connection.closing < Closing::Dropped {
                connection.close(Closing::Dropped);
                let key = connection.key;
                self.counters.timeouts += 1;
                self.ending.push(key);
            }
        }
    }

    /// Begins to end: no one is let in any more, and connections are closed as soon as they have
    /// got their replies, at the latest when the time for it is over.
    pub(super) fn stop(&mut self) {
        let at_ms = self.now_ms + self.options.drain_ms;
        self.stop_at_ms = Some(self.stop_at_ms.map_or(at_ms, |earlier| earlier.min(at_ms)));
    }

    /// Whether the core was told to end, and has sent what it could. Closes those who are owed
    /// nothing, once all that had come when the end began has been looked at; `exhausted` tells
    /// that this turn has left no event.
    pub(super) fn has_ended(&mut self, exhausted: bool) -> bool {
        let Some(stop_at_ms) = self.stop_at_ms else { return false };
        if self.now_ms >= stop_at_ms {
            return self.lanes.as_mut().is_none_or(|lanes| lanes.all_done());
        }
        self.stop_turns += u32::from(exhausted);
        if !exhausted || self.is_settling() {
            return false;
        }
        // Others may wait for keys that commands of this core have reserved.
        let mut are_all = self.joints.is_empty();
        for connection in self.connections.iter_mut() {
            let is_owed_nothing = is_owed_nothing(connection);
            are_all &= is_owed_nothing;
            if is_owed_nothing && connection.closing < Closing::Dropped {
                connection.close(Closing::Dropped);
                self.ending.push(connection.key);
            }
        }
        // Others may have commands for this core as long as they have clients.
        are_all && self.lanes.as_mut().is_none_or(|lanes| lanes.all_done())
    }

    /// Whether the core has been told to end and has yet to look at what had come by then.
    pub(super) fn is_settling(&self) -> bool {
        self.stop_at_ms.is_some() && self.stop_turns < SETTLING_TURNS
    }
}
