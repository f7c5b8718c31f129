//! Benchmarks of single layers, without sockets: the turn, its phases, parsers and encoders.
//!
//! ```text
//! frames --> MemoryTransport --> Core::turn --> replies, counted in bytes
//!   (prepared outside of the measured time)
//! ```
//!
//! - `frames`: requests as bytes, and how long their replies are
//! - `memory_transport`: the transport that hands them to a core
//! - `rig`: a core on it, filled and driven
//! - `turn` and `phases`: what a command costs, in a whole turn and layer by layer
//! - `commands`: what each command costs, one after the other
//! - `parsers`: what parsing a request and encoding a reply cost
//!
//! Invariants:
//!
//! - Only the code under test runs while the clock does: requests are written before, replies are
//!   judged by their length, which tells hits, misses and errors apart.
//! - The clock is that of the thread's processor time. What the kernel and other processes do in
//!   between is not in it; what they do to caches and to the clock rate is, so that the smallest
//!   round of several counts as much as the median.
//! - A benchmark that sees a miss, an error or an eviction where it expects hits fails.

use std::fmt;
use std::io;
use std::path::Path;

use pinion_engine::EngineError;
use serde_json::{Value, json};

mod commands;
mod frames;
mod memory_transport;
mod parsers;
mod phases;
mod rig;
mod turn;

pub use commands::CommandsOptions;
pub use frames::Frames;
pub use memory_transport::{MemoryLoan, MemorySocket, MemoryTransport, Peer, Wrong};
pub use parsers::{Measured, ParserOptions};
pub use rig::{Rig, RigOptions};
pub use turn::TurnOptions;

/// Why a benchmark of a layer ended early.
#[derive(Debug)]
pub enum LayerError {
    /// The command line contradicts itself.
    Usage(String),
    /// The shard cannot be made.
    Engine(EngineError),
    /// A reply is not what it must be.
    Wrong(Wrong),
    /// Something other than replies is not as expected, in words.
    Unexpected(String),
    /// The system refused what the text says.
    Io(&'static str, io::Error),
}

impl fmt::Display for LayerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayerError::Usage(text) | LayerError::Unexpected(text) => f.write_str(text),
            LayerError::Engine(error) => write!(f, "the shard cannot be set up: {error}"),
            LayerError::Wrong(wrong) => wrong.fmt(f),
            LayerError::Io(what, error) => write!(f, "cannot {what}: {error}"),
        }
    }
}

impl std::error::Error for LayerError {}

impl From<EngineError> for LayerError {
    fn from(error: EngineError) -> LayerError {
        LayerError::Engine(error)
    }
}

impl From<Wrong> for LayerError {
    fn from(wrong: Wrong) -> LayerError {
        LayerError::Wrong(wrong)
    }
}

/// The smallest, middle and largest of some rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The middle one, or the upper of the two middle ones.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of at least one number; of none, all three are NaN.
    pub fn new(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        match values.as_slice() {
            [] => Spread { min: f64::NAN, median: f64::NAN, max: f64::NAN },
            [min, .., max] => Spread { min: *min, median: values[values.len() / 2], max: *max },
            [only] => Spread { min: *only, median: *only, max: *only },
        }
    }

    fn to_json(self) -> Value {
        json!({"min": self.min, "median": self.median, "max": self.max})
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>8.1} {:>8.1} {:>8.1}", self.min, self.median, self.max)
    }
}

fn write_json(path: &Path, value: &Value) -> Result<(), LayerError> {
    std::fs::write(path, format!("{value:#}\n"))
        .map_err(|error| LayerError::Io("write the JSON file", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_are_ordered() {
        let spread = Spread::new([3.0, 1.0, 2.0]);
        assert_eq!(spread, Spread { min: 1.0, median: 2.0, max: 3.0 });
        assert_eq!(Spread::new([4.0, 1.0]), Spread { min: 1.0, median: 4.0, max: 4.0 });
        assert_eq!(Spread::new([7.0]), Spread { min: 7.0, median: 7.0, max: 7.0 });
        assert!(Spread::new([]).median.is_nan());
    }
}
