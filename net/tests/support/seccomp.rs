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

/// Lets the process of a command run under a profile for containers that names what it denies, and
/// allows the rest. Names that this machine has no call for are passed over, as the container's
/// runtime does; how many were not.
pub fn confine(command: &mut Command, profile: &str) -> usize {
    assert!(
        profile.contains("\"defaultAction\": \"SCMP_ACT_ALLOW\""),
        "it would need another reader"
    );
    let lists =
        profile.split("\"names\": [").skip(1).map(|rest| rest.split(']').next().unwrap_or(""));
    let names = lists.flat_map(|list| list.split('"').skip(1).step_by(2));
    let calls = names.filter_map(number).map(|call| Failure::always(call, libc::EPERM));
    let failures: Vec<Failure> = calls.collect();
    inject(command, &failures);
    failures.len()
}

/// The number of a system call that profiles deny; none if this machine does not have it.
///
/// # Panics
/// At a name that is not known here.
fn number(name: &str) -> Option<libc::c_long> {
    #[cfg(target_arch = "x86_64")]
    match name {
        "ioperm" => return Some(libc::SYS_ioperm),
        "iopl" => return Some(libc::SYS_iopl),
        "sysfs" => return Some(libc::SYS_sysfs),
        "uselib" => return Some(libc::SYS_uselib),
        "ustat" => return Some(libc::SYS_ustat),
        _ => {}
    }
    let number = match name {
        "acct" => libc::SYS_acct,
        "add_key" => libc::SYS_add_key,
        "bpf" => libc::SYS_bpf,
        "clock_adjtime" => libc::SYS_clock_adjtime,
        "clock_settime" => libc::SYS_clock_settime,
        "delete_module" => libc::SYS_delete_module,
        "fanotify_init" => libc::SYS_fanotify_init,
        "finit_module" => libc::SYS_finit_module,
        "fsconfig" => libc::SYS_fsconfig,
        "fsmount" => libc::SYS_fsmount,
        "fsopen" => libc::SYS_fsopen,
        "fspick" => libc::SYS_fspick,
        "init_module" => libc::SYS_init_module,
        "kcmp" => libc::SYS_kcmp,
        "kexec_file_load" => libc::SYS_kexec_file_load,
        "kexec_load" => libc::SYS_kexec_load,
        "keyctl" => libc::SYS_keyctl,
        "lookup_dcookie" => libc::SYS_lookup_dcookie,
        "mount" => libc::SYS_mount,
        "mount_setattr" => libc::SYS_mount_setattr,
        "move_mount" => libc::SYS_move_mount,
        "move_pages" => libc::SYS_move_pages,
        "name_to_handle_at" => libc::SYS_name_to_handle_at,
        "nfsservctl" => libc::SYS_nfsservctl,
        "open_by_handle_at" => libc::SYS_open_by_handle_at,
        "open_tree" => libc::SYS_open_tree,
        "perf_event_open" => libc::SYS_perf_event_open,
        "personality" => libc::SYS_personality,
        "pivot_root" => libc::SYS_pivot_root,
        "process_madvise" => libc::SYS_process_madvise,
        "process_vm_readv" => libc::SYS_process_vm_readv,
        "process_vm_writev" => libc::SYS_process_vm_writev,
        "ptrace" => libc::SYS_ptrace,
        "quotactl" => libc::SYS_quotactl,
        "quotactl_fd" => libc::SYS_quotactl_fd,
        "reboot" => libc::SYS_reboot,
        "request_key" => libc::SYS_request_key,
        "setdomainname" => libc::SYS_setdomainname,
        "sethostname" => libc::SYS_sethostname,
        "setns" => libc::SYS_setns,
        "settimeofday" => libc::SYS_settimeofday,
        "swapoff" => libc::SYS_swapoff,
        "swapon" => libc::SYS_swapon,
        "syslog" => libc::SYS_syslog,
        "umount2" => libc::SYS_umount2,
        "unshare" => libc::SYS_unshare,
        "userfaultfd" => libc::SYS_userfaultfd,
        "vhangup" => libc::SYS_vhangup,
        // Of other machines, or of older kernels.
        "stime" | "umount" | "vm86" | "vm86old" | "create_module" | "get_kernel_syms"
        | "ioperm" | "iopl" | "query_module" | "sysfs" | "uselib" | "ustat" => return None,
        other => panic!("{other} is not known here"),
    };
    Some(number)
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
