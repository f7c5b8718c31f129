//! The binary itself: exit status, streams, and a run on the host of the test.

use std::process::{Command, Output, Stdio};

fn pinion_tune(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pinion-tune"))
        .args(arguments)
        .output()
        .expect("the binary was built for this test")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("output is UTF-8")
}

/// How often `verdict` is given in a JSON report.
fn count(json: &str, verdict: &str) -> usize {
    json.matches(&format!("\"verdict\":\"{verdict}\"")).count()
}

#[test]
fn this_host_is_judged_in_both_forms() {
    let json = pinion_tune(&["check", "--json"]);
    let report = text(&json.stdout);
    let problems = count(report, "problem");
    assert_eq!(json.status.code(), Some(if problems == 0 { 0 } else { 2 }));
    assert_eq!(text(&json.stderr), "");
    assert!(report.starts_with("{\"schema\":1,") && report.ends_with("]}\n"), "{report}");

    let table = pinion_tune(&["check"]);
    assert_eq!(table.status.code(), json.status.code());
    let summary = format!(
        "{} checks: {} ok, {} advise, {problems} problem, {} unknown\n",
        report.matches("\"name\":").count(),
        count(report, "ok"),
        count(report, "advise"),
        count(report, "unknown"),
    );
    assert!(text(&table.stdout).ends_with(&summary), "{}", text(&table.stdout));
}

#[test]
fn the_root_may_be_spelt_out() {
    let spelt = pinion_tune(&["check", "--json", "--root", "/proc/.."]);
    assert!(text(&spelt.stdout).contains("\"root\":\"/\""));
}

#[test]
fn errors_are_one_line_with_status_1() {
    let output = pinion_tune(&["check", "--root", "/proc/none"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "");
    let message = text(&output.stderr);
    assert!(message.starts_with("pinion-tune: cannot use /proc/none as root: "), "{message}");
    assert_eq!(message.lines().count(), 1);
    assert_eq!(pinion_tune(&["check", "--jsom"]).status.code(), Some(1));
}

#[test]
fn an_output_that_is_full_is_an_error() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let output = Command::new(env!("CARGO_BIN_EXE_pinion-tune"))
        .args(["check", "--root", "/"])
        .stdout(Stdio::from(full))
        .output()
        .expect("the binary was built for this test");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("pinion-tune: cannot write the report: "));
}

/// Every check is explained in the README, and the README explains no others.
#[test]
fn the_readme_lists_the_checks() {
    let readme = include_str!("../README.md");
    let listed: Vec<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name))
        .collect();
    let checks: Vec<&str> = pinion_tuning::check::all().map(|check| check.name).collect();
    assert_eq!(listed, checks);
}
