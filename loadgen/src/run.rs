//! A run: filling if asked for, warm-up, the measured phase, and the drain after it.
//!
//! Open loop: the schedule has one numbering of requests from the start of the warm-up to the end
//! of the measured phase, so nothing changes at the border but the recording. Closed loop: a
//! request belongs to the measured phase if it was sent in it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::{Arrival, Load, Pace, Profile, Rate, RunConfig};
use crate::dist::KeySampler;
use crate::drive::{Crew, Recording};
use crate::error::Error;
use crate::host;
use crate::keys::{COUNTER_PREFIX, KeyFormat, RUN_PREFIX};
use crate::prefill::{PrefillReport, fill};
use crate::protocol::Codec;
use crate::report::{Report, Setting, Verdict, Window};
use crate::rng::mix64;
use crate::schedule::{
    End, Schedule, Segment, Spread, Times, Timetable, due_ns, first_index_at, sine,
};
use crate::source::{RandomSource, Source};
use crate::sys::allowed_cpus;
use crate::target::Targets;
use crate::value::{Sizes, Values};
use crate::verify::Verifier;
use crate::worker::{Arrivals, Plan};

/// With fewer CPUs than this, polling would take the CPU from the server.
const SPIN_CPUS_MIN: usize = 4;
/// Longest run.
const RUN_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// Most send times in a file.
const FILE_TIMES_MAX: usize = 200_000_000;

/// What all phases of one run have in common.
pub(crate) struct Stage {
    pub(crate) crew: Crew,
    pub(crate) codec: Codec,
    pub(crate) verifier: Verifier,
    pub(crate) run_id: u32,
}

impl Stage {
    /// Checks the options and prepares codec and witness.
    pub(crate) fn new(config: &RunConfig) -> Result<Stage, Error> {
        config.validate()?;
        check_pins(&config.pin)?;
        let targets = Targets::resolve(&config.target)?;
        let (targets, placement) = targets.steered(config.steer, config.protocol)?;
        if targets.count() * config.threads > config.connections {
            return Err(Error::Usage(format!(
                "--connections {} is too few: every thread needs one to each of {} targets or \
                 cores",
                config.connections,
                targets.count()
            )));
        }
        let run_id = fresh_run_id();
        let sizes = Sizes::Drawn(config.value_size.clone());
        let values = Values::new(config.seed, run_id, sizes, config.ttl.clone(), config.protocol);
        let form = |prefix| KeyFormat::sized(prefix, &config.key_size, config.keys);
        let verifier = Verifier::new(values, config.verify, config.keys)?;
        Ok(Stage {
            crew: Crew {
                targets,
                placement,
                protocol: config.protocol,
                connections: config.connections,
                pin: config.pin.clone(),
                progress: config.progress,
            },
            codec: Codec::new(config.protocol, form(RUN_PREFIX), config.ttl.is_some())
                .with_counters(form(COUNTER_PREFIX)),
            verifier: match config.mix.incr {
                0 => verifier,
                _ => verifier.with_counters(config.keys)?,
            },
            run_id,
        })
    }
}

/// Runs the load of `config` and reports what it saw.
///
/// Returns a report whenever requests could be sent; its [`Verdict`] says what it is worth.
///
/// # Errors
/// [`Error::Usage`] for options that make no sense, [`Error::Io`] or [`Error::Server`] if the
/// server cannot be reached.
pub fn run(config: &RunConfig) -> Result<Report, Error> {
    let stage = Stage::new(config)?;
    let (arrivals, window) = plan_arrivals(config)?;
    let facts = host::facts();
    let prefill = if config.prefill { Some(fill(config, &stage)?) } else { None };
    if let Some(PrefillReport { verdict: Verdict::Wrong, .. }) = prefill {
        return Ok(Report::of_wrong_prefill(config, stage.run_id, facts, prefill));
    }
    let keys = KeySampler::new(config.key_dist, config.hot_one, config.keys, config.seed);
    let sources = (0..config.threads)
        .map(|worker| {
            RandomSource::new(config.mix, config.multiget, keys.clone(), config.seed, worker)
        })
        .collect();
    carry_out(config, &stage, (arrivals, window), facts, sources, prefill)
}

/// Carries out an open loop whose requests come from `sources`, one for every worker.
pub(crate) fn run_open<S: Source + Send>(
    config: &RunConfig,
    stage: &Stage,
    table: &Timetable,
    rate: Rate,
    sources: Vec<S>,
) -> Result<Report, Error> {
    let window = window_of(config, table, rate);
    let arrivals = open_arrivals(config, table);
    carry_out(config, stage, (arrivals, window), host::facts(), sources, None)
}

fn carry_out<S: Source + Send>(
    config: &RunConfig,
    stage: &Stage,
    (arrivals, window): (Vec<Arrivals>, Window),
    facts: Vec<host::Fact>,
    sources: Vec<S>,
    prefill: Option<PrefillReport>,
) -> Result<Report, Error> {
    let spin = spins(config.pace)? && (config.load != Load::Closed || config.pace == Pace::Spin);
    let churn_ns = config.churn.map(|rate| due_ns(rate, config.threads as u64));
    let plan = |(arrivals, source)| Plan {
        arrivals,
        source,
        pipeline: config.pipeline,
        read_through: config.read_through,
        spin,
        churn_ns,
    };
    let plans = arrivals.into_iter().zip(sources).map(plan).collect();
    let recording = Recording { cut_from_ns: Some(window.start_ns), hlog: config.hlog.clone() };
    let phase = stage.crew.drive("run", &stage.codec, &stage.verifier, plans, &recording)?;
    let targets = &stage.crew.targets;
    let setting = Setting {
        run_id: stage.run_id,
        facts,
        mode: if spin { Pace::Spin } else { Pace::Hybrid },
        local: targets.are_local(),
        targets: (0..targets.count()).map(|index| targets.name(index)).collect(),
        window,
    };
    Ok(Report::new(config, setting, phase, prefill))
}

/// The share of every worker in an open loop.
fn open_arrivals(config: &RunConfig, table: &Timetable) -> Vec<Arrivals> {
    let workers = config.threads;
    let backlog_max_ns = duration_ns(config.backlog_max);
    (0..workers)
        .map(|worker| Arrivals::Open {
            schedule: Schedule::new(table, worker, workers),
            backlog_max_ns,
        })
        .collect()
}

/// The arrivals of each worker, and where the measured phase lies.
fn plan_arrivals(config: &RunConfig) -> Result<(Vec<Arrivals>, Window), Error> {
    let warmup_ns = duration_ns(config.warmup);
    let workers = config.threads;
    match config.load {
        Load::Open(rate) => {
            let (table, window) = timetable(config, rate)?;
            let arrivals = open_arrivals(config, &table);
            Ok((arrivals, window))
        }
        Load::Closed => {
            let end_ns = match config.requests {
                Some(_) => u64::MAX,
                None => warmup_ns + duration_ns(config.duration),
            };
            let total = config.requests.unwrap_or(u64::MAX);
            let workers = workers as u64;
            let arrivals = (0..workers)
                .map(|worker| Arrivals::Closed {
                    measure_from_ns: warmup_ns,
                    end_ns,
                    requests_max: total / workers + u64::from(worker < total % workers),
                })
                .collect();
            Ok((arrivals, Window { start_ns: warmup_ns, length_ns: None, offered: None }))
        }
    }
}

/// The schedule of an open loop, and where its measured phase lies.
fn timetable(config: &RunConfig, rate: Rate) -> Result<(Timetable, Window), Error> {
    let warmup_ns = duration_ns(config.warmup);
    let mean = config.profile.mean().unwrap_or(rate);
    let end = match config.requests {
        Some(requests) => {
            // A year at the highest rate bounds the numbers, so that times fit 64 bits.
            let limit = first_index_at(mean, duration_ns(RUN_MAX));
            if requests > limit {
                return Err(Error::Usage(format!(
                    "--requests {requests} at {mean} requests per second takes more than 366 days"
                )));
            }
            End::Requests(requests)
        }
        None => End::AtNs(warmup_ns.saturating_add(duration_ns(config.duration))),
    };
    let times = times(config, rate)?;
    let end = match (&times, end) {
        // A file ends with its last time.
        (Times::Listed(times), End::AtNs(end_ns)) => {
            End::AtNs(end_ns.min(times.last().map_or(0, |&last_ns| last_ns + 1)).max(warmup_ns))
        }
        _ => end,
    };
    let table = Timetable { times, measure_from_ns: warmup_ns, end };
    let first = Schedule::new(&table, 0, 1);
    let window = window_of(config, &table, mean);
    let none = || {
        Error::Usage(format!(
            "--duration {:?} at {mean} requests per second is too short for one request",
            config.duration
        ))
    };
    match first.peek() {
        // The first request may belong to the warm-up; a steady schedule tells what follows.
        Some(_) if window.offered != Some(0) => Ok((table, window)),
        _ => Err(none()),
    }
}

/// The measured phase of a schedule: from its first request to the one after its last.
fn window_of(config: &RunConfig, table: &Timetable, mean: Rate) -> Window {
    let warmup_ns = duration_ns(config.warmup);
    match (&table.times, table.end) {
        (Times::Steady(rate), end) => {
            let from = first_index_at(*rate, warmup_ns);
            let to = match end {
                End::Requests(requests) => from + requests,
                End::AtNs(end_ns) => first_index_at(*rate, end_ns),
            };
            let start_ns = due_ns(*rate, from);
            let length_ns = due_ns(*rate, to) - start_ns;
            Window { start_ns, length_ns: Some(length_ns), offered: Some(to - from) }
        }
        (_, End::AtNs(end_ns)) => {
            let length_ns = Some(end_ns.saturating_sub(warmup_ns));
            Window { start_ns: warmup_ns, length_ns, offered: None }
        }
        (_, End::Requests(requests)) => {
            let length_ns = Some(due_ns(mean, requests));
            Window { start_ns: warmup_ns, length_ns, offered: None }
        }
    }
}

/// How the send times arise.
fn times(config: &RunConfig, rate: Rate) -> Result<Times, Error> {
    let spread = match config.arrival {
        Arrival::Poisson => Spread::Poisson(config.seed),
        _ => Spread::Even,
    };
    let forever = |millihertz| Segment { length_ns: u64::MAX, millihertz };
    let segments: Arc<[Segment]> = match &config.arrival {
        Arrival::File(path) => return read_times(path).map(|times| Times::Listed(times.into())),
        Arrival::Burst { on, off } => {
            let (on_ns, off_ns) = (duration_ns(*on), duration_ns(*off));
            let scaled = u128::from(rate.millihertz) * u128::from(on_ns + off_ns);
            let millihertz = u64::try_from(scaled / u128::from(on_ns)).unwrap_or(u64::MAX);
            let burst = Segment { length_ns: on_ns, millihertz };
            let silence = Segment { length_ns: off_ns.max(1), millihertz: 0 };
            return Ok(Times::Process { segments: [burst, silence].into(), cyclic: true, spread });
        }
        _ => match &config.profile {
            Profile::Level if config.arrival == Arrival::Constant => {
                return Ok(Times::Steady(rate));
            }
            Profile::Level => [forever(rate.millihertz)].into(),
            Profile::Sine { mean, amplitude, period } => {
                let (period_ns, start_ns) = (duration_ns(*period), duration_ns(config.warmup));
                let segments = sine(*mean, *amplitude, period_ns, start_ns);
                return Ok(Times::Process { segments, cyclic: true, spread });
            }
            Profile::Steps(steps) => {
                let mut segments: Vec<Segment> = steps
                    .iter()
                    .map(|step| Segment {
                        length_ns: duration_ns(step.length),
                        millihertz: step.rate.millihertz,
                    })
                    .collect();
                // The warm-up belongs to the first step; the last one lasts.
                segments[0].length_ns += duration_ns(config.warmup);
                if let Some(last) = segments.last_mut() {
                    last.length_ns = u64::MAX;
                }
                segments.into()
            }
        },
    };
    Ok(Times::Process { segments, cyclic: false, spread })
}

/// Reads send times: seconds after the start, a line each, ascending.
fn read_times(path: &Path) -> Result<Vec<u64>, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::io(format!("cannot read {}", path.display()), error))?;
    let mut times = Vec::new();
    let mut before_ns = 0;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let seconds =
            line.parse::<f64>().ok().filter(|s| (0.0..=RUN_MAX.as_secs_f64()).contains(s));
        let time_ns = seconds.map(|seconds| (seconds * 1e9).round() as u64);
        match time_ns {
            Some(time_ns) if time_ns >= before_ns && times.len() < FILE_TIMES_MAX => {
                times.push(time_ns);
                before_ns = time_ns;
            }
            _ => {
                return Err(Error::Usage(format!(
                    "--arrival file:{}: line {} is no ascending time in seconds",
                    path.display(),
                    number + 1
                )));
            }
        }
    }
    Ok(times)
}

fn duration_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Checks that the process may run on every one of these CPUs.
pub(crate) fn check_pins(pins: &[usize]) -> Result<(), Error> {
    let allowed = allowed_cpus().map_err(|error| Error::io("cannot read the affinity", error))?;
    match pins.iter().find(|cpu| !allowed.contains(cpu)) {
        None => Ok(()),
        Some(cpu) => {
            let allowed: Vec<String> = allowed.iter().map(usize::to_string).collect();
            Err(Error::Usage(format!(
                "--pin {cpu}: this process may run on CPU {} only",
                allowed.join(",")
            )))
        }
    }
}

/// Whether a worker polls instead of sleeping.
fn spins(pace: Pace) -> Result<bool, Error> {
    Ok(match pace {
        Pace::Spin => true,
        Pace::Hybrid => false,
        Pace::Auto => {
            let cpus = allowed_cpus().map_err(|e| Error::io("cannot read the affinity", e))?;
            cpus.len() >= SPIN_CPUS_MIN
        }
    })
}

/// A number that no other run is likely to have: it tells the values of runs apart.
pub(crate) fn fresh_run_id() -> u32 {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    let run = u64::from(RUNS.fetch_add(1, Ordering::Relaxed));
    mix64(now ^ (u64::from(std::process::id()) << 40) ^ mix64(run)) as u32
}
