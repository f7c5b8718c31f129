//! The method holds: response times count from the intended time, nothing is dropped, overload and
//! failures are told.

mod common;

use std::time::Duration;

use common::{Behaviour, Fault, Server};
use pinion_loadgen::{
    Class, EXIT_INVALID, EXIT_OVERLOADED, Load, Mix, Pace, Rate, RunConfig, Verdict, run,
};

fn config(server: &Server, rate: u64) -> RunConfig {
    RunConfig {
        target: server.target.clone(),
        connections: 4,
        load: Load::Open(Rate { millihertz: rate * 1000 }),
        duration: Duration::from_secs(1),
        warmup: Duration::ZERO,
        keys: 100,
        ..RunConfig::default()
    }
}

/// A server that stops for T every P delays the share (T - x) / P of all intended sends by more
/// than x, for every x up to T. A measurement that starts at the actual send sees next to nothing
/// of it, because while the server stands no more than one request per connection is sent.
#[test]
fn a_stalling_server_shows_its_closed_form() {
    let (period, stall) = (Duration::from_millis(800), Duration::from_millis(240));
    let server = Server::start(Behaviour { stall: Some((period, stall)), ..Behaviour::default() });
    for pace in [Pace::Hybrid, Pace::Spin] {
        let mut config = config(&server, 500);
        config.duration = period * 3;
        config.pace = pace;
        let report = run(&config).expect("a report");
        assert_eq!(report.requests, 1200, "every request of the schedule was sent");
        let count = report.requests as f64;
        let share_above = |histogram: &hdrhistogram::Histogram<u64>, x: Duration| {
            let above = histogram.count_between(x.as_nanos() as u64, u64::MAX);
            above as f64 / count
        };
        for part in [0.25, 0.5, 0.75] {
            let x = stall.mul_f64(part);
            let expected = (stall - x).as_secs_f64() / period.as_secs_f64();
            let seen = share_above(&report.total.response, x);
            assert!((seen - expected).abs() < 0.05, "{pace} {part}: {seen} {expected}");
            // Two stops more than the run is long, one request per connection.
            let unseen = share_above(&report.total.service, x);
            assert!(unseen <= 5.0 * 4.0 / count + 0.02, "{pace} {part}: {unseen}");
        }
    }
}

#[test]
fn a_low_rate_over_many_connections_works() {
    let server = Server::start(Behaviour::default());
    let mut config = config(&server, 1);
    config.connections = 50;
    config.requests = Some(2);
    let report = run(&config).expect("a report");
    assert_eq!(report.requests, 2);
    assert_eq!(report.verdict, Verdict::Ok, "{}", report.text());
    assert!(report.text().contains("n/a"), "two requests have no p99");
}

#[test]
fn the_schedule_is_shared_by_the_threads() {
    let server = Server::start(Behaviour::default());
    let mut config = config(&server, 3000);
    config.threads = 3;
    config.warmup = Duration::from_millis(100);
    let report = run(&config).expect("a report");
    assert_eq!(report.requests, 3000, "{}", report.text());
}

#[test]
fn a_server_that_stands_still_is_overloaded() {
    let server = Server::with_fault(Fault::Silence);
    let mut config = config(&server, 2000);
    config.duration = Duration::from_secs(20);
    let report = run(&config).expect("a report");
    assert_eq!(report.verdict, Verdict::Overloaded, "{}", report.text());
    assert_eq!(report.exit_code(), EXIT_OVERLOADED);
    // The request that a connection waits for is recorded with its age.
    assert!((1..=4).contains(&report.unanswered), "{}", report.unanswered);
    assert!(report.total.response.max() > 500_000_000);
}

#[test]
fn refusals_make_the_run_invalid() {
    let server = Server::with_fault(Fault::Refuse);
    let mut config = config(&server, 2000);
    config.mix = Mix { get: 1, set: 1, delete: 0 };
    let report = run(&config).expect("a report");
    assert_eq!(report.verdict, Verdict::Invalid);
    assert_eq!(report.exit_code(), EXIT_INVALID);
    assert!(report.errors() > 0 && report.wrong == 0);
    assert!(report.reasons[0].contains("OOM"), "{:?}", report.reasons);
    let set = report.classes.iter().find(|(class, _)| *class == Class::Set).expect("writes");
    assert_eq!(set.1.errors, report.errors());
}

#[test]
fn a_lost_connection_makes_the_run_invalid() {
    let server = Server::with_fault(Fault::Hangup);
    let report = run(&config(&server, 1000)).expect("a report");
    assert_eq!(report.verdict, Verdict::Invalid);
    assert_eq!((report.connections_lost, report.unanswered), (1, 1));
    assert_eq!(report.requests, 1000, "the other connections carry on");
}

#[test]
fn a_server_of_another_kind_is_told() {
    let server = Server::with_fault(Fault::Garbage);
    let report = run(&config(&server, 1000)).expect("a report");
    assert_eq!(report.verdict, Verdict::Invalid);
    let error = report.first_error.as_deref().expect("an error");
    assert!(error.contains("HTTP/1.1"), "{error}");
    assert!(report.connections_lost >= 1);
}

#[test]
fn a_closed_loop_is_labelled() {
    let server = Server::start(Behaviour::default());
    let mut config = config(&server, 1);
    config.load = Load::Closed;
    config.duration = Duration::from_millis(300);
    let report = run(&config).expect("a report");
    assert_eq!(report.verdict, Verdict::Ok, "{}", report.text());
    assert!(report.text().contains("closed loop: latency is not comparable"));
    assert_eq!(report.json()["open_loop"], false);
}
