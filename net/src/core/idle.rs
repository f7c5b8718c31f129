//! The idle ladder: how a core that has run dry waits for work.
//!
//! ```text
//! work --> spin (only if asked for, or if the core is ours alone) --> nap in the data ring
//!      --> park, after 100 ms of silence
//! ```
//!
//! No sleep outlasts the next timer: a core with items that expire wakes when their group has come
//! (`Core::next_timer_ms`), and does not park, since the ring alone keeps the time.
//!
//! A nap costs one system call and wakes in one hop. Its own end is there for the driver's sake
//! alone, and far off: a timer that is the CPU's earliest costs two reprogrammings of the hardware
//! each time. A park hands the thread to its driver: the bare driver sleeps in the ring without a
//! limit; the glommio driver sleeps in glommio, which costs several system calls and an interrupt
//! to every other core of the process, and is therefore the last rung. Pure state, no I/O; time is
//! handed in.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The longest sleep in the data ring; glommio's own tasks wait this long at most.
pub(super) const NAP: Duration = Duration::from_millis(32);
/// Silence before parking.
const PARK_AFTER_NS: u64 = 100_000_000;
/// How long `auto` spins where the core is ours alone.
const AUTO_SPIN: Duration = Duration::from_micros(50);

/// What `--idle` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleMode {
    /// Nap, then park; spin first only where the core is exclusively ours.
    Auto,
    /// Park at once.
    Park,
    /// Spin this long before sleeping.
    Spin(Duration),
    /// Never sleep.
    Poll,
}

impl FromStr for IdleMode {
    type Err = String;

    fn from_str(text: &str) -> Result<IdleMode, String> {
        match text {
            "auto" => Ok(IdleMode::Auto),
            "park" => Ok(IdleMode::Park),
            "poll" => Ok(IdleMode::Poll),
            _ => {
                let time = text.strip_prefix("spin:").and_then(parse_time).ok_or_else(|| {
                    format!("'{text}' is not auto, park, poll or spin:TIME (such as spin:50us)")
                })?;
                Ok(IdleMode::Spin(time))
            }
        }
    }
}

impl fmt::Display for IdleMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdleMode::Auto => f.write_str("auto"),
            IdleMode::Park => f.write_str("park"),
            IdleMode::Poll => f.write_str("poll"),
            IdleMode::Spin(time) => write!(f, "spin:{}us", time.as_micros()),
        }
    }
}

fn parse_time(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let count: u64 = digits.parse().ok()?;
    let time = match &text[digits.len()..] {
        "us" => Duration::from_micros(count),
        "ms" => Duration::from_millis(count),
        _ => return None,
    };
    (time <= Duration::from_secs(1)).then_some(time)
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Look again at once, without sleeping.
    Look,
    /// Sleep in the data ring, at most this long.
    Nap(Duration),
    /// Sleep as the driver does best, until something happens.
    Park,
}

/// The state of one core's ladder.
#[derive(Debug)]
pub struct Ladder {
    spin_ns: u64,
    poll: bool,
    park_after_ns: u64,
    last_work_ns: u64,
}

impl Ladder {
    /// A ladder for a mode; `exclusive` says that nobody else may run on the core.
    pub fn new(mode: IdleMode, exclusive: bool) -> Ladder {
        let spin = match mode {
            IdleMode::Auto if exclusive => AUTO_SPIN,
            IdleMode::Spin(time) => time,
            IdleMode::Auto | IdleMode::Park | IdleMode::Poll => Duration::ZERO,
        };
        Ladder {
            spin_ns: spin.as_nanos() as u64,
            poll: mode == IdleMode::Poll,
            park_after_ns: if mode == IdleMode::Park { 0 } else { PARK_AFTER_NS },
            last_work_ns: 0,
        }
    }

    /// Tells that a turn found work at this time.
    pub fn worked(&mut self, now_ns: u64) {
        self.last_work_ns = now_ns;
    }

    /// What to do at this time, now that there is nothing to do.
    pub fn rest(&mut self, now_ns: u64) -> Rest {
        let silence_ns = now_ns.saturating_sub(self.last_work_ns);
        if self.poll || silence_ns < self.spin_ns {
            return Rest::Look;
        }
        if silence_ns >= self.park_after_ns {
            return Rest::Park;
        }
        Rest::Nap(NAP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn modes_are_parsed_and_printed() {
        for text in ["auto", "park", "poll", "spin:50us"] {
            assert_eq!(text.parse::<IdleMode>().unwrap().to_string(), text);
        }
        assert_eq!("spin:2ms".parse(), Ok(IdleMode::Spin(Duration::from_millis(2))));
        for text in ["", "spin", "spin:", "spin:us", "spin:5", "spin:2000ms", "spin:5s", "Spin:1us"]
        {
            assert!(text.parse::<IdleMode>().unwrap_err().contains("spin:50us"), "{text}");
        }
    }

    #[test]
    fn auto_naps_and_then_parks() {
        let mut ladder = Ladder::new(IdleMode::Auto, false);
        ladder.worked(5 * MS);
        assert_eq!(ladder.rest(6 * MS), Rest::Nap(NAP));
        assert_eq!(ladder.rest(104 * MS), Rest::Nap(NAP));
        assert_eq!(ladder.rest(105 * MS), Rest::Park);
        ladder.worked(200 * MS);
        assert_eq!(ladder.rest(200 * MS), Rest::Nap(NAP));
    }

    #[test]
    fn spinning_ends_and_polling_does_not() {
        let mut spin = Ladder::new(IdleMode::Auto, true);
        spin.worked(MS);
        assert_eq!(spin.rest(MS + 49_000), Rest::Look);
        assert_eq!(spin.rest(MS + 50_000), Rest::Nap(NAP));
        let mut poll = Ladder::new(IdleMode::Poll, false);
        assert_eq!(poll.rest(900 * MS), Rest::Look);
        let mut park = Ladder::new(IdleMode::Park, true);
        park.worked(MS);
        assert_eq!(park.rest(MS), Rest::Park);
    }
}
