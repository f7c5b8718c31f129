//! RESP2 and RESP3 (redis.io/docs/latest/develop/reference/protocol-spec), as far as the
//! operations of this tool need them.
//!
//! Cost: see the parent module.

use super::{Line, OPS, Op, Parsed, Part, Reply, append_decimal, decimal, line};
use crate::config::VALUE_BYTES_MAX;

/// Deepest nesting that [`skip`] follows.
const DEPTH_MAX: u32 = 8;

/// What precedes the key, by [`Op`], for keys of `key_bytes` bytes; without the length if there is
/// none for all of them.
pub(super) fn heads(key_bytes: Option<usize>, with_ttl: bool) -> [Vec<u8>; OPS] {
    let arguments = if with_ttl { 5 } else { 3 };
    let names =
        [(2, "GET"), (arguments, "SET"), (2, "DEL"), (3, "PEXPIRE"), (2, "INCR"), (3, "SETNX")];
    names.map(|(count, name)| {
        let mut head = format!("*{count}\r\n${}\r\n{name}\r\n", name.len()).into_bytes();
        head.extend_from_slice(&key_head(key_bytes));
        head
    })
}

/// What follows the key of a SETNX that sets up a counter.
pub(super) const CREATE_TAIL: &[u8] = b"\r\n$1\r\n0\r\n";

/// Largest number that a counter may reach: what a signed 64-bit number holds.
const COUNT_MAX: u64 = i64::MAX as u64;

/// What precedes every key of a read of several.
pub(super) fn key_head(key_bytes: Option<usize>) -> Vec<u8> {
    key_bytes.map_or_else(|| b"$".to_vec(), |bytes| format!("${bytes}\r\n").into_bytes())
}

fn append_number(number: u64, out: &mut Vec<u8>) {
    let digits = number.checked_ilog10().unwrap_or(0) + 1;
    out.push(b'$');
    append_decimal(u64::from(digits), out);
    out.extend_from_slice(b"\r\n");
    append_decimal(number, out);
    out.extend_from_slice(b"\r\n");
}

/// What follows the value of a SET: `EX` with seconds, or `PX` where a fraction is needed.
pub(super) fn append_set_end(ttl_ms: Option<u64>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
    match ttl_ms {
        None => {}
        Some(ttl_ms) if ttl_ms.is_multiple_of(1000) => {
            out.extend_from_slice(b"$2\r\nEX\r\n");
            append_number(ttl_ms / 1000, out);
        }
        Some(ttl_ms) => {
            out.extend_from_slice(b"$2\r\nPX\r\n");
            append_number(ttl_ms, out);
        }
    }
}

/// What follows the key of a PEXPIRE.
pub(super) fn append_touch_end(ttl_ms: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
    append_number(ttl_ms, out);
}

/// Parses the reply to a request of kind `op`, or the part of one.
#[inline]
pub(super) fn parse(op: Op, part: Part, input: &[u8]) -> Parsed<'_> {
    match part {
        Part::First(count) => parse_first(count, input),
        Part::Single | Part::Middle | Part::Last => parse_one(op, input),
    }
}

/// The start of the reply to an MGET: the length of the array, and the first element.
fn parse_first(count: u8, input: &[u8]) -> Parsed<'_> {
    if input.first().is_none_or(|&kind| kind != b'*') {
        // No array: an error for all keys, or nonsense.
        return match parse_one(Op::Get, input) {
            Parsed::Complete { reply: Reply::Hit { .. } | Reply::Miss, .. } => {
                Parsed::Broken("one value instead of an array")
            }
            parsed => parsed,
        };
    }
    let (text, line_bytes) = match line(input) {
        Line::Whole(text, line_bytes) => (&text[1..], line_bytes),
        Line::Torn => return Parsed::Incomplete { bytes_min: torn_min(input) },
        Line::Broken => return Parsed::Broken("a line without a proper end"),
    };
    if decimal(text, u64::from(u8::MAX)) != Some(u64::from(count)) {
        return Parsed::Broken("an array of another length than the keys asked for");
    }
    match parse_one(Op::Get, &input[line_bytes..]) {
        Parsed::Complete { reply: Reply::Error(_), .. } => Parsed::Broken("an error in an array"),
        Parsed::Complete { reply, consumed } => {
            Parsed::Complete { reply, consumed: consumed + line_bytes }
        }
        Parsed::Incomplete { bytes_min } => {
            Parsed::Incomplete { bytes_min: bytes_min + line_bytes }
        }
        Parsed::Broken(why) => Parsed::Broken(why),
    }
}

fn parse_one(op: Op, input: &[u8]) -> Parsed<'_> {
    let Some((&kind, _)) = input.split_first() else {
        // The shortest reply is "_\r\n".
        return Parsed::Incomplete { bytes_min: 3 };
    };
    let (text, line_bytes) = match line(input) {
        Line::Whole(text, line_bytes) => (&text[1..], line_bytes),
        Line::Torn => return Parsed::Incomplete { bytes_min: torn_min(input) },
        Line::Broken => return Parsed::Broken("a line without a proper end"),
    };
    let whole = |reply| Parsed::Complete { reply, consumed: line_bytes };
    match (kind, op) {
        (b'$', Op::Get) if text == b"-1" => whole(Reply::Miss),
        (b'$', Op::Get) => bulk(input, text, line_bytes, false),
        (b'_', Op::Get) if text.is_empty() => whole(Reply::Miss),
        (b'+', Op::Set) if text == b"OK" => whole(Reply::Done),
        (b':', Op::Delete | Op::Touch | Op::Create) if text == b"0" || text == b"1" => {
            whole(Reply::Done)
        }
        (b':', Op::Incr) => match decimal(text, COUNT_MAX) {
            Some(number) => whole(Reply::Count(number)),
            None => Parsed::Broken("a counter that is no number"),
        },
        (b'-', _) => whole(Reply::Error(text)),
        (b'!', _) => bulk(input, text, line_bytes, true),
        _ => Parsed::Broken("a reply that does not fit the request"),
    }
}

/// A torn line ends with two more bytes at least, or with one if the carriage return is there.
fn torn_min(input: &[u8]) -> usize {
    let missing = if input.len() > 1 && input.ends_with(b"\r") { 1 } else { 2 };
    (input.len() + missing).max(3)
}

fn bulk<'a>(input: &'a [u8], text: &[u8], line_bytes: usize, is_error: bool) -> Parsed<'a> {
    let Some(length) = decimal(text, VALUE_BYTES_MAX as u64) else {
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
    let reply = if is_error { Reply::Error(value) } else { Reply::Hit { key: None, value } };
    Parsed::Complete { reply, consumed: end + 2 }
}

/// Length of the RESP value of any type at the start of `input`; `None` if it is not complete.
///
/// # Errors
/// What cannot be RESP.
pub(crate) fn skip(input: &[u8]) -> Result<Option<usize>, &'static str> {
    skip_nested(input, DEPTH_MAX)
}

fn skip_nested(input: &[u8], depth: u32) -> Result<Option<usize>, &'static str> {
    let (text, line_bytes) = match line(input) {
        Line::Whole(text, line_bytes) => (text, line_bytes),
        Line::Torn => return Ok(None),
        Line::Broken => return Err("a line without a proper end"),
    };
    let (&kind, text) = text.split_first().ok_or("an empty line")?;
    let number = || decimal(text, VALUE_BYTES_MAX as u64).ok_or("a bad length");
    match kind {
        b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => Ok(Some(line_bytes)),
        b'$' | b'*' if text == b"-1" => Ok(Some(line_bytes)),
        b'$' | b'!' | b'=' => {
            let end = line_bytes + number()? as usize + 2;
            Ok((input.len() >= end).then_some(end))
        }
        b'*' | b'~' | b'>' | b'%' => {
            let depth = depth.checked_sub(1).ok_or("nested too deeply")?;
            let count = number()? * if kind == b'%' { 2 } else { 1 };
            let mut end = line_bytes;
            for _ in 0..count {
                match skip_nested(&input[end..], depth)? {
                    Some(bytes) => end += bytes,
                    None => return Ok(None),
                }
            }
            Ok(Some(end))
        }
        _ => Err("an unknown type"),
    }
}
