//! Any stream, cut anywhere, gives the same commands and the same error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinion_net_fuzz::protocol::resp::{Args, Limits, Parse, Progress, parse, parse_open};

fuzz_target!(|input: &[u8]| {
    let Some((cuts, stream)) = pinion_net_fuzz::split(input) else { return };
    for limits in [
        Limits::default(),
        Limits {
            args_max: 8,
            bulk_bytes_max: 64,
            inline_bytes_max: 32,
            frame_bytes_max: 128,
            unauthenticated: input.len().is_multiple_of(2),
        },
    ] {
        assert_eq!(run(stream, &[stream.len()], &limits), run(stream, &cuts, &limits));
    }
});

fn run(
    stream: &[u8],
    cuts: &[usize],
    limits: &Limits,
) -> (Vec<Vec<Vec<u8>>>, Option<String>, usize) {
    let (mut progress, mut args) = (Progress::default(), Args::new());
    let mut commands = Vec::new();
    let mut start = 0;
    for &arrived in cuts {
        loop {
            let bytes = &stream[start..arrived];
            match parse(bytes, &mut progress, &mut args, limits) {
                Parse::Complete { consumed } => {
                    assert!(consumed > 0);
                    commands.push(args.iter_from(bytes, 0).map(<[u8]>::to_vec).collect());
                    start += consumed;
                }
                Parse::Incomplete { bytes_missing_min } => {
                    assert!(bytes_missing_min > 0);
                    let open = parse_open(bytes, &progress, &mut args);
                    assert_eq!(open, progress.open_bulk());
                    break;
                }
                Parse::Error(error) => return (commands, Some(error.to_string()), start),
            }
        }
    }
    (commands, None, start)
}
