//! W-TinyLFU over FIFO queues (Einziger, Friedman and Manes, ACM TOS 2017): a window for new
//! keys, a main part that a key enters only by beating its victim's frequency.
//!
//! Segmented LRU is approximated by CLOCK: a use sets a bit, and the bit is looked at when the item
//! is the oldest of its queue. Whether a key that was evicted lately is admitted whatever its
//! frequency is a setting of this core (`ghost_admits`); the duel decides it.
//!
//! - C1. A step moves at most one item and evicts at most one.
//! - C2. Moves are bounded: after `RECYCLES_MAX` used items in a row the next one is treated as
//!   unused, in the window and in the protected queue each, and from one eviction to the next
//!   probation promotes at most so many. So the steps that an insert takes to [`Step::Idle`] are
//!   bounded, whatever was used.
//! - C3. A changed window share is paid for in small parts: `MOVES_PER_INSERT` items each insert.
//!   A window above its share sends its excess to probation unopposed; a window below its share
//!   grows with the inserts while probation gives the victims.
//!
//! Cost: an insert touches a sketch line (and a ghost line while the ghost admits); an eviction
//! one of each.

use std::io;

use super::ageing::Ageing;
use super::ghost::Ghost;
use super::random::{Random, mix};
use super::sketch::Sketch;
use super::window::Window;
use super::{Demand, Queue, Resident, Residents, Step};
use crate::bounds::{
    CHANCE_FREQUENCY_MIN, CHANCE_ONE_IN, COST_RATIO_MAX, INSERTS_PER_SURVEY, MOVES_PER_INSERT,
    PROTECTED_SHARE, RECYCLES_MAX,
};
use crate::hash::KeyHash;

/// Events in a core since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct CoreStats {
    /// Window items that won against the main part's victim.
    pub(crate) admitted: u64,
    /// Window items that lost and were evicted.
    pub(crate) rejected: u64,
    /// Items admitted although their frequency alone would have lost: as ghosts.
    pub(crate) admitted_as_ghost: u64,
    /// Items moved: recycled, promoted, demoted, or sent from the window to probation.
    pub(crate) moved: u64,
}

/// A W-TinyLFU policy.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) ghost_admits: bool,
    pub(super) ageing: Ageing,
    pub(super) window: Window,
    sketch: Sketch,
    ghost: Ghost,
    random: Random,
    /// Residents, and how many the capacity has room for, as of the last survey.
    items: u64,
    items_max: u64,
    /// Inserts since the core was made.
    inserts: u64,
    survey_due: bool,
    /// Moves of a kind in a row, or since the last eviction (C2).
    window_recycled: u8,
    protected_recycled: u8,
    promoted: u8,
    /// What the window still has above a share that was lowered.
    release: u64,
    releases_left: u8,
    trims_left: u8,
    pub(super) stats: CoreStats,
}

impl Core {
    /// A core for at most about `items_max` items.
    ///
    /// # Errors
    ///
    /// The kernel's, when memory cannot be reserved.
    pub(super) fn new(seed: u64, sizes: &super::Sizes) -> io::Result<Core> {
        Ok(Core {
            ghost_admits: false,
            ageing: Ageing::new(),
            window: Window::new(),
            sketch: Sketch::new(sizes.sketch_lines_min, sizes.sketch_lines_max)?,
            ghost: Ghost::new(sizes.ghost_lines_max)?,
            random: Random::new(seed),
            items: 0,
            items_max: 0,
            inserts: 0,
            survey_due: true,
            window_recycled: 0,
            protected_recycled: 0,
            promoted: 0,
            release: 0,
            releases_left: 0,
            trims_left: 0,
            stats: CoreStats::default(),
        })
    }

    /// Items that the capacity has room for, as of the last survey.
    #[inline]
    pub(super) fn items_max(&self) -> u64 {
        self.items_max
    }

    /// Bytes of the sketch and the ghost.
    pub(super) fn bytes(&self) -> usize {
        self.sketch.bytes() + self.ghost.bytes()
    }

    /// Lines of the sketch.
    pub(super) fn sketch_lines(&self) -> usize {
        self.sketch.lines()
    }

    /// Asks for the lines that inserting or evicting the key will touch.
    #[inline]
    pub(super) fn prefetch(&self, hash: KeyHash) {
        let mixed = mix(hash.bits());
        self.sketch.prefetch(mixed);
        self.ghost.prefetch(mixed);
    }

    /// Counts the insertion of a key that was absent. Returns its frequency.
    pub(super) fn insert(&mut self, hash: KeyHash) -> u8 {
        let mixed = mix(hash.bits());
        if self.ageing.advance() {
            self.sketch.begin_epoch();
        }
        for line in self.ageing.sketch_lines_due(self.sketch.lines()) {
            self.sketch.sweep(line);
        }
        let (frequency, counted) = self.sketch.count(mixed);
        if counted {
            self.ageing.count(0);
        }
        if self.ghost_admits {
            self.ghost.refresh(mixed);
        }
        self.window.miss();
        self.sketch.follow(self.items);
        self.ghost.follow(self.items);
        self.inserts += 1;
        if self.inserts < INSERTS_PER_SURVEY || self.inserts.is_multiple_of(INSERTS_PER_SURVEY) {
            self.survey_due = true;
        }
        self.releases_left = MOVES_PER_INSERT;
        self.trims_left = MOVES_PER_INSERT;
        frequency
    }

    /// Whether it is time for a survey.
    #[inline]
    pub(super) fn is_due(&self) -> bool {
        self.survey_due
    }

    /// Looks at the size of things if it is time, and lets the climber move. Returns whether it
    /// was time.
    #[inline]
    pub(super) fn survey(&mut self, residents: &impl Residents, capacity: u64) -> bool {
        if self.survey_due {
            self.survey_due = false;
            self.items = residents.items();
            let cost = residents.cost(Queue::Window)
                + residents.cost(Queue::Probation)
                + residents.cost(Queue::Protected);
            let ratio = capacity as f64 / cost.max(1) as f64;
            self.items_max = (self.items as f64 * ratio).round() as u64;
            self.ageing.follow(self.items_max);
            return true;
        }
        if self.items_max > 0
            && let Some(change) = self.window.climb(self.items_max)
        {
            self.release = (-change * capacity as f64).max(0.0) as u64;
        }
        false
    }

    /// One step towards the demand (C1).
    pub(super) fn step(&mut self, residents: &mut impl Residents, demand: &Demand) -> Step {
        let window = residents.cost(Queue::Window);
        let protected = residents.cost(Queue::Protected);
        let total = window + protected + residents.cost(Queue::Probation);
        let over = demand.full || total + demand.need > demand.capacity;
        let window_max = self.window.cost_max(demand.capacity);
        let window_over = window > 0 && window + demand.need > window_max;
        if demand.forced {
            return self.force(residents, window_over);
        }
        let protected_max =
            (demand.capacity.saturating_sub(window_max) as f64 * PROTECTED_SHARE) as u64;
        if protected > protected_max && self.trims_left > 0 {
            self.trims_left -= 1;
            return self.trim(residents);
        }
        if window <= window_max {
            self.release = 0;
        }
        if window_over {
            return self.contest(residents, over);
        }
        if over { self.evict_victim(residents) } else { Step::Idle }
    }

    /// The oldest protected item: another round if it was used, else it is demoted.
    fn trim(&mut self, residents: &mut impl Residents) -> Step {
        let Some(oldest) = residents.oldest(Queue::Protected) else { return Step::Idle };
        if oldest.referenced && self.protected_recycled < RECYCLES_MAX {
            self.protected_recycled += 1;
            return self.advance(residents, Queue::Protected, Queue::Protected);
        }
        self.protected_recycled = 0;
        self.advance(residents, Queue::Protected, Queue::Probation)
    }

    /// The oldest window item: another round if it was used; else on to probation, if there is
    /// room or if it wins against the victim.
    fn contest(&mut self, residents: &mut impl Residents, over: bool) -> Step {
        let Some(candidate) = residents.oldest(Queue::Window) else { return Step::Idle };
        if candidate.referenced && self.window_recycled < RECYCLES_MAX {
            self.window_recycled += 1;
            return self.advance(residents, Queue::Window, Queue::Window);
        }
        if !over && self.releases_left == 0 {
            return Step::Idle;
        }
        if !over || (self.release > 0 && self.releases_left > 0) {
            self.window_recycled = 0;
            self.releases_left -= 1;
            self.release = self.release.saturating_sub(candidate.cost);
            return self.advance(residents, Queue::Window, Queue::Probation);
        }
        let Some((queue, victim)) = victim(residents) else {
            self.window_recycled = 0;
            return self.drop_item(residents, Queue::Window, &candidate);
        };
        if self.promotes(queue, &victim) {
            return self.promote(residents);
        }
        self.window_recycled = 0;
        if self.admits(&candidate, &victim) {
            self.drop_item(residents, queue, &victim);
            self.advance(residents, Queue::Window, Queue::Probation);
            self.stats.admitted += 1;
        } else {
            self.drop_item(residents, Queue::Window, &candidate);
            self.stats.rejected += 1;
        }
        Step::Evicted
    }

    /// The main part gives an item unopposed; the window if the main part is empty.
    fn evict_victim(&mut self, residents: &mut impl Residents) -> Step {
        match victim(residents) {
            Some((queue, victim)) if self.promotes(queue, &victim) => self.promote(residents),
            Some((queue, victim)) => self.drop_item(residents, queue, &victim),
            None => match residents.oldest(Queue::Window) {
                Some(oldest) => self.drop_item(residents, Queue::Window, &oldest),
                None => Step::Idle,
            },
        }
    }

    /// Evicts an item and moves none.
    fn force(&mut self, residents: &mut impl Residents, window_over: bool) -> Step {
        let victim = victim(residents);
        let candidate = match victim {
            Some(_) if !window_over => None,
            _ => residents.oldest(Queue::Window),
        };
        match (candidate, victim) {
            (None, None) => Step::Idle,
            (Some(candidate), Some((queue, victim))) if self.admits(&candidate, &victim) => {
                self.drop_item(residents, queue, &victim)
            }
            (Some(candidate), _) => self.drop_item(residents, Queue::Window, &candidate),
            (None, Some((queue, victim))) => self.drop_item(residents, queue, &victim),
        }
    }

    /// Whether the candidate is worth more than the victim: by uses for what it costs.
    fn admits(&mut self, candidate: &Resident, victim: &Resident) -> bool {
        // Uses for the room: the victim's uses times the candidate's cost are what the swap loses.
        let bound = |cost: u64, other: u64| {
            cost.clamp(other / COST_RATIO_MAX, other.saturating_mul(COST_RATIO_MAX)).max(1)
        };
        let candidate_cost = bound(candidate.cost, victim.cost);
        let gain = u64::from(candidate.frequency).saturating_mul(victim.cost.max(1));
        let loss = u64::from(victim.frequency).saturating_mul(candidate_cost);
        if gain > loss {
            return true;
        }
        if self.ghost_admits && self.ghost.contains(mix(candidate.hash.bits())) {
            self.stats.admitted_as_ghost += 1;
            return true;
        }
        // Somebody who knows the hash could make a victim look better than all real candidates:
        // a frequent loser sometimes wins.
        candidate.frequency >= CHANCE_FREQUENCY_MIN && self.random.one_in(CHANCE_ONE_IN)
    }

    fn promotes(&self, queue: Queue, victim: &Resident) -> bool {
        queue == Queue::Probation && victim.referenced && self.promoted < RECYCLES_MAX
    }

    fn promote(&mut self, residents: &mut impl Residents) -> Step {
        self.promoted += 1;
        self.trims_left = self.trims_left.saturating_add(1);
        self.advance(residents, Queue::Probation, Queue::Protected)
    }

    fn advance(&mut self, residents: &mut impl Residents, from: Queue, to: Queue) -> Step {
        residents.advance(from, to);
        self.stats.moved += 1;
        Step::Moved
    }

    /// Evicts the oldest of `queue`, and remembers it.
    fn drop_item(&mut self, residents: &mut impl Residents, queue: Queue, item: &Resident) -> Step {
        let mixed = mix(item.hash.bits());
        // A count of one is what its insertion left in the sketch.
        if item.frequency > 1 {
            self.sketch.raise(mixed, item.frequency);
        }
        self.ghost.add(mixed, self.items);
        residents.evict(queue);
        self.promoted = 0;
        Step::Evicted
    }
}

/// Who would go from the main part.
fn victim(residents: &mut impl Residents) -> Option<(Queue, Resident)> {
    if let Some(oldest) = residents.oldest(Queue::Probation) {
        return Some((Queue::Probation, oldest));
    }
    residents.oldest(Queue::Protected).map(|oldest| (Queue::Protected, oldest))
}
