//! The benchmarks that fill whole servers, run small.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Folder, executable, is_installed};
use serde_json::Value;

/// The servers that can be filled here. Pinion is played by Redis, with its own options.
fn servers(folder: &Path) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut names = Vec::new();
    if is_installed("redis-server") {
        let script = "#!/bin/sh\n\
                      while [ $# -gt 0 ]; do\n\
                      case $1 in --port) port=$2;; --memory) memory=$2;; esac\n\
                      shift\n\
                      done\n\
                      exec redis-server --port \"$port\" --save '' --appendonly no \\\n\
                      --maxmemory \"$memory\" --maxmemory-policy allkeys-lru\n";
        arguments.push("--pinion".to_string());
        arguments.push(executable(folder, "pinion", script).display().to_string());
        names.extend(["pinion", "redis", "redis-lfu"]);
    }
    if is_installed("memcached") {
        names.push("memcached");
    }
    arguments.extend(["--servers".to_string(), names.join(",")]);
    arguments
}

/// Runs a program on every server that is there: its table, and the results in its file.
fn run(program: &str, name: &str, arguments: &str) -> Option<(String, Vec<Value>)> {
    let folder = Folder::new(name);
    let servers = servers(&folder.0);
    if servers.last().is_some_and(String::is_empty) {
        return None;
    }
    let file: PathBuf = folder.0.join("results.json");
    let mut command = Command::new(program);
    command.args(arguments.split_whitespace()).args(&servers).arg("--json").arg(&file);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let results = document["results"].as_array().unwrap().clone();
    Some((String::from_utf8(output.stdout).unwrap(), results))
}

fn number(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap_or_else(|| panic!("no {name} in {value}"))
}

#[test]
fn a_filling_server_is_weighed_at_every_count() {
    let arguments = "fill --items 20000,40000 --value-size 100";
    let Some((table, results)) = run(env!("CARGO_BIN_EXE_footprint"), "fill", arguments) else {
        return;
    };
    assert_eq!(table.lines().count(), results.len() + 1);
    for result in &results {
        let overhead = number(result, "overhead_bytes_per_item");
        assert!((10.0..400.0).contains(&overhead), "{result}");
    }
}

#[test]
fn a_limit_is_found_by_counting_and_churned() {
    let arguments = "fit --memory-mib 64 --value-size 4000";
    let Some((_, results)) = run(env!("CARGO_BIN_EXE_footprint"), "fit", arguments) else {
        return;
    };
    for result in &results {
        let items = number(result, "items");
        assert!((8_000.0..17_000.0).contains(&items), "{result}");
    }
    let arguments = "churn --memory-mib 64 --rounds 1";
    let (_, results) = run(env!("CARGO_BIN_EXE_footprint"), "churn", arguments).unwrap();
    for result in &results {
        assert!(number(result, "items") > 0.0, "{result}");
        assert!(number(result, "items") <= number(result, "keys"), "{result}");
        assert!(number(result, "data_bytes") < number(result, "resident_bytes"), "{result}");
    }
}

#[test]
fn shifting_sizes_are_watched_phase_by_phase() {
    let arguments = "shift --memory-mib 64 --value-sizes 1000,30000";
    let Some((_, results)) = run(env!("CARGO_BIN_EXE_footprint"), "shift", arguments) else {
        return;
    };
    assert!(results.len().is_multiple_of(2), "two phases each");
    for result in &results {
        assert!(number(result, "max_to_limit") > 0.3, "{result}");
        assert!(number(result, "resident_bytes_max") >= number(result, "resident_bytes"));
    }
}

#[test]
fn keys_that_expire_steadily_are_seen_to_go() {
    let arguments = "steady --keys 2000 --rate 1000 --seconds 0.5";
    let Some((_, results)) = run(env!("CARGO_BIN_EXE_expiry-lag"), "steady", arguments) else {
        return;
    };
    for result in &results {
        assert!(number(result, "samples") > 0.0, "{result}");
        assert!(number(result, "lag_max_ms") >= number(result, "lag_p50_ms"), "{result}");
        // None of these servers tells.
        assert!(result["own_lag_p99_ms"].is_null(), "{result}");
    }
}

#[test]
fn keys_that_expire_at_once_are_seen_to_go() {
    let arguments = "burst --keys 5000 --rate 500 --lead-seconds 2 --seconds 0.3 --wait-seconds 4";
    let Some((_, results)) = run(env!("CARGO_BIN_EXE_expiry-lag"), "burst", arguments) else {
        return;
    };
    for result in &results {
        let left = number(result, "left");
        assert_eq!(result["gone_100_ms"].is_null(), left > 0.0, "{result}");
        assert!(number(&result["during_us"], "p99") > 0.0, "{result}");
    }
    let redis = results.iter().find(|result| result["server"] == "redis").unwrap();
    assert_eq!(number(redis, "left"), 0.0, "Redis removes them in the background");
}

#[test]
fn hit_ratios_are_measured_at_the_same_resident_memory() {
    let arguments = "--resident-mib 48 --keys 400000 --settle-requests 20000 \
                     --warm-requests 20000 --requests 50000 --tolerance 10";
    let program = env!("CARGO_BIN_EXE_equal-memory");
    let Some((_, results)) = run(program, "equal-memory", arguments) else { return };
    for result in &results {
        let hit_ratio = number(result, "hit_ratio");
        assert!((0.3..1.0).contains(&hit_ratio), "{result}");
        let off = number(result, "resident_bytes") / number(result, "target_bytes") - 1.0;
        assert!(off.abs() < 0.3, "{result}");
    }
}

#[test]
fn what_cannot_work_ends_with_a_clear_line() {
    for (program, arguments, reason) in [
        (env!("CARGO_BIN_EXE_footprint"), "fill --items 5,2", "--items"),
        (env!("CARGO_BIN_EXE_footprint"), "fit --value-size 0", "values"),
        (env!("CARGO_BIN_EXE_footprint"), "shift --servers nginx", "nginx"),
        (env!("CARGO_BIN_EXE_footprint"), "churn --servers redis --redis /no/such", "/no/such"),
        (env!("CARGO_BIN_EXE_expiry-lag"), "steady --keys 0", "--keys"),
        (env!("CARGO_BIN_EXE_expiry-lag"), "burst --seconds 0", "--seconds"),
        (env!("CARGO_BIN_EXE_steps"), "--curve 3,2", "--curve"),
    ] {
        let output = Command::new(program).args(arguments.split(' ')).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments}: {errors}");
        assert!(errors.lines().last().unwrap().contains(reason), "{arguments}: {errors}");
    }
}

#[test]
fn steps_are_printed_and_written() {
    let folder = Folder::new("steps");
    let file = folder.0.join("steps.json");
    let arguments = "--items 3000 --memory-mib 8 --writes 3000 --curve 1000,2000";
    let mut command = Command::new(env!("CARGO_BIN_EXE_steps"));
    let output = command.args(arguments.split(' ')).arg("--json").arg(&file).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("insert, growing") && table.contains("upkeep, full"), "{table}");
    let document: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(document["results"].as_array().unwrap().len(), 4 + 2);
}
