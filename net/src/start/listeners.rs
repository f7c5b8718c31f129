//! Taking the addresses, ports and paths that the options name.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use pinion_router::{CoreCount, CoreIndex};

use super::StartError;
use crate::connection::Protocol;
use crate::core::ListenerKind;
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
    /// The core that it belongs to, if not to all.
    pub core: Option<CoreIndex>,
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
        if let Some(core) = self.core {
            write!(f, "core {core} ")?;
        }
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
///
/// Cores know a listener by its number, and what it is for by the number's kind. Numbers mean the
/// same on every core; the last ones may be the first core's alone.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    /// Those of each core, by their numbers.
    pub(crate) sockets: Vec<Vec<OwnedFd>>,
    /// What each number is for.
    pub(crate) kinds: Vec<ListenerKind>,
    /// Connections that each core has already, with the numbers of the listeners that they came to.
    pub(crate) early: Vec<Vec<(u32, OwnedFd)>>,
    /// Where clients connect.
    pub(crate) addresses: Vec<Address>,
    /// Paths to be removed at the end.
    pub(crate) paths: Vec<UnixPath>,
}

impl Listeners {
    /// The first port of a protocol that all cores share, 0 if there is none.
    pub(crate) fn port_of(&self, protocol: Protocol) -> u16 {
        let is_wanted = |address: &&Address| address.protocol == protocol && address.core.is_none();
        let mut same = self.addresses.iter().filter(is_wanted);
        same.find_map(Address::tcp).map_or(0, |address| address.port())
    }

    /// Takes all of them for so many cores, or none.
    pub(crate) fn open(options: &Options, cores: CoreCount) -> Result<Listeners, StartError> {
        let none = |_| Vec::new();
        let sockets = cores.indices().map(none).collect();
        let early = cores.indices().map(|_| Vec::new()).collect();
        let mut listeners = Listeners { sockets, early, ..Listeners::default() };
        let mut wanted = vec![(Protocol::Resp, options.port, "--port")];
        match options.memcached_port {
            MemcachedPort::Off => {}
            MemcachedPort::Auto => wanted.push((Protocol::Memcached, 0, "--memcached-port")),
            MemcachedPort::Fixed(port) => {
                wanted.push((Protocol::Memcached, port, "--memcached-port"));
            }
        }
        for (protocol, port, flag) in wanted {
            listeners.open_shared(options, cores, protocol, port, flag)?;
        }
        if options.core_ports != 0 {
            listeners.open_core_ports(options, cores)?;
        }
        let paths = [
            (Protocol::Resp, options.unix.as_deref(), "--unix"),
            (Protocol::Memcached, options.memcached_unix.as_deref(), "--memcached-unix"),
        ];
        let paths = paths
            .into_iter()
            .filter_map(|(protocol, path, flag)| path.map(|path| (protocol, path, flag)));
        let permissions = options.unix_permissions.0;
        if cores != CoreCount::ONE {
            for (protocol, path, flag) in paths.clone() {
                listeners.open_unix_cores(protocol, path, flag, cores, permissions)?;
            }
        }
        for (protocol, path, flag) in paths {
            listeners.open_unix(protocol, path, flag, permissions)?;
        }
        Ok(listeners)
    }

    /// A port that all cores share.
    fn open_shared(
        &mut self,
        options: &Options,
        cores: CoreCount,
        protocol: Protocol,
        mut port: u16,
        flag: &str,
    ) -> Result<(), StartError> {
        each_address(options, |ip| {
            let group =
                match listen_patiently(|| steering::listen_group(SocketAddr::new(ip, port), cores))
                {
                    Ok(group) => group,
                    Err(error) => return Err((error, SocketAddr::new(ip, port), flag)),
                };
            let address = group.address;
            // With port 0, all addresses get the port that the first one got.
            port = address.port();
            if let Some(line) = group.complaint() {
                log::write(&line);
            }
            let number = self.kinds.len() as u32;
            for (core, socket) in group.early {
                self.early[core].push((number, socket));
            }
            for (of_core, socket) in self.sockets.iter_mut().zip(group.sockets) {
                of_core.push(socket);
            }
            self.kinds.push(ListenerKind::plain(protocol));
            let endpoint = Endpoint::Tcp(address);
            self.addresses.push(Address { protocol, endpoint, core: None });
            Ok(())
        })
    }

    /// A port for each core.
    fn open_core_ports(&mut self, options: &Options, cores: CoreCount) -> Result<(), StartError> {
        let protocol = Protocol::Resp;
        each_address(options, |ip| {
            let mut sockets = Vec::with_capacity(usize::from(cores.count()));
            for core in cores.indices() {
                let port = options.core_ports.saturating_add(core.index() as u16);
                let address = SocketAddr::new(ip, port);
                match listen_patiently(|| listener::listen(address)) {
                    Ok((socket, _)) => sockets.push((address, core, socket)),
                    Err(error) => return Err((error, address, "--core-ports")),
                }
            }
            for (address, core, socket) in sockets {
                self.sockets[core.index()].push(socket);
                let endpoint = Endpoint::Tcp(address);
                self.addresses.push(Address { protocol, endpoint, core: Some(core) });
            }
            self.kinds.push(ListenerKind { is_core_port: true, ..ListenerKind::plain(protocol) });
            Ok(())
        })
    }

    /// A Unix socket for each core, beside the one that all share.
    fn open_unix_cores(
        &mut self,
        protocol: Protocol,
        path: &Path,
        flag: &str,
        cores: CoreCount,
        permissions: u32,
    ) -> Result<(), StartError> {
        let sockets = listen_patiently(|| listener::listen_unix_cores(path, cores, permissions))
            .map_err(|error| unix_error(&error, path, flag))?;
        for (core, (socket, file)) in cores.indices().zip(sockets) {
            self.sockets[core.index()].push(socket);
            let endpoint = Endpoint::Unix(listener::path_of_core(path, core));
            self.addresses.push(Address { protocol, endpoint, core: Some(core) });
            self.paths.push(file);
        }
        self.kinds.push(ListenerKind::plain(protocol));
        Ok(())
    }

    /// A Unix socket that all cores share. The first accepts for all: the kernel has one queue for
    /// it, and wakes the same core again and again.
    fn open_unix(
        &mut self,
        protocol: Protocol,
        path: &Path,
        flag: &str,
        permissions: u32,
    ) -> Result<(), StartError> {
        let (socket, file) = listen_patiently(|| listener::listen_unix(path, permissions))
            .map_err(|error| unix_error(&error, path, flag))?;
        if let Some(first) = self.sockets.first_mut() {
            first.push(socket);
        }
        self.kinds.push(ListenerKind { is_dealt: true, ..ListenerKind::plain(protocol) });
        let endpoint = Endpoint::Unix(path.to_owned());
        self.addresses.push(Address { protocol, endpoint, core: None });
        self.paths.push(file);
        Ok(())
    }
}

/// Listens at each address of `--bind` that the host has. The error tells where it failed, and by
/// which flag another port is chosen.
fn each_address<'a>(
    options: &Options,
    mut listen: impl FnMut(IpAddr) -> Result<(), (io::Error, SocketAddr, &'a str)>,
) -> Result<(), StartError> {
    let mut count = 0;
    for &ip in &options.bind {
        match listen(ip) {
            Ok(()) => count += 1,
            // A host without IPv6 is served on IPv4.
            Err((error, ..)) if listener::is_absent(&error, ip) && options.bind.len() > 1 => {
                let text = "not listening on this address, which the host does not have; leave it \
                            out of --bind to be rid of this line";
                let line = Line::new(Level::Warn, "no-address", text);
                log::write(&line.with("address", ip).with("error", error));
            }
            Err((error, address, flag)) => {
                return Err(tcp_error(&error, address.ip(), address.port(), flag));
            }
        }
    }
    if count == 0 {
        return Err(StartError::new("none of the addresses of --bind can be listened on"));
    }
    Ok(())
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

fn unix_error(error: &io::Error, path: &Path, flag: &str) -> StartError {
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
