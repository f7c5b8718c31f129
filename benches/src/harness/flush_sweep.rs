//! Flush sweep: what pipelined connections do to the latency of one that is not.
//!
//! A server that executes more commands before it sends replies needs less CPU, and makes those
//! wait whose reply was ready first. Most connections send batches here, and one sends single
//! requests; the p99 of that one is the judge between variants of a server. Rates are shares of
//! what the first server can do at most, measured first, so that all variants meet the same load.

use clap::Args;
use serde_json::json;

use super::HarnessError;
use super::latency::{OpenOptions, latency_us, overrun, rounds_json, server_us};
use super::options::CommonOptions;
use super::report::{Table, caveat, heading, number, range, rounds, write_json};
use super::rounds::{Bench, Cell, Measured};
use crate::client::{Group, OpenOutcome, OpenPlan};

/// A variant is good enough if its p99 is at most this far from the best.
const TOLERANCE: f64 = 1.05;

/// Where the two groups stand in a plan.
const BULK: usize = 0;
const LONE: usize = 1;

/// Options of the flush sweep.
#[derive(Clone, Debug, Args)]
pub struct FlushSweepOptions {
    /// What all benchmarks can be told.
    #[command(flatten)]
    pub common: CommonOptions,
    /// What all open loops can be told.
    #[command(flatten)]
    pub open: OpenOptions,
    /// Rates of the pipelined connections, in percent of what the first server can do
    #[arg(long, value_delimiter = ',', value_name = "PERCENT,...", default_value = "30,60,80")]
    pub loads: Vec<f64>,
    /// How many connections are pipelined; they take turns
    #[arg(long, default_value_t = 49)]
    pub bulk_connections: usize,
    /// Requests that a pipelined connection sends at once
    #[arg(long, default_value_t = 16)]
    pub bulk_pipeline: usize,
    /// Requests per second of the connection that is not pipelined
    #[arg(long, default_value_t = 2000.0)]
    pub lone_rate: f64,
}

/// Runs the sweep, prints its table and writes its file.
pub(super) fn run(options: &FlushSweepOptions) -> Result<(), HarnessError> {
    let common = &options.common;
    let (client_cpu, pace) = options.open.place(common)?;
    if options.loads.is_empty() || !options.loads.iter().all(|&load| load > 0.0) {
        let text = "--loads needs at least one share, all above 0";
        return Err(HarnessError::Usage(text.to_string()));
    }
    let mut bench = Bench::new(common, client_cpu, options.bulk_connections + 1)?;
    let saturated = bench.measure(&[Cell { server: 0, load: 0 }], |client, _, duration| {
        client.saturate(options.bulk_pipeline, duration)
    })?;
    let capacity_per_s = saturated[0].summarise(|sample| sample.cost.rate_per_s()).median;
    if capacity_per_s.is_nan() {
        let text = "no valid round to measure what the first server can do: others were using \
                    this machine";
        return Err(HarnessError::Usage(text.to_string()));
    }
    let cells = Cell::all(bench.specs.len(), options.loads.len());
    let results = bench.measure(&cells, |client, cell, duration| {
        let bulk = Group {
            connections: options.bulk_connections,
            pipeline: options.bulk_pipeline,
            rate_per_s: capacity_per_s * options.loads[cell.load] / 100.0,
        };
        let lone = Group { connections: 1, pipeline: 1, rate_per_s: options.lone_rate };
        client.run_open_loop(&OpenPlan {
            groups: vec![bulk, lone],
            duration,
            arrivals: options.open.arrivals,
            pace,
        })
    })?;
    print!("{}", heading(&bench, "flush sweep"));
    println!(
        "{} connections send batches of {}, one sends single requests at {}/s; {} does at most \
         {:.0} requests/s",
        options.bulk_connections,
        options.bulk_pipeline,
        options.lone_rate,
        bench.specs[0].name,
        capacity_per_s
    );
    print!("{}", table(&bench, options, &results).render());
    print!("{}", caveat(&results, common.rounds));
    let cells = results
        .iter()
        .map(|measured| {
            json!({
                "server": bench.specs[measured.cell.server].name,
                "load_percent": options.loads[measured.cell.load],
                "capacity_per_s": capacity_per_s,
                "rounds": rounds_json(measured),
                "dropped": measured.dropped,
            })
        })
        .collect();
    write_json(&bench, "flush-sweep", cells)
}

fn table(
    bench: &Bench<'_>,
    options: &FlushSweepOptions,
    results: &[Measured<OpenOutcome>],
) -> Table {
    let mut table = Table::new(&[
        "server",
        "load %",
        "server ns/req",
        "lone p50 us",
        "lone p99 us",
        "min..max",
        "lone p99.9 us",
        "x best",
        "bulk p99 us",
        "sends/req",
        "lag p99",
        "rounds",
        "",
    ]);
    for measured in results {
        let quantile = |group: usize, quantile: f64| {
            measured.summarise(|sample| latency_us(sample, group, quantile))
        };
        let lone_p99 = quantile(LONE, 0.99);
        let lag =
            measured.summarise(|sample| sample.load.lag_ns.value_at_quantile(0.99) as f64 / 1e3);
        let sends =
            measured.summarise(|sample| sample.cost.per_request(sample.cost.reply_segments));
        let ratio = lone_p99.median / best_lone_p99_us(results, measured.cell.load);
        let verdict = match overrun(measured) {
            "" if ratio <= TOLERANCE => "good",
            other => other,
        };
        table.push(vec![
            bench.specs[measured.cell.server].name.clone(),
            number(options.loads[measured.cell.load], 0),
            number(measured.summarise(server_us).median * 1e3, 0),
            number(quantile(LONE, 0.5).median, 1),
            number(lone_p99.median, 1),
            range(lone_p99, 1),
            number(quantile(LONE, 0.999).median, 1),
            number(ratio, 2),
            number(quantile(BULK, 0.99).median, 1),
            number(sends.median, 3),
            number(lag.median, 1),
            rounds(measured, bench.options.rounds),
            verdict.to_string(),
        ]);
    }
    table
}

fn best_lone_p99_us(results: &[Measured<OpenOutcome>], load: usize) -> f64 {
    results
        .iter()
        .filter(|measured| measured.cell.load == load)
        .map(|measured| measured.summarise(|sample| latency_us(sample, LONE, 0.99)).median)
        .fold(f64::NAN, f64::min)
}
