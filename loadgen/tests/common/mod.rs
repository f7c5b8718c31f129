//! A small cache server for the tests: real sockets, a thread per connection, RESP and memcached
//! text told apart by the first byte, and faults on demand.
//!
//! It is as simple as it can be on purpose: one map behind one lock.
#![expect(dead_code, reason = "each test file uses its own part of it")]

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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
}

impl Default for Behaviour {
    fn default() -> Behaviour {
        Behaviour { fault: Fault::None, stall: None, capacity: usize::MAX, resp3: true }
    }
}

/// A command as the server understood it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Get(Vec<u8>),
    Set(Vec<u8>, Vec<u8>, Option<String>),
    Delete(Vec<u8>),
    Hello,
}

/// What all connections share.
pub(crate) struct State {
    behaviour: Behaviour,
    started: Instant,
    requests: AtomicU64,
    store: Mutex<Store>,
}

#[derive(Default)]
struct Store {
    items: HashMap<Vec<u8>, Vec<u8>>,
    order: VecDeque<Vec<u8>>,
    log: Vec<Command>,
}

/// A running server; its threads end with the test process.
pub(crate) struct Server {
    /// Its address.
    pub(crate) target: String,
    /// Its state.
    pub(crate) state: Arc<State>,
}

impl Server {
    /// Starts a server on a free port.
    pub(crate) fn start(behaviour: Behaviour) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let target = listener.local_addr().expect("bound").to_string();
        let state = Arc::new(State {
            behaviour,
            started: Instant::now(),
            requests: AtomicU64::new(0),
            store: Mutex::default(),
        });
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Server { target, state }
    }

    pub(crate) fn with_fault(fault: Fault) -> Server {
        Server::start(Behaviour { fault, ..Behaviour::default() })
    }

    /// The commands so far, in the order in which they were executed.
    pub(crate) fn log(&self) -> Vec<Command> {
        self.state.store.lock().expect("no panic").log.clone()
    }

    pub(crate) fn items(&self) -> usize {
        self.state.store.lock().expect("no panic").items.len()
    }
}

enum Answer {
    Value(Vec<u8>, Vec<u8>),
    Miss,
    Stored,
    Deleted(bool),
    Refused,
    Hello(bool),
    Garbage,
}

fn serve(stream: TcpStream, state: &State) {
    stream.set_nodelay(true).expect("a socket");
    let mut output = stream.try_clone().expect("a socket");
    let mut input = BufReader::new(stream);
    loop {
        let first = match input.fill_buf() {
            Ok([]) | Err(_) => return,
            Ok(bytes) => bytes[0],
        };
        let resp = first == b'*';
        let command = if resp { read_resp(&mut input) } else { read_memcached(&mut input) };
        let Some(command) = command else { return };
        stall(state);
        let number = state.requests.fetch_add(1, Ordering::Relaxed) + 1;
        match state.behaviour.fault {
            Fault::Hangup if number == 50 => return,
            Fault::Silence if number >= 50 => {
                std::thread::sleep(Duration::from_secs(3600));
                return;
            }
            _ => {}
        }
        let answer = execute(command, state, number);
        let bytes = if resp { resp_answer(answer) } else { memcached_answer(answer) };
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
        Command::Get(key) => {
            let Some(mut value) = store.items.get(&key).cloned() else { return Answer::Miss };
            if now && fault == Fault::FlipBit {
                *value.last_mut().expect("not empty") ^= 0x10;
            } else if now && fault == Fault::Truncate {
                value.pop();
            } else if now && fault == Fault::SwapKeys {
                let other = store.items.iter().find(|(other, _)| **other != key);
                value = other.expect("more than one key").1.clone();
            }
            Answer::Value(key, value)
        }
        Command::Set(key, value, _) => {
            let known = store.items.contains_key(&key);
            if now && fault == Fault::Refuse {
                return Answer::Refused;
            }
            if !(now && known && fault == Fault::IgnoreOverwrite) {
                store.items.insert(key.clone(), value);
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

fn resp_answer(answer: Answer) -> Vec<u8> {
    match answer {
        Answer::Value(_, value) => {
            [format!("${}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat()
        }
        Answer::Miss => b"$-1\r\n".to_vec(),
        Answer::Stored => b"+OK\r\n".to_vec(),
        Answer::Deleted(known) => format!(":{}\r\n", u8::from(known)).into_bytes(),
        Answer::Refused => b"-OOM no memory left\r\n".to_vec(),
        Answer::Hello(true) => b"%1\r\n+proto\r\n:3\r\n".to_vec(),
        Answer::Hello(false) => b"-ERR unknown command 'HELLO'\r\n".to_vec(),
        Answer::Garbage => b"HTTP/1.1 400 Bad Request\r\n".to_vec(),
    }
}

fn memcached_answer(answer: Answer) -> Vec<u8> {
    match answer {
        Answer::Value(key, value) => {
            let length = format!(" 0 {}\r\n", value.len());
            [b"VALUE ", &key[..], length.as_bytes(), &value, b"\r\nEND\r\n"].concat()
        }
        Answer::Miss => b"END\r\n".to_vec(),
        Answer::Stored => b"STORED\r\n".to_vec(),
        Answer::Deleted(true) => b"DELETED\r\n".to_vec(),
        Answer::Deleted(false) => b"NOT_FOUND\r\n".to_vec(),
        Answer::Refused => b"SERVER_ERROR out of memory\r\n".to_vec(),
        Answer::Hello(_) => b"ERROR\r\n".to_vec(),
        Answer::Garbage => b"HTTP/1.1 400 Bad Request\r\n".to_vec(),
    }
}

fn line(input: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    input.read_line(&mut line).ok().filter(|&bytes| bytes > 0)?;
    Some(line.trim_end().to_owned())
}

fn bytes(input: &mut impl BufRead, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length + 2];
    input.read_exact(&mut bytes).ok()?;
    assert!(bytes.ends_with(b"\r\n"), "a value longer than its length says");
    bytes.truncate(length);
    Some(bytes)
}

fn read_resp(input: &mut impl BufRead) -> Option<Command> {
    let count: usize = line(input)?.strip_prefix('*')?.parse().ok()?;
    let mut words = Vec::new();
    for _ in 0..count {
        let length = line(input)?.strip_prefix('$')?.parse().ok()?;
        words.push(bytes(input, length)?);
    }
    let text = |at: usize| String::from_utf8_lossy(&words[at]).into_owned();
    Some(match (text(0).as_str(), count) {
        ("GET", 2) => Command::Get(words[1].clone()),
        ("SET", 3) => Command::Set(words[1].clone(), words[2].clone(), None),
        ("SET", 5) => {
            let ttl = format!("{} {}", text(3), text(4));
            Command::Set(words[1].clone(), words[2].clone(), Some(ttl))
        }
        ("DEL", 2) => Command::Delete(words[1].clone()),
        ("HELLO", 2) => Command::Hello,
        other => panic!("an unexpected command: {other:?}"),
    })
}

fn read_memcached(input: &mut impl BufRead) -> Option<Command> {
    let line = line(input)?;
    let words: Vec<&str> = line.split(' ').collect();
    Some(match words[..] {
        ["get", key] => Command::Get(key.into()),
        ["set", key, "0", ttl_s, length] => {
            let value = bytes(input, length.parse().ok()?)?;
            let ttl = (ttl_s != "0").then(|| ttl_s.to_owned());
            Command::Set(key.into(), value, ttl)
        }
        ["delete", key] => Command::Delete(key.into()),
        _ => panic!("an unexpected command: {line}"),
    })
}
