//! The meta commands: `mg`, `ms`, `md`, `ma` and `me`.
//!
//! The replies are those of memcached 1.6.18, flag by flag, and so are the leases: `W` tells a
//! client to fetch the value, `Z` that another one was told to, `X` that the value is stale. What
//! differs, and what is added:
//!
//! - `h` (was it read before?) is the CLOCK bit of the eviction policy: a store over an item sets
//!   it, too, and it fades when the policy passes the item. `l` (time since the last use) counts
//!   from the last store, and is 0 while `h` is 1. Both cost a lookup of their own.
//! - A key is returned in the form in which it was asked for. memcached remembers the form in which
//!   it was stored.
//! - `T` and an opaque word that is too long are looked at before anything happens; memcached may
//!   stop halfway. A counter that gets longer takes the time to live of `T`; memcached loses it.
//! - `E` (the version that the item gets) and `x` (take the value away, keep the item), and `N`
//!   with a store that appends or prepends (begin a new value), as in newer memcached.
//! - *A lease has a time* (`--lease-timeout`): when the client that won it has not stored for so
//!   long, the next `mg` with `N` wins again, and so does one with `R` if the item is due, and any
//!   one if it is stale. The item then has a new version, so that the first winner's `ms` with its
//!   `C` is refused with `EX`. In memcached everybody gets `Z` until the item is gone.
//! - *Readers may wait* with `w<milliseconds>`, at most a minute: an `mg` that would get `Z` is
//!   answered when the value is stored, the item goes, the lease has timed out, or the time is up,
//!   with what is there then. Later requests of the connection are executed meanwhile, their
//!   replies wait for this one. Beyond `FILL_WAITERS_MAX` readers of a core, `mg` does not wait.
//!
//! Cost: `mg` costs one lookup, as `get`; leases cost a second one, and a write in place or one
//! rewrite of the item.

mod get;
mod other;
mod set;

use pinion_engine::{Entry, KeyHash, Marks};

use super::server_error;
use crate::command::context::{Context, Flow};
use crate::command::expiry;
use crate::protocol::memcached::{
    KeyBuffer, Meta, MetaError, MetaFlags, MetaVerb, Tokens, base64, parse_flags,
};
use crate::protocol::number::write_u64;

pub use set::large_store;

/// A meta command, its flags understood.
struct Asked<'a> {
    flags: MetaFlags,
    key: &'a [u8],
    hash: KeyHash,
    /// The flags as they came, since the reply follows their order.
    words: Tokens<'a>,
}

/// What a command needs to know of an item when it is not looked at any more.
#[derive(Clone, Copy)]
struct Seen {
    value_bytes: usize,
    client_flags: u32,
    version: u64,
    deadline_ms: Option<u64>,
    marks: Marks,
}

impl Seen {
    #[inline]
    fn of(entry: &Entry<'_>) -> Seen {
        Seen {
            value_bytes: entry.value.len(),
            client_flags: entry.flags(),
            version: entry.version(),
            deadline_ms: entry.deadline_ms(),
            marks: entry.marks(),
        }
    }
}

/// Runs a meta command. A read that has waited goes on until `until_ms` at most.
pub(super) fn run(context: &mut Context<'_>, meta: &Meta<'_>, until_ms: Option<u64>) -> Flow {
    // A read that goes on was counted when it came.
    context.counters.memcached.metas += u64::from(until_ms.is_none());
    if meta.verb == MetaVerb::Debug {
        other::debug(context, meta);
        return Flow::Continue;
    }
    let mut decoded = None;
    match asked(context, meta, &mut decoded) {
        Err(error) => server_error(context, error_text(meta.verb, error)),
        Ok(asked) => match meta.verb {
            MetaVerb::Get => return get::run(context, &asked, until_ms),
            MetaVerb::Set => set::run(context, &asked, meta.data),
            MetaVerb::Delete => other::delete(context, &asked),
            MetaVerb::Arithmetic => other::arithmetic(context, &asked),
            MetaVerb::Debug => {}
        },
    }
    Flow::Continue
}

#[inline]
fn asked<'a>(
    context: &Context<'_>,
    meta: &Meta<'a>,
    decoded: &'a mut Option<KeyBuffer>,
) -> Result<Asked<'a>, MetaError> {
    let (flags, key) = parse_flags(meta.key, meta.flags, decoded)?;
    let hash = if flags.has(b'b') { context.shard.hash(key) } else { context.first_hash };
    Ok(Asked { flags, key, hash, words: meta.flags })
}

/// Two commands do not say what is wrong with their flags.
fn error_text(verb: MetaVerb, error: MetaError) -> &'static str {
    match verb {
        MetaVerb::Delete | MetaVerb::Arithmetic => "CLIENT_ERROR invalid or duplicate flag",
        _ => error.text(),
    }
}

/// Complains about an opaque word that is too long; whether it is.
fn refuse_opaque(context: &mut Context<'_>, flags: &MetaFlags) -> bool {
    if flags.opaque_is_too_long {
        server_error(context, "CLIENT_ERROR opaque token too long");
    }
    flags.opaque_is_too_long
}

/// What `h` and `l` tell of an item: whether it was used, and how many seconds ago, about.
fn usage(context: &mut Context<'_>, hash: KeyHash, key: &[u8]) -> Usage {
    let now_ms = context.now_ms;
    Usage {
        was_used: context.shard.was_used(hash, key, now_ms).unwrap_or(false),
        idle_s: context.shard.idle_ms(hash, key, now_ms).unwrap_or(0) / 1_000,
    }
}

/// See [`usage`].
#[derive(Clone, Copy, Default)]
struct Usage {
    was_used: bool,
    idle_s: u64,
}

/// Writes a reply of a status and the words that any reply repeats.
fn status(context: &mut Context<'_>, asked: &Asked<'_>, status: &[u8; 2]) {
    context.out.extend_from_slice(status);
    for word in asked.words {
        echo(context.out, asked, word);
    }
    context.out.extend_from_slice(b"\r\n");
}

/// Writes what a reply repeats of the request: the opaque word and the key.
fn echo(out: &mut Vec<u8>, asked: &Asked<'_>, word: &[u8]) {
    match word.first() {
        Some(b'O') => {
            out.push(b' ');
            out.extend_from_slice(word);
        }
        Some(b'k') => {
            out.extend_from_slice(b" k");
            if asked.flags.has(b'b') {
                base64::encode(asked.key, out);
                out.extend_from_slice(b" b");
            } else {
                out.extend_from_slice(asked.key);
            }
        }
        _ => {}
    }
}

/// Writes a return flag with a number.
fn number(out: &mut Vec<u8>, letter: u8, number: u64) {
    out.extend_from_slice(&[b' ', letter]);
    write_u64(out, number);
}

/// Writes the time to live: whole seconds, rounded up; -1 for an item that has no end.
fn time_to_live(out: &mut Vec<u8>, deadline_ms: Option<u64>, now_ms: u64) {
    match deadline_ms {
        None => out.extend_from_slice(b" t-1"),
        Some(at_ms) => number(out, b't', at_ms.saturating_sub(now_ms).div_ceil(1_000)),
    }
}

/// The deadline that an item has when a flag of the request has been looked at, if it had
/// `before`: `T` sets it, and so does `N` if the command has made the item.
#[inline]
fn deadline_after(
    word: &[u8],
    asked: &Asked<'_>,
    before: Option<u64>,
    is_new: bool,
    now_ms: u64,
) -> Option<u64> {
    match word.first() {
        Some(b'T') => expiry::memcached_deadline(asked.flags.ttl, now_ms),
        Some(b'N') if is_new => expiry::memcached_deadline(asked.flags.vivify_ttl, now_ms),
        _ => before,
    }
}

/// The deadline that a new item gets in the end.
fn final_deadline(asked: &Asked<'_>, now_ms: u64) -> Option<u64> {
    let then = |before, word: &[u8]| deadline_after(word, asked, before, true, now_ms);
    asked.words.fold(None, then)
}
