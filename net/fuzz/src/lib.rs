//! The protocols for the fuzz targets, built without the rest of the server, so that the fuzzer
//! is built fast and its coverage speaks of the parsers alone.
//!
//! `run` in this folder runs them all; the README has more.

#[path = "../../src/protocol/mod.rs"]
pub mod protocol;

/// An input is a list of cuts and a stream: its first byte says how many of the next bytes are
/// lengths of pieces; what follows them is the stream.
///
/// Returns the stream and the increasing places to which it has arrived, the last its end.
#[must_use]
pub fn split(input: &[u8]) -> Option<(Vec<usize>, &[u8])> {
    let (&count, rest) = input.split_first()?;
    let (lengths, stream) = rest.split_at_checked(usize::from(count % 32))?;
    let mut arrived = 0;
    let mut cuts: Vec<usize> = lengths
        .iter()
        .map(|&length| {
            arrived = stream.len().min(arrived + usize::from(length));
            arrived
        })
        .collect();
    cuts.push(stream.len());
    Some((cuts, stream))
}
