//! Caches to fill and to weigh: whole servers with a limit on memory, over sockets.
//!
//! - [`CacheOptions`]: which servers, and where they run
//! - `Cache`: one of them, to be started with a limit
//! - `Running`: a server that runs, its resident memory and its connections
//! - `wire`: one connection with batches of requests under way
//!
//! Where the client of the harness measures time and takes every miss for an error, this one
//! measures memory and contents: it sends as much as it can, and is told of every answer.
//!
//! Invariants:
//!
//! - A server gets the limit in its own words (`--memory`, `--maxmemory`, `-m`) and is otherwise as
//!   it comes: nothing is touched ahead, so that resident memory is what the items cost.
//! - The client runs on another CPU than the servers where there is one.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::client::{ClientError, Protocol};
use crate::harness::{HarnessError, words};
use crate::launch::{Launch, Server, memcached_user, merge_arguments, version};
use crate::sys::{cpu, proc};

mod keys;
mod wire;

pub(crate) use keys::{Key, mix};
pub(crate) use wire::{Answer, Expiry, Wire};

/// Options of every benchmark that fills whole servers.
#[derive(Clone, Debug, Args)]
pub struct CacheOptions {
    /// Servers: pinion, redis (allkeys-lru), redis-lfu (allkeys-lfu), memcached
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAME,...",
        default_value = "pinion,redis,memcached"
    )]
    pub servers: Vec<String>,
    /// The pinion program; default: beside this program
    #[arg(long, value_name = "PATH")]
    pub pinion: Option<PathBuf>,
    /// Arguments for pinion (split at blanks)
    #[arg(long, value_name = "ARGS", default_value = "", allow_hyphen_values = true)]
    pub pinion_args: String,
    /// The redis-server program
    #[arg(long, value_name = "PATH", default_value = "redis-server")]
    pub redis: PathBuf,
    /// The memcached program
    #[arg(long, value_name = "PATH", default_value = "memcached")]
    pub memcached: PathBuf,
    /// The servers' CPU
    #[arg(long, default_value_t = 0)]
    pub server_cpu: usize,
    /// The client's CPU; default: another one, if there is one
    #[arg(long)]
    pub client_cpu: Option<usize>,
    /// Write the results to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// How a cache is told its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pinion,
    /// With this policy.
    Redis(&'static str),
    Memcached,
}

/// A server to be filled.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    pub(crate) name: String,
    kind: Kind,
    program: PathBuf,
    extra: Vec<String>,
    cpu: usize,
}

/// A server that runs with a limit.
pub(crate) struct Running {
    pub(crate) name: String,
    server: Server,
    protocol: Protocol,
}

impl CacheOptions {
    /// The servers that are named, in their order, and the calling thread on the client's CPU.
    ///
    /// # Errors
    ///
    /// If a name is unknown, or a CPU is not there.
    pub(crate) fn prepare(&self) -> Result<Vec<Cache>, HarnessError> {
        let caches = self.caches()?;
        let allowed = cpu::allowed_cpus().map_err(|error| HarnessError::Io("read CPUs", error))?;
        let other = allowed.iter().copied().find(|&cpu| cpu != self.server_cpu);
        let client_cpu = self.client_cpu.or(other).unwrap_or(self.server_cpu);
        for cpu in [self.server_cpu, client_cpu] {
            if !allowed.contains(&cpu) {
                return Err(HarnessError::Usage(format!("CPU {cpu} is not among {allowed:?}")));
            }
        }
        cpu::pin_this_thread(client_cpu)
            .map_err(|error| HarnessError::Io("bind the client to its CPU", error))?;
        Ok(caches)
    }

    fn caches(&self) -> Result<Vec<Cache>, HarnessError> {
        let mut caches = Vec::new();
        for name in &self.servers {
            let (kind, program) = match name.as_str() {
                "pinion" => (Kind::Pinion, self.pinion_program()?),
                "redis" => (Kind::Redis("allkeys-lru"), self.redis.clone()),
                "redis-lfu" => (Kind::Redis("allkeys-lfu"), self.redis.clone()),
                "memcached" => (Kind::Memcached, self.memcached.clone()),
                _ => return Err(HarnessError::Usage(format!("unknown server '{name}'"))),
            };
            let extra = if kind == Kind::Pinion { words(&self.pinion_args) } else { Vec::new() };
            caches.push(Cache { name: name.clone(), kind, program, extra, cpu: self.server_cpu });
        }
        Ok(caches)
    }

    fn pinion_program(&self) -> Result<PathBuf, HarnessError> {
        match &self.pinion {
            Some(path) => Ok(path.clone()),
            None => Ok(std::env::current_exe()
                .map_err(|error| HarnessError::Io("find the pinion program", error))?
                .with_file_name("pinion")),
        }
    }

    /// Writes the JSON file, if one is asked for: the circumstances, and `results` as they are.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(crate) fn write_json(
        &self,
        benchmark: &str,
        results: Vec<Value>,
    ) -> Result<(), HarnessError> {
        let Some(path) = &self.json else { return Ok(()) };
        let programs: Vec<Value> = self
            .caches()?
            .iter()
            .map(|cache| json!({"name": cache.name, "version": version(&cache.program)}))
            .collect();
        write_document(path, benchmark, json!(programs), results)
    }
}

/// Writes a file of results with its circumstances.
///
/// # Errors
///
/// If it cannot be written.
pub(crate) fn write_document(
    path: &Path,
    benchmark: &str,
    programs: Value,
    results: Vec<Value>,
) -> Result<(), HarnessError> {
    let document = json!({
        "benchmark": benchmark,
        "command": std::env::args().collect::<Vec<_>>(),
        "machine": {"kernel": proc::kernel_release(), "cpu": proc::cpu_model()},
        "programs": programs,
        "results": results,
    });
    std::fs::write(path, format!("{document:#}\n"))
        .map_err(|error| HarnessError::Io("write the JSON file", error))
}

impl Cache {
    /// Whether its limit counts whole mebibytes.
    pub(crate) fn limit_grain_bytes(&self) -> u64 {
        if self.kind == Kind::Memcached { 1 << 20 } else { 1 }
    }

    /// Starts it with a limit on memory.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub(crate) fn start(&self, memory_bytes: u64) -> Result<Running, HarnessError> {
        let protocol =
            if self.kind == Kind::Memcached { Protocol::Memcached } else { Protocol::Resp };
        let server = Server::start(&Launch {
            name: &self.name,
            program: &self.program,
            protocol,
            banner: None,
            cpu: Some(self.cpu),
            arguments: &|port, _| self.arguments(port, memory_bytes),
        })?;
        Ok(Running { name: self.name.clone(), server, protocol })
    }

    fn arguments(&self, port: u16, memory_bytes: u64) -> Vec<String> {
        match self.kind {
            Kind::Pinion => merge_arguments(
                [
                    ("--bind", "127.0.0.1".to_string()),
                    ("--port", port.to_string()),
                    ("--memcached-port", "0".to_string()),
                    ("--cores", self.cpu.to_string()),
                    ("--memory", memory_bytes.to_string()),
                ],
                &self.extra,
            ),
            Kind::Redis(policy) => {
                let mut arguments = words(&format!(
                    "--port {port} --bind 127.0.0.1 --appendonly no --io-threads 1 \
                     --maxmemory {memory_bytes} --maxmemory-policy {policy} --save"
                ));
                arguments.push(String::new());
                arguments
            }
            Kind::Memcached => words(&format!(
                "-p {port} -l 127.0.0.1 -U 0 -t 1 -c 1024 -m {} {}",
                memory_bytes >> 20,
                memcached_user()
            )),
        }
    }
}

impl Running {
    /// Another connection.
    ///
    /// # Errors
    ///
    /// If the server does not accept it.
    pub(crate) fn connect(&self) -> Result<Wire, HarnessError> {
        self.named(Wire::connect(self.server.address, self.protocol))
    }

    /// The address, for other clients.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.server.address
    }

    /// What it speaks.
    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Physical memory of the process in bytes.
    ///
    /// # Errors
    ///
    /// If the process is gone.
    pub(crate) fn resident_bytes(&self) -> Result<u64, HarnessError> {
        proc::resident_bytes(self.server.pid())
            .map_err(|error| HarnessError::Io("read a server's resident memory", error))
    }

    /// A client's result, with the server's name in its error.
    pub(crate) fn named<T>(&self, result: Result<T, ClientError>) -> Result<T, HarnessError> {
        result.map_err(|error| HarnessError::Client { name: self.name.clone(), error })
    }

    /// An error about what the server did.
    pub(crate) fn error(&self, text: String) -> HarnessError {
        HarnessError::Server { name: self.name.clone(), text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Wrapper {
        #[command(flatten)]
        caches: CacheOptions,
    }

    fn caches(arguments: &str) -> Result<Vec<Cache>, HarnessError> {
        let words = std::iter::once("test").chain(arguments.split_whitespace());
        Wrapper::try_parse_from(words).unwrap().caches.caches()
    }

    #[test]
    fn each_server_is_told_its_limit_in_its_own_words() {
        let all = "--servers pinion,redis,redis-lfu,memcached --pinion /x --server-cpu 3";
        let lines: Vec<String> = caches(all)
            .unwrap()
            .iter()
            .map(|cache| cache.arguments(7, 256 << 20).join(" "))
            .collect();
        assert!(lines[0].contains("--port 7") && lines[0].contains("--memory 268435456"));
        assert!(lines[0].contains("--cores 3"), "{lines:?}");
        assert!(lines[1].contains("--maxmemory 268435456 --maxmemory-policy allkeys-lru"));
        assert!(lines[2].contains("allkeys-lfu"), "{lines:?}");
        assert!(lines[3].contains("-m 256 "), "{lines:?}");
        let ours = caches("--servers pinion --pinion /x --pinion-args --memory=1GiB").unwrap();
        assert!(ours[0].arguments(7, 1).join(" ").ends_with("--cores 0 --memory=1GiB"));
        assert!(caches("--servers nginx").unwrap_err().to_string().contains("nginx"));
    }

    #[test]
    fn a_cpu_that_is_not_there_is_refused() {
        let words = ["test", "--servers", "redis", "--server-cpu", "9999"];
        let error = Wrapper::try_parse_from(words).unwrap().caches.prepare().unwrap_err();
        assert!(error.to_string().contains("CPU 9999"), "{error}");
    }
}
