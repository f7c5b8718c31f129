//! One connection: bytes on their way out, requests waiting for their replies, a torn reply.
//!
//! Invariants:
//! - I1. `queue` holds the requests in the order in which they were encoded, which is the order in
//!   which the server answers. A read of several keys has an entry for each of them.
//! - I2. A request's `sent_ns` is set when the kernel has accepted its last byte, and not before:
//!   `end` is the offset of that byte in the stream, compared with the bytes accepted so far.
//! - I3. `partial` is empty or starts with a reply that is not complete yet.
//!
//! Cost: one `send` per flush however many requests it carries; one `recv` per call; no allocation
//! once the buffers have grown to what the pipeline needs.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::RawFd;

use crate::protocol::{Ask, Op, Part};
use crate::recorder::Class;
use crate::sys::{monotonic_ns, retransmits};
use crate::target::Stream;

/// Unsent bytes beyond which a connection takes no further request.
pub(crate) const OUT_BYTES_MAX: usize = 1 << 20;

/// A request that has been encoded and not answered; of a read of several keys, one of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pending {
    /// The time before it was encoded.
    pub(crate) issued_ns: u64,
    /// When the schedule wanted it sent.
    pub(crate) intended_ns: u64,
    /// When the kernel had accepted its last byte; 0 before that.
    pub(crate) sent_ns: u64,
    /// Offset of its end in the outgoing stream.
    pub(crate) end: u64,
    /// The key.
    pub(crate) key: u32,
    /// For a read the floor of the key when it was encoded, for a write its version.
    pub(crate) version: u32,
    /// For a write, the base of its stamp.
    pub(crate) base: u32,
    /// What it does.
    pub(crate) op: Op,
    /// The place of the key in its request.
    pub(crate) part: Part,
    /// The class that it is reported under.
    pub(crate) class: Class,
    /// Whether it belongs to the measured phase.
    pub(crate) measured: bool,
}

impl Pending {
    /// A request for one key.
    pub(crate) fn new(op: Op, class: Class, key: u64) -> Pending {
        Pending {
            issued_ns: 0,
            intended_ns: 0,
            sent_ns: 0,
            end: 0,
            key: key as u32,
            version: 0,
            base: 0,
            op,
            part: Part::Single,
            class,
            measured: true,
        }
    }

    /// Keeps what the number of an increment must exceed, in place of the versions.
    pub(crate) fn set_above(&mut self, above: u64) {
        (self.version, self.base) = (above as u32, (above >> 32) as u32);
    }

    /// What [`Pending::set_above`] kept.
    pub(crate) fn above(&self) -> u64 {
        u64::from(self.version) | u64::from(self.base) << 32
    }

    /// What the next reply, or part of one, answers.
    #[inline]
    pub(crate) fn ask(&self) -> Ask {
        Ask { op: self.op, part: self.part, key: u64::from(self.key) }
    }
}

/// Whether a connection that was aimed at a core has reached it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    /// It has, or was not aimed.
    Aimed,
    /// It has reached another core.
    Missed,
    /// The server does not say.
    Unknown,
}

/// What a receive brought.
pub(crate) enum Received {
    /// This many bytes, at the start of the scratch buffer.
    Bytes(usize),
    /// Nothing at the moment.
    Nothing,
    /// The other side has closed, or the connection is broken.
    Closed(Option<io::Error>),
}

/// A connection to the server.
pub(crate) struct Connection {
    stream: Stream,
    queue: VecDeque<Pending>,
    /// Requests in the queue, however many keys they have.
    requests: usize,
    /// Requests at the front of the queue whose last byte has been accepted.
    sent_count: usize,
    out: Vec<u8>,
    out_at: usize,
    encoded_bytes: u64,
    accepted_bytes: u64,
    /// The torn reply at the end of what was received (I3).
    partial: Vec<u8>,
    /// Length of `partial` before which parsing it again is no use.
    partial_min: usize,
    /// The place of its target among the targets.
    pub(crate) lane: usize,
    /// Whether the worker watches for room to write.
    pub(crate) writes_watched: bool,
    /// Whether the worker has it in its line of connections with room.
    pub(crate) offered: bool,
    /// Whether it is in the worker's list of connections to flush.
    pub(crate) dirty: bool,
    /// Whether it takes no further request, because a new one shall take its place.
    pub(crate) retiring: bool,
    /// False once it has been given up.
    pub(crate) open: bool,
    /// Whether it goes where it was to go.
    pub(crate) reached: Reached,
}

impl Connection {
    /// A connection over an open stream that does not block; `lane` is the place of its target.
    pub(crate) fn new(stream: Stream, lane: usize) -> Connection {
        Connection {
            stream,
            queue: VecDeque::new(),
            requests: 0,
            sent_count: 0,
            out: Vec::new(),
            out_at: 0,
            encoded_bytes: 0,
            accepted_bytes: 0,
            partial: Vec::new(),
            partial_min: 0,
            lane,
            writes_watched: false,
            offered: false,
            dirty: false,
            retiring: false,
            open: true,
            reached: Reached::Aimed,
        }
    }

    /// The same connection, which has hit or missed its core.
    #[must_use]
    pub(crate) fn reached(self, reached: Reached) -> Connection {
        Connection { reached, ..self }
    }

    /// Segments that TCP had to send again so far; 0 for other sockets.
    pub(crate) fn retransmits(&self) -> u64 {
        match &self.stream {
            Stream::Tcp(_) => retransmits(self.fd()),
            Stream::Unix(_) => 0,
        }
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.stream.fd()
    }

    /// Requests without a reply.
    pub(crate) fn outstanding(&self) -> usize {
        self.requests
    }

    /// Whether another request may be pushed.
    pub(crate) fn has_room(&self, pipeline: usize) -> bool {
        self.open
            && !self.retiring
            && self.requests < pipeline
            && self.unsent_bytes() < OUT_BYTES_MAX
    }

    /// Bytes encoded but not accepted by the kernel.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.out.len() - self.out_at
    }

    /// Adds a request, whose bytes `encode` appends.
    #[inline]
    pub(crate) fn push(&mut self, mut pending: Pending, encode: impl FnOnce(&mut Vec<u8>)) {
        pending.end = self.encode(encode);
        self.queue.push_back(pending);
        self.requests += 1;
    }

    /// Adds a read of several keys: `template` with the key and the floor of each of `keys`.
    pub(crate) fn push_read(
        &mut self,
        template: Pending,
        keys: &[u64],
        floor: impl Fn(u64) -> u32,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let end = self.encode(encode);
        for (at, &key) in keys.iter().enumerate() {
            let part = Part::of(at, keys.len());
            let version = floor(key);
            self.queue.push_back(Pending { key: key as u32, version, part, end, ..template });
        }
        self.requests += 1;
    }

    /// Appends bytes; returns the offset of their end in the stream.
    fn encode(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> u64 {
        let before = self.out.len();
        encode(&mut self.out);
        self.encoded_bytes += (self.out.len() - before) as u64;
        self.encoded_bytes
    }

    /// Sends what the kernel takes, and stamps the requests that it has taken whole (I2).
    ///
    /// # Errors
    /// The error of the socket; a full socket is none.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.out_at == self.out.len() {
            return Ok(());
        }
        match self.stream.write(&self.out[self.out_at..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(bytes) => {
                self.out_at += bytes;
                self.accepted_bytes += bytes as u64;
            }
            Err(error) if is_retry(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
        if self.out_at == self.out.len() {
            self.out.clear();
            self.out_at = 0;
        }
        let now_ns = monotonic_ns();
        while let Some(pending) = self.queue.get_mut(self.sent_count) {
            if pending.end > self.accepted_bytes {
                break;
            }
            pending.sent_ns = now_ns;
            self.sent_count += 1;
        }
        Ok(())
    }

    /// One `recv` into `scratch`.
    #[inline]
    pub(crate) fn receive(&mut self, scratch: &mut [u8]) -> Received {
        match self.stream.read(scratch) {
            Ok(0) => Received::Closed(None),
            Ok(bytes) => Received::Bytes(bytes),
            Err(error) if is_retry(&error) => Received::Nothing,
            Err(error) => Received::Closed(Some(error)),
        }
    }

    /// What is to be parsed now that `received` has come: with the torn reply in front of it, if
    /// there is one. `None` if that cannot be a whole reply yet.
    ///
    /// Without a torn reply nothing is copied. The result goes back to [`Connection::keep`].
    #[inline]
    pub(crate) fn join<'a>(&mut self, received: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        if self.partial.is_empty() {
            return Some(Cow::Borrowed(received));
        }
        self.partial.extend_from_slice(received);
        if self.partial.len() < self.partial_min {
            return None;
        }
        Some(Cow::Owned(std::mem::take(&mut self.partial)))
    }

    /// Keeps what is left of `input` after its first `consumed` bytes: a torn reply (I3), which is
    /// not complete before it has `bytes_min` bytes.
    #[inline]
    pub(crate) fn keep(&mut self, input: Cow<'_, [u8]>, consumed: usize, bytes_min: usize) {
        debug_assert!(self.partial.is_empty());
        self.partial_min = bytes_min;
        match input {
            Cow::Borrowed(bytes) => self.partial.extend_from_slice(&bytes[consumed..]),
            Cow::Owned(mut bytes) => {
                bytes.drain(..consumed);
                self.partial = bytes;
            }
        }
    }

    /// The request that the next reply answers.
    #[inline]
    pub(crate) fn front(&self) -> Option<&Pending> {
        self.queue.front()
    }

    /// Takes the oldest request off, because it is answered or given up.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Pending> {
        let pending = self.queue.pop_front()?;
        self.sent_count = self.sent_count.saturating_sub(1);
        self.requests -= usize::from(pending.part.ends());
        Some(pending)
    }
}

fn is_retry(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Protocol;
    use crate::target::Targets;
    use std::net::{TcpListener, TcpStream};

    fn pair() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let name = listener.local_addr().expect("bound").to_string();
        let targets = Targets::resolve(&name).expect("an address");
        let connection = targets.open(0, Protocol::Resp).expect("connected");
        (connection, listener.accept().expect("accepted").0)
    }

    fn pending(intended_ns: u64) -> Pending {
        Pending { intended_ns, ..Pending::new(Op::Get, Class::Get, 0) }
    }

    #[test]
    fn a_read_of_several_keys_is_one_request() {
        let (mut connection, _server) = pair();
        let keys = [3, 1, 3];
        connection.push_read(pending(1), &keys, |key| key as u32 + 5, |out| out.push(b'x'));
        assert!(connection.has_room(2) && !connection.has_room(1));
        let parts = [Part::First(3), Part::Middle, Part::Last];
        for (left, (key, part)) in keys.into_iter().zip(parts).enumerate() {
            let pending = connection.pop().expect("queued");
            assert_eq!((u64::from(pending.key), pending.part), (key, part));
            assert_eq!(pending.version, pending.key + 5);
            assert_eq!(connection.outstanding(), usize::from(left < 2));
        }
    }

    #[test]
    fn a_request_is_sent_when_its_last_byte_is_accepted() {
        let (mut connection, mut server) = pair();
        let big = vec![b'x'; 64 << 20];
        connection.push(pending(1), |out| out.extend_from_slice(b"small"));
        connection.push(pending(2), |out| out.extend_from_slice(&big));
        assert!(!connection.has_room(100), "too many unsent bytes");
        connection.flush().expect("sent");
        assert!(connection.unsent_bytes() > 0, "the socket cannot hold that much");
        assert!(connection.front().expect("queued").sent_ns > 0);
        let first = connection.pop().expect("queued");
        assert_eq!(connection.front().expect("queued").sent_ns, 0);

        let reader = std::thread::spawn(move || {
            let mut rest = 5 + (64 << 20);
            let mut chunk = vec![0; 1 << 20];
            while rest > 0 {
                rest -= server.read(&mut chunk).expect("data");
            }
            server
        });
        while connection.unsent_bytes() > 0 {
            connection.flush().expect("sent");
        }
        assert!(connection.front().expect("queued").sent_ns >= first.sent_ns);
        assert!(connection.has_room(2) && !connection.has_room(1));
        drop(reader.join().expect("no panic"));
        let mut scratch = [0; 8];
        loop {
            match connection.receive(&mut scratch) {
                Received::Closed(_) => break,
                Received::Nothing => std::thread::yield_now(),
                Received::Bytes(_) => panic!("the server said nothing"),
            }
        }
    }

    #[test]
    fn a_torn_reply_is_joined_with_what_follows() {
        let (mut connection, _server) = pair();
        let input = connection.join(b"whole-to").expect("nothing was kept");
        connection.keep(input, 6, 4);
        assert_eq!(connection.join(b"r"), None, "three bytes are too few");
        let input = connection.join(b"n!next").expect("enough");
        assert_eq!(&input[..], b"torn!next");
        connection.keep(input, 5, 9);
        let input = connection.join(b"-more").expect("enough");
        assert_eq!(&input[..], b"next-more");
        connection.keep(input, 9, 0);
        assert_eq!(connection.join(b"x").as_deref(), Some(&b"x"[..]));
    }
}
