//! The table of limits in the documentation, row by row: each is provoked on a server, and what is
//! answered and counted has to be what the table says.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use support::{Client, Reply, Server, encode, info_number, ok};

const PAGE: &str = include_str!("../dist/README.md");

/// The row of a limit.
struct Row {
    flag: String,
    resp: String,
    memcached: String,
    info: Vec<String>,
    stats: Vec<String>,
}

/// What stands between backquotes.
fn code(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn rows() -> Vec<(String, Row)> {
    let table = PAGE.split("| limit | flag |").nth(1).expect("the table is there");
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [limit, flag, resp, memcached, info, stats] = cells[..] else { panic!("{line}") };
        let row = Row {
            flag: flag.to_owned(),
            resp: resp.to_owned(),
            memcached: memcached.to_owned(),
            info: code(info),
            stats: code(stats),
        };
        (limit.to_owned(), row)
    };
    lines.map(row).collect()
}

/// Whether a line is what the table says, where `...` stands for anything.
fn is_said(cell: &str, line: &str) -> bool {
    let fits = |words: &String| {
        let mut rest = line;
        for (number, part) in words.split("...").enumerate() {
            let Some(at) = rest.find(part).filter(|&at| number > 0 || at == 0) else {
                return false;
            };
            rest = &rest[at + part.len()..];
        }
        rest.is_empty()
    };
    match line {
        "" => cell.starts_with("closed without a word"),
        _ => code(cell).iter().any(fits),
    }
}

/// Sends bytes as far as they are taken, and reads a line of what is answered; empty if the
/// connection was closed without one.
fn provoke(address: SocketAddr, bytes: &[u8]) -> String {
    let mut client = Client::connect(address);
    // It may be refused before all is sent.
    let _ = client.stream().write_all(bytes);
    client.line()
}

/// The row's answers and counters on a server.
fn check(limit: &str, row: &Row, server: &Server, resp: &[String], memcached: &[String]) {
    for line in resp {
        assert!(is_said(&row.resp, line), "{limit}: {line:?} is not what is said: {}", row.resp);
    }
    for line in memcached {
        assert!(is_said(&row.memcached, line), "{limit}: {line:?} is not: {}", row.memcached);
    }
    check_counters(limit, row, server);
}

fn check_counters(limit: &str, row: &Row, server: &Server) {
    let info = server.client().call(&["INFO"]).text();
    for field in &row.info {
        assert!(info_number(&info, field) > 0, "{limit}: {field} is 0");
    }
    let stats = stats(server);
    for name in &row.stats {
        let line = stats.iter().find_map(|line| line.strip_prefix(&format!("STAT {name} ")));
        assert!(line.is_some_and(|number| number != "0"), "{limit}: {name} is {line:?}");
    }
}

fn stats(server: &Server) -> Vec<String> {
    let mut client = server.memcached();
    client.send("stats\r\n");
    client.lines_until(&["END"])
}

/// A connection that takes little before it is read from.
fn narrow(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    socket.connect(&address.into()).expect("connect");
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
    stream.set_write_timeout(Some(Duration::from_millis(200))).expect("timeout");
    stream
}

fn await_counter(client: &mut Client, field: &str) {
    let start = Instant::now();
    while info_number(&client.call(&["INFO"]).text(), field) == 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "{field} stays 0");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn connections(limit: &str, row: &Row) {
    let server = Server::start(&["--max-connections", "4"]);
    let (first, second) = (server.client(), server.client());
    let (third, fourth) = (server.client(), server.memcached());
    // All four have to have been accepted.
    let mut all = [first, second, third];
    for client in &mut all {
        assert_eq!(client.call(&["PING"]), Reply::Simple("PONG".into()));
    }
    let mut text = fourth;
    assert!(text.ask_once("version\r\n").starts_with("VERSION"));
    let resp = [provoke(server.resp, b"")];
    let memcached = [provoke(server.memcached, b"")];
    drop((all, text));
    std::thread::sleep(Duration::from_millis(50));
    check(limit, row, &server, &resp, &memcached);
}

fn accept_rate(limit: &str, row: &Row) {
    let server = Server::start(&["--accept-rate", "5"]);
    let mut served: Vec<Client> = (0..5).map(|_| server.client()).collect();
    for client in &mut served {
        assert_eq!(client.call(&["PING"]), Reply::Simple("PONG".into()));
    }
    // Whoever comes now is too soon; one in a while is let in, and says nothing until it is asked.
    let refused = |address: SocketAddr, request: &str| loop {
        let line = provoke(address, request.as_bytes());
        if !line.starts_with("+PONG") && !line.starts_with("VERSION") {
            return line;
        }
    };
    let resp = [refused(server.resp, "PING\r\n")];
    let memcached = [refused(server.memcached, "version\r\n")];
    std::thread::sleep(Duration::from_millis(1_100));
    check(limit, row, &server, &resp, &memcached);
}

fn request(limit: &str, row: &Row) {
    let server = Server::start(&["--value-max", "1KiB", "--request-max", "200KiB"]);
    let long: Vec<&[u8]> = std::iter::once(&b"MGET"[..]).chain([&[b'k'; 60_000][..]; 4]).collect();
    let resp = [provoke(server.resp, &encode(&long))];
    let gets = [&b"get"[..], &b" 0123456789".repeat(100_000)].concat();
    let memcached = [provoke(server.memcached, &[b'x'; 3_000]), provoke(server.memcached, &gets)];
    check(limit, row, &server, &resp, &memcached);
}

fn key(limit: &str, row: &Row) {
    let server = Server::start(&["--key-max", "50"]);
    let key = "k".repeat(51);
    let resp = [provoke(server.resp, &encode(&[b"SET", key.as_bytes(), b"v"]))];
    let of_text = provoke(server.memcached, format!("set {key} 0 0 1\r\nv\r\n").as_bytes());
    let of_meta = provoke(server.memcached, format!("ms {key} 1\r\nv\r\n").as_bytes());
    let longest = provoke(server.memcached, format!("get {}\r\n", "k".repeat(251)).as_bytes());
    check(limit, row, &server, &resp, &[of_text, of_meta, longest]);
    let found = server.client().call(&["GET", &key]);
    assert_eq!(found, Reply::Null);
    let info = server.client().call(&["INFO"]).text();
    assert_eq!(info_number(&info, "oversized_requests"), 3, "a long line is no long key");
}

fn value(limit: &str, row: &Row) {
    let server = Server::start(&["--value-max", "1KiB"]);
    let resp = [
        provoke(server.resp, &encode(&[b"SET", b"a", &[b'v'; 70_000]])),
        provoke(server.resp, &encode(&[b"SET", b"a", &[b'v'; 1_025]])),
    ];
    let store = [b"set a 0 0 1025\r\n", &[b'v'; 1_025][..], b"\r\n"].concat();
    check(limit, row, &server, &resp, &[provoke(server.memcached, &store)]);
}

fn arguments(limit: &str, row: &Row) {
    let server = Server::start(&["--args-max", "100"]);
    let resp = [provoke(server.resp, &encode(&vec![&b"a"[..]; 101]))];
    check(limit, row, &server, &resp, &[]);
}

fn pipeline(limit: &str, row: &Row) {
    let server = Server::start(&["--pipeline-max", "32"]);
    let (mut long, mut text) = (server.client(), server.memcached());
    long.send(encode(&[b"PING"]).repeat(20_000));
    text.send(b"version\r\n".repeat(20_000));
    for _ in 0..20_000 {
        assert_eq!(long.line(), "+PONG");
        assert!(text.line().starts_with("VERSION"));
    }
    check(limit, row, &server, &[], &[]);
}

fn input(limit: &str, row: &Row) {
    let server = Server::start(&["--value-max", "1KiB", "--input-max", "200KiB"]);
    // Requests whose ends do not come: within the limit on requests, beyond the one on input.
    let mut request = b"*9\r\n$4\r\nMGET\r\n".to_vec();
    (0..5).for_each(|_| request.extend([b"$60000\r\n", &[b'k'; 60_000][..], b"\r\n"].concat()));
    let resp = [provoke(server.resp, &request)];
    check(limit, row, &server, &resp, &[]);
}

fn output(limit: &str, row: &Row) {
    let server = Server::start(&["--cores", "0", "--output-max", "65KiB"]);
    let mut good = server.client();
    assert_eq!(good.call_bytes(&[b"SET", b"a", &[b'v'; 30_000]]), ok());
    let (mut slow, mut text) = (narrow(server.resp), narrow(server.memcached));
    // More than the sockets take.
    let _ = slow.write_all(&encode(&[b"GET", b"a"]).repeat(500));
    await_counter(&mut good, "output_pauses");
    let _ = text.write_all(&b"get a\r\n".repeat(500));
    check(limit, row, &server, &[], &[]);
}

/// Connections that ask for much and read nothing, until some of them wait for memory.
fn crowd(server: &Server) -> Vec<TcpStream> {
    let mut good = server.client();
    assert_eq!(good.call_bytes(&[b"SET", b"a", &[b'v'; 30_000]]), ok());
    let pipeline = encode(&[b"GET", b"a"]).repeat(200);
    let mut crowd: Vec<TcpStream> = (0..60).map(|_| narrow(server.resp)).collect();
    for stream in &mut crowd {
        let _ = stream.write_all(&pipeline);
    }
    await_counter(&mut good, "budget_pauses");
    crowd
}

fn buffers(limit: &str, row: &Row) {
    let server = Server::start(&["--cores", "0", "--memory", "128MiB", "--buffers", "8MiB"]);
    let crowd = crowd(&server);
    // There is still room for requests, but not for two whose ends do not come.
    let (mut resp, mut memcached, mut held) = (None, None, Vec::new());
    let mset =
        [&b"*3\r\n$4\r\nMSET\r\n$1\r\nb\r\n$2900000\r\n"[..], &vec![b'v'; 2_800_000]].concat();
    let append = [&b"append b 0 0 2900000\r\n"[..], &vec![b'v'; 2_800_000]].concat();
    let start = Instant::now();
    while resp.is_none() || memcached.is_none() {
        assert!(start.elapsed() < Duration::from_secs(20), "{resp:?}, {memcached:?}");
        let is_resp = resp.is_none();
        let address = if is_resp { server.resp } else { server.memcached };
        let stream = TcpStream::connect(address).expect("connect");
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("timeout");
        let _ = (&stream).write_all(if is_resp { &mset } else { &append });
        let mut bytes = [0; 200];
        if let Ok(length @ 3..) = (&stream).read(&mut bytes) {
            let line = String::from_utf8_lossy(&bytes[..length - 2]).into_owned();
            *(if is_resp { &mut resp } else { &mut memcached }) = Some(line);
        }
        held.push(stream);
    }
    drop(crowd);
    check(limit, row, &server, resp.as_slice(), memcached.as_slice());
}

fn standing_still(limit: &str, row: &Row) {
    let server = Server::start(&["--cores", "0", "--memory", "128MiB", "--buffers", "8MiB"]);
    let mut crowd = crowd(&server);
    await_counter(&mut server.client(), "buffer_evictions");
    // Those who were closed have no words behind what they were owed.
    let mut ends = 0;
    for stream in &mut crowd {
        let mut bytes = Vec::new();
        stream.set_read_timeout(Some(Duration::from_millis(100))).expect("timeout");
        ends += usize::from(stream.read_to_end(&mut bytes).is_ok());
        assert!(!bytes.windows(4).any(|words| words == b"-ERR" || words == b"-OOM"));
    }
    println!("{ends} of {} were closed in order", crowd.len());
    check(limit, row, &server, &[String::new()], &[String::new()]);
}

fn quiet(limit: &str, row: &Row) {
    let server = Server::start(&["--timeout", "300ms"]);
    let resp = [provoke(server.resp, b"")];
    let memcached = [provoke(server.memcached, b"")];
    check(limit, row, &server, &resp, &memcached);
}

fn age(limit: &str, row: &Row) {
    let server = Server::start(&["--request-age", "100ms"]);
    assert_eq!(server.client().call(&["CLIENT", "PAUSE", "1500", "ALL"]), ok());
    let resp = [provoke(server.resp, b"GET a\r\n")];
    let memcached = [provoke(server.memcached, b"get a\r\n")];
    // INFO would wait for the end of the pause, and be too old then.
    std::thread::sleep(Duration::from_millis(1_600));
    check(limit, row, &server, &resp, &memcached);
}

fn web(limit: &str, row: &Row) {
    let server = Server::start(&[]);
    let post = b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\nSET stolen 1\r\n";
    let resp = [provoke(server.resp, post)];
    let memcached = [provoke(server.memcached, post)];
    check(limit, row, &server, &resp, &memcached);
}

fn end(_: &str, _: &Row) {
    let mut server = Server::start(&["--drain", "20s"]);
    let (mut resp, mut text) = (server.client(), server.memcached());
    assert_eq!(resp.call(&["SET", "a", "1"]), ok());
    assert_eq!(text.ask("get a\r\n"), "VALUE a 0 1\r\n1\r\nEND\r\n");
    resp.send(encode(&[b"GET", b"a"]));
    text.send("get a\r\n");
    server.signal("TERM");
    assert_eq!(resp.rest(), b"$1\r\n1\r\n");
    assert_eq!(text.rest(), b"VALUE a 0 1\r\n1\r\nEND\r\n");
    assert_eq!(server.wait(), Some(0));
}

type Scenario = fn(&str, &Row);

const SCENARIOS: [(&str, Scenario); 15] = [
    ("connections", connections),
    ("new connections a second", accept_rate),
    ("request", request),
    ("key", key),
    ("value", value),
    ("arguments", arguments),
    ("commands of one connection before others", pipeline),
    ("input of one connection", input),
    ("unread output of one connection", output),
    ("requests and replies of all connections", buffers),
    ("standing still while others wait for buffers", standing_still),
    ("quiet time", quiet),
    ("time that a request waits", age),
    ("web requests", web),
    ("end of the server", end),
];

#[test]
fn each_limit_answers_as_documented() {
    let rows = rows();
    let names: Vec<&str> = rows.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, SCENARIOS.map(|(name, _)| name), "every row is provoked");
    std::thread::scope(|scope| {
        for ((name, row), (_, scenario)) in rows.iter().zip(SCENARIOS) {
            // The name is in the message of a failure.
            let thread = std::thread::Builder::new().name(name.clone());
            thread.spawn_scoped(scope, move || scenario(name, row)).expect("a thread");
        }
    });
}

#[test]
fn each_flag_of_the_table_is_one() {
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_pinion")).arg("--help").output();
    let help = String::from_utf8(help.expect("it runs").stdout).expect("text");
    for (limit, row) in rows() {
        for flag in code(&row.flag).iter().filter(|flag| flag.starts_with("--")) {
            assert!(help.contains(&format!("{flag} <")), "{limit}: there is no {flag}");
        }
    }
}
