//! Large values over real sockets: they arrive in pieces, leave in pieces, and stay within bounds.

mod support;

use std::time::Duration;

use support::random::{Random, seed};
use support::{Client, Reply, Server, encode, info_number, ok};

/// Sizes around what begins to lie in pages, what one send carries, and the largest value.
const SIZES: [usize; 10] =
    [32_767, 32_768, 32_769, 49_152, 65_535, 65_536, 65_537, 100_000, (8 << 20) - 1, 8 << 20];
/// The longest value by default.
const VALUE_BYTES_MAX: usize = 8 << 20;

fn value_of(random: &mut Random, bytes: usize) -> Vec<u8> {
    let mut value = Vec::with_capacity(bytes + 8);
    while value.len() < bytes {
        value.extend_from_slice(&random.next().to_le_bytes());
    }
    value.truncate(bytes);
    value
}

fn info(client: &mut Client, field: &str) -> u64 {
    info_number(&client.call(&["INFO"]).text(), field)
}

/// Waits until a number of INFO is as it should be.
fn wait_for(client: &mut Client, field: &str, is_right: impl Fn(u64) -> bool) {
    for _ in 0..2_000 {
        if is_right(info(client, field)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{field} stays at {}", info(client, field));
}

/// Sends bytes in pieces that the server most likely sees one by one.
fn send_torn(client: &mut Client, bytes: &[u8], cuts: &[usize]) {
    let mut from = 0;
    for &cut in cuts {
        client.send(&bytes[from..cut]);
        std::thread::sleep(Duration::from_micros(500));
        from = cut;
    }
    client.send(&bytes[from..]);
}

/// Places to tear a request whose value begins at `start`: all around both ends of the value, and
/// some in its middle.
fn cuts(random: &mut Random, start: usize, value_bytes: usize, length: usize) -> Vec<usize> {
    let end = start + value_bytes;
    let mut cuts: Vec<usize> = (1..length.min(start + 2)).filter(|_| random.one_in(4)).collect();
    cuts.extend((0..6).map(|_| start + random.below(value_bytes)));
    cuts.extend((end - 2..length).filter(|_| random.one_in(2)));
    cuts.extend(
        [start - 1, start, start + 1, end - 1, end, end + 1].iter().filter(|_| random.one_in(2)),
    );
    cuts.retain(|&cut| cut < length);
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

#[test]
fn resp_values_survive_any_tearing() {
    let mut random = Random::new(seed("resp tearing"));
    let server = Server::start(&[]);
    let (mut client, mut other) = (server.client(), server.client());
    for round in 0..60 {
        let bytes = SIZES[round % SIZES.len()];
        let value = value_of(&mut random, bytes);
        let key = format!("key:{}", random.below(5));
        let key = key.as_bytes();
        let args: Vec<&[u8]> = match random.below(6) {
            0 => vec![b"SET", key, &value],
            1 => vec![b"set", key, &value, b"EX", b"1000"],
            2 => vec![b"SET", key, &value, b"PX", b"1000000", b"GET"],
            3 => vec![b"SETEX", key, b"1000", &value],
            4 => vec![b"PSETEX", key, b"1000000", &value],
            _ => vec![b"SET", key, &value, b"KEEPTTL"],
        };
        let old = other.call_bytes(&[b"GET", key]);
        let frame = encode(&args);
        let start = frame.windows(16).position(|part| part == &value[..16]).expect("it is there");
        // What follows in the same pipeline stays in its order.
        let frame = [frame, encode(&[b"GET", key]), encode(&[b"ECHO", b"end"])].concat();
        let cuts = cuts(&mut random, start, bytes, frame.len());
        let sender = std::thread::spawn({
            let mut stream = Client::of(client.stream().try_clone().expect("a descriptor"));
            move || send_torn(&mut stream, &frame, &cuts)
        });
        let expected = if args.last() == Some(&&b"GET"[..]) { old } else { ok() };
        assert!(client.reply() == expected, "round {round}: {args:.3?}");
        assert!(client.reply() == Reply::Bulk(value.clone()), "round {round}, {bytes} bytes");
        assert_eq!(client.reply(), Reply::bulk("end"));
        sender.join().expect("sent");
        assert!(other.call_bytes(&[b"GET", key]) == Reply::Bulk(value));
    }
    assert_eq!((info(&mut other, "arriving_bytes"), info(&mut other, "pinned_bytes")), (0, 0));
}

#[test]
fn memcached_values_survive_any_tearing() {
    let mut random = Random::new(seed("memcached tearing"));
    let server = Server::start(&[]);
    let mut client = server.memcached();
    for round in 0..60 {
        let bytes = SIZES[round % SIZES.len()];
        let value = value_of(&mut random, bytes);
        let key = format!("key{}", random.below(5));
        client.send(format!("gets {key}\r\n"));
        let version = read_hit(&mut client, true).map_or(0, |(_, _, version)| version);
        let (verb, stored) = match random.below(4) {
            0 => ("set", true),
            1 => ("add", version == 0),
            2 => ("replace", version != 0),
            _ => ("cas", version != 0),
        };
        let last = if verb == "cas" { format!(" {version}") } else { String::new() };
        let line = format!("{verb} {key} {round} 1000 {bytes}{last}\r\n");
        let (start, end) = (line.len(), format!("\r\nget {key}\r\nversion\r\n"));
        let frame = [line.as_bytes(), &value, end.as_bytes()].concat();
        let cuts = cuts(&mut random, start, bytes, frame.len());
        let sender = std::thread::spawn({
            let mut stream = Client::of(client.stream().try_clone().expect("a descriptor"));
            move || send_torn(&mut stream, &frame, &cuts)
        });
        let refused = if verb == "cas" { "NOT_FOUND" } else { "NOT_STORED" };
        assert_eq!(client.line(), if stored { "STORED" } else { refused }, "{round}: {line}");
        let hit = read_hit(&mut client, false);
        if stored {
            assert!(hit == Some((round as u32, value, 0)), "round {round}, {bytes} bytes");
        }
        assert!(client.line().starts_with("VERSION "));
        sender.join().expect("sent");
    }
    let mut other = server.client();
    assert_eq!((info(&mut other, "arriving_bytes"), info(&mut other, "pinned_bytes")), (0, 0));
}

/// The reply to a retrieval of one key: flags, value, version.
fn read_hit(client: &mut Client, with_version: bool) -> Option<(u32, Vec<u8>, u64)> {
    let line = client.line();
    if line == "END" {
        return None;
    }
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!((words[0], words.len()), ("VALUE", 4 + usize::from(with_version)), "{line}");
    let value = client.bytes(words[3].parse().expect("a length"));
    assert_eq!((client.line(), client.line()), (String::new(), "END".into()));
    let version = words.get(4).map_or(0, |word| word.parse().expect("a version"));
    Some((words[2].parse().expect("flags"), value, version))
}

#[test]
fn replies_with_several_large_values_keep_their_order() {
    let mut random = Random::new(seed("several values"));
    let server = Server::start(&[]);
    let mut client = server.client();
    let values: Vec<Vec<u8>> =
        [10, 40_000, 70_000, 3_000_000, 5].iter().map(|&n| value_of(&mut random, n)).collect();
    for (index, value) in values.iter().enumerate() {
        let key = format!("k{index}");
        assert_eq!(client.call_bytes(&[b"SET", key.as_bytes(), value]), ok());
    }
    let bulk = |index: usize| Reply::Bulk(values[index].clone());
    let order = [3, 0, 2, 1, 3, 4, 2];
    let names: Vec<String> = order.iter().map(|index| format!("k{index}")).collect();
    let mut args: Vec<&[u8]> = vec![b"MGET", b"none"];
    args.extend(names.iter().map(|name| name.as_bytes()));
    client.send([encode(&args), encode(&[b"PING"]), encode(&[b"GET", b"k3"])].concat());
    client.send([encode(&[b"DEL", b"k3"]), encode(&[b"INFO"]), encode(&[b"GET", b"k3"])].concat());
    let expected: Vec<Reply> =
        std::iter::once(Reply::Null).chain(order.iter().map(|&index| bulk(index))).collect();
    assert!(client.reply() == Reply::Array(expected));
    assert_eq!(client.reply(), Reply::Simple("PONG".into()));
    assert!(client.reply() == bulk(3));
    assert_eq!(client.reply(), Reply::Integer(1));
    assert!(client.reply().text().contains("pinned_bytes:"));
    assert_eq!(client.reply(), Reply::Null);

    let mut client = server.memcached();
    client.send("get k2 none k1 k0\r\ngats 100 k2\r\nversion\r\n");
    for index in [2, 1, 0] {
        assert_eq!(client.line(), format!("VALUE k{index} 0 {}", values[index].len()));
        assert!(client.bytes(values[index].len()) == values[index]);
        assert_eq!(client.line(), "");
    }
    assert_eq!(client.line(), "END");
    assert!(read_hit(&mut client, true).is_some_and(|(_, value, _)| value == values[2]));
    assert!(client.line().starts_with("VERSION "));
}

#[test]
fn a_reader_sees_one_whole_version_whatever_happens_meanwhile() {
    let mut random = Random::new(seed("one version"));
    let server = Server::start(&[]);
    let mut writer = server.client();
    let mut readers = Vec::new();
    for round in 0..6 {
        let value = value_of(&mut random, VALUE_BYTES_MAX);
        assert_eq!(writer.call_bytes(&[b"SET", b"key", &value]), ok());
        let mut reader = server.client();
        reader.send([encode(&[b"GET", b"key"]), encode(&[b"PING"])].concat());
        wait_for(&mut writer, "pinned_bytes", |bytes| bytes > (round * VALUE_BYTES_MAX) as u64);
        readers.push((reader, value));
    }
    // Same size, other sizes, deleted, flushed, and the space taken by others.
    assert_eq!(writer.call(&["DEL", "key"]), Reply::Integer(1));
    assert_eq!(writer.call(&["FLUSHALL"]), ok());
    for n in 0..60 {
        let value = value_of(&mut random, 4_000_000);
        assert_eq!(writer.call_bytes(&[b"SET", format!("{n}").as_bytes(), &value]), ok());
    }
    assert!(info(&mut writer, "evicted_keys") > 0);
    assert!(info(&mut writer, "used_memory") <= info(&mut writer, "maxmemory"));
    for (index, (reader, value)) in readers.iter_mut().enumerate() {
        assert!(reader.reply() == Reply::Bulk(value.clone()), "reader {index}");
        assert_eq!(reader.reply(), Reply::Simple("PONG".into()));
    }
    wait_for(&mut writer, "pinned_bytes", |bytes| bytes == 0);
}

#[test]
fn readers_that_stall_hold_a_bounded_part_of_the_memory() {
    let server = Server::start(&["--memory", "96MiB"]);
    let mut writer = server.client();
    let value = vec![7; 2 << 20];
    let mut readers = Vec::new();
    for n in 0..20 {
        let key = format!("key:{n}");
        assert_eq!(writer.call_bytes(&[b"SET", key.as_bytes(), &value]), ok());
        let mut reader = server.client();
        // Far more than the socket buffers hold, so that it stalls within the first.
        reader.send(encode(&[b"GET", key.as_bytes()]));
        readers.push(reader);
    }
    let limit = info(&mut writer, "maxmemory");
    assert!(info(&mut writer, "pinned_bytes") <= limit / 4);
    // Everybody else is served.
    for n in 0..2_000 {
        assert_eq!(writer.call_bytes(&[b"SET", format!("{n}").as_bytes(), &[1; 4_000]]), ok());
    }
    assert!(info(&mut writer, "used_memory") <= limit);
    let (mut whole, mut refused) = (0, 0);
    for reader in &mut readers {
        match reader.reply() {
            Reply::Bulk(bytes) => {
                assert!(bytes == value);
                whole += 1;
            }
            Reply::Error(text) => {
                assert!(text.starts_with("OOM "), "{text}");
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(whole >= 8, "{whole} whole, {refused} refused");
    wait_for(&mut writer, "pinned_bytes", |bytes| bytes == 0);
    // One that goes without having read lets go of its value.
    let mut reader = server.client();
    assert_eq!(writer.call_bytes(&[b"SET", b"last", &vec![1; 8 << 20]]), ok());
    reader.send(encode(&[b"GET", b"last"]));
    wait_for(&mut writer, "pinned_bytes", |bytes| bytes > 0);
    drop(reader);
    wait_for(&mut writer, "pinned_bytes", |bytes| bytes == 0);
}

#[test]
fn forty_torn_writes_stay_within_the_memory_limit() {
    let server = Server::start(&["--memory", "256MiB"]);
    let mut watcher = server.client();
    for n in 0..2_000 {
        let key = format!("small:{n}");
        assert_eq!(watcher.call_bytes(&[b"SET", key.as_bytes(), &[1; 1_000]]), ok());
    }
    let limit = info(&mut watcher, "maxmemory");
    let value = vec![9; 7_900_000];
    for ends in [false, true] {
        let mut writers = Vec::new();
        for n in 0..40 {
            let key = format!("large:{n}");
            let frame = encode(&[b"SET", key.as_bytes(), &value, b"EX", b"1000"]);
            let mut writer = server.client();
            // All but the last byte of the value, or all but the last of the request.
            let cut = frame.len() - if ends { 1 } else { 30 };
            writer.send(&frame[..cut]);
            writers.push((writer, frame[cut..].to_vec()));
            let text = watcher.call(&["INFO"]).text();
            assert!(info_number(&text, "used_memory") <= limit, "{text}");
            assert!(info_number(&text, "arriving_bytes") <= limit / 4, "{text}");
        }
        // They arrive in pages, and not in buffers.
        assert!(info(&mut watcher, "arriving_bytes") >= 7_000_000);
        // Nothing that was there had to go: there was room for what may arrive.
        assert_eq!(info(&mut watcher, "evicted_keys"), 0);
        assert_eq!(watcher.call(&["EXISTS", "small:0", "large:0"]), Reply::Integer(1));
        if !ends {
            drop(writers);
            wait_for(&mut watcher, "arriving_bytes", |bytes| bytes == 0);
            continue;
        }
        let (mut stored, mut refused) = (0, 0);
        for (writer, rest) in &mut writers {
            writer.send(rest);
            match writer.reply() {
                reply if reply == ok() => stored += 1,
                Reply::Error(text) if text.starts_with("OOM ") => refused += 1,
                other => panic!("{other:?}"),
            }
            assert_eq!(writer.call(&["PING"]), Reply::Simple("PONG".into()));
        }
        assert!(stored >= 6, "{stored} stored, {refused} refused");
        assert!(watcher.call(&["GET", "large:0"]) == Reply::Bulk(value.clone()));
        assert!(matches!(watcher.call(&["TTL", "large:0"]), Reply::Integer(900..=1000)));
    }
    assert_eq!(info(&mut watcher, "arriving_bytes"), 0);
}

#[test]
fn a_write_that_is_refused_in_the_end_leaves_nothing() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let value = vec![3; 200_000];
    let error = |text: &str| Reply::Error(text.into());
    assert_eq!(client.call(&["SET", "key", "old"]), ok());
    let syntax = error("ERR syntax error");
    let cases: [(&[&[u8]], Reply); 9] = [
        (&[b"SET", b"key", &value, b"NX", b"XX"], syntax.clone()),
        (&[b"SET", b"key", &value, b"EX"], syntax),
        (&[b"SET", b"key", &value, b"EX", b"0"], error("ERR invalid expire time in 'set' command")),
        (&[b"SET", b"key", &value, b"NX"], Reply::Null),
        (&[b"SET", b"none", &value, b"XX"], Reply::Null),
        (&[b"SETNX", b"key", &value], Reply::Integer(0)),
        (&[b"SETEX", b"key", b"x", &value], error("ERR value is not an integer or out of range")),
        (
            &[b"SETNX", b"key", &value, b"more"],
            error("ERR wrong number of arguments for 'setnx' command"),
        ),
        (&[b"SET", b"key", &value, b"NX", b"GET"], Reply::bulk("old")),
    ];
    for (args, expected) in cases {
        assert_eq!(client.call_bytes(args), expected);
        assert_eq!(client.call(&["GET", "key"]), Reply::bulk("old"));
        assert_eq!(info(&mut client, "page_bytes"), 0);
    }
    // A length that is not that of the value.
    let mut frame = encode(&[b"SET", b"key", &value]);
    let end = frame.len();
    frame[end - 2] = b'x';
    let mut broken = server.client();
    broken.send(&frame);
    assert!(broken.reply().text().contains("missing line end"));
    assert!(broken.rest().is_empty());
    let mut memcached = server.memcached();
    memcached.send([b"set key 0 0 200000\r\n", &value[..], b"xx"].concat());
    assert_eq!(memcached.line(), "CLIENT_ERROR bad data chunk");
    memcached.send([b"set key 0 0 200000 noreply\r\n", &value[..], b"\r\nget key\r\n"].concat());
    assert!(read_hit(&mut memcached, false).is_some_and(|(_, found, _)| found == value));
    memcached.send([b"append key 0 0 200000\r\n", &value[..], b"\r\nversion\r\n"].concat());
    assert_eq!(memcached.line(), "STORED");
    assert!(memcached.line().starts_with("VERSION "));
    assert_eq!(client.call(&["DEL", "key"]), Reply::Integer(1));
    wait_for(&mut client, "page_bytes", |bytes| bytes == 0);
}

#[test]
fn a_client_that_sends_all_and_closes_its_side_is_answered() {
    let server = Server::start(&[]);
    let value = vec![5; 3_000_000];
    let mut client = server.client();
    client.send([encode(&[b"SET", b"k", &value]), encode(&[b"GET", b"k"])].concat());
    client.stream().shutdown(std::net::Shutdown::Write).expect("shutdown");
    assert_eq!(client.reply(), ok());
    assert!(client.reply() == Reply::Bulk(value));
    assert!(client.rest().is_empty());
}
