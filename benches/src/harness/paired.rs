//! Two cores: what it costs that the core that is asked does not have the key.
//!
//! Server core i and client thread i are both bound to CPU i, and thread i talks to core i alone,
//! from source ports that lead there. So the way of the bytes is the same in all loads; only the
//! keys differ: all of the core that is asked (*local*), all of the other one (*crossed*), or of
//! both alike (*mixed*). *Unsteered* connections come from any port and ask for any key, which is
//! what a client does that knows nothing of cores; memcached with two threads gets the same load.

use std::sync::{Arc, Barrier};
use std::thread;

use clap::Args;
use pinion_router::{CoreCount, core_of_key};
use serde_json::json;

use super::HarnessError;
use super::account::{Cost, Meter};
use super::options::CommonOptions;
use super::report::{Table, number};
use super::stats::Summary;
use crate::client::{Client, ClientError, Prng, Protocol, Tally, Workload};
use crate::launch::{Launch, Server};
use crate::sys::cpu;

/// Options of the benchmark of two cores.
#[derive(Clone, Debug, Args)]
pub struct PairedOptions {
    /// What all benchmarks can be told; the servers are Pinion, and memcached if it is named
    #[command(flatten)]
    pub common: CommonOptions,
    /// Requests that a connection sends at once, before it waits for all replies
    #[arg(long, value_delimiter = ',', value_name = "N,...", default_value = "1,16")]
    pub pipeline: Vec<usize>,
    /// How many connections each of the two client threads has
    #[arg(long, default_value_t = 25)]
    pub connections: usize,
}

/// Whose keys are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keys {
    Local,
    Crossed,
    Mixed,
    /// Any, on connections to any core.
    Unsteered,
    /// The same, of memcached.
    Memcached,
}

impl Keys {
    fn name(self) -> &'static str {
        match self {
            Keys::Local => "local",
            Keys::Crossed => "crossed",
            Keys::Mixed => "mixed",
            Keys::Unsteered => "unsteered",
            Keys::Memcached => "memcached -t 2",
        }
    }

    fn protocol(self) -> Protocol {
        if self == Keys::Memcached { Protocol::Memcached } else { Protocol::Resp }
    }
}

struct Cell {
    keys: Keys,
    pipeline: usize,
    costs: Vec<Cost>,
    dropped: usize,
}

/// Runs the benchmark, prints its table and writes its file.
pub(super) fn run(options: &PairedOptions) -> Result<(), HarnessError> {
    let common = &options.common;
    common.validate()?;
    let mut loads = vec![Keys::Local, Keys::Crossed, Keys::Mixed, Keys::Unsteered];
    if common.servers.iter().any(|name| name == "memcached") {
        loads.push(Keys::Memcached);
    }
    let mut cells = Vec::new();
    for &pipeline in &options.pipeline {
        for &keys in &loads {
            cells.push(Cell { keys, pipeline, costs: Vec::new(), dropped: 0 });
        }
    }
    let seed = common.seed_or_clock();
    let mut prng = Prng::new(seed);
    for round in 0..common.rounds {
        eprintln!("harness: round {} of {}", round + 1, common.rounds);
        let mut order: Vec<usize> = (0..cells.len()).collect();
        prng.shuffle(&mut order);
        for index in order {
            for _ in 0..3 {
                let cost = measure(options, cells[index].keys, cells[index].pipeline, seed)?;
                let foreign = cost.foreign_share() * 100.0 > common.foreign_max;
                if foreign || cost.stolen_share() * 100.0 > common.stolen_max {
                    cells[index].dropped += 1;
                    continue;
                }
                cells[index].costs.push(cost);
                break;
            }
        }
    }
    println!(
        "paired: {} keys of {} bytes, values of {} bytes, {} GET : {} SET, 2 x {} connections, \
         seed {seed}\n{} rounds of {} s, server core i and client thread i on CPU i",
        common.keys,
        common.key_size,
        common.value_size,
        common.mix.gets,
        common.mix.sets,
        options.connections,
        common.rounds,
        common.seconds,
    );
    print!("{}", table(&cells).render());
    if let Some(path) = &common.json {
        let cells: Vec<_> = cells.iter().map(cell_json).collect();
        let text = json!({ "benchmark": "paired", "seed": seed, "cells": cells }).to_string();
        std::fs::write(path, text).map_err(|error| HarnessError::Io("write the file", error))?;
    }
    Ok(())
}

fn server_ns(cell: &Cell) -> Summary {
    Summary::new(cell.costs.iter().map(|cost| cost.per_request(cost.server_cpu_ns)))
}

fn table(cells: &[Cell]) -> Table {
    let mut table = Table::new(&[
        "keys",
        "batch",
        "server ns/req",
        "min..max",
        "client ns/req",
        "machine ns/req",
        "kreq/s",
        "sends/req",
        "wakes/req",
        "x local",
        "rounds",
    ]);
    for cell in cells {
        let figure = |amount: fn(&Cost) -> u64| {
            Summary::new(cell.costs.iter().map(|cost| cost.per_request(amount(cost)))).median
        };
        let server = server_ns(cell);
        let local = cells
            .iter()
            .find(|other| other.keys == Keys::Local && other.pipeline == cell.pipeline)
            .map_or(f64::NAN, |local| server_ns(local).median);
        let rate = Summary::new(cell.costs.iter().map(|cost| cost.rate_per_s())).median;
        table.push(vec![
            cell.keys.name().to_owned(),
            cell.pipeline.to_string(),
            number(server.median, 0),
            super::report::range(server, 0),
            number(figure(|cost| cost.client_cpu_ns), 0),
            number(figure(|cost| cost.machine_cpu_ns), 0),
            number(rate / 1e3, 1),
            number(figure(|cost| cost.reply_segments), 3),
            number(figure(|cost| cost.server_wakes), 4),
            number(server.median / local, 3),
            format!("{}-{}", cell.costs.len(), cell.dropped),
        ]);
    }
    table
}

fn cell_json(cell: &Cell) -> serde_json::Value {
    let rounds: Vec<_> = cell.costs.iter().map(|cost| cost.to_json()).collect();
    json!({
        "keys": cell.keys.name(),
        "pipeline": cell.pipeline,
        "server_ns_per_request": server_ns(cell).to_json(),
        "rounds": rounds,
        "dropped": cell.dropped,
    })
}

fn start(options: &PairedOptions, keys: Keys) -> Result<Server, HarnessError> {
    let common = &options.common;
    let memory_mib =
        (common.keys * (common.key_size + common.value_size + 200) as u64 * 2 + (512 << 20)) >> 20;
    let pinion = common.pinion.clone().unwrap_or_else(|| "pinion".into());
    let arguments = |port: u16, spare_port: u16| -> Vec<String> {
        match keys {
            Keys::Memcached => super::options::words(&format!(
                "-p {port} -l 127.0.0.1 -U 0 -t 2 -c 4096 -m {memory_mib} -u root"
            )),
            _ => {
                let mut words = super::options::words(&format!(
                    "--bind 127.0.0.1 --port {port} --memcached-port {spare_port} --cores 0,1 \
                     --memory {memory_mib}MiB"
                ));
                words.extend(super::options::words(&common.pinion_args));
                words
            }
        }
    };
    Server::start(&Launch {
        name: keys.name(),
        program: if keys == Keys::Memcached { &common.memcached } else { &pinion },
        protocol: keys.protocol(),
        banner: None,
        cpu: None,
        arguments: &arguments,
    })
}

/// The load of one client thread.
fn workload(common: &CommonOptions, keys: Keys, thread: usize, seed: u64) -> Workload {
    let mut workload = common.workload(keys.protocol(), seed + thread as u64);
    if !matches!(keys, Keys::Local | Keys::Crossed) {
        return workload;
    }
    let Ok(cores) = CoreCount::new(2) else { return workload };
    let owner = if keys == Keys::Local { thread } else { 1 - thread };
    let of_owner = |key: &u32| core_of_key(&workload.key(u64::from(*key)), cores).index() == owner;
    let subset: Arc<[u32]> = (0..common.keys as u32).filter(of_owner).collect();
    workload.subset = Some(subset);
    workload
}

fn measure(
    options: &PairedOptions,
    keys: Keys,
    pipeline: usize,
    seed: u64,
) -> Result<Cost, HarnessError> {
    let common = &options.common;
    let server = start(options, keys)?;
    let named = |error| HarnessError::Client { name: keys.name().to_owned(), error };
    let fill = common.workload(keys.protocol(), seed);
    Client::connect(server.address, &fill, 1).and_then(|mut c| c.prefill()).map_err(named)?;
    let cores = CoreCount::new(2).ok();
    let barrier = Barrier::new(3);
    let drive = &|thread: usize| -> Result<Tally, ClientError> {
        let outcome = (|| {
            cpu::pin_this_thread(thread)
                .map_err(|error| ClientError::Io("run on the client's CPU", error))?;
            let workload = workload(common, keys, thread, seed);
            let is_steered = matches!(keys, Keys::Local | Keys::Crossed | Keys::Mixed);
            let core = cores.filter(|_| is_steered).map(|cores| (thread, cores));
            let mut client =
                Client::connect_from(server.address, &workload, options.connections, core)?;
            client.saturate(pipeline, common.warmup())?;
            Ok(client)
        })();
        barrier.wait();
        barrier.wait();
        outcome.and_then(|mut client: Client| client.saturate(pipeline, common.round()))
    };
    thread::scope(|scope| {
        let threads = [0, 1].map(|number| scope.spawn(move || drive(number)));
        barrier.wait();
        let meter =
            Meter::start(server.pid()).map_err(|e| HarnessError::Io("read the accounts", e));
        barrier.wait();
        let mut total = Tally::default();
        let mut failure = None;
        for thread in threads {
            let outcome = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            match outcome {
                Ok(tally) => {
                    total.requests += tally.requests;
                    total.client_cpu_ns += tally.client_cpu_ns;
                    total.reply_segments += tally.reply_segments;
                }
                Err(error) => failure = Some(error),
            }
        }
        if let Some(error) = failure {
            return Err(named(error));
        }
        meter?
            .stop(total.requests, total.client_cpu_ns, total.reply_segments)
            .map_err(|error| HarnessError::Io("read the accounts", error))
    })
}
