//! All of Pinion's I/O: connections, protocols, commands, the core's turn, the control thread, and
//! how they make a server.
//!
//! The walk of one GET, which never goes back:
//! `ring` (bytes arrive) → `core` (a turn) → `protocol` (which command, which slices) → `command`
//! (what it means) → the engine's shard → the reply in the connection's output → `ring` (one
//! send). `control` is everything slow, `server` starts and stops it all.

#![deny(unsafe_code)]

pub mod cgroup;
pub mod clock;
pub mod cluster;
pub mod command;
pub mod config;
pub mod connection;
pub mod control;
pub mod core;
pub mod flags;
pub mod host;
pub mod lane;
mod listener;
pub mod log;
pub mod memory;
pub mod options;
mod parameters;
pub mod protocol;
mod server;
mod start;

mod steering;
#[expect(unsafe_code, reason = "system calls without a safe wrapper")]
mod sys;

pub use server::{Server, Stopper, check};
pub use start::notify::notify;
pub use start::{Address, Endpoint, StartError};
