//! Large values come in through here: from received bytes straight to the shard.
//!
//! A request whose value is still arriving, and too large for the log, is recognised where parsing
//! stops at it (`note_torn`). Once all that was parsed before it is executed, the value's bytes
//! turn off from the connection's input to an [`Inbound`] (`open_streams`), and what is received
//! from then on goes to the shard (`feed_loan`, `feed_input`) until the value has come.
//!
//! Requests with several values, values that extend others, and requests whose parts are already
//! there as a whole are collected in the input as ever.
//!
//! Cost: one copy of the value. A piece that the shard has no room for waits in the input, which
//! is bounded by `INPUT_BYTES_HIGH` and one receive buffer, while receiving is held back.

use pinion_engine::Shard;
use pinion_ring::Key;

use super::away::may_send;
use super::limits::SLICE_BYTES;
use super::{Core, Transport};
use crate::command::{self, large};
use crate::connection::{Away, Closing, Connection, LargeValue, Progress};
use crate::protocol::{memcached, resp};

impl<T: Transport> Core<T> {
    /// Notes a connection whose parsing has stopped within a large value, if it has.
    pub(super) fn note_torn(&mut self, index: u32) {
        let Some(connection) = self.connections.at(index) else { return };
        let open_bytes = match &connection.progress {
            Progress::Resp(progress) => progress
                .open_bulk()
                .filter(|open| open.arg_index <= large::VALUE_INDEX_MAX)
                .map(|open| open.length_bytes),
            Progress::Memcached(progress) => progress.open_block().map(|open| open.length_bytes),
            Progress::Binary(progress) => progress.open_block().map(|open| open.length_bytes),
            Progress::Undecided => None,
        };
        // A stranger's bytes do not go to the shard.
        let is_locked = self.options.settings.has_password() && !connection.session.authenticated;
        let is_large =
            open_bytes.is_some_and(|bytes| bytes as usize > self.shard.inline_value_bytes_max());
        if is_large && !is_locked && connection.inbound.is_none() {
            self.torn.push(connection.key);
        }
    }

    /// Turns the values of noted connections off to the shard. Nothing is in the batch.
    pub(super) fn open_streams(&mut self) {
        while let Some(key) = self.torn.pop() {
            self.open_stream(key);
        }
    }

    fn open_stream(&mut self, key: Key) {
        let Some(connection) = self.connections.find(key) else { return };
        // One that is held back comes here again when it goes on.
        if !connection.may_run() || connection.inbound.is_some() || connection.parsed > 0 {
            return;
        }
        let input = &connection.input;
        let (limits, stream) = (&self.limits, self.joints.next_number());
        let is_single = self.lanes.is_none();
        // A node of a cluster refuses the command when its value has come.
        let redirects = connection.session.core_port
            && self.options.settings.cluster.as_deref().is_some_and(|view| view.redirects);
        // What waits for EXEC is kept whole.
        let may_go_away = connection.session.transaction.is_none();
        let begin = |shard: &mut Shard, key: &[u8], value_bytes: usize| {
            if is_single || redirects || limits.is_mine(key) {
                return Some(large::begin(shard, key, value_bytes));
            }
            may_go_away.then(|| {
                let core = usize::from(limits.owner(key));
                let (key, is_on_its_way) = (key.into(), false);
                LargeValue::Away(Away { core, stream, key, value_bytes, is_on_its_way })
            })
        };
        let found = match &connection.progress {
            Progress::Resp(progress) => {
                let args = self.batch.spare_args();
                resp::parse_open(input, progress, args)
                    .and_then(|open| large::of_resp(&mut self.shard, input, args, &open, begin))
            }
            // Who may not use the port takes no memory of the shard.
            Progress::Memcached(_) | Progress::Binary(_)
                if !command::memcached::is_authenticated(
                    &self.options.settings,
                    &connection.session,
                ) =>
            {
                None
            }
            Progress::Memcached(progress) => {
                memcached::parse_open(input, progress).and_then(|(request, open)| {
                    large::of_memcached(&mut self.shard, &request, &open, begin)
                })
            }
            Progress::Binary(progress) => large::of_binary(&mut self.shard, input, progress, begin),
            Progress::Undecided => None,
        };
        let Some(large::Found { inbound, value_start }) = found else { return };
        connection.input.drain(..value_start);
        connection.inbound = Some(Box::new(inbound));
        connection.restart_parser();
        self.feed_input(key.index);
    }

    /// Hands received bytes to the value that is arriving; the connection has no input.
    pub(super) fn feed_loan(&mut self, index: u32, loan: T::Loan) {
        let Some(connection) = self.connections.at(index) else {
            return self.transport.give_back(loan);
        };
        let bytes = self.transport.bytes(&loan);
        let Some(inbound) = &mut connection.inbound else {
            return self.transport.give_back(loan);
        };
        let key = connection.key;
        let (taken, piece) = match inbound.away() {
            None => (inbound.take(bytes, &mut self.shard, self.now_ms), Vec::new()),
            Some(away) if may_send(&self.lanes, away) => {
                let piece = inbound.take_piece(bytes, SLICE_BYTES);
                (piece.len(), piece)
            }
            Some(_) => (0, Vec::new()),
        };
        self.streamed_bytes += taken;
        let rest = &bytes[taken..];
        let may_keep = rest.is_empty() || self.budget.may_keep(connection, rest.len());
        if may_keep && !rest.is_empty() {
            self.spares.append(&mut connection.input, rest);
            let age_ms = self.options.settings.limits.request_age_ms;
            connection.note_arrival(rest.len(), self.now_ms, age_ms);
        }
        self.transport.give_back(loan);
        self.send_piece(key, piece);
        if may_keep { self.fed(index) } else { self.refuse_input(index) }
    }

    /// Hands a connection's input to the value that is arriving.
    pub(super) fn feed_input(&mut self, index: u32) {
        let Some(connection) = self.connections.at(index) else { return };
        let (key, mut piece) = (connection.key, Vec::new());
        if let Some(inbound) = &mut connection.inbound {
            let taken = match inbound.away() {
                None => inbound.take(&connection.input, &mut self.shard, self.now_ms),
                Some(away) if may_send(&self.lanes, away) => {
                    piece = inbound.take_piece(&connection.input, SLICE_BYTES);
                    piece.len()
                }
                Some(_) => 0,
            };
            self.streamed_bytes += taken;
            connection.input.drain(..taken);
        }
        self.send_piece(key, piece);
        self.fed(index);
    }

    /// Sees to a connection that has handed over what it could.
    fn fed(&mut self, index: u32) {
        let Some(connection) = self.connections.at(index) else { return };
        let Some(inbound) = &mut connection.inbound else { return };
        let key = connection.key;
        let is_away = inbound.away().is_some();
        let is_on_its_way = inbound.away().is_some_and(|away| away.is_on_its_way);
        if inbound.is_arriving() {
            connection.backlog = !connection.input.is_empty();
        } else {
            let mut frame = inbound.take_frame();
            frame.extend_from_slice(&connection.input);
            self.spares.keep(std::mem::replace(&mut connection.input, frame));
            connection.backlog = false;
        }
        let is_empty = connection.input.is_empty();
        if is_empty {
            self.spares.keep(std::mem::take(&mut connection.input));
            connection.arrivals = None;
        }
        self.budget.recount(connection);
        let has_more = connection.backlog || is_on_its_way;
        let waits = is_away && connection.is_arriving() && has_more;
        if !connection.backlog {
            self.let_receive(key);
        }
        if waits {
            // It goes on when its last piece is stored, or there is room in the lane.
            self.await_away(key);
        } else if is_empty {
            // A peer that sends no more does not bring the rest of the value.
            self.ending.push(key);
        } else {
            self.mark_runnable(index);
        }
    }

    /// Gives back what a connection that has ended holds of the shard.
    pub(super) fn release(&mut self, mut connection: Connection<T::Socket>) {
        debug_assert_eq!(connection.closing, Closing::Dropped);
        if let Some(lanes) = &self.lanes {
            lanes.count_end();
        }
        if let Some(inbound) = connection.inbound.take() {
            match inbound.into_value() {
                LargeValue::Away(away) => self.give_up_away(&away),
                value => value.abort(&mut self.shard),
            }
        }
        connection.session.discard(&mut self.shard);
        if let Some(mut task) = connection.task.take() {
            task.abandon(&mut self.shard);
        }
        connection.replies.release(&mut self.shard, &mut self.unwanted);
        self.budget.forget(&connection);
        self.spares.keep(connection.input);
    }
}
