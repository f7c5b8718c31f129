//! The one system call that the standard library does not offer: `io_uring_setup`.
//!
//! Only this file holds unsafe code. The probe makes the smallest ring, which the kernel frees
//! when its descriptor is closed, before the function returns.
//!
//! Cost: one system call, or two if the first is refused for its flags.

use std::io;
use std::mem::size_of;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// `IORING_SETUP_SINGLE_ISSUER`: one task submits. Linux 6.0.
const SETUP_SINGLE_ISSUER: u32 = 1 << 12;
/// `IORING_SETUP_DEFER_TASKRUN`: completions wait until they are asked for. Linux 6.1.
const SETUP_DEFER_TASKRUN: u32 = 1 << 13;

/// `struct io_uring_params` of `linux/io_uring.h`.
///
/// | bytes | field |
/// |---|---|
/// | 0..8 | `sq_entries`, `cq_entries`: filled in by the kernel |
/// | 8..12 | `flags`: read by the kernel |
/// | 12..40 | thread, features, workqueue descriptor, reserved |
/// | 40..120 | the offsets of both rings: filled in by the kernel |
#[repr(C)]
#[derive(Default)]
struct UringParams {
    entries: [u32; 2],
    flags: u32,
    other: [u32; 7],
    offsets: [u64; 10],
}

const _: () = assert!(size_of::<UringParams>() == 120);
const _: () = assert!(std::mem::offset_of!(UringParams, flags) == 8);
const _: () = assert!(std::mem::offset_of!(UringParams, offsets) == 40);

/// What the running kernel answered to an attempt to make a ring.
#[derive(Debug)]
pub(crate) enum UringProbe {
    /// A ring with deferred task work: the mode that the server wants.
    Deferred,
    /// A ring, but without deferred task work.
    Plain,
    /// No ring at all.
    Refused(io::Error),
}

/// Makes a ring as the server would, and closes it again.
pub(crate) fn probe_uring() -> UringProbe {
    match make_ring(SETUP_SINGLE_ISSUER | SETUP_DEFER_TASKRUN) {
        Ok(_) => UringProbe::Deferred,
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => match make_ring(0) {
            Ok(_) => UringProbe::Plain,
            Err(error) => UringProbe::Refused(error),
        },
        Err(error) => UringProbe::Refused(error),
    }
}

/// Makes a ring of one entry. The kernel sets close-on-exec on its descriptor.
fn make_ring(flags: u32) -> io::Result<OwnedFd> {
    let mut params = UringParams { flags, ..UringParams::default() };
    let entries: u32 = 1;
    // SAFETY: io_uring_setup takes an integer and a pointer to a `struct io_uring_params`, which
    // it reads and writes only during the call. `params` has its size and layout (asserted above),
    // is exclusively borrowed here, and every bit pattern is valid for its integers.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, entries, &raw mut params) };
    let descriptor = RawFd::try_from(result).map_err(|_| io::Error::other("no descriptor"))?;
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so `descriptor` is open, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_flags_are_refused_and_the_probe_always_answers() {
        assert!(make_ring(1 << 31).is_err());
        // Which answer is right depends on the kernel and the sandbox that runs the test; a refusal
        // must at least carry the kernel's reason.
        if let UringProbe::Refused(error) = probe_uring() {
            assert!(error.raw_os_error().is_some(), "{error}");
        }
    }
}
