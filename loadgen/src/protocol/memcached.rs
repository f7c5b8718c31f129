//! The memcached text protocol (doc/protocol.txt of memcached): `get`, `set`, `delete`, `touch`,
//! `incr`, and `add` for a counter that is not there.
//!
//! A `get` of several keys is answered by a `VALUE` for each that is there, in their order, and one
//! `END`; so a key is missing if the next `VALUE` names another one, or if the `END` has come.
//!
//! Cost: see the parent module.

use super::{Ask, Line, OPS, Op, Parsed, Reply, append_decimal, decimal, line};
use crate::config::VALUE_BYTES_MAX;
use crate::keys::KeyFormat;

/// What ends the reply to a `get`.
const END: &[u8] = b"END\r\n";

/// What precedes the key, by [`Op`].
pub(super) const HEADS: [&[u8]; OPS] = [b"get ", b"set ", b"delete ", b"touch ", b"incr ", b"add "];

/// What follows the key of an increment.
pub(super) const INCR_TAIL: &[u8] = b" 1\r\n";
/// What follows the key of an `add` that sets up a counter.
pub(super) const CREATE_TAIL: &[u8] = b" 0 0 1\r\n0\r\n";

/// A lifetime in whole seconds, rounded up; 0 is none.
pub(super) fn seconds(ttl_ms: Option<u64>) -> u64 {
    ttl_ms.map_or(0, |ttl_ms| ttl_ms.div_ceil(1000))
}

/// What follows the key of a `set`: flags 0, the lifetime and the length.
pub(super) fn append_set_line(ttl_ms: Option<u64>, value_bytes: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(b" 0 ");
    append_decimal(seconds(ttl_ms), out);
    out.push(b' ');
    append_decimal(value_bytes as u64, out);
    out.extend_from_slice(b"\r\n");
}

/// What follows the key of a `touch`.
pub(super) fn append_touch_end(ttl_ms: u64, out: &mut Vec<u8>) {
    out.push(b' ');
    append_decimal(seconds(Some(ttl_ms)), out);
    out.extend_from_slice(b"\r\n");
}

/// Parses the reply to `ask`, or the part of one.
#[inline]
pub(super) fn parse<'a>(keys: &KeyFormat, ask: Ask, input: &'a [u8]) -> Parsed<'a> {
    let (text, line_bytes) = match line(input) {
        Line::Whole(text, line_bytes) => (text, line_bytes),
        Line::Torn => return Parsed::Incomplete { bytes_min: torn_min(input) },
        Line::Broken => return Parsed::Broken("a line without a proper end"),
    };
    let whole = |reply| Parsed::Complete { reply, consumed: line_bytes };
    match (ask.op, text) {
        // The END stays for the last key of the read.
        (Op::Get, b"END") if !ask.part.ends() => absent(),
        (Op::Get, b"END") => whole(Reply::Miss),
        (Op::Get, _) if text.starts_with(b"VALUE ") => {
            value(keys, ask, input, &text[6..], line_bytes)
        }
        (Op::Set, b"STORED") => whole(Reply::Done),
        (Op::Set, b"NOT_STORED" | b"EXISTS" | b"NOT_FOUND") => whole(Reply::Error(text)),
        (Op::Delete, b"DELETED" | b"NOT_FOUND") => whole(Reply::Done),
        (Op::Touch, b"TOUCHED" | b"NOT_FOUND") => whole(Reply::Done),
        (Op::Create, b"STORED" | b"NOT_STORED") => whole(Reply::Done),
        (Op::Incr, b"NOT_FOUND") => whole(Reply::Miss),
        (Op::Incr, [b'0'..=b'9', ..]) => match decimal(text, u64::MAX) {
            Some(number) => whole(Reply::Count(number)),
            None => Parsed::Broken("a counter that is no number"),
        },
        (_, b"ERROR") => whole(Reply::Error(text)),
        _ if is_error(text) => whole(Reply::Error(text)),
        _ => Parsed::Broken("a reply that does not fit the request"),
    }
}

/// Whether a line reports an error with words of its own.
pub(super) fn is_error(text: &[u8]) -> bool {
    text.starts_with(b"CLIENT_ERROR") || text.starts_with(b"SERVER_ERROR")
}

/// A key that the reply passes over.
fn absent<'a>() -> Parsed<'a> {
    Parsed::Complete { reply: Reply::Miss, consumed: 0 }
}

/// A torn line lacks its line feed at least; the shortest reply is `END` with its line end.
fn torn_min(input: &[u8]) -> usize {
    (input.len() + 1).max(END.len())
}

/// A value: `VALUE <key> <flags> <bytes>`, the bytes, and `END` after the last.
fn value<'a>(
    keys: &KeyFormat,
    ask: Ask,
    input: &'a [u8],
    text: &'a [u8],
    line_bytes: usize,
) -> Parsed<'a> {
    let mut words = text.split(|&byte| byte == b' ');
    let (key, flags, length) = (words.next(), words.next(), words.next());
    let (Some(key), Some(b"0"), Some(length), None) = (key, flags, length, words.next()) else {
        return Parsed::Broken("a VALUE line that is not <key> 0 <bytes>");
    };
    // The value of a later key; at the last key nothing is later, and the judge sees the name.
    if !ask.part.ends() && !keys.matches(ask.key, key) {
        return absent();
    }
    let Some(length) = decimal(length, VALUE_BYTES_MAX as u64) else {
        return Parsed::Broken("a length that is no number or too large");
    };
    let end = line_bytes + length as usize;
    let tail_bytes = if ask.part.ends() { END.len() } else { 0 };
    let consumed = end + 2 + tail_bytes;
    if input.len() < consumed {
        return Parsed::Incomplete { bytes_min: consumed };
    }
    let tail = &input[end + 2..consumed];
    if &input[end..end + 2] != b"\r\n" || (ask.part.ends() && tail != END) {
        return Parsed::Broken("a value longer than its length says, or more than one");
    }
    let value = &input[line_bytes..end];
    Parsed::Complete { reply: Reply::Hit { key: Some(key), value }, consumed }
}
