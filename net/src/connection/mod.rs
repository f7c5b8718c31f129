//! Connections as plain state: what has come and is not executed yet, what is to be sent, and
//! how far the end has come. Nothing here does I/O; the core's turn does.
//!
//! A connection holds buffers only while it needs them: bytes of a torn frame (`input`) and
//! replies that are not sent yet (`replies`). An idle connection holds none. Large values pass by
//! both: they go straight to the shard (`inbound`), and come from it piece by piece.

mod arrivals;
mod inbound;
mod replies;
mod session;
mod slab;

use pinion_engine::{PinnedValue, Shard};
use pinion_ring::Key;

use crate::core::Sliced;
use crate::core::limits::OUTPUT_BYTES_LOW;
use crate::protocol::{memcached, resp};

pub use arrivals::Arrivals;
pub use inbound::{Away, Inbound, LargeValue};
pub use replies::{Replies, Ticket};
pub use session::{ReplyMode, Session};
pub use slab::Slab;

/// Which protocol a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// RESP2, or RESP3 after HELLO 3.
    Resp,
    /// memcached's protocols.
    Memcached,
}

/// How far the end of a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Closing {
    /// Not at all.
    Open,
    /// The peer sends no more: answer what has come, then close.
    Draining,
    /// Nothing more is executed: send what is ready, then close.
    Flushing,
    /// Send nothing more.
    Dropped,
}

/// Parser state of a torn frame.
#[derive(Debug)]
pub enum Progress {
    /// Of a RESP connection.
    Resp(resp::Progress),
    /// Of a connection that speaks memcached's text protocol.
    Memcached(memcached::Progress),
    /// Of one that speaks its binary protocol.
    Binary(memcached::binary::Progress),
    /// Of one that will speak either: the first byte tells.
    Undecided,
}

/// One connection. `S` is the transport's socket.
#[derive(Debug)]
pub struct Connection<S> {
    /// The socket; dropping it closes it.
    pub socket: S,
    /// The connection's key, under which its operations run.
    pub key: Key,
    /// What the client has told.
    pub session: Session,
    /// Parser state of the torn frame at `input[parsed..]`.
    pub progress: Progress,
    /// Bytes not executed yet: empty unless a frame is torn or execution is held back.
    pub input: Vec<u8>,
    /// When the bytes in `input` came, if there is a limit on the age of requests.
    pub arrivals: Option<Box<Arrivals>>,
    /// A large value that is on its way to the shard, or has come for the next command.
    pub inbound: Option<Box<Inbound>>,
    /// How much of `input` is parsed, and in the batch.
    pub parsed: usize,
    /// Output in the order of commands.
    pub replies: Replies,
    /// The range of the send in flight, within its buffer.
    pub sending: Option<(usize, usize)>,
    /// Whether a receive is armed.
    pub receiving: bool,
    /// Whether its cancellation has been asked for.
    pub cancelling: bool,
    /// Whether execution is held back until output has drained, or there is memory for more.
    pub paused: bool,
    /// The command that is being executed in slices; nothing else is until it is done.
    pub task: Option<Box<Sliced>>,
    /// Replies that other cores owe it.
    pub crossed: u32,
    /// Whether its commands wait for room in a lane, or for those replies.
    pub lane_wait: bool,
    /// Whether they wait for those replies, whatever room there is.
    pub settle_wait: bool,
    /// Since when output is held back while replies of other cores are on their way, in
    /// nanoseconds of the server's clock; 0: it is not.
    pub held_since_ns: u64,
    /// Whether its commands wait for the end of CLIENT PAUSE.
    pub postponed: bool,
    /// Whether it is in the core's queue of connections that wait for memory.
    pub waiting: bool,
    /// Capacity of the buffer that is being sent.
    pub sending_bytes: usize,
    /// What the core has counted this connection to hold.
    pub counted_bytes: usize,
    /// When the peer last took or sent anything, in server milliseconds.
    pub moved_ms: u64,
    /// Whether whole commands were left in `input` when its turn was over.
    pub backlog: bool,
    /// Whether it is in the core's list of connections with output.
    pub dirty: bool,
    /// Whether it is in the core's list of connections with input to parse.
    pub runnable: bool,
    /// How far its end has come.
    pub closing: Closing,
}

impl Progress {
    /// Learns which of memcached's protocols is spoken by the first byte that has come.
    #[inline]
    pub fn decide(&mut self, bytes: &[u8]) {
        if let (Progress::Undecided, Some(&first)) = (&self, bytes.first()) {
            *self = match first {
                memcached::binary::MAGIC => {
                    Progress::Binary(memcached::binary::Progress::default())
                }
                _ => Progress::Memcached(memcached::Progress::default()),
            };
        }
    }
}

impl<S> Connection<S> {
    /// A fresh connection.
    pub fn new(socket: S, key: Key, id: u64, protocol: Protocol) -> Connection<S> {
        let progress = match protocol {
            Protocol::Resp => Progress::Resp(resp::Progress::default()),
            Protocol::Memcached => Progress::Undecided,
        };
        Connection {
            socket,
            key,
            session: Session::new(id),
            progress,
            input: Vec::new(),
            arrivals: None,
            inbound: None,
            parsed: 0,
            replies: Replies::default(),
            sending: None,
            receiving: false,
            cancelling: false,
            paused: false,
            task: None,
            crossed: 0,
            lane_wait: false,
            settle_wait: false,
            held_since_ns: 0,
            postponed: false,
            waiting: false,
            sending_bytes: 0,
            counted_bytes: 0,
            moved_ms: 0,
            backlog: false,
            dirty: false,
            runnable: false,
            closing: Closing::Open,
        }
    }

    /// Whether commands of this connection may be parsed and executed now.
    pub fn may_run(&self) -> bool {
        !self.paused
            && !self.postponed
            && !self.lane_wait
            && self.task.is_none()
            && self.closing < Closing::Flushing
    }

    /// Whether a large value is on its way to the shard.
    #[inline]
    pub fn is_arriving(&self) -> bool {
        self.inbound.as_ref().is_some_and(|inbound| inbound.is_arriving())
    }

    /// Memory that output takes, sent or not: capacities, with an estimate for replies that are
    /// not known yet.
    #[inline]
    pub fn output_bytes(&self) -> usize {
        self.replies.capacity_bytes() + self.sending_bytes
    }

    /// Memory that the connection takes beside itself.
    #[inline]
    pub fn buffer_bytes(&self) -> usize {
        let inbound_bytes = self.inbound.as_ref().map_or(0, |inbound| inbound.memory_bytes());
        let task_bytes = self.task.as_ref().map_or(0, |task| task.memory_bytes());
        self.input.capacity()
            + self.arrivals.as_ref().map_or(0, |_| size_of::<Arrivals>())
            + inbound_bytes
            + task_bytes
            + self.output_bytes()
            + self.session.capacity_bytes()
    }

    /// Notes that the last `bytes` of `input` have just come, if requests may not wait longer than
    /// `age_ms`; 0 is no limit.
    #[inline]
    pub fn note_arrival(&mut self, bytes: usize, now_ms: u64, age_ms: u64) {
        if age_ms > 0 {
            let kept_bytes = self.input.len() - bytes;
            self.arrivals.get_or_insert_default().push(bytes, kept_bytes, now_ms, age_ms);
        }
    }

    /// Whether a connection that was held back has sent enough to go on.
    pub fn may_resume(&self) -> bool {
        self.replies.held_bytes() <= OUTPUT_BYTES_LOW
    }

    /// What is spoken here.
    pub fn protocol(&self) -> Protocol {
        match self.progress {
            Progress::Resp(_) => Protocol::Resp,
            Progress::Memcached(_) | Progress::Binary(_) | Progress::Undecided => {
                Protocol::Memcached
            }
        }
    }

    /// Bytes that have come and are not parsed yet.
    pub fn unparsed(&self) -> usize {
        self.input.len() - self.parsed
    }

    /// Ends the reply that begins at `out_start` of [`Replies::writer`] and refers to `pins`: it is
    /// dropped if it is `muted` or the client has turned replies off. Whether it was.
    #[inline]
    pub fn end_reply(
        &mut self,
        out_start: usize,
        pins: &mut Vec<(usize, PinnedValue)>,
        shard: &mut Shard,
        muted: bool,
    ) -> bool {
        let muted = self.session.mutes() | muted;
        if muted {
            self.replies.writer().truncate(out_start);
            pins.drain(..).for_each(|(_, pinned)| shard.unpin(pinned));
        } else if !pins.is_empty() {
            self.replies.refer(pins);
        }
        muted
    }

    /// Moves towards the end, never back.
    pub fn close(&mut self, closing: Closing) {
        self.closing = self.closing.max(closing);
    }

    /// Forgets parsing state, so that the frame at the front of `input` is parsed anew.
    pub fn restart_parser(&mut self) {
        match &mut self.progress {
            Progress::Resp(progress) => *progress = resp::Progress::default(),
            Progress::Memcached(progress) => *progress = memcached::Progress::default(),
            Progress::Binary(progress) => *progress = memcached::binary::Progress::default(),
            Progress::Undecided => {}
        }
    }
}
