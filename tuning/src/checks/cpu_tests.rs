//! Tests of the CPU checks on trees of different machines.

use crate::checks::tests::outcome;
use crate::fixture::Tree;
use crate::topology::tests::with_topology;

const CPU: &str = "sys/devices/system/cpu";
const CLOCK: &str = "sys/devices/system/clocksource/clocksource0";

/// Two nodes with two physical cores each, two threads per core.
fn machine() -> Tree {
    with_topology(Tree::new(), &["0,4", "1,5", "2,6", "3,7"], &["0-1,4-5", "2-3,6-7"])
}

fn single_threaded() -> Tree {
    with_topology(Tree::new(), &["0", "1", "2", "3"], &["0-3"])
}

#[test]
fn siblings_are_counted() {
    let (verdict, found, command) = outcome("cpu-smt", &machine());
    assert_eq!((verdict, found.as_str()), ("advise", "8 threads on 4 physical cores"));
    assert_eq!(command.as_deref(), Some("pinion --cores 0-3"));
    let (verdict, found, _) = outcome("cpu-smt", &single_threaded());
    assert_eq!((verdict, found.as_str()), ("ok", "4 physical cores, one thread each"));
}

#[test]
fn isolation_leaves_a_core_per_node() {
    let with = |tree: Tree, list: &str| {
        outcome("cpu-isolated", &tree.file(&format!("{CPU}/isolated"), list))
    };
    let (verdict, found, command) = with(machine(), "\n");
    assert_eq!((verdict, found.as_str()), ("advise", "none"));
    let expected = "isolcpus=managed_irq,domain,1,3,5,7 nohz_full=1,3,5,7 rcu_nocbs=1,3,5,7";
    assert_eq!(command.as_deref(), Some(expected));
    assert_eq!(with(machine(), "1,3,5,7\n").0, "ok");
    assert_eq!(with(machine(), "0-7\n").0, "problem");
    assert_eq!(with(machine(), "some\n").0, "unknown");
    assert_eq!(with(with_topology(Tree::new(), &["0-1"], &["0-1"]), "\n").0, "ok");
}

#[test]
fn only_isolated_cpus_need_to_lose_their_tick() {
    let with = |isolated: &str, tickless: &str| {
        let tree = machine()
            .file(&format!("{CPU}/isolated"), isolated)
            .file(&format!("{CPU}/nohz_full"), tickless);
        outcome("cpu-nohz-full", &tree)
    };
    assert_eq!(with("", "(null)\n").1, "none, and no CPU is isolated");
    assert_eq!(with("2-3", "1-3\n"), ("ok", "1-3".to_owned(), None));
    let (verdict, found, command) = with("1-3", "3\n");
    assert_eq!((verdict, found.as_str()), ("advise", "3, but 1-2 isolated"));
    assert_eq!(command.as_deref(), Some("nohz_full=1-3 rcu_nocbs=1-3"));
    // Kernels without the option have no such file.
    let tree = machine().file(&format!("{CPU}/isolated"), "");
    assert_eq!(outcome("cpu-nohz-full", &tree).0, "unknown");
}

#[test]
fn irqbalance_is_looked_for_among_all_processes() {
    let quiet = || machine().file("proc/1/comm", "init\n").file("proc/77/comm", "sshd\n");
    assert_eq!(outcome("irqbalance", &quiet()).0, "ok");
    let running = || quiet().file("proc/512/comm", "irqbalance\n");
    let (verdict, _, command) = outcome("irqbalance", &running());
    assert_eq!(verdict, "advise");
    let command = command.expect("there is something to copy");
    assert!(command.contains("IRQBALANCE_BANNED_CPULIST=1,3,5,7\\n"), "{command}");
    let banned = running().file("proc/512/environ", "A=1\0IRQBALANCE_BANNED_CPULIST=2-7\0B=\0");
    let expected = ("ok", "running, CPUs 2-7 banned".to_owned(), None);
    assert_eq!(outcome("irqbalance", &banned), expected);
    let empty = running().file("proc/512/environ", "IRQBALANCE_BANNED_CPULIST=\0");
    assert_eq!(outcome("irqbalance", &empty).0, "advise");
    let hidden = machine().file("proc/512/comm", "irqbalance\n");
    assert_eq!(outcome("irqbalance", &hidden).1, "/proc/1/comm: is absent");
}

#[test]
fn clocks_are_judged_by_what_reading_them_costs() {
    let with = |current: &str, available: &str| {
        let tree = Tree::new()
            .file(&format!("{CLOCK}/current_clocksource"), current)
            .file(&format!("{CLOCK}/available_clocksource"), available);
        outcome("clocksource", &tree)
    };
    assert_eq!(with("tsc\n", "tsc hpet acpi_pm \n").0, "ok");
    assert_eq!(with("arch_sys_counter\n", "arch_sys_counter \n").0, "ok");
    let (verdict, _, command) = with("kvm-clock\n", "kvm-clock tsc acpi_pm \n");
    assert_eq!(verdict, "advise");
    let expected = format!("echo tsc | sudo tee /{CLOCK}/current_clocksource");
    assert_eq!(command, Some(expected));
    assert_eq!(with("hpet\n", "hpet acpi_pm \n"), ("problem", "hpet".to_owned(), None));
    assert_eq!(with("sundial\n", "").0, "unknown");
}
