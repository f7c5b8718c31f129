//! `mg`: read, with leases.

use pinion_engine::{Deadline, Marks, SetOptions, Stored};

use super::{
    Asked, Seen, Usage, deadline_after, echo, final_deadline, number, refuse_opaque, status,
    time_to_live, usage,
};
use crate::command::context::{Context, Flow};
use crate::command::expiry;
use crate::command::large::REFER_BYTES_MIN;
use crate::command::memcached::server_error;
use crate::command::memcached::text::{change_deadline, refuse_reply};
use crate::protocol::number::write_u64;

/// What the reply says of the item's lease.
#[derive(Clone, Copy, Default)]
struct Lease {
    /// The item was made by this command.
    is_new: bool,
    /// `W`: this client is to fetch the value.
    is_won: bool,
    /// `Z`: another one was told to.
    is_out: bool,
}

/// What an attempt to answer came to.
enum Attempt {
    /// There is no such item.
    Missed,
    /// Whether a lease is handed out is to be decided first. Nothing was written.
    Undecided(Seen),
    /// The reply is written, or waits.
    Done(Flow),
}

pub(super) fn run(context: &mut Context<'_>, asked: &Asked<'_>, until_ms: Option<u64>) -> Flow {
    if refuse_opaque(context, &asked.flags) {
        return Flow::Continue;
    }
    match answer(context, asked, None) {
        Attempt::Missed => missed(context, asked),
        Attempt::Undecided(seen) => leased(context, asked, &seen, until_ms),
        Attempt::Done(flow) => flow,
    }
}

/// Answers with the item. Without a `lease` to tell of, it looks whether one comes into question.
#[inline]
fn answer(context: &mut Context<'_>, asked: &Asked<'_>, lease: Option<Lease>) -> Attempt {
    let Asked { flags, key, hash, .. } = *asked;
    let (start, now_ms) = (context.out.len(), context.now_ms);
    let counts_as_use = lease.is_none() && !flags.has(b'u');
    let usage = match flags.has(b'h') || flags.has(b'l') {
        true => usage(context, hash, key),
        false => Usage::default(),
    };
    let entry = match counts_as_use {
        true => context.shard.get(hash, key, now_ms),
        false => context.shard.peek(hash, key, now_ms),
    };
    let Some(entry) = entry else { return Attempt::Missed };
    let seen = Seen::of(&entry);
    let lease = match lease {
        Some(lease) => lease,
        None if seen.marks == Marks::NONE && !flags.has(b'R') => Lease::default(),
        None => return Attempt::Undecided(seen),
    };
    let has_room = seen.value_bytes <= context.room_now_bytes;
    write_line(context.out, asked, &seen, lease, usage, now_ms);
    if flags.has(b'v') {
        if let Some(bytes) = entry.value.as_slice() {
            if !has_room {
                return Attempt::Done(context.without_room(start, refuse_reply));
            }
            context.out.extend_from_slice(bytes);
        } else if has_room && context.out.len() + seen.value_bytes <= REFER_BYTES_MIN {
            entry.value.chunks().for_each(|chunk| context.out.extend_from_slice(chunk));
        } else if context.refer_to(hash, key).is_err() {
            context.take_back(start);
            refuse_reply(context);
            return Attempt::Done(Flow::Continue);
        }
        context.out.extend_from_slice(b"\r\n");
    }
    context.counters.hits += 1;
    if flags.has(b'T') {
        context.counters.memcached.touch_hits += 1;
        // The value is answered even if the new deadline has passed.
        change_deadline(context, hash, key, flags.ttl);
    }
    Attempt::Done(Flow::Continue)
}

/// Writes the line before the value, or instead of it.
#[inline]
fn write_line(
    out: &mut Vec<u8>,
    asked: &Asked<'_>,
    seen: &Seen,
    lease: Lease,
    usage: Usage,
    now_ms: u64,
) {
    if asked.flags.has(b'v') {
        out.extend_from_slice(b"VA ");
        write_u64(out, seen.value_bytes as u64);
    } else {
        out.extend_from_slice(b"HD");
    }
    let mut deadline_ms = if lease.is_new { None } else { seen.deadline_ms };
    for word in asked.words {
        match word.first() {
            Some(b'v') => {}
            Some(b'T' | b'N') => {
                deadline_ms = deadline_after(word, asked, deadline_ms, lease.is_new, now_ms);
            }
            Some(b's') => number(out, b's', seen.value_bytes as u64),
            Some(b't') => time_to_live(out, deadline_ms, now_ms),
            Some(b'c') => number(out, b'c', seen.version),
            Some(b'f') => number(out, b'f', u64::from(seen.client_flags)),
            Some(b'l') => number(out, b'l', usage.idle_s),
            Some(b'h') => number(out, b'h', u64::from(usage.was_used)),
            _ => echo(out, asked, word),
        }
    }
    let marks = [(lease.is_out, b" Z"), (seen.marks.stale, b" X"), (lease.is_won, b" W")];
    for (_, mark) in marks.into_iter().filter(|&(is_set, _)| is_set) {
        out.extend_from_slice(mark);
    }
    out.extend_from_slice(b"\r\n");
}

/// Answers a miss, or makes an empty item and lets the client fetch its value (`N`).
fn missed(context: &mut Context<'_>, asked: &Asked<'_>) -> Flow {
    let Asked { flags, key, hash, .. } = *asked;
    context.counters.misses += 1;
    context.counters.memcached.touch_misses += u64::from(flags.has(b'T'));
    if flags.has(b'N') {
        let marks = Marks { token_sent: true, ..Marks::NONE };
        let deadline_ms = final_deadline(asked, context.now_ms);
        let options = SetOptions {
            flags: Some(0),
            deadline: deadline_ms.map_or(Deadline::None, Deadline::At),
            version: flags.given(b'E', flags.version),
            marks,
            ..SetOptions::default()
        };
        if let Ok(Stored::Stored { version }) =
            context.shard.set(hash, key, b"", &options, context.now_ms)
        {
            let seen = Seen { value_bytes: 0, client_flags: 0, version, deadline_ms: None, marks };
            let lease = Lease { is_new: true, is_won: true, is_out: false };
            write_line(context.out, asked, &seen, lease, Usage::default(), context.now_ms);
            if flags.has(b'v') {
                context.out.extend_from_slice(b"\r\n");
            }
            return Flow::Continue;
        }
    }
    if !flags.has(b'q') {
        status(context, asked, b"EN");
    }
    Flow::Continue
}

/// Answers with an item that a lease is out for, that is stale, or that may be due.
fn leased(
    context: &mut Context<'_>,
    asked: &Asked<'_>,
    seen: &Seen,
    until_ms: Option<u64>,
) -> Flow {
    let Asked { flags, key, hash, .. } = *asked;
    let now_ms = context.now_ms;
    let lease_until_ms = context.shard.lease_until_ms(hash, now_ms);
    let is_out = seen.marks.token_sent && lease_until_ms.is_some();
    // A lease that has timed out does not stand for a value: `N` is enough to win it again.
    let was_left = seen.marks.token_sent && !is_out && flags.has(b'N');
    let is_won = !is_out && (was_left || seen.marks.stale || is_due(asked, seen, now_ms));
    if is_out && flags.wait_ms > 0 {
        let until_ms = until_ms.unwrap_or(now_ms + u64::from(flags.wait_ms));
        if now_ms < until_ms {
            let look_ms = until_ms.min(lease_until_ms.unwrap_or(until_ms));
            return Flow::AwaitFill { hash, look_ms, until_ms };
        }
    }
    if is_won {
        if flags.has(b'v') && seen.value_bytes > context.room_now_bytes {
            // The lease must not be lost when the command is executed again.
            let start = context.out.len();
            return context.without_room(start, refuse_reply);
        }
        match context.shard.grant_lease(hash, key, now_ms) {
            Ok(Some(_)) => {}
            Ok(None) => return missed(context, asked),
            Err(_) => {
                server_error(context, "SERVER_ERROR out of memory storing object");
                return Flow::Continue;
            }
        }
    }
    let lease = Lease { is_new: false, is_won, is_out: seen.marks.token_sent && !is_won };
    match answer(context, asked, Some(lease)) {
        Attempt::Done(flow) => flow,
        Attempt::Missed | Attempt::Undecided(_) => missed(context, asked),
    }
}

/// Whether the item has less time left than `R` says, in whole seconds. One without an end is
/// never due.
fn is_due(asked: &Asked<'_>, seen: &Seen, now_ms: u64) -> bool {
    let Some(recache_ms) = expiry::memcached_deadline(asked.flags.recache, now_ms) else {
        return false;
    };
    let mut deadline_ms = seen.deadline_ms;
    for word in asked.words {
        if word.first() == Some(&b'R') {
            break;
        }
        deadline_ms = deadline_after(word, asked, deadline_ms, false, now_ms);
    }
    let left_s = |at_ms: u64| at_ms.saturating_sub(now_ms).div_ceil(1_000);
    asked.flags.has(b'R')
        && deadline_ms.is_some_and(|deadline_ms| left_s(deadline_ms) < left_s(recache_ms))
}
