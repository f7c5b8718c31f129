//! What `/proc` tells about the machine and about a process.

use std::fs;
use std::io;

/// Units per second of the figures in `/proc/stat`. Linux fixed it for its users long ago.
const TICKS_PER_SECOND: u64 = 100;

/// Time of all CPUs together since boot, in nanoseconds, with a grain of 10 ms.
///
/// Busy time is what is not idle. Idle time is exact where the kernel stops its tick on idle
/// CPUs, whereas the shares of user and system time are sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineTime {
    /// Time in which a CPU had nothing to run, waits for disks and rings included.
    pub idle_ns: u64,
    /// Time in which the hypervisor ran somebody else.
    pub stolen_ns: u64,
    /// How many CPUs there are.
    pub cpu_count: u64,
}

/// Reads the machine's times. Costs three system calls.
///
/// # Errors
///
/// If `/proc/stat` cannot be read or has another form than Linux gives it.
pub fn machine_time() -> io::Result<MachineTime> {
    parse_machine_time(&fs::read_to_string("/proc/stat")?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/stat has no cpu line"))
}

/// How often the threads of a process gave up the CPU because they had nothing to do; each is
/// followed by a wake-up. Threads that have ended are not counted.
///
/// # Errors
///
/// If there is no such process.
pub fn voluntary_switches(pid: u32) -> io::Result<u64> {
    let mut switches = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end while the list is read.
        if let Ok(status) = fs::read_to_string(task?.path().join("status")) {
            switches += field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
        }
    }
    Ok(switches)
}

/// Physical memory that a process has, in bytes, huge pages included. Costs a walk over its page
/// tables: milliseconds for a process of gigabytes.
///
/// # Errors
///
/// If there is no such process, it may not be looked at, or the kernel is older than 4.14.
pub fn resident_bytes(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    // The other file rounds a figure that every CPU counts for itself; this one adds pages up.
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kib: Option<u64> =
        line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.map(|kib| kib << 10)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "smaps_rollup has no Rss line"))
}

/// Name of the CPU, as the kernel has it; empty if it does not tell.
pub fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split(": ").nth(1)).unwrap_or("").to_string()
}

/// Release of the running kernel; empty if it does not tell.
pub fn kernel_release() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_string()
}

fn parse_machine_time(text: &str) -> Option<MachineTime> {
    let total = text.lines().find(|line| line.starts_with("cpu "))?;
    let cpu_count = text
        .lines()
        .filter(|line| {
            let digits = line.strip_prefix("cpu").unwrap_or("");
            digits.starts_with(|first: char| first.is_ascii_digit())
        })
        .count();
    let ticks: Vec<u64> =
        total.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect();
    // Columns: user, nice, system, idle, iowait, irq, softirq, steal. A wait for disks or for a
    // ring leaves the CPU just as free as idling does.
    let &[_, _, _, idle, iowait, _, _, steal, ..] = ticks.as_slice() else { return None };
    let tick_ns = 1_000_000_000 / TICKS_PER_SECOND;
    Some(MachineTime {
        idle_ns: (idle + iowait) * tick_ns,
        stolen_ns: steal * tick_ns,
        cpu_count: u64::try_from(cpu_count).ok()?,
    })
}

fn field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_time_is_taken_from_the_right_columns() {
        let text = "cpu  30 1 6 200 9 0 2 4 0 0\ncpu0 1 2\ncpu1 1 2\nintr 5\ncpufoo 1\n";
        let expected = MachineTime { idle_ns: 2_090_000_000, stolen_ns: 40_000_000, cpu_count: 2 };
        assert_eq!(parse_machine_time(text), Some(expected));
        assert_eq!(parse_machine_time("cpu  1 2 3\n"), None);
        assert_eq!(parse_machine_time(""), None);
    }

    #[test]
    fn this_machine_has_cpus() {
        assert!(machine_time().unwrap().cpu_count > 0);
        assert!(!kernel_release().is_empty());
    }

    #[test]
    fn memory_that_is_touched_is_resident() {
        let before = resident_bytes(std::process::id()).unwrap();
        let touched = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = resident_bytes(std::process::id()).unwrap();
        assert!(after > before + (48 << 20), "{before} {after} {}", touched.len());
        assert!(resident_bytes(u32::MAX).is_err());
    }

    #[test]
    fn a_sleep_is_a_voluntary_switch() {
        let before = voluntary_switches(std::process::id()).unwrap();
        // Other tests' threads may end meanwhile and take their counts along.
        while voluntary_switches(std::process::id()).unwrap() <= before {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(voluntary_switches(u32::MAX).is_err());
    }
}
