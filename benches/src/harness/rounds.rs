//! Rounds: servers started or woken, loads interleaved, disturbed rounds dropped and repeated.
//!
//! Invariants:
//!
//! - At most one server runs at a time, and only while the load on it does.
//! - Servers are started by the thread that calls, which outlives them; the load runs on a
//!   thread of its own that is bound to the client's CPU.
//! - A cell of the experiment is tried at most [`TRIES_PER_ROUND_MAX`] times in each round.

use std::collections::VecDeque;
use std::time::Duration;

use super::HarnessError;
use super::account::{Cost, Meter};
use super::options::{CommonOptions, Instances};
use super::servers::ServerSpec;
use crate::client::{Client, ClientError, OpenOutcome, Prng, Tally};
use crate::launch::Server;
use crate::sys::cpu;

/// How often a cell is tried in each round.
const TRIES_PER_ROUND_MAX: usize = 3;

/// Pause before a dropped round is repeated, so that the disturbance can pass.
const REPEAT_PAUSE: Duration = Duration::from_millis(300);

/// One combination that is measured: a server and one of the benchmark's loads, by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) server: usize,
    pub(super) load: usize,
}

impl Cell {
    /// Every server with every load.
    pub(super) fn all(servers: usize, loads: usize) -> Vec<Cell> {
        (0..loads).flat_map(|load| (0..servers).map(move |server| Cell { server, load })).collect()
    }
}

/// What a stretch of load leaves for the accounts.
pub(super) trait Load {
    fn requests(&self) -> u64;
    fn client_cpu_ns(&self) -> u64;
    fn reply_segments(&self) -> u64;
}

impl Load for Tally {
    fn requests(&self) -> u64 {
        self.requests
    }

    fn client_cpu_ns(&self) -> u64 {
        self.client_cpu_ns
    }

    fn reply_segments(&self) -> u64 {
        self.reply_segments
    }
}

impl Load for OpenOutcome {
    fn requests(&self) -> u64 {
        self.requests
    }

    fn client_cpu_ns(&self) -> u64 {
        self.client_cpu_ns
    }

    fn reply_segments(&self) -> u64 {
        self.reply_segments
    }
}

/// A valid round.
#[derive(Clone, Debug)]
pub(super) struct Sample<T> {
    pub(super) cost: Cost,
    pub(super) load: T,
}

/// All rounds of a cell.
#[derive(Clone, Debug)]
pub(super) struct Measured<T> {
    pub(super) cell: Cell,
    pub(super) samples: Vec<Sample<T>>,
    /// Rounds that were dropped because others used too much of the machine.
    pub(super) dropped: usize,
}

impl<T> Measured<T> {
    /// A figure of every valid round.
    pub(super) fn summarise(&self, figure: impl Fn(&Sample<T>) -> f64) -> super::stats::Summary {
        super::stats::Summary::new(self.samples.iter().map(figure))
    }
}

/// The servers of an experiment and how they are driven.
pub(super) struct Bench<'a> {
    pub(super) options: &'a CommonOptions,
    pub(super) specs: Vec<ServerSpec>,
    pub(super) seed: u64,
    pub(super) client_cpu: usize,
    pub(super) connections: usize,
    /// Servers that stay; empty where each round has a server of its own.
    kept: Vec<Server>,
    /// The last command line of each server.
    commands: Vec<Vec<String>>,
}

impl<'a> Bench<'a> {
    /// Checks the options and starts the servers that stay.
    ///
    /// # Errors
    ///
    /// If the options contradict themselves or a server does not start.
    pub(super) fn new(
        options: &'a CommonOptions,
        client_cpu: usize,
        connections: usize,
    ) -> Result<Bench<'a>, HarnessError> {
        options.validate()?;
        let specs = ServerSpec::all(options)?;
        let allowed = cpu::allowed_cpus().map_err(|error| HarnessError::Io("read CPUs", error))?;
        for cpu in [options.server_cpu, client_cpu] {
            if !allowed.contains(&cpu) {
                return Err(HarnessError::Usage(format!("CPU {cpu} is not among {allowed:?}")));
            }
        }
        let seed = options.seed_or_clock();
        let commands = vec![Vec::new(); specs.len()];
        let mut bench =
            Bench { options, specs, seed, client_cpu, connections, kept: Vec::new(), commands };
        if options.instances == Instances::Kept {
            for index in 0..bench.specs.len() {
                let server = bench.start(index)?;
                bench.on_client(index, &server, |client| bench.fill(index, client))?;
                server.pause()?;
                bench.kept.push(server);
            }
        }
        Ok(bench)
    }

    /// Measures all cells, in as many rounds as asked. `drive` puts a load on a server for so
    /// long; it is called twice a round, and the first time does not count.
    ///
    /// # Errors
    ///
    /// The first that any round meets. A disturbed round is none.
    pub(super) fn measure<T: Load + Send>(
        &mut self,
        cells: &[Cell],
        drive: impl Fn(&mut Client, Cell, Duration) -> Result<T, ClientError> + Sync,
    ) -> Result<Vec<Measured<T>>, HarnessError> {
        let mut prng = Prng::new(self.seed);
        let mut results: Vec<Measured<T>> =
            cells.iter().map(|&cell| Measured { cell, samples: Vec::new(), dropped: 0 }).collect();
        for round in 0..self.options.rounds {
            eprintln!("harness: round {} of {}", round + 1, self.options.rounds);
            let mut order: Vec<usize> = (0..cells.len()).collect();
            prng.shuffle(&mut order);
            let mut queue: VecDeque<_> = order.into_iter().map(|index| (index, 1)).collect();
            while let Some((index, tries)) = queue.pop_front() {
                let sample = self.round(cells[index], &drive)?;
                let result = &mut results[index];
                if self.is_undisturbed(&sample.cost) {
                    result.samples.push(sample);
                    continue;
                }
                result.dropped += 1;
                if tries < TRIES_PER_ROUND_MAX {
                    queue.push_back((index, tries + 1));
                    std::thread::sleep(REPEAT_PAUSE);
                }
            }
        }
        Ok(results)
    }

    /// The command line with which a server was last started.
    pub(super) fn command(&self, server: usize) -> &[String] {
        &self.commands[server]
    }

    fn round<T: Load + Send>(
        &mut self,
        cell: Cell,
        drive: &(impl Fn(&mut Client, Cell, Duration) -> Result<T, ClientError> + Sync),
    ) -> Result<Sample<T>, HarnessError> {
        let is_kept = self.options.instances == Instances::Kept;
        let fresh = if is_kept { None } else { Some(self.start(cell.server)?) };
        let server = fresh.as_ref().unwrap_or_else(|| &self.kept[cell.server]);
        if is_kept {
            server.resume()?;
        }
        let (warmup, round) = (self.options.warmup(), self.options.round());
        let sample = self.on_client(cell.server, server, |client| {
            if !is_kept {
                self.fill(cell.server, client)?;
            }
            drive(client, cell, warmup)?;
            let failed = |error| ClientError::Io("read the accounts", error);
            let meter = Meter::start(server.pid()).map_err(failed)?;
            let load = drive(client, cell, round)?;
            let cost = meter
                .stop(load.requests(), load.client_cpu_ns(), load.reply_segments())
                .map_err(failed)?;
            Ok(Sample { cost, load })
        })?;
        if is_kept {
            server.pause()?;
        }
        Ok(sample)
    }

    fn start(&mut self, index: usize) -> Result<Server, HarnessError> {
        let server = self.specs[index].start(self.options)?;
        self.commands[index].clone_from(&server.command);
        Ok(server)
    }

    fn fill(&self, index: usize, client: &mut Client) -> Result<(), ClientError> {
        if self.specs[index].is_floor() { Ok(()) } else { client.prefill() }
    }

    /// Connects a client on its CPU and lets it work, while this thread waits.
    fn on_client<T: Send>(
        &self,
        index: usize,
        server: &Server,
        work: impl FnOnce(&mut Client) -> Result<T, ClientError> + Send,
    ) -> Result<T, HarnessError> {
        let spec = &self.specs[index];
        let workload = self.options.workload(spec.protocol, self.seed);
        let run = || {
            cpu::pin_this_thread(self.client_cpu)
                .map_err(|error| ClientError::Io("run on the client's CPU", error))?;
            let mut client = Client::connect(server.address, &workload, self.connections)?;
            work(&mut client)
        };
        let outcome = std::thread::scope(|scope| {
            // A panic of the client is a panic of the harness.
            scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        outcome.map_err(|error| HarnessError::Client { name: spec.name.clone(), error })
    }

    fn is_undisturbed(&self, cost: &Cost) -> bool {
        cost.foreign_share() * 100.0 <= self.options.foreign_max
            && cost.stolen_share() * 100.0 <= self.options.stolen_max
    }
}
