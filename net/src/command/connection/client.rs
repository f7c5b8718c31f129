//! CLIENT: what a connection says of itself, and how it is treated.

use super::super::context::{Arguments, Context, Flow, printable};
use super::super::spec::{Reach, Spec};
use super::auth::{BAD_NAME, is_plain};
use super::clients;
use crate::connection::ReplyMode;
use crate::core::Join;
use crate::protocol::number;
use crate::protocol::resp::Writer;

/// What CLIENT contains.
pub(super) const SUBCOMMANDS: &[Spec] = &[
    Spec::new("getname", 2, getname)
        .flags("noscript loading stale")
        .categories("@slow @connection")
        .since("2.6.9")
        .summary("Answers with the name of the connection."),
    Spec::new("help", 2, help)
        .flags("loading stale")
        .categories("@slow @connection")
        .since("5.0.0")
        .summary("Describes the subcommands."),
    Spec::new("id", 2, id)
        .flags("noscript loading stale")
        .categories("@slow @connection")
        .since("5.0.0")
        .summary("Answers with the number of the connection."),
    Spec::new("info", 2, clients::info)
        .flags("noscript loading stale")
        .categories("@slow @connection")
        .tips("nondeterministic_output")
        .since("6.2.0")
        .summary("Describes the connection as CLIENT LIST does."),
    Spec::new("kill", -3, clients::kill)
        .flags("admin noscript loading stale")
        .categories("@admin @slow @dangerous @connection")
        .since("2.4.0")
        .cost("O(N) in the number of connections, in slices")
        .reach(Reach::Survey)
        .summary("Ends connections."),
    Spec::new("list", -2, clients::list)
        .flags("admin noscript loading stale")
        .categories("@admin @slow @dangerous @connection")
        .tips("nondeterministic_output")
        .since("2.4.0")
        .cost("O(N) in the number of connections, in slices")
        .reach(Reach::Survey)
        .summary("Describes connections, one a line."),
    Spec::new("no-evict", 3, no_evict)
        .flags("admin noscript loading stale")
        .categories("@admin @slow @dangerous @connection")
        .since("7.0.0")
        .summary("Keeps the connection open when the memory for buffers is short."),
    Spec::new("no-touch", 3, no_touch)
        .flags("noscript loading stale")
        .categories("@slow @connection")
        .since("7.2.0")
        .summary("Lets the connection's reads not count as uses of the keys."),
    Spec::new("pause", -3, pause)
        .flags("admin noscript loading stale")
        .categories("@admin @slow @dangerous @connection")
        .since("2.9.50")
        .reach(Reach::All(Join::First))
        .summary("Holds commands back for some time, all or those that write."),
    Spec::new("reply", 3, reply)
        .flags("noscript loading stale")
        .categories("@slow @connection")
        .since("3.2.0")
        .summary("Turns the replies to the connection off or on."),
    Spec::new("setinfo", 4, setinfo)
        .flags("noscript loading stale")
        .categories("@slow @connection")
        .tips("request_policy:all_nodes response_policy:all_succeeded")
        .since("7.2.0")
        .reach(Reach::Here)
        .summary("Tells which library the client uses."),
    Spec::new("setname", 3, setname)
        .flags("noscript loading stale")
        .categories("@slow @connection")
        .tips("request_policy:all_nodes response_policy:all_succeeded")
        .since("2.6.9")
        .reach(Reach::Here)
        .summary("Names the connection."),
    Spec::new("unpause", 2, unpause)
        .flags("admin noscript loading stale")
        .categories("@admin @slow @dangerous @connection")
        .since("6.2.0")
        .cost("O(N) in the number of connections held back")
        .reach(Reach::All(Join::First))
        .summary("Ends CLIENT PAUSE before its time."),
];

fn id(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    let id = context.session.id as i64;
    context.reply().integer(id);
    Flow::Continue
}

fn getname(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    if context.session.name.is_empty() {
        context.reply().null();
    } else {
        let name = &context.session.name;
        Writer::new(context.out, context.session.version()).bulk(name);
    }
    Flow::Continue
}

fn setname(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if is_plain(args.at(2)) {
        context.session.name = args.at(2).to_vec();
        context.session.recount();
        context.reply().ok();
    } else {
        context.error(BAD_NAME);
    }
    Flow::Continue
}

fn setinfo(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let value = args.at(3);
    let field = if args.is(2, "LIB-NAME") {
        &mut context.session.library_name
    } else if args.is(2, "LIB-VER") {
        &mut context.session.library_version
    } else {
        context.error_about("ERR Unrecognized option '", args.at(2), "'");
        return Flow::Continue;
    };
    if is_plain(value) {
        *field = value.to_vec();
        context.session.recount();
        context.reply().ok();
    } else {
        let option = printable(args.at(2), 128);
        context
            .error(&format!("ERR {option} cannot contain spaces, newlines or special characters."));
    }
    Flow::Continue
}

/// ON or OFF as a flag; anything else is answered as a syntax error.
fn on_or_off(context: &mut Context<'_>, args: &Arguments<'_>) -> Option<bool> {
    if args.is(2, "ON") || args.is(2, "OFF") {
        context.reply().ok();
        return Some(args.is(2, "ON"));
    }
    context.syntax_error();
    None
}

fn no_evict(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if let Some(on) = on_or_off(context, args) {
        context.session.no_evict = on;
    }
    Flow::Continue
}

fn no_touch(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if let Some(on) = on_or_off(context, args) {
        context.session.no_touch = on;
    }
    Flow::Continue
}

/// CLIENT REPLY: what is written while replies are off is dropped by the core.
fn reply(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if args.is(2, "ON") {
        context.session.replies = ReplyMode::On;
        context.reply().ok();
    } else if args.is(2, "OFF") {
        context.session.replies = ReplyMode::Off;
    } else if !args.is(2, "SKIP") {
        context.syntax_error();
    } else if context.session.replies != ReplyMode::Off {
        context.session.replies = ReplyMode::SkipNext;
    }
    Flow::Continue
}

/// CLIENT PAUSE milliseconds [WRITE|ALL]
fn pause(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let writes_only = match args.len() {
        3 => false,
        4 if args.is(3, "WRITE") => true,
        4 if args.is(3, "ALL") => false,
        4 => {
            context.error("ERR CLIENT PAUSE mode must be WRITE or ALL");
            return Flow::Continue;
        }
        _ => {
            context.syntax_error();
            return Flow::Continue;
        }
    };
    let Some(time_ms) = number::parse_i64_strict(args.at(2)) else {
        context.error("ERR timeout is not an integer or out of range");
        return Flow::Continue;
    };
    let Ok(time_ms) = u64::try_from(time_ms) else {
        context.error("ERR timeout is negative");
        return Flow::Continue;
    };
    context.reply().ok();
    Flow::Pause { until_ms: context.now_ms.saturating_add(time_ms), writes_only }
}

fn unpause(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    context.reply().ok();
    Flow::Unpause
}

fn help(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    context.help(
        "CLIENT",
        &[
            "GETNAME",
            "    The name of this connection.",
            "ID",
            "    The number of this connection.",
            "INFO",
            "    This connection's line of CLIENT LIST.",
            "KILL <ip:port>",
            "    Ends the connection from this address.",
            "KILL <option> <value> [<option> <value> ...]",
            "    Ends the connections to which all of these apply:",
            "    * ADDR <ip:port>, LADDR <ip:port>: it comes from, or to, this address",
            "    * ID <number>, USER <name>, TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
            "    * SKIPME (YES|NO): not this connection itself (YES by default)",
            "LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB)] [ID <number> ...]",
            "    Connections, one a line.",
            "NO-EVICT (ON|OFF)",
            "    Keeps this connection open when the memory for buffers is short.",
            "NO-TOUCH (ON|OFF)",
            "    Lets reads of this connection not count as uses of the keys.",
            "PAUSE <milliseconds> [WRITE|ALL]",
            "    Holds commands of all connections back, or those that write.",
            "REPLY (ON|OFF|SKIP)",
            "    Whether this connection gets replies.",
            "SETINFO (LIB-NAME|LIB-VER) <value>",
            "    The library that this client uses.",
            "SETNAME <name>",
            "    Names this connection.",
            "UNPAUSE",
            "    Ends CLIENT PAUSE.",
        ],
    );
    Flow::Continue
}
