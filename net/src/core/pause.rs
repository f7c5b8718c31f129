//! CLIENT PAUSE: commands wait in their connections' input until its end. Those of a connection
//! stay in their order, so one that waits holds back what follows it.

use pinion_ring::Key;

use super::{Core, Transport};

/// A pause that goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    /// Its end, in server milliseconds.
    pub(super) until_ms: u64,
    /// Whether reads go on.
    pub(super) writes_only: bool,
}

impl<T: Transport> Core<T> {
    /// Begins a pause. One that goes on already is never shortened or weakened.
    pub(super) fn pause(&mut self, until_ms: u64, writes_only: bool) {
        let new = Pause { until_ms, writes_only };
        self.pause = Some(self.pause.map_or(new, |old| Pause {
            until_ms: old.until_ms.max(until_ms),
            writes_only: old.writes_only && writes_only,
        }));
    }

    /// Ends a pause whose time has come.
    pub(super) fn end_pause(&mut self) {
        if self.pause.is_some_and(|pause| pause.until_ms <= self.now_ms) {
            self.unpause();
        }
    }

    /// Ends a pause.
    pub(super) fn unpause(&mut self) {
        self.pause = None;
        for key in std::mem::take(&mut self.postponed) {
            let Some(connection) = self.connections.find(key) else { continue };
            connection.postponed = false;
            self.let_receive(key);
            self.mark_runnable(key.index);
            self.ending.push(key);
        }
    }

    /// Holds a connection back until the end of the pause.
    pub(super) fn postpone(&mut self, key: Key) {
        let Some(connection) = self.connections.find(key) else { return };
        if !std::mem::replace(&mut connection.postponed, true) {
            self.postponed.push(key);
        }
    }
}
