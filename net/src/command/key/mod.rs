//! Commands on keys whatever their values: DEL, EXISTS, TTL, EXPIRE and their relatives.

use pinion_engine::Deleted;

use super::context::{Arguments, Context, Flow, printable};
use super::expiry::{self, Unit};
use super::spec::{KeySpec, Spec};
use crate::protocol::number;

/// The family.
pub(super) const COMMANDS: &[Spec] = &[
    Spec::new("del", -2, del)
        .flags("write")
        .categories("@keyspace @write @slow")
        .tips("request_policy:multi_shard response_policy:agg_sum")
        .keys(&[KeySpec::new("RM delete", 1, -1, 1)])
        .cost("O(N) in the number of keys")
        .summary("Deletes one or more keys."),
    Spec::new("exists", -2, exists)
        .flags("readonly fast")
        .categories("@keyspace @read @fast")
        .tips("request_policy:multi_shard response_policy:agg_sum")
        .keys(&[KeySpec::new("RO", 1, -1, 1)])
        .cost("O(N) in the number of keys")
        .summary("Determines whether one or more keys exist."),
    Spec::new("expire", -3, expire)
        .flags("write fast")
        .categories("@keyspace @write @fast")
        .keys(&[KeySpec::new("RW update", 1, 0, 1)])
        .summary("Sets the expiration time of a key in seconds."),
    Spec::new("expireat", -3, expireat)
        .flags("write fast")
        .categories("@keyspace @write @fast")
        .keys(&[KeySpec::new("RW update", 1, 0, 1)])
        .since("1.2.0")
        .summary("Sets the expiration time of a key to a Unix timestamp."),
    Spec::new("persist", 2, persist)
        .flags("write fast")
        .categories("@keyspace @write @fast")
        .keys(&[KeySpec::new("RW update", 1, 0, 1)])
        .since("2.2.0")
        .summary("Removes the expiration time of a key."),
    Spec::new("pexpire", -3, pexpire)
        .flags("write fast")
        .categories("@keyspace @write @fast")
        .keys(&[KeySpec::new("RW update", 1, 0, 1)])
        .since("2.6.0")
        .summary("Sets the expiration time of a key in milliseconds."),
    Spec::new("pexpireat", -3, pexpireat)
        .flags("write fast")
        .categories("@keyspace @write @fast")
        .keys(&[KeySpec::new("RW update", 1, 0, 1)])
        .since("2.6.0")
        .summary("Sets the expiration time of a key to a Unix milliseconds timestamp."),
    Spec::new("pttl", 2, pttl)
        .flags("readonly fast")
        .categories("@keyspace @read @fast")
        .tips("nondeterministic_output")
        .keys(&[KeySpec::new("RO access", 1, 0, 1)])
        .since("2.6.0")
        .summary("Returns the expiration time in milliseconds of a key."),
    Spec::new("ttl", 2, ttl)
        .flags("readonly fast")
        .categories("@keyspace @read @fast")
        .tips("nondeterministic_output")
        .keys(&[KeySpec::new("RO access", 1, 0, 1)])
        .summary("Returns the expiration time in seconds of a key."),
    Spec::new("unlink", -2, del)
        .flags("write fast")
        .categories("@keyspace @write @fast")
        .tips("request_policy:multi_shard response_policy:agg_sum")
        .keys(&[KeySpec::new("RM delete", 1, -1, 1)])
        .since("4.0.0")
        .cost("O(N) in the number of keys")
        .summary("Deletes one or more keys."),
];

fn del(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let mut deleted = 0;
    for key in args.from(1) {
        let hash = context.hash(key);
        let outcome = context.shard.delete(hash, key, None, context.now_ms);
        deleted += i64::from(outcome == Deleted::Deleted);
    }
    context.reply().integer(deleted);
    Flow::Continue
}

fn exists(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let mut found = 0;
    for key in args.from(1) {
        let hash = context.hash(key);
        let hit = context.shard.peek(hash, key, context.now_ms).is_some();
        context.count_read(hit);
        found += i64::from(hit);
    }
    context.reply().integer(found);
    Flow::Continue
}

fn ttl(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    time_left(context, args, expiry::seconds_left)
}

fn pttl(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
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

fn persist(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let (key, hash, now_ms) = (args.at(1), context.first_hash, context.now_ms);
    let volatile =
        context.shard.peek(hash, key, now_ms).is_some_and(|entry| entry.deadline_ms().is_some());
    match volatile.then(|| context.shard.set_deadline(hash, key, None, now_ms)) {
        Some(Err(error)) => context.set_error(&error),
        done => context.reply().integer(i64::from(done.is_some())),
    }
    Flow::Continue
}

fn expire(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    set_expiry(context, args, Unit::Seconds, "expire")
}

fn pexpire(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    set_expiry(context, args, Unit::Milliseconds, "pexpire")
}

fn expireat(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    set_expiry(context, args, Unit::UnixSeconds, "expireat")
}

fn pexpireat(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
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
    fn parse(args: &Arguments<'_>) -> Result<ExpireOptions, String> {
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
                let option = printable(args.at(index), 128);
                return Err(format!("ERR Unsupported option {option}"));
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
            context.error(&text);
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
