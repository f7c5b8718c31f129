//! The shard of a Pinion core: hash table, item log, eviction and expiry.
//!
//! A [`Shard`] is a cache for one thread: plain synchronous code without I/O, clock or lock. The
//! caller hands in the time, the seed and the limits. Keys and values are bytes.
//!
//! ```text
//! key --hash--> Table: bucket of ten slots --offset--> Log: header | key | value
//!                      (tag, offset, frequency)              \--page numbers--> pages
//! ```
//!
//! - The table (`table`) grows one bucket at a time, the log (`log`) is reclaimed one
//!   item at a time: no call does work that grows with the number of items.
//! - Who stays when memory is full is the policy's to say (`policy`); what is due is removed by
//!   groups of deadlines (`expiry`).
//! - Overhead of an item with a 16-byte key and a 64-byte value: 9 bytes of header, 9.2 bytes of
//!   table and 5 of W-TinyLFU's memory, at every item count; 8 more with a deadline.
//! - A hit reads one table line and the item, and writes at most to that line.
//!
//! ```
//! use pinion_engine::{SetOptions, Shard, ShardConfig};
//!
//! let mut shard = Shard::new(&ShardConfig::default())?;
//! let hash = shard.hash(b"key");
//! shard.set(hash, b"key", b"value", &SetOptions::default(), 0)?;
//! let entry = shard.get(hash, b"key", 0).expect("just stored");
//! assert_eq!(entry.value.as_slice(), Some(&b"value"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![deny(unsafe_code)]

mod bounds;
mod config;
mod errand;
mod expiry;
mod hash;
mod intrinsics;
mod item;
mod log;
mod mapping;
mod policy;
mod request;
mod shard;
mod stats;
mod sums;
mod table;
mod value;

pub use bounds::{KEY_BYTES_MAX, LOG_BYTES_MAX, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
pub use config::{Cost, EngineError, Eviction, Limits, ShardConfig};
pub use errand::{Errand, Returned};
pub use expiry::ExpiryLags;
pub use hash::KeyHash;
pub use request::{Condition, Deadline, Deleted, Marks, Refusal, SetError, SetOptions, Stored};
pub use shard::{DATABASES, Editor, Expired, LargeWrite, PinLimit, PinnedValue, Shard};
pub use stats::{Counters, DatabaseStats, ExpiryStats, LeaseStats, PolicyStats, ShardStats, Work};
pub use value::{Chunks, Entry, Part, Value};
