//! Commands on keys whatever their values, over real sockets.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use support::random::{Random, seed};
use support::{Client, Reply, Server, encode, info_number, ok};

fn error(text: &str) -> Reply {
    Reply::Error(text.into())
}

fn integer(reply: &Reply) -> i64 {
    match reply {
        Reply::Integer(number) => *number,
        other => panic!("{other:?} is no integer"),
    }
}

fn strings(reply: Reply) -> Vec<Vec<u8>> {
    let Reply::Array(items) = reply else { panic!("{reply:?} is no array") };
    let bytes = |item| match item {
        Reply::Bulk(bytes) => bytes,
        other => panic!("{other:?} is no bulk string"),
    };
    items.into_iter().map(bytes).collect()
}

/// A call of SCAN: the next cursor, and the keys.
fn scan(client: &mut Client, cursor: &str, options: &[&str]) -> (String, Vec<Vec<u8>>) {
    match client.call(&[&["SCAN", cursor], options].concat()) {
        Reply::Array(mut parts) if parts.len() == 2 => {
            let keys = strings(parts.pop().expect("two parts"));
            (parts.pop().expect("two parts").text(), keys)
        }
        other => panic!("{other:?}"),
    }
}

fn scan_all(client: &mut Client, options: &[&str]) -> BTreeSet<Vec<u8>> {
    let (mut cursor, mut keys) = ("0".to_owned(), BTreeSet::new());
    loop {
        let (next, found) = scan(client, &cursor, options);
        keys.extend(found);
        if next == "0" {
            return keys;
        }
        cursor = next;
    }
}

/// Stores `key:<number>` for numbers of a range.
fn fill(client: &mut Client, numbers: std::ops::Range<usize>) {
    for chunk in numbers.collect::<Vec<_>>().chunks(1_000) {
        let keys: Vec<String> = chunk.iter().map(|number| format!("key:{number}")).collect();
        let mut args: Vec<&[u8]> = vec![b"MSET"];
        keys.iter().for_each(|key| args.extend([key.as_bytes(), b"v"]));
        assert_eq!(client.call_bytes(&args), ok());
    }
}

#[test]
fn keys_exist_and_have_a_type() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.call(&["MSET", "a", "1", "b", "2"]);
    assert_eq!(client.call(&["TYPE", "a"]), Reply::Simple("string".into()));
    assert_eq!(client.call(&["TYPE", "c"]), Reply::Simple("none".into()));
    assert_eq!(client.call(&["TOUCH", "a", "b", "c", "a"]), Reply::Integer(3));
    assert_eq!(client.call(&["EXISTS", "a", "b", "c", "a"]), Reply::Integer(3));
    assert_eq!(client.call(&["UNLINK", "a", "c"]), Reply::Integer(1));
    assert_eq!(client.call(&["OBJECT", "REFCOUNT", "b"]), Reply::Integer(1));
    assert_eq!(client.call(&["OBJECT", "REFCOUNT", "a"]), Reply::Null);
    let encodings = [
        ("12", "int"),
        ("-9223372036854775808", "int"),
        ("9223372036854775808", "embstr"),
        ("012", "embstr"),
        ("", "embstr"),
        (&"x".repeat(44), "embstr"),
        (&"x".repeat(45), "raw"),
        (&"x".repeat(50_000), "raw"),
    ];
    for (value, encoding) in encodings {
        client.call(&["SET", "e", value]);
        assert_eq!(client.call(&["OBJECT", "ENCODING", "e"]), Reply::bulk(encoding), "{value}");
    }
    assert_eq!(client.call(&["OBJECT", "ENCODING", "none"]), Reply::Null);
    assert!(matches!(client.call(&["OBJECT", "HELP"]), Reply::Array(lines) if lines.len() == 11));
}

#[test]
fn uses_are_counted_or_timed_as_the_policy_says() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.call(&["SET", "a", "1"]);
    let before = integer(&client.call(&["OBJECT", "FREQ", "a"]));
    (0..3).for_each(|_| _ = client.call(&["GET", "a"]));
    assert_eq!(integer(&client.call(&["OBJECT", "FREQ", "a"])), before + 3);
    let text = client.call(&["OBJECT", "IDLETIME", "a"]).text();
    assert!(text.starts_with("ERR An LFU maxmemory policy is selected, idle time"), "{text}");
    assert_eq!(client.call(&["OBJECT", "IDLETIME", "none"]), Reply::Null);
    let server = Server::start(&["--eviction", "lru"]);
    let mut client = server.client();
    client.call(&["SET", "a", "1"]);
    assert_eq!(client.call(&["OBJECT", "IDLETIME", "a"]), Reply::Integer(0));
    let text = client.call(&["OBJECT", "FREQ", "a"]).text();
    assert!(text.starts_with("ERR An LFU maxmemory policy is not selected, access"), "{text}");
    assert_eq!(client.call(&["OBJECT", "FREQ", "none"]), Reply::Null);
}

#[test]
fn deadlines_are_told_in_unix_time() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.call(&["SET", "a", "1"]);
    assert_eq!(client.call(&["EXPIRETIME", "a"]), Reply::Integer(-1));
    assert_eq!(client.call(&["PEXPIRETIME", "none"]), Reply::Integer(-2));
    assert_eq!(client.call(&["PEXPIREAT", "a", "33177117420123"]), Reply::Integer(1));
    assert_eq!(client.call(&["PEXPIRETIME", "a"]), Reply::Integer(33_177_117_420_123));
    assert_eq!(client.call(&["EXPIRETIME", "a"]), Reply::Integer(33_177_117_420));
    assert_eq!(client.call(&["EXPIREAT", "a", "33177117421", "GT"]), Reply::Integer(1));
    assert_eq!(client.call(&["EXPIREAT", "a", "33177117421", "LT"]), Reply::Integer(0));
    assert_eq!(client.call(&["PERSIST", "a"]), Reply::Integer(1));
    assert_eq!(client.call(&["EXPIREAT", "a", "33177117421", "GT"]), Reply::Integer(0));
    assert_eq!(client.call(&["EXPIREAT", "a", "33177117421", "XX"]), Reply::Integer(0));
    assert_eq!(client.call(&["EXPIREAT", "a", "33177117421", "LT"]), Reply::Integer(1));
    let conflict = "ERR NX and XX, GT or LT options at the same time are not compatible";
    assert_eq!(client.call(&["EXPIRE", "a", "x", "NX", "LT"]), error(conflict));
    let conflict = "ERR GT and LT options at the same time are not compatible";
    assert_eq!(client.call(&["EXPIRE", "a", "5", "GT", "LT"]), error(conflict));
    let option = "ERR Unsupported option what";
    assert_eq!(client.call(&["PEXPIRE", "a", "5", "what"]), error(option));
    assert_eq!(client.call(&["EXPIREAT", "a", "1"]), Reply::Integer(1), "long past");
    assert_eq!(client.call(&["EXISTS", "a"]), Reply::Integer(0));
}

#[test]
fn renames_take_value_and_deadline_along() {
    let server = Server::start(&[]);
    let mut client = server.client();
    assert_eq!(client.call(&["RENAME", "a", "b"]), error("ERR no such key"));
    assert_eq!(client.call(&["RENAMENX", "a", "a"]), error("ERR no such key"));
    for bytes in [0, 10, 40_000, 3_000_000] {
        let value = "v".repeat(bytes);
        client.call(&["SET", "a", &value, "PXAT", "33177117420123"]);
        client.call(&["SET", "b", "old"]);
        assert_eq!(client.call(&["RENAMENX", "a", "b"]), Reply::Integer(0));
        assert_eq!(client.call(&["RENAMENX", "a", "a"]), Reply::Integer(0));
        assert_eq!(client.call(&["RENAME", "a", "a"]), ok());
        assert_eq!(client.call(&["RENAME", "a", "b"]), ok());
        assert_eq!(client.call(&["GET", "a"]), Reply::Null);
        assert_eq!(client.call(&["RENAMENX", "b", "c"]), Reply::Integer(1));
        assert_eq!(client.call(&["PEXPIRETIME", "c"]), Reply::Integer(33_177_117_420_123));
        assert!(client.call(&["GET", "c"]) == Reply::bulk(&value), "{bytes}");
        client.call(&["SET", "d", "1"]);
        assert_eq!(client.call(&["RENAME", "d", "c"]), ok());
        assert_eq!(client.call(&["TTL", "c"]), Reply::Integer(-1), "of the item that was d");
        assert_eq!(client.call(&["DEL", "a", "b", "c", "d"]), Reply::Integer(1));
    }
    let mut memcached = server.memcached();
    assert_eq!(memcached.ask("set m 77 0 1\r\nx\r\n"), "STORED\r\n");
    assert_eq!(client.call(&["RENAME", "m", "n"]), ok());
    assert_eq!(client.call(&["COPY", "n", "o"]), Reply::Integer(1));
    let answers = memcached.ask("get m\r\nget n\r\nget o\r\n");
    assert_eq!(answers, "END\r\nVALUE n 77 1\r\nx\r\nEND\r\nVALUE o 77 1\r\nx\r\nEND\r\n");
}

#[test]
fn copies_and_moves_say_what_they_did() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let same = error("ERR source and destination objects are the same");
    assert_eq!(client.call(&["COPY", "a", "a"]), same);
    assert_eq!(client.call(&["COPY", "a", "b"]), Reply::Integer(0));
    for bytes in [3, 40_000, 300_000, 5_000_000] {
        let value = "v".repeat(bytes);
        client.call(&["SET", "a", &value, "PXAT", "33177117420123"]);
        assert_eq!(client.call(&["COPY", "a", "b"]), Reply::Integer(1), "{bytes}");
        assert_eq!(client.call(&["COPY", "a", "b"]), Reply::Integer(0));
        assert!(client.call(&["GET", "b"]) == Reply::bulk(&value), "{bytes}");
        assert_eq!(client.call(&["PEXPIRETIME", "b"]), Reply::Integer(33_177_117_420_123));
        client.call(&["SET", "b", "old"]);
        assert_eq!(client.call(&["COPY", "a", "b", "replace"]), Reply::Integer(1));
        assert!(client.call(&["GET", "b"]) == Reply::bulk(&value), "{bytes}");
        assert_eq!(client.call(&["COPY", "a", "a", "DB", "3", "REPLACE"]), Reply::Integer(1));
        assert_eq!(client.call(&["COPY", "a", "a", "DB", "3"]), Reply::Integer(0));
        assert_eq!(client.call(&["MOVE", "a", "3"]), Reply::Integer(0), "it is taken");
        assert_eq!(client.call(&["MOVE", "b", "4"]), Reply::Integer(1));
        assert_eq!(client.call(&["MOVE", "b", "4"]), Reply::Integer(0), "it is gone");
        assert_eq!(client.call(&["EXISTS", "a", "b"]), Reply::Integer(1));
        for (database, key) in [("3", "a"), ("4", "b")] {
            assert_eq!(client.call(&["SELECT", database]), ok());
            assert_eq!(strings(client.call(&["KEYS", "*"])), [key.as_bytes()]);
            assert_eq!(client.call(&["RANDOMKEY"]), Reply::bulk(key));
            assert_eq!(client.call(&["PEXPIRETIME", key]), Reply::Integer(33_177_117_420_123));
            assert!(client.call(&["GET", key]) == Reply::bulk(&value), "{bytes}");
        }
        assert_eq!(client.call(&["MOVE", "b", "0"]), Reply::Integer(1));
        assert_eq!(client.call(&["SELECT", "0"]), ok());
        assert!(client.call(&["GET", "b"]) == Reply::bulk(&value), "{bytes}");
        client.call(&["FLUSHALL"]);
    }
    assert_eq!(client.call(&["MOVE", "a", "0"]), same);
    let range = error("ERR DB index is out of range");
    assert_eq!(client.call(&["MOVE", "a", "16"]), range);
    assert_eq!(client.call(&["COPY", "a", "b", "DB", "-1"]), range);
    let no_integer = error("ERR value is not an integer or out of range");
    assert_eq!(client.call(&["MOVE", "a", "x"]), no_integer);
    assert_eq!(client.call(&["COPY", "a", "b", "DB", "x"]), no_integer);
    assert_eq!(client.call(&["COPY", "a", "b", "DB"]), error("ERR syntax error"));
    let text = client.call(&["COPY", "a", "b", "DB", "3000000000"]).text();
    assert_eq!(text, "ERR value is out of range, value must between -2147483648 and 2147483647");
}

#[test]
fn a_copy_is_of_one_version() {
    let server = Server::start(&[]);
    let (mut copier, mut writer) = (server.client(), server.client());
    let values: Vec<String> = ["x", "y"].iter().map(|letter| letter.repeat(2_000_000)).collect();
    writer.call(&["SET", "a", &values[0]]);
    let writing = std::thread::spawn(move || {
        for round in 0..30 {
            assert_eq!(writer.call(&["SET", "a", &values[round % 2]]), ok());
        }
    });
    let mut copied = 0;
    while !writing.is_finished() {
        match copier.call(&["COPY", "a", "b", "REPLACE"]) {
            Reply::Integer(1) => {
                let Reply::Bulk(value) = copier.call(&["GET", "b"]) else { panic!("it is there") };
                assert!(value.len() == 2_000_000 && value.iter().all(|&byte| byte == value[0]));
                copied += 1;
            }
            other => assert!(other.text().contains("faster than it can be copied")),
        }
    }
    writing.join().expect("the writer");
    assert_eq!(copier.call(&["COPY", "a", "b", "REPLACE"]), Reply::Integer(1));
    println!("{copied} copies beside 30 writes");
}

#[test]
fn what_is_left_in_the_middle_gives_its_memory_back() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.call(&["SET", "a", &"x".repeat(8_000_000)]);
    let before = info_number(&client.call(&["INFO"]).text(), "page_bytes");
    let Reply::Bulk(payload) = client.call(&["DUMP", "a"]) else { panic!("it is there") };
    for round in 0..20 {
        let mut leaver = server.client();
        leaver.send(encode(&[b"COPY", b"a", b"b"]));
        leaver.send(encode(&[b"DUMP", b"a"]));
        if round % 4 == 0 {
            leaver.send(encode(&[b"RESTORE", b"c", b"0", &payload]));
        }
        // Closed with requests that are not answered: a reset.
        leaver.send(encode(&[b"DUMP", b"a"]));
        drop(leaver);
    }
    for _ in 0..1_000 {
        client.call(&["DEL", "b", "c"]);
        let pages = info_number(&client.call(&["INFO"]).text(), "page_bytes");
        if pages == before {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("pages were lost");
}

#[test]
fn dumps_come_back() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let seed = seed("dumps_come_back");
    let mut random = Random::new(seed);
    assert_eq!(client.call(&["DUMP", "none"]), Reply::Null);
    let mut values: Vec<Vec<u8>> = vec![b"".into(), b"1".into(), b"-40000".into(), b"01".into()];
    for bytes in [20, 21, 100, 30_000, 40_000, 64 << 10, 70_000, 300_000, 6_000_000] {
        values.push(vec![b'x'; bytes]);
        values.push(random.bytes(bytes));
    }
    for value in values {
        client.call_bytes(&[b"SET", b"a", &value]);
        let Reply::Bulk(payload) = client.call(&["DUMP", "a"]) else { panic!("it is there") };
        let restored = client.call_bytes(&[b"RESTORE", b"b", b"0", &payload]);
        assert_eq!(restored, ok(), "{} bytes", value.len());
        assert!(client.call(&["GET", "b"]) == Reply::bulk(&value), "{} bytes", value.len());
        let busy = error("BUSYKEY Target key name already exists.");
        assert_eq!(client.call_bytes(&[b"RESTORE", b"b", b"0", &payload]), busy);
        let args: [&[u8]; 6] =
            [b"RESTORE", b"b", b"33177117420123", &payload, b"REPLACE", b"ABSTTL"];
        assert_eq!(client.call_bytes(&args), ok());
        assert_eq!(client.call(&["PEXPIRETIME", "b"]), Reply::Integer(33_177_117_420_123));
        let args: [&[u8]; 6] = [b"RESTORE", b"b", b"1000", &payload, b"REPLACE", b"ABSTTL"];
        assert_eq!(client.call_bytes(&args), ok());
        assert_eq!(client.call(&["EXISTS", "b"]), Reply::Integer(0), "its time is over");
        // A flipped bit anywhere is noticed.
        let mut damaged = payload.clone();
        let at = random.below(damaged.len());
        damaged[at] ^= 1 << random.below(8);
        let refused = client.call_bytes(&[b"RESTORE", b"b", b"0", &damaged]);
        assert_eq!(refused, error("ERR DUMP payload version or checksum are wrong"), "seed {seed}");
    }
}

#[test]
fn restore_refuses_what_redis_refuses() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.call(&["SET", "a", "hello"]);
    let Reply::Bulk(payload) = client.call(&["DUMP", "a"]) else { panic!("it is there") };
    let mut refused = |ttl: &str, options: &[&str]| {
        let mut args: Vec<&[u8]> = vec![b"RESTORE", b"b", ttl.as_bytes(), &payload];
        args.extend(options.iter().map(|option| option.as_bytes()));
        client.call_bytes(&args).text()
    };
    assert_eq!(refused("-1", &[]), "ERR Invalid TTL value, must be >= 0");
    assert_eq!(refused("x", &[]), "ERR value is not an integer or out of range");
    assert_eq!(refused("0", &["WHAT"]), "ERR syntax error");
    assert_eq!(refused("0", &["FREQ"]), "ERR syntax error");
    assert_eq!(refused("0", &["FREQ", "1", "IDLETIME", "1"]), "ERR syntax error");
    let text = "ERR Invalid FREQ value, must be >= 0 and <= 255";
    assert_eq!(refused("0", &["FREQ", "256"]), text);
    assert_eq!(refused("0", &["IDLETIME", "-1"]), "ERR Invalid IDLETIME value, must be >= 0");
    assert_eq!(refused("0", &["FREQ", "x"]), "ERR value is not an integer or out of range");
    assert_eq!(refused("0", &["IDLETIME", "5"]), "OK");
    assert_eq!(refused("0", &["FREQ", "5", "REPLACE"]), "OK");
    let wrong = error("ERR DUMP payload version or checksum are wrong");
    assert_eq!(client.call(&["RESTORE", "c", "0", "short"]), wrong);
    // A list of Redis 7.0, and a string that is cut off: both with the right checksum.
    let list = b"\x12\x01\x02\x0a\x0a\x00\x00\x00\x01\x00\x81\x61\x02\xff\x0a\x00";
    let cut = b"\x00\x05hell\x0a\x00";
    for (body, text) in [
        (
            &list[..],
            "ERR Bad data format: the payload holds a list, and only strings can be stored",
        ),
        (&cut[..], "ERR Bad data format"),
    ] {
        let payload = [body, &checksum(body).to_le_bytes()].concat();
        let reply = client.call_bytes(&[b"RESTORE", b"c", b"0", &payload]);
        assert_eq!(reply, error(text));
    }
}

/// CRC-64/Jones, bit by bit.
fn checksum(bytes: &[u8]) -> u64 {
    let mut sum = 0u64;
    for &byte in bytes {
        sum ^= u64::from(byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0x95ac_9329_ac4b_c9b5 } else { sum >> 1 };
        }
    }
    sum
}

#[test]
fn scan_takes_its_options_as_redis_does() {
    let server = Server::start(&[]);
    let mut client = server.client();
    assert!(scan_all(&mut client, &[]).is_empty());
    fill(&mut client, 0..1_000);
    let all = scan_all(&mut client, &[]);
    assert_eq!(all.len(), 1_000);
    assert_eq!(scan_all(&mut client, &["COUNT", "1"]), all);
    assert_eq!(scan_all(&mut client, &["count", "9223372036854775807"]), all);
    assert_eq!(scan_all(&mut client, &["TYPE", "String"]), all);
    assert!(scan_all(&mut client, &["TYPE", "list"]).is_empty());
    let some = scan_all(&mut client, &["MATCH", "key:1?", "COUNT", "77"]);
    assert_eq!(some.len(), 10);
    let (next, found) = scan(&mut client, "0", &["COUNT", "100"]);
    assert!(next != "0" && (90..200).contains(&found.len()), "{} keys", found.len());
    let (next, found) = scan(&mut client, "18446744073709551615", &[]);
    assert_eq!((next.as_str(), found.len()), ("0", 0));
    for (args, text) in [
        (&["SCAN", "x"][..], "ERR invalid cursor"),
        (&["SCAN", "0", "COUNT", "0"], "ERR syntax error"),
        (&["SCAN", "0", "COUNT", "x"], "ERR value is not an integer or out of range"),
        (&["SCAN", "0", "COUNT"], "ERR syntax error"),
        (&["SCAN", "0", "WHAT", "x"], "ERR syntax error"),
    ] {
        assert_eq!(client.call(args), error(text), "{args:?}");
    }
    let (mut text, mut pattern) = ("a".repeat(60_000), "*".to_owned());
    client.call(&["SET", &text, "1"]);
    pattern.push_str(&"a".repeat(30_000));
    pattern.push('b');
    assert!(client.call(&["KEYS", &pattern]).text().contains("takes too long to match"));
    text.push('*');
    assert_eq!(strings(client.call(&["KEYS", &text])).len(), 1);
}

#[test]
fn scan_meets_what_stays_while_others_come_and_go() {
    let server = Server::start(&[]);
    let (mut client, mut other) = (server.client(), server.client());
    fill(&mut client, 0..3_000);
    let seed = seed("scan_meets_what_stays");
    for round in 0..4 {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let mut random = Random::new(seed + round);
        let churn = std::thread::spawn(move || {
            // The table grows many times over, and shrinks again.
            while stopped.try_recv().is_err() {
                let count = 20_000 + random.below(20_000);
                fill(&mut other, 10_000..10_000 + count);
                for first in (10_000..10_000 + count).step_by(500) {
                    let keys: Vec<String> =
                        (first..first + 500).map(|number| format!("key:{number}")).collect();
                    let mut args: Vec<&[u8]> = vec![b"UNLINK"];
                    args.extend(keys.iter().map(|key| key.as_bytes()));
                    other.call_bytes(&args);
                }
            }
            other
        });
        for _ in 0..3 {
            let count = ["1", "10", "100", "5000"][round as usize];
            let met = scan_all(&mut client, &["COUNT", count]);
            for number in 0..3_000 {
                assert!(
                    met.contains(format!("key:{number}").as_bytes()),
                    "key:{number} was missed"
                );
            }
        }
        stop.send(()).expect("the other thread listens");
        other = churn.join().expect("the other thread");
    }
}

#[test]
fn keys_of_a_large_database_leave_room_for_others() {
    const KEYS: usize = 200_000;
    let server = Server::start(&[]);
    let (mut client, mut other) = (server.client(), server.client());
    fill(&mut client, 0..KEYS);
    assert_eq!(strings(client.call(&["KEYS", "key:1234"])), [b"key:1234"]);
    assert_eq!(strings(client.call(&["KEYS", "key:?"])).len(), 10);
    let turns = |client: &mut Client| info_number(&client.call(&["INFO"]).text(), "turns");
    let before = turns(&mut other);
    client.send(encode(&[b"KEYS", b"*"]));
    client.send(encode(&[b"PING"]));
    // Answered while the other command goes on: a turn each.
    let pings = (0..50).filter(|_| other.call(&["PING"]) == Reply::Simple("PONG".into())).count();
    assert_eq!(pings, 50);
    let keys: BTreeSet<Vec<u8>> = strings(client.reply()).into_iter().collect();
    assert_eq!(keys.len(), KEYS);
    assert_eq!(client.reply(), Reply::Simple("PONG".into()), "in its order");
    let slices = turns(&mut other) - before;
    assert!(slices as usize > KEYS / 2_000, "{slices} turns for {KEYS} keys");
    client.call(&["FLUSHALL"]);
    assert_eq!(strings(client.call(&["KEYS", "*"])).len(), 0);
}

#[test]
fn a_reply_that_is_too_large_is_refused() {
    let server = Server::start(&["--cores", "0", "--memory", "128MiB"]);
    let mut client = server.client();
    let long = "k".repeat(2_000);
    for number in 0..9_000 {
        client.send(encode(&[b"SET", format!("{long}{number}").as_bytes(), b"v"]));
    }
    (0..9_000).for_each(|_| assert_eq!(client.reply(), ok()));
    for command in [&["KEYS", "*"][..], &["SCAN", "0", "COUNT", "1000000"]] {
        let text = client.call(command).text();
        assert_eq!(text, "OOM reply does not fit into the memory left for buffers", "{command:?}");
    }
    assert_eq!(strings(client.call(&["KEYS", "*99"])).len(), 90);
}

#[test]
fn random_keys_are_of_all_keys() {
    let server = Server::start(&[]);
    let mut client = server.client();
    assert_eq!(client.call(&["RANDOMKEY"]), Reply::Null);
    client.call(&["SET", "key:0", "v"]);
    assert_eq!(client.call(&["RANDOMKEY"]), Reply::bulk("key:0"));
    fill(&mut client, 0..100);
    let mut drawn: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for _ in 0..3_000 {
        let Reply::Bulk(key) = client.call(&["RANDOMKEY"]) else { panic!("there are keys") };
        *drawn.entry(key).or_default() += 1;
    }
    assert!(drawn.len() > 95 && drawn.values().all(|&count| count < 300), "{drawn:?}");
    // One key in a table made for many, most of it in another database.
    client.call(&["FLUSHALL"]);
    fill(&mut client, 0..30_000);
    for number in 1..30_000 {
        client.send(encode(&[b"MOVE", format!("key:{number}").as_bytes(), b"1"]));
    }
    (1..30_000).for_each(|_| assert_eq!(client.reply(), Reply::Integer(1)));
    for _ in 0..20 {
        assert_eq!(client.call(&["RANDOMKEY"]), Reply::bulk("key:0"));
    }
    assert_eq!(strings(client.call(&["KEYS", "*"])), [b"key:0"]);
}
