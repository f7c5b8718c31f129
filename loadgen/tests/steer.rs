//! Keys go where the steering says: to the owner of their slot, over a connection that reached it.

mod common;

use std::time::Duration;

use common::{Behaviour, Server};
use pinion_loadgen::{EXIT_USAGE, Guards, Load, Mix, Protocol, Rate, RunConfig, Steer, run};
use pinion_router::{CoreCount, core_of_key};

fn config(server: &Server, steer: Steer) -> RunConfig {
    RunConfig {
        target: server.target.clone(),
        steer,
        connections: 12,
        threads: 2,
        load: Load::Open(Rate { millihertz: 4_000_000 }),
        requests: Some(2000),
        warmup: Duration::ZERO,
        keys: 100,
        mix: Mix { get: 6, set: 3, incr: 1, ..Mix::default() },
        prefill: true,
        guards: Guards::Lenient,
        ..RunConfig::default()
    }
}

#[test]
fn source_ports_lead_to_the_owners_core() {
    for protocol in [Protocol::Resp, Protocol::Resp3, Protocol::Memcached, Protocol::Meta] {
        let server = Server::start(Behaviour { cores: 3, ..Behaviour::default() });
        let mut config = RunConfig { protocol, ..config(&server, Steer::SourcePort) };
        // Connections that replace others must lead there, too.
        config.churn = Some(Rate { millihertz: 20_000 });
        let report = run(&config).expect("a report");
        assert_eq!((report.wrong, report.errors()), (0, 0), "{protocol}: {}", report.text());
        assert_eq!((report.steering.missed, report.steering.unknown), (0, 0), "{protocol}");
        assert!(report.steering.connections > 12, "{:?}", report.steering);
        let cores = CoreCount::new(3).expect("three");
        let seen = server.core_keys();
        assert!(seen.len() > 2000);
        for (core, key) in seen {
            assert_eq!(core_of_key(&key, cores).index(), usize::from(core), "{protocol}");
        }
        let names: Vec<&str> = report.targets.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.len(), 3);
        assert!(names[2].ends_with("core 2"), "{names:?}");
        let sum: u64 = report.targets.iter().map(|(_, lane)| lane.response.len()).sum();
        assert_eq!(sum, report.requests, "every request has its target");
    }
}

#[test]
fn connections_that_miss_their_core_are_counted() {
    let server = Server::start(Behaviour { cores: 3, translated: true, ..Behaviour::default() });
    let report = run(&config(&server, Steer::SourcePort)).expect("a report");
    assert_eq!((report.wrong, report.errors()), (0, 0), "{}", report.text());
    assert_eq!((report.steering.connections, report.steering.missed), (12, 12));
    assert!(report.text().contains("12 of 12 connections reached another core"));
    assert_eq!(report.json()["steering"]["missed"], 12);
}

#[test]
fn a_server_that_knows_no_cores_is_told() {
    let server = Server::start(Behaviour::default());
    for protocol in [Protocol::Resp, Protocol::Memcached] {
        let config = RunConfig { protocol, ..config(&server, Steer::SourcePort) };
        let error = run(&config).expect_err("no cores");
        assert_eq!(error.exit_code(), EXIT_USAGE);
        assert!(error.to_string().contains("how many cores"), "{error}");
    }
    let error = run(&config(&server, Steer::CorePorts)).expect_err("no cluster");
    assert!(error.to_string().contains("cluster support disabled"), "{error}");
    assert!(error.to_string().contains("name a core port"), "{error}");
}

/// The owners need not be equal ranges, and one node can own several.
#[test]
fn nodes_are_found_by_cluster_slots() {
    let servers: Vec<Server> = (0..3).map(|_| Server::start(Behaviour::default())).collect();
    let node = |server: &Server| {
        let (host, port) = server.target.split_once(':').expect("host and port");
        format!("*3\r\n${}\r\n{host}\r\n:{port}\r\n$2\r\nid\r\n", host.len())
    };
    let range = |first: u16, last: u16, owner: usize| {
        format!("*3\r\n:{first}\r\n:{last}\r\n{}", node(&servers[owner]))
    };
    let slots = ["*4\r\n".to_owned(), range(0, 999, 2), range(1000, 8000, 0)].concat()
        + &range(8001, 16_000, 1)
        + &range(16_001, 16_383, 2);
    servers[1].announce(slots);
    let report = run(&config(&servers[1], Steer::CorePorts)).expect("a report");
    assert_eq!((report.wrong, report.errors()), (0, 0), "{}", report.text());
    assert_eq!(report.targets.len(), 3);
    for (index, server) in servers.iter().enumerate() {
        let mut keys = 0;
        for command in server.log() {
            let (common::Command::Get(key)
            | common::Command::Set(key, ..)
            | common::Command::Increment(key, _)) = command
            else {
                continue;
            };
            let owner = match pinion_router::slot(&key).number() {
                0..1000 | 16_001.. => 2,
                1000..=8000 => 0,
                _ => 1,
            };
            assert_eq!(owner, index);
            keys += 1;
        }
        assert!(keys > 50, "server {index} has had {keys} commands");
        let name = &server.target;
        let (_, lane) = report.targets.iter().find(|(n, _)| n == name).expect("a target");
        assert!(lane.response.len() > 50 && lane.errors == 0);
    }
}
