//! The data ring: one private io_uring per core that carries client traffic.
//!
//! ```text
//!   core thread                        kernel
//!   ----------                         ------
//!   add_listener, receive, send  ──►   submission queue
//!   enter(wait)                  ──►   io_uring_enter
//!   next_event                   ◄──   completion queue
//!   bytes / give_back            ◄──►  provided receive buffers
//! ```
//!
//! The API is safe: the ring owns every byte that the kernel may touch. Receive buffers belong to
//! the ring's pool and are lent out one [`Received`] at a time; a send buffer is handed to the ring
//! and comes back with its completion. Nothing here knows about protocols or connections beyond a
//! [`Key`] chosen by the caller.
//!
//! Invariants:
//! - I1. One thread creates and uses a ring (`DataRing` is `!Send`); DEFER_TASKRUN depends on it.
//! - I2. At most one send and one receive are in flight per key index. The ring checks sends.
//! - I3. A file descriptor is closed only after its operations have ended; the caller keeps it open
//!   until [`Event::ReceiveEnded`] and [`Event::Sent`] have come for all that it started.
//! - I4. The ring is closed before its buffers are freed, and if operations cannot be cancelled the
//!   buffers are leaked rather than freed under the kernel.
//!
//! Where io_uring cannot be had at all, [`EpollSet`] keeps the same contract by epoll.
//!
//! Every kernel feature beyond Linux 5.11 is optional and can be hidden ([`RingOptions::hide`]), so
//! that tests cover each fall-back on a new kernel.

#![deny(unsafe_code)]

#[expect(unsafe_code, reason = "system calls on listening sockets")]
mod accept;
#[expect(unsafe_code, reason = "epoll and sockets without a safe wrapper in std")]
mod epoll;
mod event;
mod features;
#[expect(unsafe_code, reason = "maps the receive buffers that the kernel fills")]
mod pool;
#[expect(unsafe_code, reason = "submits operations whose memory the ring owns")]
mod ring;
mod setup;
#[expect(unsafe_code, reason = "eventfd has no safe wrapper in std")]
mod wake;

pub use epoll::{EpollReceived, EpollSet};
pub use event::{EndReason, Event, Key};
pub use features::{Feature, FeatureSet, UnknownFeature};
pub use pool::Received;
pub use ring::{DataRing, Wait};
pub use setup::{RingError, RingOptions, probe};
pub use wake::Waker;
