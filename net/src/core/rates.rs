//! Rates that INFO tells: how fast counters grow, over the last second and a half.
//!
//! A sample is taken by the first turn of each tenth of a second; a core that rests takes none, so
//! a question reckons with the oldest sample that is not too old, up to now.

use super::limits::{RATE_SAMPLE_MS, RATE_SAMPLES};

/// Counters at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    /// The moment, in server milliseconds.
    pub(super) at_ms: u64,
    /// Commands executed.
    pub(super) commands: u64,
    /// Bytes received.
    pub(super) bytes_in: u64,
    /// Bytes sent.
    pub(super) bytes_out: u64,
    /// Nanoseconds that the core was busy.
    pub(super) busy_ns: u64,
}

/// How fast they grow, a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateFigures {
    /// Commands.
    pub commands: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Thousandths of the time that the core was busy.
    pub busy_permille: u64,
}

/// The samples.
#[derive(Debug, Default)]
pub(super) struct Rates {
    samples: [Sample; RATE_SAMPLES],
    next: usize,
    next_ms: u64,
}

impl Rates {
    /// Whether a sample is due.
    #[inline]
    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        now_ms >= self.next_ms
    }

    /// Takes a sample.
    pub(super) fn take(&mut self, sample: Sample) {
        self.samples[self.next] = sample;
        self.next = (self.next + 1) % RATE_SAMPLES;
        self.next_ms = sample.at_ms + RATE_SAMPLE_MS;
    }

    /// The rates up to now.
    pub(super) fn up_to(&self, now: Sample) -> RateFigures {
        let from_ms = now.at_ms.saturating_sub(RATE_SAMPLE_MS * RATE_SAMPLES as u64);
        let usable = self.samples.iter().filter(|sample| {
            // Counters that were zeroed since would seem to run backwards.
            sample.at_ms >= from_ms.max(1) && sample.bytes_in <= now.bytes_in
        });
        let Some(oldest) = usable.min_by_key(|sample| sample.at_ms) else {
            return RateFigures::default();
        };
        let per_second = |before: u64, after: u64| {
            after.saturating_sub(before) * 1_000 / (now.at_ms - oldest.at_ms).max(1)
        };
        RateFigures {
            commands: per_second(oldest.commands, now.commands),
            bytes_in: per_second(oldest.bytes_in, now.bytes_in),
            bytes_out: per_second(oldest.bytes_out, now.bytes_out),
            busy_permille: per_second(oldest.busy_ns, now.busy_ns) / 1_000_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(at_ms: u64, commands: u64) -> Sample {
        let (bytes_in, bytes_out, busy_ns) = (commands * 10, commands * 5, commands * 500_000);
        Sample { at_ms, commands, bytes_in, bytes_out, busy_ns }
    }

    #[test]
    fn a_steady_stream_has_its_rate_and_silence_has_none() {
        let mut rates = Rates::default();
        assert_eq!(rates.up_to(at(5_000, 9)), RateFigures::default());
        for step in 0..40 {
            let now_ms = 1_000 + step * 100;
            assert!(rates.is_due(now_ms));
            rates.take(at(now_ms, step * 50));
            assert!(!rates.is_due(now_ms + 99));
        }
        let figures = rates.up_to(at(5_000, 2_000));
        let wanted =
            RateFigures { commands: 500, bytes_in: 5_000, bytes_out: 2_500, busy_permille: 250 };
        assert_eq!(figures, wanted);
        let slower = rates.up_to(at(5_500, 2_000)).commands;
        assert!((300..400).contains(&slower), "{slower}");
        assert_eq!(rates.up_to(at(60_000, 2_000)), RateFigures::default());
    }
}
