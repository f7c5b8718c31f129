//! Lanes: how cores hand each other commands and replies, without locks and without waiting.
//!
//! ```text
//!  core a --requests--> bundle | bundle | ...  --> core b      one queue a direction and kind,
//!  core a <--replies--- bundle | bundle | ...  <-- core b      for each ordered pair of cores
//! ```
//!
//! A core collects what it has for another during a turn in a [`Bundle`], posts it at the turn's
//! end, and marks it in the other's [`Mailbox`]. So the two touch shared memory once a turn and
//! pair of cores, however many messages go over; only pieces of large replies, which are asked for
//! when what precedes them is sent, may take a second post. A bundle's memory goes back and forth: emptied,
//! it carries the replies.
//!
//! - `queue`: a bounded queue of one producer and one consumer
//! - `mailbox`: who has posted, and whether the receiver sleeps
//! - `bundle`: the messages of a turn
//! - `sync`: the atomics that the first two are made of, so that a model checker can replace them
//!
//! Invariants:
//! - L1. A core sends no more requests than there are places for bundles of replies, so a reply
//!   never waits, and full lanes cannot form a cycle.
//! - L2. A request crosses once: the core that gets it executes it.
//! - L3. Messages of one core to another arrive in the order in which they were sent.

mod bundle;
mod mailbox;
#[expect(unsafe_code, reason = "slots that pass from one thread to another")]
mod queue;
mod sync;

pub use bundle::{Bundle, HEAD_BYTES, Head};
pub use mailbox::Mailbox;
pub use queue::{Receiver, Sender, channel};
