//! A correct server passes; every kind of wrong value is caught, named, and ends with exit code 4.

mod common;

use std::process::Command;
use std::time::Duration;

use common::{Behaviour, Fault, Server};
use pinion_loadgen::{
    Class, EXIT_INVALID, EXIT_OK, EXIT_USAGE, EXIT_WRONG, Guards, KeyDist, Load, Mix, Multiget,
    Preset, Protocol, Rate, RunConfig, Steer, Ttl, ValueSize, Verdict, Verify, WrongKind, prefill,
    run,
};

const PROTOCOLS: [Protocol; 4] =
    [Protocol::Resp, Protocol::Resp3, Protocol::Memcached, Protocol::Meta];

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
        mix: Mix { get: 6, set: 3, delete: 1, ..Mix::default() },
        prefill: true,
        guards: Guards::Lenient,
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
        config.value_size = ValueSize::range(1, 300);
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
    config.value_size = ValueSize::range(100_000, 1_500_000);
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
    for protocol in [Protocol::Resp, Protocol::Memcached, Protocol::Meta] {
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
    for (protocol, expected) in
        [(Protocol::Resp, "EX 60"), (Protocol::Memcached, "60"), (Protocol::Meta, "60")]
    {
        let server = Server::start(Behaviour::default());
        let ttl = Some(Ttl::fixed(Duration::from_secs(60)));
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
    command.args(["--guards", "lenient"]);
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
        &["run", "--closed", "--key-size", "9..300"],
        &["run", "--closed", "--key-size", "5", "--mix", "incr=1"],
        &["run", "--closed", "--protocol", "http"],
        &["run", "--closed", "--arrival", "poisson"],
        &["run", "--rate", "5", "--arrival", "sometimes"],
        &["run", "--rate", "5", "--profile", "steps:5@1s"],
        &["run", "--closed", "--mix", "get=1,touch=1"],
        &["run", "--closed", "--steer", "core-ports", "--multiget", "2"],
        &["run", "--closed", "--preset", "none"],
        &["run", "--closed", "--hot-one", "2"],
        &["report"],
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

#[test]
fn an_expired_value_is_caught_and_a_punctual_server_is_not_accused() {
    for (protocol, ttl) in [
        (Protocol::Resp, Duration::from_millis(300)),
        (Protocol::Memcached, Duration::from_secs(1)),
        (Protocol::Meta, Duration::from_secs(1)),
    ] {
        for fault in [Fault::None, Fault::IgnoreExpiry] {
            let server = Server::with_fault(fault);
            let mut config = config(&server, protocol);
            config.load = Load::Open(Rate { millihertz: 1_000_000 });
            config.requests = None;
            // The slack is 100 ms, and as much as the protocol's unit of time.
            config.duration = ttl * 2 + Duration::from_millis(400);
            config.mix = Mix { get: 1, ..Mix::default() };
            config.ttl = Some(Ttl::fixed(ttl));
            let report = run(&config).expect("a report");
            if fault == Fault::IgnoreExpiry {
                assert_eq!(report.exit_code(), EXIT_WRONG, "{protocol}: {}", report.text());
                assert_eq!(report.wrong_values[0].kind, WrongKind::Expired);
            } else {
                assert_eq!((report.wrong, report.errors()), (0, 0), "{}", report.text());
                assert!(report.total.misses > 0, "{}", report.text());
            }
        }
    }
}

#[test]
fn touches_and_lifetimes_accuse_no_correct_server() {
    for protocol in PROTOCOLS {
        let server = Server::start(Behaviour::default());
        let mut config = config(&server, protocol);
        config.mix = Mix { get: 4, set: 2, delete: 1, touch: 3, incr: 2 };
        config.ttl = Some("1s..2s".parse().expect("lifetimes"));
        config.requests = Some(20_000);
        config.read_through = true;
        let report = run(&config).expect("a report");
        assert_eq!(report.verdict, Verdict::Ok, "{protocol}: {}", report.text());
        assert!(report.classes.iter().any(|(class, _)| *class == Class::Touch));
    }
}

#[test]
fn reads_of_several_keys_are_checked_key_by_key() {
    for protocol in PROTOCOLS {
        let multiget = Multiget { keys_min: 1, keys_max: 7 };
        let server = Server::start(Behaviour::default());
        let good = RunConfig { multiget, ..config(&server, protocol) };
        let report = run(&good).expect("a report");
        assert_eq!(report.verdict, Verdict::Ok, "{protocol}: {}", report.text());
        assert_eq!(report.requests, 4000);
        let gets = report.classes.iter().find(|(c, _)| *c == Class::Get).expect("gets").1.count();
        let keys = report.total.hits + report.total.misses;
        assert!((gets * 3..gets * 5).contains(&keys), "{gets} reads of {keys} keys");
        for fault in [Fault::FlipBit, Fault::SwapKeys] {
            let server = Server::with_fault(fault);
            let report =
                run(&RunConfig { multiget, ..config(&server, protocol) }).expect("a report");
            assert_eq!(report.verdict, Verdict::Wrong, "{protocol} {fault:?}");
        }
        let server = Server::with_fault(Fault::Garbage);
        let bad = RunConfig { multiget, prefill: false, ..config(&server, protocol) };
        if protocol != Protocol::Resp3 {
            assert_eq!(run(&bad).expect("a report").verdict, Verdict::Invalid, "{protocol}");
        }
    }
}

#[test]
fn unix_sockets_and_several_targets_reach_the_same_items() {
    let server = Server::start(Behaviour::default());
    let path = std::env::temp_dir().join(format!("pinion-loadgen-{}.sock", std::process::id()));
    let unix = server.listen_on(&path);
    let mut config = config(&server, Protocol::Resp3);
    config.target = format!("{},{unix}", server.target);
    config.threads = 2;
    let report = run(&config).expect("a report");
    assert_eq!(report.verdict, Verdict::Ok, "{}", report.text());
    assert_eq!(report.prefill.as_ref().map(|prefill| prefill.present), Some(100));
    config.connections = 3;
    assert!(run(&config).is_err(), "two threads need two connections each");
    std::fs::remove_file(path).expect("there");
}

#[test]
fn keys_go_to_the_owner_of_their_slot() {
    let servers: Vec<Server> = (0..3).map(|_| Server::start(Behaviour::default())).collect();
    let names: Vec<&str> = servers.iter().map(|server| server.target.as_str()).collect();
    let mut config = config(&servers[0], Protocol::Resp);
    config.target = names.join(",");
    config.steer = Steer::CorePorts;
    config.connections = 6;
    config.threads = 2;
    config.read_through = true;
    config.load = Load::Open(Rate { millihertz: 4_000_000 });
    let report = run(&config).expect("a report");
    assert_eq!((report.wrong, report.errors(), report.requests), (0, 0, 4000), "{}", report.text());
    let cores = pinion_router::CoreCount::new(3).expect("three");
    for (index, server) in servers.iter().enumerate() {
        let mut keys = 0;
        for command in server.log() {
            let (common::Command::Get(key)
            | common::Command::Set(key, _, _)
            | common::Command::Delete(key)) = command
            else {
                continue;
            };
            assert_eq!(pinion_router::core_of_key(&key, cores).index(), index);
            keys += 1;
        }
        assert!(keys > 500, "server {index} has had {keys} commands");
    }
}

#[test]
fn every_preset_runs_and_passes() {
    for (name, preset) in Preset::ALL {
        let server = Server::start(Behaviour::default());
        let mut config = config(&server, Protocol::Memcached);
        preset.apply(&mut config);
        let report = run(&config).expect("a report");
        assert_eq!(report.verdict, Verdict::Ok, "{name}: {}", report.text());
    }
}

fn counting(server: &Server, protocol: Protocol) -> RunConfig {
    let mix = Mix { get: 2, incr: 5, ..Mix::default() };
    RunConfig { mix, ..config(server, protocol) }
}

#[test]
fn counters_are_checked() {
    for protocol in PROTOCOLS {
        for fault in [Fault::None, Fault::LoseCounters] {
            let server = Server::with_fault(fault);
            let mut config = counting(&server, protocol);
            config.threads = 2;
            config.requests = Some(20_000);
            for _ in 0..2 {
                let report = run(&config).expect("a report");
                assert_eq!(report.verdict, Verdict::Ok, "{protocol}: {}", report.text());
                let incr = report.classes.iter().find(|(c, _)| *c == Class::Incr).expect("incr");
                assert!(incr.1.count() > 12_000, "{}", report.text());
                match (fault, protocol) {
                    (Fault::None, _) => assert_eq!(report.counters_restarted, 0, "{protocol}"),
                    // With memcached's text the loss of a counter is a reply of its own.
                    (_, Protocol::Memcached) => assert!(report.classes.len() > 2, "set up again"),
                    _ => assert!(report.counters_restarted > 0, "{protocol}"),
                }
            }
        }
        for (fault, kind) in [
            (Fault::ForgetIncrement, WrongKind::CounterBack),
            (Fault::IncrementTwice, WrongKind::CounterSkipped),
        ] {
            let server = Server::with_fault(fault);
            let mut alone = counting(&server, protocol);
            (alone.connections, alone.pipeline) = (1, 1);
            let report = run(&alone).expect("a report");
            assert_eq!(report.exit_code(), EXIT_WRONG, "{protocol} {fault:?}: {}", report.text());
            assert_eq!(report.wrong_values[0].kind, kind, "{protocol} {fault:?}");
            assert!(report.wrong_values[0].key.starts_with("ctr:"));
            let crowd = run(&counting(&Server::with_fault(fault), protocol)).expect("a report");
            assert_eq!(crowd.verdict, Verdict::Wrong, "{protocol} {fault:?}: {}", crowd.text());
        }
    }
}

#[test]
fn keys_of_many_lengths_come_through() {
    for protocol in PROTOCOLS {
        for size in ["etc", "8..200"] {
            let server = Server::start(Behaviour::default());
            let mut config = config(&server, protocol);
            config.key_size = size.parse().expect("a size");
            config.multiget = Multiget { keys_min: 1, keys_max: 3 };
            config.mix.incr = 2;
            let report = run(&config).expect("a report");
            assert_eq!(report.verdict, Verdict::Ok, "{protocol} {size}: {}", report.text());
            let lengths: std::collections::HashSet<usize> = server
                .log()
                .iter()
                .filter_map(|command| match command {
                    common::Command::Set(key, ..) => Some(key.len()),
                    _ => None,
                })
                .collect();
            assert!(lengths.len() > 15, "{size}: {lengths:?}");
        }
    }
}
