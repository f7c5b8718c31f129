//! The parser of memcached's binary protocol on random, mutated and torn streams: whatever the
//! cuts, it finds what a naive reading of the whole stream finds.

#[path = "protocol_support/mod.rs"]
mod support;

use pinion_net::protocol::memcached::Limits;
use pinion_net::protocol::memcached::binary::{
    Command, HEADER_BYTES, MAGIC, MESSAGE_BYTES_MAX, Parse, Progress, parse, parse_open,
};
use support::Random;

/// Streams of the randomized test.
const STREAMS: usize = 200_000;
/// Small enough for the limit to be met often.
const SMALL: Limits = Limits { value_bytes_max: 20, get_line_bytes_max: 2_048 };

/// What a stream amounts to: each request, and where whole requests end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    events: Vec<String>,
    consumed: usize,
}

fn show(opcode: u8, key: &[u8], rest: &str) -> String {
    format!("{opcode:#x} [{}] {rest}", key.escape_ascii())
}

/// Feeds `stream` up to each of `cuts` in turn, as a connection would.
fn run(stream: &[u8], cuts: &[usize]) -> Outcome {
    let mut outcome = Outcome::default();
    let mut progress = Progress::default();
    let mut complete_at_least = 0;
    for &arrived in cuts {
        loop {
            let bytes = &stream[outcome.consumed..arrived];
            match parse(bytes, &mut progress, &SMALL) {
                Parse::Complete { request, consumed } => {
                    assert!(outcome.consumed + consumed >= complete_at_least, "missing too many");
                    let value_bytes = match request.command {
                        Command::Store { value, .. } | Command::Extend { value, .. } => value.len(),
                        Command::Authenticate { message } | Command::Step { message } => {
                            message.len()
                        }
                        _ => 0,
                    };
                    let what = match request.command {
                        Command::Refused { status, closes } => format!("{status:?} {closes}"),
                        Command::StoreTooLarge { .. } => "too large".into(),
                        _ => format!("{value_bytes}"),
                    };
                    outcome.events.push(show(request.tag.opcode, request.key, &what));
                    outcome.consumed += consumed;
                    if matches!(request.command, Command::Refused { closes: true, .. }) {
                        return outcome;
                    }
                }
                Parse::Swallowed { consumed } => {
                    assert!(consumed > 0);
                    outcome.consumed += consumed;
                }
                Parse::Incomplete { bytes_missing_min } => {
                    assert!(bytes_missing_min > 0);
                    complete_at_least = arrived + bytes_missing_min;
                    let open = parse_open(bytes, &progress);
                    assert_eq!(open.map(|(_, block)| block), progress.open_block());
                    break;
                }
                Parse::Close(reason) => {
                    outcome.events.push(reason.to_string());
                    return outcome;
                }
            }
        }
    }
    outcome
}

/// Reads a whole stream from its first byte, by the table of the protocol's text.
fn reference(stream: &[u8]) -> Outcome {
    let mut outcome = Outcome::default();
    loop {
        let bytes = &stream[outcome.consumed..];
        if bytes.first().is_some_and(|&byte| byte != MAGIC) {
            outcome.events.push("no request of the binary protocol".into());
            return outcome;
        }
        if bytes.len() < HEADER_BYTES {
            return outcome;
        }
        let number = |from: usize, to: usize| {
            bytes[from..to].iter().fold(0usize, |number, &byte| number << 8 | usize::from(byte))
        };
        let (opcode, key_bytes, extras_bytes, body_bytes) =
            (bytes[1], number(2, 4), number(4, 5), number(8, 12));
        let mut refuse = |text: &str| outcome.events.push(show(opcode, b"", text));
        if key_bytes + extras_bytes > body_bytes {
            refuse("UnknownCommand true");
            outcome.consumed += HEADER_BYTES;
            return outcome;
        }
        let value_bytes = body_bytes - key_bytes - extras_bytes;
        // Bytes of extras; whether there is a key, and whether there may be a value.
        let wants: Option<(&[usize], Option<bool>, bool)> = match opcode {
            0x00 | 0x04 | 0x09 | 0x0C | 0x0D | 0x14 => Some((&[0], Some(true), false)),
            0x01..=0x03 | 0x11..=0x13 => Some((&[8], Some(true), true)),
            0x05 | 0x06 | 0x15 | 0x16 => Some((&[20], Some(true), false)),
            0x07 | 0x0A | 0x0B | 0x17 | 0x20 => Some((&[0], Some(false), false)),
            0x08 | 0x18 => Some((&[0, 4], Some(false), false)),
            0x0E | 0x0F | 0x19 | 0x1A | 0x21 | 0x22 => Some((&[0], Some(true), true)),
            0x10 => Some((&[0], None, false)),
            0x1B => Some((&[4], Some(false), false)),
            0x1C..=0x1E | 0x23 | 0x24 => Some((&[4], Some(true), false)),
            _ => None,
        };
        let fits = wants.map(|(extras, has_key, may_have_value)| {
            extras.contains(&extras_bytes)
                && has_key.is_none_or(|has_key| has_key == (key_bytes > 0))
                && (may_have_value || value_bytes == 0)
        });
        if key_bytes > 250 || fits == Some(false) {
            refuse("InvalidArguments true");
            outcome.consumed += HEADER_BYTES;
            return outcome;
        }
        let head_bytes = HEADER_BYTES + extras_bytes + key_bytes;
        let is_sasl = matches!(opcode, 0x21 | 0x22);
        let value_bytes_max = if is_sasl { MESSAGE_BYTES_MAX } else { SMALL.value_bytes_max };
        let is_too_large = value_bytes > value_bytes_max as usize;
        let is_refused = fits.is_none() || is_too_large || (is_sasl && key_bytes > 32);
        let needed = match (fits, is_refused) {
            (None, _) => HEADER_BYTES,
            (_, true) => head_bytes,
            _ => head_bytes + value_bytes,
        };
        if bytes.len() < needed {
            return outcome;
        }
        let event = match fits {
            None => show(opcode, b"", "UnknownCommand false"),
            Some(_) => {
                let key = &bytes[HEADER_BYTES + extras_bytes..head_bytes];
                let what = match (is_sasl, key_bytes > 32, is_too_large) {
                    (true, true, _) => "InvalidArguments false".into(),
                    (true, false, true) => "TooLarge false".into(),
                    (false, _, true) => "too large".into(),
                    _ => value_bytes.to_string(),
                };
                show(opcode, key, &what)
            }
        };
        outcome.events.push(event);
        outcome.consumed += (HEADER_BYTES + body_bytes).min(bytes.len());
    }
}

fn frame(random: &mut Random) -> Vec<u8> {
    let opcode = random.below(0x27) as u8;
    let extras_bytes = match opcode {
        0x01..=0x03 | 0x11..=0x13 => 8,
        0x05 | 0x06 | 0x15 | 0x16 => 20,
        0x18 | 0x1B..=0x1E | 0x23 | 0x24 => 4,
        _ => 0,
    };
    let extras_bytes = if random.one_in(30) { random.below(30) } else { extras_bytes };
    let has_key = !matches!(opcode, 0x07 | 0x08 | 0x0A | 0x0B | 0x17 | 0x18 | 0x1B | 0x20);
    let key_bytes = match (random.below(30), has_key) {
        (0, _) => random.below(300),
        (_, true) => 1 + random.below(8),
        (_, false) => 0,
    };
    let has_value =
        matches!(opcode, 0x01..=0x03 | 0x0E | 0x0F | 0x11..=0x13 | 0x19..=0x1A | 0x21 | 0x22);
    let value_bytes = match (random.below(30), has_value) {
        (0, _) => random.below(60),
        (_, true) => random.below(24),
        (_, false) => 0,
    };
    let body_bytes = extras_bytes + key_bytes + value_bytes;
    let mut bytes = vec![MAGIC, opcode];
    bytes.extend((key_bytes as u16).to_be_bytes());
    bytes.extend([extras_bytes as u8, 0, 0, 0]);
    bytes.extend((body_bytes as u32).to_be_bytes());
    bytes.extend(random.bytes_of(b"\0\x01\x80\xFFa", 12 + body_bytes));
    bytes
}

#[test]
fn any_stream_cut_anywhere_is_what_a_naive_reading_finds() {
    let mut random = Random::from_environment("any_stream_cut_anywhere");
    let (mut requests, mut whole) = (0, 0);
    for _ in 0..STREAMS {
        let mut stream = Vec::new();
        for _ in 0..=random.below(5) {
            stream.extend(frame(&mut random));
        }
        if random.one_in(3) {
            random.mutate(&mut stream);
        }
        let expected = reference(&stream);
        let cuts = random.cuts(stream.len());
        for cuts in [&[stream.len()][..], &cuts] {
            assert_eq!(run(&stream, cuts), expected, "{} cut at {cuts:?}", stream.escape_ascii());
        }
        requests += expected.events.len();
        whole += usize::from(expected.consumed == stream.len());
    }
    // The generator does what it is meant to do.
    assert!(requests > STREAMS && whole > STREAMS / 4, "{requests} {whole}");
}
