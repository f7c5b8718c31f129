//! What redis-cli can do beside sending commands, and the usual load generators.
//!
//! Where a tool is absent, its test is skipped and says so; with `PINION_REQUIRE_CLIENTS` in the
//! environment it fails. `memtier_benchmark` is in no package, so that its test is always skipped
//! where it is not in PATH.

mod support;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use support::{Server, tools};

/// A program that has no end of its own, killed when dropped.
struct Endless(Child);

impl Drop for Endless {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// redis-cli and a server with some keys.
fn redis_cli() -> Option<(PathBuf, Server, String)> {
    let program = tools::program("redis-cli")?;
    let server = Server::start(&[]);
    let mut client = server.client();
    for number in 0..250 {
        client.call(&["SET", &format!("key:{number}"), &"v".repeat(number)]);
    }
    client.call(&["SET", "largest", &"v".repeat(50_000)]);
    let port = server.resp.port().to_string();
    Some((program, server, port))
}

#[test]
fn redis_cli_scans() {
    let Some((program, _server, port)) = redis_cli() else { return };
    let run =
        |args: &[&str]| tools::output(Command::new(&program).args(["-p", &port]).args(args), b"");
    let all = run(&["--scan"]);
    assert_eq!(all.lines().count(), 251);
    let some = run(&["--scan", "--pattern", "key:1*"]);
    assert_eq!(some.lines().count(), 111);
    assert!(some.lines().all(|line| line.starts_with("key:1")), "{some}");
    let sizes = run(&["--bigkeys"]);
    for line in
        ["Sampled 251 keys in the keyspace!", "Biggest string found '\"largest\"' has 50000 bytes"]
    {
        assert!(sizes.contains(line), "{line} is missing in {sizes}");
    }
}

#[test]
fn redis_cli_asks_for_the_memory_of_keys() {
    let Some((program, _server, port)) = redis_cli() else { return };
    let sizes = tools::output(Command::new(program).args(["-p", &port, "--memkeys"]), b"");
    assert!(sizes.contains("Sampled 251 keys in the keyspace!"), "{sizes}");
    let biggest = sizes.split("Biggest string found '\"largest\"' has ").nth(1);
    let bytes = biggest.and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    assert!(bytes.is_some_and(|bytes| (50_000..80_000).contains(&bytes)), "{sizes}");
}

#[test]
fn redis_cli_watches_the_server() {
    let Some((program, _server, port)) = redis_cli() else { return };
    // Milliseconds: least, greatest, mean, and how many.
    let mut latency = Command::new(&program);
    let latency = tools::output(latency.args(["-p", &port, "--latency", "-i", "1"]), b"");
    let words: Vec<&str> = latency.split_whitespace().collect();
    assert!(words.len() == 4 && words[3].parse::<u64>().is_ok_and(|n| n > 0), "{latency}");

    // It never flushes what it prints into a pipe.
    let Some(stdbuf) = tools::program("stdbuf") else { return };
    let mut stat = Command::new(stdbuf)
        .arg("-oL")
        .arg(&program)
        .args(["-p", &port, "--stat", "-i", "0.05"])
        .stdout(Stdio::piped())
        .spawn()
        .map(Endless)
        .expect("redis-cli starts");
    let stdout = BufReader::new(stat.0.stdout.take().expect("it is piped"));
    let lines: Vec<String> = stdout.lines().take(4).map(|line| line.expect("text")).collect();
    assert!(lines[1].starts_with("keys       mem      clients blocked requests"), "{lines:?}");
    for line in &lines[2..] {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!((words[0], words[2], words[3]), ("251", "1", "0"), "{lines:?}");
    }
}

/// The tests of redis-benchmark beyond strings fail at their first reply: there are no other types.
#[test]
fn redis_benchmark_is_told_of_unknown_commands() {
    let Some(program) = tools::program("redis-benchmark") else { return };
    let server = Server::start(&[]);
    let port = server.resp.port().to_string();
    let mut command = Command::new(program);
    let output = command.args(["-p", &port, "-n", "10", "-q", "-t", "lpush"]).output();
    let output = output.expect("redis-benchmark runs");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("unknown command 'LPUSH'"), "{text}");
}

/// A number in the row of a report of memtier_benchmark.
fn rate(report: &str, row: &str) -> Option<f64> {
    report.lines().find(|line| line.starts_with(row))?.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn memtier_benchmark_measures_both_protocols() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|folder| folder.join("memtier_benchmark"));
    let Some(program) = places.find(|file| file.is_file()) else {
        println!("skipped: there is no memtier_benchmark");
        return;
    };
    let server = Server::start(&[]);
    for (protocol, address) in
        [("resp2", server.resp), ("resp3", server.resp), ("memcache_text", server.memcached)]
    {
        let port = address.port().to_string();
        let mut command = Command::new(&program);
        command.args(["-p", &port, "-P", protocol, "-n", "2000", "-c", "5", "-t", "1"]);
        command.args(["--ratio", "1:1", "--pipeline", "4", "--data-size-range", "1-2000"]);
        command.args(["--key-maximum", "500", "--expiry-range", "100-200", "--hide-histogram"]);
        let report = tools::output(&mut command, b"");
        for row in ["Sets", "Gets", "Totals"] {
            assert!(rate(&report, row).is_some_and(|rate| rate > 0.0), "{protocol}: {report}");
        }
    }
}
