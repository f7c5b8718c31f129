//! Evenly spaced send times, exact over any number of requests.
//!
//! Request `k` is due at `floor(k * 10^12 / millihertz)` nanoseconds after the start. The remainder
//! of the division is carried along, so no rounding error adds up.
//!
//! Cost: two additions and a comparison per request.

use crate::config::Rate;

/// Nanoseconds in 1000 seconds, the unit in which a rate counts whole requests.
const NS_PER_KILOSECOND: u64 = 1_000_000_000_000;

/// When request `index` of the run is due, in nanoseconds after the start.
///
/// # Panics
/// Never within the limits of [`crate::config`]: a year at the highest rate fits 64 bits.
pub(crate) fn due_ns(rate: Rate, index: u64) -> u64 {
    let exact = u128::from(index) * u128::from(NS_PER_KILOSECOND) / u128::from(rate.millihertz);
    u64::try_from(exact).expect("a run is shorter than 584 years")
}

/// The first request that is due at `offset_ns` or later.
pub(crate) fn first_index_at(rate: Rate, offset_ns: u64) -> u64 {
    let exact = (u128::from(offset_ns) * u128::from(rate.millihertz))
        .div_ceil(u128::from(NS_PER_KILOSECOND));
    u64::try_from(exact).expect("a run has fewer than 2^64 requests")
}

/// The due times of one worker, in order.
#[derive(Debug, Clone)]
pub(crate) struct Steady {
    index: u64,
    stride: u64,
    due_ns: u64,
    /// Numerator of the fraction of a nanosecond that `due_ns` leaves out (I1).
    remainder: u64,
    step_ns: u64,
    step_remainder: u64,
    millihertz: u64,
}

impl Steady {
    /// The schedule of worker `worker` of `workers`.
    pub(crate) fn new(rate: Rate, worker: usize, workers: usize) -> Steady {
        let (worker, stride) = (worker as u64, workers as u64);
        let step = stride * NS_PER_KILOSECOND;
        Steady {
            index: worker,
            stride,
            due_ns: due_ns(rate, worker),
            remainder: (worker * NS_PER_KILOSECOND) % rate.millihertz,
            step_ns: step / rate.millihertz,
            step_remainder: step % rate.millihertz,
            millihertz: rate.millihertz,
        }
    }

    /// When the next request is due, in nanoseconds after the start of the run.
    #[inline]
    pub(crate) fn due_ns(&self) -> u64 {
        self.due_ns
    }

    /// The number of the next request in the whole run.
    #[inline]
    pub(crate) fn index(&self) -> u64 {
        self.index
    }

    /// Goes on to the worker's next request.
    #[inline]
    pub(crate) fn advance(&mut self) {
        self.index += self.stride;
        self.due_ns += self.step_ns;
        self.remainder += self.step_remainder;
        if self.remainder >= self.millihertz {
            self.remainder -= self.millihertz;
            self.due_ns += 1;
        }
    }

    /// How many requests of this worker are due at `offset_ns` and not yet taken.
    pub(crate) fn backlog(&self, offset_ns: u64) -> u64 {
        if offset_ns < self.due_ns {
            return 0;
        }
        // The step can round to 0 ns only above 10^9 requests per second, which is excluded.
        (offset_ns - self.due_ns) / self.step_ns.max(1) + 1
    }

    /// The gap between two requests of this worker, rounded down to nanoseconds.
    pub(crate) fn gap_ns(&self) -> u64 {
        self.step_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_exact_over_ten_million_sends() {
        for (millihertz, worker, workers) in
            [(60_000_000, 0, 1), (333_333, 2, 3), (7_000_001, 1, 2), (999_999_999_999, 0, 4)]
        {
            let rate = Rate { millihertz };
            let mut schedule = Steady::new(rate, worker, workers);
            for step in 0..10_000_000_u64 {
                let index = worker as u64 + step * workers as u64;
                debug_assert_eq!(schedule.index(), index);
                if step % 64 == 0 || step > 9_999_000 {
                    assert_eq!(schedule.due_ns(), due_ns(rate, index), "{millihertz} {index}");
                }
                schedule.advance();
            }
        }
    }

    #[test]
    fn the_workers_share_one_schedule() {
        let rate = Rate { millihertz: 7_777_777 };
        let mut workers: Vec<Steady> = (0..3).map(|w| Steady::new(rate, w, 3)).collect();
        for index in 0..1000 {
            let schedule = &mut workers[index as usize % 3];
            assert_eq!((schedule.index(), schedule.due_ns()), (index, due_ns(rate, index)));
            schedule.advance();
        }
    }

    #[test]
    fn the_first_index_is_the_first_due_in_time() {
        for millihertz in [1, 999, 1000, 60_000_000, 7_654_321] {
            let rate = Rate { millihertz };
            for offset_ns in [0, 1, 999, 1_000_000_000, 1_000_000_001, 12_345_678_912] {
                let index = first_index_at(rate, offset_ns);
                assert!(due_ns(rate, index) >= offset_ns);
                assert!(index == 0 || due_ns(rate, index - 1) < offset_ns);
            }
        }
    }

    #[test]
    fn the_backlog_counts_what_is_due() {
        let rate = Rate { millihertz: 1_000_000 };
        let mut schedule = Steady::new(rate, 1, 2);
        assert_eq!(schedule.due_ns(), 1_000_000);
        assert_eq!(schedule.backlog(999_999), 0);
        assert_eq!(schedule.backlog(1_000_000), 1);
        assert_eq!(schedule.backlog(3_000_000), 2);
        schedule.advance();
        assert_eq!(schedule.backlog(3_000_000), 1);
        assert_eq!(schedule.gap_ns(), 2_000_000);
    }
}
