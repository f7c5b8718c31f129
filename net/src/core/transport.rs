//! What a core needs from whatever moves its bytes: the data ring in production, epoll where there
//! is no io_uring, frames in memory for benchmarks and simulations.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use pinion_ring::{DataRing, EpollReceived, EpollSet, Event, Key, Received, Wait};
use socket2::SockRef;

/// Moves bytes for one core. The contract is that of [`DataRing`], which see.
pub trait Transport {
    /// A connection. Dropping it closes it.
    type Socket;
    /// Received bytes on loan, to be given back.
    type Loan;

    /// Submits what is queued and collects events, sleeping as `wait` allows if there are none.
    ///
    /// # Errors
    /// Only what nobody can mend.
    fn enter(&mut self, wait: Wait) -> io::Result<()>;
    /// Whether `enter` would find something without sleeping.
    fn ready(&mut self) -> bool;
    /// The next collected event.
    fn next_event(&mut self) -> Option<Event<Self::Socket, Self::Loan>>;
    /// The bytes of a loan.
    fn bytes<'a>(&'a self, loan: &'a Self::Loan) -> &'a [u8];
    /// Returns a loan.
    fn give_back(&mut self, loan: Self::Loan);
    /// Accepts again on a listener after a failure.
    fn rearm_accept(&mut self, listener: u32);
    /// Starts receiving.
    fn receive(&mut self, socket: &Self::Socket, key: Key);
    /// Asks that receiving ends.
    fn cancel_receive(&mut self, key: Key);
    /// Sends `buffer[from..to]`; the buffer comes back in an event.
    fn send(&mut self, socket: &Self::Socket, key: Key, buffer: Vec<u8>, from: usize, to: usize);
    /// Ends both directions, so that receiving ends and the peer sees it.
    fn shutdown(&mut self, socket: &Self::Socket);
    /// Calls that entered the kernel, for statistics.
    fn enters(&self) -> u64;

    /// Takes a connection that waits for being accepted, at once; none if nobody waits.
    fn accept_now(&mut self, _listener: u32) -> Option<Self::Socket> {
        None
    }
    /// A connection of this transport from one that another has accepted, which is closed if that
    /// cannot be.
    fn adopt(&mut self, _socket: OwnedFd) -> Option<Self::Socket> {
        None
    }
    /// A connection for another's transport, as long as nothing was done with it.
    ///
    /// # Errors
    /// The connection, if it has to stay.
    fn hand_over(&mut self, socket: Self::Socket) -> Result<OwnedFd, Self::Socket> {
        Err(socket)
    }
    /// Says something to a connection that is about to be closed, if that needs no waiting.
    fn say(&self, _socket: &Self::Socket, _text: &[u8]) {}

    /// The addresses of a socket: the peer's and our own. `None` if it has none, or the peer is
    /// gone.
    fn addresses(&self, _socket: &Self::Socket) -> Option<(SocketAddr, SocketAddr)> {
        None
    }

    /// The number of a socket's descriptor, -1 if it has none.
    fn descriptor(&self, _socket: &Self::Socket) -> i32 {
        -1
    }
}

fn shutdown(socket: &OwnedFd) {
    // A peer that is gone already makes this fail, which is as good.
    let _ = SockRef::from(socket).shutdown(Shutdown::Both);
}

fn say(socket: &OwnedFd, text: &[u8]) {
    // It is a courtesy: who does not take it sees the end all the same.
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let _ = SockRef::from(socket).send_with_flags(text, flags);
}

fn addresses(socket: &OwnedFd) -> Option<(SocketAddr, SocketAddr)> {
    let socket = SockRef::from(socket);
    Some((socket.peer_addr().ok()?.as_socket()?, socket.local_addr().ok()?.as_socket()?))
}

impl Transport for DataRing {
    type Socket = OwnedFd;
    type Loan = Received;

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        DataRing::enter(self, wait)
    }

    fn ready(&mut self) -> bool {
        DataRing::ready(self)
    }

    fn next_event(&mut self) -> Option<Event> {
        DataRing::next_event(self)
    }

    fn bytes<'a>(&'a self, loan: &'a Received) -> &'a [u8] {
        DataRing::bytes(self, loan)
    }

    fn give_back(&mut self, loan: Received) {
        DataRing::give_back(self, loan);
    }

    fn rearm_accept(&mut self, listener: u32) {
        DataRing::rearm_accept(self, listener);
    }

    fn receive(&mut self, socket: &OwnedFd, key: Key) {
        DataRing::receive(self, socket.as_fd(), key);
    }

    fn cancel_receive(&mut self, key: Key) {
        DataRing::cancel_receive(self, key);
    }

    fn send(&mut self, socket: &OwnedFd, key: Key, buffer: Vec<u8>, from: usize, to: usize) {
        DataRing::send(self, socket.as_fd(), key, buffer, from, to);
    }

    fn shutdown(&mut self, socket: &OwnedFd) {
        shutdown(socket);
    }

    fn accept_now(&mut self, listener: u32) -> Option<OwnedFd> {
        DataRing::accept_now(self, listener)
    }

    fn adopt(&mut self, socket: OwnedFd) -> Option<OwnedFd> {
        Some(socket)
    }

    fn hand_over(&mut self, socket: OwnedFd) -> Result<OwnedFd, OwnedFd> {
        Ok(socket)
    }

    fn say(&self, socket: &OwnedFd, text: &[u8]) {
        say(socket, text);
    }

    fn enters(&self) -> u64 {
        DataRing::enters(self)
    }

    fn addresses(&self, socket: &OwnedFd) -> Option<(SocketAddr, SocketAddr)> {
        addresses(socket)
    }

    fn descriptor(&self, socket: &OwnedFd) -> i32 {
        socket.as_raw_fd()
    }
}

impl Transport for EpollSet {
    type Socket = OwnedFd;
    type Loan = EpollReceived;

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        EpollSet::enter(self, wait)
    }

    fn ready(&mut self) -> bool {
        EpollSet::ready(self)
    }

    fn next_event(&mut self) -> Option<Event<OwnedFd, EpollReceived>> {
        EpollSet::next_event(self)
    }

    fn bytes<'a>(&'a self, loan: &'a EpollReceived) -> &'a [u8] {
        EpollSet::bytes(self, loan)
    }

    fn give_back(&mut self, loan: EpollReceived) {
        EpollSet::give_back(self, loan);
    }

    fn rearm_accept(&mut self, listener: u32) {
        EpollSet::rearm_accept(self, listener);
    }

    fn receive(&mut self, socket: &OwnedFd, key: Key) {
        EpollSet::receive(self, socket.as_fd(), key);
    }

    fn cancel_receive(&mut self, key: Key) {
        EpollSet::cancel_receive(self, key);
    }

    fn send(&mut self, socket: &OwnedFd, key: Key, buffer: Vec<u8>, from: usize, to: usize) {
        EpollSet::send(self, socket.as_fd(), key, buffer, from, to);
    }

    fn shutdown(&mut self, socket: &OwnedFd) {
        shutdown(socket);
    }

    fn accept_now(&mut self, listener: u32) -> Option<OwnedFd> {
        EpollSet::accept_now(self, listener)
    }

    fn adopt(&mut self, socket: OwnedFd) -> Option<OwnedFd> {
        Some(socket)
    }

    fn hand_over(&mut self, socket: OwnedFd) -> Result<OwnedFd, OwnedFd> {
        Ok(socket)
    }

    fn say(&self, socket: &OwnedFd, text: &[u8]) {
        say(socket, text);
    }

    fn enters(&self) -> u64 {
        EpollSet::enters(self)
    }

    fn addresses(&self, socket: &OwnedFd) -> Option<(SocketAddr, SocketAddr)> {
        addresses(socket)
    }

    fn descriptor(&self, socket: &OwnedFd) -> i32 {
        socket.as_raw_fd()
    }
}
