//! What the host allows: processors, memory, open files; and whether a core is ours alone.

use std::fs;
use std::path::Path;

use crate::cgroup::Cgroups;
use crate::sys;

/// The CPUs that this process may run on (its affinity), ascending.
pub fn allowed_cpus() -> Vec<usize> {
    let mut cpus: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    cpus.sort_unstable();
    cpus
}

/// One CPU of each physical core, the lowest, of those given in ascending order. CPUs whose core is
/// not told count as cores of their own.
pub fn one_of_each_core(cpus: &[usize]) -> Vec<usize> {
    let siblings = |cpu: usize| {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        std::fs::read_to_string(path)
            .map_or_else(|_| cpu.to_string(), |text| text.trim().to_owned())
    };
    let mut seen = Vec::new();
    let is_first = |cpu: &usize| {
        let siblings = siblings(*cpu);
        let is_new = !seen.contains(&siblings);
        seen.push(siblings);
        is_new
    };
    cpus.iter().copied().filter(is_first).collect()
}

/// Memory in bytes that the machine or the cgroup of this process allows, whichever is less.
pub fn memory_allowed_bytes() -> u64 {
    let machine = sys::machine_memory_bytes();
    Cgroups::of_host().memory_bytes().map_or(machine, |limit| limit.min(machine))
}

/// Whether nobody else is expected to run on the CPU: it is isolated, its hyper-threads are too,
/// and no quota throttles this process.
pub fn is_exclusive(cpu: usize) -> bool {
    let cpu_path = |leaf: &str| format!("/sys/devices/system/cpu/cpu{cpu}/topology/{leaf}");
    let isolated = read_list(Path::new("/sys/devices/system/cpu/isolated"));
    let siblings = read_list(Path::new(&cpu_path("thread_siblings_list")));
    isolated.contains(&cpu)
        && siblings.iter().all(|sibling| isolated.contains(sibling))
        && cpu_quota_percent().is_none()
}

/// Per cent of one CPU that the cgroup of this process may use, if it is limited.
pub fn cpu_quota_percent() -> Option<u64> {
    Cgroups::of_host().cpu_percent()
}

/// The kernel's setting of transparent huge pages: `always`, `madvise` or `never`, or `unknown`.
pub fn huge_pages() -> String {
    let text = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    let text = text.unwrap_or_default();
    let chosen = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    chosen.map_or("unknown", |(chosen, _)| chosen).to_owned()
}

/// The memory node of a CPU, on a machine that has more than one.
pub fn memory_node(cpu: usize) -> Option<usize> {
    let nodes = read_list(Path::new("/sys/devices/system/node/has_memory"));
    if nodes.len() < 2 {
        return None;
    }
    let holds = |node: &usize| {
        let path = format!("/sys/devices/system/node/node{node}/cpulist");
        read_list(Path::new(&path)).contains(&cpu)
    };
    nodes.into_iter().find(holds)
}

/// The release of the kernel, such as `6.1.0`.
pub fn kernel_release() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_owned()
}

/// The name of the machine; empty if it has none.
pub fn name() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    text.trim().to_owned()
}

/// Bytes of memory that this process has resident.
pub fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 =
        statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}

fn read_list(path: &Path) -> Vec<usize> {
    fs::read_to_string(path).map(|text| parse_list(text.trim())).unwrap_or_default()
}

/// Parses the kernel's lists, such as `0-3,8`; what is not a number is left out.
fn parse_list(text: &str) -> Vec<usize> {
    text.split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
        })
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_lists_are_read() {
        assert_eq!(parse_list("0-2,5"), [0, 1, 2, 5]);
        assert_eq!(parse_list(""), [0; 0]);
    }

    #[test]
    fn this_host_answers() {
        assert!(!allowed_cpus().is_empty());
        assert!(memory_allowed_bytes() > 1 << 20);
        assert!(resident_bytes() > 0);
        assert!(["always", "madvise", "never", "unknown"].contains(&huge_pages().as_str()));
        assert_eq!(memory_node(4095), None, "a CPU that does not exist has no node");
        assert!(!is_exclusive(4095), "a CPU that does not exist is nobody's");
    }
}
