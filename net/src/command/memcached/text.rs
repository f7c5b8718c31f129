//! The classic commands: read, store, count, touch, delete, flush.

use pinion_engine::{
    Condition, Deadline, Deleted, KeyHash, Marks, Refusal, SetError, SetOptions, Stored,
};

use super::server_error;
use crate::command::context::{Context, Flow};
use crate::command::expiry;
use crate::command::large::REFER_BYTES_MIN;
use crate::command::string::{memcached_number, store_keeping};
use crate::protocol::memcached::{Keys, Store, StoreVerb, VALUE_TOO_LARGE, Writer};
use crate::protocol::number::Decimal;

/// Keys of a retrieval whose memory is fetched ahead together.
const KEYS_AHEAD: usize = 16;

pub(super) fn refuse_reply(context: &mut Context<'_>) {
    server_error(context, "SERVER_ERROR out of memory writing get response");
}

pub(super) fn retrieve(
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
                context.counters.memcached.touch_misses += u64::from(touch.is_some());
                continue;
            };
            let value_bytes = entry.value.len();
            let has_room = context.out.len() - start + value_bytes <= context.room_now_bytes;
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
                context.counters.memcached.touch_hits += 1;
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

pub(super) fn store(context: &mut Context<'_>, store: &Store<'_>) {
    let (key, hash, now_ms) = (store.key, context.first_hash, context.now_ms);
    if matches!(store.verb, StoreVerb::Append | StoreVerb::Prepend) {
        let is_prepend = store.verb == StoreVerb::Prepend;
        let outcome = extend(context, key, store.data, is_prepend);
        context.counters.memcached.count_store(&outcome, false);
        return stored(context, outcome);
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
    let has_version = matches!(store.verb, StoreVerb::Cas { .. });
    context.counters.memcached.count_store(&outcome, has_version);
    if has_version && outcome == Ok(Stored::ConditionFailed(Refusal::Absent)) {
        return Writer::new(context.out).not_found();
    }
    stored(context, outcome);
}

/// Appends or prepends: a read, and a write that keeps flags and deadline.
pub(super) fn extend(
    context: &mut Context<'_>,
    key: &[u8],
    data: &[u8],
    is_prepend: bool,
) -> Result<Stored, SetError> {
    let (hash, now_ms) = (context.first_hash, context.now_ms);
    let Some(entry) = context.shard.get(hash, key, now_ms) else {
        return Ok(Stored::ConditionFailed(Refusal::Absent));
    };
    let mut value = Vec::with_capacity(entry.value.len() + data.len());
    if is_prepend {
        value.extend_from_slice(data);
    }
    entry.value.chunks().for_each(|chunk| value.extend_from_slice(chunk));
    if !is_prepend {
        value.extend_from_slice(data);
    }
    store_keeping(context.shard, hash, key, &value, now_ms)
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
        Err(error) => {
            context.count_long_key(&error);
            server_error(context, &format!("CLIENT_ERROR {error}"));
        }
    }
}

pub(super) fn delete(context: &mut Context<'_>, key: &[u8]) {
    let deleted = context.shard.delete(context.first_hash, key, None, context.now_ms);
    let mut writer = Writer::new(context.out);
    if deleted == Deleted::Deleted {
        context.counters.memcached.delete_hits += 1;
        writer.deleted();
    } else {
        context.counters.memcached.delete_misses += 1;
        writer.not_found();
    }
}

/// What counting came to.
pub(super) enum Counted {
    /// The item has this number, and this version.
    Done { number: u64, version: u64 },
    /// There is no such item.
    Absent,
    /// It is no number.
    NotANumber,
    /// It has another version than it should.
    OtherVersion,
    /// It could not be stored.
    Failed(SetError),
}

pub(super) fn arithmetic(context: &mut Context<'_>, key: &[u8], delta: u64, is_decrement: bool) {
    match count(context, key, delta, is_decrement, 0) {
        Counted::Done { number, .. } => Writer::new(context.out).number(number),
        Counted::Absent | Counted::OtherVersion => {
            context.counters.memcached.count_arithmetic(is_decrement, false);
            Writer::new(context.out).not_found();
        }
        Counted::NotANumber => {
            let text = "CLIENT_ERROR cannot increment or decrement non-numeric value";
            server_error(context, text);
        }
        Counted::Failed(error) => stored(context, Err(error)),
    }
}

/// incr wraps around at 2^64, decr stops at 0, and a number that gets shorter is filled up with
/// spaces behind it, all as in memcached. The item must have the `version`, if that is not 0.
pub(super) fn count(
    context: &mut Context<'_>,
    key: &[u8],
    delta: u64,
    is_decrement: bool,
    version: u64,
) -> Counted {
    let (hash, now_ms) = (context.first_hash, context.now_ms);
    let Some(entry) = context.shard.get(hash, key, now_ms) else {
        return Counted::Absent;
    };
    let (old, old_length, marks) =
        (memcached_number(&entry.value), entry.value.len(), entry.marks());
    if old_length > 0 && version != 0 && version != entry.version() {
        return Counted::OtherVersion;
    }
    let Some(old) = old else { return Counted::NotANumber };
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
    // As in memcached, a number that keeps its length is still stale or leased.
    let marks = if value.len() == old_length { marks } else { Marks::NONE };
    let options = SetOptions { deadline: Deadline::Keep, marks, ..SetOptions::default() };
    match context.shard.set(hash, key, value, &options, now_ms) {
        Ok(Stored::Stored { version }) => {
            context.counters.memcached.count_arithmetic(is_decrement, true);
            Counted::Done { number: new, version }
        }
        // The store has no condition.
        Ok(Stored::ConditionFailed(_)) => Counted::Absent,
        Err(error) => Counted::Failed(error),
    }
}

/// Sets a deadline; whether there was an item.
pub(super) fn change_deadline(
    context: &mut Context<'_>,
    hash: KeyHash,
    key: &[u8],
    exptime: i64,
) -> bool {
    let deadline = expiry::memcached_deadline(exptime, context.now_ms);
    matches!(context.shard.set_deadline(hash, key, deadline, context.now_ms), Ok(Some(_)))
}

pub(super) fn touch(context: &mut Context<'_>, key: &[u8], exptime: i64) {
    let found = change_deadline(context, context.first_hash, key, exptime);
    context.counters.memcached.count_touch(found);
    let mut writer = Writer::new(context.out);
    if found { writer.touched() } else { writer.not_found() }
}

pub(super) fn flush_all(context: &mut Context<'_>, delay: i64) -> Flow {
    context.counters.memcached.flushes += 1;
    // Without a delay, or with one that has passed, at once; either way it replaces one that waits.
    Flow::FlushAt(expiry::memcached_deadline(delay, context.now_ms).unwrap_or(0))
}
