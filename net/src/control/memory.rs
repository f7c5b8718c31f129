//! MEMORY STATS and MEMORY DOCTOR: what the memory is used for, as numbers and in words.

use super::info::human;
use crate::core::{Snapshot, items_bytes};
use crate::host;
use crate::protocol::resp::{Version, Writer};

/// The reply to MEMORY STATS, with Redis's names where the meaning is Redis's.
pub(super) fn stats(snapshot: &Snapshot, version: Version) -> Vec<u8> {
    let (shard, buffers) = (&snapshot.shard, &snapshot.buffers);
    let (used_bytes, resident_bytes) = (snapshot.used_bytes(), host::resident_bytes());
    let overhead_bytes = used_bytes.saturating_sub(shard.live_bytes);
    let percent = |bytes: u64, whole: u64| bytes as f64 * 100.0 / whole.max(1) as f64;
    let integers = [
        ("peak.allocated", snapshot.memory_peak_bytes),
        ("total.allocated", used_bytes),
        ("startup.allocated", 0),
        ("replication.backlog", 0),
        ("clients.slaves", 0),
        ("clients.normal", buffers.held_bytes as u64),
        ("aof.buffer", 0),
        ("buffers.spare", buffers.spare_bytes as u64),
        ("items.total", items_bytes(shard)),
        ("items.dead", shard.dead_bytes),
        ("items.pages", shard.page_bytes),
        ("table.total", shard.table_resident_bytes),
        ("expiry.total", shard.expiry.bytes),
        ("policy.total", shard.policy.bytes),
        ("overhead.total", overhead_bytes),
        ("keys.count", shard.items),
        ("keys.bytes-per-key", items_bytes(shard) / shard.items.max(1)),
        ("dataset.bytes", shard.live_bytes),
        ("allocator.resident", resident_bytes),
        ("limit", snapshot.division.whole_bytes),
    ];
    let doubles = [
        ("dataset.percentage", percent(shard.live_bytes, used_bytes)),
        ("peak.percentage", percent(used_bytes, snapshot.memory_peak_bytes)),
        ("fragmentation", percent(resident_bytes, used_bytes) / 100.0),
    ];
    let mut bytes = Vec::with_capacity(1024);
    let mut reply = Writer::new(&mut bytes, version);
    reply.map(integers.len() + doubles.len());
    for (name, number) in integers {
        reply.bulk(name.as_bytes());
        reply.integer(number as i64);
    }
    for (name, number) in doubles {
        reply.bulk(name.as_bytes());
        reply.double(number);
    }
    bytes
}

/// The text of MEMORY DOCTOR.
pub(super) fn diagnosis(snapshot: &Snapshot) -> String {
    let (shard, buffers, division) = (&snapshot.shard, &snapshot.buffers, &snapshot.division);
    let mut found = Vec::new();
    let items_bytes = items_bytes(shard);
    if shard.counters.evictions > snapshot.base.evicted {
        found.push(format!(
            "{} keys were evicted: the items take {} of the {} that they may take. With more \
             memory (CONFIG SET maxmemory) more would be kept.",
            shard.counters.evictions - snapshot.base.evicted,
            human(items_bytes),
            human(division.items_bytes)
        ));
    }
    if shard.counters.no_space > 0 {
        found.push(format!("{} writes were refused for want of memory.", shard.counters.no_space));
    }
    if buffers.held_bytes as u64 * 2 > division.buffers_bytes {
        found.push(format!(
            "The buffers of clients hold {} of their {}: some clients do not read their replies, \
             or send requests that are too large. CLIENT LIST names them.",
            human(buffers.held_bytes as u64),
            human(division.buffers_bytes)
        ));
    }
    if shard.dead_bytes * 2 > shard.log_bytes.max(1 << 20) {
        found.push(format!(
            "{} of the log are of items that are gone; they come back as it is written to.",
            human(shard.dead_bytes)
        ));
    }
    if found.is_empty() {
        return "There is nothing to complain about in the memory of this server.".to_owned();
    }
    found.iter().map(|line| format!("* {line}\n")).collect()
}
