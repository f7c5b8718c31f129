//! Requests of other cores that wait behind one of the same connection that is executed in slices:
//! they may be about the same key, and would overtake it.
//!
//! Cost: while nobody's command takes long, a look at an empty queue. Then a request is compared
//! with those that do, and copied if it is to wait. There are no more of them than replies that a
//! core may be owed.

use super::foreign::{Dest, Errand};
use super::{Core, Transport};
use crate::lane::HEAD_BYTES;

/// A request that waits.
#[derive(Debug)]
pub(super) struct Behind {
    pub(super) dest: Dest,
    pub(super) kind: u8,
    pub(super) errand: Errand,
}

impl<T: Transport> Core<T> {
    /// Whether a command of this connection is being executed in slices.
    pub(super) fn is_in_slices(&self, dest: &Dest) -> bool {
        self.guest_tasks.iter().any(|task| {
            task.is_command() && task.dest.core == dest.core && task.dest.key == dest.key
        })
    }

    /// Lets the request at a place among those of a core wait, if it must; whether it does.
    #[cold]
    pub(super) fn waits_behind(&mut self, core: usize, at: usize) -> bool {
        let peer = self.lanes.as_ref().and_then(|lanes| lanes.peers[core].as_ref());
        let found = peer.and_then(|peer| peer.taken.at(at - HEAD_BYTES));
        let Some((head, frame)) = found else { return false };
        let dest = Dest::of(&head, core);
        if !self.is_in_slices(&dest) {
            return false;
        }
        let errand = Errand::Frame(frame.to_vec());
        self.run_in_order(Behind { dest, kind: head.kind, errand });
        true
    }

    /// Executes a request, or lets it wait for the one before it.
    pub(super) fn run_in_order(&mut self, behind: Behind) {
        let dest = behind.dest;
        let before = self.guest_tasks.iter_mut().rev().find(|task| {
            task.is_command() && task.dest.core == dest.core && task.dest.key == dest.key
        });
        match before {
            Some(task) => task.behind.push(behind),
            None => self.run_cargo(dest, behind.kind, behind.errand),
        }
    }
}
