//! The server in each of its modes: drivers, ways of waiting, rings without this or that feature,
//! addresses; and how it starts and ends.

mod support;

use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pinion_ring::Feature;
use support::{Client, Reply, Server, encode, info_number, ok, run_to_end};

const DRIVERS: [&str; 2] = ["glommio", "bare"];

fn pong() -> Reply {
    Reply::Simple("PONG".into())
}

/// The same small session for every mode; the text of INFO.
fn session(server: &Server) -> String {
    let (mut client, mut text) = (server.client(), server.memcached());
    assert_eq!(client.call(&["SET", "a", "1"]), ok());
    assert_eq!(client.call(&["GET", "a"]), Reply::bulk("1"));
    let mut pipeline = Vec::new();
    for number in 0..300 {
        pipeline.extend(encode(&[b"INCR", b"a"]));
        if number % 100 == 50 {
            pipeline.extend(encode(&[b"INFO", b"server"]));
        }
    }
    client.send(&pipeline);
    for number in 0..300 {
        assert_eq!(client.reply(), Reply::Integer(number + 2));
        if number % 100 == 50 {
            assert!(client.reply().text().contains("redis_version:"), "INFO in its place");
        }
    }
    let value: Vec<u8> = (0..1u32 << 20).map(|i| (i * 7 + i / 251) as u8).collect();
    assert_eq!(client.call_bytes(&[b"SET", b"large", &value]), ok());
    client.send(encode(&[b"GET", b"large"]).repeat(3));
    for _ in 0..3 {
        assert!(client.reply() == Reply::bulk(&value), "the value came back changed");
    }
    let letters = "abcdefgh".repeat(128 << 10);
    text.send(format!("set b 5 0 {}\r\n{letters}\r\nget b\r\nincr a 9\r\n", letters.len()));
    assert_eq!(text.line(), "STORED");
    assert_eq!(text.line(), "VALUE b 5 1048576");
    assert!(text.line() == letters, "the value came back changed");
    assert_eq!((text.line(), text.line()), ("END".into(), "310".into()));
    assert_eq!(client.call(&["DEL", "large", "a", "b", "none"]), Reply::Integer(3));
    let mut others: Vec<Client> = (0..20).map(|_| server.client()).collect();
    for other in &mut others {
        other.send(encode(&[b"PING"]).repeat(10));
    }
    for other in &mut others {
        for _ in 0..10 {
            assert_eq!(other.reply(), pong());
        }
    }
    client.call(&["INFO"]).text()
}

#[test]
fn every_driver_waits_in_every_way() {
    for driver in DRIVERS {
        for idle in ["auto", "park", "spin:50us", "poll"] {
            let mut server =
                Server::start(&["--network", "io_uring", "--driver", driver, "--idle", idle]);
            let info = session(&server);
            for field in [format!("driver:{driver}\r\n"), format!("idle:{idle}\r\n")] {
                assert!(info.contains(&field), "{field} is missing in {info}");
            }
            server.signal("TERM");
            assert_eq!(server.wait(), Some(0), "{driver} {idle}");
        }
    }
}

#[test]
fn epoll_waits_in_every_way() {
    for idle in ["auto", "park", "spin:50us", "poll"] {
        let mut server = Server::start(&["--network", "epoll", "--idle", idle]);
        let info = session(&server);
        for field in ["network:epoll\r\n", "driver:bare\r\n", "multiplexing_api:epoll\r\n"] {
            assert!(info.contains(field), "{field} is missing in {info}");
        }
        server.signal("TERM");
        assert_eq!(server.wait(), Some(0), "{idle}");
    }
}

#[test]
fn every_feature_of_the_ring_may_be_absent() {
    let mut hidden: Vec<&str> = Feature::ALL.into_iter().map(Feature::name).collect();
    hidden.push("all");
    hidden.push("multishot-accept,multishot-receive,buffer-ring");
    for (number, names) in hidden.into_iter().enumerate() {
        let driver = DRIVERS[number % 2];
        let mut server =
            Server::start(&["--network", "io_uring", "--driver", driver, "--ring-hide", names]);
        let info = session(&server);
        let used = info.lines().find_map(|line| line.strip_prefix("ring_features:"));
        let used = used.expect("INFO tells the features").trim_end();
        if names == "all" {
            assert_eq!(used, "none");
        }
        let is_hidden = |feature| names.split(',').any(|name| name == feature);
        assert!(!used.split(',').any(is_hidden), "{names} is hidden, and used are {used}");
        server.signal("INT");
        assert_eq!(server.wait(), Some(0), "{names}");
    }
}

#[test]
fn ipv6_is_served() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        println!("skipped: this host has no IPv6");
        return;
    }
    let server = Server::start_on("::1", &[]);
    assert!(server.resp.is_ipv6() && server.memcached.is_ipv6());
    session(&server);
    // Both families on one port.
    let server = Server::start_on("127.0.0.1,::1", &[]);
    assert!(server.resp.is_ipv4());
    let mut client = Client::connect((Ipv6Addr::LOCALHOST, server.resp.port()).into());
    assert_eq!(client.call(&["PING"]), pong());
    assert_eq!(server.client().call(&["PING"]), pong());
}

/// Keeps connections busy until the server hangs up; what they get is whole.
fn keep_busy(mut client: Client, started: &AtomicBool) {
    let mut buffer = vec![0; 64 << 10];
    let mut received = 0;
    let mut stream = client.stream().try_clone().expect("clone");
    while client.stream().write_all(&encode(&[b"PING"]).repeat(50)).is_ok() {
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => {
                for &byte in &buffer[..count] {
                    assert_eq!(byte, b"+PONG\r\n"[received % 7]);
                    received += 1;
                }
                started.store(true, Ordering::Relaxed);
            }
            // The end, or a reset because of what was sent and not read.
            _ => break,
        }
    }
    client.rest();
}

#[test]
fn signals_end_it_with_connections_open_and_busy() {
    for driver in DRIVERS {
        for signal in ["TERM", "INT"] {
            let mut server = Server::start(&["--driver", driver]);
            let (mut idle, mut half) = (server.client(), server.client());
            idle.call(&["SET", "a", "1"]);
            half.send("*2\r\n$3\r\nGET\r\n$1\r");
            let started = AtomicBool::new(false);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    let mut client = server.client();
                    // Who is still to be accepted when the end begins is refused.
                    assert_eq!(client.call(&["PING"]), pong());
                    scope.spawn(|| keep_busy(client, &started));
                }
                while !started.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                server.signal(signal);
            });
            assert_eq!(server.wait(), Some(0), "{driver} {signal}");
            assert_eq!((idle.rest(), half.rest()), (vec![], vec![]));
        }
    }
}

/// Sends on after a QUIT, until the server hangs up.
fn quit_and_go_on(address: std::net::SocketAddr) {
    let client = Client::connect(address);
    let mut reader = client.stream().try_clone().expect("clone");
    let thread = std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while reader.read(&mut buffer).is_ok_and(|count| count > 0) {}
    });
    let mut stream = client.stream();
    let mut request = b"PING\r\n".repeat(5_000);
    request.extend(b"QUIT\r\n");
    // Small pieces, so that one comes at every moment of the end.
    for _ in 0..500 {
        if stream.write_all(&request).is_err() {
            break;
        }
        request.clear();
        request.extend(b"PING\r\n".repeat(20));
        std::thread::sleep(Duration::from_micros(20));
    }
    thread.join().expect("reader");
}

#[test]
fn connections_that_end_while_data_comes_leave_no_trace() {
    for hidden in ["multishot-receive", ""] {
        let server = Server::start(&["--ring-hide", hidden]);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| (0..60).for_each(|_| quit_and_go_on(server.resp)));
            }
        });
        let mut client = server.client();
        for attempt in 0.. {
            let info = client.call(&["INFO", "clients"]).text();
            let count = info_number(&info, "connected_clients");
            if count == 1 {
                break;
            }
            assert!(attempt < 2_000, "without '{hidden}': {count} connections are left");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

#[test]
fn a_client_that_does_not_read_does_not_keep_it_from_ending() {
    for driver in DRIVERS {
        let mut server = Server::start(&["--driver", driver, "--drain", "1s"]);
        let mut stuck = server.client();
        stuck.call_bytes(&[b"SET", b"a", &vec![b'v'; 1_000_000]]);
        stuck.send(encode(&[b"GET", b"a"]).repeat(100));
        // Replies fill the buffers of both sides, and then the server sleeps.
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(server.client().call(&["PING"]), pong());
        server.signal("TERM");
        assert_eq!(server.wait(), Some(0), "{driver}");
    }
}

#[test]
fn a_parked_server_ends() {
    for driver in DRIVERS {
        let mut server = Server::start(&["--driver", driver, "--idle", "park"]);
        let mut client = server.client();
        assert_eq!(client.call(&["PING"]), pong());
        std::thread::sleep(Duration::from_millis(300));
        server.signal("TERM");
        assert_eq!(server.wait(), Some(0), "{driver}");
        assert_eq!(client.rest(), b"");
    }
}

#[test]
fn a_port_that_is_taken_ends_it_with_one_line() {
    let server = Server::start(&[]);
    let (resp, memcached) = (server.resp.port(), server.memcached.port());
    for (flag, port, other_flag, other) in
        [("--port", resp, "--memcached-port", "0"), ("--memcached-port", memcached, "--port", "0")]
    {
        let port = port.to_string();
        let flags = ["--bind", "127.0.0.1", "--memory", "64MiB", flag, &port, other_flag, other];
        let (code, complaint) = run_to_end(&flags);
        assert_eq!(code, Some(1), "{complaint}");
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
        let named = complaint.contains(&format!("127.0.0.1:{port}")) && complaint.contains(flag);
        assert!(named, "{complaint}");
    }
}

#[test]
fn bad_flags_are_named() {
    for (flags, words) in [
        (["--cores", "4095"], ["--cores 4095", "taskset"]),
        (["--cores", "x"], ["--cores", "'x'"]),
        (["--memory", "1KiB"], ["--memory 1KiB", "64MiB"]),
        (["--memory", "much"], ["--memory", "'much'"]),
        (["--idle", "x"], ["--idle", "'x' is not auto, park, poll or spin:TIME"]),
        (["--value-max", "0"], ["--value-max 0", "from 1 to 512MiB"]),
        (["--value-max", "1GiB"], ["--value-max 1GiB", "512MiB"]),
        (["--data-limit", "1KiB"], ["--data-limit 1KiB", "16KiB"]),
        (["--eviction", "x"], ["--eviction", "'x'"]),
        (["--driver", "x"], ["--driver", "'x' is not glommio or bare"]),
        (["--ring-hide", "warp"], ["--ring-hide", "'warp'"]),
        (["--bind", "localhost"], ["--bind", "localhost"]),
        (["--bind", "192.0.2.1"], ["--bind 192.0.2.1", "--protected-mode no"]),
        (["--network", "x"], ["--network", "'x' is not auto, io_uring or epoll"]),
        (["--drain", "x"], ["--drain", "'x' is not a time"]),
        (["--unix-permissions", "9"], ["--unix-permissions", "in octal"]),
        (["--log-format", "x"], ["--log-format", "'x' is not text or json"]),
        (["--key-max", "70000"], ["--key-max", "70000"]),
        (["--request-max", "1MiB"], ["--request-max 1MiB", "--value-max 8MiB has to fit"]),
        (["--output-max", "1"], ["--output-max 1", "above 64KiB"]),
        (["--port", "70000"], ["--port", "70000"]),
        (["--memcached-port", "x"], ["--memcached-port", "'x'"]),
        (["--max-connections", "0"], ["--max-connections", "at least 1"]),
        (["--max-connections", "4000000000"], ["--max-connections 4000000000", "ulimit"]),
        (["--flush-after", "0"], ["--flush-after", "0"]),
        (["--unheard-of", "x"], ["--unheard-of", "unexpected argument"]),
    ] {
        // The flag under test is last, where it does not meet another one of its name.
        let ports = ["--port=0", "--memcached-port=0", "--memory=64MiB", "--bind=127.0.0.1"];
        let is_other = |flag: &&str| !flag.starts_with(&format!("{}=", flags[0]));
        let all: Vec<&str> = ports.into_iter().filter(is_other).chain(flags).collect();
        let (code, complaint) = run_to_end(&all);
        assert!(matches!(code, Some(1 | 2)), "{flags:?}: {code:?} {complaint}");
        for word in words {
            assert!(complaint.contains(word), "{flags:?}: {word} is missing in {complaint}");
        }
        assert!(!complaint.contains("panicked"), "{complaint}");
    }
}

#[test]
fn without_eviction_a_full_server_refuses_writes() {
    let server = Server::start(&["--eviction", "none", "--memory", "64MiB"]);
    let (mut client, mut text) = (server.client(), server.memcached());
    let value = "v".repeat(100_000);
    let oom = Reply::Error("OOM command not allowed when used memory > 'maxmemory'.".into());
    let mut stored = 0;
    let refused = loop {
        match client.call(&["SET", &format!("key:{stored}"), &value]) {
            Reply::Error(text) => break Reply::Error(text),
            reply => assert_eq!(reply, ok()),
        }
        stored += 1;
        assert!(stored < 1_000, "100 MB do not fit into 64 MiB");
    };
    assert_eq!(refused, oom);
    assert!(stored > 100, "only {stored} values of 100 KB fit into 64 MiB");
    let line = format!("set refused 0 0 100000\r\n{value}\r\n");
    assert_eq!(text.ask(line), "SERVER_ERROR out of memory storing object\r\n");
    assert_eq!(client.call(&["GET", "refused"]), Reply::Null);
    for number in 0..stored {
        let reply = client.call(&["GET", &format!("key:{number}")]);
        assert!(reply == Reply::bulk(&value), "key:{number} is lost");
    }
    assert_eq!(info_number(&client.call(&["INFO", "stats"]).text(), "evicted_keys"), 0);
    // What is deleted makes room, though perhaps not in the same turn.
    for number in 0..stored / 2 {
        client.call(&["DEL", &format!("key:{number}")]);
    }
    for attempt in 0.. {
        let reply = client.call(&["SET", "new", &value]);
        if reply == ok() {
            break;
        }
        assert!(attempt < 1_000, "{reply:?} after half of it was deleted");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(client.call(&["GET", "new"]), Reply::bulk(&value));
}

/// Whoever reads its first lines may be gone, and a log may be full.
#[test]
fn it_serves_though_nobody_reads_what_it_prints() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_pinion"))
        .args(["--bind", "127.0.0.1", "--port", "0", "--memcached-port", "0", "--memory", "64MiB"])
        .stdout(full)
        .spawn()
        .expect("the server starts");
    // Long enough for it to print, or to fail at it.
    std::thread::sleep(Duration::from_millis(500));
    let early = child.try_wait().expect("it is our child");
    child.kill().expect("it is our child");
    child.wait().expect("it is our child");
    assert_eq!(early, None, "it ended by itself");
}

/// Ends a server by signals and starts it again on the same ports at once.
fn restart_after(signals: &[&str]) {
    for driver in DRIVERS {
        let mut server = Server::start(&["--driver", driver]);
        let (resp, memcached) = (server.resp.port(), server.memcached.port());
        for signal in signals {
            let mut clients: Vec<Client> = (0..5).map(|_| server.client()).collect();
            for client in &mut clients {
                assert_eq!(client.call(&["SET", "a", "1"]), ok());
            }
            server.signal(signal);
            server.wait();
            let (resp, memcached) = (resp.to_string(), memcached.to_string());
            let ports = ["--port", &resp, "--memcached-port", &memcached];
            let flags = ["--bind", "127.0.0.1", "--driver", driver];
            server = Server::launch(&[ports, flags].concat());
            assert_eq!(server.client().call(&["GET", "a"]), Reply::Null, "a fresh start");
        }
    }
}

#[test]
fn it_starts_again_on_the_port_that_it_has_just_left() {
    restart_after(&["TERM", "INT", "TERM"]);
}

/// The kernel closes the sockets of a ring some milliseconds after the end of its process.
#[test]
fn it_starts_again_at_once_after_it_was_killed() {
    restart_after(&["KILL"; 8]);
}

/// Sleeps, and asks a parked server from several connections, again and again.
fn wake(driver: &str, idle: &str) {
    let server = Server::start(&["--network", "io_uring", "--driver", driver, "--idle", idle]);
    let mut clients: Vec<Client> = (0..4).map(|_| server.client()).collect();
    let mut text = server.memcached();
    let rounds = 12;
    for round in 0..rounds {
        std::thread::sleep(Duration::from_millis(if round % 3 == 0 { 300 } else { 130 }));
        let value = round.to_string();
        assert_eq!(clients[round % 4].call(&["SET", "a", &value]), ok());
        std::thread::sleep(Duration::from_millis(if idle == "park" { 1 } else { 110 }));
        match round % 3 {
            0 => assert_eq!(server.client().call(&["GET", "a"]), Reply::bulk(&value)),
            1 => assert!(text.ask("get a\r\n").contains(&value)),
            // All at once.
            _ => {
                for client in &mut clients {
                    client.send(encode(&[b"GET", b"a"]));
                }
                for client in &mut clients {
                    assert_eq!(client.reply(), Reply::bulk(&value));
                }
            }
        }
    }
    // A deadline and a delayed flush pass while it sleeps.
    clients[0].call(&["SET", "short", "v", "PX", "50"]);
    text.ask("flush_all 1\r\n");
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(clients[1].call(&["GET", "short"]), Reply::Null);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(clients[2].call(&["GET", "a"]), Reply::Null);
    let info = clients[3].call(&["INFO"]).text();
    // A nap of the bare driver has no end of its own, so that it need not park.
    let sleep = if driver == "bare" && idle == "auto" { "naps" } else { "parks" };
    let sleeps = info_number(&info, sleep);
    assert!(sleeps >= rounds as u64, "{driver}, {idle}: {sleeps} {sleep} in {rounds} rounds");
}

#[test]
fn a_parked_server_wakes_again_and_again() {
    let modes = [("glommio", "auto"), ("glommio", "park"), ("bare", "auto"), ("bare", "park")];
    std::thread::scope(|scope| {
        for (driver, idle) in modes {
            scope.spawn(move || wake(driver, idle));
        }
    });
}
