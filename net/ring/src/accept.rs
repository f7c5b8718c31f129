//! Accepting a connection at once, outside the ring: for the moment in which the process has no
//! descriptor left but the spare one, and clients are to hear of it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Takes the connection that has waited for longest; an error of kind `WouldBlock` if none does.
/// Two system calls, which never sleep.
pub(crate) fn accept_waiting(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut poll = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: the call reads and writes the one entry that it is given.
    let ready = unsafe { libc::poll(&mut poll, 1, 0) };
    if ready < 0 {
        return Err(io::Error::last_os_error());
    }
    if poll.revents & libc::POLLIN == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    accept(listener)
}

/// Accepts on a socket that does not sleep, or on which a connection waits.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let (address, length) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: null pointers say that the peer's address is not wanted.
    let fd = unsafe { libc::accept4(listener.as_raw_fd(), address, length, libc::SOCK_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above has just returned this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
