//! Checks the settings of a Linux host that decide the tail latency of a cache.
//!
//! ```text
//! cli --> check::Report --> checks::* (a table of functions) --> host::Host --> /proc, /sys
//!   \---> render::{table, json}                                    \--> sys (a system call)
//! ```
//!
//! Invariants:
//!
//! - I1. Nothing is ever written to the host: every access is a read, a directory listing or the
//!   creation of a small ring that is closed at once.
//! - I2. A check never fails: what is absent, unreadable or not understood becomes the verdict
//!   `unknown` with the path, and the other checks go on.
//! - I3. The report of the same tree is the same report, byte by byte.
//!
//! Cost: a few dozen small reads, a few more per CPU, and one per process of the host; each file is
//! read up to a fixed number of bytes.

#![deny(unsafe_code)]

mod cgroup;
pub mod check;
mod checks;
pub mod cli;
mod cpulist;
#[cfg(test)]
mod fixture;
pub mod host;
mod render;
#[expect(unsafe_code, reason = "the one system call that the standard library does not offer")]
mod sys;
mod topology;
