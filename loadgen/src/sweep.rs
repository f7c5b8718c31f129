//! The highest rate that a server sustains within an objective for its latency.
//!
//! 1. Climb: from the lowest rate, a quarter more each time, until a rate fails or the highest has
//!    passed.
//! 2. Halve the gap between the last that passed and the first that failed, to 2 %.
//! 3. Confirm: 90, 95, 100 and 105 % of what was found, each several times, in random order. The
//!    answer is the highest of them that passes over its repeats.
//!
//! A measurement passes if it is not INVALID, OVERLOADED or WRONG, kept 99.5 % of its rate, and its
//! quantile is within the objective. A confirmed rate passes if the *upper* end of the interval
//! around the mean of its repeats is (Student's t, 95 % on both sides), so that one lucky run
//! decides nothing. The objective is for the response times, from the intended sends.
//!
//! A wrong value ends the sweep. Cost: some 20 to 40 runs of the length asked for.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::config::{Load, Profile, RATE_MAX, Rate, RunConfig, parse_duration};
use crate::error::{EXIT_OBJECTIVE, EXIT_OK, EXIT_WRONG, Error};
use crate::recorder::quantile_ns;
use crate::report::{Verdict, text};
use crate::rng::Rng;
use crate::run::run;

/// How much the rate grows in the climb.
const CLIMB: f64 = 1.25;
/// The gap between a rate that passes and one that fails at which the search ends.
const GAP: f64 = 0.02;
/// Smallest share of the offered rate that must be kept.
const KEPT_MIN: f64 = 0.995;
/// What is confirmed, as shares of the rate that was found.
const CONFIRMED: [f64; 4] = [0.9, 0.95, 1.0, 1.05];
/// The 97.5 % points of Student's t for 1 to 9 degrees of freedom.
const STUDENT: [f64; 9] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262];
/// Most repeats of a confirmation.
pub const REPEATS_MAX: usize = STUDENT.len() + 1;
/// Most runs of the search before the confirmations.
const SEARCH_MAX: usize = 200;

/// An objective: a quantile of the response times that must stay below a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Objective {
    /// The quantile, above 0 and below 1.
    pub quantile: f64,
    /// The time.
    pub limit: Duration,
}

impl FromStr for Objective {
    type Err = String;

    fn from_str(text: &str) -> Result<Objective, String> {
        let bad = || "expected an objective such as p99<500us or p99.9<2ms".to_owned();
        let (quantile, limit) = text.split_once('<').ok_or_else(bad)?;
        let percent: f64 =
            quantile.trim().strip_prefix('p').and_then(|p| p.parse().ok()).ok_or_else(bad)?;
        let limit = parse_duration(limit.trim())?;
        if !(percent > 0.0 && percent < 100.0) || limit.is_zero() {
            return Err(bad());
        }
        Ok(Objective { quantile: percent / 100.0, limit })
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = text::time(Some(self.limit.as_nanos() as u64));
        // The product of a percentage has digits that nobody asked for.
        write!(f, "p{} < {limit}", (self.quantile * 1e8).round() / 1e6)
    }
}

/// Options of [`sweep()`].
#[derive(Debug, Clone)]
pub struct SweepConfig {
    /// Everything but the rate; `duration` is the length of one measurement.
    pub run: RunConfig,
    /// All of them must be kept.
    pub objectives: Vec<Objective>,
    /// The rate to start with.
    pub from: Rate,
    /// The rate to end with.
    pub to: Rate,
    /// How often each confirmed rate is measured, 2 to [`REPEATS_MAX`].
    pub repeats: usize,
}

/// One measurement.
#[derive(Debug, Clone)]
pub struct Point {
    /// The offered rate.
    pub offered: f64,
    /// The achieved rate.
    pub achieved: f64,
    /// The quantiles of the objectives in nanoseconds, where the sample allows.
    pub quantiles_ns: Vec<Option<u64>>,
    /// The verdict of the run.
    pub verdict: Verdict,
    /// Whether all objectives were kept.
    pub passes: bool,
    /// What it was for: `climb`, `halve` or `confirm`.
    pub step: &'static str,
}

/// The result of [`sweep()`].
#[derive(Debug, Clone)]
pub struct SweepReport {
    /// The options.
    pub config: SweepConfig,
    /// All measurements, in their order.
    pub points: Vec<Point>,
    /// The highest rate that was confirmed; `None` if none was.
    pub sustained: Option<f64>,
    /// The lowest confirmed rate above it that failed, if there is one.
    pub failed: Option<f64>,
    /// Whether a wrong value ended the sweep.
    pub wrong: bool,
}

/// Finds the highest rate that keeps the objectives.
///
/// # Errors
/// [`Error::Usage`] for options that make no sense, and whatever keeps a run from being carried
/// out.
pub fn sweep(config: &SweepConfig) -> Result<SweepReport, Error> {
    config.validate()?;
    let mut search = Search { config, points: Vec::new(), wrong: false };
    let found = search.find()?;
    let (sustained, failed) = match found {
        Some(rate) if !search.wrong => search.confirm(rate)?,
        _ => (None, None),
    };
    let Search { points, wrong, .. } = search;
    Ok(SweepReport { config: config.clone(), points, sustained, failed, wrong })
}

impl SweepConfig {
    fn validate(&self) -> Result<(), Error> {
        let usage = |text: &str| Err(Error::Usage(text.to_owned()));
        if self.objectives.is_empty() {
            return usage("--slo: at least one objective is needed");
        }
        if self.from.millihertz > self.to.millihertz || self.to.millihertz > RATE_MAX * 1000 {
            return usage("--from must not be above --to");
        }
        if !(2..=REPEATS_MAX).contains(&self.repeats) {
            return Err(Error::Usage(format!("--repeats must be 2 to {REPEATS_MAX}")));
        }
        if self.run.profile != Profile::Level || self.run.requests.is_some() {
            return usage("a sweep has one rate at a time, for a --duration");
        }
        // A rate that cannot show the quantile at all would fail for want of requests alone.
        let seconds = self.run.duration.as_secs_f64();
        for objective in &self.objectives {
            if self.from.per_second() * seconds * (1.0 - objective.quantile) < 10.0 {
                return Err(Error::Usage(format!(
                    "--from {} for {seconds} s has too few requests for {objective}: ten must lie \
                     beyond the quantile",
                    self.from
                )));
            }
        }
        RunConfig { load: Load::Open(self.to), ..self.run.clone() }.validate()
    }
}

struct Search<'a> {
    config: &'a SweepConfig,
    points: Vec<Point>,
    wrong: bool,
}

impl Search<'_> {
    fn measure(&mut self, per_second: f64, step: &'static str) -> Result<bool, Error> {
        let load = Load::Open(Rate { millihertz: ((per_second * 1000.0) as u64).max(1) });
        let report = run(&RunConfig {
            load,
            // The keys are there after the first measurement.
            prefill: self.config.run.prefill && self.points.is_empty(),
            ..self.config.run.clone()
        })?;
        let objectives = &self.config.objectives;
        let quantiles_ns: Vec<Option<u64>> =
            objectives.iter().map(|o| quantile_ns(&report.total.response, o.quantile)).collect();
        let kept = quantiles_ns.iter().zip(objectives).all(|(seen_ns, objective)| {
            seen_ns.is_some_and(|ns| u128::from(ns) < objective.limit.as_nanos())
        });
        let passes = kept && report.verdict == Verdict::Ok && report.rate >= per_second * KEPT_MIN;
        self.wrong |= report.verdict == Verdict::Wrong;
        self.points.push(Point {
            offered: per_second,
            achieved: report.rate,
            quantiles_ns,
            verdict: report.verdict,
            passes,
            step,
        });
        Ok(passes)
    }

    /// The highest rate that passed once; `None` if the lowest did not.
    fn find(&mut self) -> Result<Option<f64>, Error> {
        let (mut rate, to) = (self.config.from.per_second(), self.config.to.per_second());
        let (mut passed, mut failed) = (None, None);
        while failed.is_none() && !self.wrong && self.points.len() < SEARCH_MAX {
            if self.measure(rate, "climb")? {
                passed = Some(rate);
                if rate >= to {
                    return Ok(passed);
                }
                rate = (rate * CLIMB).min(to);
            } else {
                failed = Some(rate);
            }
        }
        while let (Some(low), Some(high)) = (passed, failed)
            && high / low - 1.0 > GAP
            && !self.wrong
            && self.points.len() < SEARCH_MAX
        {
            let middle = f64::midpoint(low, high);
            if self.measure(middle, "halve")? {
                passed = Some(middle);
            } else {
                failed = Some(middle);
            }
        }
        Ok(passed)
    }

    /// The highest confirmed rate, and the lowest above it that failed.
    fn confirm(&mut self, found: f64) -> Result<(Option<f64>, Option<f64>), Error> {
        let to = self.config.to.per_second();
        let mut rates: Vec<f64> = CONFIRMED.map(|share| (found * share).min(to)).to_vec();
        rates.dedup();
        let mut order: Vec<usize> =
            (0..rates.len()).flat_map(|rate| vec![rate; self.config.repeats]).collect();
        let mut rng = Rng::new(self.config.run.seed, 0x7377_6565);
        for at in (1..order.len()).rev() {
            order.swap(at, rng.below(at as u64 + 1) as usize);
        }
        let mut repeats: Vec<Vec<Point>> = vec![Vec::new(); rates.len()];
        for index in order {
            self.measure(rates[index], "confirm")?;
            repeats[index].extend(self.points.last().cloned());
            if self.wrong {
                return Ok((None, None));
            }
        }
        let holds = |points: &Vec<Point>| confirmed(points, &self.config.objectives);
        let sustained = (0..rates.len()).take_while(|&index| holds(&repeats[index])).last();
        let next = sustained.map_or(0, |index| index + 1);
        Ok((sustained.map(|index| rates[index]), rates.get(next).copied()))
    }
}

/// Whether a rate keeps the objectives over its repeats.
fn confirmed(points: &[Point], objectives: &[Objective]) -> bool {
    let sound =
        |point: &Point| point.verdict == Verdict::Ok && point.achieved >= point.offered * KEPT_MIN;
    points.iter().all(sound)
        && objectives.iter().enumerate().all(|(at, objective)| {
            let seen: Option<Vec<f64>> =
                points.iter().map(|point| Some(point.quantiles_ns[at]? as f64)).collect();
            seen.and_then(|seen| upper_bound(&seen))
                .is_some_and(|bound_ns| bound_ns < objective.limit.as_nanos() as f64)
        })
}

/// The upper end of the 95 % interval around the mean; `None` for too few numbers.
fn upper_bound(numbers: &[f64]) -> Option<f64> {
    let student = *STUDENT.get(numbers.len().checked_sub(2)?)?;
    let count = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / count;
    let variance = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (count - 1.0);
    Some(mean + student * (variance / count).sqrt())
}

impl SweepReport {
    /// The text report.
    #[must_use]
    pub fn text(&self) -> String {
        let objectives: Vec<String> =
            self.config.objectives.iter().map(ToString::to_string).collect();
        let objectives = objectives.join(", ");
        let mut out = match (self.sustained, self.failed) {
            (Some(rate), Some(failed)) => {
                format!("{rate:.0} to {failed:.0} requests/s at {objectives}\n")
            }
            (Some(rate), None) => format!("at least {rate:.0} requests/s at {objectives}\n"),
            (None, _) => format!("no rate was confirmed at {objectives}\n"),
        };
        out.push_str("\nstep         offered    achieved  passes  verdict     quantiles\n");
        for point in &self.points {
            let quantiles: Vec<String> =
                point.quantiles_ns.iter().map(|&ns| text::time(ns)).collect();
            out += &format!(
                "{:<8}{:>12.1}{:>12.1}  {:<6}  {:<10}  {}\n",
                point.step,
                point.offered,
                point.achieved,
                if point.passes { "yes" } else { "no" },
                point.verdict.name(),
                quantiles.join(" ")
            );
        }
        if self.wrong {
            out.push_str("verdict     WRONG: a value was wrong, see the same load with run\n");
        }
        out
    }

    /// The machine-readable report.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let points: Vec<serde_json::Value> = self
            .points
            .iter()
            .map(|point| {
                serde_json::json!({
                    "step": point.step,
                    "offered": point.offered,
                    "achieved": point.achieved,
                    "quantiles_ns": point.quantiles_ns,
                    "verdict": point.verdict.name(),
                    "passes": point.passes,
                })
            })
            .collect();
        let objectives: Vec<String> =
            self.config.objectives.iter().map(ToString::to_string).collect();
        serde_json::json!({
            "command": "sweep",
            "objectives": objectives,
            "sustained": self.sustained,
            "failed": self.failed,
            "wrong": self.wrong,
            "points": points,
        })
    }

    /// The process exit code.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self.sustained {
            _ if self.wrong => EXIT_WRONG,
            Some(_) => EXIT_OK,
            None => EXIT_OBJECTIVE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objectives_read_back() {
        let objective: Objective = "p99.9<2ms".parse().expect("an objective");
        assert_eq!(objective.limit, Duration::from_millis(2));
        assert!((objective.quantile - 0.999).abs() < 1e-12);
        assert_eq!(objective.to_string(), "p99.9 < 2.00 ms");
        for bad in ["", "p99", "99<1ms", "p0<1ms", "p100<1ms", "p99<0ms", "p99<1"] {
            assert!(bad.parse::<Objective>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_bound_is_students() {
        assert_eq!(upper_bound(&[5.0]), None);
        // Mean 3, deviation 1.5811, five numbers: 3 + 2.776 * 1.5811 / sqrt(5).
        let bound = upper_bound(&[1.0, 2.0, 3.0, 4.0, 5.0]).expect("five");
        assert!((bound - 4.9629).abs() < 1e-3, "{bound}");
        assert_eq!(upper_bound(&[7.0; 10]), Some(7.0));
        assert_eq!(upper_bound(&[7.0; 11]), None, "no table for so many");
    }

    #[test]
    fn one_bad_repeat_confirms_nothing() {
        let point = |ns, verdict| Point {
            offered: 100.0,
            achieved: 100.0,
            quantiles_ns: vec![ns],
            verdict,
            passes: true,
            step: "confirm",
        };
        let objectives = ["p99<1ms".parse().expect("an objective")];
        let good = vec![point(Some(500_000), Verdict::Ok); 3];
        assert!(confirmed(&good, &objectives));
        for bad in [
            point(Some(500_000), Verdict::Invalid),
            point(None, Verdict::Ok),
            point(Some(2_000_000), Verdict::Ok),
        ] {
            assert!(!confirmed(&[good.clone(), vec![bad]].concat(), &objectives));
        }
    }
}
