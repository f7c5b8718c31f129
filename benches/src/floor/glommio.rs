//! The ring floor inside glommio: the same turns, driven by one task of an executor.
//!
//! Each turn submits what is to be sent and sleeps in the task's own ring in one system call,
//! which returns at once while there is work. The sleep is a nap that doubles while nothing comes
//! and is bounded, so that glommio's own timers and tasks are late by at most that much.
//!
//! The task lets glommio in by awaiting a timer that is due, and not by yielding when the
//! preemption timer has fired. In glommio 0.9.0 a preemption timer that expires between its
//! arming and the first look at it, because something else had the CPU, makes the executor skip
//! all runnable tasks and go to sleep with them, for ever if nothing else wakes it. On a CPU that
//! is shared with the client that happens once in some hundred runs. So that timer is set beyond
//! reach.

use std::convert::Infallible;
use std::net::TcpListener;
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};

use super::ring::{RingServer, Wait};
use super::{FloorError, Idle, Replies};
use crate::sys::cpu;

/// Beyond reach, since its expiry can put the executor to sleep with work to do.
const PREEMPT_TIMER: Duration = Duration::from_secs(3600);

/// How often glommio looks after its rings, timers and other tasks while there is work.
const LOOK_INTERVAL_NS: u64 = 1_000_000;

const NAP_MIN: Duration = Duration::from_millis(1);
const NAP_MAX: Duration = Duration::from_millis(8);

/// glommio's own rings have next to nothing to do here.
const EXECUTOR_RING_DEPTH: usize = 64;

/// Serves until the process ends.
///
/// # Errors
///
/// If the executor or the ring cannot be made, or the system refuses something that no single
/// connection is to blame for.
pub(super) fn serve(
    listener: TcpListener,
    replies: Replies,
    cpu: Option<usize>,
    idle: Idle,
) -> Result<Infallible, FloorError> {
    let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
    let executor = LocalExecutorBuilder::new(placement)
        .io_memory(0)
        .ring_depth(EXECUTOR_RING_DEPTH)
        .preempt_timer(PREEMPT_TIMER)
        .make()
        .map_err(|error| FloorError::Executor(error.to_string()))?;
    executor.run(pump(listener, replies, idle))
}

async fn pump(
    listener: TcpListener,
    replies: Replies,
    idle: Idle,
) -> Result<Infallible, FloorError> {
    let server = RingServer::leak(listener, replies)
        .map_err(|error| FloorError::Io("set up io_uring", error))?;
    let mut nap = NAP_MIN;
    let mut looked_ns = cpu::monotonic_ns();
    loop {
        let wait = match idle {
            Idle::Block => Wait::For(nap),
            Idle::Spin => Wait::For(Duration::ZERO),
        };
        let completions =
            server.turn(wait).map_err(|error| FloorError::Io("go on serving", error))?;
        nap = if completions > 0 { NAP_MIN } else { (nap * 2).min(NAP_MAX) };
        let now_ns = cpu::monotonic_ns();
        if now_ns - looked_ns > LOOK_INTERVAL_NS {
            looked_ns = now_ns;
            glommio::timer::sleep(Duration::ZERO).await;
        }
    }
}
