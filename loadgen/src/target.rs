//! Where the servers are, which ways lead to them, and how a connection is opened.
//!
//! Opening blocks (at most [`CONNECT_TIMEOUT`]), so while a run measures it is done by the
//! [`crate::connector`] thread and never by a worker.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use pinion_router::CoreCount;

use crate::config::{Protocol, Steer, TARGETS_MAX};
use crate::conn::{Connection, Reached};
use crate::discover::{self, Problem, SlotRange};
use crate::error::Error;
use crate::steer::{Aim, Placement};
use crate::sys::connect_from;

/// Longest time for a connection to open, and for its first exchange.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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

/// A way to a server.
#[derive(Debug, Clone)]
struct Lane {
    name: String,
    place: Place,
    /// The core that connections shall reach.
    aim: Option<Aim>,
}

/// The ways to the servers of a run, in the order in which they were named or found.
#[derive(Debug, Clone)]
pub(crate) struct Targets {
    lanes: Vec<Lane>,
}

impl Targets {
    /// Reads `host:port` and `unix:path`, separated by commas, and finds the addresses.
    ///
    /// # Errors
    /// [`Error::Usage`] if one of them is neither or has no address.
    pub(crate) fn resolve(names: &str) -> Result<Targets, Error> {
        let mut lanes = Vec::new();
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
            lanes.push(Lane { name: name.to_owned(), place, aim: None });
        }
        if lanes.len() > TARGETS_MAX {
            return Err(Error::Usage(format!("--target: more than {TARGETS_MAX} targets")));
        }
        Ok(Targets { lanes })
    }

    /// Number of targets, at least 1.
    pub(crate) fn count(&self) -> usize {
        self.lanes.len()
    }

    /// The name of lane `index`.
    pub(crate) fn name(&self, index: usize) -> String {
        let lane = &self.lanes[index];
        match lane.aim {
            Some(aim) => format!("{} core {}", lane.name, aim.core),
            None => lane.name.clone(),
        }
    }

    /// Whether all of them are on this machine.
    pub(crate) fn are_local(&self) -> bool {
        self.lanes.iter().all(|lane| match &lane.place {
            Place::Unix(_) => true,
            Place::Tcp(addresses) => addresses.iter().all(|address| address.ip().is_loopback()),
        })
    }

    /// Finds the lanes that the steering needs, and who owns which slots.
    ///
    /// # Errors
    /// [`Error::Usage`] if the targets do not fit the steering or do not know what it needs,
    /// [`Error::Io`] or [`Error::Server`] if they do not answer.
    pub(crate) fn steered(
        self,
        steer: Steer,
        protocol: Protocol,
    ) -> Result<(Targets, Option<Placement>), Error> {
        match steer {
            Steer::None => Ok((self, None)),
            Steer::CorePorts if self.count() > 1 => {
                let placement = Placement::even(self.count())?;
                Ok((self, Some(placement)))
            }
            Steer::CorePorts if protocol.is_memcached() => Err(Error::Usage(
                "--steer core-ports: memcached has no word for the nodes; name all targets"
                    .to_owned(),
            )),
            Steer::CorePorts => self.ask_nodes(),
            Steer::SourcePort => self.ask_cores(protocol),
        }
    }

    /// One lane for every node that the target names.
    fn ask_nodes(&self) -> Result<(Targets, Option<Placement>), Error> {
        let seed = &self.lanes[0];
        let bad = |why: String| {
            let hint = "name a core port, or a node of a cluster";
            Error::Usage(format!("--steer core-ports: {}: {why} ({hint})", seed.name))
        };
        let Place::Tcp(addresses) = &seed.place else {
            return Err(bad("a Unix socket has no ports".to_owned()));
        };
        let mut stream = self.open_stream(0)?;
        let ranges = discover::cluster_slots(&mut stream).map_err(|problem| match problem {
            Problem::Io(error) => Error::io(format!("no answer from {}", seed.name), error),
            Problem::Refused(why) => bad(why),
        })?;
        let seed_host = addresses[0].ip().to_string();
        let mut names: Vec<(String, u16)> = Vec::new();
        let mut owned = Vec::new();
        for SlotRange { first, last, host, port } in ranges {
            let node = (host.unwrap_or_else(|| seed_host.clone()), port);
            let lane = names.iter().position(|name| *name == node).unwrap_or_else(|| {
                names.push(node);
                names.len() - 1
            });
            owned.push((first, last, lane as u16));
        }
        let placement = Placement::of_ranges(names.len(), &owned).map_err(bad)?;
        let lane = |(host, port): (String, u16)| {
            let found = (host.as_str(), port).to_socket_addrs();
            let addresses = found.map_err(|error| bad(format!("{host}:{port}: {error}")))?;
            let name = if host.contains(':') {
                format!("[{host}]:{port}")
            } else {
                format!("{host}:{port}")
            };
            Ok(Lane { name, place: Place::Tcp(addresses.collect()), aim: None })
        };
        let lanes: Result<Vec<Lane>, Error> = names.into_iter().map(lane).collect();
        Ok((Targets { lanes: lanes? }, Some(placement)))
    }

    /// One lane for every core of the target.
    fn ask_cores(&self, protocol: Protocol) -> Result<(Targets, Option<Placement>), Error> {
        let [target] = &self.lanes[..] else {
            return Err(Error::Usage("--steer source-port: has one --target".to_owned()));
        };
        let bad = |why: &str| Error::Usage(format!("--steer source-port: {}: {why}", target.name));
        if let Place::Unix(_) = target.place {
            return Err(bad("a Unix socket has no ports"));
        }
        let mut stream = self.open_stream(0)?;
        let cores = match discover::cores(&mut stream, protocol) {
            Ok(cores) => {
                cores.ok_or_else(|| bad("the server does not say how many cores it has"))?
            }
            Err(Problem::Refused(why)) => return Err(bad(&why)),
            Err(Problem::Io(error)) => {
                return Err(Error::io(format!("no answer from {}", target.name), error));
            }
        };
        let count = CoreCount::new(cores).map_err(|_| bad("a senseless number of cores"))?;
        let lane = |core| Lane { aim: Some(Aim { core, cores: count }), ..target.clone() };
        let targets = Targets { lanes: count.indices().map(lane).collect() };
        Ok((targets, Some(Placement::even(cores)?)))
    }

    /// Opens a connection on lane `index`, with its first exchange where the protocol or the
    /// steering has one.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened, [`Error::Server`] if the server refuses `HELLO 3`.
    pub(crate) fn open(&self, index: usize, protocol: Protocol) -> Result<Connection, Error> {
        let lane = &self.lanes[index];
        let context = |error| Error::io(format!("cannot connect to {}", lane.name), error);
        let mut stream = self.open_stream(index)?;
        if protocol == Protocol::Resp3 {
            say_hello(&mut stream, &lane.name)?;
        }
        let reached = match lane.aim {
            None => Reached::Aimed,
            Some(aim) => match discover::connection_core(&mut stream, protocol) {
                Ok(Some(core)) if core == aim.core.index() => Reached::Aimed,
                Ok(Some(_)) => Reached::Missed,
                Ok(None) => Reached::Unknown,
                Err(Problem::Io(error)) => return Err(context(error)),
                Err(Problem::Refused(why)) => {
                    return Err(Error::Server(format!("{}: {why}", lane.name)));
                }
            },
        };
        stream.set_ready().map_err(context)?;
        Ok(Connection::new(stream, index).reached(reached))
    }

    /// Opens a socket on lane `index` that still blocks, with time limits.
    fn open_stream(&self, index: usize) -> Result<Stream, Error> {
        let lane = &self.lanes[index];
        let context = |error| Error::io(format!("cannot connect to {}", lane.name), error);
        let stream = match (&lane.place, lane.aim) {
            (Place::Tcp(addresses), Some(aim)) => connect_to_core(addresses, aim),
            _ => connect(&lane.place),
        }
        .map_err(context)?;
        stream.set_timeout(Some(CONNECT_TIMEOUT)).map_err(context)?;
        Ok(stream)
    }
}

/// Connects from a port that leads to the core, or from any if none of those is free.
fn connect_to_core(addresses: &[SocketAddr], aim: Aim) -> io::Result<Stream> {
    for port in aim.ports() {
        for &address in addresses {
            match connect_from(address, port, CONNECT_TIMEOUT) {
                Ok(stream) => return Ok(Stream::Tcp(stream)),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                // The port is in use, or the connection of these two ports is.
                Err(_) => break,
            }
        }
    }
    connect(&Place::Tcp(addresses.to_vec()))
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
    match discover::ask_resp(stream, &["HELLO", "3"]) {
        Ok(_) => Ok(()),
        Err(Problem::Io(error)) => {
            Err(Error::io(format!("no answer to HELLO 3 from {target}"), error))
        }
        Err(Problem::Refused(why)) => {
            Err(Error::Server(format!("{target} does not speak RESP3: {why}")))
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
