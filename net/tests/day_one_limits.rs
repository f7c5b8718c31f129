//! Limits answer: what is beyond one gets an error in its protocol, is counted, and disturbs nobody
//! else.

mod support;

use std::io::Read;
use std::time::{Duration, Instant};

use support::seccomp::set_open_files;
use support::{Client, Reply, Server, encode, info_number, ok};

fn number(server: &Server, field: &str) -> u64 {
    info_number(&server.client().call(&["INFO"]).text(), field)
}

#[test]
fn connections_beyond_the_rate_are_told_so() {
    let server = Server::start(&["--accept-rate", "10"]);
    let mut good = server.client();
    let (mut served, mut refused) = (0, 0);
    for round in 0..40 {
        let mut client = if round % 2 == 0 { server.client() } else { server.memcached() };
        // A refused one may be closed before this is sent.
        let request = if round % 2 == 0 { "PING\r\n" } else { "version\r\n" };
        let _ = std::io::Write::write_all(&mut client.stream(), request.as_bytes());
        match client.line().as_str() {
            "+PONG" => served += 1,
            line if line.starts_with("VERSION ") => served += 1,
            "-ERR max rate of new connections reached" => refused += 1,
            "ERROR Too many new connections" => refused += 1,
            // A reset may overtake the words.
            "" => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(served >= 9 && refused > 0, "{served} were served, {refused} refused");
    let info = good.call(&["INFO"]).text();
    assert_eq!(info_number(&info, "accept_rate_refusals"), refused);
    assert_eq!(info_number(&info, "rejected_connections"), refused);
}

#[test]
fn quiet_connections_are_closed() {
    for network in ["io_uring", "epoll"] {
        let server = Server::start(&["--timeout", "300ms", "--network", network]);
        let (mut quiet, mut torn) = (server.client(), server.memcached());
        assert_eq!(quiet.call(&["PING"]), Reply::Simple("PONG".into()));
        torn.send("set a 0 0 10\r\nabc");
        let mut busy = server.client();
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(900) {
            assert_eq!(busy.call(&["PING"]), Reply::Simple("PONG".into()));
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!((quiet.rest(), torn.rest()), (vec![], vec![]));
        let info = busy.call(&["INFO"]).text();
        assert_eq!(info_number(&info, "connection_timeouts"), 2);
        assert_eq!(busy.call(&["CONFIG", "SET", "timeout", "0"]), ok());
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(busy.call(&["PING"]), Reply::Simple("PONG".into()));
    }
}

/// Sends a request, and returns the line that answers before the connection closes.
fn refusal(mut client: Client, request: &[u8]) -> String {
    client.send(request);
    let line = client.line();
    // What was sent and not read may make this a reset.
    let mut rest = Vec::new();
    let _ = client.stream().read_to_end(&mut rest);
    line
}

#[test]
fn requests_that_are_too_large_are_refused() {
    let sizes = ["--value-max", "1KiB", "--request-max", "200KiB", "--args-max", "100"];
    let server = Server::start(&[&sizes[..], &["--key-max", "50"]].concat());
    let mut good = server.client();
    assert_eq!(good.call(&["SET", &"k".repeat(50), "v"]), ok());
    let reply = good.call(&["SET", &"k".repeat(51), "v"]).text();
    assert!(reply.contains("key") && reply.contains("50"), "{reply}");
    assert_eq!(good.call(&["GET", &"k".repeat(51)]), Reply::Null);
    let mut text = server.memcached();
    let answer = text.ask(format!("set {} 0 0 1\r\nv\r\n", "k".repeat(51)));
    assert!(answer.starts_with("CLIENT_ERROR") || answer.starts_with("SERVER_ERROR"), "{answer}");
    let answer = text.ask(format!("set a 0 0 1025\r\n{}\r\n", "v".repeat(1025)));
    assert_eq!(answer, "SERVER_ERROR object too large for cache\r\n");
    let many = encode(&vec![&b"a"[..]; 101]);
    let line = refusal(server.client(), &many);
    assert_eq!(line, "-ERR Protocol error: invalid multibulk length");
    let long: Vec<&[u8]> = std::iter::once(&b"MGET"[..]).chain([&[b'k'; 60_000][..]; 4]).collect();
    let line = refusal(server.client(), &encode(&long));
    assert_eq!(line, "-ERR Protocol error: too big request");
    let line = refusal(server.client(), &encode(&[b"SET", b"a", &[b'v'; 70_000]]));
    assert_eq!(line, "-ERR Protocol error: invalid bulk length");
    assert_eq!(number(&server, "oversized_requests"), 5);
    assert_eq!(good.call(&["PING"]), Reply::Simple("PONG".into()));
}

#[test]
fn input_that_is_held_has_a_limit_of_each_connection() {
    let limits = ["--value-max", "1KiB", "--input-max", "200KiB"];
    let server = Server::start(&limits);
    let mut good = server.client();
    // A request whose end does not come: within the limit on requests, beyond the one on input.
    let mut request = b"*5\r\n$4\r\nMGET\r\n".to_vec();
    for _ in 0..4 {
        request.extend(b"$60000\r\n");
        request.extend([b'k'; 60_000]);
        request.extend(b"\r\n");
    }
    request.truncate(request.len() - 10);
    let line = refusal(server.client(), &request);
    assert!(line.starts_with("-OOM request does not fit"), "{line}");
    assert_eq!(number(&server, "buffer_refusals"), 1);
    assert_eq!(good.call(&["PING"]), Reply::Simple("PONG".into()));
}

#[test]
fn a_client_that_does_not_read_is_held_back_at_its_limit() {
    let server = Server::start(&["--cores", "0", "--output-max", "65KiB"]);
    let mut slow = server.client();
    assert_eq!(slow.call_bytes(&[b"SET", b"a", &[b'v'; 10_000]]), ok());
    slow.send(encode(&[b"GET", b"a"]).repeat(2_000));
    let mut good = server.client();
    let start = Instant::now();
    loop {
        let info = good.call(&["INFO"]).text();
        let buffers = info_number(&info, "memory_buffers");
        assert!(buffers < 1 << 20, "{buffers} bytes are held");
        if info_number(&info, "output_pauses") > 0 {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "it is never held back");
    }
    for _ in 0..2_000 {
        assert_eq!(slow.reply(), Reply::bulk([b'v'; 10_000]));
    }
}

/// Turns are fair: a client with one command does not wait for the whole pipeline of another.
#[test]
fn a_long_pipeline_gives_way_to_others() {
    for network in ["io_uring", "epoll"] {
        let server = Server::start(&["--pipeline-max", "32", "--network", network]);
        let mut long = server.client();
        let mut other = server.client();
        assert_eq!(other.call(&["SET", "count", "0"]), ok());
        let commands = 200_000;
        let mut writer = long.stream().try_clone().expect("clone");
        let thread = std::thread::spawn(move || {
            let pipeline = encode(&[b"INCR", b"count"]).repeat(commands);
            std::io::Write::write_all(&mut writer, &pipeline).expect("write");
        });
        assert_eq!(long.reply(), Reply::Integer(1));
        let seen: i64 = match other.call(&["GET", "count"]) {
            Reply::Bulk(bytes) => String::from_utf8_lossy(&bytes).parse().expect("a number"),
            other => panic!("{other:?}"),
        };
        assert!(seen < commands as i64, "{network}: the other came after all {seen}");
        for number in 2..=commands as i64 {
            assert_eq!(long.reply(), Reply::Integer(number));
        }
        thread.join().expect("writer");
    }
}

#[test]
fn without_descriptors_newcomers_are_told_and_others_served() {
    for network in ["io_uring", "epoll"] {
        // An accept that goes on for ever keeps the limit that it began with.
        let hide = ["--ring-hide", "multishot-accept"];
        let server = Server::start(&[&["--network", network][..], &hide].concat());
        let (mut good, mut text) = (server.client(), server.memcached());
        assert_eq!(good.call(&["SET", "a", "1"]), ok());
        assert_eq!(text.ask("get a\r\n"), "VALUE a 0 1\r\n1\r\nEND\r\n");
        let folder = format!("/proc/{}/fd", server.pid());
        let numbers = std::fs::read_dir(folder).expect("the server lives");
        let numbers = numbers.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let open: Vec<u64> = numbers.collect();
        // A few newcomers get the lowest numbers that are free, and then there are no more.
        let free = (0..).find(|number| !open.contains(number)).expect("some are free");
        set_open_files(server.pid(), free + 3);
        let refused = refusal_of_newcomers(|| server.client(), "PING\r\n", "+PONG");
        assert_eq!(refused, "-ERR max number of clients reached", "{network}");
        let version = text.ask_once("version\r\n");
        let refused = refusal_of_newcomers(|| server.memcached(), "version\r\n", &version);
        assert_eq!(refused, "ERROR Too many open connections", "{network}");
        assert_eq!(good.call(&["GET", "a"]), Reply::bulk("1"));
        let info = good.call(&["INFO"]).text();
        assert!(info_number(&info, "accept_failures") >= 2, "{info}");
        assert!(info_number(&info, "rejected_connections") >= 2, "{info}");
        set_open_files(server.pid(), 1_000);
        let mut client = server.client();
        assert_eq!(client.call(&["GET", "a"]), Reply::bulk("1"), "{network}");
    }
}

/// The error that a newcomer gets once there is no descriptor left for it.
fn refusal_of_newcomers(connect: impl Fn() -> Client, request: &str, answer: &str) -> String {
    let mut let_in = Vec::new();
    loop {
        let mut client = connect();
        // It may be closed before this is sent.
        let _ = std::io::Write::write_all(&mut client.stream(), request.as_bytes());
        let line = client.line();
        if line != answer {
            return line;
        }
        let_in.push(client);
        assert!(let_in.len() < 100, "descriptors do not run out");
    }
}
