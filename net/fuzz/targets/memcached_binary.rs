//! Any stream of the binary protocol, cut anywhere, gives the same requests and refusals.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinion_net_fuzz::protocol::memcached::binary::{
    Command, Parse, Progress, parse, parse_open, without_value,
};
use pinion_net_fuzz::protocol::memcached::{KEY_BYTES_MAX, Limits};

fuzz_target!(|input: &[u8]| {
    let Some((cuts, stream)) = pinion_net_fuzz::split(input) else { return };
    for limits in [Limits::default(), Limits { value_bytes_max: 16, ..Limits::default() }] {
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
                    assert!(request.key.len() <= KEY_BYTES_MAX);
                    events.push(format!("{request:?}"));
                    if matches!(request.command, Command::Refused { closes: true, .. }) {
                        return (events, start);
                    }
                    consumed
                }
                Parse::Swallowed { consumed } => consumed,
                Parse::Incomplete { bytes_missing_min } => {
                    assert!(bytes_missing_min > 0);
                    let open = parse_open(bytes, &progress);
                    assert_eq!(open.map(|(_, block)| block), progress.open_block());
                    assert!(open.is_none() || without_value(bytes).is_some());
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
