//! `stats`, of both protocols. What takes long is asked of the control thread. There are no slab
//! classes to tell of, and what memcached counts only when told to (`detail`, `sizes`) is not
//! counted.

use super::server_error;
use crate::command::context::{Context, Flow};
use crate::core::{ClientAction, ClientFilter, ClientsQuery, InfoRequest};
use crate::protocol::memcached::binary::{Reply, Status};
use crate::protocol::memcached::{StatForm, Statistics, Tokens, Writer};

/// Runs `stats` with its arguments, and answers in this form.
pub(super) fn run(context: &mut Context<'_>, mut args: Tokens<'_>, form: StatForm) -> Flow {
    let Some(kind) = args.next() else {
        return Flow::Ask(Box::new(InfoRequest::MemcachedStats(form)));
    };
    match kind {
        b"settings" => return Flow::Ask(Box::new(InfoRequest::MemcachedSettings(form))),
        b"conns" => {
            let action = ClientAction::Statistics(form);
            let query = ClientsQuery::new(action, ClientFilter::default());
            return Flow::Clients(Box::new(query));
        }
        b"cores" => return Flow::Ask(Box::new(InfoRequest::MemcachedCores(form))),
        b"reset" => {
            context.counters.reset();
            done(context, form, "RESET");
        }
        b"items" => Statistics::new(context.out, form).end(),
        b"slabs" => return Flow::Ask(Box::new(InfoRequest::MemcachedSlabs(form))),
        b"sizes" => {
            let mut statistics = Statistics::new(context.out, form);
            statistics.add("sizes_status", "disabled");
            statistics.end();
        }
        b"detail" => detail(context, args.next(), form),
        b"cachedump" => refuse(context, form, "CLIENT_ERROR stats cachedump not allowed"),
        _ => refuse(context, form, "ERROR"),
    }
    Flow::Continue
}

/// Answers with a word, for which the binary protocol has the end of statistics.
fn done(context: &mut Context<'_>, form: StatForm, word: &str) {
    match form {
        StatForm::Text => Writer::new(context.out).line(word),
        StatForm::Binary(_) => Statistics::new(context.out, form).end(),
    }
}

/// Answers with an error, which the binary protocol has no words for.
fn refuse(context: &mut Context<'_>, form: StatForm, text: &str) {
    match form {
        StatForm::Text => server_error(context, text),
        StatForm::Binary(tag) => {
            context.counters.errors += 1;
            let status = Status::NotFound;
            Reply::to(tag, status).write(context.out, status.text().as_bytes());
        }
    }
}

/// Statistics by the prefix of keys, which are not collected.
fn detail(context: &mut Context<'_>, word: Option<&[u8]>, form: StatForm) {
    match word {
        Some(b"off") => done(context, form, "OK"),
        Some(b"on") => refuse(context, form, "CLIENT_ERROR stats detail is not collected"),
        // Nothing was collected.
        Some(b"dump") => Statistics::new(context.out, form).end(),
        _ => refuse(context, form, "CLIENT_ERROR usage: stats detail on|off|dump"),
    }
}
