//! The written forms are read back by others: the interval log by the `hdrhistogram` crate and by
//! a Python reader, the percentile table by a reader of its columns, and the log by our `report`.
//!
//! The Python of `PINION_PYTHON` needs the package `hdrhistogram`. Without it that part is skipped
//! and says so; with `PINION_REQUIRE_CLIENTS` in the environment it fails.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{Behaviour, Server};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use pinion_loadgen::{
    EXIT_INVALID, EXIT_OK, Guards, Load, Mix, Rate, Report, RunConfig, read_log, run,
};

/// Adds up the histograms of `all-response` with the reader, and prints count, maximum and p90.
const PYTHON_READER: &str = r"
import sys
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
sums = HdrHistogram(1, 100_000_000_000, 3)
reader = HistogramLogReader(sys.argv[1], sums)
rows = 0
while True:
    histogram = reader.get_next_interval_histogram()
    if histogram is None:
        break
    if histogram.get_tag() == 'all-response':
        sums.add(histogram)
        rows += 1
reader.close()
print(rows, sums.get_total_count(), sums.get_max_value(), sums.get_value_at_percentile(90))
";

fn file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("pinion-{}-{name}", std::process::id()))
}

fn logged_run(hlog: &Path) -> Report {
    let server = Server::start(Behaviour::default());
    let config = RunConfig {
        target: server.target.clone(),
        connections: 4,
        load: Load::Open(Rate { millihertz: 2_000_000 }),
        duration: Duration::from_millis(2200),
        warmup: Duration::from_millis(200),
        keys: 100,
        mix: Mix { get: 3, set: 1, ..Mix::default() },
        threads: 2,
        guards: Guards::Lenient,
        hlog: Some(hlog.to_owned()),
        ..RunConfig::default()
    };
    let report = run(&config).expect("a report");
    assert_eq!(report.requests, 4400, "{}", report.text());
    report
}

/// The rows of a tag, as the crate's own reader finds them.
fn rows_of(text: &[u8], tag: &str) -> usize {
    // The crate takes comments and rows alone; the legend is for the readers of Java and Python.
    let kept: Vec<u8> = text
        .split_inclusive(|&byte| byte == b'\n')
        .filter(|line| !line.starts_with(b"\""))
        .flatten()
        .copied()
        .collect();
    IntervalLogIterator::new(&kept)
        .map(|entry| entry.expect("a row or a comment"))
        .filter(|entry| match entry {
            LogEntry::Interval(row) => row.tag().is_some_and(|found| found.as_str() == tag),
            _ => false,
        })
        .count()
}

fn check_sum(sum: &Histogram<u64>, report: &Report) {
    let response = &report.total.response;
    assert_eq!(sum.len(), response.len());
    for q in [0.1, 0.5, 0.9, 0.99, 1.0] {
        assert_eq!(sum.value_at_quantile(q), response.value_at_quantile(q), "{q}");
    }
}

#[test]
fn an_interval_log_is_read_by_everybody() {
    let path = file("run.hlog");
    let report = logged_run(&path);
    let text = std::fs::read(&path).expect("written");
    let rows = rows_of(&text, "all-response");
    assert!((3..=4).contains(&rows), "{rows} seconds");
    assert_eq!(rows_of(&text, "get-lag"), rows);
    let log = read_log(&path).expect("a log");
    let (_, sum) = log.sums.iter().find(|(tag, _)| tag == "all-response").expect("the tag");
    check_sum(sum, &report);
    assert_eq!(log.hgrm("all-response").as_deref(), Some(report.hgrm().as_str()));

    let shown = shown_by_report(&path);
    assert!(shown.contains("all-response") && shown.contains("4400"), "{shown}");
    if let Some(line) = read_by_python(&path) {
        let numbers: Vec<u64> =
            line.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        let [python_rows, count, max_ns, p90_ns] = numbers[..] else { panic!("{line}") };
        assert_eq!((python_rows, count), (rows as u64, 4400));
        let near = |a: u64, b: u64| a.abs_diff(b) <= b / 500 + 1;
        assert!(near(max_ns, report.total.response.max()), "{line}");
        assert!(near(p90_ns, report.total.response.value_at_quantile(0.9)), "{line}");
    }
    std::fs::remove_file(path).expect("there");
}

fn shown_by_report(path: &Path) -> String {
    let (json, hgrm) = (file("report.json"), file("report.hgrm"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_pinion-loadgen"));
    command.arg("report").arg(path).arg("--json").arg(&json).arg("--hgrm").arg(&hgrm);
    let output = command.output().expect("ran");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = std::fs::read_to_string(&json).expect("written");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["tags"]["all-response"]["count"], 4400);
    assert!(std::fs::read_to_string(&hgrm).expect("written").contains("4400]"));
    let missing = command.args(["--tag", "nobody"]).output().expect("ran");
    assert_eq!(missing.status.code(), Some(pinion_loadgen::EXIT_USAGE));
    std::fs::remove_file(json).expect("there");
    std::fs::remove_file(hgrm).expect("there");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn read_by_python(path: &Path) -> Option<String> {
    let python = std::env::var("PINION_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_reader = Command::new(&python).args(["-c", "import hdrh"]).output();
    if !has_reader.is_ok_and(|output| output.status.success()) {
        let required = std::env::var_os("PINION_REQUIRE_CLIENTS").is_some();
        assert!(!required, "PINION_REQUIRE_CLIENTS is set, and {python} has no hdrhistogram");
        eprintln!("skipped: {python} has no package hdrhistogram");
        return None;
    }
    let output = Command::new(&python).args(["-c", PYTHON_READER]).arg(path).output();
    let output = output.expect("ran");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_percentile_table_agrees_with_the_histogram() {
    let path = file("table.hlog");
    let report = logged_run(&path);
    std::fs::remove_file(path).expect("there");
    let table = report.hgrm();
    let rows: Vec<Vec<f64>> = table
        .lines()
        .skip(1)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_whitespace().map(|word| word.parse().expect("a number")).collect())
        .collect();
    assert!(rows.len() > 20);
    for row in &rows {
        // A quantile that falls between two samples may be either of them.
        let at = |q: f64| report.total.response.value_at_quantile(q.clamp(0.0, 1.0)) as f64 / 1e6;
        let (low, high) = (at(row[1] - 1.0 / 4400.0), at(row[1] + 1.0 / 4400.0));
        assert!((low * 0.998 - 1e-6..=high * 1.002 + 1e-6).contains(&row[0]), "{row:?}");
    }
    assert_eq!(rows.last().expect("rows")[2], 4400.0);
}

#[test]
fn the_self_test_tells_cost_and_lag() {
    let json = file("selftest.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pinion-loadgen"));
    command.args(["selftest", "--duration", "100ms", "--no-progress", "--json"]).arg(&json);
    let output = command.output().expect("ran");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("open, 100000 per second"), "{text}");
    let report = std::fs::read_to_string(&json).expect("written");
    std::fs::remove_file(json).expect("there");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let measures = report["measures"].as_array().expect("a list");
    assert_eq!(measures.len(), 5);
    for measure in measures {
        let cpu_ns = measure["client_cpu_ns_per_request"].as_f64().expect("a number");
        assert!(cpu_ns > 0.0, "{measure}");
    }
    assert!(measures[0]["lag"]["max_ns"].is_null(), "a closed loop has no lag");
    assert!(measures[2]["lag"]["max_ns"].is_u64(), "{}", measures[2]);
    assert_eq!(report["checks"].as_array().map(Vec::len), Some(3));
    let costs = report["costs"].as_array().expect("a list");
    assert_eq!(costs.len(), 2);
    assert!(costs.iter().all(|cost| cost["ratio"].as_f64() > Some(0.0)), "{costs:?}");
    // A busy machine may fail the check; it is told either way, and never confused with a tool
    // that waits for the server.
    let stall = &report["stall"];
    let passes = stall["passes"].as_bool().expect("a verdict");
    let code = if passes { EXIT_OK } else { EXIT_INVALID };
    assert_eq!(output.status.code(), Some(code), "{text}");
    let number = |name: &str| stall[name].as_f64().expect("a number");
    assert_eq!(passes, number("distance") <= number("distance_max"), "{stall}");
    assert!(number("distance") < number("coordinated_distance"), "{stall}");
}
