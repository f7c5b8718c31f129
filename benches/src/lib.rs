//! Benchmarks of Pinion, from the bare network path to whole servers side by side.
//!
//! Whole servers, over sockets:
//!
//! - [`floor`]: the cheapest servers that move the same bytes as a cache would, without parsing
//!   and without a table. What they cost is what the kernel's network path costs; every server is
//!   judged by its distance to them.
//! - [`client`]: one thread that drives any server, in a closed loop (saturation) or in an open
//!   loop (latency from the intended send time), and checks that every reply is a hit.
//! - [`harness`]: starts servers as child processes, interleaves rounds in random order, charges
//!   CPU time to whom it belongs, drops disturbed rounds, and prints medians with their range.
//! - [`caches`]: servers with a limit on memory, to be filled: [`footprint`] weighs them,
//!   [`equal_memory`] compares their hit ratios, [`expiry`] watches them remove what has expired.
//!
//! The shard alone, in process:
//!
//! - [`replay`]: hit ratios of traces, beside published ones.
//! - [`steps`]: the slowest single call, and costs by the number of items.
//! - [`layers`]: the turn and its parts. The benchmark `rivals` reads beside other crates' caches.
//!
//! Invariants:
//!
//! - Every server is an external process, driven by the same client code with the same frames.
//! - Nothing here asserts anything about time; the tests run each benchmark small, so that they
//!   cannot rot.

#![deny(unsafe_code)]

pub mod caches;
pub mod client;
pub mod equal_memory;
pub mod expiry;
pub mod floor;
pub mod footprint;
pub mod harness;
mod launch;
pub mod layers;
pub mod replay;
pub mod steps;
pub mod sys;
