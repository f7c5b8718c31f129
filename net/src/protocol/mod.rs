//! The wire protocols: bytes to requests, and replies to bytes.
//!
//! ```text
//!                  +- resp::parse ------> Args (slices of the frame)
//!  received bytes -+                                                  -> commands
//!                  +- memcached::parse -> Request (slices of the frame)
//!
//!  replies -> resp::Writer, memcached::Writer -> the connection's output buffer
//! ```
//!
//! Everything here is a plain function over bytes: no I/O, no clock, no state besides a small
//! `Progress` for each connection and one reusable `resp::Args` for each core.
//!
//! Invariants:
//!
//! - P1. A parser never changes, copies or keeps the bytes that it is given. A request borrows
//!   them (quoted inline arguments are the one exception: they are unescaped into `Args`).
//! - P2. The outcome depends on the bytes alone, never on how they were cut into pieces.
//! - P3. A byte of a torn frame is looked at a constant number of times, however many pieces it
//!   arrives in: `Progress` remembers in O(1) space where the search stopped, payload bytes of a
//!   known length are never looked at, and slices are made once, when the frame is complete.
//! - P4. No input makes a parser panic, loop without consuming, or reserve memory that the
//!   bytes present do not justify.
//! - P5. Nothing allocates in the steady state.
//!
//! Cost: one pass over headers and lines; payloads are skipped by their length.
#![deny(unsafe_code)]

pub mod memcached;
pub mod number;
pub mod resp;
mod scan;
