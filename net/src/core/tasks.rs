//! Commands that are executed in slices: one slice of each, a turn.

use pinion_engine::Shard;
use pinion_ring::Key;

use super::clients::ClientsQuery;
use super::context::context;
use super::{Core, Transport};
use crate::command::{Flow, Step, Task};
use crate::connection::Closing;

/// What is executed in slices.
#[derive(Debug)]
pub(super) enum Work {
    /// A command on items.
    Task(Box<dyn Task>),
    /// A look at the connections.
    Clients(Box<ClientsQuery>),
}

/// A command that is being executed in slices.
#[derive(Debug)]
pub struct Sliced {
    work: Work,
    /// Whether its reply is not sent.
    muted: bool,
    /// Time that its slices have taken.
    busy_ns: u64,
    /// Its arguments, as SLOWLOG would keep them.
    args: Vec<Vec<u8>>,
}

impl Sliced {
    /// A command of which the first slice has taken `busy_ns`.
    pub(super) fn new(work: Work, muted: bool, busy_ns: u64, args: Vec<Vec<u8>>) -> Sliced {
        Sliced { work, muted, busy_ns, args }
    }

    /// Gives back what it has taken of the shard; it will not go on.
    pub(super) fn abandon(&mut self, shard: &mut Shard) {
        if let Work::Task(task) = &mut self.work {
            task.abandon(shard);
        }
    }

    /// Memory that it holds.
    pub fn memory_bytes(&self) -> usize {
        let args_bytes: usize = self.args.iter().map(Vec::capacity).sum();
        let work_bytes = match &self.work {
            Work::Task(task) => task.memory_bytes(),
            Work::Clients(query) => query.memory_bytes(),
        };
        size_of::<Sliced>() + args_bytes + work_bytes
    }
}

impl<T: Transport> Core<T> {
    /// Puts a command off that is executed in slices.
    pub(super) fn put_off(&mut self, key: Key, sliced: Sliced) {
        let Some(connection) = self.connections.find(key) else { return };
        connection.task = Some(Box::new(sliced));
        self.budget.recount(connection);
        self.tasks.push_back(key);
    }

    /// Executes a slice of every command that takes long.
    pub(super) fn run_tasks(&mut self) {
        for _ in 0..self.tasks.len() {
            let Some(key) = self.tasks.pop_front() else { return };
            if self.run_slice(key) {
                self.tasks.push_back(key);
            }
        }
    }

    /// Executes a slice of a connection's command; whether there is more to do.
    fn run_slice(&mut self, key: Key) -> bool {
        let Some(connection) = self.connections.find(key) else { return false };
        let Some(mut sliced) = connection.task.take() else { return false };
        if connection.closing >= Closing::Flushing {
            sliced.abandon(&mut self.shard);
            self.ending.push(key);
            return false;
        }
        let begun_ns = self.clock.now_ns();
        let flow = match &mut sliced.work {
            Work::Task(task) => self.step(key, task.as_mut(), sliced.muted),
            Work::Clients(query) => (!self.look_at_clients(key, query)).then(|| {
                if let Some(connection) = self.connections.find(key).filter(|_| !sliced.muted) {
                    let version = connection.session.version();
                    query.reply(connection.replies.writer(), version);
                }
                Flow::Continue
            }),
        };
        sliced.busy_ns += self.clock.now_ns().saturating_sub(begun_ns);
        let Some(connection) = self.connections.find(key) else { return false };
        let Some(flow) = flow else {
            connection.task = Some(sliced);
            self.budget.recount(connection);
            return true;
        };
        self.budget.recount(connection);
        self.note_time(key, sliced.busy_ns, || std::mem::take(&mut sliced.args));
        // A reply without room was refused: there is no command to execute again.
        debug_assert!(
            !matches!(flow, Flow::Wait | Flow::Later(_) | Flow::AwaitFill { .. }),
            "a task ends at once"
        );
        self.follow(key, flow, sliced.muted);
        self.let_receive(key);
        self.mark_runnable(key.index);
        self.mark_dirty(key.index);
        self.ending.push(key);
        false
    }

    /// Executes a slice of a command on items; its flow if it was the last one.
    fn step(&mut self, key: Key, task: &mut dyn Task, muted: bool) -> Option<Flow> {
        let connection = self.connections.find(key)?;
        let room = self.budget.reply_room();
        let out = connection.replies.writer();
        let out_start = out.len();
        let mut context = context!(self, &mut connection.session, out, {
            room: room.in_slices(),
            first_hash: self.no_hash,
            large: None,
        });
        let step = task.step(&mut context);
        if muted {
            context.take_back(out_start);
        } else if !self.pins.is_empty() {
            connection.replies.refer(&mut self.pins);
        }
        match step {
            Step::More => None,
            Step::Done(flow) => Some(flow),
        }
    }
}
