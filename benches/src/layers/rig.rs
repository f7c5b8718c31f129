//! A core on a transport in memory, with connections of both protocols, filled and driven.
//!
//! The core and its shard are the server's own, with the server's settings: huge pages, the
//! default receive buffers, the time from the server's clock.
//!
//! Invariant: a run ends with every request answered by as many bytes as expected, every loan
//! given back, and no error, or it fails.

use std::sync::mpsc::{Receiver, channel};

use pinion_engine::{Limits, Shard, ShardConfig};
use pinion_net::clock::Clock;
use pinion_net::command::Settings;
use pinion_net::connection::Protocol as ListenerProtocol;
use pinion_net::core::{Core, CoreOptions, Inbox, ListenerKind, Request, Turn};
use pinion_net::memory::{Division, Memory, Wanted};
use pinion_ring::{RingOptions, Wait};

use super::frames::{Frames, KEY_BYTES};
use super::memory_transport::{MemoryTransport, Peer};
use super::{LayerError, frames};
use crate::client::{Operation, Prng, Protocol};

/// Overhead of an item at the most: header, table, slack of the log.
const ITEM_OVERHEAD_BYTES: u64 = 64;
/// Room of the shard beyond its items.
const SLACK_BYTES: u64 = 64 << 20;
/// The largest value, as the server's default.
const VALUE_BYTES_MAX: usize = 8 << 20;
/// SETs of one connection on their way while filling.
const FILL_PIPELINE: u64 = 64;

/// What a rig is made with.
#[derive(Clone, Debug)]
pub struct RigOptions {
    /// Connections of each protocol.
    pub connections: usize,
    /// Commands that a turn executes before it sends the replies.
    pub flush_after: usize,
    /// The shard.
    pub shard: ShardConfig,
}

impl RigOptions {
    /// Options whose shard has room for `key_count` items with values of `value_bytes`, written
    /// over and over, without evicting any.
    pub fn roomy(key_count: u64, value_bytes: usize) -> RigOptions {
        let item_bytes = value_bytes as u64 + KEY_BYTES as u64 + ITEM_OVERHEAD_BYTES;
        let total_bytes = (key_count * item_bytes / 4 * 5 + SLACK_BYTES) as usize;
        RigOptions {
            connections: 50,
            flush_after: 64,
            shard: ShardConfig {
                hash_seed: 1,
                limits: Limits { total_bytes, data: None },
                huge_pages: true,
                ..ShardConfig::default()
            },
        }
    }
}

/// A core, and who talks to it.
pub struct Rig {
    core: Core<MemoryTransport>,
    resp: Vec<Peer>,
    memcached: Vec<Peer>,
    /// Questions to the control thread; there is none, and no benchmark asks.
    _requests: Receiver<(usize, Request)>,
}

impl Rig {
    /// A rig with an empty shard, all connections accepted.
    ///
    /// # Errors
    /// [`LayerError::Engine`] if the shard cannot be made, [`LayerError::Usage`] without
    /// connections.
    pub fn new(options: &RigOptions) -> Result<Rig, LayerError> {
        if options.connections == 0 {
            return Err(LayerError::Usage("--connections must be at least 1".to_owned()));
        }
        let receive_bytes_max = RingOptions::default().receive_buffer_bytes as usize;
        let mut transport = MemoryTransport::new(receive_bytes_max);
        let peers = 0..options.connections;
        let resp = peers.clone().map(|_| transport.connect(0)).collect();
        let memcached = peers.map(|_| transport.connect(1)).collect();
        let (requests_in, requests) = channel();
        let (inbox, _) = Inbox::new(requests_in, 0);
        let wanted = Wanted::connections(2 * options.connections);
        let core_options = CoreOptions {
            connections_max: 2 * options.connections,
            flush_after: options.flush_after,
            settings: Settings { value_bytes_max: VALUE_BYTES_MAX, ..Settings::default() },
            memory: Memory::new(
                Division::of(1 << 30, wanted)
                    .map_err(|_| LayerError::Usage("--connections are too many".to_owned()))?,
                wanted,
                1 << 30,
            ),
            drain_ms: 1_000,
            listeners: vec![
                ListenerKind::plain(ListenerProtocol::Resp),
                ListenerKind::plain(ListenerProtocol::Memcached),
            ],
        };
        let shard = Shard::new(&options.shard)?;
        let core = Core::new(transport, shard, Clock::start(), core_options, inbox);
        let mut rig = Rig { core, resp, memcached, _requests: requests };
        rig.run()?;
        Ok(rig)
    }

    /// The core.
    pub fn core(&mut self) -> &mut Core<MemoryTransport> {
        &mut self.core
    }

    /// The connections of a protocol.
    pub fn peers(&self, protocol: Protocol) -> &[Peer] {
        match protocol {
            Protocol::Resp => &self.resp,
            Protocol::Memcached | Protocol::Meta => &self.memcached,
        }
    }

    /// Appends a message of a peer, see [`MemoryTransport::push`].
    pub fn push(&mut self, peer: Peer, reply_bytes: usize, write: impl FnOnce(&mut Vec<u8>)) {
        self.core.transport().push(peer, reply_bytes, write);
    }

    /// Appends a message of a peer with any reply, see [`MemoryTransport::push_open`].
    pub fn push_open(&mut self, peer: Peer, write: impl FnOnce(&mut Vec<u8>)) {
        self.core.transport().push_open(peer, write);
    }

    /// Appends one message of `pipeline` requests of random keys below `key_count`, all of which
    /// must hit. `get_threshold` of 2^32 are GETs.
    pub fn push_random(
        &mut self,
        peer: Peer,
        frames: &Frames,
        pipeline: usize,
        key_count: u64,
        get_threshold: u64,
        prng: &mut Prng,
    ) {
        let mut reply_bytes = 0;
        // The reply's length is known only when the requests are drawn: draw twice.
        let mut first = prng.clone();
        for _ in 0..pipeline {
            reply_bytes += match draw(&mut first, key_count, get_threshold).1 {
                Operation::Get => frames.hit_bytes(),
                Operation::Set => frames.stored_bytes(),
            };
        }
        self.push(peer, reply_bytes, |out| {
            for _ in 0..pipeline {
                match draw(prng, key_count, get_threshold) {
                    (key, Operation::Get) => frames.append_get(key, out),
                    (key, Operation::Set) => frames.append_set(key, out),
                }
            }
        });
    }

    /// Takes turns until all messages are answered; returns how many.
    ///
    /// Allocates nothing by itself.
    ///
    /// # Errors
    /// [`LayerError::Wrong`] if replies are too long, too short or missing,
    /// [`LayerError::Unexpected`] if the core keeps a loan.
    pub fn run(&mut self) -> Result<u64, LayerError> {
        let mut turns = 0;
        while !self.core.transport().is_done() {
            let turn = self.take_turn()?;
            turns += 1;
            if !turn.worked && !turn.more {
                self.check_done()?;
            }
        }
        self.check_loans()?;
        Ok(turns)
    }

    fn take_turn(&mut self) -> Result<Turn, LayerError> {
        let turn =
            self.core.turn(Wait::No).map_err(|error| LayerError::Io("take a turn", error))?;
        self.core.transport().wrong().map_or(Ok(turn), |wrong| Err(wrong.into()))
    }

    /// Fails if a message is not delivered and answered.
    fn check_done(&mut self) -> Result<(), LayerError> {
        let transport = self.core.transport();
        if transport.is_done() {
            return Ok(());
        }
        let silent = || LayerError::Unexpected("the core has stopped working".to_owned());
        Err(transport.waiting().map_or_else(silent, LayerError::from))
    }

    /// Fails if a loan is out.
    fn check_loans(&mut self) -> Result<(), LayerError> {
        match self.core.transport().loans_out() {
            0 => Ok(()),
            kept => Err(LayerError::Unexpected(format!("the core keeps {kept} receive buffers"))),
        }
    }

    /// Takes turns until the core has nothing left to do, which is one idle turn more than
    /// [`Rig::run`]; returns how many. For messages whose replies may have any length.
    ///
    /// # Errors
    /// As [`Rig::run`].
    pub fn run_until_idle(&mut self) -> Result<u64, LayerError> {
        let mut turns = 1;
        while self.take_turn()?.worked {
            turns += 1;
        }
        self.check_done()?;
        self.check_loans()?;
        Ok(turns)
    }

    /// Sends one message and returns the reply, of any length.
    ///
    /// # Errors
    /// As [`Rig::run`].
    pub fn talk(
        &mut self,
        peer: Peer,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Vec<u8>, LayerError> {
        self.core.transport().keep_replies(peer);
        self.push_open(peer, write);
        self.run_until_idle()?;
        Ok(self.core.transport().take_replies(peer))
    }

    /// Stores keys 0 to `key_count` - 1 over RESP.
    ///
    /// # Errors
    /// As [`Rig::run`], and [`LayerError::Unexpected`] if an item was evicted.
    pub fn fill(&mut self, frames: &Frames, key_count: u64) -> Result<(), LayerError> {
        let peers = self.resp.clone();
        let mut next = 0;
        while next < key_count {
            for &peer in &peers {
                let keys = next..key_count.min(next + FILL_PIPELINE);
                next = keys.end;
                if keys.is_empty() {
                    break;
                }
                let reply_bytes = (keys.end - keys.start) as usize * frames.stored_bytes();
                self.push(peer, reply_bytes, |out| {
                    keys.for_each(|key| frames.append_set(key, out));
                });
            }
            self.run()?;
        }
        self.check_nothing_evicted()
    }

    /// Fails if the shard has evicted anything.
    ///
    /// # Errors
    /// [`LayerError::Unexpected`], with the number.
    pub fn check_nothing_evicted(&mut self) -> Result<(), LayerError> {
        match self.core.shard().stats().counters.evictions {
            0 => Ok(()),
            evictions => Err(LayerError::Unexpected(format!("{evictions} items were evicted"))),
        }
    }
}

/// A random key and operation.
pub(super) fn draw(prng: &mut Prng, key_count: u64, get_threshold: u64) -> (u64, Operation) {
    let key = prng.below(key_count);
    let reads = prng.next_u64() >> 32 < get_threshold;
    (key, if reads { Operation::Get } else { Operation::Set })
}

/// Refuses numbers of keys that have no texts.
pub(super) fn check_key_count(key_count: u64) -> Result<(), LayerError> {
    if key_count == 0 || key_count > frames::KEY_COUNT_MAX {
        let max = frames::KEY_COUNT_MAX;
        return Err(LayerError::Usage(format!("--keys must be 1 to {max}, not {key_count}")));
    }
    Ok(())
}
