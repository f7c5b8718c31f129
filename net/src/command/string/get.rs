//! GET, GETEX and GETDEL.

use pinion_engine::KeyHash;

use super::super::context::{Arguments, Context, Flow, read_item, write_value};
use super::super::expiry::Unit;
use super::super::large::REFER_BYTES_MIN;
use super::refuse_reply;
use super::set::{expiry_ms, refuse};

pub(super) fn get(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let start = context.out.len();
    read(context, context.first_hash, args.at(1), start).err().unwrap_or(Flow::Continue)
}

/// Answers with the value of a key, or that there is none, within a reply that began at `start` of
/// the output. For want of memory the whole reply waits or is refused: then how to go on.
#[inline]
pub(super) fn read(
    context: &mut Context<'_>,
    hash: KeyHash,
    key: &[u8],
    start: usize,
) -> Result<(), Flow> {
    let Some(entry) = read_item(context.shard, context.session, hash, key, context.now_ms) else {
        context.counters.misses += 1;
        context.reply().null();
        return Ok(());
    };
    let value = entry.value;
    let value_bytes = value.len();
    let has_room = context.out.len() - start + value_bytes <= context.room_now_bytes;
    let is_inline = value.as_slice().is_some();
    if has_room && (is_inline || context.out.len() + value_bytes <= REFER_BYTES_MIN) {
        write_value(context.out, &value);
    } else if is_inline {
        return Err(context.without_room(start, refuse_reply));
    } else {
        context.bulk_by_reference(hash, key, value_bytes);
    }
    context.counters.hits += 1;
    Ok(())
}

pub(super) fn getdel(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let (key, hash, start) = (args.at(1), context.first_hash, context.out.len());
    let (hits, errors) = (context.counters.hits, context.counters.errors);
    if let Err(flow) = read(context, hash, key, start) {
        return flow;
    }
    if context.counters.hits > hits && context.counters.errors == errors {
        // A value that the reply refers to is pinned, and outlives its item.
        context.shard.delete(hash, key, None, context.now_ms);
    }
    Flow::Continue
}

/// What GETEX does to the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Nothing,
    Remove,
    /// To the time in this argument.
    Set(usize, Unit),
}

pub(super) fn getex(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let Some(change) = parse_getex(args) else {
        context.syntax_error();
        return Flow::Continue;
    };
    let (key, hash, now_ms) = (args.at(1), context.first_hash, context.now_ms);
    let mut deadline_ms = None;
    if let Change::Set(index, unit) = change
        && context.shard.peek(hash, key, now_ms).is_some()
    {
        // Redis looks at the time only if there is a key.
        match expiry_ms(args.at(index), unit, now_ms) {
            Ok(at_ms) => deadline_ms = Some(at_ms),
            Err(refusal) => {
                refuse(context, &refusal, "getex");
                return Flow::Continue;
            }
        }
    }
    let (start, errors) = (context.out.len(), context.counters.errors);
    if let Err(flow) = read(context, hash, key, start) {
        return flow;
    }
    if change == Change::Nothing || context.counters.errors > errors {
        return Flow::Continue;
    }
    let has_deadline = |entry: pinion_engine::Entry<'_>| entry.deadline_ms().is_some();
    if change == Change::Remove && !context.shard.peek(hash, key, now_ms).is_some_and(has_deadline)
    {
        return Flow::Continue;
    }
    if let Err(error) = context.shard.set_deadline(hash, key, deadline_ms, now_ms) {
        context.take_back(start);
        context.set_error(&error);
    }
    Flow::Continue
}

/// The options of GETEX, of which at most one kind may be given. `None` for a wrong one.
fn parse_getex(args: &Arguments<'_>) -> Option<Change> {
    let (mut change, mut index) = (Change::Nothing, 2);
    while index < args.len() {
        let wanted = match Unit::of_option(args.at(index)) {
            Some(unit) if index + 1 < args.len() => {
                index += 1;
                Change::Set(index, unit)
            }
            None if args.is(index, "PERSIST") => Change::Remove,
            _ => return None,
        };
        match (change, wanted) {
            (Change::Nothing, _) | (Change::Remove, Change::Remove) => {}
            (Change::Set(_, unit), Change::Set(_, again)) if unit == again => {}
            _ => return None,
        }
        change = wanted;
        index += 1;
    }
    Some(change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::resp;

    fn parse(text: &str) -> Option<Change> {
        let (mut args, mut progress) = (resp::Args::new(), resp::Progress::default());
        let frame = format!("GETEX k {text}\r\n");
        let outcome =
            resp::parse(frame.as_bytes(), &mut progress, &mut args, &resp::Limits::default());
        assert!(matches!(outcome, resp::Parse::Complete { .. }));
        parse_getex(&Arguments::new(frame.as_bytes(), &args))
    }

    #[test]
    fn one_kind_of_option_is_right_and_two_are_not() {
        assert_eq!(parse(""), Some(Change::Nothing));
        assert_eq!(parse("persist PERSIST"), Some(Change::Remove));
        assert_eq!(parse("ex 10"), Some(Change::Set(3, Unit::Seconds)));
        assert_eq!(parse("PX 1 px 2"), Some(Change::Set(5, Unit::Milliseconds)));
        assert_eq!(parse("EXAT x"), Some(Change::Set(3, Unit::UnixSeconds)));
        assert_eq!(parse("pxat 5"), Some(Change::Set(3, Unit::UnixMilliseconds)));
        for wrong in ["EX", "EX 1 PX 1", "PERSIST EX 1", "EX 1 PERSIST", "KEEPTTL", "10", "GET"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
