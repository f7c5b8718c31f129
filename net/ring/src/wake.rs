//! Waking a core that sleeps in its ring, from any thread.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// An eventfd: a counter in the kernel that can be waited for.
#[derive(Debug)]
pub(crate) struct EventFd(File);

impl EventFd {
    pub(crate) fn new() -> io::Result<EventFd> {
        // SAFETY: eventfd takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above has just returned this descriptor to us alone.
        Ok(EventFd(File::from(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Adds one. A full counter means that the reader has 2^64 - 1 wakes to see already.
    pub(crate) fn signal(&self) {
        let _ = (&self.0).write(&1u64.to_ne_bytes());
    }

    /// Resets the counter to zero.
    pub(crate) fn clear(&self) {
        let _ = (&self.0).read(&mut [0; 8]);
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Wakes the ring that made it; cheap to clone, usable from any thread. One `write` a wake.
///
/// Wakes are not counted: several before the core looks are one [`crate::Event::Woken`].
#[derive(Clone, Debug)]
pub struct Waker(pub(crate) Arc<EventFd>);

impl Waker {
    /// Makes the ring report [`crate::Event::Woken`], now or at its next `enter`.
    pub fn wake(&self) {
        self.0.signal();
    }
}
