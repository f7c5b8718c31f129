//! Where the servers are, and how a connection to one of them is opened.
//!
//! Opening blocks (at most [`CONNECT_TIMEOUT`]), so while a run measures it is done by the
//! [`crate::connector`] thread and never by a worker.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{Protocol, TARGETS_MAX};
use crate::conn::Connection;
use crate::error::Error;
use crate::protocol::resp;

/// Longest time for a connection to open, and for its first exchange.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest first exchange that is believed.
const HELLO_BYTES_MAX: usize = 1 << 20;

/// An open socket.
#[derive(Debug)]
pub(crate) enum Stream {
    /// TCP, without Nagle's delay.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

impl Stream {
    pub(crate) fn fd(&self) -> RawFd {
        match self {
            Stream::Tcp(stream) => stream.as_raw_fd(),
            Stream::Unix(stream) => stream.as_raw_fd(),
        }
    }

    fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => {
                stream.set_read_timeout(timeout)?;
                stream.set_write_timeout(timeout)
            }
            Stream::Unix(stream) => {
                stream.set_read_timeout(timeout)?;
                stream.set_write_timeout(timeout)
            }
        }
    }

    fn set_ready(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => {
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)
            }
            Stream::Unix(stream) => stream.set_nonblocking(true),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug, Clone)]
enum Place {
    /// All addresses of a `host:port`; the first that answers is taken.
    Tcp(Vec<SocketAddr>),
    Unix(PathBuf),
}

/// The servers of a run, in the order in which they were named.
#[derive(Debug, Clone)]
pub(crate) struct Targets {
    places: Vec<(String, Place)>,
}

impl Targets {
    /// Reads `host:port` and `unix:path`, separated by commas, and finds the addresses.
    ///
    /// # Errors
    /// [`Error::Usage`] if one of them is neither or has no address.
    pub(crate) fn resolve(names: &str) -> Result<Targets, Error> {
        let mut places = Vec::new();
        for name in names.split(',') {
            let bad = |why: String| Error::Usage(format!("--target {name}: {why}"));
            let place = match name.strip_prefix("unix:") {
                Some("") => return Err(bad("expected unix:PATH".to_owned())),
                Some(path) => Place::Unix(path.into()),
                None => {
                    let addresses: Vec<SocketAddr> =
                        name.to_socket_addrs().map_err(|error| bad(error.to_string()))?.collect();
                    if addresses.is_empty() {
                        return Err(bad("no address".to_owned()));
                    }
                    Place::Tcp(addresses)
                }
            };
            places.push((name.to_owned(), place));
        }
        if places.len() > TARGETS_MAX {
            return Err(Error::Usage(format!("--target: more than {TARGETS_MAX} targets")));
        }
        Ok(Targets { places })
    }

    /// Number of targets, at least 1.
    pub(crate) fn count(&self) -> usize {
        self.places.len()
    }

    /// Whether all of them are on this machine.
    pub(crate) fn are_local(&self) -> bool {
        self.places.iter().all(|(_, place)| match place {
            Place::Unix(_) => true,
            Place::Tcp(addresses) => addresses.iter().all(|address| address.ip().is_loopback()),
        })
    }

    /// Opens a connection to target `index`, with its first exchange where the protocol has one.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened, [`Error::Server`] if the server refuses `HELLO 3`.
    pub(crate) fn open(&self, index: usize, protocol: Protocol) -> Result<Connection, Error> {
        let (name, place) = &self.places[index];
        let context = |error| Error::io(format!("cannot connect to {name}"), error);
        let mut stream = connect(place).map_err(context)?;
        if protocol == Protocol::Resp3 {
            say_hello(&mut stream, name)?;
        }
        stream.set_ready().map_err(context)?;
        Ok(Connection::new(stream, index))
    }
}

fn connect(place: &Place) -> io::Result<Stream> {
    let addresses = match place {
        Place::Unix(path) => return UnixStream::connect(path).map(Stream::Unix),
        Place::Tcp(addresses) => addresses,
    };
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect_timeout(address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(Stream::Tcp(stream)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Switches the connection to RESP3 and waits for the server's consent.
fn say_hello(stream: &mut Stream, target: &str) -> Result<(), Error> {
    let context = |error| Error::io(format!("no answer to HELLO 3 from {target}"), error);
    let refuse = |why: &str| Err(Error::Server(format!("{target} does not speak RESP3: {why}")));
    stream.set_timeout(Some(CONNECT_TIMEOUT)).map_err(context)?;
    stream.write_all(resp::HELLO_3).map_err(context)?;
    let mut reply = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let bytes = stream.read(&mut chunk).map_err(context)?;
        reply.extend_from_slice(&chunk[..bytes]);
        if reply.starts_with(b"-") && reply.ends_with(b"\r\n") {
            return refuse(&reply.trim_ascii().escape_ascii().to_string());
        }
        match resp::skip(&reply) {
            Err(why) => return refuse(why),
            Ok(Some(length)) if length == reply.len() => return Ok(()),
            Ok(Some(_)) => return refuse("more than one reply"),
            Ok(None) if bytes == 0 || reply.len() > HELLO_BYTES_MAX => {
                return refuse("the reply never ends");
            }
            Ok(None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn unknown_hosts_and_closed_ports_are_told_apart() {
        assert!(matches!(Targets::resolve("no-port"), Err(Error::Usage(_))));
        assert!(matches!(Targets::resolve("unix:"), Err(Error::Usage(_))));
        assert!(matches!(Targets::resolve("127.0.0.1:1,"), Err(Error::Usage(_))));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let name = listener.local_addr().expect("bound").to_string();
        drop(listener);
        let targets = Targets::resolve(&format!("{name},unix:/nowhere")).expect("addresses");
        assert_eq!((targets.count(), targets.are_local()), (2, true));
        for index in 0..2 {
            let refused = targets.open(index, Protocol::Resp).err().expect("nobody listens");
            assert!(matches!(refused, Error::Io { .. }), "{refused}");
        }
    }
}
