//! The few system calls that have no safe wrapper: clocks, limits, signal masks, memory figures.

use std::io;
use std::mem::MaybeUninit;

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the kernel fills the timespec; the clocks used here exist on every Linux that runs
    // io_uring, so the call cannot fail, and a failure would be caught by the check below.
    let time = unsafe {
        let failed = libc::clock_gettime(clock, time.as_mut_ptr());
        assert_eq!(failed, 0, "clock {clock} does not exist");
        time.assume_init()
    };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Nanoseconds since boot, time asleep included; a stepped wall clock does not move it.
pub(crate) fn boottime_ns() -> u64 {
    clock_ns(libc::CLOCK_BOOTTIME)
}

/// Nanoseconds of processor time that the process has used.
pub(crate) fn process_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Nanoseconds of processor time that the calling thread has used.
pub(crate) fn thread_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Microseconds of processor time that the process has used: in the kernel, and outside.
pub(crate) fn process_times_us() -> (u64, u64) {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the call fills the struct; if it fails, the zeros in it are as valid.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let us = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    (us(usage.ru_stime), us(usage.ru_utime))
}

/// Raises the soft limit of open files to the hard one and returns it.
pub(crate) fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read or fill the struct that they are given, nothing else.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return Err(io::Error::last_os_error());
        }
        if limit.rlim_cur < limit.rlim_max {
            let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raised) == 0 {
                limit = raised;
            }
        }
    }
    Ok(limit.rlim_cur)
}

/// Raises the soft limit on locked memory to the hard one; the limit in bytes, or `None` if there
/// is none.
pub(crate) fn raise_locked_memory() -> io::Result<Option<u64>> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read or fill the struct that they are given, nothing else.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) != 0 {
            return Err(io::Error::last_os_error());
        }
        if limit.rlim_cur < limit.rlim_max {
            let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
            if libc::setrlimit(libc::RLIMIT_MEMLOCK, &raised) == 0 {
                limit = raised;
            }
        }
    }
    Ok((limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur))
}

/// Waits until nobody else holds the lock on a file or directory, and holds it until the file is
/// closed.
pub(crate) fn lock_exclusively(file: &std::fs::File) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: the call takes numbers alone.
    match unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Blocks the signals that end the process for the calling thread and those it starts, so that a
/// data core is never interrupted by them; the control thread takes them instead.
pub(crate) fn block_signals() {
    // SAFETY: the set is initialised by sigemptyset before it is read, and a null old set is
    // allowed.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
    }
}

/// Physical memory of the machine in bytes.
pub(crate) fn machine_memory_bytes() -> u64 {
    // SAFETY: sysconf reads no memory of ours.
    let (pages, page) =
        unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    u64::try_from(pages).unwrap_or(0) * u64::try_from(page).unwrap_or(0)
}

/// Buffers of this size and more are mappings of their own: freeing one gives its memory back.
const MAPPED_BYTES_MIN: libc::c_int = 256 << 10;
/// Free memory at the end of a heap that `free` leaves there, since [`trim_heap`] does not see to
/// the ends of the heaps of threads.
const TOP_BYTES_MAX: libc::c_int = 2 << 20;

/// Tells the allocator which memory to give back at once. Left to itself it raises that size to
/// that of the largest buffer ever freed, and then keeps what a flood has made it take.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn set_up_heap() {
    // SAFETY: both calls set a number of the allocator's; it refuses those that it cannot use.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN);
        libc::mallopt(libc::M_TRIM_THRESHOLD, TOP_BYTES_MAX);
    }
}

/// Gives free memory of the allocator's back to the kernel. Takes up to milliseconds, during which
/// other threads wait if they allocate.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn trim_heap() {
    // SAFETY: the call touches free memory alone.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators see to this by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn set_up_heap() {
    let _ = (MAPPED_BYTES_MIN, TOP_BYTES_MAX);
}

/// Other allocators see to this by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn trim_heap() {}

/// Lets a classic BPF program choose which socket of a SO_REUSEPORT group gets a connection: what
/// it returns counts from 0 in the order in which they began to listen, and any other number leaves
/// the choice to the kernel's hash. It replaces the group's program, if there is one.
pub(crate) fn choose_listener(
    socket: &std::os::fd::OwnedFd,
    program: &[libc::sock_filter],
) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let length = libc::c_ushort::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the program out of the slice, `length` instructions that it does
    // not change, before the call returns; the pointer is to a live struct of the given size.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
