//! How a worker waits for the next send time, and what the waiting costs.
//!
//! *Spin* never sleeps. *Hybrid* sleeps until a margin before the send time and polls the rest.
//! The margin follows the oversleep that this machine shows, but never exceeds a quarter of the
//! gap between two sends, so that polling takes at most about a quarter of a CPU at any rate; what
//! that leaves of the oversleep shows as lag, and the response times contain it.
//!
//! A sleep is a wait on the sockets, so a reply ends it early.
//!
//! Cost: no clock reads of its own; the caller passes the time that it has.

use hdrhistogram::Histogram;

use crate::recorder::empty_histogram;
use crate::sys::Wait;

/// The margin never grows above this: a machine that oversleeps longer is busy, and polling would
/// make it busier.
const MARGIN_NS_MAX: u64 = 100_000;

/// Longest single wait, so that a worker notices a stop of the run.
pub(crate) const WAIT_NS_MAX: u64 = 100_000_000;

/// What the waiting cost.
#[derive(Debug, Clone)]
pub(crate) struct PaceCost {
    /// Sleeps.
    pub(crate) sleeps: u64,
    /// Looks at the sockets without sleeping that found nothing.
    pub(crate) idle_polls: u64,
    /// Time spent in such looks.
    pub(crate) polling_ns: u64,
    /// How far after the send time the worker woke, per sleep that aimed at one.
    pub(crate) late: Histogram<u64>,
}

impl PaceCost {
    pub(crate) fn new() -> PaceCost {
        PaceCost { sleeps: 0, idle_polls: 0, polling_ns: 0, late: empty_histogram() }
    }

    pub(crate) fn merge(&mut self, other: &PaceCost) {
        self.sleeps += other.sleeps;
        self.idle_polls += other.idle_polls;
        self.polling_ns += other.polling_ns;
        self.late.add(&other.late).expect("all histograms have the same bounds");
    }
}

/// Decides each wait of one worker.
#[derive(Debug)]
pub(crate) struct Pacer {
    spin: bool,
    margin_ns: u64,
    margin_ns_max: u64,
    /// The end that the last wait aimed at, if it slept to reach a send time.
    aim_ns: Option<u64>,
    polled_since_ns: Option<u64>,
    cost: PaceCost,
}

impl Pacer {
    /// A pacer for sends that lie `gap_ns` apart.
    pub(crate) fn new(spin: bool, gap_ns: u64) -> Pacer {
        let margin_ns_max = MARGIN_NS_MAX.min(gap_ns / 4);
        Pacer {
            spin,
            margin_ns: margin_ns_max / 2,
            margin_ns_max,
            aim_ns: None,
            polled_since_ns: None,
            cost: PaceCost::new(),
        }
    }

    /// How to wait at `now_ns` for the send time `due_ns`.
    pub(crate) fn wait_for_send(&mut self, now_ns: u64, due_ns: u64) -> Wait {
        let left_ns = due_ns.saturating_sub(now_ns);
        if self.spin || left_ns <= self.margin_ns {
            return self.poll(now_ns);
        }
        let sleep_ns = left_ns - self.margin_ns;
        if sleep_ns <= WAIT_NS_MAX {
            self.aim_ns = Some(now_ns + sleep_ns);
        }
        self.cost.sleeps += 1;
        Wait::AtMostNs(sleep_ns.min(WAIT_NS_MAX))
    }

    /// How to wait at `now_ns` when only replies can make work.
    pub(crate) fn wait_for_replies(&mut self, now_ns: u64) -> Wait {
        if self.spin {
            return self.poll(now_ns);
        }
        self.cost.sleeps += 1;
        Wait::AtMostNs(WAIT_NS_MAX)
    }

    fn poll(&mut self, now_ns: u64) -> Wait {
        self.polled_since_ns = Some(now_ns);
        Wait::Poll
    }

    /// The wait is over; `found` says whether a socket ended it.
    pub(crate) fn woke(&mut self, now_ns: u64, found: bool) {
        if let Some(since_ns) = self.polled_since_ns.take()
            && !found
        {
            self.cost.idle_polls += 1;
            self.cost.polling_ns += now_ns.saturating_sub(since_ns);
        }
        let Some(aim_ns) = self.aim_ns.take() else { return };
        if found && now_ns < aim_ns {
            return;
        }
        let over_ns = now_ns.saturating_sub(aim_ns);
        self.cost.late.saturating_record(over_ns.saturating_sub(self.margin_ns));
        // An eighth of the way towards twice the seen oversleep: the margin settles above the
        // usual oversleep, and one bad sleep does not move it far.
        let target_ns = (over_ns * 2).min(self.margin_ns_max);
        self.margin_ns = (self.margin_ns * 7 + target_ns) / 8;
    }

    /// What the waiting has cost so far.
    pub(crate) fn cost(&self) -> &PaceCost {
        &self.cost
    }

    /// What the waiting has cost.
    pub(crate) fn into_cost(self) -> PaceCost {
        self.cost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_sleeps_until_the_margin_and_then_polls() {
        let mut pacer = Pacer::new(false, 1_000_000);
        assert_eq!(pacer.wait_for_send(0, 1_000_000), Wait::AtMostNs(950_000));
        pacer.woke(955_000, false);
        assert_eq!(pacer.wait_for_send(955_000, 1_000_000), Wait::Poll);
    }

    #[test]
    fn the_margin_follows_the_oversleep_within_its_bound() {
        let mut pacer = Pacer::new(false, 10_000_000);
        let mut now_ns = 0;
        let mut sleep = |pacer: &mut Pacer, over_ns: u64| {
            let due_ns = now_ns + 10_000_000;
            let Wait::AtMostNs(slept_ns) = pacer.wait_for_send(now_ns, due_ns) else {
                panic!("there is time to sleep")
            };
            now_ns += slept_ns + over_ns;
            pacer.woke(now_ns, false);
            due_ns - (now_ns - over_ns)
        };
        for _ in 0..200 {
            sleep(&mut pacer, 10_000);
        }
        let margin_ns = sleep(&mut pacer, 10_000);
        assert!((19_000..=21_000).contains(&margin_ns), "{margin_ns}");
        for _ in 0..200 {
            sleep(&mut pacer, 5_000_000);
        }
        assert!(sleep(&mut pacer, 0) <= MARGIN_NS_MAX);
        assert_eq!(Pacer::new(false, 40_000).margin_ns_max, 10_000);
    }

    #[test]
    fn spinning_never_sleeps_and_is_counted() {
        let mut pacer = Pacer::new(true, 1_000_000);
        assert_eq!(pacer.wait_for_send(0, 1_000_000), Wait::Poll);
        pacer.woke(300, false);
        assert_eq!(pacer.wait_for_replies(300), Wait::Poll);
        pacer.woke(500, true);
        let cost = pacer.into_cost();
        assert_eq!((cost.idle_polls, cost.polling_ns, cost.sleeps), (1, 300, 0));
    }

    #[test]
    fn long_waits_are_cut_so_that_a_stop_is_noticed() {
        let mut pacer = Pacer::new(false, 10_000_000_000);
        assert_eq!(pacer.wait_for_send(0, 10_000_000_000), Wait::AtMostNs(WAIT_NS_MAX));
        assert_eq!(pacer.wait_for_replies(0), Wait::AtMostNs(WAIT_NS_MAX));
    }
}
