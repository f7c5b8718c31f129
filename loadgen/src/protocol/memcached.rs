//! The memcached text protocol (doc/protocol.txt of memcached): `get`, `set`, `delete`.
//!
//! Cost: see the parent module.

use std::time::Duration;

use super::{Frame, Line, Op, Parsed, Reply, decimal, line};
use crate::config::VALUE_BYTES_MAX;

/// What ends the reply to a `get`.
const END: &[u8] = b"END\r\n";

/// The frames of `get`, `delete` and `set`, the last one with flags 0 and the lifetime in seconds.
pub(super) fn frames(ttl: Option<Duration>) -> [Frame; 3] {
    let ttl_s = ttl.map_or(0, |ttl| ttl.as_secs());
    [
        Frame::new("get ", "\r\n"),
        Frame::new("delete ", "\r\n"),
        Frame::new("set ", format!(" 0 {ttl_s} ")),
    ]
}

/// Parses the reply to a request of kind `op`.
#[inline]
pub(super) fn parse(op: Op, input: &[u8]) -> Parsed<'_> {
    let (text, line_bytes) = match line(input) {
        Line::Whole(text, line_bytes) => (text, line_bytes),
        Line::Torn => return Parsed::Incomplete { bytes_min: torn_min(input) },
        Line::Broken => return Parsed::Broken("a line without a proper end"),
    };
    let whole = |reply| Parsed::Complete { reply, consumed: line_bytes };
    match (op, text) {
        (Op::Get, b"END") => whole(Reply::Miss),
        (Op::Get, _) if text.starts_with(b"VALUE ") => value(input, &text[6..], line_bytes),
        (Op::Set, b"STORED") => whole(Reply::Done),
        (Op::Set, b"NOT_STORED" | b"EXISTS" | b"NOT_FOUND") => whole(Reply::Error(text)),
        (Op::Delete, b"DELETED" | b"NOT_FOUND") => whole(Reply::Done),
        (_, b"ERROR") => whole(Reply::Error(text)),
        _ if text.starts_with(b"CLIENT_ERROR") || text.starts_with(b"SERVER_ERROR") => {
            whole(Reply::Error(text))
        }
        _ => Parsed::Broken("a reply that does not fit the request"),
    }
}

/// A torn line lacks its line feed at least; the shortest reply is `END` with its line end.
fn torn_min(input: &[u8]) -> usize {
    (input.len() + 1).max(END.len())
}

/// A value: `VALUE <key> <flags> <bytes>`, the bytes, and `END`.
fn value<'a>(input: &'a [u8], text: &'a [u8], line_bytes: usize) -> Parsed<'a> {
    let mut words = text.split(|&byte| byte == b' ');
    let (key, flags, length) = (words.next(), words.next(), words.next());
    let (Some(key), Some(b"0"), Some(length), None) = (key, flags, length, words.next()) else {
        return Parsed::Broken("a VALUE line that is not <key> 0 <bytes>");
    };
    let Some(length) = decimal(length, VALUE_BYTES_MAX as u64) else {
        return Parsed::Broken("a length that is no number or too large");
    };
    let end = line_bytes + length as usize;
    let consumed = end + 2 + END.len();
    if input.len() < consumed {
        return Parsed::Incomplete { bytes_min: consumed };
    }
    if &input[end..end + 2] != b"\r\n" || &input[end + 2..consumed] != END {
        return Parsed::Broken("a value longer than its length says, or more than one");
    }
    let value = &input[line_bytes..end];
    Parsed::Complete { reply: Reply::Hit { key: Some(key), value }, consumed }
}

#[cfg(test)]
mod tests {
    use super::super::Codec;
    use super::super::tests::{survives_noise, torn_everywhere};
    use super::*;
    use crate::config::{Protocol, ValueSize};
    use crate::keys::{KeyFormat, RUN_PREFIX};
    use crate::ledger::Stamp;
    use crate::value::{Sizes, Values};

    const SAMPLES: [&[u8]; 8] = [
        b"VALUE key:0001 0 5\r\nhello\r\nEND\r\n",
        b"VALUE k 0 0\r\n\r\nEND\r\n",
        b"END\r\n",
        b"STORED\r\n",
        b"DELETED\r\n",
        b"NOT_FOUND\r\n",
        b"SERVER_ERROR out of memory\r\n",
        b"ERROR\r\n",
    ];

    #[test]
    fn replies_torn_at_every_byte() {
        let hit = |key, value| Reply::Hit { key: Some(key), value };
        torn_everywhere(parse, Op::Get, SAMPLES[0], hit(b"key:0001", b"hello"));
        torn_everywhere(parse, Op::Get, SAMPLES[1], hit(b"k", b""));
        torn_everywhere(parse, Op::Get, SAMPLES[2], Reply::Miss);
        torn_everywhere(parse, Op::Set, SAMPLES[3], Reply::Done);
        torn_everywhere(parse, Op::Delete, SAMPLES[4], Reply::Done);
        torn_everywhere(parse, Op::Delete, SAMPLES[5], Reply::Done);
        torn_everywhere(parse, Op::Set, SAMPLES[5], Reply::Error(b"NOT_FOUND"));
        for op in [Op::Get, Op::Set, Op::Delete] {
            let text = &SAMPLES[6][..SAMPLES[6].len() - 2];
            torn_everywhere(parse, op, SAMPLES[6], Reply::Error(text));
            torn_everywhere(parse, op, SAMPLES[7], Reply::Error(b"ERROR"));
        }
    }

    #[test]
    fn noise_is_survived() {
        survives_noise(parse, &SAMPLES);
    }

    #[test]
    fn replies_that_do_not_fit_are_broken() {
        let cases: [(Op, &[u8]); 7] = [
            (Op::Get, b"STORED\r\n"),
            (Op::Set, b"END\r\n"),
            (Op::Delete, b"OK\r\n"),
            (Op::Get, b"VALUE k 0 x\r\n"),
            (Op::Get, b"VALUE k 7 1\r\nx\r\nEND\r\n"),
            (Op::Get, b"VALUE k 0 1\r\nxx\r\nEND\r\n"),
            (Op::Get, b"VALUE k 0 1\r\nx\r\nVALUE k 0 1\r\nx\r\nEND\r\n"),
        ];
        for (op, input) in cases {
            assert!(matches!(parse(op, input), Parsed::Broken(_)), "{}", input.escape_ascii());
        }
    }

    #[test]
    fn requests_have_the_exact_form() {
        let keys = KeyFormat::new(RUN_PREFIX, 8, 100);
        let size = ValueSize { bytes_min: 3, bytes_max: 3 };
        let values = Values::new(1, 1, Sizes::Range(size));
        let stamp = Stamp { version: 1, base: 1 };
        let mut value = [0; 3];
        values.write(7, stamp, &mut value);
        for (ttl, ttl_text) in [(None, "0"), (Some(Duration::from_secs(60)), "60")] {
            let codec = Codec::new(Protocol::Memcached, keys.clone(), ttl);
            let mut out = Vec::new();
            codec.append_get(7, &mut out);
            codec.append_delete(8, &mut out);
            codec.append_set(7, stamp, &values, &mut out);
            let head =
                format!("get key:0007\r\ndelete key:0008\r\nset key:0007 0 {ttl_text} 3\r\n");
            assert_eq!(out, [head.as_bytes(), &value, b"\r\n"].concat());
        }
    }
}
