//! Checks of how CPUs are shared and how time is read: SMT, isolation, ticks, interrupts, clock.

use crate::check::{Check, Finding, Group, Remedy};
use crate::cpulist;
use crate::host::{Host, Unreadable};
use crate::topology::{self, Topology};

const ISOLATED: &str = "/sys/devices/system/cpu/isolated";
const NOHZ_FULL: &str = "/sys/devices/system/cpu/nohz_full";
const SIBLINGS: &str = "/sys/devices/system/cpu/cpu*/topology/thread_siblings_list";
const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
const CLOCKS: &str = "/sys/devices/system/clocksource/clocksource0/available_clocksource";

/// The variable by which irqbalance is told which CPUs to leave alone.
const BANNED_CPUS: &str = "IRQBALANCE_BANNED_CPULIST=";

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "cpu-smt",
        group: Group::Cpu,
        wanted: "one thread per physical core, or shards on one thread of each",
        why: "Two busy threads of one physical core share its execution units and its caches, so \
              each slows down whenever the other works.",
        sources: &[topology::ONLINE, SIBLINGS],
        inspect: smt,
    },
    Check {
        name: "cpu-isolated",
        group: Group::Cpu,
        wanted: "the shards' CPUs isolated, at least one CPU left for everything else",
        why: "On an isolated CPU the scheduler places no other work, so a shard is not put aside \
              for a time slice of something else.",
        sources: &[ISOLATED, topology::ONLINE, SIBLINGS],
        inspect: isolated,
    },
    Check {
        name: "cpu-nohz-full",
        group: Group::Cpu,
        wanted: "the isolated CPUs without a periodic tick",
        why: "A CPU with one runnable task needs no scheduler tick, which otherwise interrupts a \
              shard 100 to 1000 times a second.",
        sources: &[NOHZ_FULL, ISOLATED],
        inspect: nohz_full,
    },
    Check {
        name: "irqbalance",
        group: Group::Cpu,
        wanted: "not running, or with the shards' CPUs banned",
        why: "It moves interrupts between CPUs while requests are served, onto shards too.",
        sources: &["/proc/*/comm", "/proc/*/environ", topology::ONLINE, SIBLINGS],
        inspect: irqbalance,
    },
    Check {
        name: "clocksource",
        group: Group::Cpu,
        wanted: "tsc (x86) or arch_sys_counter (Arm)",
        why: "Deadlines and latencies need the time in every turn; a clock that is read from a \
              device costs a system call and an access to the device each time.",
        sources: &[CLOCK, CLOCKS],
        inspect: clocksource,
    },
];

fn smt(host: &Host) -> Result<Finding, Unreadable> {
    let topology = Topology::read(host)?;
    let (threads, cores) = (topology.online.len(), topology.cores.len());
    if threads == cores {
        return Ok(Finding::ok(format!("{cores} physical cores, one thread each")));
    }
    let found = format!("{threads} threads on {cores} physical cores");
    let first = cpulist::format(&topology.first_siblings());
    let remedy = Remedy::with(
        "Run one shard per physical core, and leave the siblings idle",
        format!("pinion --cores {first}"),
    );
    Ok(Finding::advise(found, remedy))
}

fn isolated(host: &Host) -> Result<Finding, Unreadable> {
    let isolated = topology::cpus(host, ISOLATED)?;
    if !isolated.is_empty() {
        let found = cpulist::format(&isolated);
        let online = topology::online(host)?;
        if online.iter().any(|cpu| isolated.binary_search(cpu).is_err()) {
            return Ok(Finding::ok(found));
        }
        let remedy = Remedy::new("Leave at least one CPU of each node out of isolcpus=");
        return Ok(Finding::problem(format!("{found}, which is every CPU"), remedy));
    }
    let exclusive = Topology::read(host)?.exclusive();
    if exclusive.is_empty() {
        return Ok(Finding::ok("none, and too few cores to set one apart"));
    }
    let list = cpulist::format(&exclusive);
    let remedy = Remedy::with(
        "On a host for the cache alone, add boot parameters; elsewhere leave it",
        format!("isolcpus=managed_irq,domain,{list} nohz_full={list} rcu_nocbs={list}"),
    );
    Ok(Finding::advise("none", remedy))
}

fn nohz_full(host: &Host) -> Result<Finding, Unreadable> {
    let tickless = topology::cpus(host, NOHZ_FULL)?;
    let isolated = topology::cpus(host, ISOLATED)?;
    let found = match cpulist::format(&tickless) {
        none if none.is_empty() => "none".to_owned(),
        list => list,
    };
    let ticking: Vec<u32> =
        isolated.iter().copied().filter(|cpu| tickless.binary_search(cpu).is_err()).collect();
    if ticking.is_empty() {
        let without = if isolated.is_empty() { ", and no CPU is isolated" } else { "" };
        return Ok(Finding::ok(format!("{found}{without}")));
    }
    let list = cpulist::format(&isolated);
    let remedy = Remedy::with(
        "Add boot parameters (the kernel needs CONFIG_NO_HZ_FULL)",
        format!("nohz_full={list} rcu_nocbs={list}"),
    );
    let found = format!("{found}, but {} isolated", cpulist::format(&ticking));
    Ok(Finding::advise(found, remedy))
}

fn irqbalance(host: &Host) -> Result<Finding, Unreadable> {
    // Without the first process nothing can be said: the others may be hidden too.
    host.read("/proc/1/comm")?;
    let running = host.list("/proc")?.into_iter().find(|name| {
        name.bytes().all(|byte| byte.is_ascii_digit())
            && host.read(&format!("/proc/{name}/comm")).as_deref() == Ok("irqbalance")
    });
    let Some(process) = running else {
        return Ok(Finding::ok("not running, as far as this process sees"));
    };
    // Only the same user may read it; without it the ban is simply not known.
    let environment = host.read(&format!("/proc/{process}/environ")).unwrap_or_default();
    let banned = environment.split('\0').find_map(|variable| variable.strip_prefix(BANNED_CPUS));
    if let Some(banned) = banned.and_then(cpulist::parse).filter(|cpus| !cpus.is_empty()) {
        return Ok(Finding::ok(format!("running, CPUs {} banned", cpulist::format(&banned))));
    }
    let exclusive = Topology::read(host)?.exclusive();
    if exclusive.is_empty() {
        return Ok(Finding::ok("running, and too few cores to ban one"));
    }
    let list = cpulist::format(&exclusive);
    let directory = "/etc/systemd/system/irqbalance.service.d";
    let remedy = Remedy::with(
        "Ban the shards' CPUs; do not stop it where a driver relies on it (ENA)",
        format!(
            "sudo mkdir -p {directory} && printf '[Service]\\nEnvironment={BANNED_CPUS}{list}\\n' \
             | sudo tee {directory}/pinion.conf && sudo systemctl daemon-reload && \
             sudo systemctl restart irqbalance"
        ),
    );
    Ok(Finding::advise("running, no banned CPUs known", remedy))
}

fn clocksource(host: &Host) -> Result<Finding, Unreadable> {
    let current = host.read(CLOCK)?;
    let better = |action: &str| {
        let available = host.read(CLOCKS).unwrap_or_default();
        let counters = ["tsc", "arch_sys_counter"];
        match available.split_whitespace().find(|name| counters.contains(name)) {
            Some(name) => Remedy::with(action, format!("echo {name} | sudo tee {CLOCK}")),
            None => Remedy::new(
                "Look in the kernel log why no CPU counter is offered (dmesg | grep -i tsc)",
            ),
        }
    };
    match current.as_str() {
        "tsc" | "arch_sys_counter" | "riscv_clocksource" | "timebase" | "tod" => {
            Ok(Finding::ok(current))
        }
        // Read without a system call, but through a page that the hypervisor may change.
        "kvm-clock" | "hyperv_clocksource_tsc_page" => {
            let remedy = better("Use the counter of the CPU, if the provider keeps it stable");
            Ok(Finding::advise(current, remedy))
        }
        "hpet"
        | "acpi_pm"
        | "xen"
        | "jiffies"
        | "refined-jiffies"
        | "pit"
        | "hyperv_clocksource_msr" => {
            Ok(Finding::problem(current, better("Use the counter of the CPU")))
        }
        other => Err(Unreadable::new(CLOCK, format!("names {other:?}, whose cost is not known"))),
    }
}

#[cfg(test)]
#[path = "cpu_tests.rs"]
mod tests;
