//! A transport without sockets: peers whose requests were written beforehand, in memory.
//!
//! ```text
//! push(peer, frame, reply length)     Core::turn
//!        |                               |
//!        v                               v
//!   peer's messages -- enter --> Received (loans) ... send --> the next enter: Sent,
//!        ^                                                     and the peer's next message
//!        +---- only when the whole reply to the last has come ----+
//! ```
//!
//! It keeps the order of a busy data ring whose clients wait for their replies: sends end at the
//! next `enter`, all `Sent` events come before the `Received` that they make possible, a message
//! longer than a receive buffer comes as several loans, and receiving stays armed.
//!
//! Invariants:
//!
//! - M1. A peer's next message is delivered when it has got as many reply bytes as its messages so
//!   far call for, and not earlier. A message that calls for none (a piece of a torn frame) is
//!   followed by the next one at the next `enter`.
//! - M2. Messages are pushed between turns only, when no loan is out, so that a loan's bytes never
//!   change.
//! - M3. Bytes beyond what a peer waits for are an error that stays.
//! - M4. A message whose reply may have any length is the last one of its peer until the core is
//!   idle, since nothing else tells when its reply is complete.
//!
//! Cost: `enter` is linear in the sends and messages at hand; after the first messages of their
//! kind nothing allocates but [`MemoryTransport::push`].

use std::collections::VecDeque;
use std::fmt;
use std::io;

use pinion_net::core::Transport;
use pinion_ring::{EndReason, Event, Key, Wait};

/// Number of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer(u32);

/// The core's end of a connection.
#[derive(Debug)]
pub struct MemorySocket(Peer);

/// Bytes of a peer's message on loan.
#[derive(Debug)]
pub struct MemoryLoan {
    peer: Peer,
    from: usize,
    to: usize,
}

/// What is wrong with the replies of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// More bytes came than its requests call for.
    Surplus {
        /// Whose.
        peer: Peer,
        /// How many more.
        bytes: u64,
    },
    /// Nothing more happens, and bytes are missing.
    Missing {
        /// Whose.
        peer: Peer,
        /// How many.
        bytes: u64,
    },
    /// The core closed the connection.
    Closed {
        /// Whose.
        peer: Peer,
    },
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Surplus { peer, bytes } => {
                write!(f, "connection {} got {bytes} reply bytes too many", peer.0)
            }
            Wrong::Missing { peer, bytes } => {
                write!(f, "connection {} waits for {bytes} more reply bytes", peer.0)
            }
            Wrong::Closed { peer } => write!(f, "the core closed connection {}", peer.0),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Message {
    /// Where it ends in the peer's input; it begins where the one before it ends.
    to: usize,
    /// `None` for any number.
    reply_bytes: Option<u64>,
}

#[derive(Debug, Default)]
struct PeerState {
    input: Vec<u8>,
    messages: Vec<Message>,
    /// Messages delivered.
    delivered: usize,
    /// Reply bytes that messages delivered call for and that have not come.
    awaited_bytes: u64,
    /// The last message takes a reply of any length (M4).
    is_open: bool,
    /// Under which the core receives, if it does.
    receiving: Option<Key>,
    replies: Option<Vec<u8>>,
}

impl PeerState {
    fn is_done(&self) -> bool {
        self.delivered == self.messages.len() && self.awaited_bytes == 0
    }

    fn may_speak(&self) -> bool {
        self.awaited_bytes == 0 && self.delivered < self.messages.len() && self.receiving.is_some()
    }
}

/// What the core has asked for and the next `enter` does.
#[derive(Debug)]
enum Submitted {
    Send { peer: Peer, key: Key, buffer: Vec<u8>, from: usize, to: usize },
    End { key: Key, reason: EndReason },
}

/// See the module's page.
#[derive(Debug)]
pub struct MemoryTransport {
    receive_bytes_max: usize,
    peers: Vec<PeerState>,
    submitted: Vec<Submitted>,
    events: VecDeque<Event<MemorySocket, MemoryLoan>>,
    /// Peers that may speak at the next `enter`.
    ready: Vec<Peer>,
    /// Peers with messages that are not delivered and answered.
    busy: usize,
    loans_out: usize,
    enters: u64,
    wrong: Option<Wrong>,
}

impl MemoryTransport {
    /// A transport without peers, whose loans have at most `receive_bytes_max` bytes.
    ///
    /// # Panics
    /// If that is 0.
    pub fn new(receive_bytes_max: usize) -> MemoryTransport {
        assert!(receive_bytes_max > 0, "a receive without bytes would be the end of a stream");
        MemoryTransport {
            receive_bytes_max,
            peers: Vec::new(),
            submitted: Vec::new(),
            events: VecDeque::new(),
            ready: Vec::new(),
            busy: 0,
            loans_out: 0,
            enters: 0,
            wrong: None,
        }
    }

    /// A new peer connects to a listener of the core.
    pub fn connect(&mut self, listener: u32) -> Peer {
        let peer = Peer(self.peers.len() as u32);
        self.peers.push(PeerState::default());
        self.events.push_back(Event::Accepted { listener, socket: MemorySocket(peer) });
        // Room for an event of each kind per peer, so that turns find it.
        self.events.reserve(4 * self.peers.len());
        self.submitted.reserve(4 * self.peers.len());
        self.ready.reserve(2 * self.peers.len());
        peer
    }

    /// Appends a message of a peer, which `write` writes, and whose reply has `reply_bytes`.
    ///
    /// # Panics
    /// If a loan is out (M2), the message is empty, or the one before it is open (M4).
    pub fn push(&mut self, peer: Peer, reply_bytes: usize, write: impl FnOnce(&mut Vec<u8>)) {
        self.append(peer, Some(reply_bytes as u64), write);
    }

    /// Appends a message of a peer, which `write` writes, and whose reply may have any length. It
    /// counts as answered as soon as it is delivered: take turns until the core is idle.
    ///
    /// # Panics
    /// As [`MemoryTransport::push`].
    pub fn push_open(&mut self, peer: Peer, write: impl FnOnce(&mut Vec<u8>)) {
        self.append(peer, None, write);
    }

    fn append(&mut self, peer: Peer, reply_bytes: Option<u64>, write: impl FnOnce(&mut Vec<u8>)) {
        assert_eq!(self.loans_out, 0, "M2: the core still reads an earlier message");
        let state = &mut self.peers[peer.0 as usize];
        let was_done = state.is_done();
        if was_done {
            state.input.clear();
            state.messages.clear();
            state.delivered = 0;
            state.is_open = false;
        }
        let last = state.messages.last();
        assert!(last.is_none_or(|last| last.reply_bytes.is_some()), "M4: the last one is open");
        let from = state.input.len();
        write(&mut state.input);
        assert!(state.input.len() > from, "an empty message cannot be received");
        state.messages.push(Message { to: state.input.len(), reply_bytes });
        if was_done {
            self.busy += 1;
            if state.may_speak() {
                self.ready.push(peer);
            }
        }
    }

    /// Keeps what a peer gets from now on, for [`MemoryTransport::replies`]. This allocates.
    pub fn keep_replies(&mut self, peer: Peer) {
        self.peers[peer.0 as usize].replies.get_or_insert_default();
    }

    /// What a peer has got since [`MemoryTransport::keep_replies`]; empty without that.
    pub fn replies(&self, peer: Peer) -> &[u8] {
        self.peers[peer.0 as usize].replies.as_deref().unwrap_or_default()
    }

    /// Stops what [`MemoryTransport::keep_replies`] began, and returns what came since.
    pub fn take_replies(&mut self, peer: Peer) -> Vec<u8> {
        self.peers[peer.0 as usize].replies.take().unwrap_or_default()
    }

    /// Whether all messages are delivered and answered, and the core has taken every event.
    pub fn is_done(&self) -> bool {
        self.busy == 0 && self.events.is_empty() && self.submitted.is_empty()
    }

    /// Loans that the core has not given back.
    pub fn loans_out(&self) -> usize {
        self.loans_out
    }

    /// What was wrong first, if anything was (M3).
    pub fn wrong(&self) -> Option<Wrong> {
        self.wrong
    }

    /// A peer that waits for reply bytes.
    pub fn waiting(&self) -> Option<Wrong> {
        let waits = |state: &PeerState| state.awaited_bytes > 0;
        let index = self.peers.iter().position(waits)?;
        let bytes = self.peers[index].awaited_bytes;
        Some(Wrong::Missing { peer: Peer(index as u32), bytes })
    }

    /// A peer gets reply bytes.
    fn hear(&mut self, peer: Peer, bytes: &[u8]) {
        let state = &mut self.peers[peer.0 as usize];
        if let Some(replies) = &mut state.replies {
            replies.extend_from_slice(bytes);
        }
        if state.is_open {
            return;
        }
        let count = bytes.len() as u64;
        if count > state.awaited_bytes {
            let bytes = count - state.awaited_bytes;
            self.wrong.get_or_insert(Wrong::Surplus { peer, bytes });
            return;
        }
        state.awaited_bytes -= count;
        if state.is_done() {
            self.busy -= 1;
        } else if state.may_speak() {
            self.ready.push(peer);
        }
    }

    /// Delivers a peer's next message.
    fn speak(&mut self, peer: Peer) {
        let state = &mut self.peers[peer.0 as usize];
        // A peer that stopped receiving and began again may stand in the list twice.
        let Some(key) = state.receiving.filter(|_| state.may_speak()) else { return };
        let Message { to, reply_bytes } = state.messages[state.delivered];
        let mut from = match state.delivered {
            0 => 0,
            delivered => state.messages[delivered - 1].to,
        };
        while from < to {
            let end = to.min(from + self.receive_bytes_max);
            let data = MemoryLoan { peer, from, to: end };
            self.events.push_back(Event::Received { key, data, armed: true });
            self.loans_out += 1;
            from = end;
        }
        state.delivered += 1;
        state.awaited_bytes += reply_bytes.unwrap_or_default();
        state.is_open = reply_bytes.is_none();
        if state.is_done() {
            self.busy -= 1;
        } else if state.may_speak() {
            self.ready.push(peer);
        }
    }

    fn submit_end(&mut self, peer: Peer, reason: EndReason) {
        if let Some(key) = self.peers[peer.0 as usize].receiving.take() {
            self.submitted.push(Submitted::End { key, reason });
        }
    }
}

impl Transport for MemoryTransport {
    type Socket = MemorySocket;
    type Loan = MemoryLoan;

    /// Never sleeps: what does not happen at once, never happens here.
    fn enter(&mut self, _: Wait) -> io::Result<()> {
        self.enters += 1;
        let mut submitted = std::mem::take(&mut self.submitted);
        for operation in submitted.drain(..) {
            match operation {
                Submitted::Send { peer, key, buffer, from, to } => {
                    self.hear(peer, &buffer[from..to]);
                    self.events.push_back(Event::Sent { key, buffer, result: Ok(to - from) });
                }
                Submitted::End { key, reason } => {
                    self.events.push_back(Event::ReceiveEnded { key, reason });
                }
            }
        }
        self.submitted = submitted;
        let ready = self.ready.len();
        for index in 0..ready {
            self.speak(self.ready[index]);
        }
        self.ready.drain(..ready);
        Ok(())
    }

    fn ready(&mut self) -> bool {
        !(self.events.is_empty() && self.submitted.is_empty() && self.ready.is_empty())
    }

    fn next_event(&mut self) -> Option<Event<MemorySocket, MemoryLoan>> {
        self.events.pop_front()
    }

    fn bytes<'a>(&'a self, loan: &'a MemoryLoan) -> &'a [u8] {
        &self.peers[loan.peer.0 as usize].input[loan.from..loan.to]
    }

    fn give_back(&mut self, _: MemoryLoan) {
        self.loans_out -= 1;
    }

    /// Accepting never fails here.
    fn rearm_accept(&mut self, _: u32) {}

    fn receive(&mut self, socket: &MemorySocket, key: Key) {
        let state = &mut self.peers[socket.0.0 as usize];
        state.receiving = Some(key);
        if state.may_speak() {
            self.ready.push(socket.0);
        }
    }

    fn cancel_receive(&mut self, key: Key) {
        let receives = |state: &PeerState| state.receiving == Some(key);
        if let Some(index) = self.peers.iter().position(receives) {
            self.submit_end(Peer(index as u32), EndReason::Cancelled);
        }
    }

    fn send(&mut self, socket: &MemorySocket, key: Key, buffer: Vec<u8>, from: usize, to: usize) {
        self.submitted.push(Submitted::Send { peer: socket.0, key, buffer, from, to });
    }

    fn shutdown(&mut self, socket: &MemorySocket) {
        self.wrong.get_or_insert(Wrong::Closed { peer: socket.0 });
        self.submit_end(socket.0, EndReason::Eof);
    }

    fn enters(&self) -> u64 {
        self.enters
    }
}
