//! The limit on the age of requests (`--request-age`): what was received and has waited longer is
//! answered with an error instead of executed.
//!
//! A request waits here behind one that is held back (its client does not read, or memory is
//! short), behind one that takes many turns, during CLIENT PAUSE, and when its connection has sent
//! more than a turn executes. Its age counts from when its last byte was received, so a client that
//! sends slowly is not blamed; the time in the kernel's queues is not known.
//!
//! Requests that are executed where they were received have not waited, and are not looked at. The
//! others are looked at when they come to be executed; those of connections that stand still for
//! want of memory or for a pause also every [`AGE_LOOK_MS`], so that their error does not wait for
//! the end of that.
//!
//! Cost: nothing without the flag; with it, a note for each receive whose bytes stay, and a look-up
//! for each command that is executed from such bytes.

use super::batch::{Source, Work};
use super::limits::{AGE_LOOK_MS, AGE_REFUSALS_PER_LOOK, QUIET_SLOTS_PER_LOOK};
use super::{Core, Transport};
use crate::command::{self, Aged, Arguments, Context, Flow};
use crate::connection::{Closing, Connection};
use crate::protocol::{memcached, resp};

/// Where the look for old requests goes on, and when.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AgeLook {
    at_ms: Option<u64>,
    hand: u32,
}

/// Whether the request that ends at `to` of a connection's input has waited longer than `age_ms`;
/// 0 is no limit.
#[inline]
pub(super) fn is_old<S>(
    connection: &Connection<S>,
    source: Source,
    to: u32,
    now_ms: u64,
    age_ms: u64,
) -> bool {
    source == Source::Input && age_ms > 0 && {
        let behind = connection.input.len().saturating_sub(to as usize);
        let came_ms = connection.arrivals.as_ref().and_then(|arrivals| arrivals.of(behind));
        came_ms.is_some_and(|came_ms| came_ms + age_ms < now_ms)
    }
}

/// Refuses a request that is too old. `None` if it is to be executed all the same.
#[cold]
pub(super) fn refuse(
    work: Work,
    context: &mut Context<'_>,
    frame: &[u8],
    args: &resp::Args,
    limits: &memcached::Limits,
) -> Option<Flow> {
    match work {
        Work::Resp(Some(spec)) => command::refuse_old(context, spec, &Arguments::new(frame, args)),
        Work::Memcached => command::memcached::refuse_old(context, frame, limits),
        Work::Binary => command::memcached::refuse_old_binary(context, frame, limits),
        // These are refusals themselves.
        _ => None,
    }
}

impl<T: Transport> Core<T> {
    /// When the next look is due.
    pub(super) fn age_timer_ms(&self) -> Option<u64> {
        self.age.at_ms
    }

    /// Answers requests that have become too old while their connections stand still. Looks at a
    /// bounded number of slots; nothing is in the batch.
    pub(super) fn answer_old(&mut self) {
        let is_wanted = self.options.settings.limits.request_age_ms > 0
            && (!self.postponed.is_empty() || self.budget.has_waiting());
        if !is_wanted {
            self.age.at_ms = None;
            return;
        }
        let look_ms = self.now_ms + AGE_LOOK_MS;
        if self.now_ms < *self.age.at_ms.get_or_insert(look_ms) {
            return;
        }
        self.age.at_ms = Some(look_ms);
        let mut left = AGE_REFUSALS_PER_LOOK;
        for _ in 0..QUIET_SLOTS_PER_LOOK.min(self.connections.slots()) {
            self.age.hand = (self.age.hand + 1) % self.connections.slots() as u32;
            while self.answer_old_of(self.age.hand) {
                left -= 1;
                if left == 0 {
                    self.age.at_ms = Some(self.now_ms + 1);
                    return;
                }
            }
        }
    }

    /// Answers the first requests of a connection that stands still, as far as they are too old;
    /// whether there may be more of them.
    fn answer_old_of(&mut self, index: u32) -> bool {
        let Some(connection) = self.connections.at(index) else { return false };
        let stands_still = (connection.paused || connection.postponed)
            && connection.task.is_none()
            && !connection.is_arriving()
            && connection.parsed == 0
            && connection.closing < Closing::Flushing;
        let output_bytes_max = self.options.settings.limits.output_bytes_max;
        if !stands_still
            || connection.input.is_empty()
            || connection.replies.held_bytes() > output_bytes_max
            || !self.budget.may_answer(connection.output_bytes())
        {
            return false;
        }
        let key = connection.key;
        if self.parse_some(index).is_none() {
            return false;
        }
        let count = self.batch.len();
        let mut answered = 0;
        while answered < count && self.is_refusable(answered) {
            self.execute(answered);
            answered += 1;
        }
        if answered < count {
            self.put_back(answered, key);
        }
        self.end_batch();
        answered > 0 && answered == count
    }

    /// Whether a command of the batch is too old, and nothing is lost if it is dealt with before
    /// its connection goes on.
    fn is_refusable(&mut self, number: usize) -> bool {
        let command = self.batch.commands[number];
        let age_ms = self.options.settings.limits.request_age_ms;
        let now_ms = self.now_ms;
        let Some(connection) = self.connections.find(command.connection) else { return false };
        let settings = &self.options.settings;
        let is_known = match command.work {
            Work::Resp(Some(spec)) => {
                Aged::of(spec) != Aged::Connection
                    && (connection.session.authenticated || !settings.has_password())
            }
            Work::Memcached | Work::Binary => {
                command::memcached::is_authenticated(settings, &connection.session)
            }
            _ => false,
        };
        is_known && is_old(connection, command.source, command.to, now_ms, age_ms)
    }
}
