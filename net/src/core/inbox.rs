//! Messages between a core and the control thread: slow questions one way, answers and orders the
//! other. Both directions are plain queues; a core is woken through its ring.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use pinion_engine::{Errand, Returned};
use pinion_ring::{Key, Waker};

use super::Snapshot;
use crate::command::ClientLimits;
use crate::command::memcached::Credentials;
use crate::connection::Ticket;
use crate::log::Line;
use crate::protocol::memcached::StatForm;

/// What a core is told.
#[derive(Debug)]
pub enum CoreMessage {
    /// The reply to a deferred command.
    Reply {
        /// Whose.
        key: Key,
        /// Which.
        ticket: Ticket,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// A connection that another has accepted becomes this core's.
    Adopt {
        /// The listener that it came to.
        listener: u32,
        /// The connection.
        socket: OwnedFd,
    },
    /// An errand of the shard is done.
    Returned(Returned),
    /// Other options take effect.
    Reload(Box<Reload>),
    /// Send what is ready and end.
    Stop,
}

/// What can change while the server runs; `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct Reload {
    /// The password; empty: none.
    pub password: Option<Vec<u8>>,
    /// Who may use the memcached port, if a file says so.
    pub memcached_users: Option<Arc<Credentials>>,
    /// The memory of the whole process, in bytes.
    pub memory_bytes: Option<u64>,
    /// What clients may take: of it, what is looked at as commands and connections come.
    pub limits: Option<ClientLimits>,
    /// How long the end waits for clients, in milliseconds.
    pub drain_ms: Option<u64>,
}

/// A question that takes too long for a data core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InfoRequest {
    /// Redis's INFO, of these sections (lower case); none means the default ones.
    Info {
        /// The sections.
        sections: Vec<String>,
        /// Whether the connection speaks RESP3 (a verbatim string answers).
        resp3: bool,
        /// The port of the core, if the connection has come to that: a node of a cluster answers.
        core_port: Option<u16>,
    },
    /// Redis's MEMORY STATS.
    MemoryStats {
        /// Whether the connection speaks RESP3.
        resp3: bool,
    },
    /// Redis's MEMORY DOCTOR.
    MemoryDoctor {
        /// Whether the connection speaks RESP3.
        resp3: bool,
    },
    /// memcached's `stats` without arguments.
    MemcachedStats(StatForm),
    /// memcached's `stats settings`.
    MemcachedSettings(StatForm),
}

/// What a core asks of the control thread.
#[derive(Debug)]
pub enum Request {
    /// To answer a slow question.
    Question(Question),
    /// To see to memory of the shard.
    Errand(Errand),
    /// To let a core adopt a connection.
    Deal {
        /// Which core.
        core: usize,
        /// The listener that it came to.
        listener: u32,
        /// The connection.
        socket: OwnedFd,
    },
    /// To write a line of the log.
    Log(Line),
    /// To let the allocator give back what is free.
    Trim,
    /// To end all cores.
    Stop,
}

/// A question to the control thread.
#[derive(Debug)]
pub struct Question {
    /// What is asked.
    pub info: InfoRequest,
    /// The state that the answer tells of.
    pub snapshot: Box<Snapshot>,
    /// Who asks.
    pub key: Key,
    /// Where the reply goes.
    pub ticket: Ticket,
}

/// The core's end.
#[derive(Debug)]
pub struct Inbox {
    messages: Receiver<CoreMessage>,
    requests: Sender<(usize, Request)>,
    core: usize,
}

impl Inbox {
    /// Makes the inbox of a core that asks through `requests`, and what others need to write to
    /// it.
    pub fn new(requests: Sender<(usize, Request)>, core: usize) -> (Inbox, Sender<CoreMessage>) {
        let (sender, messages) = channel();
        (Inbox { messages, requests, core }, sender)
    }

    /// The next message, if there is one.
    pub fn next(&self) -> Option<CoreMessage> {
        self.messages.try_recv().ok()
    }

    /// Asks the control thread. If it has ended, the process is about to end and nobody answers.
    pub fn ask(&self, request: Request) {
        let _ = self.requests.send((self.core, request));
    }
}

/// How other threads reach a core.
#[derive(Clone, Debug)]
pub struct CoreHandle {
    messages: Sender<CoreMessage>,
    waker: Waker,
}

impl CoreHandle {
    /// A handle from the sender of an inbox and its core's waker.
    pub fn new(messages: Sender<CoreMessage>, waker: Waker) -> CoreHandle {
        CoreHandle { messages, waker }
    }

    /// Sends a message and wakes the core. A core that has ended takes none.
    pub fn tell(&self, message: CoreMessage) {
        if self.messages.send(message).is_ok() {
            self.waker.wake();
        }
    }
}
