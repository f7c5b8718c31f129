//! Commands on the server: its size, its settings, its figures, its commands, its end.

mod command;
mod config;
mod debug;
mod keyspace;
mod latency;
mod list;
mod memory;
mod slowlog;
mod state;

use super::context::{Arguments, Context, Flow, printable};
use crate::clock;
use crate::core::InfoRequest;

pub use latency::{Latency, LatencyQuestion};
pub(super) use list::COMMANDS;
pub use slowlog::{SlowCommand, Slowlog, kept_args, write_latest};
pub(super) use slowlog::{TIMED_ARGS_MIN, TIMES_ALL_BELOW_US};
pub use state::{Base, ServerState, Timed};

fn info(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let sections = args.from(1).map(|name| printable(name, 64).to_ascii_lowercase()).collect();
    let view = context.settings.cluster.as_ref().filter(|_| context.session.core_port);
    let core_port = view.map(|view| view.port());
    Flow::Ask(Box::new(InfoRequest::Info { sections, resp3: context.session.resp3, core_port }))
}

/// CORES: of each core what it does and holds.
fn cores(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    Flow::Ask(Box::new(InfoRequest::Cores { resp3: context.session.resp3 }))
}

/// TIME: Unix time as seconds and microseconds.
fn time(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    let now_us = clock::unix_us();
    let mut reply = context.reply();
    reply.array(2);
    reply.bulk_integer((now_us / 1_000_000) as i64);
    reply.bulk_integer((now_us % 1_000_000) as i64);
    Flow::Continue
}

/// SHUTDOWN [NOSAVE|SAVE] [NOW] [FORCE] [ABORT]: there is nothing to save to, so SAVE fails as it
/// does in Redis when it cannot save, unless FORCE says that this is no reason to stay.
fn shutdown(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let (mut save, mut nosave, mut force, mut abort) = (false, false, false, false);
    let mut others = false;
    for index in 1..args.len() {
        if args.is(index, "SAVE") {
            save = true;
        } else if args.is(index, "NOSAVE") {
            nosave = true;
        } else if args.is(index, "NOW") {
            others = true;
        } else if args.is(index, "FORCE") {
            force = true;
        } else if args.is(index, "ABORT") {
            abort = true;
        } else {
            context.syntax_error();
            return Flow::Continue;
        }
    }
    if (save && nosave) || (abort && (save || nosave || force || others)) {
        context.syntax_error();
    } else if abort {
        context.error("ERR No shutdown in progress.");
    } else if save && !force {
        context.error("ERR Errors trying to SHUTDOWN. Check logs.");
    } else {
        return Flow::Stop;
    }
    Flow::Continue
}
