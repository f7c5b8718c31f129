//! A correct server passes; every kind of wrong value is caught, named, and ends with exit code 4.

mod common;

use std::process::Command;
use std::time::Duration;

use common::{Behaviour, Fault, Server};
use pinion_loadgen::{
    EXIT_INVALID, EXIT_OK, EXIT_USAGE, EXIT_WRONG, KeyDist, Load, Mix, Protocol, RunConfig,
    ValueSize, Verdict, Verify, WrongKind, prefill, run,
};

const PROTOCOLS: [Protocol; 3] = [Protocol::Resp, Protocol::Resp3, Protocol::Memcached];

fn config(server: &Server, protocol: Protocol) -> RunConfig {
    RunConfig {
        target: server.target.clone(),
        protocol,
        connections: 4,
        pipeline: 4,
        load: Load::Closed,
        requests: Some(4000),
        warmup: Duration::ZERO,
        keys: 100,
        mix: Mix { get: 6, set: 3, delete: 1 },
        prefill: true,
        ..RunConfig::default()
    }
}

#[test]
fn a_correct_server_passes() {
    for protocol in PROTOCOLS {
        let server = Server::start(Behaviour::default());
        let mut config = config(&server, protocol);
        config.threads = 2;
        config.read_through = true;
        config.value_size = ValueSize { bytes_min: 1, bytes_max: 300 };
        let report = run(&config).expect("a report");
        assert_eq!(report.verdict, Verdict::Ok, "{}", report.text());
        assert_eq!((report.requests, report.errors(), report.wrong), (4000, 0, 0));
        let prefill = report.prefill.as_ref().expect("asked for");
        assert_eq!((prefill.keys, prefill.present), (100, 100));
        let total = &report.total;
        let gets = report.classes.iter().find(|(c, _)| c.name() == "get").expect("gets").1.count();
        assert_eq!(total.hits + total.misses, gets);
        assert!(total.misses > 0, "deletes make misses");
        let fills = report.classes.iter().find(|(c, _)| c.name() == "fill").expect("fills");
        assert_eq!(fills.1.count(), total.misses, "every miss is filled");
        assert_eq!(report.exit_code(), EXIT_OK);
    }
}

#[test]
fn large_values_come_through_whole() {
    let server = Server::start(Behaviour::default());
    let mut config = config(&server, Protocol::Resp);
    config.value_size = ValueSize { bytes_min: 100_000, bytes_max: 1_500_000 };
    config.keys = 10;
    config.requests = Some(100);
    let report = run(&config).expect("a report");
    assert_eq!(report.verdict, Verdict::Ok, "{}", report.text());
    assert!(report.total.hit_bytes > 1_000_000);
}

#[test]
fn every_kind_of_wrong_value_is_caught() {
    let cases = [
        (Fault::FlipBit, WrongKind::Damaged),
        (Fault::SwapKeys, WrongKind::OtherKey),
        (Fault::Truncate, WrongKind::Length),
        (Fault::IgnoreOverwrite, WrongKind::Stale),
        (Fault::IgnoreDelete, WrongKind::Resurrected),
    ];
    for protocol in [Protocol::Resp, Protocol::Memcached] {
        for (fault, kind) in cases {
            let server = Server::with_fault(fault);
            let mut config = config(&server, protocol);
            // No reader of a key may be in doubt about the last writer, or a stale value is not
            // for sure one.
            config.connections = 1;
            config.pipeline = 1;
            let report = run(&config).expect("a report");
            assert_eq!(report.verdict, Verdict::Wrong, "{fault:?}: {}", report.text());
            assert_eq!(report.exit_code(), EXIT_WRONG);
            assert_eq!(report.wrong_values[0].kind, kind, "{protocol} {fault:?}");
        }
    }
}

#[test]
fn wrong_values_are_caught_among_many_connections() {
    for fault in [Fault::FlipBit, Fault::SwapKeys, Fault::IgnoreOverwrite, Fault::IgnoreDelete] {
        let server = Server::with_fault(fault);
        let mut config = config(&server, Protocol::Resp);
        config.threads = 2;
        config.keys = 1000;
        config.key_dist = KeyDist::Uniform;
        config.requests = Some(200_000);
        let report = run(&config).expect("a report");
        assert_eq!(report.verdict, Verdict::Wrong, "{fault:?}: {}", report.text());
    }
}

#[test]
fn the_levels_of_checking_differ() {
    for (verify, verdict) in
        [(Verify::Full, Verdict::Wrong), (Verify::Header, Verdict::Ok), (Verify::Off, Verdict::Ok)]
    {
        let server = Server::with_fault(Fault::FlipBit);
        let config = RunConfig { verify, ..config(&server, Protocol::Resp) };
        assert_eq!(run(&config).expect("a report").verdict, verdict, "{verify}");
    }
}

#[test]
fn another_seed_is_reported_and_the_same_seed_is_not() {
    let server = Server::start(Behaviour::default());
    let first = RunConfig { prefill: false, ..config(&server, Protocol::Resp) };
    let filled = prefill(&first).expect("a report");
    assert_eq!((filled.present, filled.verdict), (100, Verdict::Ok));
    assert_eq!(server.items(), 100);
    let same = run(&first).expect("a report");
    assert_eq!(same.verdict, Verdict::Ok, "{}", same.text());
    let other = run(&RunConfig { seed: 2, ..first }).expect("a report");
    assert_eq!(other.verdict, Verdict::Wrong);
    assert_eq!(other.wrong_values[0].kind, WrongKind::OtherSeed);
}

#[test]
fn the_lifetime_reaches_the_server() {
    for (protocol, expected) in [(Protocol::Resp, "EX 60"), (Protocol::Memcached, "60")] {
        let server = Server::start(Behaviour::default());
        let ttl = Some(Duration::from_secs(60));
        prefill(&RunConfig { ttl, ..config(&server, protocol) }).expect("a report");
        let set = server.log().into_iter().find_map(|command| match command {
            common::Command::Set(_, _, ttl) => Some(ttl),
            _ => None,
        });
        assert_eq!(set, Some(Some(expected.to_owned())));
    }
}

#[test]
fn a_server_without_resp3_is_refused_clearly() {
    let server = Server::start(Behaviour { resp3: false, ..Behaviour::default() });
    let error = run(&config(&server, Protocol::Resp3)).expect_err("no RESP3");
    assert!(error.to_string().contains("does not speak RESP3"), "{error}");
    assert_eq!(error.exit_code(), EXIT_INVALID);
}

fn command(server: &Server, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pinion-loadgen"));
    command.args(more).args(["--target", &server.target, "--no-progress"]);
    command
}

#[test]
fn the_command_prints_the_wrong_value_and_exits_with_4() {
    let server = Server::with_fault(Fault::SwapKeys);
    let run = ["run", "--closed", "--requests", "5000", "--keys", "50", "--warmup", "0s"];
    let args = [&run[..], &["--prefill", "--quiet"]].concat();
    let output = command(&server, &args).output().expect("ran");
    assert_eq!(output.status.code(), Some(EXIT_WRONG));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("value of another key: key key:0000000000"), "{text}");
    assert!(text.contains("expected") && text.contains("got"), "{text}");
}

#[test]
fn the_command_writes_its_reports() {
    let server = Server::start(Behaviour::default());
    let stem = std::env::temp_dir().join(format!("pinion-loadgen-{}", std::process::id()));
    let (json, hgrm) = (stem.with_extension("json"), stem.with_extension("hgrm"));
    let run = ["run", "--rate", "2000", "--duration", "500ms", "--warmup", "100ms", "--prefill"];
    let mut command = command(&server, &run);
    let output = command.arg("--json").arg(&json).arg("--hgrm").arg(&hgrm).output().expect("ran");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.lines().next().expect("a headline").contains("requests/s of 2000 offered"));
    assert!(text.lines().nth(1).expect("a headline").starts_with("p99 response"));

    let report = std::fs::read_to_string(&json).expect("written");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["requests"], 1000);
    assert_eq!(report["config"]["seed"], 1);
    assert_eq!((&report["wrong"], &report["errors"]), (&0.into(), &0.into()));
    assert_eq!(report["open_loop"], true);
    assert_eq!(report["hit_ratio"], 1.0);
    for kind in ["response", "service", "lag"] {
        let times = &report["classes"]["all"][kind];
        assert_eq!(times["count"], 1000);
        assert!(times["p99_ns"].is_u64() && times["p999_ns"].is_null(), "{times}");
    }
    let names = ["verdict", "duration_s", "rate", "byte_hit_ratio", "client_cpu_ns_per_request"];
    assert!(names.iter().all(|name| !report[name].is_null()), "{report}");

    let table = std::fs::read_to_string(&hgrm).expect("written");
    assert!(table.contains("Total count    =         1000]"), "{table}");
    std::fs::remove_file(json).expect("there");
    std::fs::remove_file(hgrm).expect("there");
}

#[test]
fn a_wrong_command_line_exits_with_1() {
    let server = Server::start(Behaviour::default());
    for args in [
        &["run"][..],
        &["run", "--closed", "--rate", "5"],
        &["run", "--rate", "0"],
        &["run", "--closed", "--keys", "0"],
        &["run", "--closed", "--connections", "1", "--threads", "2"],
        &["run", "--closed", "--pin", "4000"],
        &["run", "--closed", "--mix", "put=1"],
        &["run", "--closed", "--key-size", "2"],
        &["run", "--closed", "--protocol", "http"],
        &["run", "--closed", "--protocol", "memcached", "--ttl", "500ms"],
        &["run", "--rate", "1", "--duration", "1us", "--warmup", "1us"],
        &["replay"],
        &["sing"],
    ] {
        let output = command(&server, args).output().expect("ran");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(EXIT_USAGE), "{args:?}: {text}");
        assert!(!text.is_empty());
    }
    let help = Command::new(env!("CARGO_BIN_EXE_pinion-loadgen")).arg("--help").output();
    assert_eq!(help.expect("ran").status.code(), Some(EXIT_OK));
}
