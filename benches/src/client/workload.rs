//! What is sent: frames of constant size, and the hits that answer them.

use std::fmt;
use std::sync::Arc;

use clap::ValueEnum;

use super::ClientError;
use super::keys::{KeyDistribution, KeySource, Prng};
use crate::floor::Shape;

/// The longest key that every server here takes (memcached's limit).
const KEY_BYTES_MAX: usize = 250;

/// The largest value: memcached's default limit on an item, less its key and header.
const VALUE_BYTES_MAX: usize = 1_000_000;

/// The most keys; draws of skewed distributions are stored in 32 bits.
const KEY_COUNT_MAX: u64 = 1 << 32;

/// How requests and replies are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Protocol {
    /// The protocol of Redis, version 2.
    Resp,
    /// The classic text protocol of memcached.
    Memcached,
    /// Its meta commands: `mg` with `v`, and `ms`.
    Meta,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reads a key.
    Get,
    /// Writes a key.
    Set,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Get => "GET",
            Operation::Set => "SET",
        })
    }
}

/// A load: which keys, how large, how many reads to how many writes.
#[derive(Clone, Debug)]
pub struct Workload {
    /// How it is written.
    pub protocol: Protocol,
    /// How many keys there are.
    pub key_count: u64,
    /// Size of every key.
    pub key_bytes: usize,
    /// Size of every value.
    pub value_bytes: usize,
    /// How requests spread over the keys.
    pub distribution: KeyDistribution,
    /// Parts of reads in the mix.
    pub gets: u32,
    /// Parts of writes in the mix.
    pub sets: u32,
    /// Seed of all random choices.
    pub seed: u64,
    /// The keys that requests are about, if they are not about all; each as likely.
    pub subset: Option<Arc<[u32]>>,
}

impl Workload {
    /// Checks that the parts fit together.
    ///
    /// # Errors
    ///
    /// [`ClientError::Workload`], with what to change.
    pub fn validate(&self) -> Result<(), ClientError> {
        let refuse = |text: String| Err(ClientError::Workload(text));
        if self.key_count == 0 || self.key_count > KEY_COUNT_MAX {
            return refuse(format!("the number of keys must be 1 to {KEY_COUNT_MAX}"));
        }
        // One letter in front keeps keys from being numbers.
        let key_bytes_min = 1 + digits(self.key_count - 1);
        if self.key_bytes < key_bytes_min || self.key_bytes > KEY_BYTES_MAX {
            return refuse(format!(
                "keys must have {key_bytes_min} to {KEY_BYTES_MAX} bytes for {} keys",
                self.key_count
            ));
        }
        if self.value_bytes == 0 || self.value_bytes > VALUE_BYTES_MAX {
            return refuse(format!("values must have 1 to {VALUE_BYTES_MAX} bytes"));
        }
        if self.gets.checked_add(self.sets).is_none_or(|sum| sum == 0) {
            return refuse("the mix needs at least one part, and fewer than 2^32".to_string());
        }
        Ok(())
    }

    /// The bytes of a key, as all frames have it.
    pub fn key(&self, number: u64) -> Vec<u8> {
        let digits = self.key_bytes - 1;
        format!("k{number:0digits$}").into_bytes()
    }

    /// The sizes of its frames, as a floor server needs them.
    pub fn shape(&self) -> Shape {
        let frame = |operation| {
            let mut bytes = Vec::new();
            FrameTemplate::new(self, operation).append(0, &mut bytes);
            bytes.len()
        };
        Shape {
            request_get_bytes: frame(Operation::Get),
            request_set_bytes: frame(Operation::Set),
            reply_get_bytes: Hit::new(self, Operation::Get).bytes,
            reply_set_bytes: Hit::new(self, Operation::Set).bytes,
        }
    }
}

/// The reply to a request that hits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit {
    /// Its size.
    pub(super) bytes: usize,
    /// How it begins. Misses and errors of both protocols differ in these two bytes.
    pub(super) head: [u8; 2],
}

impl Hit {
    pub(super) fn new(workload: &Workload, operation: Operation) -> Hit {
        let value_bytes = workload.value_bytes;
        let length = value_bytes.to_string();
        match (workload.protocol, operation) {
            (Protocol::Resp, Operation::Get) => Hit {
                bytes: "$\r\n\r\n".len() + length.len() + value_bytes,
                head: [b'$', length.as_bytes()[0]],
            },
            (Protocol::Resp, Operation::Set) => Hit { bytes: "+OK\r\n".len(), head: *b"+O" },
            (Protocol::Memcached, Operation::Get) => Hit {
                bytes: "VALUE  0 \r\n\r\nEND\r\n".len()
                    + workload.key_bytes
                    + length.len()
                    + value_bytes,
                head: *b"VA",
            },
            (Protocol::Memcached, Operation::Set) => {
                Hit { bytes: "STORED\r\n".len(), head: *b"ST" }
            }
            (Protocol::Meta, Operation::Get) => {
                Hit { bytes: "VA \r\n\r\n".len() + length.len() + value_bytes, head: *b"VA" }
            }
            (Protocol::Meta, Operation::Set) => Hit { bytes: "HD\r\n".len(), head: *b"HD" },
        }
    }
}

/// An endless sequence of requests.
pub(super) struct Requests {
    keys: KeySource,
    prng: Prng,
    /// A random number of 32 bits below this makes a GET.
    get_threshold: u64,
    get: FrameTemplate,
    set: FrameTemplate,
}

impl Requests {
    pub(super) fn new(workload: &Workload) -> Requests {
        let parts = u64::from(workload.gets) + u64::from(workload.sets);
        Requests {
            keys: match &workload.subset {
                None => KeySource::new(workload.distribution, workload.key_count, workload.seed),
                Some(keys) => KeySource::Subset { keys: Arc::clone(keys) },
            },
            prng: Prng::new(workload.seed),
            get_threshold: (u64::from(workload.gets) << 32) / parts,
            get: FrameTemplate::new(workload, Operation::Get),
            set: FrameTemplate::new(workload, Operation::Set),
        }
    }

    /// Appends the next request and tells what it does.
    pub(super) fn append(&mut self, output: &mut Vec<u8>) -> Operation {
        let key = self.keys.next(self.prng.next_u64());
        if self.prng.next_u64() >> 32 < self.get_threshold {
            self.get.append(key, output);
            Operation::Get
        } else {
            self.set.append(key, output);
            Operation::Set
        }
    }

    /// Appends a SET of one key.
    pub(super) fn append_set(&self, key: u64, output: &mut Vec<u8>) {
        self.set.append(key, output);
    }
}

/// A frame for key 0, and where to write another key's digits.
struct FrameTemplate {
    frame: Box<[u8]>,
    /// Where the last digit of the key stands.
    key_end: usize,
    /// Digits that differ between keys.
    digits: usize,
}

impl FrameTemplate {
    fn new(workload: &Workload, operation: Operation) -> FrameTemplate {
        let key_bytes = workload.key_bytes;
        let key = format!("k{}", "0".repeat(key_bytes - 1));
        let value_bytes = workload.value_bytes;
        let value = "v".repeat(value_bytes);
        let (before, after) = match (workload.protocol, operation) {
            (Protocol::Resp, Operation::Get) => {
                (format!("*2\r\n$3\r\nGET\r\n${key_bytes}\r\n"), "\r\n".to_string())
            }
            (Protocol::Resp, Operation::Set) => (
                format!("*3\r\n$3\r\nSET\r\n${key_bytes}\r\n"),
                format!("\r\n${value_bytes}\r\n{value}\r\n"),
            ),
            (Protocol::Memcached, Operation::Get) => ("get ".to_string(), "\r\n".to_string()),
            (Protocol::Memcached, Operation::Set) => {
                ("set ".to_string(), format!(" 0 0 {value_bytes}\r\n{value}\r\n"))
            }
            (Protocol::Meta, Operation::Get) => ("mg ".to_string(), " v\r\n".to_string()),
            (Protocol::Meta, Operation::Set) => {
                ("ms ".to_string(), format!(" {value_bytes}\r\n{value}\r\n"))
            }
        };
        FrameTemplate {
            frame: format!("{before}{key}{after}").into_bytes().into(),
            key_end: before.len() + key_bytes,
            digits: digits(workload.key_count - 1),
        }
    }

    fn append(&self, mut key: u64, output: &mut Vec<u8>) {
        let start = output.len();
        output.extend_from_slice(&self.frame);
        let key_end = start + self.key_end;
        for digit in output[key_end - self.digits..key_end].iter_mut().rev() {
            *digit = b'0' + (key % 10) as u8;
            key /= 10;
        }
    }
}

/// How many decimal digits a number has.
fn digits(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A small load for the tests of this module and its neighbours.
    pub(in crate::client) fn small(protocol: Protocol) -> Workload {
        Workload {
            protocol,
            key_count: 1000,
            key_bytes: 8,
            value_bytes: 10,
            distribution: KeyDistribution::Uniform,
            gets: 9,
            sets: 1,
            seed: 1,
            subset: None,
        }
    }

    #[test]
    fn frames_are_what_the_protocols_say() {
        let frame = |protocol, operation| {
            let mut bytes = Vec::new();
            FrameTemplate::new(&small(protocol), operation).append(123, &mut bytes);
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(frame(Protocol::Resp, Operation::Get), "*2\r\n$3\r\nGET\r\n$8\r\nk0000123\r\n");
        assert_eq!(
            frame(Protocol::Resp, Operation::Set),
            "*3\r\n$3\r\nSET\r\n$8\r\nk0000123\r\n$10\r\nvvvvvvvvvv\r\n"
        );
        assert_eq!(frame(Protocol::Memcached, Operation::Get), "get k0000123\r\n");
        assert_eq!(frame(Protocol::Meta, Operation::Get), "mg k0000123 v\r\n");
        assert_eq!(
            frame(Protocol::Memcached, Operation::Set),
            "set k0000123 0 0 10\r\nvvvvvvvvvv\r\n"
        );
    }

    #[test]
    fn the_default_shape_of_the_floor_is_that_of_resp() {
        let workload = Workload { key_bytes: 16, value_bytes: 64, ..small(Protocol::Resp) };
        let shape = workload.shape();
        assert_eq!((shape.request_get_bytes, shape.request_set_bytes), (36, 107));
        assert_eq!((shape.reply_get_bytes, shape.reply_set_bytes), (71, 5));
    }

    #[test]
    fn contradictions_are_refused() {
        let good = small(Protocol::Resp);
        assert!(good.validate().is_ok());
        for bad in [
            Workload { key_count: 0, ..good.clone() },
            Workload { key_count: KEY_COUNT_MAX + 1, key_bytes: 16, ..good.clone() },
            Workload { key_bytes: 3, ..good.clone() },
            Workload { key_bytes: 251, ..good.clone() },
            Workload { value_bytes: 0, ..good.clone() },
            Workload { value_bytes: VALUE_BYTES_MAX + 1, ..good.clone() },
            Workload { gets: 0, sets: 0, ..good.clone() },
            Workload { gets: u32::MAX, sets: 1, ..good.clone() },
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_mix_has_its_parts() {
        let gets = |gets, sets| {
            let workload = Workload { gets, sets, ..small(Protocol::Resp) };
            let mut requests = Requests::new(&workload);
            let mut output = Vec::new();
            (0..10_000).filter(|_| requests.append(&mut output) == Operation::Get).count()
        };
        assert!((8_900..9_100).contains(&gets(9, 1)));
        assert_eq!(gets(1, 0), 10_000);
        assert_eq!(gets(0, 1), 0);
    }

    #[test]
    fn digits_are_counted() {
        let counted = [0, 1, 9, 10, 99, 100, u64::MAX].map(digits);
        assert_eq!(counted, [1, 1, 1, 2, 2, 3, 20]);
    }
}
