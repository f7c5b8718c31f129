//! INFO's section `pinion`: what Redis has no field for.

use std::fmt::Write;

use pinion_engine::ExpiryStats;

use super::ServerFacts;
use super::survey::Survey;
use crate::core::{LaneCounters, Snapshot};

fn policy(out: &mut String, snapshot: &Snapshot, facts: &ServerFacts) -> std::fmt::Result {
    let (shard, policy) = (&snapshot.shard.counters, &snapshot.shard.policy);
    write!(out, "eviction:{}\r\n", facts.eviction_name)?;
    write!(out, "evicted_from_window:{}\r\n", shard.evictions_window)?;
    write!(out, "evicted_from_main:{}\r\n", shard.evictions_main)?;
    write!(out, "evicted_forced:{}\r\n", shard.evictions_forced)?;
    write!(out, "evicted_for_full_chain:{}\r\n", shard.chain_evictions)?;
    write!(out, "evicted_bytes:{}\r\n", shard.evicted_bytes)?;
    write!(out, "window_share_permille:{}\r\n", policy.window_share_permille)?;
    let [window, probation, protected] = policy.queue_costs;
    write!(out, "window_bytes:{window}\r\n")?;
    write!(out, "probation_bytes:{probation}\r\n")?;
    write!(out, "protected_bytes:{protected}\r\n")?;
    write!(out, "admitted:{}\r\n", policy.admitted)?;
    write!(out, "rejected:{}\r\n", policy.rejected)?;
    write!(out, "admitted_as_ghost:{}\r\n", policy.admitted_as_ghost)?;
    let winner = if policy.ghost_admits { "ghost" } else { "frequency" };
    write!(out, "duel_winner:{winner}\r\n")?;
    write!(out, "duel_changes:{}\r\n", policy.duel_changes)?;
    write!(out, "frequency_epochs:{}\r\n", policy.epochs)?;
    write!(out, "policy_bytes:{}\r\n", policy.bytes)
}

pub(super) fn pinion(out: &mut String, survey: &Survey, facts: &ServerFacts) -> std::fmt::Result {
    let snapshot = &survey.sum;
    let (counters, shard) = (&snapshot.counters, &snapshot.shard);
    write!(out, "cores:{}\r\n", facts.cpus.len())?;
    let cpus: Vec<String> = facts.cpus.iter().map(usize::to_string).collect();
    write!(out, "cpu:{}\r\n", cpus.join(","))?;
    write!(out, "cores_not_answering:{}\r\n", survey.missing.len())?;
    write!(out, "connection_core:{}\r\n", survey.asked)?;
    write!(out, "driver:{}\r\n", facts.driver)?;
    write!(out, "idle:{}\r\n", facts.idle)?;
    write!(out, "network:{}\r\n", facts.network)?;
    write!(out, "ring_features:{}\r\n", facts.ring_features)?;
    write!(out, "turns:{}\r\n", counters.turns)?;
    write!(out, "batches:{}\r\n", counters.batches)?;
    write!(out, "enters:{}\r\n", snapshot.enters)?;
    write!(out, "sends:{}\r\n", counters.sends)?;
    write!(out, "naps:{}\r\n", counters.naps)?;
    write!(out, "parks:{}\r\n", counters.parks)?;
    lanes(out, &counters.lanes)?;
    write!(out, "output_pauses:{}\r\n", counters.output_pauses)?;
    write!(out, "budget_pauses:{}\r\n", counters.budget_pauses)?;
    write!(out, "buffer_refusals:{}\r\n", counters.buffer_refusals)?;
    write!(out, "buffer_evictions:{}\r\n", counters.buffer_evictions)?;
    write!(out, "receive_starvations:{}\r\n", counters.receive_starvations)?;
    write!(out, "accept_failures:{}\r\n", counters.accept_failures)?;
    write!(out, "accept_rate_refusals:{}\r\n", counters.accept_rate_refusals)?;
    write!(out, "connection_timeouts:{}\r\n", counters.timeouts)?;
    write!(out, "oversized_requests:{}\r\n", counters.oversized_requests)?;
    write!(out, "pipeline_pauses:{}\r\n", counters.pipeline_pauses)?;
    write!(out, "request_age_refusals:{}\r\n", counters.request_age_refusals)?;
    write!(out, "http_requests_cut:{}\r\n", counters.http_requests)?;
    policy(out, snapshot, facts)?;
    write!(out, "items:{}\r\n", shard.items)?;
    write!(out, "live_bytes:{}\r\n", shard.live_bytes)?;
    write!(out, "dead_bytes:{}\r\n", shard.dead_bytes)?;
    write!(out, "log_bytes:{}\r\n", shard.log_bytes)?;
    write!(out, "page_bytes:{}\r\n", shard.page_bytes)?;
    write!(out, "arriving_bytes:{}\r\n", shard.arriving_bytes)?;
    write!(out, "pinned_bytes:{}\r\n", shard.pinned_bytes)?;
    write!(out, "table_bytes:{}\r\n", shard.table_bytes)?;
    expiry(out, &shard.expiry)?;
    write!(out, "expiry_clock_flushes:{}\r\n", shard.counters.clock_flushes)
}

/// Commands that crossed between cores; of each core see the section `cores`.
fn lanes(out: &mut String, lanes: &LaneCounters) -> std::fmt::Result {
    write!(
        out,
        "commands_crossed:{}\r\n",
        lanes.crossed_in - lanes.parts_in.min(lanes.crossed_in)
    )?;
    write!(out, "commands_scattered:{}\r\n", lanes.scattered)?;
    write!(out, "commands_awaiting_keys:{}\r\n", lanes.key_waits)?;
    write!(out, "lane_posts:{}\r\n", lanes.posts)?;
    write!(out, "lane_wakes:{}\r\n", lanes.wakes)?;
    write!(out, "lane_peak:{}\r\n", lanes.asked_peak)?;
    write!(out, "lane_room_waits:{}\r\n", lanes.room_waits)
}

fn expiry(out: &mut String, expiry: &ExpiryStats) -> std::fmt::Result {
    write!(out, "expiry_items:{}\r\n", expiry.items)?;
    write!(out, "expiry_entries:{}\r\n", expiry.entries)?;
    write!(out, "expiry_groups:{}\r\n", expiry.groups)?;
    write!(out, "expiry_bytes:{}\r\n", expiry.bytes)?;
    write!(out, "expiry_lag_count:{}\r\n", expiry.lag_count)?;
    write!(out, "expiry_lag_p50_ms:{}\r\n", expiry.lag_p50_ms)?;
    write!(out, "expiry_lag_p99_ms:{}\r\n", expiry.lag_p99_ms)?;
    write!(out, "expiry_lag_max_ms:{}\r\n", expiry.lag_max_ms)
}
