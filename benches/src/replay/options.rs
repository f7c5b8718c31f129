//! The command line of `hitratio`, and its two kinds of runs.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Parser;
use pinion_engine::Eviction;
use pinion_loadgen::trace;
use pinion_loadgen::trace_name;
use pinion_net::options::EvictionName;
use serde_json::{Value, json};

use super::charge::{Charge, Prepared};
use super::compare::{Comparison, Plan, charge_of};
use super::reference::{Reference, Unit};
use super::{Outcome, Replay, ReplayError, parallel};

/// The policy that is judged where none is named: the server's default.
const DEFAULT_POLICY: &str = "tinylfu";
/// Hash seeds of a comparison where their number is not given.
const COMPARE_SEEDS: u64 = 5;
/// How the name of a trace's file ends.
const TRACE_ENDING: &str = ".ctr.zst";

/// Hit ratios of traces, by capacity and policy, through the server's own shard.
///
/// Each request reads; a miss is followed by a write. Prints trace, capacity, policy, object hit
/// ratio and byte hit ratio, separated by tabs. With --compare it replays every cell of a file of
/// published ratios instead, and prints how far the best rival of each is ahead, in points.
///
/// What a capacity counts is the mode: objects, entries of equal weight; bytes, those of the values
/// alone, as published comparisons do; data-limit, whole items with keys and headers, as pinion
/// --data-limit does, so that the result is what a replay over a socket gives.
#[derive(Clone, Debug, Parser)]
#[command(name = "hitratio", version, max_term_width = 100)]
pub struct HitRatioOptions {
    /// Traces in the format CTR1, or folders of them
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    pub trace: Vec<PathBuf>,
    /// Entries or bytes, or percentages of a trace's unique keys or of the bytes of their values
    #[arg(
        long,
        value_name = "N|P%,...",
        value_delimiter = ',',
        required_unless_present = "compare",
        conflicts_with = "compare"
    )]
    pub capacity: Vec<Capacity>,
    /// Eviction policies, by the server's names
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', default_value = DEFAULT_POLICY)]
    pub policy: Vec<PolicyName>,
    /// What capacities count: objects, bytes or data-limit [default: bytes; with --compare
    /// objects and bytes]
    #[arg(long)]
    pub mode: Option<Charge>,
    /// Length of every value in bytes where a trace has no sizes
    #[arg(long, value_name = "BYTES", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub value_size: u32,
    /// Replay only so many requests of each trace
    #[arg(long, value_name = "N")]
    pub requests: Option<u64>,
    /// The first seed of the hash
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Take the mean of so many seeds [default: 1; with --compare 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub seeds: Option<u64>,
    /// Replay at once so many caches [default: as many as there are CPUs]
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Compare with the published ratios in this file
    #[arg(long, value_name = "FILE.tsv")]
    pub compare: Option<PathBuf>,
    /// Write the results to this file too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// How much a cache holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Capacity {
    /// So many entries or bytes.
    Exact(u64),
    /// This part of a trace's unique keys or bytes, in percent.
    Percent(f64),
}

impl FromStr for Capacity {
    type Err = String;

    fn from_str(text: &str) -> Result<Capacity, String> {
        let wrong = || format!("'{text}' is not a number such as 1000000, nor 0.1% to 100%");
        if let Some(number) = text.strip_suffix('%') {
            return match number.parse() {
                Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Capacity::Percent(percent)),
                _ => Err(wrong()),
            };
        }
        match text.parse() {
            Ok(0) | Err(_) => Err(wrong()),
            Ok(exact) => Ok(Capacity::Exact(exact)),
        }
    }
}

impl Capacity {
    /// The capacity for a trace, in its charge's unit.
    pub fn of(self, prepared: &Prepared<'_>) -> u64 {
        match self {
            Capacity::Exact(exact) => exact,
            Capacity::Percent(percent) => prepared.share(percent / 100.0),
        }
    }
}

/// A policy as it was named, which is how it is printed.
#[derive(Clone, Debug)]
pub struct PolicyName {
    /// The name.
    pub name: String,
    /// The policy.
    pub policy: EvictionName,
}

impl FromStr for PolicyName {
    type Err = String;

    fn from_str(text: &str) -> Result<PolicyName, String> {
        Ok(PolicyName { name: text.to_string(), policy: text.parse()? })
    }
}

/// One line of a plain run.
struct Line {
    capacity: u64,
    policy: PolicyName,
    seed: u64,
}

impl HitRatioOptions {
    /// Does what the command line asks for. Results go to `out`, what is worth a remark to
    /// `remarks`.
    ///
    /// # Errors
    /// See [`ReplayError`]; what was printed before stays.
    pub fn run(&self, out: &mut dyn Write, remarks: &mut dyn Write) -> Result<(), ReplayError> {
        let traces = self.trace_files()?;
        let results = match &self.compare {
            Some(path) => self.run_comparison(path, &traces, out, remarks)?,
            None => self.run_plainly(&traces, out, remarks)?,
        };
        let Some(path) = &self.json else { return Ok(()) };
        let document = json!({
            "benchmark": "hitratio",
            "command": std::env::args().collect::<Vec<_>>(),
            "results": results,
        });
        std::fs::write(path, format!("{document:#}\n"))
            .map_err(|error| ReplayError::File(format!("write {}", path.display()), error))
    }

    fn run_plainly(
        &self,
        traces: &[PathBuf],
        out: &mut dyn Write,
        remarks: &mut dyn Write,
    ) -> Result<Vec<Value>, ReplayError> {
        writeln!(out, "trace\tcapacity\tpolicy\tobject_hit_ratio\tbyte_hit_ratio")
            .map_err(ReplayError::Print)?;
        let seeds = self.seeds(1);
        let mut results = Vec::new();
        for path in traces {
            let trace = trace::load(path).map_err(ReplayError::Trace)?;
            let charge = self.mode.unwrap_or(Charge::Bytes);
            let prepared = Prepared::new(&trace, charge, self.value_size);
            let mut lines = Vec::new();
            for capacity in &self.capacity {
                for policy in &self.policy {
                    let line = |&seed: &u64| Line {
                        capacity: capacity.of(&prepared),
                        policy: policy.clone(),
                        seed,
                    };
                    lines.extend(seeds.iter().map(line));
                }
            }
            let outcomes = parallel::map(&lines, self.jobs(), |line| {
                let replay = Replay {
                    capacity: line.capacity,
                    policy: line.policy.policy,
                    requests: self.requests,
                    seed: line.seed,
                };
                replay.run(&prepared)
            });
            let outcomes = outcomes.map_err(ReplayError::Engine)?;
            let name = trace_name(path);
            for (lines, outcomes) in lines.chunks(seeds.len()).zip(outcomes.chunks(seeds.len())) {
                let result = print(out, remarks, &name, &lines[0], outcomes);
                results.push(result.map_err(ReplayError::Print)?);
            }
        }
        Ok(results)
    }

    fn run_comparison(
        &self,
        path: &Path,
        traces: &[PathBuf],
        out: &mut dyn Write,
        remarks: &mut dyn Write,
    ) -> Result<Vec<Value>, ReplayError> {
        let reference = Reference::load(path)?;
        let seeds = self.seeds(COMPARE_SEEDS);
        let units = match self.mode {
            None => vec![Unit::Objects, Unit::Bytes],
            Some(Charge::Objects) => vec![Unit::Objects],
            Some(Charge::Bytes) => vec![Unit::Bytes],
            Some(Charge::DataLimit) => {
                let text = "published capacities do not count keys and headers: with --compare the \
                            mode is objects or bytes";
                return Err(ReplayError::Usage(text.to_string()));
            }
        };
        let mut comparisons: Vec<Comparison> = self
            .policy
            .iter()
            .map(|policy| Comparison { policy: policy.name.clone(), cells: Vec::new() })
            .collect();
        for file in traces {
            let name = trace_name(file);
            if !reference.traces().contains(&name.as_str()) {
                writeln!(remarks, "hitratio: nothing is published about {name}")
                    .map_err(ReplayError::Print)?;
                continue;
            }
            writeln!(remarks, "hitratio: {name}").map_err(ReplayError::Print)?;
            let trace = trace::load(file).map_err(ReplayError::Trace)?;
            for &unit in units.iter().filter(|&&unit| !reference.capacities(&name, unit).is_empty())
            {
                let prepared = Prepared::new(&trace, charge_of(unit), self.value_size);
                for (policy, comparison) in self.policy.iter().zip(&mut comparisons) {
                    let plan = Plan {
                        reference: &reference,
                        name: &name,
                        policy: (&policy.name, policy.policy),
                        seeds: &seeds,
                        jobs: self.jobs(),
                        requests: self.requests,
                    };
                    comparison.cells.extend(plan.cells(&prepared, unit)?);
                }
            }
        }
        for comparison in &comparisons {
            out.write_all(comparison.text().as_bytes()).map_err(ReplayError::Print)?;
        }
        Ok(comparisons.iter().map(Comparison::to_json).collect())
    }

    /// The files that are named, and those in the folders that are, by name.
    fn trace_files(&self) -> Result<Vec<PathBuf>, ReplayError> {
        let mut files = Vec::new();
        for path in &self.trace {
            if !path.is_dir() {
                files.push(path.clone());
                continue;
            }
            let failed =
                |error| ReplayError::File(format!("read the folder {}", path.display()), error);
            let mut inside = Vec::new();
            for entry in std::fs::read_dir(path).map_err(failed)? {
                let file = entry.map_err(failed)?.path();
                if file.to_string_lossy().ends_with(TRACE_ENDING) {
                    inside.push(file);
                }
            }
            if inside.is_empty() {
                let text = format!("there is no trace (*{TRACE_ENDING}) in {}", path.display());
                return Err(ReplayError::Usage(text));
            }
            inside.sort();
            files.append(&mut inside);
        }
        Ok(files)
    }

    fn seeds(&self, default_count: u64) -> Vec<u64> {
        let count = self.seeds.unwrap_or(default_count);
        (0..count).map(|index| self.seed.wrapping_add(index)).collect()
    }

    fn jobs(&self) -> usize {
        self.jobs.unwrap_or_else(parallel::default_jobs)
    }
}

/// Prints the mean of the seeds' outcomes, and returns it.
fn print(
    out: &mut dyn Write,
    remarks: &mut dyn Write,
    name: &str,
    line: &Line,
    outcomes: &[Outcome],
) -> std::io::Result<Value> {
    let (capacity, policy) = (line.capacity, &line.policy);
    let refused: u64 = outcomes.iter().map(|outcome| outcome.refused).sum();
    if refused > 0 && policy.policy != EvictionName(Eviction::None) {
        writeln!(
            remarks,
            "hitratio: {name} at {capacity}: {refused} writes were refused, because their values \
             do not fit"
        )?;
    }
    let mean = |ratio: fn(&Outcome) -> f64| {
        outcomes.iter().map(ratio).sum::<f64>() / outcomes.len() as f64
    };
    let (objects, bytes) = (mean(Outcome::object_hit_ratio), mean(Outcome::byte_hit_ratio));
    writeln!(out, "{name}\t{capacity}\t{}\t{objects:.6}\t{bytes:.6}", policy.name)?;
    out.flush()?;
    Ok(json!({
        "trace": name,
        "capacity": capacity,
        "policy": policy.name,
        "object_hit_ratio": objects,
        "byte_hit_ratio": bytes,
        "seeds": outcomes.iter().map(Outcome::object_hit_ratio).collect::<Vec<_>>(),
        "refused": refused,
    }))
}
