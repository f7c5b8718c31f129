//! Commands whose keys are on several cores and that are not done in parts: MSETNX, RENAME,
//! RENAMENX and COPY answer and act as they do on one core, nobody sees them half done, and no key
//! stays reserved. Large values come and go over cores whole.

mod support;

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use support::random::Random;
use support::{Client, Reply, Server, encode, ok};

const CORES: [&str; 2] = ["--cores", "0,1,0,1"];
/// The same with memory for large replies of other cores, which are copied to this one's buffers.
const LARGE: [&str; 4] = ["--cores", "0,1,0,1", "--memory", "1GiB"];

/// A word of a random command.
fn command(random: &mut Random) -> Vec<String> {
    let key = |random: &mut Random| format!("key:{}", random.below(12));
    let value = |random: &mut Random| match random.below(12) {
        0 => "L".repeat(100_000 + random.below(100_000)),
        1 => "m".repeat(40_000),
        _ => format!("value-{}", random.below(1000)),
    };
    let words: Vec<String> = match random.below(12) {
        0 | 1 => vec!["SET".into(), key(random), value(random)],
        2 => vec!["SET".into(), key(random), value(random), "EX".into(), "1000".into()],
        3 => vec!["RENAME".into(), key(random), key(random)],
        4 => vec!["RENAMENX".into(), key(random), key(random)],
        5 => vec!["COPY".into(), key(random), key(random)],
        6 => vec!["COPY".into(), key(random), key(random), "REPLACE".into()],
        7 => {
            let db = random.below(3).to_string();
            vec!["COPY".into(), key(random), key(random), "DB".into(), db]
        }
        8 => {
            let mut words = vec!["MSETNX".to_owned()];
            for _ in 0..1 + random.below(4) {
                words.extend([key(random), value(random)]);
            }
            words
        }
        9 => vec!["DEL".into(), key(random), key(random)],
        10 => vec!["SELECT".into(), random.below(2).to_string()],
        _ => match random.below(4) {
            0 => vec!["COPY".into(), key(random), key(random), "WRONG".into()],
            1 => vec!["MSETNX".into(), key(random), "odd".into(), key(random)],
            2 => vec!["COPY".into(), key(random), key(random), "DB".into(), "99".into()],
            _ => vec!["FLUSHDB".into()],
        },
    };
    words
}

#[test]
fn several_cores_answer_as_one_does() {
    let (one, several) = (Server::start(&["--cores", "0"]), Server::start(&CORES));
    let (mut one, mut several) = (one.client(), several.client());
    let seed = support::random::seed("several_cores_answer_as_one_does");
    let mut random = Random::new(seed);
    for step in 0..3_000 {
        let words = command(&mut random);
        let args: Vec<&str> = words.iter().map(String::as_str).collect();
        let (expected, found) = (one.call(&args), several.call(&args));
        assert_eq!(found, expected, "seed {seed:#x}, step {step}: {:?}", short(&words));
        if step % 10 == 0 {
            for key in 0..12 {
                let key = format!("key:{key}");
                let same = one.call(&["GET", &key]) == several.call(&["GET", &key]);
                assert!(same, "seed {seed:#x}, step {step}: {key} after {:?}", short(&words));
                let has_ttl = |reply: Reply| match reply {
                    Reply::Integer(ttl) => ttl.min(0),
                    other => panic!("{other:?}"),
                };
                let ttl = |client: &mut Client| has_ttl(client.call(&["TTL", &key]));
                assert_eq!(ttl(&mut several), ttl(&mut one), "seed {seed:#x}, step {step}: {key}");
            }
        }
    }
}

fn short(words: &[String]) -> Vec<String> {
    words.iter().map(|word| word.chars().take(20).collect()).collect()
}

#[test]
fn a_pipeline_keeps_its_order() {
    let server = Server::start(&CORES);
    let mut client = server.client();
    let mut random = Random::new(7);
    for round in 0..200 {
        let (a, b) = (format!("a{}", random.below(50)), format!("b{}", random.below(50)));
        let value = format!("v{round}");
        let commands: [&[&str]; 8] = [
            &["SET", &a, &value],
            &["RENAME", &a, &b],
            &["GET", &b],
            &["SET", &a, "x"],
            &["COPY", &b, &a, "REPLACE"],
            &["MGET", &a, &b],
            &["MSETNX", &a, "1", "other", "2"],
            &["EXISTS", &a, "other"],
        ];
        let mut bytes = Vec::new();
        for words in commands {
            let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
            bytes.extend(encode(&words));
        }
        client.send(bytes);
        let replies: Vec<Reply> = commands.iter().map(|_| client.reply()).collect();
        let value = Reply::bulk(&value);
        let expected = [
            ok(),
            ok(),
            value.clone(),
            ok(),
            Reply::Integer(1),
            Reply::Array(vec![value.clone(), value]),
            Reply::Integer(0),
            Reply::Integer(1),
        ];
        assert_eq!(replies, expected, "round {round}: {a} {b}");
    }
}

/// One value goes from key to key by many clients: there is never a second, and never none at the
/// end.
#[test]
fn what_is_renamed_is_there_once() {
    const KEYS: usize = 8;
    let server = Server::start(&CORES);
    server.client().call(&["SET", "ball:0", "ball"]);
    thread::scope(|scope| {
        for thread in 0..6 {
            let mut client = server.client();
            scope.spawn(move || {
                let mut random = Random::new(thread as u64);
                for _ in 0..400 {
                    let from = format!("ball:{}", random.below(KEYS));
                    let to = format!("ball:{}", random.below(KEYS));
                    match client.call(&["RENAMENX", &from, &to]) {
                        Reply::Integer(0 | 1) => {}
                        Reply::Error(text) => assert_eq!(text, "ERR no such key"),
                        other => panic!("{other:?}"),
                    }
                }
            });
        }
    });
    let mut client = server.client();
    let keys: Vec<String> = (0..KEYS).map(|key| format!("ball:{key}")).collect();
    let words: Vec<&str> = ["EXISTS"].into_iter().chain(keys.iter().map(String::as_str)).collect();
    assert_eq!(client.call(&words), Reply::Integer(1));
    assert_eq!(client.call(&["DBSIZE"]), Reply::Integer(1));
}

/// All keys of MSETNX come from one client, whoever else tries, and nobody reads some of them as
/// they were and others as they are.
#[test]
fn msetnx_sets_all_or_none() {
    let server = Server::start(&CORES);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|thread| {
                let mut client = server.client();
                scope.spawn(move || {
                    let (mut random, mut set) = (Random::new(100 + thread as u64), 0);
                    for round in 0..300 {
                        let value = format!("{thread}-{round}");
                        let mut keys: Vec<String> =
                            (0..4).map(|key| format!("row{}:{key}", round % 20)).collect();
                        keys.rotate_left(random.below(4));
                        let mut words = vec!["MSETNX"];
                        keys.iter().for_each(|key| words.extend([key.as_str(), value.as_str()]));
                        match client.call(&words) {
                            Reply::Integer(done) => set += done,
                            other => panic!("{other:?}"),
                        }
                    }
                    set
                })
            })
            .collect();
        let (mut reader, is_over) = (server.client(), &is_over);
        scope.spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                for row in 0..20 {
                    let keys: Vec<String> = (0..4).map(|key| format!("row{row}:{key}")).collect();
                    // Each is read by itself: if one is there, all are from then on.
                    let mut first = None;
                    for key in &keys {
                        let value = reader.call(&["GET", key]);
                        if let Some(first) = &first {
                            assert_eq!(&value, first, "{key}");
                        } else if value != Reply::Null {
                            first = Some(value);
                        }
                    }
                }
            }
        });
        let set: i64 = writers.into_iter().map(|writer| writer.join().expect("it ends")).sum();
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(set, 20, "each row is set once");
    });
}

#[test]
fn clients_that_die_leave_no_key_reserved() {
    let server = Server::start(&CORES);
    let mut client = server.client();
    let large = "x".repeat(1 << 20);
    for round in 0..30 {
        client.call(&["SET", "from", &large]);
        for _ in 0..8 {
            let mut dying = server.client();
            let mut bytes = Vec::new();
            for _ in 0..4 {
                bytes.extend(encode(&[b"RENAME", b"from", b"to"]));
                bytes.extend(encode(&[b"COPY", b"to", b"from", b"REPLACE"]));
                bytes.extend(encode(&[b"MSETNX", b"from", b"1", b"to", b"2", b"third", b"3"]));
            }
            dying.send(bytes);
        }
        if round % 10 == 0 {
            thread::sleep(Duration::from_millis(20));
        }
        // Every key answers, so none is left reserved.
        for key in ["from", "to", "third"] {
            client.call(&["GET", key]);
        }
        assert_eq!(client.call(&["DEL", "third"]), Reply::Integer(0), "both others are there");
    }
    wait_until_nothing_is_held(&mut client);
}

/// Waits until no value is being read or arriving, and no buffer is held beside this client's.
fn wait_until_nothing_is_held(client: &mut Client) {
    for attempt in 0.. {
        let info = client.call(&["INFO", "everything"]).text();
        let held = |field: &str| {
            let line = info.lines().find(|line| line.starts_with(&format!("{field}:")));
            line.map_or(0, |line| line[field.len() + 1..].trim().parse::<u64>().expect("a number"))
        };
        if held("pinned_bytes") == 0 && held("arriving_bytes") == 0 {
            return;
        }
        assert!(attempt < 400, "{info}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn large_values_go_over_cores_in_whatever_pieces() {
    let server = Server::start(&LARGE);
    let mut client = server.client();
    let mut random = Random::new(11);
    for length in [40_000, 1 << 20, 8 << 20] {
        for key in 0..8 {
            let key = format!("large:{key}");
            let value: Vec<u8> =
                (0..length).map(|at| (at * 7 + key.len() * at / 251) as u8).collect();
            let mut frame = encode(&[b"SET", key.as_bytes(), &value]);
            frame.extend(encode(&[b"STRLEN", key.as_bytes()]));
            let mut at = 0;
            while at < frame.len() {
                let piece = (1 + random.below(300_000)).min(frame.len() - at);
                client.stream().write_all(&frame[at..at + piece]).expect("write");
                at += piece;
                if random.below(4) == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            assert_eq!(client.reply(), ok(), "{key} of {length}");
            assert_eq!(client.reply(), Reply::Integer(length as i64), "{key}");
            assert!(client.call(&["GET", &key]) == Reply::Bulk(value.clone()), "{key} of {length}");
            let mut memcached = server.memcached();
            memcached.send(format!("get {key}\r\n"));
            let header = memcached.line();
            assert_eq!(header, format!("VALUE {key} 0 {length}"));
            assert!(memcached.bytes(length) == value);
            assert_eq!(client.call(&["DEL", &key]), Reply::Integer(1));
            let store = format!("set {key} 5 0 {length}\r\n");
            memcached.bytes("\r\nEND\r\n".len());
            memcached.send([store.as_bytes(), &value, b"\r\n"].concat());
            assert_eq!(memcached.line(), "STORED");
            assert_eq!(client.call(&["RENAME", &key, "moved"]), ok());
            assert!(client.call(&["GET", "moved"]) == Reply::Bulk(value));
            assert_eq!(client.call(&["DEL", "moved", &key]), Reply::Integer(1));
        }
    }
    wait_until_nothing_is_held(&mut client);
}

#[test]
fn slow_and_dying_readers_and_writers_of_large_values_leave_nothing() {
    let server = Server::start(&LARGE);
    let mut client = server.client();
    let value = "v".repeat(4 << 20);
    for key in 0..4 {
        assert_eq!(client.call(&["SET", &format!("big:{key}"), &value]), ok());
    }
    let mut slow: Vec<Client> = Vec::new();
    for number in 0..12 {
        let mut reader = server.client();
        reader.send(encode(&[b"GET", format!("big:{}", number % 4).as_bytes()]));
        let mut writer = server.client();
        let frame = encode(&[b"SET", format!("new:{number}").as_bytes(), value.as_bytes()]);
        writer.send(&frame[..frame.len() / 2]);
        if number % 3 == 0 {
            slow.push(reader);
        } else if number % 3 == 1 {
            let mut some = [0; 1000];
            reader.stream().read_exact(&mut some).expect("read");
        }
    }
    // Others are served meanwhile.
    assert_eq!(client.call(&["SET", "small", "1"]), ok());
    for reader in &mut slow {
        assert!(reader.reply() == Reply::bulk(&value));
    }
    drop(slow);
    let keys: Vec<String> = (0..12).map(|number| format!("new:{number}")).collect();
    let words: Vec<&str> = ["EXISTS"].into_iter().chain(keys.iter().map(String::as_str)).collect();
    assert_eq!(client.call(&words), Reply::Integer(0), "none of them came whole");
    wait_until_nothing_is_held(&mut client);
}
