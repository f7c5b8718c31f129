//! COMMAND: what clients may learn of the commands, from the same list that runs them.

use super::super::context::{Arguments, Context, Flow};
use super::super::spec::{KeySpec, Spec};
use super::super::table::{self, COMMANDS};
use crate::protocol::resp::Writer;

pub(super) fn command(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    let mut reply = context.reply();
    reply.array(COMMANDS.len());
    for spec in &COMMANDS {
        write_entry(&mut reply, spec, None);
    }
    Flow::Continue
}

pub(super) fn count(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    context.reply().integer(COMMANDS.len() as i64);
    Flow::Continue
}

pub(super) fn list(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if args.len() > 2 {
        context.syntax_error();
        return Flow::Continue;
    }
    let mut reply = context.reply();
    reply.array(COMMANDS.len());
    for spec in &COMMANDS {
        reply.bulk(spec.name.as_bytes());
    }
    Flow::Continue
}

pub(super) fn info(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if args.len() == 2 {
        return command(context, args);
    }
    let mut reply = context.reply();
    reply.array(args.len() - 2);
    for name in args.from(2) {
        match lookup(name) {
            Some((spec, container)) => write_entry(&mut reply, spec, container),
            None => reply.null_array(),
        }
    }
    Flow::Continue
}

pub(super) fn docs(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let wanted: Vec<(&Spec, Option<&Spec>)> = if args.len() == 2 {
        COMMANDS.iter().map(|spec| (*spec, None)).collect()
    } else {
        args.from(2).filter_map(lookup).collect()
    };
    let mut reply = context.reply();
    reply.map(wanted.len());
    for (spec, container) in wanted {
        write_docs(&mut reply, spec, container);
    }
    Flow::Continue
}

/// The command of a name, or the subcommand of a name such as `config|get` with its container.
fn lookup(name: &[u8]) -> Option<(&'static Spec, Option<&'static Spec>)> {
    let Some(bar) = name.iter().position(|&byte| byte == b'|') else {
        return Some((table::find(name)?, None));
    };
    let container = table::find(&name[..bar])?;
    Some((container.subcommand(&name[bar + 1..])?, Some(container)))
}

fn full_name(spec: &Spec, container: Option<&Spec>) -> String {
    match container {
        None => spec.name.to_owned(),
        Some(container) => format!("{}|{}", container.name, spec.name),
    }
}

fn write_docs(reply: &mut Writer<'_>, spec: &Spec, container: Option<&Spec>) {
    reply.bulk(full_name(spec, container).as_bytes());
    let group = table::group_of(container.unwrap_or(spec));
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
            write_docs(reply, subcommand, Some(spec));
        }
    }
}

/// One entry of COMMAND: the ten fields of Redis 7.
fn write_entry(reply: &mut Writer<'_>, spec: &Spec, container: Option<&Spec>) {
    reply.array(10);
    reply.bulk(full_name(spec, container).as_bytes());
    reply.integer(i64::from(spec.arity));
    write_words(reply, spec.flags);
    let (first, last, step) = spec.key_range();
    for number in [first, last, step] {
        reply.integer(number);
    }
    write_words(reply, spec.categories);
    let tips = spec.tips.split_ascii_whitespace();
    reply.array(tips.clone().count());
    tips.for_each(|tip| reply.bulk(tip.as_bytes()));
    reply.array(spec.keys.len());
    for keys in spec.keys {
        write_keys(reply, keys);
    }
    reply.array(spec.subcommands.len());
    for subcommand in spec.subcommands {
        write_entry(reply, subcommand, Some(spec));
    }
}

/// A list of words as a set of simple strings.
fn write_words(reply: &mut Writer<'_>, list: &str) {
    let words = list.split_ascii_whitespace();
    reply.set(words.clone().count());
    words.for_each(|word| reply.simple(word));
}

/// A key specification: a range from a fixed index.
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
    reply.integer(i64::from(keys.first));
    reply.bulk(b"find_keys");
    reply.map(2);
    reply.bulk(b"type");
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
