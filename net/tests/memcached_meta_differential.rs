//! The same meta commands to a real memcached and to this server, reply by reply.
//!
//! Versions are compared by what they do: where a request carries one, each side gets its own.
//! Left out: `h` and `l`, which are approximate here, `me`, which tells of memory, and times that
//! end within seconds. Differences that are right are in [`accepted`], with their reasons.

#[path = "protocol_support/mod.rs"]
#[expect(dead_code, reason = "it serves other tests, too")]
mod protocol_support;
mod support;

use std::collections::HashMap;

use protocol_support::Random;
use support::memcached::Memcached;
use support::{Client, Server};

/// Why a difference is right, or `None` if it is not.
fn accepted(request: &str, ours: &str, theirs: &str) -> Option<&'static str> {
    let line = request.lines().next().unwrap_or_default();
    let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
    let has = |letter: char| words.iter().skip(2).any(|word| word.starts_with(letter));
    let blurred = |reply: &str| -> String {
        let blur = |word: &str| if is_time(word) { "t".to_owned() } else { word.to_owned() };
        reply.split(' ').map(|word| blur(word.trim_end())).collect::<Vec<_>>().join(" ")
    };
    let is_expired = words.iter().any(|word| matches!(*word, "T-1" | "N-1" | "T2592001"));
    if is_expired && has('t') && blurred(ours) == blurred(theirs) {
        return Some("the time left of what has expired is 0; memcached's wraps around");
    }
    if has('t') && blurred(ours) == blurred(theirs) && time_apart(ours, theirs) <= 1 {
        return Some("memcached counts whole seconds of its own clock");
    }
    if is_late_error(ours) && is_late_error(theirs) && ours != theirs {
        return None;
    }
    None
}

fn is_late_error(reply: &str) -> bool {
    reply.starts_with("CLIENT_ERROR")
}

fn is_time(word: &str) -> bool {
    let digits = word.trim_end().strip_prefix('t').unwrap_or("");
    digits.parse::<i64>().is_ok()
}

fn time_apart(ours: &str, theirs: &str) -> i64 {
    let time = |reply: &str| {
        let word = reply.split([' ', '\r']).find(|word| is_time(word)).map(str::to_owned);
        word.and_then(|word| word[1..].parse::<i64>().ok()).unwrap_or(0)
    };
    (time(ours) - time(theirs)).abs()
}

/// What is known of a round's keys: the versions on both sides, newest last.
#[derive(Default)]
struct Round {
    versions: HashMap<String, Vec<[u64; 2]>>,
    trail: Vec<String>,
}

/// A request, in which a version may differ.
struct Request {
    text: [Vec<u8>; 2],
    key: String,
}

/// The versions in the replies, each replaced by a word, and the last of both if there is one.
fn strip(replies: [&str; 2]) -> ([String; 2], Option<[u64; 2]>) {
    let mut last = [None; 2];
    let stripped = [0, 1].map(|side| {
        let lines = replies[side].split_inclusive("\r\n").map(|line| {
            let words = line.split(' ').map(|word| {
                let number = word.strip_prefix('c').and_then(|text| text.trim_end().parse().ok());
                match number {
                    Some(0) | None => word.to_owned(),
                    Some(number) => {
                        last[side] = Some(number);
                        format!("cVERSION{}", if word.ends_with('\n') { "\r\n" } else { "" })
                    }
                }
            });
            words.collect::<Vec<_>>().join(" ")
        });
        lines.collect::<String>()
    });
    (stripped, last[0].zip(last[1]).map(|(ours, theirs)| [ours, theirs]))
}

fn key(random: &mut Random, round: usize) -> String {
    format!("{round}k{}", random.below(4))
}

/// Flags of a command: some that it knows, in random order.
fn flags(random: &mut Random, pool: &[&str]) -> Vec<String> {
    let mut left: Vec<&str> = pool.to_vec();
    let mut flags: Vec<String> = Vec::new();
    for _ in 0..random.below(5) {
        let flag = left.remove(random.below(left.len()));
        left.retain(|other| !other.starts_with(&flag[..1]));
        flags.push(flag.to_owned());
        if left.is_empty() {
            break;
        }
    }
    flags
}

const READ: [&str; 22] = [
    "v", "v", "k", "s", "t", "c", "c", "c", "f", "Oabc", "O1", "q", "u", "N30", "N0", "N100000",
    "R20", "R1000", "R0", "T500", "T0", "T100000",
];
const STORE: [&str; 20] = [
    "k",
    "c",
    "c",
    "Oabc",
    "q",
    "I",
    "F7",
    "F4294967295",
    "T0",
    "T500",
    "T100000",
    "T-1",
    "MS",
    "ME",
    "MA",
    "MP",
    "MR",
    "C",
    "C",
    "C",
];
const DELETE: [&str; 10] = ["k", "Oabc", "q", "I", "I", "T30", "T500", "C", "C", "f"];
const COUNT: [&str; 19] = [
    "k", "c", "t", "v", "v", "Oabc", "q", "N0", "N500", "J13", "J0", "D2", "D7", "MI", "MD", "M-",
    "M+", "C", "C",
];

fn request(random: &mut Random, round: usize, known: &Round) -> Request {
    let key = key(random, round);
    let data = match random.below(4) {
        0 => random.pick(&["5", "10", "99", "18446744073709551615", "x1", ""]).into(),
        1 => "v".repeat(random.below(40)),
        _ => random.below(1_000).to_string(),
    };
    let (verb, pool): (&str, &[&str]) = match random.below(12) {
        0..5 => ("mg", &READ),
        5..8 => ("ms", &STORE),
        8 | 9 => ("md", &DELETE),
        _ => ("ma", &COUNT),
    };
    let mut words = flags(random, pool);
    if random.one_in(12) {
        let odd = ["v", "S", "Tx", "Nx", "Rx", "F-1", "Cx", "M", "Mxy", "MX", "Jx", "Dx", "b", "?"];
        words.push(random.pick(&odd).into());
    }
    let versions = known.versions.get(&key).cloned().unwrap_or_default();
    let pick = if random.one_in(3) { random.below(versions.len().max(1)) } else { usize::MAX };
    let version = versions.get(pick).or(versions.last()).copied().unwrap_or([0; 2]);
    let length = if verb == "ms" { format!(" {}", data.len()) } else { String::new() };
    let text = version.map(|version| {
        let mut line = format!("{verb} {key}{length}");
        for word in &words {
            let number = if word == "C" { version.to_string() } else { String::new() };
            line.push_str(&format!(" {word}{number}"));
        }
        line.push_str("\r\n");
        if verb == "ms" {
            line.push_str(&format!("{data}\r\n"));
        }
        line.into_bytes()
    });
    Request { text, key }
}

fn compare(request: &Request, replies: [String; 2], known: &mut Round) {
    let ([ours, theirs], versions) = strip([&replies[0], &replies[1]]);
    let text = String::from_utf8_lossy(&request.text[0]).into_owned();
    known.trail.push(format!("{text:?} -> {theirs:?}"));
    assert!(
        ours == theirs || accepted(&text, &ours, &theirs).is_some(),
        "{}\nbut here -> {ours:?}\n",
        known.trail.join("\n"),
    );
    if let Some(versions) = versions {
        known.versions.entry(request.key.clone()).or_default().push(versions);
    }
}

fn both(clients: &mut [Client; 2], request: &Request) -> [String; 2] {
    let mut side = 0;
    clients.each_mut().map(|client| {
        side += 1;
        client.ask(&request.text[side - 1])
    })
}

#[test]
fn random_meta_commands_get_the_same_replies() {
    let Some(memcached) = Memcached::start("meta") else { return };
    let server = Server::start(&["--value-max", "1MiB"]);
    let mut random = Random::from_environment("random_meta_commands_get_the_same_replies");
    let mut clients = [server.memcached(), Client::connect(memcached.address)];
    for round in 0..200 {
        let mut known = Round::default();
        for _ in 0..60 {
            let request = request(&mut random, round, &known);
            let replies = both(&mut clients, &request);
            compare(&request, replies, &mut known);
            // What it left behind is the same, as a plain reader sees it.
            let key = request.key;
            for text in [format!("get {key}\r\n"), format!("mg {key} s f t c u\r\n")] {
                let look = Request { text: [text.clone().into(), text.into()], key: key.clone() };
                let replies = both(&mut clients, &look);
                let clean = replies.each_ref().map(|reply| !reply.contains('W'));
                compare(&look, replies, &mut known);
                assert_eq!(clean[0], clean[1]);
            }
        }
    }
}

#[test]
fn fixed_conversations_get_the_same_replies() {
    let Some(memcached) = Memcached::start("meta-fixed") else { return };
    let server = Server::start(&["--value-max", "1MiB"]);
    let mut clients = [server.memcached(), Client::connect(memcached.address)];
    let opaque = "O".repeat(33);
    let many = " v".repeat(20);
    let mut known = Round::default();
    for text in [
        "mn\r\n",
        "mg\r\n",
        "ms\r\n",
        "md\r\n",
        "ma\r\n",
        "me\r\n",
        "mg a v k O1\r\n",
        "mg a v q k\r\nmn\r\n",
        &format!("mg a {opaque}\r\n"),
        &format!("md a {opaque}\r\n"),
        &format!("ms a 1 {opaque}\r\n1\r\n"),
        &format!("mg a{many}\r\n"),
        &format!("md a{many}\r\n"),
        &format!("ms a 1{many}\r\n1\r\n"),
        "ms a x\r\n",
        "ms a\r\n",
        "ms a -1\r\n",
        "ms a 2 T100\r\nab\r\n",
        "ms a 2 MQ\r\nab\r\n",
        "ms a 2 M\r\nab\r\n",
        "ms a 2 S100\r\nab\r\n",
        "ms a 2 Fx\r\nab\r\n",
        "ms a 2 Cx\r\nab\r\n",
        "ms a 2\r\nabcd\r\n\r\n",
        "mg a v t s f k Oq\r\n",
        "ms Zm9v 3 b k c\r\nbar\r\n",
        "mg Zm9v b k v\r\n",
        "mg foo v\r\n",
        "mg Zm9 b v\r\n",
        "md Zm9v b k Oxyz\r\n",
        "md Zm9v b k Oxyz\r\n",
        "md Zm9 b\r\n",
        "ma n\r\n",
        "ma n N30 J5 v t c\r\n",
        "ma n v D10\r\n",
        "ma n v MD D100\r\n",
        "mg n v s\r\n",
        "ma a\r\n",
        "ma n Mx\r\n",
        "ma n Dx\r\n",
        "ma n q\r\nmn\r\n",
        // Leases.
        "mg l v N30 t c\r\n",
        "mg l v N30 t\r\n",
        "mg l v\r\n",
        "get l\r\n",
        "ms l 3 T100\r\nnew\r\n",
        "mg l v N30 R10\r\n",
        "mg l v R200\r\n",
        "mg l v R200\r\n",
        "md l I T50\r\n",
        "mg l v t\r\n",
        "mg l v t\r\n",
        "mg l v k q Oa N30 R200\r\n",
        "ms l 1\r\nx\r\n",
        "mg l v t R1000\r\n",
        "md l\r\n",
        "md l\r\n",
        "mg l N0 t\r\n",
        "mg l R100\r\n",
        "append l 0 0 2\r\nab\r\n",
        "mg l v R100\r\n",
        "md l q\r\nmn\r\n",
        "md l q\r\nmn\r\n",
        // Text commands on marked items.
        "mg m N100\r\n",
        "touch m 500\r\n",
        "mg m t v\r\n",
        "incr m 1\r\n",
        "ms m 2 T0\r\n15\r\n",
        "md m I\r\n",
        "mg m v t\r\n",
        "decr m 6\r\n",
        "mg m v\r\n",
        "incr m 91\r\n",
        "mg m v\r\n",
        "bget m\r\n",
        "shutdown\r\n",
        "stats detail x\r\n",
    ] {
        let request = Request { text: [text.into(), text.into()], key: "any".into() };
        let replies = both(&mut clients, &request);
        compare(&request, replies, &mut known);
    }
}
