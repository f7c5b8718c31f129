//! What a command's function asks of the core once it has returned, and EXEC: the commands of a
//! transaction, one after the other within the turn.
//!
//! Nothing of a transaction is put off: what would be executed in slices runs to its end, and a
//! reply that would wait for memory is refused. Only answers of the control thread come later, in
//! their places. So a transaction takes as long as its commands together, and others wait for it;
//! its length is bounded where it is queued.

use pinion_ring::Key;

use super::context::context;
use super::foreign::{Dest, Outcome};
use super::guest;
use super::inbox::Request;
use super::{Core, Transport};
use crate::command::{self, Arguments, Base, Flow, Transaction, Watches};
use crate::connection::Closing;
use crate::protocol::resp::{self, Writer};

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
            Flow::Stop => {
                self.stop();
                self.inbox.ask(Request::Stop);
            }
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
        let out = connection.replies.writer();
        let out_start = out.len();
        let mut context = context!(self, &mut connection.session, out, {
            room: self.budget.reply_room().at_once(),
            first_hash: self.no_hash,
            large: large,
        });
        let flow = command::run_queued(&mut context, spec, number, &args);
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

    /// Executes a transaction of another core's connection, whose keys are here.
    pub(super) fn run_transaction(
        &mut self,
        dest: Dest,
        mut transaction: Transaction,
        watches: Watches,
    ) {
        guest::enter(&mut self.guest, dest.flags, dest.db);
        self.guest.watches = watches;
        self.guest.transaction = None;
        let mut out = Vec::new();
        let mut context = context!(self, &mut self.guest, &mut out, {
            room: self.budget.reply_room().at_once(),
            first_hash: self.no_hash,
            large: None,
        });
        let runs = command::begin_exec(&mut context, &transaction);
        let mut args = std::mem::take(&mut self.guest_args);
        for index in 0..if runs { transaction.len() } else { 0 } {
            self.run_queued_guest(&mut transaction, index, &mut args, &mut out);
        }
        self.guest_args = args;
        transaction.abort(&mut self.shard);
        let db = self.guest.db;
        self.answer_cargo(dest, Outcome::Transaction(out, db));
    }

    /// Executes one command of such a transaction, to its end.
    fn run_queued_guest(
        &mut self,
        transaction: &mut Transaction,
        index: usize,
        args: &mut resp::Args,
        out: &mut Vec<u8>,
    ) {
        let Some((queued, frame, large)) = transaction.take(index) else { return };
        let (spec, number) = (queued.spec, queued.number);
        let limits = &self.limits.resp;
        let outcome = resp::parse(frame, &mut resp::Progress::default(), args, limits);
        debug_assert!(matches!(outcome, resp::Parse::Complete { .. }), "it was whole when queued");
        let args = Arguments::new(frame, args);
        let start = out.len();
        let mut context = context!(self, &mut self.guest, out, {
            room: self.budget.reply_room().at_once(),
            first_hash: self.no_hash,
            large: large,
        });
        let flow = command::run_queued(&mut context, spec, number, &args);
        match flow {
            Flow::Continue => {}
            Flow::Ask(_) | Flow::Clients(_) | Flow::Exec(_) => {
                // Their replies come from elsewhere, and would have to wait for it.
                out.truncate(start);
                let text = "ERR this command cannot be part of a transaction on another core";
                Writer::new(out, self.guest.version()).error(text);
            }
            flow => self.follow(Key::new(u32::MAX, 0), flow, true),
        }
        self.append_pinned(out);
    }

    /// Puts the values that a reply refers to into it.
    fn append_pinned(&mut self, out: &mut Vec<u8>) {
        for (at, pinned) in std::mem::take(&mut self.pins).into_iter().rev() {
            let after = out.split_off(at);
            let mut copied_bytes = 0;
            while copied_bytes < pinned.len() {
                let chunk = self.shard.pinned_chunk(&pinned, copied_bytes);
                out.extend_from_slice(chunk);
                copied_bytes += chunk.len();
            }
            out.extend_from_slice(&after);
            self.shard.unpin(pinned);
        }
    }

    /// Watches keys for another core's connection.
    pub(super) fn run_watch(&mut self, dest: Dest, frame: &[u8]) {
        guest::enter(&mut self.guest, dest.flags, dest.db);
        self.guest.transaction = None;
        self.guest.watches.clear();
        let mut args = std::mem::take(&mut self.guest_args);
        let limits = &self.limits.resp;
        let outcome = resp::parse(frame, &mut resp::Progress::default(), &mut args, limits);
        debug_assert!(matches!(outcome, resp::Parse::Complete { .. }), "it was whole");
        let spec = self.limits.renames().find(args.arg(frame, 0));
        let mut out = Vec::new();
        let mut context = context!(self, &mut self.guest, &mut out, {
            room: self.budget.reply_room().at_once(),
            first_hash: self.no_hash,
            large: None,
        });
        let flow = command::run(&mut context, spec, &Arguments::new(frame, &args));
        debug_assert!(matches!(flow, Flow::Continue), "WATCH answers at once");
        self.guest_args = args;
        let watches = std::mem::take(&mut self.guest.watches);
        self.answer_cargo(dest, Outcome::Watches(watches, out));
    }
}
