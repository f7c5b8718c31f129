//! What a command costs in whole turns: from the bytes of its request to the bytes of its reply.

use std::io::Write;
use std::path::PathBuf;

use clap::Parser;
use serde_json::{Value, json};

use super::frames::Frames;
use super::phases::Phases;
use super::rig::{Rig, RigOptions, check_key_count};
use super::{LayerError, Spread, write_json};
use crate::client::{Prng, Protocol};
use crate::harness::Mix;
use crate::sys::cpu::{pin_this_thread, thread_cpu_ns};

/// Requests written ahead of a stretch of turns: with 64-byte values 180 KB, which stay in the
/// second-level cache, as bytes do that the kernel has just received.
const STRETCH_REQUESTS: usize = 4096;
/// Requests of a run under callgrind.
const CALLGRIND_REQUESTS: u64 = 64_000;
/// Requests before the first round, at most.
const WARM_UP_REQUESTS_MAX: u64 = 200_000;

/// CPU time per command of the core's turn, without sockets.
///
/// Requests are written into memory, handed to the same turn that the server runs, and the bytes
/// of the replies are counted. All requests hit. Keys are uniform. The processor time of the
/// thread is the clock, while turns run and not while requests are written.
#[derive(Clone, Debug, Parser)]
#[command(name = "turn", version, max_term_width = 100)]
pub struct TurnOptions {
    /// How many keys there are; all are set before
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "10000")]
    pub keys: Vec<u64>,
    /// Requests that a connection sends at once
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,16")]
    pub pipeline: Vec<usize>,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub connections: usize,
    /// Protocols
    #[arg(long, value_enum, value_delimiter = ',', default_value = "resp")]
    pub protocol: Vec<Protocol>,
    /// Reads and writes; writes keep the size
    #[arg(long, default_value = "get=9,set=1")]
    pub mix: Mix,
    /// Size of every value
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub value_size: usize,
    /// Requests per round
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub requests: u64,
    /// Rounds of each kind, in random order
    #[arg(long, value_name = "N", default_value_t = 9)]
    pub rounds: usize,
    /// Commands that a turn executes before it sends the replies
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub flush_after: usize,
    /// Seed of all random choices
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Run on this CPU alone
    #[arg(long)]
    pub cpu: Option<usize>,
    /// Also measure parser, shard and encoder one by one, on requests of the same kind
    #[arg(long)]
    pub phases: bool,
    /// Run a fixed number of requests once, for valgrind --tool=callgrind, and say how to count
    /// instructions per command; wants one --keys, --pipeline and --protocol
    #[arg(long, conflicts_with_all = ["phases", "rounds", "requests", "json"])]
    pub callgrind: bool,
    /// Write all rounds to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// One way to load the core.
#[derive(Clone, Copy, Debug)]
struct Load {
    protocol: Protocol,
    pipeline: usize,
}

/// Totals of one round.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    commands: u64,
    cpu_ns: u64,
    turns: u64,
    batches: u64,
    sends: u64,
}

impl Round {
    fn ns_per_command(&self) -> f64 {
        self.cpu_ns as f64 / self.commands as f64
    }

    fn to_json(self) -> Value {
        json!({
            "commands": self.commands, "cpu_ns": self.cpu_ns, "turns": self.turns,
            "batches": self.batches, "sends": self.sends,
        })
    }
}

impl TurnOptions {
    /// Measures, prints a table to `out`, and writes the JSON file if one is asked for.
    ///
    /// # Errors
    /// [`LayerError::Usage`] if the options contradict each other; any other if a reply is wrong,
    /// an item is evicted, memory is short, or the file cannot be written.
    pub fn run(&self, out: &mut dyn Write) -> Result<(), LayerError> {
        self.validate()?;
        if let Some(cpu) = self.cpu {
            pin_this_thread(cpu).map_err(|error| LayerError::Io("pin the thread", error))?;
        }
        if self.callgrind {
            return self.run_for_callgrind(out);
        }
        print(out, format_args!("{self:?}"))?;
        print(
            out,
            format_args!(
                "{:>10} {:>9} {:>8}  {:^26}  {:>8} {:>8}",
                "keys", "protocol", "pipeline", "ns of CPU per command", "commands", "commands"
            ),
        )?;
        print(
            out,
            format_args!(
                "{:>10} {:>9} {:>8}  {:>8} {:>8} {:>8}  {:>8} {:>8}",
                "", "", "", "min", "median", "max", "per turn", "per send"
            ),
        )?;
        let mut results = Vec::new();
        for &key_count in &self.keys {
            results.extend(self.run_keys(key_count, out)?);
        }
        match &self.json {
            Some(path) => write_json(path, &json!({"turn": results, "seed": self.seed})),
            None => Ok(()),
        }
    }

    fn validate(&self) -> Result<(), LayerError> {
        self.keys.iter().try_for_each(|&key_count| check_key_count(key_count))?;
        let usage = |text: &str| Err(LayerError::Usage(text.to_owned()));
        if self.pipeline.iter().any(|&pipeline| pipeline == 0 || pipeline > STRETCH_REQUESTS) {
            return usage(&format!("--pipeline must be 1 to {STRETCH_REQUESTS}"));
        }
        if self.rounds == 0 || self.requests == 0 || self.flush_after == 0 {
            return usage("--rounds, --requests and --flush-after must be at least 1");
        }
        if self.value_size == 0 || self.value_size > 8 << 20 {
            return usage("--value-size must be 1 to 8388608");
        }
        if self.mix.gets.checked_add(self.mix.sets).is_none_or(|sum| sum == 0) {
            return usage("--mix needs at least one part, and fewer than 2^32");
        }
        let one = [self.keys.len(), self.pipeline.len(), self.protocol.len()] == [1, 1, 1];
        if self.callgrind && !one {
            return usage("--callgrind wants one --keys, one --pipeline and one --protocol");
        }
        Ok(())
    }

    fn loads(&self) -> Vec<Load> {
        let with =
            |&protocol| self.pipeline.iter().map(move |&pipeline| Load { protocol, pipeline });
        self.protocol.iter().flat_map(with).collect()
    }

    /// Of 2^32 draws, how many are reads.
    fn get_threshold(&self) -> u64 {
        let parts = u64::from(self.mix.gets) + u64::from(self.mix.sets);
        (u64::from(self.mix.gets) << 32) / parts
    }

    fn filled_rig(&self, key_count: u64) -> Result<Rig, LayerError> {
        let options = RigOptions {
            connections: self.connections,
            flush_after: self.flush_after,
            ..RigOptions::roomy(key_count, self.value_size)
        };
        let mut rig = Rig::new(&options)?;
        rig.fill(&Frames::new(Protocol::Resp, self.value_size), key_count)?;
        Ok(rig)
    }

    fn run_keys(&self, key_count: u64, out: &mut dyn Write) -> Result<Vec<Value>, LayerError> {
        let mut rig = self.filled_rig(key_count)?;
        let loads = self.loads();
        let mut prng = Prng::new(self.seed);
        let mut rounds: Vec<Vec<Round>> = vec![Vec::new(); loads.len()];
        for &load in &loads {
            let requests = self.requests.min(WARM_UP_REQUESTS_MAX);
            self.measure(&mut rig, load, key_count, requests, &mut prng)?;
        }
        let mut order: Vec<usize> = (0..loads.len()).collect();
        for _ in 0..self.rounds {
            prng.shuffle(&mut order);
            for &index in &order {
                let (load, requests) = (loads[index], self.requests);
                let round = self.measure(&mut rig, load, key_count, requests, &mut prng)?;
                rounds[index].push(round);
            }
        }
        rig.check_nothing_evicted()?;
        let mut results = Vec::new();
        for (load, rounds) in loads.iter().zip(&rounds) {
            results.push(self.report(out, key_count, *load, rounds)?);
        }
        if self.phases {
            for &protocol in &self.protocol {
                let phases = Phases {
                    protocol,
                    key_count,
                    value_bytes: self.value_size,
                    get_threshold: self.get_threshold(),
                    requests: self.requests,
                    rounds: self.rounds,
                };
                results.push(phases.run(&mut rig, &mut prng, out)?);
            }
        }
        Ok(results)
    }

    /// One round: writes requests and takes turns, in stretches, until there were enough.
    fn measure(
        &self,
        rig: &mut Rig,
        load: Load,
        key_count: u64,
        requests: u64,
        prng: &mut Prng,
    ) -> Result<Round, LayerError> {
        let frames = Frames::new(load.protocol, self.value_size);
        let threshold = self.get_threshold();
        let peers = rig.peers(load.protocol).to_vec();
        let before = *rig.core().counters();
        let laps = (STRETCH_REQUESTS / (peers.len() * load.pipeline)).max(1);
        let (mut written, mut cpu_ns) = (0, 0);
        while written < requests {
            for _ in 0..laps {
                for &peer in &peers {
                    rig.push_random(peer, &frames, load.pipeline, key_count, threshold, prng);
                    written += load.pipeline as u64;
                }
            }
            let start_ns = thread_cpu_ns();
            measured_turns(rig)?;
            cpu_ns += thread_cpu_ns() - start_ns;
        }
        let after = *rig.core().counters();
        let round = Round {
            commands: after.commands - before.commands,
            cpu_ns,
            turns: after.turns - before.turns,
            batches: after.batches - before.batches,
            sends: after.sends - before.sends,
        };
        if round.commands != written
            || after.misses != before.misses
            || after.errors != before.errors
        {
            return Err(LayerError::Unexpected(format!(
                "of {written} requests the core executed {}, with {} misses and {} errors",
                round.commands,
                after.misses - before.misses,
                after.errors - before.errors
            )));
        }
        Ok(round)
    }

    fn report(
        &self,
        out: &mut dyn Write,
        key_count: u64,
        load: Load,
        rounds: &[Round],
    ) -> Result<Value, LayerError> {
        let ns = Spread::new(rounds.iter().map(Round::ns_per_command));
        let sum = |field: fn(&Round) -> u64| rounds.iter().map(field).sum::<u64>() as f64;
        let commands = sum(|round| round.commands);
        let per_turn = commands / sum(|round| round.turns);
        let per_send = commands / sum(|round| round.sends);
        let (protocol, pipeline) = (format!("{:?}", load.protocol).to_lowercase(), load.pipeline);
        print(
            out,
            format_args!(
                "{key_count:>10} {protocol:>9} {pipeline:>8}  {ns}  {per_turn:>8.1} {per_send:>8.1}"
            ),
        )?;
        Ok(json!({
            "keys": key_count, "protocol": protocol, "pipeline": pipeline,
            "connections": self.connections, "flush_after": self.flush_after,
            "gets": self.mix.gets, "sets": self.mix.sets, "value_bytes": self.value_size,
            "ns_per_command": ns.to_json(), "commands_per_turn": per_turn,
            "commands_per_send": per_send,
            "rounds": rounds.iter().map(|round| round.to_json()).collect::<Vec<_>>(),
        }))
    }

    fn run_for_callgrind(&self, out: &mut dyn Write) -> Result<(), LayerError> {
        let key_count = self.keys[0];
        let mut rig = self.filled_rig(key_count)?;
        let mut prng = Prng::new(self.seed);
        let load = Load { protocol: self.protocol[0], pipeline: self.pipeline[0] };
        let round = self.measure(&mut rig, load, key_count, CALLGRIND_REQUESTS, &mut prng)?;
        print(
            out,
            format_args!(
                "{} commands in {} turns ran inside of measured_turns.\n\
                 Instructions per command are the total that callgrind prints, when run as\n\
                 valgrind --tool=callgrind --toggle-collect='*measured_turns*' \
                 --callgrind-out-file=FILE turn --callgrind ...\n\
                 divided by {}; callgrind_annotate FILE tells where they are.",
                round.commands, round.turns, round.commands
            ),
        )
    }
}

/// What is measured; a function of its own, so that callgrind can be told to look at it alone.
#[inline(never)]
fn measured_turns(rig: &mut Rig) -> Result<u64, LayerError> {
    rig.run()
}

/// Prints a line.
pub(super) fn print(out: &mut dyn Write, line: std::fmt::Arguments<'_>) -> Result<(), LayerError> {
    writeln!(out, "{line}").map_err(|error| LayerError::Io("print", error))
}
