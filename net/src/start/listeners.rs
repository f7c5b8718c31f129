//! Taking the addresses, ports and paths that the options name.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use pinion_router::CoreCount;

use super::StartError;
use crate::connection::Protocol;
use crate::listener::{self, UnixPath};
use crate::log::{self, Level, Line};
use crate::options::{MemcachedPort, Options};
use crate::steering;

/// Where a listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// An address that the server listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// What is spoken there.
    pub protocol: Protocol,
    /// Where.
    pub endpoint: Endpoint,
}

impl Address {
    /// The address of a port.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self.endpoint {
            Endpoint::Tcp(address) => Some(address),
            Endpoint::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Resp => "resp",
            Protocol::Memcached => "memcached",
        };
        match &self.endpoint {
            Endpoint::Tcp(address) => write!(f, "{protocol} {address}"),
            Endpoint::Unix(path) => write!(f, "{protocol} unix:{}", path.display()),
        }
    }
}

/// Listeners, ready to be accepted on.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    /// Those of each core; the n-th of each is at the n-th address.
    pub(crate) sockets: Vec<Vec<OwnedFd>>,
    pub(crate) addresses: Vec<Address>,
    /// Paths to be removed at the end.
    pub(crate) paths: Vec<UnixPath>,
}

impl Listeners {
    /// The first port of a protocol, 0 if there is none.
    pub(crate) fn port_of(&self, protocol: Protocol) -> u16 {
        let mut same = self.addresses.iter().filter(|address| address.protocol == protocol);
        same.find_map(Address::tcp).map_or(0, |address| address.port())
    }

    /// Takes all of them for so many cores, or none.
    pub(crate) fn open(options: &Options, cores: usize) -> Result<Listeners, StartError> {
        let sockets = (0..cores).map(|_| Vec::new()).collect();
        let mut listeners = Listeners { sockets, ..Listeners::default() };
        let mut wanted = vec![(Protocol::Resp, options.port, "--port")];
        match options.memcached_port {
            MemcachedPort::Off => {}
            MemcachedPort::Auto => wanted.push((Protocol::Memcached, 0, "--memcached-port")),
            MemcachedPort::Fixed(port) => {
                wanted.push((Protocol::Memcached, port, "--memcached-port"));
            }
        }
        for (protocol, port, flag) in wanted {
            listeners.open_tcp(options, protocol, port, flag)?;
        }
        for (protocol, path, flag) in [
            (Protocol::Resp, &options.unix, "--unix"),
            (Protocol::Memcached, &options.memcached_unix, "--memcached-unix"),
        ] {
            let Some(path) = path else { continue };
            let permissions = options.unix_permissions.0;
            let (socket, file) = listen_patiently(|| listener::listen_unix(path, permissions))
                .map_err(|error| unix_error(&error, path, flag))?;
            // Another core's descriptor of the same socket: whoever accepts first serves.
            for of_core in &mut listeners.sockets {
                let socket = socket.try_clone().map_err(|error| unix_error(&error, path, flag))?;
                of_core.push(socket);
            }
            listeners.addresses.push(Address { protocol, endpoint: Endpoint::Unix(path.clone()) });
            listeners.paths.push(file);
        }
        Ok(listeners)
    }

    fn open_tcp(
        &mut self,
        options: &Options,
        protocol: Protocol,
        mut port: u16,
        flag: &str,
    ) -> Result<(), StartError> {
        let before = self.addresses.len();
        for &ip in &options.bind {
            let cores = CoreCount::new(self.sockets.len()).unwrap_or(CoreCount::ONE);
            match listen_patiently(|| steering::listen_group(SocketAddr::new(ip, port), cores)) {
                Ok(group) => {
                    let address = group.address;
                    // With port 0, all addresses get the port that the first one got.
                    port = address.port();
                    if let Some(line) = group.complaint() {
                        log::write(&line);
                    }
                    for (of_core, socket) in self.sockets.iter_mut().zip(group.sockets) {
                        of_core.push(socket);
                    }
                    self.addresses.push(Address { protocol, endpoint: Endpoint::Tcp(address) });
                }
                // A host without IPv6 is served on IPv4.
                Err(error) if listener::is_absent(&error, ip) && options.bind.len() > 1 => {
                    let text = "not listening on this address, which the host does not have; \
                                leave it out of --bind to be rid of this line";
                    let line = Line::new(Level::Warn, "no-address", text);
                    log::write(&line.with("address", ip).with("error", error));
                }
                Err(error) => return Err(tcp_error(&error, ip, port, flag)),
            }
        }
        if self.addresses.len() == before {
            return Err(StartError::new("none of the addresses of --bind can be listened on"));
        }
        Ok(())
    }
}

/// Listens; while the address is taken, for as long as the kernel may need to take a dead process's
/// io_uring apart, which holds its sockets.
fn listen_patiently<T>(listen: impl Fn() -> io::Result<T>) -> io::Result<T> {
    const STEP: Duration = Duration::from_millis(20);
    const STEPS: u32 = 50;
    for _ in 0..STEPS {
        match listen() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => thread::sleep(STEP),
            outcome => return outcome,
        }
    }
    listen()
}

fn tcp_error(error: &io::Error, ip: IpAddr, port: u16, flag: &str) -> StartError {
    let address = SocketAddr::new(ip, port);
    StartError::new(match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "{address} is taken by another server: stop it, or choose another port with {flag}"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "no right to listen on {address}: choose a port above 1023 with {flag}, or grant \
             CAP_NET_BIND_SERVICE"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("{ip} is not an address of this host: choose others with --bind")
        }
        _ => format!("cannot listen on {address}: {error}"),
    })
}

fn unix_error(error: &io::Error, path: &std::path::Path, flag: &str) -> StartError {
    let path = path.display();
    StartError::new(match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "{path} is taken by another server: stop it, or choose another path with {flag}"
        ),
        io::ErrorKind::AlreadyExists => format!(
            "{path} exists and is not a socket: remove it, or choose another path with {flag}"
        ),
        io::ErrorKind::PermissionDenied => {
            format!("no right to make {path}: choose a path with {flag} that the user may write to")
        }
        io::ErrorKind::NotFound => {
            format!(
                "the directory of {path} does not exist: make it, or choose another with {flag}"
            )
        }
        io::ErrorKind::InvalidInput => {
            format!("{path} is too long for a Unix socket (107 bytes): choose another with {flag}")
        }
        _ => format!("cannot listen on {path}: {error}"),
    })
}
