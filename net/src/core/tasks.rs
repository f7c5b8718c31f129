//! Commands that are executed in slices: one slice of each, a turn.

use pinion_ring::Key;

use super::{Core, Transport};
use crate::command::{Context, Flow, Step};
use crate::connection::Closing;

impl<T: Transport> Core<T> {
    /// Executes a slice of every command that takes long.
    pub(super) fn run_tasks(&mut self) {
        for _ in 0..self.tasks.len() {
            let Some(key) = self.tasks.pop_front() else { return };
            if self.run_slice(key) {
                self.tasks.push_back(key);
            }
        }
    }

    /// Executes a slice of a connection's task; whether there is more to do.
    fn run_slice(&mut self, key: Key) -> bool {
        let Some(connection) = self.connections.find(key) else { return false };
        let Some(mut task) = connection.task.take() else { return false };
        if connection.closing >= Closing::Flushing {
            task.abandon(&mut self.shard);
            self.ending.push(key);
            return false;
        }
        let (room_bytes, reply_may_wait) = self.budget.reply_room();
        let mut context = Context {
            shard: &mut self.shard,
            now_ms: self.now_ms,
            session: &mut connection.session,
            out: connection.replies.writer(),
            counters: &mut self.counters,
            settings: &self.options.settings,
            memory: &mut self.options.memory,
            room_bytes,
            reply_may_wait,
            first_hash: self.no_hash,
            large: None,
            pins: &mut self.pins,
        };
        let step = task.step(&mut context);
        if !self.pins.is_empty() {
            connection.replies.refer(&mut self.pins);
        }
        let Step::Done(flow) = step else {
            connection.task = Some(task);
            self.budget.recount(connection);
            return true;
        };
        // A reply without room was refused: there is no command to execute again.
        debug_assert!(!matches!(flow, Flow::Wait | Flow::Later(_)), "a task ends at once");
        if matches!(flow, Flow::Close) {
            connection.close(Closing::Flushing);
        }
        self.budget.recount(connection);
        self.let_receive(key);
        self.mark_runnable(key.index);
        self.mark_dirty(key.index);
        self.ending.push(key);
        false
    }
}
