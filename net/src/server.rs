//! A server from its options to its end: the core's thread, the control thread, and what ends or
//! changes them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use pinion_engine::{EngineError, Shard, ShardConfig};
use pinion_ring::{DataRing, EpollSet, RingOptions, Waker};
use pinion_router::{CoreCount, CoreIndex};

use crate::clock::{self, Clock};
use crate::cluster::ClusterView;
use crate::command::Renames;
use crate::command::memcached::Credentials;
use crate::connection::Protocol;
use crate::control::{self, ServerFacts};
use crate::core::{
    self, Core, CoreHandle, CoreMessage, CoreOptions, Driver, Inbox, Lanes, Reload, Transport,
    join_cores,
};
use crate::listener::UnixPath;
use crate::options::Options;
use crate::start::listeners::Listeners;
use crate::start::network::{self, Chosen};
use crate::start::plan::{self, Plan, random_seed};
use crate::start::{Address, StartError};
use crate::{host, parameters, sys};

/// A running server.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<Address>,
    seed: Option<SocketAddr>,
    summary: String,
    handles: Vec<CoreHandle>,
    cores: Vec<JoinHandle<()>>,
    /// How each core has ended.
    ended: Receiver<Ended>,
    control: JoinHandle<()>,
    /// Removed when the server is.
    _paths: Vec<UnixPath>,
}

/// That a core has ended, and how. Nothing is how it ended that panicked.
#[derive(Debug)]
struct Ended {
    core: usize,
    outcome: Option<Result<(), StartError>>,
}

/// Tells of a core's end, however it ends.
struct Farewell {
    ended: Ended,
    to: Sender<Ended>,
}

impl Farewell {
    fn say(mut self, outcome: Result<(), StartError>) {
        self.ended.outcome = Some(outcome);
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        let ended = Ended { core: self.ended.core, outcome: self.ended.outcome.take() };
        // If nobody listens, the server was given up.
        let _ = self.to.send(ended);
    }
}

/// Ends or changes a server from any thread.
#[derive(Clone, Debug)]
pub struct Stopper(Vec<CoreHandle>);

impl Stopper {
    /// Asks the server to answer what has come, and end. Returns at once.
    pub fn stop(&self) {
        self.0.iter().for_each(|core| core.tell(CoreMessage::Stop));
    }

    /// Lets those of other options take effect that can: the password, the memory, the time that
    /// the end may take, and what clients may take. Returns at once, with the flags among
    /// `changes` that it takes a restart for. The file of memcached's users is read again, too.
    pub fn reload(&self, options: &Options, changes: &[String]) -> Vec<String> {
        let has = |name: &str| changes.iter().any(|change| change == name);
        let has_limits = LIMIT_FLAGS.iter().any(|name| has(name));
        let reload = Reload {
            password: has("requirepass").then(|| options.requirepass.clone().into_bytes()),
            memcached_users: memcached_users(options)
                .unwrap_or(None)
                .filter(|_| !has("memcached-auth"))
                .map(Arc::new),
            memory_bytes: options.memory.filter(|_| has("memory")).map(|memory| memory.0),
            limits: has_limits.then(|| parameters::limits(options)),
            drain_ms: has("drain").then_some(options.drain.ms),
        };
        for core in &self.0 {
            core.tell(CoreMessage::Reload(Box::new(reload.clone())));
        }
        let is_known = |name: &str| {
            LIMIT_FLAGS.contains(&name)
                || ["requirepass", "drain", "log-format"].contains(&name)
                || (name == "memory" && options.memory.is_some())
        };
        changes.iter().filter(|name| !is_known(name)).cloned().collect()
    }
}

/// Flags of what clients may take.
const LIMIT_FLAGS: [&str; 8] = [
    "accept-rate",
    "timeout",
    "args-max",
    "request-max",
    "input-max",
    "output-max",
    "pipeline-max",
    "request-age",
];

/// What a core tells when it is ready.
struct Ready {
    core: usize,
    handle: CoreHandle,
    ring_features: String,
    numa_node: Option<usize>,
}

/// Checks the options against the host as [`Server::start`] does, and opens nothing.
///
/// # Errors
/// One line that names what is wrong and what to do.
pub fn check(options: &Options) -> Result<(), StartError> {
    let plan = Plan::new(options, network::choose(options)?)?;
    let cores = CoreCount::new(plan.cpus.len());
    plan::cluster_of(options, cores.map_err(|error| StartError::new(error.to_string()))?)?;
    memcached_users(options)?;
    renames(options).map(|_| ())
}

/// The users of the memcached port, from the file that the options name.
fn memcached_users(options: &Options) -> Result<Option<Credentials>, StartError> {
    let Some(file) = &options.memcached_auth else { return Ok(None) };
    let wrong = |why: String| {
        StartError::new(format!(
            "--memcached-auth {}: {why}; write a line user:password",
            file.display()
        ))
    };
    let text = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    Credentials::parse(&text).map(Some).map_err(wrong)
}

fn renames(options: &Options) -> Result<Renames, StartError> {
    Renames::new(&options.rename_command)
        .map_err(|why| StartError::new(format!("--rename-command {why}")))
}

impl Server {
    /// Checks the options against the host, takes the ports, and starts the threads. When it
    /// returns, the server accepts connections.
    ///
    /// # Errors
    /// One line that names what is wrong and what to do.
    pub fn start(options: &Options) -> Result<Server, StartError> {
        sys::set_up_heap();
        let network = network::choose(options)?;
        let plan = Plan::new(options, network)?;
        let renames = renames(options)?;
        let count = plan.cpus.len();
        let core_count =
            CoreCount::new(count).map_err(|error| StartError::new(error.to_string()))?;
        let cluster = plan::cluster_of(options, core_count)?;
        let listeners = Listeners::open(options, core_count)?;
        let clock = Clock::start();
        let (requests_in, requests) = channel();
        let (ready_in, ready) = channel();
        let (ended_in, ended) = channel();
        let port = listeners.port_of(Protocol::Resp);
        let mut settings = parameters::settings(options, plan.connections_max, port, renames);
        settings.memcached_users = memcached_users(options)?.map(Arc::new);
        settings.cores = count as u16;
        let core_options = CoreOptions {
            connections_max: plan.connections_max,
            flush_after: options.flush_after as usize,
            settings,
            memory: plan.memory,
            drain_ms: options.drain.ms,
            listeners: listeners.kinds.clone(),
        };
        let facts = facts(options, &plan, &listeners, network);
        let seed = cluster.as_ref().and_then(|view| seed_of(view, &listeners.addresses));
        let Listeners { sockets, early, addresses, paths, .. } = listeners;
        let mut cores = Vec::with_capacity(count);
        let sockets = sockets.into_iter().zip(early);
        let with_lanes = join_cores(core_count).into_iter().zip(sockets).zip(&plan.cpus);
        for (core, ((lanes, (sockets, early)), &cpu)) in with_lanes.enumerate() {
            let (inbox, messages) = Inbox::new(requests_in.clone(), core);
            let mut core_options = core_options.clone();
            core_options.settings.core = core as u16;
            let view = cluster.as_ref().map(|view| view.of(CoreIndex::new(core as u16)));
            core_options.settings.cluster = view.map(Arc::new);
            let setup = CoreSetup {
                core,
                options: options.clone(),
                network,
                driver: plan.driver,
                cpu,
                shard: ShardConfig { numa_node: host::memory_node(cpu), ..plan.shard },
                core_options,
                sockets,
                early,
                lanes,
                clock,
                inbox,
                messages,
                ready: ready_in.clone(),
            };
            let farewell = Farewell { ended: Ended { core, outcome: None }, to: ended_in.clone() };
            let thread = thread::Builder::new()
                .name(format!("pinion-core-{core}"))
                .spawn(move || farewell.say(setup.run()))
                .map_err(thread_error)?;
            cores.push(thread);
        }
        // What is left of these is the cores' own, so that their end is seen.
        drop((requests_in, ready_in, ended_in));
        let mut all: Vec<Option<Ready>> = (0..count).map(|_| None).collect();
        for _ in 0..count {
            let Ok(one) = ready.recv() else {
                return Err(first_failure(&ended));
            };
            let core = one.core;
            all[core] = Some(one);
        }
        let all: Vec<Ready> = all.into_iter().flatten().collect();
        let handles: Vec<CoreHandle> = all.iter().map(|one| one.handle.clone()).collect();
        let numa = all
            .iter()
            .zip(&plan.cpus)
            .map(|(one, &cpu)| numa_text(host::memory_node(cpu), one.numa_node));
        let mut numa: Vec<String> = numa.collect();
        numa.dedup();
        let ring_features = all.first().map_or_else(String::new, |one| one.ring_features.clone());
        let facts = ServerFacts { ring_features, numa: numa.join(","), ..facts };
        let summary = summary(options, &plan, &facts);
        let answers = handles.clone();
        let control = thread::Builder::new()
            .name("pinion-control".into())
            .spawn(move || control::serve(&requests, &answers, &facts))
            .map_err(thread_error)?;
        Ok(Server { addresses, seed, summary, handles, cores, ended, control, _paths: paths })
    }

    /// Where the server listens.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The core port at which clients of clusters begin, if there are core ports.
    pub fn seed(&self) -> Option<SocketAddr> {
        self.seed
    }

    /// One line about how the server runs.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// What ends the server.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.handles.clone())
    }

    /// Waits until the server has ended.
    ///
    /// # Errors
    /// If it did not end because it was told to. One core that fails is enough: others would wait
    /// for it. Then their threads still run, and the process is to end.
    pub fn wait(self) -> Result<(), StartError> {
        for _ in 0..self.cores.len() {
            match self.ended.recv() {
                Ok(Ended { outcome: Some(Ok(())), .. }) => {}
                Ok(ended) => return Err(failure(ended)),
                Err(_) => break,
            }
        }
        for core in self.cores {
            let _ = core.join();
        }
        // The cores' ends of the questions are gone now, which ends the control thread.
        let _ = self.control.join();
        Ok(())
    }
}

/// Why a core has ended that was not told to.
fn failure(ended: Ended) -> StartError {
    let core = ended.core;
    match ended.outcome {
        Some(Err(error)) => error,
        Some(Ok(())) => StartError::new(format!("core {core} has ended before it was ready")),
        None => StartError::new(format!("core {core} panicked; see above")),
    }
}

/// Why the cores cannot start.
fn first_failure(ended: &Receiver<Ended>) -> StartError {
    let failed = |ended: &Ended| !matches!(ended.outcome, Some(Ok(())));
    let ended = ended.iter().find(failed);
    ended.map_or_else(|| StartError::new("the cores ended"), failure)
}

fn thread_error(error: std::io::Error) -> StartError {
    StartError::new(format!(
        "cannot start a thread: {error}; raise the limit on processes ('ulimit -u', pids.max of \
         the cgroup, TasksMax= in a systemd unit)"
    ))
}

/// The first core's port, at an address of this host that can be connected to.
fn seed_of(view: &ClusterView, addresses: &[Address]) -> Option<SocketAddr> {
    let port = view.port_of(CoreIndex::new(0));
    let mut seed = addresses
        .iter()
        .filter(|address| address.core.is_some())
        .filter_map(Address::tcp)
        .find(|address| address.port() == port)?;
    if seed.ip().is_unspecified() {
        seed.set_ip(match seed {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Some(seed)
}

fn summary(options: &Options, plan: &Plan, facts: &ServerFacts) -> String {
    let network = match facts.ring_features.as_str() {
        "" => facts.network.to_owned(),
        features => format!("{} with {features}", facts.network),
    };
    format!(
        "pinion {} on CPU {}, {} driver, idle {}, {} MiB (huge pages {}, memory node {}), \
         {network}",
        env!("CARGO_PKG_VERSION"),
        cpus_text(&plan.cpus),
        plan.driver,
        options.idle,
        plan.memory.division().whole_bytes >> 20,
        facts.huge_pages,
        facts.numa,
    )
}

/// CPUs for people: `0,1`, or how many there are.
fn cpus_text(cpus: &[usize]) -> String {
    match cpus.len() {
        0..=16 => cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(","),
        many => format!("{}..{} ({many} cores)", cpus[0], cpus[many - 1]),
    }
}

/// Makes a shard, with address space for every limit that may be set later, or if the kernel does
/// not reserve as much, for the one that it begins with.
fn make_shard(config: &ShardConfig, options: &CoreOptions) -> Result<Shard, EngineError> {
    match Shard::new(config) {
        Err(EngineError::Reserve { .. }) => {
            let whole_bytes = options.memory.division().whole_bytes;
            options.settings.memory_bytes_max.fetch_min(whole_bytes, Ordering::Relaxed);
            Shard::new(&ShardConfig { reserve_bytes: None, ..*config })
        }
        outcome => outcome,
    }
}

/// Where items live, for people.
fn numa_text(wanted: Option<usize>, granted: Option<usize>) -> String {
    match (wanted, granted) {
        (None, _) => "only".to_owned(),
        (Some(node), Some(_)) => node.to_string(),
        (Some(node), None) => format!("left to the kernel, which refused {node}"),
    }
}

/// What the core's thread takes along.
struct CoreSetup {
    core: usize,
    options: Options,
    network: Chosen,
    driver: Driver,
    cpu: usize,
    shard: ShardConfig,
    core_options: CoreOptions,
    sockets: Vec<OwnedFd>,
    early: Vec<(u32, OwnedFd)>,
    lanes: Lanes,
    /// The same for all cores, so that their times can be compared.
    clock: Clock,
    inbox: Inbox,
    messages: Sender<CoreMessage>,
    ready: Sender<Ready>,
}

impl CoreSetup {
    fn run(self) -> Result<(), StartError> {
        sys::block_signals();
        let (driver, idle, cpu) = (self.driver, self.options.idle, self.cpu);
        let is_exclusive = host::is_exclusive(cpu);
        match self.network {
            Chosen::IoUring => core::run(driver, cpu, idle, is_exclusive, || self.make_ring()),
            Chosen::Epoll => core::run_bare(cpu, idle, is_exclusive, || self.make_epoll()),
        }
    }

    fn make_ring(mut self) -> Result<Core<DataRing>, StartError> {
        let ring_options = RingOptions { hide: self.options.ring_hide, ..RingOptions::default() };
        let mut ring = DataRing::new(&ring_options)?;
        for socket in self.sockets.drain(..) {
            ring.add_listener(socket);
        }
        let (waker, features) = (ring.waker(), ring.features().to_string());
        self.make(ring, waker, features)
    }

    fn make_epoll(mut self) -> Result<Core<EpollSet>, StartError> {
        let mut set = EpollSet::new()?;
        for socket in self.sockets.drain(..) {
            set.add_listener(socket)?;
        }
        let waker = set.waker();
        self.make(set, waker, String::new())
    }

    /// Makes the core; in its own thread, already pinned.
    fn make<T: Transport>(
        self,
        transport: T,
        waker: Waker,
        ring_features: String,
    ) -> Result<Core<T>, StartError> {
        let clock = self.clock;
        let mut shard = make_shard(&self.shard, &self.core_options)?;
        shard.set_lease_timeout(self.options.lease_timeout.ms);
        if self.options.prefault {
            shard.prefault();
        }
        self.lanes.set_waker(waker.clone());
        let handle = CoreHandle::new(self.messages, waker);
        let numa_node = shard.numa_node();
        // If nobody waits for this, the server is ending already.
        let _ = self.ready.send(Ready { core: self.core, handle, ring_features, numa_node });
        let mut core = Core::new(transport, shard, clock, self.core_options, self.inbox);
        core.join(self.lanes);
        for (listener, socket) in self.early {
            core.adopt(listener, socket);
        }
        Ok(core)
    }
}

fn facts(options: &Options, plan: &Plan, listeners: &Listeners, network: Chosen) -> ServerFacts {
    ServerFacts {
        started_unix_ms: clock::unix_ms(),
        port: listeners.port_of(Protocol::Resp),
        is_core_port: false,
        memcached_port: listeners.port_of(Protocol::Memcached),
        huge_pages: host::huge_pages(),
        numa: String::new(),
        eviction: options.eviction.redis_name(),
        eviction_name: options.eviction.name(),
        connections_max: plan.connections_max,
        value_bytes_max: options.value_max.0 as usize,
        driver: plan.driver.to_string(),
        idle: options.idle.to_string(),
        cpus: plan.cpus.clone(),
        network: network.name(),
        config_file: options
            .config
            .as_ref()
            .map_or_else(String::new, |path| path.display().to_string()),
        ring_features: String::new(),
        kernel: host::kernel_release(),
        executable: std::env::current_exe()
            .map_or_else(|_| String::new(), |path| path.display().to_string()),
        run_id: (0..3).map(|_| format!("{:016x}", random_seed())).collect::<String>()[..40]
            .to_owned(),
    }
}
