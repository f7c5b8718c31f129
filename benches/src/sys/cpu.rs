//! Clocks, CPU affinity and resource limits of threads and processes.
//!
//! CPU time is read from the kernel's per-thread and per-process clocks, in nanoseconds. The
//! figures in `/proc/PID/stat` count ticks of 10 ms and are too coarse for a round of a second.

use std::io;
use std::mem;

/// The largest CPU number that the affinity calls here can name.
pub const CPU_MAX: usize = libc::CPU_SETSIZE as usize - 1;

/// Restricts the calling thread to one CPU.
///
/// # Errors
///
/// The kernel's answer if the CPU does not exist or is not allowed to this process; invalid
/// input if its number is above [`CPU_MAX`].
pub fn pin_this_thread(cpu: usize) -> io::Result<()> {
    if cpu > CPU_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "CPU number out of range"));
    }
    // SAFETY: an all-zero cpu_set_t is the empty set, `cpu` is inside of it (checked above), and
    // the kernel reads the set only during the call.
    let status = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, mem::size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The CPUs that the calling thread may run on, in ascending order.
///
/// # Errors
///
/// The kernel's answer; it has no reason to fail on a machine with at most 1024 CPUs.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: the set is plain data that the kernel fills, and it is given its true size.
    let (status, set) = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        let bytes = mem::size_of::<libc::cpu_set_t>();
        (libc::sched_getaffinity(0, bytes, &raw mut set), set)
    };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every index asked is at most CPU_MAX and so inside the set.
    Ok((0..=CPU_MAX).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
}

/// Nanoseconds on the monotonic clock. Costs no system call.
pub fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC).unwrap_or(0)
}

/// CPU time that the calling thread has used so far, in nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID).unwrap_or(0)
}

/// CPU time that all threads of a process have used so far, ended ones included, in nanoseconds.
///
/// # Errors
///
/// If there is no such process, or it may not be looked at.
pub fn process_cpu_ns(pid: u32) -> io::Result<u64> {
    let pid = libc::pid_t::try_from(pid)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "process id out of range"))?;
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock` is a valid place for the result and outlives the call.
    let status = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if status != 0 {
        return Err(io::Error::from_raw_os_error(status));
    }
    clock_ns(clock)
}

/// How much memory this process may lock, in bytes; `u64::MAX` is no limit.
///
/// # Errors
///
/// The kernel's answer; it has no reason to fail.
pub fn locked_memory_max_bytes() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the result and outlives the call.
    let status = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    if status == 0 { Ok(limit.rlim_cur) } else { Err(io::Error::last_os_error()) }
}

fn clock_ns(clock: libc::clockid_t) -> io::Result<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the result and outlives the call.
    let status = unsafe { libc::clock_gettime(clock, &raw mut time) };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    // Neither part is negative on a clock that counts from a start.
    Ok(time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_is_allowed_on_its_cpu_alone() {
        let cpu = *allowed_cpus().unwrap().last().unwrap();
        std::thread::spawn(move || {
            pin_this_thread(cpu).unwrap();
            assert_eq!(allowed_cpus().unwrap(), [cpu]);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_cpu_that_cannot_exist_is_refused() {
        assert!(pin_this_thread(CPU_MAX + 1).is_err());
    }

    #[test]
    fn work_shows_on_the_clocks_of_thread_and_process() {
        let (thread, process) = (thread_cpu_ns(), process_cpu_ns(std::process::id()).unwrap());
        let mut sum = 0_u64;
        while thread_cpu_ns() == thread {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(process_cpu_ns(std::process::id()).unwrap() > process);
    }

    #[test]
    fn the_clock_of_nobody_is_an_error() {
        assert!(process_cpu_ns(u32::MAX).is_err());
    }
}
