//! What parsing a request and encoding a reply cost, by kind.
//!
//! Each case is a buffer of a few requests (or replies) of one kind, gone through again and again.
//! Its hash is of what was understood (or written), so that two versions of a parser can be seen
//! to have done the same work; a request that arrives in two pieces has the hash of one that
//! arrives whole.

use std::hint::black_box;
use std::io::Write;
use std::path::PathBuf;

use clap::Parser;
use pinion_net::protocol::{memcached, resp};
use serde_json::{Value, json};

use super::frames::append_key;
use super::turn::print;
use super::{LayerError, Spread, write_json};
use crate::client::Prng;
use crate::sys::cpu::{pin_this_thread, thread_cpu_ns};

/// Requests in a case's buffer.
const BUFFER_REQUESTS: usize = 64;
/// Keys of a request with many.
const MANY_KEYS: usize = 10;
const VALUE_BYTES: usize = 64;

/// CPU time per request of the parsers, and per reply of the encoders.
#[derive(Clone, Debug, Parser)]
#[command(name = "parsers", version, max_term_width = 100)]
pub struct ParserOptions {
    /// Requests per round and case
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub requests: u64,
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 9)]
    pub rounds: usize,
    /// Seed of the keys
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Run on this CPU alone
    #[arg(long)]
    pub cpu: Option<usize>,
    /// Write all results to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// What a case does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Resp,
    Memcached,
    /// Each request in two pieces, the first of them up to its middle.
    RespTorn,
    MemcachedTorn,
    RespBulk,
    RespOk,
    MemcachedValue,
    MemcachedStored,
}

/// One kind of request or reply.
#[derive(Clone, Debug)]
struct Case {
    name: &'static str,
    kind: Kind,
    bytes: Vec<u8>,
    /// Where each request ends.
    ends: Vec<usize>,
}

/// Results of a case.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The case.
    pub name: &'static str,
    /// Bytes of a request or reply.
    pub bytes: usize,
    /// CPU nanoseconds of a request or reply.
    pub ns: Spread,
    /// Of what was understood or written, over the case's buffer.
    pub hash: u64,
}

impl ParserOptions {
    /// Measures, prints a table to `out`, and writes the JSON file if one is asked for.
    ///
    /// # Errors
    /// [`LayerError::Usage`] if a number is 0, [`LayerError::Unexpected`] if a request is not
    /// understood, [`LayerError::Io`] if the file cannot be written.
    pub fn run(&self, out: &mut dyn Write) -> Result<Vec<Measured>, LayerError> {
        if self.rounds == 0 || self.requests == 0 {
            let text = "--rounds and --requests must be at least 1";
            return Err(LayerError::Usage(text.to_owned()));
        }
        if let Some(cpu) = self.cpu {
            pin_this_thread(cpu).map_err(|error| LayerError::Io("pin the thread", error))?;
        }
        print(out, format_args!("{self:?}"))?;
        print(
            out,
            format_args!(
                "{:<30} {:>6} {:>8} {:>8} {:>8}  {:<16}",
                "case", "bytes", "ns min", "median", "max", "hash"
            ),
        )?;
        let mut results = Vec::new();
        for case in Case::all(self.seed) {
            let measured = self.measure(&case)?;
            print(
                out,
                format_args!(
                    "{:<30} {:>6} {}  {:016x}",
                    measured.name, measured.bytes, measured.ns, measured.hash
                ),
            )?;
            results.push(measured);
        }
        if let Some(path) = &self.json {
            let cases: Vec<Value> = results.iter().map(Measured::to_json).collect();
            write_json(path, &json!({"parsers": cases, "requests": self.requests}))?;
        }
        Ok(results)
    }

    fn measure(&self, case: &Case) -> Result<Measured, LayerError> {
        let laps = self.requests.div_ceil(BUFFER_REQUESTS as u64);
        let mut output = Vec::with_capacity(BUFFER_REQUESTS * 256);
        let not_understood =
            || LayerError::Unexpected(format!("{}: a request is not understood", case.name));
        let (hash, bytes) = case.lap::<true>(&mut output).ok_or_else(not_understood)?;
        let mut rounds = Vec::new();
        for _ in 0..self.rounds {
            let from_ns = thread_cpu_ns();
            for _ in 0..laps {
                black_box(case.lap::<false>(&mut output).ok_or_else(not_understood)?);
            }
            let ns = (thread_cpu_ns() - from_ns) as f64;
            rounds.push(ns / (laps * BUFFER_REQUESTS as u64) as f64);
        }
        let bytes = bytes / BUFFER_REQUESTS;
        Ok(Measured { name: case.name, bytes, ns: Spread::new(rounds), hash })
    }
}

impl Measured {
    fn to_json(&self) -> Value {
        json!({
            "case": self.name, "bytes": self.bytes, "ns": self.ns.to_json(),
            "hash": format!("{:016x}", self.hash),
        })
    }
}

impl Case {
    /// All cases, with keys drawn from a seed.
    fn all(seed: u64) -> Vec<Case> {
        let requests: [(&'static str, Kind, Write1); 12] = [
            ("resp GET", Kind::Resp, resp_get),
            ("resp SET 64", Kind::Resp, resp_set),
            ("resp MGET 10", Kind::Resp, resp_mget),
            ("resp inline GET", Kind::Resp, resp_inline),
            ("resp GET torn in two", Kind::RespTorn, resp_get),
            ("resp SET 64 torn in two", Kind::RespTorn, resp_set),
            ("memcached get", Kind::Memcached, memcached_get),
            ("memcached set 64", Kind::Memcached, memcached_set),
            ("memcached get 10 keys", Kind::Memcached, memcached_get_many),
            ("memcached get torn in two", Kind::MemcachedTorn, memcached_get),
            ("memcached set 64 torn in two", Kind::MemcachedTorn, memcached_set),
            ("resp encode +OK", Kind::RespOk, key_alone),
        ];
        let replies: [(&'static str, Kind, Write1); 3] = [
            ("resp encode bulk 64", Kind::RespBulk, key_alone),
            ("memcached encode STORED", Kind::MemcachedStored, key_alone),
            ("memcached encode VALUE 64, END", Kind::MemcachedValue, key_alone),
        ];
        let make = |(name, kind, write): (&'static str, Kind, Write1)| {
            let mut prng = Prng::new(seed);
            let mut case = Case { name, kind, bytes: Vec::new(), ends: Vec::new() };
            for _ in 0..BUFFER_REQUESTS {
                write(&mut prng, &mut case.bytes);
                case.ends.push(case.bytes.len());
            }
            case
        };
        requests.into_iter().chain(replies).map(make).collect()
    }

    /// Goes through the buffer once. With `HASH` returns the hash of what was understood or
    /// written, and how many bytes that were; without, only so much that nothing is left out.
    /// `None` if something is not understood.
    fn lap<const HASH: bool>(&self, output: &mut Vec<u8>) -> Option<(u64, usize)> {
        match self.kind {
            Kind::Resp => self.parse_resp::<HASH, false>(),
            Kind::RespTorn => self.parse_resp::<HASH, true>(),
            Kind::Memcached => self.parse_memcached::<HASH, false>(),
            Kind::MemcachedTorn => self.parse_memcached::<HASH, true>(),
            _ => Some(self.encode::<HASH>(output)),
        }
    }

    fn parse_resp<const HASH: bool, const TORN: bool>(&self) -> Option<(u64, usize)> {
        let (mut args, limits) = (resp::Args::new(), resp::Limits::default());
        let mut progress = resp::Progress::default();
        let (mut hash, mut at) = (0, 0);
        for &end in &self.ends {
            if TORN {
                let half = &self.bytes[at..usize::midpoint(at, end)];
                let outcome = resp::parse(half, &mut progress, &mut args, &limits);
                if !matches!(outcome, resp::Parse::Incomplete { .. }) {
                    return None;
                }
            }
            // A whole frame is followed by others, as in a pipeline; a torn one ends its input.
            let frame = if TORN { &self.bytes[at..end] } else { &self.bytes[at..] };
            match resp::parse(frame, &mut progress, &mut args, &limits) {
                resp::Parse::Complete { consumed } if at + consumed == end => at = end,
                _ => return None,
            }
            if HASH {
                hash = args.iter_from(frame, 0).fold(hash, mix);
            } else {
                black_box(&args);
            }
        }
        Some((hash, at))
    }

    fn parse_memcached<const HASH: bool, const TORN: bool>(&self) -> Option<(u64, usize)> {
        let limits = memcached::Limits::default();
        let mut progress = memcached::Progress::default();
        let (mut hash, mut at) = (0, 0);
        for &end in &self.ends {
            if TORN {
                let half = &self.bytes[at..usize::midpoint(at, end)];
                let outcome = memcached::parse(half, &mut progress, &limits);
                if !matches!(outcome, memcached::Parse::Incomplete { .. }) {
                    return None;
                }
            }
            let frame = if TORN { &self.bytes[at..end] } else { &self.bytes[at..] };
            let request = match memcached::parse(frame, &mut progress, &limits) {
                memcached::Parse::Complete { request, consumed } if at + consumed == end => request,
                _ => return None,
            };
            at = end;
            match request {
                memcached::Request::Get { keys, .. } if HASH => hash = keys.fold(hash, mix),
                memcached::Request::Store(ref store) if HASH => {
                    hash = mix(mix(hash, store.key), store.data);
                }
                // A request with many keys is not understood before they are told apart.
                memcached::Request::Get { keys, .. } => {
                    keys.for_each(|key| _ = black_box(key));
                }
                ref other => _ = black_box(other),
            }
        }
        Some((hash, at))
    }

    fn encode<const HASH: bool>(&self, output: &mut Vec<u8>) -> (u64, usize) {
        output.clear();
        let value = [b'v'; VALUE_BYTES];
        let mut at = 0;
        for &end in &self.ends {
            let (key, value) = (&self.bytes[at..end], black_box(&value));
            match self.kind {
                Kind::RespBulk => resp::Writer::new(output, resp::Version::Resp2).bulk(value),
                Kind::MemcachedValue => {
                    let mut writer = memcached::Writer::new(output);
                    writer.value(key, 0, value, None);
                    writer.end();
                }
                Kind::MemcachedStored => memcached::Writer::new(output).stored(),
                _ => resp::Writer::new(output, resp::Version::Resp2).simple(black_box("OK")),
            }
            at = end;
        }
        let hash = if HASH { mix(0, output) } else { 0 };
        (hash, output.len())
    }
}

/// Writes one request.
type Write1 = fn(&mut Prng, &mut Vec<u8>);

fn key(prng: &mut Prng, out: &mut Vec<u8>) {
    append_key(prng.below(1_000_000), out);
}

fn key_alone(prng: &mut Prng, out: &mut Vec<u8>) {
    key(prng, out);
}

fn resp_get(prng: &mut Prng, out: &mut Vec<u8>) {
    out.extend_from_slice(b"*2\r\n$3\r\nGET\r\n$16\r\n");
    key(prng, out);
    out.extend_from_slice(b"\r\n");
}

fn resp_set(prng: &mut Prng, out: &mut Vec<u8>) {
    out.extend_from_slice(b"*3\r\n$3\r\nSET\r\n$16\r\n");
    key(prng, out);
    out.extend_from_slice(b"\r\n$64\r\n");
    out.extend_from_slice(&[b'v'; VALUE_BYTES]);
    out.extend_from_slice(b"\r\n");
}

fn resp_mget(prng: &mut Prng, out: &mut Vec<u8>) {
    out.extend_from_slice(b"*11\r\n$4\r\nMGET\r\n");
    for _ in 0..MANY_KEYS {
        out.extend_from_slice(b"$16\r\n");
        key(prng, out);
        out.extend_from_slice(b"\r\n");
    }
}

fn resp_inline(prng: &mut Prng, out: &mut Vec<u8>) {
    out.extend_from_slice(b"GET ");
    key(prng, out);
    out.extend_from_slice(b"\r\n");
}

fn memcached_get(prng: &mut Prng, out: &mut Vec<u8>) {
    out.extend_from_slice(b"get ");
    key(prng, out);
    out.extend_from_slice(b"\r\n");
}

fn memcached_set(prng: &mut Prng, out: &mut Vec<u8>) {
    out.extend_from_slice(b"set ");
    key(prng, out);
    out.extend_from_slice(b" 0 0 64\r\n");
    out.extend_from_slice(&[b'v'; VALUE_BYTES]);
    out.extend_from_slice(b"\r\n");
}

fn memcached_get_many(prng: &mut Prng, out: &mut Vec<u8>) {
    out.extend_from_slice(b"get");
    for _ in 0..MANY_KEYS {
        out.push(b' ');
        key(prng, out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Mixes a piece and its length into a hash (FNV-1a).
fn mix(hash: u64, piece: &[u8]) -> u64 {
    let start = hash ^ 0xcbf2_9ce4_8422_2325 ^ piece.len() as u64;
    piece
        .iter()
        .fold(start, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(name: &str, seed: u64) -> u64 {
        let case = Case::all(seed).into_iter().find(|case| case.name == name).unwrap();
        case.lap::<true>(&mut Vec::new()).unwrap().0
    }

    #[test]
    fn torn_requests_are_understood_as_whole_ones_are() {
        for name in ["resp GET", "resp SET 64", "memcached get", "memcached set 64"] {
            assert_eq!(hash_of(name, 7), hash_of(&format!("{name} torn in two"), 7), "{name}");
            assert_ne!(hash_of(name, 7), hash_of(name, 8), "{name}");
        }
        assert_eq!(hash_of("resp GET", 7), hash_of("resp inline GET", 7));
    }

    #[test]
    fn a_damaged_request_is_noticed() {
        for mut case in Case::all(1) {
            if case.name.contains("encode") {
                continue;
            }
            // The last byte ends a line in both protocols.
            *case.bytes.last_mut().unwrap() = b'x';
            assert!(case.lap::<false>(&mut Vec::new()).is_none(), "{}", case.name);
        }
    }
}
