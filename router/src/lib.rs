//! Where a key lives: which slot it belongs to, and which core of a node owns that slot.
//!
//! ```text
//! key --crc16 of the hash tag--> slot (0..16384) --slot * cores / 16384--> core
//! client's source port --------(port >> 1) mod cores--------------------> core
//! ```
//!
//! Everything here is a pure function of its arguments: no I/O, no clock, no randomness, no
//! state, no allocation. A server, a client and a load generator that know the number of cores
//! therefore agree on the owner of every key without talking to each other.
//!
//! Invariants:
//!
//! - I1. A [`Slot`] is always below [`SLOT_COUNT`]; a [`CoreCount`] is always between 1 and
//!   [`CORE_COUNT_MAX`]. Both are checked once, where they are made.
//! - I2. [`core_of_slot`] never decreases with the slot, so a core owns one contiguous range, and
//!   [`slots_of_core`] is its exact inverse: the ranges of all cores are disjoint and cover all
//!   slots.
//! - I3. With at most [`CORE_COUNT_MAX`] cores no core is without slots, and the sizes of two
//!   ranges differ by at most one.
//!
//! Cost: the slot of a key takes one pass over the key to look for a hash tag and one table-driven
//! pass to sum it, both eight bytes at a time; the rest is a handful of integer instructions.

#![forbid(unsafe_code)]

mod crc16;
mod placement;
mod slot;

pub use placement::{
    CORE_COUNT_MAX, CoreCount, CoreCountOutOfRange, CoreIndex, core_of_key, core_of_slot,
    core_of_source_port, slots_of_core,
};
pub use slot::{SLOT_COUNT, Slot, hash_tag, slot};
