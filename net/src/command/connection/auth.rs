//! HELLO and AUTH: the version of the protocol, and the password.
//!
//! There is one user, `default`, whose password is `requirepass`. Without a password everybody is
//! that user.

use super::super::REDIS_VERSION;
use super::super::context::{Arguments, Context, Flow};
use crate::protocol::number;

/// The only user.
const USER: &[u8] = b"default";

const WRONG: &str = "WRONGPASS invalid username-password pair or user is disabled.";

/// Lets the client in if name and password are right; whether they are. Without a password any
/// will do, as in Redis.
pub(in super::super) fn unlock(context: &mut Context<'_>, user: &[u8], password: &[u8]) -> bool {
    let is_right = !context.settings.has_password() || context.settings.is_password(password);
    let is_in = user == USER && is_right;
    context.session.authenticated |= is_in;
    is_in
}

/// AUTH password, or AUTH user password.
pub(super) fn auth(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let (user, password) = match args.len() {
        2 if !context.settings.has_password() => {
            context.error(
                "ERR AUTH <password> called without any password configured for the default \
                 user. Are you sure your configuration is correct?",
            );
            return Flow::Continue;
        }
        2 => (USER, args.at(1)),
        3 => (args.at(1), args.at(2)),
        _ => {
            context.syntax_error();
            return Flow::Continue;
        }
    };
    if unlock(context, user, password) {
        context.reply().ok();
    } else {
        context.error(WRONG);
    }
    Flow::Continue
}

/// HELLO [version [AUTH user password] [SETNAME name]]
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
    let (mut index, mut name, mut credentials) = (2, None, None);
    while index < args.len() {
        let left = args.len() - index - 1;
        if args.is(index, "AUTH") && left >= 2 {
            credentials = Some((args.at(index + 1), args.at(index + 2)));
            index += 3;
        } else if args.is(index, "SETNAME") && left >= 1 {
            name = Some(args.at(index + 1));
            if !is_plain(args.at(index + 1)) {
                context.error(BAD_NAME);
                return Flow::Continue;
            }
            index += 2;
        } else {
            context.error_about("ERR Syntax error in HELLO option '", args.at(index), "'");
            return Flow::Continue;
        }
    }
    if let Some((user, password)) = credentials
        && !unlock(context, user, password)
    {
        context.error(WRONG);
        return Flow::Continue;
    }
    if !context.session.authenticated && context.settings.has_password() {
        context.error(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
             select the RESP protocol version at the same time",
        );
        return Flow::Continue;
    }
    context.session.resp3 = resp3;
    if let Some(name) = name {
        context.session.name = name.to_vec();
        context.session.recount();
    }
    greet(context);
    Flow::Continue
}

fn greet(context: &mut Context<'_>) {
    let (id, resp3) = (context.session.id as i64, context.session.resp3);
    let mode = if context.session.core_port { "cluster" } else { "standalone" };
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
    reply.bulk(mode.as_bytes());
    reply.bulk(b"role");
    reply.bulk(b"master");
    reply.bulk(b"modules");
    reply.array(0);
    reply.bulk(b"pinion_version");
    reply.bulk(env!("CARGO_PKG_VERSION").as_bytes());
}

/// Why a name is refused.
pub(super) const BAD_NAME: &str =
    "ERR Client names cannot contain spaces, newlines or special characters.";

/// Whether a text can be a field of CLIENT LIST: printable ASCII without spaces.
pub(super) fn is_plain(text: &[u8]) -> bool {
    text.iter().all(|byte| (b'!'..=b'~').contains(byte))
}
