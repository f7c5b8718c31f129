//! Latency: how long requests take at fixed rates that leave the machine room, and what they
//! cost the server there.
//!
//! An open loop, server and client on CPUs of their own unless told otherwise. Latency counts
//! from the intended send. A CPU figure is worth something only if it was not bought by letting
//! requests wait, so it is shown beside the quantiles, and all are compared with the ring floor,
//! which blocks when idle, and with Redis.

use clap::Args;
use serde_json::{Value, json};

use super::HarnessError;
use super::options::CommonOptions;
use super::report::{Table, caveat, heading, number, range, rounds, write_json};
use super::rounds::{Bench, Cell, Measured, Sample};
use crate::client::{Arrivals, Group, OpenOutcome, OpenPlan, Pace};
use crate::sys::cpu;

/// The floor that others are compared with: the one that wakes up most cheaply.
const REFERENCE_FLOOR: &str = "floor-ring";

/// Options of every open loop.
#[derive(Clone, Debug, Args)]
pub struct OpenOptions {
    /// When requests are meant to be sent
    #[arg(long, value_enum, default_value = "poisson")]
    pub arrivals: Arrivals,
    /// How the client waits; default: hybrid on a CPU of its own, block on the servers'
    #[arg(long, value_enum)]
    pub pace: Option<Pace>,
}

impl OpenOptions {
    /// The client's CPU and pace.
    ///
    /// # Errors
    ///
    /// If there is only one CPU and none was named, or a client is to spin on the servers' CPU.
    pub(super) fn place(&self, common: &CommonOptions) -> Result<(usize, Pace), HarnessError> {
        let client_cpu = match common.client_cpu {
            Some(cpu) => cpu,
            None => {
                let allowed =
                    cpu::allowed_cpus().map_err(|error| HarnessError::Io("read CPUs", error))?;
                let other = allowed.into_iter().find(|&cpu| cpu != common.server_cpu);
                other.ok_or_else(|| {
                    let text = "there is one CPU only: say --client-cpu to share it";
                    HarnessError::Usage(text.to_string())
                })?
            }
        };
        let is_shared = client_cpu == common.server_cpu;
        let pace = self.pace.unwrap_or(if is_shared { Pace::Block } else { Pace::Hybrid });
        if is_shared && pace != Pace::Block {
            let text = "a client that spins would starve the servers on its CPU: use --pace block";
            return Err(HarnessError::Usage(text.to_string()));
        }
        Ok((client_cpu, pace))
    }
}

/// Options of the latency benchmark.
#[derive(Clone, Debug, Args)]
pub struct LatencyOptions {
    /// What all benchmarks can be told.
    #[command(flatten)]
    pub common: CommonOptions,
    /// What all open loops can be told.
    #[command(flatten)]
    pub open: OpenOptions,
    /// Requests per second
    #[arg(long, value_delimiter = ',', value_name = "N,...", default_value = "2000,20000,60000")]
    pub rates: Vec<f64>,
    /// Requests that are sent at once
    #[arg(long, default_value_t = 1)]
    pub pipeline: usize,
    /// How many connections the client has; they take turns
    #[arg(long, default_value_t = 50)]
    pub connections: usize,
}

/// Runs the benchmark, prints its table and writes its file.
pub(super) fn run(options: &LatencyOptions) -> Result<(), HarnessError> {
    let common = &options.common;
    let (client_cpu, pace) = options.open.place(common)?;
    if options.rates.is_empty() {
        return Err(HarnessError::Usage("--rates needs at least one rate".to_string()));
    }
    let mut bench = Bench::new(common, client_cpu, options.connections)?;
    let cells = Cell::all(bench.specs.len(), options.rates.len());
    let results = bench.measure(&cells, |client, cell, duration| {
        client.run_open_loop(&OpenPlan {
            groups: vec![Group {
                connections: options.connections,
                pipeline: options.pipeline,
                rate_per_s: options.rates[cell.load],
            }],
            duration,
            arrivals: options.open.arrivals,
            pace,
        })
    })?;
    print!("{}", heading(&bench, "latency"));
    print!("{}", table(&bench, options, &results).render());
    print!("{}", caveat(&results, common.rounds));
    let cells = results
        .iter()
        .map(|measured| {
            json!({
                "server": bench.specs[measured.cell.server].name,
                "rate_per_s": options.rates[measured.cell.load],
                "rounds": rounds_json(measured),
                "dropped": measured.dropped,
            })
        })
        .collect();
    write_json(&bench, "latency", cells)
}

/// A quantile of one group's latencies in microseconds.
pub(super) fn latency_us(sample: &Sample<OpenOutcome>, group: usize, quantile: f64) -> f64 {
    sample.load.groups[group].latency_ns.value_at_quantile(quantile) as f64 / 1e3
}

/// CPU time of the server per request in microseconds.
pub(super) fn server_us(sample: &Sample<OpenOutcome>) -> f64 {
    sample.cost.per_request(sample.cost.server_cpu_ns) / 1e3
}

/// What a table says where requests piled up.
pub(super) fn overrun(measured: &Measured<OpenOutcome>) -> &'static str {
    let is_overrun = measured.samples.iter().any(|sample| sample.load.is_overrun);
    if is_overrun { "overrun" } else { "" }
}

/// Every valid round, with the latencies of each group.
pub(super) fn rounds_json(measured: &Measured<OpenOutcome>) -> Vec<Value> {
    let round = |sample: &Sample<OpenOutcome>| {
        let mut round = sample.cost.to_json();
        let groups: Vec<Value> = (0..sample.load.groups.len())
            .map(|group| {
                json!({
                    "p50_us": latency_us(sample, group, 0.5),
                    "p99_us": latency_us(sample, group, 0.99),
                    "p999_us": latency_us(sample, group, 0.999),
                    "max_us": latency_us(sample, group, 1.0),
                    "count": sample.load.groups[group].latency_ns.len(),
                })
            })
            .collect();
        round["groups"] = json!(groups);
        round["lag_p99_us"] = json!(sample.load.lag_ns.value_at_quantile(0.99) as f64 / 1e3);
        round["overrun"] = json!(sample.load.is_overrun);
        round
    };
    measured.samples.iter().map(round).collect()
}

fn table(bench: &Bench<'_>, options: &LatencyOptions, results: &[Measured<OpenOutcome>]) -> Table {
    let mut table = Table::new(&[
        "server",
        "rate/s",
        "server us/req",
        "min..max",
        "p50 us",
        "p99 us",
        "min..max",
        "p99.9 us",
        "lag p99",
        "wakes/req",
        "floor: cpu",
        "p50",
        "p99",
        "redis: cpu",
        "p50",
        "p99",
        "rounds",
        "",
    ]);
    for measured in results {
        let cost = measured.summarise(server_us);
        let quantile = |quantile: f64| measured.summarise(|sample| latency_us(sample, 0, quantile));
        let (p50, p99) = (quantile(0.5), quantile(0.99));
        let lag =
            measured.summarise(|sample| sample.load.lag_ns.value_at_quantile(0.99) as f64 / 1e3);
        let wakes = measured.summarise(|sample| sample.cost.per_request(sample.cost.server_wakes));
        let mut row = vec![
            bench.specs[measured.cell.server].name.clone(),
            number(options.rates[measured.cell.load], 0),
            number(cost.median, 2),
            range(cost, 2),
            number(p50.median, 1),
            number(p99.median, 1),
            range(p99, 1),
            number(quantile(0.999).median, 1),
            number(lag.median, 1),
            number(wakes.median, 3),
        ];
        for name in [REFERENCE_FLOOR, "redis"] {
            let [cpu, reference_p50, reference_p99] =
                reference(bench, results, measured.cell.load, name);
            row.push(number(cost.median / cpu, 2));
            row.push(number(p50.median / reference_p50, 2));
            row.push(number(p99.median / reference_p99, 2));
        }
        row.push(rounds(measured, bench.options.rounds));
        row.push(overrun(measured).to_string());
        table.push(row);
    }
    table
}

/// CPU, p50 and p99 of the server of that name at this load; NaN if it was not measured.
fn reference(
    bench: &Bench<'_>,
    results: &[Measured<OpenOutcome>],
    load: usize,
    name: &str,
) -> [f64; 3] {
    let found = results
        .iter()
        .find(|other| other.cell.load == load && bench.specs[other.cell.server].name == name);
    found.map_or([f64::NAN; 3], |measured| {
        [
            measured.summarise(server_us).median,
            measured.summarise(|sample| latency_us(sample, 0, 0.5)).median,
            measured.summarise(|sample| latency_us(sample, 0, 0.99)).median,
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn place(arguments: &str) -> Result<(usize, Pace), HarnessError> {
        #[derive(Parser)]
        struct Wrapper {
            #[command(flatten)]
            options: LatencyOptions,
        }
        let words = std::iter::once("test").chain(arguments.split_whitespace());
        let options = Wrapper::try_parse_from(words).unwrap().options;
        options.open.place(&options.common)
    }

    #[test]
    fn a_client_spins_only_on_a_cpu_of_its_own() {
        assert_eq!(place("--server-cpu 0 --client-cpu 0").unwrap(), (0, Pace::Block));
        assert_eq!(place("--server-cpu 0 --client-cpu 1").unwrap(), (1, Pace::Hybrid));
        assert!(place("--server-cpu 0 --client-cpu 0 --pace spin").is_err());
        assert_eq!(place("--client-cpu 1 --pace spin").unwrap(), (1, Pace::Spin));
    }

    #[test]
    fn the_client_stays_away_from_the_servers_if_it_can() {
        match place("--server-cpu 0") {
            Ok((cpu, _)) => assert_ne!(cpu, 0),
            Err(error) => assert!(error.to_string().contains("--client-cpu"), "{error}"),
        }
    }
}
