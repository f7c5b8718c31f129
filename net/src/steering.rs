//! One listening socket for each core on a port that all cores share, and a program in the kernel
//! that gives a connection to core `(source port >> 1) mod cores`.
//!
//! So a client that chooses its source port chooses its core. The kernel keeps the sockets of one
//! port and address as a group (SO_REUSEPORT), numbered in the order in which they began to listen,
//! and asks the group's program for a number. Clients that do not choose are spread evenly: the
//! shift is there because Linux hands out ports of one parity (see `pinion_router`).
//!
//! - S1. The start is exclusive. The first socket listens without SO_REUSEPORT, and only then gets
//!   it, so whoever else is on the port makes the start fail, and a second server fails likewise,
//!   even if both start at once.
//! - S2. Sockets listen in the order of their cores and are closed together. Closing one alone
//!   would renumber the others, and every client would reach a wrong core.
//! - S3. A group has one address family: an IPv6 group takes no IPv4 connections, and each group
//!   has a program of its own.
//! - S4. What the kernel does is not taken on trust: connections from chosen ports, over the bound
//!   address or the loopback, show where they come out before the group is used. If one comes out
//!   wrong, the kernel's hash chooses from then on, which is as even, and clients cannot aim.
//!
//! The source port is what the server sees. Whatever rewrites it on the way (NAT, proxies) makes
//! connections reach other cores than meant; clients can ask which one they have reached.
//!
//! Cost at start: two connections for each core, some milliseconds for 64. For a connection: a
//! program of a few instructions.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use pinion_router::{CoreCount, core_of_source_port};
use socket2::{Domain, SockRef, Socket, Type};

use crate::listener::{self, BACKLOG};
use crate::log::{Level, Line};
use crate::sys;

/// How long a connection of the self-test may take, to be made and to come out.
const TEST_WAIT: Duration = Duration::from_millis(500);
/// Source ports that the self-test tries for each connection.
const TEST_TRIES: u32 = 16;
/// The source ports from which the self-test connects: those that Linux hands out by default.
const TEST_PORTS: std::ops::Range<u32> = 32_768..60_999;

/// Whether a connection's source port decides which core it reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Steering {
    /// It does.
    On,
    /// The kernel's hash does, for this reason.
    Off(String),
}

/// The sockets of a port, one for each core.
#[derive(Debug)]
pub(crate) struct ListenGroup {
    /// In the order of the cores.
    pub(crate) sockets: Vec<OwnedFd>,
    /// Where they listen, with the port that the kernel chose if it was 0.
    pub(crate) address: SocketAddr,
    /// Whether source ports decide.
    pub(crate) steering: Steering,
    /// Connections of clients that came during the self-test, with the index of the core whose
    /// socket they came to.
    pub(crate) early: Vec<(usize, OwnedFd)>,
}

impl ListenGroup {
    /// What there is to be logged: that source ports do not decide.
    pub(crate) fn complaint(&self) -> Option<Line> {
        let Steering::Off(reason) = &self.steering else { return None };
        let text = "connections are spread over the cores by the kernel's hash: clients cannot \
                    choose a core by their source port";
        let line = Line::new(Level::Warn, "steering-off", text);
        Some(line.with("address", self.address).with("reason", reason))
    }
}

/// Binds and listens with one socket for each core, and steers by source port.
///
/// # Errors
/// The address is taken or cannot be bound. That steering does not work is none.
pub(crate) fn listen_group(address: SocketAddr, cores: CoreCount) -> io::Result<ListenGroup> {
    if cores == CoreCount::ONE {
        let (socket, address) = listener::listen(address)?;
        let (sockets, early) = (vec![socket], Vec::new());
        return Ok(ListenGroup { sockets, address, steering: Steering::On, early });
    }
    let (sockets, address) = open(address, cores)?;
    let mut early = Vec::new();
    let outcome = steer(&sockets, address, cores)
        .map_err(|error| format!("the kernel takes no program: {error}"))
        .and_then(|()| self_test(&sockets, address, cores, &mut early));
    let steering = match outcome {
        Ok(()) => Steering::On,
        Err(reason) => {
            // If there is no program, there is nothing to take back.
            let _ = sys::choose_listener(&sockets[0], &[statement(RETURN, NO_LISTENER)]);
            Steering::Off(reason)
        }
    };
    Ok(ListenGroup { sockets, address, steering, early })
}

/// Opens the group, without a program (S1 and S2).
fn open(address: SocketAddr, cores: CoreCount) -> io::Result<(Vec<OwnedFd>, SocketAddr)> {
    let first = listener::socket_for(address)?;
    first.bind(&address.into())?;
    first.listen(BACKLOG)?;
    let address = first.local_addr()?.as_socket().unwrap_or(address);
    first.set_reuse_port(true)?;
    let mut sockets = vec![OwnedFd::from(first)];
    for _ in cores.indices().skip(1) {
        let socket = listener::socket_for(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        sockets.push(OwnedFd::from(socket));
    }
    Ok((sockets, address))
}

/// Gives the group its program.
fn steer(sockets: &[OwnedFd], address: SocketAddr, cores: CoreCount) -> io::Result<()> {
    sys::choose_listener(&sockets[0], &program(address, cores))
}

/// An instruction that does not jump.
const fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// An offset from the begin of the IP header. When the program runs, the packet begins behind its
/// TCP header; what is before is reached through this.
const NETWORK: u32 = libc::SKF_NET_OFF as u32;
const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const LOAD_PORT: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const LOAD_PORT_BEHIND_INDEX: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_IND;
const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const SHIFT_LEFT: u32 = libc::BPF_ALU | libc::BPF_LSH | libc::BPF_K;
const SHIFT_RIGHT: u32 = libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K;
const REMAINDER: u32 = libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K;
const TO_INDEX: u32 = libc::BPF_MISC | libc::BPF_TAX;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
const RETURN_RESULT: u32 = libc::BPF_RET | libc::BPF_A;
/// A number that no listener has: the kernel's hash chooses.
const NO_LISTENER: u32 = u32::MAX;
/// Bytes of an IPv6 header. Extension headers do not occur before TCP's in practice; a connection
/// with one reaches some core.
const IPV6_HEADER_BYTES: u32 = 40;

/// The program: `(source port >> 1) mod cores`, as `pinion_router::core_of_source_port`.
fn program(address: SocketAddr, cores: CoreCount) -> Vec<libc::sock_filter> {
    let mut program = if address.is_ipv4() {
        // The header's length in words of four bytes is in the lower half of its first byte.
        vec![
            statement(LOAD_BYTE, NETWORK),
            statement(AND, 0x0f),
            statement(SHIFT_LEFT, 2),
            statement(TO_INDEX, 0),
            statement(LOAD_PORT_BEHIND_INDEX, NETWORK),
        ]
    } else {
        vec![statement(LOAD_PORT, NETWORK.wrapping_add(IPV6_HEADER_BYTES))]
    };
    program.extend([
        statement(SHIFT_RIGHT, 1),
        statement(REMAINDER, u32::from(cores.count())),
        statement(RETURN_RESULT, 0),
    ]);
    program
}

/// Connects from chosen source ports of both parities, two for each core, and looks which socket
/// gets each connection (S4). Those of others who connect meanwhile are put into `early`.
fn self_test(
    sockets: &[OwnedFd],
    address: SocketAddr,
    cores: CoreCount,
    early: &mut Vec<(usize, OwnedFd)>,
) -> Result<(), String> {
    let mut clients = HashMap::new();
    let mut next_port = std::process::id().wrapping_mul(2 * u32::from(cores.count()));
    for parity in [0, 1] {
        for core in cores.indices() {
            let client = connect_from(address, cores, core.index(), parity, &mut next_port)?;
            let from = client.local_addr().ok().and_then(|from| from.as_socket());
            let from = from.ok_or("a connection without an address")?;
            clients.insert(from, (core.index(), client));
        }
    }
    let outcome = collect(sockets, &mut clients, early);
    outcome.map_err(|error| format!("the self-test cannot accept: {error}"))?
}

/// A connection to the group from a source port of this parity that belongs to a core.
fn connect_from(
    address: SocketAddr,
    cores: CoreCount,
    core: usize,
    parity: u32,
    next_port: &mut u32,
) -> Result<Socket, String> {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let mut target = address;
    target.set_ip(ip);
    let mut source = target;
    let count = u32::from(cores.count());
    let mut outcome = Err(io::ErrorKind::AddrInUse.into());
    for _ in 0..TEST_TRIES {
        *next_port = next_port.wrapping_add(2 * count);
        // Of the ports in order, the first from here on whose half has the remainder.
        let span = TEST_PORTS.len() as u32 - 2 * count.min(TEST_PORTS.len() as u32 / 4);
        let half = (TEST_PORTS.start + *next_port % span) / 2;
        let half = half + (core as u32 + count - half % count) % count;
        let Ok(port) = u16::try_from(2 * half + parity) else { continue };
        debug_assert_eq!(core_of_source_port(port, cores).index(), core);
        source.set_port(port);
        outcome = connect(source, target);
        match &outcome {
            Ok(_) => break,
            Err(error) if is_taken(error) => {}
            Err(_) => break,
        }
    }
    outcome.map_err(|error| format!("the self-test cannot connect to {target}: {error}"))
}

/// Whether a source port is in use, so that another one is to be tried.
fn is_taken(error: &io::Error) -> bool {
    [io::ErrorKind::AddrInUse, io::ErrorKind::AddrNotAvailable].contains(&error.kind())
}

fn connect(source: SocketAddr, target: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    // The end is a reset, so that nothing of the test stays behind.
    socket.set_linger(Some(Duration::ZERO))?;
    socket.bind(&source.into())?;
    socket.connect_timeout(&target.into(), TEST_WAIT)?;
    Ok(socket)
}

/// Accepts until each of the test's connections has come out, and looks whether it did at its core.
fn collect(
    sockets: &[OwnedFd],
    clients: &mut HashMap<SocketAddr, (usize, Socket)>,
    early: &mut Vec<(usize, OwnedFd)>,
) -> io::Result<Result<(), String>> {
    let begun = Instant::now();
    let mut verdict = Ok(());
    for socket in sockets {
        SockRef::from(socket).set_nonblocking(true)?;
    }
    while !clients.is_empty() && verdict.is_ok() {
        for (index, socket) in sockets.iter().enumerate() {
            while let Some((accepted, peer)) = accept_now(socket)? {
                match clients.remove(&peer) {
                    None => early.push((index, accepted)),
                    Some((core, _)) if core == index => {}
                    Some((core, _)) => {
                        let port = peer.port();
                        let text = format!("source port {port} reached core {index}, not {core}");
                        verdict = Err(text);
                    }
                }
            }
        }
        if begun.elapsed() > TEST_WAIT {
            verdict = verdict.and(Err("connections of the self-test do not come out".to_owned()));
        } else if !clients.is_empty() {
            thread::sleep(Duration::from_micros(200));
        }
    }
    for socket in sockets {
        // The cores wait for connections by other means than an error.
        SockRef::from(socket).set_nonblocking(false)?;
    }
    Ok(verdict)
}

/// A connection that waits to be accepted, and where it comes from.
fn accept_now(socket: &OwnedFd) -> io::Result<Option<(OwnedFd, SocketAddr)>> {
    loop {
        match SockRef::from(socket).accept() {
            Ok((accepted, peer)) => match peer.as_socket() {
                Some(peer) => return Ok(Some((OwnedFd::from(accepted), peer))),
                None => continue,
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            // The peer has gone again, or we were interrupted: there may be others.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
