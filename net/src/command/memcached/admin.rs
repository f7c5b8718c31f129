//! The commands of an administrator. Those on memcached's inner parts, which this server does not
//! have, answer as memcached does where they are turned off.

use super::server_error;
use crate::command::context::{Context, Flow};
use crate::protocol::memcached::{Administration, Tokens, Writer};
use crate::protocol::number::parse_u64_lenient;

/// The least and the greatest limit that `cache_memlimit` takes, in MiB.
const LIMIT_MIB_MIN: u64 = 8;
const LIMIT_MIB_MAX: u64 = 1_000_000_000;

/// Runs a command with its arguments.
pub(super) fn run(context: &mut Context<'_>, verb: Administration, args: Tokens<'_>) -> Flow {
    match verb {
        Administration::Shutdown => return shutdown(context, args),
        Administration::MemoryLimit => memory_limit(context, args),
        Administration::Slabs => server_error(context, "CLIENT_ERROR slab reassignment disabled"),
        Administration::Lru => server_error(context, "ERROR"),
        Administration::LruCrawler => server_error(context, "CLIENT_ERROR lru crawler disabled"),
        Administration::Watch => server_error(context, "CLIENT_ERROR watch commands not allowed"),
    }
    Flow::Continue
}

/// Both ways of ending send what is ready.
fn shutdown(context: &mut Context<'_>, mut args: Tokens<'_>) -> Flow {
    if !context.settings.memcached_admin {
        server_error(context, "ERROR: shutdown not enabled");
        return Flow::Continue;
    }
    match (args.next(), args.next()) {
        (None, _) | (Some(b"graceful"), None) => Flow::Stop,
        _ => {
            server_error(context, "CLIENT_ERROR invalid shutdown mode");
            Flow::Continue
        }
    }
}

fn memory_limit(context: &mut Context<'_>, mut args: Tokens<'_>) {
    if !context.settings.memcached_admin {
        return server_error(context, "CLIENT_ERROR cache_memlimit not allowed");
    }
    let Some(mib) = args.next().and_then(parse_u64_lenient) else {
        return server_error(context, "ERROR");
    };
    let text = if mib < LIMIT_MIB_MIN {
        "MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m"
    } else if mib > LIMIT_MIB_MAX {
        "MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes"
    } else if context.memory.divide(mib << 20, context.settings.memory_bytes_max()).is_err()
        || context.memory.set(mib << 20, context.shard).is_err()
    {
        "MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust"
    } else {
        return Writer::new(context.out).line("OK");
    };
    server_error(context, text);
}
