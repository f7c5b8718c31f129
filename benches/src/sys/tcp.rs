//! What the kernel counts per TCP connection.

use std::io;
use std::mem;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

/// Segments with data that have arrived on a connection so far.
///
/// Loopback carries a send of up to 64 KiB in one segment, so the peer's segments are its sends.
/// The counter wraps at 2^32.
///
/// # Errors
///
/// The kernel's answer; it has no reason to fail on Linux 4.6 and later.
pub fn data_segments_received(stream: &TcpStream) -> io::Result<u32> {
    // SAFETY: tcp_info is plain data, for which all zeros are valid.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut bytes = libc::socklen_t::try_from(mem::size_of::<libc::tcp_info>())
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: the descriptor is open while it is borrowed, and the kernel writes at most `bytes`
    // bytes, the true size of the place it is given.
    let status = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut bytes,
        )
    };
    if status == 0 { Ok(info.tcpi_data_segs_in) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};

    #[test]
    fn each_send_of_the_peer_counts() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        assert_eq!(data_segments_received(&near).unwrap(), 0);
        for sent in 1..=3 {
            far.write_all(b"x").unwrap();
            near.read_exact(&mut [0]).unwrap();
            assert_eq!(data_segments_received(&near).unwrap(), sent);
        }
    }
}
