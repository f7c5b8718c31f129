//! Commands on the connection itself: HELLO, AUTH, PING, CLIENT, QUIT and their relatives.

mod auth;
mod client;
mod clients;

use pinion_engine::DATABASES;

use super::container;
use super::context::{Arguments, Context, Flow};
use super::spec::{Reach, Spec};
use crate::connection::ReplyMode;
use crate::protocol::number;

pub(super) use auth::unlock;

/// The family.
pub(super) const COMMANDS: &[Spec] = &[
    Spec::new("auth", -2, auth::auth)
        .flags("noscript loading stale fast no_auth allow_busy")
        .categories("@fast @connection")
        .cost("O(N) in the length of the password")
        .summary("Gives the password."),
    Spec::new("client", -2, container)
        .categories("@slow")
        .since("2.4.0")
        .summary("Holds the commands on connections.")
        .subcommands(client::SUBCOMMANDS),
    Spec::new("echo", 2, echo)
        .flags("loading stale fast")
        .categories("@fast @connection")
        .summary("Answers with its argument."),
    Spec::new("hello", -1, auth::hello)
        .flags("noscript loading stale fast no_auth allow_busy")
        .categories("@fast @connection")
        .since("6.0.0")
        .summary("Chooses the version of the protocol, and tells what the server is."),
    Spec::new("ping", -1, ping)
        .flags("fast")
        .categories("@fast @connection")
        .tips("request_policy:all_shards response_policy:all_succeeded")
        .reach(Reach::Here)
        .summary("Shows that the server answers."),
    Spec::new("quit", -1, quit)
        .flags("noscript loading stale fast no_auth allow_busy")
        .categories("@fast @connection")
        .summary("Ends the connection."),
    Spec::new("reset", 1, reset)
        .flags("noscript loading stale fast no_auth allow_busy")
        .categories("@fast @connection")
        .since("6.2.0")
        .summary("Makes the connection as it was when it was new."),
    Spec::new("select", 2, select)
        .flags("loading stale fast")
        .categories("@fast @connection")
        .summary("Chooses the database of the commands that follow."),
];

fn ping(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    match args.len() {
        1 => context.reply().simple("PONG"),
        2 => context.reply().bulk(args.at(1)),
        _ => context.wrong_arity("ping"),
    }
    Flow::Continue
}

fn echo(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    context.reply().bulk(args.at(1));
    Flow::Continue
}

fn quit(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    context.reply().ok();
    Flow::Close
}

/// RESET: what the client has set is as at the beginning, but for its number and its library.
fn reset(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    let is_open = !context.settings.has_password();
    let session = &mut *context.session;
    session.discard(context.shard);
    session.watches.clear();
    session.authenticated = is_open;
    session.resp3 = false;
    session.db = 0;
    session.no_touch = false;
    session.no_evict = false;
    session.replies = ReplyMode::On;
    session.name = Vec::new();
    session.recount();
    context.reply().simple("RESET");
    Flow::Continue
}

fn select(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    match number::parse_i64_strict(args.at(1)) {
        Some(db) if db != 0 && context.session.core_port && i32::try_from(db).is_ok() => {
            context.error("ERR SELECT is not allowed in cluster mode");
        }
        Some(db) if (0..DATABASES as i64).contains(&db) => {
            context.session.db = db as u8;
            context.reply().ok();
        }
        Some(db) if i32::try_from(db).is_err() => context
            .error("ERR value is out of range, value must between -2147483648 and 2147483647"),
        Some(_) => context.error("ERR DB index is out of range"),
        None => context.not_an_integer(),
    }
    Flow::Continue
}
