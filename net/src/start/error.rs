//! Why a server did not start.

use std::fmt;
use std::io;

use pinion_engine::EngineError;
use pinion_ring::RingError;

/// Why a server did not start, or stopped working, in one line that says what to do.
#[derive(Debug)]
pub struct StartError(String);

impl StartError {
    /// An error of these words.
    pub fn new(text: impl Into<String>) -> StartError {
        StartError(text.into())
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> StartError {
        StartError(format!("the core failed: {error}"))
    }
}

impl From<RingError> for StartError {
    fn from(error: RingError) -> StartError {
        StartError(super::network::explain(&error))
    }
}

impl From<EngineError> for StartError {
    fn from(error: EngineError) -> StartError {
        StartError(format!("the shard cannot be set up: {error}"))
    }
}
