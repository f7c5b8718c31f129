//! DEBUG: what test suites ask of a server. It is refused unless the server was started with
//! `--enable-debug-command`, since it can stop the core.

use std::time::Duration;

use super::super::context::{Arguments, Context, Flow, printable};
use super::super::glob;
use crate::protocol::number;

const NOT_ALLOWED: &str = "ERR DEBUG command not allowed. If the enable-debug-command option is \
                           set to \"local\", you can run it from a local connection, otherwise \
                           you need to set this option in the configuration file, and then \
                           restart the server.";

/// The longest that SLEEP takes.
const SLEEP_SECONDS_MAX: f64 = 3_600.0;

pub(super) fn debug(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if !context.settings.allows_debug {
        context.error(NOT_ALLOWED);
        return Flow::Continue;
    }
    if args.is(1, "HELP") && args.len() == 2 {
        help(context);
    } else if args.is(1, "SLEEP") && args.len() == 3 {
        sleep(context, args);
    } else if args.is(1, "OBJECT") && (args.len() == 3 || args.len() == 4) {
        object(context, args);
    } else if args.is(1, "STRINGMATCH-LEN") && args.len() == 4 {
        match_long_text(context, args);
    } else if args.is(1, "SET-ACTIVE-EXPIRE") && args.len() == 3 {
        // As in Redis, what is no number is 0.
        let is_active = number::parse_i64_strict(args.at(2)).is_some_and(|number| number != 0);
        context.shard.hold_expiry(!is_active);
        context.reply().ok();
    } else if args.is(1, "ERROR") && args.len() == 3 {
        let text = printable(args.at(2), 4096);
        context.error(&text);
    } else {
        let name = printable(args.at(1), 128);
        context.error(&format!(
            "ERR unknown subcommand or wrong number of arguments for '{name}'. Try DEBUG HELP."
        ));
    }
    Flow::Continue
}

/// DEBUG SLEEP seconds: the core does nothing for so long. As in Redis, what is no number is 0.
fn sleep(context: &mut Context<'_>, args: &Arguments<'_>) {
    let text = std::str::from_utf8(args.at(2)).unwrap_or_default();
    let seconds: f64 = text.parse().unwrap_or(0.0);
    if seconds > 0.0 {
        std::thread::sleep(Duration::from_secs_f64(seconds.min(SLEEP_SECONDS_MAX)));
    }
    context.reply().ok();
}

/// DEBUG OBJECT key: Redis's line, with what there is of it.
fn object(context: &mut Context<'_>, args: &Arguments<'_>) {
    let key = args.at(2);
    let hash = context.hash(key);
    let Some(entry) = context.shard.peek(hash, key, context.now_ms) else {
        context.error("ERR no such key");
        return;
    };
    let (version, value_bytes) = (entry.version(), entry.value.len());
    let is_integer = entry.value.as_slice().and_then(number::parse_i64_strict).is_some();
    let encoding = match value_bytes {
        _ if is_integer => "int",
        0..=44 => "embstr",
        _ => "raw",
    };
    context.reply().simple(&format!(
        "Value at:0x{version:x} refcount:1 encoding:{encoding} serializedlength:{value_bytes} \
         lru:0 lru_seconds_idle:0"
    ));
}

/// DEBUG STRINGMATCH-LEN length pattern: matches a long text, which must not take for ever.
fn match_long_text(context: &mut Context<'_>, args: &Arguments<'_>) {
    const TEXT_BYTES_MAX: i64 = 1 << 20;
    match number::parse_i64_strict(args.at(2)) {
        Some(length @ 0..=TEXT_BYTES_MAX) => {
            let text = vec![b'x'; length as usize];
            let is_match = glob::matches(args.at(3), &text, false);
            context.reply().integer(i64::from(is_match));
        }
        _ => context.not_an_integer(),
    }
}

fn help(context: &mut Context<'_>) {
    context.help(
        "DEBUG",
        &[
            "ERROR <text>",
            "    Answers with this error.",
            "OBJECT <key>",
            "    How a value is stored.",
            "SET-ACTIVE-EXPIRE <0|1>",
            "    Whether keys that are due go by themselves, or when somebody looks at them.",
            "SLEEP <seconds>",
            "    Stops the core for so long, for all clients.",
            "STRINGMATCH-LEN <length> <pattern>",
            "    Matches a text of this length with a pattern.",
        ],
    );
}
