//! A run: filling if asked for, warm-up, the measured phase, and the drain after it.
//!
//! Open loop: the schedule has one numbering of requests from the start of the warm-up to the end
//! of the measured phase, so nothing changes at the border but the recording. Closed loop: a
//! request belongs to the measured phase if it was sent in it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::{Load, Pace, Rate, RunConfig};
use crate::conn::Target;
use crate::dist::KeySampler;
use crate::drive::Crew;
use crate::error::Error;
use crate::keys::{KeyFormat, RUN_PREFIX};
use crate::prefill::{PrefillReport, fill};
use crate::protocol::Codec;
use crate::report::{Report, Verdict, Window};
use crate::rng::mix64;
use crate::schedule::{Schedule, due_ns, first_index_at};
use crate::source::RandomSource;
use crate::sys::allowed_cpus;
use crate::value::{Sizes, Values};
use crate::verify::Verifier;
use crate::worker::{Arrivals, Plan};

/// With fewer CPUs than this, polling would take the CPU from the server.
const SPIN_CPUS_MIN: usize = 4;

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
        let keys = KeyFormat::new(RUN_PREFIX, config.key_bytes, config.keys);
        let run_id = fresh_run_id();
        let values = Values::new(config.seed, run_id, Sizes::Range(config.value_size));
        Ok(Stage {
            crew: Crew {
                target: Target::resolve(&config.target)?,
                protocol: config.protocol,
                connections: config.connections,
                pin: config.pin.clone(),
                progress: config.progress,
            },
            codec: Codec::new(config.protocol, keys, config.ttl),
            verifier: Verifier::new(values, config.verify, config.keys)?,
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
    let prefill = if config.prefill { Some(fill(config, &stage)?) } else { None };
    if let Some(PrefillReport { verdict: Verdict::Wrong, .. }) = prefill {
        return Ok(Report::of_wrong_prefill(config, stage.run_id, prefill));
    }
    let spin = spins(config.pace)? && (config.load != Load::Closed || config.pace == Pace::Spin);
    let keys = KeySampler::new(config.key_dist, config.keys, config.seed);
    let plans = arrivals
        .into_iter()
        .enumerate()
        .map(|(worker, arrivals)| Plan {
            arrivals,
            source: RandomSource::new(config.mix, keys.clone(), config.seed, worker),
            pipeline: config.pipeline,
            read_through: config.read_through,
            spin,
        })
        .collect();
    let phase = stage.crew.drive("run", &stage.codec, &stage.verifier, plans)?;
    let mode = if spin { Pace::Spin } else { Pace::Hybrid };
    Ok(Report::new(config, stage.run_id, mode, window, phase, prefill))
}

/// The arrivals of each worker, and where the measured phase lies.
fn plan_arrivals(config: &RunConfig) -> Result<(Vec<Arrivals>, Window), Error> {
    let warmup_ns = duration_ns(config.warmup);
    let workers = config.threads;
    match config.load {
        Load::Open(rate) => {
            let (measure_from, end) = open_bounds(config, rate)?;
            let start_ns = due_ns(rate, measure_from);
            let length_ns = due_ns(rate, end) - start_ns;
            let arrivals = (0..workers)
                .map(|worker| Arrivals::Open {
                    schedule: Schedule::new(rate, worker, workers),
                    measure_from,
                    end,
                })
                .collect();
            Ok((arrivals, Window { start_ns, length_ns: Some(length_ns) }))
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
            Ok((arrivals, Window { start_ns: warmup_ns, length_ns: None }))
        }
    }
}

/// The numbers of the first measured request and of the first one after the run.
fn open_bounds(config: &RunConfig, rate: Rate) -> Result<(u64, u64), Error> {
    let warmup_ns = duration_ns(config.warmup);
    let measure_from = first_index_at(rate, warmup_ns);
    let end = match config.requests {
        Some(requests) => {
            // A year at the highest rate bounds the numbers, so that times fit 64 bits.
            let limit = first_index_at(rate, duration_ns(Duration::from_secs(366 * 24 * 3600)));
            if requests > limit {
                return Err(Error::Usage(format!(
                    "--requests {requests} at {rate} requests per second takes more than 366 days"
                )));
            }
            measure_from + requests
        }
        None => first_index_at(rate, warmup_ns + duration_ns(config.duration)),
    };
    if end == measure_from {
        return Err(Error::Usage(format!(
            "--duration {:?} at {rate} requests per second is too short for one request",
            config.duration
        )));
    }
    Ok((measure_from, end))
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
