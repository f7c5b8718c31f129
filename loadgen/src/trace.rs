//! Cache traces: text (`text` has the forms), plain or as a zstd frame, and the CTR1 format: one
//! zstd frame, little-endian.
//!
//! | offset | type | field |
//! | ---: | --- | --- |
//! | 0 | 4 bytes | magic `CTR1` |
//! | 4 | u8 | flags: bit 0 = records have a size |
//! | 5 | u8 | record length in bytes: 4, or 8 with a size |
//! | 6 | u16 | 0 |
//! | 8 | u64 | number of records |
//! | 16 | u64 | number of unique keys |
//! | 24 | u64 | bytes of all unique keys (0 without sizes) |
//! | 32 | records | u32 key, then u32 size if there are sizes |
//!
//! Keys are dense numbers in the order of their first appearance. The size of a key never changes;
//! 0 stands for unknown. Every record is a read.
//!
//! Cost: 4 bytes of memory per record and 4 per sized key; about 10 ns per record to load.

mod text;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use crate::error::Error;

/// What every zstd frame starts with.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const HEADER_BYTES: usize = 32;
const FLAG_SIZES: u8 = 1;
/// Records decoded at a time.
const BATCH_RECORDS: usize = 8192;
/// Most memory reserved on the word of a header, in records; a longer trace grows as it comes.
const RESERVE_RECORDS_MAX: u64 = 64 << 20;

/// A trace in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The key of each request, all below `unique`.
    pub keys: Vec<u32>,
    /// The size in bytes of each key, where the trace has sizes; 0 is unknown or empty.
    pub key_sizes: Option<Vec<u32>>,
    /// Number of unique keys.
    pub unique: u64,
    /// Bytes of all unique keys, 0 without sizes.
    pub unique_bytes: u64,
}

/// What a request of a trace does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceOp {
    /// It reads the key.
    Read,
    /// It writes the whole value of the key.
    Write,
    /// It deletes the key.
    Delete,
}

/// A trace with what it knows besides the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Keys and sizes.
    pub trace: Trace,
    /// What each request does; all of them read if `None`.
    pub ops: Option<Vec<TraceOp>>,
    /// When each request came, in nanoseconds after the first, ascending.
    pub times_ns: Option<Vec<u64>>,
    /// The lifetime of the value of each key, in seconds; 0 is none.
    pub key_ttls_s: Option<Vec<u32>>,
    /// Lines that were passed over, because they are no reads, writes or deletions.
    pub passed_over: u64,
}

impl History {
    /// What is in the trace, for people.
    #[must_use]
    pub fn text(&self) -> String {
        let Trace { keys, unique, unique_bytes, key_sizes } = &self.trace;
        let count = |op| match &self.ops {
            Some(ops) => ops.iter().filter(|&&other| other == op).count(),
            None if op == TraceOp::Read => keys.len(),
            None => 0,
        };
        let length = self.times_ns.as_ref().and_then(|times_ns| times_ns.last());
        let length = length.map_or("n/a".to_owned(), |&ns| format!("{:.3} s", ns as f64 / 1e9));
        let bytes = match key_sizes {
            Some(_) => format!("{unique_bytes} of all keys together"),
            None => "n/a".to_owned(),
        };
        let ttls = self.key_ttls_s.as_ref();
        let ttls = ttls.map_or(0, |ttls_s| ttls_s.iter().filter(|&&ttl_s| ttl_s > 0).count());
        format!(
            "requests    {}\nkeys        {unique}\nbytes       {bytes}\nreads       {}\n\
             writes      {}\ndeletes     {}\nexpire      {ttls} keys\nlength      {length}\n\
             passed over {} lines\n",
            keys.len(),
            count(TraceOp::Read),
            count(TraceOp::Write),
            count(TraceOp::Delete),
            self.passed_over
        )
    }
}

impl From<Trace> for History {
    fn from(trace: Trace) -> History {
        History { trace, ops: None, times_ns: None, key_ttls_s: None, passed_over: 0 }
    }
}

/// Loads the trace in `path`, whatever its form; `seed` spreads the requests of whole seconds.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, [`Error::Trace`] if it is of no known form or damaged.
pub fn open(path: &Path, seed: u64) -> Result<History, Error> {
    let failed = |error| Error::io(format!("cannot read {}", path.display()), error);
    let file = File::open(path).map_err(failed)?;
    let mut file = BufReader::with_capacity(1 << 18, file);
    let is_zstd = file.fill_buf().map_err(failed)?.starts_with(&ZSTD_MAGIC);
    let history = if is_zstd {
        let decoder = zstd::stream::read::Decoder::with_buffer(file).map_err(failed)?;
        read_any(BufReader::with_capacity(1 << 18, decoder), seed)
    } else {
        read_any(file, seed)
    };
    history.map_err(|problem| match problem {
        Problem::Io(error) => failed(error),
        Problem::Format(why) => Error::Trace(format!("{}: {why}", path.display())),
    })
}

fn read_any(mut input: impl BufRead, seed: u64) -> Result<History, Problem> {
    if input.fill_buf()?.starts_with(b"CTR1") {
        return read(input).map(History::from);
    }
    text::read(input, seed)
}

/// Loads the CTR1 trace in `path`.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read or is not a sound zstd frame, [`Error::Trace`] if what
/// is in it is not a CTR1 trace or contradicts its header.
pub fn load(path: &Path) -> Result<Trace, Error> {
    let context = || format!("cannot read {}", path.display());
    let file = File::open(path).map_err(|error| Error::io(context(), error))?;
    let decoder =
        zstd::stream::read::Decoder::new(file).map_err(|error| Error::io(context(), error))?;
    read(BufReader::with_capacity(1 << 18, decoder)).map_err(|problem| match problem {
        Problem::Io(error) => Error::io(context(), error),
        Problem::Format(why) => Error::Trace(format!("{}: {why}", path.display())),
    })
}

enum Problem {
    Io(io::Error),
    Format(String),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Problem {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Problem::Format("the trace ends too early".to_owned()),
            _ => Problem::Io(error),
        }
    }
}

fn format<T>(why: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Format(why.into()))
}

fn read(mut input: impl Read) -> Result<Trace, Problem> {
    let mut header = [0; HEADER_BYTES];
    input.read_exact(&mut header)?;
    let u64_at = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
    if &header[..4] != b"CTR1" {
        return format("not a CTR1 trace");
    }
    let sized = match header[4] {
        0 => false,
        FLAG_SIZES => true,
        flags => return format(format!("flags {flags:#x} are not supported")),
    };
    let record_bytes = if sized { 8 } else { 4 };
    if usize::from(header[5]) != record_bytes {
        return format(format!("records of {} bytes do not fit the flags", header[5]));
    }
    let (count, unique, unique_bytes) = (u64_at(8), u64_at(16), u64_at(24));
    if unique > 1 << 32 || unique > count {
        return format(format!("{unique} unique keys in {count} records"));
    }
    let mut trace = Trace {
        keys: Vec::with_capacity(count.min(RESERVE_RECORDS_MAX) as usize),
        key_sizes: sized.then(Vec::new),
        unique,
        unique_bytes,
    };
    let mut batch = vec![0; BATCH_RECORDS * record_bytes];
    let mut left = count;
    while left > 0 {
        let records = left.min(BATCH_RECORDS as u64);
        let bytes = &mut batch[..records as usize * record_bytes];
        input.read_exact(bytes)?;
        for record in bytes.chunks_exact(record_bytes) {
            add(&mut trace, record)?;
        }
        left -= records;
    }
    if input.read(&mut [0; 1])? != 0 {
        return format("more data after the last record");
    }
    if trace.seen() != unique {
        return format(format!("{} unique keys, not {unique}", trace.seen()));
    }
    Ok(trace)
}

/// Adds a record and checks it against the ones before it.
fn add(trace: &mut Trace, record: &[u8]) -> Result<(), Problem> {
    let u32_at = |at: usize| u32::from_le_bytes(record[at..at + 4].try_into().expect("4 bytes"));
    let key = u32_at(0);
    if u64::from(key) >= trace.unique {
        return format(format!("key {key} is not below {}", trace.unique));
    }
    trace.keys.push(key);
    if let Some(sizes) = &mut trace.key_sizes {
        let size = u32_at(4);
        match sizes.get(key as usize) {
            None if key as usize == sizes.len() => sizes.push(size),
            None => return format(format!("key {key} is not the next new key")),
            Some(&first) if first != size => {
                return format(format!("key {key} has sizes {first} and {size}"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

impl Trace {
    /// How many keys the records really have: keys are dense, so the largest one tells.
    fn seen(&self) -> u64 {
        self.keys.iter().max().map_or(0, |&key| u64::from(key) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(flags: u8, records: &[(u32, u32)], unique: u64) -> Vec<u8> {
        let record_bytes = if flags & FLAG_SIZES != 0 { 8 } else { 4 };
        let mut out = b"CTR1".to_vec();
        out.extend_from_slice(&[flags, record_bytes, 0, 0]);
        out.extend_from_slice(&(records.len() as u64).to_le_bytes());
        out.extend_from_slice(&unique.to_le_bytes());
        out.extend_from_slice(&77_u64.to_le_bytes());
        for (key, size) in records {
            out.extend_from_slice(&key.to_le_bytes());
            if record_bytes == 8 {
                out.extend_from_slice(&size.to_le_bytes());
            }
        }
        out
    }

    fn why(bytes: &[u8]) -> String {
        match read(bytes) {
            Ok(trace) => panic!("accepted {trace:?}"),
            Err(Problem::Format(why)) => why,
            Err(Problem::Io(error)) => error.to_string(),
        }
    }

    #[test]
    fn sized_and_unsized_traces_load() {
        let records = [(0, 10), (1, 0), (0, 10), (2, 5)];
        let sized = read(&encode(1, &records, 3)[..]).ok().expect("sound");
        assert_eq!(sized.keys, [0, 1, 0, 2]);
        assert_eq!(sized.key_sizes, Some(vec![10, 0, 5]));
        assert_eq!((sized.unique, sized.unique_bytes), (3, 77));
        let unsized_trace = read(&encode(0, &records, 3)[..]).ok().expect("sound");
        assert_eq!((unsized_trace.keys, unsized_trace.key_sizes), (vec![0, 1, 0, 2], None));
    }

    #[test]
    fn damaged_traces_are_refused() {
        let good = encode(1, &[(0, 10), (1, 20), (0, 10)], 2);
        for length in 0..good.len() {
            assert_eq!(why(&good[..length]), "the trace ends too early");
        }
        assert!(why(&[&good[..], b"x"].concat()).contains("more data"));
        let mut other = good.clone();
        other[0] = b'X';
        assert!(why(&other).contains("not a CTR1"));
        assert!(why(&encode(3, &[(0, 1)], 1)).contains("flags"));
        assert!(why(&encode(1, &[(0, 1), (0, 2)], 1)).contains("sizes 1 and 2"));
        assert!(why(&encode(1, &[(0, 1), (2, 2), (1, 3)], 3)).contains("next new key"));
        assert!(why(&encode(0, &[(0, 0), (5, 0)], 2)).contains("not below"));
        assert!(why(&encode(0, &[(0, 0), (0, 0)], 2)).contains("1 unique keys, not 2"));
        assert!(why(&encode(0, &[(0, 0)], 9)).contains("9 unique keys"));
    }

    #[test]
    fn files_are_zstd_frames() {
        let path = std::env::temp_dir().join(format!("pinion-trace-{}", std::process::id()));
        let plain = encode(1, &[(0, 10), (1, 20)], 2);
        let packed = zstd::stream::encode_all(&plain[..], 3).expect("packed");
        std::fs::write(&path, packed).expect("written");
        assert_eq!(load(&path).expect("sound").keys, [0, 1]);
        assert_eq!(open(&path, 1).expect("sound").trace.keys, [0, 1]);
        let lines = zstd::stream::encode_all(&b"key\na\nb\na\n"[..], 3).expect("packed");
        std::fs::write(&path, lines).expect("written");
        assert_eq!(open(&path, 1).expect("sound").trace.keys, [0, 1, 0]);
        std::fs::write(&path, "nothing known").expect("written");
        assert!(matches!(open(&path, 1), Err(Error::Trace(_))));
        std::fs::write(&path, plain).expect("written");
        assert!(matches!(load(&path), Err(Error::Io { .. })));
        std::fs::remove_file(&path).expect("removed");
        assert!(matches!(load(&path), Err(Error::Io { .. })));
    }
}
