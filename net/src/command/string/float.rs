//! INCRBYFLOAT.

use super::super::context::{Arguments, Context, Flow};
use super::counter::store_keeping;
use super::extended::{Extended, Parsed};

pub(super) fn incrbyfloat(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let (key, hash, now_ms) = (args.at(1), context.first_hash, context.now_ms);
    let old = match context.shard.peek(hash, key, now_ms) {
        None => Extended::parse(b"0"),
        Some(entry) => entry.value.as_slice().and_then(Extended::parse),
    };
    let (Some(old), Some(delta)) = (old, Extended::parse(args.at(2))) else {
        context.error("ERR value is not a valid float");
        return Flow::Continue;
    };
    let sum = match (old, delta) {
        (Parsed::Finite(old), Parsed::Finite(delta)) => old.plus(delta),
        _ => None,
    };
    let Some(sum) = sum else {
        context.error("ERR increment would produce NaN or Infinity");
        return Flow::Continue;
    };
    let text = sum.text();
    match store_keeping(context.shard, hash, key, text.as_bytes(), now_ms) {
        Ok(_) => context.reply().bulk(text.as_bytes()),
        Err(error) => context.set_error(&error),
    }
    Flow::Continue
}
