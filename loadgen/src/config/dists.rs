//! Distributions that a flag can name: popularity of keys, lengths of values, lifetimes.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::text::{duration_text, parse_duration};
use super::{MEMCACHED_TTL_S_MAX, Protocol, VALUE_BYTES_MAX, usage};
use crate::error::Error;

/// Draws of an unbounded distribution of lengths end here: the usual limit of memcached.
pub const DRAWN_BYTES_MAX: usize = 1 << 20;
/// Most entries of a list or of a histogram file.
pub const LIST_MAX: usize = 100_000;
/// Longest lifetime.
const TTL_S_MAX: u64 = 100 * 366 * 24 * 3600;

/// How popular the keys are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum KeyDist {
    /// All keys alike.
    Uniform,
    /// Zipf with this exponent (`>= 0`), the ranks scrambled over the key space.
    Zipf(f64),
    /// A share of the keys gets a share of the requests; alike within and outside.
    Hotspot {
        /// Share of the keys that is hot, above 0 and below 1.
        keys: f64,
        /// Share of the requests that goes there, 0 to 1.
        requests: f64,
    },
    /// Writes go through the keys in turn, and reads prefer those written last, by Zipf.
    Latest(f64),
    /// A normal distribution around the middle of the key numbers; draws outside are repeated.
    Gauss(f64),
    /// Every key in turn, from the first to the last and again.
    Seq,
    /// Zipf whose popular keys are others after every period.
    Shift {
        /// The exponent.
        s: f64,
        /// The period.
        every: Duration,
    },
    /// Zipf, with a share of the requests walking through all keys in turn.
    Scan {
        /// The exponent.
        s: f64,
        /// Share of the walk, 0 to 1.
        share: f64,
    },
}

impl KeyDist {
    /// Checks the parameters.
    pub(crate) fn validate(self) -> Result<(), Error> {
        let exponent = |s: f64| (0.0..=100.0).contains(&s);
        let share = |share: f64| (0.0..=1.0).contains(&share);
        let sound = match self {
            KeyDist::Uniform | KeyDist::Seq => true,
            KeyDist::Zipf(s) | KeyDist::Latest(s) => exponent(s),
            KeyDist::Hotspot { keys, requests } => keys > 0.0 && keys < 1.0 && share(requests),
            KeyDist::Gauss(sd) => (1e-6..=100.0).contains(&sd),
            KeyDist::Shift { s, every } => {
                exponent(s) && (Duration::from_millis(1)..=LONG).contains(&every)
            }
            KeyDist::Scan { s, share: part } => exponent(s) && share(part),
        };
        if sound {
            return Ok(());
        }
        usage(format!(
            "--key-dist {self}: exponents must be 0 to 100, shares 0 to 1, a deviation 0.000001 \
             to 100 and a period 1ms to 366 days"
        ))
    }
}

const LONG: Duration = Duration::from_secs(366 * 24 * 3600);

impl FromStr for KeyDist {
    type Err = String;

    fn from_str(text: &str) -> Result<KeyDist, String> {
        let bad = || {
            "expected uniform, zipf:S, hotspot:KEYS,REQUESTS, latest:S, gauss:SD, seq, \
             shift:zipf:S,every=TIME or scan:S,SHARE"
                .to_owned()
        };
        let number = |text: &str| text.trim().parse::<f64>().map_err(|_| bad());
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let pair = || rest.split_once(',').ok_or_else(bad);
        let dist = match name {
            "uniform" if rest.is_empty() => KeyDist::Uniform,
            "seq" if rest.is_empty() => KeyDist::Seq,
            "zipf" => KeyDist::Zipf(number(rest)?),
            "latest" => KeyDist::Latest(number(rest)?),
            "gauss" => KeyDist::Gauss(number(rest)?),
            "hotspot" => {
                let (keys, requests) = pair()?;
                KeyDist::Hotspot { keys: number(keys)?, requests: number(requests)? }
            }
            "scan" => {
                let (s, share) = pair()?;
                KeyDist::Scan { s: number(s)?, share: number(share)? }
            }
            "shift" => {
                let (law, every) = pair()?;
                let s = number(law.strip_prefix("zipf:").ok_or_else(bad)?)?;
                let every = parse_duration(every.strip_prefix("every=").ok_or_else(bad)?)?;
                KeyDist::Shift { s, every }
            }
            _ => return Err(bad()),
        };
        dist.validate().map_err(|error| error.to_string())?;
        Ok(dist)
    }
}

impl fmt::Display for KeyDist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyDist::Uniform => f.write_str("uniform"),
            KeyDist::Zipf(s) => write!(f, "zipf:{s}"),
            KeyDist::Hotspot { keys, requests } => write!(f, "hotspot:{keys},{requests}"),
            KeyDist::Latest(s) => write!(f, "latest:{s}"),
            KeyDist::Gauss(sd) => write!(f, "gauss:{sd}"),
            KeyDist::Seq => f.write_str("seq"),
            KeyDist::Shift { s, every } => {
                write!(f, "shift:zipf:{s},every={}", duration_text(*every))
            }
            KeyDist::Scan { s, share } => write!(f, "scan:{s},{share}"),
        }
    }
}

/// Values with weights, as a list or a histogram file gives them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weighted {
    /// Every value with the sum of the weights up to it, ascending.
    cumulated: Arc<[(u64, u64)]>,
    /// The text form.
    text: Arc<str>,
}

impl Weighted {
    /// A list of values with weights; `text` is what a report prints for it.
    ///
    /// # Errors
    /// What is wrong with the list.
    pub fn new(entries: &[(u64, u64)], text: &str) -> Result<Weighted, String> {
        if entries.is_empty() || entries.len() > LIST_MAX {
            return Err(format!("expected 1 to {LIST_MAX} entries"));
        }
        let mut total = 0_u64;
        let mut cumulated = Vec::with_capacity(entries.len());
        for &(value, weight) in entries {
            total = total.checked_add(weight).ok_or("the weights are too large")?;
            if weight > 0 {
                cumulated.push((value, total));
            }
        }
        if total == 0 {
            return Err("at least one weight must be above 0".to_owned());
        }
        Ok(Weighted { cumulated: cumulated.into(), text: text.into() })
    }

    /// The sum of all weights, above 0.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.cumulated.last().map_or(1, |&(_, total)| total)
    }

    /// The value at `point`, which is below [`Weighted::total`].
    #[must_use]
    pub fn at(&self, point: u64) -> u64 {
        let index = self.cumulated.partition_point(|&(_, sum)| sum <= point);
        self.cumulated[index.min(self.cumulated.len() - 1)].0
    }

    /// The text form.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The smallest and the largest value.
    #[must_use]
    pub fn ends(&self) -> (u64, u64) {
        let values = || self.cumulated.iter().map(|&(value, _)| value);
        (values().min().unwrap_or(0), values().max().unwrap_or(0))
    }

    /// Reads lines of a value and a weight, with `#` before comments.
    fn from_file(path: &str, text: &str) -> Result<Weighted, String> {
        let content = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read {path}: {error}"))?;
        let mut entries = Vec::new();
        for (number, line) in content.lines().enumerate() {
            let line = line.split('#').next().unwrap_or("").trim();
            if line.is_empty() {
                continue;
            }
            let bad = || format!("{path}:{}: expected BYTES WEIGHT", number + 1);
            let mut words = line.split_whitespace();
            let mut word = || words.next().and_then(|w| w.parse().ok()).ok_or_else(bad);
            entries.push((word()?, word()?));
        }
        Weighted::new(&entries, text)
    }
}

/// How long values are.
#[derive(Debug, Clone, PartialEq)]
pub enum ValueSize {
    /// Uniform over a range; both ends are included.
    Range {
        /// Shortest value in bytes, at least 1.
        bytes_min: usize,
        /// Longest value in bytes.
        bytes_max: usize,
    },
    /// Lognormal.
    Lognormal {
        /// Median in bytes.
        median: f64,
        /// Standard deviation of the logarithm.
        sigma: f64,
    },
    /// Pareto.
    Pareto {
        /// Shortest value in bytes.
        min: f64,
        /// The tail index: smaller is heavier.
        alpha: f64,
    },
    /// Lengths with weights.
    List(Weighted),
    /// The ETC pool of Facebook (Atikoglu et al., SIGMETRICS 2012, table of section 5.3): lengths
    /// up to 14 by their shares, longer ones generalized Pareto (15; 214.476; 0.348238).
    Etc,
}

impl ValueSize {
    /// Values of one length.
    #[must_use]
    pub fn fixed(bytes: usize) -> ValueSize {
        ValueSize::range(bytes, bytes)
    }

    /// Values of all lengths in a range alike.
    #[must_use]
    pub fn range(bytes_min: usize, bytes_max: usize) -> ValueSize {
        ValueSize::Range { bytes_min, bytes_max }
    }

    /// The shortest and the longest value that can be drawn, in bytes.
    #[must_use]
    pub fn ends(&self) -> (usize, usize) {
        match self {
            ValueSize::Range { bytes_min, bytes_max } => (*bytes_min, *bytes_max),
            ValueSize::Lognormal { .. } | ValueSize::Etc => (1, DRAWN_BYTES_MAX),
            ValueSize::Pareto { min, .. } => (min.floor().max(1.0) as usize, DRAWN_BYTES_MAX),
            ValueSize::List(list) => {
                let (min, max) = list.ends();
                (min as usize, max as usize)
            }
        }
    }

    /// Checks the lengths that can come.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let (min, max) = self.ends();
        super::in_range("--value-size", min, 1, VALUE_BYTES_MAX)?;
        super::in_range("--value-size", max, min, VALUE_BYTES_MAX)?;
        let bytes = |bytes: f64| (1.0..=DRAWN_BYTES_MAX as f64).contains(&bytes);
        let sound = match self {
            ValueSize::Lognormal { median, sigma } => {
                bytes(*median) && (0.0..=20.0).contains(sigma)
            }
            ValueSize::Pareto { min, alpha } => bytes(*min) && (0.01..=1000.0).contains(alpha),
            _ => true,
        };
        if sound {
            return Ok(());
        }
        usage(format!(
            "--value-size {self}: lengths must be 1 to {DRAWN_BYTES_MAX}, sigma 0 to 20, alpha \
             0.01 to 1000"
        ))
    }
}

impl FromStr for ValueSize {
    type Err = String;

    fn from_str(text: &str) -> Result<ValueSize, String> {
        let bad = || {
            "expected BYTES, MIN..MAX, fixed:BYTES, range:MIN,MAX, lognormal:MEDIAN,SIGMA, \
             pareto:MIN,ALPHA, list:BYTES=WEIGHT,..., etc or hist:FILE"
                .to_owned()
        };
        let bytes = |text: &str| text.trim().parse::<usize>().map_err(|_| bad());
        let number = |text: &str| text.trim().parse::<f64>().map_err(|_| bad());
        let (name, rest) = text.split_once(':').unwrap_or(("", text));
        let pair = || rest.split_once(',').ok_or_else(bad);
        let size = match name {
            "" if rest == "etc" => ValueSize::Etc,
            "" => {
                let (min, max) = rest.split_once("..").unwrap_or((rest, rest));
                ValueSize::range(bytes(min)?, bytes(max)?)
            }
            "fixed" => ValueSize::fixed(bytes(rest)?),
            "range" => ValueSize::range(bytes(pair()?.0)?, bytes(pair()?.1)?),
            "lognormal" => {
                ValueSize::Lognormal { median: number(pair()?.0)?, sigma: number(pair()?.1)? }
            }
            "pareto" => ValueSize::Pareto { min: number(pair()?.0)?, alpha: number(pair()?.1)? },
            "list" => {
                let mut entries = Vec::new();
                for part in rest.split(',') {
                    let (value, weight) = part.split_once('=').ok_or_else(bad)?;
                    entries.push((bytes(value)? as u64, bytes(weight)? as u64));
                }
                ValueSize::List(Weighted::new(&entries, text)?)
            }
            "hist" => ValueSize::List(Weighted::from_file(rest, text)?),
            _ => return Err(bad()),
        };
        size.validate().map_err(|error| error.to_string())?;
        Ok(size)
    }
}

impl fmt::Display for ValueSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueSize::Range { bytes_min, bytes_max } if bytes_min == bytes_max => {
                write!(f, "{bytes_min}")
            }
            ValueSize::Range { bytes_min, bytes_max } => write!(f, "{bytes_min}..{bytes_max}"),
            ValueSize::Lognormal { median, sigma } => write!(f, "lognormal:{median},{sigma}"),
            ValueSize::Pareto { min, alpha } => write!(f, "pareto:{min},{alpha}"),
            ValueSize::List(list) => f.write_str(&list.text),
            ValueSize::Etc => f.write_str("etc"),
        }
    }
}

/// How long values live.
#[derive(Debug, Clone, PartialEq)]
pub enum Ttl {
    /// Uniform over a range; both ends are included.
    Range {
        /// Shortest lifetime.
        min: Duration,
        /// Longest lifetime.
        max: Duration,
    },
    /// Exponential with this mean, at least a millisecond and at most ten times the mean.
    Exponential(Duration),
    /// Lifetimes in milliseconds with weights.
    List(Weighted),
}

impl Ttl {
    /// One lifetime for all values.
    #[must_use]
    pub fn fixed(ttl: Duration) -> Ttl {
        Ttl::Range { min: ttl, max: ttl }
    }

    /// The shortest and the longest lifetime that can be drawn, in milliseconds.
    #[must_use]
    pub fn ends_ms(&self) -> (u64, u64) {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        match self {
            Ttl::Range { min, max } => (ms(*min), ms(*max)),
            Ttl::Exponential(mean) => (1, ms(*mean).saturating_mul(10)),
            Ttl::List(list) => list.ends(),
        }
    }

    /// Checks the lifetimes against what the protocol can say.
    pub(crate) fn validate(&self, protocol: Protocol) -> Result<(), Error> {
        let (min_ms, max_ms) = self.ends_ms();
        let exact = match self {
            Ttl::Range { min, max } => {
                min.as_nanos().is_multiple_of(1_000_000) && max.as_nanos().is_multiple_of(1_000_000)
            }
            Ttl::Exponential(_) | Ttl::List(_) => true,
        };
        if min_ms == 0 || max_ms < min_ms || !exact {
            return usage("--ttl must be a whole number of milliseconds above 0".to_owned());
        }
        if max_ms > TTL_S_MAX * 1000 {
            return usage("--ttl is limited to 100 years".to_owned());
        }
        if !protocol.is_memcached() {
            return Ok(());
        }
        let whole = match self {
            Ttl::Range { min, max } => min != max || min_ms.is_multiple_of(1000),
            Ttl::Exponential(_) => true,
            Ttl::List(list) => list.cumulated.iter().all(|(ms, _)| ms.is_multiple_of(1000)),
        };
        if !whole || max_ms > MEMCACHED_TTL_S_MAX * 1000 {
            return usage("--ttl for memcached must be whole seconds, at most 30 days".to_owned());
        }
        Ok(())
    }
}

impl FromStr for Ttl {
    type Err = String;

    fn from_str(text: &str) -> Result<Ttl, String> {
        let bad = || "expected TIME, MIN..MAX, exp:MEAN or list:TIME=WEIGHT,...".to_owned();
        if let Some(mean) = text.strip_prefix("exp:") {
            return Ok(Ttl::Exponential(parse_duration(mean)?));
        }
        if let Some(list) = text.strip_prefix("list:") {
            let mut entries = Vec::new();
            for part in list.split(',') {
                let (ttl, weight) = part.split_once('=').ok_or_else(bad)?;
                let ms = u64::try_from(parse_duration(ttl)?.as_millis()).map_err(|_| bad())?;
                entries.push((ms, weight.trim().parse().map_err(|_| bad())?));
            }
            return Ok(Ttl::List(Weighted::new(&entries, text)?));
        }
        let (min, max) = text.split_once("..").unwrap_or((text, text));
        Ok(Ttl::Range { min: parse_duration(min)?, max: parse_duration(max)? })
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ttl::Range { min, max } if min == max => f.write_str(&duration_text(*min)),
            Ttl::Range { min, max } => {
                write!(f, "{}..{}", duration_text(*min), duration_text(*max))
            }
            Ttl::Exponential(mean) => write!(f, "exp:{}", duration_text(*mean)),
            Ttl::List(list) => f.write_str(&list.text),
        }
    }
}
