//! INFO: the sections that tools read, with Redis's field names where the meaning is Redis's, and
//! a section `pinion` with what is ours.

use std::fmt::Write;

use pinion_engine::ExpiryStats;

use super::ServerFacts;
use crate::clock;
use crate::command::REDIS_VERSION;
use crate::core::Snapshot;
use crate::{host, sys};

type Section = fn(&mut String, &Snapshot, &ServerFacts) -> std::fmt::Result;

const SECTIONS: [(&str, Section); 9] = [
    ("Server", server),
    ("Clients", clients),
    ("Memory", memory),
    ("Persistence", persistence),
    ("Stats", stats),
    ("Replication", replication),
    ("CPU", cpu),
    ("Keyspace", keyspace),
    ("Pinion", pinion),
];

/// The text of the sections asked for; none, `default`, `all` and `everything` mean all.
pub(super) fn text(asked: &[String], snapshot: &Snapshot, facts: &ServerFacts) -> String {
    let all = asked.is_empty()
        || asked.iter().any(|name| ["default", "all", "everything"].contains(&name.as_str()));
    let mut text = String::with_capacity(2048);
    for (name, section) in SECTIONS {
        if !all && !asked.iter().any(|wanted| wanted.eq_ignore_ascii_case(name)) {
            continue;
        }
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        // Writing to a String does not fail.
        let _ = write!(text, "# {name}\r\n");
        let _ = section(&mut text, snapshot, facts);
    }
    text
}

fn server(out: &mut String, _: &Snapshot, facts: &ServerFacts) -> std::fmt::Result {
    let uptime_s = clock::unix_ms().saturating_sub(facts.started_unix_ms) / 1_000;
    write!(out, "redis_version:{REDIS_VERSION}\r\n")?;
    write!(out, "server_name:pinion\r\n")?;
    write!(out, "pinion_version:{}\r\n", env!("CARGO_PKG_VERSION"))?;
    write!(out, "redis_mode:standalone\r\n")?;
    write!(out, "os:Linux {}\r\n", std::env::consts::ARCH)?;
    write!(out, "arch_bits:{}\r\n", usize::BITS)?;
    write!(out, "multiplexing_api:io_uring\r\n")?;
    write!(out, "process_id:{}\r\n", std::process::id())?;
    write!(out, "tcp_port:{}\r\n", facts.port)?;
    write!(out, "memcached_port:{}\r\n", facts.memcached_port)?;
    write!(out, "uptime_in_seconds:{uptime_s}\r\n")?;
    write!(out, "uptime_in_days:{}\r\n", uptime_s / 86_400)
}

fn clients(out: &mut String, snapshot: &Snapshot, facts: &ServerFacts) -> std::fmt::Result {
    write!(out, "connected_clients:{}\r\n", snapshot.connections)?;
    write!(out, "maxclients:{}\r\n", facts.connections_max)?;
    write!(out, "blocked_clients:0\r\n")?;
    write!(out, "clients_waiting_for_memory:{}\r\n", snapshot.buffers.waiting)
}

fn memory(out: &mut String, snapshot: &Snapshot, facts: &ServerFacts) -> std::fmt::Result {
    let (shard, division, buffers) = (&snapshot.shard, &snapshot.division, &snapshot.buffers);
    let items_bytes =
        shard.log_bytes + shard.table_resident_bytes + shard.expiry.bytes + shard.policy.bytes;
    let used_bytes = items_bytes + (buffers.held_bytes + buffers.spare_bytes) as u64;
    write!(out, "used_memory:{used_bytes}\r\n")?;
    write!(out, "used_memory_rss:{}\r\n", host::resident_bytes())?;
    write!(out, "used_memory_dataset:{}\r\n", shard.live_bytes)?;
    write!(out, "maxmemory:{}\r\n", division.memory_bytes)?;
    write!(out, "maxmemory_policy:{}\r\n", facts.eviction)?;
    write!(out, "memory_program_share:{}\r\n", division.program_bytes)?;
    write!(out, "memory_connections_share:{}\r\n", division.connections_bytes)?;
    write!(out, "memory_buffers_share:{}\r\n", division.buffers_bytes)?;
    write!(out, "memory_items_share:{}\r\n", division.items_bytes)?;
    write!(out, "memory_items_lent:{}\r\n", snapshot.lent_bytes)?;
    write!(out, "memory_items:{items_bytes}\r\n")?;
    write!(out, "memory_items_ahead:{}\r\n", shard.warm_bytes + shard.away_bytes)?;
    write!(out, "memory_table:{}\r\n", shard.table_resident_bytes)?;
    write!(out, "memory_buffers:{}\r\n", buffers.held_bytes)?;
    write!(out, "memory_buffers_peak:{}\r\n", buffers.peak_bytes)?;
    write!(out, "memory_buffers_spare:{}\r\n", buffers.spare_bytes)?;
    write!(out, "huge_pages:{}\r\n", facts.huge_pages)?;
    write!(out, "numa:{}\r\n", facts.numa)
}

fn persistence(out: &mut String, _: &Snapshot, _: &ServerFacts) -> std::fmt::Result {
    write!(out, "loading:0\r\nrdb_bgsave_in_progress:0\r\naof_enabled:0\r\n")
}

fn stats(out: &mut String, snapshot: &Snapshot, _: &ServerFacts) -> std::fmt::Result {
    let (counters, shard) = (&snapshot.counters, &snapshot.shard.counters);
    write!(out, "total_connections_received:{}\r\n", counters.connections_accepted)?;
    write!(out, "total_commands_processed:{}\r\n", counters.commands)?;
    write!(out, "total_net_input_bytes:{}\r\n", counters.bytes_in)?;
    write!(out, "total_net_output_bytes:{}\r\n", counters.bytes_out)?;
    write!(out, "rejected_connections:{}\r\n", counters.connections_refused)?;
    write!(out, "expired_keys:{}\r\n", shard.expired)?;
    write!(out, "evicted_keys:{}\r\n", shard.evictions)?;
    write!(out, "keyspace_hits:{}\r\n", counters.hits)?;
    write!(out, "keyspace_misses:{}\r\n", counters.misses)?;
    write!(out, "total_error_replies:{}\r\n", counters.errors)
}

fn replication(out: &mut String, _: &Snapshot, _: &ServerFacts) -> std::fmt::Result {
    write!(out, "role:master\r\nconnected_slaves:0\r\n")
}

fn cpu(out: &mut String, _: &Snapshot, _: &ServerFacts) -> std::fmt::Result {
    write!(out, "used_cpu_total:{:.6}\r\n", sys::process_cpu_ns() as f64 / 1e9)
}

fn keyspace(out: &mut String, snapshot: &Snapshot, _: &ServerFacts) -> std::fmt::Result {
    let (items, expiry) = (snapshot.shard.items, &snapshot.shard.expiry);
    if items == 0 {
        return Ok(());
    }
    // The mean is exact; Redis estimates it from samples.
    write!(out, "db0:keys={items},expires={},avg_ttl={}\r\n", expiry.items, expiry.mean_ttl_ms)
}

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

fn pinion(out: &mut String, snapshot: &Snapshot, facts: &ServerFacts) -> std::fmt::Result {
    let (counters, shard) = (&snapshot.counters, &snapshot.shard);
    write!(out, "cores:1\r\n")?;
    write!(out, "cpu:{}\r\n", facts.cpu)?;
    write!(out, "driver:{}\r\n", facts.driver)?;
    write!(out, "idle:{}\r\n", facts.idle)?;
    write!(out, "ring_features:{}\r\n", facts.ring_features)?;
    write!(out, "turns:{}\r\n", counters.turns)?;
    write!(out, "batches:{}\r\n", counters.batches)?;
    write!(out, "enters:{}\r\n", snapshot.enters)?;
    write!(out, "sends:{}\r\n", counters.sends)?;
    write!(out, "naps:{}\r\n", counters.naps)?;
    write!(out, "parks:{}\r\n", counters.parks)?;
    write!(out, "output_pauses:{}\r\n", counters.output_pauses)?;
    write!(out, "budget_pauses:{}\r\n", counters.budget_pauses)?;
    write!(out, "buffer_refusals:{}\r\n", counters.buffer_refusals)?;
    write!(out, "buffer_evictions:{}\r\n", counters.buffer_evictions)?;
    write!(out, "receive_starvations:{}\r\n", counters.receive_starvations)?;
    write!(out, "accept_failures:{}\r\n", counters.accept_failures)?;
    policy(out, snapshot, facts)?;
    write!(out, "items:{}\r\n", shard.items)?;
    write!(out, "live_bytes:{}\r\n", shard.live_bytes)?;
    write!(out, "dead_bytes:{}\r\n", shard.dead_bytes)?;
    write!(out, "log_bytes:{}\r\n", shard.log_bytes)?;
    write!(out, "page_bytes:{}\r\n", shard.page_bytes)?;
    write!(out, "arriving_bytes:{}\r\n", shard.arriving_bytes)?;
    write!(out, "pinned_bytes:{}\r\n", shard.pinned_bytes)?;
    write!(out, "table_bytes:{}\r\n", shard.table_bytes)?;
    expiry(out, &shard.expiry)
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
