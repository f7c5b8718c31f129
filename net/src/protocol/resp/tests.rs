//! What the RESP parser says to one frame at a time.

use super::*;
use crate::protocol::scan::tests::scanned_during;

/// Parses the whole of `bytes`; the arguments, or the error's reply.
fn whole(bytes: &[u8], limits: &Limits) -> Result<Vec<Vec<u8>>, String> {
    let (mut progress, mut args) = (Progress::default(), Args::new());
    let outcome = parse(bytes, &mut progress, &mut args, limits);
    assert_eq!(progress, Progress::default(), "{outcome:?}");
    match outcome {
        Parse::Complete { consumed } => {
            assert_eq!(consumed, bytes.len(), "{}", bytes.escape_ascii());
            Ok(args.iter_from(bytes, 0).map(<[u8]>::to_vec).collect())
        }
        Parse::Error(error) => {
            let mut out = Vec::new();
            error.write_reply(&mut out);
            assert!(out.is_ascii());
            let text = String::from_utf8(out).expect("ASCII");
            Err(text.trim_end().replace("-ERR Protocol error: ", ""))
        }
        Parse::Incomplete { .. } => panic!("incomplete: {}", bytes.escape_ascii()),
    }
}

fn words(bytes: &[u8]) -> Vec<String> {
    let args = whole(bytes, &Limits::default()).expect("a good frame");
    args.into_iter().map(|arg| arg.escape_ascii().to_string()).collect()
}

fn error(bytes: &[u8]) -> String {
    whole(bytes, &Limits::default()).expect_err("a bad frame")
}

#[test]
fn arrays_and_what_they_skip() {
    assert_eq!(words(b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n"), ["GET", "key"]);
    assert_eq!(words(b"*1\r\n$0\r\n\r\n"), [""]);
    assert_eq!(words(b"*1\r\n$2\r\n\r\n\r\n"), ["\\r\\n"]);
    for empty in ["*0\r\n", "*-1\r\n", "*-9223372036854775808\r\n", "\r\n", "\n", " \t \r\n"] {
        assert!(words(empty.as_bytes()).is_empty(), "{empty:?}");
    }
    for length in [9, 10, 99, 100, 1000, 70_000] {
        let value = "v".repeat(length);
        let frame = format!("*2\r\n$1\r\na\r\n${length}\r\n{value}\r\n");
        assert_eq!(words(frame.as_bytes()), ["a", &value]);
    }
    for count in [9, 10, 99, 100, 1000] {
        let frame = format!("*{count}\r\n{}", "$1\r\nx\r\n".repeat(count));
        assert_eq!(words(frame.as_bytes()), vec!["x"; count]);
    }
}

#[test]
fn inline_commands_and_their_quotes() {
    for (line, want) in [
        ("PING", &["PING"][..]),
        ("  SET  key\tvalue ", &["SET", "key", "value"]),
        (r#"SET "a b" 'c d'"#, &["SET", "a b", "c d"]),
        (r#"x "" ''"#, &["x", "", ""]),
        (r#"x "\x41\n\r\t\b\a\\\"\q""#, &["x", r#"A\n\r\t\x08\x07\\\"q"#]),
        (r#"x "\x4" "\xZZ" "\x""#, &["x", "x4", "xZZ", "x"]),
        (r"x 'a\'b\n'", &["x", r"a\'b\\n"]),
        (r#"a"b c" d'e f'"#, &["ab c", "de f"]),
        (r"x a\nb", &["x", r"a\\nb"]),
        ("x a\rb", &["x", "a", "b"]),
        ("x \x0Ba\x0Bb", &["x", r"a\x0bb"]),
        ("$3 :1", &["$3", ":1"]),
    ] {
        for end in ["\n", "\r\n"] {
            assert_eq!(words(format!("{line}{end}").as_bytes()), want, "{line}");
        }
    }
}

#[test]
fn every_error_in_redis_words() {
    for bytes in ["*a\r\n", "*\r\n", "*01\r\n", "*+1\r\n", "* 1\r\n", "*1048577\r\n"] {
        assert_eq!(error(bytes.as_bytes()), "invalid multibulk length", "{bytes:?}");
    }
    assert_eq!(error(b"*99999999999999999999999999\r\n"), "invalid multibulk length");
    for length in ["-1", "", "a", "01", "+3", "536870913", "4294967296", "99999999999999999999"] {
        let bytes = format!("*1\r\n${length}\r\n");
        assert_eq!(error(bytes.as_bytes()), "invalid bulk length", "{length:?}");
    }
    assert_eq!(error(b"*1\r\n:3\r\n"), "expected '$', got ':'");
    assert_eq!(error(b"*1\r\n\r\n"), "expected '$', got ' '");
    assert_eq!(error(b"*2\r\n$1\r\na\r\nGET\r\n"), "expected '$', got 'G'");
    for line in [r#"a "b"#, "a 'b", r#"a "b"c"#, "a 'b'c", r#"a "b\"#, r#"""""#] {
        let bytes = format!("{line}\r\n");
        assert_eq!(error(bytes.as_bytes()), "unbalanced quotes in request", "{line:?}");
    }
    let long = "1".repeat(INLINE_BYTES_MAX as usize);
    assert_eq!(error(format!("{long}1").as_bytes()), "too big inline request");
    assert_eq!(error(format!("*{long}").as_bytes()), "too big mbulk count string");
    assert_eq!(error(format!("*1\r\n${long}").as_bytes()), "too big bulk count string");
}

#[test]
fn lines_may_be_as_long_as_their_limit() {
    let limits = Limits { inline_bytes_max: 24, ..Limits::default() };
    for head in ["*1\r\n$", "*", "x"] {
        let line_start = head.rfind('$').unwrap_or(0);
        let longest = format!("{head}{}", "1".repeat(24 + line_start - head.len()));
        let (mut progress, mut args) = (Progress::default(), Args::new());
        let outcome = parse(longest.as_bytes(), &mut progress, &mut args, &limits);
        assert!(matches!(outcome, Parse::Incomplete { .. }), "{head:?}: {outcome:?}");
        let ended = whole(format!("{longest}\r\n").as_bytes(), &limits);
        match head {
            // The return counts in an inline command, as in Redis.
            "x" => assert_eq!(ended, Err("too big inline request".into())),
            "*" => assert_eq!(ended, Err("invalid multibulk length".into())),
            _ => assert_eq!(ended, Err("invalid bulk length".into())),
        }
        let longer = whole(format!("{longest}1").as_bytes(), &limits);
        assert!(longer.is_err_and(|text| text.starts_with("too big")), "{head:?}");
    }
    assert!(whole(format!("{}\n", "x".repeat(24)).as_bytes(), &limits).is_ok());
}

#[test]
fn errors_that_redis_does_not_have() {
    let missing = "missing line end after length or data";
    for bytes in
        ["*1\rx", "*1\r\n$1\rx", "*1\r\n$1\r\naxx", "*1\r\n$1\r\na\rx", "*1\r\n$1\r\nab\r\n"]
    {
        assert_eq!(error(bytes.as_bytes()), missing, "{bytes:?}");
    }
    assert_eq!(error(b"a\0b\r\n"), "NUL byte in inline request");
    let limits = Limits { frame_bytes_max: 30, ..Limits::default() };
    assert_eq!(whole(b"*1\r\n$100\r\n", &limits), Err("too big request".into()));
    assert_eq!(whole(b"*2\r\n$9\r\n123456789\r\n$9\r\n", &limits), Err("too big request".into()));
}

#[test]
fn strangers_get_less() {
    let limits = Limits { unauthenticated: true, ..Limits::default() };
    let ten = format!("*10\r\n{}", "$1\r\nx\r\n".repeat(10));
    assert_eq!(whole(ten.as_bytes(), &limits).map(|args| args.len()), Ok(10));
    assert_eq!(whole(b"*11\r\n", &limits), Err("unauthenticated multibulk length".into()));
    let most = format!("*1\r\n$16384\r\n{}\r\n", "x".repeat(16384));
    assert!(whole(most.as_bytes(), &limits).is_ok());
    let more = whole(b"*1\r\n$16385\r\n", &limits);
    assert_eq!(more, Err("unauthenticated bulk length".into()));
}

#[test]
fn errors_never_break_the_reply_and_display_names_the_byte() {
    let mut out = Vec::new();
    ProtocolError::ExpectedDollar(b'\n').write_reply(&mut out);
    assert_eq!(out, b"-ERR Protocol error: expected '$', got ' '\r\n");
    let shown = ProtocolError::ExpectedDollar(0).to_string();
    assert_eq!(shown, "ERR Protocol error: expected '$', got '\\x00'");
    assert_eq!(ProtocolError::BulkLength.to_string(), "ERR Protocol error: invalid bulk length");
}

#[test]
fn the_open_bulk_is_known_before_its_data() {
    let frame = b"*4\r\n$3\r\nSET\r\n$3\r\nkey\r\n$12\r\nabcdefghijkl\r\n$2\r\nNX\r\n";
    let header_end = 27;
    for length in 0..frame.len() {
        let (mut progress, mut args) = (Progress::default(), Args::new());
        let bytes = &frame[..length];
        let outcome = parse(bytes, &mut progress, &mut args, &Limits::default());
        let Parse::Incomplete { bytes_missing_min } = outcome else { panic!("{outcome:?}") };
        assert!((1..=frame.len() - length).contains(&bytes_missing_min), "{length}");
        let open = parse_open(bytes, &progress, &mut args);
        assert_eq!(open, progress.open_bulk());
        let Some(open) = open else { continue };
        assert_eq!(args.len(), open.arg_index as usize);
        assert_eq!(open.arg_count, 4);
        if (header_end..header_end + 14).contains(&length) {
            let want = OpenBulk { arg_index: 2, arg_count: 4, start: 27, length_bytes: 12 };
            assert_eq!(open, want);
            // The payload, its end, and an argument of the least size.
            assert_eq!(bytes_missing_min, header_end + 14 + 6 - length);
            let seen: Vec<_> = args.iter_from(bytes, 0).collect();
            assert_eq!(seen, [&b"SET"[..], b"key"]);
        }
    }
}

#[test]
fn announced_counts_reserve_no_memory() {
    let (mut progress, mut args) = (Progress::default(), Args::new());
    let outcome = parse(b"*1000000\r\n", &mut progress, &mut args, &Limits::default());
    assert_eq!(outcome, Parse::Incomplete { bytes_missing_min: 6_000_000 });
    assert_eq!(args.spill_capacity(), 0);
}

#[test]
fn one_byte_at_a_time_is_linear_work() {
    let value = "v".repeat(64 << 10);
    for (frame, per_byte) in [
        // In passing and for the slices, five bytes of at least seven, and the line ends of torn
        // headers.
        (format!("*9362\r\n{}", "$1\r\nx\r\n".repeat(9362)), 6),
        (format!("*600\r\n{}", format!("$100\r\n{}\r\n", "y".repeat(100)).repeat(600)), 1),
        (format!("*2\r\n$3\r\nGET\r\n${}\r\n{value}\r\n", value.len()), 1),
        // For the line feed, for a NUL, and for the words.
        (format!("{}\r\n", "word ".repeat(13_000)), 3),
        (format!("{}\r\n", "'a b' ".repeat(10_000)), 3),
    ] {
        let bytes = frame.as_bytes();
        let (mut progress, mut args) = (Progress::default(), Args::new());
        let scanned = scanned_during(|| {
            for length in 0..bytes.len() {
                let outcome = parse(&bytes[..length], &mut progress, &mut args, &Limits::default());
                assert!(matches!(outcome, Parse::Incomplete { .. }), "{length}: {outcome:?}");
            }
            let outcome = parse(bytes, &mut progress, &mut args, &Limits::default());
            assert_eq!(outcome, Parse::Complete { consumed: bytes.len() });
        });
        assert!(scanned <= per_byte * bytes.len() + 100, "{scanned} of {}", bytes.len());
    }
}
