//! Counters of the processor and the scheduler for the calling thread (perf_event_open(2)).
//!
//! Every counter stands by itself: what a machine, a container or a limit of rights refuses is
//! `None`, and never an error. In virtual machines the processor's own are usually missing.
//!
//! The invariants of the parent module hold here, too. Cost: one system call per counter at the
//! start and one at the end; the counting itself is free.

use std::fs::File;
use std::io::Read;
use std::os::fd::FromRawFd;

/// Number of counters.
pub(crate) const COUNTERS: usize = 6;
/// Their names, in order.
pub(crate) const NAMES: [&str; COUNTERS] =
    ["cycles", "instructions", "llc_misses", "dtlb_misses", "context_switches", "migrations"];

const TYPE_HARDWARE: u32 = 0;
const TYPE_SOFTWARE: u32 = 1;
const TYPE_CACHE: u32 = 3;
/// Type and number of each event: PERF_COUNT_HW_CPU_CYCLES, PERF_COUNT_HW_INSTRUCTIONS, read
/// misses of the last-level cache and of the data TLB, PERF_COUNT_SW_CONTEXT_SWITCHES and
/// PERF_COUNT_SW_CPU_MIGRATIONS.
const EVENTS: [(u32, u64); COUNTERS] = [
    (TYPE_HARDWARE, 0),
    (TYPE_HARDWARE, 1),
    (TYPE_CACHE, 2 | 1 << 16),
    (TYPE_CACHE, 3 | 1 << 16),
    (TYPE_SOFTWARE, 3),
    (TYPE_SOFTWARE, 4),
];
/// The counter is told with the times that it was wanted and that it ran.
const READ_TIMES: u64 = 1 | 2;
/// PERF_FLAG_FD_CLOEXEC.
const FLAG_CLOSE_ON_EXEC: libc::c_ulong = 1 << 3;
const EXCLUDE_KERNEL: u64 = 1 << 5;
const EXCLUDE_HYPERVISOR: u64 = 1 << 6;

/// The first version of `struct perf_event_attr`, which every kernel takes.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    config1: u64,
}
const _: () = assert!(size_of::<Attributes>() == 64);

/// Counts what the calling thread does from now on.
pub(crate) struct Counters {
    files: [Option<File>; COUNTERS],
}

fn open(kind: u32, config: u64, flags: u64) -> Option<File> {
    let attributes = Attributes {
        kind,
        size: size_of::<Attributes>() as u32,
        config,
        read_format: READ_TIMES,
        flags,
        ..Attributes::default()
    };
    // SAFETY: I2, `attributes` is a live local of the size that it names; the calling thread on
    // any CPU, no group.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            0,
            -1,
            -1,
            FLAG_CLOSE_ON_EXEC,
        )
    };
    let fd = i32::try_from(fd).ok().filter(|&fd| fd >= 0)?;
    // SAFETY: I1, `fd` was just returned to us and nobody else knows it.
    Some(unsafe { File::from_raw_fd(fd) })
}

impl Counters {
    /// Starts counting.
    pub(crate) fn start() -> Counters {
        let both = EXCLUDE_HYPERVISOR;
        let user = EXCLUDE_HYPERVISOR | EXCLUDE_KERNEL;
        // Without the right to count the kernel's part, that of the program is better than none.
        let files = EVENTS
            .map(|(kind, config)| open(kind, config, both).or_else(|| open(kind, config, user)));
        Counters { files }
    }

    /// What was counted; scaled up where the counter had to share the processor's with others.
    pub(crate) fn read(&mut self) -> [Option<u64>; COUNTERS] {
        self.files.each_mut().map(|file| {
            let mut words = [0; 24];
            file.as_mut()?.read_exact(&mut words).ok()?;
            let at = |at: usize| {
                let bytes = words[at * 8..at * 8 + 8].try_into().expect("eight bytes");
                u64::from_ne_bytes(bytes)
            };
            let (count, wanted_ns, ran_ns) = (at(0), at(1), at(2));
            let scaled = u128::from(count) * u128::from(wanted_ns);
            // A counter that never ran has counted nothing.
            u64::try_from(scaled.checked_div(u128::from(ran_ns))?).ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_grows() {
        let mut counters = Counters::start();
        let mut x = 1_u64;
        for _ in 0..100_000 {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        let first = counters.read();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let second = counters.read();
        for (name, (first, second)) in NAMES.iter().zip(first.into_iter().zip(second)) {
            assert_eq!(first.is_some(), second.is_some(), "{name}");
            assert!(second >= first, "{name}: {first:?} {second:?}");
        }
        // Where the machine counts instructions, that loop had at least as many.
        assert!(first[1].is_none_or(|instructions| instructions > 100_000), "{first:?}");
        // A sleep gives the CPU away.
        assert!(second[4].is_none_or(|switches| switches > 0), "{second:?}");
    }
}
