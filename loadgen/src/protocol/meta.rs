//! The meta commands of memcached (doc/protocol.txt): `mg`, `ms`, `md`, `ma`.
//!
//! A read asks for key and value (`k v`), so that a reply names its key; a touch is a read without
//! a value and with a new lifetime (`T`); an increment sets the counter up with 1 where it is
//! missing (`N`, `J`). A read of several keys is one `mg` per key. Some servers
//! (memcached 1.6.18) name the key in the reply to a miss, too; that is no matter here.
//!
//! Cost: see the parent module.

use super::memcached::{is_error, seconds};
use super::{Line, OPS, Op, Parsed, Reply, append_decimal, decimal, line};
use crate::config::VALUE_BYTES_MAX;

/// What precedes the key, by [`Op`].
pub(super) const HEADS: [&[u8]; OPS] = [b"mg ", b"ms ", b"md ", b"mg ", b"ma ", b"ms "];

/// What follows the key of an increment.
pub(super) const INCR_TAIL: &[u8] = b" N0 J1 v\r\n";
/// What follows the key of a write that sets up a counter.
pub(super) const CREATE_TAIL: &[u8] = b" 1 ME\r\n0\r\n";

/// What follows the key of a read.
pub(super) const GET_TAIL: &[u8] = b" k v\r\n";

/// What follows the key of a write: the length and the lifetime.
pub(super) fn append_set_line(ttl_ms: Option<u64>, value_bytes: usize, out: &mut Vec<u8>) {
    out.push(b' ');
    append_decimal(value_bytes as u64, out);
    if ttl_ms.is_some() {
        out.extend_from_slice(b" T");
        append_decimal(seconds(ttl_ms), out);
    }
    out.extend_from_slice(b"\r\n");
}

/// What follows the key of a touch.
pub(super) fn append_touch_end(ttl_ms: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b" T");
    append_decimal(seconds(Some(ttl_ms)), out);
    out.extend_from_slice(b"\r\n");
}

/// Parses the reply to a request of kind `op`.
#[inline]
pub(super) fn parse(op: Op, input: &[u8]) -> Parsed<'_> {
    let (text, line_bytes) = match line(input) {
        Line::Whole(text, line_bytes) => (text, line_bytes),
        // The shortest replies have two letters and a line end.
        Line::Torn => return Parsed::Incomplete { bytes_min: (input.len() + 1).max(4) },
        Line::Broken => return Parsed::Broken("a line without a proper end"),
    };
    let whole = |reply| Parsed::Complete { reply, consumed: line_bytes };
    match (op, text) {
        (Op::Get, b"EN") => whole(Reply::Miss),
        (Op::Get, _) if text.starts_with(b"EN k") => whole(Reply::Miss),
        (Op::Get, _) if text.starts_with(b"VA ") => value(input, &text[3..], line_bytes),
        (Op::Set, b"HD") => whole(Reply::Done),
        (Op::Set, b"NS" | b"EX" | b"NF") => whole(Reply::Error(text)),
        (Op::Delete, b"HD" | b"NF") => whole(Reply::Done),
        (Op::Touch, b"HD" | b"EN") => whole(Reply::Done),
        (Op::Create, b"HD" | b"NS") => whole(Reply::Done),
        (Op::Incr, b"NF") => whole(Reply::Miss),
        (Op::Incr, _) if text.starts_with(b"VA ") => count(input, &text[3..], line_bytes),
        (_, b"ERROR") => whole(Reply::Error(text)),
        _ if is_error(text) => whole(Reply::Error(text)),
        _ => Parsed::Broken("a reply that does not fit the request"),
    }
}

/// The number of a counter: `VA <bytes>` and its digits.
fn count<'a>(input: &'a [u8], text: &'a [u8], line_bytes: usize) -> Parsed<'a> {
    let Some(length) = decimal(text.trim_ascii_end(), 20) else {
        return Parsed::Broken("a VA line that is not <bytes>");
    };
    let end = line_bytes + length as usize;
    if input.len() < end + 2 {
        return Parsed::Incomplete { bytes_min: end + 2 };
    }
    match decimal(&input[line_bytes..end], u64::MAX) {
        Some(number) if &input[end..end + 2] == b"\r\n" => {
            Parsed::Complete { reply: Reply::Count(number), consumed: end + 2 }
        }
        _ => Parsed::Broken("a counter that is no number"),
    }
}

/// A value: `VA <bytes> k<key>` and the bytes.
fn value<'a>(input: &'a [u8], text: &'a [u8], line_bytes: usize) -> Parsed<'a> {
    let mut words = text.split(|&byte| byte == b' ');
    let (Some(length), Some([b'k', key @ ..]), None) = (words.next(), words.next(), words.next())
    else {
        return Parsed::Broken("a VA line that is not <bytes> k<key>");
    };
    let Some(length) = decimal(length, VALUE_BYTES_MAX as u64) else {
        return Parsed::Broken("a length that is no number or too large");
    };
    let end = line_bytes + length as usize;
    if input.len() < end + 2 {
        return Parsed::Incomplete { bytes_min: end + 2 };
    }
    if &input[end..end + 2] != b"\r\n" {
        return Parsed::Broken("a value longer than its length says");
    }
    let value = &input[line_bytes..end];
    Parsed::Complete { reply: Reply::Hit { key: Some(key), value }, consumed: end + 2 }
}
