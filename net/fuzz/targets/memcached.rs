//! Any stream, cut anywhere, gives the same requests and refusals.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinion_net_fuzz::protocol::memcached::{
    KEY_BYTES_MAX, Limits, Parse, Progress, Request, parse, parse_flags, parse_open,
};

fuzz_target!(|input: &[u8]| {
    let Some((cuts, stream)) = pinion_net_fuzz::split(input) else { return };
    for limits in [Limits::default(), Limits { value_bytes_max: 16, get_line_bytes_max: 2100 }] {
        assert_eq!(run(stream, &[stream.len()], &limits), run(stream, &cuts, &limits));
    }
});

fn run(stream: &[u8], cuts: &[usize], limits: &Limits) -> (Vec<String>, usize) {
    let mut progress = Progress::default();
    let mut events = Vec::new();
    let mut start = 0;
    for &arrived in cuts {
        loop {
            let bytes = &stream[start..arrived];
            let consumed = match parse(bytes, &mut progress, limits) {
                Parse::Complete { request, consumed } => {
                    if let Request::Get { keys, .. } = &request {
                        let mut keys = *keys;
                        assert!(keys.all(|key| (1..=KEY_BYTES_MAX).contains(&key.len())));
                    }
                    if let Request::Meta(meta) = &request {
                        let mut decoded = None;
                        if let Ok((_, key)) = parse_flags(meta.key, meta.flags, &mut decoded) {
                            assert!((1..=KEY_BYTES_MAX).contains(&key.len()));
                        }
                    }
                    events.push(format!("{request:?}"));
                    consumed
                }
                Parse::Refused { error, noreply, consumed } => {
                    events.push(format!("{error} {noreply}"));
                    consumed
                }
                Parse::Swallowed { consumed } => consumed,
                Parse::Incomplete { bytes_missing_min } => {
                    assert!(bytes_missing_min > 0);
                    let open = parse_open(bytes, &progress);
                    assert_eq!(open.map(|(_, block)| block), progress.open_block());
                    break;
                }
                Parse::Close(reason) => {
                    events.push(reason.to_string());
                    return (events, start);
                }
            };
            assert!(consumed > 0);
            start += consumed;
        }
    }
    (events, start)
}
