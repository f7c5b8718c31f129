//! The plain policies: `lru`, `lfu`, `fifo` and `random`, over the same three queues.
//!
//! `fifo` and `random` use one queue. `lru` makes the three queues parts of one line:
//!
//! ```text
//! insert --> Window --> Probation --> Protected --> evicted
//!              ^  |         |             |
//!              +--+---------+-------------+   used since it came to its queue
//! ```
//!
//! An item that was used goes back when it leaves its part. Its last use was then some time ago,
//! up to the length of the part; so a coin decides whether it goes back to the young end or to the
//! middle, and on average it is where an exact list would have it. A clock over one queue errs by
//! a whole turn, and always to one side. A use still costs one bit.
//!
//! `lfu` makes them classes of frequency: at most 1, at most 3, and more uses, aged. The lowest
//! class gives the victims; at the tail of each class items move to where they belong.

use super::ageing::Ageing;
use super::random::Random;
use super::{Demand, QUEUES, Queue, Residents, Step};
use crate::bounds::{
    INSERTS_PER_SURVEY, LRU_MIDDLE_SHARE, LRU_YOUNG_SHARE, MOVES_PER_INSERT, RANDOM_ONE_IN,
    RECYCLES_MAX,
};

const WINDOW_FIRST: [Queue; QUEUES] = [Queue::Window, Queue::Probation, Queue::Protected];
const WINDOW_LAST: [Queue; QUEUES] = [Queue::Protected, Queue::Probation, Queue::Window];

/// Least recently used, nearly.
#[derive(Debug)]
pub(crate) struct Lru {
    random: Random,
    /// Used items that were sent back since the last insert or eviction.
    recycled: u8,
}

impl Lru {
    pub(super) fn new(seed: u64) -> Lru {
        Lru { random: Random::new(seed), recycled: 0 }
    }

    /// What the items of the young or the middle part may cost together.
    pub(super) fn share_max(queue: Queue, capacity: u64) -> u64 {
        let share = if queue == Queue::Window { LRU_YOUNG_SHARE } else { LRU_MIDDLE_SHARE };
        (capacity as f64 * share) as u64
    }

    /// The frequency of a new item: nobody asks for it.
    pub(super) fn insert(&mut self) -> u8 {
        self.recycled = 0;
        0
    }

    pub(super) fn step(&mut self, residents: &mut impl Residents, demand: &Demand) -> Step {
        if demand.forced {
            return evict_oldest(residents, WINDOW_LAST);
        }
        for (from, to) in [(Queue::Window, Queue::Probation), (Queue::Probation, Queue::Protected)]
        {
            if residents.cost(from) > Lru::share_max(from, demand.capacity) {
                return self.pass(residents, from, Some(to));
            }
        }
        if !over(residents, demand) {
            return Step::Idle;
        }
        let last = WINDOW_LAST.into_iter().find(|&queue| residents.oldest(queue).is_some());
        last.map_or(Step::Idle, |queue| self.pass(residents, queue, None))
    }

    /// Sends the oldest item of `from` back if it was used, else on to `to` or out.
    fn pass(&mut self, residents: &mut impl Residents, from: Queue, to: Option<Queue>) -> Step {
        let Some(oldest) = residents.oldest(from) else { return Step::Idle };
        if oldest.referenced && self.recycled < RECYCLES_MAX {
            self.recycled += 1;
            let young = self.random.one_in(2);
            residents.advance(from, if young { Queue::Window } else { Queue::Probation });
            return Step::Moved;
        }
        match to {
            Some(to) => {
                residents.advance(from, to);
                Step::Moved
            }
            None => {
                self.recycled = 0;
                residents.evict(from);
                Step::Evicted
            }
        }
    }
}

/// First in, first out.
pub(super) fn fifo_step(residents: &mut impl Residents, demand: &Demand) -> Step {
    if demand.forced || over(residents, demand) {
        evict_oldest(residents, WINDOW_FIRST)
    } else {
        Step::Idle
    }
}

/// Whether an item must go.
fn over(residents: &impl Residents, demand: &Demand) -> bool {
    let cost = residents.cost(Queue::Window)
        + residents.cost(Queue::Probation)
        + residents.cost(Queue::Protected);
    demand.full || cost + demand.need > demand.capacity
}

/// Evicts the oldest item of the first of `queues` that has one.
fn evict_oldest(residents: &mut impl Residents, queues: [Queue; QUEUES]) -> Step {
    for queue in queues {
        if residents.oldest(queue).is_some() {
            residents.evict(queue);
            return Step::Evicted;
        }
    }
    Step::Idle
}

/// Any item, by chance: the oldest goes with some probability, else it takes another round.
#[derive(Debug)]
pub(crate) struct RandomChoice {
    random: Random,
    recycled: u8,
}

impl RandomChoice {
    pub(super) fn new(seed: u64) -> RandomChoice {
        RandomChoice { random: Random::new(seed), recycled: 0 }
    }

    pub(super) fn step(&mut self, residents: &mut impl Residents, demand: &Demand) -> Step {
        if !demand.forced && !over(residents, demand) {
            return Step::Idle;
        }
        let stays = !demand.forced
            && self.recycled < RECYCLES_MAX
            && !self.random.one_in(RANDOM_ONE_IN)
            && residents.oldest(Queue::Window).is_some();
        if stays {
            self.recycled += 1;
            residents.advance(Queue::Window, Queue::Window);
            return Step::Moved;
        }
        self.recycled = 0;
        evict_oldest(residents, WINDOW_FIRST)
    }
}

/// Least frequently used, with ageing.
#[derive(Debug)]
pub(crate) struct Lfu {
    pub(super) ageing: Ageing,
    inserts: u64,
    survey_due: bool,
    moves_left: u8,
}

/// The queue for items of a frequency.
fn class(frequency: u8) -> Queue {
    match frequency {
        0..=1 => Queue::Window,
        2..=3 => Queue::Probation,
        _ => Queue::Protected,
    }
}

impl Lfu {
    pub(super) fn new() -> Lfu {
        Lfu { ageing: Ageing::new(), inserts: 0, survey_due: true, moves_left: 0 }
    }

    /// The frequency of a new item.
    pub(super) fn insert(&mut self) -> u8 {
        self.ageing.advance();
        // There is no sketch to sweep.
        self.ageing.sketch_lines_due(0);
        self.ageing.count(0);
        self.inserts += 1;
        if self.inserts < INSERTS_PER_SURVEY || self.inserts.is_multiple_of(INSERTS_PER_SURVEY) {
            self.survey_due = true;
        }
        self.moves_left = RECYCLES_MAX;
        1
    }

    pub(super) fn step(&mut self, residents: &mut impl Residents, demand: &Demand) -> Step {
        if self.survey_due {
            self.survey_due = false;
            self.ageing.follow(residents.items());
        }
        if demand.forced {
            return evict_oldest(residents, WINDOW_FIRST);
        }
        // What has aged comes down from the upper classes, a few items an insert.
        if self.moves_left > RECYCLES_MAX - MOVES_PER_INSERT {
            self.moves_left -= 1;
            let upper =
                if self.moves_left.is_multiple_of(2) { Queue::Probation } else { Queue::Protected };
            if let Some(oldest) = residents.oldest(upper) {
                residents.advance(upper, class(oldest.frequency));
                return Step::Moved;
            }
        }
        if !over(residents, demand) {
            return Step::Idle;
        }
        for queue in WINDOW_FIRST {
            let Some(oldest) = residents.oldest(queue) else { continue };
            let home = class(oldest.frequency);
            if home as u8 > queue as u8 && self.moves_left > 0 {
                self.moves_left -= 1;
                residents.advance(queue, home);
                return Step::Moved;
            }
            residents.evict(queue);
            return Step::Evicted;
        }
        Step::Idle
    }
}
