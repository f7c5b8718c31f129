//! The codec of this tool: requests into bytes, bytes into replies. No I/O.
//!
//! It shares nothing with the server's codec on purpose: a mistake that both made would hide
//! itself. One [`Codec`] serves one run; the two families are in [`resp`] and [`memcached`].
//!
//! Invariants:
//! - I1. Replies come in the order of the requests, so the parser is told which operation the
//!   reply answers; a reply of a form that cannot answer it is [`Parsed::Broken`].
//! - I2. Parsing looks only at the given bytes, never panics on any of them, and a reply torn at
//!   any byte is [`Parsed::Incomplete`], with a bound that saves parsing again too early.
//!
//! Cost: constant parts of a request are copied from templates; a reply is a slice of the input.

pub(crate) mod memcached;
pub(crate) mod resp;

use std::time::Duration;

use crate::config::Protocol;
use crate::keys::KeyFormat;
use crate::ledger::Stamp;
use crate::value::Values;

/// Longest line that a server may send, in bytes; a longer one is not this protocol.
pub(crate) const LINE_BYTES_MAX: usize = 64 * 1024;

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// Read a value.
    Get,
    /// Write a value.
    Set,
    /// Remove a value.
    Delete,
}

/// What a reply says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply<'a> {
    /// A value.
    Hit {
        /// The key that the reply names, where the protocol has it.
        key: Option<&'a [u8]>,
        /// The value.
        value: &'a [u8],
    },
    /// No value.
    Miss,
    /// A write or a delete has been carried out (whether or not there was something to delete).
    Done,
    /// The server refused, with these words.
    Error(&'a [u8]),
}

/// The result of looking at the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parsed<'a> {
    /// The reply is not complete before the input has at least this many bytes.
    Incomplete {
        /// Always more than the input has now.
        bytes_min: usize,
    },
    /// A whole reply, in the first `consumed` bytes.
    Complete {
        /// The reply.
        reply: Reply<'a>,
        /// Its length in bytes.
        consumed: usize,
    },
    /// The input cannot be a reply to this request; nothing after it can be trusted.
    Broken(&'static str),
}

/// Encodes requests and parses replies of one protocol.
#[derive(Debug, Clone)]
pub(crate) struct Codec {
    keys: KeyFormat,
    protocol: Protocol,
    get: Frame,
    delete: Frame,
    /// The length of the value goes between `set.tail` and the value.
    set: Frame,
    /// What follows the value.
    set_end: Vec<u8>,
}

/// The constant bytes before and after the key of a request.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(head: impl Into<Vec<u8>>, tail: impl Into<Vec<u8>>) -> Frame {
        Frame { head: head.into(), tail: tail.into() }
    }

    #[inline]
    fn append(&self, keys: &KeyFormat, key: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        keys.append(key, out);
        out.extend_from_slice(&self.tail);
    }
}

impl Codec {
    /// The codec of `protocol` for keys of this form; `ttl` goes with every write.
    pub(crate) fn new(protocol: Protocol, keys: KeyFormat, ttl: Option<Duration>) -> Codec {
        let [get, delete, set] = match protocol {
            Protocol::Resp | Protocol::Resp3 => resp::frames(keys.len(), ttl),
            Protocol::Memcached => memcached::frames(ttl),
        };
        let set_end = match protocol {
            Protocol::Resp | Protocol::Resp3 => resp::set_end(ttl),
            Protocol::Memcached => b"\r\n".to_vec(),
        };
        Codec { keys, protocol, get, delete, set, set_end }
    }

    /// The form of the keys.
    pub(crate) fn keys(&self) -> &KeyFormat {
        &self.keys
    }

    /// Appends a read.
    #[inline]
    pub(crate) fn append_get(&self, key: u64, out: &mut Vec<u8>) {
        self.get.append(&self.keys, key, out);
    }

    /// Appends a delete.
    #[inline]
    pub(crate) fn append_delete(&self, key: u64, out: &mut Vec<u8>) {
        self.delete.append(&self.keys, key, out);
    }

    /// Appends a write of the value that `values` makes for `stamp`.
    #[inline]
    pub(crate) fn append_set(&self, key: u64, stamp: Stamp, values: &Values, out: &mut Vec<u8>) {
        let value_bytes = values.size_bytes(key, stamp.version);
        self.set.append(&self.keys, key, out);
        append_decimal(value_bytes as u64, out);
        out.extend_from_slice(b"\r\n");
        let start = out.len();
        out.resize(start + value_bytes, 0);
        values.write(key, stamp, &mut out[start..]);
        out.extend_from_slice(&self.set_end);
    }

    /// Parses the reply to a request of kind `op` at the start of `input`.
    #[inline]
    pub(crate) fn parse<'a>(&self, op: Op, input: &'a [u8]) -> Parsed<'a> {
        match self.protocol {
            Protocol::Resp | Protocol::Resp3 => resp::parse(op, input),
            Protocol::Memcached => memcached::parse(op, input),
        }
    }
}

/// The outcome of looking for the line at the start of the input.
pub(crate) enum Line<'a> {
    /// The line without its end, and the length with it.
    Whole(&'a [u8], usize),
    /// No end in sight yet.
    Torn,
    /// Too long, or with a bare line feed.
    Broken,
}

/// Finds the line at the start of `input`.
#[inline]
pub(crate) fn line(input: &[u8]) -> Line<'_> {
    let window = &input[..input.len().min(LINE_BYTES_MAX)];
    match window.iter().position(|&byte| byte == b'\n') {
        Some(at) if at > 0 && input[at - 1] == b'\r' => Line::Whole(&input[..at - 1], at + 1),
        Some(_) => Line::Broken,
        None if input.len() >= LINE_BYTES_MAX => Line::Broken,
        None => Line::Torn,
    }
}

/// The number that `digits` spells, if it is all digits and at most `max`.
#[inline]
pub(crate) fn decimal(digits: &[u8], max: u64) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    let mut number = 0_u64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number * 10 + u64::from(digit - b'0');
    }
    (number <= max).then_some(number)
}

/// Appends a number in decimal.
#[inline]
pub(crate) fn append_decimal(number: u64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_strict() {
        assert_eq!(decimal(b"0", 10), Some(0));
        assert_eq!(decimal(b"10", 10), Some(10));
        for bad in ["", "11", "-1", "+1", "1 ", "1x", "99999999999999999999999"] {
            assert_eq!(decimal(bad.as_bytes(), 10), None, "{bad}");
        }
        for number in [0, 7, 10, 64, 1023, u64::MAX] {
            let mut text = Vec::new();
            append_decimal(number, &mut text);
            assert_eq!(text, number.to_string().into_bytes());
        }
    }

    /// Cuts `input` everywhere: every proper prefix must ask for more, by an honest bound.
    pub(super) fn torn_everywhere(
        parse: impl for<'a> Fn(Op, &'a [u8]) -> Parsed<'a>,
        op: Op,
        input: &[u8],
        expected: Reply<'_>,
    ) {
        for cut in 0..input.len() {
            match parse(op, &input[..cut]) {
                Parsed::Incomplete { bytes_min } => {
                    assert!(bytes_min > cut && bytes_min <= input.len(), "cut {cut}: {bytes_min}");
                }
                other => panic!("cut {cut} of {:?}: {other:?}", input.escape_ascii().to_string()),
            }
        }
        for rest in ["", "$3\r\n", "END\r\n", "\r\n"] {
            let longer = [input, rest.as_bytes()].concat();
            let whole = Parsed::Complete { reply: expected, consumed: input.len() };
            assert_eq!(parse(op, &longer), whole);
        }
    }

    /// Random bytes and damaged replies: any answer is fine, a panic or a wrong length is not.
    pub(super) fn survives_noise(
        parse: impl for<'a> Fn(Op, &'a [u8]) -> Parsed<'a>,
        samples: &[&[u8]],
    ) {
        let seed = 21;
        let mut rng = crate::rng::Rng::new(seed, 0);
        for round in 0..200_000 {
            let mut input = samples[rng.below(samples.len() as u64) as usize].to_vec();
            for _ in 0..=rng.below(3) {
                let at = rng.below(input.len() as u64) as usize;
                input[at] = rng.next_u64() as u8;
            }
            let op = [Op::Get, Op::Set, Op::Delete][rng.below(3) as usize];
            match parse(op, &input) {
                Parsed::Incomplete { bytes_min } => {
                    assert!(bytes_min > input.len(), "seed {seed} round {round}");
                }
                Parsed::Complete { consumed, .. } => {
                    assert!(consumed > 0 && consumed <= input.len(), "seed {seed} round {round}");
                }
                Parsed::Broken(why) => assert!(!why.is_empty()),
            }
        }
    }
}
