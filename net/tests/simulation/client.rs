//! Clients: what they ask, and a model of what they must be told.
//!
//! Each client has keys of its own, on all cores, so that the order of its commands says what each
//! reply is, byte for byte, whatever others do meanwhile. Beside these there are keys that all
//! share, whose replies are checked for what any order allows: counters are counted once for each
//! command, and a value is one that somebody has written.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pinion_router::{CoreCount, core_of_key};

use super::prng::Prng;
use super::replies::Expect;

/// Keys of a client's own, outside of groups and in each group.
const KEYS: usize = 12;
/// Groups of keys that lie together.
const GROUPS: usize = 3;
/// Counters and values that clients share.
pub(crate) const SHARED_KEYS: usize = 4;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Resp,
    Memcached,
}

/// What keys hold, by database.
type Model = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

/// What kinds of commands a simulation has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    pub(crate) cores: CoreCount,
    /// There is one client, so that even what concerns all keys can be told beforehand.
    pub(crate) is_alone: bool,
    /// Values of up to so many bytes.
    pub(crate) value_bytes_max: usize,
}

/// What all clients share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// How often each counter was asked to be increased,
    pub(crate) asked: [u64; SHARED_KEYS],
    /// what was answered,
    pub(crate) counted: [BTreeSet<i64>; SHARED_KEYS],
    /// and values that were written under shared keys.
    pub(crate) written: BTreeSet<Vec<u8>>,
}

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: usize,
    pub(crate) protocol: Protocol,
    /// Its core, and its number there.
    pub(crate) core: usize,
    pub(crate) peer: usize,
    /// What its keys hold, by database.
    pub(crate) model: Model,
    pub(crate) db: u8,
    /// Replies that are to come.
    pub(crate) expected: VecDeque<Expect>,
    pub(crate) got: Vec<u8>,
    /// Commands that it will still send.
    pub(crate) left: usize,
    /// What was told of counters last.
    pub(crate) last_counts: [i64; SHARED_KEYS],
    pub(crate) reads: bool,
    /// It writes no more, and reads what comes.
    pub(crate) ended: bool,
    pub(crate) gone: bool,
    /// It was gone before all that it wrote was received, perhaps.
    pub(crate) lost: bool,
}

/// Writes a RESP command.
pub(crate) fn command(args: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        bulk(arg, out);
    }
}

fn bulk(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn null_or_bulk(value: Option<&Vec<u8>>) -> Vec<u8> {
    let mut reply = Vec::new();
    match value {
        Some(value) => bulk(value, &mut reply),
        None => reply.extend_from_slice(b"$-1\r\n"),
    }
    reply
}

fn integer(number: usize) -> Vec<u8> {
    format!(":{number}\r\n").into_bytes()
}

fn ok() -> Vec<u8> {
    b"+OK\r\n".to_vec()
}

impl Client {
    pub(crate) fn new(
        id: usize,
        protocol: Protocol,
        (core, peer): (usize, usize),
        left: usize,
    ) -> Client {
        Client {
            id,
            protocol,
            core,
            peer,
            model: BTreeMap::new(),
            db: 0,
            expected: VecDeque::new(),
            got: Vec::new(),
            left,
            last_counts: [0; SHARED_KEYS],
            reads: true,
            ended: false,
            gone: false,
            lost: false,
        }
    }

    fn key(&self, prng: &mut Prng) -> Vec<u8> {
        format!("c{}:{}", self.id, prng.below(KEYS)).into_bytes()
    }

    fn key_in(&self, group: usize, prng: &mut Prng) -> Vec<u8> {
        format!("{{c{}:{group}}}:{}", self.id, prng.below(KEYS)).into_bytes()
    }

    fn value(&self, mix: &Mix, prng: &mut Prng) -> Vec<u8> {
        let length = match prng.below(16) {
            0 => prng.between(0, mix.value_bytes_max),
            1 => prng.between(0, mix.value_bytes_max.min(6_000)),
            _ => prng.between(0, 40),
        };
        let first = prng.next();
        (0..length).map(|at| b'a' + ((first >> (at % 40)) as usize + at / 40) as u8 % 26).collect()
    }

    fn held(&self, key: &[u8]) -> Option<&Vec<u8>> {
        self.model.get(&(self.db, key.to_vec()))
    }

    fn hold(&mut self, key: &[u8], value: Vec<u8>) {
        self.model.insert((self.db, key.to_vec()), value);
    }

    fn forget(&mut self, key: &[u8]) -> bool {
        self.model.remove(&(self.db, key.to_vec())).is_some()
    }

    fn ask(&mut self, args: &[&[u8]], reply: Vec<u8>, out: &mut Vec<u8>) {
        command(args, out);
        self.expected.push_back(Expect::Exact(reply));
    }

    /// Writes one command, or a few that belong together, and notes what is to come.
    pub(crate) fn speak(
        &mut self,
        mix: &Mix,
        shared: &mut Shared,
        prng: &mut Prng,
        out: &mut Vec<u8>,
    ) {
        match self.protocol {
            Protocol::Memcached => self.speak_memcached(mix, shared, prng, out),
            Protocol::Resp => match prng.below(20) {
                0..=11 => self.speak_of_a_key(mix, prng, out),
                12..=14 => self.speak_of_keys(mix, prng, out),
                15 => self.speak_of_two_keys(prng, out),
                16 => self.transact(mix, prng, out),
                17 | 18 if mix.is_alone => self.speak_of_all(prng, out),
                _ => self.speak_of_shared(shared, prng, out),
            },
        }
    }

    fn speak_of_a_key(&mut self, mix: &Mix, prng: &mut Prng, out: &mut Vec<u8>) {
        let key = self.key(prng);
        match prng.below(12) {
            0..=3 => {
                let value = self.value(mix, prng);
                self.ask(&[b"SET", &key, &value], ok(), out);
                self.hold(&key, value);
            }
            4..=7 => {
                let reply = null_or_bulk(self.held(&key));
                self.ask(&[b"GET", &key], reply, out);
            }
            8 => {
                let more = self.value(mix, prng);
                let value = [self.held(&key).cloned().unwrap_or_default(), more.clone()].concat();
                self.ask(&[b"APPEND", &key, &more], integer(value.len()), out);
                if !value.is_empty() || self.held(&key).is_some() {
                    self.hold(&key, value);
                } else {
                    self.forget(&key);
                    self.ask(&[b"DEL", &key], integer(1), out);
                }
            }
            9 => {
                let length = self.held(&key).map_or(0, Vec::len);
                self.ask(&[b"STRLEN", &key], integer(length), out);
            }
            10 => {
                let reply = null_or_bulk(self.held(&key));
                let value = self.value(mix, prng);
                self.ask(&[b"GETSET", &key, &value], reply, out);
                self.hold(&key, value);
            }
            _ => {
                let db = prng.below(3) as u8;
                self.ask(&[b"SELECT", db.to_string().as_bytes()], ok(), out);
                self.db = db;
            }
        }
    }

    fn speak_of_keys(&mut self, mix: &Mix, prng: &mut Prng, out: &mut Vec<u8>) {
        let mut keys: Vec<Vec<u8>> = (0..prng.between(1, 6)).map(|_| self.key(prng)).collect();
        match prng.below(4) {
            0 => {
                let mut reply = format!("*{}\r\n", keys.len()).into_bytes();
                keys.iter().for_each(|key| reply.extend(null_or_bulk(self.held(key))));
                let args = args_of(b"MGET", &keys);
                self.ask(&args, reply, out);
            }
            1 => {
                // Of a key that is set twice the last counts, as it does in parts.
                let values: Vec<Vec<u8>> = keys.iter().map(|_| self.value(mix, prng)).collect();
                let mut args: Vec<&[u8]> = vec![b"MSET"];
                for (key, value) in keys.iter().zip(&values) {
                    args.extend([&key[..], &value[..]]);
                }
                self.ask(&args, ok(), out);
                keys.iter().zip(&values).for_each(|(key, value)| self.hold(key, value.clone()));
            }
            2 => {
                let there = keys.iter().filter(|key| self.held(key).is_some()).count();
                self.ask(&args_of(b"EXISTS", &keys), integer(there), out);
            }
            _ => {
                keys.sort_unstable();
                keys.dedup();
                let count = keys.iter().filter(|key| self.forget(key)).count();
                self.ask(&args_of(b"DEL", &keys), integer(count), out);
            }
        }
    }

    fn speak_of_two_keys(&mut self, prng: &mut Prng, out: &mut Vec<u8>) {
        let (from, to) = (self.key(prng), self.key(prng));
        if let Some(value) = self.held(&from).cloned() {
            self.ask(&[b"RENAME", &from, &to], ok(), out);
            self.forget(&from);
            self.hold(&to, value);
        } else {
            command(&[b"RENAME", &from, &to], out);
            self.expected.push_back(Expect::Line("-ERR no such key"));
        }
    }

    /// A transaction on keys of one group, or one that is refused because it has others, too.
    fn transact(&mut self, mix: &Mix, prng: &mut Prng, out: &mut Vec<u8>) {
        let group = prng.below(GROUPS);
        let watched = self.key_in(group, prng);
        let is_watched = prng.one_in(3);
        if is_watched {
            self.ask(&[b"WATCH", &watched], ok(), out);
        }
        let is_changed = is_watched && prng.one_in(3);
        if is_changed {
            let value = self.value(mix, prng);
            self.ask(&[b"SET", &watched, &value], ok(), out);
            self.hold(&watched, value);
        }
        self.ask(&[b"MULTI"], ok(), out);
        let (before, db) = (self.model.clone(), self.db);
        let mut reply = Vec::new();
        let commands = prng.between(1, 5);
        for _ in 0..commands {
            let key = self.key_in(group, prng);
            match prng.below(4) {
                0 => {
                    let db = prng.below(3) as u8;
                    command(&[b"SELECT", db.to_string().as_bytes()], out);
                    reply.extend(ok());
                    self.db = db;
                }
                1 => {
                    command(&[b"GET", &key], out);
                    reply.extend(null_or_bulk(self.held(&key)));
                }
                _ => {
                    let value = self.value(mix, prng);
                    command(&[b"SET", &key, &value], out);
                    reply.extend(ok());
                    self.hold(&key, value);
                }
            }
            self.expected.push_back(Expect::Line("+QUEUED"));
        }
        let stranger = self.key(prng);
        let place = |key: &[u8]| core_of_key(key, mix.cores);
        if prng.one_in(4) {
            // With nothing but SELECT before it, it is no stranger yet.
            command(&[b"GET", &watched], out);
            self.expected.push_back(Expect::Line("+QUEUED"));
            reply.extend(null_or_bulk(self.held(&watched)));
            command(&[b"GET", &stranger], out);
            if place(&stranger) == place(&watched) {
                self.expected.push_back(Expect::Line("+QUEUED"));
                reply.extend(null_or_bulk(self.held(&stranger)));
                self.exec(commands + 2, reply, is_changed.then_some((before, db)), out);
            } else {
                self.expected.push_back(Expect::Line("-CROSSSLOT"));
                command(&[b"EXEC"], out);
                self.expected.push_back(Expect::Line("-EXECABORT"));
                (self.model, self.db) = (before, db);
            }
            return;
        }
        self.exec(commands, reply, is_changed.then_some((before, db)), out);
    }

    /// EXEC, which does nothing if a watched key was changed: then all is as it was before.
    fn exec(
        &mut self,
        commands: usize,
        reply: Vec<u8>,
        before: Option<(Model, u8)>,
        out: &mut Vec<u8>,
    ) {
        if let Some((model, db)) = before {
            (self.model, self.db) = (model, db);
            return self.ask(&[b"EXEC"], b"*-1\r\n".to_vec(), out);
        }
        let reply = [format!("*{commands}\r\n").into_bytes(), reply].concat();
        self.ask(&[b"EXEC"], reply, out);
    }

    /// Commands that concern all cores, of a client that is alone.
    fn speak_of_all(&mut self, prng: &mut Prng, out: &mut Vec<u8>) {
        let of_db = |(db, key): &(u8, Vec<u8>)| (*db == self.db).then(|| key.clone());
        let keys: Vec<Vec<u8>> = self.model.keys().filter_map(of_db).collect();
        match prng.below(8) {
            0 => {
                self.ask(&[b"FLUSHALL"], ok(), out);
                self.model.clear();
            }
            1 => {
                self.ask(&[b"FLUSHDB"], ok(), out);
                let db = self.db;
                self.model.retain(|(other, _), _| *other != db);
            }
            2 | 3 => self.ask(&[b"DBSIZE"], integer(keys.len()), out),
            4 | 5 => {
                command(&[b"KEYS", b"*"], out);
                self.expected.push_back(Expect::Keys(keys));
            }
            _ => {
                command(&[b"RANDOMKEY"], out);
                self.expected.push_back(Expect::OneOf(keys));
            }
        }
    }

    fn speak_of_shared(&mut self, shared: &mut Shared, prng: &mut Prng, out: &mut Vec<u8>) {
        let number = prng.below(SHARED_KEYS);
        if self.db != 0 {
            self.ask(&[b"SELECT", b"0"], ok(), out);
            self.db = 0;
        }
        let (counter, key) = (format!("n:{number}"), format!("s:{number}"));
        match prng.below(5) {
            0 | 1 if self.id != ALONE => {
                command(&[b"INCR", counter.as_bytes()], out);
                shared.asked[number] += 1;
                self.expected.push_back(Expect::Counter(number));
            }
            2 if self.id != ALONE => {
                let value = format!("s{}-{}", self.id, prng.next()).into_bytes();
                self.ask(&[b"SET", key.as_bytes(), &value], ok(), out);
                shared.written.insert(value);
            }
            3 => {
                command(&[b"CLIENT", b"LIST"], out);
                self.expected.push_back(Expect::AnyResp);
            }
            _ => {
                command(&[b"GET", key.as_bytes()], out);
                self.expected.push_back(Expect::Shared);
            }
        }
    }

    fn speak_memcached(
        &mut self,
        mix: &Mix,
        shared: &mut Shared,
        prng: &mut Prng,
        out: &mut Vec<u8>,
    ) {
        let key = self.key(prng);
        let name = String::from_utf8_lossy(&key).into_owned();
        let line = |text: &str| Expect::Exact(format!("{text}\r\n").into_bytes());
        match prng.below(9) {
            0 | 1 => {
                let value = self.value(mix, prng);
                let noreply = prng.one_in(3);
                let suffix = if noreply { " noreply" } else { "" };
                out.extend(format!("set {name} 0 0 {}{suffix}\r\n", value.len()).into_bytes());
                out.extend_from_slice(&value);
                out.extend_from_slice(b"\r\n");
                if !noreply {
                    self.expected.push_back(line("STORED"));
                }
                self.hold(&key, value);
            }
            2 => {
                let value = self.value(mix, prng);
                out.extend(format!("ms {name} {}\r\n", value.len()).into_bytes());
                out.extend_from_slice(&value);
                out.extend_from_slice(b"\r\n");
                self.expected.push_back(line("HD"));
                self.hold(&key, value);
            }
            3 => {
                out.extend(format!("mg {name} v\r\n").into_bytes());
                let mut reply = b"EN\r\n".to_vec();
                if let Some(value) = self.held(&key) {
                    reply = format!("VA {}\r\n", value.len()).into_bytes();
                    reply.extend_from_slice(value);
                    reply.extend_from_slice(b"\r\n");
                }
                self.expected.push_back(Expect::Exact(reply));
            }
            4 => {
                out.extend(format!("delete {name}\r\n").into_bytes());
                let text = if self.forget(&key) { "DELETED" } else { "NOT_FOUND" };
                self.expected.push_back(line(text));
            }
            5 | 6 => self.ask_lease(shared, prng, out),
            _ => {
                let keys: BTreeSet<Vec<u8>> =
                    (0..prng.between(1, 5)).map(|_| self.key(prng)).collect();
                let text: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
                out.extend_from_slice(&[b"get ", &text.join(&b' ')[..], b"\r\n"].concat());
                let held = |key: &Vec<u8>| Some((key.clone(), self.held(key)?.clone()));
                self.expected.push_back(Expect::Values(keys.iter().filter_map(held).collect()));
            }
        }
    }

    /// Reads a shared key with a lease, waiting for who has it; deletes or stores it at times.
    fn ask_lease(&mut self, shared: &mut Shared, prng: &mut Prng, out: &mut Vec<u8>) {
        let name = format!("l:{}", prng.below(SHARED_KEYS));
        match prng.below(4) {
            0 => {
                let value = format!("s{}-{}", self.id, prng.next()).into_bytes();
                out.extend(format!("ms {name} {}\r\n", value.len()).into_bytes());
                out.extend_from_slice(&value);
                out.extend_from_slice(b"\r\n");
                shared.written.insert(value);
                self.expected.push_back(Expect::Lease);
            }
            1 => {
                out.extend(format!("md {name}\r\nmg {name} v\r\n").into_bytes());
                self.expected.push_back(Expect::Lease);
                self.expected.push_back(Expect::Lease);
            }
            _ => {
                let wait_ms = prng.between(1, 2_000);
                out.extend(format!("mg {name} v N30 w{wait_ms}\r\n").into_bytes());
                self.expected.push_back(Expect::Lease);
            }
        }
    }
}

/// The number of a client that is alone.
pub(crate) const ALONE: usize = 0;

fn args_of<'a>(name: &'a [u8], keys: &'a [Vec<u8>]) -> Vec<&'a [u8]> {
    [name].into_iter().chain(keys.iter().map(|key| &key[..])).collect()
}
