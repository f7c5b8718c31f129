//! memcached's commands, on the same items as RESP's: flags and versions are there for both, a
//! deadline set by one counts for the other, and a counter of one is a number for the other.

use pinion_engine::{Condition, Deadline, Deleted, Refusal, SetError, SetOptions, Stored};

use super::connection::unlock;
use super::context::{Context, Flow};
use super::expiry;
use super::large::REFER_BYTES_MIN;
use super::string::{memcached_number, store_keeping};
use crate::core::InfoRequest;
use crate::protocol::memcached::{
    Keys, Limits, Parse, Progress, Request, Store, StoreVerb, Tokens, VALUE_TOO_LARGE, Writer,
    parse,
};
use crate::protocol::number::Decimal;

/// What `version` answers: the memcached whose behaviour clients may expect, and what this is.
pub const VERSION: &str = concat!("1.6.18-pinion-", env!("CARGO_PKG_VERSION"));

const VERSION_LINE: &str = concat!("VERSION 1.6.18-pinion-", env!("CARGO_PKG_VERSION"));

/// The first key of a request, if it has one.
pub fn first_key<'a>(request: &Request<'a>) -> Option<&'a [u8]> {
    match *request {
        Request::Get { keys, .. } | Request::GetAndTouch { keys, .. } => keys.into_iter().next(),
        Request::Store(Store { key, .. })
        | Request::StoreTooLarge { key, .. }
        | Request::Delete { key, .. }
        | Request::Arithmetic { key, .. }
        | Request::Touch { key, .. } => Some(key),
        _ => None,
    }
}

/// Runs the request in `frame`, which a parser has found whole.
pub fn run(context: &mut Context<'_>, frame: &[u8], limits: &Limits) -> Flow {
    context.counters.commands += 1;
    // The line is read a second time: cheaper than keeping all that a request may hold.
    let Parse::Complete { request, .. } = parse(frame, &mut Progress::default(), limits) else {
        debug_assert!(false, "the frame was whole when it was found");
        return Flow::Close;
    };
    let (noreply, reply_starts) = (request.noreply(), context.out.len());
    if !context.session.authenticated && context.settings.has_password() {
        return authenticate(context, &request);
    }
    let flow = execute(context, &request);
    if noreply {
        context.out.truncate(reply_starts);
    }
    flow
}

fn execute(context: &mut Context<'_>, request: &Request<'_>) -> Flow {
    match *request {
        Request::Get { keys, with_version } => return retrieve(context, keys, with_version, None),
        Request::GetAndTouch { exptime, keys, with_version } => {
            return retrieve(context, keys, with_version, Some(exptime));
        }
        Request::Store(ref store) => self::store(context, store),
        Request::StoreTooLarge { verb, key, .. } => {
            if verb == StoreVerb::Set {
                context.shard.delete(context.first_hash, key, None, context.now_ms);
            }
            server_error(context, VALUE_TOO_LARGE);
        }
        Request::Delete { key, .. } => delete(context, key),
        Request::Arithmetic { is_decrement, key, delta, .. } => {
            arithmetic(context, key, delta, is_decrement);
        }
        Request::Touch { key, exptime, .. } => touch(context, key, exptime),
        Request::FlushAll { delay, .. } => return flush_all(context, delay),
        Request::Version => Writer::new(context.out).line(VERSION_LINE),
        Request::Verbosity { .. } => Writer::new(context.out).line("OK"),
        Request::Stats { args } => return stats(context, args),
        Request::Quit => return Flow::Close,
        Request::Meta(_) | Request::MetaNoop => server_error(context, "ERROR"),
    }
    Flow::Continue
}

/// What a client may do that has not given the password: give it, as the data of a `set` of any
/// key, `default` and the password with a space between; or go. As memcached with `-Y`.
fn authenticate(context: &mut Context<'_>, request: &Request<'_>) -> Flow {
    let text = match request {
        Request::Quit => return Flow::Close,
        Request::Store(Store { verb: StoreVerb::Set, data, .. }) => {
            let space = data.iter().position(|&byte| byte == b' ').unwrap_or(data.len());
            let (user, password) = data.split_at(space);
            if unlock(context, user, password.get(1..).unwrap_or_default()) {
                "STORED"
            } else {
                "CLIENT_ERROR authentication failure"
            }
        }
        _ => "CLIENT_ERROR unauthenticated",
    };
    context.counters.errors += u64::from(text != "STORED");
    Writer::new(context.out).line(text);
    Flow::Continue
}

fn server_error(context: &mut Context<'_>, text: &str) {
    context.counters.errors += 1;
    Writer::new(context.out).line(text);
}

/// Keys of a retrieval whose memory is fetched ahead together.
const KEYS_AHEAD: usize = 16;

fn refuse_reply(context: &mut Context<'_>) {
    server_error(context, "SERVER_ERROR out of memory writing get response");
}

fn retrieve(
    context: &mut Context<'_>,
    keys: Keys<'_>,
    with_version: bool,
    touch: Option<i64>,
) -> Flow {
    let start = context.out.len();
    let mut ahead = [(context.first_hash, &[][..]); KEYS_AHEAD];
    let mut keys = keys.into_iter();
    loop {
        let mut count = 0;
        for key in keys.by_ref().take(KEYS_AHEAD) {
            let hash = context.shard.hash(key);
            context.shard.prefetch_line(hash);
            ahead[count] = (hash, key);
            count += 1;
        }
        if count > 1 {
            for &(hash, _) in &ahead[..count] {
                context.shard.prefetch_item(hash);
            }
        }
        for &(hash, key) in &ahead[..count] {
            let Some(entry) = context.shard.get(hash, key, context.now_ms) else {
                context.counters.misses += 1;
                continue;
            };
            let value_bytes = entry.value.len();
            let has_room = context.out.len() - start + value_bytes <= context.room_bytes;
            let version = with_version.then(|| entry.version());
            let mut writer = Writer::new(context.out);
            if let Some(bytes) = entry.value.as_slice() {
                if !has_room {
                    return context.without_room(start, refuse_reply);
                }
                writer.value(key, entry.flags(), bytes, version);
            } else {
                writer.value_header(key, entry.flags(), value_bytes, version);
                if has_room && context.out.len() + value_bytes <= REFER_BYTES_MIN {
                    entry.value.chunks().for_each(|chunk| context.out.extend_from_slice(chunk));
                } else if context.refer_to(hash, key).is_err() {
                    context.take_back(start);
                    refuse_reply(context);
                    return Flow::Continue;
                }
                context.out.extend_from_slice(b"\r\n");
            }
            context.counters.hits += 1;
            // The value is answered even if the new deadline has passed.
            if let Some(exptime) = touch {
                change_deadline(context, hash, key, exptime);
            }
        }
        if count < KEYS_AHEAD {
            break;
        }
    }
    Writer::new(context.out).end();
    Flow::Continue
}

fn store(context: &mut Context<'_>, store: &Store<'_>) {
    let (key, hash, now_ms) = (store.key, context.first_hash, context.now_ms);
    if matches!(store.verb, StoreVerb::Append | StoreVerb::Prepend) {
        return extend(context, store);
    }
    let condition = match store.verb {
        StoreVerb::Add => Condition::IfAbsent,
        StoreVerb::Replace => Condition::IfPresent,
        StoreVerb::Cas { version } => Condition::IfVersion(version),
        StoreVerb::Set | StoreVerb::Append | StoreVerb::Prepend => Condition::Always,
    };
    let deadline = match expiry::memcached_deadline(store.exptime, now_ms) {
        None => Deadline::None,
        Some(at_ms) => Deadline::At(at_ms),
    };
    let options =
        SetOptions { condition, flags: Some(store.flags), deadline, ..SetOptions::default() };
    let outcome = context.store(hash, key, store.data, &options);
    if matches!(store.verb, StoreVerb::Cas { .. })
        && outcome == Ok(Stored::ConditionFailed(Refusal::Absent))
    {
        return Writer::new(context.out).not_found();
    }
    stored(context, outcome);
}

/// Appends or prepends: a read, and a write that keeps flags and deadline.
fn extend(context: &mut Context<'_>, store: &Store<'_>) {
    let (key, hash, now_ms) = (store.key, context.first_hash, context.now_ms);
    let Some(entry) = context.shard.get(hash, key, now_ms) else {
        return Writer::new(context.out).not_stored();
    };
    let mut value = Vec::with_capacity(entry.value.len() + store.data.len());
    if store.verb == StoreVerb::Prepend {
        value.extend_from_slice(store.data);
    }
    entry.value.chunks().for_each(|chunk| value.extend_from_slice(chunk));
    if store.verb == StoreVerb::Append {
        value.extend_from_slice(store.data);
    }
    let outcome = store_keeping(context.shard, hash, key, &value, now_ms);
    stored(context, outcome);
}

fn stored(context: &mut Context<'_>, outcome: Result<Stored, SetError>) {
    use Refusal::{Absent, Present, VersionMismatch};
    let mut writer = Writer::new(context.out);
    match outcome {
        Ok(Stored::Stored { .. }) => writer.stored(),
        Ok(Stored::ConditionFailed(VersionMismatch)) => writer.exists(),
        Ok(Stored::ConditionFailed(Present)) => writer.not_stored(),
        Ok(Stored::ConditionFailed(Absent)) => writer.not_stored(),
        Err(SetError::ValueTooLong { .. } | SetError::TooLarge) => {
            server_error(context, VALUE_TOO_LARGE);
        }
        Err(SetError::NoSpace) => {
            server_error(context, "SERVER_ERROR out of memory storing object");
        }
        Err(error) => server_error(context, &format!("CLIENT_ERROR {error}")),
    }
}

fn delete(context: &mut Context<'_>, key: &[u8]) {
    let deleted = context.shard.delete(context.first_hash, key, None, context.now_ms);
    let mut writer = Writer::new(context.out);
    match deleted {
        Deleted::Deleted => writer.deleted(),
        Deleted::Absent | Deleted::VersionMismatch => writer.not_found(),
    }
}

/// incr wraps around at 2^64, decr stops at 0, and a number that gets shorter is filled up with
/// spaces behind it, all as in memcached.
fn arithmetic(context: &mut Context<'_>, key: &[u8], delta: u64, is_decrement: bool) {
    let (hash, now_ms) = (context.first_hash, context.now_ms);
    let Some(entry) = context.shard.get(hash, key, now_ms) else {
        return Writer::new(context.out).not_found();
    };
    let (old, old_length) = (memcached_number(&entry.value), entry.value.len());
    let Some(old) = old else {
        let text = "CLIENT_ERROR cannot increment or decrement non-numeric value";
        return server_error(context, text);
    };
    let new = if is_decrement { old.saturating_sub(delta) } else { old.wrapping_add(delta) };
    let digits = Decimal::new(new);
    let digits = digits.as_bytes();
    let mut padded = Vec::new();
    let value = if digits.len() >= old_length {
        digits
    } else {
        padded.reserve_exact(old_length);
        padded.extend_from_slice(digits);
        padded.resize(old_length, b' ');
        &padded
    };
    match store_keeping(context.shard, hash, key, value, now_ms) {
        Ok(_) => Writer::new(context.out).number(new),
        Err(error) => stored(context, Err(error)),
    }
}

/// Sets a deadline; whether there was an item.
fn change_deadline(
    context: &mut Context<'_>,
    hash: pinion_engine::KeyHash,
    key: &[u8],
    exptime: i64,
) -> bool {
    let deadline = expiry::memcached_deadline(exptime, context.now_ms);
    matches!(context.shard.set_deadline(hash, key, deadline, context.now_ms), Ok(Some(_)))
}

fn touch(context: &mut Context<'_>, key: &[u8], exptime: i64) {
    let found = change_deadline(context, context.first_hash, key, exptime);
    let mut writer = Writer::new(context.out);
    if found { writer.touched() } else { writer.not_found() }
}

fn flush_all(context: &mut Context<'_>, delay: i64) -> Flow {
    Writer::new(context.out).line("OK");
    // Without a delay, or with one that has passed, at once; either way it replaces one that waits.
    Flow::FlushAt(expiry::memcached_deadline(delay, context.now_ms).unwrap_or(0))
}

fn stats(context: &mut Context<'_>, mut args: Tokens<'_>) -> Flow {
    match args.next() {
        None => return Flow::Ask(InfoRequest::MemcachedStats),
        Some(b"settings") => return Flow::Ask(InfoRequest::MemcachedSettings),
        Some(b"reset") => {
            context.counters.reset();
            Writer::new(context.out).line("RESET");
        }
        // There are no slab classes to tell of.
        Some(b"items" | b"slabs" | b"sizes" | b"conns") => Writer::new(context.out).end(),
        Some(_) => server_error(context, "ERROR"),
    }
    Flow::Continue
}
