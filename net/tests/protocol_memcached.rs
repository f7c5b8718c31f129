//! The parser of memcached's text protocol against a naive one, on random, mutated and torn
//! streams.
//!
//! The reference splits a line into a vector of words and works on those; it starts over at every
//! request and keeps no state. Both sides describe what they find in the same words.

#[path = "protocol_support/memcached_reference.rs"]
mod reference;
#[path = "protocol_support/mod.rs"]
mod support;

use pinion_net::protocol::memcached::{
    Administration, Limits, Meta, MetaData, Parse, Progress, Request, Store, StoreVerb,
    WAIT_MS_MAX, parse, parse_flags, parse_open,
};
use proptest::prelude::*;
use support::Random;

/// Streams of the randomized test.
const STREAMS: usize = 250_000;

/// Small enough for every limit to be met often.
const SMALL: Limits = Limits { value_bytes_max: 20, get_line_bytes_max: 4000 };

/// What a stream amounts to: a description of each request or refusal, and where whole requests
/// end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    events: Vec<String>,
    consumed: usize,
}

fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn show_all<'a>(words: impl IntoIterator<Item = &'a [u8]>) -> String {
    words.into_iter().map(|word| format!("[{}]", show(word))).collect()
}

fn describe(request: &Request<'_>) -> String {
    let noreply = if request.noreply() { " quiet" } else { "" };
    let body = match request {
        Request::Get { keys, with_version } => {
            assert_eq!(keys.len(), keys.count());
            format!("get {} {with_version}", show_all(*keys))
        }
        Request::GetAndTouch { exptime, keys, with_version } => {
            format!("gat {exptime} {} {with_version}", show_all(*keys))
        }
        Request::Store(Store { verb, key, flags, exptime, data, .. }) => {
            let (verb, version) = describe_verb(*verb);
            format!("{verb} [{}] {flags} {exptime} {version} <{}>", show(key), show(data))
        }
        Request::StoreTooLarge { verb, key, .. } => {
            format!("{} [{}] too large", describe_verb(*verb).0, show(key))
        }
        Request::Delete { key, .. } => format!("delete [{}]", show(key)),
        Request::Arithmetic { is_decrement: false, key, delta, .. } => {
            format!("incr [{}] {delta}", show(key))
        }
        Request::Arithmetic { key, delta, .. } => format!("decr [{}] {delta}", show(key)),
        Request::Touch { key, exptime, .. } => format!("touch [{}] {exptime}", show(key)),
        Request::FlushAll { delay, .. } => format!("flush_all {delay}"),
        Request::Version => "version".into(),
        Request::Verbosity { level, .. } => format!("verbosity {level}"),
        Request::Stats { args } => format!("stats {}", show_all(*args)),
        Request::Quit => "quit".into(),
        Request::Administration { verb, args, .. } => {
            let name = match verb {
                Administration::Shutdown => "shutdown",
                Administration::MemoryLimit => "cache_memlimit",
                Administration::Slabs => "slabs",
                Administration::Lru => "lru",
                Administration::LruCrawler => "lru_crawler",
                Administration::Watch => "watch",
            };
            format!("{name} {}", show_all(*args))
        }
        Request::MetaNoop => "mn".into(),
        Request::Meta(Meta { verb, key, flags, data }) => {
            let data = match data {
                MetaData::None => String::new(),
                MetaData::Block(data) => format!(" <{}>", show(data)),
                MetaData::TooLarge { .. } => " too large".into(),
            };
            format!("{verb:?} [{}] {}{data}", show(key), show_all(*flags))
        }
    };
    format!("{body}{noreply}")
}

fn describe_verb(verb: StoreVerb) -> (&'static str, u64) {
    match verb {
        StoreVerb::Set => ("set", 0),
        StoreVerb::Add => ("add", 0),
        StoreVerb::Replace => ("replace", 0),
        StoreVerb::Append => ("append", 0),
        StoreVerb::Prepend => ("prepend", 0),
        StoreVerb::Cas { version } => ("cas", version),
    }
}

/// Feeds `stream` up to each of `cuts` in turn, as a connection would.
fn run(stream: &[u8], cuts: &[usize], limits: &Limits) -> Outcome {
    let mut outcome = Outcome::default();
    let mut progress = Progress::default();
    let mut complete_at_least = 0;
    for &arrived in cuts {
        loop {
            let bytes = &stream[outcome.consumed..arrived];
            let consumed = match parse(bytes, &mut progress, limits) {
                Parse::Complete { request, consumed } => {
                    outcome.events.push(describe(&request));
                    consumed
                }
                Parse::Refused { error, noreply, consumed } => {
                    let quiet = if noreply { " quiet" } else { "" };
                    outcome.events.push(format!("refused {error}{quiet}"));
                    consumed
                }
                Parse::Swallowed { consumed } => {
                    // What is missing is dropped piece by piece as it comes.
                    complete_at_least = 0;
                    consumed
                }
                Parse::Incomplete { bytes_missing_min } => {
                    assert!(bytes_missing_min > 0);
                    complete_at_least = arrived + bytes_missing_min;
                    check_open(bytes, &progress);
                    break;
                }
                Parse::Close(reason) => {
                    outcome.events.push(format!("close {reason:?}"));
                    return outcome;
                }
            };
            assert!(consumed > 0);
            outcome.consumed += consumed;
            assert!(outcome.consumed >= complete_at_least, "less was missing than promised");
        }
    }
    outcome
}

fn check_open(bytes: &[u8], progress: &Progress) {
    let Some((request, block)) = parse_open(bytes, progress) else {
        assert_eq!(progress.open_block(), None);
        return;
    };
    assert_eq!(progress.open_block(), Some(block));
    let arrived = &bytes[block.start as usize..];
    let arrived = &arrived[..arrived.len().min(block.length_bytes as usize)];
    match request {
        Request::Store(Store { data, .. })
        | Request::Meta(Meta { data: MetaData::Block(data), .. }) => assert_eq!(data, arrived),
        other => panic!("a request without data is open: {other:?}"),
    }
}

fn random_key(random: &mut Random) -> Vec<u8> {
    match random.below(12) {
        0 => vec![b'k'; 250],
        1 => vec![b'k'; 251],
        2 => b"\xC3\xA9\x80\xFF".to_vec(),
        3 => b"a\tb".to_vec(),
        _ => {
            let length = 1 + random.below(12);
            random.bytes_of(b"abc:0", length)
        }
    }
}

fn random_number(random: &mut Random) -> Vec<u8> {
    const NUMBERS: &[&str] = &[
        "0",
        "1",
        "-1",
        "+5",
        "007",
        "21",
        "x",
        "1x",
        "-",
        "noreply",
        "2147483645",
        "2147483646",
        "4294967295",
        "4294967296",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775808",
        "-9223372036854775809",
    ];
    random.pick(NUMBERS).as_bytes().to_vec()
}

fn random_words(random: &mut Random, command: &str) -> Vec<Vec<u8>> {
    let mut words = vec![command.as_bytes().to_vec()];
    let count = match command {
        "get" | "gets" | "gat" | "gats" if random.one_in(200) => 400,
        "mg" | "ms" | "md" | "ma" | "me" if random.one_in(10) => 17 + random.below(4),
        _ => random.below(5),
    };
    for place in 0..count {
        let word = match random.below(8) {
            0 => b"noreply".to_vec(),
            1 => random.pick(&[&b"HTTP/1.1"[..], b"reset", b"t", b"Oabc"]).to_vec(),
            2 | 3 => random_number(random),
            _ if place > 0 && count < 6 => random_number(random),
            _ => random_key(random),
        };
        words.push(word);
    }
    words
}

fn random_request(random: &mut Random) -> Vec<u8> {
    const COMMANDS: &[&str] = &[
        "get",
        "gets",
        "gat",
        "bget",
        "shutdown",
        "cache_memlimit",
        "slabs",
        "lru",
        "lru_crawler",
        "watch",
        "gats",
        "delete",
        "incr",
        "decr",
        "touch",
        "flush_all",
        "version",
        "verbosity",
        "stats",
        "quit",
        "mn",
        "mg",
        "ms",
        "md",
        "ma",
        "me",
        "GET",
        "",
        "set",
        "cas",
    ];
    const STORES: &[&str] = &["set", "set", "add", "replace", "append", "prepend", "cas", "ms"];
    let mut data = None;
    let words = if random.one_in(2) {
        let command = random.pick(COMMANDS);
        random_words(random, command)
    } else {
        let command = random.pick(STORES);
        let mut words = vec![command.as_bytes().to_vec(), random_key(random)];
        if command != "ms" {
            for _ in 0..2 {
                let number = if random.one_in(6) { random_number(random) } else { b"0".to_vec() };
                words.push(number);
            }
        }
        let length = random.below(24);
        words.push(length.to_string().into_bytes());
        if command == "cas" {
            words.push(if random.one_in(6) { random_number(random) } else { b"17".to_vec() });
        }
        if random.one_in(3) {
            words.push(b"noreply".to_vec());
        }
        data = Some(random.bytes_of(b"ab \r\n\0", length));
        words
    };
    let mut request = words.join(random.pick(&[&b" "[..], b" ", b" ", b"  "]));
    request.extend_from_slice(random.pick(&[&b"\r\n"[..], b"\r\n", b"\n", b" \r\n"]));
    if let Some(data) = data {
        request.extend(data);
        request.extend_from_slice(random.pick(&[&b"\r\n"[..], b"\r\n", b"\r\n", b"\n", b"x\r\n"]));
    }
    request
}

#[test]
fn random_and_mutated_streams_agree_with_the_reference() {
    let mut random = Random::from_environment("protocol_memcached");
    let (mut refused, mut accepted, mut closed) = (0, 0, 0);
    for round in 0..STREAMS {
        let mut stream = Vec::new();
        for _ in 0..=random.below(3) {
            stream.extend(random_request(&mut random));
        }
        if random.one_in(2) {
            random.mutate(&mut stream);
        }
        let limits = if random.one_in(2) { SMALL } else { Limits::default() };
        let want = reference::run(&stream, &limits);
        let whole = run(&stream, &[stream.len()], &limits);
        assert_eq!(whole, want, "round {round}: {}", show(&stream));
        let cuts = random.cuts(stream.len());
        let torn = run(&stream, &cuts, &limits);
        assert_eq!(torn, want, "round {round}, cut at {cuts:?}: {}", show(&stream));
        for event in &want.events {
            match event.split(' ').next() {
                Some("refused") => refused += 1,
                Some("close") => closed += 1,
                _ => accepted += 1,
            }
        }
    }
    // Neither side of the parser may go untested.
    assert!(refused > STREAMS / 4, "{refused}");
    assert!(accepted > STREAMS / 4, "{accepted}");
    assert!(closed > STREAMS / 250, "{closed}");
}

#[test]
fn every_single_cut_of_a_stream_gives_the_same() {
    let stream = b"set k 1 2 3 noreply\r\na\nb\r\nget k  kk\nset k 0 0 9999999\r\nx";
    let mut too_large = b"version\r\nadd key 0 0 21\r\n123456789 123456789 1\r\nmn\r\n".to_vec();
    too_large.extend_from_slice(b"ms k 2 t\r\nab\r\nset k 0 0 2\r\nabc\r\nx HTTP/1.0\r\n");
    for stream in [&stream[..], &too_large] {
        let want = reference::run(stream, &SMALL);
        assert!(want.events.len() >= 3, "{want:?}");
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let cuts = [first, second, stream.len()];
                assert_eq!(run(stream, &cuts, &SMALL), want, "{cuts:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn stores_come_back_from_any_cut(
        stores in prop::collection::vec(
            (
                prop::collection::vec(0x80_u8.., 1..=250),
                any::<u32>(),
                any::<i64>(),
                prop::collection::vec(any::<u8>(), 0..300),
                any::<bool>(),
            ),
            1..6,
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut stream = Vec::new();
        let mut events = Vec::new();
        for (key, flags, exptime, data, noreply) in &stores {
            let tail = if *noreply { " noreply" } else { "" };
            stream.extend_from_slice(b"set ");
            stream.extend_from_slice(key);
            stream.extend(format!(" {flags} {exptime} {}{tail}\r\n", data.len()).into_bytes());
            stream.extend_from_slice(data);
            stream.extend_from_slice(b"\r\n");
            let store = Store {
                verb: StoreVerb::Set,
                key,
                flags: *flags,
                exptime: *exptime,
                data,
                noreply: *noreply,
            };
            events.push(describe(&Request::Store(store)));
        }
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        cuts.push(stream.len());
        cuts.sort_unstable();
        let outcome = run(&stream, &cuts, &Limits::default());
        prop_assert_eq!(outcome, Outcome { events, consumed: stream.len() });
    }
}

/// The flags of meta commands, as random words: none panics, and a key that is taken is one.
#[test]
fn random_flags_of_meta_commands_are_taken_or_refused() {
    const LETTERS: &[u8] = b"vkstcfhluqxIPLObNTRCEFMJDwS?";
    let mut random = Random::from_environment("random_flags_of_meta_commands");
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..200_000 {
        let length = 1 + random.below(12);
        let mut line = b"mg ".to_vec();
        line.extend(random.bytes_of(b"Zm9vYg==abc-/+", length).into_iter().chain([b'A']));
        for _ in 0..random.below(5) {
            line.push(b' ');
            line.push(random.pick(LETTERS));
            if random.one_in(2) {
                line.extend(random_number(&mut random));
            }
        }
        line.extend_from_slice(b"\r\n");
        let outcome = parse(&line, &mut Progress::default(), &Limits::default());
        let Parse::Complete { request: Request::Meta(meta), .. } = outcome else { continue };
        let mut decoded = None;
        match parse_flags(meta.key, meta.flags, &mut decoded) {
            Ok((flags, key)) => {
                taken += 1;
                assert!((1..=250).contains(&key.len()), "{}", show(&line));
                assert!(flags.has(b'b') || key == meta.key, "{}", show(&line));
                assert!(flags.wait_ms <= WAIT_MS_MAX, "{}", show(&line));
            }
            Err(error) => {
                refused += 1;
                assert!(error.text().starts_with("CLIENT_ERROR "));
            }
        }
    }
    assert!(taken > 20_000 && refused > 20_000, "{taken} {refused}");
}
