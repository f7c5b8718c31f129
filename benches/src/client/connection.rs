//! One connection of the client: what is still to be sent, and what is still to be answered.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use pinion_router::{CoreCount, core_of_source_port};
use socket2::{Domain, Socket, Type};

use super::ClientError;
use super::replies::{Hits, Pending, ReplyCounter};
use crate::sys::cpu;
use crate::sys::epoll::{Epoll, Interest};
use crate::sys::tcp;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that is watched by the client's epoll instance under its index.
pub(super) struct Connection {
    stream: TcpStream,
    token: u64,
    /// Bytes that the kernel has not taken yet.
    pub(super) output: Vec<u8>,
    /// Requests that are not answered yet, oldest first.
    pub(super) pending: VecDeque<Pending>,
    counter: ReplyCounter,
    watches_writing: bool,
}

/// Source ports that are tried for a connection.
const SOURCE_PORTS_TRIED: u64 = 64;

/// Connects from a source port that leads to a core.
fn connect_to_core(
    address: SocketAddr,
    token: u64,
    (core, cores): (usize, CoreCount),
) -> io::Result<TcpStream> {
    // Each connection begins elsewhere, so that few ports are tried twice.
    let pairs = 14_000 / u64::from(cores.count());
    let first = (u64::from(std::process::id()) * 7919 + token * 31 + core as u64 * 17) % pairs;
    let mut last = io::Error::from(ErrorKind::AddrInUse);
    for step in 0..SOURCE_PORTS_TRIED {
        let pair = (first + step * 101) % pairs * u64::from(cores.count()) + core as u64;
        let port = (32_768 + 2 * pair) as u16;
        if core_of_source_port(port, cores).index() != core {
            // The first pair of the range leads to another core than 0.
            continue;
        }
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        let from = SocketAddr::new(address.ip(), port);
        match socket
            .bind(&from.into())
            .and_then(|()| socket.connect_timeout(&address.into(), CONNECT_TIMEOUT))
        {
            Ok(()) => return Ok(socket.into()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Connection {
    pub(super) fn open(
        address: SocketAddr,
        token: u64,
        core: Option<(usize, CoreCount)>,
        epoll: &Epoll,
    ) -> Result<Connection, ClientError> {
        let refused = |error| ClientError::Connect(address, error);
        let stream = match core {
            None => TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).map_err(refused)?,
            Some(core) => connect_to_core(address, token, core).map_err(refused)?,
        };
        stream.set_nodelay(true).map_err(refused)?;
        stream.set_nonblocking(true).map_err(refused)?;
        epoll.add(&stream, token, Interest::Read).map_err(refused)?;
        Ok(Connection {
            stream,
            token,
            output: Vec::new(),
            pending: VecDeque::new(),
            counter: ReplyCounter::default(),
            watches_writing: false,
        })
    }

    /// Sends what there is to be sent, as far as the kernel takes it at once. Costs one system
    /// call if there is anything.
    pub(super) fn flush(&mut self, epoll: &Epoll) -> Result<(), ClientError> {
        if !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) if count == self.output.len() => self.output.clear(),
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if is_momentary(error.kind()) => {}
                Err(error) => return Err(failed("send", error)),
            }
        }
        let watches_writing = !self.output.is_empty();
        if watches_writing != self.watches_writing {
            self.watches_writing = watches_writing;
            let interest = if watches_writing { Interest::ReadWrite } else { Interest::Read };
            epoll
                .change(&self.stream, self.token, interest)
                .map_err(|error| ClientError::Io("watch a connection", error))?;
        }
        Ok(())
    }

    /// Receives once and hands every request that is now answered to `complete`, with the time
    /// after the receive in nanoseconds. `receive` is scratch space.
    pub(super) fn receive(
        &mut self,
        receive: &mut [u8],
        hits: &Hits,
        mut complete: impl FnMut(Pending, u64),
    ) -> Result<(), ClientError> {
        let count = match self.stream.read(receive) {
            Ok(0) => return Err(ClientError::Closed),
            Ok(count) => count,
            Err(error) if is_momentary(error.kind()) => return Ok(()),
            Err(error) => return Err(failed("receive", error)),
        };
        let now_ns = cpu::monotonic_ns();
        let complete = |pending| complete(pending, now_ns);
        self.counter.feed(&receive[..count], hits, &mut self.pending, complete)
    }

    /// Segments with replies that have come so far; wraps.
    pub(super) fn reply_segments(&self) -> Result<u32, ClientError> {
        tcp::data_segments_received(&self.stream)
            .map_err(|error| ClientError::Io("read a connection's counters", error))
    }
}

fn is_momentary(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn failed(what: &'static str, error: std::io::Error) -> ClientError {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => ClientError::Closed,
        _ => ClientError::Io(what, error),
    }
}
