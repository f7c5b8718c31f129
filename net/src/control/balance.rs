//! Memory for items follows the load: a core that evicts gets, bit by bit, what another does not
//! use. All cores are entitled to the same share; one that gave some away and comes to evict gets it
//! back, also from a core that is full.
//!
//! A move has two steps. First the giver's limit is lowered; when its items fit into that, which
//! may take a while, the taker's is raised. So the limits never add up to more than the whole.
//!
//! Cost: a message to each core and back in [`PERIOD`], and a step of at most one part in
//! [`STEPS`] of a share in that time: it takes minutes to move most of a share, so that a short
//! burst moves little.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::core::{CoreHandle, CoreMessage, Weight};

/// Time between two looks.
pub(super) const PERIOD: Duration = Duration::from_secs(1);
/// How long cores have for an answer, all together.
const ANSWER_TIME: Duration = Duration::from_millis(100);
/// Moves that a whole share would take.
const STEPS: u64 = 64;
/// No core gives away more than so many parts in four of its share.
const GIVEN_QUARTERS_MAX: u64 = 3;

/// A move whose first step is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Move {
    from: usize,
    to: usize,
    bytes: u64,
}

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Balance {
    /// What was evicted on each core until the last look.
    evictions: Vec<u64>,
    open: Option<Move>,
}

impl Balance {
    /// Looks at all cores, and moves a bit of memory if it is of more use elsewhere.
    pub(super) fn look(&mut self, cores: &[CoreHandle]) {
        let (to, answers) = channel();
        for core in cores {
            core.tell(CoreMessage::Weigh(to.clone()));
        }
        drop(to);
        let until = Instant::now() + ANSWER_TIME;
        let mut weights: Vec<Option<Weight>> = vec![None; cores.len()];
        let mut left = cores.len();
        while left > 0 {
            let time = until.saturating_duration_since(Instant::now());
            let Ok((core, weight)) = answers.recv_timeout(time) else { return };
            weights[core] = Some(weight);
            left -= 1;
        }
        let weights: Vec<Weight> = weights.into_iter().flatten().collect();
        if let Some((core, bytes)) = self.step(&weights) {
            cores[core].tell(CoreMessage::Shift(bytes));
        }
    }

    /// What to change next: by how many bytes which core's limit.
    fn step(&mut self, weights: &[Weight]) -> Option<(usize, i64)> {
        let mut evicts: Vec<bool> = vec![false; weights.len()];
        if self.evictions.len() == weights.len() {
            for (core, weight) in weights.iter().enumerate() {
                evicts[core] = weight.evictions > self.evictions[core];
            }
        }
        self.evictions = weights.iter().map(|weight| weight.evictions).collect();
        if let Some(Move { from, to, bytes }) = self.open {
            let fits = weights[from].used_bytes <= weights[from].limit_bytes;
            return fits.then(|| {
                self.open = None;
                (to, bytes as i64)
            });
        }
        // What a taker could not take, or a new limit of the whole has left over.
        let missing = weights.iter().map(|weight| weight.shifted_bytes).sum::<i64>();
        let poorest = |cores: &mut dyn Iterator<Item = usize>| {
            cores.min_by_key(|&core| weights[core].shifted_bytes)
        };
        if missing < 0 {
            return poorest(&mut (0..weights.len())).map(|core| (core, -missing));
        }
        let is_full = |core: &usize| {
            evicts[*core] && weights[*core].used_bytes >= weights[*core].limit_bytes / 32 * 31
        };
        let to = poorest(&mut (0..weights.len()).filter(is_full))?;
        let bytes = weights[to].share_bytes / STEPS;
        let may_give = |core: &usize| {
            let given_bytes = bytes as i64 - weights[*core].shifted_bytes;
            *core != to
                && given_bytes <= (weights[*core].share_bytes / 4 * GIVEN_QUARTERS_MAX) as i64
        };
        let room = |core: usize| weights[core].limit_bytes.saturating_sub(weights[core].used_bytes);
        let has_room = |core: &usize| !evicts[*core] && room(*core) >= 2 * bytes;
        let givers = || (0..weights.len()).filter(may_give);
        let from = givers().filter(has_room).max_by_key(|&core| room(core)).or_else(|| {
            let richest = givers().max_by_key(|&core| weights[core].shifted_bytes)?;
            let owes = weights[to].shifted_bytes < 0 && weights[richest].shifted_bytes > 0;
            owes.then_some(richest)
        })?;
        self.open = Some(Move { from, to, bytes });
        Some((from, -(bytes as i64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: u64 = 64 << 20;
    const STEP: i64 = (SHARE / STEPS) as i64;

    /// Cores as they would be, which do what they are told.
    struct Model {
        balance: Balance,
        weights: Vec<Weight>,
    }

    impl Model {
        fn new(used_bytes: &[u64]) -> Model {
            let weight = |&used_bytes: &u64| Weight {
                used_bytes,
                limit_bytes: SHARE,
                share_bytes: SHARE,
                shifted_bytes: 0,
                evictions: 0,
            };
            let mut model = Model {
                balance: Balance::default(),
                weights: used_bytes.iter().map(weight).collect(),
            };
            assert_eq!(model.look(&[]), None, "nothing is known of evictions");
            model
        }

        /// A look after some cores have evicted.
        fn look(&mut self, evicting: &[usize]) -> Option<(usize, i64)> {
            evicting.iter().for_each(|&core| self.weights[core].evictions += 1);
            let change = self.balance.step(&self.weights);
            if let Some((core, bytes)) = change {
                let weight = &mut self.weights[core];
                weight.limit_bytes = weight.limit_bytes.saturating_add_signed(bytes);
                weight.shifted_bytes += bytes;
            }
            let limits: u64 = self.weights.iter().map(|weight| weight.limit_bytes).sum();
            assert!(limits <= SHARE * self.weights.len() as u64, "more than the whole");
            change
        }
    }

    #[test]
    fn what_one_core_does_not_use_goes_to_one_that_evicts() {
        let mut model = Model::new(&[SHARE, SHARE / 8, SHARE / 2]);
        for _ in 0..20 {
            assert_eq!(model.look(&[0]), Some((1, -STEP)));
            assert_eq!(model.look(&[0]), Some((0, STEP)));
            model.weights[0].used_bytes = model.weights[0].limit_bytes;
        }
        // Nobody evicts: nothing moves.
        assert_eq!(model.look(&[]), None);
        // All do: nothing moves either, but for what was given away.
        model.weights[1].used_bytes = model.weights[1].limit_bytes;
        model.weights[2].used_bytes = model.weights[2].limit_bytes;
        assert_eq!(model.look(&[0, 1, 2]), Some((0, -STEP)));
        // It waits until the giver's items fit.
        assert_eq!(model.look(&[0, 1, 2]), None);
        model.weights[0].used_bytes = model.weights[0].limit_bytes;
        assert_eq!(model.look(&[0, 1, 2]), Some((1, STEP)));
    }

    #[test]
    fn a_core_keeps_a_part_of_its_share_and_what_is_lost_comes_back() {
        let mut model = Model::new(&[SHARE, 0]);
        let mut moves = 0;
        while model.look(&[0]).is_some() {
            model.weights[0].used_bytes = model.weights[0].limit_bytes;
            moves += 1;
        }
        assert_eq!(moves / 2, STEPS * GIVEN_QUARTERS_MAX / 4);
        model.weights[0].shifted_bytes -= STEP;
        model.weights[0].limit_bytes -= STEP as u64;
        assert_eq!(model.look(&[]), Some((1, STEP)));
    }
}
