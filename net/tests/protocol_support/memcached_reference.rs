//! A naive parser of memcached's text protocol, to compare the real one with.
//!
//! It splits a line into a vector of words and works on those, starts over at every request, and
//! keeps no state.

use super::{Limits, Outcome, show, show_all};

/// What a line is: a request or refusal, and the length of the data block behind it, if any.
enum Found {
    Plain(String),
    Data { before: String, after: String, length: usize, noreply: bool },
    TooLarge(String, usize),
    Close(&'static str),
}

pub(crate) fn run(stream: &[u8], limits: &Limits) -> Outcome {
    let mut outcome = Outcome::default();
    while outcome.consumed < stream.len() {
        let rest = &stream[outcome.consumed..];
        let lf = rest.iter().position(|&byte| byte == b'\n');
        let length = lf.unwrap_or(rest.len());
        if rest[0] == 0x80 {
            outcome.events.push("close BinaryProtocol".into());
            return outcome;
        }
        if length > line_max(rest, limits) {
            outcome.events.push("close LineTooLong".into());
            return outcome;
        }
        let Some(lf) = lf else { return outcome };
        let line = rest[..lf].strip_suffix(b"\r").unwrap_or(&rest[..lf]);
        let body = lf + 1;
        match classify(line, limits) {
            Found::Plain(event) => {
                outcome.events.push(event);
                outcome.consumed += body;
            }
            Found::Close(reason) => {
                outcome.events.push(format!("close {reason}"));
                return outcome;
            }
            Found::TooLarge(event, length) => {
                outcome.events.push(event);
                outcome.consumed = (outcome.consumed + body + length + 2).min(stream.len());
            }
            Found::Data { before, after, length, noreply } => {
                if rest.len() < body + length + 2 {
                    return outcome;
                }
                let data = &rest[body..body + length];
                outcome.events.push(match &rest[body + length..body + length + 2] {
                    b"\r\n" => format!("{before} <{}>{after}", show(data)),
                    _ => refuse("CLIENT_ERROR bad data chunk", noreply),
                });
                outcome.consumed += body + length + 2;
            }
        }
    }
    outcome
}

fn line_max(rest: &[u8], limits: &Limits) -> usize {
    let spaces = rest.iter().take_while(|&&byte| byte == b' ').count();
    let command = &rest[spaces.min(rest.len())..];
    let is_get =
        ["get ", "gets ", "gat ", "gats "].iter().any(|name| command.starts_with(name.as_bytes()));
    if is_get && spaces <= 100 { limits.get_line_bytes_max as usize } else { 2048 }
}

fn refuse(text: &str, noreply: bool) -> String {
    format!("refused {text}{}", if noreply { " quiet" } else { "" })
}

fn plain_refusal(text: &str, noreply: bool) -> Found {
    Found::Plain(refuse(text, noreply))
}

fn is_key(word: &[u8]) -> bool {
    (1..=250).contains(&word.len()) && !word.iter().any(u8::is_ascii_control)
}

/// Digits with an optional sign, of any size up to the type's.
fn number<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(word).ok()?;
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_zero = digits.bytes().all(|byte| byte == b'0');
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        None
    } else if is_zero {
        "0".parse().ok()
    } else {
        text.parse().ok()
    }
}

fn data_length(word: &[u8]) -> Option<usize> {
    number::<i64>(word).filter(|length| (0..=2_147_483_645).contains(length))?.try_into().ok()
}

const FORMAT: &str = "CLIENT_ERROR bad command line format";
const DELTA: &str = "CLIENT_ERROR invalid numeric delta argument";
const EXPTIME: &str = "CLIENT_ERROR invalid exptime argument";

fn classify(line: &[u8], limits: &Limits) -> Found {
    let words: Vec<&[u8]> =
        line.split(|&byte| byte == b' ').filter(|word| !word.is_empty()).collect();
    let command = std::str::from_utf8(words.first().unwrap_or(&&b""[..])).unwrap_or("?");
    let error = plain_refusal("ERROR", false);
    match command {
        "bget" => retrieval("get", &words).unwrap_or(error),
        "get" | "gets" | "gat" | "gats" => retrieval(command, &words).unwrap_or(error),
        "set" | "add" | "replace" | "append" | "prepend" | "cas" => {
            store(command, &words, limits).unwrap_or(error)
        }
        "delete" | "incr" | "decr" | "touch" => change(command, &words).unwrap_or(error),
        "flush_all" | "verbosity" => admin(command, &words).unwrap_or(error),
        "cache_memlimit" if !(2..=3).contains(&words.len()) => error,
        "lru" if words.len() < 2 => error,
        "cache_memlimit" | "slabs" | "lru" | "lru_crawler" | "watch" => {
            let args = show_all(words[1..].iter().copied());
            Found::Plain(format!("{command} {args}{}", quiet(&words)))
        }
        "shutdown" => Found::Plain(format!("shutdown {}", show_all(words[1..].iter().copied()))),
        "version" | "quit" | "mn" => Found::Plain(command.into()),
        "stats" => Found::Plain(format!("stats {}", show_all(words[1..].iter().copied()))),
        "mg" | "ms" | "md" | "ma" | "me" => meta(command, &words, limits),
        _ if line.first() == Some(&0x80) => Found::Close("BinaryProtocol"),
        _ if words.last().is_some_and(|word| word.starts_with(b"HTTP/")) => Found::Close("Http"),
        _ => error,
    }
}

fn is_quiet(words: &[&[u8]]) -> bool {
    words.last() == Some(&&b"noreply"[..])
}

fn quiet(words: &[&[u8]]) -> &'static str {
    if is_quiet(words) { " quiet" } else { "" }
}

/// `None`, here and below: not the number of words that the command takes.
fn retrieval(command: &str, words: &[&[u8]]) -> Option<Found> {
    let is_touch = command.starts_with("gat");
    let keys = words.get(1 + usize::from(is_touch)..).filter(|_| words.len() > 1)?;
    let exptime = if is_touch { number::<i64>(words[1]) } else { Some(0) };
    let shown = show_all(keys.iter().copied());
    let with_version = command.ends_with('s');
    Some(match exptime {
        None => plain_refusal(EXPTIME, false),
        Some(_) if !keys.iter().all(|key| is_key(key)) => plain_refusal(FORMAT, false),
        Some(exptime) if is_touch => Found::Plain(format!("gat {exptime} {shown} {with_version}")),
        Some(_) => Found::Plain(format!("get {shown} {with_version}")),
    })
}

fn change(command: &str, words: &[&[u8]]) -> Option<Found> {
    let least = if command == "delete" { 2 } else { 3 };
    if !(least..=4).contains(&words.len()) {
        return None;
    }
    let (key, noreply, quiet) = (show(words[1]), is_quiet(words), quiet(words));
    if command == "delete" {
        let is_usual = matches!(&words[2..], [] | [b"0"] | [b"noreply"] | [b"0", b"noreply"]);
        return Some(match (is_usual, is_key(words[1])) {
            (false, _) => {
                plain_refusal(&format!("{FORMAT}.  Usage: delete <key> [noreply]"), noreply)
            }
            // Without further words the last one is the key.
            (true, false) => plain_refusal(FORMAT, noreply && words.len() > 2),
            (true, true) if words.len() == 2 => Found::Plain(format!("delete [{key}]")),
            (true, true) => Found::Plain(format!("delete [{key}]{quiet}")),
        });
    }
    let number = match command {
        _ if !is_key(words[1]) => return Some(plain_refusal(FORMAT, noreply)),
        "touch" => number::<i64>(words[2]).map(|time| time.to_string()).ok_or(EXPTIME),
        _ => number::<u64>(words[2]).map(|delta| delta.to_string()).ok_or(DELTA),
    };
    Some(match number {
        Ok(number) => Found::Plain(format!("{command} [{key}] {number}{quiet}")),
        Err(text) => plain_refusal(text, noreply),
    })
}

fn admin(command: &str, words: &[&[u8]]) -> Option<Found> {
    let (noreply, quiet) = (is_quiet(words), quiet(words));
    let number = match (command, words.len()) {
        ("flush_all", 1) => Ok("0".to_string()),
        ("flush_all", 2) if noreply => Ok("0".to_string()),
        ("flush_all", 2 | 3) => number::<i64>(words[1]).map(|n| n.to_string()).ok_or(EXPTIME),
        ("verbosity", 2 | 3) => number::<u32>(words[1]).map(|n| n.to_string()).ok_or(FORMAT),
        _ => return None,
    };
    Some(match number {
        Ok(number) => Found::Plain(format!("{command} {number}{quiet}")),
        Err(text) => plain_refusal(text, noreply),
    })
}

fn store(command: &str, words: &[&[u8]], limits: &Limits) -> Option<Found> {
    let noreply = is_quiet(words);
    let wanted = if command == "cas" { 6 } else { 5 };
    if words.len() != wanted && words.len() != wanted + 1 {
        return None;
    }
    let version = if command == "cas" { number::<u64>(words[5]) } else { Some(0) };
    let numbers = (
        number::<u32>(words[2]),
        number::<i64>(words[3]),
        data_length(words[4]),
        version,
        is_key(words[1]),
    );
    let (Some(flags), Some(exptime), Some(length), Some(version), true) = numbers else {
        return Some(plain_refusal(FORMAT, noreply));
    };
    let key = show(words[1]);
    let after = if noreply { " quiet" } else { "" };
    Some(if length > limits.value_bytes_max as usize {
        Found::TooLarge(format!("{command} [{key}] too large{after}"), length)
    } else {
        let before = format!("{command} [{key}] {flags} {exptime} {version}");
        Found::Data { before, after: after.into(), length, noreply }
    })
}

fn meta(command: &str, words: &[&[u8]], limits: &Limits) -> Found {
    let count = words.len();
    if count < 2 {
        let text = if command == "me" { FORMAT } else { "ERROR" };
        return plain_refusal(text, false);
    }
    if !is_key(words[1]) || (command == "ms" && count < 3) {
        return plain_refusal(FORMAT, false);
    }
    if count >= 20 && command != "me" {
        let are = if command == "mg" { "are " } else { "" };
        return plain_refusal(&format!("CLIENT_ERROR options flags {are}too long"), false);
    }
    let verb = match command {
        "mg" => "Get",
        "ms" => "Set",
        "md" => "Delete",
        "ma" => "Arithmetic",
        _ => "Debug",
    };
    let flags = &words[if command == "ms" { 3 } else { 2 }..];
    let before = format!("{verb} [{}] {}", show(words[1]), show_all(flags.iter().copied()));
    if command != "ms" {
        return Found::Plain(before);
    }
    match data_length(words[2]) {
        None => plain_refusal(FORMAT, false),
        Some(length) if length > limits.value_bytes_max as usize => {
            Found::TooLarge(format!("{before} too large"), length)
        }
        Some(length) => Found::Data { before, after: String::new(), length, noreply: false },
    }
}
