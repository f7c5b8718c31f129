//! Starting a server from its options, and ending it: listeners, the core's thread, the control
//! thread.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pinion_engine::{EngineError, Shard, ShardConfig};
use pinion_ring::{DataRing, RingError, RingOptions};

use crate::clock::{self, Clock};
use crate::command::memcached::Credentials;
use crate::connection::Protocol;
use crate::control::{self, ServerFacts};
use crate::core::limits::DESCRIPTORS_RESERVED;
use crate::core::{
    self, Core, CoreHandle, CoreMessage, CoreOptions, Driver, GLOMMIO_LOCKED_BYTES_MIN, Inbox,
    ListenerKind,
};
use crate::memory::{CONNECTION_BYTES, Division, MEMORY_BYTES_MIN, Memory};
use crate::options::{MemcachedPort, Options, Size};
use crate::{host, listener, parameters, sys};

/// Connections allowed if neither the flag nor the limit on open files says less.
const CONNECTIONS_MAX_DEFAULT: u64 = 10_000;
/// By default idle connections take one part in this many of the memory at most.
const CONNECTIONS_ONE_IN: u64 = 10;
/// The least limit on the items' bytes.
const DATA_BYTES_MIN: u64 = 16 << 10;
/// The largest value that may be allowed.
const VALUE_BYTES_LIMIT: u64 = 512 << 20;

/// Why a server did not start, or stopped working, in one line that says what to do.
#[derive(Debug)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> StartError {
        StartError(format!("the core failed: {error}"))
    }
}

impl From<RingError> for StartError {
    fn from(error: RingError) -> StartError {
        StartError(error.to_string())
    }
}

impl From<EngineError> for StartError {
    fn from(error: EngineError) -> StartError {
        StartError(format!("the shard cannot be set up: {error}"))
    }
}

/// An address that the server listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// What is spoken there.
    pub protocol: Protocol,
    /// Where.
    pub address: SocketAddr,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Resp => "resp",
            Protocol::Memcached => "memcached",
        };
        write!(f, "{protocol} {}", self.address)
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<Address>,
    summary: String,
    handle: CoreHandle,
    core: JoinHandle<Result<(), StartError>>,
    control: JoinHandle<()>,
}

/// Ends a server from any thread.
#[derive(Clone, Debug)]
pub struct Stopper(CoreHandle);

impl Stopper {
    /// Asks the server to send what is ready and end. Returns at once.
    pub fn stop(&self) {
        self.0.tell(CoreMessage::Stop);
    }
}

/// What options and host come to.
struct Plan {
    cpu: usize,
    memory: Memory,
    connections_max: usize,
    shard: ShardConfig,
}

/// What a core tells when it is ready.
struct Ready {
    handle: CoreHandle,
    ring_features: String,
    numa_node: Option<usize>,
}

impl Server {
    /// Checks the options against the host, takes the ports, and starts the threads. When it
    /// returns, the server accepts connections.
    ///
    /// # Errors
    /// One line that names what is wrong and what to do.
    pub fn start(options: &Options) -> Result<Server, StartError> {
        sys::set_up_heap();
        let plan = Plan::new(options)?;
        let (sockets, addresses) = open_listeners(options)?;
        let (requests_in, requests) = channel();
        let (inbox, messages) = Inbox::new(requests_in);
        let (ready_in, ready) = channel();
        let port = port_of(&addresses, Protocol::Resp);
        let mut settings = parameters::settings(options, plan.connections_max, port);
        settings.memcached_users = memcached_users(options)?.map(Arc::new);
        let core_options = CoreOptions {
            connections_max: plan.connections_max,
            flush_after: options.flush_after as usize,
            settings,
            memory: plan.memory,
            listeners: addresses.iter().map(|address| ListenerKind(address.protocol)).collect(),
        };
        let setup = CoreSetup {
            options: options.clone(),
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
            .map_err(|error| StartError(format!("cannot start a thread: {error}")))?;
        let Ok(Ready { handle, ring_features, numa_node }) = ready.recv() else {
            // The core has ended before it was ready, and says why.
            return Err(join(core).err().unwrap_or_else(|| StartError("the core ended".into())));
        };
        let (huge_pages, numa) = (host::huge_pages(), numa_text(plan.shard.numa_node, numa_node));
        let summary = format!(
            "pinion {} on CPU {}, {} driver, idle {}, {} MiB (huge pages {huge_pages}, memory \
             node {numa}), io_uring with {ring_features}",
            env!("CARGO_PKG_VERSION"),
            plan.cpu,
            options.driver,
            options.idle,
            plan.memory.division().memory_bytes >> 20,
        );
        let facts = facts(options, &plan, &addresses, (ring_features, huge_pages, numa));
        let answers = handle.clone();
        let control = thread::Builder::new()
            .name("pinion-control".into())
            .spawn(move || control::serve(&requests, &answers, &facts))
            .map_err(|error| StartError(format!("cannot start a thread: {error}")))?;
        Ok(Server { addresses, summary, handle, core, control })
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

fn join(core: JoinHandle<Result<(), StartError>>) -> Result<(), StartError> {
    core.join().unwrap_or_else(|_| Err(StartError("the core panicked; see above".into())))
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
        let (driver, idle, cpu) = (self.options.driver, self.options.idle, self.cpu);
        core::run(driver, cpu, idle, host::is_exclusive(cpu), || self.make())
    }

    /// Makes the core; in its own thread, already pinned.
    fn make(self) -> Result<Core<DataRing>, StartError> {
        let clock = Clock::start();
        let mut shard = make_shard(&self.shard)?;
        shard.set_lease_timeout(self.options.lease_timeout.ms);
        if self.options.prefault {
            shard.prefault();
        }
        let ring_options = RingOptions { hide: self.options.ring_hide, ..RingOptions::default() };
        let mut ring = DataRing::new(&ring_options)?;
        for socket in self.sockets {
            ring.add_listener(socket);
        }
        let handle = CoreHandle::new(self.messages, ring.waker());
        // If nobody waits for this, the server is ending already.
        let (ring_features, numa_node) = (ring.features().to_string(), shard.numa_node());
        let _ = self.ready.send(Ready { handle, ring_features, numa_node });
        Ok(Core::new(ring, shard, clock, self.core_options, self.inbox))
    }
}

impl Plan {
    fn new(options: &Options) -> Result<Plan, StartError> {
        let cpu = choose_cpu(options)?;
        check_locked_memory(options.driver)?;
        let machine_bytes = host::memory_allowed_bytes();
        let wanted = options.memory.unwrap_or(Size((machine_bytes / 2).max(MEMORY_BYTES_MIN)));
        let connections_max = choose_connections(options, wanted)?;
        let division = Division::of(wanted.0, connections_max).map_err(|least_bytes| {
            let least = Size(least_bytes);
            StartError(format!(
                "--memory {wanted} is too little for {connections_max} connections: the least is \
                 {least}"
            ))
        })?;
        let memory = Memory::new(division, connections_max, machine_bytes);
        let value_max = options.value_max;
        if value_max.0 == 0 || value_max.0 > VALUE_BYTES_LIMIT {
            return Err(StartError(format!(
                "--value-max {value_max} is out of range: from 1 to 512MiB"
            )));
        }
        if let Some(limit) = options.data_limit.filter(|limit| limit.0 < DATA_BYTES_MIN) {
            return Err(StartError(format!(
                "--data-limit {limit} is too little: the least is 16KiB"
            )));
        }
        let shard = ShardConfig {
            hash_seed: random_seed(),
            limits: pinion_engine::Limits {
                total_bytes: division.items_bytes as usize,
                data: options.data_limit.map(|limit| limit.0),
            },
            eviction: options.eviction.policy(),
            reserve_bytes: Some(memory.reserve_bytes()),
            huge_pages: true,
            numa_node: host::memory_node(cpu),
            value_bytes_max: value_max.0 as usize,
            ..ShardConfig::default()
        };
        Ok(Plan { cpu, memory, connections_max, shard })
    }
}

/// A seed that clients cannot guess, from the standard library's own per-process secret.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(clock::unix_ms())
}

fn choose_cpu(options: &Options) -> Result<usize, StartError> {
    let allowed = host::allowed_cpus();
    let first = allowed.first().copied().ok_or_else(|| {
        StartError("cannot learn which CPUs this process may use (sched_getaffinity)".into())
    })?;
    let Some(wanted) = options.cores.as_ref().and_then(|list| list.0.first().copied()) else {
        return Ok(first);
    };
    if allowed.contains(&wanted) {
        return Ok(wanted);
    }
    Err(StartError(format!(
        "--cores {wanted}: this process may not run on CPU {wanted}; its CPUs are {allowed:?} \
         (change the list, or the affinity by taskset or cpuset)"
    )))
}

fn check_locked_memory(driver: Driver) -> Result<(), StartError> {
    let limit = sys::locked_memory_limit().unwrap_or(None);
    match limit {
        Some(bytes) if driver == Driver::Glommio && bytes < GLOMMIO_LOCKED_BYTES_MIN => {
            Err(StartError(format!(
                "the limit on locked memory is {} KiB and glommio needs 512 KiB: raise it \
                 ('ulimit -l', LimitMEMLOCK= in a systemd unit) or start with --driver bare",
                bytes >> 10
            )))
        }
        _ => Ok(()),
    }
}

/// How many connections are allowed: as many as are asked for, or else as the limit on open files
/// and one part in [`CONNECTIONS_ONE_IN`] of the memory have room for.
fn choose_connections(options: &Options, memory: Size) -> Result<usize, StartError> {
    let files = sys::raise_open_files()
        .map_err(|error| StartError(format!("cannot read the limit on open files: {error}")))?;
    let possible = files.saturating_sub(DESCRIPTORS_RESERVED);
    let wanted = match options.max_connections {
        Some(wanted) if u64::from(wanted) > possible => {
            return Err(StartError(format!(
                "--max-connections {wanted} needs {} open files and the hard limit is {files}: \
                 raise it ('ulimit -Hn', LimitNOFILE= in a systemd unit)",
                u64::from(wanted) + DESCRIPTORS_RESERVED
            )));
        }
        Some(0) => return Err(StartError("--max-connections must be at least 1".into())),
        Some(wanted) => u64::from(wanted),
        None => {
            let fitting = memory.0 / CONNECTIONS_ONE_IN / CONNECTION_BYTES;
            CONNECTIONS_MAX_DEFAULT.min(possible).min(fitting.max(1))
        }
    };
    if wanted == 0 {
        return Err(StartError(format!(
            "the limit on open files is {files}, which leaves none for connections: raise it \
             ('ulimit -n')"
        )));
    }
    Ok(wanted as usize)
}

fn open_listeners(options: &Options) -> Result<(Vec<OwnedFd>, Vec<Address>), StartError> {
    let mut wanted = vec![(Protocol::Resp, options.port, "--port")];
    match options.memcached_port {
        MemcachedPort::Off => {}
        MemcachedPort::Auto => wanted.push((Protocol::Memcached, 0, "--memcached-port")),
        MemcachedPort::Fixed(port) => {
            wanted.push((Protocol::Memcached, port, "--memcached-port"));
        }
    }
    let (mut sockets, mut addresses) = (Vec::new(), Vec::new());
    for (protocol, mut port, flag) in wanted {
        let before = addresses.len();
        for &ip in &options.bind {
            match listen_patiently(SocketAddr::new(ip, port)) {
                Ok((socket, address)) => {
                    // With port 0, all addresses get the port that the first one got.
                    port = address.port();
                    sockets.push(socket);
                    addresses.push(Address { protocol, address });
                }
                // A host without IPv6 is served on IPv4.
                Err(error) if listener::is_absent(&error, ip) && options.bind.len() > 1 => {
                    eprintln!("pinion: not listening on {ip}: {error}");
                }
                Err(error) => return Err(listen_error(&error, ip, port, flag)),
            }
        }
        if addresses.len() == before {
            return Err(StartError("none of the addresses of --bind can be listened on".into()));
        }
    }
    Ok((sockets, addresses))
}

/// Listens; while the port is taken, for as long as the kernel may need to take a dead process's
/// io_uring apart, which holds its sockets.
fn listen_patiently(address: SocketAddr) -> io::Result<(OwnedFd, SocketAddr)> {
    const STEP: Duration = Duration::from_millis(20);
    const STEPS: u32 = 50;
    for _ in 0..STEPS {
        match listener::listen(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => thread::sleep(STEP),
            outcome => return outcome,
        }
    }
    listener::listen(address)
}

fn listen_error(error: &io::Error, ip: IpAddr, port: u16, flag: &str) -> StartError {
    let address = SocketAddr::new(ip, port);
    StartError(match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "{address} is taken by another server: stop it, or choose another port with {flag}"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "no right to listen on {address}: choose a port above 1023 with {flag}, or grant \
             CAP_NET_BIND_SERVICE"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("{ip} is not an address of this host: choose others with --bind")
        }
        _ => format!("cannot listen on {address}: {error}"),
    })
}

/// The users of the memcached port, from the file that the options name.
fn memcached_users(options: &Options) -> Result<Option<Credentials>, StartError> {
    let Some(file) = &options.memcached_auth else { return Ok(None) };
    let wrong = |why: String| {
        StartError(format!(
            "--memcached-auth {}: {why}; write a line user:password",
            file.display()
        ))
    };
    let text = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    Credentials::parse(&text).map(Some).map_err(wrong)
}

fn port_of(addresses: &[Address], protocol: Protocol) -> u16 {
    let first = addresses.iter().find(|address| address.protocol == protocol);
    first.map_or(0, |address| address.address.port())
}

fn facts(
    options: &Options,
    plan: &Plan,
    addresses: &[Address],
    (ring_features, huge_pages, numa): (String, String, String),
) -> ServerFacts {
    ServerFacts {
        started_unix_ms: clock::unix_ms(),
        port: port_of(addresses, Protocol::Resp),
        memcached_port: port_of(addresses, Protocol::Memcached),
        huge_pages,
        numa,
        eviction: options.eviction.redis_name(),
        eviction_name: options.eviction.name(),
        connections_max: plan.connections_max,
        value_bytes_max: options.value_max.0 as usize,
        driver: options.driver.to_string(),
        idle: options.idle.to_string(),
        cpu: plan.cpu,
        ring_features,
        kernel: host::kernel_release(),
        executable: std::env::current_exe()
            .map_or_else(|_| String::new(), |path| path.display().to_string()),
        run_id: (0..3).map(|_| format!("{:016x}", random_seed())).collect::<String>()[..40]
            .to_owned(),
    }
}
