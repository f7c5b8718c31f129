//! What crosses between cores: the kinds of messages, their flags, and the cargo of those that are
//! more than a few bytes.

use pinion_engine::SetError;
use pinion_ring::Key;

use super::clients::ClientsQuery;
use super::joint::{Found, Step};
use crate::command::{Transaction, Watches};

/// Kinds of requests.
pub(super) mod kind {
    /// A RESP command.
    pub(crate) const RESP: u8 = 0;
    /// A request of memcached's text protocol.
    pub(crate) const MEMCACHED: u8 = 1;
    /// One of its binary protocol.
    pub(crate) const BINARY: u8 = 2;
    /// Cargo that says itself what it is.
    pub(crate) const OTHER: u8 = 3;
}

/// Bits of a message's flags.
pub(super) mod flag {
    /// The client speaks RESP3.
    pub(crate) const RESP3: u8 = 1;
    /// CLIENT NO-TOUCH.
    pub(crate) const NO_TOUCH: u8 = 2;
    /// The reply is a part of one to a command that several cores execute.
    pub(crate) const PART: u8 = 4;
    /// The client wants no reply.
    pub(crate) const MUTED: u8 = 8;
    /// The client's connection is to end after this reply.
    pub(crate) const CLOSE: u8 = 16;
}

/// The cargo of a request.
#[derive(Debug)]
pub(crate) enum Errand {
    /// A request that is too long to be copied.
    Frame(Vec<u8>),
    /// Commands to be executed one after the other, if keys are as they were seen.
    Transaction(Box<Transaction>, Watches),
    /// Keys to be watched.
    Watch(Vec<u8>),
    /// A look at the connections of a core.
    Clients(Box<ClientsQuery>),
    /// A step of a command over several cores.
    Step(Box<Step>),
    /// The next piece of a reply that was lent under a number is wanted, of so many bytes at most.
    Fetch { number: u64, bytes_max: usize },
    /// Such a reply is not wanted any more.
    GiveBack(u64),
    /// A request whose large value has come before, under a number, or was refused; its kind is
    /// `LargeFrame::kind`.
    Store(Box<LargeFrame>),
}

/// A request whose value has come in pieces.
#[derive(Debug)]
pub(crate) struct LargeFrame {
    /// What kind of request it is.
    pub(crate) kind: u8,
    /// The request, with an empty value.
    pub(crate) frame: Vec<u8>,
    /// The number under which its value has come, or why it was refused.
    pub(crate) value: Result<u64, SetError>,
}

/// The cargo of a reply.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A reply that is too long to be copied.
    Reply(Vec<u8>),
    /// A transaction's replies, and the database that it has selected.
    Transaction(Vec<u8>, u8),
    /// What WATCH has seen, and its reply.
    Watches(Watches, Vec<u8>),
    /// What was found among the connections of a core: lines, and how many.
    Clients(Vec<u8>, usize),
    /// What a step has come to.
    Step(Box<Found>),
    /// A reply with large values: a core has it under a number, and hands it out in pieces.
    Lent { core: u16, number: u64, bytes: usize },
    /// Such a piece; none if the reply is gone.
    Piece(Vec<u8>),
}

/// To whom the reply to a request of another core goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dest {
    /// The core that asks; this one, for its own part of a command that several execute.
    pub(super) core: usize,
    /// The connection there.
    pub(super) key: Key,
    /// Its place there.
    pub(super) ticket: u64,
    /// The request's flags.
    pub(super) flags: u8,
    /// The database that the client has selected.
    pub(super) db: u8,
}
