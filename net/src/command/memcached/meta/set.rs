//! `ms`: store.

use pinion_engine::{Deadline, Marks, SetError, SetOptions, Stored};

use super::{Asked, deadline_after, echo, final_deadline, number, refuse_opaque};
use crate::command::context::Context;
use crate::command::memcached::server_error;
use crate::protocol::memcached::{
    KeyBuffer, Meta, MetaData, MetaFlags, MetaVerb, VALUE_TOO_LARGE, parse_flags,
};

/// How `ms` stores: its `M`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Set,
    Add,
    Replace,
    Append,
    Prepend,
}

impl Mode {
    fn of(flags: &MetaFlags) -> Option<Mode> {
        match flags.mode {
            0 | b'S' => Some(Mode::Set),
            b'E' => Some(Mode::Add),
            b'R' => Some(Mode::Replace),
            b'A' => Some(Mode::Append),
            b'P' => Some(Mode::Prepend),
            _ => None,
        }
    }

    fn extends(self) -> bool {
        matches!(self, Mode::Append | Mode::Prepend)
    }
}

/// What becomes of the value.
enum Verdict {
    /// It is stored as it is.
    Store,
    /// It is stored, but is out of date already: the item stays stale, and due when it was (`I`).
    StoreStale {
        /// Whether a lease is out.
        token_sent: bool,
    },
    /// The old value is extended.
    Extend,
    /// It is refused with this status.
    Refuse(&'static [u8; 2]),
}

/// The key of a store whose value may arrive in pieces: one that sets, adds or replaces.
pub fn large_store<'a>(meta: &Meta<'a>, decoded: &'a mut Option<KeyBuffer>) -> Option<&'a [u8]> {
    let (flags, key) = parse_flags(meta.key, meta.flags, decoded).ok()?;
    let mode = Mode::of(&flags).filter(|mode| !mode.extends());
    (meta.verb == MetaVerb::Set && mode.is_some() && !flags.opaque_is_too_long).then_some(key)
}

pub(super) fn run(context: &mut Context<'_>, asked: &Asked<'_>, data: MetaData<'_>) {
    let Some(mode) = Mode::of(&asked.flags) else {
        return server_error(context, "CLIENT_ERROR invalid mode for ms M token");
    };
    if refuse_opaque(context, &asked.flags) {
        return;
    }
    let MetaData::Block(data) = data else {
        return too_large(context, asked);
    };
    let outcome = match verdict(context, asked, mode) {
        Verdict::Refuse(status) => {
            count_refusal(context, asked, status);
            return reply(context, asked, status, 0);
        }
        Verdict::Store => store(context, asked, data),
        Verdict::StoreStale { token_sent } => store_stale(context, asked, data, token_sent),
        Verdict::Extend => extend(context, asked, data, mode),
    };
    let has_version = asked.flags.has(b'C') && !mode.extends();
    context.counters.memcached.count_store(&outcome, has_version);
    match outcome {
        Ok(Stored::Stored { .. }) if asked.flags.has(b'q') => {}
        Ok(Stored::Stored { version }) => reply(context, asked, b"HD", version),
        // The item has gone to make room, between the look and the store.
        Ok(Stored::ConditionFailed(_)) => reply(context, asked, b"NS", 0),
        Err(SetError::ValueTooLong { .. } | SetError::TooLarge) => refuse_length(context, asked),
        Err(SetError::NoSpace) => {
            server_error(context, "SERVER_ERROR out of memory storing object");
        }
        Err(error) => {
            context.count_long_key(&error);
            server_error(context, &format!("CLIENT_ERROR {error}"));
        }
    }
}

fn count_refusal(context: &mut Context<'_>, asked: &Asked<'_>, status: &[u8; 2]) {
    let counters = &mut context.counters.memcached;
    counters.sets += 1;
    let has_version = asked.flags.has(b'C');
    counters.cas_misses += u64::from(has_version && status == b"NF");
    counters.cas_badval += u64::from(has_version && status == b"EX");
}

/// Whatever the mode, the old value must go: the client wanted it changed.
fn too_large(context: &mut Context<'_>, asked: &Asked<'_>) {
    context.counters.memcached.sets += 1;
    context.counters.memcached.store_too_large += 1;
    refuse_length(context, asked);
}

fn refuse_length(context: &mut Context<'_>, asked: &Asked<'_>) {
    context.shard.delete(asked.hash, asked.key, None, context.now_ms);
    server_error(context, VALUE_TOO_LARGE);
}

/// Looks at the item, and at the version that it should have (`C`). 0 is no item's version.
fn verdict(context: &mut Context<'_>, asked: &Asked<'_>, mode: Mode) -> Verdict {
    let flags = &asked.flags;
    let has_compare = flags.has(b'C');
    let old = context.shard.peek(asked.hash, asked.key, context.now_ms);
    let old = old.map(|entry| (entry.version(), entry.marks()));
    match (mode, old) {
        (Mode::Add, Some(_)) => Verdict::Refuse(b"NS"),
        (Mode::Add, None) => Verdict::Store,
        (Mode::Set | Mode::Replace, None) if has_compare => Verdict::Refuse(b"NF"),
        (Mode::Set, None) => Verdict::Store,
        (Mode::Replace, None) => Verdict::Refuse(b"NS"),
        (Mode::Append | Mode::Prepend, None) if flags.has(b'N') => Verdict::Store,
        (Mode::Append | Mode::Prepend, None) => Verdict::Refuse(b"NS"),
        (Mode::Set | Mode::Replace, Some(_)) if !has_compare => Verdict::Store,
        (Mode::Set | Mode::Replace, Some((version, marks))) => match flags.compare {
            0 => Verdict::Refuse(b"EX"),
            wanted if wanted == version => Verdict::Store,
            wanted if flags.has(b'I') && wanted < version => {
                Verdict::StoreStale { token_sent: marks.token_sent }
            }
            _ => Verdict::Refuse(b"EX"),
        },
        (Mode::Append | Mode::Prepend, Some((version, _))) => {
            let is_other = has_compare && flags.compare != 0 && flags.compare != version;
            if is_other { Verdict::Refuse(b"EX") } else { Verdict::Extend }
        }
    }
}

/// Stores the value, which is that in `data` or one that came in pieces.
fn store(context: &mut Context<'_>, asked: &Asked<'_>, data: &[u8]) -> Result<Stored, SetError> {
    let flags = &asked.flags;
    // `N` counts for a new value of a store that extends.
    let deadline_ms = match Mode::of(flags).is_some_and(Mode::extends) {
        true => final_deadline(asked, context.now_ms),
        false => asked
            .words
            .fold(None, |before, word| deadline_after(word, asked, before, false, context.now_ms)),
    };
    let options = SetOptions {
        flags: Some(flags.client_flags),
        deadline: deadline_ms.map_or(Deadline::None, Deadline::At),
        version: flags.given(b'E', flags.version),
        ..SetOptions::default()
    };
    context.store(asked.hash, asked.key, data, &options)
}

fn store_stale(
    context: &mut Context<'_>,
    asked: &Asked<'_>,
    data: &[u8],
    token_sent: bool,
) -> Result<Stored, SetError> {
    let flags = &asked.flags;
    let options = SetOptions {
        flags: Some(flags.client_flags),
        deadline: Deadline::Keep,
        version: flags.given(b'E', flags.version),
        marks: Marks { stale: true, token_sent },
        ..SetOptions::default()
    };
    context.store(asked.hash, asked.key, data, &options)
}

/// Appends or prepends: a read, and a write that keeps flags and deadline.
fn extend(
    context: &mut Context<'_>,
    asked: &Asked<'_>,
    data: &[u8],
    mode: Mode,
) -> Result<Stored, SetError> {
    let (key, hash, now_ms) = (asked.key, asked.hash, context.now_ms);
    let Some(entry) = context.shard.peek(hash, key, now_ms) else {
        return Err(SetError::NoSpace);
    };
    let mut value = Vec::with_capacity(entry.value.len() + data.len());
    if mode == Mode::Prepend {
        value.extend_from_slice(data);
    }
    entry.value.chunks().for_each(|chunk| value.extend_from_slice(chunk));
    if mode == Mode::Append {
        value.extend_from_slice(data);
    }
    let options = SetOptions {
        deadline: Deadline::Keep,
        version: asked.flags.given(b'E', asked.flags.version),
        ..SetOptions::default()
    };
    context.shard.set(hash, key, &value, &options, now_ms)
}

/// The status, and the flags that `ms` returns. Only what was stored has a version.
fn reply(context: &mut Context<'_>, asked: &Asked<'_>, status: &[u8; 2], version: u64) {
    context.out.extend_from_slice(status);
    for word in asked.words {
        match word.first() {
            Some(b'c') => number(context.out, b'c', version),
            _ => echo(context.out, asked, word),
        }
    }
    context.out.extend_from_slice(b"\r\n");
}
