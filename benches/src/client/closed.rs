//! The client itself, filling a server with all keys, and the closed loop.

use std::net::SocketAddr;
use std::time::Duration;

use pinion_router::CoreCount;

use super::ClientError;
use super::connection::Connection;
use super::replies::{Hits, Pending};
use super::workload::{Operation, Requests, Workload};
use crate::sys::cpu;
use crate::sys::epoll::Epoll;

/// Most connections of a client; they have to fit below a usual limit on descriptors.
const CONNECTIONS_MAX: usize = 4000;

/// Most requests of a batch.
const PIPELINE_MAX: usize = 1 << 16;

/// Bytes taken per receive.
const RECEIVE_BYTES: usize = 64 << 10;

/// A server that is silent for longer has failed.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A batch of the filling phase ends when it has this many bytes.
const PREFILL_BATCH_BYTES: usize = 64 << 10;

/// What a stretch of load came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that were answered, all by hits.
    pub requests: u64,
    /// From the first send to the last reply, in nanoseconds.
    pub elapsed_ns: u64,
    /// CPU time of the client's thread, in nanoseconds.
    pub client_cpu_ns: u64,
    /// Segments in which the replies came; on loopback, the server's sends.
    pub reply_segments: u64,
}

/// A set of connections to one server, driven by the thread that calls.
pub struct Client {
    pub(super) epoll: Epoll,
    pub(super) connections: Vec<Connection>,
    pub(super) requests: Requests,
    pub(super) hits: Hits,
    pub(super) receive: Box<[u8]>,
    pub(super) seed: u64,
    key_count: u64,
    silent_since_ns: u64,
}

impl Client {
    /// Connects. The load stays the same for the client's life.
    ///
    /// # Errors
    ///
    /// If the load contradicts itself, the number of connections is not 1 to 4000, or the server
    /// does not accept them.
    pub fn connect(
        address: SocketAddr,
        workload: &Workload,
        connections: usize,
    ) -> Result<Client, ClientError> {
        Client::connect_from(address, workload, connections, None)
    }

    /// The same, from source ports that lead to a core: the first of so many cores has number 0.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`], or if no such port is free.
    pub fn connect_from(
        address: SocketAddr,
        workload: &Workload,
        connections: usize,
        core: Option<(usize, CoreCount)>,
    ) -> Result<Client, ClientError> {
        workload.validate()?;
        if connections == 0 || connections > CONNECTIONS_MAX {
            return Err(ClientError::Workload(format!(
                "the number of connections must be 1 to {CONNECTIONS_MAX}"
            )));
        }
        let epoll =
            Epoll::new(connections).map_err(|error| ClientError::Io("set up epoll", error))?;
        let connections = (0..connections as u64)
            .map(|token| Connection::open(address, token, core, &epoll))
            .collect::<Result<_, _>>()?;
        Ok(Client {
            epoll,
            connections,
            requests: Requests::new(workload),
            hits: Hits::new(workload),
            receive: vec![0; RECEIVE_BYTES].into(),
            seed: workload.seed,
            key_count: workload.key_count,
            silent_since_ns: 0,
        })
    }

    /// Sets every key once, over the first connection, in batches of 64 KiB.
    ///
    /// # Errors
    ///
    /// If a key is not stored, or the server goes away or silent.
    pub fn prefill(&mut self) -> Result<(), ClientError> {
        let mut key = 0;
        self.silent_since_ns = cpu::monotonic_ns();
        while key < self.key_count {
            let connection = &mut self.connections[0];
            while key < self.key_count && connection.output.len() < PREFILL_BATCH_BYTES {
                self.requests.append_set(key, &mut connection.output);
                connection.pending.push_back(Pending::new(Operation::Set, 0));
                key += 1;
            }
            connection.flush(&self.epoll)?;
            while !self.connections[0].pending.is_empty() {
                self.wait(Some(SILENCE_MAX))?;
                let mut index = 0;
                while let Some(token) = self.receive_ready(index, |_, _| {})? {
                    self.connections[token].flush(&self.epoll)?;
                    index += 1;
                }
            }
        }
        Ok(())
    }

    /// Keeps one batch of `pipeline` requests under way on every connection for so long, then
    /// waits for the last replies. A batch is sent as one piece when the one before is answered
    /// in full.
    ///
    /// # Errors
    ///
    /// If a batch is empty or larger than 65,536 requests, if a reply is no hit, or if the server
    /// goes away or silent.
    pub fn saturate(&mut self, pipeline: usize, duration: Duration) -> Result<Tally, ClientError> {
        if pipeline == 0 || pipeline > PIPELINE_MAX {
            return Err(ClientError::Workload(format!("a batch has 1 to {PIPELINE_MAX} requests")));
        }
        let segments = self.reply_segments()?;
        let cpu_ns = cpu::thread_cpu_ns();
        let start_ns = cpu::monotonic_ns();
        let end_ns = start_ns + duration.as_nanos() as u64;
        for token in 0..self.connections.len() {
            self.send_batch(token, pipeline)?;
        }
        self.silent_since_ns = start_ns;
        let mut busy_connections = self.connections.len();
        let mut requests = 0;
        while busy_connections > 0 {
            self.wait(Some(SILENCE_MAX))?;
            let is_over = cpu::monotonic_ns() >= end_ns;
            let mut index = 0;
            while let Some(token) = self.receive_ready(index, |_, _| requests += 1)? {
                index += 1;
                if !self.connections[token].pending.is_empty() {
                    self.connections[token].flush(&self.epoll)?;
                } else if is_over {
                    busy_connections -= 1;
                } else {
                    self.send_batch(token, pipeline)?;
                }
            }
        }
        Ok(Tally {
            requests,
            elapsed_ns: cpu::monotonic_ns() - start_ns,
            client_cpu_ns: cpu::thread_cpu_ns() - cpu_ns,
            reply_segments: self.reply_segments_since(&segments)?,
        })
    }

    /// Waits for a connection to become ready. Returns whether one did.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> Result<bool, ClientError> {
        let count =
            self.epoll.wait(timeout).map_err(|error| ClientError::Io("wait for replies", error))?;
        if count > 0 {
            return Ok(true);
        }
        let silence_ns = cpu::monotonic_ns().saturating_sub(self.silent_since_ns);
        if u128::from(silence_ns) >= SILENCE_MAX.as_nanos() {
            return Err(ClientError::Silent { waited_s: SILENCE_MAX.as_secs() });
        }
        Ok(false)
    }

    /// Receives from the `index`-th connection that the last wait found ready, and returns its
    /// token; `None` past the last.
    pub(super) fn receive_ready(
        &mut self,
        index: usize,
        complete: impl FnMut(Pending, u64),
    ) -> Result<Option<usize>, ClientError> {
        let Some(readiness) = self.epoll.ready(index) else {
            if index > 0 {
                self.silent_since_ns = cpu::monotonic_ns();
            }
            return Ok(None);
        };
        let token = readiness.token as usize;
        if readiness.readable {
            self.connections[token].receive(&mut self.receive, &self.hits, complete)?;
        }
        Ok(Some(token))
    }

    /// The segment counter of each connection.
    pub(super) fn reply_segments(&self) -> Result<Vec<u32>, ClientError> {
        self.connections.iter().map(Connection::reply_segments).collect()
    }

    /// How many segments came on all connections since `start`.
    pub(super) fn reply_segments_since(&self, start: &[u32]) -> Result<u64, ClientError> {
        let now = self.reply_segments()?;
        Ok(now.iter().zip(start).map(|(now, start)| u64::from(now.wrapping_sub(*start))).sum())
    }

    /// Tells [`Client::wait`] that the server has been heard of or is not expected to speak.
    pub(super) fn forgive_silence(&mut self, now_ns: u64) {
        self.silent_since_ns = now_ns;
    }

    fn send_batch(&mut self, token: usize, pipeline: usize) -> Result<(), ClientError> {
        let connection = &mut self.connections[token];
        for _ in 0..pipeline {
            let operation = self.requests.append(&mut connection.output);
            connection.pending.push_back(Pending::new(operation, 0));
        }
        connection.flush(&self.epoll)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Protocol;
    use crate::client::workload::tests::small;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};

    /// A server that answers whatever comes first with `reply`, then closes.
    fn answering(reply: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(reply);
        });
        address
    }

    fn saturate(reply: &'static [u8]) -> Result<Tally, ClientError> {
        let address = answering(reply);
        let mut client = Client::connect(address, &small(Protocol::Resp), 1).unwrap();
        client.saturate(1, Duration::from_millis(1))
    }

    #[test]
    fn a_miss_ends_the_run_with_the_reply_shown() {
        let error = saturate(b"$-1\r\n").unwrap_err();
        assert!(error.to_string().contains("$-1"), "{error}");
    }

    #[test]
    fn a_server_that_goes_away_ends_the_run() {
        assert!(matches!(saturate(b""), Err(ClientError::Closed)));
    }

    #[test]
    fn a_refused_connection_names_the_address() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = Client::connect(address, &small(Protocol::Resp), 1).err().unwrap();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let address = answering(b"");
        assert!(Client::connect(address, &small(Protocol::Resp), 0).is_err());
        assert!(Client::connect(address, &small(Protocol::Resp), CONNECTIONS_MAX + 1).is_err());
        let mut client = Client::connect(address, &small(Protocol::Resp), 1).unwrap();
        assert!(client.saturate(0, Duration::ZERO).is_err());
        assert!(client.saturate(PIPELINE_MAX + 1, Duration::ZERO).is_err());
    }
}
