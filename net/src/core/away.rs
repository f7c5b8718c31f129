//! Large values for a key of another core: the pieces go there as they come, one at a time, and
//! into that core's shard. The request follows when all of them are stored.
//!
//! - A1. One piece of a connection is on its way at a time, of [`SLICE_BYTES`] at most; it is
//!   counted as memory of this core until it is stored.
//! - A2. While it is, the connection waits, and what comes behind it stays in its input, which is
//!   bounded as ever.
//! - A3. What a connection that ends has sent is given up there.
//!
//! Cost: one copy more than for a key of this core, and two messages a piece.
//!
//! [`SLICE_BYTES`]: super::limits::SLICE_BYTES

use pinion_engine::SetError;
use pinion_ring::Key;

use super::foreign::{Errand, flag, kind};
use super::joint::{Found, Step};
use super::lanes::Lanes;
use super::{Core, Transport};
use crate::connection::Away;
use crate::lane::Head;

/// Whether a piece of a value may be sent now.
pub(super) fn may_send(lanes: &Option<Lanes>, away: &Away) -> bool {
    !away.is_on_its_way && lanes.as_ref().is_some_and(|lanes| lanes.has_room(away.core))
}

fn head_of(stream: u64) -> Head {
    Head {
        key: Key { index: 0, generation: 0 },
        ticket: stream,
        length: 0,
        kind: kind::OTHER,
        db: 0,
        flags: flag::PART,
        has_cargo: true,
    }
}

impl<T: Transport> Core<T> {
    /// Sends a piece of a connection's value, for which there is room, unless it is empty.
    pub(super) fn send_piece(&mut self, key: Key, piece: Vec<u8>) {
        if piece.is_empty() {
            return;
        }
        let Some(connection) = self.connections.find(key) else { return };
        let away = connection.inbound.as_mut().and_then(|inbound| inbound.away());
        let (Some(away), Some(lanes)) = (away, &mut self.lanes) else { return };
        away.is_on_its_way = true;
        connection.lane_wait = true;
        let (core, stream, piece_bytes) = (away.core, away.stream, piece.len());
        let step = Step::Append { key: away.key.clone(), value_bytes: away.value_bytes, piece };
        if let Some(bundle) = lanes.ask(core) {
            bundle.push_cargo(head_of(stream), Errand::Step(Box::new(step)));
        }
        self.counters.lanes.crossed_out += 1;
        self.budget.hold_cargo(piece_bytes);
        self.joints.pieces.insert(stream, (key, piece_bytes));
    }

    /// Lets a connection wait until its last piece is stored, or there is room in the lane.
    pub(super) fn await_away(&mut self, key: Key) {
        let Some(connection) = self.connections.find(key) else { return };
        connection.lane_wait = true;
        let away = connection.inbound.as_mut().and_then(|inbound| inbound.away());
        if let (Some(away), Some(lanes)) = (away, &mut self.lanes)
            && !away.is_on_its_way
        {
            lanes.wait_for_room(away.core, key);
        }
    }

    /// Takes what storing a piece came to, and lets its connection go on.
    pub(super) fn take_receipt(&mut self, stream: u64, found: &Found) {
        let Some((key, piece_bytes)) = self.joints.pieces.remove(&stream) else { return };
        self.budget.release_cargo(piece_bytes);
        let Some(connection) = self.connections.find(key) else { return };
        let Some(inbound) = &mut connection.inbound else { return };
        let Some(away) = inbound.away().filter(|away| away.stream == stream) else { return };
        away.is_on_its_way = false;
        if let Found::Appended(Err(error)) = found {
            let (core, error) = (away.core, *error);
            inbound.refuse_away(error);
            self.give_up(core, stream);
        }
        self.go_on(key);
        let connection = self.connections.find(key);
        if connection.is_some_and(|connection| !connection.is_arriving()) {
            // That was all of it: what is left of the request follows.
            self.feed_input(key.index);
        }
    }

    /// Gives a value up that another core has, since the command that it has come for is not
    /// executed there.
    pub(super) fn keep_from_away(&mut self, key: Key) {
        let Some(connection) = self.connections.find(key) else { return };
        let Some(inbound) = &mut connection.inbound else { return };
        let Some(away) = inbound.away() else { return };
        let (core, stream) = (away.core, away.stream);
        inbound.refuse_away(SetError::Incomplete);
        self.give_up(core, stream);
    }

    /// Lets another core give up what it has of a value.
    pub(super) fn give_up_away(&mut self, away: &Away) {
        self.give_up(away.core, away.stream);
    }

    fn give_up(&mut self, core: usize, stream: u64) {
        let Some(bundle) = self.lanes.as_mut().and_then(|lanes| lanes.ask(core)) else { return };
        let (keys, undo) = (Vec::new(), Vec::new());
        let step = Step::Release { keys, delete: None, undo, is_undone: false };
        bundle.push_cargo(head_of(stream), Errand::Step(Box::new(step)));
        self.counters.lanes.crossed_out += 1;
    }
}
