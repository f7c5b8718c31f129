//! INFO: the sections that tools read, with Redis's field names where the meaning is Redis's, and
//! sections `pinion` and `cores` with what is ours. What they tell is the sum of all cores; on a
//! core port, where clients of clusters ask every node and sum up, it is that of the one core.
//!
//! A field that Redis has for what does not exist here (replicas, snapshots, scripts) is left out,
//! unless tools fail without it: then it tells what is true, mostly 0. `usec` of a command is the
//! time of those of its executions that are timed, see SLOWLOG.

use std::fmt::Write;

use super::survey::Survey;
use super::{ServerFacts, cores, info_pinion};
use crate::clock;
use crate::command::{self, REDIS_VERSION};
use crate::core::items_bytes;
use crate::{host, sys};

type Section = fn(&mut String, &Survey, &ServerFacts) -> std::fmt::Result;

/// The sections, and whether they are among those that are told without being asked for.
const SECTIONS: [(&str, bool, Section); 15] = [
    ("Server", true, server),
    ("Clients", true, clients),
    ("Memory", true, memory),
    ("Persistence", true, persistence),
    ("Stats", true, stats),
    ("Replication", true, replication),
    ("CPU", true, cpu),
    ("Modules", true, nothing),
    ("Commandstats", false, commandstats),
    ("Errorstats", true, errorstats),
    ("Latencystats", false, nothing),
    ("Cluster", true, cluster),
    ("Keyspace", true, keyspace),
    ("Pinion", true, info_pinion::pinion),
    ("Cores", false, cores::info),
];

/// The text of the sections asked for: `default` or none of those that Redis tells by default,
/// `all` and `everything` of all. Who asks by a core port is told of a node of a cluster.
pub(super) fn text(
    asked: &[String],
    core_port: Option<u16>,
    survey: &Survey,
    facts: &ServerFacts,
) -> String {
    let facts = &match core_port {
        Some(port) => ServerFacts { port, is_core_port: true, ..facts.clone() },
        None => facts.clone(),
    };
    let is_asked = |name: &str| asked.iter().any(|wanted| wanted.eq_ignore_ascii_case(name));
    let all = is_asked("all") || is_asked("everything");
    let default = asked.is_empty() || is_asked("default");
    let mut text = String::with_capacity(4096);
    for (name, is_default, section) in SECTIONS {
        let is_wanted = all || (default && is_default) || is_asked(name);
        if !is_wanted {
            continue;
        }
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        // Writing to a String does not fail.
        let _ = write!(text, "# {name}\r\n");
        let _ = section(&mut text, survey, facts);
    }
    text
}

/// A number of bytes as Redis writes it for people.
pub(super) fn human(bytes: u64) -> String {
    for (shift, unit) in [(40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')] {
        if bytes >> shift > 0 {
            return format!("{:.2}{unit}", bytes as f64 / (1u64 << shift) as f64);
        }
    }
    format!("{bytes}B")
}

fn nothing(_: &mut String, _: &Survey, _: &ServerFacts) -> std::fmt::Result {
    Ok(())
}

fn server(out: &mut String, survey: &Survey, facts: &ServerFacts) -> std::fmt::Result {
    let snapshot = &survey.sum;
    let uptime_s = clock::unix_ms().saturating_sub(facts.started_unix_ms) / 1_000;
    write!(out, "redis_version:{REDIS_VERSION}\r\n")?;
    write!(out, "redis_git_sha1:00000000\r\nredis_git_dirty:0\r\n")?;
    write!(out, "server_name:pinion\r\n")?;
    write!(out, "pinion_version:{}\r\n", env!("CARGO_PKG_VERSION"))?;
    let mode = if facts.is_core_port { "cluster" } else { "standalone" };
    write!(out, "redis_mode:{mode}\r\n")?;
    write!(out, "os:Linux {} {}\r\n", facts.kernel, std::env::consts::ARCH)?;
    write!(out, "arch_bits:{}\r\n", usize::BITS)?;
    write!(out, "monotonic_clock:POSIX clock_gettime\r\n")?;
    write!(out, "multiplexing_api:{}\r\n", facts.network)?;
    write!(out, "process_id:{}\r\n", std::process::id())?;
    write!(out, "process_supervised:no\r\n")?;
    write!(out, "run_id:{}\r\n", facts.run_id)?;
    write!(out, "tcp_port:{}\r\n", facts.port)?;
    write!(out, "memcached_port:{}\r\n", facts.memcached_port)?;
    write!(out, "server_time_usec:{}\r\n", clock::unix_us())?;
    write!(out, "uptime_in_seconds:{uptime_s}\r\n")?;
    write!(out, "uptime_in_days:{}\r\n", uptime_s / 86_400)?;
    write!(out, "hz:10\r\nconfigured_hz:10\r\n")?;
    write!(out, "lru_clock:{}\r\n", (snapshot.now_ms / 1_000) & 0xff_ffff)?;
    write!(out, "executable:{}\r\nconfig_file:{}\r\n", facts.executable, facts.config_file)?;
    write!(out, "io_threads_active:0\r\n")
}

fn clients(out: &mut String, survey: &Survey, facts: &ServerFacts) -> std::fmt::Result {
    let snapshot = &survey.sum;
    write!(out, "connected_clients:{}\r\n", snapshot.connections)?;
    write!(out, "cluster_connections:0\r\n")?;
    write!(out, "maxclients:{}\r\n", facts.connections_max)?;
    write!(out, "blocked_clients:0\r\n")?;
    write!(out, "tracking_clients:0\r\n")?;
    write!(out, "clients_in_timeout_table:0\r\n")?;
    if let Some((until_ms, is_all)) = snapshot.paused {
        let left_ms = until_ms.saturating_sub(snapshot.now_ms);
        let actions = if is_all { "all" } else { "write" };
        write!(out, "paused_reason:client_pause\r\npaused_actions:{actions}\r\n")?;
        write!(out, "paused_timeout_milliseconds:{left_ms}\r\n")?;
    }
    write!(out, "clients_waiting_for_memory:{}\r\n", snapshot.buffers.waiting)
}

fn memory(out: &mut String, survey: &Survey, facts: &ServerFacts) -> std::fmt::Result {
    let snapshot = &survey.sum;
    let (shard, division, buffers) = (&snapshot.shard, &snapshot.division, &snapshot.buffers);
    let (used_bytes, items_bytes) = (snapshot.used_bytes(), items_bytes(shard));
    let resident_bytes = host::resident_bytes();
    // A node of a cluster has its share: clients sum up.
    let limit_bytes = if facts.is_core_port { division.memory_bytes } else { division.whole_bytes };
    let overhead_bytes = used_bytes.saturating_sub(shard.live_bytes);
    let part = |bytes: u64, whole: u64| bytes as f64 / whole.max(1) as f64;
    for (name, bytes) in [
        ("used_memory", used_bytes),
        ("used_memory_rss", resident_bytes),
        ("used_memory_peak", snapshot.memory_peak_bytes),
    ] {
        write!(out, "{name}:{bytes}\r\n{name}_human:{}\r\n", human(bytes))?;
    }
    let peak_percent = part(used_bytes, snapshot.memory_peak_bytes) * 100.0;
    write!(out, "used_memory_peak_perc:{peak_percent:.2}%\r\n")?;
    write!(out, "used_memory_overhead:{overhead_bytes}\r\n")?;
    write!(out, "used_memory_startup:0\r\n")?;
    write!(out, "used_memory_dataset:{}\r\n", shard.live_bytes)?;
    let dataset_percent = part(shard.live_bytes, used_bytes) * 100.0;
    write!(out, "used_memory_dataset_perc:{dataset_percent:.2}%\r\n")?;
    for (name, bytes) in [
        ("total_system_memory", host::memory_allowed_bytes()),
        ("used_memory_lua", 0),
        ("used_memory_scripts", 0),
        ("maxmemory", limit_bytes),
    ] {
        write!(out, "{name}:{bytes}\r\n{name}_human:{}\r\n", human(bytes))?;
    }
    write!(out, "maxmemory_policy:{}\r\n", facts.eviction)?;
    let ratio = part(resident_bytes, used_bytes);
    write!(out, "mem_fragmentation_ratio:{ratio:.2}\r\n")?;
    let fragmentation_bytes = resident_bytes as i64 - used_bytes as i64;
    write!(out, "mem_fragmentation_bytes:{fragmentation_bytes}\r\n")?;
    write!(out, "mem_clients_normal:{}\r\nmem_clients_slaves:0\r\n", buffers.held_bytes)?;
    write!(out, "mem_replication_backlog:0\r\nmem_aof_buffer:0\r\n")?;
    write!(out, "mem_allocator:libc\r\n")?;
    write!(out, "active_defrag_running:0\r\nlazyfree_pending_objects:0\r\n")?;
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

/// There is none: nothing is saved, and nothing that is unsaved is to be worried about.
fn persistence(out: &mut String, _: &Survey, facts: &ServerFacts) -> std::fmt::Result {
    write!(out, "loading:0\r\nasync_loading:0\r\n")?;
    write!(out, "rdb_changes_since_last_save:0\r\nrdb_bgsave_in_progress:0\r\n")?;
    write!(out, "rdb_last_save_time:{}\r\n", facts.started_unix_ms / 1_000)?;
    write!(out, "rdb_last_bgsave_status:ok\r\nrdb_last_bgsave_time_sec:-1\r\n")?;
    write!(out, "rdb_current_bgsave_time_sec:-1\r\nrdb_saves:0\r\n")?;
    write!(out, "aof_enabled:0\r\naof_rewrite_in_progress:0\r\n")?;
    write!(out, "aof_rewrite_scheduled:0\r\naof_last_rewrite_time_sec:-1\r\n")?;
    write!(out, "aof_current_rewrite_time_sec:-1\r\naof_last_bgrewrite_status:ok\r\n")?;
    write!(out, "aof_last_write_status:ok\r\n")
}

fn stats(out: &mut String, survey: &Survey, _: &ServerFacts) -> std::fmt::Result {
    let snapshot = &survey.sum;
    let (counters, shard) = (&snapshot.counters, &snapshot.shard.counters);
    let (base, rates) = (&snapshot.base, &snapshot.rates);
    let kbps = |bytes: u64| bytes as f64 / 1024.0;
    write!(out, "total_connections_received:{}\r\n", counters.connections_accepted)?;
    write!(out, "total_commands_processed:{}\r\n", counters.commands - base.commands)?;
    write!(out, "instantaneous_ops_per_sec:{}\r\n", rates.commands)?;
    write!(out, "total_net_input_bytes:{}\r\n", counters.bytes_in)?;
    write!(out, "total_net_output_bytes:{}\r\n", counters.bytes_out)?;
    write!(out, "instantaneous_input_kbps:{:.2}\r\n", kbps(rates.bytes_in))?;
    write!(out, "instantaneous_output_kbps:{:.2}\r\n", kbps(rates.bytes_out))?;
    write!(out, "rejected_connections:{}\r\n", counters.connections_refused)?;
    write!(out, "sync_full:0\r\nsync_partial_ok:0\r\nsync_partial_err:0\r\n")?;
    write!(out, "expired_keys:{}\r\n", shard.expired - base.expired)?;
    write!(out, "evicted_keys:{}\r\n", shard.evictions - base.evicted)?;
    write!(out, "evicted_clients:{}\r\n", counters.buffer_evictions)?;
    write!(out, "keyspace_hits:{}\r\n", counters.hits)?;
    write!(out, "keyspace_misses:{}\r\n", counters.misses)?;
    write!(out, "pubsub_channels:0\r\npubsub_patterns:0\r\npubsubshard_channels:0\r\n")?;
    write!(out, "latest_fork_usec:0\r\ntotal_forks:0\r\n")?;
    write!(out, "total_error_replies:{}\r\n", counters.errors)?;
    write!(out, "total_writes_processed:{}\r\n", counters.sends)?;
    write!(out, "slowlog_entries:{}\r\n", snapshot.slowlog_entries)
}

fn replication(out: &mut String, _: &Survey, facts: &ServerFacts) -> std::fmt::Result {
    write!(out, "role:master\r\nconnected_slaves:0\r\n")?;
    write!(out, "master_failover_state:no-failover\r\nmaster_replid:{}\r\n", facts.run_id)?;
    write!(out, "master_repl_offset:0\r\nsecond_repl_offset:-1\r\n")?;
    write!(out, "repl_backlog_active:0\r\nrepl_backlog_size:0\r\n")?;
    write!(out, "repl_backlog_first_byte_offset:0\r\nrepl_backlog_histlen:0\r\n")
}

fn cpu(out: &mut String, _: &Survey, _: &ServerFacts) -> std::fmt::Result {
    let (system_us, user_us) = sys::process_times_us();
    write!(out, "used_cpu_sys:{:.6}\r\n", system_us as f64 / 1e6)?;
    write!(out, "used_cpu_user:{:.6}\r\n", user_us as f64 / 1e6)?;
    write!(out, "used_cpu_sys_children:0.000000\r\nused_cpu_user_children:0.000000\r\n")?;
    write!(out, "used_cpu_total:{:.6}\r\n", sys::process_cpu_ns() as f64 / 1e9)
}

fn commandstats(out: &mut String, survey: &Survey, _: &ServerFacts) -> std::fmt::Result {
    let snapshot = &survey.sum;
    for (number, count) in snapshot.statistics.commands() {
        let mean_us = count.usec as f64 / count.calls.max(1) as f64;
        write!(
            out,
            "cmdstat_{}:calls={},usec={},usec_per_call={mean_us:.2},rejected_calls={},\
             failed_calls={}\r\n",
            command::name_of(number),
            count.calls,
            count.usec,
            count.rejected,
            count.failed
        )?;
    }
    Ok(())
}

fn errorstats(out: &mut String, survey: &Survey, _: &ServerFacts) -> std::fmt::Result {
    let snapshot = &survey.sum;
    for (code, count) in snapshot.statistics.errors() {
        write!(out, "errorstat_{code}:count={count}\r\n")?;
    }
    Ok(())
}

fn cluster(out: &mut String, _: &Survey, facts: &ServerFacts) -> std::fmt::Result {
    write!(out, "cluster_enabled:{}\r\n", u8::from(facts.is_core_port))
}

/// The mean time to live is exact; Redis estimates it from samples.
fn keyspace(out: &mut String, survey: &Survey, _: &ServerFacts) -> std::fmt::Result {
    let snapshot = &survey.sum;
    for (number, database) in snapshot.databases.iter().enumerate() {
        if database.items > 0 {
            let (volatile, mean_ms) = (database.volatile_items, database.mean_left_ms);
            let keys = database.items;
            write!(out, "db{number}:keys={keys},expires={volatile},avg_ttl={mean_ms}\r\n")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn bytes_are_written_as_redis_does() {
        for (bytes, text) in
            [(0, "0B"), (1023, "1023B"), (1024, "1.00K"), (1_163_040, "1.11M"), (1 << 30, "1.00G")]
        {
            assert_eq!(human(bytes), text);
        }
    }
}
