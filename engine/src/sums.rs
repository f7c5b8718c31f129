//! Statistics of several shards as one: counts and bytes are summed, the longest is the longest of
//! all, and means are weighted by what they are means of.
//!
//! Quantiles of lags cannot be joined from quantiles: they come from the histograms, see
//! [`ExpiryLags`].

use crate::expiry::ExpiryLags;
use crate::stats::{
    Counters, DatabaseStats, ExpiryStats, LeaseStats, PolicyStats, ShardStats, Work,
};

/// The mean of both: `a` of `a_count` things, `b` of `b_count`.
fn joined_mean(a: u64, a_count: u64, b: u64, b_count: u64) -> u64 {
    let sum = u128::from(a) * u128::from(a_count) + u128::from(b) * u128::from(b_count);
    sum.checked_div(u128::from(a_count) + u128::from(b_count)).unwrap_or(0) as u64
}

impl DatabaseStats {
    /// Adds what the database holds in another shard.
    pub fn add(&mut self, other: &DatabaseStats) {
        self.mean_left_ms = joined_mean(
            self.mean_left_ms,
            self.volatile_items,
            other.mean_left_ms,
            other.volatile_items,
        );
        self.items += other.items;
        self.volatile_items += other.volatile_items;
    }
}

impl ShardStats {
    /// Adds the counters and gauges of another shard. The quantiles of lags are left as they are:
    /// see [`ExpiryStats::take_quantiles`]. Cost: O(1).
    pub fn add(&mut self, other: &ShardStats) {
        let ShardStats {
            items,
            live_bytes,
            dead_bytes,
            log_bytes,
            page_bytes,
            arriving_bytes,
            pinned_bytes,
            table_bytes,
            table_resident_bytes,
            warm_bytes,
            away_bytes,
            table_slots,
            overflow_lines,
            expiry,
            policy,
            leases: LeaseStats { granted, timed_out },
            counters,
            work,
        } = other;
        // The policies' shares are weighted by what they are shares of.
        self.policy.add(policy, self.log_bytes, *log_bytes);
        self.items += items;
        self.live_bytes += live_bytes;
        self.dead_bytes += dead_bytes;
        self.log_bytes += log_bytes;
        self.page_bytes += page_bytes;
        self.arriving_bytes += arriving_bytes;
        self.pinned_bytes += pinned_bytes;
        self.table_bytes += table_bytes;
        self.table_resident_bytes += table_resident_bytes;
        self.warm_bytes += warm_bytes;
        self.away_bytes += away_bytes;
        self.table_slots += table_slots;
        self.overflow_lines += overflow_lines;
        self.expiry.add(expiry);
        self.leases.granted += granted;
        self.leases.timed_out += timed_out;
        self.counters.add(counters);
        self.work.add(work);
    }
}

impl PolicyStats {
    fn add(&mut self, other: &PolicyStats, own_bytes: u64, other_bytes: u64) {
        let PolicyStats {
            window_share_permille,
            queue_costs,
            admitted,
            rejected,
            admitted_as_ghost,
            ghost_admits,
            duel_changes,
            epochs,
            bytes,
        } = other;
        self.window_share_permille = joined_mean(
            self.window_share_permille.into(),
            own_bytes.max(1),
            (*window_share_permille).into(),
            other_bytes.max(1),
        ) as u32;
        for (sum, cost) in self.queue_costs.iter_mut().zip(queue_costs) {
            *sum += cost;
        }
        self.admitted += admitted;
        self.rejected += rejected;
        self.admitted_as_ghost += admitted_as_ghost;
        self.ghost_admits |= ghost_admits;
        self.duel_changes += duel_changes;
        self.epochs += epochs;
        self.bytes += bytes;
    }
}

impl ExpiryStats {
    fn add(&mut self, other: &ExpiryStats) {
        self.mean_ttl_ms =
            joined_mean(self.mean_ttl_ms, self.items, other.mean_ttl_ms, other.items);
        self.items += other.items;
        self.entries += other.entries;
        self.groups += other.groups;
        self.bytes += other.bytes;
        self.lag_count += other.lag_count;
        self.lag_max_ms = self.lag_max_ms.max(other.lag_max_ms);
    }

    /// Takes count, quantiles and maximum from the lags of all shards.
    pub fn take_quantiles(&mut self, lags: &ExpiryLags) {
        let summary = lags.summary();
        self.lag_count = summary.count;
        self.lag_p50_ms = summary.p50_ms;
        self.lag_p99_ms = summary.p99_ms;
        self.lag_max_ms = summary.max_ms;
    }
}

impl Counters {
    fn add(&mut self, other: &Counters) {
        let Counters {
            hits,
            misses,
            stores,
            evictions,
            evictions_window,
            evictions_main,
            evictions_forced,
            evicted_bytes,
            expired,
            items_moved,
            bytes_moved,
            overwrites_in_place,
            splits,
            merges,
            chain_evictions,
            chain_lines_max,
            clock_flushes,
            no_space,
        } = other;
        self.hits += hits;
        self.misses += misses;
        self.stores += stores;
        self.evictions += evictions;
        self.evictions_window += evictions_window;
        self.evictions_main += evictions_main;
        self.evictions_forced += evictions_forced;
        self.evicted_bytes += evicted_bytes;
        self.expired += expired;
        self.items_moved += items_moved;
        self.bytes_moved += bytes_moved;
        self.overwrites_in_place += overwrites_in_place;
        self.splits += splits;
        self.merges += merges;
        self.chain_evictions += chain_evictions;
        self.chain_lines_max = self.chain_lines_max.max(*chain_lines_max);
        self.clock_flushes += clock_flushes;
        self.no_space += no_space;
    }
}

impl Work {
    fn add(&mut self, other: &Work) {
        self.tail_steps += other.tail_steps;
        self.items_moved += other.items_moved;
        self.bytes_copied += other.bytes_copied;
        self.lines_read += other.lines_read;
        self.split_items += other.split_items;
        self.resizes += other.resizes;
        self.expiry_entries += other.expiry_entries;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_weighted_and_the_longest_is_the_longest_of_all() {
        let mut one = DatabaseStats { items: 10, volatile_items: 1, mean_left_ms: 1_000 };
        one.add(&DatabaseStats { items: 5, volatile_items: 3, mean_left_ms: 200 });
        assert_eq!(one, DatabaseStats { items: 15, volatile_items: 4, mean_left_ms: 400 });
        one.add(&DatabaseStats::default());
        assert_eq!(one.mean_left_ms, 400);
        let mut none = DatabaseStats::default();
        none.add(&DatabaseStats::default());
        assert_eq!(none, DatabaseStats::default());

        let shard = |items, lag_max_ms, log_bytes, window_share_permille| ShardStats {
            items,
            log_bytes,
            expiry: ExpiryStats { lag_max_ms, ..ExpiryStats::default() },
            policy: PolicyStats {
                window_share_permille,
                queue_costs: [1, 2, 3],
                ..PolicyStats::default()
            },
            counters: Counters { evictions: items, chain_lines_max: items, ..Counters::default() },
            ..ShardStats::default()
        };
        let mut sum = shard(2, 9, 100, 10);
        sum.add(&shard(3, 4, 300, 50));
        assert_eq!((sum.items, sum.expiry.lag_max_ms, sum.log_bytes), (5, 9, 400));
        assert_eq!((sum.counters.evictions, sum.counters.chain_lines_max), (5, 3));
        assert_eq!((sum.policy.window_share_permille, sum.policy.queue_costs), (40, [2, 4, 6]));
    }
}
