//! The servers that can be compared: how each is started, and when it is ready.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::HarnessError;
use super::options::{CommonOptions, words};
use crate::client::Protocol;
use crate::floor::Shape;
use crate::sys::child::{Signal, confine, signal};

/// A server that is not ready by then has failed.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// How often a server that ends at once is started.
const START_TRIES: usize = 3;

/// How long a server that accepts connections may take to answer the first question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How much of a failed server's output an error shows.
const OUTPUT_SHOWN_BYTES: usize = 2000;

/// Memory that a key takes at most beside its bytes, in any of the servers.
const KEY_OVERHEAD_MAX_BYTES: u64 = 200;

/// Memory that a server gets beside its keys.
const SPARE_MEMORY_BYTES: u64 = 256 << 20;

/// A server to be measured.
#[derive(Clone, Debug)]
pub(super) struct ServerSpec {
    /// Its name in the report.
    pub(super) name: String,
    pub(super) protocol: Protocol,
    flavour: Flavour,
    program: PathBuf,
}

#[derive(Clone, Debug, PartialEq)]
enum Flavour {
    /// The value of `--kind`.
    Floor(&'static str, Shape),
    Redis,
    Memcached,
    /// The arguments that its user asks for.
    Pinion(Vec<String>),
}

impl ServerSpec {
    /// All servers that the options name, in their order, variants last.
    ///
    /// # Errors
    ///
    /// If a name is unknown or doubled, a program is missing, or there is no server at all.
    pub(super) fn all(options: &CommonOptions) -> Result<Vec<ServerSpec>, HarnessError> {
        let mut specs: Vec<ServerSpec> = Vec::new();
        for name in &options.servers {
            specs.push(ServerSpec::named(name, options)?);
        }
        for variant in &options.variants {
            let mut spec = ServerSpec::pinion(Protocol::Resp, &variant.arguments, options)?;
            spec.name.clone_from(&variant.name);
            specs.push(spec);
        }
        for (index, spec) in specs.iter().enumerate() {
            if specs[..index].iter().any(|other| other.name == spec.name) {
                return Err(usage(format!("server {} is named twice", spec.name)));
            }
        }
        if specs.is_empty() {
            return Err(usage("no server to measure: give --servers or --variant".to_string()));
        }
        Ok(specs)
    }

    /// Whether it only moves bytes.
    pub(super) fn is_floor(&self) -> bool {
        matches!(self.flavour, Flavour::Floor(..))
    }

    /// Program and version, for the report.
    pub(super) fn provenance(&self) -> (String, String) {
        (self.program.display().to_string(), version(&self.program))
    }

    fn named(full_name: &str, options: &CommonOptions) -> Result<ServerSpec, HarnessError> {
        let (name, protocol) = match full_name.split_once('@') {
            None => (full_name, None),
            Some((name, "resp")) => (name, Some(Protocol::Resp)),
            Some((name, "memcached")) => (name, Some(Protocol::Memcached)),
            Some((_, other)) => return Err(usage(format!("unknown protocol '{other}'"))),
        };
        let chosen = protocol.unwrap_or(Protocol::Resp);
        let mut spec = match name {
            "floor-epoll" => ServerSpec::floor("epoll", chosen, options)?,
            "floor-ring" => ServerSpec::floor("ring", chosen, options)?,
            "floor-glommio" => ServerSpec::floor("glommio-ring", chosen, options)?,
            "pinion" => ServerSpec::pinion(chosen, &[], options)?,
            "pinion-bare" => ServerSpec::pinion(chosen, &words("--driver bare"), options)?,
            "redis" if chosen == Protocol::Resp => ServerSpec {
                name: String::new(),
                protocol: Protocol::Resp,
                flavour: Flavour::Redis,
                program: options.redis.clone(),
            },
            "memcached" if protocol != Some(Protocol::Resp) => ServerSpec {
                name: String::new(),
                protocol: Protocol::Memcached,
                flavour: Flavour::Memcached,
                program: options.memcached.clone(),
            },
            "redis" | "memcached" => {
                return Err(usage(format!("{name} does not speak that protocol")));
            }
            _ => return Err(usage(format!("unknown server '{name}'"))),
        };
        spec.name = full_name.to_string();
        Ok(spec)
    }

    fn floor(
        kind: &'static str,
        protocol: Protocol,
        options: &CommonOptions,
    ) -> Result<ServerSpec, HarnessError> {
        let program = match &options.floor {
            Some(path) => path.clone(),
            None => std::env::current_exe()
                .map_err(|error| HarnessError::Io("find the floor program", error))?
                .with_file_name("floor"),
        };
        let shape = options.workload(protocol, 0).shape();
        Ok(ServerSpec {
            name: String::new(),
            protocol,
            flavour: Flavour::Floor(kind, shape),
            program,
        })
    }

    fn pinion(
        protocol: Protocol,
        arguments: &[String],
        options: &CommonOptions,
    ) -> Result<ServerSpec, HarnessError> {
        let Some(program) = options.pinion.clone() else {
            return Err(usage("give the pinion program with --pinion PATH".to_string()));
        };
        let mut all_arguments = words(&options.pinion_args);
        all_arguments.extend_from_slice(arguments);
        Ok(ServerSpec {
            name: String::new(),
            protocol,
            flavour: Flavour::Pinion(all_arguments),
            program,
        })
    }

    /// The command line, with the port to be measured and another free one.
    fn arguments(&self, options: &CommonOptions, port: u16, spare_port: u16) -> Vec<String> {
        let item_bytes = (options.key_size + options.value_size) as u64 + KEY_OVERHEAD_MAX_BYTES;
        let memory_mib = (options.keys.saturating_mul(item_bytes) * 2 + SPARE_MEMORY_BYTES) >> 20;
        match &self.flavour {
            Flavour::Floor(kind, shape) => words(&format!(
                "--kind {kind} --port {port} --cpu {} --request-get {} --request-set {} \
                 --reply-get {} --reply-set {}",
                options.server_cpu,
                shape.request_get_bytes,
                shape.request_set_bytes,
                shape.reply_get_bytes,
                shape.reply_set_bytes
            )),
            Flavour::Redis => {
                let mut arguments = words(&format!(
                    "--port {port} --bind 127.0.0.1 --appendonly no --io-threads 1 --save"
                ));
                arguments.push(String::new());
                arguments
            }
            Flavour::Memcached => {
                let mut arguments =
                    words(&format!("-p {port} -l 127.0.0.1 -U 0 -t 1 -c 4096 -m {memory_mib}"));
                // It refuses to run as root unless told so.
                if std::fs::metadata("/proc/self").is_ok_and(|myself| myself.uid() == 0) {
                    arguments.extend(words("-u root"));
                }
                arguments
            }
            Flavour::Pinion(extra) => {
                let (resp_port, memcached_port) = match self.protocol {
                    Protocol::Resp => (port, spare_port),
                    Protocol::Memcached => (spare_port, port),
                };
                let ours = [
                    ("--bind", "127.0.0.1".to_string()),
                    ("--port", resp_port.to_string()),
                    ("--memcached-port", memcached_port.to_string()),
                    ("--cores", options.server_cpu.to_string()),
                    ("--memory", format!("{memory_mib}MiB")),
                ];
                merge_arguments(ours, extra)
            }
        }
    }

    fn error(&self, text: String) -> HarnessError {
        HarnessError::Server { name: self.name.clone(), text }
    }
}

/// A server that runs; dropping it kills it.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) command: Vec<String>,
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
    pub(super) fn start(
        spec: &ServerSpec,
        options: &CommonOptions,
    ) -> Result<Server, HarnessError> {
        let mut tries = START_TRIES;
        loop {
            tries -= 1;
            let mut server = Server::spawn(spec, options)?;
            match server.await_ready(spec)? {
                None => return Ok(server),
                Some(status) if tries == 0 => {
                    return Err(spec.error(format!("ended with {status}{}", server.printed())));
                }
                Some(_) => {}
            }
        }
    }

    fn spawn(spec: &ServerSpec, options: &CommonOptions) -> Result<Server, HarnessError> {
        let (port, spare_port) = free_ports()?;
        let arguments = spec.arguments(options, port, spare_port);
        let output = unnamed_file()?;
        let sink = || output.try_clone().map_err(|error| HarnessError::Io("share a file", error));
        let mut command = Command::new(&spec.program);
        command.args(&arguments).current_dir(std::env::temp_dir());
        command.stdin(Stdio::null()).stdout(sink()?).stderr(sink()?);
        confine(&mut command, Some(options.server_cpu))
            .map_err(|error| HarnessError::Io("confine a server to its CPU", error))?;
        let child = command.spawn().map_err(|error| {
            spec.error(format!("cannot start {}: {error}", spec.program.display()))
        })?;
        let mut words = vec![spec.program.display().to_string()];
        words.extend(arguments);
        Ok(Server { address: (Ipv4Addr::LOCALHOST, port).into(), command: words, child, output })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Takes it off its CPU until [`Server::resume`].
    pub(super) fn pause(&self) -> Result<(), HarnessError> {
        signal(self.pid(), Signal::Stop)
            .map_err(|error| HarnessError::Io("stop a server for a while", error))
    }

    /// Lets it run again.
    pub(super) fn resume(&self) -> Result<(), HarnessError> {
        signal(self.pid(), Signal::Continue)
            .map_err(|error| HarnessError::Io("continue a server", error))
    }

    /// Waits until it is ready, or tells how it ended.
    fn await_ready(&mut self, spec: &ServerSpec) -> Result<Option<ExitStatus>, HarnessError> {
        let start = Instant::now();
        loop {
            // Whoever answers may be a stranger on the same port, unless the child lives on.
            let answers = self.answers(spec);
            let ended = self.child.try_wait();
            match ended.map_err(|error| HarnessError::Io("look after a server", error))? {
                Some(status) => return Ok(Some(status)),
                None if answers => return Ok(None),
                None => {}
            }
            if start.elapsed() > READY_TIMEOUT {
                let waited_s = READY_TIMEOUT.as_secs();
                let printed = self.printed();
                return Err(spec.error(format!("not ready after {waited_s} s{printed}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it answers the protocol's smallest question, or, if it only moves bytes, says that
    /// it listens.
    fn answers(&mut self, spec: &ServerSpec) -> bool {
        if spec.is_floor() {
            return self.printed().contains("floor: listening");
        }
        let Ok(mut stream) = TcpStream::connect(self.address) else { return false };
        let (question, answer) = match spec.protocol {
            Protocol::Resp => (&b"PING\r\n"[..], &b"+PONG"[..]),
            Protocol::Memcached => (&b"version\r\n"[..], &b"VERSION"[..]),
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

/// Our arguments, but for those that the user gives too, and then the user's.
fn merge_arguments<const N: usize>(ours: [(&str, String); N], extra: &[String]) -> Vec<String> {
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
fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().unwrap_or("").trim().to_string()
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

fn usage(text: String) -> HarnessError {
    HarnessError::Usage(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn options(arguments: &str) -> CommonOptions {
        #[derive(Parser)]
        struct Wrapper {
            #[command(flatten)]
            common: CommonOptions,
        }
        let words = std::iter::once("test").chain(arguments.split(' ').filter(|w| !w.is_empty()));
        Wrapper::try_parse_from(words).unwrap().common
    }

    fn refusal(arguments: &str) -> String {
        ServerSpec::all(&options(arguments)).unwrap_err().to_string()
    }

    #[test]
    fn servers_keep_their_order_and_protocols() {
        let options = options(
            "--servers floor-ring,floor-ring@memcached,redis,memcached,pinion@memcached \
             --pinion /x --variant v=--budget=64",
        );
        let specs = ServerSpec::all(&options).unwrap();
        let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        let expected =
            ["floor-ring", "floor-ring@memcached", "redis", "memcached", "pinion@memcached", "v"];
        assert_eq!(names, expected);
        use Protocol::{Memcached, Resp};
        let protocols: Vec<Protocol> = specs.iter().map(|spec| spec.protocol).collect();
        assert_eq!(protocols, [Resp, Memcached, Resp, Memcached, Memcached, Resp]);
        assert!(specs[1].is_floor() && !specs[2].is_floor());
    }

    #[test]
    fn names_that_mean_nothing_are_refused() {
        assert!(refusal("").contains("--servers"));
        assert!(refusal("--servers nginx").contains("nginx"));
        assert!(refusal("--servers redis@memcached").contains("redis"));
        assert!(refusal("--servers memcached@resp").contains("memcached"));
        assert!(refusal("--servers floor-ring@http").contains("http"));
        assert!(refusal("--servers redis,redis").contains("twice"));
        assert!(refusal("--servers pinion").contains("--pinion"));
    }

    #[test]
    fn what_the_user_says_to_pinion_wins() {
        let options = options("--pinion /x --variant v=--memory=1GiB --variant w=--cores");
        let specs = ServerSpec::all(&options).unwrap();
        let arguments = specs[0].arguments(&options, 7, 8).join(" ");
        assert_eq!(
            arguments,
            "--bind 127.0.0.1 --port 7 --memcached-port 8 --cores 0 --memory=1GiB"
        );
        assert!(specs[1].arguments(&options, 7, 8).join(" ").ends_with("MiB --cores"));
    }

    #[test]
    fn a_server_that_ends_at_once_shows_what_it_printed() {
        let mut options = options("--servers redis");
        options.redis = "ls".into();
        let spec = &ServerSpec::all(&options).unwrap()[0];
        let error = Server::start(spec, &options).err().unwrap().to_string();
        assert!(error.contains("redis: ended with") && error.contains("printed:\nls"), "{error}");

        options.redis = "/no/such/program".into();
        let spec = &ServerSpec::all(&options).unwrap()[0];
        let error = Server::start(spec, &options).err().unwrap().to_string();
        assert!(error.contains("/no/such/program"), "{error}");
    }
}
