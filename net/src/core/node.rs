//! Which way a command takes on a core port, where the core is a node of a cluster.
//!
//! A node speaks for itself: what has no keys (SCAN, KEYS, DBSIZE, FLUSHALL, CLIENT LIST, SLOWLOG)
//! is about this core, since cluster clients ask every node and merge. So is what has keys, which
//! are this core's or answered with an error (`command::cluster`). There are two exceptions:
//!
//! - CONFIG SET is for all cores: they are one process, with one memory and one password, and
//!   whoever sets them at one node does not expect that others stay as they were.
//! - Without redirects (`--redirect off`), keys of another core are served by that core. Those of
//!   several slots are refused as ever.
//!
//! Cost: a pass over the keys.

use pinion_router::core_of_slot;

use super::join::Join;
use super::route::{Way, all_cores};
use crate::cluster::ClusterView;
use crate::command::{self, Arguments, Spec};

/// Which way a command takes that has come to this core's port, and that the client may send.
pub(super) fn way_of(view: &ClusterView, spec: &'static Spec, args: &Arguments<'_>) -> Way {
    let mut keys = spec;
    if !spec.subcommands.is_empty() {
        let Some(subcommand) = (args.len() > 1).then(|| spec.subcommand(args.at(1))).flatten()
        else {
            return Way::Here;
        };
        if !subcommand.accepts(args.len()) {
            return Way::Here;
        }
        keys = subcommand;
    }
    if (spec.name, keys.name) == ("config", "set") {
        return all_cores(args.frame(), usize::from(view.cores.count()), Join::First);
    }
    if view.redirects || keys.keys.is_empty() {
        return Way::Here;
    }
    match view.place(command::key_slots(keys, *args)) {
        Ok(Some(slot)) => Way::Cross(core_of_slot(slot, view.cores).index()),
        _ => Way::Here,
    }
}
