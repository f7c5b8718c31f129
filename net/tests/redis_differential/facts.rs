//! What COMMAND INFO says of each command, against what Redis says.

use std::collections::BTreeSet;

use crate::real::Pair;
use crate::wire::{Link, Node};

/// Facts that differ: the command (with its container), the field, and why.
const ACCEPTED: &[(&str, &str, &str)] = &[
    ("cores", "name", "it tells of this server's cores"),
    ("client|setinfo", "name", "Redis has it since 7.2"),
    ("client|no-touch", "name", "Redis has it since 7.2"),
    ("client|setname", "tips", "Redis has them since 7.2"),
    ("cluster|myshardid", "name", "Redis has it since 7.2"),
    ("cluster|shards", "flags", "Redis tells of loading since 7.2"),
    ("cluster|slots", "flags", "Redis tells of loading since 7.2"),
];

/// The fields of an entry, in their order.
const FIELDS: [&str; 10] = [
    "name",
    "arity",
    "flags",
    "first key",
    "last key",
    "step",
    "categories",
    "tips",
    "key specifications",
    "subcommands",
];

/// Those of these names that the server knows.
pub(crate) fn known(link: &mut Link, names: &[String]) -> Vec<String> {
    let reply = link.say(&format!("COMMAND INFO {}", names.join(" "))).expect("a reply");
    let entries = reply.many().expect("a list");
    assert_eq!(entries.len(), names.len());
    let found = names.iter().zip(entries).filter(|(_, entry)| entry.many().is_some());
    found.map(|(name, _)| name.clone()).collect()
}

/// Whether a fact of a command may differ.
fn is_accepted(name: &str, fact: &str) -> bool {
    ACCEPTED.iter().any(|&(command, what, _)| command == name && what == fact)
}

/// The words of a list, in order.
fn sorted(node: &Node) -> Node {
    match node {
        Node::Many(kind, nodes) => {
            let mut nodes = nodes.clone();
            nodes.sort();
            Node::Many(*kind, nodes)
        }
        other => other.clone(),
    }
}

/// Key specifications without their notes, which are prose, and with sorted flags.
fn specifications(node: &Node) -> Vec<Vec<(Node, Node)>> {
    let is_notes = |name: &Node| name.bulk() == Some(b"notes");
    let one = |node: &Node| -> Vec<(Node, Node)> {
        node.many()
            .unwrap_or_default()
            .chunks(2)
            .filter(|pair| !is_notes(&pair[0]))
            .map(|pair| (pair[0].clone(), sorted(&pair[1])))
            .collect()
    };
    node.many().unwrap_or_default().iter().map(one).collect()
}

fn name_of(entry: &[Node]) -> String {
    String::from_utf8_lossy(entry[0].bulk().unwrap_or_default()).into_owned()
}

/// What differs in an entry, and in those of its subcommands, is added to `found`.
fn compare(ours: &[Node], theirs: &[Node], found: &mut BTreeSet<String>) {
    let name = name_of(ours);
    assert_eq!((ours.len(), theirs.len()), (FIELDS.len(), FIELDS.len()), "{name}");
    for (index, field) in FIELDS.iter().enumerate() {
        let (here, there) = (&ours[index], &theirs[index]);
        let same = match *field {
            "flags" | "categories" | "tips" => sorted(here) == sorted(there),
            "key specifications" => specifications(here) == specifications(there),
            "subcommands" => {
                compare_subcommands(&name, here, there, found);
                true
            }
            _ => here == there,
        };
        let is_accepted =
            ACCEPTED.iter().any(|(command, what, _)| *command == name && what == field);
        if !same && !is_accepted {
            found.insert(format!("{name}, {field}: {} instead of {}", here.show(), there.show()));
        }
    }
}

fn compare_subcommands(name: &str, ours: &Node, theirs: &Node, found: &mut BTreeSet<String>) {
    let theirs = theirs.many().unwrap_or_default();
    for ours in ours.many().unwrap_or_default().iter().filter_map(Node::many) {
        let same_name = |entry: &&[Node]| entry[0] == ours[0];
        match theirs.iter().filter_map(Node::many).find(same_name) {
            Some(theirs) => compare(ours, theirs, found),
            None => {
                let subcommand = name_of(ours);
                if !is_accepted(&subcommand, "name") {
                    found.insert(format!("{name} has {subcommand}, and Redis's has not"));
                }
            }
        }
    }
}

#[test]
fn command_info_says_what_redis_says() {
    let Some(pair) = Pair::start(&[]) else { return };
    for protocol in [2, 3] {
        let links = pair.links().expect("both listen");
        let [ours, theirs] = links.map(|mut link| {
            link.say(&format!("HELLO {protocol}")).expect("a reply");
            link
        });
        let (mut ours, mut theirs) = (ours, theirs);
        let list = ours.say("COMMAND LIST").expect("a reply");
        let names: Vec<String> = list
            .many()
            .expect("a list")
            .iter()
            .map(|name| String::from_utf8_lossy(name.bulk().expect("a name")).into_owned())
            .collect();
        let line = format!("COMMAND INFO {}", names.join(" "));
        let [ours, theirs] = [&mut ours, &mut theirs].map(|link| link.say(&line).expect("a reply"));
        let mut found = BTreeSet::new();
        for (ours, theirs) in
            ours.many().expect("a list").iter().zip(theirs.many().expect("a list"))
        {
            let ours = ours.many().expect("it was in the list");
            match theirs.many() {
                Some(theirs) => compare(ours, theirs, &mut found),
                None if is_accepted(&name_of(ours), "name") => {}
                None => drop(found.insert(format!("Redis has no {}", name_of(ours)))),
            }
        }
        let found: Vec<String> = found.into_iter().collect();
        assert!(found.is_empty(), "protocol {protocol}:\n{}", found.join("\n"));
    }
}
