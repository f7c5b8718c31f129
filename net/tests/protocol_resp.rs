//! The RESP parser against a naive one, on random, mutated and torn streams.
//!
//! The reference is written for plainness: it starts over at every frame and every byte, copies
//! what it finds, and keeps no state. The parser must find the same commands, end with the same
//! error, and leave the same rest, however the stream is cut.

#[path = "protocol_support/resp_reference.rs"]
mod reference;
#[path = "protocol_support/mod.rs"]
mod support;

use pinion_net::protocol::resp::{Args, Limits, Parse, Progress, parse, parse_open};
use proptest::prelude::*;
use support::Random;

/// Streams of the randomized test.
const STREAMS: usize = 250_000;

type Command = Vec<Vec<u8>>;

/// What a stream amounts to: its commands, and how it ends.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    commands: Vec<Command>,
    error: Option<String>,
    /// Bytes consumed by whole frames.
    consumed: usize,
}

/// Small enough for every limit to be met often.
const SMALL: Limits = Limits {
    args_max: 12,
    bulk_bytes_max: 150,
    inline_bytes_max: 40,
    frame_bytes_max: 300,
    unauthenticated: false,
};

/// Feeds `stream` up to each of `cuts` in turn, as a connection would.
fn run(stream: &[u8], cuts: &[usize], limits: &Limits, args: &mut Args) -> Outcome {
    let mut outcome = Outcome::default();
    let mut progress = Progress::default();
    let mut complete_at_least = 0;
    for &arrived in cuts {
        loop {
            let bytes = &stream[outcome.consumed..arrived];
            match parse(bytes, &mut progress, args, limits) {
                Parse::Complete { consumed } => {
                    assert!(consumed > 0);
                    let end = outcome.consumed + consumed;
                    assert!(end >= complete_at_least, "less was missing than promised");
                    assert_eq!(progress, Progress::default());
                    let command: Command =
                        args.iter_from(&bytes[..consumed], 0).map(<[u8]>::to_vec).collect();
                    check_args(&command, args, &bytes[..consumed]);
                    if !command.is_empty() {
                        outcome.commands.push(command);
                    }
                    outcome.consumed = end;
                }
                Parse::Incomplete { bytes_missing_min } => {
                    assert!(bytes_missing_min > 0);
                    complete_at_least = complete_at_least.max(arrived + bytes_missing_min);
                    check_open(bytes, &progress, args);
                    break;
                }
                Parse::Error(error) => {
                    let mut reply = Vec::new();
                    error.write_reply(&mut reply);
                    let text = reply
                        .strip_prefix(b"-ERR Protocol error: ")
                        .and_then(|text| text.strip_suffix(b"\r\n"))
                        .expect("an error reply");
                    outcome.error = Some(text.escape_ascii().to_string());
                    return outcome;
                }
            }
        }
    }
    outcome
}

fn check_args(command: &Command, args: &Args, frame: &[u8]) {
    assert_eq!(args.len(), command.len());
    assert_eq!(args.get(frame, command.len()), None);
    for (index, want) in command.iter().enumerate() {
        assert_eq!(args.get(frame, index), Some(&want[..]));
        if let Some(range) = args.frame_range(index) {
            assert_eq!(range.of(frame), want);
        }
    }
}

fn check_open(bytes: &[u8], progress: &Progress, args: &mut Args) {
    let before = *progress;
    let open = parse_open(bytes, progress, args);
    assert_eq!(*progress, before);
    assert_eq!(open, progress.open_bulk());
    if let Some(open) = open {
        assert_eq!(args.len(), open.arg_index as usize);
        assert!(open.arg_index < open.arg_count);
        assert!(open.start as usize <= bytes.len());
        assert!(open.start as usize + open.length_bytes as usize + 2 > bytes.len());
    }
}

fn encode(command: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", command.len()).into_bytes();
    for arg in command {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn random_frame(random: &mut Random) -> Vec<u8> {
    const SHORT: &[usize] = &[0, 1, 2, 3, 8, 9, 10, 11];
    const LONG: &[usize] = &[40, 99, 100, 149, 150, 151];
    if random.one_in(3) {
        let length = random.below(30);
        let mut line = random.bytes_of(b"aB \t\"'\\x41n\x0B\r", length);
        line.extend_from_slice(random.pick(&[&b"\r\n"[..], b"\n"]));
        return line;
    }
    if random.one_in(12) {
        let counts = ["0", "-1", "13", "01", "+1", "", "99999999999", "-9223372036854775808"];
        return format!("*{}\r\n", random.pick(&counts)).into_bytes();
    }
    let count = random.pick(&[1, 2, 2, 3, 3, 5, 9, 12]);
    let command: Command = (0..count)
        .map(|_| {
            let lengths = if random.one_in(8) { LONG } else { SHORT };
            let length = random.pick(lengths);
            random.bytes_of(b"key$*\r\n:0\0", length)
        })
        .collect();
    encode(&command)
}

#[test]
fn random_and_mutated_streams_agree_with_the_reference() {
    let mut random = Random::from_environment("protocol_resp");
    let mut args = Args::new();
    let (mut errors, mut commands) = (0, 0);
    for round in 0..STREAMS {
        let mut stream = Vec::new();
        for _ in 0..=random.below(3) {
            stream.extend(random_frame(&mut random));
        }
        if random.one_in(2) {
            random.mutate(&mut stream);
        }
        let limits = if random.one_in(2) { SMALL } else { Limits::default() };
        let want = reference::run(&stream, &limits);
        let shown = || format!("round {round}: {}", stream.escape_ascii());
        let whole = run(&stream, &[stream.len()], &limits, &mut args);
        assert_eq!(whole, want, "{}", shown());
        let cuts = random.cuts(stream.len());
        let torn = run(&stream, &cuts, &limits, &mut args);
        assert_eq!(torn, want, "cut at {cuts:?}, {}", shown());
        errors += usize::from(want.error.is_some());
        commands += want.commands.len();
    }
    // Neither side of the parser may go untested.
    assert!(errors > STREAMS / 20, "{errors}");
    assert!(commands > STREAMS / 2, "{commands}");
}

#[test]
fn every_single_cut_of_a_stream_gives_the_same() {
    let stream = [
        &b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$11\r\nhello\r\nwor\n\r\n"[..],
        b"*0\r\n\r\n*-1\r\nGET 'a \\' key' \"\\x00\\n\"\r\nPING\n",
        b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n*1\r\n$x\r\n",
    ]
    .concat();
    let limits = Limits::default();
    let want = reference::run(&stream, &limits);
    assert_eq!(want.commands.len(), 4);
    assert_eq!(want.error.as_deref(), Some("invalid bulk length"));
    let mut args = Args::new();
    for first in 0..=stream.len() {
        for second in first..=stream.len() {
            let cuts = [first, second, stream.len()];
            assert_eq!(run(&stream, &cuts, &limits, &mut args), want, "{cuts:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn commands_come_back_from_any_cut(
        commands in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20),
            1..6,
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let stream = commands.iter().map(|command| encode(command)).collect::<Vec<_>>().concat();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        cuts.push(stream.len());
        cuts.sort_unstable();
        let outcome = run(&stream, &cuts, &Limits::default(), &mut Args::new());
        let want = Outcome { commands, error: None, consumed: stream.len() };
        prop_assert_eq!(outcome, want);
    }
}
