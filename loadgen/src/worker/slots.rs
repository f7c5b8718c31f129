//! Connections that go and come: broken ones, and those replaced on purpose.
//!
//! A slot keeps its number. A broken connection is given up at once with its requests; one that
//! is replaced on purpose takes no further request and goes when its last reply has come. Either
//! way the slot asks the connector for a new one and stands empty until that is open; for broken
//! ones that time is counted.

use super::Worker;
use super::replies::note;
use crate::connector::{Fresh, Wanted};
use crate::source::Source;
use crate::sys::monotonic_ns;

impl<S: Source> Worker<'_, S> {
    /// Replaces what is due to be replaced, and takes in new connections.
    #[inline]
    pub(super) fn replace(&mut self, now_ns: u64) {
        if now_ns >= self.next_churn_ns && !self.exhausted {
            self.retire_next(now_ns);
        }
        if !self.awaited.is_empty() {
            while let Ok(fresh) = self.links.fresh.try_recv() {
                self.settle_in(fresh, now_ns);
            }
        }
    }

    /// Retires the connections that are due, in turn.
    #[cold]
    fn retire_next(&mut self, now_ns: u64) {
        let Some(gap_ns) = self.churn_ns else { return };
        // A worker that was held up replaces no more than all of its connections at once.
        for _ in 0..self.connections.len() {
            if now_ns < self.next_churn_ns {
                return;
            }
            self.next_churn_ns += gap_ns;
            let index = self.next_retired % self.connections.len();
            self.next_retired += 1;
            let connection = &mut self.connections[index];
            if connection.open && !connection.retiring {
                connection.retiring = true;
                self.leave_if_idle(index);
            }
        }
        self.next_churn_ns = self.next_churn_ns.max(now_ns);
    }

    /// Closes a connection that retires, once its last reply has come.
    #[inline]
    pub(super) fn leave_if_idle(&mut self, index: usize) {
        let connection = &self.connections[index];
        if connection.retiring && connection.open && connection.outstanding() == 0 {
            self.leave(index);
        }
    }

    #[cold]
    fn leave(&mut self, index: usize) {
        self.close(index);
        self.out.churned += 1;
        self.ask_for(index, None);
    }

    fn close(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        connection.open = false;
        self.open_count -= 1;
        // From now on it is the new connection that is waited for.
        self.last_sign_ns = self.last_sign_ns.max(monotonic_ns());
        self.out.retransmits += connection.retransmits();
        // The descriptor stays open until the slot is filled again, so a failure here has no
        // consequence: events of a connection that is not open are ignored.
        let _ = self.epoll.remove(connection.fd());
    }

    fn ask_for(&mut self, index: usize, lost_ns: Option<u64>) {
        let want =
            Wanted { worker: self.links.worker, slot: index, lane: self.connections[index].lane };
        // The connector lives as long as any worker.
        let _ = self.links.wanted.send(want);
        self.awaited.push((index, lost_ns));
    }

    /// Counts where a new connection ended, if the run steers.
    pub(super) fn note_reached(&mut self, index: usize) {
        if self.shared.owners.is_some() {
            self.out.steering.add(self.connections[index].reached);
        }
    }

    #[cold]
    fn settle_in(&mut self, Fresh { slot, connection }: Fresh, now_ns: u64) {
        let Some(at) = self.awaited.iter().position(|(index, _)| *index == slot) else { return };
        let (_, lost_ns) = self.awaited.swap_remove(at);
        if self.open_count == 0 {
            self.last_sign_ns = now_ns;
        }
        // A line or a list may still name the slot; it then finds the new connection there.
        let old = &self.connections[slot];
        let (offered, dirty) = (old.offered, old.dirty);
        self.connections[slot] = connection;
        (self.connections[slot].offered, self.connections[slot].dirty) = (offered, dirty);
        self.open_count += 1;
        self.note_reached(slot);
        if let Err(error) = self.epoll.add(self.connections[slot].fd(), slot as u32) {
            self.give_up(slot, &format!("cannot watch: {error}"));
            return;
        }
        if let Some(lost_ns) = lost_ns {
            self.out.reconnected += 1;
            self.out.gap_ns += now_ns.saturating_sub(lost_ns);
        }
        self.offer(slot);
    }

    /// Closes a broken connection; its requests are errors from now on.
    #[cold]
    pub(super) fn give_up(&mut self, index: usize, why: &str) {
        if !self.connections[index].open {
            return;
        }
        self.close(index);
        self.out.connections_lost += 1;
        note(&mut self.out, || why.to_owned());
        self.abandon_queue(index);
        self.ask_for(index, Some(monotonic_ns()));
    }

    /// Records the requests of a connection that will not be answered, with the age they reached.
    ///
    /// Their versions stay in flight in the ledger: the server may still execute them.
    pub(super) fn abandon_queue(&mut self, index: usize) {
        let now_ns = monotonic_ns();
        while let Some(pending) = self.connections[index].pop() {
            if !pending.part.ends() {
                continue;
            }
            self.outstanding -= 1;
            self.out.unanswered += 1;
            self.totals.errors += 1;
            if pending.measured {
                self.out.recorder.class(pending.class).errors += 1;
                self.blame(index, pending.class);
                self.record(index, &pending, now_ns);
            }
        }
    }
}
