//! The two servers that are compared.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Server, tools};
use crate::wire::Link;

/// A Redis on a socket in the file system, killed when dropped.
pub(crate) struct Redis {
    child: Child,
    socket: PathBuf,
}

/// What both servers take as their longest string.
const VALUE_MAX: &str = "8MiB";

impl Redis {
    /// Starts one with these further settings. `PINION_REDIS_SERVER` names another program than
    /// the one in PATH.
    fn start(program: &Path, settings: &[&str]) -> Redis {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir();
        let socket = folder.join(format!("pinion-redis-{}-{count}.sock", std::process::id()));
        let _ = std::fs::remove_file(&socket);
        let child = Command::new(program)
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(&socket)
            .args(["--proto-max-bulk-len", "8mb", "--daemonize", "no", "--loglevel", "warning"])
            // Without an order of use small numbers are shared, and share their idle time, too.
            .args(["--maxmemory", "4gb", "--maxmemory-policy", "allkeys-lru"])
            .args(settings)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        let redis = Redis { child, socket };
        let start = Instant::now();
        while Link::unix(&redis.socket).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(2));
        }
        redis
    }

    fn is_alive(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// What is compared with Redis.
enum Tested {
    Pinion(Server),
    /// Another Redis, so that the test itself can be tested.
    Redis(Redis),
}

impl Tested {
    fn start(settings: &[&str]) -> Tested {
        match std::env::var_os("PINION_TESTED_SERVER") {
            Some(program) => Tested::Redis(Redis::start(Path::new(&program), settings)),
            None => {
                // Transactions and other commands with keys of several cores are refused.
                let own = ["--value-max", VALUE_MAX, "--eviction", "lru", "--cores", "0"];
                let flags = [&own, settings].concat();
                Tested::Pinion(Server::start(&flags))
            }
        }
    }

    fn link(&self) -> io::Result<Link> {
        match self {
            Tested::Pinion(server) => Link::tcp(server.resp),
            Tested::Redis(redis) => Link::unix(&redis.socket),
        }
    }

    fn is_alive(&mut self) -> bool {
        match self {
            Tested::Pinion(server) => server.is_alive(),
            Tested::Redis(redis) => redis.is_alive(),
        }
    }
}

/// This server and a Redis.
pub(crate) struct Pair {
    ours: Tested,
    theirs: Redis,
    program: PathBuf,
    settings: Vec<String>,
}

impl Pair {
    /// Starts both, with a setting of Redis's and the same as a flag here. `None` if there is no
    /// Redis, and the test is to be skipped.
    pub(crate) fn start(settings: &[(&str, &str)]) -> Option<Pair> {
        let program = match std::env::var_os("PINION_REDIS_SERVER") {
            Some(program) => PathBuf::from(program),
            None => tools::program("redis-server")?,
        };
        let settings: Vec<String> = settings
            .iter()
            .flat_map(|(name, value)| [format!("--{name}"), (*value).to_owned()])
            .collect();
        Some(Pair::launch(program, settings))
    }

    fn launch(program: PathBuf, settings: Vec<String>) -> Pair {
        let flags: Vec<&str> = settings.iter().map(String::as_str).collect();
        let theirs = Redis::start(&program, &flags);
        let ours = Tested::start(&flags);
        Pair { ours, theirs, program, settings }
    }

    /// Connects to both: here, there.
    pub(crate) fn links(&self) -> io::Result<[Link; 2]> {
        Ok([self.ours.link()?, Link::unix(&self.theirs.socket)?])
    }

    /// Major and minor version of the Redis.
    pub(crate) fn version(&self) -> (u32, u32) {
        let info = self.links().and_then(|[_, mut theirs]| theirs.say("INFO server"));
        let info = info.expect("a reply");
        let info = String::from_utf8_lossy(info.bulk().expect("a text")).into_owned();
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
        let mut numbers = version.expect("a version").split('.').map(|part| part.parse());
        let mut next = || numbers.next().and_then(Result::ok).expect("a number");
        (next(), next())
    }

    /// Whether a refused AUTH is always answered: Redis 7.2 forgets to if replies are pending.
    pub(crate) fn answers_auth(&self) -> bool {
        matches!(self.ours, Tested::Pinion(_)) && self.version() < (7, 2)
    }

    /// Starts them anew if one has ended; whether that was so.
    pub(crate) fn revive(&mut self) -> bool {
        let is_dead = !self.ours.is_alive() || !self.theirs.is_alive();
        if is_dead {
            *self = Pair::launch(self.program.clone(), self.settings.clone());
        }
        is_dead
    }
}
