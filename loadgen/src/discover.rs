//! What a server says about itself before a run: how many cores it has, which of them a connection
//! reached, and which node owns which slots.
//!
//! Everything is asked on a fresh connection that still blocks, with a time limit; nothing of it
//! happens on a worker's thread. A server of another kind that knows none of it is told apart from
//! one that does not answer.
//!
//! Where the answers are: RESP `INFO` has a line `cores:N`, `CLIENT INFO` a field `core=N`;
//! memcached's `stats` has `cores` and `connection_core`.

use std::io::{self, Read, Write};

use crate::config::Protocol;
use crate::protocol::{Line, decimal, line, resp};

/// Longest answer that is believed.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Deepest nesting of an answer.
const DEPTH_MAX: u32 = 8;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Problem {
    /// The connection failed.
    Io(io::Error),
    /// The server said no, or something else than asked, in these words.
    Refused(String),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Problem {
        Problem::Io(error)
    }
}

/// Sends a RESP request and returns the whole reply.
///
/// # Errors
/// [`Problem::Refused`] for an error reply or one that is no RESP.
pub(crate) fn ask_resp(
    stream: &mut (impl Read + Write),
    words: &[&str],
) -> Result<Vec<u8>, Problem> {
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        request.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    let reply = exchange(stream, &request, |reply| {
        let length = resp::skip(reply)?;
        if length.is_some_and(|length| length < reply.len()) {
            return Err("more than one reply");
        }
        Ok(length.is_some())
    })?;
    if reply.starts_with(b"-") || reply.starts_with(b"!") {
        return Err(Problem::Refused(reply.trim_ascii().escape_ascii().to_string()));
    }
    Ok(reply)
}

/// Sends `stats` of memcached and returns its lines.
fn ask_stats(stream: &mut (impl Read + Write)) -> Result<String, Problem> {
    let lines = exchange(stream, b"stats\r\n", |lines| match line(lines) {
        Line::Broken => Err("a line without a proper end"),
        Line::Whole(text, _) if !text.starts_with(b"STAT ") && text != b"END" => {
            Err("no statistics")
        }
        Line::Torn | Line::Whole(..) => Ok(lines.ends_with(b"END\r\n")),
    })?;
    Ok(String::from_utf8_lossy(&lines).into_owned())
}

fn exchange(
    stream: &mut (impl Read + Write),
    request: &[u8],
    is_whole: impl Fn(&[u8]) -> Result<bool, &'static str>,
) -> Result<Vec<u8>, Problem> {
    stream.write_all(request)?;
    let (mut answer, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let bytes = stream.read(&mut chunk)?;
        answer.extend_from_slice(&chunk[..bytes]);
        match is_whole(&answer) {
            Ok(true) => return Ok(answer),
            Ok(false) if bytes == 0 => {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            Ok(false) if answer.len() <= ANSWER_BYTES_MAX => {}
            Ok(false) => return Err(Problem::Refused("the reply never ends".to_owned())),
            Err(why) => return Err(Problem::Refused(why.to_owned())),
        }
    }
}

/// How many cores the server has; `None` if it does not say.
///
/// # Errors
/// [`Problem::Io`] if it does not answer at all.
pub(crate) fn cores(
    stream: &mut (impl Read + Write),
    protocol: Protocol,
) -> Result<Option<usize>, Problem> {
    if protocol.is_memcached() {
        return Ok(stat(&ask_stats(stream)?, "cores"));
    }
    for section in ["cluster", "everything"] {
        let info = match ask_resp(stream, &["INFO", section]) {
            Ok(info) => String::from_utf8_lossy(&info).into_owned(),
            Err(Problem::Refused(_)) => continue,
            Err(problem) => return Err(problem),
        };
        let found = info.lines().find_map(|line| line.strip_prefix("cores:")?.trim().parse().ok());
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Which core this connection reached; `None` if the server does not say.
///
/// # Errors
/// [`Problem::Io`] if it does not answer at all.
pub(crate) fn connection_core(
    stream: &mut (impl Read + Write),
    protocol: Protocol,
) -> Result<Option<usize>, Problem> {
    if protocol.is_memcached() {
        return Ok(stat(&ask_stats(stream)?, "connection_core"));
    }
    match ask_resp(stream, &["CLIENT", "INFO"]) {
        Ok(reply) => {
            let text = String::from_utf8_lossy(&reply);
            let mut words = text.split_whitespace();
            Ok(words.find_map(|word| word.strip_prefix("core=")?.parse().ok()))
        }
        Err(Problem::Refused(_)) => Ok(None),
        Err(problem) => Err(problem),
    }
}

fn stat(lines: &str, name: &str) -> Option<usize> {
    lines.lines().find_map(|line| {
        let (found, value) = line.strip_prefix("STAT ")?.split_once(' ')?;
        (found == name).then(|| value.trim().parse().ok())?
    })
}

/// The owner of a range of slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlotRange {
    /// The first slot.
    pub(crate) first: u16,
    /// The last one.
    pub(crate) last: u16,
    /// The host, or `None` for the one that was asked.
    pub(crate) host: Option<String>,
    /// The port.
    pub(crate) port: u16,
}

/// Asks for `CLUSTER SLOTS`.
///
/// # Errors
/// [`Problem::Refused`] if the server has no cluster, or says something else.
pub(crate) fn cluster_slots(stream: &mut (impl Read + Write)) -> Result<Vec<SlotRange>, Problem> {
    let reply = ask_resp(stream, &["CLUSTER", "SLOTS"])?;
    slot_ranges(&reply).ok_or_else(|| {
        let shown = reply[..reply.len().min(80)].escape_ascii();
        Problem::Refused(format!("no reply to CLUSTER SLOTS: {shown}"))
    })
}

fn slot_ranges(reply: &[u8]) -> Option<Vec<SlotRange>> {
    let (value, _) = value(reply, DEPTH_MAX)?;
    let ranges = value.items()?.iter().map(|range| {
        let range = range.items()?;
        let owner = range.get(2)?.items()?;
        let host = match owner.first()? {
            Value::Nil => None,
            Value::Text(host) if host.is_empty() => None,
            Value::Text(host) => Some(String::from_utf8(host.clone()).ok()?),
            Value::Items(_) => return None,
        };
        Some(SlotRange {
            first: range.first()?.number()?,
            last: range.get(1)?.number()?,
            host,
            port: owner.get(1)?.number()?,
        })
    });
    ranges.collect()
}

/// A RESP value, as far as `CLUSTER SLOTS` needs it.
enum Value {
    Nil,
    Text(Vec<u8>),
    Items(Vec<Value>),
}

impl Value {
    fn items(&self) -> Option<&[Value]> {
        if let Value::Items(items) = self { Some(items) } else { None }
    }

    fn number(&self) -> Option<u16> {
        let Value::Text(text) = self else { return None };
        decimal(text, u64::from(u16::MAX)).map(|number| number as u16)
    }
}

/// The value at the start of `input`, and its length.
fn value(input: &[u8], depth: u32) -> Option<(Value, usize)> {
    let Line::Whole(text, line_bytes) = line(input) else { return None };
    let (&kind, text) = text.split_first()?;
    match kind {
        b':' | b'+' => Some((Value::Text(text.to_vec()), line_bytes)),
        b'_' => Some((Value::Nil, line_bytes)),
        b'$' | b'*' if text == b"-1" => Some((Value::Nil, line_bytes)),
        b'$' => {
            let end = line_bytes.checked_add(decimal(text, ANSWER_BYTES_MAX as u64)? as usize)?;
            Some((Value::Text(input.get(line_bytes..end)?.to_vec()), end + 2))
        }
        b'*' | b'~' | b'%' => {
            let depth = depth.checked_sub(1)?;
            let count = decimal(text, ANSWER_BYTES_MAX as u64)? * if kind == b'%' { 2 } else { 1 };
            let (mut items, mut at) = (Vec::new(), line_bytes);
            for _ in 0..count {
                let (item, bytes) = value(input.get(at..)?, depth)?;
                items.push(item);
                at += bytes;
            }
            Some((Value::Items(items), at))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that answers with what it was given.
    struct Canned {
        sent: Vec<u8>,
        answers: Vec<Vec<u8>>,
    }

    impl Canned {
        fn new(answers: &[&str]) -> Canned {
            let answers = answers.iter().rev().map(|text| text.as_bytes().to_vec()).collect();
            Canned { sent: Vec::new(), answers }
        }
    }

    impl Read for Canned {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some(answer) = self.answers.last_mut() else { return Ok(0) };
            // A byte at a time: nothing may hang on how an answer is cut.
            buffer[0] = answer.remove(0);
            if answer.is_empty() {
                self.answers.pop();
            }
            Ok(1)
        }
    }

    impl Write for Canned {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.sent.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn cores_are_found_where_a_server_tells_them() {
        let info = "$30\r\n# Cluster\r\ncores:12\r\nother:1\r\n\r\n\r\n";
        let mut stream = Canned::new(&[info]);
        assert_eq!(cores(&mut stream, Protocol::Resp).expect("answered"), Some(12));
        assert!(stream.sent.ends_with(b"INFO\r\n$7\r\ncluster\r\n"));
        let silent = "$3\r\nx:1\r\n";
        let mut stream = Canned::new(&[silent, silent]);
        assert_eq!(cores(&mut stream, Protocol::Resp).expect("answered"), None);
        let stats = "STAT pid 1\r\nSTAT cores 4\r\nSTAT connection_core 3\r\nEND\r\n";
        let mut stream = Canned::new(&[stats, stats]);
        assert_eq!(cores(&mut stream, Protocol::Memcached).expect("answered"), Some(4));
        assert_eq!(connection_core(&mut stream, Protocol::Meta).expect("answered"), Some(3));
        let mut stream = Canned::new(&["$16\r\nid=3 core=2 db=0\r\n", "-ERR unknown\r\n"]);
        assert_eq!(connection_core(&mut stream, Protocol::Resp).expect("answered"), Some(2));
        assert_eq!(connection_core(&mut stream, Protocol::Resp).expect("answered"), None);
        assert!(matches!(
            connection_core(&mut Canned::new(&["$5\r\nab"]), Protocol::Resp),
            Err(Problem::Io(_))
        ));
    }

    #[test]
    fn slots_are_read_from_every_form_of_the_reply() {
        let node = |host: &str, port| format!("*4\r\n{host}\r\n:{port}\r\n$2\r\nid\r\n*0\r\n");
        let (first, second) = (node("$9\r\n127.0.0.1", 7001), node("$-1", 7002));
        let reply =
            format!("*2\r\n*3\r\n:0\r\n:8191\r\n{first}*4\r\n:8192\r\n:16383\r\n{second}{first}");
        let range = |first, last, host: Option<&str>, port| SlotRange {
            first,
            last,
            host: host.map(str::to_owned),
            port,
        };
        let expected = [range(0, 8191, Some("127.0.0.1"), 7001), range(8192, 16_383, None, 7002)];
        let slots = cluster_slots(&mut Canned::new(&[&reply])).expect("slots");
        assert_eq!(slots, expected);
        for cut in 0..reply.len() {
            assert_eq!(slot_ranges(&reply.as_bytes()[..cut]), None, "{cut}");
        }
        let refused = cluster_slots(&mut Canned::new(&["-ERR cluster support disabled\r\n"]));
        let Err(Problem::Refused(why)) = refused else { panic!("no cluster") };
        assert!(why.contains("disabled"));
        assert!(cluster_slots(&mut Canned::new(&["*1\r\n:1\r\n"])).is_err());
    }
}
