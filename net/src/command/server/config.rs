//! CONFIG: the parameters of the server by Redis's names.

use super::super::context::{Arguments, Context, Flow, printable};
use super::super::glob;
use crate::options::Size;

/// CONFIG GET: the parameters whose names match one of the patterns.
pub(super) fn get(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let settings = context.settings;
    let memory = (MAXMEMORY, context.memory.division().memory_bytes.to_string());
    let wanted: Vec<&(&str, String)> = settings
        .parameters
        .iter()
        .chain(std::iter::once(&memory))
        .filter(|(name, _)| {
            args.from(2).any(|pattern| glob::matches(pattern, name.as_bytes(), true))
        })
        .collect();
    let mut reply = context.reply();
    reply.map(wanted.len());
    for (name, value) in wanted {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    Flow::Continue
}

/// The one parameter that can be set at run time.
const MAXMEMORY: &str = "maxmemory";

/// CONFIG SET: all of its parameters, or none.
pub(super) fn set(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if !args.len().is_multiple_of(2) {
        context.wrong_arity("config|set");
        return Flow::Continue;
    }
    let mut wanted = None;
    for index in (2..args.len()).step_by(2) {
        let name = printable(args.at(index), 64);
        if name.eq_ignore_ascii_case(MAXMEMORY) {
            wanted = Some(args.at(index + 1));
            continue;
        }
        let is_known = |known: &str| known.eq_ignore_ascii_case(&name);
        if context.settings.parameters.iter().any(|(known, _)| is_known(known)) {
            let reason = "can't set immutable config";
            context.error(&format!(
                "ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"
            ));
        } else {
            let text = "ERR Unknown option or number of arguments for CONFIG SET";
            context.error(&format!("{text} - '{name}'"));
        }
        return Flow::Continue;
    }
    let Some(text) = wanted else { return Flow::Continue };
    let bytes = std::str::from_utf8(text).ok().and_then(|text| text.parse::<Size>().ok());
    let outcome = match bytes {
        None => Err("argument must be a memory value".to_owned()),
        Some(Size(0)) => Err("a server without a limit is not possible".to_owned()),
        Some(Size(bytes)) => context.memory.set(bytes, context.shard),
    };
    match outcome {
        Ok(()) => context.reply().ok(),
        Err(reason) => context.error(&format!(
            "ERR CONFIG SET failed (possibly related to argument '{MAXMEMORY}') - {reason}"
        )),
    }
    Flow::Continue
}
