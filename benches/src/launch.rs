//! Servers as child processes: started on a free port, awaited, shown when they fail, killed.
//!
//! Invariants:
//!
//! - A child dies with the thread that started it, and when its [`Server`] is dropped.
//! - A program that is named by a path is found from where this process was started, although the
//!   child itself starts in the folder for temporary files, where its dumps do no harm.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::client::Protocol;
use crate::harness::HarnessError;
use crate::sys::child::{Signal, confine, signal};

/// A server that is not ready by then has failed.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// How often a server that ends at once is started.
const START_TRIES: usize = 3;

/// How long a server that accepts connections may take to answer the first question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How much of a failed server's output an error shows.
const OUTPUT_SHOWN_BYTES: usize = 2000;

/// How a server is started, and when it is ready.
pub(crate) struct Launch<'a> {
    /// Its name in errors.
    pub(crate) name: &'a str,
    /// The program: a path, or a name to be looked up in `PATH`.
    pub(crate) program: &'a Path,
    /// What it speaks.
    pub(crate) protocol: Protocol,
    /// What it prints when it listens, for one that answers no questions.
    pub(crate) banner: Option<&'a str>,
    /// The CPU that it is bound to, if it is to one.
    pub(crate) cpu: Option<usize>,
    /// The command line for a port to listen on and another free one.
    pub(crate) arguments: &'a dyn Fn(u16, u16) -> Vec<String>,
}

/// A server that runs; dropping it kills it.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) command: Vec<String>,
    child: Child,
    /// What it prints, in a file without a name, so that nothing is left behind.
    output: File,
}

impl Server {
    /// Starts a server and waits until it answers. Call it on a thread that lives as long as the
    /// server shall.
    ///
    /// # Errors
    ///
    /// If the program is missing, ends, or does not answer in 20 s. A server that ends at once is
    /// tried again on another port, since somebody may have taken the first one meanwhile.
    pub(crate) fn start(launch: &Launch<'_>) -> Result<Server, HarnessError> {
        let mut tries = START_TRIES;
        loop {
            tries -= 1;
            let mut server = Server::spawn(launch)?;
            match server.await_ready(launch)? {
                None => return Ok(server),
                Some(status) if tries == 0 => {
                    return Err(launch.error(format!("ended with {status}{}", server.printed())));
                }
                Some(_) => {}
            }
        }
    }

    fn spawn(launch: &Launch<'_>) -> Result<Server, HarnessError> {
        let (port, spare_port) = free_ports()?;
        let arguments = (launch.arguments)(port, spare_port);
        let program = found_from_here(launch.program)
            .map_err(|error| HarnessError::Io("find the current folder", error))?;
        let output = unnamed_file()?;
        let sink = || output.try_clone().map_err(|error| HarnessError::Io("share a file", error));
        let mut command = Command::new(&program);
        command.args(&arguments).current_dir(std::env::temp_dir());
        command.stdin(Stdio::null()).stdout(sink()?).stderr(sink()?);
        confine(&mut command, launch.cpu)
            .map_err(|error| HarnessError::Io("confine a server to its CPU", error))?;
        let child = command.spawn().map_err(|error| {
            launch.error(format!("cannot start {}: {error}", program.display()))
        })?;
        let mut words = vec![program.display().to_string()];
        words.extend(arguments);
        Ok(Server { address: (Ipv4Addr::LOCALHOST, port).into(), command: words, child, output })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Takes it off its CPU until [`Server::resume`].
    pub(crate) fn pause(&self) -> Result<(), HarnessError> {
        signal(self.pid(), Signal::Stop)
            .map_err(|error| HarnessError::Io("stop a server for a while", error))
    }

    /// Lets it run again.
    pub(crate) fn resume(&self) -> Result<(), HarnessError> {
        signal(self.pid(), Signal::Continue)
            .map_err(|error| HarnessError::Io("continue a server", error))
    }

    /// Waits until it is ready, or tells how it ended.
    fn await_ready(&mut self, launch: &Launch<'_>) -> Result<Option<ExitStatus>, HarnessError> {
        let start = Instant::now();
        loop {
            // Whoever answers may be a stranger on the same port, unless the child lives on.
            let answers = self.answers(launch);
            let ended = self.child.try_wait();
            match ended.map_err(|error| HarnessError::Io("look after a server", error))? {
                Some(status) => return Ok(Some(status)),
                None if answers => return Ok(None),
                None => {}
            }
            if start.elapsed() > READY_TIMEOUT {
                let waited_s = READY_TIMEOUT.as_secs();
                let printed = self.printed();
                return Err(launch.error(format!("not ready after {waited_s} s{printed}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it answers the protocol's smallest question, or, if it only moves bytes, says that
    /// it listens.
    fn answers(&mut self, launch: &Launch<'_>) -> bool {
        if let Some(banner) = launch.banner {
            return self.printed().contains(banner);
        }
        let Ok(mut stream) = TcpStream::connect(self.address) else { return false };
        let (question, answer) = match launch.protocol {
            Protocol::Resp => (&b"PING\r\n"[..], &b"+PONG"[..]),
            Protocol::Memcached | Protocol::Meta => (&b"version\r\n"[..], &b"VERSION"[..]),
        };
        let mut reply = vec![0; answer.len()];
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).is_ok()
            && stream.write_all(question).is_ok()
            && stream.read_exact(&mut reply).is_ok()
            && reply == answer
    }

    /// The end of what it has printed, for an error.
    fn printed(&mut self) -> String {
        let mut text = Vec::new();
        let read = self.output.seek(SeekFrom::Start(0));
        if read.and_then(|_| self.output.read_to_end(&mut text)).is_err() || text.is_empty() {
            return String::new();
        }
        let shown = &text[text.len().saturating_sub(OUTPUT_SHOWN_BYTES)..];
        format!("; it printed:\n{}", String::from_utf8_lossy(shown).trim_end())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Launch<'_> {
    fn error(&self, text: String) -> HarnessError {
        HarnessError::Server { name: self.name.to_string(), text }
    }
}

/// What memcached wants to hear before it runs as root; nothing for other users.
pub(crate) fn memcached_user() -> &'static str {
    if std::fs::metadata("/proc/self").is_ok_and(|myself| myself.uid() == 0) {
        "-u root"
    } else {
        ""
    }
}

/// Our arguments, but for those that the user gives too, and then the user's.
pub(crate) fn merge_arguments<const N: usize>(
    ours: [(&str, String); N],
    extra: &[String],
) -> Vec<String> {
    let mut arguments = Vec::new();
    for (flag, value) in ours {
        let names = |word: &String| {
            word.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        };
        if !extra.iter().any(names) {
            arguments.extend([flag.to_string(), value]);
        }
    }
    arguments.extend_from_slice(extra);
    arguments
}

/// The first line that a program prints about its version; empty if it does not tell.
pub(crate) fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().unwrap_or("").trim().to_string()
}

/// A program's path for a child that starts in another folder. A bare name stays as it is, and is
/// looked up in `PATH`.
fn found_from_here(program: &Path) -> std::io::Result<PathBuf> {
    if program.components().count() > 1 {
        std::path::absolute(program)
    } else {
        Ok(program.to_path_buf())
    }
}

/// Two ports that were free a moment ago.
fn free_ports() -> Result<(u16, u16), HarnessError> {
    let bind = || -> std::io::Result<(TcpListener, u16)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        Ok((listener, port))
    };
    let failed = |error| HarnessError::Io("find a free port", error);
    let (_first, port) = bind().map_err(failed)?;
    let (_second, spare_port) = bind().map_err(failed)?;
    Ok((port, spare_port))
}

/// A file that vanishes with its last handle.
fn unnamed_file() -> Result<File, HarnessError> {
    let failed = |error| HarnessError::Io("create a temporary file", error);
    // A clash would be refused, and the clock moves on between two calls of one process.
    let salt = crate::sys::cpu::monotonic_ns();
    let name = format!("pinion-harness-{}-{salt:x}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let file =
        File::options().read(true).append(true).create_new(true).open(&path).map_err(failed)?;
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_made_absolute_and_a_bare_name_is_not() {
        let here = std::env::current_dir().unwrap();
        let found = |program: &str| found_from_here(Path::new(program)).unwrap();
        assert_eq!(found("target/release/pinion"), here.join("target/release/pinion"));
        assert_eq!(found("./pinion"), here.join("pinion"));
        assert_eq!(found("/usr/bin/pinion"), Path::new("/usr/bin/pinion"));
        assert_eq!(found("redis-server"), Path::new("redis-server"));
    }

    #[test]
    fn a_server_that_ends_at_once_shows_what_it_printed() {
        let start = |program: &Path| {
            let arguments = |_, _| vec!["--no-such-option".to_string()];
            let launch = Launch {
                name: "redis",
                program,
                protocol: Protocol::Resp,
                banner: None,
                cpu: Some(crate::sys::cpu::allowed_cpus().unwrap()[0]),
                arguments: &arguments,
            };
            Server::start(&launch).err().unwrap().to_string()
        };
        let error = start(Path::new("ls"));
        assert!(error.contains("redis: ended with") && error.contains("printed:\nls"), "{error}");
        let error = start(Path::new("/no/such/program"));
        assert!(error.contains("/no/such/program"), "{error}");
    }
}
