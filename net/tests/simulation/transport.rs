//! A transport without sockets whose peers are the simulation's clients.
//!
//! What a client writes comes in pieces of random lengths, what the core sends is taken in pieces
//! of random lengths, and a client that does not read takes nothing. A client may end its half, or
//! be gone at any time.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use pinion_net::core::Transport;
use pinion_ring::{EndReason, Event, Key, Wait};

use super::prng::Prng;

/// The core's end of a connection. When it is dropped, the client sees the end.
#[derive(Debug)]
pub(crate) struct SimSocket {
    peer: usize,
    closed: Rc<Cell<bool>>,
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        self.closed.set(true);
    }
}

/// How far the client's end is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Half {
    #[default]
    Open,
    /// It writes no more, and reads.
    Ended,
    /// It is gone.
    Gone,
}

#[derive(Debug, Default)]
struct PeerState {
    /// On its way to the core,
    to_core: VecDeque<u8>,
    /// and from it.
    to_client: Vec<u8>,
    half: Half,
    /// Whether the client takes what comes.
    reads: bool,
    receiving: Option<Key>,
    sending: Option<Sending>,
    /// Ends to be told with the next `enter`.
    end: Option<(Key, EndReason)>,
    closed: Rc<Cell<bool>>,
}

#[derive(Debug)]
struct Sending {
    key: Key,
    buffer: Vec<u8>,
    from: usize,
    to: usize,
}

impl PeerState {
    fn has_something(&self) -> bool {
        let comes = !self.to_core.is_empty() || self.half != Half::Open;
        (self.receiving.is_some() && comes)
            || (self.sending.is_some() && (self.reads || self.half == Half::Gone))
            || self.end.is_some()
    }
}

/// See the module's page.
#[derive(Debug)]
pub(crate) struct SimTransport {
    prng: Prng,
    piece_bytes_max: usize,
    peers: Vec<PeerState>,
    events: VecDeque<Event<SimSocket, Vec<u8>>>,
    loans_out: usize,
    enters: u64,
}

impl SimTransport {
    pub(crate) fn new(seed: u64, piece_bytes_max: usize) -> SimTransport {
        SimTransport {
            prng: Prng::new(seed),
            piece_bytes_max,
            peers: Vec::new(),
            events: VecDeque::new(),
            loans_out: 0,
            enters: 0,
        }
    }

    /// A client connects to a listener; its number.
    pub(crate) fn connect(&mut self, listener: u32) -> usize {
        let peer = self.peers.len();
        let state = PeerState { reads: true, ..PeerState::default() };
        let socket = SimSocket { peer, closed: Rc::clone(&state.closed) };
        self.peers.push(state);
        self.events.push_back(Event::Accepted { listener, socket });
        peer
    }

    /// A client writes.
    pub(crate) fn write(&mut self, peer: usize, bytes: &[u8]) {
        self.peers[peer].to_core.extend(bytes);
    }

    /// Bytes that a client has written and the core has not received.
    pub(crate) fn unread_bytes(&self, peer: usize) -> usize {
        self.peers[peer].to_core.len()
    }

    /// What a client has got since it was last asked.
    pub(crate) fn read(&mut self, peer: usize) -> Vec<u8> {
        std::mem::take(&mut self.peers[peer].to_client)
    }

    /// Whether the core has closed a connection.
    pub(crate) fn is_closed(&self, peer: usize) -> bool {
        self.peers[peer].closed.get()
    }

    /// A client reads from now on, or does not.
    pub(crate) fn set_reads(&mut self, peer: usize, reads: bool) {
        self.peers[peer].reads = reads;
    }

    /// A client ends.
    pub(crate) fn end(&mut self, peer: usize, half: Half) {
        self.peers[peer].half = half;
    }

    /// Loans that the core has not given back.
    pub(crate) fn loans_out(&self) -> usize {
        self.loans_out
    }

    fn deliver(&mut self, peer: usize) {
        let state = &mut self.peers[peer];
        if let Some((key, reason)) = state.end.take() {
            self.events.push_back(Event::ReceiveEnded { key, reason });
        }
        if let Some(Sending { key, buffer, from, to }) = state.sending.take() {
            if state.half == Half::Gone {
                let result = Err(io::ErrorKind::BrokenPipe.into());
                self.events.push_back(Event::Sent { key, buffer, result });
            } else if state.reads {
                let count =
                    if self.prng.one_in(4) { self.prng.between(1, to - from) } else { to - from };
                state.to_client.extend_from_slice(&buffer[from..from + count]);
                self.events.push_back(Event::Sent { key, buffer, result: Ok(count) });
            } else {
                state.sending = Some(Sending { key, buffer, from, to });
            }
        }
        let Some(key) = state.receiving else { return };
        if state.half == Half::Gone {
            state.receiving = None;
            let reason = EndReason::Failed(io::ErrorKind::ConnectionReset.into());
            self.events.push_back(Event::ReceiveEnded { key, reason });
        } else if !state.to_core.is_empty() {
            let count = self.prng.between(1, self.piece_bytes_max).min(state.to_core.len());
            let data = state.to_core.drain(..count).collect();
            let armed = !self.prng.one_in(16);
            if !armed {
                state.receiving = None;
            }
            self.events.push_back(Event::Received { key, data, armed });
        } else if state.half == Half::Ended {
            state.receiving = None;
            self.events.push_back(Event::ReceiveEnded { key, reason: EndReason::Eof });
        }
    }
}

impl Transport for SimTransport {
    type Socket = SimSocket;
    type Loan = Vec<u8>;

    /// Never sleeps: the simulation takes turns of cores that have something to do.
    fn enter(&mut self, _: Wait) -> io::Result<()> {
        self.enters += 1;
        for peer in 0..self.peers.len() {
            // What is late comes with another turn.
            if !self.prng.one_in(8) {
                self.deliver(peer);
            }
        }
        Ok(())
    }

    fn ready(&mut self) -> bool {
        !self.events.is_empty() || self.peers.iter().any(PeerState::has_something)
    }

    fn next_event(&mut self) -> Option<Event<SimSocket, Vec<u8>>> {
        let event = self.events.pop_front();
        self.loans_out += usize::from(matches!(event, Some(Event::Received { .. })));
        event
    }

    fn bytes<'a>(&'a self, loan: &'a Vec<u8>) -> &'a [u8] {
        loan
    }

    fn give_back(&mut self, _: Vec<u8>) {
        self.loans_out -= 1;
    }

    fn rearm_accept(&mut self, _: u32) {}

    fn receive(&mut self, socket: &SimSocket, key: Key) {
        let state = &mut self.peers[socket.peer];
        assert!(state.receiving.is_none(), "one receive at a time");
        state.receiving = Some(key);
    }

    fn cancel_receive(&mut self, key: Key) {
        let found = self.peers.iter_mut().find(|state| state.receiving == Some(key));
        if let Some(state) = found {
            state.receiving = None;
            state.end = Some((key, EndReason::Cancelled));
        }
    }

    fn send(&mut self, socket: &SimSocket, key: Key, buffer: Vec<u8>, from: usize, to: usize) {
        let state = &mut self.peers[socket.peer];
        assert!(state.sending.is_none() && from < to, "one send at a time, of some bytes");
        state.sending = Some(Sending { key, buffer, from, to });
    }

    fn shutdown(&mut self, socket: &SimSocket) {
        let state = &mut self.peers[socket.peer];
        state.half = Half::Gone;
    }

    fn enters(&self) -> u64 {
        self.enters
    }
}
