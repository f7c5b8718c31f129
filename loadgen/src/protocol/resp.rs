//! RESP2 and RESP3 (redis.io/docs/latest/develop/reference/protocol-spec), as far as the
//! operations of this tool need them.
//!
//! Cost: see the parent module.

use std::time::Duration;

use super::{Frame, Line, Op, Parsed, Reply, decimal, line};
use crate::config::VALUE_BYTES_MAX;

/// Deepest nesting that [`skip`] follows.
const DEPTH_MAX: u32 = 8;

/// The frames of GET, DEL and SET for keys of `key_bytes` bytes.
pub(super) fn frames(key_bytes: usize, ttl: Option<Duration>) -> [Frame; 3] {
    let arguments = if ttl.is_some() { 5 } else { 3 };
    [
        Frame::new(format!("*2\r\n$3\r\nGET\r\n${key_bytes}\r\n"), "\r\n"),
        Frame::new(format!("*2\r\n$3\r\nDEL\r\n${key_bytes}\r\n"), "\r\n"),
        Frame::new(format!("*{arguments}\r\n$3\r\nSET\r\n${key_bytes}\r\n"), "\r\n$"),
    ]
}

/// What follows the value of a SET: `EX` with seconds, or `PX` where a fraction is needed.
pub(super) fn set_end(ttl: Option<Duration>) -> Vec<u8> {
    let Some(ttl) = ttl else { return b"\r\n".to_vec() };
    let (unit, number) = if ttl.subsec_nanos() == 0 {
        ("EX", u128::from(ttl.as_secs()))
    } else {
        ("PX", ttl.as_millis())
    };
    let number = number.to_string();
    format!("\r\n$2\r\n{unit}\r\n${}\r\n{number}\r\n", number.len()).into_bytes()
}

/// The request that switches a connection to RESP3.
pub(crate) const HELLO_3: &[u8] = b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n";

/// Parses the reply to a request of kind `op`.
#[inline]
pub(super) fn parse(op: Op, input: &[u8]) -> Parsed<'_> {
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
        (b':', Op::Delete) if text == b"0" || text == b"1" => whole(Reply::Done),
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

#[cfg(test)]
mod tests {
    use super::super::tests::{survives_noise, torn_everywhere};
    use super::super::{Codec, Op, Reply};
    use super::*;
    use crate::config::{Protocol, ValueSize};
    use crate::keys::{KeyFormat, RUN_PREFIX};
    use crate::ledger::Stamp;
    use crate::value::{Sizes, Values};

    const SAMPLES: [&[u8]; 9] = [
        b"$5\r\nhello\r\n",
        b"$0\r\n\r\n",
        b"$-1\r\n",
        b"_\r\n",
        b"+OK\r\n",
        b":1\r\n",
        b"-ERR no\r\n",
        b"!3\r\nERR\r\n",
        b"$12\r\na\r\nb\r\nc\r\nd\r\n\r\n",
    ];

    #[test]
    fn replies_torn_at_every_byte() {
        let hit = |value| Reply::Hit { key: None, value };
        torn_everywhere(parse, Op::Get, SAMPLES[0], hit(b"hello"));
        torn_everywhere(parse, Op::Get, SAMPLES[1], hit(b""));
        torn_everywhere(parse, Op::Get, SAMPLES[2], Reply::Miss);
        torn_everywhere(parse, Op::Get, SAMPLES[3], Reply::Miss);
        torn_everywhere(parse, Op::Set, SAMPLES[4], Reply::Done);
        torn_everywhere(parse, Op::Delete, SAMPLES[5], Reply::Done);
        for op in [Op::Get, Op::Set, Op::Delete] {
            torn_everywhere(parse, op, SAMPLES[6], Reply::Error(b"ERR no"));
            torn_everywhere(parse, op, SAMPLES[7], Reply::Error(b"ERR"));
        }
        torn_everywhere(parse, Op::Get, SAMPLES[8], hit(b"a\r\nb\r\nc\r\nd\r\n"));
    }

    #[test]
    fn noise_is_survived() {
        survives_noise(parse, &SAMPLES);
    }

    #[test]
    fn replies_that_do_not_fit_are_broken() {
        let cases: [(Op, &[u8]); 9] = [
            (Op::Get, b"+OK\r\n"),
            (Op::Set, b"$1\r\nx\r\n"),
            (Op::Set, b"+QUEUED\r\n"),
            (Op::Delete, b"+OK\r\n"),
            (Op::Get, b"$2\r\nhello\r\n"),
            (Op::Get, b"$-2\r\n"),
            (Op::Get, b"$99999999999\r\n"),
            (Op::Get, b"HTTP/1.1 400\r\n"),
            (Op::Get, b"$5\nhello\n"),
        ];
        for (op, input) in cases {
            assert!(matches!(parse(op, input), Parsed::Broken(_)), "{}", input.escape_ascii());
        }
        assert!(matches!(parse(Op::Get, &[b'-'; 100_000]), Parsed::Broken(_)));
    }

    #[test]
    fn requests_have_the_exact_form() {
        let keys = KeyFormat::new(RUN_PREFIX, 8, 100);
        let codec = Codec::new(Protocol::Resp, keys.clone(), None);
        let size = ValueSize { bytes_min: 3, bytes_max: 3 };
        let values = Values::new(1, 1, Sizes::Range(size));
        let mut out = Vec::new();
        codec.append_get(7, &mut out);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$8\r\nkey:0007\r\n");
        out.clear();
        codec.append_delete(7, &mut out);
        assert_eq!(out, b"*2\r\n$3\r\nDEL\r\n$8\r\nkey:0007\r\n");
        let mut value = [0; 3];
        values.write(7, Stamp { version: 1, base: 1 }, &mut value);
        for (ttl, start, end) in [
            (None, "*3", "\r\n"),
            (Some(60_000), "*5", "\r\n$2\r\nEX\r\n$2\r\n60\r\n"),
            (Some(1500), "*5", "\r\n$2\r\nPX\r\n$4\r\n1500\r\n"),
        ] {
            let ttl = ttl.map(Duration::from_millis);
            let codec = Codec::new(Protocol::Resp, keys.clone(), ttl);
            out.clear();
            codec.append_set(7, Stamp { version: 1, base: 1 }, &values, &mut out);
            let head = format!("{start}\r\n$3\r\nSET\r\n$8\r\nkey:0007\r\n$3\r\n");
            assert_eq!(out, [head.as_bytes(), &value, end.as_bytes()].concat());
        }
    }

    #[test]
    fn whole_values_of_every_type_are_skipped() {
        let hello = b"%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nmodules\r\n*2\r\n:1\r\n#t\r\n";
        for cut in 0..hello.len() {
            assert_eq!(skip(&hello[..cut]), Ok(None));
        }
        assert_eq!(skip(hello), Ok(Some(hello.len())));
        assert_eq!(skip(b"-NOPROTO no\r\n+"), Ok(Some(13)));
        assert!(skip(b"?what\r\n").is_err());
        assert!(skip("*1\r\n".repeat(20).as_bytes()).is_err(), "bounded depth");
    }
}
