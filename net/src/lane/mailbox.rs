//! Who has posted something to a core, and whether the core sleeps.
//!
//! ```text
//!  producer: push to the queue, set its bit, fence, asleep? -> wake
//!  consumer: asleep = true, fence, a bit set? -> do not sleep
//! ```
//!
//! One of the two sees the other (Dekker's argument): either the consumer finds the bit, or the
//! producer finds it asleep. So nothing that was posted waits for a core that sleeps, and a core
//! that is awake is never woken, which would cost a system call.
//!
//! Only exchanges change `asleep`, so that each of them sees the one before it: of several that
//! post to a sleeper one wakes it. An owner that is awake does not touch it.

use super::sync::{AtomicBool, AtomicU64, Ordering, fence};

/// See the module's page.
#[derive(Debug)]
pub struct Mailbox {
    asleep: AtomicBool,
    /// A bit for each core that has posted.
    posted: Box<[AtomicU64]>,
}

impl Mailbox {
    /// An empty mailbox that `cores` cores post to.
    pub fn new(cores: usize) -> Mailbox {
        let words = cores.div_ceil(64);
        Mailbox {
            asleep: AtomicBool::new(false),
            posted: (0..words).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Tells that a core has posted something. Whether the caller has to wake the owner.
    #[inline]
    pub fn post(&self, from: usize) -> bool {
        self.posted[from / 64].fetch_or(1 << (from % 64), Ordering::Release);
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed)
    }

    /// Whether the owner may go to sleep: nothing is posted, and who posts from now on will wake
    /// it. It is awake again when it says so, or was woken.
    #[inline]
    pub fn fall_asleep(&self) -> bool {
        self.asleep.swap(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.has_any() {
            self.wake_up();
            return false;
        }
        true
    }

    /// Tells that the owner is awake.
    #[inline]
    pub fn wake_up(&self) {
        if self.asleep.load(Ordering::Relaxed) {
            self.asleep.swap(false, Ordering::Relaxed);
        }
    }

    /// Whether somebody has posted.
    #[inline]
    pub fn has_any(&self) -> bool {
        self.posted.iter().any(|word| word.load(Ordering::Acquire) != 0)
    }

    /// The words of the bitmap.
    pub fn words(&self) -> usize {
        self.posted.len()
    }

    /// Takes a word of the bitmap: who has posted, a bit for each.
    #[inline]
    pub fn take(&self, word: usize) -> u64 {
        if self.posted[word].load(Ordering::Relaxed) == 0 {
            return 0;
        }
        self.posted[word].swap(0, Ordering::Acquire)
    }
}
