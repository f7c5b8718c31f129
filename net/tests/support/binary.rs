//! memcached's binary protocol for tests: requests to bytes, bytes to replies.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// The opaque bytes of the request that ends a series.
const MARK: [u8; 4] = *b"mark";

/// One request.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub opcode: u8,
    pub extras: Vec<u8>,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub opaque: [u8; 4],
    pub version: u64,
}

impl Request {
    pub fn new(opcode: u8, extras: &[u8], key: &[u8], value: &[u8]) -> Request {
        let (extras, key, value) = (extras.to_vec(), key.to_vec(), value.to_vec());
        Request { opcode, extras, key, value, opaque: *b"opaq", version: 0 }
    }

    /// A store with flags 0 and no expiry time.
    pub fn store(opcode: u8, key: &[u8], value: &[u8]) -> Request {
        Request::new(opcode, &[0; 8], key, value)
    }

    pub fn with_version(self, version: u64) -> Request {
        Request { version, ..self }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0x80, self.opcode];
        bytes.extend((self.key.len() as u16).to_be_bytes());
        bytes.extend([self.extras.len() as u8, 0, 0, 0]);
        let body_bytes = self.extras.len() + self.key.len() + self.value.len();
        bytes.extend((body_bytes as u32).to_be_bytes());
        bytes.extend(self.opaque);
        bytes.extend(self.version.to_be_bytes());
        [&bytes[..], &self.extras, &self.key, &self.value].concat()
    }
}

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub opcode: u8,
    pub status: u16,
    pub extras: Vec<u8>,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub opaque: [u8; 4],
    pub version: u64,
}

impl Reply {
    /// Its status and value.
    pub fn outcome(&self) -> (u16, &[u8]) {
        (self.status, &self.value)
    }
}

/// A connection.
pub struct BinaryClient {
    stream: TcpStream,
}

impl BinaryClient {
    pub fn connect(address: SocketAddr) -> BinaryClient {
        let stream = TcpStream::connect(address).expect("connect");
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
        BinaryClient { stream }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("write");
    }

    /// The next reply; `None` at the end of the stream.
    pub fn reply(&mut self) -> Option<Reply> {
        let mut header = [0; 24];
        self.stream.read_exact(&mut header).ok()?;
        assert_eq!(header[0], 0x81, "{header:?}");
        let key_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let extras_bytes = usize::from(header[4]);
        let body_bytes = u32::from_be_bytes(header[8..12].try_into().expect("four bytes"));
        let mut body = vec![0; body_bytes as usize];
        self.stream.read_exact(&mut body).expect("a whole reply");
        Some(Reply {
            opcode: header[1],
            status: u16::from_be_bytes([header[6], header[7]]),
            extras: body[..extras_bytes].to_vec(),
            key: body[extras_bytes..extras_bytes + key_bytes].to_vec(),
            value: body[extras_bytes + key_bytes..].to_vec(),
            opaque: header[12..16].try_into().expect("four bytes"),
            version: u64::from_be_bytes(header[16..].try_into().expect("eight bytes")),
        })
    }

    /// Sends bytes, and reads all that is answered to them; a `noop` marks the end.
    pub fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Vec<Reply> {
        let mark = Request { opaque: MARK, ..Request::new(0x0A, b"", b"", b"") };
        self.send([bytes.as_ref(), &mark.bytes()].concat());
        let mut replies = Vec::new();
        loop {
            match self.reply() {
                Some(reply) if reply.opaque == MARK => return replies,
                Some(reply) => replies.push(reply),
                None => panic!("the server hung up after {replies:?}"),
            }
        }
    }

    /// Sends a request that has one reply.
    pub fn call(&mut self, request: &Request) -> Reply {
        self.send(request.bytes());
        self.reply().unwrap_or_else(|| panic!("the server hung up at {request:?}"))
    }

    /// Sends no more; the replies until the server closes.
    pub fn finish(&mut self) -> Vec<Reply> {
        // It may have closed by itself.
        let _ = self.stream.shutdown(Shutdown::Write);
        std::iter::from_fn(|| self.reply()).collect()
    }
}
