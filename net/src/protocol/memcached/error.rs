//! Refusals of memcached requests, in memcached's words.

use std::fmt;

/// Why a request is refused. The connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// No such command, or not its number of words.
    UnknownCommand,
    /// A word that is not what the command wants at its place, or a bad key.
    BadFormat,
    /// Words after the key of a delete that it does not take.
    DeleteUsage,
    /// An expiry time or delay that is not a number.
    InvalidExptime,
    /// A delta that is not a number.
    InvalidDelta,
    /// The data is not followed by a line end: its length is not the one announced.
    BadDataChunk,
    /// More flags than a meta command takes.
    TooManyFlags,
    /// The same, of a meta get, which has its own words.
    TooManyFlagsGet,
}

impl RequestError {
    /// The reply without its line end.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::UnknownCommand => "ERROR",
            Self::BadFormat => "CLIENT_ERROR bad command line format",
            Self::DeleteUsage => {
                "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]"
            }
            Self::InvalidExptime => "CLIENT_ERROR invalid exptime argument",
            Self::InvalidDelta => "CLIENT_ERROR invalid numeric delta argument",
            Self::BadDataChunk => "CLIENT_ERROR bad data chunk",
            Self::TooManyFlags => "CLIENT_ERROR options flags too long",
            Self::TooManyFlagsGet => "CLIENT_ERROR options flags are too long",
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text())
    }
}

impl std::error::Error for RequestError {}

/// Why a connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// A line without an end.
    LineTooLong,
    /// A client of the text protocol goes on in the binary one.
    BinaryProtocol,
    /// What should be a request of the binary protocol is none.
    NoMagic,
    /// The client speaks HTTP: most likely a browser that was tricked into connecting.
    Http,
}

impl CloseReason {
    /// The reply without its line end, if there is one.
    #[must_use]
    pub fn text(self) -> Option<&'static str> {
        match self {
            Self::LineTooLong => Some("CLIENT_ERROR line too long"),
            Self::BinaryProtocol => {
                Some("CLIENT_ERROR the binary protocol must begin with the connection")
            }
            Self::NoMagic | Self::Http => None,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Http => "HTTP on a memcached port",
            Self::NoMagic => "no request of the binary protocol",
            Self::LineTooLong | Self::BinaryProtocol => self.text().unwrap_or_default(),
        })
    }
}

impl std::error::Error for CloseReason {}
