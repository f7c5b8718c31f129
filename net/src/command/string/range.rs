//! STRLEN, APPEND, GETRANGE, SUBSTR and SETRANGE.

use super::super::context::{Arguments, Context, Flow, read_item};
use super::super::large::REFER_BYTES_MIN;
use super::edit::{Edit, Target, change};
use super::refuse_reply;
use crate::protocol::number;
use crate::protocol::resp::Writer;

pub(super) fn strlen(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let entry =
        read_item(context.shard, context.session, context.first_hash, args.at(1), context.now_ms);
    let length = entry.map(|entry| entry.value.len());
    context.count_read(length.is_some());
    context.reply().integer(length.unwrap_or(0) as i64);
    Flow::Continue
}

pub(super) fn append(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let edit = Insert { offset: None, bytes: args.at(2) };
    change(context, context.first_hash, args.at(1), &edit)
}

pub(super) fn setrange(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let Some(offset) = number::parse_i64_strict(args.at(2)) else {
        context.not_an_integer();
        return Flow::Continue;
    };
    let Ok(offset) = usize::try_from(offset) else {
        context.error("ERR offset is out of range");
        return Flow::Continue;
    };
    let (key, bytes) = (args.at(1), args.at(3));
    if bytes.is_empty() {
        // Nothing is written, so nothing grows.
        let entry = context.shard.peek(context.first_hash, key, context.now_ms);
        let length = entry.map_or(0, |entry| entry.value.len());
        context.reply().integer(length as i64);
        return Flow::Continue;
    }
    change(context, context.first_hash, key, &Insert { offset: Some(offset), bytes })
}

/// Writes bytes at an offset, or at the end, and answers with the length.
#[derive(Debug)]
struct Insert<B> {
    offset: Option<usize>,
    bytes: B,
}

impl<B: AsRef<[u8]> + std::fmt::Debug> Edit for Insert<B> {
    fn length_bytes(&self, old_bytes: usize) -> usize {
        self.offset.unwrap_or(old_bytes).saturating_add(self.bytes.as_ref().len())
    }

    fn apply(&self, old_bytes: usize, target: &mut Target<'_>, reply: &mut Writer<'_>) {
        target.write(self.offset.unwrap_or(old_bytes), self.bytes.as_ref());
        reply.integer(target.len() as i64);
    }

    fn keep(&self) -> Box<dyn Edit> {
        let bytes: Box<[u8]> = self.bytes.as_ref().into();
        Box::new(Insert { offset: self.offset, bytes })
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Insert<Box<[u8]>>>() + self.bytes.as_ref().len()
    }
}

pub(super) fn getrange(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let (Some(first), Some(last)) =
        (number::parse_i64_strict(args.at(2)), number::parse_i64_strict(args.at(3)))
    else {
        context.not_an_integer();
        return Flow::Continue;
    };
    let (key, hash) = (args.at(1), context.first_hash);
    let entry = read_item(context.shard, context.session, hash, key, context.now_ms);
    let Some(entry) = entry else {
        context.counters.misses += 1;
        context.reply().bulk(b"");
        return Flow::Continue;
    };
    let value = entry.value;
    let (start, end) = range(first, last, value.len());
    let (out_start, part_bytes) = (context.out.len(), end - start);
    let is_inline = value.as_slice().is_some() || part_bytes == 0;
    let has_room = part_bytes <= context.room_now_bytes;
    if has_room && (is_inline || out_start + part_bytes <= REFER_BYTES_MIN) {
        let mut reply = Writer::new(context.out, context.session.version());
        reply.bulk_header(part_bytes);
        value.part(start, end).for_each(|chunk| context.out.extend_from_slice(chunk));
        context.reply().bulk_end();
    } else if is_inline {
        return context.without_room(out_start, refuse_reply);
    } else {
        context.part_by_reference(hash, key, start, end);
    }
    context.counters.hits += 1;
    Flow::Continue
}

/// The bytes that GETRANGE means: from the first to before the second of the result. Negative
/// indices count from the end.
fn range(first: i64, last: i64, length: usize) -> (usize, usize) {
    let length_signed = length as i64;
    if length == 0 || (first < 0 && last < 0 && first > last) {
        return (0, 0);
    }
    let from_start = |index: i64| {
        if index < 0 { index.saturating_add(length_signed).max(0) } else { index }
    };
    let (first, last) = (from_start(first), from_start(last).min(length_signed - 1));
    if first > last { (0, 0) } else { (first as usize, last as usize + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_redis() {
        for (first, last, wanted) in [
            (0, -1, (0, 5)),
            (0, 4, (0, 5)),
            (1, 3, (1, 4)),
            (-3, -2, (2, 4)),
            (-2, -3, (0, 0)),
            (3, 1, (0, 0)),
            (5, 9, (0, 0)),
            (-100, 0, (0, 1)),
            (-100, -99, (0, 1)),
            (i64::MIN, i64::MAX, (0, 5)),
            (i64::MAX, i64::MIN, (0, 0)),
            (i64::MIN, i64::MIN, (0, 1)),
        ] {
            assert_eq!(range(first, last, 5), wanted, "{first} {last}");
            assert_eq!(range(first, last, 0), (0, 0), "{first} {last}");
        }
    }

    #[test]
    fn an_insertion_needs_the_bytes_up_to_its_end() {
        let append = Insert { offset: None, bytes: b"abc" };
        assert_eq!((append.length_bytes(0), append.length_bytes(7)), (3, 10));
        let set = Insert { offset: Some(5), bytes: b"abc" };
        assert_eq!((set.length_bytes(0), set.length_bytes(70)), (8, 8));
        let far = Insert { offset: Some(usize::MAX), bytes: b"abc" };
        assert_eq!(far.length_bytes(0), usize::MAX);
    }
}
