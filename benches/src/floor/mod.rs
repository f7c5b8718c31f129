//! The floor: the cheapest servers that move the same bytes as a cache would.
//!
//! A floor server counts the bytes of requests whose sizes it was told, and answers each with a
//! constant reply of a size it was told. It parses nothing and keeps no table. What it costs per
//! request is therefore the price of the kernel's network path under one way of driving it, and
//! a real server's distance to the cheapest of them is the price of being a cache.
//!
//! ```text
//!              epoll            ring              glommio-ring
//! wait for     epoll_wait       io_uring_enter    io_uring_enter, and glommio between
//! receive      one recv each    multishot, into provided buffers
//! send         one send each    one operation each, submitted with the next wait
//! ```
//!
//! Invariants:
//!
//! - I1. Replies leave in the order of the requests, whatever the tears between receives.
//! - I2. A connection has at most one send under way, out of a buffer of its own, and every send
//!   has a completion: what a real server needs to reuse its buffers safely.
//! - I3. A connection that sends an unknown request, or lets more than
//!   [`OUTPUT_MAX_BYTES`] of replies pile up, is closed. Nothing else ends it but its peer.
//!
//! Cost: one copy of each reply into the connection's output, no allocation in steady state.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use clap::ValueEnum;

use crate::sys::cpu;

#[expect(unsafe_code, reason = "the kernel writes into the buffers while we hold their address")]
mod buffers;
mod epoll;
mod frame;
mod glommio;
#[expect(unsafe_code, reason = "operations in flight refer to memory by address")]
mod ring;

pub use frame::{FrameCounter, Replies, Shape, Unknown};

/// Replies that a connection may leave unread before it is closed.
pub const OUTPUT_MAX_BYTES: usize = 16 << 20;

/// Connections that a floor server holds at once.
pub const CONNECTIONS_MAX: usize = 4096;

/// Locked memory that glommio needs; below, it ends the process without saying why.
const GLOMMIO_LOCKED_MEMORY_MIN_BYTES: u64 = 512 << 10;

/// How a floor server is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A level-triggered epoll loop with one recv and one send per ready connection.
    Epoll,
    /// A private io_uring on a bare thread.
    Ring,
    /// The same ring, driven by one task of a glommio executor.
    GlommioRing,
}

/// What a floor server does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Idle {
    /// Sleep in the kernel until something arrives.
    Block,
    /// Ask again at once.
    Spin,
}

/// A floor server to be.
#[derive(Clone, Debug)]
pub struct FloorOptions {
    /// How it is driven.
    pub kind: Kind,
    /// TCP port on 127.0.0.1; 0 lets the kernel choose.
    pub port: u16,
    /// Sizes of requests and replies.
    pub shape: Shape,
    /// The only CPU it runs on; `None` leaves that to the scheduler.
    pub cpu: Option<usize>,
    /// What it does when idle.
    pub idle: Idle,
}

/// Why a floor server cannot serve, or cannot go on.
#[derive(Debug)]
pub enum FloorError {
    /// No reply of that size exists in either protocol.
    Shape(String),
    /// glommio would end the process, because it may lock too little memory.
    LockedMemory {
        /// The limit of this process.
        limit_bytes: u64,
    },
    /// glommio's executor failed.
    Executor(String),
    /// The system refused what the text says.
    Io(&'static str, io::Error),
}

impl fmt::Display for FloorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FloorError::Shape(text) => f.write_str(text),
            FloorError::LockedMemory { limit_bytes } => write!(
                f,
                "glommio needs {GLOMMIO_LOCKED_MEMORY_MIN_BYTES} bytes of locked memory and the \
                 limit is {limit_bytes}: raise it with 'ulimit -l'"
            ),
            FloorError::Executor(text) => write!(f, "glommio: {text}"),
            FloorError::Io(what, error) => write!(f, "cannot {what}: {error}"),
        }
    }
}

impl std::error::Error for FloorError {}

/// Serves until the process ends. `on_ready` is called once, with the address to connect to,
/// when connections are accepted.
///
/// # Errors
///
/// If it cannot start, or the system refuses something without which it cannot go on. A failing
/// connection ends alone.
pub fn serve(
    options: &FloorOptions,
    on_ready: impl FnOnce(SocketAddr),
) -> Result<Infallible, FloorError> {
    let replies = Replies::new(&options.shape)?;
    if options.kind == Kind::GlommioRing {
        let limit_bytes = cpu::locked_memory_max_bytes()
            .map_err(|error| FloorError::Io("read the limit on locked memory", error))?;
        if limit_bytes < GLOMMIO_LOCKED_MEMORY_MIN_BYTES {
            return Err(FloorError::LockedMemory { limit_bytes });
        }
    }
    if let Some(cpu) = options.cpu {
        cpu::pin_this_thread(cpu).map_err(|error| FloorError::Io("run on that CPU", error))?;
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))
        .map_err(|error| FloorError::Io("listen on that port", error))?;
    let address = listener.local_addr().map_err(|error| FloorError::Io("read the port", error))?;
    on_ready(address);
    match options.kind {
        Kind::Epoll => epoll::serve(listener, replies, options.idle)
            .map_err(|error| FloorError::Io("go on serving", error)),
        Kind::Ring => {
            let server = ring::RingServer::leak(listener, replies)
                .map_err(|error| FloorError::Io("set up io_uring", error))?;
            let wait = match options.idle {
                Idle::Block => ring::Wait::Forever,
                Idle::Spin => ring::Wait::For(Duration::ZERO),
            };
            loop {
                server.turn(wait).map_err(|error| FloorError::Io("go on serving", error))?;
            }
        }
        Kind::GlommioRing => glommio::serve(listener, replies, options.cpu, options.idle),
    }
}
