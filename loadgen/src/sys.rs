//! The only place that calls the operating system directly.
//!
//! Clocks, CPU affinity, timer slack, the file limit, counters of thread and socket, and epoll.
//! Sockets are `std::net` and need nothing else from here, but for a connection from a port of
//! choice (`dial`).
//!
//! Invariants:
//! - I1. A descriptor that this file creates is owned by an [`OwnedFd`] before anything else can
//!   fail, so it is closed exactly once.
//! - I2. Pointers handed to the kernel point to live locals or to slices whose length is passed
//!   along; the kernel keeps none of them after the call.
//!
//! Cost: a clock read is one vDSO call (20 to 40 ns, no system call) for `CLOCK_MONOTONIC` and one
//! system call for the CPU clock of a thread; a wait is one system call (three in the fall-back
//! for kernels older than 5.11, which lack `epoll_pwait2`).

mod dial;
pub(crate) mod perf;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

pub(crate) use dial::connect_from;

/// Nanoseconds of `CLOCK_MONOTONIC`. Every latency is a difference of two of these.
#[inline]
pub(crate) fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds of CPU that the calling thread has used, in user and kernel mode together.
pub(crate) fn thread_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

#[inline]
fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: I2, `time` is a live local of the type that the call fills in.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    debug_assert_eq!(result, 0, "both clocks exist on every Linux");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// CPUs that this process may run on, ascending.
///
/// # Errors
/// Whatever `sched_getaffinity` reports.
pub(crate) fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: an all-zero `cpu_set_t` is the empty set; it is a plain array of integers.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: I2, the size passed is the size of the live local.
    let result = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    check(result)?;
    let count_max = size_of_val(&set) * 8;
    // SAFETY: `CPU_ISSET` only reads the set, and `cpu` is below the number of its bits.
    Ok((0..count_max).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
}

/// Lets the calling thread run on `cpu` alone.
///
/// # Errors
/// `InvalidInput` for a number beyond the set's size, else what `sched_setaffinity` reports.
pub(crate) fn pin_current_thread(cpu: usize) -> io::Result<()> {
    // SAFETY: an all-zero `cpu_set_t` is the empty set; it is a plain array of integers.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if cpu >= size_of_val(&set) * 8 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: `cpu` is below the number of bits of the set, checked above.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: I2, the size passed is the size of the live local.
    let result = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    check(result).map(|_| ())
}

/// Asks for the smallest timer slack of the calling thread.
///
/// The default of 50 microseconds would be added to every sleep before a send. A refusal only
/// makes the pacing less precise, which the report shows, so it is not an error.
pub(crate) fn shrink_timer_slack() {
    // SAFETY: PR_SET_TIMERSLACK takes one integer and touches no memory of ours.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong, 0, 0, 0) };
}

/// Raises the soft limit of open files to the hard one, if `needed` files exceed it.
///
/// A refusal is no error here: the connection that finds no descriptor reports it.
pub(crate) fn raise_file_limit(needed: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: I2, `limit` is a live local of the type that the call fills in.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    if known && limit.rlim_cur < needed {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: I2, `limit` is a live local that the call only reads.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}

/// Involuntary context switches of the calling thread so far.
pub(crate) fn involuntary_switches() -> u64 {
    // SAFETY: an all-zero `rusage` is a valid one; it is a plain structure of integers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: I2, `usage` is a live local of the type that the call fills in.
    let known = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) } == 0;
    if known { u64::try_from(usage.ru_nivcsw).unwrap_or(0) } else { 0 }
}

/// Segments that TCP had to send again on the socket `fd`; 0 if it cannot say.
pub(crate) fn retransmits(fd: RawFd) -> u64 {
    // SAFETY: an all-zero `tcp_info` is a valid one; it is a plain structure of integers.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: I2, `info` and `length` are live locals, and `length` is the size of `info`; the
    // kernel writes no more than that. A stale `fd` gives an error, nothing worse.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if result == 0 { u64::from(info.tcpi_total_retrans) } else { 0 }
}

/// How long [`Epoll::wait`] may block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Only look, do not block.
    Poll,
    /// Block at most this many nanoseconds.
    AtMostNs(u64),
}

/// One readiness event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    /// The token given to [`Epoll::add`].
    pub(crate) token: u32,
    /// Reading would not block (data, end of stream, or an error to fetch).
    pub(crate) readable: bool,
    /// Writing would not block.
    pub(crate) writable: bool,
}

/// Most events that one wait can return; the rest come with the next one.
const EVENTS_MAX: usize = 256;

/// Token of the timer that the fall-back keeps in the set; no connection has it.
const TIMER_TOKEN: u64 = u64::MAX;

/// A level-triggered epoll set with nanosecond waits.
///
/// Level-triggered because a read that leaves the buffer unfilled needs no second read to find
/// out that the socket is empty: one `recv` per ready connection and turn.
pub(crate) struct Epoll {
    fd: OwnedFd,
    /// Present only where `epoll_pwait2` is missing: a timer in the set that ends a wait.
    timer: Option<OwnedFd>,
    raw: Vec<libc::epoll_event>,
}

impl Epoll {
    /// Makes an empty set, and finds out whether the kernel has `epoll_pwait2`.
    ///
    /// # Errors
    /// The error of the system call that failed.
    pub(crate) fn new() -> io::Result<Epoll> {
        let mut epoll = Epoll::without_timer()?;
        if let Err(error) = epoll.wait_raw(Wait::Poll) {
            if error.raw_os_error() != Some(libc::ENOSYS)
                && error.raw_os_error() != Some(libc::EPERM)
            {
                return Err(error);
            }
            epoll.use_timer()?;
        }
        Ok(epoll)
    }

    /// As [`Epoll::new`], but with the fall-back of old kernels, so that a test can cover it.
    #[cfg(test)]
    pub(crate) fn with_timer_fallback() -> io::Result<Epoll> {
        let mut epoll = Epoll::without_timer()?;
        epoll.use_timer()?;
        Ok(epoll)
    }

    fn without_timer() -> io::Result<Epoll> {
        // SAFETY: the call takes a flag and touches no memory of ours.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: I1, `fd` was just returned to us and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Epoll {
            fd,
            timer: None,
            raw: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX],
        })
    }

    fn use_timer(&mut self) -> io::Result<()> {
        let flags = libc::TFD_NONBLOCK | libc::TFD_CLOEXEC;
        // SAFETY: the call takes two integers and touches no memory of ours.
        let fd = check(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })?;
        // SAFETY: I1, `fd` was just returned to us and nobody else knows it.
        let timer = unsafe { OwnedFd::from_raw_fd(fd) };
        self.control(libc::EPOLL_CTL_ADD, timer.as_raw_fd(), libc::EPOLLIN, TIMER_TOKEN)?;
        self.timer = Some(timer);
        Ok(())
    }

    /// Watches `fd` for reading.
    ///
    /// # Errors
    /// What `epoll_ctl` reports.
    pub(crate) fn add(&self, fd: RawFd, token: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN, u64::from(token))
    }

    /// Watches `fd` for reading, and for writing too if `write` is set.
    ///
    /// # Errors
    /// What `epoll_ctl` reports.
    pub(crate) fn watch_writes(&self, fd: RawFd, token: u32, write: bool) -> io::Result<()> {
        let interest = if write { libc::EPOLLIN | libc::EPOLLOUT } else { libc::EPOLLIN };
        self.control(libc::EPOLL_CTL_MOD, fd, interest, u64::from(token))
    }

    /// Stops watching `fd`.
    ///
    /// # Errors
    /// What `epoll_ctl` reports.
    pub(crate) fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    fn control(&self, op: i32, fd: RawFd, interest: i32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest as u32, u64: token };
        // SAFETY: I2, `event` is a live local; a stale `fd` gives an error, nothing worse.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), op, fd, &raw mut event) }).map(|_| ())
    }

    /// Waits for events and puts them into `events`, which is cleared first.
    ///
    /// A signal ends the wait early with no events.
    ///
    /// # Errors
    /// What `epoll_wait` reports, except for an interruption.
    pub(crate) fn wait(&mut self, events: &mut Vec<Event>, wait: Wait) -> io::Result<()> {
        events.clear();
        let count = match self.wait_raw(wait) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        };
        for raw in &self.raw[..count] {
            let (bits, token) = (raw.events as i32, raw.u64);
            if token == TIMER_TOKEN {
                continue;
            }
            let broken = bits & (libc::EPOLLERR | libc::EPOLLHUP) != 0;
            events.push(Event {
                token: token as u32,
                readable: broken || bits & libc::EPOLLIN != 0,
                writable: bits & libc::EPOLLOUT != 0,
            });
        }
        Ok(())
    }

    fn wait_raw(&mut self, wait: Wait) -> io::Result<usize> {
        let wait_ns = match wait {
            Wait::Poll => 0,
            Wait::AtMostNs(ns) => ns,
        };
        let timeout = timespec(wait_ns);
        let room = self.raw.len() as i32;
        if self.timer.is_some() {
            return self.wait_with_timer(wait_ns);
        }
        // SAFETY: I2, `raw` holds `room` events and `timeout` is a live local; a null signal mask
        // leaves the mask alone, and its size is then ignored.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                self.raw.as_mut_ptr(),
                room,
                &raw const timeout,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        check(count as i32).map(|count| count as usize)
    }

    /// `epoll_wait` knows milliseconds only, so a timer in the set carries the nanoseconds.
    fn wait_with_timer(&mut self, wait_ns: u64) -> io::Result<usize> {
        if let Some(timer) = &self.timer
            && wait_ns > 0
        {
            let spec = libc::itimerspec { it_interval: timespec(0), it_value: timespec(wait_ns) };
            // SAFETY: I2, `spec` is a live local and the old value is not asked for. Setting the
            // timer also clears an expiry that nobody has read.
            check(unsafe {
                libc::timerfd_settime(timer.as_raw_fd(), 0, &raw const spec, std::ptr::null_mut())
            })?;
        }
        let timeout_ms = if wait_ns > 0 { -1 } else { 0 };
        let room = self.raw.len() as i32;
        // SAFETY: I2, `raw` holds `room` events.
        let count = unsafe {
            libc::epoll_wait(self.fd.as_raw_fd(), self.raw.as_mut_ptr(), room, timeout_ms)
        };
        check(count).map(|count| count as usize)
    }
}

fn timespec(ns: u64) -> libc::timespec {
    libc::timespec {
        tv_sec: (ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (ns % 1_000_000_000) as libc::c_long,
    }
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    fn waits_and_reports(mut epoll: Epoll) {
        let (mut near, far) = UnixStream::pair().expect("a socket pair");
        epoll.add(far.as_raw_fd(), 7).expect("added");
        let mut events = Vec::new();

        let before = monotonic_ns();
        epoll.wait(&mut events, Wait::AtMostNs(300_000)).expect("waited");
        assert!(events.is_empty());
        assert!(monotonic_ns() - before >= 300_000, "a wait never ends before its time");

        near.write_all(b"x").expect("written");
        epoll.wait(&mut events, Wait::AtMostNs(u64::MAX / 4)).expect("waited");
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].token, events[0].readable, events[0].writable), (7, true, false));

        epoll.watch_writes(far.as_raw_fd(), 7, true).expect("changed");
        epoll.wait(&mut events, Wait::Poll).expect("polled");
        assert!(events[0].readable && events[0].writable);

        epoll.remove(far.as_raw_fd()).expect("removed");
        epoll.wait(&mut events, Wait::Poll).expect("polled");
        assert!(events.is_empty());
    }

    #[test]
    fn epoll_waits_in_nanoseconds() {
        waits_and_reports(Epoll::new().expect("epoll"));
    }

    #[test]
    fn the_fallback_for_old_kernels_waits_in_nanoseconds() {
        waits_and_reports(Epoll::with_timer_fallback().expect("epoll"));
    }

    #[test]
    fn a_thread_can_be_pinned_to_each_allowed_cpu() {
        let cpus = allowed_cpus().expect("affinity");
        assert!(!cpus.is_empty());
        std::thread::spawn(move || {
            for cpu in cpus {
                pin_current_thread(cpu).expect("pinned");
                assert_eq!(allowed_cpus().expect("affinity"), [cpu]);
            }
            assert!(pin_current_thread(usize::MAX).is_err());
        })
        .join()
        .expect("no panic");
    }

    #[test]
    fn cpu_time_advances_with_work() {
        let before = thread_cpu_ns();
        let mut x = 1_u64;
        while thread_cpu_ns() == before {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert!(thread_cpu_ns() > before);
    }
}
