//! Commands on the connection itself: HELLO, PING, CLIENT, QUIT and their relatives.

use super::REDIS_VERSION;
use super::container;
use super::context::{Arguments, Context, Flow, printable};
use super::spec::Spec;
use crate::protocol::number;
use crate::protocol::resp::Writer;

/// The family.
pub(super) const COMMANDS: &[Spec] = &[
    Spec::new("client", -2, container)
        .categories("@slow")
        .since("2.4.0")
        .summary("A container for client connection commands.")
        .subcommands(&[
            Spec::new("setname", 3, client_setname)
                .flags("noscript loading stale")
                .categories("@slow @connection")
                .since("2.6.9")
                .summary("Names the connection."),
            Spec::new("getname", 2, client_getname)
                .flags("noscript loading stale")
                .categories("@slow @connection")
                .since("2.6.9")
                .summary("Returns the name of the connection."),
            Spec::new("id", 2, client_id)
                .flags("noscript loading stale")
                .categories("@slow @connection")
                .since("5.0.0")
                .summary("Returns the number of the connection."),
            Spec::new("setinfo", 4, client_setinfo)
                .flags("noscript loading stale")
                .categories("@slow @connection")
                .tips("request_policy:all_nodes response_policy:all_succeeded")
                .since("7.2.0")
                .summary("Tells which library the client uses."),
        ]),
    Spec::new("echo", 2, echo)
        .flags("loading stale fast")
        .categories("@fast @connection")
        .summary("Returns the given string."),
    Spec::new("hello", -1, hello)
        .flags("noscript loading stale fast no_auth allow_busy")
        .categories("@fast @connection")
        .since("6.0.0")
        .summary("Handshakes with the server."),
    Spec::new("ping", -1, ping)
        .flags("fast")
        .categories("@fast @connection")
        .tips("request_policy:all_shards response_policy:all_succeeded")
        .summary("Returns the server's liveliness response."),
    Spec::new("quit", -1, quit)
        .flags("noscript loading stale fast no_auth allow_busy")
        .categories("@fast @connection")
        .summary("Closes the connection."),
    Spec::new("reset", 1, reset)
        .flags("noscript loading stale fast no_auth allow_busy")
        .categories("@fast @connection")
        .since("6.2.0")
        .summary("Resets the connection."),
    Spec::new("select", 2, select)
        .flags("loading stale fast")
        .categories("@fast @connection")
        .summary("Changes the selected database."),
];

pub(super) fn ping(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    match args.len() {
        1 => context.reply().simple("PONG"),
        2 => context.reply().bulk(args.at(1)),
        _ => context.wrong_arity("ping"),
    }
    Flow::Continue
}

pub(super) fn echo(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    context.reply().bulk(args.at(1));
    Flow::Continue
}

pub(super) fn quit(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    context.reply().ok();
    Flow::Close
}

pub(super) fn reset(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    context.session.resp3 = false;
    context.session.name.clear();
    context.reply().simple("RESET");
    Flow::Continue
}

/// There is one database, number 0.
pub(super) fn select(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    match number::parse_i64_strict(args.at(1)) {
        Some(0) => context.reply().ok(),
        Some(_) => context.error("ERR DB index is out of range"),
        None => context.error("ERR invalid DB index"),
    }
    Flow::Continue
}

pub(super) fn hello(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let mut resp3 = context.session.resp3;
    if args.len() > 1 {
        match number::parse_i64_strict(args.at(1)) {
            Some(2) => resp3 = false,
            Some(3) => resp3 = true,
            Some(_) => {
                context.error("NOPROTO unsupported protocol version");
                return Flow::Continue;
            }
            None => {
                context.error("ERR Protocol version is not an integer or out of range");
                return Flow::Continue;
            }
        }
    }
    let (mut index, mut name) = (2, None);
    while index < args.len() {
        let left = args.len() - index - 1;
        if args.is(index, "AUTH") && left >= 2 {
            // There is no password: the default user may come in with any, as in Redis.
            if args.at(index + 1) != b"default" {
                context.error("WRONGPASS invalid username-password pair or user is disabled.");
                return Flow::Continue;
            }
            index += 3;
        } else if args.is(index, "SETNAME") && left >= 1 {
            name = Some(args.at(index + 1));
            if !is_name(args.at(index + 1)) {
                context.error(BAD_NAME);
                return Flow::Continue;
            }
            index += 2;
        } else {
            let option = printable(args.at(index), 128);
            context.error(&format!("ERR Syntax error in HELLO option '{option}'"));
            return Flow::Continue;
        }
    }
    context.session.resp3 = resp3;
    if let Some(name) = name {
        context.session.name = name.to_vec();
    }
    let id = context.session.id as i64;
    let mut reply = context.reply();
    reply.map(8);
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(REDIS_VERSION.as_bytes());
    reply.bulk(b"proto");
    reply.integer(if resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.integer(id);
    reply.bulk(b"mode");
    reply.bulk(b"standalone");
    reply.bulk(b"role");
    reply.bulk(b"master");
    reply.bulk(b"modules");
    reply.array(0);
    reply.bulk(b"pinion_version");
    reply.bulk(env!("CARGO_PKG_VERSION").as_bytes());
    Flow::Continue
}

const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

fn is_name(name: &[u8]) -> bool {
    name.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

fn client_id(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    let id = context.session.id as i64;
    context.reply().integer(id);
    Flow::Continue
}

fn client_getname(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    if context.session.name.is_empty() {
        context.reply().null();
    } else {
        let name = &context.session.name;
        Writer::new(context.out, context.session.version()).bulk(name);
    }
    Flow::Continue
}

fn client_setname(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if is_name(args.at(2)) {
        context.session.name = args.at(2).to_vec();
        context.reply().ok();
    } else {
        context.error(BAD_NAME);
    }
    Flow::Continue
}

fn client_setinfo(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let value = args.at(3);
    let field = if args.is(2, "LIB-NAME") {
        &mut context.session.library_name
    } else if args.is(2, "LIB-VER") {
        &mut context.session.library_version
    } else {
        let option = printable(args.at(2), 128);
        context.error(&format!("ERR Unrecognized option '{option}'"));
        return Flow::Continue;
    };
    if is_name(value) {
        *field = value.to_vec();
        context.reply().ok();
    } else {
        let option = printable(args.at(2), 128).to_lowercase();
        context
            .error(&format!("ERR {option} cannot contain spaces, newlines or special characters."));
    }
    Flow::Continue
}
