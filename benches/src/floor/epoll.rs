//! The epoll floor: for each ready connection one recv, and one send if a frame was completed.
//!
//! Invariant: a connection is watched for writing only while it has unsent output.

use std::convert::Infallible;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::{CONNECTIONS_MAX, FrameCounter, Idle, OUTPUT_MAX_BYTES, Replies};
use crate::sys::epoll::{Epoll, Interest, Readiness};

const LISTENER: u64 = u64::MAX;
const EVENTS_PER_WAIT_MAX: usize = 256;
const RECEIVE_BYTES: usize = 16 << 10;

struct Connection {
    stream: TcpStream,
    counter: FrameCounter,
    output: Vec<u8>,
    watches_writing: bool,
}

/// What becomes of a connection after it was served.
#[derive(PartialEq, Eq)]
enum Fate {
    Lives,
    Ends,
}

struct EpollServer {
    epoll: Epoll,
    listener: TcpListener,
    replies: Replies,
    connections: Vec<Option<Connection>>,
    vacant: Vec<usize>,
    receive: Box<[u8]>,
}

/// Serves until the process ends.
///
/// # Errors
///
/// If the system refuses something that no single connection is to blame for.
pub(super) fn serve(listener: TcpListener, replies: Replies, idle: Idle) -> io::Result<Infallible> {
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new(EVENTS_PER_WAIT_MAX)?;
    epoll.add(&listener, LISTENER, Interest::Read)?;
    let mut server = EpollServer {
        epoll,
        listener,
        replies,
        connections: Vec::new(),
        vacant: Vec::new(),
        receive: vec![0; RECEIVE_BYTES].into(),
    };
    let timeout = match idle {
        Idle::Block => None,
        Idle::Spin => Some(Duration::ZERO),
    };
    loop {
        server.turn(timeout)?;
    }
}

impl EpollServer {
    fn turn(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.epoll.wait(timeout)?;
        let mut index = 0;
        while let Some(readiness) = self.epoll.ready(index) {
            index += 1;
            if readiness.token == LISTENER {
                self.accept()?;
                continue;
            }
            let Ok(slot) = usize::try_from(readiness.token) else { continue };
            let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_mut) else {
                continue;
            };
            let fate =
                connection.serve(&self.epoll, readiness, &self.replies, &mut self.receive)?;
            if fate == Fate::Ends {
                // Each descriptor is in a batch of events once, so that no event of the dead
                // connection can meet the next owner of its slot.
                self.connections[slot] = None;
                self.vacant.push(slot);
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The peer has gone before it was accepted.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            if self.connections.len() == CONNECTIONS_MAX && self.vacant.is_empty() {
                drop(stream);
                continue;
            }
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let slot = self.vacant.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.epoll.add(&stream, slot as u64, Interest::Read)?;
            self.connections[slot] = Some(Connection {
                stream,
                counter: FrameCounter::default(),
                output: Vec::new(),
                watches_writing: false,
            });
        }
    }
}

impl Connection {
    fn serve(
        &mut self,
        epoll: &Epoll,
        readiness: Readiness,
        replies: &Replies,
        receive: &mut [u8],
    ) -> io::Result<Fate> {
        if readiness.readable {
            let count = match self.stream.read(receive) {
                Ok(0) => return Ok(Fate::Ends),
                Ok(count) => count,
                Err(error) if is_momentary(&error) => 0,
                Err(_) => return Ok(Fate::Ends),
            };
            let fed = self.counter.feed(&receive[..count], replies, &mut self.output);
            if fed.is_err() || self.output.len() > OUTPUT_MAX_BYTES {
                return Ok(Fate::Ends);
            }
        }
        if !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) if count == self.output.len() => self.output.clear(),
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if is_momentary(&error) => {}
                Err(_) => return Ok(Fate::Ends),
            }
        }
        let watches_writing = !self.output.is_empty();
        if watches_writing != self.watches_writing {
            self.watches_writing = watches_writing;
            let interest = if watches_writing { Interest::ReadWrite } else { Interest::Read };
            epoll.change(&self.stream, readiness.token, interest)?;
        }
        Ok(Fate::Lives)
    }
}

fn is_momentary(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
