//! Rates that change in the course of a run.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::load::check_rate;
use super::text::{duration_text, parse_duration};
use super::{Rate, usage};
use crate::error::Error;

/// Most steps of a profile.
pub const STEPS_MAX: usize = 1000;
/// Longest step, and longest period.
const LONG: Duration = Duration::from_secs(366 * 24 * 3600);
/// Shortest period of a sine.
const PERIOD_MIN: Duration = Duration::from_millis(10);

/// A part of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The rate during the step.
    pub rate: Rate,
    /// Its length.
    pub length: Duration,
}

/// How the rate changes in the measured phase.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Profile {
    /// Not at all.
    #[default]
    Level,
    /// By steps, one after another; the warm-up has the rate of the first.
    Steps(Vec<Step>),
    /// As a sine: at `mean` and rising when the measured phase begins, `amplitude` above it a
    /// quarter of a period later. The warm-up is the part of the wave before that.
    Sine {
        /// The mean rate.
        mean: Rate,
        /// The greatest distance from it, at most the mean.
        amplitude: Rate,
        /// The time of one wave.
        period: Duration,
    },
}

impl Profile {
    /// The time that the profile takes by itself: all steps together.
    #[must_use]
    pub fn length(&self) -> Option<Duration> {
        match self {
            Profile::Steps(steps) => Some(steps.iter().map(|step| step.length).sum()),
            Profile::Level | Profile::Sine { .. } => None,
        }
    }

    /// The mean rate, if the profile decides it.
    #[must_use]
    pub fn mean(&self) -> Option<Rate> {
        match self {
            Profile::Level => None,
            Profile::Sine { mean, .. } => Some(*mean),
            Profile::Steps(steps) => {
                let length_ns = self.length()?.as_nanos();
                let requests: u128 = steps
                    .iter()
                    .map(|step| u128::from(step.rate.millihertz) * step.length.as_nanos())
                    .sum();
                let millihertz = u64::try_from(requests.checked_div(length_ns)?).ok()?;
                Some(Rate { millihertz: millihertz.max(1) })
            }
        }
    }

    /// Checks rates and lengths.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        match self {
            Profile::Level => Ok(()),
            Profile::Steps(steps) => {
                if steps.is_empty() || steps.len() > STEPS_MAX {
                    return usage(format!("--profile must have 1 to {STEPS_MAX} steps"));
                }
                for step in steps {
                    check_rate(step.rate)?;
                    if step.length.is_zero() || step.length > LONG {
                        return usage(
                            "--profile: every step must last 1 ns to 366 days".to_owned(),
                        );
                    }
                }
                Ok(())
            }
            Profile::Sine { mean, amplitude, period } => {
                check_rate(*mean)?;
                if amplitude.millihertz > mean.millihertz {
                    return usage("--profile sine: more amplitude than mean rate".to_owned());
                }
                if !(PERIOD_MIN..=LONG).contains(period) {
                    return usage(
                        "--profile sine: the period must be 10 ms to 366 days".to_owned(),
                    );
                }
                Ok(())
            }
        }
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Profile, String> {
        let bad =
            || "expected steps:RATE@TIME,RATE@TIME,... or sine:MEAN,AMPLITUDE@PERIOD".to_owned();
        let profile = match text.split_once(':').ok_or_else(bad)? {
            ("steps", steps) => {
                let step = |part: &str| {
                    let (rate, length) = part.split_once('@').ok_or_else(bad)?;
                    Ok(Step { rate: rate.parse()?, length: parse_duration(length)? })
                };
                Profile::Steps(steps.split(',').map(step).collect::<Result<_, String>>()?)
            }
            ("sine", wave) => {
                let (rates, period) = wave.split_once('@').ok_or_else(bad)?;
                let (mean, amplitude) = rates.split_once(',').ok_or_else(bad)?;
                Profile::Sine {
                    mean: mean.parse()?,
                    amplitude: amplitude.parse()?,
                    period: parse_duration(period)?,
                }
            }
            _ => return Err(bad()),
        };
        profile.validate().map_err(|error| error.to_string())?;
        Ok(profile)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Profile::Level => f.write_str("level"),
            Profile::Sine { mean, amplitude, period } => {
                write!(f, "sine:{mean},{amplitude}@{}", duration_text(*period))
            }
            Profile::Steps(steps) => {
                for (at, step) in steps.iter().enumerate() {
                    let lead = if at == 0 { "steps:" } else { "," };
                    write!(f, "{lead}{}@{}", step.rate, duration_text(step.length))?;
                }
                Ok(())
            }
        }
    }
}
