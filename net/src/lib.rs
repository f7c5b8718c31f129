//! All of Pinion's I/O: connections, protocols, commands, the core's turn, the control thread, and
//! how they make a server.
//!
//! The walk of one GET, which never goes back:
//! `ring` (bytes arrive) → `core` (a turn) → `protocol` (which command, which slices) → `command`
//! (what it means) → the engine's shard → the reply in the connection's output → `ring` (one
//! send). `control` is everything slow, `server` starts and stops it all.

#![deny(unsafe_code)]

pub mod clock;
pub mod command;
pub mod connection;
pub mod control;
pub mod core;
pub mod host;
mod listener;
pub mod memory;
pub mod options;
mod parameters;
pub mod protocol;
mod server;
#[expect(unsafe_code, reason = "system calls without a safe wrapper")]
mod sys;

pub use server::{Address, Server, StartError, Stopper};
