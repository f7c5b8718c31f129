//! COMMAND: what clients may learn of the commands, from the same list that runs them.
//!
//! Commands that were given another name are left out of lists, as those are that were given none:
//! the name may be a secret. Who knows it may ask by it. (Redis lists them under the name that they
//! no longer answer to.)

use super::super::context::{Arguments, Context, Flow};
use super::super::glob;
use super::super::keys::key_indices_from;
use super::super::rename::Renames;
use super::super::spec::{KeySpec, Spec};
use super::super::table::{self, COMMANDS};
use crate::protocol::resp::Writer;

pub(super) fn command(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    let specs = listed(&context.settings.renames);
    let mut reply = context.reply();
    reply.array(specs.len());
    for spec in specs {
        write_entry(&mut reply, spec.name, spec);
    }
    Flow::Continue
}

/// The commands that answer to their own names.
fn listed(renames: &Renames) -> Vec<&'static Spec> {
    COMMANDS.iter().filter(|spec| renames.keeps(spec)).collect()
}

pub(super) fn count(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    let count = listed(&context.settings.renames).len();
    context.reply().integer(count as i64);
    Flow::Continue
}

/// COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]
pub(super) fn list(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let is_filter = args.len() == 5 && args.is(2, "FILTERBY");
    let is_right = args.len() == 2
        || (is_filter && ["MODULE", "ACLCAT", "PATTERN"].iter().any(|kind| args.is(3, kind)));
    if !is_right {
        context.syntax_error();
        return Flow::Continue;
    }
    let is_wanted = |spec: &Spec, name: &str| {
        if !is_filter {
            true
        } else if args.is(3, "ACLCAT") {
            let is_category = |word: &str| args.is(4, word.trim_start_matches('@'));
            spec.categories.split_ascii_whitespace().any(is_category)
        } else {
            // There are no modules, and so no commands of theirs.
            args.is(3, "PATTERN") && glob::matches(args.at(4), name.as_bytes(), true)
        }
    };
    let mut names = Vec::new();
    for spec in listed(&context.settings.renames) {
        let subcommands = spec.subcommands.iter();
        let subcommands =
            subcommands.map(|subcommand| (full_name(spec.name, subcommand), subcommand));
        for (name, spec) in std::iter::once((spec.name.to_owned(), spec)).chain(subcommands) {
            if is_wanted(spec, &name) {
                names.push(name);
            }
        }
    }
    let mut reply = context.reply();
    reply.array(names.len());
    names.iter().for_each(|name| reply.bulk(name.as_bytes()));
    Flow::Continue
}

/// What a command, which stands in the arguments from index 2 on, does with its keys. For some this
/// depends on their other arguments.
fn actual_flags(spec: &Spec, keys: &'static KeySpec, args: &Arguments<'_>) -> &'static str {
    match spec.name {
        // Behind the name, the key and the value.
        "set" if (5..args.len()).any(|index| args.is(index, "GET")) => "RW access update",
        "set" => "OW update",
        "bitfield" if only_reads_fields(args) => "RO access",
        "bitfield" => "RW access update",
        _ => keys.flags,
    }
}

/// Whether the BITFIELD that stands in the arguments from index 2 on consists of whole GETs and
/// OVERFLOWs. What is incomplete counts as a write, as in Redis.
fn only_reads_fields(args: &Arguments<'_>) -> bool {
    let mut index = 4;
    while index < args.len() {
        let left = args.len() - index - 1;
        index += match () {
            () if args.is(index, "GET") && left >= 2 => 3,
            () if args.is(index, "OVERFLOW") && left >= 1 => 2,
            () => return false,
        };
    }
    true
}

/// The command that stands in the arguments from index 2 on, with its keys: the index of each, and
/// what the command does with it. Answers with an error if there is none.
fn keys_of(context: &mut Context<'_>, args: &Arguments<'_>) -> Option<Vec<(usize, &'static str)>> {
    let spec = context.settings.renames.find(args.at(2));
    let spec = match spec {
        Some(spec) if !spec.subcommands.is_empty() && args.len() > 3 => spec.subcommand(args.at(3)),
        spec => spec,
    };
    let count = args.len() - 2;
    match spec {
        None => context.error("ERR Invalid command specified"),
        Some(spec) if spec.keys.is_empty() => {
            context.error("ERR The command has no key arguments");
        }
        Some(spec) if !spec.accepts(count) => {
            context.error("ERR Invalid number of arguments specified for command");
        }
        Some(spec) => {
            let with_flags =
                |(index, keys): (usize, usize)| (index, actual_flags(spec, &spec.keys[keys], args));
            return Some(key_indices_from(spec, *args, 2).map(with_flags).collect());
        }
    }
    None
}

pub(super) fn getkeys(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if let Some(keys) = keys_of(context, args) {
        let mut reply = context.reply();
        reply.array(keys.len());
        keys.iter().for_each(|&(index, _)| reply.bulk(args.at(index)));
    }
    Flow::Continue
}

pub(super) fn getkeysandflags(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if let Some(keys) = keys_of(context, args) {
        let mut reply = context.reply();
        reply.array(keys.len());
        for (index, flags) in keys {
            reply.array(2);
            reply.bulk(args.at(index));
            write_words(&mut reply, flags);
        }
    }
    Flow::Continue
}

pub(super) fn help(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    context.help(
        "COMMAND",
        &[
            "(no subcommand)",
            "    Describes all commands.",
            "COUNT",
            "    How many commands there are.",
            "DOCS [<command> ...]",
            "    What the documentation says of commands, these or all.",
            "GETKEYS <command> <argument> ...",
            "    The keys of a whole command.",
            "GETKEYSANDFLAGS <command> <argument> ...",
            "    The keys of a whole command, and what it does with each.",
            "INFO [<command> ...]",
            "    Describes commands, these or all.",
            "LIST [FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]",
            "    The names of commands.",
        ],
    );
    Flow::Continue
}

pub(super) fn info(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if args.len() == 2 {
        return command(context, args);
    }
    let renames = &context.settings.renames;
    let wanted: Vec<Option<Found>> = args.from(2).map(|name| lookup(renames, name)).collect();
    let mut reply = context.reply();
    reply.array(wanted.len());
    for found in wanted {
        match found {
            Some(Found { name, spec, .. }) => write_entry(&mut reply, &name, spec),
            None => reply.null_array(),
        }
    }
    Flow::Continue
}

pub(super) fn docs(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let renames = &context.settings.renames;
    let wanted: Vec<Found> = if args.len() == 2 {
        listed(renames).into_iter().map(|spec| Found::new(spec.name.to_owned(), spec)).collect()
    } else {
        args.from(2).filter_map(|name| lookup(renames, name)).collect()
    };
    let mut reply = context.reply();
    reply.map(wanted.len());
    for found in wanted {
        write_docs(&mut reply, &found.name, found.spec, found.group);
    }
    Flow::Continue
}

/// A command that was asked for.
struct Found {
    /// The name by which it answers, its container's included.
    name: String,
    spec: &'static Spec,
    group: &'static str,
}

impl Found {
    fn new(name: String, spec: &'static Spec) -> Found {
        Found { name, spec, group: table::group_of(spec) }
    }
}

/// The command of a name, or the subcommand of a name such as `config|get`.
fn lookup(renames: &Renames, name: &[u8]) -> Option<Found> {
    let bar = name.iter().position(|&byte| byte == b'|');
    let (first, second) = bar.map_or((name, None), |bar| (&name[..bar], Some(&name[bar + 1..])));
    let container = renames.find(first)?;
    let found = Found::new(String::from_utf8_lossy(first).to_lowercase(), container);
    let Some(second) = second else { return Some(found) };
    let spec = container.subcommand(second)?;
    Some(Found { name: full_name(&found.name, spec), spec, ..found })
}

/// The name of a subcommand with that of its container.
fn full_name(container: &str, spec: &Spec) -> String {
    format!("{container}|{}", spec.name)
}

fn write_docs(reply: &mut Writer<'_>, name: &str, spec: &Spec, group: &str) {
    reply.bulk(name.as_bytes());
    let texts = [
        ("summary", spec.summary),
        ("since", spec.since),
        ("group", group),
        ("complexity", spec.cost),
    ];
    reply.map(texts.len() + usize::from(!spec.subcommands.is_empty()));
    for (name, text) in texts {
        reply.bulk(name.as_bytes());
        reply.bulk(text.as_bytes());
    }
    if !spec.subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(spec.subcommands.len());
        for subcommand in spec.subcommands {
            write_docs(reply, &full_name(name, subcommand), subcommand, group);
        }
    }
}

/// One entry of COMMAND: the ten fields of Redis 7.
fn write_entry(reply: &mut Writer<'_>, name: &str, spec: &Spec) {
    reply.array(10);
    reply.bulk(name.as_bytes());
    reply.integer(i64::from(spec.arity));
    write_words(reply, spec.flags);
    let (first, last, step) = spec.key_range();
    for number in [first, last, step] {
        reply.integer(number);
    }
    write_words(reply, spec.categories);
    let tips = spec.tips.split_ascii_whitespace();
    reply.set(tips.clone().count());
    tips.for_each(|tip| reply.bulk(tip.as_bytes()));
    reply.array(spec.keys.len());
    for keys in spec.keys {
        write_keys(reply, keys);
    }
    reply.array(spec.subcommands.len());
    for subcommand in spec.subcommands {
        write_entry(reply, &full_name(name, subcommand), subcommand);
    }
}

/// A list of words as a set of simple strings.
fn write_words(reply: &mut Writer<'_>, list: &str) {
    let words = list.split_ascii_whitespace();
    reply.set(words.clone().count());
    words.for_each(|word| reply.simple(word));
}

/// A key specification: a range from a fixed index, or as many keys as an argument says.
fn write_keys(reply: &mut Writer<'_>, keys: &KeySpec) {
    reply.map(3);
    reply.bulk(b"flags");
    write_words(reply, keys.flags);
    reply.bulk(b"begin_search");
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(b"index");
    reply.bulk(b"spec");
    reply.map(1);
    reply.bulk(b"index");
    reply.integer(i64::from(keys.first - u8::from(keys.is_counted)));
    reply.bulk(b"find_keys");
    reply.map(2);
    reply.bulk(b"type");
    if keys.is_counted {
        reply.bulk(b"keynum");
        reply.bulk(b"spec");
        reply.map(3);
        for (name, number) in [("keynumidx", 0), ("firstkey", 1), ("keystep", i64::from(keys.step))]
        {
            reply.bulk(name.as_bytes());
            reply.integer(number);
        }
        return;
    }
    reply.bulk(b"range");
    reply.bulk(b"spec");
    reply.map(3);
    reply.bulk(b"lastkey");
    reply.integer(i64::from(keys.last));
    reply.bulk(b"keystep");
    reply.integer(i64::from(keys.step));
    reply.bulk(b"limit");
    reply.integer(0);
}
