//! SET and the commands that are forms of it.

use pinion_engine::{Condition, Deadline, KeyHash, Marks, SetOptions, Stored};

use super::super::context::{Arguments, Context, Flow, write_value};
use super::super::expiry::{self, Unit};
use super::super::large::REFER_BYTES_MIN;
use crate::protocol::number;

/// What a write of RESP leaves: no flags, and no deadline unless it says so.
pub(in super::super) const PLAIN: SetOptions = SetOptions {
    condition: Condition::Always,
    flags: Some(0),
    deadline: Deadline::None,
    version: None,
    marks: Marks::NONE,
};

/// What SET's options ask for.
#[derive(Clone, Copy, Default)]
struct SetArguments {
    condition: Condition,
    deadline: Deadline,
    get: bool,
}

/// Why SET's options were refused.
pub(super) enum Refusal {
    Syntax,
    NotAnInteger,
    InvalidExpiry,
}

pub(super) fn set(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if args.len() == 3 {
        store(context, args.at(1), args.at(2), SetArguments::default());
        return Flow::Continue;
    }
    match parse_set(args, context.now_ms) {
        Ok(wanted) => store(context, args.at(1), args.at(2), wanted),
        Err(refusal) => refuse(context, &refusal, "set"),
    }
    Flow::Continue
}

pub(super) fn setnx(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let options = SetOptions { condition: Condition::IfAbsent, ..PLAIN };
    let hash = context.first_hash;
    match context.store(hash, args.at(1), args.at(2), &options) {
        Ok(outcome) => {
            let stored = matches!(outcome, Stored::Stored { .. });
            context.reply().integer(i64::from(stored));
        }
        Err(error) => context.set_error(&error),
    }
    Flow::Continue
}

pub(super) fn getset(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    store(context, args.at(1), args.at(2), SetArguments { get: true, ..SetArguments::default() });
    Flow::Continue
}

pub(super) fn setex(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    set_expiring(context, args, Unit::Seconds, "setex")
}

pub(super) fn psetex(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    set_expiring(context, args, Unit::Milliseconds, "psetex")
}

fn set_expiring(
    context: &mut Context<'_>,
    args: &Arguments<'_>,
    unit: Unit,
    name: &'static str,
) -> Flow {
    match expiry_ms(args.at(2), unit, context.now_ms) {
        Ok(at_ms) => {
            let deadline = Deadline::At(at_ms);
            let wanted = SetArguments { deadline, ..SetArguments::default() };
            store(context, args.at(1), args.at(3), wanted);
        }
        Err(refusal) => refuse(context, &refusal, name),
    }
    Flow::Continue
}

fn store(context: &mut Context<'_>, key: &[u8], value: &[u8], wanted: SetArguments) {
    let hash = context.first_hash;
    let options = SetOptions { condition: wanted.condition, deadline: wanted.deadline, ..PLAIN };
    // With GET, the old value is the reply whatever happens, unless storing fails.
    let reply_starts = context.out.len();
    if wanted.get && !write_old(context, hash, key) {
        return;
    }
    match context.store(hash, key, value, &options) {
        Ok(_) if wanted.get => {}
        Ok(Stored::Stored { .. }) => context.reply().ok(),
        Ok(Stored::ConditionFailed(_)) => context.reply().null(),
        Err(error) => {
            context.take_back(reply_starts);
            context.set_error(&error);
        }
    }
}

/// Answers with the value that SET GET or GETSET is about to replace. `false` when it answered with an error.
fn write_old(context: &mut Context<'_>, hash: KeyHash, key: &[u8]) -> bool {
    let Some(entry) = context.shard.get(hash, key, context.now_ms) else {
        context.counters.misses += 1;
        context.reply().null();
        return true;
    };
    context.counters.hits += 1;
    let value = entry.value;
    if value.as_slice().is_none() && context.out.len() + value.len() > REFER_BYTES_MIN {
        let value_bytes = value.len();
        return context.bulk_by_reference(hash, key, value_bytes);
    }
    write_value(context.out, &value);
    true
}

pub(super) fn refuse(context: &mut Context<'_>, refusal: &Refusal, name: &str) {
    match refusal {
        Refusal::Syntax => context.syntax_error(),
        Refusal::NotAnInteger => context.not_an_integer(),
        Refusal::InvalidExpiry => {
            context.error(&format!("ERR invalid expire time in '{name}' command"));
        }
    }
}

/// SET's options, which may be repeated but must not contradict each other.
fn parse_set(args: &Arguments<'_>, now_ms: u64) -> Result<SetArguments, Refusal> {
    let mut wanted = SetArguments::default();
    let (mut expiry, mut index) = (None, 3);
    while index < args.len() {
        if let Some(unit) = Unit::of_option(args.at(index)) {
            let other = expiry.is_some_and(|(_, chosen)| chosen != unit);
            if other || wanted.deadline == Deadline::Keep || index + 1 == args.len() {
                return Err(Refusal::Syntax);
            }
            expiry = Some((index + 1, unit));
            index += 1;
        } else if args.is(index, "NX") && wanted.condition != Condition::IfPresent {
            wanted.condition = Condition::IfAbsent;
        } else if args.is(index, "XX") && wanted.condition != Condition::IfAbsent {
            wanted.condition = Condition::IfPresent;
        } else if args.is(index, "KEEPTTL") && expiry.is_none() {
            wanted.deadline = Deadline::Keep;
        } else if args.is(index, "GET") {
            wanted.get = true;
        } else {
            return Err(Refusal::Syntax);
        }
        index += 1;
    }
    if let Some((index, unit)) = expiry {
        wanted.deadline = Deadline::At(expiry_ms(args.at(index), unit, now_ms)?);
    }
    Ok(wanted)
}

/// The deadline in an argument, which must lie behind the beginning of its clock.
pub(super) fn expiry_ms(text: &[u8], unit: Unit, now_ms: u64) -> Result<u64, Refusal> {
    let time = number::parse_i64_strict(text).ok_or(Refusal::NotAnInteger)?;
    if time <= 0 {
        return Err(Refusal::InvalidExpiry);
    }
    expiry::deadline(time, unit, now_ms).ok_or(Refusal::InvalidExpiry)
}
