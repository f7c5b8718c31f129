//! Opens connections while a run measures, on a thread of its own: a connect blocks, and a worker
//! that blocks would send late.
//!
//! A worker asks for a connection for a slot of its own and goes on; the new connection comes back
//! through a channel that the worker looks at once per turn while it waits for one. A target that
//! refuses is asked again after a pause, until the run ends.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use crate::config::Protocol;
use crate::conn::Connection;
use crate::target::Targets;

/// Pause before a target that refused is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// A worker wants a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// The worker.
    pub(crate) worker: usize,
    /// Its slot for the connection.
    pub(crate) slot: usize,
    /// The target.
    pub(crate) lane: usize,
}

/// A new connection and the slot that it is for.
pub(crate) struct Fresh {
    /// The slot.
    pub(crate) slot: usize,
    /// The connection.
    pub(crate) connection: Connection,
}

/// Opens what is wanted until all workers have dropped their ends.
pub(crate) fn serve(
    targets: &Targets,
    protocol: Protocol,
    wanted: &Receiver<Wanted>,
    workers: &[Sender<Fresh>],
) {
    let mut refused: Vec<(Instant, Wanted)> = Vec::new();
    loop {
        let received = match refused.first() {
            None => wanted.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some((when, _)) => wanted.recv_timeout(when.saturating_duration_since(Instant::now())),
        };
        let want = match received {
            Ok(want) => want,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => refused.remove(0).1,
        };
        match targets.open(want.lane, protocol) {
            Ok(connection) => {
                // A worker that has finished needs it no more.
                let _ = workers[want.worker].send(Fresh { slot: want.slot, connection });
            }
            Err(_) => refused.push((Instant::now() + RETRY_PAUSE, want)),
        }
    }
}
