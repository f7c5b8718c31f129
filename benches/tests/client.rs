//! The client against floor servers and, where they are installed, real ones.

mod common;

use std::time::Duration;

use common::{Floor, KINDS, workload};
use pinion_benches::client::{Arrivals, Client, ClientError, Group, OpenPlan, Pace, Protocol};

const BRIEF: Duration = Duration::from_millis(50);

fn group(connections: usize, pipeline: usize, rate_per_s: f64) -> Group {
    Group { connections, pipeline, rate_per_s }
}

fn plan(groups: Vec<Group>) -> OpenPlan {
    OpenPlan { groups, duration: BRIEF, arrivals: Arrivals::Even, pace: Pace::Block }
}

#[test]
fn a_closed_loop_counts_whole_batches() {
    for kind in KINDS {
        for protocol in [Protocol::Resp, Protocol::Memcached] {
            let workload = workload(protocol);
            let floor = Floor::for_workload(kind, &workload);
            let mut client = Client::connect(floor.address, &workload, 8).unwrap();
            client.prefill().unwrap();
            for pipeline in [1, 16, 1000] {
                let tally = client.saturate(pipeline, BRIEF).unwrap();
                let batch = pipeline as u64;
                assert!(tally.requests >= 8 * batch, "{kind}: {tally:?}");
                assert_eq!(tally.requests % batch, 0, "{kind}: {tally:?}");
                assert!(tally.reply_segments > 0 && tally.client_cpu_ns > 0, "{kind}: {tally:?}");
            }
        }
    }
}

#[test]
fn an_open_loop_sends_its_whole_schedule() {
    for kind in KINDS {
        let workload = workload(Protocol::Resp);
        let floor = Floor::for_workload(kind, &workload);
        let mut client = Client::connect(floor.address, &workload, 5).unwrap();
        for pace in [Pace::Block, Pace::Hybrid, Pace::Spin] {
            let groups = vec![group(4, 16, 16_000.0), group(1, 1, 1000.0)];
            let outcome = client.run_open_loop(&OpenPlan { pace, ..plan(groups) }).unwrap();
            // Batches of the first group are 1 ms apart, as are requests of the second.
            let counts: Vec<u64> =
                outcome.groups.iter().map(|group| group.latency_ns.len()).collect();
            assert_eq!(counts, [50 * 16, 50], "{kind}");
            assert_eq!(outcome.requests, counts.iter().sum::<u64>());
            assert_eq!(outcome.lag_ns.len(), 100);
            assert!(!outcome.is_overrun);
            assert!(outcome.groups[1].latency_ns.min() > 0);
        }
    }
}

#[test]
fn random_arrivals_are_the_same_for_the_same_seed() {
    let workload = workload(Protocol::Resp);
    let floor = Floor::for_workload("epoll", &workload);
    let requests = || {
        let mut client = Client::connect(floor.address, &workload, 2).unwrap();
        let plan = OpenPlan { arrivals: Arrivals::Poisson, ..plan(vec![group(2, 1, 4000.0)]) };
        client.run_open_loop(&plan).unwrap().requests
    };
    assert_eq!(requests(), requests());
}

#[test]
fn a_rate_that_nobody_can_keep_is_an_overrun_and_leaves_nothing_under_way() {
    let workload = workload(Protocol::Resp);
    let floor = Floor::for_workload("ring", &workload);
    let mut client = Client::connect(floor.address, &workload, 2).unwrap();
    let long = OpenPlan { duration: Duration::from_secs(60), ..plan(vec![group(2, 1000, 1e9)]) };
    let outcome = client.run_open_loop(&long).unwrap();
    assert!(outcome.is_overrun);
    assert_eq!(outcome.requests, outcome.groups[0].latency_ns.len());
    assert_eq!(client.saturate(1, Duration::ZERO).unwrap().requests, 2);
}

#[test]
fn plans_that_do_not_fit_are_refused() {
    let workload = workload(Protocol::Resp);
    let floor = Floor::for_workload("epoll", &workload);
    let mut client = Client::connect(floor.address, &workload, 2).unwrap();
    for groups in [
        vec![],
        vec![group(1, 1, 1.0)],
        vec![group(2, 0, 1.0)],
        vec![group(2, 1, 0.0)],
        vec![group(2, 1, f64::INFINITY)],
        vec![group(2, 1, 1.0), group(0, 1, 1.0)],
    ] {
        let refused = client.run_open_loop(&plan(groups.clone()));
        assert!(matches!(refused, Err(ClientError::Workload(_))), "{groups:?}");
    }
}

#[test]
fn a_server_of_other_sizes_is_noticed() {
    let ours = workload(Protocol::Resp);
    let theirs = pinion_benches::client::Workload { value_bytes: 70, ..ours.clone() };
    let floor = Floor::for_workload("ring", &theirs);
    let mut client = Client::connect(floor.address, &ours, 1).unwrap();
    let gets = pinion_benches::client::Workload { sets: 0, ..ours };
    drop(client);
    client = Client::connect(floor.address, &gets, 1).unwrap();
    assert!(client.saturate(16, BRIEF).is_err());
}
