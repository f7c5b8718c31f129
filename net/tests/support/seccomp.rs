//! Processes with fewer rights than the test has: by a seccomp filter, as containers have one, or by
//! lower limits.

use std::os::unix::process::CommandExt;
use std::process::Command;

const fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

const fn jump(k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt, jf, k }
}

/// Refuses the three calls of io_uring, whose numbers are the same on every machine.
static WITHOUT_IO_URING: [libc::sock_filter; 6] = [
    // The number of the call is the first word of what is looked at.
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
    jump(425, 3, 0),
    jump(426, 2, 0),
    jump(427, 1, 0),
    statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
];

fn check(result: i32) -> std::io::Result<()> {
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Lets the process of a command run without io_uring.
pub fn forbid_io_uring(command: &mut Command) {
    let install = || {
        let program = libc::sock_fprog {
            len: WITHOUT_IO_URING.len() as u16,
            filter: WITHOUT_IO_URING.as_ptr().cast_mut(),
        };
        // SAFETY: the kernel copies the program, which it only reads, during the call.
        unsafe {
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            check(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program))
        }
    };
    // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
    unsafe { command.pre_exec(install) };
}

/// Lets the process of a command run with a lower limit, which it cannot raise.
pub fn limit(command: &mut Command, resource: libc::__rlimit_resource_t, most: u64) {
    let lower = move || {
        let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
        // SAFETY: the call reads the struct that it is given.
        check(unsafe { libc::setrlimit(resource, &limit) })
    };
    // SAFETY: between fork and exec only a system call is made, and nothing is allocated.
    unsafe { command.pre_exec(lower) };
}

/// Lowers or raises the soft limit on open files of a running process.
pub fn set_open_files(pid: u32, soft: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let (pid, none) = (pid as libc::pid_t, std::ptr::null());
    // SAFETY: both calls read or fill the struct that they are given, nothing else.
    unsafe {
        check(libc::prlimit(pid, libc::RLIMIT_NOFILE, none, &mut limit)).expect("read");
        limit.rlim_cur = soft.min(limit.rlim_max);
        check(libc::prlimit(pid, libc::RLIMIT_NOFILE, &limit, std::ptr::null_mut())).expect("set");
    }
}
