//! A TCP connection from a local port of the caller's choice, which std does not offer.
//!
//! The invariants of the parent module hold here, too.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::check;

/// A socket address as the kernel takes it, and its length.
#[derive(Clone, Copy)]
union RawAddress {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

fn raw(address: SocketAddr) -> (RawAddress, libc::socklen_t) {
    match address {
        SocketAddr::V4(v4) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            (RawAddress { v4: raw }, size_of_val(&raw) as libc::socklen_t)
        }
        SocketAddr::V6(v6) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            (RawAddress { v6: raw }, size_of_val(&raw) as libc::socklen_t)
        }
    }
}

fn set_option<T>(fd: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: I2, `value` is a live reference whose size is passed along; the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    check(result).map(|_| ())
}

/// Connects to `address` from local port `port`, within `timeout`.
///
/// # Errors
/// `AddrInUse` or `AddrNotAvailable` if the port is taken, else what the kernel reports.
pub(crate) fn connect_from(
    address: SocketAddr,
    port: u16,
    timeout: Duration,
) -> io::Result<TcpStream> {
    let (family, local): (_, SocketAddr) = match address {
        SocketAddr::V4(_) => (libc::AF_INET, ([0, 0, 0, 0], port).into()),
        SocketAddr::V6(_) => (libc::AF_INET6, ([0_u16; 8], port).into()),
    };
    // SAFETY: the call takes three integers and touches no memory of ours.
    let fd = check(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: I1, `fd` was just returned to us and nobody else knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // Ports of connections that are closing may be used again.
    set_option(&fd, libc::SO_REUSEADDR, &1_i32)?;
    let limit = libc::timeval {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_usec: libc::suseconds_t::from(timeout.subsec_micros()),
    };
    // A blocking connect ends after the time limit of sending (socket(7)).
    set_option(&fd, libc::SO_SNDTIMEO, &limit)?;
    let (from, from_bytes) = raw(local);
    // SAFETY: I2, `from` is a live local that starts with an address of `from_bytes` bytes.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const from).cast(), from_bytes) })?;
    let (to, to_bytes) = raw(address);
    // SAFETY: I2, `to` is a live local that starts with an address of `to_bytes` bytes.
    check(unsafe { libc::connect(fd.as_raw_fd(), (&raw const to).cast(), to_bytes) })?;
    let stream = TcpStream::from(fd);
    stream.set_write_timeout(None)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_connection_comes_from_its_port() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // A machine without IPv6 has nothing to test there.
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let to = listener.local_addr().expect("bound");
            let limit = Duration::from_secs(5);
            let mut taken = 0;
            for port in 47_101..47_200 {
                match connect_from(to, port, limit) {
                    Ok(stream) => {
                        assert_eq!(stream.local_addr().expect("open").port(), port);
                        assert_eq!(listener.accept().expect("accepted").1.port(), port);
                        assert!(connect_from(to, port, limit).is_err(), "the pair is in use");
                        taken += 1;
                        break;
                    }
                    Err(error) => {
                        let kind = error.kind();
                        use io::ErrorKind::{AddrInUse, AddrNotAvailable};
                        assert!(matches!(kind, AddrInUse | AddrNotAvailable), "{error}");
                    }
                }
            }
            assert_eq!(taken, 1, "one of a hundred ports was free");
            drop(listener);
            assert!(connect_from(to, 47_300, limit).is_err(), "nobody listens");
        }
    }
}
