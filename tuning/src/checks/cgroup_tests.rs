//! Tests of the control group checks on trees of both versions.

use crate::checks::tests::outcome;
use crate::fixture::Tree;

const LEAF: &str = "sys/fs/cgroup/system.slice/pinion.service";

/// A host with the unified hierarchy, this process two levels down, and 4 of 8 CPUs to use.
fn unified() -> Tree {
    Tree::new()
        .file("proc/self/cgroup", "0::/system.slice/pinion.service\n")
        .file(
            "proc/self/mountinfo",
            "31 24 0:27 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
        )
        .file("proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-3\n")
        .file("proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 1 kB\n")
        .file("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n")
        .file("sys/devices/system/cpu/online", "0-7\n")
}

/// A container of the split hierarchies that sees its own group at the mount point.
fn split() -> Tree {
    Tree::new()
        .file("proc/self/cgroup", "4:memory:/docker/ab\n2:cpu,cpuacct:/docker/ab\n0::/docker/ab\n")
        .file(
            "proc/self/mountinfo",
            "32 31 0:29 /docker/ab /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n\
             33 31 0:30 /docker/ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
        )
        .file("proc/self/status", "Cpus_allowed_list:\t0-7\n")
        .file("proc/meminfo", "MemTotal:       16777216 kB\n")
}

fn with_split_quota(quota: &str, period: &str) -> (&'static str, String, Option<String>) {
    let tree = split()
        .file("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", quota)
        .file("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", period)
        .file("sys/fs/cgroup/cpu,cpuacct/cpu.stat", "nr_periods 9\nnr_throttled 3\n");
    outcome("cpu-quota", &tree)
}

#[test]
fn no_quota_is_fine_whether_the_file_says_so_or_is_not_there() {
    assert_eq!(outcome("cpu-quota", &unified()).0, "ok");
    let tree = unified().file(&format!("{LEAF}/cpu.max"), "max 100000\n");
    assert_eq!(outcome("cpu-quota", &tree), ("ok", "no quota".to_owned(), None));
    assert_eq!(with_split_quota("-1", "100000").0, "ok");
}

#[test]
fn the_tightest_quota_of_all_levels_counts() {
    let tree = unified()
        .file(&format!("{LEAF}/cpu.max"), "300000 100000\n")
        .file("sys/fs/cgroup/system.slice/cpu.max", "75000 50000\n")
        .file("sys/fs/cgroup/system.slice/cpu.stat", "usage_usec 1\nnr_throttled 17\n");
    let (verdict, found, command) = outcome("cpu-quota", &tree);
    assert_eq!(verdict, "problem");
    let expected = "1.50 of 4 usable CPUs (75000 us in 50000 us), throttled 17 times so far";
    assert_eq!(found, expected);
    let expected = "echo max | sudo tee /sys/fs/cgroup/system.slice/cpu.max";
    assert_eq!(command.as_deref(), Some(expected));
}

#[test]
fn a_quota_that_cannot_be_exceeded_is_fine() {
    let tree = unified().file(&format!("{LEAF}/cpu.max"), "400000 100000\n");
    assert_eq!(outcome("cpu-quota", &tree).0, "ok");
    let tree = tree.file("proc/self/status", "Name:\tx\n");
    assert_eq!(outcome("cpu-quota", &tree).0, "problem", "now all 8 CPUs are usable");
}

#[test]
fn the_split_hierarchy_has_quotas_too() {
    let (verdict, found, command) = with_split_quota("200000", "100000");
    assert_eq!(verdict, "problem");
    assert!(
        found.starts_with("2.00 of 8 usable CPUs") && found.ends_with("throttled 3 times so far")
    );
    let expected = "echo -1 | sudo tee /sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us";
    assert_eq!(command.as_deref(), Some(expected));
}

#[test]
fn a_quota_that_is_not_understood_is_unknown() {
    for text in ["", "max", "x 100000", "100000 0", "100000 x", "-5 100000"] {
        let tree = unified().file(&format!("{LEAF}/cpu.max"), text);
        let (verdict, found, _) = outcome("cpu-quota", &tree);
        assert_eq!(verdict, "unknown", "{text:?}");
        assert!(found.starts_with("/sys/fs/cgroup/system.slice/pinion.service/cpu.max: "));
    }
    assert_eq!(with_split_quota("100000", "0").0, "unknown");
    assert_eq!(with_split_quota("x", "100000").0, "unknown");
}

#[test]
fn a_hierarchy_that_is_not_there_is_unknown() {
    let (verdict, found, _) = outcome("cpu-quota", &split());
    assert_eq!(verdict, "unknown");
    assert_eq!(found, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us: is absent");
    let tree = unified().file("sys/fs/cgroup/cgroup.controllers", "pids\n");
    for check in ["cpu-quota", "memory-limit"] {
        assert_eq!(outcome(check, &tree).0, "unknown", "a controller that is not seen here");
    }
}

#[test]
fn memory_without_a_limit_is_fine() {
    assert_eq!(outcome("memory-limit", &unified()).0, "ok");
    let tree = unified().file(&format!("{LEAF}/memory.max"), "max\n");
    assert_eq!(outcome("memory-limit", &tree).1, "no limit below the 16 GiB installed");
    let tree = tree.file(&format!("{LEAF}/memory.max"), "34359738368");
    assert_eq!(outcome("memory-limit", &tree).0, "ok", "a limit above what is installed");
    let tree = split().file("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_eq!(outcome("memory-limit", &tree).0, "ok");
}

#[test]
fn the_tightest_memory_limit_sizes_the_server() {
    let tree = unified()
        .file(&format!("{LEAF}/memory.max"), "8589934592\n")
        .file("sys/fs/cgroup/system.slice/memory.max", "4294967296\n");
    let (verdict, found, command) = outcome("memory-limit", &tree);
    assert_eq!((verdict, found.as_str()), ("advise", "4 GiB of 16 GiB installed"));
    assert_eq!(command.as_deref(), Some("pinion --memory 3072MiB"));
    let tree = split().file("sys/fs/cgroup/memory/memory.limit_in_bytes", "4294967296\n");
    assert_eq!(outcome("memory-limit", &tree).1, "4 GiB of 16 GiB installed");
}

#[test]
fn a_brake_below_the_limit_is_named() {
    let tree = unified()
        .file(&format!("{LEAF}/memory.max"), "8589934592\n")
        .file(&format!("{LEAF}/memory.high"), "6442450944\n");
    let (verdict, found, command) = outcome("memory-limit", &tree);
    assert_eq!((verdict, found.as_str()), ("advise", "slowed down above 6 GiB"));
    let expected = "echo max | sudo tee /sys/fs/cgroup/system.slice/pinion.service/memory.high";
    assert_eq!(command.as_deref(), Some(expected));
    let tree = tree.file(&format!("{LEAF}/memory.high"), "max\n");
    assert_eq!(outcome("memory-limit", &tree).1, "8 GiB of 16 GiB installed");
}

#[test]
fn memory_that_is_not_understood_is_unknown() {
    let tree = unified().file(&format!("{LEAF}/memory.max"), "lots\n");
    assert_eq!(outcome("memory-limit", &tree).0, "unknown");
    for text in ["", "MemTotal: x kB\n", "MemTotal: 18446744073709551615 kB\n"] {
        let tree = unified().file("proc/meminfo", text);
        assert_eq!(outcome("memory-limit", &tree).0, "unknown", "{text:?}");
    }
}
