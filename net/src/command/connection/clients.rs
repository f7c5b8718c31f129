//! CLIENT LIST, INFO and KILL: which connections are meant. The core looks at them.

use super::super::context::{Arguments, Context, Flow, printable};
use crate::core::{ClientAction, ClientFilter, ClientsQuery};
use crate::protocol::number;

fn flow(action: ClientAction, filter: ClientFilter) -> Flow {
    Flow::Clients(Box::new(ClientsQuery::new(action, filter)))
}

/// CLIENT INFO: the connection itself.
pub(super) fn info(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    let filter = ClientFilter { ids: Some(vec![context.session.id]), ..ClientFilter::default() };
    flow(ClientAction::Info, filter)
}

/// CLIENT LIST [TYPE type | ID number ...]
pub(super) fn list(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let mut filter = ClientFilter::default();
    if args.len() == 4 && args.is(2, "TYPE") {
        match is_normal(args.at(3)) {
            Some(is_normal) => filter.nobody |= !is_normal,
            None => return unknown_type(context, args.at(3)),
        }
    } else if args.len() > 3 && args.is(2, "ID") {
        let ids: Option<Vec<u64>> = args.from(3).map(client_id).collect();
        if ids.is_none() {
            context.error("ERR Invalid client ID");
            return Flow::Continue;
        }
        filter.ids = ids;
    } else if args.len() != 2 {
        context.syntax_error();
        return Flow::Continue;
    }
    flow(ClientAction::List, filter)
}

/// CLIENT KILL address, or CLIENT KILL option value ...
pub(super) fn kill(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let own = context.session.id;
    if args.len() == 3 {
        let address = Some(args.at(2).to_vec());
        let filter = ClientFilter { address, ..ClientFilter::default() };
        return flow(ClientAction::KillOne, filter);
    }
    let mut filter = ClientFilter { except: Some(own), ..ClientFilter::default() };
    if !args.len().is_multiple_of(2) {
        context.syntax_error();
        return Flow::Continue;
    }
    for index in (2..args.len()).step_by(2) {
        let value = args.at(index + 1);
        if args.is(index, "ID") {
            let Some(id) = client_id(value) else {
                context.error("ERR client-id should be greater than 0");
                return Flow::Continue;
            };
            filter.ids = Some(vec![id]);
        } else if args.is(index, "TYPE") {
            match is_normal(value) {
                Some(is_normal) => filter.nobody = !is_normal,
                None => return unknown_type(context, value),
            }
        } else if args.is(index, "ADDR") {
            filter.address = Some(value.to_vec());
        } else if args.is(index, "LADDR") {
            filter.local_address = Some(value.to_vec());
        } else if args.is(index, "USER") {
            if value != b"default" {
                let user = printable(value, 128);
                context.error(&format!("ERR No such user '{user}'"));
                return Flow::Continue;
            }
        } else if args.is(index, "SKIPME") && value.eq_ignore_ascii_case(b"yes") {
            filter.except = Some(own);
        } else if args.is(index, "SKIPME") && value.eq_ignore_ascii_case(b"no") {
            filter.except = None;
        } else {
            context.syntax_error();
            return Flow::Continue;
        }
    }
    flow(ClientAction::Kill, filter)
}

fn client_id(text: &[u8]) -> Option<u64> {
    number::parse_i64_strict(text).and_then(|id| u64::try_from(id).ok()).filter(|&id| id > 0)
}

/// Whether a type of connections is the one that exists here; `None` if Redis knows no such type.
fn is_normal(name: &[u8]) -> Option<bool> {
    let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
    if is("normal") {
        return Some(true);
    }
    ["slave", "replica", "pubsub", "master"].into_iter().any(is).then_some(false)
}

fn unknown_type(context: &mut Context<'_>, name: &[u8]) -> Flow {
    let name = printable(name, 128);
    context.error(&format!("ERR Unknown client type '{name}'"));
    Flow::Continue
}
