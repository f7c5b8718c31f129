//! Level-triggered epoll with timeouts in nanoseconds.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

/// Number of the `epoll_pwait2` system call, the same on every architecture that uses the
/// kernel's generic table and on x86-64. Linux has it since 5.11.
const SYS_EPOLL_PWAIT2: libc::c_long = 441;

/// What a descriptor is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Bytes to read, or the end of the stream.
    Read,
    /// That, and room to write.
    ReadWrite,
}

/// What is known about one descriptor after a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The number that the descriptor was added with.
    pub token: u64,
    /// Reading will give bytes, the end, or an error.
    pub readable: bool,
    /// Writing will take bytes or give an error.
    pub writable: bool,
}

/// An epoll instance with room for the events of one wait.
pub struct Epoll {
    descriptor: OwnedFd,
    events: Vec<libc::epoll_event>,
    ready_count: usize,
}

impl Epoll {
    /// An epoll instance that reports at most `events_max` descriptors per wait.
    ///
    /// # Errors
    ///
    /// The kernel's answer, for instance when no descriptor is left.
    pub fn new(events_max: usize) -> io::Result<Epoll> {
        // SAFETY: the call takes no pointer.
        let descriptor = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just handed out this descriptor, and nobody else owns it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; events_max.max(1)];
        Ok(Epoll { descriptor, events, ready_count: 0 })
    }

    /// Starts to watch a descriptor. It is forgotten when its last copy is closed.
    ///
    /// # Errors
    ///
    /// The kernel's answer, for instance when it is watched already.
    pub fn add(&self, target: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, target, token, interest)
    }

    /// Changes what a descriptor is watched for.
    ///
    /// # Errors
    ///
    /// The kernel's answer, for instance when it is not watched.
    pub fn change(&self, target: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, target, token, interest)
    }

    /// Waits until a descriptor is ready, or for as long as `timeout` says (`None`: for ever).
    /// Returns how many are ready; an interrupted wait counts as none. [`Epoll::ready`] tells
    /// which. Costs one system call.
    ///
    /// # Errors
    ///
    /// The kernel's answer; it has no reason to fail on Linux 5.11 and later.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        self.ready_count = 0;
        let capacity = i32::try_from(self.events.len()).unwrap_or(i32::MAX);
        let time = timeout.map(|timeout| libc::timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
        let mask: *const libc::sigset_t = ptr::null();
        // SAFETY: the event array is valid for `capacity` entries, the timeout is null or a valid
        // timespec, the signal mask is null; all outlive the call.
        let count = unsafe {
            libc::syscall(
                SYS_EPOLL_PWAIT2,
                self.descriptor.as_raw_fd(),
                self.events.as_mut_ptr(),
                capacity,
                time,
                mask,
                0_usize,
            )
        };
        match usize::try_from(count) {
            Ok(count) => {
                self.ready_count = count;
                Ok(count)
            }
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
                error => Err(error),
            },
        }
    }

    /// The `index`-th ready descriptor of the last wait, `None` past the last.
    pub fn ready(&self, index: usize) -> Option<Readiness> {
        let event = *self.events[..self.ready_count].get(index)?;
        let flags = event.events;
        // Errors and hang-ups count as readable: reading then tells what happened.
        let read = (libc::EPOLLIN | libc::EPOLLHUP | libc::EPOLLERR).cast_unsigned();
        let write = (libc::EPOLLOUT | libc::EPOLLERR).cast_unsigned();
        Some(Readiness {
            token: event.u64,
            readable: flags & read != 0,
            writable: flags & write != 0,
        })
    }

    fn control(
        &self,
        operation: libc::c_int,
        target: impl AsFd,
        token: u64,
        interest: Interest,
    ) -> io::Result<()> {
        let flags = match interest {
            Interest::Read => libc::EPOLLIN,
            Interest::ReadWrite => libc::EPOLLIN | libc::EPOLLOUT,
        };
        let mut event = libc::epoll_event { events: flags.cast_unsigned(), u64: token };
        let target = target.as_fd().as_raw_fd();
        // SAFETY: both descriptors are open for as long as they are borrowed, and the event is
        // read only during the call.
        let status = unsafe {
            libc::epoll_ctl(self.descriptor.as_raw_fd(), operation, target, &raw mut event)
        };
        if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_wait_reports_what_became_ready() {
        let (mut near, far) = UnixStream::pair().unwrap();
        let mut epoll = Epoll::new(4).unwrap();
        epoll.add(&far, 7, Interest::Read).unwrap();
        assert_eq!(epoll.wait(Some(Duration::from_micros(1))).unwrap(), 0);
        assert_eq!(epoll.ready(0), None);

        near.write_all(b"x").unwrap();
        assert_eq!(epoll.wait(None).unwrap(), 1);
        let expected = Readiness { token: 7, readable: true, writable: false };
        assert_eq!(epoll.ready(0), Some(expected));

        epoll.change(&far, 8, Interest::ReadWrite).unwrap();
        assert_eq!(epoll.wait(None).unwrap(), 1);
        let expected = Readiness { token: 8, readable: true, writable: true };
        assert_eq!(epoll.ready(0), Some(expected));
        assert_eq!(epoll.ready(1), None);
    }

    #[test]
    fn a_closed_peer_is_readable() {
        let (near, far) = UnixStream::pair().unwrap();
        let mut epoll = Epoll::new(4).unwrap();
        epoll.add(&far, 1, Interest::Read).unwrap();
        drop(near);
        assert_eq!(epoll.wait(None).unwrap(), 1);
        assert!(epoll.ready(0).unwrap().readable);
    }

    #[test]
    fn changing_what_was_never_added_is_an_error() {
        let (near, _far) = UnixStream::pair().unwrap();
        let epoll = Epoll::new(4).unwrap();
        assert!(epoll.change(&near, 1, Interest::Read).is_err());
    }
}
