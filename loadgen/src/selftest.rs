//! What this tool itself costs, how late it sends, and whether its times count from the intended
//! send, before anybody believes what it says of a server.
//!
//! The other side is a *null server* on loopback: it counts the bytes of reads of one known length
//! and answers each with a miss, on a thread per connection. So nearly all of the time is the
//! client's and the kernel's. The server shares the machine with the client; on a machine with few
//! CPUs the figures are upper bounds.

mod bare;
mod stall;

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::config::{Guards, Load, Mix, Protocol, Rate, RunConfig, ValueSize, Verify};
use crate::error::{EXIT_INVALID, EXIT_OK, Error};
use crate::keys::{KeyFormat, RUN_PREFIX};
use crate::ledger::Stamp;
use crate::protocol::Codec;
use crate::recorder::quantile_ns;
use crate::report::{Report, text};
use crate::run::run;
use crate::sys::thread_cpu_ns;
use crate::value::{Sizes, Values};

/// Bytes of `GET` for a key of 16 bytes, and of the answer that there is none.
const GET_BYTES: usize = 36;
const MISS: &[u8] = b"$-1\r\n";
/// Lengths of values whose check is timed, in bytes.
const CHECKED_BYTES: [usize; 3] = [64, 1024, 16 * 1024];

/// One figure of a self-test.
#[derive(Debug, Clone)]
pub struct Measure {
    /// What was done.
    pub name: String,
    /// Requests per second.
    pub rate: f64,
    /// CPU nanoseconds of the client per request.
    pub cpu_ns_per_request: Option<f64>,
    /// Median, 99th and 99.9th percentile of the lag in nanoseconds, where the sample allows, and
    /// the longest; all `None` for a closed loop.
    pub lag_ns: [Option<u64>; 4],
}

pub use stall::StallCheck;

/// What a request costs this tool, beside a client that does nothing but move the same bytes.
#[derive(Debug, Clone)]
pub struct Cost {
    /// Connections.
    pub connections: usize,
    /// Outstanding requests per connection.
    pub pipeline: usize,
    /// CPU nanoseconds of this tool per request; the median of the rounds.
    pub own_ns: f64,
    /// CPU nanoseconds of the bare client per request; the median of the rounds.
    pub bare_ns: f64,
    /// The median, the smallest and the largest of the rounds' ratios.
    pub ratios: [f64; 3],
}

/// The result of [`selftest()`].
#[derive(Debug, Clone)]
pub struct Selftest {
    /// The runs.
    pub measures: Vec<Measure>,
    /// CPU per request beside a bare client.
    pub costs: Vec<Cost>,
    /// Whether response times count from the intended send times.
    pub stall: StallCheck,
    /// Length of a value in bytes, and CPU nanoseconds to make it and to check it.
    pub checks: Vec<(usize, f64, f64)>,
}

/// Rounds in which the CPU per request is compared with that of the bare client, in turns.
const COST_ROUNDS: u32 = 5;
/// Shortest of these rounds.
const ROUND_MIN: Duration = Duration::from_millis(100);
/// Shortest open loop: at one request per second a shorter one might have none.
const OPEN_MIN: Duration = Duration::from_secs(2);

/// Measures this tool: each open loop lasts `duration` or two seconds, whichever is longer, each
/// closed one half of `duration`.
///
/// # Errors
/// If no server can be started on loopback.
pub fn selftest(duration: Duration, pin: &[usize], progress: bool) -> Result<Selftest, Error> {
    let target = null_server()?;
    let base = RunConfig {
        target,
        connections: 8,
        mix: Mix { get: 1, ..Mix::default() },
        warmup: Duration::from_millis(200),
        verify: Verify::Off,
        pin: pin.to_vec(),
        guards: Guards::Lenient,
        progress,
        ..RunConfig::default()
    };
    let (mut measures, mut costs) = (Vec::new(), Vec::new());
    for (connections, pipeline) in [(50, 1), (50, 16)] {
        let config = RunConfig {
            connections,
            pipeline,
            duration: (duration / (2 * COST_ROUNDS)).max(ROUND_MIN),
            ..base.clone()
        };
        let name = format!("closed, {connections} connections, pipeline {pipeline}");
        let (cost, report) = compare_cost(&config)?;
        costs.push(cost);
        measures.push(measure(name, &report));
    }
    for per_second in [1, 1_000, 100_000] {
        let load = Load::Open(Rate { millihertz: per_second * 1000 });
        let duration = duration.max(OPEN_MIN);
        let config = RunConfig { load, pipeline: 64, duration, ..base.clone() };
        measures.push(measure(format!("open, {per_second} per second"), &run(&config)?));
    }
    let stall = stall::check(&base, duration)?;
    Ok(Selftest { measures, costs, stall, checks: CHECKED_BYTES.map(check_cost).to_vec() })
}

/// Measures this tool and the bare client in turns.
fn compare_cost(config: &RunConfig) -> Result<(Cost, Report), Error> {
    let keys = KeyFormat::sized(RUN_PREFIX, &config.key_size, config.keys);
    let mut request = Vec::new();
    Codec::new(config.protocol, keys, false).append_get(7, &mut request);
    let shape = (config.connections, config.pipeline);
    let (mut own, mut bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut last = None;
    for _ in 0..COST_ROUNDS {
        let report = run(config)?;
        let own_ns = report.client_cpu_ns_per_request().unwrap_or(f64::NAN);
        let bare_ns = bare::cpu_ns_per_request(
            &config.target,
            &request,
            shape,
            config.warmup + config.duration,
            &config.pin,
        )?;
        own.push(own_ns);
        bare.push(bare_ns);
        ratios.push(own_ns / bare_ns);
        last = Some(report);
    }
    let report = last.ok_or_else(|| Error::Usage("a selftest has rounds".to_owned()))?;
    let [own_ns, _, _] = spread(own);
    let [bare_ns, _, _] = spread(bare);
    let (connections, pipeline) = shape;
    let cost = Cost { connections, pipeline, own_ns, bare_ns, ratios: spread(ratios) };
    Ok((cost, report))
}

/// The median, the smallest and the largest.
fn spread(mut numbers: Vec<f64>) -> [f64; 3] {
    numbers.sort_by(f64::total_cmp);
    [numbers[numbers.len() / 2], numbers[0], numbers[numbers.len() - 1]]
}

fn measure(name: String, report: &Report) -> Measure {
    let lag = &report.total.lag;
    let lag_ns = if report.config.load == Load::Closed {
        [None; 4]
    } else {
        let q = |q| quantile_ns(lag, q);
        [q(0.5), q(0.99), q(0.999), (!lag.is_empty()).then(|| lag.max())]
    };
    let cpu_ns_per_request = report.client_cpu_ns_per_request();
    Measure { name, rate: report.rate, cpu_ns_per_request, lag_ns }
}

/// Nanoseconds to make a value of `bytes`, and to check it.
fn check_cost(bytes: usize) -> (usize, f64, f64) {
    let sizes = Sizes::Drawn(ValueSize::fixed(bytes));
    let values = Values::new(1, 1, sizes, None, Protocol::Resp);
    let stamp = Stamp { version: 1, base: 1 };
    let mut value = vec![0; bytes];
    let rounds = (32 << 20) / (bytes as u64 + 200);
    let start_ns = thread_cpu_ns();
    for key in 0..rounds {
        values.write(key, stamp, std::hint::black_box(&mut value));
    }
    let made_ns = thread_cpu_ns();
    for _ in 0..rounds {
        let checked = values.check(rounds - 1, std::hint::black_box(&value), Verify::Full);
        debug_assert!(checked.is_ok());
        let _ = std::hint::black_box(checked);
    }
    let per_round = |ns: u64| ns as f64 / rounds as f64;
    (bytes, per_round(made_ns - start_ns), per_round(thread_cpu_ns() - made_ns))
}

fn failed(error: std::io::Error) -> Error {
    Error::io("cannot listen on loopback", error)
}

/// Starts the null server; its threads end with the process.
fn null_server() -> Result<String, Error> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
    let target = listener.local_addr().map_err(failed)?.to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    Ok(target)
}

/// Answers every whole request that comes; ends with the connection.
fn answer(mut stream: TcpStream) {
    // Without this a reply may wait for an acknowledgement; the figures would show it.
    let _ = stream.set_nodelay(true);
    let mut input = vec![0; 64 * 1024];
    let replies = MISS.repeat(input.len() / GET_BYTES + 1);
    let mut torn_bytes = 0;
    while let Ok(bytes @ 1..) = stream.read(&mut input) {
        let requests = (torn_bytes + bytes) / GET_BYTES;
        torn_bytes = (torn_bytes + bytes) % GET_BYTES;
        if stream.write_all(&replies[..requests * MISS.len()]).is_err() {
            return;
        }
    }
}

impl Selftest {
    /// The process exit code: INVALID if times do not count from the intended send.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        if self.stall.passes { EXIT_OK } else { EXIT_INVALID }
    }

    /// The text report.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "{:<36}{:>12} {:>12} {:>10} {:>10} {:>10} {:>10}",
            "against a null server", "requests/s", "CPU ns/req", "lag p50", "p99", "p99.9", "max"
        );
        for measure in &self.measures {
            let cpu = measure.cpu_ns_per_request.map_or("n/a".to_owned(), |ns| format!("{ns:.0}"));
            let _ = write!(out, "{:<36}{:>12.1} {cpu:>12}", measure.name, measure.rate);
            for ns in measure.lag_ns {
                let _ = write!(out, " {:>10}", text::time(ns));
            }
            out.push('\n');
        }
        let _ = writeln!(
            out,
            "\n{:<36}{:>12} {:>12} {:>12} {:>21}",
            "CPU ns per request", "this tool", "bare client", "ratio", "range"
        );
        for Cost { connections, pipeline, own_ns, bare_ns, ratios: [ratio, least, most] } in
            &self.costs
        {
            let name = format!("{connections} connections, pipeline {pipeline}");
            let range = format!("{least:.3} to {most:.3}");
            let _ =
                writeln!(out, "{name:<36}{own_ns:>12.0} {bare_ns:>12.0} {ratio:>12.3} {range:>21}");
        }
        let StallCheck { period, stall, distance, coordinated_distance, passes, .. } = &self.stall;
        let verdict = if *passes { "OK" } else { "INVALID" };
        let _ = writeln!(
            out,
            "\na server that stops for {stall:?} every {period:?}: responses {:.2} % off the \
             closed form (at most {} %), {verdict};\nfrom the actual sends without a pipeline it would \
             be {:.1} %",
            distance * 100.0,
            stall::DISTANCE_MAX * 100.0,
            coordinated_distance * 100.0
        );
        let _ = writeln!(out, "\n{:<36}{:>12} {:>12}", "values", "make ns", "check ns");
        for (bytes, make_ns, check_ns) in &self.checks {
            let _ =
                writeln!(out, "{:<36}{make_ns:>12.1} {check_ns:>12.1}", format!("{bytes} bytes"));
        }
        out
    }

    /// The machine-readable report.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let measures: Vec<serde_json::Value> = self
            .measures
            .iter()
            .map(|measure| {
                let [p50_ns, p99_ns, p999_ns, max_ns] = measure.lag_ns;
                serde_json::json!({
                    "name": measure.name,
                    "rate": measure.rate,
                    "client_cpu_ns_per_request": measure.cpu_ns_per_request,
                    "lag": { "p50_ns": p50_ns, "p99_ns": p99_ns, "p999_ns": p999_ns,
                             "max_ns": max_ns },
                })
            })
            .collect();
        let checks: Vec<serde_json::Value> = self
            .checks
            .iter()
            .map(|(bytes, make_ns, check_ns)| {
                serde_json::json!({ "bytes": bytes, "make_ns": make_ns, "check_ns": check_ns })
            })
            .collect();
        let costs: Vec<serde_json::Value> = self
            .costs
            .iter()
            .map(|cost| {
                serde_json::json!({
                    "connections": cost.connections,
                    "pipeline": cost.pipeline,
                    "client_cpu_ns_per_request": cost.own_ns,
                    "bare_cpu_ns_per_request": cost.bare_ns,
                    "ratio": cost.ratios[0],
                    "ratio_min": cost.ratios[1],
                    "ratio_max": cost.ratios[2],
                })
            })
            .collect();
        let stall = serde_json::json!({
            "period_s": self.stall.period.as_secs_f64(),
            "stall_s": self.stall.stall.as_secs_f64(),
            "requests": self.stall.requests,
            "distance": self.stall.distance,
            "distance_max": stall::DISTANCE_MAX,
            "coordinated_distance": self.stall.coordinated_distance,
            "passes": self.stall.passes,
        });
        serde_json::json!({
            "command": "selftest",
            "measures": measures,
            "costs": costs,
            "stall": stall,
            "checks": checks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_null_server_knows_the_length_of_a_request() {
        let keys = KeyFormat::sized(RUN_PREFIX, &RunConfig::default().key_size, 10_000);
        let mut request = Vec::new();
        Codec::new(Protocol::Resp, keys, false).append_get(7, &mut request);
        assert_eq!(request.len(), GET_BYTES);
        let mut stream = TcpStream::connect(null_server().expect("started")).expect("open");
        let twice = request.repeat(2);
        stream.write_all(&twice[..50]).expect("sent");
        let mut reply = [0; 10];
        stream.read_exact(&mut reply[..5]).expect("one reply");
        stream.write_all(&twice[50..]).expect("sent");
        stream.read_exact(&mut reply[5..]).expect("another");
        assert_eq!(&reply, b"$-1\r\n$-1\r\n");
    }
}
