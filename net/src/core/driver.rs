//! Who calls the turn: a bare pinned thread, or a task of a glommio executor. Both climb the same
//! idle ladder; they differ in how they park, and in that glommio's own tasks (timers, files,
//! control sockets) get a look between naps.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};
use pinion_ring::{DataRing, Wait};

use super::eventfd::EventFile;
use super::{Core, IdleMode, Ladder, Rest, Transport, Turn, idle};

/// glommio's preemption timer: never, since it loses wake-ups (see `eventfd`). The pump gives way
/// by itself instead.
const GLOMMIO_PREEMPT: Duration = Duration::from_secs(3600);
/// How long glommio's own tasks may wait while the pump is busy.
const GLOMMIO_LOOK_NS: u64 = 25_000_000;
/// Memory that glommio registers for its own files; its minimum.
const GLOMMIO_IO_MEMORY_BYTES: usize = 64 * 1024;
/// Locked memory below which glommio refuses to start.
pub(crate) const GLOMMIO_LOCKED_BYTES_MIN: u64 = 512 * 1024;

/// Who drives a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// A task in a glommio executor.
    Glommio,
    /// A thread of its own.
    Bare,
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Driver::Glommio => "glommio",
            Driver::Bare => "bare",
        })
    }
}

impl FromStr for Driver {
    type Err = String;

    fn from_str(text: &str) -> Result<Driver, String> {
        match text {
            "glommio" => Ok(Driver::Glommio),
            "bare" => Ok(Driver::Bare),
            _ => Err(format!("'{text}' is not glommio or bare")),
        }
    }
}

/// Drives a core of any transport from a thread of its own, as [`run`] does with [`Driver::Bare`].
///
/// # Errors
/// When the core cannot be made, or its transport fails.
pub fn run_bare<T: Transport, E: From<io::Error>>(
    cpu: usize,
    idle: IdleMode,
    exclusive: bool,
    make: impl FnOnce() -> Result<Core<T>, E>,
) -> Result<(), E> {
    if !core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
        return Err(io::Error::last_os_error().into());
    }
    Ok(drive_bare(&mut make()?, Ladder::new(idle, exclusive))?)
}

/// Pins the calling thread to a CPU, makes a core in it and drives the core until it is told to
/// end. `make` runs in the pinned thread, since a ring belongs to the thread that made it and
/// memory to the CPU that first touches it.
///
/// # Errors
/// When the core cannot be made, or its transport fails.
pub fn run<E: From<io::Error>>(
    driver: Driver,
    cpu: usize,
    idle: IdleMode,
    exclusive: bool,
    make: impl FnOnce() -> Result<Core<DataRing>, E>,
) -> Result<(), E> {
    match driver {
        Driver::Bare => run_bare(cpu, idle, exclusive, make),
        Driver::Glommio => {
            let ladder = Ladder::new(idle, exclusive);
            let executor = LocalExecutorBuilder::new(Placement::Fixed(cpu))
                .name("pinion")
                .io_memory(GLOMMIO_IO_MEMORY_BYTES)
                .preempt_timer(GLOMMIO_PREEMPT)
                .make()
                .map_err(|error| io::Error::other(error.to_string()))?;
            executor.run(async move { Ok(drive_glommio(&mut make()?, ladder).await?) })
        }
    }
}

fn drive_bare<T: Transport>(core: &mut Core<T>, mut ladder: Ladder) -> io::Result<()> {
    let mut wait = Wait::No;
    loop {
        let turn = core.turn(wait)?;
        if turn.ended {
            return Ok(());
        }
        wait = match next_rest(core, &mut ladder, turn) {
            Rest::Look => Wait::No,
            // Nobody else lives on this thread, so a nap needs no end.
            Rest::Nap(_) | Rest::Park => Wait::Forever,
        };
    }
}

async fn drive_glommio(core: &mut Core<DataRing>, mut ladder: Ladder) -> io::Result<()> {
    let parked = EventFile::new(core.transport().park_event()?);
    let mut looked_ns = core.now_ns();
    let mut wait = Wait::No;
    loop {
        let turn = core.turn(wait)?;
        if turn.ended {
            return parked.close().await;
        }
        wait = match next_rest(core, &mut ladder, turn) {
            Rest::Look => Wait::No,
            Rest::Nap(time) => Wait::For(time),
            Rest::Park => {
                if core.may_sleep() {
                    park(core.transport(), &parked).await?;
                }
                core.wake_up();
                Wait::No
            }
        };
        if core.now_ns() - looked_ns > GLOMMIO_LOOK_NS {
            looked_ns = core.now_ns();
            // A timer that is due is the way into glommio's reactor and back that needs neither
            // its preemption timer nor a sleep.
            glommio::timer::sleep(Duration::ZERO).await;
        }
    }
}

/// Sleeps in glommio until the data ring has something.
async fn park(ring: &mut DataRing, parked: &EventFile) -> io::Result<()> {
    // Hand in what is queued, so that nothing but the peer is waited for.
    ring.enter(Wait::No)?;
    ring.park()?;
    parked.wait(|| ring.ready()).await?;
    ring.unpark()
}

/// How to wait in the next turn, which hands in this one's sends in the same system call.
fn next_rest<T: Transport>(core: &mut Core<T>, ladder: &mut Ladder, turn: Turn) -> Rest {
    let now_ns = core.now_ns();
    if turn.worked {
        ladder.worked(now_ns);
    }
    if turn.more {
        return Rest::Look;
    }
    let rest = match ladder.rest(now_ns) {
        // A nap ends with the next timer, a park does not.
        Rest::Park if core.next_timer_ms().is_some() => Rest::Nap(idle::NAP),
        rest => rest,
    };
    match rest {
        Rest::Look => {}
        Rest::Nap(_) => core.counters().naps += 1,
        Rest::Park => core.counters().parks += 1,
    }
    rest
}
