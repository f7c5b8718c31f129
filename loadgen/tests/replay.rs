//! A replay has the effects of the trace in the order of the trace.

mod common;

use std::collections::{HashMap, VecDeque};

use common::{Behaviour, Command, Fault, Server};
use pinion_loadgen::trace::{self, Trace, TraceOp};
use pinion_loadgen::{
    EXIT_INVALID, EXIT_OK, EXIT_WRONG, Error, Fill, Guards, Protocol, Rate, ReplayConfig,
    ReplayPace, ReplayReport, RunConfig, Verdict, replay, replay_history, replay_timed,
};

/// A trace over `unique` keys with much repetition; keys appear in the order of their numbers.
fn trace(seed: u64, requests: usize, unique: u32, sized: bool) -> Trace {
    let mut state = seed;
    let mut random = |below: u32| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as u32) % below
    };
    let mut seen = 0;
    let keys: Vec<u32> = (0..requests)
        .map(|_| {
            let key = random(unique).min(random(unique)).min(seen);
            seen = seen.max(key + 1).min(unique - 1);
            key
        })
        .collect();
    let top = keys.iter().max().map_or(0, |&key| key + 1);
    let sizes: Vec<u32> = (0..top).map(|_| random(200)).collect();
    let unique_bytes = sizes.iter().map(|&size| u64::from(size)).sum();
    Trace { keys, key_sizes: sized.then_some(sizes), unique: u64::from(top), unique_bytes }
}

/// What a cache of `capacity` items that drops the oldest does with the trace.
fn model(trace: &Trace, capacity: usize) -> (Vec<(bool, u32)>, u64) {
    let (mut items, mut order) = (std::collections::HashSet::new(), VecDeque::new());
    let (mut effects, mut hits) = (Vec::new(), 0);
    for &key in &trace.keys {
        effects.push((false, key));
        if items.contains(&key) {
            hits += 1;
            continue;
        }
        effects.push((true, key));
        items.insert(key);
        order.push_back(key);
        if items.len() > capacity {
            items.remove(&order.pop_front().expect("not empty"));
        }
    }
    (effects, hits)
}

fn effects(server: &Server) -> Vec<(bool, u32)> {
    let number = |key: &[u8]| {
        let text = std::str::from_utf8(key).expect("a key").strip_prefix("obj:").expect("a key");
        text.parse().expect("a number")
    };
    let log = server.log().into_iter().filter(|command| *command != Command::Hello);
    log.map(|command| match command {
        Command::Get(key) => (false, number(&key)),
        Command::Set(key, _, _) => (true, number(&key)),
        other => panic!("{other:?}"),
    })
    .collect()
}

fn replayed(server: &Server, trace: &Trace, pipeline: usize, protocol: Protocol) -> ReplayReport {
    let target = server.target.clone();
    let config = ReplayConfig { target, pipeline, protocol, ..ReplayConfig::default() };
    replay(&config, "test", trace).expect("a report")
}

#[test]
fn pipeline_1_keeps_the_exact_sequence() {
    for (seed, protocol) in [(1, Protocol::Resp), (2, Protocol::Memcached), (3, Protocol::Resp3)] {
        let trace = trace(seed, 2000, 150, seed == 2);
        let capacity = 40;
        let server = Server::start(Behaviour { capacity, ..Behaviour::default() });
        let report = replayed(&server, &trace, 1, protocol);
        let (expected, hits) = model(&trace, capacity);
        assert_eq!(effects(&server), expected, "seed {seed}");
        assert_eq!((report.requests, report.hits), (2000, hits), "seed {seed}");
        assert_eq!(report.fills, 2000 - hits);
        assert_eq!((report.verdict, report.exit_code()), (Verdict::Ok, EXIT_OK));
    }
}

#[test]
fn a_pipeline_keeps_the_sequence_of_every_key() {
    for (seed, pipeline) in [(4, 2), (5, 16), (6, 500)] {
        let trace = trace(seed, 3000, 200, true);
        let server = Server::start(Behaviour::default());
        let report = replayed(&server, &trace, pipeline, Protocol::Resp);
        let (expected, hits) = model(&trace, usize::MAX);
        let by_key = |effects: Vec<(bool, u32)>| {
            let mut keys: HashMap<u32, Vec<bool>> = HashMap::new();
            for (set, key) in effects {
                keys.entry(key).or_default().push(set);
            }
            keys
        };
        let reads = |effects: &[(bool, u32)]| -> Vec<u32> {
            effects.iter().filter(|(set, _)| !set).map(|(_, key)| *key).collect()
        };
        let seen = effects(&server);
        assert_eq!(reads(&seen), trace.keys, "seed {seed}: reads never overtake each other");
        assert_eq!(by_key(seen), by_key(expected), "seed {seed} pipeline {pipeline}");
        assert_eq!(report.hits, hits);
    }
}

#[test]
fn ratios_count_objects_and_bytes() {
    let trace = Trace {
        keys: vec![0, 1, 0, 1, 2, 0],
        key_sizes: Some(vec![100, 50, 0]),
        unique: 3,
        unique_bytes: 150,
    };
    let server = Server::start(Behaviour::default());
    let report = replayed(&server, &trace, 1, Protocol::Resp);
    assert_eq!((report.requests, report.hits, report.fills), (6, 3, 3));
    assert_eq!(report.object_hit_ratio(), Some(0.5));
    // A size of 0 counts as 1.
    assert_eq!((report.hit_bytes, report.requested_bytes), (250, 401));
    let sizes: Vec<usize> = server
        .log()
        .into_iter()
        .filter_map(|command| match command {
            Command::Set(_, value, _) => Some(value.len()),
            _ => None,
        })
        .collect();
    assert_eq!(sizes, [100, 50, 1]);
}

#[test]
fn only_the_first_requests_can_be_replayed() {
    let trace = trace(7, 500, 50, false);
    let server = Server::start(Behaviour::default());
    let target = server.target.clone();
    let config = ReplayConfig { target, requests: Some(100), ..ReplayConfig::default() };
    assert_eq!(replay(&config, "test", &trace).expect("a report").requests, 100);
}

#[test]
fn wrong_values_are_counted_and_refusals_too() {
    let trace = trace(8, 3000, 50, false);
    for (fault, code) in [(Fault::FlipBit, EXIT_WRONG), (Fault::SwapKeys, EXIT_WRONG)] {
        let server = Server::with_fault(fault);
        let report = replayed(&server, &trace, 8, Protocol::Resp);
        assert!(report.wrong > 10, "the replay goes on after a wrong value");
        assert_eq!((report.exit_code(), report.requests), (code, 3000), "{fault:?}");
    }
    let server =
        Server::start(Behaviour { fault: Fault::Refuse, capacity: 5, ..Behaviour::default() });
    let report = replayed(&server, &trace, 8, Protocol::Memcached);
    assert_eq!(report.exit_code(), EXIT_INVALID);
    assert!(report.errors > 0 && report.first_error.is_some());
}

#[test]
fn a_server_that_hangs_up_ends_the_replay() {
    let trace = trace(9, 500, 50, false);
    let server = Server::with_fault(Fault::Hangup);
    let target = server.target.clone();
    let config = ReplayConfig { target, ..ReplayConfig::default() };
    let error = replay(&config, "test", &trace).expect_err("no server");
    assert!(error.to_string().contains("closed"), "{error}");
}

/// A trace in text: mostly reads, some writes and deletions, a request per millisecond.
fn written_trace(requests: u64) -> trace::History {
    let mut text = "time,key,op,size,ttl\n".to_owned();
    for at in 0..requests {
        let op = ["get", "get", "set", "get", "get", "get", "delete", "get"][at as usize % 8];
        let ttl = if at % 37 % 3 == 0 { 60 } else { 0 };
        text +=
            &format!("{}.{:03},k{},{op},{},{ttl}\n", at / 1000, at % 1000, at % 37, at % 37 + 40);
    }
    let path =
        std::env::temp_dir().join(format!("pinion-history-{}-{requests}", std::process::id()));
    std::fs::write(&path, text).expect("written");
    let history = trace::open(&path, 1).expect("a trace");
    std::fs::remove_file(path).expect("there");
    history
}

fn operations(server: &Server) -> Vec<(TraceOp, u32)> {
    let number = |key: &[u8]| {
        let text = std::str::from_utf8(key).expect("a key").strip_prefix("obj:").expect("a key");
        text.parse().expect("a number")
    };
    server
        .log()
        .iter()
        .map(|command| match command {
            Command::Get(key) => (TraceOp::Read, number(key)),
            Command::Set(key, ..) => (TraceOp::Write, number(key)),
            Command::Delete(key) => (TraceOp::Delete, number(key)),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_trace_with_writes_is_replayed_as_it_is() {
    let history = written_trace(1500);
    let ops = history.ops.clone().expect("not only reads");
    let expected: Vec<(TraceOp, u32)> =
        ops.into_iter().zip(history.trace.keys.iter().copied()).collect();
    for (protocol, pipeline) in [(Protocol::Resp, 1), (Protocol::Meta, 1), (Protocol::Resp, 20)] {
        let server = Server::start(Behaviour::default());
        let target = server.target.clone();
        let config = ReplayConfig { target, protocol, pipeline, ..ReplayConfig::default() };
        let report = replay_history(&config, "test", &history).expect("a report");
        assert_eq!((report.errors, report.wrong, report.fills), (0, 0, 0), "{}", report.text());
        assert_eq!(operations(&server), expected, "{protocol} {pipeline}");
        assert_eq!(report.requests + report.writes + report.deletes, 1500);
        assert_eq!(report.read_service.len(), report.requests);
        assert_eq!(report.write_service.len(), report.writes + report.deletes);
        assert!(report.json()["read_service"]["p50_ns"].as_u64() > Some(0));
        let with_ttl = |command: &Command| matches!(command, Command::Set(_, _, Some(_)));
        let log = server.log();
        let some = log.iter().filter(|command| with_ttl(command)).count();
        assert!(some > 0 && (some as u64) < report.writes, "some keys live for ever: {some}");
        // Asked for, misses are filled, too.
        let config = ReplayConfig { fill: Fill::Always, ..config };
        assert!(replay_history(&config, "test", &history).expect("a report").fills > 0);
    }
}

#[test]
fn a_timed_replay_keeps_the_times_of_the_trace() {
    let history = written_trace(2000);
    for (speed, threads) in [(4.0, 1), (2.0, 3)] {
        let server = Server::start(Behaviour::default());
        let config = RunConfig {
            target: server.target.clone(),
            connections: 6,
            threads,
            guards: Guards::Lenient,
            ..RunConfig::default()
        };
        let pace = ReplayPace::Speed(speed);
        let report =
            replay_timed(&config, pace, Fill::Auto, "test", history.clone()).expect("a report");
        assert_eq!((report.requests, report.errors(), report.wrong), (2000, 0, 0));
        // The last is due 1999 ms after the first, at speed 1.
        let expected_s = 1.999 / speed;
        assert!(report.duration_s >= expected_s * 0.99, "{} {expected_s}", report.duration_s);
        let mut seen = operations(&server);
        let ops = history.ops.clone().expect("not only reads");
        let mut expected: Vec<(TraceOp, u32)> =
            ops.into_iter().zip(history.trace.keys.iter().copied()).collect();
        let order = |pair: &(TraceOp, u32)| (pair.0 as u8, pair.1);
        seen.sort_unstable_by_key(order);
        expected.sort_unstable_by_key(order);
        assert_eq!(seen, expected, "all of the trace and nothing else");
        assert!(report.text().contains(&format!("test at speed {speed}")));
        assert_eq!(report.json()["command"], "replay");
    }
}

#[test]
fn a_trace_without_times_needs_a_rate() {
    let trace = trace(3, 600, 50, true);
    let server = Server::start(Behaviour::default());
    let config = RunConfig {
        target: server.target.clone(),
        connections: 3,
        requests: Some(500),
        guards: Guards::Lenient,
        ..RunConfig::default()
    };
    let replayed = |pace| replay_timed(&config, pace, Fill::Auto, "test", trace.clone().into());
    let error = replayed(ReplayPace::Speed(1.0)).expect_err("no times");
    assert!(matches!(&error, Error::Usage(why) if why.contains("no times")), "{error}");
    let report = replayed(ReplayPace::Rate(Rate { millihertz: 2_000_000 })).expect("a report");
    assert_eq!((report.requests, report.errors(), report.wrong), (500, 0, 0), "{}", report.text());
    assert!(report.total.hits > 0);
    let fills = report.classes.iter().find(|(class, _)| class.name() == "fill").expect("fills");
    assert_eq!(fills.1.count(), report.total.misses, "every miss is filled");
}
