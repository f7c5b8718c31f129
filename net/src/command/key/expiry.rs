//! EXPIRE and TTL in all their forms, and PERSIST.

use super::super::context::{Arguments, Context, Flow};
use super::super::expiry::{self, Unit};
use crate::protocol::number;

pub(super) fn ttl(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    time_left(context, args, expiry::seconds_left)
}

pub(super) fn pttl(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    time_left(context, args, |remaining_ms| remaining_ms as i64)
}

fn time_left(context: &mut Context<'_>, args: &Arguments<'_>, unit: fn(u64) -> i64) -> Flow {
    let now_ms = context.now_ms;
    let left = match context.shard.peek(context.first_hash, args.at(1), now_ms) {
        None => -2,
        Some(entry) => entry.deadline_ms().map_or(-1, |at_ms| unit(at_ms.saturating_sub(now_ms))),
    };
    context.count_read(left != -2);
    context.reply().integer(left);
    Flow::Continue
}

pub(super) fn expiretime(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    deadline(context, args, expiry::seconds_left)
}

pub(super) fn pexpiretime(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    deadline(context, args, |unix_ms| unix_ms as i64)
}

/// The deadline in Unix time, as the wall clock is now.
fn deadline(context: &mut Context<'_>, args: &Arguments<'_>, unit: fn(u64) -> i64) -> Flow {
    let now_ms = context.now_ms;
    let time = match context.shard.peek(context.first_hash, args.at(1), now_ms) {
        None => -2,
        Some(entry) => entry.deadline_ms().map_or(-1, |at_ms| unit(expiry::unix_ms(at_ms, now_ms))),
    };
    context.count_read(time != -2);
    context.reply().integer(time);
    Flow::Continue
}

pub(super) fn persist(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let (key, hash, now_ms) = (args.at(1), context.first_hash, context.now_ms);
    let volatile =
        context.shard.peek(hash, key, now_ms).is_some_and(|entry| entry.deadline_ms().is_some());
    match volatile.then(|| context.shard.set_deadline(hash, key, None, now_ms)) {
        Some(Err(error)) => context.set_error(&error),
        done => context.reply().integer(i64::from(done.is_some())),
    }
    Flow::Continue
}

pub(super) fn expire(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    set_expiry(context, args, Unit::Seconds, "expire")
}

pub(super) fn pexpire(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    set_expiry(context, args, Unit::Milliseconds, "pexpire")
}

pub(super) fn expireat(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    set_expiry(context, args, Unit::UnixSeconds, "expireat")
}

pub(super) fn pexpireat(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    set_expiry(context, args, Unit::UnixMilliseconds, "pexpireat")
}

/// When EXPIRE's options let it act.
#[derive(Clone, Copy, Default)]
struct ExpireOptions {
    if_none: bool,
    if_some: bool,
    if_later: bool,
    if_earlier: bool,
}

impl ExpireOptions {
    fn parse(args: &Arguments<'_>) -> Result<ExpireOptions, Vec<u8>> {
        let mut options = ExpireOptions::default();
        for index in 3..args.len() {
            if args.is(index, "NX") {
                options.if_none = true;
            } else if args.is(index, "XX") {
                options.if_some = true;
            } else if args.is(index, "GT") {
                options.if_later = true;
            } else if args.is(index, "LT") {
                options.if_earlier = true;
            } else {
                return Err([b"ERR Unsupported option ", args.at(index)].concat());
            }
        }
        if options.if_none && (options.if_some || options.if_later || options.if_earlier) {
            return Err(
                "ERR NX and XX, GT or LT options at the same time are not compatible".into()
            );
        }
        if options.if_later && options.if_earlier {
            return Err("ERR GT and LT options at the same time are not compatible".into());
        }
        Ok(options)
    }

    /// An item without a deadline counts as living for ever.
    fn allow(self, old: Option<u64>, new: u64) -> bool {
        (!self.if_none || old.is_none())
            && (!self.if_some || old.is_some())
            && (!self.if_later || old.is_some_and(|old| new > old))
            && (!self.if_earlier || old.is_none_or(|old| new < old))
    }
}

fn set_expiry(
    context: &mut Context<'_>,
    args: &Arguments<'_>,
    unit: Unit,
    name: &'static str,
) -> Flow {
    let options = match ExpireOptions::parse(args) {
        Ok(options) => options,
        Err(text) => {
            context.error_bytes(&text);
            return Flow::Continue;
        }
    };
    let (key, hash, now_ms) = (args.at(1), context.first_hash, context.now_ms);
    let Some(time) = number::parse_i64_strict(args.at(2)) else {
        context.not_an_integer();
        return Flow::Continue;
    };
    let Some(deadline_ms) = expiry::deadline(time, unit, now_ms) else {
        context.error(&format!("ERR invalid expire time in '{name}' command"));
        return Flow::Continue;
    };
    let done = match context.shard.peek(hash, key, now_ms) {
        None => false,
        Some(entry) => options.allow(entry.deadline_ms(), deadline_ms),
    };
    if done && deadline_ms <= now_ms {
        context.shard.delete(hash, key, None, now_ms);
    } else if done
        && let Err(error) = context.shard.set_deadline(hash, key, Some(deadline_ms), now_ms)
    {
        context.set_error(&error);
        return Flow::Continue;
    }
    context.reply().integer(i64::from(done));
    Flow::Continue
}
