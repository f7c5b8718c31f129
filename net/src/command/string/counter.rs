//! INCR and its family, and the arithmetic that memcached's incr and decr share with it: read,
//! compute, store with the deadline kept.

use pinion_engine::{Deadline, KeyHash, SetError, SetOptions, Shard, Stored, Value};

use super::super::context::{Arguments, Context, Flow};
use crate::protocol::number::{self, Decimal};

pub(super) fn incr(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    add(context, args, 1)
}

pub(super) fn decr(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    add(context, args, -1)
}

pub(super) fn incrby(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    match number::parse_i64_strict(args.at(2)) {
        Some(delta) => add(context, args, delta),
        None => {
            context.not_an_integer();
            Flow::Continue
        }
    }
}

pub(super) fn decrby(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    match number::parse_i64_strict(args.at(2)) {
        Some(i64::MIN) => context.error("ERR decrement would overflow"),
        Some(delta) => return add(context, args, -delta),
        None => context.not_an_integer(),
    }
    Flow::Continue
}

fn add(context: &mut Context<'_>, args: &Arguments<'_>, delta: i64) -> Flow {
    let (key, hash) = (args.at(1), context.first_hash);
    let old = match context.shard.get(hash, key, context.now_ms) {
        None => Some(0),
        Some(entry) => entry.value.as_slice().and_then(number::parse_i64_strict),
    };
    let Some(old) = old else {
        context.not_an_integer();
        return Flow::Continue;
    };
    let Some(new) = old.checked_add(delta) else {
        context.error("ERR increment or decrement would overflow");
        return Flow::Continue;
    };
    // The sign, and up to 19 digits.
    let (digits, mut text) = (Decimal::new(new.unsigned_abs()), [b'-'; 20]);
    let digits = digits.as_bytes();
    text[1..=digits.len()].copy_from_slice(digits);
    let text = &text[usize::from(new >= 0)..=digits.len()];
    match store_keeping(context.shard, hash, key, text, context.now_ms) {
        Ok(_) => context.reply().integer(new),
        Err(error) => context.set_error(&error),
    }
    Flow::Continue
}

/// Stores a value and keeps the item's flags and deadline.
pub(in super::super) fn store_keeping(
    shard: &mut Shard,
    hash: KeyHash,
    key: &[u8],
    value: &[u8],
    now_ms: u64,
) -> Result<Stored, SetError> {
    let options = SetOptions { deadline: Deadline::Keep, flags: None, ..SetOptions::default() };
    shard.set(hash, key, value, &options, now_ms)
}

/// A value as memcached's incr and decr read it: the first word, up to a space or a NUL, whatever
/// follows it. (A number that got shorter is followed by spaces.)
pub(in super::super) fn memcached_number(value: &Value<'_>) -> Option<u64> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let bytes = value.as_slice()?;
    let first = bytes.iter().position(|byte| !is_space(byte))?;
    let word = bytes[first..].split(|byte| is_space(byte) || *byte == 0).next()?;
    number::parse_u64_lenient(word)
}
