//! MGET, MSET and MSETNX.

use super::super::context::{Arguments, Context, Flow};
use super::get::read;
use super::set::PLAIN;

/// Keys of a multi-key command whose memory is fetched ahead together.
const KEYS_AHEAD: usize = 16;

pub(super) fn mget(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
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

pub(super) fn mset(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
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

/// All or none: when a value cannot be stored, those before it are taken back.
pub(super) fn msetnx(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if args.len().is_multiple_of(2) {
        context.wrong_arity("msetnx");
        return Flow::Continue;
    }
    let now_ms = context.now_ms;
    for index in (1..args.len()).step_by(2) {
        let key = args.at(index);
        if context.shard.peek(context.hash(key), key, now_ms).is_some() {
            context.reply().integer(0);
            return Flow::Continue;
        }
    }
    for index in (1..args.len()).step_by(2) {
        let (key, value) = (args.at(index), args.at(index + 1));
        let hash = context.hash(key);
        if let Err(error) = context.shard.set(hash, key, value, &PLAIN, now_ms) {
            // None of these keys existed before.
            for stored in (1..=index).step_by(2) {
                let key = args.at(stored);
                context.shard.delete(context.hash(key), key, None, now_ms);
            }
            context.set_error(&error);
            return Flow::Continue;
        }
    }
    context.reply().integer(1);
    Flow::Continue
}
