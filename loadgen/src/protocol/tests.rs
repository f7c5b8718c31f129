//! The codec against the forms that the protocol documents give, torn everywhere, and noise.

use std::time::Duration;

use super::*;
use crate::config::{Ttl, ValueSize};
use crate::keys::RUN_PREFIX;
use crate::value::Sizes;

const OPS: [Op; 6] = [Op::Get, Op::Set, Op::Delete, Op::Touch, Op::Incr, Op::Create];

fn keys() -> KeyFormat {
    KeyFormat::new(RUN_PREFIX, 8, 100)
}

fn codec(protocol: Protocol) -> Codec {
    Codec::new(protocol, keys(), false)
}

fn ask(op: Op) -> Ask {
    Ask { op, part: Part::Single, key: 1 }
}

/// Cuts `input` everywhere: every proper prefix must ask for more, by an honest bound.
fn torn_everywhere(codec: &Codec, ask: Ask, input: &[u8], expected: Reply<'_>) {
    for cut in 0..input.len() {
        match codec.parse(ask, &input[..cut]) {
            Parsed::Incomplete { bytes_min } => {
                assert!(bytes_min > cut && bytes_min <= input.len(), "cut {cut}: {bytes_min}");
            }
            other => panic!("cut {cut} of {:?}: {other:?}", input.escape_ascii().to_string()),
        }
    }
    for rest in ["", "$3\r\n", "END\r\n", "\r\n"] {
        let longer = [input, rest.as_bytes()].concat();
        let whole = Parsed::Complete { reply: expected, consumed: input.len() };
        assert_eq!(codec.parse(ask, &longer), whole);
    }
}

/// Random bytes and damaged replies: any answer is fine, a panic or a wrong length is not.
fn survives_noise(codec: &Codec, samples: &[&[u8]]) {
    let seed = 21;
    let mut rng = crate::rng::Rng::new(seed, 0);
    for round in 0..200_000 {
        let mut input = samples[rng.below(samples.len() as u64) as usize].to_vec();
        for _ in 0..=rng.below(3) {
            let at = rng.below(input.len() as u64) as usize;
            input[at] = rng.next_u64() as u8;
        }
        let op = OPS[rng.below(6) as usize];
        let part = match rng.below(5) {
            0 if op == Op::Get => Part::First(2),
            1 if op == Op::Get => Part::Middle,
            2 if op == Op::Get => Part::Last,
            _ => Part::Single,
        };
        match codec.parse(Ask { op, part, key: 1 }, &input) {
            Parsed::Incomplete { bytes_min } => {
                assert!(bytes_min > input.len(), "seed {seed} round {round}");
            }
            Parsed::Complete { consumed, .. } => {
                let may_be_empty = !part.ends();
                assert!(consumed > 0 || may_be_empty, "seed {seed} round {round}");
                assert!(consumed <= input.len(), "seed {seed} round {round}");
            }
            Parsed::Broken(why) => assert!(!why.is_empty()),
        }
    }
}

const RESP: [&[u8]; 10] = [
    b"$5\r\nhello\r\n",
    b"$0\r\n\r\n",
    b"$-1\r\n",
    b"_\r\n",
    b"+OK\r\n",
    b":1\r\n",
    b"-ERR no\r\n",
    b"!3\r\nERR\r\n",
    b"$12\r\na\r\nb\r\nc\r\nd\r\n\r\n",
    b"*2\r\n$5\r\nhello\r\n",
];

const TEXT: [&[u8]; 11] = [
    b"VALUE key:0001 0 5\r\nhello\r\nEND\r\n",
    b"VALUE k 0 0\r\n\r\nEND\r\n",
    b"END\r\n",
    b"STORED\r\n",
    b"DELETED\r\n",
    b"NOT_FOUND\r\n",
    b"SERVER_ERROR out of memory\r\n",
    b"ERROR\r\n",
    b"TOUCHED\r\n",
    b"42\r\n",
    b"NOT_STORED\r\n",
];

const META: [&[u8]; 9] = [
    b"VA 5 kkey:0001\r\nhello\r\n",
    b"VA 0 kk\r\n\r\n",
    b"EN\r\n",
    b"HD\r\n",
    b"NF\r\n",
    b"SERVER_ERROR out of memory\r\n",
    b"ERROR\r\n",
    b"EN kkey:0001\r\n",
    b"VA 2\r\n42\r\n",
];

#[test]
fn resp_replies_torn_at_every_byte() {
    let codec = codec(Protocol::Resp);
    let hit = |value| Reply::Hit { key: None, value };
    torn_everywhere(&codec, ask(Op::Get), RESP[0], hit(b"hello"));
    torn_everywhere(&codec, ask(Op::Get), RESP[1], hit(b""));
    torn_everywhere(&codec, ask(Op::Get), RESP[2], Reply::Miss);
    torn_everywhere(&codec, ask(Op::Get), RESP[3], Reply::Miss);
    torn_everywhere(&codec, ask(Op::Set), RESP[4], Reply::Done);
    torn_everywhere(&codec, ask(Op::Delete), RESP[5], Reply::Done);
    torn_everywhere(&codec, ask(Op::Touch), RESP[5], Reply::Done);
    torn_everywhere(&codec, ask(Op::Incr), RESP[5], Reply::Count(1));
    torn_everywhere(&codec, ask(Op::Create), RESP[5], Reply::Done);
    for op in OPS {
        torn_everywhere(&codec, ask(op), RESP[6], Reply::Error(b"ERR no"));
        torn_everywhere(&codec, ask(op), RESP[7], Reply::Error(b"ERR"));
    }
    torn_everywhere(&codec, ask(Op::Get), RESP[8], hit(b"a\r\nb\r\nc\r\nd\r\n"));
    let first = Ask { op: Op::Get, part: Part::First(2), key: 1 };
    torn_everywhere(&codec, first, RESP[9], hit(b"hello"));
    torn_everywhere(&codec, first, RESP[6], Reply::Error(b"ERR no"));
}

#[test]
fn memcached_replies_torn_at_every_byte() {
    let codec = codec(Protocol::Memcached);
    let hit = |key, value| Reply::Hit { key: Some(key), value };
    torn_everywhere(&codec, ask(Op::Get), TEXT[0], hit(b"key:0001", b"hello"));
    torn_everywhere(&codec, ask(Op::Get), TEXT[1], hit(b"k", b""));
    torn_everywhere(&codec, ask(Op::Get), TEXT[2], Reply::Miss);
    torn_everywhere(&codec, ask(Op::Set), TEXT[3], Reply::Done);
    torn_everywhere(&codec, ask(Op::Delete), TEXT[4], Reply::Done);
    torn_everywhere(&codec, ask(Op::Delete), TEXT[5], Reply::Done);
    torn_everywhere(&codec, ask(Op::Touch), TEXT[8], Reply::Done);
    torn_everywhere(&codec, ask(Op::Incr), TEXT[5], Reply::Miss);
    torn_everywhere(&codec, ask(Op::Create), TEXT[10], Reply::Done);
    torn_everywhere(&codec, ask(Op::Set), TEXT[5], Reply::Error(b"NOT_FOUND"));
    for op in OPS {
        let text = &TEXT[6][..TEXT[6].len() - 2];
        torn_everywhere(&codec, ask(op), TEXT[6], Reply::Error(text));
        torn_everywhere(&codec, ask(op), TEXT[7], Reply::Error(b"ERROR"));
    }
}

#[test]
fn meta_replies_torn_at_every_byte() {
    let codec = codec(Protocol::Meta);
    let hit = |key, value| Reply::Hit { key: Some(key), value };
    torn_everywhere(&codec, ask(Op::Get), META[0], hit(b"key:0001", b"hello"));
    torn_everywhere(&codec, ask(Op::Get), META[1], hit(b"k", b""));
    torn_everywhere(&codec, ask(Op::Get), META[2], Reply::Miss);
    torn_everywhere(&codec, ask(Op::Get), META[7], Reply::Miss);
    torn_everywhere(&codec, ask(Op::Touch), META[2], Reply::Done);
    torn_everywhere(&codec, ask(Op::Set), META[3], Reply::Done);
    torn_everywhere(&codec, ask(Op::Delete), META[4], Reply::Done);
    torn_everywhere(&codec, ask(Op::Set), META[4], Reply::Error(b"NF"));
    torn_everywhere(&codec, ask(Op::Incr), META[4], Reply::Miss);
    torn_everywhere(&codec, ask(Op::Incr), META[8], Reply::Count(42));
    torn_everywhere(&codec, ask(Op::Create), META[3], Reply::Done);
    let text = &META[5][..META[5].len() - 2];
    torn_everywhere(&codec, ask(Op::Get), META[5], Reply::Error(text));
}

#[test]
fn noise_is_survived() {
    survives_noise(&codec(Protocol::Resp), &RESP);
    survives_noise(&codec(Protocol::Memcached), &TEXT);
    survives_noise(&codec(Protocol::Meta), &META);
}

#[test]
fn replies_that_do_not_fit_are_broken() {
    let cases: [(Protocol, Op, &[u8]); 24] = [
        (Protocol::Resp, Op::Get, b"+OK\r\n"),
        (Protocol::Resp, Op::Set, b"$1\r\nx\r\n"),
        (Protocol::Resp, Op::Set, b"+QUEUED\r\n"),
        (Protocol::Resp, Op::Delete, b"+OK\r\n"),
        (Protocol::Resp, Op::Get, b"$2\r\nhello\r\n"),
        (Protocol::Resp, Op::Get, b"$-2\r\n"),
        (Protocol::Resp, Op::Get, b"$99999999999\r\n"),
        (Protocol::Resp, Op::Get, b"HTTP/1.1 400\r\n"),
        (Protocol::Resp, Op::Get, b"$5\nhello\n"),
        (Protocol::Memcached, Op::Get, b"STORED\r\n"),
        (Protocol::Memcached, Op::Set, b"END\r\n"),
        (Protocol::Memcached, Op::Delete, b"OK\r\n"),
        (Protocol::Memcached, Op::Get, b"VALUE k 0 x\r\n"),
        (Protocol::Memcached, Op::Get, b"VALUE k 7 1\r\nx\r\nEND\r\n"),
        (Protocol::Memcached, Op::Get, b"VALUE k 0 1\r\nxx\r\nEND\r\n"),
        (Protocol::Memcached, Op::Get, b"VALUE k 0 1\r\nx\r\nVALUE k 0 1\r\nx\r\nEND\r\n"),
        (Protocol::Meta, Op::Get, b"HD\r\n"),
        (Protocol::Meta, Op::Get, b"VA 1 x\r\nx\r\n"),
        (Protocol::Meta, Op::Get, b"VA 1 kx\r\nxyz\r\n"),
        (Protocol::Meta, Op::Set, b"STORED\r\n"),
        (Protocol::Resp, Op::Incr, b":-3\r\n"),
        (Protocol::Resp, Op::Incr, b"+OK\r\n"),
        (Protocol::Memcached, Op::Incr, b"4x\r\n"),
        (Protocol::Meta, Op::Incr, b"VA 2\r\n4x\r\n"),
    ];
    for (protocol, op, input) in cases {
        let parsed = codec(protocol).parse(ask(op), input);
        assert!(matches!(parsed, Parsed::Broken(_)), "{}", input.escape_ascii());
    }
    let resp = codec(Protocol::Resp);
    assert!(matches!(resp.parse(ask(Op::Get), &[b'-'; 100_000]), Parsed::Broken(_)));
    let first = Ask { op: Op::Get, part: Part::First(2), key: 1 };
    for input in [&b"*3\r\n$1\r\nx\r\n"[..], b"$1\r\nx\r\n", b"*2\r\n-ERR\r\n"] {
        assert!(matches!(resp.parse(first, input), Parsed::Broken(_)));
    }
}

/// Replies to a read of the keys 1, 2 and 3, part by part.
fn parts(protocol: Protocol, mut input: &[u8]) -> Vec<Option<Vec<u8>>> {
    let codec = codec(protocol);
    let mut found = Vec::new();
    for (at, key) in [1, 2, 3].into_iter().enumerate() {
        let ask = Ask { op: Op::Get, part: Part::of(at, 3), key };
        match codec.parse(ask, input) {
            Parsed::Complete { reply: Reply::Hit { value, .. }, consumed } => {
                found.push(Some(value.to_vec()));
                input = &input[consumed..];
            }
            Parsed::Complete { reply: Reply::Miss, consumed } => {
                found.push(None);
                input = &input[consumed..];
            }
            other => panic!("key {key}: {other:?}"),
        }
    }
    assert!(input.is_empty(), "{}", input.escape_ascii());
    found
}

#[test]
fn replies_for_several_keys_come_apart() {
    let value = |text: &str| Some(text.as_bytes().to_vec());
    let mget = b"*3\r\n$1\r\na\r\n$-1\r\n$2\r\ncc\r\n";
    assert_eq!(parts(Protocol::Resp, mget), [value("a"), None, value("cc")]);
    let third = b"VALUE key:0003 0 2\r\ncc\r\nEND\r\n";
    assert_eq!(parts(Protocol::Memcached, third), [None, None, value("cc")]);
    let first = b"VALUE key:0001 0 1\r\na\r\nEND\r\n";
    assert_eq!(parts(Protocol::Memcached, first), [value("a"), None, None]);
    assert_eq!(parts(Protocol::Memcached, b"END\r\n"), [None, None, None]);
    let meta = b"EN\r\nVA 1 kkey:0002\r\nb\r\nEN\r\n";
    assert_eq!(parts(Protocol::Meta, meta), [None, value("b"), None]);
}

#[test]
fn requests_have_the_exact_form() {
    let stamp = Stamp { version: 1, base: 1 };
    let cases = [
        (Protocol::Resp, None, "*3\r\n$3\r\nSET\r\n$8\r\nkey:0007\r\n$3\r\n", "\r\n"),
        (
            Protocol::Resp,
            Some(60_000),
            "*5\r\n$3\r\nSET\r\n$8\r\nkey:0007\r\n$3\r\n",
            "\r\n$2\r\nEX\r\n$2\r\n60\r\n",
        ),
        (
            Protocol::Resp3,
            Some(1500),
            "*5\r\n$3\r\nSET\r\n$8\r\nkey:0007\r\n$3\r\n",
            "\r\n$2\r\nPX\r\n$4\r\n1500\r\n",
        ),
        (Protocol::Memcached, None, "set key:0007 0 0 3\r\n", "\r\n"),
        (Protocol::Memcached, Some(60_000), "set key:0007 0 60 3\r\n", "\r\n"),
        (Protocol::Meta, None, "ms key:0007 3\r\n", "\r\n"),
        (Protocol::Meta, Some(60_000), "ms key:0007 3 T60\r\n", "\r\n"),
    ];
    for (protocol, ttl_ms, head, end) in cases {
        let ttl = ttl_ms.map(|ms| Ttl::fixed(Duration::from_millis(ms)));
        let values = Values::new(1, 1, Sizes::Drawn(ValueSize::fixed(3)), ttl, protocol);
        let mut value = [0; 3];
        values.write(7, stamp, &mut value);
        let mut out = Vec::new();
        Codec::new(protocol, keys(), ttl_ms.is_some()).append_set(7, stamp, &values, &mut out);
        assert_eq!(out, [head.as_bytes(), &value, end.as_bytes()].concat(), "{protocol}");
    }
    let others = [
        (
            Protocol::Resp,
            "*2\r\n$3\r\nGET\r\n$8\r\nkey:0007\r\n*2\r\n$3\r\nDEL\r\n$8\r\nkey:0008\r\n\
             *3\r\n$7\r\nPEXPIRE\r\n$8\r\nkey:0009\r\n$4\r\n2000\r\n\
             *3\r\n$4\r\nMGET\r\n$8\r\nkey:0001\r\n$8\r\nkey:0002\r\n",
        ),
        (
            Protocol::Memcached,
            "get key:0007\r\ndelete key:0008\r\ntouch key:0009 2\r\nget key:0001 key:0002\r\n",
        ),
        (
            Protocol::Meta,
            "mg key:0007 k v\r\nmd key:0008\r\nmg key:0009 T2\r\n\
             mg key:0001 k v\r\nmg key:0002 k v\r\n",
        ),
    ];
    for (protocol, expected) in others {
        let codec = codec(protocol);
        let mut out = Vec::new();
        codec.append_get(7, &mut out);
        codec.append_delete(8, &mut out);
        codec.append_touch(9, 2000, &mut out);
        codec.append_multiget(&[1, 2], &mut out);
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }
}

#[test]
fn decimals_are_strict() {
    assert_eq!(decimal(b"0", 10), Some(0));
    assert_eq!(decimal(b"10", 10), Some(10));
    for bad in ["", "11", "-1", "+1", "1 ", "1x", "99999999999999999999999"] {
        assert_eq!(decimal(bad.as_bytes(), 10), None, "{bad}");
    }
    for number in [0, 7, 10, 64, 1023, u64::MAX] {
        let mut text = Vec::new();
        append_decimal(number, &mut text);
        assert_eq!(text, number.to_string().into_bytes());
    }
}

#[test]
fn whole_resp_values_of_every_type_are_skipped() {
    let hello = b"%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nmodules\r\n*2\r\n:1\r\n#t\r\n";
    for cut in 0..hello.len() {
        assert_eq!(resp::skip(&hello[..cut]), Ok(None));
    }
    assert_eq!(resp::skip(hello), Ok(Some(hello.len())));
    assert_eq!(resp::skip(b"-NOPROTO no\r\n+"), Ok(Some(13)));
    assert!(resp::skip(b"?what\r\n").is_err());
    assert!(resp::skip("*1\r\n".repeat(20).as_bytes()).is_err(), "bounded depth");
}

#[test]
fn counters_have_keys_of_their_own_and_lengths_are_written_out() {
    let counters = KeyFormat::new(crate::keys::COUNTER_PREFIX, 8, 100);
    for (protocol, expected) in [
        (
            Protocol::Resp,
            "*2\r\n$4\r\nINCR\r\n$8\r\nctr:0007\r\n\
             *3\r\n$5\r\nSETNX\r\n$8\r\nctr:0007\r\n$1\r\n0\r\n",
        ),
        (Protocol::Memcached, "incr ctr:0007 1\r\nadd ctr:0007 0 0 1\r\n0\r\n"),
        (Protocol::Meta, "ma ctr:0007 N0 J1 v\r\nms ctr:0007 1 ME\r\n0\r\n"),
    ] {
        let codec = codec(protocol).with_counters(counters.clone());
        let mut out = Vec::new();
        codec.append_incr(7, &mut out);
        codec.append_create(7, &mut out);
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }
    let size = "list:8=1,9=1".parse().expect("a list");
    let keys = KeyFormat::sized(RUN_PREFIX, &size, 100);
    let codec = Codec::new(Protocol::Resp, keys.clone(), false);
    for number in 0..20 {
        let (mut out, text) = (Vec::new(), keys.text(number));
        codec.append_get(number, &mut out);
        let expected = format!("*2\r\n$3\r\nGET\r\n${}\r\n{text}\r\n", text.len());
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }
}

#[test]
fn writes_with_and_without_lifetimes_go_side_by_side() {
    let sizes = Sizes::PerKey(vec![1, 1]);
    let values = Values::new(1, 1, sizes, None, Protocol::Resp).with_key_ttls(vec![0, 7]);
    let codec = Codec::new(Protocol::Resp, KeyFormat::new(RUN_PREFIX, 8, 2), true);
    let (stamp, mut out) = (Stamp { version: 1, base: 1 }, Vec::new());
    codec.append_set(0, stamp, &values, &mut out);
    assert!(out.starts_with(b"*3\r\n$3\r\nSET\r\n$8\r\nkey:0000\r\n$1\r\n"));
    out.clear();
    codec.append_set(1, stamp, &values, &mut out);
    assert!(out.starts_with(b"*5\r\n$3\r\nSET\r\n$8\r\nkey:0001\r\n$1\r\n"));
    assert!(out.ends_with(b"\r\n$2\r\nEX\r\n$1\r\n7\r\n"));
}
