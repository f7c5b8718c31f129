//! What a client waits for, and whether what has come is that.

use std::collections::BTreeMap;

/// A reply that is to come.
#[derive(Clone, Debug)]
pub(crate) enum Expect {
    /// These bytes.
    Exact(Vec<u8>),
    /// A line that begins so.
    Line(&'static str),
    /// The number of a shared counter.
    Counter(usize),
    /// A shared value, or none.
    Shared,
    /// Any RESP reply that is no error.
    AnyResp,
    /// These values of memcached, in any order.
    Values(Values),
    /// An array of these keys, in any order.
    Keys(Vec<Vec<u8>>),
    /// One of these keys, or null if there is none.
    OneOf(Vec<Vec<u8>>),
    /// A page of SCAN.
    Page,
    /// What reading a shared key with a lease gives.
    Lease,
}

/// What a reply has told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Nothing,
    Counter(usize, i64),
    Shared(Vec<u8>),
    /// The next cursor, and keys.
    Page(Vec<u8>, Vec<Vec<u8>>),
    /// A lease was won.
    Lease,
}

/// The bytes of the line at the front, without its end, and of the line with it.
fn line(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&bytes[..end], end + 2))
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The length of the RESP reply at the front, if it is whole.
fn resp_bytes(bytes: &[u8]) -> Option<usize> {
    let (head, mut length) = line(bytes)?;
    match head.first()? {
        b'$' => match number(&head[1..])? {
            -1 => {}
            count => length += count as usize + 2,
        },
        b'*' => {
            for _ in 0..number(&head[1..])?.max(0) {
                length += resp_bytes(bytes.get(length..)?)?;
            }
        }
        _ => {}
    }
    (length <= bytes.len()).then_some(length)
}

/// The bulk strings of an array, and of arrays in it.
fn bulks(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let Some((head, after)) = line(bytes) {
        bytes = &bytes[after..];
        if head.first() == Some(&b'$')
            && let Some(count @ 0..) = number(&head[1..])
        {
            found.push(bytes[..count as usize].to_vec());
            bytes = &bytes[count as usize + 2..];
        }
    }
    found
}

type Values = BTreeMap<Vec<u8>, Vec<u8>>;

/// Bytes of values up to `END`, and the values.
fn values(bytes: &[u8]) -> Option<(Values, usize)> {
    let (mut found, mut at) = (BTreeMap::new(), 0);
    loop {
        let (head, length) = line(bytes.get(at..)?)?;
        at += length;
        if !head.starts_with(b"VALUE ") {
            return (head == b"END").then_some((found, at));
        }
        let words: Vec<&[u8]> = head.split(|&byte| byte == b' ').collect();
        let count = number(words.get(3)?)? as usize;
        let value = bytes.get(at..at + count)?.to_vec();
        at += count + 2;
        if at > bytes.len() {
            return None;
        }
        found.insert(words[1].to_vec(), value);
    }
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned()
}

impl Expect {
    /// Takes the reply from the front of what has come. `None` if it is not whole.
    pub(crate) fn take(&self, got: &mut Vec<u8>) -> Result<Option<Told>, String> {
        let told = match self {
            Expect::Exact(bytes) => {
                let count = bytes.len().min(got.len());
                if bytes[..count] != got[..count] {
                    return Err(format!("expected {:?}, got {:?}", shown(bytes), shown(got)));
                }
                (count == bytes.len()).then_some((Told::Nothing, count))
            }
            Expect::Values(expected) => match values(got) {
                Some((found, _)) if found != *expected => {
                    let keys: Vec<String> = expected.keys().map(|key| shown(key)).collect();
                    return Err(format!("expected values of {keys:?}, got {:?}", shown(got)));
                }
                found => found.map(|(_, length)| (Told::Nothing, length)),
            },
            Expect::Lease => lease(got)?,
            _ => match resp_bytes(got) {
                Some(length) => Some((self.of_resp(&got[..length])?, length)),
                None => None,
            },
        };
        Ok(told.map(|(told, length)| {
            got.drain(..length);
            told
        }))
    }

    fn of_resp(&self, reply: &[u8]) -> Result<Told, String> {
        let wrong = |what: &str| Err(format!("expected {what}, got {:?}", shown(reply)));
        match self {
            Expect::Line(start) if !reply.starts_with(start.as_bytes()) => wrong(start),
            Expect::AnyResp if reply[0] == b'-' => wrong("no error"),
            Expect::Counter(counter) => match number(&reply[1..reply.len() - 2]) {
                Some(count) if reply[0] == b':' => Ok(Told::Counter(*counter, count)),
                _ => wrong("a number"),
            },
            Expect::Shared => match bulks(reply).pop() {
                Some(value) => Ok(Told::Shared(value)),
                None if reply == b"$-1\r\n" => Ok(Told::Nothing),
                None => wrong("a value or none"),
            },
            Expect::Keys(expected) => {
                let mut found = bulks(reply);
                found.sort_unstable();
                if found == *expected { Ok(Told::Nothing) } else { wrong("the keys") }
            }
            Expect::OneOf(expected) => match bulks(reply).pop() {
                Some(key) if expected.contains(&key) => Ok(Told::Nothing),
                None if expected.is_empty() => Ok(Told::Nothing),
                _ => wrong("one of the keys"),
            },
            Expect::Page => {
                let mut found = bulks(reply);
                if found.is_empty() || !reply.starts_with(b"*2") {
                    return wrong("a cursor and keys");
                }
                let cursor = found.remove(0);
                Ok(Told::Page(cursor, found))
            }
            _ => Ok(Told::Nothing),
        }
    }
}

/// The reply to reading a shared key of memcached with a lease.
fn lease(got: &[u8]) -> Result<Option<(Told, usize)>, String> {
    let Some((head, mut length)) = line(got) else { return Ok(None) };
    let words: Vec<&[u8]> = head.split(|&byte| byte == b' ').collect();
    let wins = words.contains(&&b"W"[..]);
    match words[0] {
        b"EN" | b"HD" | b"NF" => Ok(Some((Told::Nothing, length))),
        b"VA" => {
            let count = words.get(1).and_then(|count| number(count)).unwrap_or_default() as usize;
            length += count + 2;
            if got.len() < length {
                return Ok(None);
            }
            let value = got[head.len() + 2..length - 2].to_vec();
            let told = match (wins, value.is_empty()) {
                (true, _) => Told::Lease,
                (false, true) => Told::Nothing,
                (false, false) => Told::Shared(value),
            };
            Ok(Some((told, length)))
        }
        _ => Err(format!("expected what a lease gives, got {:?}", shown(got))),
    }
}
