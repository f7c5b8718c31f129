//! Listening sockets: exclusive, so that a second server on the same port is an error and not a
//! silent companion; IPv6 apart from IPv4; no delay, which accepted connections inherit.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Binds and listens. Returns the socket and its address, with the port that the kernel chose if
/// it was 0.
pub(crate) fn listen(address: SocketAddr) -> io::Result<(OwnedFd, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_tcp_nodelay(true)?;
    // As Redis: a peer that vanished is noticed within ten minutes.
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(300));
    socket.set_tcp_keepalive(&keepalive.with_interval(Duration::from_secs(100)).with_retries(3))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((OwnedFd::from(socket), bound))
}

/// Whether an error means that the host does not have this kind of address at all.
pub(crate) fn is_absent(error: &io::Error, address: IpAddr) -> bool {
    let absent = [libc::EAFNOSUPPORT, libc::EADDRNOTAVAIL];
    address.is_ipv6() && error.raw_os_error().is_some_and(|code| absent.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_taken_once() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (_socket, bound) = listen(any).expect("a free port");
        assert_ne!(bound.port(), 0);
        let error = listen(bound).expect_err("it is taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
