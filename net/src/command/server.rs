//! Commands on the server: its size, its settings, its commands.

use super::context::{Arguments, Context, Flow, printable};
use super::glob;
use super::table::{self, COMMANDS, Spec};
use crate::core::InfoRequest;
use crate::options::Size;

pub(super) fn dbsize(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    let items = context.shard.len() as i64;
    context.reply().integer(items);
    Flow::Continue
}

/// FLUSHALL and FLUSHDB: constant time, since older versions are dead from now on; ASYNC and SYNC
/// make no difference.
pub(super) fn flushall(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if args.len() > 2 || (args.len() == 2 && !args.is(1, "ASYNC") && !args.is(1, "SYNC")) {
        context.syntax_error();
        return Flow::Continue;
    }
    context.shard.flush();
    context.reply().ok();
    Flow::Continue
}

pub(super) fn info(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let sections = args.from(1).map(|name| printable(name, 64).to_ascii_lowercase()).collect();
    Flow::Ask(InfoRequest::Info { sections, resp3: context.session.resp3 })
}

pub(super) fn config(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if args.is(1, "SET") {
        config_set(context, args);
        return Flow::Continue;
    }
    if !args.is(1, "GET") {
        context.unknown_subcommand("CONFIG", args);
        return Flow::Continue;
    }
    if args.len() < 3 {
        context.wrong_arity("config|get");
        return Flow::Continue;
    }
    let settings = context.settings;
    let memory = (MAXMEMORY, context.memory.division().memory_bytes.to_string());
    let wanted: Vec<&(&str, String)> = settings
        .parameters
        .iter()
        .chain(std::iter::once(&memory))
        .filter(|(name, _)| {
            args.from(2).any(|pattern| glob::matches(pattern, name.as_bytes(), true))
        })
        .collect();
    let mut reply = context.reply();
    reply.map(wanted.len());
    for (name, value) in wanted {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    Flow::Continue
}

/// The one parameter that can be set at run time.
const MAXMEMORY: &str = "maxmemory";

/// CONFIG SET: all of its parameters, or none.
fn config_set(context: &mut Context<'_>, args: &Arguments<'_>) {
    if args.len() < 4 || !args.len().is_multiple_of(2) {
        context.wrong_arity("config|set");
        return;
    }
    let mut wanted = None;
    for index in (2..args.len()).step_by(2) {
        let name = printable(args.at(index), 64);
        if name.eq_ignore_ascii_case(MAXMEMORY) {
            wanted = Some(args.at(index + 1));
            continue;
        }
        let is_known = |known: &str| known.eq_ignore_ascii_case(&name);
        if context.settings.parameters.iter().any(|(known, _)| is_known(known)) {
            let reason = "can't set immutable config";
            context.error(&format!(
                "ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"
            ));
        } else {
            let text = "ERR Unknown option or number of arguments for CONFIG SET";
            context.error(&format!("{text} - '{name}'"));
        }
        return;
    }
    let Some(text) = wanted else { return };
    let bytes = std::str::from_utf8(text).ok().and_then(|text| text.parse::<Size>().ok());
    let outcome = match bytes {
        None => Err("argument must be a memory value".to_owned()),
        Some(Size(0)) => Err("a server without a limit is not possible".to_owned()),
        Some(Size(bytes)) => context.memory.set(bytes, context.shard),
    };
    match outcome {
        Ok(()) => context.reply().ok(),
        Err(reason) => context.error(&format!(
            "ERR CONFIG SET failed (possibly related to argument '{MAXMEMORY}') - {reason}"
        )),
    }
}

pub(super) fn command(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if args.len() == 1 {
        context.reply().array(COMMANDS.len());
        for spec in COMMANDS {
            write_entry(context, spec);
        }
    } else if args.is(1, "COUNT") && args.len() == 2 {
        context.reply().integer(COMMANDS.len() as i64);
    } else if args.is(1, "LIST") && args.len() == 2 {
        let mut reply = context.reply();
        reply.array(COMMANDS.len());
        for spec in COMMANDS {
            reply.bulk(spec.name.as_bytes());
        }
    } else if args.is(1, "INFO") {
        command_info(context, args);
    } else if args.is(1, "DOCS") {
        command_docs(context, args);
    } else if args.is(1, "COUNT") || args.is(1, "LIST") {
        let name = format!("command|{}", printable(args.at(1), 64).to_lowercase());
        context.wrong_arity(&name);
    } else {
        context.unknown_subcommand("COMMAND", args);
    }
    Flow::Continue
}

fn command_info(context: &mut Context<'_>, args: &Arguments<'_>) {
    if args.len() == 2 {
        context.reply().array(COMMANDS.len());
        for spec in COMMANDS {
            write_entry(context, spec);
        }
        return;
    }
    context.reply().array(args.len() - 2);
    for name in args.from(2) {
        match table::find(name) {
            Some(spec) => write_entry(context, spec),
            None => context.reply().null_array(),
        }
    }
}

fn command_docs(context: &mut Context<'_>, args: &Arguments<'_>) {
    let wanted: Vec<&Spec> = if args.len() == 2 {
        COMMANDS.iter().collect()
    } else {
        args.from(2).filter_map(table::find).collect()
    };
    let mut reply = context.reply();
    reply.map(wanted.len());
    for spec in wanted {
        reply.bulk(spec.name.as_bytes());
        reply.map(3);
        reply.bulk(b"summary");
        reply.bulk(spec.summary.as_bytes());
        reply.bulk(b"since");
        reply.bulk(spec.since.as_bytes());
        reply.bulk(b"group");
        reply.bulk(spec.group.as_bytes());
    }
}

/// One entry of COMMAND: the ten fields of Redis 7.
fn write_entry(context: &mut Context<'_>, spec: &Spec) {
    let mut reply = context.reply();
    reply.array(10);
    reply.bulk(spec.name.as_bytes());
    reply.integer(i64::from(spec.arity));
    reply.set(spec.flags.len());
    for flag in spec.flags {
        reply.simple(flag);
    }
    let (first, last, step) = spec.keys;
    for number in [first, last, step] {
        reply.integer(i64::from(number));
    }
    let categories = spec.categories();
    reply.set(categories.len());
    for category in categories {
        reply.simple(category);
    }
    reply.array(0);
    if first == 0 {
        reply.array(0);
    } else {
        write_key_spec(&mut reply, spec);
    }
    reply.array(0);
}

/// The one key specification that every keyed command here has: a range from a fixed index.
fn write_key_spec(reply: &mut crate::protocol::resp::Writer<'_>, spec: &Spec) {
    let (first, last, step) = spec.keys;
    reply.array(1);
    reply.map(3);
    reply.bulk(b"flags");
    let access: &[&str] = if spec.flags.contains(&"readonly") {
        &["RO", "ACCESS"]
    } else {
        &["RW", "ACCESS", "UPDATE"]
    };
    reply.set(access.len());
    for flag in access {
        reply.simple(flag);
    }
    reply.bulk(b"begin_search");
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(b"index");
    reply.bulk(b"spec");
    reply.map(1);
    reply.bulk(b"index");
    reply.integer(i64::from(first));
    reply.bulk(b"find_keys");
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(b"range");
    reply.bulk(b"spec");
    reply.map(3);
    reply.bulk(b"lastkey");
    reply.integer(i64::from(if last < 0 { last } else { last - first }));
    reply.bulk(b"keystep");
    reply.integer(i64::from(step));
    reply.bulk(b"limit");
    reply.integer(0);
}
