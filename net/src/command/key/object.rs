//! OBJECT: what Redis would tell of how it keeps a value, and what the shard knows of its use.
//!
//! - ENCODING is what Redis gives to a value that SET has stored: `int`, `embstr` or `raw`.
//! - FREQ is the shard's counter of uses, from 0 to 15, which fades; Redis's goes up to 255.
//! - IDLETIME is an estimate (`Shard::idle_ms`): 0 for an item that was read or overwritten since
//!   it came, until the policy has forgotten that, and the time since the write otherwise.
//!
//! As in Redis, FREQ wants a policy that counts uses, and IDLETIME one that does not: the one that
//! CONFIG GET maxmemory-policy names.

use pinion_engine::Value;

use super::super::context::{Arguments, Context, Flow};
use crate::protocol::number;

/// The longest value that Redis keeps in one piece with its object.
const EMBEDDED_BYTES_MAX: usize = 44;

pub(super) fn encoding(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let hash = context.hash(args.at(2));
    let entry = context.shard.peek(hash, args.at(2), context.now_ms);
    match entry.map(|entry| encoding_of(&entry.value)) {
        Some(name) => context.reply().bulk(name.as_bytes()),
        None => context.reply().null(),
    }
    Flow::Continue
}

fn encoding_of(value: &Value<'_>) -> &'static str {
    match value.as_slice() {
        Some(bytes) if number::parse_i64_strict(bytes).is_some() => "int",
        Some(bytes) if bytes.len() <= EMBEDDED_BYTES_MAX => "embstr",
        _ => "raw",
    }
}

pub(super) fn refcount(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let hash = context.hash(args.at(2));
    match context.shard.peek(hash, args.at(2), context.now_ms).is_some() {
        true => context.reply().integer(1),
        false => context.reply().null(),
    }
    Flow::Continue
}

pub(super) fn freq(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let hash = context.hash(args.at(2));
    let entry = context.shard.peek(hash, args.at(2), context.now_ms);
    match entry.map(|entry| entry.frequency) {
        None => context.reply().null(),
        Some(frequency) if counts_uses(context) => context.reply().integer(i64::from(frequency)),
        Some(_) => context.error(NOT_COUNTED),
    }
    Flow::Continue
}

pub(super) fn idletime(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let hash = context.hash(args.at(2));
    match context.shard.idle_ms(hash, args.at(2), context.now_ms) {
        None => context.reply().null(),
        Some(_) if counts_uses(context) => context.error(NOT_TIMED),
        Some(idle_ms) => context.reply().integer((idle_ms / 1_000) as i64),
    }
    Flow::Continue
}

const NOT_COUNTED: &str = "ERR An LFU maxmemory policy is not selected, access frequency not \
    tracked. Please note that when switching between policies at runtime LRU and LFU data will \
    take some time to adjust.";
const NOT_TIMED: &str = "ERR An LFU maxmemory policy is selected, idle time not tracked. Please \
    note that when switching between policies at runtime LRU and LFU data will take some time to \
    adjust.";

/// Whether the policy, by the name that it has for Redis's clients, counts uses.
fn counts_uses(context: &Context<'_>) -> bool {
    let parameters = &context.settings.parameters;
    let policy = parameters.iter().find(|(name, _)| *name == "maxmemory-policy");
    policy.is_some_and(|(_, value)| value.ends_with("-lfu"))
}

pub(super) fn help(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    context.help(
        "OBJECT",
        &[
            "ENCODING <key>",
            "    The form in which Redis would keep the value.",
            "FREQ <key>",
            "    How often the key was used of late, from 0 to 15.",
            "IDLETIME <key>",
            "    For about how many seconds the key has not been used.",
            "REFCOUNT <key>",
            "    The number of references to the value, which is 1.",
        ],
    );
    Flow::Continue
}
