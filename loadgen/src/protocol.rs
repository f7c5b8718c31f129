//! The codec of this tool: requests into bytes, bytes into replies. No I/O.
//!
//! It shares nothing with the server's codec on purpose: a mistake that both made would hide
//! itself. One [`Codec`] serves one run; the families are in [`resp`], [`memcached`] and [`meta`].
//!
//! Invariants:
//! - I1. Replies come in the order of the requests, so the parser is told what the reply answers;
//!   a reply of a form that cannot answer it is [`Parsed::Broken`]. A read of several keys is one
//!   [`Ask`] per key; a part of a reply that says that a key is missing can be empty.
//! - I2. Parsing looks only at the given bytes, never panics on any of them, and a reply torn at
//!   any byte is [`Parsed::Incomplete`], with a bound that saves parsing again too early.
//!
//! Cost: constant parts of a request are copied from templates; a reply is a slice of the input.

pub(crate) mod memcached;
pub(crate) mod meta;
pub(crate) mod resp;
#[cfg(test)]
mod tests;

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
    /// Give a value a new lifetime.
    Touch,
    /// Add one to a counter.
    Incr,
    /// Set up a counter at 0 unless it is there, where an increment does not do that.
    Create,
}

/// Number of kinds of requests.
pub(crate) const OPS: usize = 6;

impl Op {
    /// Whether it is about a counter, which has a key of its own.
    #[inline]
    pub(crate) fn is_counter(self) -> bool {
        matches!(self, Op::Incr | Op::Create)
    }
}

/// The place of a key among those of one read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// It is the only one, or the request is no read.
    Single,
    /// It is the first of so many, at least 2.
    First(u8),
    /// It is neither the first nor the last.
    Middle,
    /// It is the last of several.
    Last,
}

impl Part {
    /// The place of key `at` of `count`.
    pub(crate) fn of(at: usize, count: usize) -> Part {
        match at {
            _ if count == 1 => Part::Single,
            0 => Part::First(count as u8),
            _ if at + 1 == count => Part::Last,
            _ => Part::Middle,
        }
    }

    /// Whether the request ends with it.
    pub(crate) fn ends(self) -> bool {
        matches!(self, Part::Single | Part::Last)
    }
}

/// What a reply, or a part of one, answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    /// What the request does.
    pub(crate) op: Op,
    /// The place of the key in it.
    pub(crate) part: Part,
    /// The key.
    pub(crate) key: u64,
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
    /// The number that a counter has now.
    Count(u64),
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
    counters: KeyFormat,
    protocol: Protocol,
    /// What precedes the key in each kind of request, by [`Op`].
    heads: [Vec<u8>; OPS],
    /// What precedes each key of a read of several: its length, in RESP.
    key_head: Vec<u8>,
    /// What precedes the key of a write without a lifetime, where the others have one.
    bare_set: Option<Vec<u8>>,
    /// Whether the length of every key must be written out: in RESP, if it differs.
    writes_lengths: bool,
}

impl Codec {
    /// The codec of `protocol` for keys of this form; `with_ttl` if writes have lifetimes.
    pub(crate) fn new(protocol: Protocol, keys: KeyFormat, with_ttl: bool) -> Codec {
        let is_resp = !protocol.is_memcached();
        let (heads, key_head) = match protocol {
            Protocol::Resp | Protocol::Resp3 => {
                (resp::heads(keys.one_len(), with_ttl), resp::key_head(keys.one_len()))
            }
            Protocol::Memcached => (memcached::HEADS.map(<[u8]>::to_vec), Vec::new()),
            Protocol::Meta => (meta::HEADS.map(<[u8]>::to_vec), Vec::new()),
        };
        let writes_lengths = is_resp && keys.one_len().is_none();
        let bare_set = (is_resp && with_ttl)
            .then(|| resp::heads(keys.one_len(), false)[Op::Set as usize].clone());
        let counters = keys.clone();
        Codec { counters, keys, protocol, heads, key_head, bare_set, writes_lengths }
    }

    /// The same codec with counters of this form, whose keys are as long as the others.
    #[must_use]
    pub(crate) fn with_counters(self, counters: KeyFormat) -> Codec {
        Codec { counters, ..self }
    }

    /// The form of the keys that `op` is about.
    #[inline]
    pub(crate) fn form(&self, op: Op) -> &KeyFormat {
        if op.is_counter() { &self.counters } else { &self.keys }
    }

    /// Whether a missing counter must be set up before it can be incremented.
    pub(crate) fn creates_counters(&self) -> bool {
        self.protocol == Protocol::Memcached
    }

    /// The form of the keys.
    pub(crate) fn keys(&self) -> &KeyFormat {
        &self.keys
    }

    /// Whether an error that answers a part of a read ends the whole read.
    pub(crate) fn error_ends_read(&self) -> bool {
        self.protocol != Protocol::Meta
    }

    #[inline]
    fn append_head(&self, op: Op, key: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.heads[op as usize]);
        self.append_key(self.form(op), key, out);
    }

    #[inline]
    fn append_key(&self, form: &KeyFormat, key: u64, out: &mut Vec<u8>) {
        if self.writes_lengths {
            append_decimal(form.len_of(key) as u64, out);
            out.extend_from_slice(b"\r\n");
        }
        form.append(key, out);
    }

    /// Appends a read of one key.
    #[inline]
    pub(crate) fn append_get(&self, key: u64, out: &mut Vec<u8>) {
        self.append_head(Op::Get, key, out);
        match self.protocol {
            Protocol::Meta => out.extend_from_slice(meta::GET_TAIL),
            _ => out.extend_from_slice(b"\r\n"),
        }
    }

    /// Appends a read of several keys.
    pub(crate) fn append_multiget(&self, keys: &[u64], out: &mut Vec<u8>) {
        match self.protocol {
            Protocol::Meta => keys.iter().for_each(|&key| self.append_get(key, out)),
            Protocol::Memcached => {
                out.extend_from_slice(b"get");
                for &key in keys {
                    out.push(b' ');
                    self.keys.append(key, out);
                }
                out.extend_from_slice(b"\r\n");
            }
            Protocol::Resp | Protocol::Resp3 => {
                out.push(b'*');
                append_decimal(keys.len() as u64 + 1, out);
                out.extend_from_slice(b"\r\n$4\r\nMGET\r\n");
                for &key in keys {
                    out.extend_from_slice(&self.key_head);
                    self.append_key(&self.keys, key, out);
                    out.extend_from_slice(b"\r\n");
                }
            }
        }
    }

    /// Appends a delete.
    #[inline]
    pub(crate) fn append_delete(&self, key: u64, out: &mut Vec<u8>) {
        self.append_head(Op::Delete, key, out);
        out.extend_from_slice(b"\r\n");
    }

    /// Appends a new lifetime for a key.
    pub(crate) fn append_touch(&self, key: u64, ttl_ms: u64, out: &mut Vec<u8>) {
        self.append_head(Op::Touch, key, out);
        match self.protocol {
            Protocol::Resp | Protocol::Resp3 => resp::append_touch_end(ttl_ms, out),
            Protocol::Memcached => memcached::append_touch_end(ttl_ms, out),
            Protocol::Meta => meta::append_touch_end(ttl_ms, out),
        }
    }

    /// Appends an increment by one.
    pub(crate) fn append_incr(&self, key: u64, out: &mut Vec<u8>) {
        self.append_head(Op::Incr, key, out);
        out.extend_from_slice(match self.protocol {
            Protocol::Resp | Protocol::Resp3 => b"\r\n",
            Protocol::Memcached => memcached::INCR_TAIL,
            Protocol::Meta => meta::INCR_TAIL,
        });
    }

    /// Appends the setting up of a counter at 0, unless it is there.
    pub(crate) fn append_create(&self, key: u64, out: &mut Vec<u8>) {
        self.append_head(Op::Create, key, out);
        out.extend_from_slice(match self.protocol {
            Protocol::Resp | Protocol::Resp3 => resp::CREATE_TAIL,
            Protocol::Memcached => memcached::CREATE_TAIL,
            Protocol::Meta => meta::CREATE_TAIL,
        });
    }

    /// Appends a write of the value that `values` makes for `stamp`.
    #[inline]
    pub(crate) fn append_set(&self, key: u64, stamp: Stamp, values: &Values, out: &mut Vec<u8>) {
        let value_bytes = values.size_bytes(key, stamp.version);
        let ttl_ms = values.ttl_ms(key, stamp.version);
        match &self.bare_set {
            Some(head) if ttl_ms.is_none() => {
                out.extend_from_slice(head);
                self.append_key(&self.keys, key, out);
            }
            _ => self.append_head(Op::Set, key, out),
        }
        match self.protocol {
            Protocol::Resp | Protocol::Resp3 => {
                out.extend_from_slice(b"\r\n$");
                append_decimal(value_bytes as u64, out);
                out.extend_from_slice(b"\r\n");
            }
            Protocol::Memcached => memcached::append_set_line(ttl_ms, value_bytes, out),
            Protocol::Meta => meta::append_set_line(ttl_ms, value_bytes, out),
        }
        let start = out.len();
        out.resize(start + value_bytes, 0);
        values.write(key, stamp, &mut out[start..]);
        match self.protocol {
            Protocol::Resp | Protocol::Resp3 => resp::append_set_end(ttl_ms, out),
            Protocol::Memcached | Protocol::Meta => out.extend_from_slice(b"\r\n"),
        }
    }

    /// Parses the reply to `ask`, or the part of one, at the start of `input`.
    #[inline]
    pub(crate) fn parse<'a>(&self, ask: Ask, input: &'a [u8]) -> Parsed<'a> {
        match self.protocol {
            Protocol::Resp | Protocol::Resp3 => resp::parse(ask.op, ask.part, input),
            Protocol::Memcached => memcached::parse(&self.keys, ask, input),
            Protocol::Meta => meta::parse(ask.op, input),
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
