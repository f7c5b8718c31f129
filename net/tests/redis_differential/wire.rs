//! Connections that read replies as they are, so that two servers can be compared byte by byte.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::Args;
use crate::support::encode;

/// One reply. Two are equal if their bytes are.
#[derive(Clone, Debug, PartialEq, PartialOrd, Eq, Ord)]
pub(crate) enum Node {
    /// A type that is told in a line, and the line.
    Line(u8, Vec<u8>),
    /// A string with its length.
    Bulk(u8, Vec<u8>),
    /// A string or an array of RESP2 that is not there.
    Absent(u8),
    /// An array, a set, a push; a map, with keys and values in turn.
    Many(u8, Vec<Node>),
}

impl Node {
    /// The text of an error.
    pub(crate) fn error(&self) -> Option<String> {
        match self {
            Node::Line(b'-', text) | Node::Bulk(b'!', text) => {
                Some(String::from_utf8_lossy(text).into_owned())
            }
            _ => None,
        }
    }

    pub(crate) fn is_simple(&self, text: &str) -> bool {
        matches!(self, Node::Line(b'+', line) if line == text.as_bytes())
    }

    pub(crate) fn integer(&self) -> Option<i64> {
        match self {
            Node::Line(b':', text) => std::str::from_utf8(text).ok()?.parse().ok(),
            _ => None,
        }
    }

    pub(crate) fn bulk(&self) -> Option<&[u8]> {
        match self {
            Node::Bulk(_, bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(crate) fn many(&self) -> Option<&[Node]> {
        match self {
            Node::Many(_, nodes) => Some(nodes),
            _ => None,
        }
    }

    /// For a person, cut to a length.
    pub(crate) fn show(&self) -> String {
        const SHOWN_CHARS_MAX: usize = 1_500;
        let text = self.show_all();
        match text.char_indices().nth(SHOWN_CHARS_MAX) {
            Some((end, _)) => format!("{}...", &text[..end]),
            None => text,
        }
    }

    fn show_all(&self) -> String {
        match self {
            Node::Line(kind, text) => format!("{}{}", char::from(*kind), text.escape_ascii()),
            Node::Bulk(kind, bytes) => format!("{}{}", char::from(*kind), quote(bytes)),
            Node::Absent(kind) => format!("{}-1", char::from(*kind)),
            Node::Many(kind, nodes) => {
                let mut shown: Vec<String> = nodes.iter().take(24).map(Node::show_all).collect();
                if nodes.len() > shown.len() {
                    shown.push(format!("... {} in all", nodes.len()));
                }
                format!("{}[{}]", char::from(*kind), shown.join(", "))
            }
        }
    }
}

/// Bytes as redis-cli takes them, cut to a length.
pub(crate) fn quote(bytes: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 120;
    if bytes.len() <= SHOWN_BYTES_MAX {
        return format!("\"{}\"", bytes.escape_ascii());
    }
    format!("\"{}\"... of {} bytes", bytes[..SHOWN_BYTES_MAX].escape_ascii(), bytes.len())
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Read for &Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => (&*stream).read(into),
            Socket::Unix(stream) => (&*stream).read(into),
        }
    }
}

impl Write for &Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => (&*stream).write(bytes),
            Socket::Unix(stream) => (&*stream).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The side of a socket that is read.
struct Reader(Arc<Socket>);

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(into)
    }
}

/// A connection to one of the servers.
pub(crate) struct Link {
    socket: Arc<Socket>,
    reader: BufReader<Reader>,
}

/// How long a reply may take before it counts as missing.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

impl Link {
    pub(crate) fn tcp(address: SocketAddr) -> io::Result<Link> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        Ok(Link::of(Socket::Tcp(stream)))
    }

    pub(crate) fn unix(path: &Path) -> io::Result<Link> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        Ok(Link::of(Socket::Unix(stream)))
    }

    fn of(socket: Socket) -> Link {
        let socket = Arc::new(socket);
        Link { reader: BufReader::new(Reader(socket.clone())), socket }
    }

    /// Sends requests, in two parts if `cut` is in them, and reads so many replies.
    pub(crate) fn exchange(
        &mut self,
        bytes: &[u8],
        cut: usize,
        replies: usize,
    ) -> io::Result<Vec<Node>> {
        let socket = self.socket.clone();
        let send = || {
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            (&*socket).write_all(first)?;
            (&*socket).write_all(second)
        };
        // Replies may fill all buffers before the last request is taken.
        const UNREAD_BYTES_MAX: usize = 16 << 10;
        if bytes.len() <= UNREAD_BYTES_MAX {
            send()?;
            return (0..replies).map(|_| self.reply()).collect();
        }
        std::thread::scope(|scope| {
            let writer = scope.spawn(send);
            let nodes: io::Result<Vec<Node>> = (0..replies).map(|_| self.reply()).collect();
            if nodes.is_ok() {
                writer.join().expect("the writer does not panic")?;
            }
            nodes
        })
    }

    /// Sends one command and reads its reply.
    pub(crate) fn call(&mut self, args: &Args) -> io::Result<Node> {
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        self.exchange(&encode(&args), 0, 1)?.pop().ok_or_else(|| broken("no reply"))
    }

    /// Sends a command of words and reads its reply.
    pub(crate) fn say(&mut self, line: &str) -> io::Result<Node> {
        self.call(&crate::args(line))
    }

    fn reply(&mut self) -> io::Result<Node> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line)?;
        let Some((&kind, text)) = line.strip_suffix(b"\r\n").and_then(<[u8]>::split_first) else {
            return Err(broken("the connection has ended"));
        };
        let count = || -> io::Result<i64> {
            let text = std::str::from_utf8(text).map_err(|_| broken("a length is no text"))?;
            text.parse().map_err(|_| broken("a length is no number"))
        };
        Ok(match kind {
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => Node::Line(kind, text.to_vec()),
            b'$' | b'=' | b'!' => match usize::try_from(count()?) {
                Err(_) => Node::Absent(kind),
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.reader.read_exact(&mut bytes)?;
                    if !bytes.ends_with(b"\r\n") {
                        return Err(broken("a string is longer than it says"));
                    }
                    bytes.truncate(length);
                    Node::Bulk(kind, bytes)
                }
            },
            b'*' | b'~' | b'>' | b'%' => match usize::try_from(count()?) {
                Err(_) => Node::Absent(kind),
                Ok(length) => {
                    let length = if kind == b'%' { length * 2 } else { length };
                    let nodes = (0..length).map(|_| self.reply());
                    Node::Many(kind, nodes.collect::<io::Result<_>>()?)
                }
            },
            _ => return Err(broken(&format!("a reply of no known type: {}", line.escape_ascii()))),
        })
    }
}

fn broken(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}
