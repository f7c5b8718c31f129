//! Times of clients to deadlines and back. Deadlines are server milliseconds (see `clock`);
//! relative times need no wall clock, absolute ones are converted when they arrive.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock;

/// The latest deadline that an item can have: 47 bits of milliseconds, about 4,400 years.
const DEADLINE_MS_MAX: u64 = (1 << 47) - 2;

/// How a client gives a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Seconds from now.
    Seconds,
    /// Milliseconds from now.
    Milliseconds,
    /// Unix time in seconds.
    UnixSeconds,
    /// Unix time in milliseconds.
    UnixMilliseconds,
}

impl Unit {
    /// The unit that an option of SET or GETEX names, in any case.
    #[inline]
    pub(super) fn of_option(word: &[u8]) -> Option<Unit> {
        let [first, b'X' | b'x', at @ ..] = word else { return None };
        let is_absolute = match at {
            [] => false,
            [b'A' | b'a', b'T' | b't'] => true,
            _ => return None,
        };
        match (first, is_absolute) {
            (b'E' | b'e', false) => Some(Unit::Seconds),
            (b'P' | b'p', false) => Some(Unit::Milliseconds),
            (b'E' | b'e', true) => Some(Unit::UnixSeconds),
            (b'P' | b'p', true) => Some(Unit::UnixMilliseconds),
            _ => None,
        }
    }
}

/// The deadline of a time, or `None` if it cannot be expressed in 64 bits of milliseconds of Unix
/// time, which is where Redis refuses it. Times in the past become a past deadline.
pub(super) fn deadline(time: i64, unit: Unit, now_ms: u64) -> Option<u64> {
    deadline_at(time, unit, now_ms, unix_now_ms(now_ms))
}

/// The Unix time of a deadline, as the wall clock is now.
pub(super) fn unix_ms(deadline_ms: u64, now_ms: u64) -> u64 {
    (unix_now_ms(now_ms) + deadline_ms).saturating_sub(now_ms)
}

/// Unix time at a server time that was read a moment ago. The distance between the two clocks is
/// kept until they have moved against each other, so that a Unix time that was set is told again to
/// the millisecond.
fn unix_now_ms(now_ms: u64) -> u64 {
    static DISTANCE_MS: AtomicU64 = AtomicU64::new(0);
    let kept_ms = DISTANCE_MS.load(Ordering::Relaxed);
    let distance_ms = distance(clock::unix_ms().saturating_sub(now_ms), kept_ms);
    if distance_ms != kept_ms {
        DISTANCE_MS.store(distance_ms, Ordering::Relaxed);
    }
    now_ms + distance_ms
}

/// The distance to go by, when this one was just read, and the other one is kept.
///
/// A reading is late by what the turn has taken, and whole milliseconds of two clocks differ by one
/// more or less. With the one added, no time left is longer than what the client has asked for.
fn distance(read_ms: u64, kept_ms: u64) -> u64 {
    /// Beyond this the wall clock was stepped back, or the reading kept was very late.
    const STEP_BACK_MS_MIN: u64 = 10;
    /// Beyond this the wall clock was stepped forward, and is not just read late in a long turn.
    const STEP_FORWARD_MS_MIN: u64 = 1_000;
    let read_ms = read_ms + 1;
    let same = kept_ms.saturating_sub(STEP_BACK_MS_MIN)..kept_ms + STEP_FORWARD_MS_MIN;
    if same.contains(&read_ms) { kept_ms } else { read_ms }
}

/// `deadline`, when the wall clock shows `unix_now_ms`.
fn deadline_at(time: i64, unit: Unit, now_ms: u64, unix_now_ms: u64) -> Option<u64> {
    let ms = match unit {
        Unit::Seconds | Unit::UnixSeconds => time.checked_mul(1_000)?,
        Unit::Milliseconds | Unit::UnixMilliseconds => time,
    };
    let deadline = match unit {
        Unit::Seconds | Unit::Milliseconds => {
            // Redis computes with Unix time, so the sum with the present must fit.
            ms.checked_add(unix_now_ms as i64)?;
            now_ms.saturating_add_signed(ms)
        }
        Unit::UnixSeconds | Unit::UnixMilliseconds => {
            let unix_ms = u64::try_from(ms).unwrap_or(0);
            clock::deadline_from_unix(unix_ms, unix_now_ms, now_ms)
        }
    };
    Some(deadline.min(DEADLINE_MS_MAX))
}

/// The deadline of a memcached expiration time: `None` for 0 (never); negative is in the past;
/// up to 30 days it is relative, beyond it is Unix time, both in seconds.
pub(super) fn memcached_deadline(time: i64, now_ms: u64) -> Option<u64> {
    memcached_deadline_at(time, now_ms, clock::unix_ms)
}

/// `memcached_deadline`, with a wall clock that is read for Unix times only.
fn memcached_deadline_at(time: i64, now_ms: u64, unix_ms: fn() -> u64) -> Option<u64> {
    const RELATIVE_SECONDS_MAX: i64 = 60 * 60 * 24 * 30;
    match time {
        0 => None,
        i64::MIN..0 => Some(0),
        1..=RELATIVE_SECONDS_MAX => Some(now_ms + time as u64 * 1_000),
        _ => {
            let time_ms = (time as u64).saturating_mul(1_000).min(DEADLINE_MS_MAX);
            let deadline = clock::deadline_from_unix(time_ms, unix_ms(), now_ms);
            Some(deadline.min(DEADLINE_MS_MAX))
        }
    }
}

/// What TTL answers for a remaining time: seconds, rounded as Redis rounds.
pub(super) fn seconds_left(remaining_ms: u64) -> i64 {
    ((remaining_ms + 500) / 1_000) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_name_their_units() {
        let unit = |word: &str| Unit::of_option(word.as_bytes());
        assert_eq!((unit("EX"), unit("px")), (Some(Unit::Seconds), Some(Unit::Milliseconds)));
        assert_eq!(unit("exAT"), Some(Unit::UnixSeconds));
        assert_eq!(unit("PXat"), Some(Unit::UnixMilliseconds));
        for other in ["", "E", "XX", "NX", "EXA", "EXATT", "PXBT", "GET"] {
            assert_eq!(unit(other), None, "{other}");
        }
    }

    #[test]
    fn relative_times_need_no_wall_clock() {
        assert_eq!(deadline(10, Unit::Seconds, 5_000), Some(15_000));
        assert_eq!(deadline(-1, Unit::Seconds, 5_000), Some(4_000));
        assert_eq!(deadline(-10, Unit::Seconds, 5_000), Some(0));
        assert_eq!(deadline(i64::MAX, Unit::Milliseconds, 5_000), None);
        assert_eq!(deadline(i64::MAX / 1_000 + 1, Unit::Seconds, 5_000), None);
        assert_eq!(deadline(i64::MAX / 2, Unit::Milliseconds, 0), Some(DEADLINE_MS_MAX));
    }

    #[test]
    fn absolute_times_are_converted() {
        let unix_s = clock::unix_ms() as i64 / 1_000;
        let at = deadline(unix_s + 100, Unit::UnixSeconds, 5_000).expect("it fits");
        assert!((104_000..=105_001).contains(&at), "{at}");
        assert_eq!(deadline(-5, Unit::UnixMilliseconds, 5_000), Some(0));
        assert_eq!(deadline(1, Unit::UnixSeconds, 5_000), Some(0));
    }

    #[test]
    fn a_unix_time_is_told_again_to_the_millisecond() {
        const DISTANCE_MS: u64 = 1_700_000_000_000;
        let kept = distance(DISTANCE_MS, 0);
        assert_eq!(kept, DISTANCE_MS + 1);
        assert_eq!(distance(DISTANCE_MS + 998, kept), kept, "a long turn");
        assert_eq!(distance(DISTANCE_MS + 1_000, kept), DISTANCE_MS + 1_001, "a step");
        assert_eq!(distance(DISTANCE_MS - 1, kept), kept, "the other side of a millisecond");
        assert_eq!(distance(DISTANCE_MS - 11, kept), DISTANCE_MS - 10, "a truer reading");
        assert_eq!(distance(DISTANCE_MS - 5_000, kept), DISTANCE_MS - 4_999, "a step back");
        let at_ms = deadline(clock::unix_ms() as i64 + 60_000, Unit::UnixMilliseconds, 5_000);
        let told_ms = unix_ms(at_ms.expect("it fits"), 5_000);
        assert!(told_ms.abs_diff(clock::unix_ms() + 60_000) < 30_000);
    }

    #[test]
    fn a_step_of_the_wall_clock_moves_absolute_times_only_and_only_when_they_arrive() {
        const UNIX_MS: u64 = 1_700_000_000_000;
        for step_ms in [-3_600_000_i64, 0, 3_600_000] {
            let wall_ms = UNIX_MS.saturating_add_signed(step_ms);
            assert_eq!(deadline_at(10, Unit::Seconds, 5_000, wall_ms), Some(15_000));
            assert_eq!(deadline_at(10, Unit::Milliseconds, 5_000, wall_ms), Some(5_010));
            let at_s = UNIX_MS as i64 / 1_000 + 7_200;
            let expected = 7_205_000_u64.checked_add_signed(-step_ms);
            assert_eq!(deadline_at(at_s, Unit::UnixSeconds, 5_000, wall_ms), expected);
            assert_eq!(deadline_at(at_s * 1_000, Unit::UnixMilliseconds, 5_000, wall_ms), expected);
        }
        let unread: fn() -> u64 = || panic!("a relative time needs no wall clock");
        assert_eq!(memcached_deadline_at(100, 5_000, unread), Some(105_000));
        assert_eq!(memcached_deadline_at(-1, 5_000, unread), Some(0));
        let at_s = UNIX_MS as i64 / 1_000 + 60;
        assert_eq!(memcached_deadline_at(at_s, 5_000, || UNIX_MS), Some(65_000));
        assert_eq!(memcached_deadline_at(at_s, 5_000, || UNIX_MS + 61_000), Some(4_000));
    }

    #[test]
    fn memcached_times_are_relative_up_to_30_days() {
        assert_eq!(memcached_deadline(0, 5_000), None);
        assert_eq!(memcached_deadline(-1, 5_000), Some(0));
        assert_eq!(memcached_deadline(2_592_000, 0), Some(2_592_000_000));
        assert_eq!(memcached_deadline(2_592_001, 5_000), Some(0), "January 1970");
        assert!(memcached_deadline(i64::MAX, 5_000).is_some());
    }

    #[test]
    fn seconds_are_rounded_to_the_nearest() {
        assert_eq!([499, 500, 1_499, 1_500].map(seconds_left), [0, 1, 1, 2]);
    }
}
