//! The server as a memcached client sees it, over real sockets; and items seen from both
//! protocols.

mod support;

use std::time::{Duration, Instant};

use support::{Client, Reply, Server, ok};

const NON_NUMERIC: &str = "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";
const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format\r\n";
const TOO_LARGE: &str = "SERVER_ERROR object too large for cache\r\n";

/// The version that `gets` tells, which is the line's last word.
fn version(client: &mut Client, key: &str) -> u64 {
    let answer = client.ask(format!("gets {key}\r\n"));
    let line = answer.lines().next().unwrap_or_default();
    line.rsplit(' ').next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{answer}"))
}

/// Asks until the answer is this one, at most 20 s long.
fn ask_until(client: &mut Client, request: &str, wanted: &str) {
    let start = Instant::now();
    loop {
        let answer = client.ask(request);
        if answer == wanted {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{request:?} still answers {answer}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn stores_obey_their_conditions() {
    let server = Server::start(&[]);
    let mut client = server.memcached();
    for (request, answer) in [
        ("replace a 0 0 1\r\nx\r\n", "NOT_STORED\r\n"),
        ("append a 0 0 1\r\nx\r\n", "NOT_STORED\r\n"),
        ("prepend a 0 0 1\r\nx\r\n", "NOT_STORED\r\n"),
        ("cas a 0 0 1 1\r\nx\r\n", "NOT_FOUND\r\n"),
        ("get a\r\n", "END\r\n"),
        ("add a 5 0 3\r\none\r\n", "STORED\r\n"),
        ("add a 6 0 3\r\ntwo\r\n", "NOT_STORED\r\n"),
        ("get a\r\n", "VALUE a 5 3\r\none\r\nEND\r\n"),
        ("replace a 7 0 3\r\ntwo\r\n", "STORED\r\n"),
        ("append a 8 0 2\r\n>>\r\n", "STORED\r\n"),
        ("prepend a 9 0 2\r\n<<\r\n", "STORED\r\n"),
        // Flags are those of the last full write.
        ("get a\r\n", "VALUE a 7 7\r\n<<two>>\r\nEND\r\n"),
        ("set a 4294967295 0 0\r\n\r\n", "STORED\r\n"),
        ("get a\r\n", "VALUE a 4294967295 0\r\n\r\nEND\r\n"),
        ("delete a\r\n", "DELETED\r\n"),
        ("delete a\r\n", "NOT_FOUND\r\n"),
        ("delete a 0\r\n", "NOT_FOUND\r\n"),
        ("set b 0 0 4\r\n\r\n\r\n\r\n", "STORED\r\n"),
        ("get b\r\n", "VALUE b 0 4\r\n\r\n\r\n\r\nEND\r\n"),
    ] {
        assert_eq!(client.ask(request), answer, "{request:?}");
    }
    client.ask("set c 1 0 1\r\nx\r\n");
    let first = version(&mut client, "c");
    assert_eq!(version(&mut client, "c"), first, "reading changes nothing");
    assert_eq!(client.ask(format!("cas c 2 0 1 {first}\r\ny\r\n")), "STORED\r\n");
    assert_eq!(client.ask(format!("cas c 3 0 1 {first}\r\nz\r\n")), "EXISTS\r\n");
    assert_eq!(client.ask("get c\r\n"), "VALUE c 2 1\r\ny\r\nEND\r\n");
    for change in ["append c 0 0 1\r\n1\r\n", "set c 0 0 1\r\n1\r\n", "incr c 1\r\n"] {
        let before = version(&mut client, "c");
        client.ask(change);
        assert_ne!(version(&mut client, "c"), before, "{change:?}");
    }
    let before = version(&mut client, "c");
    assert_eq!(client.ask("touch c 100\r\n"), "TOUCHED\r\n");
    assert_eq!(version(&mut client, "c"), before, "the value is the same");
}

#[test]
fn retrievals_take_any_number_of_keys() {
    let server = Server::start(&[]);
    let mut client = server.memcached();
    for count in [1usize, 2, 15, 16, 17, 31, 32, 33, 64, 500] {
        let name = |i: usize| format!("{}:{i}", "k".repeat(i % 240 + 1));
        let (mut keys, mut expected) = (String::new(), String::new());
        for i in 0..count {
            keys.push_str(&format!(" {}", name(i)));
            // Every third key is missing.
            if i % 3 != 1 {
                let value = format!("{count}/{i}");
                let key = name(i);
                client.ask(format!("set {key} {i} 0 {}\r\n{value}\r\n", value.len()));
                expected.push_str(&format!("VALUE {key} {i} {}\r\n{value}\r\n", value.len()));
            }
        }
        expected.push_str("END\r\n");
        assert_eq!(client.ask(format!("get{keys}\r\n")), expected);
        assert_eq!(client.ask(format!("gat 0{keys}\r\n")), expected);
        for command in ["gets", "gats 1000"] {
            let answer = client.ask(format!("{command}{keys}\r\n"));
            let versions: Vec<u64> = answer
                .lines()
                .filter(|line| line.starts_with("VALUE "))
                .map(|line| line.rsplit(' ').next().expect("a word").parse().expect("a number"))
                .collect();
            assert_eq!(versions.len(), (0..count).filter(|i| i % 3 != 1).count());
            // Versions are those of a core, so items of two cores may have the same.
            assert!(versions.iter().all(|&version| version > 0), "{versions:?}");
        }
        assert_eq!(client.ask("flush_all\r\n"), "OK\r\n");
        assert_eq!(client.ask(format!("get{keys}\r\n")), "END\r\n");
    }
    client.ask("set a 0 0 1\r\nx\r\n");
    let twice = "VALUE a 0 1\r\nx\r\nVALUE a 0 1\r\nx\r\nEND\r\n";
    assert_eq!(client.ask("get a  none   a\r\n"), twice);
}

#[test]
fn counters_wrap_stop_and_keep_their_length() {
    let server = Server::start(&[]);
    let mut client = server.memcached();
    let max = u64::MAX.to_string();
    for (request, answer) in [
        ("incr n 1\r\n", "NOT_FOUND\r\n"),
        ("decr n 1\r\n", "NOT_FOUND\r\n"),
        ("set n 3 0 2\r\n10\r\n", "STORED\r\n"),
        ("incr n 5\r\n", "15\r\n"),
        ("decr n 6\r\n", "9\r\n"),
        // A number that gets shorter keeps its length.
        ("get n\r\n", "VALUE n 3 2\r\n9 \r\nEND\r\n"),
        ("incr n 1\r\n", "10\r\n"),
        ("incr n 0\r\n", "10\r\n"),
        ("incr n 90\r\n", "100\r\n"),
        ("get n\r\n", "VALUE n 3 3\r\n100\r\nEND\r\n"),
        ("decr n 101\r\n", "0\r\n"),
        ("get n\r\n", "VALUE n 3 3\r\n0  \r\nEND\r\n"),
        (&format!("incr n {max}\r\n"), &format!("{max}\r\n")),
        ("incr n 1\r\n", "0\r\n"),
        ("incr n -1\r\n", "CLIENT_ERROR invalid numeric delta argument\r\n"),
        ("incr n x\r\n", "CLIENT_ERROR invalid numeric delta argument\r\n"),
        (&format!("incr n {max}0\r\n"), "CLIENT_ERROR invalid numeric delta argument\r\n"),
        ("incr n\r\n", "ERROR\r\n"),
        ("incr n 1 2 3\r\n", "ERROR\r\n"),
        ("set t 0 0 1\r\nx\r\n", "STORED\r\n"),
        ("incr t 1\r\n", NON_NUMERIC),
        ("set t 0 0 0\r\n\r\n", "STORED\r\n"),
        ("decr t 1\r\n", NON_NUMERIC),
        ("set t 0 0 2\r\n-1\r\n", "STORED\r\n"),
        ("incr t 1\r\n", NON_NUMERIC),
        ("set t 0 0 21\r\n184467440737095516150\r\n", "STORED\r\n"),
        ("incr t 1\r\n", NON_NUMERIC),
    ] {
        assert_eq!(client.ask(request), answer, "{request:?}");
    }
}

#[test]
fn expiry_times_are_relative_absolute_or_past() {
    let server = Server::start(&[]);
    let (mut client, mut resp) = (server.memcached(), server.client());
    let mut ttl = |key: &str| match resp.call(&["TTL", key]) {
        Reply::Integer(seconds) => seconds,
        other => panic!("{other:?}"),
    };
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let unix_seconds = unix.expect("after 1970").as_secs();
    let month = 60 * 60 * 24 * 30;
    for (exptime, range) in [
        ("0".to_owned(), -1..=-1),
        ("1000".to_owned(), 900..=1_000),
        (month.to_string(), month - 100..=month),
        ((unix_seconds + 5_000).to_string(), 4_900..=5_001),
        // Beyond 30 days it is a point in time, and this one is in January 1970.
        ((month + 1).to_string(), -2..=-2),
        ("-1".to_owned(), -2..=-2),
    ] {
        assert_eq!(client.ask(format!("set a 0 {exptime} 1\r\nx\r\n")), "STORED\r\n");
        assert!(range.contains(&ttl("a")), "set {exptime}: {}", ttl("a"));
        client.ask("set a 0 0 1\r\nx\r\n");
        assert_eq!(client.ask(format!("touch a {exptime}\r\n")), "TOUCHED\r\n");
        assert!(range.contains(&ttl("a")), "touch {exptime}: {}", ttl("a"));
        client.ask("set a 0 0 1\r\nx\r\n");
        client.ask(format!("gat {exptime} a\r\n"));
        assert!(range.contains(&ttl("a")), "gat {exptime}: {}", ttl("a"));
    }
    assert_eq!(client.ask("touch none 0\r\n"), "NOT_FOUND\r\n");
    // Changes of the value keep the time.
    client.ask("set n 0 1000 1\r\n1\r\n");
    client.ask("incr n 1\r\nappend n 0 0 1\r\n0\r\nprepend n 0 5 1\r\n1\r\n");
    assert_eq!(client.ask("get n\r\n"), "VALUE n 0 3\r\n120\r\nEND\r\n");
    assert!((900..=1_000).contains(&ttl("n")), "{}", ttl("n"));
    client.ask("set n 0 1 1\r\n1\r\n");
    ask_until(&mut client, "get n\r\n", "END\r\n");
    assert_eq!(client.ask("incr n 1\r\ntouch n 9\r\n"), "NOT_FOUND\r\nNOT_FOUND\r\n");
    assert_eq!(client.ask("add n 0 0 1\r\n7\r\n"), "STORED\r\n");
}

#[test]
fn flush_all_acts_at_once_or_later() {
    let server = Server::start(&[]);
    let mut client = server.memcached();
    let hit = "VALUE a 0 1\r\nx\r\nEND\r\n";
    let set = "set a 0 0 1\r\nx\r\n";
    client.ask(set);
    assert_eq!(client.ask("flush_all 1000\r\nget a\r\n"), format!("OK\r\n{hit}"));
    assert_eq!(client.ask("flush_all\r\nget a\r\n"), "OK\r\nEND\r\n");
    client.ask(set);
    assert_eq!(client.ask("flush_all noreply\r\nget a\r\n"), "END\r\n");
    client.ask(set);
    assert_eq!(client.ask("flush_all 0\r\nget a\r\n"), "OK\r\nEND\r\n");
    client.ask(set);
    assert_eq!(client.ask("flush_all -1\r\nget a\r\n"), "OK\r\nEND\r\n");
    client.ask(set);
    assert_eq!(client.ask("flush_all 1 noreply\r\n"), "");
    ask_until(&mut client, "get a\r\n", "END\r\n");
    assert_eq!(client.ask(format!("{set}get a\r\n")), format!("STORED\r\n{hit}"));
    let refused = "CLIENT_ERROR invalid exptime argument\r\n";
    assert_eq!(client.ask("flush_all x\r\nget a\r\n"), format!("{refused}{hit}"));
}

#[test]
fn a_later_flush_all_replaces_a_pending_one() {
    let server = Server::start(&[]);
    let mut client = server.memcached();
    let hit = "VALUE a 0 1\r\nx\r\nEND\r\n";
    client.ask("flush_all 1\r\nflush_all\r\nset a 0 0 1\r\nx\r\n");
    // An item that lives one second from now outlasts the pending flush.
    client.ask("set clock 0 2 1\r\nx\r\n");
    ask_until(&mut client, "get clock\r\n", "END\r\n");
    assert_eq!(client.ask("get a\r\n"), hit);
}

#[test]
fn administration_answers() {
    let server = Server::start(&[]);
    let mut client = server.memcached();
    client.send("version\r\n");
    assert!(client.line().starts_with("VERSION 1.6."));
    for (request, answer) in [
        ("verbosity 1\r\n", "OK\r\n"),
        ("verbosity 0 noreply\r\n", ""),
        ("verbosity\r\n", "ERROR\r\n"),
        ("verbosity x\r\n", BAD_FORMAT),
        ("stats reset\r\n", "RESET\r\n"),
        ("stats unheard-of\r\n", "ERROR\r\n"),
        ("stats items\r\n", "END\r\n"),
    ] {
        assert_eq!(client.ask(request), answer, "{request:?}");
    }
    client.ask("set a 0 0 1\r\nx\r\nget a b a\r\nget none\r\n");
    let stats = client.ask("stats\r\n");
    let stat = |name: &str| {
        let found = stats.lines().find_map(|line| {
            line.strip_prefix("STAT ")?.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned)
        });
        found.unwrap_or_else(|| panic!("{name} is missing in {stats}"))
    };
    assert_eq!((stat("get_hits").as_str(), stat("get_misses").as_str()), ("2", "2"));
    assert_eq!((stat("curr_items").as_str(), stat("curr_connections").as_str()), ("1", "1"));
    assert_eq!(stat("pid"), server.pid().to_string());
    assert_eq!(stat("limit_maxbytes"), (256u64 << 20).to_string());
    assert!(stats.ends_with("END\r\n"));
    let settings = client.ask("stats settings\r\n");
    let port = format!("STAT tcpport {}\r\n", server.memcached.port());
    for line in [port.as_str(), "STAT maxbytes 268435456\r\n", "STAT item_size_max 8388608\r\n"] {
        assert!(settings.contains(line), "{line} is missing in {settings}");
    }
    assert_eq!(client.ask("stats reset\r\n"), "RESET\r\n");
    assert!(client.ask("stats\r\n").contains("STAT get_hits 0\r\n"));
    // Slow answers keep their place, and quit comes after them; what follows is not executed.
    client.send("get a\r\nstats\r\nget a\r\nquit\r\ndelete a\r\n");
    let text = String::from_utf8(client.rest()).expect("text");
    let hit = "VALUE a 0 1\r\nx\r\nEND\r\n";
    assert!(text.starts_with(&format!("{hit}STAT pid ")), "{text}");
    assert!(text.ends_with(&format!("END\r\n{hit}")), "{text}");
    assert_eq!(server.memcached().ask("get a\r\n"), hit);
}

#[test]
fn noreply_silences_every_command() {
    let server = Server::start(&[]);
    let mut client = server.memcached();
    for (request, left) in [
        ("set a 1 0 1 noreply\r\n5\r\n", "VALUE a 1 1\r\n5\r\nEND\r\n"),
        ("add a 1 0 1 noreply\r\n6\r\n", "VALUE a 1 1\r\n5\r\nEND\r\n"),
        ("replace a 2 0 1 noreply\r\n6\r\n", "VALUE a 2 1\r\n6\r\nEND\r\n"),
        ("append a 0 0 1 noreply\r\n7\r\n", "VALUE a 2 2\r\n67\r\nEND\r\n"),
        ("prepend a 0 0 1 noreply\r\n5\r\n", "VALUE a 2 3\r\n567\r\nEND\r\n"),
        ("cas a 0 0 1 1 noreply\r\nx\r\n", "VALUE a 2 3\r\n567\r\nEND\r\n"),
        ("incr a 3 noreply\r\n", "VALUE a 2 3\r\n570\r\nEND\r\n"),
        ("decr a 70 noreply\r\n", "VALUE a 2 3\r\n500\r\nEND\r\n"),
        ("incr none 3 noreply\r\n", "VALUE a 2 3\r\n500\r\nEND\r\n"),
        ("incr a x noreply\r\n", "VALUE a 2 3\r\n500\r\nEND\r\n"),
        ("touch a x noreply\r\n", "VALUE a 2 3\r\n500\r\nEND\r\n"),
        ("set a x 0 1 noreply\r\n", "VALUE a 2 3\r\n500\r\nEND\r\n"),
        ("delete none noreply\r\n", "VALUE a 2 3\r\n500\r\nEND\r\n"),
        ("touch a -1 noreply\r\n", "END\r\n"),
        ("set a 1 0 1 noreply\r\n5\r\n", "VALUE a 1 1\r\n5\r\nEND\r\n"),
        ("delete a 0 noreply\r\n", "END\r\n"),
    ] {
        assert_eq!(client.ask(format!("{request}get a\r\n")), left, "{request:?}");
    }
}

#[test]
fn refused_requests_leave_the_connection_usable() {
    let server = Server::start(&[]);
    let mut client = server.memcached();
    let long_key = "k".repeat(251);
    let usage = "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n";
    for (request, answer) in [
        ("\r\n", "ERROR\r\n"),
        ("nonsense\r\n", "ERROR\r\n"),
        ("GET a\r\n", "ERROR\r\n"),
        ("get\r\n", "ERROR\r\n"),
        ("set a\r\n", "ERROR\r\n"),
        ("set a 0 0 -1\r\n", BAD_FORMAT),
        ("set a 0 0 x\r\n", BAD_FORMAT),
        ("set a x 0 1\r\n", BAD_FORMAT),
        ("set a 0 0 4294967300\r\n", BAD_FORMAT),
        ("cas a 0 0 1\r\n", "ERROR\r\n"),
        ("cas a 0 0 1 x\r\n", BAD_FORMAT),
        (&format!("get {long_key}\r\n"), BAD_FORMAT),
        (&format!("get a {long_key}\r\n"), BAD_FORMAT),
        (&format!("delete {long_key}\r\n"), BAD_FORMAT),
        ("get a\0b\r\n", BAD_FORMAT),
        ("delete a 5\r\n", usage),
        ("touch a\r\n", "ERROR\r\n"),
        ("gat\r\n", "ERROR\r\n"),
        ("gat x a\r\n", "CLIENT_ERROR invalid exptime argument\r\n"),
        // The two bytes behind the data are no line end, and belong to the refused block.
        ("set a 0 0 1\r\nxyz", "CLIENT_ERROR bad data chunk\r\n"),
    ] {
        assert_eq!(client.ask(request), answer, "{request:?}");
    }
    assert_eq!(client.ask("get a\r\n"), "END\r\n");
    for (request, answer) in [
        (b"GET / HTTP/1.1\r\n".as_slice(), ""),
        (&[b'x'; 5_000], "CLIENT_ERROR line too long\r\n"),
        (
            b"mn\r\n\x80\0\0\0",
            "MN\r\nCLIENT_ERROR the binary protocol must begin with the connection\r\n",
        ),
    ] {
        let mut client = server.memcached();
        client.send(request);
        let end = String::from_utf8(client.rest()).expect("text");
        assert_eq!(end, answer, "{}", request.escape_ascii());
    }
}

#[test]
fn too_large_values_are_swallowed() {
    let server = Server::start(&["--value-max", "100KiB"]);
    let mut client = server.memcached();
    let (largest, larger) = (vec![b'v'; 100 << 10], vec![b'w'; (100 << 10) + 1]);
    let request = |line: &str, data: &[u8]| {
        [format!("{line} {}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
    };
    assert_eq!(client.ask(request("set a 0 0", &largest)), "STORED\r\n");
    let whole = format!("VALUE a 0 102400\r\n{}\r\nEND\r\n", "v".repeat(100 << 10));
    assert_eq!(client.ask("get a\r\n"), whole);
    for verb in ["add", "replace", "append", "prepend"] {
        let answer = client.ask(request(&format!("{verb} a 0 0"), &larger));
        assert_eq!(answer, TOO_LARGE, "{verb}");
    }
    assert_eq!(client.ask("get a\r\n"), whole, "what was refused changes nothing");
    assert_eq!(client.ask(request("append a 0 0", b"x")), TOO_LARGE, "together too large");
    assert_eq!(client.ask(request("set a 0 0", &larger)), TOO_LARGE);
    // The client wanted the old value gone.
    assert_eq!(client.ask("get a\r\n"), "END\r\n");
    // The data holds commands, which must not be executed, and comes in pieces.
    let trap = request("set a 0 0", &b"\r\nset a 0 0 1\r\nx\r\n".repeat(50_000));
    for piece in trap.chunks(70_001) {
        client.send(piece);
        std::thread::sleep(Duration::from_micros(300));
    }
    assert_eq!(client.ask("get a\r\n"), format!("{TOO_LARGE}END\r\n"));
    let mut silent = format!("set a 0 0 {} noreply\r\n", larger.len()).into_bytes();
    silent.extend([larger.as_slice(), b"\r\n"].concat());
    assert_eq!(client.ask(silent), "");
}

#[test]
fn requests_may_be_torn_anywhere() {
    let server = Server::start(&[]);
    let script = b"set a 7 0 5\r\n\r\nget\r\nget a b\r\ngets\r\nappend a 0 0 2 noreply\r\n!?\r\n\
        incr a 1\r\nset n 0 0 1\r\n9\r\nincr n 1\r\nset x 0 0 9999999\r\n"
        .as_slice();
    let swallowed = [b"x".repeat(9_999_999).as_slice(), b"\r\n"].concat();
    let tail = b"nope\r\ntouch a 0\r\nget a\r\ndelete a\r\nquit\r\n".as_slice();
    let expected = format!(
        "STORED\r\nVALUE a 7 5\r\n\r\nget\r\nEND\r\nERROR\r\n{NON_NUMERIC}STORED\r\n10\r\n{}",
        "ERROR\r\nTOUCHED\r\nVALUE a 7 7\r\n\r\nget!?\r\nEND\r\nDELETED\r\n"
    );
    // With a value that is swallowed in the middle, once; without it, cut everywhere.
    let mut client = server.memcached();
    client.send([script, &swallowed, tail].concat());
    let with_refusal = expected.replacen("10\r\n", &format!("10\r\n{TOO_LARGE}"), 1);
    assert_eq!(String::from_utf8_lossy(&client.rest()), with_refusal);
    let short = script.strip_suffix(b"set x 0 0 9999999\r\n").expect("it ends so");
    let stream = [short, tail].concat();
    for at in 1..stream.len() {
        let mut client = server.memcached();
        client.send(&stream[..at]);
        std::thread::sleep(Duration::from_micros(200));
        client.send(&stream[at..]);
        assert_eq!(String::from_utf8_lossy(&client.rest()), expected, "cut at {at}");
    }
    let mut client = server.memcached();
    for byte in &stream {
        client.send([*byte]);
    }
    assert_eq!(String::from_utf8_lossy(&client.rest()), expected, "byte by byte");
}

#[test]
fn both_protocols_see_the_same_items() {
    let server = Server::start(&[]);
    let (mut text, mut resp) = (server.memcached(), server.client());
    text.ask("set a 42 1000 2\r\n10\r\n");
    assert_eq!(resp.call(&["GET", "a"]), Reply::bulk("10"));
    assert_eq!(resp.call(&["INCR", "a"]), Reply::Integer(11));
    assert_eq!(text.ask("incr a 1\r\nget a\r\n"), "12\r\nVALUE a 42 2\r\n12\r\nEND\r\n");
    let before = version(&mut text, "a");
    assert_eq!(resp.call(&["DECRBY", "a", "2"]), Reply::Integer(10));
    assert_eq!(text.ask(format!("cas a 0 0 1 {before}\r\nx\r\n")), "EXISTS\r\n");
    assert_eq!(resp.call(&["PERSIST", "a"]), Reply::Integer(1));
    assert_eq!(text.ask("touch a 500\r\n"), "TOUCHED\r\n");
    let Reply::Integer(left) = resp.call(&["TTL", "a"]) else { panic!("no integer") };
    assert!((400..=500).contains(&left), "{left}");
    assert_eq!(resp.call(&["EXPIRE", "a", "-1"]), Reply::Integer(1));
    assert_eq!(text.ask("get a\r\n"), "END\r\n");
    text.ask("decr a 1\r\nset d 0 0 2\r\n10\r\ndecr d 1\r\n");
    // memcached fills a number up with spaces, which is no number for Redis.
    let refused = Reply::Error("ERR value is not an integer or out of range".into());
    assert_eq!(resp.call(&["INCR", "d"]), refused);
    assert_eq!(resp.call(&["SET", "key with spaces", "v"]), ok());
    assert_eq!(resp.call(&["SET", "b", "v", "PX", "900000"]), ok());
    assert_eq!(text.ask("get b\r\n"), "VALUE b 0 1\r\nv\r\nEND\r\n");
    assert_eq!(text.ask("delete b\r\n"), "DELETED\r\n");
    assert_eq!(resp.call(&["EXISTS", "b"]), Reply::Integer(0));
    text.ask("flush_all\r\n");
    assert_eq!(resp.call(&["GET", "key with spaces"]), Reply::Null);
    assert_eq!(resp.call(&["DBSIZE"]), Reply::Integer(0));
    // A value of 3 MB passes through both.
    let value = vec![b'm'; 3_000_000];
    assert_eq!(resp.call_bytes(&[b"SET", b"big", &value]), ok());
    let answer = text.ask("get big\r\n");
    assert!(answer.starts_with("VALUE big 0 3000000\r\nmmm") && answer.len() == 3_000_028);
}

/// memcached's clients keep in the flags how a value is encoded: a value of another client must
/// not be read with the flags of the one before.
#[test]
fn a_redis_client_that_overwrites_a_value_clears_its_flags() {
    let server = Server::start(&[]);
    let (mut text, mut resp) = (server.memcached(), server.client());
    for command in [
        &["SET", "a", "v"][..],
        &["MSET", "a", "v"],
        &["SET", "a", "v", "XX"],
        &["SETEX", "a", "100", "v"],
        &["PSETEX", "a", "100000", "v"],
    ] {
        text.ask("set a 42 0 3\r\nold\r\n");
        resp.call(command);
        assert_eq!(text.ask("get a\r\n"), "VALUE a 0 1\r\nv\r\nEND\r\n", "{command:?}");
    }
}
