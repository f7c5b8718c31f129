//! Requests that have waited in the server for longer than they may (`--request-age`): refused
//! instead of executed, since whoever asked has given up by now, and work on them would keep those
//! waiting who have not.
//!
//! What changes the state of its connection is executed however old it is: if a SELECT were refused
//! and the commands behind it were not, these would go to another database. A transaction of which
//! a command was refused, or whose EXEC is too old, is discarded as a whole.

use super::context::{Arguments, Context, Flow};
use super::spec::Spec;

/// What a RESP command is to the limit on age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aged {
    /// It is refused.
    Refused,
    /// It is about a transaction: executed, but EXEC discards what it should run.
    Transaction,
    /// It is about its connection: executed.
    Connection,
}

impl Aged {
    /// What this command is.
    pub fn of(spec: &Spec) -> Aged {
        // A container is what its subcommands are.
        let lists = std::iter::once(spec).chain(spec.subcommands).map(|spec| spec.categories);
        let is = |wanted| {
            lists.clone().any(|list| list.split_ascii_whitespace().any(|word| word == wanted))
        };
        match () {
            () if is("@transaction") => Aged::Transaction,
            () if is("@connection") => Aged::Connection,
            () => Aged::Refused,
        }
    }
}

/// The words for a request that has waited longer than `age_ms`.
pub(super) fn words(age_ms: u64) -> String {
    format!("request is older than the {age_ms} ms that it may wait")
}

/// Refuses a command that is too old. `None` if it is to be executed all the same.
pub fn refuse_old(
    context: &mut Context<'_>,
    spec: &'static Spec,
    args: &Arguments<'_>,
) -> Option<Flow> {
    if !context.session.authenticated && context.settings.has_password() {
        return None;
    }
    match Aged::of(spec) {
        Aged::Connection => None,
        Aged::Transaction => {
            if spec.name == "exec" && context.session.transaction.is_some() {
                context.counters.request_age_refusals += 1;
                context.spoil_transaction();
            }
            None
        }
        Aged::Refused => {
            context.counters.request_age_refusals += 1;
            let subcommand = if args.len() > 1 { spec.subcommand(args.at(1)) } else { None };
            let number = subcommand.map_or(spec.number, |found| spec.number_of(found));
            let text = format!("ERR {}", words(context.settings.limits.request_age_ms));
            context.reject(number, &text);
            Some(Flow::Continue)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::find;

    #[test]
    fn what_others_depend_on_is_executed() {
        let aged = |name: &str| Aged::of(find(name.as_bytes()).expect(name));
        for name in ["auth", "hello", "select", "client", "reset", "quit"] {
            assert_eq!(aged(name), Aged::Connection, "{name}");
        }
        for name in ["multi", "exec", "discard", "watch", "unwatch"] {
            assert_eq!(aged(name), Aged::Transaction, "{name}");
        }
        for name in ["get", "set", "mget", "scan", "flushall", "info", "eval"] {
            assert_eq!(aged(name), Aged::Refused, "{name}");
        }
    }
}
