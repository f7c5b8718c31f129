//! Traces in text: a line per request, read once from the first to the last.
//!
//! - *Twitter* (github.com/twitter/cache-trace): seven columns, `timestamp,key,key size,value
//!   size,client id,operation,TTL`.
//! - *CSV*: a head that names columns, then values. `key` is needed; `time` (or `timestamp`, `ts`),
//!   `size` (or `value_size`), `op` (or `operation`) and `ttl` are used, others are not.
//! - *watch*: memcached's `watch fetchers mutations`, `ts=1.5 gid=1 type=item_get key=...`.
//! - *MONITOR* of Redis: `1339518083.107412 [0 127.0.0.1:60866] "set" "key" "value"`.
//!
//! Reads are reads, writes of every kind (`set`, `add`, `replace`, `cas`, `append`, `prepend`,
//! `incr`, `decr`) are writes of a whole value, and deletions are deletions; lines of other
//! commands are passed over and counted. Keys become numbers in the order of their first
//! appearance. The size and the lifetime of a key are the first above 0 that the trace tells.
//!
//! Times count from the first line. A trace that knows whole seconds alone has the requests of
//! each second at uniformly random times in it, in their order: what is left of a Poisson process
//! when the number of its events is known.
//!
//! Cost: some 200 ns per line; 13 bytes of memory per request, and the texts of the keys while the
//! trace is read.

use std::collections::HashMap;
use std::io::BufRead;

use super::{History, Problem, Trace, TraceOp, format};
use crate::rng::Rng;

const SECOND_NS: u64 = 1_000_000_000;
/// Latest time that a trace may have: the year 2200, or as long after its start.
const TIME_S_MAX: f64 = 7_258_118_400.0;
/// Most requests of a trace: key numbers have 32 bits.
const REQUESTS_MAX: usize = u32::MAX as usize;

/// The form of a trace in text.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Twitter,
    /// The columns of key, time, size, operation and lifetime.
    Csv([Option<usize>; 5]),
    Watch,
    Monitor,
}

/// A request as a line has it.
struct Request<'a> {
    key: &'a str,
    time_ns: Option<u64>,
    op: TraceOp,
    size: u32,
    ttl_s: u32,
}

/// Finds the form by the first line that is not an answer to the command that asked for the trace.
fn form_of(line: &str) -> Option<Form> {
    if line.starts_with("ts=") {
        return Some(Form::Watch);
    }
    let first = line.split([',', ' ']).next()?;
    if first.parse::<f64>().is_ok() {
        return match line.split(',').count() {
            _ if line.contains(" [") && line.contains("] \"") => Some(Form::Monitor),
            7.. => Some(Form::Twitter),
            _ => None,
        };
    }
    let names: Vec<String> = line.split(',').map(|name| name.trim().to_lowercase()).collect();
    let column = |wanted: &[&str]| names.iter().position(|name| wanted.contains(&name.as_str()));
    let key = column(&["key"])?;
    Some(Form::Csv([
        Some(key),
        column(&["time", "timestamp", "ts"]),
        column(&["size", "value_size"]),
        column(&["op", "operation"]),
        column(&["ttl"]),
    ]))
}

fn op_of(name: &str) -> Option<TraceOp> {
    Some(match name.to_ascii_lowercase().as_str() {
        "get" | "gets" | "gat" | "gats" | "mget" | "read" | "r" => TraceOp::Read,
        "set" | "add" | "replace" | "cas" | "append" | "prepend" | "incr" | "decr" | "setex"
        | "psetex" | "setnx" | "getset" | "write" | "w" => TraceOp::Write,
        "delete" | "del" | "unlink" | "d" => TraceOp::Delete,
        _ => return None,
    })
}

/// Seconds with or without a fraction, exact to the nanosecond.
fn time_ns(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let whole: u64 = whole.parse().ok().filter(|&s| (s as f64) < TIME_S_MAX)?;
    let fraction: u64 = format!("{fraction:0<9}").parse().ok()?;
    Some(whole * SECOND_NS + fraction)
}

/// Reads a line: `None` for one that is passed over.
fn request<'a>(form: &Form, line: &'a str) -> Result<Option<Request<'a>>, &'static str> {
    match form {
        Form::Twitter => {
            let words: Vec<&str> = line.rsplitn(6, ',').collect();
            let [ttl, op, _client, size, _key_size, rest] = words[..] else {
                return Err("not seven columns");
            };
            // Keys may have commas in them; times have none.
            let (time, key) = rest.split_once(',').ok_or("not seven columns")?;
            columns(key, Some(time), size, op, ttl)
        }
        Form::Csv(places) => {
            let words: Vec<&str> = line.split(',').map(str::trim).collect();
            let [key, time, size, op, ttl] =
                places.map(|place| place.map(|at| words.get(at).copied()));
            let key = key.flatten().ok_or("no key")?;
            let or = |word: Option<Option<&'a str>>, default| match word {
                None => Ok(default),
                Some(word) => word.ok_or("too few columns"),
            };
            let time = time.map(|time| time.ok_or("too few columns")).transpose()?;
            columns(key, time, or(size, "0")?, or(op, "get")?, or(ttl, "0")?)
        }
        Form::Watch => Ok(watch(line)),
        Form::Monitor => monitor(line),
    }
}

fn columns<'a>(
    key: &'a str,
    time: Option<&str>,
    size: &str,
    op: &str,
    ttl: &str,
) -> Result<Option<Request<'a>>, &'static str> {
    let Some(op) = op_of(op) else { return Ok(None) };
    let time_ns = time.map(|time| time_ns(time).ok_or("a time that is no number of seconds"));
    Ok(Some(Request {
        key,
        time_ns: time_ns.transpose()?,
        op,
        size: size.parse().map_err(|_| "a size that is no number of bytes")?,
        ttl_s: ttl.parse().map_err(|_| "a TTL that is no number of seconds")?,
    }))
}

fn watch(line: &str) -> Option<Request<'_>> {
    let field =
        |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let op = match field("type")? {
        "item_get" => TraceOp::Read,
        "item_store" => op_of(field("cmd").unwrap_or("set"))?,
        "deleted" | "item_delete" => TraceOp::Delete,
        _ => return None,
    };
    let number = |name| field(name).and_then(|text| text.parse().ok()).unwrap_or(0);
    Some(Request {
        key: field("key")?,
        time_ns: Some(time_ns(field("ts")?)?),
        op,
        size: number("size"),
        ttl_s: number("ttl"),
    })
}

fn monitor(line: &str) -> Result<Option<Request<'_>>, &'static str> {
    let (time, rest) = line.split_once(' ').ok_or("not time, client and command")?;
    let (_, words) = rest.split_once("] ").ok_or("not time, client and command")?;
    let time_ns = time_ns(time).ok_or("a time that is no number of seconds")?;
    let mut words = Quoted(words);
    let name = words.next().ok_or("no command")?;
    let (Some(op), Some(key)) = (op_of(name), words.next()) else { return Ok(None) };
    let value = match name.to_ascii_lowercase().as_str() {
        "setex" | "psetex" => words.nth(1),
        _ => words.next(),
    };
    let size = if op == TraceOp::Write { value.map_or(0, unescaped_bytes) } else { 0 };
    let mut ttl_s = 0;
    while let Some(option) = words.next() {
        if option.eq_ignore_ascii_case("ex") {
            ttl_s = words.next().and_then(|text| text.parse().ok()).unwrap_or(0);
        }
    }
    Ok(Some(Request { key, time_ns: Some(time_ns), op, size, ttl_s }))
}

/// The words of a `MONITOR` line, without their quotes and as they are escaped.
struct Quoted<'a>(&'a str);

impl<'a> Iterator for Quoted<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start().strip_prefix('"')?;
        let mut escaped = false;
        let end = text.bytes().position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        })?;
        self.0 = &text[end + 1..];
        Some(&text[..end])
    }
}

/// Bytes of an escaped word: `\n` and `\x41` stand for one byte each.
fn unescaped_bytes(word: &str) -> u32 {
    let (mut count, mut bytes) = (0, word.bytes());
    while let Some(byte) = bytes.next() {
        count += 1;
        if byte == b'\\' && bytes.next() == Some(b'x') {
            bytes.nth(1);
        }
    }
    count
}

/// A trace as far as it has been read.
#[derive(Default)]
struct Builder {
    numbers: HashMap<String, u32>,
    keys: Vec<u32>,
    ops: Vec<TraceOp>,
    times_ns: Vec<u64>,
    sizes: Vec<u32>,
    ttls_s: Vec<u32>,
    passed_over: u64,
}

impl Builder {
    fn add(&mut self, request: &Request<'_>) -> Result<(), &'static str> {
        let Request { key, time_ns, op, size, ttl_s } = *request;
        if self.keys.len() >= REQUESTS_MAX {
            return Err("more than 2^32 requests");
        }
        if let Some(time_ns) = time_ns {
            if self.times_ns.last().is_some_and(|&before_ns| time_ns < before_ns) {
                return Err("a time before that of an earlier line");
            }
            self.times_ns.push(time_ns);
        }
        let number = match self.numbers.get(key) {
            Some(&number) => number,
            None => {
                let number = self.numbers.len() as u32;
                self.numbers.insert(key.to_owned(), number);
                self.sizes.push(0);
                self.ttls_s.push(0);
                number
            }
        };
        for (known, told) in [(&mut self.sizes, size), (&mut self.ttls_s, ttl_s)] {
            let known = &mut known[number as usize];
            *known = if *known == 0 { told } else { *known };
        }
        self.keys.push(number);
        self.ops.push(op);
        Ok(())
    }

    fn finish(mut self, seed: u64) -> History {
        let start_ns = self.times_ns.first().copied().unwrap_or(0);
        let whole = self.times_ns.iter().all(|time_ns| time_ns % SECOND_NS == 0);
        self.times_ns.iter_mut().for_each(|time_ns| *time_ns -= start_ns);
        if whole {
            spread(&mut self.times_ns, seed);
        }
        let some = |numbers: Vec<u32>| numbers.iter().any(|&number| number > 0).then_some(numbers);
        let unique_bytes = self.sizes.iter().map(|&size| u64::from(size)).sum();
        let plain = self.ops.iter().all(|&op| op == TraceOp::Read);
        History {
            trace: Trace {
                unique: self.numbers.len() as u64,
                unique_bytes,
                key_sizes: some(self.sizes),
                keys: self.keys,
            },
            ops: (!plain).then_some(self.ops),
            times_ns: (!self.times_ns.is_empty()).then_some(self.times_ns),
            key_ttls_s: some(self.ttls_s),
            passed_over: self.passed_over,
        }
    }
}

/// Gives the requests of each whole second random times in it, in their order.
fn spread(times_ns: &mut [u64], seed: u64) {
    let mut rng = Rng::new(seed, 0x7472_6163);
    for second in times_ns.chunk_by_mut(|a, b| a == b) {
        let start_ns = second[0];
        second.iter_mut().for_each(|time_ns| *time_ns = start_ns + rng.below(SECOND_NS));
        second.sort_unstable();
    }
}

/// Reads a whole trace; `seed` places the requests of a second in it.
pub(super) fn read(mut input: impl BufRead, seed: u64) -> Result<History, Problem> {
    let (mut line, mut number, mut form) = (Vec::new(), 0_u64, None);
    let mut builder = Builder::default();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        number += 1;
        // Keys of bytes that are no text stay distinct well enough for a cache.
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() || text.starts_with('#') || text == "OK" {
            continue;
        }
        if form.is_none() {
            form = form_of(text);
            if matches!(form, Some(Form::Csv(_))) {
                continue;
            }
        }
        let Some(form) = &form else {
            return format(format!("line {number} is of no known form of trace"));
        };
        let result = request(form, text).and_then(|request| match request {
            Some(request) => builder.add(&request),
            None => {
                builder.passed_over += 1;
                Ok(())
            }
        });
        if let Err(why) = result {
            return format(format!("line {number}: {why}"));
        }
    }
    if builder.keys.is_empty() {
        return format("no request in it");
    }
    Ok(builder.finish(seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(text: &str) -> History {
        match read(text.as_bytes(), 1) {
            Ok(history) => history,
            Err(Problem::Format(why)) => panic!("{why}"),
            Err(Problem::Io(error)) => panic!("{error}"),
        }
    }

    fn why(text: &str) -> String {
        match read(text.as_bytes(), 1) {
            Ok(history) => panic!("accepted {history:?}"),
            Err(Problem::Format(why)) => why,
            Err(Problem::Io(error)) => error.to_string(),
        }
    }

    use TraceOp::{Delete, Read as R, Write as W};

    #[test]
    fn twitter_lines_are_read_and_spread_over_their_seconds() {
        let mut text = String::new();
        for at in 0..1000 {
            let line = format!("{},a,key{},10,{},1,get,0\n", 100 + at / 500, at % 7, at % 3);
            text.push_str(&line);
        }
        text.push_str(
            "101,a,key0,4,77,1,set,3600\n102,a,key1,4,0,1,delete,0\n102,x,1,0,1,touch,0\n",
        );
        let history = history(&text);
        assert_eq!((history.trace.keys.len(), history.trace.unique), (1002, 7));
        assert_eq!(history.passed_over, 1, "a command that is none of ours");
        assert_eq!(history.trace.keys[..9], [0, 1, 2, 3, 4, 5, 6, 0, 1]);
        assert_eq!(history.key_ttls_s.as_ref().expect("one")[0], 3600);
        assert_eq!(history.trace.key_sizes.as_ref().expect("some")[..3], [1, 1, 2]);
        let ops = history.ops.as_ref().expect("not only reads");
        assert_eq!((ops[999], ops[1000], ops[1001]), (R, W, Delete));
        let times_ns = history.times_ns.expect("times");
        assert!(times_ns.is_sorted());
        let within = |second: u64| {
            let range = second * SECOND_NS..(second + 1) * SECOND_NS;
            times_ns.iter().filter(|time_ns| range.contains(time_ns)).count()
        };
        assert_eq!((within(0), within(1), within(2)), (500, 501, 1));
        let early = times_ns.iter().filter(|&&time_ns| time_ns < SECOND_NS / 2).count();
        assert!((200..300).contains(&early), "half of the first second: {early}");
    }

    #[test]
    fn columns_are_found_by_their_names() {
        let history = history("op, Key,extra,time\nGET,a,1,0.5\nset,b,2,0.75\ndel,a,3,2\n");
        assert_eq!(history.trace.keys, [0, 1, 0]);
        assert_eq!(history.ops, Some(vec![R, W, Delete]));
        assert_eq!(history.times_ns, Some(vec![0, 250_000_000, 1_500_000_000]));
        assert_eq!((history.trace.key_sizes, history.key_ttls_s), (None, None));
        let history = self::history("key\nx\ny\nx\n");
        assert_eq!((history.trace.keys, history.ops), (vec![0, 1, 0], None));
        assert_eq!(history.times_ns, None);
    }

    #[test]
    fn what_servers_show_of_their_commands_is_read() {
        let watch = "OK\n\
            ts=1489526839.343 gid=1 type=item_get key=foo status=not_found clsid=0 cfd=4\n\
            ts=1489526839.443 gid=2 type=item_store key=foo status=stored cmd=set ttl=60 clsid=1 \
            cfd=4 size=9\n\
            ts=1489526840.443 gid=3 type=conn_new rip=::1\n\
            ts=1489526840.443 gid=4 type=item_get key=foo status=found clsid=1 cfd=4 size=9\n";
        let read = history(watch);
        assert_eq!(read.ops, Some(vec![R, W, R]));
        assert_eq!(read.times_ns, Some(vec![0, 100_000_000, 1_100_000_000]));
        assert_eq!((read.trace.key_sizes, read.key_ttls_s), (Some(vec![9]), Some(vec![60])));
        assert_eq!(read.passed_over, 1);
        let monitor = "OK\n\
            1339518083.107412 [0 127.0.0.1:60866] \"keys\" \"*\"\n\
            1339518087.877697 [0 127.0.0.1:60866] \"SET\" \"a \\\"b\" \"x\\x00y\\n\" \"EX\" \"9\"\n\
            1339518090.420270 [0 unix:/tmp/s] \"get\" \"a \\\"b\"\n\
            1339518096.506257 [0 lua] \"setex\" \"c\" \"5\" \"four\"\n\
            1339518096.506258 [0 lua] \"del\" \"c\"\n";
        let read = history(monitor);
        assert_eq!(read.trace.keys, [0, 0, 1, 1]);
        assert_eq!(read.ops, Some(vec![W, R, W, Delete]));
        assert_eq!(read.trace.key_sizes, Some(vec![4, 4]));
        assert_eq!(read.times_ns.expect("times")[1], 2_542_573_000);
        assert_eq!((read.key_ttls_s, read.passed_over), (Some(vec![9, 0]), 1));
    }

    #[test]
    fn damaged_lines_are_named() {
        assert!(why("").contains("no request"));
        assert!(why("hello world\n").contains("line 1"));
        assert!(why("1,k,1,2,3,get,0\n0,k,1,2,3,get,0\n").contains("line 2: a time before"));
        assert!(why("1,k,1,x,3,get,0\n").contains("line 1: a size"));
        assert!(why("1,k,1,2,3,get,0\n1,2\n").contains("line 2: not seven"));
        assert!(why("key,time\na,soon\n").contains("line 2: a time"));
        assert!(why("key,time\na\n").contains("line 2: too few"));
        let noise = String::from_utf8_lossy(&[0xff, 0xfe, b'\n']).into_owned();
        assert!(why(&noise).contains("no known form"));
    }
}
