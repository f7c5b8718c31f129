//! A real memcached, for comparisons.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::tools;

/// A memcached on a free port, killed when dropped.
pub struct Memcached {
    child: Child,
    pub address: SocketAddr,
}

impl Memcached {
    /// `None` if there is no memcached, and the test is to be skipped.
    pub fn start(name: &str) -> Option<Memcached> {
        let program = tools::program("memcached")?;
        // memcached chooses the port, and tells it in a file.
        let file = std::env::temp_dir().join(format!("pinion-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&file);
        let child = Command::new(program)
            .args(["-l", "127.0.0.1", "-p", "-1", "-U", "0", "-m", "256", "-t", "1", "-u", "root"])
            // Its maintenance thread holds items for a while, and then numbers are stored anew
            // instead of in place, which shows in their length.
            .args(["-o", "no_lru_maintainer,no_lru_crawler"])
            .env("MEMCACHED_PORT_FILENAME", &file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("memcached starts");
        let mut memcached = Memcached { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let start = Instant::now();
        while memcached.address.port() == 0 {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            if let Some(port) = text.lines().find_map(|line| line.strip_prefix("TCP INET: ")) {
                memcached.address.set_port(port.trim().parse().expect("a port"));
            }
            assert!(start.elapsed() < Duration::from_secs(20), "memcached tells no port");
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = std::fs::remove_file(&file);
        Some(memcached)
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
