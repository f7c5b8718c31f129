//! CLUSTER and its relatives: what the core that is asked tells of itself as a node of a cluster.
//!
//! They mean something on a core port alone. On a port that all cores share they answer what Redis
//! answers where it is not part of a cluster: clients find out by that what they talk to.
//!
//! - here: the list of the family, and its short commands
//! - `gate`: which commands a core port does not serve
//! - `walk`: the keys of a slot
//!
//! The nodes are the cores of one machine, so there is nothing to add, forget, move or fail over:
//! the subcommands that do this in Redis do not exist here. READONLY, READWRITE and ASKING change
//! nothing: there are no replicas, and no slot is ever between two nodes.

mod gate;
#[cfg(test)]
mod tests;
mod walk;

use std::sync::Arc;

use pinion_router::{Slot, slot};

use super::container;
use super::context::{Arguments, Context, Flow};
use super::spec::Spec;
use crate::cluster::ClusterView;
use crate::protocol::number;
use crate::protocol::resp::Writer;

pub(super) use gate::is_refused;

/// What CLUSTER contains.
const SUBCOMMANDS: &[Spec] = &[
    Spec::new("countkeysinslot", 3, countkeysinslot)
        .flags("stale")
        .categories("@slow")
        .since("3.0.0")
        .cost("O(N) in the number of keys of the core, in slices")
        .summary("Counts the keys of a slot."),
    Spec::new("getkeysinslot", 4, getkeysinslot)
        .flags("stale")
        .categories("@slow")
        .tips("nondeterministic_output")
        .since("3.0.0")
        .cost("O(N) in the number of keys of the core, in slices")
        .summary("Lists keys of a slot."),
    Spec::new("help", 2, help)
        .flags("loading stale")
        .categories("@slow")
        .since("5.0.0")
        .summary("Describes the subcommands."),
    Spec::new("info", 2, info)
        .flags("stale")
        .categories("@slow")
        .tips("nondeterministic_output")
        .since("3.0.0")
        .summary("Tells the state of the cluster."),
    Spec::new("keyslot", 3, keyslot)
        .flags("stale")
        .categories("@slow")
        .since("3.0.0")
        .cost("O(N) in the bytes of the key")
        .summary("Tells the slot of a key."),
    Spec::new("links", 2, links)
        .flags("stale")
        .categories("@slow")
        .tips("nondeterministic_output")
        .since("7.0.0")
        .summary("Lists connections between nodes: there are none."),
    Spec::new("myid", 2, myid)
        .flags("stale")
        .categories("@slow")
        .since("3.0.0")
        .summary("Tells the name of the node."),
    Spec::new("myshardid", 2, myshardid)
        .flags("stale")
        .categories("@slow")
        .tips("nondeterministic_output")
        .since("7.2.0")
        .summary("Tells the name of the group of replicas that the node belongs to."),
    Spec::new("nodes", 2, nodes)
        .flags("stale")
        .categories("@slow")
        .tips("nondeterministic_output")
        .since("3.0.0")
        .cost("O(N) in the number of cores")
        .summary("Describes the nodes, one a line."),
    Spec::new("replicas", 3, replicas)
        .flags("admin stale")
        .categories("@admin @slow @dangerous")
        .tips("nondeterministic_output")
        .since("5.0.0")
        .summary("Lists the replicas of a node: there are none."),
    Spec::new("shards", 2, shards)
        .flags("loading stale")
        .categories("@slow")
        .tips("nondeterministic_output")
        .since("7.0.0")
        .cost("O(N) in the number of cores")
        .summary("Tells which slots each node has."),
    Spec::new("slaves", 3, replicas)
        .flags("admin stale")
        .categories("@admin @slow @dangerous")
        .tips("nondeterministic_output")
        .since("3.0.0")
        .summary("Lists the replicas of a node: there are none."),
    Spec::new("slots", 2, slots)
        .flags("loading stale")
        .categories("@slow")
        .tips("nondeterministic_output")
        .since("3.0.0")
        .cost("O(N) in the number of cores")
        .summary("Tells which node has each range of slots."),
];

/// The family.
pub(super) const COMMANDS: &[Spec] = &[
    Spec::new("asking", 1, acknowledge)
        .flags("fast")
        .categories("@fast @connection")
        .since("3.0.0")
        .summary("Announces a command for a slot that is being moved: none ever is."),
    Spec::new("cluster", -2, container)
        .categories("@slow")
        .since("3.0.0")
        .summary("Holds the commands on the cluster.")
        .subcommands(SUBCOMMANDS),
    Spec::new("readonly", 1, acknowledge)
        .flags("loading stale fast")
        .categories("@fast @connection")
        .since("3.0.0")
        .summary("Allows reads from a replica: there are none."),
    Spec::new("readwrite", 1, acknowledge)
        .flags("loading stale fast")
        .categories("@fast @connection")
        .since("3.0.0")
        .summary("Ends what READONLY allows."),
];

/// The cluster, if the client talks to a node of one; otherwise it is told that there is none.
fn view(context: &mut Context<'_>) -> Option<Arc<ClusterView>> {
    let view = if context.session.core_port { context.settings.cluster.clone() } else { None };
    if view.is_none() {
        context.error("ERR This instance has cluster support disabled");
    }
    view
}

/// The same, with what writes the reply and the host that the client is told.
fn report(context: &mut Context<'_>, write: impl FnOnce(&ClusterView, &str, &mut Writer<'_>)) {
    if let Some(view) = view(context) {
        let mut reply = Writer::new(context.out, context.session.version());
        write(&view, &context.session.host, &mut reply);
    }
}

fn acknowledge(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    report(context, |_, _, reply| reply.ok());
    Flow::Continue
}

fn slots(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    report(context, |view, host, reply| view.write_slots(host, reply));
    Flow::Continue
}

fn shards(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    report(context, |view, host, reply| view.write_shards(host, reply));
    Flow::Continue
}

fn nodes(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    report(context, |view, host, reply| reply.verbatim(*b"txt", view.nodes(host).as_bytes()));
    Flow::Continue
}

fn info(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    report(context, |view, _, reply| reply.verbatim(*b"txt", view.info().as_bytes()));
    Flow::Continue
}

fn myid(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    report(context, |view, _, reply| reply.bulk(view.my_id().as_bytes()));
    Flow::Continue
}

fn myshardid(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    report(context, |view, _, reply| reply.bulk(view.my_shard_id().as_bytes()));
    Flow::Continue
}

fn links(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    report(context, |_, _, reply| reply.array(0));
    Flow::Continue
}

fn keyslot(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let number = slot(args.at(2)).number();
    report(context, |_, _, reply| reply.integer(i64::from(number)));
    Flow::Continue
}

fn replicas(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let Some(view) = view(context) else { return Flow::Continue };
    if view.knows(args.at(2)) {
        context.reply().array(0);
    } else {
        context.error_about("ERR Unknown node ", args.at(2), "");
    }
    Flow::Continue
}

/// Reads an argument as an integer, or answers that it is none.
fn integer(context: &mut Context<'_>, text: &[u8]) -> Option<i64> {
    let integer = number::parse_i64_strict(text);
    if integer.is_none() {
        context.not_an_integer();
    }
    integer
}

fn slot_of(number: i64) -> Option<Slot> {
    u16::try_from(number).ok().and_then(Slot::new)
}

/// CLUSTER COUNTKEYSINSLOT slot
fn countkeysinslot(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if view(context).is_none() {
        return Flow::Continue;
    }
    let Some(number) = integer(context, args.at(2)) else { return Flow::Continue };
    match slot_of(number) {
        Some(slot) => walk::count(context, slot),
        None => {
            context.error("ERR Invalid slot");
            Flow::Continue
        }
    }
}

/// CLUSTER GETKEYSINSLOT slot count
fn getkeysinslot(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if view(context).is_none() {
        return Flow::Continue;
    }
    let Some(number) = integer(context, args.at(2)) else { return Flow::Continue };
    let Some(keys_max) = integer(context, args.at(3)) else { return Flow::Continue };
    match (slot_of(number), usize::try_from(keys_max)) {
        (Some(slot), Ok(keys_max)) => walk::list(context, slot, keys_max),
        _ => {
            context.error("ERR Invalid slot or number of keys");
            Flow::Continue
        }
    }
}

fn help(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    if view(context).is_none() {
        return Flow::Continue;
    }
    context.help(
        "CLUSTER",
        &[
            "COUNTKEYSINSLOT <slot>",
            "    The number of keys of this core in a slot.",
            "GETKEYSINSLOT <slot> <count>",
            "    Keys of this core in a slot.",
            "INFO",
            "    The state of the cluster.",
            "KEYSLOT <key>",
            "    The slot of a key.",
            "LINKS",
            "    Nothing: there are no connections between nodes.",
            "MYID",
            "    The name of this node.",
            "MYSHARDID",
            "    The name of the group of replicas that this node is alone in.",
            "NODES",
            "    The nodes, one a line: name, address, flags, epoch and slots.",
            "REPLICAS <node-id>",
            "    Nothing: no node has replicas.",
            "SHARDS",
            "    The slots of each node, as maps.",
            "SLOTS",
            "    The node of each range of slots.",
        ],
    );
    Flow::Continue
}
