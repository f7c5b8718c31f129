//! MEMORY: what a key takes, and what the server takes.

use super::super::context::{Arguments, Context, Flow};
use crate::core::InfoRequest;
use crate::protocol::number;

/// MEMORY USAGE key [SAMPLES count]: bytes of the item in the log, of its pages, and of its share
/// of the table. Values have no parts to sample.
pub(super) fn usage(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let mut index = 3;
    while index < args.len() {
        if !args.is(index, "SAMPLES") || index + 1 == args.len() {
            context.syntax_error();
            return Flow::Continue;
        }
        match number::parse_i64_strict(args.at(index + 1)) {
            Some(0..) => index += 2,
            Some(_) => {
                context.syntax_error();
                return Flow::Continue;
            }
            None => {
                context.not_an_integer();
                return Flow::Continue;
            }
        }
    }
    let key = args.at(2);
    let hash = context.hash(key);
    match context.shard.item_bytes(hash, key, context.now_ms) {
        Some(bytes) => context.reply().integer(bytes as i64),
        None => context.reply().null(),
    }
    Flow::Continue
}

pub(super) fn stats(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    Flow::Ask(Box::new(InfoRequest::MemoryStats { resp3: context.session.resp3 }))
}

pub(super) fn doctor(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    Flow::Ask(Box::new(InfoRequest::MemoryDoctor { resp3: context.session.resp3 }))
}

pub(super) fn purge(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    context.reply().ok();
    Flow::Trim
}

pub(super) fn help(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    context.help(
        "MEMORY",
        &[
            "DOCTOR",
            "    What there is to say about the server's memory, in words.",
            "PURGE",
            "    Lets the allocator give back to the system what is free.",
            "STATS",
            "    What the server's memory is used for.",
            "USAGE <key> [SAMPLES <count>]",
            "    Bytes that a key and its value take.",
        ],
    );
    Flow::Continue
}
