//! memcached's binary protocol on the memcached port: every command, large values, passwords.

mod support;

use support::Server;
use support::binary::{BinaryClient, Reply, Request};

const NOT_FOUND: (u16, &[u8]) = (1, b"Not found");
const EXISTS: (u16, &[u8]) = (2, b"Data exists for key.");
const DONE: (u16, &[u8]) = (0, b"");

fn client(server: &Server) -> BinaryClient {
    BinaryClient::connect(server.memcached)
}

fn get(key: &[u8]) -> Request {
    Request::new(0x00, b"", key, b"")
}

/// An increment or a decrement.
fn count(opcode: u8, key: &[u8], delta: u64, initial: u64, exptime: u32) -> Request {
    let extras = [&delta.to_be_bytes()[..], &initial.to_be_bytes(), &exptime.to_be_bytes()];
    Request::new(opcode, &extras.concat(), key, b"")
}

#[test]
fn items_are_those_of_the_other_protocols() {
    let server = Server::start(&[]);
    let (mut binary, mut text, mut resp) = (client(&server), server.memcached(), server.client());
    let set = Request::new(0x01, &[0, 0, 1, 2, 0, 0, 0, 100], b"k", b"value");
    let stored = binary.call(&set);
    assert_eq!((stored.outcome(), stored.opaque), (DONE, *b"opaq"));
    let answer = format!("VALUE k 258 5 {}\r\nvalue\r\nEND\r\n", stored.version);
    assert_eq!(text.ask("gets k\r\n"), answer);
    assert!(matches!(resp.call(&["TTL", "k"]), support::Reply::Integer(99..=100)));
    assert_eq!(resp.call(&["SET", "k", "new"]), support::ok());
    let found = binary.call(&Request::new(0x0C, b"", b"k", b""));
    assert_eq!((found.outcome(), &found.key[..]), ((0, &b"new"[..]), &b"k"[..]));
    assert_eq!(found.extras, [0; 4]);
    // Keys may be any bytes.
    let key = b"\0 \r\n\xFF";
    assert_eq!(binary.call(&Request::store(0x01, key, b"x")).outcome(), DONE);
    let found = resp.call_bytes(&[b"GET", key]);
    assert_eq!(found, support::Reply::bulk("x"));
    // A connection that has begun with one protocol does not change it.
    text.send(get(b"k").bytes());
    let end = "CLIENT_ERROR the binary protocol must begin with the connection\r\n";
    assert_eq!(String::from_utf8_lossy(&text.rest()), end);
    binary.send("get k\r\n");
    assert_eq!(binary.finish(), []);
}

#[test]
fn commands_answer_as_memcacheds() {
    let server = Server::start(&[]);
    let mut client = client(&server);
    let mut outcome = |request: &Request| {
        let reply = client.call(request);
        assert_eq!(reply.opcode, request.opcode);
        (reply.status, reply.value)
    };
    let mut check = |request: Request, status: u16, value: &[u8]| {
        assert_eq!(outcome(&request), (status, value.to_vec()), "{request:?}");
    };
    check(get(b"a"), 1, b"Not found");
    check(Request::new(0x0C, b"", b"a", b""), 1, b"");
    check(Request::store(0x03, b"a", b"1"), 1, b"Not found");
    check(Request::store(0x02, b"a", b"1"), 0, b"");
    check(Request::store(0x02, b"a", b"2"), 2, b"Data exists for key.");
    check(Request::store(0x03, b"a", b"2"), 0, b"");
    check(Request::store(0x01, b"a", b"3").with_version(1), 2, b"Data exists for key.");
    check(Request::store(0x01, b"none", b"3").with_version(1), 1, b"Not found");
    check(Request::new(0x0E, b"", b"a", b">"), 0, b"");
    check(Request::new(0x0F, b"", b"a", b"<"), 0, b"");
    check(get(b"a"), 0, b"<2>");
    check(Request::new(0x0E, b"", b"none", b">"), 5, b"Not stored.");
    check(count(0x05, b"a", 1, 0, 0), 6, b"Non-numeric server-side value for incr or decr");
    check(count(0x05, b"n", 1, 10, u32::MAX), 1, b"Not found");
    check(count(0x05, b"n", 1, 10, 0), 0, &10u64.to_be_bytes());
    check(count(0x05, b"n", 5, 0, 0), 0, &15u64.to_be_bytes());
    check(count(0x06, b"n", 16, 0, 0), 0, &0u64.to_be_bytes());
    check(count(0x06, b"n", 16, 0, 0).with_version(1), 2, b"Data exists for key.");
    check(get(b"n"), 0, b"0 ");
    check(Request::new(0x1C, &[0, 0, 0, 9], b"n", b""), 0, b"");
    check(Request::new(0x1C, &[0, 0, 0, 9], b"none", b""), 1, b"Not found");
    check(Request::new(0x1D, &[0, 0, 0, 9], b"n", b""), 0, b"0 ");
    check(Request::new(0x23, &[0, 0, 0, 9], b"none", b""), 1, b"");
    check(Request::new(0x04, b"", b"n", b"").with_version(1), 2, b"Data exists for key.");
    check(Request::new(0x04, b"", b"n", b""), 0, b"");
    check(Request::new(0x04, b"", b"n", b""), 1, b"Not found");
    check(Request::new(0x1B, &[0, 0, 0, 1], b"", b""), 0, b"");
    check(Request::new(0x08, &[0, 0, 3, 9], b"", b""), 0, b"");
    check(get(b"a"), 0, b"<2>");
    check(Request::new(0x08, b"", b"", b""), 0, b"");
    check(get(b"a"), 1, b"Not found");
    check(Request::new(0x55, b"12", b"key", b"value"), 0x81, b"Unknown command");
    check(Request::new(0x20, b"", b"", b""), 0x81, b"Unknown command");
    check(Request::new(0x21, b"", b"PLAIN", b"\0a\0b"), 0x81, b"Unknown command");
    let version = client.call(&Request::new(0x0B, b"", b"", b""));
    assert!(version.value.starts_with(b"1.6.18"), "{version:?}");
    assert_eq!(client.call(&Request::new(0x07, b"", b"", b"")).outcome(), DONE);
    assert_eq!(client.reply(), None);
}

#[test]
fn quiet_commands_tell_what_went_wrong_only() {
    let server = Server::start(&[]);
    let mut client = client(&server);
    let mut stream = Vec::new();
    for request in [
        Request::store(0x11, b"a", b"1"),
        Request::store(0x12, b"a", b"1"),
        Request::store(0x13, b"none", b"1"),
        Request::new(0x19, b"", b"a", b"2"),
        Request::new(0x1A, b"", b"a", b"3"),
        count(0x15, b"a", 1, 0, 0),
        count(0x16, b"none", 1, 0, u32::MAX),
        Request::new(0x09, b"", b"none", b""),
        Request::new(0x0D, b"", b"none", b""),
        Request::new(0x0D, b"", b"a", b""),
        Request::new(0x1E, &[0; 4], b"none", b""),
        Request::new(0x24, &[0; 4], b"a", b""),
        Request::new(0x14, b"", b"a", b""),
        Request::new(0x14, b"", b"a", b""),
        Request::new(0x18, b"", b"", b""),
    ] {
        stream.extend(request.bytes());
    }
    let replies = client.ask(&stream);
    let outcomes: Vec<_> = replies.iter().map(|reply| (reply.opcode, reply.outcome())).collect();
    let expected = [
        (0x12, EXISTS),
        (0x13, NOT_FOUND),
        (0x16, NOT_FOUND),
        (0x0D, (0, &b"313"[..])),
        (0x24, (0, b"313")),
        (0x14, NOT_FOUND),
    ];
    assert_eq!(outcomes, expected);
    client.send([Request::new(0x17, b"", b"", b"").bytes(), get(b"a").bytes()].concat());
    assert_eq!(client.finish(), []);
}

#[test]
fn requests_that_cannot_be_end_the_connection() {
    let server = Server::start(&[]);
    let mut lying = get(b"key");
    lying.extras = b"12345678".to_vec();
    let mut bytes = lying.bytes();
    bytes[11] = 2;
    let follows = Request::new(0x0A, b"", b"", b"").bytes();
    for (bytes, outcome) in [
        (bytes, (0x81, &b"Unknown command"[..])),
        (lying.bytes(), (4, b"Invalid arguments")),
        (get(&[b'k'; 251]).bytes(), (4, b"Invalid arguments")),
        (Request::new(0x1C, b"1234", b"k", b"v").bytes(), (4, b"Invalid arguments")),
    ] {
        let mut client = client(&server);
        client.send([&follows[..], &bytes, &follows].concat());
        let replies = client.finish();
        let outcomes: Vec<_> = replies.iter().map(Reply::outcome).collect();
        assert_eq!(outcomes, [DONE, outcome]);
    }
}

#[test]
fn large_values_arrive_and_leave_in_pieces() {
    let server = Server::start(&["--value-max", "4MiB"]);
    let mut client = client(&server);
    let value: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let stored = client.call(&Request::store(0x01, b"big", &value));
    assert_eq!(stored.outcome(), DONE);
    let found = client.call(&Request::new(0x0C, b"", b"big", b""));
    assert_eq!((&found.key[..], found.version), (&b"big"[..], stored.version));
    assert!(found.value == value, "the value came back changed");
    // On conditions, quietly, and with requests behind them in the same piece.
    let wrong = Request::store(0x03, b"big", &value[..100_000]).with_version(999);
    let right = Request::store(0x11, b"big", &value[..200_000]).with_version(stored.version);
    let stream = [wrong.bytes(), right.bytes(), get(b"big").bytes()].concat();
    let replies = client.ask(&stream);
    assert_eq!((replies.len(), replies[0].outcome()), (2, EXISTS));
    assert_eq!((replies[1].status, replies[1].value.len()), (0, 200_000));
    assert!(replies[1].value == value[..200_000]);
    let longer = Request::new(0x0E, b"", b"big", &value[200_000..300_000]);
    assert_eq!(client.call(&longer).outcome(), DONE);
    assert!(client.call(&get(b"big")).value == value[..300_000]);
    // Too large: refused at once, and the old value is gone. Its data is passed over.
    let huge = vec![0x80; (4 << 20) + 1];
    let refused = [
        Request::store(0x01, b"big", &huge).bytes(),
        Request::new(0x0F, b"", b"none", &huge).bytes(),
        get(b"big").bytes(),
    ];
    let replies = client.ask(refused.concat());
    let outcomes: Vec<_> = replies.iter().map(Reply::outcome).collect();
    assert_eq!(outcomes, [(3, &b"Too large."[..]), (3, b"Too large."), NOT_FOUND]);
}

#[test]
fn requests_may_be_torn_anywhere() {
    let server = Server::start(&[]);
    let mut client = client(&server);
    let stream = [
        Request::store(0x01, b"key", b"value").bytes(),
        count(0x05, b"number", 1, 7, 0).bytes(),
        get(b"key").bytes(),
        Request::new(0x55, b"extra", b"key", b"value").bytes(),
    ]
    .concat();
    let whole = client.ask(&stream);
    assert_eq!(whole.len(), 4);
    for cut in 1..stream.len() {
        client.ask(Request::new(0x18, b"", b"", b"").bytes());
        client.send(&stream[..cut]);
        std::thread::sleep(std::time::Duration::from_micros(300));
        let mut replies = client.ask(&stream[cut..]);
        for (reply, expected) in replies.iter_mut().zip(&whole) {
            assert_eq!(reply.version != 0, expected.version != 0);
            reply.version = expected.version;
        }
        assert_eq!(replies, whole, "cut at {cut}");
    }
}

/// Data of a refused value that comes together with requests which have to wait is still passed
/// over when they have waited.
#[test]
fn refused_data_is_dropped_when_its_request_has_waited() {
    let server = Server::start(&["--value-max", "1MiB"]);
    let data = "get k\r\n".repeat(300_000);
    let mut text = server.memcached();
    for _ in 0..5 {
        let request = format!("stats conns\r\nset k 0 0 {}\r\n{data}\r\nget k\r\n", data.len());
        let answer = text.ask(&request);
        let (_, rest) = answer.split_once("END\r\n").expect("the end of the statistics");
        assert_eq!(rest, "SERVER_ERROR object too large for cache\r\nEND\r\n");
    }
    let mut binary = client(&server);
    let stream = [
        Request::new(0x10, b"", b"conns", b"").bytes(),
        Request::store(0x01, b"k", &vec![0x80; 1_500_000]).bytes(),
        get(b"k").bytes(),
    ];
    for _ in 0..5 {
        let replies = binary.ask(stream.concat());
        let (statistics, rest): (Vec<&Reply>, _) =
            replies.iter().partition(|reply| reply.opcode == 0x10);
        assert!(statistics.len() >= 9, "two connections: {statistics:?}");
        let outcomes: Vec<_> = rest.into_iter().map(Reply::outcome).collect();
        assert_eq!(outcomes, [(3, &b"Too large."[..]), NOT_FOUND]);
    }
}

#[test]
fn passwords_are_told_by_sasl() {
    let file = std::env::temp_dir().join(format!("pinion-sasl-{}", std::process::id()));
    std::fs::write(&file, "ann:secret\n").expect("a file");
    let path = file.to_str().expect("text");
    for (flags, user) in
        [(["--memcached-auth", path], "ann"), (["--requirepass", "secret"], "default")]
    {
        let server = Server::start(&flags);
        let failed = (0x20, &b"Auth failure."[..]);
        let message = |user: &str, password: &str| format!("\0{user}\0{password}").into_bytes();
        let auth = |message: &[u8]| Request::new(0x21, b"", b"PLAIN", message);
        // A stranger may ask for the version and for the mechanisms; anything else is the end.
        let mut stranger = client(&server);
        assert_eq!(stranger.call(&Request::new(0x0B, b"", b"", b"")).status, 0);
        let mechanisms = stranger.call(&Request::new(0x20, b"", b"", b""));
        assert_eq!(mechanisms.outcome(), (0, &b"PLAIN"[..]));
        for message in [message(user, "secre"), message("bob", "secret"), b"x".to_vec()] {
            assert_eq!(stranger.call(&auth(&message)).outcome(), failed);
        }
        let other = Request::new(0x21, b"", b"CRAM-MD5", b"");
        assert_eq!(stranger.call(&other).outcome(), failed);
        let long = Request::new(0x21, b"", &[b'm'; 33], b"x");
        assert_eq!(stranger.call(&long).outcome(), (4, &b"Invalid arguments"[..]));
        assert_eq!(stranger.call(&auth(&[0; 5_000])).outcome(), (3, &b"Too large."[..]));
        assert_eq!(stranger.call(&get(b"k")).outcome(), failed);
        assert_eq!(stranger.reply(), None);
        // A large value of a stranger is not waited for.
        let mut stranger = client(&server);
        stranger.send(&Request::store(0x01, b"k", &[0; 500_000]).bytes()[..5_000]);
        let reply = stranger.reply().expect("a reply");
        assert_eq!(reply.outcome(), failed);

        let mut known = client(&server);
        // The password and what follows it in one piece, large values included.
        let stream = [
            auth(&message(user, "secret")).bytes(),
            Request::store(0x01, b"k", &[7; 100_000]).bytes(),
            get(b"k").bytes(),
        ];
        let replies = known.ask(stream.concat());
        assert_eq!(replies[0].outcome(), (0, &b"Authenticated"[..]));
        assert_eq!((replies[1].outcome(), replies[2].value.len()), (DONE, 100_000));
        // The message may be asked for. A step that nobody has begun is none.
        let step = Request::new(0x22, b"", b"PLAIN", &message(user, "secret"));
        assert_eq!(known.call(&step).outcome(), failed);
        assert_eq!(known.call(&auth(b"")).outcome(), (0x21, &b""[..]));
        assert_eq!(known.call(&step).outcome(), (0, &b"Authenticated"[..]));
        // Who fails after all is a stranger again.
        assert_eq!(known.call(&auth(&message(user, "x"))).outcome(), failed);
        assert_eq!(known.call(&get(b"k")).outcome(), failed);
        assert_eq!(known.reply(), None);
    }
    std::fs::remove_file(&file).expect("the file");
}

#[test]
fn statistics_are_those_of_the_text() {
    let server = Server::start(&[]);
    let mut binary = client(&server);
    binary.call(&Request::store(0x01, b"k", b"1"));
    for group in ["", "settings", "slabs", "sizes", "items", "detail dump", "cores"] {
        let request = Request::new(0x10, b"", group.as_bytes(), b"");
        let replies = binary.ask(request.bytes());
        let (end, rest) = replies.split_last().expect("an end");
        assert_eq!((end.outcome(), &end.key[..]), (DONE, &b""[..]));
        let names: Vec<_> =
            rest.iter().map(|reply| String::from_utf8_lossy(&reply.key).into_owned()).collect();
        let text = server.memcached().ask(format!("stats {group}\r\n"));
        let expected: Vec<_> =
            text.lines().filter_map(|line| line.strip_prefix("STAT ")?.split(' ').next()).collect();
        assert_eq!(names, expected, "{group}");
    }
    for group in ["unknown", "cachedump", "detail"] {
        let request = Request::new(0x10, b"", group.as_bytes(), b"");
        assert_eq!(binary.call(&request).outcome(), NOT_FOUND, "{group}");
    }
    let replies = binary.ask(Request::new(0x10, b"", b"reset", b"").bytes());
    assert_eq!((replies.len(), replies[0].outcome()), (1, DONE));
}

/// The checks of libmemcached's own test of servers, for the binary protocol.
#[test]
fn memccapable_finds_nothing_wrong() {
    let Some(program) = support::tools::program("memccapable") else { return };
    let server = Server::start(&[]);
    let port = server.memcached.port().to_string();
    let mut command = std::process::Command::new(program);
    let output = support::tools::output(command.args(["-h", "127.0.0.1", "-p", &port, "-b"]), b"");
    assert!(output.trim_end().ends_with("All tests passed"), "{output}");
}
