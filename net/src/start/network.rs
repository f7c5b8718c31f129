//! Which interface moves the bytes of clients, and why io_uring is refused where it is.

use std::fs;
use std::io;

use pinion_ring::{RingError, probe};

use super::StartError;
use crate::flags::Network;
use crate::host;
use crate::log::{self, Level, Line};
use crate::options::Options;

/// What was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chosen {
    /// The data ring.
    IoUring,
    /// The same by epoll.
    Epoll,
}

impl Chosen {
    /// The name that INFO tells.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Chosen::IoUring => "io_uring",
            Chosen::Epoll => "epoll",
        }
    }
}

/// Chooses as the options say; tells loudly if it is not io_uring.
pub(crate) fn choose(options: &Options) -> Result<Chosen, StartError> {
    if options.network == Network::Epoll {
        return Ok(Chosen::Epoll);
    }
    match probe(options.ring_hide) {
        Ok(()) => Ok(Chosen::IoUring),
        Err(error) if options.network == Network::IoUring => Err(error.into()),
        Err(error) => {
            let text = "io_uring cannot be had, so epoll serves, at a higher cost per request";
            log::write(&Line::new(Level::Warn, "epoll", text).with("reason", explain(&error)));
            Ok(Chosen::Epoll)
        }
    }
}

/// What the host says about io_uring and about this process.
#[derive(Debug, Default)]
struct Facts {
    /// `kernel.io_uring_disabled`, where the kernel has it (6.6 and later).
    disabled: Option<u32>,
    /// Whether a seccomp filter is in force.
    is_filtered: bool,
    kernel: String,
}

impl Facts {
    fn read() -> Facts {
        let number = |text: String| text.trim().parse().ok();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:"));
        Facts {
            disabled: fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
                .ok()
                .and_then(number),
            is_filtered: mode.is_some_and(|mode| mode.trim() == "2"),
            kernel: host::kernel_release(),
        }
    }
}

/// Why there is no ring, and what to do.
pub(crate) fn explain(error: &RingError) -> String {
    match error {
        RingError::Unavailable(error) => why_refused(error, &Facts::read()),
        other => other.to_string(),
    }
}

fn why_refused(error: &io::Error, facts: &Facts) -> String {
    let otherwise = "or take --network epoll";
    match facts.disabled {
        Some(2) => {
            return format!(
                "io_uring is switched off on this host: 'sysctl -w kernel.io_uring_disabled=0' \
                 allows it, {otherwise}"
            );
        }
        // A privileged process is not refused by this, so something else is the reason then.
        Some(1) if !facts.is_filtered => {
            return format!(
                "io_uring is reserved for the group of the sysctl kernel.io_uring_group: add the \
                 user to it, or 'sysctl -w kernel.io_uring_disabled=0', {otherwise}"
            );
        }
        _ => {}
    }
    if facts.is_filtered {
        return format!(
            "io_uring is forbidden by a seccomp filter, as the default ones of Docker and \
             containerd do: 'docker run --security-opt seccomp=seccomp.json' with the profile in \
             net/dist (in Kubernetes a securityContext with seccompProfile type Localhost), \
             {otherwise}"
        );
    }
    if error.raw_os_error() == Some(libc::ENOSYS) {
        return format!(
            "this kernel (Linux {}) has no io_uring: take one of 6.1 or later, {otherwise}",
            facts.kernel
        );
    }
    format!(
        "io_uring is refused to this process ({error}), by a security module perhaps: allow it, \
         {otherwise}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_remedy() {
        let facts =
            |disabled, is_filtered| Facts { disabled, is_filtered, kernel: "5.4.0".to_owned() };
        for (code, facts, words) in [
            (libc::EPERM, facts(Some(2), false), "kernel.io_uring_disabled=0"),
            (libc::EPERM, facts(Some(1), false), "kernel.io_uring_group"),
            (libc::EPERM, facts(Some(0), true), "--security-opt seccomp="),
            (libc::ENOSYS, facts(None, true), "--security-opt seccomp="),
            (libc::ENOSYS, facts(None, false), "Linux 5.4.0"),
            (libc::EACCES, facts(Some(0), false), "security module"),
        ] {
            let text = why_refused(&io::Error::from_raw_os_error(code), &facts);
            assert!(text.contains(words) && text.contains("--network epoll"), "{text}");
            assert_eq!(text.lines().count(), 1);
        }
    }
}
