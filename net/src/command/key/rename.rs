//! RENAME, RENAMENX and MOVE. The shard moves the item at once, whatever its size: a large value
//! stays in its pages.

use pinion_engine::{Refusal, Stored};

use super::super::context::{Arguments, Context, Flow};
use super::{database, selected};

pub(super) fn rename(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let (key, new_key) = (args.at(1), args.at(2));
    let (old, new) = ((context.first_hash, key), (context.hash(new_key), new_key));
    match context.shard.rename(old, new, true, context.now_ms) {
        Ok(Stored::Stored { .. }) => context.reply().ok(),
        Ok(Stored::ConditionFailed(_)) => context.error(NO_SUCH_KEY),
        Err(error) => context.set_error(&error),
    }
    Flow::Continue
}

pub(super) fn renamenx(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let (key, new_key) = (args.at(1), args.at(2));
    let (old, new) = ((context.first_hash, key), (context.hash(new_key), new_key));
    match context.shard.rename(old, new, false, context.now_ms) {
        Ok(Stored::Stored { .. }) => context.reply().integer(1),
        Ok(Stored::ConditionFailed(Refusal::Absent)) => context.error(NO_SUCH_KEY),
        Ok(Stored::ConditionFailed(_)) => context.reply().integer(0),
        Err(error) => context.set_error(&error),
    }
    Flow::Continue
}

const NO_SUCH_KEY: &str = "ERR no such key";

/// What COPY and MOVE answer where nothing would change.
pub(super) const SAME_OBJECT: &str = "ERR source and destination objects are the same";

pub(super) fn move_to(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if context.session.core_port {
        context.error("ERR MOVE is not allowed in cluster mode");
        return Flow::Continue;
    }
    let key = args.at(1);
    let Some(target) = database(context, args.at(2)) else { return Flow::Continue };
    if target == selected(context) {
        context.error(SAME_OBJECT);
        return Flow::Continue;
    }
    let (old, new) = (context.first_hash, context.shard.hash_in(target, key));
    match context.shard.rename((old, key), (new, key), false, context.now_ms) {
        Ok(outcome) => {
            let moved = matches!(outcome, Stored::Stored { .. });
            context.reply().integer(i64::from(moved));
        }
        Err(error) => context.set_error(&error),
    }
    Flow::Continue
}
