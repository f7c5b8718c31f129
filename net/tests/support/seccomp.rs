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

const fn load(at: usize) -> libc::sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at as u32)
}

/// A system call that is to fail.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// Its number.
    pub call: libc::c_long,
    /// How it fails.
    pub errno: i32,
    /// When: always, or if the bits of the mask in the lower half of an argument are these.
    pub when: Option<Condition>,
}

/// On an argument of a system call.
#[derive(Clone, Copy, Debug)]
pub struct Condition {
    pub argument: usize,
    pub mask: u32,
    pub bits: u32,
}

impl Failure {
    /// A call that always fails.
    pub fn always(call: libc::c_long, errno: i32) -> Failure {
        Failure { call, errno, when: None }
    }

    /// A call that fails on one descriptor in `count`, which is a power of two: those whose number
    /// leaves this rest.
    pub fn on_one_descriptor_in(count: u32, rest: u32, call: libc::c_long, errno: i32) -> Failure {
        let when = Some(Condition { argument: 0, mask: count - 1, bits: rest });
        Failure { call, errno, when }
    }
}

/// The three calls of io_uring.
pub const OF_IO_URING: [libc::c_long; 3] =
    [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

/// Lets calls of the process of a command fail. What is not named is allowed.
pub fn inject(command: &mut Command, failures: &[Failure]) {
    let mut program = Vec::new();
    for failure in failures {
        let fails =
            statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | failure.errno as u32);
        // The number of the call is the first word of what is looked at, and the arguments follow
        // behind 16 bytes; each jump passes over the rest of what belongs to this failure.
        program.push(load(0));
        match failure.when {
            None => program.extend([jump(failure.call as u32, 0, 1), fails]),
            Some(Condition { argument, mask, bits }) => program.extend([
                jump(failure.call as u32, 0, 4),
                load(16 + 8 * argument),
                statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, mask),
                jump(bits, 0, 1),
                fails,
            ]),
        }
    }
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    install(command, program);
}

/// Lets the process of a command run under a filter.
pub fn install(command: &mut Command, program: Vec<libc::sock_filter>) {
    let install = move || {
        let program =
            libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
        // SAFETY: the kernel copies the program, which it only reads, during the call.
        unsafe {
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            check(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program))
        }
    };
    // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
    unsafe { command.pre_exec(install) };
}

fn check(result: i32) -> std::io::Result<()> {
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Lets the process of a command run without io_uring, as Docker's default profile does.
pub fn forbid_io_uring(command: &mut Command) {
    inject(command, &OF_IO_URING.map(|call| Failure::always(call, libc::EPERM)));
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
