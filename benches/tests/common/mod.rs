//! A floor server as a child process, for the tests beside this folder.

#![expect(dead_code, reason = "each test binary uses a part of this module")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use pinion_benches::client::{KeyDistribution, Protocol, Workload};
use pinion_benches::sys::child::confine;

/// The ways in which a floor server can be driven.
pub(crate) const KINDS: [&str; 3] = ["epoll", "ring", "glommio-ring"];

/// A floor server that is killed when dropped.
pub(crate) struct Floor {
    pub(crate) address: SocketAddr,
    pub(crate) child: Child,
}

impl Floor {
    /// Starts one on a port that it chooses.
    pub(crate) fn start(arguments: &str) -> Floor {
        let mut command = Command::new(env!("CARGO_BIN_EXE_floor"));
        command.args(arguments.split_whitespace()).stdout(Stdio::piped());
        confine(&mut command, None).unwrap();
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit(' ').next().unwrap();
        let address = address.parse().unwrap_or_else(|_| panic!("no address in {line:?}"));
        Floor { address, child }
    }

    /// Starts one with the frame sizes of a load.
    pub(crate) fn for_workload(kind: &str, workload: &Workload) -> Floor {
        let shape = workload.shape();
        Floor::start(&format!(
            "--kind {kind} --request-get {} --request-set {} --reply-get {} --reply-set {}",
            shape.request_get_bytes,
            shape.request_set_bytes,
            shape.reply_get_bytes,
            shape.reply_set_bytes
        ))
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A load that is quick to fill.
pub(crate) fn workload(protocol: Protocol) -> Workload {
    Workload {
        protocol,
        key_count: 500,
        key_bytes: 16,
        value_bytes: 64,
        distribution: KeyDistribution::Zipf(0.99),
        gets: 9,
        sets: 1,
        seed: 1,
        subset: None,
    }
}

/// Whether a program can be started; tests of what is not installed say so and pass.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).any(|folder| Path::new(&folder).join(program).exists());
    if !found {
        eprintln!("{program} is not installed; not tested");
    }
    found
}

/// A folder for one test, removed when dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Folder {
        let name = format!("pinion-benches-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A script that can be executed.
pub(crate) fn executable(folder: &Path, name: &str, script: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}
