//! What each command costs in whole turns, one kind of request at a time.
//!
//! - `template`: requests as a person would type them
//! - `forms`: the list, with what must be there before
//! - `callgrind`: the same under valgrind, which counts instructions
//!
//! Every round of every form has a core of its own, with an empty shard that is then filled, so
//! that no form finds what another has left. Its connections work on keys of their own, so that
//! none sees another's key between two commands of a request.
//!
//! Invariants:
//!
//! - The first reply is compared with the one in the list; after that no command may fail or miss,
//!   and the core counts as many commands as the requests have.
//! - Only turns run while the clock does: requests are written before.

use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::{Value, json};

use super::rig::{Rig, RigOptions, check_key_count};
use super::turn::print;
use super::{LayerError, Spread, write_json};
use crate::client::{Prng, Protocol};
use crate::sys::cpu::{pin_this_thread, thread_cpu_ns};
use forms::Row;
use template::{Filling, Template};

mod callgrind;
mod forms;
mod template;

/// Commands before those that count, in each round.
const WARM_UP_COMMANDS: u64 = 4_000;
/// Commands of a form under callgrind.
const CALLGRIND_COMMANDS: u64 = 16_000;
/// Commands of a connection on their way while the stock is made.
const STOCK_PIPELINE: u64 = 64;
/// The most commands that a connection sends at once.
const PIPELINE_MAX: usize = 4096;
/// Items of a key at most: its own, and one that a command made of it.
const ITEMS_PER_KEY: u64 = 2;
/// Bytes of the largest values of the list, which the shard has room for.
const VALUE_BYTES_MAX: usize = 1024;

/// CPU time and instructions of each command, from the bytes of its request to those of its
/// reply, without sockets.
///
/// Without --command a list is gone through: one or two typical commands of each family. Keys are
/// uniform, values have 64 bytes. A request of several commands, parted by " ; ", costs their mean.
/// Prints a table in Markdown.
#[derive(Clone, Debug, Parser)]
#[command(name = "commands", version, max_term_width = 100)]
pub struct CommandsOptions {
    /// How many keys there are
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub keys: u64,
    /// Commands that a connection sends at once, at least
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub pipeline: usize,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub connections: usize,
    /// Commands that a turn executes before it sends the replies
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub flush_after: usize,
    /// Commands per round and form, at least
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    pub requests: u64,
    /// Rounds of each form, in random order
    #[arg(long, value_name = "N", default_value_t = 9)]
    pub rounds: usize,
    /// Seed of all random choices
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Run on this CPU alone
    #[arg(long)]
    pub cpu: Option<usize>,
    /// Only the rows of the list whose family or request has this in it
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
    /// A request to measure instead of the list, such as `GET key:<key>`; may be repeated. The
    /// file template.rs of the source lists what may be in angle brackets
    #[arg(long, value_name = "REQUEST", conflicts_with = "only")]
    pub command: Vec<String>,
    /// RESP commands that make the stock for --command, carried out for every key
    #[arg(long, value_name = "REQUEST", default_value = "SET key:<key> <value>")]
    pub before: String,
    /// What --command is written in
    #[arg(long, value_enum, default_value = "resp")]
    pub protocol: Protocol,
    /// Count instructions too, in a second run under valgrind
    #[arg(long)]
    pub callgrind: bool,
    /// Write all rounds to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Run each form once, with a mark behind it; what --callgrind starts under valgrind
    #[arg(long, hide = true, conflicts_with_all = ["callgrind", "json"])]
    pub marked: bool,
}

/// A kind of request, ready to be sent.
struct Form {
    family: String,
    name: String,
    before: Option<Template>,
    request: Template,
    /// How the first reply begins; of a form of the list, which also may not miss.
    reply: Option<&'static str>,
}

impl Form {
    fn listed(row: &Row) -> Result<Form, LayerError> {
        let before = match row.before {
            "" => None,
            before => Some(Template::parse(before, Protocol::Resp)?),
        };
        Ok(Form {
            family: row.family.to_owned(),
            name: row.request.to_owned(),
            before,
            request: Template::parse(row.request, row.protocol)?,
            reply: Some(row.reply),
        })
    }
}

/// Totals of one round.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    commands: u64,
    cpu_ns: u64,
    turns: u64,
    misses: u64,
}

impl Round {
    fn ns_per_command(&self) -> f64 {
        self.cpu_ns as f64 / self.commands as f64
    }

    fn to_json(self) -> Value {
        json!({
            "commands": self.commands, "cpu_ns": self.cpu_ns, "turns": self.turns,
            "misses": self.misses,
        })
    }
}

impl CommandsOptions {
    /// Measures, prints a table to `out`, and writes the JSON file if one is asked for. Counts
    /// instructions by starting `program`, which is this one, under valgrind.
    ///
    /// # Errors
    /// [`LayerError::Usage`] if the options make no sense; any other if a reply is wrong, a
    /// command fails, memory is short, valgrind is missing, or the file cannot be written.
    pub fn run(&self, program: &Path, out: &mut dyn Write) -> Result<(), LayerError> {
        self.validate()?;
        let forms = self.forms()?;
        if let Some(cpu) = self.cpu {
            pin_this_thread(cpu).map_err(|error| LayerError::Io("pin the thread", error))?;
        }
        if self.marked {
            return self.run_marked(&forms);
        }
        let rounds = self.measure_all(&forms)?;
        let instructions = match self.callgrind {
            true => Some(callgrind::count(program, &self.arguments(), forms.len())?),
            false => None,
        };
        print(out, format_args!("| family | command | instructions | min | median | max |"))?;
        print(out, format_args!("|---|---|---:|---:|---:|---:|"))?;
        let mut results = Vec::new();
        for (index, (form, rounds)) in forms.iter().zip(&rounds).enumerate() {
            let total = instructions.as_ref().map(|totals| totals[index]);
            let commands = self.commands_of(form, CALLGRIND_COMMANDS);
            let each = total.map(|total| total as f64 / commands as f64);
            results.push(report(out, form, each, rounds)?);
        }
        match &self.json {
            Some(path) => write_json(path, &json!({"commands": results, "seed": self.seed})),
            None => Ok(()),
        }
    }

    fn validate(&self) -> Result<(), LayerError> {
        check_key_count(self.keys)?;
        let usage = |text: &str| Err(LayerError::Usage(text.to_owned()));
        if self.pipeline == 0 || self.pipeline > PIPELINE_MAX {
            return usage(&format!("--pipeline must be 1 to {PIPELINE_MAX}"));
        }
        if self.connections == 0 || self.connections as u64 > self.keys {
            return usage("--connections must be at least 1, and at most as many as --keys");
        }
        if self.rounds == 0 || self.requests == 0 || self.flush_after == 0 {
            return usage("--rounds, --requests and --flush-after must be at least 1");
        }
        Ok(())
    }

    fn forms(&self) -> Result<Vec<Form>, LayerError> {
        let own = |text: &String| {
            Ok(Form {
                family: "own".to_owned(),
                name: text.clone(),
                before: Some(Template::parse(&self.before, Protocol::Resp)?),
                request: Template::parse(text, self.protocol)?,
                reply: None,
            })
        };
        if !self.command.is_empty() {
            return self.command.iter().map(own).collect();
        }
        let text = self.only.as_deref().unwrap_or_default();
        let rows = forms::rows().into_iter();
        let asked = rows.filter(|row| row.family.contains(text) || row.request.contains(text));
        let forms: Vec<Form> = asked.map(|row| Form::listed(&row)).collect::<Result<_, _>>()?;
        match forms.is_empty() {
            true => Err(LayerError::Usage(format!("no command of the list has {text:?} in it"))),
            false => Ok(forms),
        }
    }

    /// The options that say what to measure, as arguments.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--keys={}", self.keys),
            format!("--pipeline={}", self.pipeline),
            format!("--connections={}", self.connections),
            format!("--flush-after={}", self.flush_after),
            format!("--seed={}", self.seed),
            format!("--before={}", self.before),
            format!("--protocol={}", format!("{:?}", self.protocol).to_lowercase()),
            "--marked".to_owned(),
        ];
        arguments.extend(self.cpu.map(|cpu| format!("--cpu={cpu}")));
        arguments.extend(self.only.as_ref().map(|text| format!("--only={text}")));
        arguments.extend(self.command.iter().map(|text| format!("--command={text}")));
        arguments
    }

    fn run_marked(&self, forms: &[Form]) -> Result<(), LayerError> {
        for form in forms {
            self.measure(form, CALLGRIND_COMMANDS, self.seed)?;
            form_is_measured(form);
        }
        Ok(())
    }

    fn measure_all(&self, forms: &[Form]) -> Result<Vec<Vec<Round>>, LayerError> {
        let mut prng = Prng::new(self.seed);
        let mut rounds: Vec<Vec<Round>> = vec![Vec::new(); forms.len()];
        let mut order: Vec<usize> = (0..forms.len()).collect();
        for _ in 0..self.rounds {
            prng.shuffle(&mut order);
            for &index in &order {
                let round = self.measure(&forms[index], self.requests, prng.next_u64())?;
                rounds[index].push(round);
            }
        }
        Ok(rounds)
    }

    /// One round: a core, its stock, a first message, a warm-up, and what counts.
    fn measure(&self, form: &Form, commands_min: u64, seed: u64) -> Result<Round, LayerError> {
        let in_words =
            |error: LayerError| LayerError::Unexpected(format!("{}: {error}", form.name));
        let mut prng = Prng::new(seed);
        let mut bench = Bench::new(self, form, &mut prng).map_err(in_words)?;
        bench.look_at_first_reply().map_err(in_words)?;
        bench.take(self.commands_of(form, WARM_UP_COMMANDS), Rig::run_until_idle)?;
        bench.check_outcome().map_err(in_words)?;
        let before = bench.round;
        bench.take(self.commands_of(form, commands_min), measured_turns)?;
        bench.check_outcome().map_err(in_words)?;
        let after = bench.round;
        Ok(Round {
            commands: after.commands - before.commands,
            cpu_ns: after.cpu_ns - before.cpu_ns,
            turns: after.turns - before.turns,
            misses: after.misses - before.misses,
        })
    }

    /// Requests of a message.
    fn requests_per_message(&self, form: &Form) -> u64 {
        self.pipeline.div_ceil(form.request.commands()) as u64
    }

    /// Commands of as many laps of all connections as have `commands_min`.
    fn commands_of(&self, form: &Form, commands_min: u64) -> u64 {
        let message = self.requests_per_message(form) * form.request.commands() as u64;
        commands_min.next_multiple_of(message * self.connections as u64)
    }
}

/// A form on a core of its own.
struct Bench<'a> {
    options: &'a CommandsOptions,
    form: &'a Form,
    prng: &'a mut Prng,
    rig: Rig,
    dump: Vec<u8>,
    /// Totals since the stock was made.
    round: Round,
    /// The core's count of commands when it was.
    commands_before: u64,
}

impl<'a> Bench<'a> {
    /// A core with the form's stock.
    fn new(
        options: &'a CommandsOptions,
        form: &'a Form,
        prng: &'a mut Prng,
    ) -> Result<Bench<'a>, LayerError> {
        let rig = Rig::new(&RigOptions {
            connections: options.connections,
            flush_after: options.flush_after,
            ..RigOptions::roomy(ITEMS_PER_KEY * options.keys, VALUE_BYTES_MAX)
        })?;
        let (round, dump) = (Round::default(), Vec::new());
        let mut bench = Bench { options, form, prng, rig, dump, round, commands_before: 0 };
        if let Some(before) = &form.before {
            bench.make_stock(before)?;
        }
        if form.request.has_dump() {
            bench.dump = bench.dump_of_key_zero()?;
        }
        let counters = bench.rig.core().counters();
        if counters.errors > 0 {
            return Err(LayerError::Unexpected("what comes before it failed".to_owned()));
        }
        counters.misses = 0;
        bench.commands_before = counters.commands;
        Ok(bench)
    }

    fn make_stock(&mut self, before: &Template) -> Result<(), LayerError> {
        let (peers, key_count) = (self.rig.peers(before.protocol()).to_vec(), self.options.keys);
        let mut next = 0;
        while next < key_count {
            for &peer in &peers {
                let keys = next..key_count.min(next + STOCK_PIPELINE);
                next = keys.end;
                if keys.is_empty() {
                    break;
                }
                let prng = &mut *self.prng;
                self.rig.push_open(peer, |out| {
                    for key in keys {
                        before.append(&mut Filling { key, key_count, dump: &[], prng }, out);
                    }
                });
            }
            self.rig.run_until_idle()?;
        }
        Ok(())
    }

    /// What DUMP answers for key 0 of the stock.
    fn dump_of_key_zero(&mut self) -> Result<Vec<u8>, LayerError> {
        let none = || LayerError::Unexpected("there is no key:000000000000 to dump".to_owned());
        let peer = self.rig.peers(Protocol::Resp)[0];
        let request = |out: &mut Vec<u8>| out.extend_from_slice(b"DUMP key:000000000000\r\n");
        let reply = self.rig.talk(peer, request)?;
        let start = reply.iter().position(|&byte| byte == b'\n').ok_or_else(none)? + 1;
        let payload = reply.get(start..reply.len() - 2).filter(|payload| !payload.is_empty());
        payload.map(<[u8]>::to_vec).ok_or_else(none)
    }

    /// Appends a message of a connection about keys of its own, to `out`.
    fn write_message(&mut self, connection: usize, out: &mut Vec<u8>) {
        let connections = self.options.connections as u64;
        for _ in 0..self.options.requests_per_message(self.form) {
            let drawn = self.prng.below(self.options.keys / connections);
            let key = drawn * connections + connection as u64;
            let (key_count, dump, prng) = (self.options.keys, &self.dump[..], &mut *self.prng);
            self.form.request.append(&mut Filling { key, key_count, dump, prng }, out);
        }
    }

    /// Sends the first message, and compares the reply with the one of the list.
    fn look_at_first_reply(&mut self) -> Result<(), LayerError> {
        let peer = self.rig.peers(self.form.request.protocol())[0];
        let mut message = Vec::new();
        self.write_message(0, &mut message);
        let reply = self.rig.talk(peer, |out| out.extend_from_slice(&message))?;
        self.round.commands +=
            self.options.requests_per_message(self.form) * self.form.request.commands() as u64;
        let expected = self.form.reply.unwrap_or_default();
        match reply.starts_with(expected.as_bytes()) {
            true => self.check_outcome(),
            false => Err(LayerError::Unexpected(format!(
                "the reply is {:?}..., not {expected:?}...",
                String::from_utf8_lossy(&reply[..reply.len().min(80)])
            ))),
        }
    }

    /// Has `commands` commands executed by `turns`, a message of each connection at a time.
    fn take(
        &mut self,
        commands: u64,
        turns: fn(&mut Rig) -> Result<u64, LayerError>,
    ) -> Result<(), LayerError> {
        let peers = self.rig.peers(self.form.request.protocol()).to_vec();
        let message_commands =
            self.options.requests_per_message(self.form) * self.form.request.commands() as u64;
        let end = self.round.commands + commands;
        let mut message = Vec::new();
        while self.round.commands < end {
            for (connection, &peer) in peers.iter().enumerate() {
                message.clear();
                self.write_message(connection, &mut message);
                self.rig.push_open(peer, |out| out.extend_from_slice(&message));
                self.round.commands += message_commands;
            }
            let start_ns = thread_cpu_ns();
            self.round.turns += turns(&mut self.rig)?;
            self.round.cpu_ns += thread_cpu_ns() - start_ns;
        }
        Ok(())
    }

    /// Fails if a command did, if the form may not miss and did, if an item was evicted, or if not
    /// all commands were executed; those of a transaction count twice, since they are queued first.
    fn check_outcome(&mut self) -> Result<(), LayerError> {
        let counters = *self.rig.core().counters();
        self.round.misses = counters.misses;
        let executed = counters.commands - self.commands_before;
        let is_short = executed < self.round.commands;
        let missed = self.form.reply.is_some() && counters.misses > 0;
        if counters.errors > 0 || is_short || missed {
            return Err(LayerError::Unexpected(format!(
                "of {} commands the core executed {executed}, with {} misses and {} errors",
                self.round.commands, counters.misses, counters.errors
            )));
        }
        self.rig.check_nothing_evicted()
    }
}

/// Prints a row.
fn report(
    out: &mut dyn Write,
    form: &Form,
    instructions: Option<f64>,
    rounds: &[Round],
) -> Result<Value, LayerError> {
    let ns = Spread::new(rounds.iter().map(Round::ns_per_command));
    let misses: u64 = rounds.iter().map(|round| round.misses).sum();
    let commands: u64 = rounds.iter().map(|round| round.commands).sum();
    let counted = instructions.map_or_else(|| "-".to_owned(), |count| format!("{count:.0}"));
    let missed = match misses {
        0 => String::new(),
        _ => format!(" ({:.1} % misses)", 100.0 * misses as f64 / commands as f64),
    };
    print(
        out,
        format_args!(
            "| {} | `{}`{missed} | {counted} | {:.1} | {:.1} | {:.1} |",
            form.family, form.name, ns.min, ns.median, ns.max
        ),
    )?;
    Ok(json!({
        "family": form.family, "request": form.name, "commands": form.request.commands(),
        "instructions_per_command": instructions, "ns_per_command": ns.to_json(),
        "rounds": rounds.iter().map(|round| round.to_json()).collect::<Vec<_>>(),
    }))
}

/// What is measured; a function of its own, so that callgrind can be told to look at it alone.
#[inline(never)]
fn measured_turns(rig: &mut Rig) -> Result<u64, LayerError> {
    rig.run_until_idle()
}

/// Does nothing but be called: callgrind writes down what it has counted when it is.
#[inline(never)]
fn form_is_measured(form: &Form) {
    black_box(form.name.as_str());
}
