//! What the parser of the memcached protocol says to one request at a time.

use super::*;
use crate::protocol::scan::tests::scanned_during;

const SMALL: Limits = Limits { value_bytes_max: 10, get_line_bytes_max: 4096 };

fn parse_once<'a>(bytes: &'a [u8]) -> Parse<'a> {
    parse(bytes, &mut Progress::default(), &SMALL)
}

/// The request that the whole of `bytes` is.
fn request(bytes: &[u8]) -> Request<'_> {
    match parse_once(bytes) {
        Parse::Complete { request, consumed } => {
            assert_eq!(consumed, bytes.len());
            request
        }
        other => panic!("{:?}: {other:?}", bytes.escape_ascii().to_string()),
    }
}

fn refused(bytes: &[u8]) -> (&'static str, bool) {
    match parse_once(bytes) {
        Parse::Refused { error, noreply, consumed } => {
            assert_eq!(consumed, bytes.len());
            (error.text(), noreply)
        }
        other => panic!("{:?}: {other:?}", bytes.escape_ascii().to_string()),
    }
}

#[test]
fn retrievals_hand_out_their_keys() {
    for line in ["get a bb  ccc\r\n", "get a bb ccc\n", " get  a bb ccc \r\n"] {
        let Request::Get { keys, with_version: false } = request(line.as_bytes()) else {
            panic!("{line}")
        };
        assert_eq!(keys.len(), 3);
        assert_eq!(keys.collect::<Vec<_>>(), [&b"a"[..], b"bb", b"ccc"]);
    }
    assert!(matches!(request(b"gets k\r\n"), Request::Get { with_version: true, .. }));
    let Request::GetAndTouch { exptime: -5, keys, with_version: true } =
        request(b"gats -5 k \xFF\r\n")
    else {
        panic!("gats")
    };
    assert_eq!(keys.collect::<Vec<_>>(), [&b"k"[..], b"\xFF"]);
    let Request::GetAndTouch { keys, .. } = request(b"gat 1\r\n") else { panic!("gat") };
    assert_eq!(keys.count(), 0);
}

#[test]
fn stores_of_every_verb() {
    for (line, verb) in [
        ("set k 7 -1 3", StoreVerb::Set),
        ("add k 7 -1 3", StoreVerb::Add),
        ("replace k 7 -1 3", StoreVerb::Replace),
        ("append k 7 -1 3", StoreVerb::Append),
        ("prepend k 7 -1 3", StoreVerb::Prepend),
        ("cas k 7 -1 3 18446744073709551615", StoreVerb::Cas { version: u64::MAX }),
    ] {
        for (tail, noreply) in [("", false), (" noreply", true), (" x", false)] {
            let bytes = format!("{line}{tail}\r\na\nb\r\n");
            let want = Store { verb, key: b"k", flags: 7, exptime: -1, data: b"a\nb", noreply };
            assert_eq!(request(bytes.as_bytes()), Request::Store(want), "{bytes}");
        }
    }
    let Request::Store(store) = request(b"set k 4294967295 9223372036854775807 0\n\r\n") else {
        panic!("set")
    };
    assert_eq!((store.flags, store.exptime, store.data), (u32::MAX, i64::MAX, &b""[..]));
}

#[test]
fn the_other_commands() {
    let key = &b"k"[..];
    for (line, want) in [
        ("delete k", Request::Delete { key, noreply: false }),
        ("delete k 0", Request::Delete { key, noreply: false }),
        ("delete k noreply", Request::Delete { key, noreply: true }),
        ("delete k 0 noreply", Request::Delete { key, noreply: true }),
        (
            "incr k 18446744073709551615",
            Request::Arithmetic { is_decrement: false, key, delta: u64::MAX, noreply: false },
        ),
        (
            "decr k 5 noreply",
            Request::Arithmetic { is_decrement: true, key, delta: 5, noreply: true },
        ),
        ("touch k 9 noreply", Request::Touch { key, exptime: 9, noreply: true }),
        ("flush_all", Request::FlushAll { delay: 0, noreply: false }),
        ("flush_all 10", Request::FlushAll { delay: 10, noreply: false }),
        ("flush_all noreply", Request::FlushAll { delay: 0, noreply: true }),
        ("flush_all 10 noreply", Request::FlushAll { delay: 10, noreply: true }),
        ("version whatever", Request::Version),
        ("verbosity 2", Request::Verbosity { level: 2, noreply: false }),
        ("verbosity 2 noreply", Request::Verbosity { level: 2, noreply: true }),
        ("quit", Request::Quit),
        ("mn", Request::MetaNoop),
    ] {
        let bytes = format!("{line}\r\n");
        let found = request(bytes.as_bytes());
        assert_eq!(found, want, "{line}");
        assert_eq!(found.noreply(), line.ends_with("noreply"), "{line}");
    }
    let Request::Stats { args } = request(b"stats  items 3\r\n") else { panic!("stats") };
    assert_eq!(args.collect::<Vec<_>>(), [&b"items"[..], b"3"]);
}

#[test]
fn meta_commands_keep_their_flags_for_later() {
    for (line, verb) in [
        ("mg k t v Oabc", MetaVerb::Get),
        ("md k t v Oabc", MetaVerb::Delete),
        ("ma k t v Oabc", MetaVerb::Arithmetic),
        ("me k t v Oabc", MetaVerb::Debug),
        ("ms k 3 t v Oabc\r\nxyz", MetaVerb::Set),
    ] {
        let bytes = format!("{line}\r\n");
        let Request::Meta(meta) = request(bytes.as_bytes()) else { panic!("{line}") };
        assert_eq!((meta.verb, meta.key), (verb, &b"k"[..]));
        assert_eq!(meta.flags.collect::<Vec<_>>(), [&b"t"[..], b"v", b"Oabc"]);
        let data = match verb {
            MetaVerb::Set => MetaData::Block(b"xyz"),
            _ => MetaData::None,
        };
        assert_eq!(meta.data, data);
    }
}

#[test]
fn every_error_has_its_words_and_noreply_its_say() {
    let long = "k".repeat(KEY_BYTES_MAX + 1);
    let format = RequestError::BadFormat.text();
    let unknown = RequestError::UnknownCommand.text();
    let flags = " f".repeat(20);
    for (line, want, noreply) in [
        ("", unknown, false),
        ("\r", unknown, false),
        ("  ", unknown, false),
        ("GET k", unknown, false),
        ("get", unknown, false),
        ("gats", unknown, false),
        ("set k 0 0", unknown, false),
        ("set k 0 0 1 noreply x", unknown, false),
        ("delete", unknown, false),
        ("flush_all 1 2 3", unknown, false),
        ("mg", unknown, false),
        ("ms", unknown, false),
        (&format!("get ok {long}"), format, false),
        ("get a\tb", format, false),
        ("get a\x7Fb", format, false),
        ("set k\x00 0 0 1", format, false),
        (&format!("set {long} 0 0 1 noreply"), format, true),
        ("set k x 0 1", format, false),
        ("set k 4294967296 0 1", format, false),
        ("set k 0 x 1 noreply", format, true),
        ("set k 0 0 -1", format, false),
        ("set k 0 0 2147483646", format, false),
        ("set k 0 0 4294967300", format, false),
        ("cas k 0 0 1 x", format, false),
        (&format!("incr {long} 1"), format, false),
        ("verbosity x", format, false),
        ("verbosity noreply", format, true),
        ("ms k", format, false),
        ("ms k x", format, false),
        ("me", format, false),
        (&format!("mg {long}"), format, false),
        ("delete k 1", RequestError::DeleteUsage.text(), false),
        ("delete k 1 noreply", RequestError::DeleteUsage.text(), true),
        ("gat x k", RequestError::InvalidExptime.text(), false),
        ("touch k x noreply", RequestError::InvalidExptime.text(), true),
        ("flush_all x", RequestError::InvalidExptime.text(), false),
        ("incr k x", RequestError::InvalidDelta.text(), false),
        ("decr k -1 noreply", RequestError::InvalidDelta.text(), true),
        (&format!("mg k{flags}"), RequestError::TooManyFlagsGet.text(), false),
        (&format!("md k{flags}"), RequestError::TooManyFlags.text(), false),
        (&format!("ms k 1{flags}"), RequestError::TooManyFlags.text(), false),
        ("set k 0 0 3\r\nabcd\r", RequestError::BadDataChunk.text(), false),
        ("set k 0 0 3 noreply\r\nabcd\n", RequestError::BadDataChunk.text(), true),
        ("ms k 3\r\nabcd\r", RequestError::BadDataChunk.text(), false),
    ] {
        // The data of a bad chunk is as long as announced, so no line end is added.
        let end = if line.contains("\r\n") { "" } else { "\r\n" };
        assert_eq!(refused(format!("{line}{end}").as_bytes()), (want, noreply), "{line:?}");
    }
}

#[test]
fn what_is_too_large_is_dropped_and_the_stream_goes_on() {
    let data = [b'x'; 22];
    for (line, noreply) in [("set k 0 0 20\r\n", false), ("add k 0 0 20 noreply\r\n", true)] {
        let bytes = [line.as_bytes(), &data, b"version\r\n"].concat();
        let mut progress = Progress::default();
        let Parse::Complete { request, mut consumed } = parse(&bytes, &mut progress, &SMALL) else {
            panic!("{line}")
        };
        assert!(matches!(request, Request::StoreTooLarge { key: b"k", .. }));
        assert_eq!(request.noreply(), noreply);
        assert_eq!(consumed, line.len());
        let nothing_yet = parse(b"", &mut progress, &SMALL);
        assert_eq!(nothing_yet, Parse::Incomplete { bytes_missing_min: 22 });
        for piece in [5, 22 - 5] {
            let bytes = &bytes[consumed..consumed + piece];
            assert_eq!(parse(bytes, &mut progress, &SMALL), Parse::Swallowed { consumed: piece });
            consumed += piece;
        }
        let last = parse(&bytes[consumed..], &mut progress, &SMALL);
        assert_eq!(last, Parse::Complete { request: Request::Version, consumed: 9 });
    }
    let mut progress = Progress::default();
    let Parse::Complete { request: Request::Meta(meta), consumed: 10 } =
        parse(b"ms k 11 t\nxx", &mut progress, &SMALL)
    else {
        panic!("ms")
    };
    assert_eq!(meta.data, MetaData::TooLarge { length_bytes: 11 });
    assert_eq!(parse(b"xx", &mut progress, &SMALL), Parse::Swallowed { consumed: 2 });
}

#[test]
fn connections_that_must_end() {
    let close = |bytes: &[u8]| match parse_once(bytes) {
        Parse::Close(reason) => reason,
        other => panic!("{:?}: {other:?}", bytes.escape_ascii().to_string()),
    };
    assert_eq!(close(b"GET / HTTP/1.1\r\nHost: x\r\n"), CloseReason::Http);
    assert_eq!(close(b"\x80"), CloseReason::BinaryProtocol);
    assert_eq!(close(b"\x80\0\0\x0A\0\0"), CloseReason::BinaryProtocol);
    assert_eq!(close(&[b'x'; LINE_BYTES_MAX + 1]), CloseReason::LineTooLong);
    assert_eq!(close(&[b' '; LINE_BYTES_MAX + 1]), CloseReason::LineTooLong);
    let spaces = " ".repeat(LONG_LINE_SPACES_MAX + 1);
    let keys = "key ".repeat(600);
    assert_eq!(close(format!("{spaces}get {keys}").as_bytes()), CloseReason::LineTooLong);
    assert_eq!(close(format!("set {keys}\r\n").as_bytes()), CloseReason::LineTooLong);
    let endless = "key ".repeat(1100);
    assert_eq!(close(format!("get {endless}").as_bytes()), CloseReason::LineTooLong);

    let most = [&[b'x'; LINE_BYTES_MAX][..], b"\n"].concat();
    assert!(matches!(parse_once(&most), Parse::Refused { .. }));
    for command in ["get ", "gets ", "gat 1 ", "gats 1 ", "  get "] {
        let bytes = format!("{command}{keys}\r\n");
        let (Request::Get { keys, .. } | Request::GetAndTouch { keys, .. }) =
            request(bytes.as_bytes())
        else {
            panic!("{command}")
        };
        assert_eq!(keys.filter(|key| *key == b"key").count(), 600);
    }
}

#[test]
fn the_open_request_is_known_before_its_data() {
    let bytes = b"cas key 1 2 8 99 noreply\r\nabcdefgh\r\n";
    let line = 26;
    for length in 0..bytes.len() {
        let mut progress = Progress::default();
        let outcome = parse(&bytes[..length], &mut progress, &SMALL);
        let missing = if length < line { 1 } else { bytes.len() - length };
        assert_eq!(outcome, Parse::Incomplete { bytes_missing_min: missing });
        let open = parse_open(&bytes[..length], &progress);
        assert_eq!(open.is_some(), length >= line, "{length}");
        if let Some((Request::Store(store), block)) = open {
            assert_eq!(block, OpenBlock { start: line as u32, length_bytes: 8 });
            assert_eq!(store.verb, StoreVerb::Cas { version: 99 });
            assert_eq!(store.data, &bytes[line..length.min(line + 8)]);
        }
    }
}

#[test]
fn one_byte_at_a_time_is_linear_work() {
    let keys = "some-key ".repeat(7000);
    let large = Limits { value_bytes_max: 1 << 20, ..Limits::default() };
    let value = "v".repeat(64 << 10);
    for (bytes, per_byte) in [
        // Once for the line's end, once for the keys.
        (format!("get {keys}\r\n"), 2),
        (format!("gets {keys}\r\n"), 2),
        (format!("set k 0 0 {}\r\n{value}\r\n", value.len()), 1),
    ] {
        let bytes = bytes.as_bytes();
        let mut progress = Progress::default();
        let scanned = scanned_during(|| {
            for length in 0..bytes.len() {
                let outcome = parse(&bytes[..length], &mut progress, &large);
                assert!(matches!(outcome, Parse::Incomplete { .. }), "{length}: {outcome:?}");
            }
            assert!(matches!(parse(bytes, &mut progress, &large), Parse::Complete { .. }));
        });
        assert!(scanned <= per_byte * bytes.len() + 100, "{scanned} of {}", bytes.len());
        assert_eq!(progress, Progress::default());
    }
}
