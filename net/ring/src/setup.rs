//! Setting a ring up: its options, why there is none, and the fall-backs on older kernels.

use std::fmt;
use std::io;

use io_uring::{IoUring, Probe, opcode};

use crate::features::{Feature, FeatureSet};

/// How a ring is set up.
#[derive(Clone, Debug)]
pub struct RingOptions {
    /// Entries of the submission queue. More pending operations cost an extra system call.
    pub submission_entries: u32,
    /// Entries of the completion queue; at least twice the connections avoids overflows, which
    /// are survived but slow.
    pub completion_entries: u32,
    /// Receive buffers, a power of two up to 32,768.
    pub receive_buffers: u16,
    /// Size of a receive buffer.
    pub receive_buffer_bytes: u32,
    /// Features to do without.
    pub hide: FeatureSet,
}

impl Default for RingOptions {
    fn default() -> RingOptions {
        RingOptions {
            submission_entries: 1024,
            completion_entries: 8192,
            receive_buffers: 64,
            receive_buffer_bytes: 16 * 1024,
            hide: FeatureSet::NONE,
        }
    }
}

/// Why there is no ring.
#[derive(Debug)]
pub enum RingError {
    /// The kernel has no io_uring, or refuses it to this process.
    Unavailable(io::Error),
    /// The kernel is too old: it lacks an operation that the ring cannot do without.
    MissingOperation(&'static str),
    /// Memory for the ring was refused.
    Memory(io::Error),
    /// Something else failed while doing what the text says.
    Failed(&'static str, io::Error),
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RingError::Unavailable(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                f.write_str("this kernel has no io_uring (Linux 6.1 or later is needed)")
            }
            RingError::Unavailable(error) => write!(
                f,
                "io_uring is refused to this process ({error}): allow it with \
                 'sysctl kernel.io_uring_disabled=0', or in a container with a seccomp profile \
                 that permits io_uring_setup, io_uring_enter and io_uring_register \
                 (docker run --security-opt seccomp=PROFILE)"
            ),
            RingError::MissingOperation(name) => write!(
                f,
                "this kernel's io_uring has no {name} operation (Linux 6.1 or later is needed)"
            ),
            RingError::Memory(error) => write!(
                f,
                "no memory for io_uring ({error}): raise the limit on locked memory \
                 ('ulimit -l', LimitMEMLOCK= in a systemd unit) to at least 8 MiB"
            ),
            RingError::Failed(what, error) => write!(f, "io_uring: cannot {what}: {error}"),
        }
    }
}

impl std::error::Error for RingError {}

/// Whether a ring can be had at all, by making a small one and closing it.
///
/// # Errors
/// Why not; see [`RingError`].
pub fn probe(hide: FeatureSet) -> Result<(), RingError> {
    let options = RingOptions {
        submission_entries: 4,
        completion_entries: 8,
        hide,
        ..RingOptions::default()
    };
    require_operations(&build(&options)?.0)
}

/// Builds the ring with all features that the kernel accepts: the newest is given up first.
pub(crate) fn build(options: &RingOptions) -> Result<(IoUring, FeatureSet), RingError> {
    const NEWEST_FIRST: [Feature; 6] = [
        Feature::NoSqarray,
        Feature::DeferTaskrun,
        Feature::SingleIssuer,
        Feature::TaskrunFlag,
        Feature::CoopTaskrun,
        Feature::SubmitAll,
    ];
    let mut hidden = options.hide;
    let mut newest = NEWEST_FIRST.into_iter();
    loop {
        let features = FeatureSet::all().without(hidden);
        let mut builder = IoUring::builder();
        builder.setup_cqsize(options.completion_entries).setup_clamp().dontfork();
        if features.has(Feature::SubmitAll) {
            builder.setup_submit_all();
        }
        if features.has(Feature::CoopTaskrun) {
            builder.setup_coop_taskrun();
        }
        if features.has(Feature::TaskrunFlag) {
            builder.setup_taskrun_flag();
        }
        if features.has(Feature::SingleIssuer) {
            builder.setup_single_issuer();
        }
        if features.has(Feature::DeferTaskrun) {
            builder.setup_defer_taskrun();
        }
        if features.has(Feature::NoSqarray) {
            builder.setup_no_sqarray();
        }
        let error = match builder.build(options.submission_entries) {
            Ok(ring) => return Ok((ring, features)),
            Err(error) => error,
        };
        match error.raw_os_error() {
            Some(libc::EINVAL) => match newest.next() {
                Some(feature) => hidden.insert(feature),
                None => return Err(RingError::Failed("set up a ring", error)),
            },
            Some(libc::ENOSYS | libc::EPERM | libc::EACCES) => {
                return Err(RingError::Unavailable(error));
            }
            Some(libc::ENOMEM) => return Err(RingError::Memory(error)),
            _ => return Err(RingError::Failed("set up a ring", error)),
        }
    }
}

pub(crate) fn require_operations(ring: &IoUring) -> Result<(), RingError> {
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|error| RingError::Failed("ask for its operations", error))?;
    let needed = [
        (opcode::Accept::CODE, "accept"),
        (opcode::Recv::CODE, "recv"),
        (opcode::Send::CODE, "send"),
        (opcode::Read::CODE, "read"),
        (opcode::AsyncCancel::CODE, "cancel"),
        (opcode::ProvideBuffers::CODE, "provide-buffers"),
    ];
    match needed.into_iter().find(|&(code, _)| !probe.is_supported(code)) {
        Some((_, name)) => Err(RingError::MissingOperation(name)),
        None => Ok(()),
    }
}
