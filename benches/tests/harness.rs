//! Every benchmark of the harness, run small.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{Folder, executable, is_installed};
use serde_json::Value;

/// Rounds too short to mean anything, and never dropped.
const TINY: &str = "--rounds 2 --seconds 0.03 --warmup 0.01 --keys 300 \
                    --foreign-max 100 --stolen-max 100 --seed 5 \
                    --server-cpu 0 --client-cpu 0";

fn harness(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command.args(arguments.split_whitespace());
    command
}

/// Runs a benchmark and returns its table and its file.
fn run(name: &str, arguments: &str, more: &[&str]) -> (String, Value) {
    let folder = Folder::new(name);
    let file = folder.0.join("report.json");
    let output = harness(arguments)
        .args(TINY.split_whitespace())
        .args(more)
        .arg("--json")
        .arg(&file)
        .output()
        .unwrap();
    let text = stdout(&output);
    (text, serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap())
}

fn stdout(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The servers that can be measured here.
fn servers() -> String {
    let mut names = vec!["floor-epoll", "floor-ring", "floor-glommio", "floor-ring@memcached"];
    names.extend(["redis"].iter().filter(|_| is_installed("redis-server")));
    names.extend(["memcached"].iter().filter(|_| is_installed("memcached")));
    names.join(",")
}

fn count(value: &Value) -> usize {
    value.as_array().unwrap().len()
}

/// A stand-in for pinion that takes its port option and is Redis.
fn pinion_of_redis(folder: &Path) -> PathBuf {
    let script = "#!/bin/sh\n\
                  while [ $# -gt 0 ]; do\n\
                  case $1 in --port) port=$2;; esac\n\
                  shift\n\
                  done\n\
                  exec redis-server --port \"$port\" --save '' --appendonly no\n";
    executable(folder, "pinion", script)
}

#[test]
fn saturation_measures_every_server_at_every_batch_size() {
    let servers = servers();
    for instances in ["fresh", "kept"] {
        let arguments = format!(
            "saturation --servers {servers} --pipeline 1,16 --connections 4 --instances {instances}"
        );
        let (table, report) = run(&format!("saturation-{instances}"), &arguments, &[]);
        assert!(table.contains("seed 5"), "{table}");
        let names = servers.split(',').count();
        assert_eq!(count(&report["servers"]), names);
        assert_eq!(count(&report["cells"]), 2 * names);
        for cell in report["cells"].as_array().unwrap() {
            assert_eq!(count(&cell["rounds"]), 2, "{cell}");
            assert!(cell["server_ns_per_request"]["median"].as_f64().unwrap() > 0.0, "{cell}");
            let name = cell["server"].as_str().unwrap();
            let lines = table.lines().filter(|line| line.split(' ').next() == Some(name));
            assert_eq!(lines.count(), 2, "{table}");
        }
    }
}

#[test]
fn latency_measures_every_server_at_every_rate() {
    let servers = servers();
    let arguments = format!("latency --servers {servers} --rates 1000,3000 --connections 4");
    let (_, report) = run("latency", &arguments, &["--arrivals", "even"]);
    assert_eq!(count(&report["cells"]), 2 * servers.split(',').count());
    for cell in report["cells"].as_array().unwrap() {
        let expected = cell["rate_per_s"].as_f64().unwrap() * 0.03;
        for round in cell["rounds"].as_array().unwrap() {
            let sent = round["groups"][0]["count"].as_f64().unwrap();
            assert!((sent - expected).abs() <= 1.0, "{cell}");
            assert_eq!(round["overrun"], Value::Bool(false), "{cell}");
        }
    }
}

#[test]
fn a_flush_sweep_compares_variants_of_pinion() {
    if !is_installed("redis-server") {
        return;
    }
    let folder = Folder::new("variants");
    let pinion = pinion_of_redis(&folder.0);
    let more = [
        "--pinion",
        pinion.to_str().unwrap(),
        "--variant",
        "small=--flush-commands 20",
        "--variant",
        "large=--flush-commands 256",
    ];
    let arguments = "flush-sweep --loads 5,10 --bulk-connections 3 --lone-rate 300";
    let (table, report) = run("flush-sweep", arguments, &more);
    assert!(table.contains("good"), "{table}");
    assert_eq!(count(&report["cells"]), 4);
    for (index, budget) in ["20", "256"].iter().enumerate() {
        let command = report["servers"][index]["command"].to_string();
        assert!(command.contains(&format!("\"--flush-commands\",\"{budget}\"")), "{command}");
    }
    for cell in report["cells"].as_array().unwrap() {
        for round in cell["rounds"].as_array().unwrap() {
            assert_eq!(count(&round["groups"]), 2, "{cell}");
        }
    }
}

#[test]
fn a_program_is_found_from_where_the_harness_was_started() {
    if !is_installed("redis-server") {
        return;
    }
    let folder = Folder::new("relative");
    pinion_of_redis(&folder.0);
    let arguments = "saturation --servers pinion --pinion ./pinion --pipeline 1 --connections 1";
    let mut command = harness(arguments);
    let output = command.args(TINY.split_whitespace()).current_dir(&folder.0).output().unwrap();
    assert!(stdout(&output).lines().any(|line| line.starts_with("pinion ")));
}

#[test]
fn rounds_that_others_disturb_are_dropped_a_bounded_number_of_times() {
    let arguments = "saturation --servers floor-epoll --pipeline 1 --connections 1 --rounds 2 \
                     --seconds 0.05 --warmup 0 --keys 10 --foreign-max 0 --stolen-max 0 \
                     --server-cpu 0 --client-cpu 0";
    // On a machine without a single other thread that runs, the rounds are valid instead.
    let table = stdout(&harness(arguments).output().unwrap());
    let row = table.lines().find(|line| line.starts_with("floor-epoll")).unwrap();
    let rounds = row.split_whitespace().last().unwrap();
    let counts: Vec<usize> =
        rounds.trim_end_matches('!').split('-').map(|count| count.parse().unwrap()).collect();
    let tries: usize = counts.iter().sum();
    assert!((2..=6).contains(&tries), "{table}");
    assert_eq!(counts[0] < 2, table.contains("too few valid rounds"), "{table}");
}

#[test]
fn servers_die_with_a_harness_that_is_killed() {
    let arguments = "saturation --servers floor-ring --pipeline 1 --connections 1 --seconds 60 \
                     --server-cpu 0 --client-cpu 0";
    let mut command = harness(arguments);
    let mut harness = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    let pid = harness.id();
    let children = || {
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
            .unwrap()
            .split_whitespace()
            .map(str::to_string)
            .collect::<Vec<_>>()
    };
    // The child is a copy of the harness until it executes the server.
    let server = loop {
        let started = children().into_iter().find(|child| {
            let name = fs::read_to_string(format!("/proc/{child}/comm"));
            name.is_ok_and(|name| name.trim() == "floor")
        });
        match started {
            Some(child) => break child,
            None => std::thread::yield_now(),
        }
    };
    harness.kill().unwrap();
    harness.wait().unwrap();
    let is_running = || {
        let stat = fs::read_to_string(format!("/proc/{server}/stat")).unwrap_or_default();
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        state.is_some_and(|state| state != 'Z')
    };
    while is_running() {
        std::thread::yield_now();
    }
}

#[test]
fn what_cannot_work_ends_with_a_clear_line() {
    for (arguments, expected) in [
        ("saturation", "--servers"),
        ("saturation --servers nginx", "nginx"),
        ("saturation --servers pinion", "--pinion"),
        ("saturation --servers floor-ring --rounds 0", "--rounds"),
        ("saturation --servers floor-ring --seconds 0", "--seconds"),
        ("saturation --servers floor-ring --key-size 3", "keys must have"),
        ("saturation --servers floor-ring --server-cpu 999", "CPU 999"),
        ("saturation --servers floor-ring --connections 0", "connections"),
        ("saturation --servers floor-ring --pipeline 0", "batch"),
        ("latency --servers floor-ring --server-cpu 0 --client-cpu 0 --pace spin", "starve"),
        ("latency --servers floor-ring --client-cpu 0 --server-cpu 0 --rates 0", "rate"),
        ("flush-sweep --servers floor-ring --client-cpu 0 --loads 0", "--loads"),
        ("saturation --servers redis --redis /no/such", "/no/such"),
    ] {
        let output = harness(arguments).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments}: {errors}");
        let line = errors.lines().last().unwrap();
        assert!(line.starts_with("harness: ") && line.contains(expected), "{errors}");
    }
}
