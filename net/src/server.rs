//! A server from its options to its end: the core's thread, the control thread, and what ends or
//! changes them.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use pinion_engine::{EngineError, Shard, ShardConfig};
use pinion_ring::{DataRing, EpollSet, RingOptions, Waker};

use crate::clock::{self, Clock};
use crate::command::Renames;
use crate::command::memcached::Credentials;
use crate::connection::Protocol;
use crate::control::{self, ServerFacts};
use crate::core::{
    self, Core, CoreHandle, CoreMessage, CoreOptions, Driver, Inbox, ListenerKind, Reload,
    Transport,
};
use crate::listener::UnixPath;
use crate::options::Options;
use crate::start::listeners::Listeners;
use crate::start::network::{self, Chosen};
use crate::start::plan::{Plan, random_seed};
use crate::start::{Address, StartError};
use crate::{host, parameters, sys};

/// A running server.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<Address>,
    summary: String,
    handle: CoreHandle,
    core: JoinHandle<Result<(), StartError>>,
    control: JoinHandle<()>,
    /// Removed when the server is.
    _paths: Vec<UnixPath>,
}

/// Ends or changes a server from any thread.
#[derive(Clone, Debug)]
pub struct Stopper(CoreHandle);

impl Stopper {
    /// Asks the server to answer what has come, and end. Returns at once.
    pub fn stop(&self) {
        self.0.tell(CoreMessage::Stop);
    }

    /// Lets those of other options take effect that can: the password, the memory, the time that
    /// the end may take, and what clients may take. Returns at once, with the flags among
    /// `changes` that it takes a restart for. The file of memcached's users is read again, too.
    pub fn reload(&self, options: &Options, changes: &[String]) -> Vec<String> {
        let has = |name: &str| changes.iter().any(|change| change == name);
        let has_limits = LIMIT_FLAGS.iter().any(|name| has(name));
        self.0.tell(CoreMessage::Reload(Box::new(Reload {
            password: has("requirepass").then(|| options.requirepass.clone().into_bytes()),
            memcached_users: memcached_users(options)
                .unwrap_or(None)
                .filter(|_| !has("memcached-auth"))
                .map(Arc::new),
            memory_bytes: options.memory.filter(|_| has("memory")).map(|memory| memory.0),
            limits: has_limits.then(|| parameters::limits(options)),
            drain_ms: has("drain").then_some(options.drain.ms),
        })));
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
    handle: CoreHandle,
    ring_features: String,
    numa_node: Option<usize>,
}

/// Checks the options against the host as [`Server::start`] does, and opens nothing.
///
/// # Errors
/// One line that names what is wrong and what to do.
pub fn check(options: &Options) -> Result<(), StartError> {
    Plan::new(options, network::choose(options)?)?;
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
        let listeners = Listeners::open(options)?;
        let (requests_in, requests) = channel();
        let (inbox, messages) = Inbox::new(requests_in);
        let (ready_in, ready) = channel();
        let port = listeners.port_of(Protocol::Resp);
        let mut settings = parameters::settings(options, plan.connections_max, port, renames);
        settings.memcached_users = memcached_users(options)?.map(Arc::new);
        let kinds = listeners.addresses.iter().map(|address| ListenerKind(address.protocol));
        let core_options = CoreOptions {
            connections_max: plan.connections_max,
            flush_after: options.flush_after as usize,
            settings,
            memory: plan.memory,
            drain_ms: options.drain.ms,
            listeners: kinds.collect(),
        };
        let facts = facts(options, &plan, &listeners, network);
        let Listeners { sockets, addresses, paths } = listeners;
        let setup = CoreSetup {
            options: options.clone(),
            network,
            driver: plan.driver,
            cpu: plan.cpu,
            shard: plan.shard,
            core_options,
            sockets,
            inbox,
            messages,
            ready: ready_in,
        };
        let core = thread::Builder::new()
            .name("pinion-core-0".into())
            .spawn(move || setup.run())
            .map_err(thread_error)?;
        let Ok(Ready { handle, ring_features, numa_node }) = ready.recv() else {
            // The core has ended before it was ready, and says why.
            return Err(join(core).err().unwrap_or_else(|| StartError::new("the core ended")));
        };
        let numa = numa_text(plan.shard.numa_node, numa_node);
        let facts = ServerFacts { ring_features, numa, ..facts };
        let summary = summary(options, &plan, &facts);
        let answers = handle.clone();
        let control = thread::Builder::new()
            .name("pinion-control".into())
            .spawn(move || control::serve(&requests, &answers, &facts))
            .map_err(thread_error)?;
        Ok(Server { addresses, summary, handle, core, control, _paths: paths })
    }

    /// Where the server listens.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// One line about how the server runs.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// What ends the server.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.handle.clone())
    }

    /// Waits until the server has ended.
    ///
    /// # Errors
    /// If it did not end because it was told to.
    pub fn wait(self) -> Result<(), StartError> {
        let outcome = join(self.core);
        // The core's end of the questions is gone now, which ends the control thread.
        let _ = self.control.join();
        outcome
    }
}

fn thread_error(error: std::io::Error) -> StartError {
    StartError::new(format!(
        "cannot start a thread: {error}; raise the limit on processes ('ulimit -u', pids.max of \
         the cgroup, TasksMax= in a systemd unit)"
    ))
}

fn join(core: JoinHandle<Result<(), StartError>>) -> Result<(), StartError> {
    core.join().unwrap_or_else(|_| Err(StartError::new("the core panicked; see above")))
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
        plan.cpu,
        plan.driver,
        options.idle,
        plan.memory.division().memory_bytes >> 20,
        facts.huge_pages,
        facts.numa,
    )
}

/// Makes a shard, with address space for every limit that may be set later, or if the kernel does
/// not reserve as much, for the one that it begins with.
fn make_shard(config: &ShardConfig) -> Result<Shard, EngineError> {
    match Shard::new(config) {
        Err(EngineError::Reserve { .. }) => {
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
    options: Options,
    network: Chosen,
    driver: Driver,
    cpu: usize,
    shard: ShardConfig,
    core_options: CoreOptions,
    sockets: Vec<OwnedFd>,
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
        let clock = Clock::start();
        let mut shard = make_shard(&self.shard)?;
        shard.set_lease_timeout(self.options.lease_timeout.ms);
        if self.options.prefault {
            shard.prefault();
        }
        let handle = CoreHandle::new(self.messages, waker);
        let numa_node = shard.numa_node();
        // If nobody waits for this, the server is ending already.
        let _ = self.ready.send(Ready { handle, ring_features, numa_node });
        Ok(Core::new(transport, shard, clock, self.core_options, self.inbox))
    }
}

fn facts(options: &Options, plan: &Plan, listeners: &Listeners, network: Chosen) -> ServerFacts {
    ServerFacts {
        started_unix_ms: clock::unix_ms(),
        port: listeners.port_of(Protocol::Resp),
        memcached_port: listeners.port_of(Protocol::Memcached),
        huge_pages: host::huge_pages(),
        numa: String::new(),
        eviction: options.eviction.redis_name(),
        eviction_name: options.eviction.name(),
        connections_max: plan.connections_max,
        value_bytes_max: options.value_max.0 as usize,
        driver: plan.driver.to_string(),
        idle: options.idle.to_string(),
        cpu: plan.cpu,
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
