//! The CPUs of the host: which are online, which share a physical core, which belong to a node.
//!
//! Invariants: every online CPU is in exactly one physical core; CPUs and cores are ascending, by
//! their lowest CPU. Cost: one read per CPU and per node.

use crate::cpulist;
use crate::host::{Host, Unreadable};

/// The CPUs that the kernel schedules on.
pub(crate) const ONLINE: &str = "/sys/devices/system/cpu/online";
const NODES: &str = "/sys/devices/system/node";

/// The CPUs of a host.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Topology {
    /// All online CPUs.
    pub(crate) online: Vec<u32>,
    /// The online CPUs of each physical core.
    pub(crate) cores: Vec<Vec<u32>>,
    /// The online CPUs of each NUMA node that has any; one node if the kernel knows none.
    pub(crate) nodes: Vec<Vec<u32>>,
}

impl Topology {
    /// Reads the topology of `host`.
    pub(crate) fn read(host: &Host) -> Result<Self, Unreadable> {
        let online = online(host)?;
        let mut cores: Vec<Vec<u32>> = Vec::new();
        for &cpu in &online {
            if cores.iter().any(|core| core.contains(&cpu)) {
                continue;
            }
            let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            let mut core = cpus(host, &path)?;
            core.retain(|sibling| online.binary_search(sibling).is_ok());
            let taken = |sibling: &u32| cores.iter().any(|other| other.contains(sibling));
            if !core.contains(&cpu) || core.iter().any(taken) {
                return Err(Unreadable::new(path, "contradicts the lists of other CPUs"));
            }
            cores.push(core);
        }
        let nodes = nodes(host, &online)?;
        Ok(Self { online, cores, nodes })
    }

    /// The CPUs to keep for shards alone: all physical cores but the first of every node, which
    /// stays for interrupts and other work. Empty if there is nothing to divide.
    pub(crate) fn exclusive(&self) -> Vec<u32> {
        let mut exclusive = Vec::new();
        for node in &self.nodes {
            let cores = self.cores.iter().filter(|core| node.contains(&core[0]));
            exclusive.extend(cores.skip(1).flatten().copied());
        }
        exclusive.sort_unstable();
        exclusive
    }

    /// The lowest CPU of each physical core.
    pub(crate) fn first_siblings(&self) -> Vec<u32> {
        self.cores.iter().map(|core| core[0]).collect()
    }
}

/// The online CPUs of `host`; at least one.
pub(crate) fn online(host: &Host) -> Result<Vec<u32>, Unreadable> {
    let online = cpus(host, ONLINE)?;
    if online.is_empty() { Err(Unreadable::content(ONLINE, "")) } else { Ok(online) }
}

/// The CPU list in the file at `path`.
pub(crate) fn cpus(host: &Host, path: &str) -> Result<Vec<u32>, Unreadable> {
    let text = host.read(path)?;
    cpulist::parse(&text).ok_or_else(|| Unreadable::content(path, &text))
}

/// The CPUs of each node that has online ones. A kernel without NUMA has no such directory.
fn nodes(host: &Host, online: &[u32]) -> Result<Vec<Vec<u32>>, Unreadable> {
    let mut nodes = Vec::new();
    for name in host.list(NODES).unwrap_or_default() {
        let Some(number) = name.strip_prefix("node") else { continue };
        if number.parse::<u32>().is_err() {
            continue;
        }
        let mut node = cpus(host, &format!("{NODES}/{name}/cpulist"))?;
        node.retain(|cpu| online.binary_search(cpu).is_ok());
        if !node.is_empty() {
            nodes.push(node);
        }
    }
    if nodes.is_empty() {
        nodes.push(online.to_vec());
    }
    Ok(nodes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::fixture::Tree;

    /// Adds the files of a topology: the siblings of each core, and the CPUs of each node.
    pub(crate) fn with_topology(tree: Tree, cores: &[&str], nodes: &[&str]) -> Tree {
        let mut online = Vec::new();
        let mut tree = tree;
        for core in cores {
            for cpu in cpulist::parse(core).expect("tests use valid lists") {
                online.push(cpu);
                let path = format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
                tree = tree.file(&path, core);
            }
        }
        online.sort_unstable();
        for (number, node) in nodes.iter().enumerate() {
            tree = tree.file(&format!("sys/devices/system/node/node{number}/cpulist"), node);
        }
        let numbers: Vec<u32> = (0..nodes.len() as u32).collect();
        tree.file("sys/devices/system/cpu/online", &cpulist::format(&online))
            .file("sys/devices/system/node/online", &cpulist::format(&numbers))
    }

    fn read(cores: &[&str], nodes: &[&str]) -> Topology {
        let tree = with_topology(Tree::new(), cores, nodes);
        Topology::read(&tree.host()).expect("the tree is complete")
    }

    #[test]
    fn siblings_and_nodes_are_grouped() {
        let topology = read(&["0,4", "1,5", "2,6", "3,7"], &["0-1,4-5", "2-3,6-7"]);
        assert_eq!(topology.cores, [[0, 4], [1, 5], [2, 6], [3, 7]]);
        assert_eq!(topology.nodes.len(), 2);
        assert_eq!(topology.first_siblings(), [0, 1, 2, 3]);
        // Core 0 and core 2 are the first of their nodes.
        assert_eq!(topology.exclusive(), [1, 3, 5, 7]);
    }

    #[test]
    fn a_kernel_without_numa_is_one_node() {
        let topology = read(&["0", "1"], &[]);
        assert_eq!(topology.nodes, [[0, 1]]);
        assert_eq!(topology.exclusive(), [1]);
        assert_eq!(read(&["0-1"], &["0-1"]).exclusive(), [0_u32; 0]);
    }

    #[test]
    fn offline_siblings_do_not_count() {
        let tree = with_topology(Tree::new(), &["0,2", "1,3"], &["0-3"])
            .file("sys/devices/system/cpu/online", "0-1");
        let topology = Topology::read(&tree.host()).expect("the tree is complete");
        assert_eq!(topology.cores, [[0], [1]]);
        assert_eq!(topology.nodes, [[0, 1]]);
    }

    #[test]
    fn contradictions_are_unreadable_not_wrong() {
        let base = || with_topology(Tree::new(), &["0", "1"], &["0-1"]);
        let siblings = "sys/devices/system/cpu/cpu1/topology/thread_siblings_list";
        for (path, content) in [
            (siblings, "0"),
            (siblings, "0-1"),
            (siblings, "x"),
            ("sys/devices/system/cpu/online", ""),
            ("sys/devices/system/node/node0/cpulist", "x"),
        ] {
            let tree = base().file(path, content);
            let error = Topology::read(&tree.host()).expect_err(content);
            assert_eq!(error.path, format!("/{path}"));
        }
    }
}
