//! Options against the host: which CPU, how many connections, how much memory; and who may reach
//! the server.

use std::net::IpAddr;

use pinion_engine::ShardConfig;
use pinion_router::CoreCount;

use super::StartError;
use super::network::Chosen;
use crate::clock;
use crate::cluster::ClusterView;
use crate::core::limits::{DESCRIPTORS_RESERVED, INLINE_BYTES_MAX, OUTPUT_BYTES_LOW};
use crate::core::{Driver, GLOMMIO_LOCKED_BYTES_MIN, IdleMode};
use crate::log::{self, Level, Line};
use crate::memory::{
    BUFFERS_BYTES_MIN, CONNECTION_BYTES, Division, MEMORY_BYTES_MIN, Memory, Wanted,
};
use crate::options::{MemcachedPort, Options, Size};
use crate::{host, sys};

/// Connections allowed if neither the flag nor the limit on open files says less.
const CONNECTIONS_MAX_DEFAULT: u64 = 10_000;
/// By default idle connections take one part in this many of the memory at most.
const CONNECTIONS_ONE_IN: u64 = 10;
/// The least limit on the items' bytes.
const DATA_BYTES_MIN: u64 = 16 << 10;
/// The largest value that may be allowed.
const VALUE_BYTES_LIMIT: u64 = 512 << 20;
/// The longest request that may be allowed.
const REQUEST_BYTES_LIMIT: u64 = 1 << 30;
/// What a request may hold beside its largest value.
const REQUEST_HEAD_BYTES: u64 = INLINE_BYTES_MAX as u64 * 2;
/// The oldest kernel that is supported.
const KERNEL_OLDEST: (u32, u32) = (6, 1);

/// What options and host come to.
pub(crate) struct Plan {
    /// The CPU of each core.
    pub(crate) cpus: Vec<usize>,
    pub(crate) driver: Driver,
    pub(crate) memory: Memory,
    pub(crate) connections_max: usize,
    pub(crate) shard: ShardConfig,
}

impl Plan {
    /// Checks and chooses; opens nothing.
    pub(crate) fn new(options: &Options, network: Chosen) -> Result<Plan, StartError> {
        check_exposure(options)?;
        check_kernel();
        let cpus = choose_cpus(options)?;
        check_quota(options.idle);
        let driver = choose_driver(options, network)?;
        let machine_bytes = host::memory_allowed_bytes();
        let wanted = options.memory.unwrap_or(Size((machine_bytes / 2).max(MEMORY_BYTES_MIN)));
        if wanted.0 > machine_bytes && machine_bytes > 0 {
            return Err(StartError::new(format!(
                "--memory {wanted} is more than the {} MiB that the machine or its cgroup allows, \
                 and the kernel would kill the process as it fills: lower it, or raise memory.max",
                machine_bytes >> 20
            )));
        }
        let connections_max = choose_connections(options, wanted)?;
        let cores = cpus.len();
        let buffers_bytes = options.buffers.map(|size| size.0);
        let shares = Wanted { connections_max, buffers_bytes, cores };
        let division = divide(wanted, shares)?;
        check_sizes(options)?;
        let memory = Memory::new(division, shares, machine_bytes);
        let shard = ShardConfig {
            hash_seed: random_seed(),
            limits: pinion_engine::Limits {
                total_bytes: division.items_bytes as usize,
                data: options.data_limit.map(|limit| limit.0 / cores as u64),
            },
            eviction: options.eviction.policy(),
            reserve_bytes: Some(memory.reserve_bytes()),
            huge_pages: true,
            // That of each core is set when its shard is made.
            numa_node: None,
            key_bytes_max: options.key_max as usize,
            value_bytes_max: options.value_max.0 as usize,
            ..ShardConfig::default()
        };
        Ok(Plan { cpus, driver, memory, connections_max, shard })
    }
}

/// Divides the memory, or says what is wrong with `--memory` or `--buffers`.
fn divide(memory: Size, shares: Wanted) -> Result<Division, StartError> {
    let buffers = shares.buffers_bytes.map(Size);
    if let Some(buffers) = buffers.filter(|buffers| buffers.0 < BUFFERS_BYTES_MIN) {
        return Err(StartError::new(format!(
            "--buffers {buffers} is too little: the least is {}",
            Size(BUFFERS_BYTES_MIN)
        )));
    }
    Division::of(memory.0, shares).map_err(|least_bytes| {
        let (connections, least) = (shares.connections_max, Size(least_bytes));
        let buffers = buffers.map_or_else(String::new, |size| format!(" and --buffers {size}"));
        StartError::new(format!(
            "--memory {memory} is too little for {connections} connections{buffers}: the least is \
             {least}"
        ))
    })
}

/// The cluster that core ports are nodes of, as its first core sees it; none without core ports.
pub(crate) fn cluster_of(
    options: &Options,
    cores: CoreCount,
) -> Result<Option<ClusterView>, StartError> {
    let first = options.core_ports;
    if first == 0 {
        return Ok(None);
    }
    let mut view = ClusterView::new(cores, first, options.announce.clone(), &host::name())
        .map_err(|why| StartError::new(format!("--core-ports {first}: {why}")))?;
    let last = u32::from(first) + u32::from(cores.count()) - 1;
    let memcached = match options.memcached_port {
        MemcachedPort::Fixed(port) => port,
        MemcachedPort::Off | MemcachedPort::Auto => 0,
    };
    for (flag, port) in [("--port", options.port), ("--memcached-port", memcached)] {
        if port != 0 && (u32::from(first)..=last).contains(&u32::from(port)) {
            return Err(StartError::new(format!(
                "--core-ports {first} takes the ports {first} to {last} for {cores} cores, and \
                 {flag} {port} is one of them: choose others"
            )));
        }
    }
    view.redirects = options.redirect.0;
    Ok(Some(view))
}

/// A seed that clients cannot guess, from the standard library's own per-process secret.
pub(crate) fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(clock::unix_ms())
}

/// Whether the options let others than this host in without asking who they are.
pub(crate) fn is_exposed(options: &Options) -> bool {
    let is_loopback = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(ip.is_loopback(), |ip| ip.is_loopback()),
    };
    options.protected_mode.0 && !options.bind.iter().all(is_loopback)
}

fn check_exposure(options: &Options) -> Result<(), StartError> {
    if !is_exposed(options) || !options.requirepass.is_empty() {
        return Ok(());
    }
    let bind: Vec<String> = options.bind.iter().map(IpAddr::to_string).collect();
    Err(StartError::new(format!(
        "--bind {} lets everybody who reaches this host read and write without a password: set \
         one with --requirepass, or say --protected-mode no if the network can be trusted",
        bind.join(",")
    )))
}

fn check_kernel() {
    let release = host::kernel_release();
    let mut numbers = release.split('.').map(|part| part.parse::<u32>().ok());
    let (Some(Some(major)), Some(Some(minor))) = (numbers.next(), numbers.next()) else { return };
    if (major, minor) < KERNEL_OLDEST {
        let text = "this kernel is older than Linux 6.1, the oldest that is supported";
        log::write(&Line::new(Level::Warn, "old-kernel", text).with("kernel", release));
    }
}

/// Says what a quota does to latency.
fn check_quota(idle: IdleMode) {
    let Some(percent) = host::cpu_quota_percent().filter(|&percent| percent < 100) else { return };
    let text = "the CPU quota of this cgroup is less than the one CPU that a core uses when it is \
                busy: requests will wait while it is throttled; raise cpu.max";
    log::write(&Line::new(Level::Warn, "cpu-quota", text).with("percent", percent));
    if matches!(idle, IdleMode::Poll | IdleMode::Spin(_)) {
        let text = "waiting by spinning uses the CPU quota up; take --idle auto";
        log::write(&Line::new(Level::Warn, "cpu-quota", text).with("idle", idle));
    }
}

/// The CPU of each core: those that the flag names, in its order; for `all` one of each physical
/// core that the process may use, and no more than the CPU quota of its cgroup pays for; without
/// the flag the first. A CPU that is named twice has two cores, which take turns.
fn choose_cpus(options: &Options) -> Result<Vec<usize>, StartError> {
    let allowed = host::allowed_cpus();
    if allowed.is_empty() {
        return Err(StartError::new(
            "cannot learn which CPUs this process may use (sched_getaffinity)",
        ));
    }
    let Some(wanted) = &options.cores else {
        return Ok(allowed[..1].to_vec());
    };
    if wanted.0.is_empty() {
        let mut cpus = host::one_of_each_core(&allowed);
        if let Some(percent) = host::cpu_quota_percent() {
            cpus.truncate((percent.div_ceil(100) as usize).max(1));
        }
        return Ok(cpus);
    }
    for &cpu in &wanted.0 {
        if !allowed.contains(&cpu) {
            return Err(StartError::new(format!(
                "--cores {cpu}: this process may not run on CPU {cpu}; its CPUs are {allowed:?} \
                 (change the list, or the affinity by taskset or cpuset)"
            )));
        }
    }
    Ok(wanted.0.clone())
}

/// glommio, unless it cannot run here: it needs io_uring and some locked memory.
fn choose_driver(options: &Options, network: Chosen) -> Result<Driver, StartError> {
    let wanted = options.driver;
    if network == Chosen::Epoll {
        return match wanted {
            Some(Driver::Glommio) => Err(StartError::new(
                "--driver glommio needs io_uring, which is not used here: take --driver bare",
            )),
            _ => Ok(Driver::Bare),
        };
    }
    if wanted == Some(Driver::Bare) {
        return Ok(Driver::Bare);
    }
    let limit = sys::raise_locked_memory().unwrap_or(None);
    let Some(bytes) = limit.filter(|&bytes| bytes < GLOMMIO_LOCKED_BYTES_MIN) else {
        return Ok(Driver::Glommio);
    };
    let text = format!(
        "the limit on locked memory is {} KiB and glommio needs 512 KiB: raise it ('ulimit -l', \
         LimitMEMLOCK= in a systemd unit)",
        bytes >> 10
    );
    if wanted.is_some() {
        return Err(StartError::new(format!("{text} or start with --driver bare")));
    }
    log::write(&Line::new(Level::Warn, "bare-driver", format!("{text}; a bare thread serves")));
    Ok(Driver::Bare)
}

/// How many connections are allowed: as many as are asked for, or else as the limit on open files
/// and one part in [`CONNECTIONS_ONE_IN`] of the memory have room for.
fn choose_connections(options: &Options, memory: Size) -> Result<usize, StartError> {
    let files = sys::raise_open_files().map_err(|error| {
        StartError::new(format!("cannot read the limit on open files: {error}"))
    })?;
    let possible = files.saturating_sub(DESCRIPTORS_RESERVED);
    let wanted = match options.max_connections {
        Some(wanted) if u64::from(wanted) > possible => {
            return Err(StartError::new(format!(
                "--max-connections {wanted} needs {} open files and the hard limit is {files}: \
                 raise it ('ulimit -Hn', LimitNOFILE= in a systemd unit)",
                u64::from(wanted) + DESCRIPTORS_RESERVED
            )));
        }
        Some(0) => return Err(StartError::new("--max-connections must be at least 1")),
        Some(wanted) => u64::from(wanted),
        None => {
            let fitting = memory.0 / CONNECTIONS_ONE_IN / CONNECTION_BYTES;
            let wanted = CONNECTIONS_MAX_DEFAULT.min(fitting.max(1));
            if possible > 0 && possible < wanted {
                let text = "the limit on open files allows fewer connections than are usual: \
                            raise it ('ulimit -Hn', LimitNOFILE= in a systemd unit)";
                let line = Line::new(Level::Warn, "open-files", text);
                log::write(&line.with("limit", files).with("connections", possible));
            }
            wanted.min(possible)
        }
    };
    if wanted == 0 {
        return Err(StartError::new(format!(
            "the limit on open files is {files}, which leaves none for connections: raise it \
             ('ulimit -n')"
        )));
    }
    Ok(wanted as usize)
}

fn check_sizes(options: &Options) -> Result<(), StartError> {
    let value_max = options.value_max;
    if value_max.0 == 0 || value_max.0 > VALUE_BYTES_LIMIT {
        return Err(StartError::new(format!(
            "--value-max {value_max} is out of range: from 1 to 512MiB"
        )));
    }
    if let Some(limit) = options.data_limit.filter(|limit| limit.0 < DATA_BYTES_MIN) {
        return Err(StartError::new(format!(
            "--data-limit {limit} is too little: the least is 16KiB"
        )));
    }
    let least = value_max.0 + REQUEST_HEAD_BYTES;
    for (flag, limit) in
        [("--request-max", options.request_max), ("--input-max", options.input_max)]
    {
        if let Some(limit) = limit.filter(|limit| !(least..=REQUEST_BYTES_LIMIT).contains(&limit.0))
        {
            return Err(StartError::new(format!(
                "{flag} {limit} is out of range: a value of --value-max {value_max} has to fit, \
                 so from {} to 1GiB",
                Size(least)
            )));
        }
    }
    let output_max = options.output_max;
    if !((OUTPUT_BYTES_LOW as u64) < output_max.0 && output_max.0 <= 64 << 20) {
        return Err(StartError::new(format!(
            "--output-max {output_max} is out of range: above 64KiB, and 64MiB at most"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn options(flags: &[&str]) -> Options {
        let all = ["pinion"].iter().chain(flags);
        Options::try_parse_from(all).expect("right")
    }

    #[test]
    fn without_a_password_loopback_alone_is_listened_on() {
        for bind in ["127.0.0.1", "::1", "127.9.9.9,::1", "::ffff:127.0.0.1"] {
            assert!(check_exposure(&options(&["--bind", bind])).is_ok(), "{bind}");
        }
        for bind in ["0.0.0.0", "::", "127.0.0.1,10.0.0.1", "::ffff:10.0.0.1"] {
            let error = check_exposure(&options(&["--bind", bind])).expect_err(bind).to_string();
            for word in [bind.split(',').next_back().unwrap(), "--requirepass", "--protected-mode"]
            {
                assert!(error.contains(word), "{error}");
            }
            assert!(check_exposure(&options(&["--bind", bind, "--requirepass", "x"])).is_ok());
            assert!(check_exposure(&options(&["--bind", bind, "--protected-mode", "no"])).is_ok());
        }
    }

    #[test]
    fn sizes_leave_room_for_values() {
        for flags in [["--request-max", "8MiB"], ["--input-max", "1MiB"], ["--output-max", "1KiB"]]
        {
            let error = check_sizes(&options(&flags)).expect_err(flags[0]).to_string();
            assert!(error.contains(flags[0]) && error.contains("out of range"), "{error}");
        }
        assert!(check_sizes(&options(&["--request-max", "9MiB", "--input-max", "9MiB"])).is_ok());
    }

    #[test]
    fn buffers_leave_room_for_items() {
        let wanted = |buffers_bytes| Wanted { buffers_bytes, ..Wanted::connections(100) };
        let divide = |buffers_bytes| divide(Size(128 << 20), wanted(buffers_bytes));
        assert!(divide(None).is_ok() && divide(Some(64 << 20)).is_ok());
        let error = divide(Some(1 << 20)).expect_err("too little").to_string();
        assert!(error.contains("--buffers 1MiB") && error.contains("8MiB"), "{error}");
        let error = divide(Some(100 << 20)).expect_err("too much").to_string();
        assert!(error.contains("--buffers 100MiB") && error.contains("131MiB"), "{error}");
    }

    #[test]
    fn core_ports_are_ports_of_their_own() {
        let cores = CoreCount::new(4).expect("a count");
        let of = |flags: &[&str]| cluster_of(&options(flags), cores);
        assert!(of(&[]).expect("none").is_none());
        let view =
            of(&["--core-ports", "7000", "--redirect", "off", "--announce", "cache.example"]);
        let view = view.expect("right").expect("asked for");
        assert_eq!((view.base_port, view.redirects), (7000, false));
        assert_eq!(view.announce.as_deref(), Some("cache.example"));
        for (flags, words) in [
            (["--core-ports", "65533", "--port", "0"], "65533 to 65536"),
            (["--core-ports", "7000", "--port", "7003"], "--port 7003"),
            (["--core-ports", "7000", "--memcached-port", "7000"], "--memcached-port 7000"),
        ] {
            let error = of(&flags).expect_err("refused").to_string();
            assert!(error.contains("--core-ports 7000") || error.contains("65533"), "{error}");
            assert!(error.contains(words), "{error}");
        }
        assert!(of(&["--core-ports", "7000", "--port", "7004"]).is_ok());
    }

    #[test]
    fn glommio_is_not_taken_without_io_uring() {
        assert!(matches!(choose_driver(&options(&[]), Chosen::Epoll), Ok(Driver::Bare)));
        let error = choose_driver(&options(&["--driver", "glommio"]), Chosen::Epoll);
        assert!(error.expect_err("refused").to_string().contains("--driver bare"));
    }
}
