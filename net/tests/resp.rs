//! The server as a Redis client sees it, over real sockets.

mod support;

use std::time::Duration;

use support::{Client, Reply, Server, encode, ok};

const WRONG_TYPE: &str = "ERR value is not an integer or out of range";

fn error(text: &str) -> Reply {
    Reply::Error(text.into())
}

#[test]
fn strings_and_conditions() {
    let server = Server::start(&[]);
    let mut client = server.client();
    assert_eq!(client.call(&["GET", "a"]), Reply::Null);
    assert_eq!(client.call(&["SET", "a", "1"]), ok());
    assert_eq!(client.call(&["get", "a"]), Reply::bulk("1"));
    assert_eq!(client.call(&["SET", "a", "2", "NX"]), Reply::Null);
    assert_eq!(client.call(&["SET", "b", "2", "XX"]), Reply::Null);
    assert_eq!(client.call(&["SET", "a", "2", "XX", "GET"]), Reply::bulk("1"));
    assert_eq!(client.call(&["SET", "b", "x", "nx", "get"]), Reply::Null);
    assert_eq!(client.call(&["SETNX", "b", "y"]), Reply::Integer(0));
    assert_eq!(
        client.call(&["MGET", "a", "none", "b"]),
        Reply::Array(vec![Reply::bulk("2"), Reply::Null, Reply::bulk("x")])
    );
    assert_eq!(client.call(&["MSET", "c", "3", "d", "4"]), ok());
    assert_eq!(client.call(&["EXISTS", "a", "a", "none", "d"]), Reply::Integer(3));
    assert_eq!(client.call(&["DEL", "a", "none", "d"]), Reply::Integer(2));
    assert_eq!(client.call(&["UNLINK", "c"]), Reply::Integer(1));
    assert_eq!(client.call(&["DBSIZE"]), Reply::Integer(1));
    assert_eq!(client.call(&["FLUSHALL", "ASYNC"]), ok());
    assert_eq!(client.call(&["DBSIZE"]), Reply::Integer(0));
    assert_eq!(client.call(&["GET", "b"]), Reply::Null);
    for wrong in [
        &["SET", "a", "1", "NX", "XX"][..],
        &["SET", "a", "1", "EX"],
        &["SET", "a", "1", "EX", "5", "PX", "5"],
        &["SET", "a", "1", "KEEPTTL", "EX", "5"],
        &["SET", "a", "1", "WHAT"],
    ] {
        assert_eq!(client.call(wrong), error("ERR syntax error"), "{wrong:?}");
    }
    for time in ["0", "-1", "9223372036854775807"] {
        let expected = error("ERR invalid expire time in 'set' command");
        assert_eq!(client.call(&["SET", "a", "1", "EX", time]), expected);
    }
    assert_eq!(client.call(&["SET", "a", "1", "EX", "x"]), error(WRONG_TYPE));
}

#[test]
fn errors_name_what_is_wrong() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let text = "ERR unknown command 'NOPE', with args beginning with: 'x' 'y' ";
    assert_eq!(client.call(&["NOPE", "x", "y"]), error(text));
    let text = "ERR wrong number of arguments for 'get' command";
    assert_eq!(client.call(&["GET"]), error(text));
    assert_eq!(client.call(&["GET", "a", "b"]), error(text));
    let text = "ERR wrong number of arguments for 'mset' command";
    assert_eq!(client.call(&["MSET", "a", "1", "b"]), error(text));
    assert_eq!(client.call(&["SELECT", "0"]), ok());
    assert_eq!(client.call(&["SELECT", "16"]), error("ERR DB index is out of range"));
    assert_eq!(
        client.call(&["CONFIG", "WHAT"]).text(),
        "ERR unknown subcommand 'WHAT'. Try CONFIG HELP."
    );
    // A broken frame is answered in its order, and ends the connection.
    client.send("*1\r\n$4\r\nPING\r\n*1\r\n!4\r\n");
    assert_eq!(client.reply(), Reply::Simple("PONG".into()));
    assert_eq!(client.reply(), error("ERR Protocol error: expected '$', got '!'"));
    assert_eq!(client.rest(), b"");
    let key = "k".repeat(70_000);
    let refused = server.client().call(&["SET", &key, "v"]).text();
    assert!(refused.contains("key is longer than 65535 bytes"), "{refused}");
}

#[test]
fn counters_count_and_refuse() {
    let server = Server::start(&[]);
    let mut client = server.client();
    assert_eq!(client.call(&["INCR", "n"]), Reply::Integer(1));
    assert_eq!(client.call(&["INCRBY", "n", "-11"]), Reply::Integer(-10));
    assert_eq!(client.call(&["GET", "n"]), Reply::bulk("-10"));
    assert_eq!(client.call(&["DECRBY", "n", "90"]), Reply::Integer(-100));
    assert_eq!(client.call(&["DECR", "n"]), Reply::Integer(-101));
    assert_eq!(client.call(&["EXPIRE", "n", "100"]), Reply::Integer(1));
    assert_eq!(client.call(&["INCR", "n"]), Reply::Integer(-100));
    assert_eq!(client.call(&["TTL", "n"]), Reply::Integer(100));
    client.call(&["SET", "n", "9223372036854775807"]);
    let overflow = error("ERR increment or decrement would overflow");
    assert_eq!(client.call(&["INCR", "n"]), overflow);
    client.call(&["SET", "n", "-9223372036854775808"]);
    assert_eq!(client.call(&["DECR", "n"]), overflow);
    assert_eq!(client.call(&["GET", "n"]), Reply::bulk("-9223372036854775808"));
    let min = "-9223372036854775808";
    assert_eq!(client.call(&["DECRBY", "n", min]), error("ERR decrement would overflow"));
    for value in ["x", "1.5", "01", " 1", "", "9223372036854775808"] {
        client.call(&["SET", "x", value]);
        assert_eq!(client.call(&["INCR", "x"]), error(WRONG_TYPE), "{value}");
    }
    assert_eq!(client.call(&["INCRBY", "n", "1.5"]), error(WRONG_TYPE));
}

#[test]
fn deadlines_are_exact_and_changeable() {
    let server = Server::start(&[]);
    let mut client = server.client();
    assert_eq!(client.call(&["TTL", "a"]), Reply::Integer(-2));
    client.call(&["SET", "a", "1"]);
    assert_eq!(client.call(&["TTL", "a"]), Reply::Integer(-1));
    assert_eq!(client.call(&["EXPIRE", "a", "100"]), Reply::Integer(1));
    assert_eq!(client.call(&["TTL", "a"]), Reply::Integer(100));
    assert_eq!(client.call(&["EXPIRE", "a", "200", "NX"]), Reply::Integer(0));
    assert_eq!(client.call(&["EXPIRE", "a", "50", "GT"]), Reply::Integer(0));
    assert_eq!(client.call(&["EXPIRE", "a", "50", "LT"]), Reply::Integer(1));
    assert_eq!(client.call(&["SET", "a", "2", "KEEPTTL"]), ok());
    assert_eq!(client.call(&["TTL", "a"]), Reply::Integer(50));
    assert_eq!(client.call(&["PERSIST", "a"]), Reply::Integer(1));
    assert_eq!(client.call(&["PERSIST", "a"]), Reply::Integer(0));
    assert_eq!(client.call(&["EXPIRE", "a", "-1"]), Reply::Integer(1));
    assert_eq!(client.call(&["GET", "a"]), Reply::Null);
    let text = "ERR NX and XX, GT or LT options at the same time are not compatible";
    assert_eq!(client.call(&["EXPIRE", "a", "1", "NX", "GT"]), error(text));
    assert_eq!(client.call(&["EXPIRE", "a", "1", "ZZ"]), error("ERR Unsupported option ZZ"));
    client.call(&["SET", "b", "1", "PX", "60"]);
    assert_eq!(client.call(&["GET", "b"]), Reply::bulk("1"));
    // A deadline passes whether the server sleeps or not.
    std::thread::sleep(Duration::from_millis(80));
    assert_eq!(client.call(&["GET", "b"]), Reply::Null);
    client.call(&["PSETEX", "c", "100000", "v"]);
    let Reply::Integer(left) = client.call(&["PTTL", "c"]) else { panic!("no integer") };
    assert!((90_000..=100_000).contains(&left), "{left}");
}

#[test]
fn hello_switches_the_protocol() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let Reply::Map(fields) = client.call(&["HELLO", "3", "SETNAME", "me"]) else {
        panic!("RESP3 answers with a map")
    };
    let field = |name: &str| {
        let found = fields.iter().find(|(key, _)| key.text() == name);
        found.map(|(_, value)| value.clone())
    };
    assert_eq!(field("server"), Some(Reply::bulk("redis")));
    assert_eq!(field("proto"), Some(Reply::Integer(3)));
    assert_eq!(client.call(&["CLIENT", "GETNAME"]), Reply::bulk("me"));
    client.send(encode(&[b"GET", b"none"]));
    assert_eq!(client.line(), "_");
    client.send(encode(&[b"CONFIG", b"GET", b"save"]));
    assert_eq!(client.line(), "%1");
    client.bytes(b"$4\r\nsave\r\n$0\r\n\r\n".len());
    let text = "NOPROTO unsupported protocol version";
    assert_eq!(client.call(&["HELLO", "4"]), error(text));
    assert_eq!(client.call(&["RESET"]), Reply::Simple("RESET".into()));
    client.send(encode(&[b"GET", b"none"]));
    assert_eq!(client.line(), "$-1");
    assert_eq!(client.call(&["CLIENT", "SETINFO", "LIB-NAME", "x"]), ok());
    let Reply::Integer(id) = client.call(&["CLIENT", "ID"]) else { panic!("no id") };
    assert_ne!(server.client().call(&["CLIENT", "ID"]), Reply::Integer(id));
    assert_eq!(client.call(&["QUIT"]), ok());
    assert_eq!(client.rest(), b"");
}

#[test]
fn slow_answers_keep_their_place() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let mut pipeline = Vec::new();
    for number in 0..200u32 {
        pipeline.extend(encode(&[b"INCR", b"n"]));
        if number % 7 == 0 {
            pipeline.extend(encode(&[b"INFO", b"server"]));
        }
    }
    pipeline.extend(encode(&[b"QUIT"]));
    client.send(&pipeline);
    for number in 0..200u32 {
        assert_eq!(client.reply(), Reply::Integer(i64::from(number) + 1));
        if number % 7 == 0 {
            assert!(client.reply().text().contains("redis_version:"), "INFO in its place");
        }
    }
    assert_eq!(client.reply(), ok());
    assert_eq!(client.rest(), b"");
    let info = server.client().call(&["INFO"]).text();
    for field in ["connected_clients:", "db0:keys=1", "evicted_keys:0", "ring_features:"] {
        assert!(info.contains(field), "{field} is missing in {info}");
    }
}

#[test]
fn inline_commands_and_torn_frames() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.send("PING\r\n\r\nSET \"a b\" 'c'\nGET \"a b\"\r\n");
    assert_eq!(client.reply(), Reply::Simple("PONG".into()));
    assert_eq!(client.reply(), ok());
    assert_eq!(client.reply(), Reply::bulk("c"));
    let command = encode(&[b"SET", b"torn", b"value\r\n\0"]);
    for at in 1..command.len() {
        client.send(&command[..at]);
        std::thread::sleep(Duration::from_micros(200));
        client.send(&command[at..]);
        assert_eq!(client.reply(), ok(), "cut at {at}");
    }
    assert_eq!(client.call(&["GET", "torn"]), Reply::bulk("value\r\n\0"));
}

#[test]
fn large_values_and_long_pipelines_come_back_whole() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let value: Vec<u8> = (0..3_000_000u32).map(|i| (i * 7 + i / 251) as u8).collect();
    assert_eq!(client.call_bytes(&[b"SET", b"large", &value]), ok());
    assert_eq!(client.call(&["GET", "large"]), Reply::bulk(&value));
    let mut stream = client.stream().try_clone().expect("clone");
    let writer = std::thread::spawn(move || {
        let mut pipeline = Vec::new();
        for number in 0..100_000u32 {
            let (key, value) = (format!("key:{number}"), format!("value:{number}"));
            pipeline.extend(encode(&[b"SET", key.as_bytes(), value.as_bytes()]));
            pipeline.extend(encode(&[b"GET", key.as_bytes()]));
        }
        std::io::Write::write_all(&mut stream, &pipeline).expect("write");
    });
    for number in 0..100_000u32 {
        assert_eq!(client.reply(), ok());
        assert_eq!(client.reply(), Reply::bulk(format!("value:{number}")));
    }
    writer.join().expect("writer");
    let too_large = vec![0; 9 << 20];
    client.send(&encode(&[b"SET", b"huge", &too_large])[..64]);
    assert_eq!(client.reply(), error("ERR Protocol error: invalid bulk length"));
}

#[test]
fn a_client_that_does_not_read_is_held_back_and_harms_nobody() {
    let server = Server::start(&[]);
    let mut slow = server.client();
    let value = vec![b'v'; 100_000];
    slow.call_bytes(&[b"SET", b"big", &value]);
    // 300 MB of replies, asked for without reading any.
    let pipeline = encode(&[b"GET", b"big"]).repeat(3_000);
    let mut stream = slow.stream().try_clone().expect("clone");
    let writer = std::thread::spawn(move || {
        std::io::Write::write_all(&mut stream, &pipeline).expect("write");
    });
    let mut other = server.client();
    let mut pauses = 0;
    for _ in 0..200 {
        assert_eq!(other.call(&["PING"]), Reply::Simple("PONG".into()));
        let info = other.call(&["INFO", "pinion"]).text();
        let line = info.lines().find_map(|line| line.strip_prefix("output_pauses:"));
        pauses = line.expect("a count").parse::<u64>().expect("a number");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(pauses > 0, "the slow reader was held back");
    let memory = other.call(&["INFO", "memory"]).text();
    let resident = memory.lines().find_map(|line| line.strip_prefix("used_memory_rss:"));
    let resident: u64 = resident.expect("a figure").parse().expect("a number");
    assert!(resident < 128 << 20, "replies were not piled up: {resident}");
    for number in 0..3_000 {
        assert_eq!(slow.reply(), Reply::bulk(&value), "reply {number}");
    }
    writer.join().expect("writer");
    assert_eq!(slow.call(&["PING"]), Reply::Simple("PONG".into()));
}

#[test]
fn a_half_closed_connection_gets_its_replies() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.send(encode(&[b"PING"]).repeat(1_000));
    client.send(encode(&[b"INFO", b"server"]));
    client.stream().shutdown(std::net::Shutdown::Write).expect("shutdown");
    for _ in 0..1_000 {
        assert_eq!(client.reply(), Reply::Simple("PONG".into()));
    }
    assert!(client.reply().text().contains("redis_version"));
    assert_eq!(client.rest(), b"");
}

#[test]
fn connections_have_a_limit_and_leave_no_trace() {
    let server = Server::start(&["--max-connections", "10"]);
    let mut clients: Vec<Client> = (0..10).map(|_| server.client()).collect();
    for client in &mut clients {
        assert_eq!(client.call(&["PING"]), Reply::Simple("PONG".into()));
    }
    let mut refused = server.client();
    assert_eq!(refused.reply(), error("ERR max number of clients reached"));
    assert_eq!(refused.rest(), b"");
    drop(clients);
    // The server learns of the ends one after another.
    for attempt in 0.. {
        let mut client = server.client();
        client.send(encode(&[b"INFO", b"clients"]));
        let reply = client.reply().text();
        if reply.contains("connected_clients:1\r\n") {
            break;
        }
        assert!(attempt < 2_000, "{reply}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_flood_of_tiny_commands_is_not_piled_up() {
    let server = Server::start(&[]);
    let client = server.client();
    let mut stream = client.stream().try_clone().expect("clone");
    let writer = std::thread::spawn(move || {
        let pipeline = b"PING\r\n".repeat(100_000);
        for _ in 0..40 {
            std::io::Write::write_all(&mut stream, &pipeline).expect("write");
        }
    });
    let reader = std::thread::spawn(move || {
        let mut stream = client.stream();
        let (mut left, mut buffer) = (4_000_000 * b"+PONG\r\n".len(), vec![0; 1 << 20]);
        while left > 0 {
            let count = std::io::Read::read(&mut stream, &mut buffer).expect("read");
            assert!(count > 0, "the server hung up");
            left -= count;
        }
    });
    let mut other = server.client();
    let mut resident_max = 0;
    while !reader.is_finished() {
        let memory = other.call(&["INFO", "memory"]).text();
        let resident = memory.lines().find_map(|line| line.strip_prefix("used_memory_rss:"));
        resident_max = resident_max.max(resident.expect("a figure").parse().expect("a number"));
        std::thread::sleep(Duration::from_millis(2));
    }
    writer.join().expect("writer");
    reader.join().expect("reader");
    assert!(resident_max < 64 << 20, "input was piled up: {resident_max}");
}
