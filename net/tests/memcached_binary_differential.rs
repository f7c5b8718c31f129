//! The same requests of the binary protocol to a real memcached and to this server, reply by
//! reply.
//!
//! Left out, since they differ by design: `version`, `stat`, `verbosity` (which memcached does not
//! know), values behind `touch` and `gat` (which memcached takes for the next request), unknown
//! commands with extras or a key (of which it passes over the bytes twice), numbers at the beginning
//! of values of 32 KiB (which memcached counts with), and expiry within seconds. Versions are
//! compared by what conditions make of them.

#[path = "protocol_support/mod.rs"]
#[expect(dead_code, reason = "it serves other tests, too")]
mod protocol_support;
mod support;

use std::collections::HashMap;
use std::net::SocketAddr;

use protocol_support::Random;
use support::Server;
use support::binary::{BinaryClient, Reply, Request};
use support::memcached::Memcached;

/// A version that no item has.
const NO_VERSION: u64 = 1 << 60;

/// What is known of a round.
#[derive(Default)]
struct Round {
    /// What was last told of a key's version, on this server and on memcached.
    versions: HashMap<Vec<u8>, [u64; 2]>,
    /// Requests and replies, for the report of a difference.
    trail: Vec<String>,
}

fn key(random: &mut Random, round: usize) -> Vec<u8> {
    match random.below(40) {
        0 => vec![b'k'; 250],
        1 => format!("{round}:\0 \r\n\x7F").into_bytes(),
        _ => format!("{round}:{}", random.below(6)).into_bytes(),
    }
}

fn exptime(random: &mut Random) -> [u8; 4] {
    // Up to 30 days it is relative; beyond, one of these is in 1970 and one in 2036.
    random.pick(&[0u32, 0, 0, 0, 100_000, 2_592_000, 2_592_001, 2_100_000_000]).to_be_bytes()
}

fn number(random: &mut Random) -> u64 {
    random.pick(&[0, 1, 1, 2, 9, 10, 99, 1_000, 1 << 63, u64::MAX])
}

fn value(random: &mut Random) -> Vec<u8> {
    match random.below(10) {
        0..4 => number(random).to_string().into_bytes(),
        // No minus: behind a large number memcached takes one anywhere for its sign, even in what
        // other items have left behind the value.
        4 => random.pick(&["", " 5", "5 ", "+5", "5x", "18446744073709551616"]).into(),
        5 => random.bytes_of(b"a\r\n \0\x80\x81get", 40),
        6 => vec![b'v'; random.below(100_000)],
        7 if random.one_in(20) => vec![b'l'; 2_000_000],
        _ => vec![b'w'; random.below(300)],
    }
}

/// A request whose lengths are right.
fn valid(random: &mut Random, round: usize) -> Request {
    let key = key(random, round);
    let plain = |opcode| Request::new(opcode, b"", &key, b"");
    match random.below(20) {
        0..4 => plain(random.pick(&[0x00, 0x09, 0x0C, 0x0D])),
        4..9 => {
            let flags = random.pick(&[0u32, 7, u32::MAX]).to_be_bytes();
            let extras = [flags, exptime(random)].concat();
            let opcode = random.pick(&[0x01, 0x02, 0x03, 0x11, 0x12, 0x13]);
            Request::new(opcode, &extras, &key, &value(random))
        }
        9..11 => {
            let opcode = random.pick(&[0x0E, 0x0F, 0x19, 0x1A]);
            let mut value = value(random);
            // A number with 32 KiB of something else behind it is none here: see the page.
            if value.len() > 1_000 || value == b"5 " {
                value.truncate(1);
            }
            Request::new(opcode, b"", &key, &value)
        }
        11..13 => plain(random.pick(&[0x04, 0x14])),
        13..16 => {
            let exptime = if random.one_in(2) { [0xFF; 4] } else { exptime(random) };
            let (delta, initial) = (number(random).to_be_bytes(), number(random).to_be_bytes());
            let extras = [&delta[..], &initial, &exptime].concat();
            Request::new(random.pick(&[0x05, 0x06, 0x15, 0x16]), &extras, &key, b"")
        }
        16..18 => {
            let opcode = random.pick(&[0x1C, 0x1D, 0x1E, 0x23, 0x24]);
            Request::new(opcode, &exptime(random), &key, b"")
        }
        18 => {
            let value = vec![0x80; random.below(300)];
            Request::new(random.pick(&[0x1F, 0x25, 0x30, 0x55, 0xFF]), b"", b"", &value)
        }
        _ => fixed(random),
    }
}

/// One of the few requests that are the same whatever the key.
fn fixed(random: &mut Random) -> Request {
    match random.pick(&[0x0A, 0x20, 0x21, 0x22]) {
        opcode @ (0x21 | 0x22) => {
            let mechanism = random.pick(&[&b"PLAIN"[..], &[b'm'; 40]]);
            Request::new(opcode, b"", mechanism, b"\0user\0password")
        }
        opcode => Request::new(opcode, b"", b"", b""),
    }
}

/// The request as it goes to each side, on the condition of a version now and then.
fn on_conditions(random: &mut Random, request: &Request, known: &Round) -> [Request; 2] {
    let versions = match (random.below(6), known.versions.get(&request.key)) {
        (0, _) => [NO_VERSION; 2],
        (1, Some(versions)) => *versions,
        _ => [0; 2],
    };
    versions.map(|version| request.clone().with_version(version))
}

/// A reply without its version, and whether it had one.
fn stripped(reply: &Reply) -> (Reply, bool) {
    (Reply { version: 0, ..reply.clone() }, reply.version != 0)
}

fn show(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(100)].escape_ascii().to_string()
}

fn describe(replies: &[Reply]) -> String {
    let texts = replies.iter().map(|reply| {
        let Reply { opcode, status, extras, key, value, version, .. } = reply;
        let (key, length, value) = (show(key), value.len(), show(value));
        format!("({opcode:#x} {status} {extras:?} [{key}] {length}<{value}> {version})")
    });
    texts.collect()
}

fn compare(requests: &[[Request; 2]], replies: [Vec<Reply>; 2], known: &mut Round) {
    for [request, _] in requests {
        let Request { opcode, extras, key, value, version, .. } = request;
        let (key, length, value) = (show(key), value.len(), show(value));
        let text = format!("{opcode:#x} {extras:?} [{key}] {length}<{value}> {version}");
        known.trail.push(text);
    }
    let [ours, theirs] = [0, 1].map(|side| replies[side].iter().map(stripped).collect::<Vec<_>>());
    let same = ours.iter().zip(&theirs).take_while(|(ours, theirs)| ours == theirs).count();
    known.trail.push(format!("-> {}", describe(&replies[1][same..])));
    assert!(
        ours == theirs,
        "{}\nbut here -> {}\n",
        known.trail[known.trail.len().saturating_sub(60)..].join("\n"),
        describe(&replies[0][same..])
    );
    for (ours, theirs) in replies[0].iter().zip(&replies[1]) {
        if ours.version != 0 {
            // The opaque bytes tell which request it answers.
            let index = u32::from_be_bytes(ours.opaque) as usize;
            let key = requests[index][0].key.clone();
            known.versions.insert(key, [ours.version, theirs.version]);
        }
    }
}

/// Sends a series of requests to both.
fn exchange(clients: &mut [BinaryClient; 2], requests: &mut [[Request; 2]], known: &mut Round) {
    for (index, pair) in requests.iter_mut().enumerate() {
        pair.iter_mut().for_each(|request| request.opaque = (index as u32).to_be_bytes());
    }
    let replies = [0, 1].map(|side| {
        let stream: Vec<u8> = requests.iter().flat_map(|pair| pair[side].bytes()).collect();
        clients[side].ask(stream)
    });
    compare(requests, replies, known);
}

fn flush(clients: &mut [BinaryClient; 2]) {
    for client in clients {
        let reply = client.call(&Request::new(0x08, b"", b"", b""));
        assert_eq!(reply.outcome(), (0, &b""[..]));
    }
}

fn both(addresses: [SocketAddr; 2]) -> [BinaryClient; 2] {
    addresses.map(BinaryClient::connect)
}

#[test]
fn random_requests_get_the_same_replies() {
    let Some(memcached) = Memcached::start("binary") else { return };
    let server = Server::start(&["--value-max", "1MiB"]);
    let mut random = Random::from_environment("random_requests_get_the_same_replies");
    let mut clients = both([server.memcached, memcached.address]);
    for round in 0..60 {
        let mut known = Round::default();
        for _ in 0..60 {
            let count = random.pick(&[1, 1, 2, 5, 40]);
            let mut requests: Vec<_> = (0..count)
                .map(|_| {
                    let request = valid(&mut random, round);
                    on_conditions(&mut random, &request, &known)
                })
                .collect();
            // A reply that memcached has not sent holds its item, and then a number is stored anew
            // instead of in place, which shows in its length: counting begins a series.
            let counts = |pair: &[Request; 2]| matches!(pair[0].opcode, 0x05 | 0x06 | 0x15 | 0x16);
            for series in requests.chunk_by_mut(|_, next| !counts(next)) {
                exchange(&mut clients, series, &mut known);
            }
        }
        flush(&mut clients);
    }
}

/// Requests whose lengths are wrong, each on connections of its own, since they end them.
#[test]
fn wrong_lengths_get_the_same_replies() {
    let Some(memcached) = Memcached::start("binary-lengths") else { return };
    let server = Server::start(&["--value-max", "1MiB"]);
    let mut random = Random::from_environment("wrong_lengths_get_the_same_replies");
    let addresses = [server.memcached, memcached.address];
    let mut clients = both(addresses);
    for _ in 0..40 {
        let mut known = Round::default();
        for _ in 0..20 {
            let request = Request {
                opcode: random.below(0x25) as u8,
                opaque: [0; 4],
                extras: vec![0; random.pick(&[0, 0, 2, 4, 8, 20, 24])],
                key: vec![b'k'; random.pick(&[0, 1, 1, 5, 250, 251, 300])],
                value: vec![b'v'; random.pick(&[0, 0, 5])],
                version: 0,
            };
            let mut bytes = request.bytes();
            let lies = random.one_in(8) && bytes.len() > 24;
            if lies {
                // A body that is shorter than its parts.
                bytes[11] = bytes[11].saturating_sub(1 + request.value.len() as u8);
                bytes[8..11].fill(0);
            }
            if !lies && is_left_out(&request) {
                continue;
            }
            let replies = addresses.map(|address| {
                let mut client = BinaryClient::connect(address);
                client.send(&bytes);
                client.finish()
            });
            compare(&[[request.clone(), request]], replies, &mut known);
        }
        // What they left behind is the same, too.
        let mut requests: Vec<_> = [&b"k"[..], b"kkkkk", &[b'k'; 250]]
            .map(|key| Request::new(0x0C, b"", key, b""))
            .map(|request| [request.clone(), request])
            .into();
        exchange(&mut clients, &mut requests, &mut known);
        flush(&mut clients);
    }
}

/// See the module's page.
fn is_left_out(request: &Request) -> bool {
    let has_value = !request.value.is_empty();
    match request.opcode {
        0x0B | 0x10 | 0x1B => true,
        0x1C..=0x1E | 0x23 | 0x24 => has_value,
        0x1F => !(request.extras.is_empty() && request.key.is_empty()),
        _ => false,
    }
}
