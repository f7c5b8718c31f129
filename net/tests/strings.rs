//! String and bit commands as a Redis client sees them, over real sockets. What is expected is what
//! Redis 7.2 answers.

mod support;

use support::{Client, Reply, Server, encode, ok};

fn error(text: &str) -> Reply {
    Reply::Error(text.into())
}

fn int(number: i64) -> Reply {
    Reply::Integer(number)
}

fn ints(numbers: &[i64]) -> Reply {
    Reply::Array(numbers.iter().map(|&number| int(number)).collect())
}

/// Sends a command written as words.
fn call(client: &mut Client, words: &str) -> Reply {
    client.call(&words.split(' ').collect::<Vec<_>>())
}

const SYNTAX: &str = "ERR syntax error";
const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
const WRONG_OFFSET: &str = "ERR bit offset is not an integer or out of range";

#[test]
fn set_and_getex_take_options_in_any_order_and_not_against_each_other() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let mut is =
        |words: &str, wanted: Reply| assert_eq!(call(&mut client, words), wanted, "{words}");
    is("SET k 1 EX 100 NX GET", Reply::Null);
    is("TTL k", int(100));
    is("SET k 2 NX GET", Reply::bulk("1"));
    is("SET k 2 GET KEEPTTL XX", Reply::bulk("1"));
    is("TTL k", int(100));
    is("SET k 3 ex 5 EX 200", ok());
    is("TTL k", int(200));
    is("SET k 4 EX 5 KEEPTTL", error(SYNTAX));
    is("SET k 4 PERSIST", error(SYNTAX));
    is("SET k 4 PXAT 1", ok());
    is("EXISTS k", int(0));
    is("GETEX k EX 0", Reply::Null);
    is("SET k 5", ok());
    is("GETEX k EX 0", error("ERR invalid expire time in 'getex' command"));
    is("GETEX k EX x", error(NOT_AN_INTEGER));
    is("GETEX k EX 10 PERSIST", error(SYNTAX));
    is("GETEX k PX 100000", Reply::bulk("5"));
    is("TTL k", int(100));
    is("GETEX k PERSIST", Reply::bulk("5"));
    is("TTL k", int(-1));
    is("GETEX k EXAT 1", Reply::bulk("5"));
    is("EXISTS k", int(0));
    is("GETDEL k", Reply::Null);
    is("SETEX k 100 v", ok());
    is("GETSET k w", Reply::bulk("v"));
    is("TTL k", int(-1));
    is("GETDEL k", Reply::bulk("w"));
    is("GET k", Reply::Null);
    is("PSETEX k 0 v", error("ERR invalid expire time in 'psetex' command"));
}

#[test]
fn msetnx_stores_all_or_nothing() {
    let server = Server::start(&["--eviction", "none", "--memory", "64MiB"]);
    let mut client = server.client();
    assert_eq!(call(&mut client, "MSETNX a 1 b 2 a 3"), int(1));
    assert_eq!(
        call(&mut client, "MGET a b"),
        Reply::Array(vec![Reply::bulk("3"), Reply::bulk("2")])
    );
    assert_eq!(call(&mut client, "MSETNX c 1 b 2"), int(0));
    assert_eq!(call(&mut client, "EXISTS c"), int(0));
    let odd = error("ERR wrong number of arguments for 'msetnx' command");
    assert_eq!(call(&mut client, "MSETNX c 1 b"), odd);
    // The last value has no room, so the first one must not stay.
    let value = vec![7; 30_000];
    let mut number = 0_u32;
    let refused = loop {
        let (one, other) = (format!("x{number}"), format!("y{number}"));
        let reply = client.call_bytes(&[b"MSETNX", one.as_bytes(), b"1", other.as_bytes(), &value]);
        if reply != int(1) {
            break reply.text();
        }
        number += 1;
        assert!(number < 10_000, "the memory has an end");
    };
    assert!(refused.starts_with("OOM "), "{refused}");
    assert_eq!(call(&mut client, &format!("EXISTS x{number} y{number}")), int(0));
}

#[test]
fn parts_of_values() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let mut is =
        |words: &str, wanted: Reply| assert_eq!(call(&mut client, words), wanted, "{words}");
    is("STRLEN k", int(0));
    is("SETEX k 100 Hello", ok());
    is("APPEND k World", int(10));
    is("TTL k", int(100));
    is("STRLEN k", int(10));
    is("GETRANGE k 3 -3", Reply::bulk("loWor"));
    is("SUBSTR k -100 1", Reply::bulk("He"));
    is("GETRANGE k 5 4", Reply::bulk(""));
    is("GETRANGE none 0 -1", Reply::bulk(""));
    is("GETRANGE k a 1", error(NOT_AN_INTEGER));
    is("SETRANGE k 12 !", int(13));
    is("GET k", Reply::bulk("HelloWorld\0\0!"));
    is("SETRANGE k 0 J", int(13));
    is("TTL k", int(100));
    is("SETRANGE none 5 ", int(0));
    is("EXISTS none", int(0));
    is("SETRANGE k -1 x", error("ERR offset is out of range"));
    let too_long = error("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    is("SETRANGE k 8388608 x", too_long.clone());
    is("SETRANGE k 9223372036854775807 x", too_long);
    is("APPEND n 1", int(1));
    is("INCRBYFLOAT n 1.5", Reply::bulk("2.5"));
    is("INCRBYFLOAT n -2.5e0", Reply::bulk("0"));
    is("INCRBYFLOAT n x", error("ERR value is not a valid float"));
    is("INCRBYFLOAT k 1", error("ERR value is not a valid float"));
    is("INCRBYFLOAT n inf", error("ERR increment would produce NaN or Infinity"));
}

#[test]
fn subsequences() {
    let server = Server::start(&[]);
    let mut client = server.client();
    call(&mut client, "MSET a ohmytext b mynewtext");
    let mut is =
        |words: &str, wanted: Reply| assert_eq!(call(&mut client, words), wanted, "{words}");
    is("LCS a b", Reply::bulk("mytext"));
    is("LCS a b LEN", int(6));
    is("LCS a none", Reply::bulk(""));
    let matched = |a: &[i64], b: &[i64], length: Option<i64>| {
        Reply::Array([ints(a), ints(b)].into_iter().chain(length.map(int)).collect())
    };
    let all = |matches: Vec<Reply>| {
        Reply::Array(vec![
            Reply::bulk("matches"),
            Reply::Array(matches),
            Reply::bulk("len"),
            int(6),
        ])
    };
    let (text, my) = ((&[4, 7][..], &[5, 8][..]), (&[2, 3][..], &[0, 1][..]));
    is("LCS a b IDX", all(vec![matched(text.0, text.1, None), matched(my.0, my.1, None)]));
    is("LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN", all(vec![matched(text.0, text.1, Some(4))]));
    let both = "ERR If you want both the length and indexes, please just use IDX.";
    is("LCS a b LEN IDX", error(both));
    is("LCS a b WHAT", error(SYNTAX));
    call(&mut client, "HELLO 3");
    let Reply::Map(fields) = call(&mut client, "LCS a b IDX MINMATCHLEN 5") else {
        panic!("RESP3 answers with a map")
    };
    let nothing = Reply::Array(Vec::new());
    assert_eq!(fields, [(Reply::bulk("matches"), nothing), (Reply::bulk("len"), int(6))]);
}

#[test]
fn bits() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let mut is =
        |words: &str, wanted: Reply| assert_eq!(call(&mut client, words), wanted, "{words}");
    is("SETBIT k 7 1", int(0));
    is("SETBIT k 7 0", int(1));
    is("SETBIT k 100 1", int(0));
    is("STRLEN k", int(13));
    is("GETBIT k 100", int(1));
    is("GETBIT k 4294967295", int(0));
    is("SETBIT k 4294967296 1", error(WRONG_OFFSET));
    is("SETBIT k 0 2", error("ERR bit is not an integer or out of range"));
    is("SET k foobar", ok());
    is("BITCOUNT k", int(26));
    is("BITCOUNT k 1 1", int(6));
    is("BITCOUNT k 5 30 BIT", int(17));
    is("BITCOUNT none x 1", error(NOT_AN_INTEGER));
    is("BITCOUNT k 1", error(SYNTAX));
    is("BITPOS k 1", int(1));
    is("BITPOS k 0 2", int(16));
    is("BITPOS k 1 7 15 BIT", int(9));
    is("BITPOS k 2", error("ERR The bit argument must be 1 or 0."));
    is("BITPOS none 0", int(0));
    is("BITPOS none 1", int(-1));
    is("BITOP NOT d k", int(6));
    is("BITOP XOR e k d none", int(6));
    is("BITCOUNT e", int(48));
    is("BITPOS e 0", int(48));
    is("BITPOS e 0 0 -1", int(-1));
    is("BITOP AND e e none", int(6));
    is("BITCOUNT e", int(0));
    is("BITOP OR e none none2", int(0));
    is("EXISTS e", int(0));
    is("BITOP NOT d k k", error("ERR BITOP NOT must be called with a single source key."));
    is("BITOP NAND d k k", error(SYNTAX));
    let nothing = Reply::Null;
    is(
        "BITFIELD f SET u8 #1 255 OVERFLOW FAIL INCRBY u8 8 1 OVERFLOW SAT INCRBY i5 100 16 GET i8 8",
        Reply::Array(vec![int(0), nothing, int(15), int(-1)]),
    );
    is("STRLEN f", int(14));
    is("BITFIELD_RO f GET u8 8 GET u8 #100", ints(&[255, 0]));
    is("BITFIELD_RO f SET u8 8 1", error("ERR BITFIELD_RO only supports the GET subcommand"));
    is("BITFIELD f SET u8 67108864 1", error(WRONG_OFFSET));
    is("BITFIELD none GET u8 0", ints(&[0]));
    is("EXISTS none", int(0));
}

/// Bytes that are alike nowhere.
fn noise(bytes: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 11) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

/// The same commands on a large value and on a copy of it, which the test keeps.
#[test]
fn large_values_change_as_short_ones_do() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let mut value = noise(1_500_000, 1);
    assert_eq!(client.call_bytes(&[b"SET", b"k", &value, b"EX", b"1000"]), ok());
    let tail = noise(700_000, 2);
    value.extend_from_slice(&tail);
    assert_eq!(client.call_bytes(&[b"APPEND", b"k", &tail]), int(value.len() as i64));
    value[1_000_000..1_000_004].copy_from_slice(b"abcd");
    assert_eq!(call(&mut client, "SETRANGE k 1000000 abcd"), int(value.len() as i64));
    value.resize(3_000_001, 0);
    value[3_000_000] = b'!';
    assert_eq!(call(&mut client, "SETRANGE k 3000000 !"), int(3_000_001));
    value.resize(4_000_000, 0);
    value[3_999_999] = 1;
    assert_eq!(call(&mut client, "SETBIT k 31999999 1"), int(0));
    value[0] ^= 0x80;
    let old = i64::from(value[0] & 0x80 == 0);
    let new = if old == 1 { "0" } else { "1" };
    assert_eq!(client.call(&["SETBIT", "k", "0", new]), int(old));
    value.resize(4_100_000, 0);
    value[4_099_998..].copy_from_slice(&[0x12, 0x34]);
    let fields = call(&mut client, "BITFIELD k SET u16 32799984 4660 GET u8 32799984");
    assert_eq!(fields, ints(&[0, 0x12]));
    assert_eq!(call(&mut client, "TTL k"), int(1000));
    assert_eq!(call(&mut client, "STRLEN k"), int(4_100_000));
    assert_eq!(call(&mut client, "GET k"), Reply::bulk(&value));
    let part = call(&mut client, "GETRANGE k 1000 -1001");
    assert_eq!(part, Reply::bulk(&value[1_000..4_099_000]));
    // Nothing of a large value, behind a reply that is long already.
    client.call(&["SET", "short", &"s".repeat(30_000)]);
    let mut commands = encode(&[b"GET", b"short"]).repeat(3);
    commands.extend(encode(&[b"GETRANGE", b"k", b"9", b"8"]));
    client.send(commands);
    for _ in 0..3 {
        assert_eq!(client.reply(), Reply::bulk("s".repeat(30_000)));
    }
    assert_eq!(client.reply(), Reply::bulk(""));
    let ones: u32 = value.iter().map(|byte| byte.count_ones()).sum();
    assert_eq!(call(&mut client, "BITCOUNT k"), int(i64::from(ones)));
    // A value that is being read is not changed under its reader.
    client.send(encode(&[b"GET", b"k"]));
    client.send(encode(&[b"SETRANGE", b"k", b"5", b"new"]));
    client.send(encode(&[b"GETDEL", b"k"]));
    assert_eq!(client.reply(), Reply::bulk(&value));
    assert_eq!(client.reply(), int(4_100_000));
    value[5..8].copy_from_slice(b"new");
    assert_eq!(client.reply(), Reply::bulk(&value));
    assert_eq!(call(&mut client, "EXISTS k"), int(0));
}

#[test]
fn large_values_are_scanned_combined_and_compared() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let mut zeros = vec![0; 5_000_000];
    zeros[4_999_990] = 0b100;
    client.call_bytes(&[b"SET", b"z", &zeros]);
    assert_eq!(call(&mut client, "BITPOS z 1"), int(4_999_990 * 8 + 5));
    assert_eq!(call(&mut client, "BITPOS z 1 0 4999989"), int(-1));
    assert_eq!(call(&mut client, "BITOP NOT n z"), int(5_000_000));
    assert_eq!(call(&mut client, "BITPOS n 0"), int(4_999_990 * 8 + 5));
    let mask = noise(3_000_000, 3);
    client.call_bytes(&[b"SET", b"m", &mask]);
    assert_eq!(call(&mut client, "BITOP AND r n m n"), int(5_000_000));
    let mut wanted = mask.clone();
    wanted.resize(5_000_000, 0);
    assert_eq!(call(&mut client, "GET r"), Reply::bulk(&wanted));
    assert_eq!(call(&mut client, "BITOP XOR r r m none"), int(5_000_000));
    assert_eq!(call(&mut client, "BITPOS r 1"), int(-1));
    client.call(&["SET", "a", &"x".repeat(9_000)]);
    client.call(&["SET", "b", &"xy".repeat(6_000)]);
    assert_eq!(call(&mut client, "LCS a b LEN"), int(6_000));
    assert_eq!(call(&mut client, "LCS a b"), Reply::bulk("x".repeat(6_000)));
    let too_large = "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";
    assert_eq!(call(&mut client, "LCS m m"), error(too_large));
    assert_eq!(call(&mut client, "LCS m none"), Reply::bulk(""));
}

/// Long commands of several connections at once: each append is whole, and in one piece.
#[test]
fn appends_from_many_sides_are_all_there() {
    let server = Server::start(&[]);
    let (clients, rounds, piece) = (4_usize, 12_usize, 20_000_usize);
    server.client().call_bytes(&[b"SET", b"k", &vec![b'.'; 400_000]]);
    std::thread::scope(|scope| {
        for number in 0..clients {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.client();
                let bytes = vec![b'a' + number as u8; piece];
                for _ in 0..rounds {
                    let Reply::Integer(_) = client.call_bytes(&[b"APPEND", b"k", &bytes]) else {
                        panic!("an append was refused")
                    };
                }
            });
        }
    });
    let Reply::Bulk(value) = server.client().call(&["GET", "k"]) else { panic!("no value") };
    assert_eq!(value.len(), 400_000 + clients * rounds * piece);
    for chunk in value[400_000..].chunks(piece) {
        assert!(chunk.iter().all(|byte| *byte == chunk[0]), "a piece was torn");
    }
}

/// Clients that leave in the middle of long commands leave nothing behind in the shard.
#[test]
fn abandoned_commands_give_their_memory_back() {
    let server = Server::start(&[]);
    let mut keeper = server.client();
    keeper.call_bytes(&[b"SET", b"k", &noise(8_000_000, 5)]);
    // A connection that is closed while there is something to read is reset.
    let leave = |command: &[&[u8]]| {
        let mut client = server.client();
        client.send([encode(&[b"PING"]), encode(command)].concat());
        assert_eq!(client.stream().peek(&mut [0]).expect("an answer"), 1);
    };
    for _ in 0..60 {
        leave(&[b"BITOP", b"NOT", b"d", b"k"]);
        leave(&[b"APPEND", b"k", &[b'x'; 20_000]]);
        assert_eq!(keeper.call(&["PING"]), Reply::Simple("PONG".into()));
        keeper.call_bytes(&[b"SETRANGE", b"k", b"0", b"y"]);
        keeper.call_bytes(&[b"SET", b"k", &noise(8_000_000, 5)]);
    }
    // Readers and arriving values have a quarter of the memory each: leaks would fill them.
    assert_eq!(call(&mut keeper, "BITOP NOT d k"), int(8_000_000));
    let Reply::Integer(_) = keeper.call_bytes(&[b"APPEND", b"k", &[b'x'; 100_000]]) else {
        panic!("the append was refused")
    };
}
