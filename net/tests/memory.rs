//! The promise of `--memory`: the whole process stays within it, whatever clients do, and gives
//! back what it needs no more.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use support::{Client, Reply, Server, encode, info_number, ok};

const MIB: u64 = 1 << 20;
/// What a server may have resident beyond its limit, in a build that is not the released one.
const SLACK_BYTES: u64 = 6 * MIB;

/// Resident memory without the pages of the program's file, of which there are some 7 MB in the dev
/// profile.
fn resident_bytes(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()));
    let status = status.expect("the server runs");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    };
    field("RssAnon:") + field("RssShmem:")
}

fn info(client: &mut Client) -> String {
    client.call(&["INFO"]).text()
}

/// Waits until a condition on INFO holds.
fn await_info(client: &mut Client, what: &str, holds: impl Fn(&str) -> bool) -> String {
    let start = Instant::now();
    loop {
        let text = info(client);
        if holds(&text) {
            return text;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "not {what}: {text}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Stores `count` values of `value_bytes` under new keys; the most that was resident meanwhile.
fn fill(server: &Server, prefix: &str, count: usize, value_bytes: usize) -> u64 {
    let mut client = server.client();
    let value = vec![b'v'; value_bytes];
    let mut peak = 0;
    for batch in 0..count / 100 {
        let mut bytes = Vec::new();
        for number in 0..100 {
            let key = format!("{prefix}:{}", batch * 100 + number);
            bytes.extend(encode(&[b"SET", key.as_bytes(), &value]));
        }
        client.send(bytes);
        let replies = client.bytes(500);
        assert!(replies.chunks(5).all(|reply| reply == b"+OK\r\n"), "a value was not stored");
        if batch % 50 == 0 {
            peak = peak.max(resident_bytes(server));
        }
    }
    peak.max(resident_bytes(server))
}

/// A client that is slow to take anything.
fn narrow(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4 << 10).expect("a small buffer");
    socket.connect(&address.into()).expect("connect");
    let stream: TcpStream = socket.into();
    stream.set_nonblocking(true).expect("nonblocking");
    stream
}

/// Sends as much as goes without waiting.
fn push(stream: &mut TcpStream, bytes: &[u8]) {
    match stream.write(bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        // The server may have hung up.
        Err(error) => assert!(
            [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind()),
            "{error}"
        ),
    }
}

#[test]
fn clients_that_do_not_read_stay_within_the_share_and_hurt_nobody_else() {
    let server = Server::start(&["--cores", "0", "--memory", "128MiB"]);
    fill(&server, "small", 120_000, 1_000);
    let mut client = server.client();
    let value = vec![b'b'; 32_000];
    assert_eq!(client.call_bytes(&[b"SET", b"big", &value]), ok());
    let before = info_number(&info(&mut client), "used_memory_rss");
    let pipeline = encode(&[b"GET", b"big"]).repeat(300);
    let mut others: Vec<TcpStream> = (0..300).map(|_| narrow(server.resp)).collect();
    let mut peak = 0;
    for round in 0..4 {
        for stream in &mut others {
            push(stream, &pipeline);
        }
        for number in 0..200 {
            let key = format!("polite:{round}:{number}");
            assert_eq!(client.call(&["SET", &key, "here"]), ok());
            assert_eq!(client.call(&["GET", &key]), Reply::bulk("here"));
        }
        let text = info(&mut client);
        let (held, share) =
            (info_number(&text, "memory_buffers"), info_number(&text, "memory_buffers_share"));
        assert!(held <= share, "{held} of {share} bytes in round {round}");
        peak = peak.max(resident_bytes(&server));
    }
    let text = info(&mut client);
    assert!(info_number(&text, "budget_pauses") > 0, "the share was never short: {text}");
    let share = info_number(&text, "memory_buffers_share");
    // One reply and one receive more than the share.
    assert!(info_number(&text, "memory_buffers_peak") <= share + 64 * 1024, "{text}");
    assert!(peak <= 128 * MIB, "{peak} bytes resident");
    // A large read waits for those who do not read, and is answered once they are closed.
    assert_eq!(client.call(&["GET", "big"]), Reply::bulk(&value));
    let text = info(&mut client);
    assert!(info_number(&text, "buffer_evictions") > 0, "somebody made room: {text}");
    drop(others);
    await_info(&mut client, "drained", |text| {
        info_number(text, "connected_clients") == 1
            && info_number(text, "memory_buffers") < MIB
            && info_number(text, "memory_buffers_spare") <= MIB
            && info_number(text, "used_memory_rss") < before + SLACK_BYTES
    });
}

#[test]
fn what_clients_need_is_taken_back_from_items_and_lent_again() {
    let server = Server::start(&["--cores", "0", "--memory", "128MiB"]);
    let mut client = server.client();
    fill(&server, "small", 140_000, 1_000);
    let value = vec![b'b'; 32_000];
    assert_eq!(client.call_bytes(&[b"SET", b"big", &value]), ok());
    let text = info(&mut client);
    let (lent, items) = (info_number(&text, "memory_items_lent"), info_number(&text, "items"));
    assert!(lent >= 8 * MIB, "{lent} bytes are lent to items: {text}");
    assert!(info_number(&text, "evicted_keys") > 0, "it was never full");
    let pipeline = encode(&[b"GET", b"big"]).repeat(300);
    let mut others: Vec<TcpStream> = (0..100).map(|_| narrow(server.resp)).collect();
    for stream in &mut others {
        push(stream, &pipeline);
    }
    let text = await_info(&mut client, "taken back", |text| {
        info_number(text, "memory_items_lent") + 4 * MIB <= lent
            && info_number(text, "memory_buffers") >= 3 * MIB
    });
    assert_eq!(info_number(&text, "buffer_refusals"), 0, "a loan refuses nobody: {text}");
    let peak = resident_bytes(&server);
    assert!(peak <= 128 * MIB, "{peak} bytes resident");
    let left = info_number(&text, "items");
    assert!(left * 10 >= items * 8, "{left} of {items} items are left: no more go than must");
    drop(others);
    await_info(&mut client, "lent again", |text| {
        info_number(text, "memory_items_lent") + 2 * MIB >= lent
    });
}

#[test]
fn requests_that_nobody_has_room_for_are_refused_with_an_error() {
    let server = Server::start(&["--memory", "128MiB"]);
    fill(&server, "small", 100_000, 1_000);
    let mut client = server.client();
    let (mut held, mut refused) = (Vec::new(), 0);
    // Requests that are collected whole before they run.
    for number in 0..30 {
        let (address, head, words): (_, &[u8], &[u8]) = if number % 2 == 0 {
            (server.resp, b"*3\r\n$4\r\nMSET\r\n$5\r\nlarge\r\n$2900000\r\n", b"-OOM ")
        } else {
            (server.memcached, b"append large 0 0 2900000\r\n", b"SERVER_ERROR out of memory")
        };
        let mut stream = TcpStream::connect(address).expect("connect");
        stream.set_read_timeout(Some(Duration::from_millis(100))).expect("timeout");
        let sent = [head, &vec![b't'; 2_800_000]].concat();
        if stream.write_all(&sent).is_ok() {
            let mut reply = [0; 64];
            match stream.read(&mut reply) {
                Ok(count) if count > 0 => {
                    assert!(
                        reply[..count].starts_with(words),
                        "{:?}",
                        reply[..count].utf8_chunks()
                    );
                    refused += 1;
                }
                // It waits for the rest, or was reset before the error could be read.
                _ => {}
            }
        }
        held.push(stream);
        assert_eq!(client.call(&["SET", "polite", "here"]), ok());
        assert!(resident_bytes(&server) <= 128 * MIB);
    }
    let text = info(&mut client);
    assert!(refused > 0, "nobody was told");
    assert!(info_number(&text, "buffer_refusals") >= refused, "{text}");
    let share = info_number(&text, "memory_buffers_share");
    assert!(info_number(&text, "memory_buffers_peak") <= share, "{text}");
    drop(held);
    await_info(&mut client, "drained", |text| info_number(text, "memory_buffers") < MIB);
    // With room, the same request is fine.
    let value = vec![b't'; 2_900_000];
    assert_eq!(client.call_bytes(&[b"MSET", b"large", &value]), ok());
    assert!(client.call(&["GET", "large"]) == Reply::bulk(&value));
}

#[test]
fn a_reply_larger_than_all_buffers_is_refused_and_the_connection_goes_on() {
    let server = Server::start(&["--cores", "0", "--memory", "128MiB"]);
    let (mut client, mut text) = (server.client(), server.memcached());
    // Values that are copied into the reply; longer ones are sent from where they lie.
    let value = vec![b'v'; 32 << 10];
    assert_eq!(client.call_bytes(&[b"SET", b"a", &value]), ok());
    let keys: Vec<&str> = std::iter::once("MGET").chain(std::iter::repeat_n("a", 1_000)).collect();
    let Reply::Error(error) = client.call(&keys) else { panic!("32 MiB do not fit") };
    assert!(error.starts_with("OOM "), "{error}");
    let Reply::Array(values) = client.call(&keys[..4]) else { panic!("96 KiB do") };
    assert!(values.len() == 3 && values.iter().all(|reply| *reply == Reply::bulk(&value)));
    text.send(format!("get{}\r\n", " a".repeat(1_000)));
    assert_eq!(text.line(), "SERVER_ERROR out of memory writing get response");
    assert_eq!(text.ask("get b\r\n"), "END\r\n");
    assert_eq!(client.call(&["PING"]), Reply::Simple("PONG".into()));
}

#[test]
fn resident_memory_keeps_to_the_limit_while_values_change_size() {
    let server = Server::start(&["--memory", "128MiB"]);
    for (prefix, count, value_bytes) in
        [("a", 900_000, 100), ("b", 40_000, 4_096), ("c", 900_000, 100)]
    {
        let peak = fill(&server, prefix, count, value_bytes);
        assert!(peak <= 128 * MIB, "{prefix}: {peak} bytes resident");
        assert!(peak >= 110 * MIB, "{prefix}: only {peak} bytes are used");
    }
    let mut client = server.client();
    let evicted = info_number(&info(&mut client), "evicted_keys");
    assert!(evicted > 0, "it was never full");
    // A flush gives it back.
    assert_eq!(client.call(&["FLUSHALL"]), ok());
    await_info(&mut client, "given back", |text| {
        info_number(text, "used_memory_rss") < 64 * MIB
            && info_number(text, "memory_items_ahead") < 32 * MIB
    });
}

#[test]
fn the_limit_moves_at_run_time() {
    let server = Server::start(&["--memory", "96MiB"]);
    let (mut client, mut text) = (server.client(), server.memcached());
    let maxmemory = |client: &mut Client| match client.call(&["CONFIG", "GET", "maxmemory"]) {
        Reply::Array(pair) => pair[1].text(),
        other => panic!("{other:?}"),
    };
    assert_eq!(maxmemory(&mut client), (96 * MIB).to_string());
    assert_eq!(client.call(&["CONFIG", "SET", "maxmemory", "192mb"]), ok());
    assert_eq!(maxmemory(&mut client), (192 * MIB).to_string());
    assert!(text.ask("stats\r\n").contains(&format!("STAT limit_maxbytes {}\r\n", 192 * MIB)));
    let peak = fill(&server, "a", 180_000, 1_000);
    assert!(peak > 130 * MIB && peak <= 192 * MIB, "{peak} bytes resident");
    assert_eq!(client.call(&["CONFIG", "SET", "maxmemory", "100663296"]), ok());
    let info = await_info(&mut client, "shrunk", |text| {
        info_number(text, "used_memory_rss") <= 96 * MIB + SLACK_BYTES
    });
    assert!(info_number(&info, "items") > 40_000, "more went than had to: {info}");
    for (arguments, words) in [
        (&["maxmemory", "1mb"][..], "at least"),
        (&["maxmemory", "9999999gb"], "at most"),
        (&["maxmemory", "much"], "must be a memory value"),
        (&["maxmemory", "0"], "without a limit"),
        (&["port", "1"], "immutable"),
        (&["nonsense", "1"], "Unknown option"),
        (&["maxmemory"], "wrong number of arguments"),
        (&["maxmemory", "128mb", "port", "1"], "immutable"),
    ] {
        let Reply::Error(error) = client.call(&[&["CONFIG", "SET"], arguments].concat()) else {
            panic!("{arguments:?} was accepted")
        };
        assert!(error.contains(words), "{arguments:?}: {error}");
    }
    assert_eq!(maxmemory(&mut client), (96 * MIB).to_string(), "all or nothing");
    fill(&server, "b", 10_000, 1_000);
}

#[test]
fn idle_connections_cost_what_their_share_says() {
    let server = Server::start(&["--memory", "96MiB"]);
    let mut client = server.client();
    let idle: Vec<Client> = (0..400).map(|_| server.client()).collect();
    await_info(&mut client, "connected", |text| info_number(text, "connected_clients") == 401);
    let warm = resident_bytes(&server);
    let more: Vec<Client> = (0..400).map(|_| server.client()).collect();
    let text =
        await_info(&mut client, "connected", |text| info_number(text, "connected_clients") == 801);
    let each = resident_bytes(&server).saturating_sub(warm) / 400;
    let share = info_number(&text, "memory_connections_share") / info_number(&text, "maxclients");
    // The kernel hands out whole pages, and the allocator keeps some.
    assert!(each <= share + 1_000, "{each} bytes each, {share} planned");
    assert!(info_number(&text, "memory_buffers") < 64 * 1024, "idle connections hold none: {text}");
    drop((idle, more));
}
