//! When requests are due: the rate and the arrival process.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::text::{duration_text, parse_duration};
use super::usage;
use crate::error::Error;

/// Highest offered rate in requests per second.
pub const RATE_MAX: u64 = 1_000_000_000;

/// What decides when the next request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Open loop: at the times of a schedule, whatever the server does. The rate is the mean of
    /// the arrivals; a profile replaces it by its steps, a file by its own times.
    Open(Rate),
    /// Closed loop: when an earlier request is answered. Its latencies are not comparable.
    Closed,
}

/// A request rate, exact to a thousandth of a request per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests per 1000 seconds; at least 1.
    pub millihertz: u64,
}

impl Rate {
    /// The rate in requests per second.
    #[must_use]
    pub fn per_second(self) -> f64 {
        self.millihertz as f64 / 1000.0
    }
}

/// How the send times of an open loop are spread around its rate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Arrival {
    /// Evenly.
    #[default]
    Constant,
    /// As a Poisson process: exponential gaps, as of many users who know nothing of each other.
    Poisson,
    /// All within the first `on` of every `on + off`, evenly; the mean rate stays the rate.
    Burst {
        /// Length of a burst.
        on: Duration,
        /// Length of the silence after it.
        off: Duration,
    },
    /// At the times in this file: seconds after the start of the run, a line each, ascending.
    /// Those before the end of the warm-up are not measured.
    File(PathBuf),
}

impl Arrival {
    /// Checks the lengths of a burst.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if let Arrival::Burst { on, off } = self {
            let hour = Duration::from_secs(3600);
            if on.is_zero() || *on > hour || *off > hour {
                return usage(
                    "--arrival burst: ON must be above 0, and both at most 1h".to_owned(),
                );
            }
        }
        Ok(())
    }
}

/// Checks a rate against its limits.
pub(crate) fn check_rate(rate: Rate) -> Result<(), Error> {
    if rate.millihertz == 0 || rate.millihertz > RATE_MAX * 1000 {
        return usage(format!("--rate must be 0.001 to {RATE_MAX} requests per second"));
    }
    Ok(())
}

impl FromStr for Rate {
    type Err = String;

    /// Reads requests per second, with up to three digits after the point; `k` and `m` stand for
    /// a thousand and a million.
    fn from_str(text: &str) -> Result<Rate, String> {
        let bad = || format!("expected requests per second, 0.001 to {RATE_MAX}");
        let (number, unit) = match text.as_bytes().last() {
            Some(b'k') => (&text[..text.len() - 1], 1000),
            Some(b'm') => (&text[..text.len() - 1], 1_000_000),
            _ => (text, 1),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let digits_only = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits_only(whole) || !digits_only(fraction) || fraction.len() > 3 {
            return Err(bad());
        }
        let whole: u64 = whole.parse().map_err(|_| bad())?;
        let thousandths: u64 = format!("{fraction:0<3}").parse().map_err(|_| bad())?;
        let millihertz = whole
            .checked_mul(1000)
            .and_then(|whole| whole.checked_add(thousandths))
            .and_then(|millihertz| millihertz.checked_mul(unit));
        match millihertz {
            Some(millihertz) if millihertz > 0 && millihertz <= RATE_MAX * 1000 => {
                Ok(Rate { millihertz })
            }
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.per_second())
    }
}

impl FromStr for Arrival {
    type Err = String;

    fn from_str(text: &str) -> Result<Arrival, String> {
        let bad = || "expected const, poisson, burst:ON,OFF or file:PATH".to_owned();
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        match (name, rest) {
            ("const", "") => Ok(Arrival::Constant),
            ("poisson", "") => Ok(Arrival::Poisson),
            ("burst", _) => {
                let (on, off) = rest.split_once(',').ok_or_else(bad)?;
                let burst = Arrival::Burst { on: parse_duration(on)?, off: parse_duration(off)? };
                burst.validate().map_err(|error| error.to_string())?;
                Ok(burst)
            }
            ("file", path) if !path.is_empty() => Ok(Arrival::File(path.into())),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Arrival::Constant => f.write_str("const"),
            Arrival::Poisson => f.write_str("poisson"),
            Arrival::Burst { on, off } => {
                write!(f, "burst:{},{}", duration_text(*on), duration_text(*off))
            }
            Arrival::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}
