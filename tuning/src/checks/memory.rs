//! Checks of memory: huge pages, swap and NUMA.

use super::{selected, set_sysctl, sysctl};
use crate::check::{Check, Finding, Group, Remedy};
use crate::cpulist;
use crate::host::{Host, Unreadable};
use crate::topology;

const THP: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
const THP_DEFRAG: &str = "/sys/kernel/mm/transparent_hugepage/defrag";
const SWAPPINESS: &str = "/proc/sys/vm/swappiness";
const SWAPS: &str = "/proc/swaps";
const NODES: &str = "/sys/devices/system/node/online";
const BALANCING: &str = "/proc/sys/kernel/numa_balancing";
const RECLAIM: &str = "/proc/sys/vm/zone_reclaim_mode";

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "thp-enabled",
        group: Group::Memory,
        wanted: "madvise",
        why: "The server asks for huge pages where they help; `always` also gives them to small \
              buffers, which wastes memory, and `never` costs address translation on every item.",
        sources: &[THP],
        inspect: thp,
    },
    Check {
        name: "thp-defrag",
        group: Group::Memory,
        wanted: "defer+madvise, madvise, defer or never",
        why: "With `always` a page fault anywhere in the process may stop to compact memory, for \
              milliseconds.",
        sources: &[THP_DEFRAG, THP],
        inspect: thp_defrag,
    },
    Check {
        name: "swappiness",
        group: Group::Memory,
        wanted: "0 or 1, or no swap at all",
        why: "An item that was swapped out costs a disk read inside a request.",
        sources: &[SWAPPINESS, SWAPS],
        inspect: swappiness,
    },
    Check {
        name: "numa-nodes",
        group: Group::Memory,
        wanted: "one node, or one server per node",
        why: "Memory of another node takes longer to reach, and so does its network card.",
        sources: &[NODES],
        inspect: numa_nodes,
    },
    Check {
        name: "numa-balancing",
        group: Group::Memory,
        wanted: "0",
        why: "It unmaps pages to see who uses them, and each of them costs the next access a page \
              fault; pinned shards gain nothing.",
        sources: &[BALANCING, NODES],
        inspect: numa_balancing,
    },
    Check {
        name: "zone-reclaim",
        group: Group::Memory,
        wanted: "0",
        why: "Otherwise an allocation on a full node stops to reclaim there, although another \
              node has room.",
        sources: &[RECLAIM],
        inspect: zone_reclaim,
    },
];

fn thp(host: &Host) -> Result<Finding, Unreadable> {
    let mode = selected(host, THP)?;
    match mode.as_str() {
        "madvise" => Ok(Finding::ok(mode)),
        "always" | "never" => {
            let remedy = Remedy::with(
                "Let programs ask for huge pages",
                format!("echo madvise | sudo tee {THP}"),
            );
            Ok(Finding::advise(mode, remedy))
        }
        other => Err(Unreadable::content(THP, other)),
    }
}

fn thp_defrag(host: &Host) -> Result<Finding, Unreadable> {
    let mode = selected(host, THP_DEFRAG)?;
    match mode.as_str() {
        "defer+madvise" | "madvise" | "defer" | "never" => Ok(Finding::ok(mode)),
        "always" => {
            let remedy = Remedy::with(
                "Let only memory that asked for huge pages wait for them",
                format!("echo defer+madvise | sudo tee {THP_DEFRAG}"),
            );
            // Unless huge pages are given to all memory, only memory that asks is affected.
            match selected(host, THP)?.as_str() {
                "always" => Ok(Finding::problem("always, and huge pages are too", remedy)),
                "never" => Ok(Finding::ok("always, but huge pages are off")),
                _ => Ok(Finding::advise(mode, remedy)),
            }
        }
        other => Err(Unreadable::content(THP_DEFRAG, other)),
    }
}

fn swappiness(host: &Host) -> Result<Finding, Unreadable> {
    // The first line is a heading. Where the list cannot be read, swap must be assumed.
    let swaps = host.read(SWAPS).map(|swaps| swaps.lines().skip(1).count());
    if swaps == Ok(0) {
        let value: u32 = host.read_as(SWAPPINESS)?;
        return Ok(Finding::ok(format!("{value}, and no swap is in use")));
    }
    sysctl(host, SWAPPINESS, |value| value <= 1, 1, "Keep the cache out of swap")
}

fn numa_nodes(host: &Host) -> Result<Finding, Unreadable> {
    let nodes = topology::cpus(host, NODES)?;
    match nodes.as_slice() {
        [] => Err(Unreadable::content(NODES, "")),
        [_] => Ok(Finding::ok("1 node")),
        [first, ..] => {
            let found = format!("{} nodes: {}", nodes.len(), cpulist::format(&nodes));
            let remedy = Remedy::with(
                "Run one server per node, with memory and CPUs of that node, the network card's \
                 node first",
                format!("numactl --cpunodebind={first} --membind={first} pinion"),
            );
            Ok(Finding::advise(found, remedy))
        }
    }
}

fn numa_balancing(host: &Host) -> Result<Finding, Unreadable> {
    let value: i64 = host.read_as(BALANCING)?;
    if value != 0 && topology::cpus(host, NODES).is_ok_and(|nodes| nodes.len() == 1) {
        return Ok(Finding::ok(format!("{value}, without effect on one node")));
    }
    sysctl(host, BALANCING, |value| value == 0, 0, "Switch automatic balancing off")
}

fn zone_reclaim(host: &Host) -> Result<Finding, Unreadable> {
    let value: u32 = host.read_as(RECLAIM)?;
    if value == 0 {
        return Ok(Finding::ok("0"));
    }
    let remedy = Remedy::with("Let allocations use other nodes", set_sysctl(RECLAIM, 0));
    Ok(Finding::problem(value.to_string(), remedy))
}

#[cfg(test)]
mod tests {
    use crate::checks::tests::outcome;
    use crate::fixture::Tree;

    const THP: &str = "sys/kernel/mm/transparent_hugepage";
    const HEADING: &str = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";

    fn with_thp(enabled: &str, defrag: &str) -> Tree {
        Tree::new().file(&format!("{THP}/enabled"), enabled).file(&format!("{THP}/defrag"), defrag)
    }

    #[test]
    fn huge_pages_are_wanted_where_asked_for() {
        for (enabled, verdict) in [
            ("always [madvise] never\n", "ok"),
            ("[always] madvise never\n", "advise"),
            ("always madvise [never]\n", "advise"),
            ("always [inherit]\n", "unknown"),
            ("always\n", "unknown"),
        ] {
            assert_eq!(outcome("thp-enabled", &with_thp(enabled, "")).0, verdict, "{enabled}");
        }
    }

    #[test]
    fn compaction_in_every_fault_is_a_problem_only_with_huge_pages_everywhere() {
        let always = "[always] defer defer+madvise madvise never\n";
        for (enabled, defrag, verdict) in [
            ("[always] madvise never", always, "problem"),
            ("always [madvise] never", always, "advise"),
            ("always madvise [never]", always, "ok"),
            ("[always] madvise never", "always defer defer+madvise [madvise] never\n", "ok"),
            ("[always] madvise never", "always defer [defer+madvise] madvise never\n", "ok"),
            ("[always] madvise never", "always [sometimes]\n", "unknown"),
            ("?", always, "unknown"),
        ] {
            let (word, ..) = outcome("thp-defrag", &with_thp(enabled, defrag));
            assert_eq!(word, verdict, "{enabled} {defrag}");
        }
    }

    #[test]
    fn swappiness_matters_only_with_swap() {
        let with = |swappiness: &str, swaps: &str| {
            let tree =
                Tree::new().file("proc/sys/vm/swappiness", swappiness).file("proc/swaps", swaps);
            outcome("swappiness", &tree)
        };
        let disk = format!("{HEADING}/dev/sda2 partition 1000 0 -2\n");
        assert_eq!(with("60\n", HEADING).1, "60, and no swap is in use");
        let (verdict, _, command) = with("60\n", &disk);
        assert_eq!(verdict, "advise");
        assert_eq!(command.as_deref(), Some("sudo sysctl -w vm.swappiness=1"));
        assert_eq!(with("1\n", &disk).0, "ok");
        let unlisted = Tree::new().file("proc/sys/vm/swappiness", "60\n");
        assert_eq!(outcome("swappiness", &unlisted).0, "advise");
        assert_eq!(with("high", HEADING).0, "unknown");
    }

    #[test]
    fn nodes_are_counted() {
        let with = |nodes: &str, balancing: &str| {
            let tree = Tree::new()
                .file("sys/devices/system/node/online", nodes)
                .file("proc/sys/kernel/numa_balancing", balancing);
            (outcome("numa-nodes", &tree), outcome("numa-balancing", &tree).0)
        };
        assert_eq!(with("0\n", "1").0.0, "ok");
        assert_eq!(with("0\n", "1").1, "ok");
        let ((verdict, found, command), balancing) = with("0-1\n", "1");
        assert_eq!((verdict, balancing), ("advise", "advise"));
        assert_eq!(found, "2 nodes: 0-1");
        assert!(command.is_some_and(|command| command.starts_with("numactl --cpunodebind=0 ")));
        assert_eq!(with("0-1\n", "0").1, "ok");
        assert_eq!(with("\n", "1").0.0, "unknown");
    }

    #[test]
    fn reclaim_on_a_full_node_is_a_problem() {
        for (value, verdict) in [("0\n", "ok"), ("1\n", "problem"), ("-\n", "unknown")] {
            let tree = Tree::new().file("proc/sys/vm/zone_reclaim_mode", value);
            assert_eq!(outcome("zone-reclaim", &tree).0, verdict, "{value}");
        }
    }
}
