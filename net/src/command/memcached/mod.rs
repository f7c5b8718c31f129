//! memcached's commands, on the same items as RESP's: flags and versions are there for both, a
//! deadline set by one counts for the other, and a counter of one is a number for the other.
//!
//! - `text`: the classic commands
//! - `binary`: the commands of the binary protocol
//! - `meta`: the meta commands, with leases
//! - `stats`: statistics
//! - `admin`: the commands of an administrator
//! - `auth`: who may use the memcached port
//!
//! What the two protocols make of the same item:
//!
//! - *Client flags*: a store of memcached sets them; one of RESP (`SET`) leaves 0. What changes a
//!   value (`append`, `incr`, `APPEND`, `INCR`) keeps them.
//! - *Deadlines*: seconds of memcached (relative up to 30 days, else Unix time; 0 for none) and
//!   milliseconds of RESP are the same deadline. `set` and `SET` clear it unless they give one or
//!   `KEEPTTL`; what changes a value keeps it. `t` and `me` round seconds up, `TTL` to the nearest,
//!   `PTTL` is exact.
//! - *Versions* (`gets`, `c`): each store of either gives a new one. What sets a deadline alone
//!   (`touch`, `gat`, `T`, `EXPIRE`) does not, and neither does a lease that is won first.
//! - *Counters*: RESP's have 64 bits with a sign, and refuse to leave them; memcached's have none,
//!   wrap around, and stop at 0. So `-5` is no number for memcached, and neither 2^63 nor a number
//!   that was padded to its old length is one for RESP. A value that lies in pages (about 32 KiB
//!   and more) is none for either, whatever it begins with.
//! - *Keys*: memcached's have 250 bytes without spaces and controls, or any 187 bytes in base64;
//!   RESP's are any bytes.
//! - *Databases*: memcached works on database 0.
//! - *Leases*: any store or delete ends one. Reads of RESP and classic ones see what is there, be
//!   it stale, or an empty item whose value is being fetched.

mod admin;
mod auth;
mod binary;
mod meta;
mod stats;
mod text;

use super::age;
use super::context::{Context, Flow};
use crate::protocol::memcached::{
    Administration, KeyBuffer, Limits, Meta, Parse, Progress, Request, RequestError, StatForm,
    Store, StoreVerb, Tokens, VALUE_TOO_LARGE, Writer, binary as protocol, parse, parse_flags,
};

pub use auth::{Credentials, is_authenticated};
pub use binary::{refuse_old as refuse_old_binary, run as run_binary};
pub use meta::large_store;

/// What `version` answers: the memcached whose behaviour clients may expect, and what this is.
pub const VERSION: &str = concat!("1.6.18-pinion-", env!("CARGO_PKG_VERSION"));

const VERSION_LINE: &str = concat!("VERSION 1.6.18-pinion-", env!("CARGO_PKG_VERSION"));

/// The first key of a request, if it has one and it is what the line says.
pub fn first_key<'a>(request: &Request<'a>) -> Option<&'a [u8]> {
    match *request {
        Request::Get { keys, .. } | Request::GetAndTouch { keys, .. } => keys.into_iter().next(),
        Request::Store(Store { key, .. })
        | Request::StoreTooLarge { key, .. }
        | Request::Delete { key, .. }
        | Request::Arithmetic { key, .. }
        | Request::Touch { key, .. } => Some(key),
        Request::Meta(Meta { key, mut flags, .. }) => {
            let is_encoded = flags.any(|flag| flag.first() == Some(&b'b'));
            (!is_encoded).then_some(key)
        }
        _ => None,
    }
}

/// Whether the first key tells which core of a server executes a request; without a key, any.
pub fn is_plain(request: &Request<'_>) -> bool {
    match request {
        Request::Get { keys, .. } | Request::GetAndTouch { keys, .. } => keys.len() == 1,
        Request::Meta(_) => first_key(request).is_some(),
        Request::FlushAll { .. } | Request::Stats { .. } => false,
        Request::Administration { verb: Administration::MemoryLimit, .. } => false,
        _ => true,
    }
}

/// Whether a request without keys changes something on each core.
pub fn is_of_all_cores(request: &Request<'_>) -> bool {
    match *request {
        Request::FlushAll { .. }
        | Request::Administration { verb: Administration::MemoryLimit, .. } => true,
        Request::Stats { mut args } => args.next() == Some(b"reset"),
        _ => false,
    }
}

/// The same of a request of the binary protocol.
pub fn is_binary_of_all_cores(request: &protocol::Request<'_>) -> bool {
    match request.command {
        protocol::Command::Flush { .. } => true,
        protocol::Command::Stat => Tokens::new(request.key).next() == Some(b"reset"),
        _ => false,
    }
}

/// Whether what a request of the binary protocol has for a key is none.
pub fn is_about_server(request: &protocol::Request<'_>) -> bool {
    use protocol::Command;
    matches!(
        request.command,
        Command::Stat
            | Command::Mechanisms
            | Command::Authenticate { .. }
            | Command::Step { .. }
            | Command::Refused { .. }
    )
}

/// The key of a meta command as it is stored: decoded, if it is encoded. `None` if that is wrong.
pub fn plain_key<'a>(meta: &Meta<'a>, decoded: &'a mut Option<KeyBuffer>) -> Option<&'a [u8]> {
    parse_flags(meta.key, meta.flags, decoded).ok().map(|(_, key)| key)
}

/// Where the keys of a retrieval begin in its request: behind the verb, and behind the expiry time
/// of those that set one.
pub fn keys_start(frame: &[u8]) -> usize {
    let is_space = |byte: &u8| *byte == b' ';
    let words = if frame.trim_ascii_start().starts_with(b"gat") { 2 } else { 1 };
    let mut at = 0;
    for _ in 0..words {
        at += frame[at..].iter().take_while(|byte| is_space(byte)).count();
        at += frame[at..].iter().take_while(|byte| !is_space(byte)).count();
    }
    at
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
    let flow = match is_authenticated(context.settings, context.session) {
        true => execute(context, &request),
        false => auth::first(context, &request),
    };
    if noreply {
        context.out.truncate(reply_starts);
    }
    flow
}

/// Runs a read again that has waited for another client to fetch the value ([`Flow::AwaitFill`]).
/// It waits on only until `until_ms`.
pub fn resume(context: &mut Context<'_>, frame: &[u8], limits: &Limits, until_ms: u64) -> Flow {
    match parse(frame, &mut Progress::default(), limits) {
        Parse::Complete { request: Request::Meta(meta), .. } => {
            meta::run(context, &meta, Some(until_ms))
        }
        _ => {
            debug_assert!(false, "only meta commands wait");
            Flow::Continue
        }
    }
}

fn execute(context: &mut Context<'_>, request: &Request<'_>) -> Flow {
    match *request {
        Request::Get { keys, with_version } => {
            return text::retrieve(context, keys, with_version, None);
        }
        Request::GetAndTouch { exptime, keys, with_version } => {
            return text::retrieve(context, keys, with_version, Some(exptime));
        }
        Request::Store(ref store) => text::store(context, store),
        Request::StoreTooLarge { verb, key, .. } => {
            context.counters.memcached.sets += 1;
            context.counters.memcached.store_too_large += 1;
            if verb == StoreVerb::Set {
                context.shard.delete(context.first_hash, key, None, context.now_ms);
            }
            server_error(context, VALUE_TOO_LARGE);
        }
        Request::Delete { key, .. } => text::delete(context, key),
        Request::Arithmetic { is_decrement, key, delta, .. } => {
            text::arithmetic(context, key, delta, is_decrement);
        }
        Request::Touch { key, exptime, .. } => text::touch(context, key, exptime),
        Request::FlushAll { delay, .. } => {
            Writer::new(context.out).line("OK");
            return text::flush_all(context, delay);
        }
        Request::Version => Writer::new(context.out).line(VERSION_LINE),
        Request::Verbosity { .. } => Writer::new(context.out).line("OK"),
        Request::Stats { args } => return stats::run(context, args, StatForm::Text),
        Request::Administration { verb, args, .. } => return admin::run(context, verb, args),
        Request::Quit => return Flow::Close,
        Request::Meta(ref meta) => return meta::run(context, meta, None),
        Request::MetaNoop => {
            context.counters.memcached.metas += 1;
            Writer::new(context.out).line("MN");
        }
    }
    Flow::Continue
}

/// Answers a request that the parser has refused.
pub fn refuse(context: &mut Context<'_>, error: RequestError, noreply: bool) {
    let is_known = is_authenticated(context.settings, context.session);
    let text = if is_known { error.text() } else { auth::UNAUTHENTICATED };
    let reply_starts = context.out.len();
    server_error(context, text);
    if noreply && is_known {
        context.out.truncate(reply_starts);
    }
}

/// Refuses a request that is too old. `None` if it is to be executed all the same: it does nothing
/// but mark the end of others, or its client is not known yet.
pub fn refuse_old(context: &mut Context<'_>, frame: &[u8], limits: &Limits) -> Option<Flow> {
    let Parse::Complete { request, .. } = parse(frame, &mut Progress::default(), limits) else {
        return None;
    };
    let is_mark = matches!(request, Request::Version | Request::MetaNoop | Request::Quit);
    if is_mark || !is_authenticated(context.settings, context.session) {
        return None;
    }
    context.counters.request_age_refusals += 1;
    let reply_starts = context.out.len();
    let text = age::words(context.settings.limits.request_age_ms);
    server_error(context, &format!("SERVER_ERROR {text}"));
    if request.noreply() {
        context.out.truncate(reply_starts);
    }
    Some(Flow::Continue)
}

/// Answers with an error.
fn server_error(context: &mut Context<'_>, text: &str) {
    context.counters.errors += 1;
    Writer::new(context.out).line(text);
}
