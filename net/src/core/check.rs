//! Whether a core's lanes, connections and shard hold together, for tests and simulations.
//!
//! What one core is owed another has, somewhere on the way: [`LaneCensus`] counts both sides, so
//! that a simulation, which has all cores at hand, can compare them.

use pinion_ring::Wait;

use super::limits::JOINTS_MAX;
use super::{Core, Transport};
use crate::lane::{Bundle, HEAD_BYTES};

/// What is on the way between a core and one other, in messages, as the one sees it between turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneCensus {
    /// Replies that the other owes this one.
    pub outstanding: usize,
    /// Requests that were not posted yet,
    pub asked: usize,
    /// those of the other that were not taken yet,
    pub requests_in: usize,
    /// those of them that are taken and were not executed yet,
    pub taken: usize,
    /// and those that are being executed, or wait for another client.
    pub working: usize,
    /// Replies that were not posted yet.
    pub answered: usize,
    /// Replies of the other that were not taken yet.
    pub replies_in: usize,
    /// Bytes of the bundles that this core fills now or has in store.
    pub kept_bytes: usize,
    /// Bytes of the bundles that the other has posted.
    pub posted_bytes: usize,
}

impl LaneCensus {
    /// Whether nothing is on the way.
    pub fn is_at_rest(&self) -> bool {
        let LaneCensus { kept_bytes, posted_bytes, .. } = *self;
        *self == LaneCensus { kept_bytes, posted_bytes, ..LaneCensus::default() }
    }
}

fn kept_bytes<C>(spares: &[Bundle<C>]) -> usize {
    spares.iter().map(Bundle::capacity_bytes).sum()
}

impl<T: Transport> Core<T> {
    /// How long the core could sleep now if nothing came. [`Wait::No`]: there is work, or another
    /// core has posted something.
    pub fn patience(&self) -> Wait {
        let has_post = self.lanes.as_ref().is_some_and(|lanes| lanes.has_post());
        if self.has_more() || has_post { Wait::No } else { self.bounded(Wait::Forever) }
    }

    /// What is on the way between this core and another.
    pub fn lane_census(&mut self, other: usize) -> LaneCensus {
        let tasks = self.guest_tasks.iter().filter(|task| task.dest.core == other);
        let in_tasks: usize = tasks.map(|task| 1 + task.behind.len()).sum();
        let working = in_tasks + self.fills.guests_of(other) + self.reservations.guests_of(other);
        let Some(peer) = self.lanes.as_mut().and_then(|lanes| lanes.peers[other].as_mut()) else {
            return LaneCensus::default();
        };
        let mut census = LaneCensus {
            outstanding: peer.outstanding,
            asked: peer.asked.count(),
            working,
            answered: peer.answered.count(),
            kept_bytes: peer.asked.capacity_bytes()
                + peer.answered.capacity_bytes()
                + peer.taken.capacity_bytes()
                + kept_bytes(&peer.spare_asked)
                + kept_bytes(&peer.spare_answered),
            ..LaneCensus::default()
        };
        peer.requests_in.peek(|bundle| {
            census.requests_in += bundle.count();
            census.posted_bytes += bundle.capacity_bytes();
        });
        peer.replies_in.peek(|bundle| {
            census.replies_in += bundle.count();
            census.posted_bytes += bundle.capacity_bytes();
        });
        let mut at = peer.taken_at;
        while let Some((_, bytes)) = peer.taken.at(at) {
            at += HEAD_BYTES + bytes.len();
            census.taken += 1;
        }
        census
    }

    /// Checks, between turns, what connections, lanes and shard promise. Walks all of them.
    ///
    /// # Errors
    /// What does not hold.
    pub fn validate(&mut self) -> Result<(), String> {
        self.shard.validate()?;
        let (gathers, parts) = self.gathers.open();
        if parts < gathers {
            return Err(format!("of {gathers} commands in parts {parts} parts are left"));
        }
        let Some(lanes) = &self.lanes else { return Ok(()) };
        for (core, peer) in lanes.peers.iter().enumerate() {
            let Some(peer) = peer else { continue };
            let most = lanes.requests_max + JOINTS_MAX;
            if peer.outstanding > most {
                let outstanding = peer.outstanding;
                return Err(format!("core {core} owes {outstanding} replies, {most} at most (L1)"));
            }
        }
        for connection in self.connections.iter_mut() {
            let (key, crossed) = (connection.key, connection.crossed as usize);
            if crossed > connection.replies.outstanding_count() {
                return Err(format!("{key:?} waits for {crossed} replies that have no place"));
            }
            let waits = lanes.peers.iter().flatten().any(|peer| peer.waiting.contains(&key));
            let waits = waits || self.reservations.has_waiting(key) || self.joints.has_waiting(key);
            if connection.lane_wait && crossed == 0 && !waits {
                return Err(format!("{key:?} waits for a lane, and nobody knows"));
            }
        }
        Ok(())
    }

    /// Whether the core has nothing to do for any client or core; if not, what.
    ///
    /// # Errors
    /// What is left.
    pub fn check_at_rest(&mut self) -> Result<(), String> {
        let left = [
            ("commands in parts", self.gathers.open().0),
            ("commands over several cores", self.joints.len()),
            ("keys reserved", self.reservations.len()),
            ("commands that have reserved keys", self.visits.len()),
            ("tasks", self.tasks.len()),
            ("tasks of others", self.guest_tasks.len()),
            ("replies lent", self.lent.len()),
            ("replies to be given back", self.unwanted.len()),
            ("reads that wait", self.fills.len()),
            ("commands parsed", self.batch.len()),
            ("outputs put off", self.deferred.len()),
            ("values pinned", self.pins.len()),
            ("bytes of values pinned", self.shard.stats().pinned_bytes as usize),
        ];
        if let Some((what, count)) = left.iter().find(|(_, count)| *count > 0) {
            return Err(format!("there are {count} {what} left"));
        }
        let cores = self.lanes.as_ref().map_or(0, |lanes| lanes.peers.len());
        for other in 0..cores {
            let census = self.lane_census(other);
            if !census.is_at_rest() {
                return Err(format!("something is left in the lane to core {other}: {census:?}"));
            }
        }
        let is_busy = |connection: &&mut crate::connection::Connection<T::Socket>| {
            connection.crossed > 0 || connection.lane_wait || connection.replies.held_bytes() > 0
        };
        match self.connections.iter_mut().find(|connection| is_busy(connection)) {
            Some(connection) => Err(format!("{:?} waits for something", connection.key)),
            None => Ok(()),
        }
    }
}
