//! GET, SET and their relatives.

mod counter;

pub(super) use counter::{memcached_number, store_keeping};

use pinion_engine::{Condition, Deadline, KeyHash, SetOptions, Stored};

use super::context::{Arguments, Context, Flow, write_value};
use super::expiry::{self, Unit};
use super::large::REFER_BYTES_MIN;
use super::spec::{KeySpec, Spec};
use crate::protocol::number;

/// The family.
pub(super) const COMMANDS: &[Spec] = &[
    Spec::new("decr", 2, counter::decr)
        .flags("write denyoom fast")
        .categories("@write @string @fast")
        .keys(&[KeySpec::new("RW access update", 1, 0, 1)])
        .summary("Decrements the integer value of a key by one."),
    Spec::new("decrby", 3, counter::decrby)
        .flags("write denyoom fast")
        .categories("@write @string @fast")
        .keys(&[KeySpec::new("RW access update", 1, 0, 1)])
        .summary("Decrements a number from the integer value of a key."),
    Spec::new("get", 2, get)
        .flags("readonly fast")
        .categories("@read @string @fast")
        .keys(&[KeySpec::new("RO access", 1, 0, 1)])
        .summary("Returns the string value of a key."),
    Spec::new("incr", 2, counter::incr)
        .flags("write denyoom fast")
        .categories("@write @string @fast")
        .keys(&[KeySpec::new("RW access update", 1, 0, 1)])
        .summary("Increments the integer value of a key by one."),
    Spec::new("incrby", 3, counter::incrby)
        .flags("write denyoom fast")
        .categories("@write @string @fast")
        .keys(&[KeySpec::new("RW access update", 1, 0, 1)])
        .summary("Increments the integer value of a key by a number."),
    Spec::new("mget", -2, mget)
        .flags("readonly fast")
        .categories("@read @string @fast")
        .tips("request_policy:multi_shard")
        .keys(&[KeySpec::new("RO access", 1, -1, 1)])
        .cost("O(N) in the number of keys")
        .summary("Returns the string values of one or more keys."),
    Spec::new("mset", -3, mset)
        .flags("write denyoom")
        .categories("@write @string @slow")
        .tips("request_policy:multi_shard response_policy:all_succeeded")
        .keys(&[KeySpec::new("OW update", 1, -1, 2)])
        .since("1.0.1")
        .cost("O(N) in the number of keys")
        .summary("Sets the string values of one or more keys."),
    Spec::new("psetex", 4, psetex)
        .flags("write denyoom")
        .categories("@write @string @slow")
        .keys(&[KeySpec::new("OW update", 1, 0, 1)])
        .since("2.6.0")
        .summary("Sets both string value and expiration time in milliseconds of a key."),
    Spec::new("set", -3, set)
        .flags("write denyoom")
        .categories("@write @string @slow")
        .keys(&[KeySpec::new("RW access update variable_flags", 1, 0, 1)])
        .summary("Sets the string value of a key, ignoring its type."),
    Spec::new("setex", 4, setex)
        .flags("write denyoom")
        .categories("@write @string @slow")
        .keys(&[KeySpec::new("OW update", 1, 0, 1)])
        .since("2.0.0")
        .summary("Sets the string value and expiration time of a key."),
    Spec::new("setnx", 3, setnx)
        .flags("write denyoom fast")
        .categories("@write @string @fast")
        .keys(&[KeySpec::new("OW insert", 1, 0, 1)])
        .summary("Sets the string value of a key only when the key doesn't exist."),
];

fn refuse_reply(context: &mut Context<'_>) {
    context.error("OOM reply does not fit into the memory left for buffers");
}

/// Keys of a multi-key command whose memory is fetched ahead together.
const KEYS_AHEAD: usize = 16;

fn get(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let start = context.out.len();
    read(context, context.first_hash, args.at(1), start).err().unwrap_or(Flow::Continue)
}

/// Answers with the value of a key, or that there is none, within a reply that began at `start` of
/// the output. For want of memory the whole reply waits or is refused: then how to go on.
#[inline]
fn read(context: &mut Context<'_>, hash: KeyHash, key: &[u8], start: usize) -> Result<(), Flow> {
    let found = if context.session.no_touch {
        context.shard.peek(hash, key, context.now_ms)
    } else {
        context.shard.get(hash, key, context.now_ms)
    };
    let Some(entry) = found else {
        context.counters.misses += 1;
        context.reply().null();
        return Ok(());
    };
    let value = entry.value;
    let value_bytes = value.len();
    let has_room = context.out.len() - start + value_bytes <= context.room_bytes;
    let is_inline = value.as_slice().is_some();
    if has_room && (is_inline || context.out.len() + value_bytes <= REFER_BYTES_MIN) {
        write_value(context.out, &value);
    } else if is_inline {
        return Err(context.without_room(start, refuse_reply));
    } else {
        context.bulk_by_reference(hash, key, value_bytes);
    }
    context.counters.hits += 1;
    Ok(())
}

fn mget(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let start = context.out.len();
    context.reply().array(args.len() - 1);
    let mut first = 1;
    while first < args.len() {
        let last = args.len().min(first + KEYS_AHEAD);
        let mut hashes = [context.first_hash; KEYS_AHEAD];
        for index in first..last {
            let hash = context.hash(args.at(index));
            context.shard.prefetch_line(hash);
            hashes[index - first] = hash;
        }
        for &hash in &hashes[..last - first] {
            context.shard.prefetch_item(hash);
        }
        for index in first..last {
            let (hash, key) = (hashes[index - first], args.at(index));
            if let Err(flow) = read(context, hash, key, start) {
                return flow;
            }
        }
        first = last;
    }
    Flow::Continue
}

fn mset(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if args.len().is_multiple_of(2) {
        context.wrong_arity("mset");
        return Flow::Continue;
    }
    for index in (1..args.len()).step_by(2) {
        let (key, value) = (args.at(index), args.at(index + 1));
        let hash = context.hash(key);
        if let Err(error) = context.shard.set(hash, key, value, &PLAIN, context.now_ms) {
            context.set_error(&error);
            return Flow::Continue;
        }
    }
    context.reply().ok();
    Flow::Continue
}

/// What a write of RESP leaves: no flags, and no deadline unless it says so.
const PLAIN: SetOptions = SetOptions {
    condition: Condition::Always,
    flags: Some(0),
    deadline: Deadline::None,
    version: None,
};

/// What SET's options ask for.
#[derive(Clone, Copy, Default)]
struct SetArguments {
    condition: Condition,
    deadline: Deadline,
    get: bool,
}

/// Why SET's options were refused.
enum Refusal {
    Syntax,
    NotAnInteger,
    InvalidExpiry,
}

fn set(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
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

fn setnx(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
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

fn setex(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    set_expiring(context, args, Unit::Seconds, "setex")
}

fn psetex(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    set_expiring(context, args, Unit::Milliseconds, "psetex")
}

fn set_expiring(
    context: &mut Context<'_>,
    args: &Arguments<'_>,
    unit: Unit,
    name: &'static str,
) -> Flow {
    match expiry_argument(args.at(2), unit, context.now_ms) {
        Ok(deadline) => {
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

/// Answers with the value that SET GET is about to replace. `false` when it answered with an error.
fn write_old(context: &mut Context<'_>, hash: KeyHash, key: &[u8]) -> bool {
    let Some(entry) = context.shard.get(hash, key, context.now_ms) else {
        context.reply().null();
        return true;
    };
    let value = entry.value;
    if value.as_slice().is_none() && context.out.len() + value.len() > REFER_BYTES_MIN {
        let value_bytes = value.len();
        return context.bulk_by_reference(hash, key, value_bytes);
    }
    write_value(context.out, &value);
    true
}

fn refuse(context: &mut Context<'_>, refusal: &Refusal, name: &str) {
    match refusal {
        Refusal::Syntax => context.syntax_error(),
        Refusal::NotAnInteger => context.not_an_integer(),
        Refusal::InvalidExpiry => {
            context.error(&format!("ERR invalid expire time in '{name}' command"));
        }
    }
}

fn parse_set(args: &Arguments<'_>, now_ms: u64) -> Result<SetArguments, Refusal> {
    let mut wanted = SetArguments::default();
    let (mut expiry, mut index) = (None, 3);
    while index < args.len() {
        let unit = [
            ("EX", Unit::Seconds),
            ("PX", Unit::Milliseconds),
            ("EXAT", Unit::UnixSeconds),
            ("PXAT", Unit::UnixMilliseconds),
        ]
        .into_iter()
        .find(|&(word, _)| args.is(index, word));
        let expiry_free = expiry.is_none() && wanted.deadline == Deadline::None;
        if let Some((_, unit)) = unit {
            if !expiry_free || index + 1 == args.len() {
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
        wanted.deadline = expiry_argument(args.at(index), unit, now_ms)?;
    }
    Ok(wanted)
}

fn expiry_argument(text: &[u8], unit: Unit, now_ms: u64) -> Result<Deadline, Refusal> {
    let time = number::parse_i64_strict(text).ok_or(Refusal::NotAnInteger)?;
    if time <= 0 {
        return Err(Refusal::InvalidExpiry);
    }
    expiry::deadline(time, unit, now_ms).map(Deadline::At).ok_or(Refusal::InvalidExpiry)
}
