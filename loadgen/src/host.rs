//! What is known about the machine: facts for the report, and the CPU time that others took.
//!
//! Everything comes from files of `/proc` and `/sys`. What a machine does not tell is left out or
//! `None`, never guessed and never an error.

use std::fs;

use crate::sys::allowed_cpus;

/// A name and what the machine says to it.
pub type Fact = (&'static str, String);

/// The facts that decide latencies, in the order of the report.
pub(crate) fn facts() -> Vec<Fact> {
    let mut facts: Vec<Fact> = Vec::new();
    let mut add = |name, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            facts.push((name, value));
        }
    };
    add("version", Some(env!("CARGO_PKG_VERSION").to_owned()));
    add("command", Some(std::env::args().collect::<Vec<_>>().join(" ")));
    add("started", now_utc());
    add("kernel", line("/proc/sys/kernel/osrelease"));
    add("kernel_command_line", line("/proc/cmdline"));
    add("cpu", cpu_model());
    add("cpus_allowed", allowed_cpus().ok().map(|cpus| joined(&cpus)));
    add("smt", line("/sys/devices/system/cpu/smt/active"));
    add("governor", line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"));
    add("frequency_khz", line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"));
    add("isolated", line("/sys/devices/system/cpu/isolated"));
    let clock = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    add("clocksource", line(clock));
    add("huge_pages", line("/sys/kernel/mm/transparent_hugepage/enabled"));
    add("cgroup_cpu_max", cgroup_file("cpu.max"));
    add("cgroup_memory_max", cgroup_file("memory.max"));
    add("network", interfaces());
    add("load", line("/proc/loadavg"));
    facts
}

fn line(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn joined(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

fn cpu_model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let model = text.lines().find(|line| line.starts_with("model name"))?;
    Some(model.split_once(':')?.1.trim().to_owned())
}

/// The network interfaces that have hardware behind them: driver, speed, MTU, queues, interrupts.
fn interfaces() -> Option<String> {
    let mut texts = Vec::new();
    for entry in fs::read_dir("/sys/class/net").ok()?.flatten() {
        let path = entry.path();
        let Ok(driver) = fs::read_link(path.join("device/driver")) else { continue };
        let driver = driver.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut text = format!("{name} {}", driver.unwrap_or_default());
        let value = |file: &str| line(&path.join(file).to_string_lossy());
        if let Some(speed) = value("speed").filter(|speed| !speed.starts_with('-')) {
            text += &format!(" {speed} Mbit/s");
        }
        if let Some(mtu) = value("mtu") {
            text += &format!(" mtu {mtu}");
        }
        let count = |folder: &str, start: &str| {
            let entries = fs::read_dir(path.join(folder)).ok()?.flatten();
            Some(entries.filter(|e| e.file_name().to_string_lossy().starts_with(start)).count())
        };
        if let (Some(rx), Some(tx)) = (count("queues", "rx-"), count("queues", "tx-")) {
            text += &format!(" queues {rx}+{tx}");
        }
        if let Some(interrupts) = count("device/msi_irqs", "") {
            text += &format!(" interrupts {interrupts}");
        }
        texts.push(text);
    }
    texts.sort();
    Some(texts.join("; "))
}

/// A limit of the control group of this process (version 2).
fn cgroup_file(name: &str) -> Option<String> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    line(&format!("/sys/fs/cgroup{path}/{name}"))
        .or_else(|| line(&format!("/sys/fs/cgroup/{name}")))
}

/// The date and time in UTC (Howard Hinnant's `civil_from_days`).
fn now_utc() -> Option<String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(utc(now.as_secs()))
}

fn utc(seconds: u64) -> String {
    let days = (seconds / 86_400) as i64 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let of_day = seconds % 86_400;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// How often CPUs are slowed down because of heat, from a start on.
pub(crate) struct Throttled {
    before: Option<u64>,
}

impl Throttled {
    /// Starts counting.
    pub(crate) fn start() -> Throttled {
        Throttled { before: throttle_events() }
    }

    /// Events since the start, over all CPUs; `None` if the machine does not say.
    pub(crate) fn events(&self) -> Option<u64> {
        Some(throttle_events()?.saturating_sub(self.before?))
    }
}

fn throttle_events() -> Option<u64> {
    let mut events = None;
    for entry in fs::read_dir("/sys/devices/system/cpu").ok()?.flatten() {
        let count = entry.path().join("thermal_throttle/core_throttle_count");
        if let Some(count) =
            line(&count.to_string_lossy()).and_then(|text| text.parse::<u64>().ok())
        {
            events = Some(events.unwrap_or(0) + count);
        }
    }
    events
}

/// The CPU time that the hypervisor took from this machine, from a start on.
pub(crate) struct Stolen {
    before: Option<(u64, u64)>,
}

impl Stolen {
    /// Starts counting.
    pub(crate) fn start() -> Stolen {
        Stolen { before: ticks() }
    }

    /// The stolen share of all CPU time since the start; `None` if the machine does not say.
    pub(crate) fn share(&self) -> Option<f64> {
        let (stolen_before, all_before) = self.before?;
        let (stolen, all) = ticks()?;
        let all = all.checked_sub(all_before).filter(|&all| all > 0)?;
        Some(stolen.saturating_sub(stolen_before) as f64 / all as f64)
    }
}

/// Stolen ticks and all ticks of all CPUs since the machine started.
fn ticks() -> Option<(u64, u64)> {
    parse_ticks(&fs::read_to_string("/proc/stat").ok()?)
}

/// Reads the first line of `/proc/stat`; the guests' ticks behind the stolen ones are in the
/// users' already.
fn parse_ticks(text: &str) -> Option<(u64, u64)> {
    let numbers = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let ticks: Vec<u64> = numbers.take(8).map_while(|word| word.parse().ok()).collect();
    Some((*ticks.get(7)?, ticks.iter().sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_facts_have_what_every_linux_tells() {
        let facts = facts();
        for name in ["version", "command", "started", "kernel", "cpus_allowed"] {
            assert!(facts.iter().any(|(fact, value)| *fact == name && !value.is_empty()), "{name}");
        }
    }

    #[test]
    fn dates_are_gregorian() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(utc(4_102_444_799), "2099-12-31T23:59:59Z");
    }

    #[test]
    fn stolen_ticks_are_the_eighth_number() {
        let text = "cpu  10 1 5 100 2 0 1 7 3 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(parse_ticks(text), Some((7, 126)));
        assert_eq!(parse_ticks("cpu  1 2 3\n"), None);
        assert_eq!(parse_ticks(""), None);
        let share = Stolen::start().share();
        assert!(share.is_none_or(|share| (0.0..=1.0).contains(&share)));
    }
}
