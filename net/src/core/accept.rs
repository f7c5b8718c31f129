//! Connections as they come: to which core, how many at a time, how fast, and what happens when the
//! process has no descriptor left for one.
//!
//! Whoever is not let in is told why in its protocol, and closed. When descriptors have run out, a
//! spare one is closed to make room for just that; then accepting rests, so that a listener that
//! stays ready does not keep the core busy.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::limits::{ACCEPT_REFUSALS_MAX, ACCEPT_REST_MS};
use super::{Core, Request, Transport};
use crate::cluster;
use crate::connection::{Closing, Connection, Protocol};
use crate::log::{Level, Line};

/// How far the times of two cores may differ, in microseconds.
const SLACK_US: u64 = 10_000;

/// Lets through so many in a second, and as many at once after a second of rest: of all cores
/// together, without a lock.
///
/// What is kept is when the last that was let through would have come if all had come evenly. Each
/// moves that by its share of a second, and none may move it ahead of the present by more than
/// [`SLACK_US`], since a core's turn may have begun before that of another one; after a rest it lags
/// by a second at most, which is the burst.
#[derive(Debug, Default)]
pub(super) struct Rate {
    last_us: AtomicU64,
}

impl Rate {
    /// Whether one more may come; `per_second` of 0 is no limit.
    fn admit(&self, per_second: u32, now_ms: u64) -> bool {
        if per_second == 0 {
            return true;
        }
        let (step_us, now_us) = (1_000_000 / u64::from(per_second), now_ms * 1_000);
        let next = |last_us: u64| {
            // A core's time begins at one second, so the first burst is a full one.
            let next_us = last_us.max(now_us.saturating_sub(1_000_000)) + step_us;
            (next_us <= now_us + SLACK_US).then_some(next_us)
        };
        self.last_us.fetch_update(Relaxed, Relaxed, next).is_ok()
    }
}

/// A descriptor that is there to be given up.
#[derive(Debug)]
pub(super) struct Spare(Option<File>);

impl Spare {
    pub(super) fn new() -> Spare {
        Spare(File::open("/dev/null").ok())
    }
}

fn refusal(protocol: Protocol, is_fast: bool) -> &'static [u8] {
    match (protocol, is_fast) {
        (Protocol::Resp, false) => b"-ERR max number of clients reached\r\n",
        (Protocol::Resp, true) => b"-ERR max rate of new connections reached\r\n",
        (Protocol::Memcached, false) => b"ERROR Too many open connections\r\n",
        (Protocol::Memcached, true) => b"ERROR Too many new connections\r\n",
    }
}

impl<T: Transport> Core<T> {
    /// Takes a connection that has come, or gives it to the core whose turn it is: a Unix socket
    /// has one queue for all who accept on it, and the first of them would get nearly all.
    pub(super) fn deal(&mut self, listener: u32, socket: T::Socket) {
        let kind = self.options.listeners.get(listener as usize);
        let cores = usize::from(self.options.settings.cores);
        if cores == 1 || !kind.is_some_and(|kind| kind.is_dealt) {
            return self.accepted(listener, socket);
        }
        let core = self.next_dealt % cores;
        self.next_dealt = (core + 1) % cores;
        if core == usize::from(self.options.settings.core) {
            return self.accepted(listener, socket);
        }
        match self.transport.hand_over(socket) {
            Ok(socket) => self.inbox.ask(Request::Deal { core, listener, socket }),
            Err(socket) => self.accepted(listener, socket),
        }
    }

    /// Takes a connection that was accepted for this core, by another or before it began.
    pub fn adopt(&mut self, listener: u32, socket: OwnedFd) {
        if let Some(socket) = self.transport.adopt(socket) {
            self.accepted(listener, socket);
        }
    }

    fn accepted(&mut self, listener: u32, socket: T::Socket) {
        let Some(&kind) = self.options.listeners.get(listener as usize) else { return };
        let protocol = kind.protocol;
        self.counters.connections_accepted += 1;
        let settings = &self.options.settings;
        // Numbers of different cores differ.
        self.next_connection_id += u64::from(settings.cores);
        let id = self.next_connection_id - u64::from(settings.cores) + 1 + u64::from(settings.core);
        let open = match &self.lanes {
            None => self.connections.len(),
            Some(lanes) => lanes.count_connection(),
        };
        let is_full = self.stop_at_ms.is_some() || open >= self.options.connections_max;
        let per_second = self.options.settings.limits.accepts_per_second;
        let is_fast = !is_full && !self.accept_rate.admit(per_second, self.now_ms);
        let key = self.connections.insert(|key| Connection::new(socket, key, id, protocol));
        let Some(connection) = self.connections.find(key) else { return };
        connection.session.created_ms = self.now_ms;
        connection.session.authenticated = !self.options.settings.has_password();
        connection.moved_ms = self.now_ms;
        if let Some(view) = self.options.settings.cluster.as_ref().filter(|_| kind.is_core_port) {
            // Who has no address is gone already, and gets no answer.
            let addresses = self.transport.addresses(&connection.socket);
            let local = addresses.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |(_, local)| local.ip());
            connection.session.enter_core_port(&cluster::host(view.announce.as_deref(), local));
            self.budget.recount(connection);
        }
        if is_full || is_fast {
            // As Redis and memcached do: say why, then close.
            self.counters.connections_refused += 1;
            self.counters.accept_rate_refusals += u64::from(is_fast);
            let reason = refusal(protocol, is_fast);
            connection.replies.writer().extend_from_slice(reason);
            connection.close(Closing::Flushing);
            self.mark_dirty(key.index);
            return;
        }
        connection.receiving = true;
        self.transport.receive(&connection.socket, key);
    }

    /// Rests a listener that failed. For want of descriptors, those who wait are told so first.
    pub(super) fn accept_failed(&mut self, listener: u32, error: &io::Error) {
        self.counters.accept_failures += 1;
        let is_short = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
        let refused = if is_short { self.refuse_waiting(listener) } else { 0 };
        let text = "cannot accept connections for the moment; if it goes on, raise the limit on \
                    open files or lower --max-connections";
        let line = Line::new(Level::Warn, "accept-failed", text);
        self.inbox.ask(Request::Log(line.with("error", error).with("refused", refused)));
        self.resting.push((listener, self.now_ms + ACCEPT_REST_MS));
    }

    /// Accepts with the spare descriptor, to say no; how many have heard it.
    fn refuse_waiting(&mut self, listener: u32) -> usize {
        let Some(kind) = self.options.listeners.get(listener as usize) else { return 0 };
        let protocol = kind.protocol;
        self.spare.0 = None;
        let mut refused = 0;
        while refused < ACCEPT_REFUSALS_MAX {
            let Some(socket) = self.transport.accept_now(listener) else { break };
            self.transport.say(&socket, refusal(protocol, false));
            refused += 1;
        }
        self.spare = Spare::new();
        self.counters.connections_refused += refused as u64;
        refused
    }

    pub(super) fn accept_again(&mut self) {
        if self.resting.is_empty() {
            return;
        }
        let now_ms = self.now_ms;
        for &(listener, until_ms) in &self.resting {
            if until_ms <= now_ms {
                self.transport.rearm_accept(listener);
            }
        }
        self.resting.retain(|&(_, until_ms)| until_ms > now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_a_rate_are_let_through() {
        let rate = Rate::default();
        let count = |times: u32, now_ms| (0..times).filter(|_| rate.admit(10, now_ms)).count();
        assert_eq!(count(100, 1_000), 10);
        assert_eq!(count(100, 1_080), 0);
        assert_eq!(count(100, 1_100), 1);
        assert_eq!(count(100, 1_500), 4);
        assert_eq!(count(100, 90_000), 10, "rest is not saved for more than a second");
        assert!(Rate::default().admit(0, 0));
    }
}
