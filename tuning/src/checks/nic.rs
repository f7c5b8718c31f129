//! Checks of the network interfaces that have a device behind them.
//!
//! Bridges, tunnels, the loopback and a container's virtual interfaces have none: the queues that
//! matter are then those of the host.

use crate::check::{Check, Finding, Group, Remedy};
use crate::host::{Host, Unreadable};
use crate::topology::{self, Topology};

const INTERFACES: &str = "/sys/class/net";

pub(super) const CHECKS: &[Check] = &[Check {
    name: "nic-queues",
    group: Group::Nic,
    wanted: "as many receive queues as physical cores",
    why: "Packets of one queue are received on one CPU; with fewer queues than cores the others \
          get their packets second hand, with a wake-up in between.",
    sources: &[
        "/sys/class/net/*/device",
        "/sys/class/net/*/operstate",
        "/sys/class/net/*/queues",
        topology::ONLINE,
        "/sys/devices/system/cpu/cpu*/topology/thread_siblings_list",
    ],
    inspect: nic_queues,
}];

fn nic_queues(host: &Host) -> Result<Finding, Unreadable> {
    let mut found = Vec::new();
    let mut short = Vec::new();
    let cores = Topology::read(host)?.cores.len();
    for name in host.list(INTERFACES)? {
        let directory = format!("{INTERFACES}/{name}");
        if host.is_absent(&format!("{directory}/device"))
            || host.read(&format!("{directory}/operstate")).as_deref() == Ok("down")
        {
            continue;
        }
        let queues = host.list(&format!("{directory}/queues"))?;
        let receive = queues.iter().filter(|queue| queue.starts_with("rx-")).count();
        let transmit = queues.iter().filter(|queue| queue.starts_with("tx-")).count();
        found.push(format!("{name} {receive} receive and {transmit} transmit"));
        if receive < cores {
            short.push(name);
        }
    }
    if found.is_empty() {
        return Err(Unreadable::new(INTERFACES, "has no interface that is up with a device"));
    }
    let found = format!("{} for {cores} cores", found.join(", "));
    let commands: Vec<String> = short
        .iter()
        .map(|name| format!("ethtool -l {name} && sudo ethtool -L {name} combined {cores}"))
        .collect();
    if commands.is_empty() {
        return Ok(Finding::ok(found));
    }
    let remedy = Remedy::with(
        "Use as many queues as the device has, up to the number of cores; changing it interrupts \
         the link for a moment",
        commands.join("; "),
    );
    Ok(Finding::advise(found, remedy))
}

#[cfg(test)]
mod tests {
    use crate::checks::tests::outcome;
    use crate::fixture::Tree;
    use crate::topology::tests::with_topology;

    /// Adds an interface with a device and this many queues.
    fn interface(tree: Tree, name: &str, state: &str, receive: u32, transmit: u32) -> Tree {
        let directory = format!("sys/class/net/{name}");
        let mut tree = tree
            .file(&format!("{directory}/device/vendor"), "0x1af4\n")
            .file(&format!("{directory}/operstate"), state);
        for (kind, count) in [("rx", receive), ("tx", transmit)] {
            for queue in 0..count {
                let path = format!("{directory}/queues/{kind}-{queue}/traffic_class");
                tree = tree.file(&path, "");
            }
        }
        tree
    }

    /// Two physical cores with two threads each, and a loopback without a device.
    fn machine() -> Tree {
        with_topology(Tree::new(), &["0,2", "1,3"], &["0-3"])
            .file("sys/class/net/lo/operstate", "unknown\n")
            .file("sys/class/net/lo/queues/rx-0/rps_cpus", "0\n")
    }

    #[test]
    fn a_queue_per_physical_core_is_enough() {
        let tree = interface(machine(), "eth0", "up\n", 2, 4);
        let expected = "eth0 2 receive and 4 transmit for 2 cores";
        assert_eq!(outcome("nic-queues", &tree), ("ok", expected.to_owned(), None));
    }

    #[test]
    fn every_interface_that_is_up_counts() {
        let tree = interface(machine(), "eth0", "up\n", 8, 8);
        let tree = interface(tree, "eth1", "up\n", 1, 1);
        let tree = interface(tree, "eth2", "down\n", 1, 1);
        let (verdict, found, command) = outcome("nic-queues", &tree);
        assert_eq!(verdict, "advise");
        assert!(!found.contains("eth2"), "{found}");
        let expected = "ethtool -l eth1 && sudo ethtool -L eth1 combined 2";
        assert_eq!(command.as_deref(), Some(expected));
    }

    #[test]
    fn without_a_device_nothing_is_known() {
        let (verdict, found, _) = outcome("nic-queues", &machine());
        assert_eq!(verdict, "unknown");
        assert_eq!(found, "/sys/class/net: has no interface that is up with a device");
    }
}
