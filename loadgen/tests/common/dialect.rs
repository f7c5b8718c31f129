//! How the test server hears and says things: RESP, and memcached's text and meta.

use std::io::BufRead;

use super::{Answer, Command, Dialect};

fn bulk(value: Option<&[u8]>) -> Vec<u8> {
    match value {
        None => b"$-1\r\n".to_vec(),
        Some(value) => [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat(),
    }
}

pub(super) fn resp_answer(answer: Answer) -> Vec<u8> {
    match answer {
        Answer::Value(_, value) => bulk(Some(&value)),
        Answer::Values(values) => {
            let mut out = format!("*{}\r\n", values.len()).into_bytes();
            values.iter().for_each(|(_, value)| out.extend(bulk(value.as_deref())));
            out
        }
        Answer::Touched(known) | Answer::Added(known) => {
            format!(":{}\r\n", u8::from(known)).into_bytes()
        }
        Answer::Number(number) => format!(":{number}\r\n").into_bytes(),
        Answer::Miss => bulk(None),
        Answer::Stored => b"+OK\r\n".to_vec(),
        Answer::Deleted(known) => format!(":{}\r\n", u8::from(known)).into_bytes(),
        Answer::Refused => b"-OOM no memory left\r\n".to_vec(),
        Answer::Hello(true) => b"%1\r\n+proto\r\n:3\r\n".to_vec(),
        Answer::Hello(false) => b"-ERR unknown command 'HELLO'\r\n".to_vec(),
        Answer::Text(text) => bulk(Some(text.as_bytes())),
        Answer::Raw(text) => text.into_bytes(),
        Answer::Unknown => b"-ERR This instance has cluster support disabled\r\n".to_vec(),
        Answer::Garbage => b"HTTP/1.1 400 Bad Request\r\n".to_vec(),
    }
}

fn text_value(key: &[u8], value: &[u8]) -> Vec<u8> {
    let length = format!(" 0 {}\r\n", value.len());
    [b"VALUE ", key, length.as_bytes(), value, b"\r\n"].concat()
}

pub(super) fn text_answer(answer: Answer) -> Vec<u8> {
    match answer {
        Answer::Value(key, value) => [&text_value(&key, &value)[..], b"END\r\n"].concat(),
        Answer::Values(values) => {
            let found = values.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
            let mut out: Vec<u8> = found.flat_map(|(key, value)| text_value(key, value)).collect();
            out.extend(b"END\r\n");
            out
        }
        Answer::Number(number) => format!("{number}\r\n").into_bytes(),
        Answer::Added(true) => b"STORED\r\n".to_vec(),
        Answer::Added(false) => b"NOT_STORED\r\n".to_vec(),
        Answer::Touched(true) => b"TOUCHED\r\n".to_vec(),
        Answer::Touched(false) => b"NOT_FOUND\r\n".to_vec(),
        Answer::Miss => b"END\r\n".to_vec(),
        Answer::Stored => b"STORED\r\n".to_vec(),
        Answer::Deleted(true) => b"DELETED\r\n".to_vec(),
        Answer::Deleted(false) => b"NOT_FOUND\r\n".to_vec(),
        Answer::Refused => b"SERVER_ERROR out of memory\r\n".to_vec(),
        Answer::Hello(_) | Answer::Text(_) | Answer::Unknown => b"ERROR\r\n".to_vec(),
        Answer::Raw(text) => text.into_bytes(),
        Answer::Garbage => b"HTTP/1.1 400 Bad Request\r\n".to_vec(),
    }
}

pub(super) fn meta_answer(answer: Answer) -> Vec<u8> {
    match answer {
        Answer::Value(key, value) => {
            let head = format!("VA {} k", value.len());
            [head.as_bytes(), &key, b"\r\n", &value, b"\r\n"].concat()
        }
        Answer::Number(number) => {
            let digits = number.to_string();
            format!("VA {}\r\n{digits}\r\n", digits.len()).into_bytes()
        }
        Answer::Touched(true) | Answer::Stored | Answer::Deleted(true) => b"HD\r\n".to_vec(),
        Answer::Touched(false) | Answer::Miss => b"EN\r\n".to_vec(),
        Answer::Deleted(false) => b"NF\r\n".to_vec(),
        other => text_answer(other),
    }
}

fn line(input: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    input.read_line(&mut line).ok().filter(|&bytes| bytes > 0)?;
    Some(line.trim_end().to_owned())
}

fn bytes(input: &mut impl BufRead, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length + 2];
    input.read_exact(&mut bytes).ok()?;
    assert!(bytes.ends_with(b"\r\n"), "a value longer than its length says");
    bytes.truncate(length);
    Some(bytes)
}

pub(super) fn read_resp(input: &mut impl BufRead) -> Option<Command> {
    let count: usize = line(input)?.strip_prefix('*')?.parse().ok()?;
    let mut words = Vec::new();
    for _ in 0..count {
        let length = line(input)?.strip_prefix('$')?.parse().ok()?;
        words.push(bytes(input, length)?);
    }
    let text = |at: usize| String::from_utf8_lossy(&words[at]).into_owned();
    Some(match (text(0).as_str(), count) {
        ("GET", 2) => Command::Get(words[1].clone()),
        ("SET", 3) => Command::Set(words[1].clone(), words[2].clone(), None),
        ("SET", 5) => {
            let ttl = format!("{} {}", text(3), text(4));
            Command::Set(words[1].clone(), words[2].clone(), Some(ttl))
        }
        ("DEL", 2) => Command::Delete(words[1].clone()),
        ("PEXPIRE", 3) => Command::Touch(words[1].clone(), text(2).parse().ok()?),
        ("INCR", 2) => Command::Increment(words[1].clone(), true),
        ("MGET", _) => Command::MultiGet(words[1..].to_vec()),
        ("HELLO", 2) => Command::Hello,
        ("INFO", 2) => Command::Info,
        ("CLIENT", 2) => Command::ClientInfo,
        ("CLUSTER", 2) => Command::ClusterSlots,
        other => panic!("an unexpected command: {other:?}"),
    })
}

pub(super) fn read_memcached(input: &mut impl BufRead) -> Option<(Command, Dialect)> {
    let line = line(input)?;
    let words: Vec<&str> = line.split(' ').collect();
    let ttl = |seconds: &str| (seconds != "0").then(|| seconds.to_owned());
    let touch = |key: &str, seconds: &str| {
        let ttl_ms = seconds.parse::<u64>().ok()? * 1000;
        Some(Command::Touch(key.into(), ttl_ms))
    };
    let (command, dialect) = match words[..] {
        ["get", key] => (Command::Get(key.into()), Dialect::Text),
        ["get", ref keys @ ..] => {
            let keys = keys.iter().map(|&key| key.into()).collect();
            (Command::MultiGet(keys), Dialect::Text)
        }
        ["set", key, "0", ttl_s, length] => {
            let value = bytes(input, length.parse().ok()?)?;
            (Command::Set(key.into(), value, ttl(ttl_s)), Dialect::Text)
        }
        ["stats"] => (Command::Stats, Dialect::Text),
        ["delete", key] => (Command::Delete(key.into()), Dialect::Text),
        ["touch", key, seconds] => (touch(key, seconds)?, Dialect::Text),
        ["mg", key, "k", "v"] => (Command::Get(key.into()), Dialect::Meta),
        ["mg", key, seconds] => (touch(key, seconds.strip_prefix('T')?)?, Dialect::Meta),
        ["incr", key, "1"] => (Command::Increment(key.into(), false), Dialect::Text),
        ["add", key, "0", "0", length] => {
            let value = bytes(input, length.parse().ok()?)?;
            (Command::Add(key.into(), value), Dialect::Text)
        }
        ["ma", key, "N0", "J1", "v"] => (Command::Increment(key.into(), true), Dialect::Meta),
        ["ms", key, length] => {
            let value = bytes(input, length.parse().ok()?)?;
            (Command::Set(key.into(), value, None), Dialect::Meta)
        }
        ["ms", key, length, seconds] => {
            let value = bytes(input, length.parse().ok()?)?;
            let ttl = ttl(seconds.strip_prefix('T')?);
            (Command::Set(key.into(), value, ttl), Dialect::Meta)
        }
        ["md", key] => (Command::Delete(key.into()), Dialect::Meta),
        _ => panic!("an unexpected command: {line}"),
    };
    Some((command, dialect))
}
