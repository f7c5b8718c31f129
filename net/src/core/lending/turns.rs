//! Turns of a core whose memory is all lent to items, when clients come and take it at once.
//!
//! Nobody runs the shard's errands here unless a test says so: as if the control thread got no
//! processor.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};

use pinion_engine::{Limits, SetOptions, Shard, ShardConfig};
use pinion_ring::{EndReason, Event, Key, RingOptions, Wait};

use super::super::inbox::{CoreMessage, Inbox, Request};
use super::super::limits::SMALL_BYTES;
use super::super::{Core, CoreOptions, ListenerKind, Transport};
use crate::clock::Clock;
use crate::command::Settings;
use crate::connection::Protocol;
use crate::memory::{CONNECTION_BYTES, Division, Memory, Wanted};

const CONNECTIONS_MAX: usize = 1_000;
const BIG_BYTES: usize = 16_000;

/// Peers that send what they are told to, and read nothing until `reads`.
#[derive(Default)]
struct Peers {
    /// Bytes to be received, in pieces that fit into a receive buffer.
    spoken: VecDeque<(u32, Vec<u8>)>,
    /// The key of each peer's connection, while it receives.
    receiving: Vec<Option<Key>>,
    sends: Vec<(u32, Key, Vec<u8>, usize, usize)>,
    events: VecDeque<Event<u32, Vec<u8>>>,
    reads: bool,
    /// Bytes that each has read.
    heard: Vec<usize>,
    /// What one was told last begins like this.
    told: [u8; 5],
    closed: usize,
}

impl Transport for Peers {
    type Socket = u32;
    type Loan = Vec<u8>;

    /// Fills the receive buffers at most once, as the ring does.
    fn enter(&mut self, _: Wait) -> io::Result<()> {
        if self.reads {
            for (peer, key, buffer, from, to) in self.sends.drain(..) {
                self.heard[peer as usize] += to - from;
                self.told.copy_from_slice(&buffer[from..from + 5]);
                self.events.push_back(Event::Sent { key, buffer, result: Ok(to - from) });
            }
        }
        let mut left = usize::from(RingOptions::default().receive_buffers);
        let mut silent = VecDeque::new();
        while left > 0
            && let Some((peer, data)) = self.spoken.pop_front()
        {
            match self.receiving[peer as usize] {
                Some(key) => {
                    self.events.push_back(Event::Received { key, data, armed: true });
                    left -= 1;
                }
                None => silent.push_back((peer, data)),
            }
        }
        silent.append(&mut self.spoken);
        self.spoken = silent;
        Ok(())
    }

    fn ready(&mut self) -> bool {
        !self.events.is_empty()
    }

    fn next_event(&mut self) -> Option<Event<u32, Vec<u8>>> {
        self.events.pop_front()
    }

    fn bytes<'a>(&'a self, loan: &'a Vec<u8>) -> &'a [u8] {
        loan
    }

    fn give_back(&mut self, _: Vec<u8>) {}

    fn rearm_accept(&mut self, _: u32) {}

    fn receive(&mut self, socket: &u32, key: Key) {
        self.receiving[*socket as usize] = Some(key);
    }

    fn cancel_receive(&mut self, key: Key) {
        if let Some(receiving) = self.receiving.iter_mut().find(|found| **found == Some(key)) {
            *receiving = None;
            self.events.push_back(Event::ReceiveEnded { key, reason: EndReason::Cancelled });
        }
    }

    fn send(&mut self, socket: &u32, key: Key, buffer: Vec<u8>, from: usize, to: usize) {
        self.sends.push((*socket, key, buffer, from, to));
    }

    fn shutdown(&mut self, socket: &u32) {
        self.closed += 1;
        if let Some(key) = self.receiving[*socket as usize].take() {
            self.events.push_back(Event::ReceiveEnded { key, reason: EndReason::Eof });
        }
        for (_, key, buffer, ..) in self.sends.extract_if(.., |send| send.0 == *socket) {
            let result = Err(io::ErrorKind::BrokenPipe.into());
            self.events.push_back(Event::Sent { key, buffer, result });
        }
    }

    fn enters(&self) -> u64 {
        0
    }
}

/// A core, its peers, and what stands for the control thread.
struct Rig {
    core: Core<Peers>,
    division: Division,
    requests: Receiver<(usize, Request)>,
    answers: Sender<CoreMessage>,
    /// The most that was missing at the end of a turn.
    worst_bytes: i64,
}

impl Rig {
    /// A core of 64 MiB whose items take all that is lent to them.
    fn filled(peers: usize) -> Rig {
        let memory_bytes = 64 << 20;
        let division =
            Division::of(memory_bytes, Wanted::connections(CONNECTIONS_MAX)).expect("it is enough");
        let memory = Memory::new(division, Wanted::connections(CONNECTIONS_MAX), memory_bytes);
        let limits = Limits { total_bytes: division.items_bytes as usize, data: None };
        let reserve_bytes = Some(memory.reserve_bytes());
        let config = ShardConfig { limits, reserve_bytes, hash_seed: 7, ..Default::default() };
        let shard = Shard::new(&config).expect("a shard");
        let mut transport = Peers::default();
        for peer in 0..peers as u32 {
            transport.receiving.push(None);
            transport.heard.push(0);
            transport.events.push_back(Event::Accepted { listener: 0, socket: peer });
        }
        let (requests_in, requests) = channel();
        let (inbox, answers) = Inbox::new(requests_in, 0);
        let options = CoreOptions {
            connections_max: CONNECTIONS_MAX,
            flush_after: 64,
            settings: Settings { value_bytes_max: 8 << 20, ..Settings::default() },
            memory,
            drain_ms: 1_000,
            listeners: vec![ListenerKind::plain(Protocol::Resp)],
        };
        let core = Core::new(transport, shard, Clock::start(), options, inbox);
        let mut rig = Rig { core, division, requests, answers, worst_bytes: i64::MIN };
        rig.turns(3);
        let mut number = 0u32;
        while rig.core.shard().stats().counters.evictions < 100 {
            number += 1;
            rig.set(&number.to_le_bytes(), 100 + number as usize % 200);
        }
        rig.set(b"big", BIG_BYTES);
        rig.run_errands();
        rig.turns(3);
        let lent_bytes = rig.core.options.memory.lent_bytes();
        assert!(lent_bytes + (1 << 20) >= division.lendable_bytes(), "{lent_bytes} are lent");
        let items_bytes = rig.core.shard().memory_bytes() as u64;
        assert!(items_bytes + (1 << 20) >= division.items_bytes + lent_bytes, "{items_bytes}");
        rig.worst_bytes = i64::MIN;
        rig
    }

    fn set(&mut self, key: &[u8], value_bytes: usize) {
        let now_ms = self.core.now_ms;
        let shard = self.core.shard();
        let (hash, options) = (shard.hash(key), SetOptions::default());
        shard.set(hash, key, &vec![b'v'; value_bytes], &options, now_ms).expect("it may evict");
    }

    /// Lets a peer say something.
    fn say(&mut self, peer: usize, bytes: &[u8]) {
        let piece_bytes = RingOptions::default().receive_buffer_bytes as usize;
        let pieces = bytes.chunks(piece_bytes).map(|piece| (peer as u32, piece.to_vec()));
        self.core.transport().spoken.extend(pieces);
    }

    /// Takes turns, and looks at the sum of all shares after each (N1).
    fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.core.turn(Wait::No).expect("memory does not fail");
            let figures = self.core.buffer_figures();
            let connections_bytes = self.core.connections.slots() as u64 * CONNECTION_BYTES;
            let clients_bytes =
                connections_bytes + (figures.held_bytes + figures.spare_bytes) as u64;
            let items_bytes = self.core.shard.memory_bytes() as u64;
            let whole_bytes = self.division.items_bytes + self.division.clients_bytes();
            let beyond_bytes = (clients_bytes + items_bytes) as i64 - whole_bytes as i64;
            self.worst_bytes = self.worst_bytes.max(beyond_bytes);
        }
    }

    /// Does what the control thread does.
    fn run_errands(&mut self) {
        while let Ok(request) = self.requests.try_recv() {
            if let (_, Request::Errand(errand)) = request {
                let returned = CoreMessage::Returned(errand.run());
                self.answers.send(returned).expect("the core is there");
                self.core.transport().events.push_back(Event::Woken);
            }
        }
    }

    /// Takes turns until there is nothing to do.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let turn = self.core.turn(Wait::No).expect("memory does not fail");
            self.run_errands();
            if !turn.worked && !turn.more && !self.core.transport().ready() {
                return;
            }
        }
        panic!("the core goes on for ever");
    }

    fn heard(&mut self, peer: usize) -> usize {
        self.core.transport().heard[peer]
    }
}

fn get(key: &str, count: usize) -> Vec<u8> {
    format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len()).repeat(count).into_bytes()
}

#[test]
fn clients_who_read_nothing_take_no_memory_that_items_still_have() {
    let (greedy, polite) = (300, 300);
    let mut rig = Rig::filled(greedy + 1);
    let pipeline = get("big", 30);
    for _ in 0..3 {
        for peer in 0..greedy {
            rig.say(peer, &pipeline);
        }
        for _ in 0..20 {
            rig.say(polite, b"*3\r\n$3\r\nSET\r\n$1\r\np\r\n$1\r\nv\r\n");
            rig.say(polite, &get("p", 1));
            rig.turns(1);
        }
    }
    assert!(rig.worst_bytes <= 0, "{} bytes too many", rig.worst_bytes);
    let counters = *rig.core.counters();
    assert!(counters.budget_pauses >= greedy as u64 / 2, "they had to wait");
    assert_eq!((counters.buffer_refusals, rig.core.transport().closed), (0, 0));
    let sends = rig.core.transport().sends.iter().filter(|send| send.0 == polite as u32);
    assert_eq!(sends.count(), 1, "the polite one was answered");
    // They begin to read: all that they asked for comes.
    rig.core.transport().reads = true;
    rig.settle();
    let reply_bytes = format!("${BIG_BYTES}\r\n").len() + BIG_BYTES + 2;
    let heard: Vec<usize> = (0..greedy).map(|peer| rig.heard(peer)).collect();
    assert!(heard.iter().all(|&bytes| bytes == 3 * 30 * reply_bytes), "{heard:?}");
    assert_eq!(rig.heard(polite), 60 * (b"+OK\r\n".len() + b"$1\r\nv\r\n".len()));
    assert_eq!(rig.core.buffer_figures().held_bytes, 0);
    rig.core.shard.validate().expect("sound");
}

#[test]
fn requests_that_come_at_once_are_paid_for_within_the_turn() {
    let peers = 100;
    let mut rig = Rig::filled(peers);
    // 48 KiB of each, of requests that are collected whole.
    let head = b"*3\r\n$4\r\nMSET\r\n$1\r\nk\r\n$60000\r\n";
    let mut request = head.to_vec();
    request.resize(48 << 10, b'x');
    for peer in 0..peers {
        rig.say(peer, &request);
    }
    let items_before = rig.core.shard.len();
    rig.turns(20);
    assert!(rig.core.transport().spoken.is_empty(), "all has come");
    let held_bytes = rig.core.buffer_figures().held_bytes;
    assert!(held_bytes >= peers * (48 << 10), "{held_bytes} are held");
    assert!(rig.worst_bytes <= 0, "{} bytes too many", rig.worst_bytes);
    assert_eq!(rig.core.counters().buffer_refusals, 0, "a loan refuses nobody");
    let gone = items_before - rig.core.shard.len();
    assert!(gone * 6 <= items_before, "{gone} of {items_before} items: no more than the loan");
    rig.core.transport().reads = true;
    for peer in 0..peers {
        rig.say(peer, &[&vec![b'x'; 60_000 + head.len() - request.len()][..], b"\r\n"].concat());
    }
    rig.settle();
    assert!((0..peers).all(|peer| rig.heard(peer) == b"+OK\r\n".len()), "all were answered");
}

#[test]
fn a_reply_that_waits_calls_back_what_it_needs() {
    let mut rig = Rig::filled(2);
    let keys = 200;
    let mget = format!("*{}\r\n$4\r\nMGET\r\n{}", keys + 1, "$3\r\nbig\r\n".repeat(keys));
    rig.say(0, mget.as_bytes());
    rig.turns(1);
    assert_eq!(rig.core.counters().budget_pauses, 1, "it waits for items to make room");
    assert!(rig.core.buffer_figures().held_bytes <= SMALL_BYTES);
    rig.say(1, &get("big", 1));
    rig.settle();
    assert_eq!(rig.core.transport().sends.len(), 2, "both are answered");
    rig.turns(1);
    assert!(rig.worst_bytes <= 0, "{} bytes too many", rig.worst_bytes);
    let lent_bytes = rig.core.options.memory.lent_bytes();
    assert!(lent_bytes > 0, "no more is called back than it takes");
    rig.core.transport().reads = true;
    rig.settle();
    assert!(rig.heard(0) > keys * BIG_BYTES && rig.heard(1) > BIG_BYTES);
    // One that no share has room for is refused, once all of it has come back.
    let mget = format!("*601\r\n$4\r\nMGET\r\n{}", "$3\r\nbig\r\n".repeat(600));
    rig.say(0, mget.as_bytes());
    rig.settle();
    assert_eq!(rig.core.transport().told, *b"-OOM ");
}
