//! `stats`. What takes long is asked of the control thread. There are no slab classes to tell of,
//! and what memcached counts only when told to (`detail`, `sizes`) is not counted.

use super::server_error;
use crate::command::context::{Context, Flow};
use crate::core::InfoRequest;
use crate::protocol::memcached::{Tokens, Writer};

/// Runs `stats` with its arguments.
pub(super) fn run(context: &mut Context<'_>, mut args: Tokens<'_>) -> Flow {
    let Some(kind) = args.next() else { return Flow::Ask(Box::new(InfoRequest::MemcachedStats)) };
    match kind {
        b"settings" => return Flow::Ask(Box::new(InfoRequest::MemcachedSettings)),
        b"cores" => cores(context),
        b"reset" => {
            context.counters.reset();
            Writer::new(context.out).line("RESET");
        }
        b"items" | b"conns" => Writer::new(context.out).end(),
        b"slabs" => {
            let log_bytes = context.shard.stats().log_bytes;
            let mut writer = Writer::new(context.out);
            writer.stat_number("active_slabs", 0);
            writer.stat_number("total_malloced", log_bytes);
            writer.end();
        }
        b"sizes" => {
            let mut writer = Writer::new(context.out);
            writer.stat("sizes_status", "disabled");
            writer.end();
        }
        b"detail" => detail(context, args.next()),
        b"cachedump" => server_error(context, "CLIENT_ERROR stats cachedump not allowed"),
        _ => server_error(context, "ERROR"),
    }
    Flow::Continue
}

/// What each core has done, and what its shard holds.
fn cores(context: &mut Context<'_>) {
    let (counters, shard) = (*context.counters, context.shard.stats());
    let mut writer = Writer::new(context.out);
    for (name, value) in [
        ("0:commands", counters.commands),
        ("0:get_hits", counters.hits),
        ("0:get_misses", counters.misses),
        ("0:turns", counters.turns),
        ("0:items", shard.items),
        ("0:bytes", shard.live_bytes),
        ("0:evictions", shard.counters.evictions),
    ] {
        writer.stat_number(name, value);
    }
    writer.end();
}

/// Statistics by the prefix of keys, which are not collected.
fn detail(context: &mut Context<'_>, word: Option<&[u8]>) {
    match word {
        Some(b"off") => Writer::new(context.out).line("OK"),
        Some(b"on") => server_error(context, "CLIENT_ERROR stats detail is not collected"),
        // Nothing was collected.
        Some(b"dump") => Writer::new(context.out).end(),
        _ => server_error(context, "CLIENT_ERROR usage: stats detail on|off|dump"),
    }
}
