//! What a core needs from whatever moves its bytes: the data ring in production, frames in memory
//! for benchmarks and simulations.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use pinion_ring::{DataRing, Event, Key, Received, Wait};

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
        // A peer that is gone already makes this fail, which is as good.
        let _ = socket2::SockRef::from(socket).shutdown(std::net::Shutdown::Both);
    }

    fn enters(&self) -> u64 {
        DataRing::enters(self)
    }

    fn addresses(&self, socket: &OwnedFd) -> Option<(SocketAddr, SocketAddr)> {
        let socket = socket2::SockRef::from(socket);
        Some((socket.peer_addr().ok()?.as_socket()?, socket.local_addr().ok()?.as_socket()?))
    }

    fn descriptor(&self, socket: &OwnedFd) -> i32 {
        socket.as_raw_fd()
    }
}
