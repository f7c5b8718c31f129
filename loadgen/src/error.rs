//! What can go wrong, and the exit code that says so.
//!
//! A run that was carried out is never an error: its [`crate::Verdict`] says whether its numbers
//! may be believed. An [`Error`] means that there are no numbers.

use std::fmt;
use std::io;

/// Exit code of a run that was carried out and may be believed.
pub const EXIT_OK: i32 = 0;
/// Exit code of a command line or a configuration that makes no sense.
pub const EXIT_USAGE: i32 = 1;
/// Exit code of a run whose numbers must not be used, or that could not be carried out.
pub const EXIT_INVALID: i32 = 2;
/// Exit code of an open-loop run that fell more than a second of load behind its schedule.
pub const EXIT_OVERLOADED: i32 = 3;
/// Exit code of a run in which the server returned a value that it must not return.
pub const EXIT_WRONG: i32 = 4;

/// Exit code of a sweep that found no rate within its objective.
pub const EXIT_OBJECTIVE: i32 = 5;

/// Why a command produced no report.
#[derive(Debug)]
pub enum Error {
    /// An option has a value that makes no sense, alone or together with another.
    Usage(String),
    /// A system call or a file operation failed; `context` says what was being done.
    Io {
        /// What was being done, for instance "cannot connect to 127.0.0.1:6379".
        context: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The trace file is not a trace, or is damaged.
    Trace(String),
    /// The server refused the opening of a connection, or closed every connection.
    Server(String),
}

impl Error {
    /// The process exit code for this error.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self {
            Error::Usage(_) => EXIT_USAGE,
            Error::Io { .. } | Error::Trace(_) | Error::Server(_) => EXIT_INVALID,
        }
    }

    pub(crate) fn io(context: impl Into<String>, source: io::Error) -> Error {
        Error::Io { context: context.into(), source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage(text) | Error::Trace(text) | Error::Server(text) => f.write_str(text),
            Error::Io { context, source } => write!(f, "{context}: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
