//! A server process for a test, and a small client that speaks raw RESP and raw lines.

#![expect(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

pub mod binary;
pub mod cluster;
pub mod memcached;
pub mod random;
pub mod seccomp;
pub mod tools;

/// A running `pinion`, killed when dropped.
pub struct Server {
    child: Child,
    /// Kept open, since the server may have more to print.
    _stdout: BufReader<ChildStdout>,
    pub resp: SocketAddr,
    pub memcached: SocketAddr,
}

impl Server {
    /// Starts a server on free ports with these further flags.
    pub fn start(flags: &[&str]) -> Server {
        Server::start_on("127.0.0.1", flags)
    }

    /// Starts a server on free ports of an address with these further flags.
    pub fn start_on(bind: &str, flags: &[&str]) -> Server {
        let ports = ["--bind", bind, "--port", "0", "--memcached-port", "auto"];
        Server::launch(&[&ports, flags].concat())
    }

    /// Starts a server with these flags. Of several addresses it keeps the first.
    pub fn launch(flags: &[&str]) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pinion"));
        command.args(if flags.contains(&"--memory") { &[][..] } else { &["--memory", "256MiB"] });
        command.args(in_wanted_network(flags));
        Server::spawn(command)
    }

    /// Starts a server by a command that was prepared for it.
    pub fn spawn(mut command: Command) -> Server {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the server starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let (mut resp, mut memcached) = (None, None);
        for line in stdout.by_ref().lines() {
            let line = line.expect("text");
            if let Some(address) = line.strip_prefix("listening: resp ") {
                resp = resp.or(address.parse().ok());
            } else if let Some(address) = line.strip_prefix("listening: memcached ") {
                memcached = memcached.or(address.parse().ok());
            }
            if resp.is_some() && memcached.is_some() {
                break;
            }
        }
        let (resp, memcached) = (resp.expect("a port"), memcached.expect("a port"));
        Server { child, _stdout: stdout, resp, memcached }
    }

    /// The number of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the server writes to standard error, if its command has piped it.
    pub fn stderr(&mut self) -> &mut std::process::ChildStderr {
        self.child.stderr.as_mut().expect("it is piped")
    }

    /// The same, to be read by another thread.
    pub fn take_stderr(&mut self) -> std::process::ChildStderr {
        self.child.stderr.take().expect("it is piped")
    }

    /// A RESP client.
    pub fn client(&self) -> Client {
        Client::connect(self.resp)
    }

    /// A client of the memcached port.
    pub fn memcached(&self) -> Client {
        Client::connect(self.memcached)
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &command]).status().expect("sh runs");
        assert!(status.success());
    }

    /// Waits for the end; the exit code.
    pub fn wait(&mut self) -> Option<i32> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the server does not end");
    }

    /// Whether the server still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The flags, with those that `PINION_TEST_NETWORK` asks for: `epoll` lets the end-to-end tests run
/// without io_uring, and so without glommio.
fn in_wanted_network<'a>(flags: &[&'a str]) -> Vec<&'a str> {
    let is_epoll = std::env::var("PINION_TEST_NETWORK").is_ok_and(|name| name == "epoll");
    if !is_epoll || flags.contains(&"--network") {
        return flags.to_vec();
    }
    let replace = |&flag: &&'a str| if flag == "glommio" { "bare" } else { flag };
    flags.iter().map(replace).chain(["--network", "epoll"]).collect()
}

/// Runs a server that is expected to end by itself; its exit code and what it complained of.
pub fn run_to_end(flags: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pinion"));
    command.args(flags);
    run_command_to_end(command)
}

/// The same, by a command that was prepared for it.
pub fn run_command_to_end(mut command: Command) -> (Option<i32>, String) {
    let mut child =
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the server starts");
    let start = Instant::now();
    while child.try_wait().expect("it is our child").is_none() {
        if start.elapsed() > Duration::from_secs(20) {
            let _ = child.kill();
            panic!("{command:?}: the server does not end");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().expect("it has ended");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A number of INFO.
pub fn info_number(info: &str, field: &str) -> u64 {
    let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let value = value.unwrap_or_else(|| panic!("{field} is missing in {info}"));
    value.trim_end().parse().unwrap_or_else(|_| panic!("{field} is no number in {info}"))
}

/// A reply of RESP.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
    Other(char, String),
}

impl Reply {
    /// A bulk string.
    pub fn bulk(bytes: impl AsRef<[u8]>) -> Reply {
        Reply::Bulk(bytes.as_ref().to_vec())
    }

    /// The text of whatever kind of string this is.
    pub fn text(&self) -> String {
        match self {
            Reply::Simple(text) | Reply::Error(text) | Reply::Other(_, text) => text.clone(),
            Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("{other:?} is no text"),
        }
    }
}

/// `+OK`.
pub fn ok() -> Reply {
    Reply::Simple("OK".into())
}

/// A blocking client.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("connect");
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
        Client::of(stream)
    }

    /// A client of a stream that is connected.
    pub fn of(stream: TcpStream) -> Client {
        Client { stream: BufReader::new(stream) }
    }

    pub fn stream(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).expect("write");
    }

    /// Sends a command and reads its reply.
    pub fn call(&mut self, args: &[&str]) -> Reply {
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        self.call_bytes(&args)
    }

    pub fn call_bytes(&mut self, args: &[&[u8]]) -> Reply {
        self.send(encode(args));
        self.reply()
    }

    /// Reads one reply.
    pub fn reply(&mut self) -> Reply {
        let line = self.line();
        let (kind, rest) = (line.as_bytes()[0], line[1..].to_owned());
        let count = || rest.parse::<i64>().expect("a number");
        match kind {
            b'+' => Reply::Simple(rest),
            b'-' => Reply::Error(rest),
            b':' => Reply::Integer(count()),
            b'_' => Reply::Null,
            b'$' | b'=' => match usize::try_from(count()) {
                Ok(length) => {
                    let bytes = self.bytes(length);
                    assert_eq!(self.bytes(2), b"\r\n");
                    Reply::Bulk(bytes)
                }
                Err(_) => Reply::Null,
            },
            b'*' | b'~' => match count() {
                -1 => Reply::Null,
                count => Reply::Array((0..count).map(|_| self.reply()).collect()),
            },
            b'%' => Reply::Map((0..count()).map(|_| (self.reply(), self.reply())).collect()),
            other => Reply::Other(other as char, rest),
        }
    }

    /// Reads a line without its end; empty at the end of the stream.
    pub fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).expect("read");
        let line = line.strip_suffix(b"\r\n").unwrap_or(&line);
        String::from_utf8_lossy(line).into_owned()
    }

    /// Reads lines up to and with one of these.
    pub fn lines_until(&mut self, ends: &[&str]) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            lines.push(line.clone());
            if ends.contains(&line.as_str()) {
                return lines;
            }
        }
    }

    /// Sends requests of memcached's text protocol, and reads all that is answered to them; a
    /// `version` marks the end.
    pub fn ask(&mut self, requests: impl AsRef<[u8]>) -> String {
        self.send(requests);
        self.send("version\r\n");
        let mut answers = String::new();
        loop {
            let mut line = Vec::new();
            self.stream.read_until(b'\n', &mut line).expect("read");
            assert!(!line.is_empty(), "the server hung up after {answers:?}");
            if line.starts_with(b"VERSION ") {
                return answers;
            }
            answers.push_str(&String::from_utf8_lossy(&line));
        }
    }

    /// Sends a request and reads one line of answer.
    pub fn ask_once(&mut self, request: &str) -> String {
        self.send(request);
        self.line()
    }

    /// Sends no more; what is answered until the server closes.
    pub fn finish(&mut self) -> String {
        self.stream().shutdown(std::net::Shutdown::Write).expect("shutdown");
        String::from_utf8_lossy(&self.rest()).into_owned()
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).expect("read");
        bytes
    }

    /// What is left until the server closes.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A reset is as much an end as any.
        let _ = self.stream.read_to_end(&mut bytes);
        bytes
    }
}

/// A command as an array of bulk strings.
pub fn encode(args: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
