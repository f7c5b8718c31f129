//! The parts of a turn one by one: parser, shard, encoder. What they leave of the turn is
//! dispatch, connections, buffers and bookkeeping.
//!
//! Each part runs on what the turn would give it: requests of the same keys and mix, in batches
//! of the same size, so that prefetching overlaps as much memory latency as in a turn. Apart from
//! each other they have the caches to themselves; the sum is therefore a little too small.

use std::hint::black_box;
use std::io::Write;

use pinion_engine::{KeyHash, SetOptions, Shard};
use pinion_net::core::limits::BATCH_COMMANDS_MAX;
use pinion_net::protocol::number::write_u64;
use pinion_net::protocol::{memcached, resp};
use serde_json::{Value, json};

use super::frames::{Frames, KEY_BYTES, append_key};
use super::rig::{Rig, draw};
use super::turn::print;
use super::{LayerError, Spread};
use crate::client::{Operation, Prng, Protocol};
use crate::sys::cpu::thread_cpu_ns;

/// Requests drawn ahead of a stretch, as in the turn's benchmark.
const STRETCH_REQUESTS: usize = 4096;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Phases {
    /// The protocol of parser and encoder.
    pub(super) protocol: Protocol,
    /// Keys in the shard.
    pub(super) key_count: u64,
    /// Size of every value.
    pub(super) value_bytes: usize,
    /// Of 2^32 draws, how many are reads.
    pub(super) get_threshold: u64,
    /// Requests per round.
    pub(super) requests: u64,
    /// Rounds.
    pub(super) rounds: usize,
}

/// How a batch uses the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShardPhase {
    /// Lines, then items are asked for ahead, as in a turn.
    Prefetched,
    /// One command after the other.
    OneByOne,
}

/// CPU nanoseconds of one round.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    parse_ns: u64,
    prefetched_ns: u64,
    one_by_one_ns: u64,
    encode_ns: u64,
    commands: u64,
}

/// Requests of a stretch in the forms that the parts take.
#[derive(Default)]
struct Stretch {
    frames: Vec<u8>,
    keys: Vec<u8>,
    operations: Vec<Operation>,
}

impl Phases {
    /// Measures on a filled rig and prints a line to `out`.
    ///
    /// # Errors
    /// [`LayerError::Unexpected`] if a key is missing or a request is not understood.
    pub(super) fn run(
        &self,
        rig: &mut Rig,
        prng: &mut Prng,
        out: &mut dyn Write,
    ) -> Result<Value, LayerError> {
        let mut rounds = Vec::new();
        for _ in 0..self.rounds {
            rounds.push(self.round(rig.core().shard(), prng)?);
        }
        let spread = |field: fn(&Round) -> u64| {
            Spread::new(rounds.iter().map(|round| field(round) as f64 / round.commands as f64))
        };
        let parts = [
            ("parse", spread(|round| round.parse_ns)),
            ("shard in batches, prefetched", spread(|round| round.prefetched_ns)),
            ("shard one by one", spread(|round| round.one_by_one_ns)),
            ("encode", spread(|round| round.encode_ns)),
        ];
        let (keys, protocol) = (self.key_count, format!("{:?}", self.protocol).to_lowercase());
        for (name, ns) in &parts {
            print(out, format_args!("{keys:>10} {protocol:>9}           {ns}  {name}"))?;
        }
        let parts: Vec<Value> = parts
            .iter()
            .map(|(name, ns)| json!({"phase": name, "ns_per_command": ns.to_json()}))
            .collect();
        Ok(json!({"keys": keys, "protocol": protocol, "phases": parts}))
    }

    fn round(&self, shard: &mut Shard, prng: &mut Prng) -> Result<Round, LayerError> {
        let frames = Frames::new(self.protocol, self.value_bytes);
        let value = vec![b'v'; self.value_bytes];
        let mut stretch = Stretch::default();
        let mut output = Vec::with_capacity(BATCH_COMMANDS_MAX * (self.value_bytes + 64));
        let mut round = Round::default();
        while round.commands < self.requests {
            stretch.draw(self, &frames, prng);
            let from_ns = thread_cpu_ns();
            let parsed = stretch.parse(self.protocol);
            let parsed_ns = thread_cpu_ns();
            stretch.run_shard(shard, &value, ShardPhase::Prefetched)?;
            let prefetched_ns = thread_cpu_ns();
            stretch.encode(self.protocol, &value, &mut output);
            let encoded_ns = thread_cpu_ns();
            // Other keys, since these are in the caches now.
            stretch.draw(self, &frames, prng);
            let drawn_ns = thread_cpu_ns();
            stretch.run_shard(shard, &value, ShardPhase::OneByOne)?;
            let one_by_one_ns = thread_cpu_ns();
            if parsed != STRETCH_REQUESTS {
                return Err(LayerError::Unexpected(format!("{parsed} requests were understood")));
            }
            round.parse_ns += parsed_ns - from_ns;
            round.prefetched_ns += prefetched_ns - parsed_ns;
            round.one_by_one_ns += one_by_one_ns - drawn_ns;
            round.encode_ns += encoded_ns - prefetched_ns;
            round.commands += STRETCH_REQUESTS as u64;
        }
        Ok(round)
    }
}

impl Stretch {
    fn draw(&mut self, phases: &Phases, frames: &Frames, prng: &mut Prng) {
        self.frames.clear();
        self.keys.clear();
        self.operations.clear();
        for _ in 0..STRETCH_REQUESTS {
            let (key, operation) = draw(prng, phases.key_count, phases.get_threshold);
            match operation {
                Operation::Get => frames.append_get(key, &mut self.frames),
                Operation::Set => frames.append_set(key, &mut self.frames),
            }
            append_key(key, &mut self.keys);
            self.operations.push(operation);
        }
    }

    /// Parses all frames; returns how many requests they are.
    fn parse(&self, protocol: Protocol) -> usize {
        match protocol {
            Protocol::Resp => self.parse_resp(),
            Protocol::Memcached | Protocol::Meta => self.parse_memcached(),
        }
    }

    fn parse_resp(&self) -> usize {
        let mut args: [resp::Args; BATCH_COMMANDS_MAX] = Default::default();
        let (mut progress, limits) = (resp::Progress::default(), resp::Limits::default());
        let (mut at, mut count) = (0, 0);
        while at < self.frames.len() {
            let args = &mut args[count % BATCH_COMMANDS_MAX];
            match resp::parse(&self.frames[at..], &mut progress, args, &limits) {
                resp::Parse::Complete { consumed } => at += consumed,
                _ => return count,
            }
            black_box(args.arg(&self.frames, 0).len());
            count += 1;
        }
        count
    }

    fn parse_memcached(&self) -> usize {
        let (mut progress, limits) = (memcached::Progress::default(), memcached::Limits::default());
        let (mut at, mut count) = (0, 0);
        while at < self.frames.len() {
            match memcached::parse(&self.frames[at..], &mut progress, &limits) {
                memcached::Parse::Complete { request, consumed } => {
                    black_box(&request);
                    at += consumed;
                }
                _ => return count,
            }
            count += 1;
        }
        count
    }

    fn run_shard(
        &self,
        shard: &mut Shard,
        value: &[u8],
        phase: ShardPhase,
    ) -> Result<(), LayerError> {
        let mut hashes = [shard.hash(b""); BATCH_COMMANDS_MAX];
        let keys = self.keys.chunks(BATCH_COMMANDS_MAX * KEY_BYTES);
        for (keys, operations) in keys.zip(self.operations.chunks(BATCH_COMMANDS_MAX)) {
            if phase == ShardPhase::Prefetched {
                for (key, hash) in keys.chunks_exact(KEY_BYTES).zip(&mut hashes) {
                    *hash = shard.hash(key);
                    shard.prefetch_line(*hash);
                }
                for &hash in &hashes[..operations.len()] {
                    shard.prefetch_item(hash);
                }
            }
            for ((key, &operation), &hash) in
                keys.chunks_exact(KEY_BYTES).zip(operations).zip(&hashes)
            {
                let hash = match phase {
                    ShardPhase::Prefetched => hash,
                    ShardPhase::OneByOne => shard.hash(key),
                };
                execute(shard, hash, key, operation, value)?;
            }
        }
        Ok(())
    }

    fn encode(&self, protocol: Protocol, value: &[u8], output: &mut Vec<u8>) {
        for (number, operation) in self.operations.iter().enumerate() {
            if number % BATCH_COMMANDS_MAX == 0 {
                black_box(output.as_slice());
                output.clear();
            }
            let key = &self.keys[number * KEY_BYTES..][..KEY_BYTES];
            match (protocol, operation) {
                (Protocol::Resp, Operation::Get) => {
                    resp::Writer::new(output, resp::Version::Resp2).bulk(black_box(value));
                }
                (Protocol::Resp, Operation::Set) => {
                    resp::Writer::new(output, resp::Version::Resp2).simple("OK");
                }
                (Protocol::Memcached, Operation::Get) => {
                    let mut writer = memcached::Writer::new(output);
                    writer.value(key, 0, black_box(value), None);
                    writer.end();
                }
                (Protocol::Memcached, Operation::Set) => memcached::Writer::new(output).stored(),
                (Protocol::Meta, Operation::Get) => {
                    let value = black_box(value);
                    output.extend_from_slice(b"VA ");
                    write_u64(output, value.len() as u64);
                    output.extend_from_slice(b"\r\n");
                    output.extend_from_slice(value);
                    output.extend_from_slice(b"\r\n");
                }
                (Protocol::Meta, Operation::Set) => output.extend_from_slice(b"HD\r\n"),
            }
        }
        black_box(output.as_slice());
    }
}

#[inline]
fn execute(
    shard: &mut Shard,
    hash: KeyHash,
    key: &[u8],
    operation: Operation,
    value: &[u8],
) -> Result<(), LayerError> {
    match operation {
        Operation::Get => match shard.get(hash, key, 0) {
            Some(entry) => {
                // The first byte stands for the copy into the reply, which `encode` measures.
                black_box(entry.value.as_slice().map(|bytes| bytes[0]));
                Ok(())
            }
            None => Err(missing(key)),
        },
        Operation::Set => match shard.set(hash, key, value, &SetOptions::default(), 0) {
            Ok(_) => Ok(()),
            Err(error) => Err(LayerError::Unexpected(error.to_string())),
        },
    }
}

#[cold]
fn missing(key: &[u8]) -> LayerError {
    LayerError::Unexpected(format!("{} is not stored", String::from_utf8_lossy(key)))
}
