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
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// This server and a Redis.
pub(crate) struct Pair {
    ours: Server,
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
        let ours = Server::start(&[&["--value-max", VALUE_MAX], &flags[..]].concat());
        Pair { ours, theirs, program, settings }
    }

    /// Connects to both: here, there.
    pub(crate) fn links(&self) -> io::Result<[Link; 2]> {
        Ok([Link::tcp(self.ours.resp)?, Link::unix(&self.theirs.socket)?])
    }

    /// Starts them anew if one has ended; whether that was so.
    pub(crate) fn revive(&mut self) -> bool {
        let is_dead = !self.ours.is_alive()
            || self.theirs.child.try_wait().is_ok_and(|status| status.is_some());
        if is_dead {
            *self = Pair::launch(self.program.clone(), self.settings.clone());
        }
        is_dead
    }
}
