//! Which arguments of a command are keys, and which slots they belong to.
//!
//! Cost: a pass over the keys; no allocation.

use pinion_router::{Slot, slot};

use super::context::Arguments;
use super::spec::Spec;
use crate::protocol::number;

/// The indices of a command's keys. Those of a container are its subcommand's.
pub fn key_indices<'a>(
    spec: &'static Spec,
    args: Arguments<'a>,
) -> impl Iterator<Item = usize> + use<'a> {
    let subcommand = match args.len() {
        2.. if !spec.subcommands.is_empty() => spec.subcommand(args.at(1)),
        _ => None,
    };
    key_indices_from(subcommand.unwrap_or(spec), args, 0).map(|(index, _)| index)
}

/// The slots of a command's keys, in their order.
pub fn key_slots<'a>(
    spec: &'static Spec,
    args: Arguments<'a>,
) -> impl Iterator<Item = Slot> + use<'a> {
    key_indices(spec, args).map(move |index| slot(args.at(index)))
}

/// The indices of the keys of a command that stands in the arguments from index `from` on, and for
/// each the index of its specification.
pub(super) fn key_indices_from<'a>(
    spec: &'static Spec,
    args: Arguments<'a>,
    from: usize,
) -> impl Iterator<Item = (usize, usize)> + use<'a> {
    let count = args.len().saturating_sub(from);
    let number_at = move |index| {
        number::parse_i64_strict(args.at(from + index)).and_then(|keys| usize::try_from(keys).ok())
    };
    spec.keys.iter().enumerate().flat_map(move |(specification, keys)| {
        keys.indices_by(count, number_at).map(move |index| (from + index, specification))
    })
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;
    use crate::protocol::resp;

    /// The keys of a command in words.
    fn keys(text: &str) -> Vec<String> {
        let frame = format!("{text}\r\n").into_bytes();
        let mut args = resp::Args::new();
        let limits = resp::Limits::default();
        let parsed = resp::parse(&frame, &mut resp::Progress::default(), &mut args, &limits);
        assert!(matches!(parsed, resp::Parse::Complete { .. }), "{text}");
        let args = Arguments::new(&frame, &args);
        let spec = table::find(args.at(0)).expect("a command");
        let text = |index| String::from_utf8_lossy(args.at(index)).into_owned();
        key_indices(spec, args).map(text).collect()
    }

    #[test]
    fn keys_are_found_wherever_they_are() {
        for (text, found) in [
            ("PING", ""),
            ("GET a", "a"),
            ("SET a b EX 100", "a"),
            ("MSET a 1 b 2 c 3", "a b c"),
            ("DEL a b c", "a b c"),
            ("COPY a b REPLACE", "a b"),
            ("LCS a b IDX", "a b"),
            ("BITOP AND a b c d", "a b c d"),
            ("OBJECT ENCODING a", "a"),
            ("OBJECT HELP", ""),
            ("OBJECT", ""),
            ("OBJECT NOPE a", ""),
            ("MEMORY USAGE a SAMPLES 5", "a"),
            ("MEMORY STATS", ""),
            ("EVAL script 2 a b c", "a b"),
            ("EVALSHA digest 1 a", "a"),
            ("EVAL script 0 a", ""),
            ("EVAL script 2 a", ""),
            ("EVAL script -1 a", ""),
            ("EVAL script x a", ""),
            ("EVAL script", ""),
            ("WATCH a b", "a b"),
            ("RESTORE a 0 b", "a"),
            ("BITFIELD a GET u8 0", "a"),
            ("SCAN 0 MATCH a", ""),
            ("KEYS a", ""),
            ("CLUSTER KEYSLOT a", ""),
        ] {
            assert_eq!(keys(text).join(" "), found, "{text}");
        }
    }

    /// Commands on items that have no keys are few and known: one that forgets to say where its keys
    /// are would be executed on whatever core it came to.
    #[test]
    fn commands_on_items_say_where_their_keys_are() {
        const GROUPS: [&str; 4] = ["bitmap", "generic", "scripting", "string"];
        let is_on_items = |spec: &&Spec| GROUPS.contains(&table::group_of(spec));
        let mut without: Vec<String> = Vec::new();
        for spec in table::COMMANDS.iter().filter(is_on_items) {
            if spec.keys.is_empty() && spec.subcommands.is_empty() {
                without.push(spec.name.to_owned());
            }
            let subcommands = spec.subcommands.iter().filter(|spec| spec.keys.is_empty());
            without.extend(subcommands.map(|below| format!("{} {}", spec.name, below.name)));
        }
        let scripts = ["script exists", "script flush", "script help", "script load"];
        let walks = ["keys", "object help", "randomkey", "scan"];
        assert_eq!(without, [walks, scripts].concat());
    }
}
