//! The method holds: response times count from the intended time, nothing is dropped, overload and
//! failures are told.

mod common;

use std::time::Duration;

use common::{Behaviour, Fault, Server};
use pinion_loadgen::{
    Arrival, Class, EXIT_INVALID, EXIT_OBJECTIVE, EXIT_OK, EXIT_OVERLOADED, Guards, Load, Mix,
    Pace, Profile, Rate, RunConfig, SweepConfig, Verdict, run, sweep,
};

fn config(server: &Server, rate: u64) -> RunConfig {
    RunConfig {
        target: server.target.clone(),
        connections: 4,
        load: Load::Open(Rate { millihertz: rate * 1000 }),
        duration: Duration::from_secs(1),
        warmup: Duration::ZERO,
        keys: 100,
        // Tests share their machine; whether it was quiet is not what they ask.
        guards: Guards::Lenient,
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
        // A busy machine adds waiting of its own, and only that: it gets some chances to be quiet.
        let failed = |_| closed_form_off(&config, period, stall).err();
        let off: Vec<String> = (0..4).map_while(failed).collect();
        assert!(off.len() < 4, "{pace}: {off:?}");
    }
}

fn closed_form_off(config: &RunConfig, period: Duration, stall: Duration) -> Result<(), String> {
    let report = run(config).expect("a report");
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
        // Two stops more than the run is long, one request per connection.
        let unseen = share_above(&report.total.service, x);
        if (seen - expected).abs() >= 0.05 || unseen > 5.0 * 4.0 / count + 0.02 {
            return Err(format!("{part}: {seen} {expected} {unseen}"));
        }
    }
    Ok(())
}

#[test]
fn a_low_rate_over_many_connections_works() {
    let server = Server::start(Behaviour::default());
    let mut config = config(&server, 1);
    config.connections = 50;
    config.requests = Some(2);
    let report = run(&config).expect("a report");
    assert_eq!((report.requests, report.errors()), (2, 0), "{}", report.text());
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
    config.mix = Mix { get: 1, set: 1, ..Mix::default() };
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

/// The share of the last test's closed form must not hang on even arrivals: Poisson arrivals see
/// time averages, so the same shares come out of them.
#[test]
fn poisson_arrivals_see_the_same_closed_form() {
    let (period, stall) = (Duration::from_millis(400), Duration::from_millis(100));
    let server = Server::start(Behaviour { stall: Some((period, stall)), ..Behaviour::default() });
    let mut config = config(&server, 1000);
    config.duration = period * 6;
    config.arrival = Arrival::Poisson;
    let report = run(&config).expect("a report");
    let count = report.requests as f64;
    assert!((count - 2400.0).abs() < 250.0, "{count}: 2400 and five deviations");
    for part in [0.25, 0.5, 0.75] {
        let x = stall.mul_f64(part);
        let above = report.total.response.count_between(x.as_nanos() as u64, u64::MAX) as f64;
        let expected = (stall - x).as_secs_f64() / period.as_secs_f64();
        assert!((above / count - expected).abs() < 0.08, "{part}: {} {expected}", above / count);
    }
}

#[test]
fn profiles_bursts_and_files_send_what_they_say() {
    let server = Server::start(Behaviour::default());
    let count = |change: &dyn Fn(&mut RunConfig)| {
        let mut config = config(&server, 1000);
        change(&mut config);
        let report = run(&config).expect("a report");
        assert!(report.errors() == 0 && report.wrong == 0, "{}", report.text());
        report.requests
    };
    let ms = Duration::from_millis;
    let profile: Profile = "steps:500@200ms,2000@300ms".parse().expect("a profile");
    assert_eq!(count(&|c| (c.profile, c.duration) = (profile.clone(), ms(500))), 700);
    let sine: Profile = "sine:1000,900@200ms".parse().expect("a sine");
    let wave = count(&|c| (c.profile, c.duration) = (sine.clone(), ms(600)));
    assert!(wave.abs_diff(600) <= 1, "{wave}");
    let burst: Arrival = "burst:20ms,80ms".parse().expect("a burst");
    assert_eq!(count(&|c| (c.arrival, c.duration) = (burst.clone(), 5 * burst_period())), 500);
    let path = std::env::temp_dir().join(format!("pinion-times-{}", std::process::id()));
    std::fs::write(&path, "# seconds\n0.01\n0.02\n0.02\n0.3\n").expect("written");
    let file = Arrival::File(path.clone());
    assert_eq!(count(&|c| c.arrival = file.clone()), 4);
    assert_eq!(
        count(&|c| (c.arrival, c.warmup) = (file.clone(), Duration::from_millis(15))),
        3,
        "what is due in the warm-up is not measured"
    );
    std::fs::write(&path, "0.2\n0.1\n").expect("written");
    let mut config = config(&server, 1);
    config.arrival = file;
    let error = run(&config).expect_err("not ascending");
    assert!(error.to_string().contains("line 2"), "{error}");
    std::fs::remove_file(path).expect("there");
}

fn burst_period() -> Duration {
    Duration::from_millis(100)
}

#[test]
fn seconds_add_up_to_the_run() {
    let server = Server::start(Behaviour::default());
    let mut config = config(&server, 2000);
    config.duration = Duration::from_millis(2500);
    config.warmup = Duration::from_millis(300);
    config.threads = 2;
    let report = run(&config).expect("a report");
    assert_eq!(report.requests, 5000, "{}", report.text());
    let counts: Vec<u64> = report.seconds.iter().map(|second| second.requests).collect();
    assert_eq!(counts.iter().sum::<u64>(), 5000, "{counts:?}");
    assert!(counts.len() >= 3, "{counts:?}");
    let numbers: Vec<u64> = report.seconds.iter().map(|second| second.second).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
    let hits: u64 = report.seconds.iter().map(|second| second.hits).sum();
    assert_eq!(hits, report.total.hits);
    assert_eq!(report.json()["seconds"].as_array().map(Vec::len), Some(counts.len()));
}

#[test]
fn replaced_connections_lose_no_request() {
    let server = Server::start(Behaviour::default());
    let mut config = config(&server, 1000);
    config.churn = Some(Rate { millihertz: 40_000 });
    config.prefill = true;
    let report = run(&config).expect("a report");
    assert_eq!((report.requests, report.errors()), (1000, 0), "{}", report.text());
    assert_eq!((report.connections_lost, report.unanswered), (0, 0));
    assert!((20..=41).contains(&report.churned), "{}", report.churned);
}

#[test]
fn lost_connections_come_back_and_are_counted() {
    let server = Server::with_fault(Fault::HangupOften);
    let mut config = config(&server, 1000);
    config.connections = 4;
    let report = run(&config).expect("a report");
    assert_eq!(report.verdict, Verdict::Invalid);
    assert!(report.connections_lost >= 10, "{}", report.text());
    assert!(report.reconnected + 4 >= report.connections_lost, "{}", report.text());
    assert!(report.gap_s > 0.0);
    assert_eq!(report.requests, 1000, "the schedule goes on");
    assert_eq!(report.errors(), report.unanswered);
}

/// Whatever the machine is like, a figure starts at its own stamp: the server holds every reply
/// back for a time, and one connection without a pipeline makes the requests wait for each other.
#[test]
fn each_figure_starts_at_its_own_time() {
    let (period, stall) = (Duration::from_secs(3600), Duration::from_millis(300));
    let server = Server::start(Behaviour { stall: Some((period, stall)), ..Behaviour::default() });
    let mut config = config(&server, 100);
    config.connections = 1;
    config.requests = Some(20);
    let report = run(&config).expect("a report");
    let total = &report.total;
    let ms = |ns: u64| ns / 1_000_000;
    // The first one waits in the server; all the others wait to be sent.
    assert!(ms(total.service.max()) >= 200 && ms(total.lag.max()) >= 190, "{}", report.text());
    assert!(total.response.max() >= total.lag.max());
    let long =
        |histogram: &hdrhistogram::Histogram<u64>| histogram.count_between(100_000_000, u64::MAX);
    assert_eq!(long(&total.service), 1, "one request waited in the server");
    assert!(long(&total.lag) >= 8, "those behind it were sent late");
    assert!(long(&total.response) > long(&total.lag), "the response has both");
}

#[test]
fn strict_guards_hold_the_client_to_account() {
    let (period, stall) = (Duration::from_millis(400), Duration::from_millis(100));
    for guards in [Guards::Strict, Guards::Lenient] {
        let server =
            Server::start(Behaviour { stall: Some((period, stall)), ..Behaviour::default() });
        let mut config = config(&server, 1000);
        config.duration = period * 3 + stall * 2;
        config.guards = guards;
        let report = run(&config).expect("a report");
        let told = |texts: &[String]| texts.iter().any(|text| text.contains("left late"));
        let strict = guards == Guards::Strict;
        assert_eq!(told(&report.reasons), strict, "{}", report.text());
        assert_eq!(told(&report.warnings), !strict, "{}", report.text());
        assert!(!strict || report.verdict == Verdict::Invalid, "{}", report.text());
    }
}

/// A server that stands still for 60 ms of every second breaks any objective for the p99 below
/// that, and keeps one above, at every rate.
#[test]
fn a_sweep_finds_what_keeps_the_objective() {
    let behaviour = Behaviour {
        stall: Some((Duration::from_millis(300), Duration::from_millis(60))),
        ..Behaviour::default()
    };
    for (objective, keeps) in [("p95<10ms", false), ("p95<2s", true)] {
        let server = Server::start(behaviour);
        let mut run = config(&server, 500);
        run.duration = Duration::from_millis(900);
        let sweep_config = SweepConfig {
            run,
            objectives: vec![objective.parse().expect("an objective")],
            from: Rate { millihertz: 400_000 },
            to: Rate { millihertz: 600_000 },
            repeats: 2,
        };
        // A busy machine does not keep a rate: it gets some chances to be quiet.
        let mut report = sweep(&sweep_config).expect("a report");
        for _ in 0..3 {
            if !keeps || report.points.iter().all(|point| point.passes) {
                break;
            }
            report = sweep(&sweep_config).expect("a report");
        }
        let code = if report.sustained.is_some() { EXIT_OK } else { EXIT_OBJECTIVE };
        assert_eq!(report.exit_code(), code);
        let steps = |step: &str| report.points.iter().filter(|point| point.step == step).count();
        if !keeps {
            assert_eq!(report.sustained, None, "{}", report.text());
            assert_eq!((steps("climb"), steps("confirm")), (1, 0), "{}", report.text());
        } else if report.points.iter().all(|point| point.passes) {
            assert_eq!(report.sustained, Some(600.0), "{}", report.text());
            // 400, 500 and 600; then 540, 570 and 600 twice each, and no 630.
            assert_eq!((steps("climb"), steps("halve"), steps("confirm")), (3, 0, 6));
        } else {
            let invalid = |point: &pinion_loadgen::Point| point.verdict != Verdict::Ok;
            assert!(report.points.iter().any(invalid), "{}", report.text());
        }
        let scarce = SweepConfig { from: Rate { millihertz: 1000 }, ..sweep_config };
        assert!(sweep(&scarce).is_err(), "one request per second shows no p95");
    }
}
