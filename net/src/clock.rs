//! The server's time: milliseconds since it started, on a clock that a stepped wall clock cannot
//! move (`CLOCK_BOOTTIME`). Wall-clock times of clients are converted when they arrive, so that a
//! later step neither expires nor immortalises anything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::sys;

/// Reads the time; one `clock_gettime` through the vDSO a call, about 25 ns.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start_ns: u64,
    /// What moves it, if that is not the system.
    hand: Option<&'static AtomicU64>,
}

impl Clock {
    /// A clock whose zero is one second ago, so that "already expired" is representable.
    pub fn start() -> Clock {
        Clock { start_ns: sys::boottime_ns().saturating_sub(1_000_000_000), hand: None }
    }

    /// A clock that stands still until another time is stored in `now_ns`, for simulations and
    /// tests. To begin as other clocks do, let that be one second.
    pub fn by_hand(now_ns: &'static AtomicU64) -> Clock {
        Clock { start_ns: 0, hand: Some(now_ns) }
    }

    /// Nanoseconds since the clock's zero.
    pub fn now_ns(&self) -> u64 {
        match self.hand {
            None => sys::boottime_ns() - self.start_ns,
            Some(now_ns) => now_ns.load(Ordering::Relaxed),
        }
    }

    /// Milliseconds since the clock's zero.
    pub fn now_ms(&self) -> u64 {
        self.now_ns() / 1_000_000
    }
}

/// Milliseconds of Unix time, from the wall clock.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Microseconds of Unix time, from the wall clock.
pub fn unix_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// The server time that corresponds to a Unix time, given the present in both; times before the
/// server's zero become 0, which is in the past.
pub fn deadline_from_unix(unix_deadline_ms: u64, unix_now_ms: u64, now_ms: u64) -> u64 {
    (now_ms + unix_deadline_ms).saturating_sub(unix_now_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_advances_from_one_second() {
        let clock = Clock::start();
        let (first, second) = (clock.now_ms(), clock.now_ms());
        assert!(first >= 1_000 && second >= first && second < 60_000);
    }

    #[test]
    fn a_clock_that_is_moved_by_hand_stands_still_otherwise() {
        static NOW_NS: AtomicU64 = AtomicU64::new(1_000_000_000);
        let clock = Clock::by_hand(&NOW_NS);
        assert_eq!((clock.now_ms(), clock.now_ns()), (1_000, 1_000_000_000));
        NOW_NS.store(1_002_000_001, Ordering::Relaxed);
        assert_eq!((clock.now_ms(), clock.now_ns()), (1_002, 1_002_000_001));
    }

    #[test]
    fn unix_deadlines_keep_their_distance() {
        assert_eq!(deadline_from_unix(1_700_000_005_000, 1_700_000_000_000, 2_000), 7_000);
        assert_eq!(deadline_from_unix(0, 1_700_000_000_000, 2_000), 0);
    }
}
