//! Child processes that stay on one CPU and never outlive their parent.

use std::io;
use std::mem;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::cpu::CPU_MAX;

/// What [`signal`] can tell a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Stop running until told to continue.
    Stop,
    /// Run again.
    Continue,
}

/// Makes the child of `command` run on `cpu` alone (anywhere if `None`), and die at once when
/// the thread that starts it ends, for whatever reason. Start children from a thread that lives
/// as long as they are needed.
///
/// # Errors
///
/// Invalid input if the CPU number is above [`CPU_MAX`]. A CPU that does not exist shows when
/// the command is started.
pub fn confine(command: &mut Command, cpu: Option<usize>) -> io::Result<()> {
    if cpu.is_some_and(|cpu| cpu > CPU_MAX) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "CPU number out of range"));
    }
    let parent = std::process::id();
    // SAFETY: the closure makes only async-signal-safe system calls and touches no memory of the
    // parent but the two integers that it owns, as code between fork and exec must.
    unsafe {
        command.pre_exec(move || {
            if let Some(cpu) = cpu {
                let mut set: libc::cpu_set_t = mem::zeroed();
                libc::CPU_SET(cpu, &mut set);
                let bytes = mem::size_of::<libc::cpu_set_t>();
                if libc::sched_setaffinity(0, bytes, &raw const set) != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            let signal = libc::SIGKILL as libc::c_ulong;
            if libc::prctl(libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) != 0 {
                return Err(io::Error::last_os_error());
            }
            // A parent that died before the line above sends no signal any more.
            if libc::getppid().unsigned_abs() != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
    Ok(())
}

/// Stops or continues a process.
///
/// # Errors
///
/// If there is no such process.
pub fn signal(pid: u32, signal: Signal) -> io::Result<()> {
    let number = match signal {
        Signal::Stop => libc::SIGSTOP,
        Signal::Continue => libc::SIGCONT,
    };
    // Zero and negative numbers would reach whole groups of processes.
    let pid = libc::pid_t::try_from(pid)
        .ok()
        .filter(|&pid| pid > 0)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "process id out of range"))?;
    // SAFETY: kill touches no memory of this process.
    let status = unsafe { libc::kill(pid, number) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    #[test]
    fn a_confined_child_runs_on_its_cpu() {
        let cpu = *crate::sys::cpu::allowed_cpus().unwrap().last().unwrap();
        let mut command = Command::new("grep");
        command.args(["Cpus_allowed_list", "/proc/self/status"]).stdout(Stdio::piped());
        confine(&mut command, Some(cpu)).unwrap();
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.split_whitespace().last(), Some(cpu.to_string().as_str()));
    }

    #[test]
    fn a_child_dies_with_the_thread_that_started_it() {
        let mut child = std::thread::spawn(|| {
            let mut command = Command::new("sleep");
            command.arg("3600");
            confine(&mut command, None).unwrap();
            command.spawn().unwrap()
        })
        .join()
        .unwrap();
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn a_stopped_child_shows_as_stopped_until_it_continues() {
        let mut command = Command::new("sleep");
        command.arg("3600");
        confine(&mut command, None).unwrap();
        let mut child = command.spawn().unwrap();
        let state = |pid: u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            stat.rsplit(") ").next().unwrap().chars().next().unwrap()
        };
        signal(child.id(), Signal::Stop).unwrap();
        while state(child.id()) != 'T' {
            std::thread::yield_now();
        }
        signal(child.id(), Signal::Continue).unwrap();
        while state(child.id()) == 'T' {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_group_of_processes_cannot_be_signalled_by_accident() {
        assert!(signal(0, Signal::Continue).is_err());
        assert!(signal(u32::MAX, Signal::Continue).is_err());
    }
}
