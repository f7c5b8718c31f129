//! Commands on whole databases. A flush and a swap take constant time however many keys there are:
//! items of a flushed database are dead at once, and their memory comes back in the background.

use pinion_engine::DATABASES;

use super::super::context::{Arguments, Context, Flow};
use crate::protocol::number;

pub(super) fn dbsize(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    let items = context.shard.database_stats(context.session.db).items as i64;
    context.reply().integer(items);
    Flow::Continue
}

/// Whether the arguments of a flush are right: ASYNC and SYNC make no difference here.
fn is_flush(context: &mut Context<'_>, args: &Arguments<'_>) -> bool {
    let is_right = match args.len() {
        1 => true,
        2 => args.is(1, "ASYNC") || args.is(1, "SYNC"),
        _ => false,
    };
    if !is_right {
        context.syntax_error();
    }
    is_right
}

pub(super) fn flushall(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if is_flush(context, args) {
        context.shard.flush();
        context.reply().ok();
    }
    Flow::Continue
}

pub(super) fn flushdb(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if is_flush(context, args) {
        context.shard.flush_database(context.session.db);
        context.reply().ok();
    }
    Flow::Continue
}

pub(super) fn swapdb(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if context.session.core_port {
        context.error("ERR SWAPDB is not allowed in cluster mode");
        return Flow::Continue;
    }
    let mut databases = [0; 2];
    for (database, (index, which)) in databases.iter_mut().zip([(1, "first"), (2, "second")]) {
        let given = number::parse_i64_strict(args.at(index));
        let Some(given) = given.filter(|&given| i32::try_from(given).is_ok()) else {
            context.error(&format!("ERR invalid {which} DB index"));
            return Flow::Continue;
        };
        *database = given;
    }
    if databases.iter().any(|database| !(0..DATABASES as i64).contains(database)) {
        context.error("ERR DB index is out of range");
        return Flow::Continue;
    }
    context.shard.swap_databases(databases[0] as u8, databases[1] as u8);
    context.reply().ok();
    Flow::Continue
}
