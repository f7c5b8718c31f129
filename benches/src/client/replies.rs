//! Replies counted by their constant size, and checked just enough to notice that one is no hit.

use std::collections::VecDeque;

use super::ClientError;
use super::workload::{Hit, Operation, Workload};

/// How much of an unexpected reply an error shows.
const EXCERPT_BYTES: usize = 60;

/// A request that is under way: what it does, and when it was meant to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    /// The intended send time shifted left, and whether the request is a SET.
    packed: u64,
}

impl Pending {
    /// Times reach as far as 2^63 ns, 292 years.
    pub(super) fn new(operation: Operation, intended_ns: u64) -> Pending {
        Pending { packed: intended_ns << 1 | u64::from(operation == Operation::Set) }
    }

    fn operation(self) -> Operation {
        if self.packed & 1 == 0 { Operation::Get } else { Operation::Set }
    }

    /// When the request was meant to be sent.
    pub(super) fn intended_ns(self) -> u64 {
        self.packed >> 1
    }
}

/// The hits of a load, by operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hits {
    get: Hit,
    set: Hit,
}

impl Hits {
    pub(super) fn new(workload: &Workload) -> Hits {
        Hits { get: Hit::new(workload, Operation::Get), set: Hit::new(workload, Operation::Set) }
    }

    fn of(&self, operation: Operation) -> Hit {
        match operation {
            Operation::Get => self.get,
            Operation::Set => self.set,
        }
    }
}

/// The position in one connection's stream of replies.
#[derive(Debug, Default)]
pub(super) struct ReplyCounter {
    /// Bytes of the current reply that have come.
    come_bytes: usize,
}

impl ReplyCounter {
    /// Takes what has arrived, removes the requests that it completes from `pending`, and hands
    /// each to `complete`.
    ///
    /// # Errors
    ///
    /// If a reply does not begin or end as a hit does, or none was due.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        hits: &Hits,
        pending: &mut VecDeque<Pending>,
        mut complete: impl FnMut(Pending),
    ) -> Result<(), ClientError> {
        while !bytes.is_empty() {
            let Some(&next) = pending.front() else {
                return Err(ClientError::Unasked { excerpt: excerpt(bytes) });
            };
            let hit = hits.of(next.operation());
            let wrong =
                || ClientError::Reply { operation: next.operation(), excerpt: excerpt(bytes) };
            // At most two rounds per reply: only its head is compared.
            let head = hit.head.iter().skip(self.come_bytes);
            if head.zip(bytes).any(|(expected, come)| expected != come) {
                return Err(wrong());
            }
            let missing_bytes = hit.bytes - self.come_bytes;
            if bytes.len() < missing_bytes {
                self.come_bytes += bytes.len();
                return Ok(());
            }
            if bytes[missing_bytes - 1] != b'\n' {
                return Err(wrong());
            }
            complete(next);
            pending.pop_front();
            self.come_bytes = 0;
            bytes = &bytes[missing_bytes..];
        }
        Ok(())
    }
}

fn excerpt(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(EXCERPT_BYTES)].escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::workload::tests::small;
    use crate::client::{Prng, Protocol};

    fn feed(protocol: Protocol, operations: &[Operation], bytes: &[u8]) -> Result<usize, String> {
        let hits = Hits::new(&small(protocol));
        let mut pending = operations.iter().map(|&operation| Pending::new(operation, 5)).collect();
        let mut count = 0;
        ReplyCounter::default()
            .feed(bytes, &hits, &mut pending, |done| {
                assert_eq!(done.intended_ns(), 5);
                count += 1;
            })
            .map_err(|error| error.to_string())?;
        assert_eq!(pending.len() + count, operations.len());
        Ok(count)
    }

    #[test]
    fn hits_of_both_protocols_are_counted() {
        use Operation::{Get, Set};
        let resp = b"$10\r\nvvvvvvvvvv\r\n+OK\r\n$1";
        assert_eq!(feed(Protocol::Resp, &[Get, Set, Get], resp), Ok(2));
        let text = b"VALUE k0000123 0 10\r\nvvvvvvvvvv\r\nEND\r\nSTORED\r\n";
        assert_eq!(feed(Protocol::Memcached, &[Get, Set], text), Ok(2));
    }

    #[test]
    fn misses_and_errors_are_noticed() {
        use Operation::{Get, Set};
        for (protocol, operation, bytes) in [
            (Protocol::Resp, Get, &b"$-1\r\n"[..]),
            (Protocol::Resp, Get, b"-ERR no\r\n"),
            (Protocol::Resp, Set, b"-OOM no\r\n"),
            (Protocol::Resp, Get, b"$11\r\nvvvvvvvvvvv\r\n"),
            (Protocol::Memcached, Get, b"END\r\n"),
            (Protocol::Memcached, Set, b"SERVER_ERROR no\r\n"),
            (Protocol::Memcached, Set, b"NOT_STORED\r\n"),
        ] {
            let error = feed(protocol, &[operation], bytes).unwrap_err();
            assert!(error.contains(&operation.to_string()), "{error}");
            assert!(error.contains(&bytes[..4].escape_ascii().to_string()), "{error}");
        }
    }

    #[test]
    fn what_nobody_asked_for_is_noticed() {
        let error = feed(Protocol::Resp, &[Operation::Set], b"+OK\r\n+OK\r\n").unwrap_err();
        assert!(error.contains("nobody asked for: \"+OK"), "{error}");
    }

    #[test]
    fn torn_replies_count_as_whole_ones() {
        for seed in 0..100 {
            let mut prng = Prng::new(seed);
            let hits = Hits::new(&small(Protocol::Resp));
            let (mut stream, mut pending) = (Vec::new(), VecDeque::new());
            for index in 0..100 {
                let (operation, reply) = if prng.below(2) == 0 {
                    (Operation::Get, &b"$10\r\nvvvvvvvvvv\r\n"[..])
                } else {
                    (Operation::Set, &b"+OK\r\n"[..])
                };
                stream.extend_from_slice(reply);
                pending.push_back(Pending::new(operation, index));
            }
            let (mut counter, mut done) = (ReplyCounter::default(), Vec::new());
            let mut rest = &stream[..];
            while !rest.is_empty() {
                let take = (prng.below(25) as usize + 1).min(rest.len());
                let complete = |pending: Pending| done.push(pending.intended_ns());
                counter.feed(&rest[..take], &hits, &mut pending, complete).unwrap();
                rest = &rest[take..];
            }
            assert!(pending.is_empty(), "seed {seed}");
            assert_eq!(done, (0..100).collect::<Vec<_>>(), "seed {seed}");
        }
    }
}
