//! A node as a cluster of its cores: what the core ports tell cluster clients.
//!
//! Core i listens on a port of its own, `base_port + i`, and is announced as a node of a Redis
//! cluster that owns the core's slots. So any cluster client sends each key straight to the core
//! that has it. Everything here is a pure function of a [`ClusterView`] and of the host that the
//! client is to be told:
//!
//! - here: the view, and what identifies a node
//! - `report`: the replies of CLUSTER SLOTS, SHARDS, NODES and INFO
//! - `redirect`: whether a core serves a command's keys, and what it answers if not
//! - `announce`: the host that clients are told
//!
//! Invariants:
//!
//! - C1. The host is the same text in SLOTS, SHARDS, NODES and MOVED: a client that finds two
//!   would keep two pools of connections to one core.
//! - C2. The host is never empty and never an unspecified address: clients skip such nodes, or take
//!   them for their own host.
//! - C3. Every core has a port: `base_port + cores - 1` is a port number, and so is `base_port`.
//! - C4. A node's name stays the same over restarts, whatever address its clients come by, and is
//!   not the name of another core or, if hosts have names of their own, of another host's.
//!
//! Cost: a view holds 40 bytes for each core, shared by the views of all cores. A report is as
//! long as the number of cores, some 130 bytes for each.

mod announce;
mod redirect;
mod report;

use std::fmt;
use std::sync::Arc;

use pinion_router::{CoreCount, CoreIndex};
use sha1_smol::Sha1;

pub use announce::{host, parse_announce};
pub use redirect::{Redirect, redirect};

/// What identifies a node of the cluster: 40 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeId([u8; 40]);

impl NodeId {
    /// The digits that stand for a text.
    fn of(text: &str) -> NodeId {
        let digits = Sha1::from(text).digest().to_string();
        let mut id = [b'0'; 40];
        id.iter_mut().zip(digits.bytes()).for_each(|(to, from)| *to = from);
        NodeId(id)
    }

    /// The digits.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(std::str::from_utf8(&self.0).unwrap_or_default())
    }
}

/// The cluster as one of its cores sees it.
#[derive(Clone, Debug)]
pub struct ClusterView {
    /// How many cores there are.
    pub cores: CoreCount,
    /// The core that looks.
    pub core: CoreIndex,
    /// The port of the first core.
    pub base_port: u16,
    /// The host that clients are told; `None`: the address by which they came.
    pub announce: Option<String>,
    /// Whether keys of other cores are answered with MOVED; otherwise they are served from here.
    pub redirects: bool,
    /// The names of the cores, in order.
    node_ids: Arc<[NodeId]>,
}

impl ClusterView {
    /// The view of the first core. `machine` is a name by which the host is known where no host is
    /// announced, such as its host name.
    ///
    /// # Errors
    /// Says in words why there are no such ports.
    pub fn new(
        cores: CoreCount,
        base_port: u16,
        announce: Option<String>,
        machine: &str,
    ) -> Result<ClusterView, String> {
        let last = u32::from(base_port) + u32::from(cores.count()) - 1;
        if base_port == 0 || last > u32::from(u16::MAX) {
            return Err(format!(
                "ports {base_port} to {last} for {cores} cores: the first is at least 1, and the \
                 last at most 65535"
            ));
        }
        let place = announce.as_deref().unwrap_or(machine);
        let id = |core: CoreIndex| NodeId::of(&format!("node {place} {base_port} {core}"));
        let node_ids = cores.indices().map(id).collect();
        let core = CoreIndex::new(0);
        Ok(ClusterView { cores, core, base_port, announce, redirects: true, node_ids })
    }

    /// The same cluster as another core sees it.
    #[must_use]
    pub fn of(&self, core: CoreIndex) -> ClusterView {
        debug_assert!(core.index() < usize::from(self.cores.count()));
        ClusterView { core, ..self.clone() }
    }

    /// The port of a core. A core that there is not has port 0.
    #[must_use]
    pub fn port_of(&self, core: CoreIndex) -> u16 {
        let port = u16::try_from(core.index()).ok();
        port.and_then(|index| self.base_port.checked_add(index)).unwrap_or_default()
    }

    /// The port of the core that looks.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port_of(self.core)
    }

    /// The name of a core that there is.
    #[must_use]
    pub fn node_id(&self, core: CoreIndex) -> NodeId {
        self.node_ids.get(core.index()).copied().unwrap_or(NodeId([b'0'; 40]))
    }

    /// The name of the core that looks.
    #[must_use]
    pub fn my_id(&self) -> NodeId {
        self.node_id(self.core)
    }

    /// The name of the group of replicas that the core is alone in.
    #[must_use]
    pub fn my_shard_id(&self) -> NodeId {
        NodeId::of(&format!("shard {}", self.my_id()))
    }

    /// Whether there is a node of this name.
    #[must_use]
    pub fn knows(&self, name: &[u8]) -> bool {
        self.node_ids.iter().any(|id| id.as_bytes() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(cores: usize, base_port: u16, announce: Option<&str>) -> Result<ClusterView, String> {
        let cores = CoreCount::new(cores).expect("a count");
        ClusterView::new(cores, base_port, announce.map(str::to_owned), "here")
    }

    #[test]
    fn every_core_has_a_port() {
        let last = view(64, 65_472, None).expect("the last ports that there are");
        assert_eq!(last.of(CoreIndex::new(63)).port(), 65_535);
        let error = view(64, 65_473, None).expect_err("one too many");
        assert!(error.contains("65473 to 65536"), "{error}");
        assert!(view(1, 0, None).is_err());
        assert_eq!(view(2, 7000, None).expect("ports").port_of(CoreIndex::new(1)), 7001);
    }

    #[test]
    fn names_are_stable_and_distinct() {
        let view_of = |port, announce| view(64, port, announce).expect("ports");
        let first = view_of(7000, None);
        let mut ids: Vec<NodeId> = first.cores.indices().map(|core| first.node_id(core)).collect();
        assert_eq!(first.my_id(), view_of(7000, None).my_id(), "the same after a restart");
        for other in [view_of(8000, None), view_of(7000, Some("there"))] {
            ids.extend(other.cores.indices().map(|core| other.node_id(core)));
        }
        ids.push(first.my_shard_id());
        assert!(ids.iter().all(|id| id.as_bytes().iter().all(u8::is_ascii_hexdigit)));
        let count = ids.len();
        ids.sort_unstable_by_key(NodeId::to_string);
        ids.dedup();
        assert_eq!((ids.len(), count), (193, 193));
        let core = first.of(CoreIndex::new(5));
        assert!(first.knows(core.my_id().as_bytes()) && !first.knows(b"5"));
        assert_eq!(core.my_id(), first.node_id(CoreIndex::new(5)));
        // A core keeps its name when the count changes: it is the same port of the same host.
        assert_eq!(view(2, 7000, None).expect("ports").my_id(), first.my_id());
    }
}
