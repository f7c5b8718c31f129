use super::*;

const LIMITS: Limits = Limits { value_bytes_max: 20, get_line_bytes_max: 2048 };

fn frame(opcode: u8, extras: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![MAGIC, opcode];
    bytes.extend((key.len() as u16).to_be_bytes());
    bytes.extend([extras.len() as u8, 0, 0, 0]);
    bytes.extend(((extras.len() + key.len() + value.len()) as u32).to_be_bytes());
    bytes.extend(b"opaq");
    bytes.extend(7u64.to_be_bytes());
    [&bytes[..], extras, key, value].concat()
}

fn whole(bytes: &[u8]) -> Request<'_> {
    match parse(bytes, &mut Progress::default(), &LIMITS) {
        Parse::Complete { request, consumed } => {
            assert_eq!(consumed, bytes.len());
            request
        }
        other => panic!("{other:?}"),
    }
}

fn refusal(bytes: &[u8]) -> (Status, bool) {
    match parse(bytes, &mut Progress::default(), &LIMITS) {
        Parse::Complete { request, .. } => match request.command {
            Command::Refused { status, closes } => (status, closes),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn commands_have_their_arguments() {
    let tag = |opcode| Tag { opcode, opaque: *b"opaq" };
    let expected = |opcode, is_quiet, key, command| Request {
        tag: tag(opcode),
        version: 7,
        is_quiet,
        key,
        command,
    };
    let set = Command::Store { verb: Verb::Set, flags: 5, exptime: 9, value: b"value" };
    let extras = [0, 0, 0, 5, 0, 0, 0, 9];
    assert_eq!(whole(&frame(0x01, &extras, b"k", b"value")), expected(0x01, false, b"k", set));
    assert_eq!(whole(&frame(0x11, &extras, b"k", b"value")), expected(0x11, true, b"k", set));
    for (opcode, is_quiet, with_key) in
        [(0x00, false, false), (0x09, true, false), (0x0C, false, true), (0x0D, true, true)]
    {
        let request = expected(opcode, is_quiet, b"a \0", Command::Get { with_key });
        assert_eq!(whole(&frame(opcode, b"", b"a \0", b"")), request);
    }
    for (opcode, is_quiet, with_key) in
        [(0x1D, false, false), (0x1E, true, false), (0x23, false, true), (0x24, true, true)]
    {
        let command = Command::GetAndTouch { exptime: 258, with_key };
        let request = expected(opcode, is_quiet, b"k", command);
        assert_eq!(whole(&frame(opcode, &[0, 0, 1, 2], b"k", b"")), request);
    }
    let mut extras = [0; 20];
    (extras[7], extras[15], extras[19]) = (3, 4, 5);
    let command = Command::Arithmetic { is_decrement: true, delta: 3, initial: Some((4, 5)) };
    assert_eq!(whole(&frame(0x06, &extras, b"k", b"")).command, command);
    extras[16..].fill(0xFF);
    let command = Command::Arithmetic { is_decrement: false, delta: 3, initial: None };
    assert_eq!(whole(&frame(0x15, &extras, b"k", b"")).command, command);
    for (bytes, command) in [
        (frame(0x04, b"", b"k", b""), Command::Delete),
        (frame(0x07, b"", b"", b""), Command::Quit),
        (frame(0x08, b"", b"", b""), Command::Flush { delay: 0 }),
        (frame(0x18, &[0, 0, 0, 3], b"", b""), Command::Flush { delay: 3 }),
        (frame(0x0A, b"", b"", b""), Command::Noop),
        (frame(0x0B, b"", b"", b""), Command::Version),
        (frame(0x0E, b"", b"k", b"v"), Command::Extend { is_prepend: false, value: b"v" }),
        (frame(0x1A, b"", b"k", b""), Command::Extend { is_prepend: true, value: b"" }),
        (frame(0x10, b"", b"settings", b""), Command::Stat),
        (frame(0x1B, &[0, 0, 0, 1], b"", b""), Command::Verbosity),
        (frame(0x1C, &[0, 0, 0, 1], b"k", b""), Command::Touch { exptime: 1 }),
        (frame(0x20, b"", b"", b""), Command::Mechanisms),
        (frame(0x21, b"", b"PLAIN", b"\0a\0b"), Command::Authenticate { message: b"\0a\0b" }),
        (frame(0x22, b"", b"PLAIN", b""), Command::Step { message: b"" }),
    ] {
        assert_eq!(whole(&bytes).command, command);
    }
}

#[test]
fn wrong_lengths_are_known_from_the_header_and_end_the_connection() {
    let invalid = (Status::InvalidArguments, true);
    for bytes in [
        frame(0x00, b"", b"", b""),
        frame(0x00, b"1234", b"k", b""),
        frame(0x00, b"", b"k", b"value"),
        frame(0x01, b"", b"k", b"value"),
        frame(0x01, b"12345678", b"", b"value"),
        frame(0x05, b"12345678", b"k", b""),
        frame(0x08, b"12", b"", b""),
        frame(0x08, b"", b"k", b""),
        frame(0x0A, b"", b"", b"v"),
        frame(0x0E, b"1", b"k", b"v"),
        frame(0x10, b"", b"k", b"v"),
        frame(0x1C, b"1234", b"k", b"v"),
        frame(0x21, b"", b"", b"v"),
        frame(0x00, b"", &[b'k'; 251], b""),
    ] {
        assert_eq!(refusal(&bytes[..HEADER_BYTES]), invalid);
    }
    let mut bytes = frame(0x00, b"", b"key", b"");
    bytes[11] = 2;
    assert_eq!(refusal(&bytes[..HEADER_BYTES]), (Status::UnknownCommand, true));
    let mut progress = Progress::default();
    let outcome = parse(b"get a\r\n", &mut progress, &LIMITS);
    assert_eq!(outcome, Parse::Close(CloseReason::NoMagic));
}

#[test]
fn what_is_refused_takes_its_body_along() {
    for (bytes, command, key) in [
        (
            frame(0x01, &[0; 8], b"k", &[b'v'; 21]),
            Command::StoreTooLarge { is_set: true },
            &b"k"[..],
        ),
        (frame(0x0E, b"", b"k", &[b'v'; 21]), Command::StoreTooLarge { is_set: false }, b"k"),
        (
            frame(0x1F, b"12", b"k", b"v"),
            Command::Refused { status: Status::UnknownCommand, closes: false },
            b"",
        ),
        (
            frame(0x21, b"", &[b'm'; 33], b"value"),
            Command::Refused { status: Status::InvalidArguments, closes: false },
            &[b'm'; 33],
        ),
        (
            frame(0x22, b"", b"m", &[0; MESSAGE_BYTES_MAX as usize + 1]),
            Command::Refused { status: Status::TooLarge, closes: false },
            b"m",
        ),
    ] {
        let stream = [&bytes[..], &frame(0x0A, b"", b"", b"")].concat();
        let (mut progress, mut at) = (Progress::default(), 0);
        let Parse::Complete { request, consumed } = parse(&stream, &mut progress, &LIMITS) else {
            panic!("refused requests are whole at once");
        };
        assert_eq!((request.command, request.key), (command, key));
        at += consumed;
        while at < bytes.len() {
            let end = (at + 3).min(bytes.len());
            match parse(&stream[at..end], &mut progress, &LIMITS) {
                Parse::Swallowed { consumed } => at += consumed,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(at, bytes.len());
        match parse(&stream[at..], &mut progress, &LIMITS) {
            Parse::Complete { request, .. } => assert_eq!(request.command, Command::Noop),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_value_that_is_arriving_can_be_taken_out() {
    let bytes = frame(0x01, &[0; 8], b"key", b"twelve bytes");
    let mut progress = Progress::default();
    for end in 0..bytes.len() {
        let outcome = parse(&bytes[..end], &mut progress, &LIMITS);
        assert!(matches!(outcome, Parse::Incomplete { bytes_missing_min: 1.. }), "{outcome:?}");
        let head = HEADER_BYTES + 8 + 3;
        assert_eq!(progress.open_block().is_some(), end >= head);
        if let Some((request, open)) = parse_open(&bytes[..end], &progress) {
            assert_eq!(
                (open.start as usize, open.length_bytes, request.key),
                (head, 12, &b"key"[..])
            );
            let Command::Store { value, .. } = request.command else { panic!("a store") };
            assert_eq!(value, &bytes[head..end]);
            let empty = without_value(&bytes[..end]).expect("the head is there");
            assert_eq!(empty, frame(0x01, &[0; 8], b"key", b""));
        } else {
            assert!(end < head);
        }
    }
    assert_eq!(without_value(&bytes[..30]), None);
}
