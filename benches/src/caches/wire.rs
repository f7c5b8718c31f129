//! One connection with batches of requests under way, for either protocol.
//!
//! Requests are written into a batch, sent as one piece, and answered in order. The next batch is
//! sent before the answers to the last are read, so that client and server work at the same time.
//! A batch of requests is small, or else its answers are: reads have short requests, writes have
//! short answers. So neither side ever waits for the other to read.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::client::{ClientError, Protocol};

/// Requests of a batch at most.
const BATCH_REQUESTS: usize = 128;
/// A batch is sent once it has so many bytes.
const BATCH_BYTES: usize = 64 << 10;
/// A server that is silent for longer has failed.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// Room for answers at the start; it grows with the longest one.
const INPUT_BYTES: usize = 256 << 10;
/// How much of an answer that cannot be read an error shows.
const EXCERPT_BYTES: usize = 60;

/// When an item that is written expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// Never.
    None,
    /// So many milliseconds from now; memcached gets whole seconds, at least one.
    After(u64),
    /// At this time of the wall clock, in milliseconds; memcached gets whole seconds, rounded up.
    At(u64),
}

/// What a server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer<'a> {
    /// The write is done.
    Stored,
    /// It is not: for want of room.
    Refused,
    /// The value, or another text.
    Value(&'a [u8]),
    /// There is no such key.
    Miss,
    /// A number.
    Number(u64),
}

/// Requests of a batch, in the connection's protocol.
pub(crate) struct Requests {
    protocol: Protocol,
    bytes: Vec<u8>,
    count: usize,
}

impl Requests {
    /// Reads a key.
    pub(crate) fn get(&mut self, key: &[u8]) {
        match self.protocol {
            Protocol::Resp => self.resp(&[b"GET", key]),
            // Either speaks the classic commands.
            Protocol::Memcached | Protocol::Meta => self.line(&[b"get ", key]),
        }
        self.count += 1;
    }

    /// Writes a key.
    pub(crate) fn set(&mut self, key: &[u8], value: &[u8], expiry: Expiry) {
        match (self.protocol, expiry) {
            (Protocol::Resp, Expiry::None) => self.resp(&[b"SET", key, value]),
            (Protocol::Resp, Expiry::After(ms)) => {
                self.resp(&[b"SET", key, value, b"PX", ms.to_string().as_bytes()]);
            }
            (Protocol::Resp, Expiry::At(ms)) => {
                self.resp(&[b"SET", key, value, b"PXAT", ms.to_string().as_bytes()]);
            }
            (Protocol::Memcached | Protocol::Meta, expiry) => {
                let seconds = match expiry {
                    Expiry::None => 0,
                    Expiry::After(ms) => (ms / 1000).max(1),
                    Expiry::At(ms) => ms.div_ceil(1000),
                };
                let end = format!(" 0 {seconds} {}", value.len());
                self.line(&[b"set ", key, end.as_bytes()]);
                self.line(&[value]);
            }
        }
        self.count += 1;
    }

    fn resp(&mut self, arguments: &[&[u8]]) {
        // Writing to memory cannot fail.
        let _ = write!(self.bytes, "*{}\r\n", arguments.len());
        for argument in arguments {
            let _ = write!(self.bytes, "${}\r\n", argument.len());
            self.bytes.extend_from_slice(argument);
            self.bytes.extend_from_slice(b"\r\n");
        }
    }

    fn line(&mut self, parts: &[&[u8]]) {
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.bytes.extend_from_slice(b"\r\n");
    }
}

/// A connection.
pub(crate) struct Wire {
    stream: TcpStream,
    requests: Requests,
    input: Vec<u8>,
    /// Where the bytes that are not read yet begin and end.
    start: usize,
    end: usize,
}

impl Wire {
    /// Connects.
    ///
    /// # Errors
    ///
    /// If the server does not accept the connection.
    pub(crate) fn connect(address: SocketAddr, protocol: Protocol) -> Result<Wire, ClientError> {
        let refused = |error| ClientError::Connect(address, error);
        let stream = TcpStream::connect(address).map_err(refused)?;
        stream.set_nodelay(true).map_err(refused)?;
        stream.set_read_timeout(Some(SILENCE_MAX)).map_err(refused)?;
        stream.set_write_timeout(Some(SILENCE_MAX)).map_err(refused)?;
        Ok(Wire {
            stream,
            requests: Requests { protocol, bytes: Vec::new(), count: 0 },
            input: vec![0; INPUT_BYTES],
            start: 0,
            end: 0,
        })
    }

    /// Sends the requests that `write` makes of each number below `count`, in batches, and hands
    /// every answer to `read` with its number.
    ///
    /// # Errors
    ///
    /// If the server goes away, falls silent, or says what cannot be understood.
    pub(crate) fn pump(
        &mut self,
        count: u64,
        mut write: impl FnMut(u64, &mut Requests),
        mut read: impl FnMut(u64, Answer<'_>),
    ) -> Result<(), ClientError> {
        let (mut sent, mut answered) = (0, 0);
        while answered < count {
            let batch_end = sent;
            while sent < count
                && self.requests.count < BATCH_REQUESTS
                && self.requests.bytes.len() < BATCH_BYTES
            {
                write(sent, &mut self.requests);
                sent += 1;
            }
            self.send()?;
            // The answers to the batch before; at the end, to all.
            let until = if sent == count { count } else { batch_end };
            while answered < until {
                read(answered, self.answer()?);
                answered += 1;
            }
        }
        Ok(())
    }

    /// The requests of the next batch.
    pub(crate) fn requests(&mut self) -> &mut Requests {
        &mut self.requests
    }

    /// Sends the batch.
    ///
    /// # Errors
    ///
    /// If the server goes away or does not take it.
    pub(crate) fn send(&mut self) -> Result<(), ClientError> {
        self.stream.write_all(&self.requests.bytes).map_err(|error| failed("send", error))?;
        self.requests.bytes.clear();
        self.requests.count = 0;
        Ok(())
    }

    /// The next answer; waits for it.
    ///
    /// # Errors
    ///
    /// If the server goes away, falls silent, or says what cannot be understood.
    pub(crate) fn answer(&mut self) -> Result<Answer<'_>, ClientError> {
        let protocol = self.requests.protocol;
        let parsed = loop {
            if let Some(parsed) = parse(protocol, &self.input[self.start..self.end])? {
                break parsed;
            }
            self.receive()?;
        };
        let at = self.start;
        self.start += parsed.bytes;
        Ok(match parsed.answer {
            Parsed::Value(from, to) => Answer::Value(&self.input[at + from..at + to]),
            Parsed::Stored => Answer::Stored,
            Parsed::Refused => Answer::Refused,
            Parsed::Miss => Answer::Miss,
            Parsed::Number(number) => Answer::Number(number),
        })
    }

    /// Items that the server holds, expired ones that it has not removed included.
    ///
    /// # Errors
    ///
    /// As [`Wire::answer`].
    pub(crate) fn items(&mut self) -> Result<u64, ClientError> {
        match self.requests.protocol {
            Protocol::Resp => {
                self.requests.resp(&[b"DBSIZE"]);
                self.send()?;
                match self.answer()? {
                    Answer::Number(items) => Ok(items),
                    other => Err(unexpected(&format!("{other:?} to DBSIZE"))),
                }
            }
            Protocol::Memcached | Protocol::Meta => {
                let items = self.figure("curr_items")?;
                Ok(items.ok_or_else(|| unexpected("no curr_items"))? as u64)
            }
        }
    }

    /// A figure of the server's own statistics (INFO, `stats`); `None` if it has none of that
    /// name.
    ///
    /// # Errors
    ///
    /// As [`Wire::answer`].
    pub(crate) fn figure(&mut self, name: &str) -> Result<Option<f64>, ClientError> {
        let text = match self.requests.protocol {
            Protocol::Resp => {
                self.requests.resp(&[b"INFO"]);
                self.send()?;
                match self.answer()? {
                    Answer::Value(text) => String::from_utf8_lossy(text).into_owned(),
                    other => return Err(unexpected(&format!("{other:?} to INFO"))),
                }
            }
            Protocol::Memcached | Protocol::Meta => {
                self.requests.line(&[b"stats"]);
                self.send()?;
                self.text_until_end()?
            }
        };
        let words = |line: &str| {
            let line = line.strip_prefix("STAT ").unwrap_or(line).trim().to_string();
            line.split_once([':', ' ']).map(|(name, value)| (name.to_string(), value.to_string()))
        };
        let found = text.lines().filter_map(words).find(|(found, _)| found == name);
        Ok(found.and_then(|(_, value)| value.parse().ok()))
    }

    /// Lines up to `END`.
    fn text_until_end(&mut self) -> Result<String, ClientError> {
        const END: &[u8] = b"END\r\n";
        while !self.input[self.start..self.end].ends_with(END) {
            self.receive()?;
        }
        let text = String::from_utf8_lossy(&self.input[self.start..self.end]).into_owned();
        self.start = self.end;
        Ok(text)
    }

    fn receive(&mut self) -> Result<(), ClientError> {
        if self.end == self.input.len() {
            self.input.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if self.end * 2 > self.input.len() {
                self.input.resize(self.input.len() * 2, 0);
            }
        }
        match self.stream.read(&mut self.input[self.end..]) {
            Ok(0) => Err(ClientError::Closed),
            Ok(count) => {
                self.end += count;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(failed("receive", error)),
        }
    }
}

/// An answer by the places of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parsed {
    Stored,
    Refused,
    Miss,
    Number(u64),
    Value(usize, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    answer: Parsed,
    /// Its length.
    bytes: usize,
}

/// The first answer in `input`; `None` if it is not whole yet.
fn parse(protocol: Protocol, input: &[u8]) -> Result<Option<Frame>, ClientError> {
    let Some(line_end) = input.windows(2).position(|pair| pair == b"\r\n") else {
        return Ok(None);
    };
    let line = &input[..line_end];
    let bytes = line_end + 2;
    let frame = |answer| Ok(Some(Frame { answer, bytes }));
    let text = String::from_utf8_lossy(line);
    let number = |text: &str| text.parse().map_err(|_| unexpected(&escape(line)));
    let (length, tail): (usize, usize) = match (protocol, text.as_ref()) {
        (Protocol::Resp, "+OK") | (Protocol::Memcached, "STORED") => return frame(Parsed::Stored),
        (Protocol::Resp, "$-1" | "_") | (Protocol::Memcached, "END") => return frame(Parsed::Miss),
        (Protocol::Resp, text) if text.starts_with("-OOM") => return frame(Parsed::Refused),
        (Protocol::Memcached, text) if text.starts_with("SERVER_ERROR out of memory") => {
            return frame(Parsed::Refused);
        }
        (Protocol::Resp, text) if text.starts_with(':') => {
            return frame(Parsed::Number(number(&text[1..])? as u64));
        }
        (Protocol::Resp, text) if text.starts_with('$') => (number(&text[1..])?, 2),
        (Protocol::Memcached, text) if text.starts_with("VALUE ") => {
            (number(text.rsplit(' ').next().unwrap_or(""))?, b"\r\nEND\r\n".len())
        }
        _ => return Err(unexpected(&escape(line))),
    };
    let whole = bytes + length + tail;
    let value = Parsed::Value(bytes, bytes + length);
    Ok((input.len() >= whole).then_some(Frame { answer: value, bytes: whole }))
}

fn unexpected(excerpt: &str) -> ClientError {
    ClientError::Unasked { excerpt: excerpt.to_string() }
}

fn escape(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(EXCERPT_BYTES)].escape_ascii().to_string()
}

fn failed(what: &'static str, error: std::io::Error) -> ClientError {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => ClientError::Closed,
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            ClientError::Silent { waited_s: SILENCE_MAX.as_secs() }
        }
        _ => ClientError::Io(what, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_both_protocols_are_read_whole_or_not_at_all() {
        use Protocol::{Memcached, Resp};
        for (protocol, text, expected) in [
            (Resp, "+OK\r\n", Parsed::Stored),
            (Resp, "$-1\r\n", Parsed::Miss),
            (Resp, "-OOM command not allowed\r\n", Parsed::Refused),
            (Resp, ":42\r\n", Parsed::Number(42)),
            (Resp, "$3\r\na\r\n\r\n", Parsed::Value(4, 7)),
            (Resp, "$0\r\n\r\n", Parsed::Value(4, 4)),
            (Memcached, "STORED\r\n", Parsed::Stored),
            (Memcached, "END\r\n", Parsed::Miss),
            (Memcached, "SERVER_ERROR out of memory storing object\r\n", Parsed::Refused),
            (Memcached, "VALUE k 0 3\r\nabc\r\nEND\r\n", Parsed::Value(13, 16)),
        ] {
            let frame = parse(protocol, text.as_bytes()).unwrap();
            assert_eq!(frame, Some(Frame { answer: expected, bytes: text.len() }), "{text:?}");
            for length in 0..text.len() {
                assert_eq!(parse(protocol, &text.as_bytes()[..length]).unwrap(), None, "{text:?}");
            }
            let more = format!("{text}+OK\r\n");
            assert_eq!(parse(protocol, more.as_bytes()).unwrap(), frame);
        }
        for (protocol, text) in
            [(Resp, "-ERR x\r\n"), (Resp, ":x\r\n"), (Memcached, "ERROR\r\n"), (Resp, "\r\n")]
        {
            assert!(parse(protocol, text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn requests_are_written_in_both_protocols() {
        let written = |protocol, expiry| {
            let mut requests = Requests { protocol, bytes: Vec::new(), count: 0 };
            requests.set(b"k", b"vv", expiry);
            requests.get(b"k");
            assert_eq!(requests.count, 2);
            String::from_utf8(requests.bytes).unwrap()
        };
        let resp = written(Protocol::Resp, Expiry::After(1500));
        assert!(
            resp.starts_with("*5\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\nvv\r\n$2\r\nPX\r\n$4\r\n1500")
        );
        assert!(written(Protocol::Resp, Expiry::At(7)).contains("PXAT"));
        assert!(written(Protocol::Resp, Expiry::None).ends_with("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"));
        let text = written(Protocol::Memcached, Expiry::After(1500));
        assert_eq!(text, "set k 0 1 2\r\nvv\r\nget k\r\n");
        assert!(
            written(Protocol::Memcached, Expiry::At(1_700_000_000_001)).contains(" 1700000001 ")
        );
        assert!(written(Protocol::Memcached, Expiry::None).starts_with("set k 0 0 2\r\n"));
    }
}
