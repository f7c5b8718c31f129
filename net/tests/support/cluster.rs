//! A server with core ports, and what its nodes tell about the requests that came to them.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use super::{Client, Server, info_number};

/// A server whose cores are nodes of a cluster.
pub struct Cluster {
    pub server: Server,
    pub base: u16,
    pub cores: u16,
}

impl Cluster {
    /// Starts a server of so many cores, which share the CPUs that there are, with these further
    /// flags.
    pub fn start(cores: u16, flags: &[&str]) -> Cluster {
        // Room for another start with a few cores more.
        let base = free_ports(cores + 8);
        Cluster { server: launch(cores, base, flags), base, cores }
    }

    /// Ends the server and starts another of so many cores on the same ports.
    pub fn restart(&mut self, cores: u16, flags: &[&str]) {
        self.server.signal("TERM");
        assert_eq!(self.server.wait(), Some(0));
        self.server = launch(cores, self.base, flags);
        self.cores = cores;
    }

    /// A client of a core's port.
    pub fn node(&self, core: u16) -> Client {
        Client::connect((Ipv4Addr::LOCALHOST, self.base + core).into())
    }

    /// Commands that all nodes were asked for, and how many of them they sent to another.
    pub fn commands_and_moves(&self) -> (u64, u64) {
        let mut sums = (0, 0);
        for core in 0..self.cores {
            let info = self.node(core).call(&["INFO", "everything"]).text();
            sums.0 += info_number(&info, "total_commands_processed");
            let moved = info.lines().find_map(|line| line.strip_prefix("errorstat_MOVED:count="));
            sums.1 += moved.map_or(0, |count| count.trim_end().parse::<u64>().expect("a number"));
        }
        sums
    }

    /// How many keys all nodes have.
    pub fn keys(&self) -> i64 {
        let sizes = (0..self.cores).map(|core| match self.node(core).call(&["DBSIZE"]) {
            super::Reply::Integer(size) => size,
            other => panic!("{other:?}"),
        });
        sizes.sum()
    }
}

fn launch(cores: u16, base: u16, flags: &[&str]) -> Server {
    let cpus = cpus(cores);
    let base = base.to_string();
    // Each core has needs of its own.
    let memory = format!("{}MiB", 128 + 18 * u32::from(cores));
    let all = ["--port", "0", "--memcached-port", "auto", "--core-ports", &base, "--cores", &cpus];
    let limits = ["--memory", &memory, "--max-connections", "4000"];
    Server::launch(&[&all[..], &limits, flags].concat())
}

/// A value of `--cores` for so many cores, on the CPUs that the process may use in turn.
pub fn cpus(cores: u16) -> String {
    let allowed = pinion_net::host::allowed_cpus();
    let cpus = allowed.iter().cycle().take(usize::from(cores));
    cpus.map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// The first of so many ports in a row that nobody listens on, outside of what the kernel hands out
/// by itself.
fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = std::process::id() as u16;
    for _ in 0..200 {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        let base = 10_000 + begin.wrapping_add(turn.wrapping_mul(97)) % 190 * 100;
        let is_free = |port: u16| {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
                && TcpListener::bind((Ipv6Addr::LOCALHOST, port)).is_ok()
        };
        if (base..base + count).all(is_free) {
            return base;
        }
    }
    panic!("there are no {count} free ports in a row");
}
