//! Checks of what the control group takes away: CPU time by quota, and memory.

use super::bytes_text;
use crate::cgroup::{Chain, Version};
use crate::check::{Check, Finding, Group, Remedy};
use crate::host::{Host, Unreadable};
use crate::topology;

const STATUS: &str = "/proc/self/status";
const MEMORY: &str = "/proc/meminfo";

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "cpu-quota",
        group: Group::Cgroup,
        wanted: "no quota, or one that the usable CPUs cannot exceed",
        why: "A group that has used up its quota stands still until the period ends, by \
              default up to 100 ms in which no request is answered.",
        sources: &[
            "/proc/self/cgroup",
            "/proc/self/mountinfo",
            STATUS,
            "/sys/fs/cgroup/*/cpu.max",
            "/sys/fs/cgroup/*/cpu.cfs_quota_us",
        ],
        inspect: cpu_quota,
    },
    Check {
        name: "memory-limit",
        group: Group::Cgroup,
        wanted: "no limit, or one well above the server's --memory",
        why: "Socket buffers and page tables count against the same limit as the cache; at the \
              limit the kernel reclaims inside requests, then kills the server.",
        sources: &[
            "/proc/self/cgroup",
            "/proc/self/mountinfo",
            MEMORY,
            "/sys/fs/cgroup/*/memory.max",
            "/sys/fs/cgroup/*/memory.high",
            "/sys/fs/cgroup/*/memory.limit_in_bytes",
        ],
        inspect: memory_limit,
    },
];

/// A bound that one directory sets.
struct Bound<T> {
    value: T,
    directory: String,
}

/// A quota of CPU time.
#[derive(Clone, Copy)]
struct Quota {
    quota_us: u64,
    period_us: u64,
}

impl Quota {
    fn cpus(self) -> f64 {
        self.quota_us as f64 / self.period_us as f64
    }
}

fn cpu_quota(host: &Host) -> Result<Finding, Unreadable> {
    let chain = Chain::of(host, "cpu")?;
    let quotas = bounds(host, &chain, "cpu", |directory| match chain.version {
        Version::V2 => quota_v2(host, directory),
        Version::V1 => quota_v1(host, directory),
    })?;
    let tightest = quotas.into_iter().min_by(|a, b| a.value.cpus().total_cmp(&b.value.cpus()));
    let Some(bound) = tightest else {
        return Ok(Finding::ok("no quota"));
    };
    let usable = usable_cpus(host)?;
    let Quota { quota_us, period_us } = bound.value;
    let cpus = bound.value.cpus();
    let mut found = format!("{cpus:.2} of {usable} usable CPUs ({quota_us} us in {period_us} us)");
    if cpus >= usable as f64 {
        return Ok(Finding::ok(found));
    }
    if let Some(times) = throttled(host, &bound.directory) {
        found.push_str(&format!(", throttled {times} times so far"));
    }
    let (value, file) = match chain.version {
        Version::V2 => ("max", "cpu.max"),
        Version::V1 => ("-1", "cpu.cfs_quota_us"),
    };
    let remedy = Remedy::with(
        "Give the server whole CPUs (AllowedCPUs=, --cpuset-cpus) in place of a quota \
         (CPUQuota=, --cpus), and take the quota away",
        format!("echo {value} | sudo tee {}/{file}", bound.directory),
    );
    Ok(Finding::problem(found, remedy))
}

/// Reads the bound of every directory of `chain`.
///
/// A directory without the file bounds nothing, because its parent does not hand the controller
/// down. If none has it, that must be because the hierarchy says so, not because it is not there.
fn bounds<T>(
    host: &Host,
    chain: &Chain,
    controller: &str,
    read: impl Fn(&str) -> Result<Option<T>, Unreadable>,
) -> Result<Vec<Bound<T>>, Unreadable> {
    let mut bounds = Vec::new();
    let mut missing = None;
    let mut answered = false;
    for directory in &chain.directories {
        match read(directory) {
            Ok(value) => {
                answered = true;
                bounds.extend(value.map(|value| Bound { value, directory: directory.clone() }));
            }
            Err(error) if !host.is_absent(&error.path) => return Err(error),
            Err(error) => missing = missing.or(Some(error)),
        }
    }
    match missing {
        Some(error) if !answered => {
            let controllers = host.read(&format!("{}/cgroup.controllers", chain.top()));
            let listed = controllers.is_ok_and(|names| names.split(' ').any(|n| n == controller));
            if chain.version == Version::V2 && listed { Ok(bounds) } else { Err(error) }
        }
        _ => Ok(bounds),
    }
}

fn quota_v2(host: &Host, directory: &str) -> Result<Option<Quota>, Unreadable> {
    let path = format!("{directory}/cpu.max");
    let text = host.read(&path)?;
    let understood = text.split_once(' ').and_then(|(quota, period)| {
        let period_us = period.parse().ok().filter(|&period| period > 0)?;
        match quota {
            "max" => Some(None),
            quota => Some(Some(Quota { quota_us: quota.parse().ok()?, period_us })),
        }
    });
    understood.ok_or_else(|| Unreadable::content(&path, &text))
}

fn quota_v1(host: &Host, directory: &str) -> Result<Option<Quota>, Unreadable> {
    let quota_us: i64 = host.read_as(&format!("{directory}/cpu.cfs_quota_us"))?;
    let Ok(quota_us) = u64::try_from(quota_us) else {
        return Ok(None); // -1 is no quota.
    };
    let path = format!("{directory}/cpu.cfs_period_us");
    match host.read_as(&path)? {
        0 => Err(Unreadable::content(&path, "0")),
        period_us => Ok(Some(Quota { quota_us, period_us })),
    }
}

/// How often the group has been stopped for its quota. Evidence only: absent is fine.
fn throttled(host: &Host, directory: &str) -> Option<u64> {
    let statistics = host.read(&format!("{directory}/cpu.stat")).ok()?;
    let count = statistics.lines().find_map(|line| line.strip_prefix("nr_throttled "))?;
    count.trim().parse().ok()
}

/// How many CPUs this process may run on.
fn usable_cpus(host: &Host) -> Result<usize, Unreadable> {
    let status = host.read(STATUS)?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let cpus = list.and_then(crate::cpulist::parse);
    match cpus.map(|cpus| cpus.len()) {
        Some(count) if count > 0 => Ok(count),
        _ => topology::online(host).map(|online| online.len()),
    }
}

fn memory_limit(host: &Host) -> Result<Finding, Unreadable> {
    let chain = Chain::of(host, "memory")?;
    let file = match chain.version {
        Version::V2 => "memory.max",
        Version::V1 => "memory.limit_in_bytes",
    };
    let installed = installed_bytes(host)?;
    let limits = bounds(host, &chain, "memory", |directory| bytes(host, directory, file))?;
    // Version 1 writes "no limit" as the largest number of pages, far above any memory.
    let least = limits.into_iter().map(|bound| bound.value).min().filter(|&max| max < installed);
    let brakes = match chain.version {
        Version::V2 => {
            bounds(host, &chain, "memory", |directory| bytes(host, directory, "memory.high"))?
        }
        Version::V1 => Vec::new(),
    };
    let brake = brakes.into_iter().min_by_key(|bound| bound.value);
    if let Some(brake) = brake.filter(|brake| brake.value < least.unwrap_or(installed)) {
        let found = format!("slowed down above {}", bytes_text(brake.value));
        let remedy = Remedy::with(
            "Take memory.high away: above it the kernel makes every allocation wait",
            format!("echo max | sudo tee {}/memory.high", brake.directory),
        );
        return Ok(Finding::advise(found, remedy));
    }
    let Some(limit) = least else {
        return Ok(Finding::ok(format!("no limit below the {} installed", bytes_text(installed))));
    };
    let found = format!("{} of {} installed", bytes_text(limit), bytes_text(installed));
    let action = "Keep a quarter of the limit free for what the kernel charges to the group";
    let command = format!("pinion --memory {}MiB", (limit / 4 * 3) >> 20);
    Ok(Finding::advise(found, Remedy::with(action, command)))
}

/// The number in a file of a group that may also hold `max`, for none.
fn bytes(host: &Host, directory: &str, file: &str) -> Result<Option<u64>, Unreadable> {
    let path = format!("{directory}/{file}");
    let text = host.read(&path)?;
    match text.as_str() {
        "max" => Ok(None),
        number => number.parse().map(Some).map_err(|_| Unreadable::content(&path, number)),
    }
}

/// The memory that the kernel manages.
fn installed_bytes(host: &Host) -> Result<u64, Unreadable> {
    let text = host.read(MEMORY)?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = total.and_then(|total| total.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let bytes = kibibytes.and_then(|kibibytes| kibibytes.checked_mul(1024));
    bytes.ok_or_else(|| Unreadable::new(MEMORY, "has no MemTotal of the known form"))
}

#[cfg(test)]
#[path = "cgroup_tests.rs"]
mod tests;
