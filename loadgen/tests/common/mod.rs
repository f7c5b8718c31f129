//! A small cache server for the tests: real sockets, a thread per connection, RESP and the
//! protocols of memcached told apart by the command, and faults on demand.
//!
//! It is as simple as it can be on purpose: one map behind one lock.
#![expect(dead_code, reason = "each test file uses its own part of it")]

mod dialect;

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dialect::{meta_answer, read_memcached, read_resp, resp_answer, text_answer};

/// What the server does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Flips a bit in the last byte of every 50th value.
    FlipBit,
    /// Answers every 50th read with the value of another key.
    SwapKeys,
    /// Leaves the last byte of every 50th value out.
    Truncate,
    /// Acknowledges every 50th overwrite without carrying it out.
    IgnoreOverwrite,
    /// Acknowledges every delete of an existing key without carrying it out.
    IgnoreDelete,
    /// Serves values for ever, whatever lifetime they were given.
    IgnoreExpiry,
    /// Forgets every 50th increment after it has been answered.
    ForgetIncrement,
    /// Adds two at every 50th increment.
    IncrementTwice,
    /// Loses every counter every 50 requests.
    LoseCounters,
    /// Closes every connection after 50 requests, and its listener takes new ones.
    HangupOften,
    /// Refuses every 50th write.
    Refuse,
    /// Answers every 50th request with something that is no reply.
    Garbage,
    /// Closes the connection instead of the 50th answer.
    Hangup,
    /// Stops answering at the 50th request.
    Silence,
}

/// How the server behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Behaviour {
    /// What it does wrong.
    pub(crate) fault: Fault,
    /// Stops for the second time at the start of every first time.
    pub(crate) stall: Option<(Duration, Duration)>,
    /// Most items; the oldest goes when there are more.
    pub(crate) capacity: usize,
    /// Whether it knows RESP3.
    pub(crate) resp3: bool,
    /// Cores that it claims to have, and takes connections with by their source port; 0 to know
    /// nothing of cores.
    pub(crate) cores: u16,
    /// As if addresses were translated on the way: connections reach the next core.
    pub(crate) translated: bool,
}

impl Default for Behaviour {
    fn default() -> Behaviour {
        Behaviour {
            fault: Fault::None,
            stall: None,
            capacity: usize::MAX,
            resp3: true,
            cores: 0,
            translated: false,
        }
    }
}

/// A command as the server understood it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Get(Vec<u8>),
    Set(Vec<u8>, Vec<u8>, Option<String>),
    Delete(Vec<u8>),
    Touch(Vec<u8>, u64),
    MultiGet(Vec<Vec<u8>>),
    Increment(Vec<u8>, bool),
    Add(Vec<u8>, Vec<u8>),
    Hello,
    Info,
    ClientInfo,
    ClusterSlots,
    Stats,
}

/// What all connections share.
pub(crate) struct State {
    behaviour: Behaviour,
    started: Instant,
    requests: AtomicU64,
    store: Mutex<Store>,
    /// The reply to `CLUSTER SLOTS`.
    slots: Mutex<Option<String>>,
    /// The keys that every core was asked for.
    core_keys: Mutex<Vec<(u16, Vec<u8>)>>,
}

struct Item {
    value: Vec<u8>,
    deadline: Option<Instant>,
}

#[derive(Default)]
struct Store {
    items: HashMap<Vec<u8>, Item>,
    order: VecDeque<Vec<u8>>,
    log: Vec<Command>,
}

/// A running server; its threads end with the test process.
pub(crate) struct Server {
    /// Its address, as the tool takes it.
    pub(crate) target: String,
    /// Its state.
    pub(crate) state: Arc<State>,
}

impl Server {
    /// Starts a server on a free port.
    pub(crate) fn start(behaviour: Behaviour) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let target = listener.local_addr().expect("bound").to_string();
        let state = State::new(behaviour);
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || {
                    stream.set_nodelay(true).expect("a socket");
                    let output = stream.try_clone().expect("a socket");
                    let port = stream.peer_addr().expect("open").port();
                    let core = state.core_of(port);
                    serve(BufReader::with_capacity(1 << 16, stream), output, &state, core);
                });
            }
        });
        Server { target, state }
    }

    /// Another way to the same items: a Unix socket at `path`.
    pub(crate) fn listen_on(&self, path: &std::path::Path) -> String {
        let listener = UnixListener::bind(path).expect("a free path");
        let shared = self.state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || {
                    let output: UnixStream = stream.try_clone().expect("a socket");
                    serve(BufReader::with_capacity(1 << 16, stream), output, &state, 0);
                });
            }
        });
        format!("unix:{}", path.display())
    }

    pub(crate) fn with_fault(fault: Fault) -> Server {
        Server::start(Behaviour { fault, ..Behaviour::default() })
    }

    /// The commands so far, in the order in which they were executed.
    pub(crate) fn log(&self) -> Vec<Command> {
        self.state.store.lock().expect("no panic").log.clone()
    }

    /// What the server shall answer to `CLUSTER SLOTS`.
    pub(crate) fn announce(&self, slots: String) {
        *self.state.slots.lock().expect("no panic") = Some(slots);
    }

    /// The core of every connection that asked for a key, with the key.
    pub(crate) fn core_keys(&self) -> Vec<(u16, Vec<u8>)> {
        self.state.core_keys.lock().expect("no panic").clone()
    }

    pub(crate) fn items(&self) -> usize {
        self.state.store.lock().expect("no panic").items.len()
    }
}

impl State {
    fn core_of(&self, port: u16) -> u16 {
        let cores = self.behaviour.cores.max(1);
        ((port >> 1) + u16::from(self.behaviour.translated)) % cores
    }

    /// Answers what is asked about the server; `None` for the commands of a cache.
    fn about(&self, command: &Command, core: u16) -> Option<Answer> {
        let cores = self.behaviour.cores;
        Some(match command {
            Command::Info if cores > 0 => Answer::Text(format!("# Cluster\r\ncores:{cores}\r\n")),
            Command::Info => Answer::Text("# Server\r\n".to_owned()),
            Command::ClientInfo if cores > 0 => Answer::Text(format!("id=1 core={core} db=0\n")),
            Command::ClientInfo => Answer::Text("id=1 db=0\n".to_owned()),
            Command::Stats if cores > 0 => {
                Answer::Raw(format!("STAT cores {cores}\r\nSTAT connection_core {core}\r\nEND\r\n"))
            }
            Command::Stats => Answer::Raw("STAT pid 1\r\nEND\r\n".to_owned()),
            Command::ClusterSlots => match self.slots.lock().expect("no panic").clone() {
                Some(slots) => Answer::Raw(slots),
                None => Answer::Unknown,
            },
            Command::Get(key) | Command::Set(key, ..) | Command::Increment(key, _) => {
                if cores > 0 {
                    self.core_keys.lock().expect("no panic").push((core, key.clone()));
                }
                return None;
            }
            _ => return None,
        })
    }

    fn new(behaviour: Behaviour) -> Arc<State> {
        Arc::new(State {
            behaviour,
            started: Instant::now(),
            requests: AtomicU64::new(0),
            store: Mutex::default(),
            slots: Mutex::default(),
            core_keys: Mutex::default(),
        })
    }
}

enum Answer {
    Value(Vec<u8>, Vec<u8>),
    Values(Vec<(Vec<u8>, Option<Vec<u8>>)>),
    Touched(bool),
    Number(u64),
    Added(bool),
    Miss,
    Stored,
    Deleted(bool),
    Refused,
    Hello(bool),
    Text(String),
    Raw(String),
    Unknown,
    Garbage,
}

/// How a command was said, and how it is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Resp,
    Text,
    Meta,
}

fn serve(mut input: impl BufRead, mut output: impl Write, state: &State, core: u16) {
    for served in 1.. {
        let first = match input.fill_buf() {
            Ok([]) | Err(_) => return,
            Ok(bytes) => bytes[0],
        };
        let said = match first {
            b'*' => read_resp(&mut input).map(|command| (command, Dialect::Resp)),
            _ => read_memcached(&mut input),
        };
        let Some((command, dialect)) = said else { return };
        stall(state);
        let number = state.requests.fetch_add(1, Ordering::Relaxed) + 1;
        match state.behaviour.fault {
            Fault::Hangup if number == 50 => return,
            Fault::HangupOften if served == 50 => return,
            Fault::Silence if number >= 50 => {
                std::thread::sleep(Duration::from_secs(3600));
                return;
            }
            _ => {}
        }
        let answer = match state.about(&command, core) {
            Some(answer) => answer,
            None => execute(command, state, number),
        };
        let bytes = match dialect {
            Dialect::Resp => resp_answer(answer),
            Dialect::Text => text_answer(answer),
            Dialect::Meta => meta_answer(answer),
        };
        if output.write_all(&bytes).is_err() {
            return;
        }
    }
}

fn stall(state: &State) {
    let Some((period, stall)) = state.behaviour.stall else { return };
    let now = state.started.elapsed().as_nanos() % period.as_nanos();
    if now < stall.as_nanos() {
        std::thread::sleep(Duration::from_nanos((stall.as_nanos() - now) as u64));
    }
}

fn execute(command: Command, state: &State, number: u64) -> Answer {
    let fault = state.behaviour.fault;
    let now = number.is_multiple_of(50);
    let mut store = state.store.lock().expect("no panic");
    let store = &mut *store;
    store.log.push(command.clone());
    match command {
        _ if fault == Fault::Garbage && now => Answer::Garbage,
        Command::Hello => Answer::Hello(state.behaviour.resp3),
        Command::Info | Command::ClientInfo | Command::ClusterSlots | Command::Stats => {
            unreachable!("answered before")
        }
        Command::Get(key) => match store.read(&key, fault, now) {
            Some(value) => Answer::Value(key, value),
            None => Answer::Miss,
        },
        Command::MultiGet(keys) => {
            let read = |key: Vec<u8>| {
                let value = store.read(&key, fault, now);
                (key, value)
            };
            Answer::Values(keys.into_iter().map(read).collect())
        }
        Command::Increment(key, creates) => store.increment(key, creates, fault, now),
        Command::Add(key, value) => {
            let known = store.items.contains_key(&key);
            if !known {
                store.items.insert(key, Item { value, deadline: None });
            }
            Answer::Added(!known)
        }
        Command::Touch(key, ttl_ms) => {
            let known = store.live(&key, fault).is_some();
            if let Some(item) = store.items.get_mut(&key).filter(|_| known) {
                item.deadline = Some(Instant::now() + Duration::from_millis(ttl_ms));
            }
            Answer::Touched(known)
        }
        Command::Set(key, value, ttl) => {
            let known = store.items.contains_key(&key);
            if now && fault == Fault::Refuse {
                return Answer::Refused;
            }
            if !(now && known && fault == Fault::IgnoreOverwrite) {
                let deadline = ttl.map(|ttl| Instant::now() + lifetime(&ttl));
                store.items.insert(key.clone(), Item { value, deadline });
            }
            if !known {
                store.order.push_back(key);
            }
            if store.items.len() > state.behaviour.capacity {
                let oldest = store.order.pop_front().expect("as many as items");
                store.items.remove(&oldest);
            }
            Answer::Stored
        }
        Command::Delete(key) => {
            if fault == Fault::IgnoreDelete {
                return Answer::Deleted(store.items.contains_key(&key));
            }
            store.order.retain(|other| *other != key);
            Answer::Deleted(store.items.remove(&key).is_some())
        }
    }
}

impl Store {
    fn live(&self, key: &[u8], fault: Fault) -> Option<&Item> {
        let item = self.items.get(key)?;
        let expired = item.deadline.is_some_and(|deadline| deadline <= Instant::now());
        (!expired || fault == Fault::IgnoreExpiry).then_some(item)
    }

    fn increment(&mut self, key: Vec<u8>, creates: bool, fault: Fault, now: bool) -> Answer {
        if now && fault == Fault::LoseCounters {
            self.items.retain(|key, _| !key.starts_with(b"ctr:"));
        }
        let before = match self.items.get(&key) {
            Some(item) => String::from_utf8_lossy(&item.value).parse::<u64>().expect("a counter"),
            None if creates => 0,
            None => return Answer::Deleted(false),
        };
        let number = before + if now && fault == Fault::IncrementTwice { 2 } else { 1 };
        if !(now && fault == Fault::ForgetIncrement) {
            let value = number.to_string().into_bytes();
            self.items.insert(key, Item { value, deadline: None });
        }
        Answer::Number(number)
    }

    /// The value of a key, wrong if the fault says so; `now` is true for every 50th request.
    fn read(&self, key: &[u8], fault: Fault, now: bool) -> Option<Vec<u8>> {
        let mut value = self.live(key, fault)?.value.clone();
        if now && fault == Fault::FlipBit {
            *value.last_mut().expect("not empty") ^= 0x10;
        } else if now && fault == Fault::Truncate {
            value.pop();
        } else if now && fault == Fault::SwapKeys {
            let other = self.items.iter().find(|(other, _)| other.as_slice() != key);
            value = other.expect("more than one key").1.value.clone();
        }
        Some(value)
    }
}

/// A lifetime as the command said it: `EX 60`, `PX 1500` or seconds.
fn lifetime(text: &str) -> Duration {
    let (unit, number) = text.split_once(' ').unwrap_or(("EX", text));
    let number = number.parse().expect("a number");
    if unit == "PX" { Duration::from_millis(number) } else { Duration::from_secs(number) }
}
