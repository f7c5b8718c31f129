//! CLIENT LIST, INFO and KILL, and `stats conns` of memcached: a look at all connections, a slice a
//! turn, since there may be many and the addresses of each cost two system calls.
//!
//! A connection that comes while a look goes on may be missed, and one that goes may be in it, as
//! if the look had happened at another moment of its slices.

use std::io::Write as _;
use std::net::SocketAddr;

use super::limits::CLIENTS_PER_SLICE;
use super::{Core, Transport};
use crate::command;
use crate::connection::{Closing, Connection, Protocol};
use crate::protocol::memcached::{StatForm, Statistics};
use crate::protocol::resp::{Version, Writer};
use pinion_ring::Key;

/// What becomes of the connections that are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAction {
    /// They are described, one a line.
    List,
    /// The same, for the one that asks.
    Info,
    /// They end; the reply tells how many.
    Kill,
    /// They end; the reply tells whether there was one.
    KillOne,
    /// They are described as memcached does.
    Statistics(StatForm),
}

/// Which connections are meant: those to which all of this applies.
#[derive(Clone, Debug, Default)]
pub struct ClientFilter {
    /// One of these numbers.
    pub ids: Option<Vec<u64>>,
    /// Any but this number.
    pub except: Option<u64>,
    /// The peer's address, as text.
    pub address: Option<Vec<u8>>,
    /// Our own address, as text.
    pub local_address: Option<Vec<u8>>,
    /// None at all: a kind was asked for of which there is none.
    pub nobody: bool,
}

/// A look at all connections, and how far it has come.
#[derive(Clone, Debug)]
pub struct ClientsQuery {
    action: ClientAction,
    filter: ClientFilter,
    next_slot: usize,
    text: Vec<u8>,
    found: usize,
    /// The connection that asks, if it is told apart.
    asker: Option<Key>,
}

/// Both ends of a connection.
pub(super) type Addresses = Option<(SocketAddr, SocketAddr)>;

impl ClientFilter {
    fn wants_id(&self, id: u64) -> bool {
        !self.nobody
            && self.except != Some(id)
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&id))
    }

    fn wants_addresses(&self, addresses: Addresses) -> bool {
        let is = |wanted: &Option<Vec<u8>>, address: Option<SocketAddr>| {
            wanted.as_ref().is_none_or(|wanted| {
                address.is_some_and(|address| wanted == address.to_string().as_bytes())
            })
        };
        is(&self.address, addresses.map(|(peer, _)| peer))
            && is(&self.local_address, addresses.map(|(_, local)| local))
    }
}

impl ClientsQuery {
    /// A look that has not begun.
    pub fn new(action: ClientAction, filter: ClientFilter) -> ClientsQuery {
        ClientsQuery { action, filter, next_slot: 0, text: Vec::new(), found: 0, asker: None }
    }

    /// Memory that it takes.
    pub fn memory_bytes(&self) -> usize {
        let ids = self.filter.ids.as_ref().map_or(0, Vec::capacity);
        size_of::<ClientsQuery>() + self.text.capacity() + ids * size_of::<u64>()
    }

    /// Whether it concerns the connections of all cores.
    pub(super) fn is_wide(&self) -> bool {
        self.action != ClientAction::Info
    }

    /// The same look, for the core of the connection that asks.
    pub(super) fn asked_by(self, asker: Key) -> ClientsQuery {
        ClientsQuery { asker: Some(asker), ..self }
    }

    /// The connection that asks, if it is one of this core's.
    pub(super) fn asker(&self) -> Option<Key> {
        self.asker
    }

    /// Adds what another look has found.
    pub(super) fn add_findings(&mut self, text: &[u8], found: usize) {
        self.text.extend_from_slice(text);
        self.found += found;
    }

    /// What was found, once the look has ended: lines, and how many.
    pub(super) fn take_findings(&mut self) -> (Vec<u8>, usize) {
        (std::mem::take(&mut self.text), self.found)
    }

    /// Writes the reply, once the look has ended.
    pub(super) fn reply(&self, out: &mut Vec<u8>, version: Version) {
        let mut reply = Writer::new(out, version);
        match self.action {
            ClientAction::List | ClientAction::Info => {
                reply.verbatim(*b"txt", &self.text);
            }
            ClientAction::Kill => reply.integer(self.found as i64),
            ClientAction::KillOne if self.found > 0 => reply.ok(),
            ClientAction::KillOne => reply.error("ERR No such client"),
            ClientAction::Statistics(form) => {
                out.extend_from_slice(&self.text);
                Statistics::new(out, form).end();
            }
        }
    }
}

impl<T: Transport> Core<T> {
    /// Looks at some connections on behalf of the one under `asker`; whether there are more.
    pub(super) fn look_at_clients(&mut self, asker: Key, query: &mut ClientsQuery) -> bool {
        let end = self.connections.slots().min(query.next_slot + CLIENTS_PER_SLICE);
        let now_ms = self.now_ms;
        for slot in query.next_slot..end {
            let Some(connection) = self.connections.at(slot as u32) else { continue };
            if connection.closing >= Closing::Flushing
                || !query.filter.wants_id(connection.session.id)
            {
                continue;
            }
            let addresses = self.transport.addresses(&connection.socket);
            if !query.filter.wants_addresses(addresses) {
                continue;
            }
            query.found += 1;
            match query.action {
                ClientAction::List | ClientAction::Info => {
                    let number = self.transport.descriptor(&connection.socket);
                    let core = self.options.settings.core;
                    describe(&mut query.text, connection, addresses, (number, core), now_ms);
                }
                ClientAction::Statistics(form) => {
                    let number = self.transport.descriptor(&connection.socket);
                    let mut lines = Statistics::new(&mut query.text, form);
                    let asks = connection.key == asker;
                    describe_to_memcached(&mut lines, connection, addresses, number, now_ms, asks);
                }
                // The one that asks gets its reply first.
                ClientAction::Kill | ClientAction::KillOne if connection.key == asker => {
                    connection.close(Closing::Flushing);
                }
                ClientAction::Kill | ClientAction::KillOne => {
                    connection.close(Closing::Dropped);
                    let key = connection.key;
                    self.ending.push(key);
                }
            }
        }
        query.next_slot = end;
        end < self.connections.slots()
    }
}

/// A connection's line of CLIENT LIST, with Redis's fields, and the core that serves it.
fn describe<S>(
    text: &mut Vec<u8>,
    connection: &Connection<S>,
    addresses: Addresses,
    (descriptor, core): (i32, u16),
    now_ms: u64,
) {
    let session = &connection.session;
    let address = |address: Option<SocketAddr>| address.map_or(String::new(), |a| a.to_string());
    let (peer, local) = (address(addresses.map(|a| a.0)), address(addresses.map(|a| a.1)));
    let seconds_since = |then_ms: u64| now_ms.saturating_sub(then_ms) / 1_000;
    let mut flags = String::new();
    for (applies, flag) in [
        (session.transaction.is_some(), 'x'),
        (connection.closing >= Closing::Flushing, 'c'),
        (session.no_evict, 'e'),
        (session.no_touch, 'T'),
    ] {
        flags.extend(applies.then_some(flag));
    }
    if flags.is_empty() {
        flags.push('N');
    }
    let queued = session.transaction.as_ref().map_or(-1, |queue| queue.len() as i64);
    let queued_bytes = session.transaction.as_ref().map_or(0, |queue| queue.frame_bytes());
    let input_bytes = connection.input.len();
    let (ready_bytes, held_bytes) = (connection.replies.ready_bytes(), connection.output_bytes());
    let name = String::from_utf8_lossy;
    let last_command = match (connection.protocol(), session.last_command) {
        (Protocol::Memcached, _) => "memcached".to_owned(),
        (_, None) => "NULL".to_owned(),
        (_, Some(number)) => command::name_of(number),
    };
    // Writing to a Vec does not fail.
    let _ = writeln!(
        text,
        "id={} addr={peer} laddr={local} fd={descriptor} name={} age={} idle={} flags={flags} \
         db={} sub=0 psub=0 ssub=0 multi={queued} watch={} qbuf={input_bytes} qbuf-free={} \
         argv-mem=0 multi-mem={queued_bytes} rbs={} rbp={} obl={ready_bytes} oll={} \
         omem={held_bytes} tot-mem={} events={} cmd={last_command} user=default redir=-1 resp={} \
         lib-name={} lib-ver={} core={core}",
        session.id,
        name(&session.name),
        seconds_since(session.created_ms),
        seconds_since(connection.moved_ms),
        session.db,
        session.watches.len(),
        connection.input.capacity() - input_bytes,
        connection.replies.ready_capacity(),
        connection.replies.ready_capacity(),
        connection.replies.outstanding_count(),
        size_of::<Connection<S>>() + connection.buffer_bytes(),
        if connection.sending.is_some() { "rw" } else { "r" },
        if session.resp3 { 3 } else { 2 },
        name(&session.library_name),
        name(&session.library_version),
    );
}

/// What `stats conns` tells of a connection, under the number of its descriptor. A state is one of
/// memcached's: waiting for a request, executing one (this one), sending, or ending.
fn describe_to_memcached<S>(
    lines: &mut Statistics<'_>,
    connection: &Connection<S>,
    addresses: Addresses,
    descriptor: i32,
    now_ms: u64,
    asks: bool,
) {
    let address = |address: Option<SocketAddr>| match address {
        None => "unix".to_owned(),
        Some(address) if address.is_ipv4() => format!("tcp:{address}"),
        Some(address) => format!("tcp6:{address}"),
    };
    let state = match (asks, connection.closing, connection.sending) {
        (true, ..) => "conn_parse_cmd",
        (_, Closing::Draining | Closing::Flushing | Closing::Dropped, _) => "conn_closing",
        (_, _, Some(_)) => "conn_mwrite",
        (_, _, None) => "conn_read",
    };
    let idle_s = now_ms.saturating_sub(connection.moved_ms) / 1_000;
    lines.add(format_args!("{descriptor}:addr"), address(addresses.map(|(peer, _)| peer)));
    lines.add(format_args!("{descriptor}:listen_addr"), address(addresses.map(|(_, own)| own)));
    lines.add(format_args!("{descriptor}:state"), state);
    lines.add(format_args!("{descriptor}:secs_since_last_cmd"), idle_s);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_conditions_must_hold() {
        let addresses = Some((([127, 0, 0, 1], 5).into(), ([127, 0, 0, 1], 6379).into()));
        let filter = ClientFilter {
            ids: Some(vec![3, 4]),
            except: Some(4),
            address: Some(b"127.0.0.1:5".to_vec()),
            local_address: Some(b"127.0.0.1:6379".to_vec()),
            nobody: false,
        };
        assert!(filter.wants_id(3) && !filter.wants_id(4) && !filter.wants_id(5));
        assert!(filter.wants_addresses(addresses) && !filter.wants_addresses(None));
        let other = ClientFilter { local_address: Some(b"127.0.0.1:1".to_vec()), ..filter };
        assert!(!other.wants_addresses(addresses));
        let nobody = ClientFilter { nobody: true, ..ClientFilter::default() };
        assert!(!nobody.wants_id(1) && ClientFilter::default().wants_addresses(None));
    }
}
