//! Awaiting an eventfd in glommio, which has no interface for descriptors of others: a file object
//! over a duplicate, and a read at offset 0, which completes when the counter is not zero.
//!
//! glommio 0.9.0 can lose a wake-up: if its preemption timer expires after the reactor has woken a
//! task and before the task runs, the executor skips the task and goes to sleep with it. The
//! driver therefore sets that timer so long that it never expires, and as a second line every wait
//! here has a deadline, after which the caller's condition is looked at again: a wake-up that is
//! lost all the same costs [`LOOK_AGAIN`], not for ever.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use glommio::GlommioError;
use glommio::io::BufferedFile;

/// How long a lost wake-up can last.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// An eventfd that a glommio task waits for, again and again.
pub(super) struct EventFile(BufferedFile);

impl EventFile {
    /// Takes an eventfd over. To be called, and used, within a glommio executor.
    pub(super) fn new(eventfd: OwnedFd) -> EventFile {
        // SAFETY: the descriptor is open and owned by nobody else from here on; the file closes it.
        EventFile(unsafe { BufferedFile::from_raw_fd(eventfd.into_raw_fd()) })
    }

    /// Waits until the eventfd is signalled, which resets it, or `ready` says that there is no
    /// need.
    pub(super) async fn wait(&self, mut ready: impl FnMut() -> bool) -> io::Result<()> {
        let mut read = pin!(self.0.read_at(0, 8));
        while !ready() {
            let mut timer = pin!(glommio::timer::sleep(LOOK_AGAIN));
            let read_or_timer = poll_fn(|context| {
                if let Poll::Ready(outcome) = read.as_mut().poll(context) {
                    return Poll::Ready(Some(outcome.map(|_| ())));
                }
                timer.as_mut().poll(context).map(|()| None)
            });
            if let Some(outcome) = read_or_timer.await {
                return outcome.map_err(to_io);
            }
        }
        Ok(())
    }

    /// Closes the descriptor.
    pub(super) async fn close(self) -> io::Result<()> {
        self.0.close().await.map_err(to_io)
    }
}

fn to_io(error: GlommioError<()>) -> io::Error {
    io::Error::other(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::sync::atomic::{AtomicBool, Ordering};

    use glommio::{LocalExecutorBuilder, Placement};
    use pinion_ring::{DataRing, RingOptions, Wait};

    fn run<T>(future: impl Future<Output = T>) -> T {
        let builder = LocalExecutorBuilder::new(Placement::Unbound).io_memory(64 * 1024);
        builder.make().expect("an executor").run(future)
    }

    #[test]
    fn a_wake_ends_the_wait() {
        run(async {
            let mut ring = DataRing::new(&RingOptions::default()).expect("a ring");
            ring.enter(Wait::No).expect("enter");
            let parked = ring.park_event().expect("dup");
            ring.park().expect("park");
            let waker = ring.waker();
            let thread = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(5));
                waker.wake();
            });
            let file = EventFile::new(parked);
            file.wait(|| false).await.expect("woken");
            file.close().await.expect("close");
            thread.join().expect("thread");
            ring.unpark().expect("unpark");
        });
    }

    #[test]
    fn a_lost_wake_up_is_found() {
        // A descriptor that nobody signals stands for a wake-up that was lost.
        let (silent, _other) = std::io::pipe().expect("a pipe");
        let silent = silent.as_fd().try_clone_to_owned().expect("dup");
        static READY: AtomicBool = AtomicBool::new(false);
        let thread = std::thread::spawn(|| {
            std::thread::sleep(Duration::from_millis(5));
            READY.store(true, Ordering::SeqCst);
        });
        run(async {
            let file = EventFile::new(silent);
            file.wait(|| READY.load(Ordering::SeqCst)).await.expect("found");
            file.close().await.expect("close");
        });
        thread.join().expect("thread");
    }
}
