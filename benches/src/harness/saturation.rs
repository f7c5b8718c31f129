//! Saturation: what a request costs a server that always has enough to do.
//!
//! A closed loop, server and client on one CPU unless told otherwise. The figure is the CPU time
//! of the whole server process per request; the *floor* is the least median of the floor servers
//! that were measured at the same batch size, in the same protocol if there are any.

use clap::Args;
use serde_json::{Value, json};

use super::HarnessError;
use super::options::CommonOptions;
use super::report::{Table, caveat, heading, number, range, rounds, write_json};
use super::rounds::{Bench, Cell, Measured};
use crate::client::Tally;

/// Options of the saturation benchmark.
#[derive(Clone, Debug, Args)]
pub struct SaturationOptions {
    /// What all benchmarks can be told.
    #[command(flatten)]
    pub common: CommonOptions,
    /// Requests that a connection sends at once, before it waits for all replies
    #[arg(long, value_delimiter = ',', value_name = "N,...", default_value = "1,16")]
    pub pipeline: Vec<usize>,
    /// How many connections the client has
    #[arg(long, default_value_t = 50)]
    pub connections: usize,
}

/// Runs the benchmark, prints its table and writes its file.
pub(super) fn run(options: &SaturationOptions) -> Result<(), HarnessError> {
    if options.pipeline.is_empty() {
        return Err(HarnessError::Usage("--pipeline needs at least one size".to_string()));
    }
    let common = &options.common;
    let client_cpu = common.client_cpu.unwrap_or(common.server_cpu);
    let mut bench = Bench::new(common, client_cpu, options.connections)?;
    let cells = Cell::all(bench.specs.len(), options.pipeline.len());
    let results = bench.measure(&cells, |client, cell, duration| {
        client.saturate(options.pipeline[cell.load], duration)
    })?;
    print!("{}", heading(&bench, "saturation"));
    print!("{}", table(&bench, options, &results).render());
    print!("{}", caveat(&results, common.rounds));
    let cells = results.iter().map(|measured| cell_json(&bench, options, measured)).collect();
    write_json(&bench, "saturation", cells)
}

fn table(bench: &Bench<'_>, options: &SaturationOptions, results: &[Measured<Tally>]) -> Table {
    let mut table = Table::new(&[
        "server",
        "batch",
        "server ns/req",
        "min..max",
        "client ns/req",
        "machine ns/req",
        "kreq/s",
        "sends/req",
        "wakes/req",
        "x floor",
        "x redis",
        "rounds",
    ]);
    for measured in results {
        let figure = |amount: fn(&super::account::Cost) -> u64| {
            measured.summarise(|sample| sample.cost.per_request(amount(&sample.cost)))
        };
        let server = figure(|cost| cost.server_cpu_ns);
        let (floor, is_other) = floor_ns(bench, results, measured.cell);
        let mark = if is_other { "~" } else { "" };
        let redis = reference_ns(bench, results, measured.cell.load, "redis");
        table.push(vec![
            bench.specs[measured.cell.server].name.clone(),
            options.pipeline[measured.cell.load].to_string(),
            number(server.median, 0),
            range(server, 0),
            number(figure(|cost| cost.client_cpu_ns).median, 0),
            number(figure(|cost| cost.machine_cpu_ns).median, 0),
            number(measured.summarise(|sample| sample.cost.rate_per_s()).median / 1e3, 1),
            number(figure(|cost| cost.reply_segments).median, 3),
            number(figure(|cost| cost.server_wakes).median, 4),
            format!("{mark}{}", number(server.median / floor, 3)),
            number(server.median / redis, 3),
            rounds(measured, bench.options.rounds),
        ]);
    }
    table
}

fn server_ns(measured: &Measured<Tally>) -> f64 {
    measured.summarise(|sample| sample.cost.per_request(sample.cost.server_cpu_ns)).median
}

/// The least median of the floors at this load, and whether they speak another protocol. NaN if
/// no floor was measured.
fn floor_ns(bench: &Bench<'_>, results: &[Measured<Tally>], cell: Cell) -> (f64, bool) {
    let protocol = bench.specs[cell.server].protocol;
    let least = |same_protocol: bool| {
        results
            .iter()
            .filter(|other| other.cell.load == cell.load)
            .filter(|other| bench.specs[other.cell.server].is_floor())
            .filter(|other| (bench.specs[other.cell.server].protocol == protocol) == same_protocol)
            .map(server_ns)
            .fold(f64::NAN, f64::min)
    };
    let own = least(true);
    if own.is_nan() { (least(false), true) } else { (own, false) }
}

/// The median of the server of that name at this load; NaN if it was not measured.
fn reference_ns(bench: &Bench<'_>, results: &[Measured<Tally>], load: usize, name: &str) -> f64 {
    results
        .iter()
        .find(|other| other.cell.load == load && bench.specs[other.cell.server].name == name)
        .map_or(f64::NAN, server_ns)
}

fn cell_json(bench: &Bench<'_>, options: &SaturationOptions, measured: &Measured<Tally>) -> Value {
    let rounds: Vec<Value> = measured.samples.iter().map(|sample| sample.cost.to_json()).collect();
    let server_ns = measured.summarise(|sample| sample.cost.per_request(sample.cost.server_cpu_ns));
    json!({
        "server": bench.specs[measured.cell.server].name,
        "pipeline": options.pipeline[measured.cell.load],
        "server_ns_per_request": server_ns.to_json(),
        "rounds": rounds,
        "dropped": measured.dropped,
    })
}
