//! One client for all servers: a single thread over epoll that sends frames of constant size.
//!
//! It drives a server in one of two ways. [`Client::saturate`] is a closed loop: every connection
//! always has a batch under way, and the server's CPU time per request is the result.
//! [`Client::run_open_loop`] sends at times fixed beforehand, whatever the server does, and the
//! time from the intended send to the whole reply is the result.
//!
//! Invariants:
//!
//! - C1. All servers get literally the same bytes from the same code; only the protocol differs.
//! - C2. Every reply must be a hit: its first two bytes, its size and its last byte are checked,
//!   and anything else ends the run with an error that shows it. A miss is an error too, because
//!   it would be cheaper than a hit.
//! - C3. When a call returns without error, no request is under way, so that counters read around
//!   it cover whole requests.
//!
//! Cost: no allocation per request in steady state; one send per batch and one receive per
//! readiness.

use std::fmt;
use std::io;
use std::net::SocketAddr;

mod closed;
mod connection;
mod keys;
mod open;
mod replies;
mod workload;

pub use closed::{Client, Tally};
pub use keys::{KeyDistribution, Prng, Zipf};
pub use open::{Arrivals, Group, GroupOutcome, OpenOutcome, OpenPlan, Pace};
pub use workload::{Operation, Protocol, Workload};

/// Why a run ended early.
#[derive(Debug)]
pub enum ClientError {
    /// The description of the load contradicts itself.
    Workload(String),
    /// No connection to the server.
    Connect(SocketAddr, io::Error),
    /// A reply is not the hit that was expected.
    Reply {
        /// What was asked.
        operation: Operation,
        /// The beginning of what came instead, escaped.
        excerpt: String,
    },
    /// Bytes came that no request had asked for.
    Unasked {
        /// The beginning of them, escaped.
        excerpt: String,
    },
    /// The server closed a connection.
    Closed,
    /// The server did not answer for this long.
    Silent {
        /// How long the client waited.
        waited_s: u64,
    },
    /// The system refused what the text says.
    Io(&'static str, io::Error),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Workload(text) => f.write_str(text),
            ClientError::Connect(address, error) => {
                write!(f, "cannot connect to {address}: {error}")
            }
            ClientError::Reply { operation, excerpt } => {
                write!(f, "the reply to a {operation} is no hit: \"{excerpt}\"")
            }
            ClientError::Unasked { excerpt } => {
                write!(f, "the server sent what nobody asked for: \"{excerpt}\"")
            }
            ClientError::Closed => f.write_str("the server closed a connection"),
            ClientError::Silent { waited_s } => {
                write!(f, "the server did not answer for {waited_s} s")
            }
            ClientError::Io(what, error) => write!(f, "cannot {what}: {error}"),
        }
    }
}

impl std::error::Error for ClientError {}
