//! What a command's function asks of the core once it has returned, and EXEC: the commands of a
//! transaction, one after the other within the turn.
//!
//! Nothing of a transaction is put off: what would be executed in slices runs to its end, and a
//! reply that would wait for memory is refused. Only answers of the control thread come later, in
//! their places. So a transaction takes as long as its commands together, and others wait for it;
//! its length is bounded where it is queued.

use pinion_ring::Key;

use super::inbox::Request;
use super::{Core, Transport};
use crate::command::{self, Arguments, Base, Context, Flow, Step, Transaction};
use crate::connection::{Closing, LargeValue};
use crate::protocol::resp;

impl<T: Transport> Core<T> {
    /// Does what a command's function has asked for, if it is nothing that puts the command off.
    /// Its reply is not sent if it is `muted`.
    pub(super) fn follow(&mut self, key: Key, flow: Flow, muted: bool) {
        match flow {
            Flow::Continue => {}
            Flow::Wait | Flow::Later(_) | Flow::Clients(_) | Flow::AwaitFill { .. } => {
                debug_assert!(false, "the caller sees to what is put off");
            }
            Flow::Close => {
                if let Some(connection) = self.connections.find(key) {
                    connection.close(Closing::Flushing);
                }
            }
            Flow::Ask(info) if !muted => self.ask(key, *info),
            Flow::Ask(_) => {}
            Flow::FlushAt(at_ms) => self.flush_at(at_ms),
            Flow::Exec(transaction) => self.exec(key, *transaction, muted),
            Flow::Pause { until_ms, writes_only } => self.pause(until_ms, writes_only),
            Flow::Unpause => self.unpause(),
            Flow::Trim => self.inbox.ask(Request::Trim),
            Flow::ResetCounters => self.reset_counters(),
            Flow::Stop => self.stop(),
        }
    }

    /// Zeroes what CONFIG RESETSTAT zeroes.
    fn reset_counters(&mut self) {
        self.counters.reset();
        self.server.statistics.reset();
        self.server.base = Base::new(&self.counters, &self.shard.stats().counters);
    }

    fn exec(&mut self, key: Key, mut transaction: Transaction, muted: bool) {
        let mut args = resp::Args::new();
        for index in 0..transaction.len() {
            if !self.exec_one(key, &mut transaction, index, &mut args, muted) {
                break;
            }
        }
        // Those that were not come to keep their values no longer.
        transaction.abort(&mut self.shard);
        if let Some(connection) = self.connections.find(key) {
            self.budget.recount(connection);
        }
    }

    /// Executes one command of a transaction; whether its connection still executes commands.
    fn exec_one(
        &mut self,
        key: Key,
        transaction: &mut Transaction,
        index: usize,
        args: &mut resp::Args,
        muted: bool,
    ) -> bool {
        let Some((queued, frame, large)) = transaction.take(index) else { return false };
        let (spec, number) = (queued.spec, queued.number);
        let limits = &self.limits.resp;
        let outcome = resp::parse(frame, &mut resp::Progress::default(), args, limits);
        debug_assert!(matches!(outcome, resp::Parse::Complete { .. }), "it was whole when queued");
        let args = Arguments::new(frame, args);
        let is_timed = self.options.settings.times(spec, args.len());
        let begun_ns = is_timed.then(|| self.clock.now_ns());
        let Some(connection) = self.connections.find(key) else { return false };
        let room_bytes = self.budget.reply_room().share_bytes;
        let out = connection.replies.writer();
        let out_start = out.len();
        let mut context = Context {
            shard: &mut self.shard,
            now_ms: self.now_ms,
            session: &mut connection.session,
            out,
            counters: &mut self.counters,
            settings: &mut self.options.settings,
            server: &mut self.server,
            memory: &mut self.options.memory,
            room_bytes,
            room_now_bytes: room_bytes,
            reply_may_wait: false,
            first_hash: self.no_hash,
            large,
            pins: &mut self.pins,
        };
        if let index @ 1.. = spec.first_key()
            && index < args.len()
        {
            context.first_hash = context.hash(args.at(index));
        }
        let mut flow = command::run_queued(&mut context, spec, number, &args);
        while let Flow::Later(mut task) = flow {
            flow = loop {
                if let Step::Done(flow) = task.step(&mut context) {
                    break flow;
                }
            };
        }
        if let Some(large) = context.large.take() {
            LargeValue::abort(large, context.shard);
        }
        let muted = connection.end_reply(out_start, &mut self.pins, &mut self.shard, muted);
        self.budget.recount(connection);
        if let Some(begun_ns) = begun_ns {
            let taken_ns = self.clock.now_ns().saturating_sub(begun_ns);
            self.note_time(key, taken_ns, || command::kept_args(&args));
        }
        if let Flow::Clients(mut query) = flow {
            while self.look_at_clients(key, &mut query) {}
            if let Some(connection) = self.connections.find(key).filter(|_| !muted) {
                let version = connection.session.version();
                query.reply(connection.replies.writer(), version);
            }
        } else {
            self.follow(key, flow, muted);
        }
        self.connections.find(key).is_some_and(|connection| connection.closing < Closing::Flushing)
    }
}
