//! Leases over real sockets: who fetches a value, who waits, and what happens when the one who
//! should fetch it does not.

mod support;

use std::time::{Duration, Instant};

use support::{Client, Server};

/// Clients that miss at the same time.
const CLIENTS: usize = 1_000;

/// Reads a reply to `mg` with `v`: its first line, and its value.
fn read(client: &mut Client) -> (String, String) {
    let line = client.line();
    match line.strip_prefix("VA ").and_then(|rest| rest.split(' ').next()) {
        Some(length) => {
            let bytes = client.bytes(length.parse::<usize>().expect("a length") + 2);
            (line.clone(), String::from_utf8_lossy(&bytes[..bytes.len() - 2]).into_owned())
        }
        None => (line, String::new()),
    }
}

/// Whether something has come that was not read yet.
fn has_answer(client: &Client) -> bool {
    client.stream().set_nonblocking(true).expect("nonblocking");
    let got = client.stream().peek(&mut [0; 1]).is_ok();
    client.stream().set_nonblocking(false).expect("blocking");
    got
}

/// Whether a reply has a return flag.
fn has(line: &str, flag: &str) -> bool {
    line.split(' ').any(|word| word == flag)
}

/// The version in a reply.
fn version(line: &str) -> u64 {
    let word = line.split(' ').find_map(|word| word.strip_prefix('c')?.parse().ok());
    word.unwrap_or_else(|| panic!("no version in {line}"))
}

fn mg(client: &mut Client, request: &str) -> (String, String) {
    client.send(format!("{request}\r\n"));
    read(client)
}

/// A database that can be read once at a time, and counts how often it was.
#[derive(Default)]
struct Database {
    reads: usize,
}

impl Database {
    fn read(&mut self) -> String {
        self.reads += 1;
        format!("value {}", self.reads)
    }
}

#[test]
fn of_a_thousand_misses_one_reads_the_database_and_all_get_the_value() {
    let server = Server::start(&["--lease-timeout", "60s"]);
    let mut database = Database::default();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| server.memcached()).collect();
    for client in &mut clients {
        client.send("mg k v c N60 w60000\r\n");
    }
    // The winner has an answer at once. (The first to connect need not be the first to be read.)
    let winner = {
        let start = Instant::now();
        loop {
            if let Some(winner) = clients.iter().position(has_answer) {
                break winner;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "nobody wins");
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let (line, value) = read(&mut clients[winner]);
    assert!(has(&line, "W") && !has(&line, "Z") && value.is_empty(), "{line}");
    // Others are not answered meanwhile, and who does not wait is told that another one won.
    let (other, _) = mg(&mut server.memcached(), "mg k v N60");
    assert!(has(&other, "Z") && !has(&other, "W"), "{other}");
    let fill = database.read();
    let request = format!("ms k {} C{} T60\r\n{fill}\r\n", fill.len(), version(&line));
    clients[winner].send(request);
    assert_eq!(clients[winner].line(), "HD");
    for (number, client) in clients.iter_mut().enumerate().filter(|&(number, _)| number != winner) {
        let (line, value) = read(client);
        assert_eq!(value, fill, "client {number}: {line}");
        assert!(!has(&line, "W") && !has(&line, "Z") && !has(&line, "X"), "{line}");
    }
    assert_eq!(database.reads, 1);
}

#[test]
fn a_winner_that_dies_is_replaced_and_what_it_sends_late_is_refused() {
    let server = Server::start(&["--lease-timeout", "2s"]);
    let mut database = Database::default();
    let mut first = server.memcached();
    let (line, _) = mg(&mut first, "mg k v c N60");
    assert!(has(&line, "W"), "{line}");
    let old = version(&line);
    let stalled = database.read();
    // It is killed in the middle; its readers wait on, and one of them wins when the time is up.
    let mut readers: Vec<Client> = (0..50).map(|_| server.memcached()).collect();
    for reader in &mut readers {
        reader.send("mg k v c N60 w60000\r\n");
    }
    let mut fill = String::new();
    let mut winners = 0;
    let (mut pending, start) = (readers, Instant::now());
    while !pending.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(20), "{} still wait", pending.len());
        let mut left = Vec::new();
        for mut reader in pending {
            if !has_answer(&reader) {
                left.push(reader);
                continue;
            }
            let (line, value) = read(&mut reader);
            if has(&line, "W") {
                winners += 1;
                assert_ne!(version(&line), old, "the new lease has a version of its own");
                fill = database.read();
                let (length, new) = (fill.len(), version(&line));
                let request = format!("ms k {length} C{new} T60\r\n{fill}\r\n");
                reader.send(request);
                assert_eq!(reader.line(), "HD");
            } else {
                assert_eq!(value, fill, "{line}");
            }
        }
        pending = left;
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!((winners, database.reads), (1, 2));
    // The first one was only slow.
    first.send(format!("ms k {} C{old} T60\r\n{stalled}\r\n", stalled.len()));
    assert_eq!(first.line(), "EX");
    assert_eq!(mg(&mut first, "mg k v").1, fill);
}

#[test]
fn a_delete_voids_the_lease_and_lets_the_next_reader_win() {
    let server = Server::start(&["--lease-timeout", "60s"]);
    let mut winner = server.memcached();
    let (line, _) = mg(&mut winner, "mg k v c N60");
    let old = version(&line);
    let mut readers: Vec<Client> = (0..2).map(|_| server.memcached()).collect();
    for reader in &mut readers {
        reader.send("mg k v c N60 w60000\r\n");
        // Both are in their places before the delete.
        server.memcached().ask("mn\r\n");
    }
    assert_eq!(server.memcached().ask("delete k\r\n"), "DELETED\r\n");
    let (line, _) = read(&mut readers[0]);
    assert!(has(&line, "W"), "who came first wins: {line}");
    winner.send(format!("ms k 3 C{old}\r\nold\r\n"));
    assert_eq!(winner.line(), "EX");
    readers[0].send(format!("ms k 3 C{}\r\nnew\r\n", version(&line)));
    assert_eq!(readers[0].line(), "HD");
    assert_eq!(read(&mut readers[1]).1, "new");
    // A lease whose item is gone stores nothing under its version, either.
    let (line, _) = mg(&mut winner, "mg other c N60");
    winner.ask("delete other\r\n");
    winner.send(format!("ms other 1 C{}\r\nx\r\n", version(&line)));
    assert_eq!(winner.line(), "NF");
}

#[test]
fn waiting_ends_and_keeps_the_order_of_replies() {
    let server = Server::start(&[]);
    let mut client = server.memcached();
    client.ask("mg k N60\r\nms other 1\r\nx\r\n");
    // The second request is executed while the first waits, and answered after it.
    client
        .send("mg k v Oa w50\r\nms new 1 Ob\r\n1\r\nmg other v Oc w50\r\nmg none q w50\r\nmn\r\n");
    let mut other = server.memcached();
    assert_eq!(other.ask("mg new v\r\n"), "VA 1\r\n1\r\n");
    let answers: Vec<String> = (0..6).map(|_| client.line()).collect();
    assert_eq!(answers, ["VA 0 Oa Z", "", "HD Ob", "VA 1 Oc", "x", "MN"]);
    // A stale value is served when the time is up, a fresh one when it comes.
    client.ask("ms s 3\r\nold\r\nmd s I\r\nmg s\r\n");
    assert_eq!(client.ask("mg s v w1\r\n"), "VA 3 Z X\r\nold\r\n");
    client.send("mg s v w60000\r\nmg s v w60000 Oq k\r\n");
    other.ask("mn\r\n");
    let large = "n".repeat(100_000);
    assert_eq!(other.ask(format!("ms s {}\r\n{large}\r\n", large.len())), "HD\r\n");
    for extra in ["", " Oq ks"] {
        assert_eq!(client.line(), format!("VA 100000{extra}"));
        assert_eq!(client.line(), large);
    }
    // What is not a time is refused, and a client that goes away leaves nothing behind.
    let refused = "CLIENT_ERROR invalid wait: milliseconds up to 60000\r\n";
    assert_eq!(client.ask("mg k w60001\r\nmg k wx\r\n"), refused.repeat(2));
    for _ in 0..20 {
        server.memcached().send("mg k v w60000\r\n");
    }
    assert_eq!(other.ask("ms k 1\r\ny\r\n"), "HD\r\n");
    assert_eq!(other.ask("mg k v w60000\r\n"), "VA 1\r\ny\r\n");
}

#[test]
fn versions_of_the_client_tombstones_and_new_values_of_appends() {
    let server = Server::start(&[]);
    let mut client = server.memcached();
    let top = u64::MAX;
    for (request, answer) in [
        (format!("ms a 1 E{top} c\r\nx\r\n"), format!("HD c{top}\r\n")),
        ("mg a c v\r\n".into(), format!("VA 1 c{top}\r\nx\r\n")),
        (format!("ms a 1 C{top} E7 c\r\ny\r\n"), "HD c7\r\n".into()),
        ("ms a 1 C6 I E9 F3 c\r\nz\r\n".into(), "HD c9\r\n".into()),
        ("mg a c v f\r\n".into(), "VA 1 c9 f3 X W\r\nz\r\n".into()),
        ("md a I E20\r\n".into(), "HD\r\n".into()),
        ("mg a c s v\r\n".into(), "VA 1 c20 s1 X W\r\nz\r\n".into()),
        ("md a x E21\r\n".into(), "HD\r\n".into()),
        ("mg a c f v\r\n".into(), "VA 0 c21 f0\r\n\r\n".into()),
        ("md a x I E22\r\n".into(), "HD\r\n".into()),
        ("mg a c v\r\n".into(), "VA 0 c22 X W\r\n\r\n".into()),
        ("mg v N50 E5 c t\r\n".into(), "HD c5 t50 W\r\n".into()),
        ("ma n N0 J8 E30 c v\r\n".into(), "VA 1 c30\r\n8\r\n".into()),
        ("ma n E31 c v\r\n".into(), "VA 1 c31\r\n9\r\n".into()),
        ("ms p 2 MA\r\nab\r\n".into(), "NS\r\n".into()),
        ("ms p 2 MA N100 F5\r\nab\r\n".into(), "HD\r\n".into()),
        ("ms p 2 MA N7 F6\r\ncd\r\n".into(), "HD\r\n".into()),
        ("mg p v t f\r\n".into(), "VA 4 t100 f5\r\nabcd\r\n".into()),
        ("mg p h l\r\n".into(), "HD h1 l0\r\n".into()),
        (
            "ms q 1\r\n1\r\nmg q h u\r\nmg q h\r\nmg q h\r\n".into(),
            "HD\r\nHD h0\r\nHD h0\r\nHD h1\r\n".into(),
        ),
    ] {
        assert_eq!(client.ask(&request), answer, "{request:?}");
    }
    let debug = client.ask("me p\r\n");
    assert!(debug.starts_with("ME p exp=-100 la=0 cas="), "{debug}");
    assert!(debug.ends_with(" fetch=yes cls=1 size=5\r\n"), "{debug}");
    assert_eq!(client.ask("me none\r\n"), "EN\r\n");
    assert_eq!(client.ask("me cA== b\r\n").split(' ').nth(1), Some("cA=="));
}
