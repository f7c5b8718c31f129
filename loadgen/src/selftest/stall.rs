//! The proof that times count from the intended send: a server whose answer is known beforehand.
//!
//! The server stands still for T at the start of every P. Requests that are meant to be sent at
//! even times find it standing with the share T / P, and wait for the rest of the stop: the share
//! of responses longer than x is (T - x) / P for every x up to T. A tool that starts its clock when
//! it can send sees next to nothing of that.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::{GET_BYTES, MISS, failed};
use crate::config::{Load, Rate, RunConfig};
use crate::error::Error;
use crate::run::run;

/// Time from one stop to the next.
const PERIOD: Duration = Duration::from_millis(250);
/// Length of a stop.
const STALL: Duration = Duration::from_millis(75);
/// Requests per second.
const RATE: u64 = 2000;
/// Greatest distance between the two distributions that passes, as a share of the requests. A
/// neighbour that takes the CPU for 5 ms in every period costs as much.
pub(super) const DISTANCE_MAX: f64 = 0.02;
/// A neighbour's noise can only add to the distance, so a first failure is looked at again.
const ATTEMPTS_MAX: u32 = 3;
/// Places at which the distributions are compared.
const PLACES: u32 = 100;

/// The result of the check.
#[derive(Debug, Clone)]
pub struct StallCheck {
    /// Time from one stop of the server to the next.
    pub period: Duration,
    /// Length of a stop.
    pub stall: Duration,
    /// Requests that were compared.
    pub requests: u64,
    /// Greatest distance of the response times from the closed form, as a share of the requests.
    pub distance: f64,
    /// The same of the times from the actual sends, over connections without a pipeline: what a
    /// tool that coordinates itself with the server would have seen.
    pub coordinated_distance: f64,
    /// Whether the distance is small enough.
    pub passes: bool,
}

/// The greatest distance between the shares above x, measured and expected.
fn distance(histogram: &Histogram<u64>) -> f64 {
    let count = histogram.len().max(1) as f64;
    let at = |place: u32| {
        let x = STALL.mul_f64(f64::from(place) / f64::from(PLACES));
        let above = histogram.count_between(x.as_nanos() as u64 + 1, u64::MAX) as f64 / count;
        let expected = (STALL - x).as_secs_f64() / PERIOD.as_secs_f64();
        (above - expected).abs()
    };
    // Every response takes some time, so the comparison begins behind the usual ones.
    (PLACES / 20..=PLACES).map(at).fold(0.0, f64::max)
}

/// Measures for about `duration`, in whole periods.
///
/// # Errors
/// If no server can be started on loopback.
pub(super) fn check(base: &RunConfig, duration: Duration) -> Result<StallCheck, Error> {
    let periods = (duration.as_millis() / PERIOD.as_millis()).max(8) as u32;
    let config = RunConfig {
        target: stalling_server()?,
        load: Load::Open(Rate { millihertz: RATE * 1000 }),
        duration: PERIOD * periods,
        ..base.clone()
    };
    let piped = RunConfig { pipeline: 256, ..config.clone() };
    let mut report = run(&piped)?;
    for _ in 1..ATTEMPTS_MAX {
        if distance(&report.total.response) <= DISTANCE_MAX {
            break;
        }
        report = run(&piped)?;
    }
    let coordinated = run(&RunConfig { pipeline: 1, ..config })?;
    let distance_seen = distance(&report.total.response);
    Ok(StallCheck {
        period: PERIOD,
        stall: STALL,
        requests: report.requests,
        distance: distance_seen,
        coordinated_distance: distance(&coordinated.total.service),
        passes: report.requests > 0 && report.errors() == 0 && distance_seen <= DISTANCE_MAX,
    })
}

/// Starts the server; its threads end with the process.
fn stalling_server() -> Result<String, Error> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
    let target = listener.local_addr().map_err(failed)?.to_string();
    let started = Instant::now();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream, started));
        }
    });
    Ok(target)
}

/// Answers every whole request, but for the time in which all connections stand still.
fn answer(mut stream: TcpStream, started: Instant) {
    // Without this a reply may wait for an acknowledgement; the figures would show it.
    let _ = stream.set_nodelay(true);
    let mut input = vec![0; 64 * 1024];
    let replies = MISS.repeat(input.len() / GET_BYTES + 1);
    let mut torn_bytes = 0;
    while let Ok(bytes @ 1..) = stream.read(&mut input) {
        let since_ns = started.elapsed().as_nanos() % PERIOD.as_nanos();
        if let Some(left_ns) = STALL.as_nanos().checked_sub(since_ns) {
            std::thread::sleep(Duration::from_nanos(left_ns as u64));
        }
        let requests = (torn_bytes + bytes) / GET_BYTES;
        torn_bytes = (torn_bytes + bytes) % GET_BYTES;
        if stream.write_all(&replies[..requests * MISS.len()]).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::empty_histogram;

    #[test]
    fn the_distance_is_that_of_the_shares() {
        let (mut exact, mut blind) = (empty_histogram(), empty_histogram());
        let requests = 100_000_u64;
        for at in 0..requests {
            let offset_ns = PERIOD.as_nanos() as u64 * at / requests;
            let wait_ns = (STALL.as_nanos() as u64).saturating_sub(offset_ns);
            exact.record(wait_ns.max(20_000)).expect("in range");
            blind.record(20_000).expect("in range");
        }
        assert!(distance(&exact) < 0.001, "{}", distance(&exact));
        let stopped = (STALL.as_secs_f64() * 0.95) / PERIOD.as_secs_f64();
        assert!((distance(&blind) - stopped).abs() < 0.001, "{}", distance(&blind));
        assert!(distance(&empty_histogram()) > DISTANCE_MAX, "nothing proves nothing");
    }
}
