//! `md`, `ma` and `me`: delete or mark as stale, count, and look at an item.

use pinion_engine::{Deadline, Marks, SetError, SetOptions, Stored};

use super::{
    Asked, Seen, deadline_after, echo, final_deadline, number, refuse_opaque, status, time_to_live,
    usage,
};
use crate::command::context::Context;
use crate::command::memcached::server_error;
use crate::command::memcached::text::change_deadline;
use crate::command::string::memcached_number;
use crate::protocol::memcached::{KEY_BYTES_MAX, Meta, RequestError, base64};
use crate::protocol::number::{Decimal, write_u64};

const NO_MEMORY: &str = "SERVER_ERROR out of memory";

pub(super) fn delete(context: &mut Context<'_>, asked: &Asked<'_>) {
    let Asked { flags, key, hash, .. } = *asked;
    if refuse_opaque(context, &flags) {
        return;
    }
    let now_ms = context.now_ms;
    let Some(entry) = context.shard.peek(hash, key, now_ms) else {
        context.counters.memcached.delete_misses += 1;
        return status(context, asked, b"NF");
    };
    if flags.given(b'C', flags.compare).is_some_and(|version| version != entry.version()) {
        return status(context, asked, b"EX");
    }
    let done = if flags.has(b'x') {
        empty(context, asked)
    } else if flags.has(b'I') {
        let version = flags.given(b'E', flags.version);
        context.shard.mark_stale(hash, key, version, now_ms).map(|_| ())
    } else {
        context.shard.delete(hash, key, None, now_ms);
        Ok(())
    };
    if done.is_err() {
        return server_error(context, NO_MEMORY);
    }
    context.counters.memcached.delete_hits += 1;
    if flags.has(b'T') && flags.has(b'I') {
        change_deadline(context, hash, key, flags.ttl);
    }
    if !flags.has(b'q') {
        status(context, asked, b"HD");
    }
}

/// Takes the value and the client's flags away, and keeps the item; with `I` it is stale, too.
fn empty(context: &mut Context<'_>, asked: &Asked<'_>) -> Result<(), SetError> {
    let flags = &asked.flags;
    let options = SetOptions {
        flags: Some(0),
        deadline: Deadline::Keep,
        version: flags.given(b'E', flags.version),
        marks: Marks { stale: flags.has(b'I'), token_sent: false },
        ..SetOptions::default()
    };
    context.shard.set(asked.hash, asked.key, b"", &options, context.now_ms).map(|_| ())
}

/// Counts. As in memcached, a number that gets shorter keeps its length, filled up with spaces,
/// and then the item keeps its marks, too.
pub(super) fn arithmetic(context: &mut Context<'_>, asked: &Asked<'_>) {
    let Asked { flags, key, hash, .. } = *asked;
    let is_decrement = match flags.mode {
        0 | b'I' | b'+' => false,
        b'D' | b'-' => true,
        _ => return server_error(context, "CLIENT_ERROR invalid mode for ma M token"),
    };
    if refuse_opaque(context, &flags) {
        return;
    }
    let now_ms = context.now_ms;
    let Some(entry) = context.shard.get(hash, key, now_ms) else {
        return begin_counter(context, asked, is_decrement);
    };
    let seen = Seen::of(&entry);
    let has_other_version = flags.compare != 0 && flags.compare != seen.version;
    let old = memcached_number(&entry.value);
    if seen.value_bytes > 0 && has_other_version {
        return status(context, asked, b"EX");
    }
    let Some(old) = old else {
        let text = "CLIENT_ERROR cannot increment or decrement non-numeric value";
        return server_error(context, text);
    };
    let delta = flags.delta;
    let new = if is_decrement { old.saturating_sub(delta) } else { old.wrapping_add(delta) };
    let digits = Decimal::new(new);
    let digits = digits.as_bytes();
    let mut padded = Vec::new();
    let (value, marks) = if digits.len() > seen.value_bytes {
        (digits, Marks::NONE)
    } else {
        padded.reserve_exact(seen.value_bytes);
        padded.extend_from_slice(digits);
        padded.resize(seen.value_bytes, b' ');
        (&padded[..], seen.marks)
    };
    let options = SetOptions {
        deadline: Deadline::Keep,
        version: flags.given(b'E', flags.version),
        marks,
        ..SetOptions::default()
    };
    let Ok(Stored::Stored { version }) = context.shard.set(hash, key, value, &options, now_ms)
    else {
        return server_error(context, NO_MEMORY);
    };
    context.counters.memcached.count_arithmetic(is_decrement, true);
    if flags.has(b'T') {
        change_deadline(context, hash, key, flags.ttl);
    }
    if !flags.has(b'q') {
        counted(context, asked, digits, version, seen.deadline_ms, false);
    }
}

/// A counter that is not there: with `N` it begins with the value of `J`.
fn begin_counter(context: &mut Context<'_>, asked: &Asked<'_>, is_decrement: bool) {
    let Asked { flags, key, hash, .. } = *asked;
    if !flags.has(b'N') {
        context.counters.memcached.count_arithmetic(is_decrement, false);
        return status(context, asked, b"NF");
    }
    let digits = Decimal::new(flags.initial);
    let digits = digits.as_bytes();
    let options = SetOptions {
        flags: Some(0),
        deadline: final_deadline(asked, context.now_ms).map_or(Deadline::None, Deadline::At),
        version: flags.given(b'E', flags.version),
        ..SetOptions::default()
    };
    match context.shard.set(hash, key, digits, &options, context.now_ms) {
        Ok(Stored::Stored { version }) => counted(context, asked, digits, version, None, true),
        _ => server_error(context, "SERVER_ERROR Out of memory allocating new item"),
    }
}

fn counted(
    context: &mut Context<'_>,
    asked: &Asked<'_>,
    digits: &[u8],
    version: u64,
    mut deadline_ms: Option<u64>,
    is_new: bool,
) {
    let (out, now_ms) = (&mut *context.out, context.now_ms);
    let has_value = asked.flags.has(b'v');
    if has_value {
        out.extend_from_slice(b"VA ");
        write_u64(out, digits.len() as u64);
    } else {
        out.extend_from_slice(b"HD");
    }
    for word in asked.words {
        deadline_ms = deadline_after(word, asked, deadline_ms, is_new, now_ms);
        match word.first() {
            Some(b'c') => number(out, b'c', version),
            Some(b't') => time_to_live(out, deadline_ms, now_ms),
            _ => echo(out, asked, word),
        }
    }
    out.extend_from_slice(b"\r\n");
    if has_value {
        out.extend_from_slice(digits);
        out.extend_from_slice(b"\r\n");
    }
}

/// Tells of an item: seconds since its deadline (so a negative number, or -1 for none) and since
/// its last use, its version, whether it was read, and its bytes. Its class is always 1.
pub(super) fn debug(context: &mut Context<'_>, meta: &Meta<'_>) {
    let mut flags = meta.flags;
    let mut buffer = [0; KEY_BYTES_MAX];
    let is_encoded = flags.next() == Some(b"b");
    let (key, hash) = if is_encoded {
        let Some(length) = base64::decode(meta.key, &mut buffer) else {
            return server_error(context, RequestError::BadFormat.text());
        };
        (&buffer[..length], context.shard.hash(&buffer[..length]))
    } else {
        (meta.key, context.shard.hash(meta.key))
    };
    let now_ms = context.now_ms;
    let usage = usage(context, hash, key);
    let Some(entry) = context.shard.peek(hash, key, now_ms) else {
        return context.out.extend_from_slice(b"EN\r\n");
    };
    let seen = Seen::of(&entry);
    let out = &mut *context.out;
    out.extend_from_slice(b"ME ");
    if is_encoded {
        base64::encode(key, out);
    } else {
        out.extend_from_slice(key);
    }
    out.extend_from_slice(b" exp=-");
    let left_ms = seen.deadline_ms.map(|at_ms| at_ms.saturating_sub(now_ms));
    write_u64(out, left_ms.map_or(1, |left_ms| left_ms.div_ceil(1_000)));
    out.extend_from_slice(b" la=");
    write_u64(out, usage.idle_s);
    out.extend_from_slice(b" cas=");
    write_u64(out, seen.version);
    out.extend_from_slice(if usage.was_used { b" fetch=yes" } else { b" fetch=no" });
    out.extend_from_slice(b" cls=1 size=");
    write_u64(out, (key.len() + seen.value_bytes) as u64);
    out.extend_from_slice(b"\r\n");
}
