//! The window's share of the cache, and the climber that moves it.
//!
//! The window serves keys that are used again soon, the main part those that are used often. Every
//! `CLIMB_REQUESTS` requests an item, the climber compares how many hits each part brought for
//! its size, and moves the share towards the denser part: by a step in proportion to the
//! logarithm of the densities' ratio (the steering rule of Caffeine's window climber since 2026).
//!
//! Only ratios matter, so hits may be sampled; `requests` says how many stand behind a sample.

use crate::bounds::{
    CLIMB_GAIN, CLIMB_REQUESTS, CLIMB_STEP_MAX, WINDOW_SHARE_MAX, WINDOW_SHARE_MIN,
    WINDOW_SHARE_START,
};

/// The window of one cache.
#[derive(Debug)]
pub(super) struct Window {
    /// Of the capacity.
    share: f64,
    window_hits: u64,
    main_hits: u64,
    requests: u64,
}

impl Window {
    /// A window of the starting share.
    pub(super) fn new() -> Window {
        Window { share: WINDOW_SHARE_START, window_hits: 0, main_hits: 0, requests: 0 }
    }

    /// The window's part of the capacity.
    pub(super) fn share(&self) -> f64 {
        self.share
    }

    /// What the window's items may cost together, at least 1.
    #[inline]
    pub(super) fn cost_max(&self, capacity: u64) -> u64 {
        ((self.share * capacity as f64 + 0.5) as u64).max(1)
    }

    /// Counts a hit that stands for `requests` of them.
    #[inline]
    pub(super) fn hit(&mut self, in_window: bool, requests: u64) {
        self.requests += requests;
        if in_window {
            self.window_hits += 1;
        } else {
            self.main_hits += 1;
        }
    }

    /// Counts a miss.
    #[inline]
    pub(super) fn miss(&mut self) {
        self.requests += 1;
    }

    /// Moves the share, if it is time, in a cache that has room for `items`. Returns by how much.
    #[inline]
    pub(super) fn climb(&mut self, items: u64) -> Option<f64> {
        if self.requests < CLIMB_REQUESTS.saturating_mul(items) {
            return None;
        }
        let window_density = (self.window_hits as f64 + 0.5) / self.share;
        let main_density = (self.main_hits as f64 + 0.5) / (1.0 - self.share);
        let lead = (window_density / main_density).ln();
        let step = (lead * CLIMB_GAIN).clamp(-CLIMB_STEP_MAX, CLIMB_STEP_MAX);
        let share_min = WINDOW_SHARE_MIN.max(1.0 / items.max(2) as f64).min(WINDOW_SHARE_MAX);
        let before = self.share;
        self.share = (before + step).clamp(share_min, WINDOW_SHARE_MAX);
        (self.window_hits, self.main_hits, self.requests) = (0, 0, 0);
        Some(self.share - before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(window: &mut Window, window_hits: u64, main_hits: u64) {
        for _ in 0..200 {
            (0..window_hits).for_each(|_| window.hit(true, 1));
            (0..main_hits).for_each(|_| window.hit(false, 1));
            while window.climb(100).is_none() {
                window.miss();
            }
        }
    }

    #[test]
    fn the_denser_part_grows_until_densities_are_equal() {
        let mut window = Window::new();
        assert!(window.climb(100).is_none());
        rounds(&mut window, 100, 0);
        assert_eq!(window.share(), WINDOW_SHARE_MAX);
        rounds(&mut window, 0, 100);
        assert_eq!(window.share(), WINDOW_SHARE_MIN);
        rounds(&mut window, 60, 60);
        assert!((window.share() - 0.5).abs() < 0.05, "{}", window.share());
        assert_eq!(window.cost_max(0), 1);
    }

    #[test]
    fn a_tiny_cache_keeps_a_window_of_one_item() {
        let mut window = Window::new();
        for _ in 0..200 {
            (0..80).for_each(|_| window.hit(false, 1));
            window.climb(20);
        }
        assert_eq!(window.cost_max(20), 1);
        assert_eq!(window.share(), 0.05);
    }
}
