//! Checks of power saving: how fast the CPUs run, and how deep they sleep.

use crate::check::{Check, Finding, Group, Remedy};
use crate::cpulist;
use crate::host::{Host, Unreadable};
use crate::topology;
use std::collections::BTreeMap;

const CPUS: &str = "/sys/devices/system/cpu";
const GOVERNORS: &str = "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor";
const DRIVERS: &str = "/sys/devices/system/cpu/cpu*/cpufreq/scaling_driver";

/// A core that sleeps wakes up in less than this; deeper states show in p99.
const WAKE_US_MAX: u64 = 10;

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "cpu-governor",
        group: Group::Cpu,
        wanted: "performance on every CPU",
        why: "Other governors slow a quiet core down, and the first requests after a pause find \
              it slow.",
        sources: &[topology::ONLINE, GOVERNORS, DRIVERS],
        inspect: governor,
    },
    Check {
        name: "cpu-sleep-states",
        group: Group::Cpu,
        wanted: "no enabled sleep state that takes more than 10 us to leave",
        why: "A core that waits for a request goes to sleep; leaving a deep state takes up to \
              some hundred microseconds, and all of it is latency.",
        sources: &[
            topology::ONLINE,
            "/sys/devices/system/cpu/cpu*/cpuidle/state*/disable",
            "/sys/devices/system/cpu/cpu*/cpuidle/state*/latency",
            "/sys/devices/system/cpu/cpu*/cpuidle/state*/name",
        ],
        inspect: sleep_states,
    },
];

fn governor(host: &Host) -> Result<Finding, Unreadable> {
    let mut by_governor: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    let mut slowest = false;
    for cpu in topology::online(host)? {
        let directory = format!("{CPUS}/cpu{cpu}/cpufreq");
        let governor = host.read(&format!("{directory}/scaling_governor"))?;
        // With these two drivers `powersave` still follows the load; with all others it is a fixed
        // lowest frequency.
        let driver = host.read(&format!("{directory}/scaling_driver")).unwrap_or_default();
        let follows_load = ["intel_pstate", "amd-pstate-epp", ""].contains(&driver.as_str());
        slowest |= governor == "powersave" && !follows_load;
        by_governor.entry(governor).or_default().push(cpu);
    }
    let found: Vec<String> = by_governor
        .iter()
        .map(|(governor, cpus)| format!("{governor} on CPUs {}", cpulist::format(cpus)))
        .collect();
    let found = found.join(", ");
    if by_governor.keys().all(|governor| governor == "performance") {
        return Ok(Finding::ok(found));
    }
    let remedy =
        Remedy::with("Set the governor", format!("echo performance | sudo tee {GOVERNORS}"));
    Ok(if slowest { Finding::problem(found, remedy) } else { Finding::advise(found, remedy) })
}

/// A sleep state: how long it takes to leave it, its name, and a CPU that has it enabled.
type State = (u64, String, u32);

fn sleep_states(host: &Host) -> Result<Finding, Unreadable> {
    let mut deepest: Option<State> = None;
    for cpu in topology::online(host)? {
        let state = deepest_enabled(host, cpu)?;
        // The first of equals, so that the report names the lowest CPU.
        if state.as_ref().map(|state| state.0) > deepest.as_ref().map(|state| state.0) {
            deepest = state;
        }
    }
    let Some((latency_us, name, cpu)) = deepest else {
        return Ok(Finding::ok("no sleep state enabled"));
    };
    let found = format!("deepest enabled: {name}, {latency_us} us to leave");
    if latency_us <= WAKE_US_MAX {
        return Ok(Finding::ok(found));
    }
    let command = format!(
        "for s in {CPUS}/cpu*/cpuidle/state*; do [ \"$(cat $s/latency)\" -gt {WAKE_US_MAX} ] && \
         echo 1 | sudo tee $s/disable; done"
    );
    let remedy = Remedy::with(
        "Hold /dev/cpu_dma_latency at 10 or less while the server runs, or disable deep states",
        command,
    );
    Ok(Finding::advise(format!("{found} (CPU {cpu})"), remedy))
}

/// The enabled state of `cpu` that takes longest to leave.
fn deepest_enabled(host: &Host, cpu: u32) -> Result<Option<State>, Unreadable> {
    let directory = format!("{CPUS}/cpu{cpu}/cpuidle");
    let mut deepest: Option<State> = None;
    for state in host.list(&directory)? {
        if !state.starts_with("state") {
            continue;
        }
        let state = format!("{directory}/{state}");
        // Any bit set means disabled, by the user or by the driver.
        if host.read_as::<u64>(&format!("{state}/disable"))? != 0 {
            continue;
        }
        let latency_us = host.read_as(&format!("{state}/latency"))?;
        if deepest.as_ref().is_none_or(|deepest| latency_us > deepest.0) {
            deepest = Some((latency_us, host.read(&format!("{state}/name"))?, cpu));
        }
    }
    Ok(deepest)
}

#[cfg(test)]
mod tests {
    use crate::checks::tests::outcome;
    use crate::fixture::Tree;

    const CPUS: &str = "sys/devices/system/cpu";

    fn two_cpus() -> Tree {
        Tree::new().file(&format!("{CPUS}/online"), "0-1\n")
    }

    fn with_governors(governors: [&str; 2], driver: &str) -> Tree {
        let mut tree = two_cpus();
        for (cpu, governor) in governors.into_iter().enumerate() {
            let directory = format!("{CPUS}/cpu{cpu}/cpufreq");
            tree = tree
                .file(&format!("{directory}/scaling_governor"), governor)
                .file(&format!("{directory}/scaling_driver"), driver);
        }
        tree
    }

    #[test]
    fn every_cpu_has_to_be_fast() {
        let both = outcome("cpu-governor", &with_governors(["performance"; 2], "intel_pstate"));
        assert_eq!(both, ("ok", "performance on CPUs 0-1".to_owned(), None));
        let one = with_governors(["performance", "schedutil"], "acpi-cpufreq");
        let (verdict, found, command) = outcome("cpu-governor", &one);
        assert_eq!(verdict, "advise");
        assert_eq!(found, "performance on CPUs 0, schedutil on CPUs 1");
        let expected =
            "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor";
        assert_eq!(command.as_deref(), Some(expected));
    }

    #[test]
    fn powersave_means_the_lowest_frequency_with_most_drivers() {
        for (driver, verdict) in [
            ("intel_pstate", "advise"),
            ("amd-pstate-epp", "advise"),
            ("intel_cpufreq", "problem"),
            ("acpi-cpufreq", "problem"),
        ] {
            let tree = with_governors(["performance", "powersave"], driver);
            assert_eq!(outcome("cpu-governor", &tree).0, verdict, "{driver}");
        }
    }

    #[test]
    fn virtual_machines_have_no_governor() {
        let (verdict, found, _) = outcome("cpu-governor", &two_cpus());
        assert_eq!(verdict, "unknown");
        assert_eq!(found, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor: is absent");
    }

    /// Adds a sleep state: number, name, microseconds, and whether it is disabled.
    fn state(tree: Tree, cpu: u32, state: (u32, &str, &str, &str)) -> Tree {
        let directory = format!("{CPUS}/cpu{cpu}/cpuidle/state{}", state.0);
        tree.file(&format!("{directory}/name"), state.1)
            .file(&format!("{directory}/latency"), state.2)
            .file(&format!("{directory}/disable"), state.3)
    }

    #[test]
    fn the_deepest_enabled_state_of_any_cpu_counts() {
        let mut tree = two_cpus();
        for cpu in 0..2 {
            tree = state(tree, cpu, (0, "POLL\n", "0\n", "0\n"));
            tree = state(tree, cpu, (1, "C1E\n", "10\n", "0\n"));
            tree = state(tree, cpu, (2, "C6\n", "133\n", "1\n"));
        }
        let (verdict, found, _) = outcome("cpu-sleep-states", &tree);
        assert_eq!((verdict, found.as_str()), ("ok", "deepest enabled: C1E, 10 us to leave"));
        let tree = state(tree, 1, (2, "C6\n", "133\n", "0\n"));
        let (verdict, found, command) = outcome("cpu-sleep-states", &tree);
        assert_eq!(verdict, "advise");
        assert_eq!(found, "deepest enabled: C6, 133 us to leave (CPU 1)");
        assert!(command.is_some_and(|command| command.contains("-gt 10")));
    }

    #[test]
    fn states_that_are_not_understood_are_unknown() {
        assert_eq!(outcome("cpu-sleep-states", &two_cpus()).0, "unknown");
        let tree = state(two_cpus(), 0, (0, "POLL", "fast", "0"));
        let (_, found, _) = outcome("cpu-sleep-states", &tree);
        let path = "/sys/devices/system/cpu/cpu0/cpuidle/state0/latency";
        assert!(found.starts_with(path), "{found}");
    }

    #[test]
    fn all_states_disabled_is_fine() {
        let tree = state(two_cpus(), 0, (0, "POLL", "0", "1"));
        let tree = state(tree, 1, (0, "POLL", "0", "1"));
        assert_eq!(outcome("cpu-sleep-states", &tree).1, "no sleep state enabled");
    }
}
