//! How long keys are.

use std::fmt;
use std::str::FromStr;

use super::{KEY_BYTES_MAX, Weighted, usage};
use crate::error::Error;

/// Location, scale and shape of the generalized extreme value law of the lengths of keys in
/// Facebook's ETC pool (Atikoglu et al., SIGMETRICS 2012, section 5.3).
const ETC: (f64, f64, f64) = (30.7984, 8.20449, 0.078688);

/// How long keys are; the length of a key is a pure function of its number.
#[derive(Debug, Clone, PartialEq)]
pub enum KeySize {
    /// Uniform over a range; both ends are included.
    Range {
        /// Shortest key in bytes.
        bytes_min: usize,
        /// Longest key in bytes.
        bytes_max: usize,
    },
    /// Lengths with weights.
    List(Weighted),
    /// The ETC pool of Facebook: generalized extreme value (30.7984; 8.20449; 0.078688). What is
    /// too short for a prefix and the number of the key is made longer.
    Etc,
}

impl KeySize {
    /// Keys of one length.
    #[must_use]
    pub fn fixed(bytes: usize) -> KeySize {
        KeySize::Range { bytes_min: bytes, bytes_max: bytes }
    }

    /// The length, if all keys have the same.
    #[must_use]
    pub fn one(&self) -> Option<usize> {
        match self {
            KeySize::Range { bytes_min, bytes_max } if bytes_min == bytes_max => Some(*bytes_min),
            _ => None,
        }
    }

    /// The shortest and the longest length that can be drawn, in bytes.
    #[must_use]
    pub fn ends(&self) -> (usize, usize) {
        match self {
            KeySize::Range { bytes_min, bytes_max } => (*bytes_min, *bytes_max),
            KeySize::List(list) => {
                let (min, max) = list.ends();
                (min as usize, max as usize)
            }
            KeySize::Etc => (1, KEY_BYTES_MAX),
        }
    }

    /// The length at `quantile`, from 0 to 1 without the ends.
    #[must_use]
    pub fn at(&self, quantile: f64) -> usize {
        match self {
            KeySize::Range { bytes_min, bytes_max } => {
                bytes_min + (quantile * (bytes_max - bytes_min + 1) as f64) as usize
            }
            KeySize::List(list) => list.at((quantile * list.total() as f64) as u64) as usize,
            KeySize::Etc => {
                let (location, scale, shape) = ETC;
                let drawn = location + scale * ((-quantile.ln()).powf(-shape) - 1.0) / shape;
                drawn.clamp(1.0, KEY_BYTES_MAX as f64) as usize
            }
        }
    }

    /// Checks that every number below `keys` fits into the shortest key, with `lead` bytes before
    /// it.
    pub(crate) fn validate(&self, keys: u64, lead: usize) -> Result<(), Error> {
        let digits = (keys - 1).checked_ilog10().unwrap_or(0) as usize + 1;
        let (min, max) = self.ends();
        // What this one draws too short is made longer.
        let short = min < digits + lead && *self != KeySize::Etc;
        if short || max > KEY_BYTES_MAX || max < min {
            let beside = if lead > 0 { " and a prefix beside that of values" } else { "" };
            return usage(format!(
                "--key-size must be {} (the digits of {keys} keys{beside}) to {KEY_BYTES_MAX}, \
                 not {self}",
                digits + lead
            ));
        }
        Ok(())
    }
}

impl FromStr for KeySize {
    type Err = String;

    fn from_str(text: &str) -> Result<KeySize, String> {
        let bad = || "expected BYTES, MIN..MAX, list:BYTES=WEIGHT,... or etc".to_owned();
        let bytes = |text: &str| text.trim().parse::<usize>().map_err(|_| bad());
        if text == "etc" {
            return Ok(KeySize::Etc);
        }
        let size = match text.strip_prefix("list:") {
            Some(list) => {
                let mut entries = Vec::new();
                for part in list.split(',') {
                    let (value, weight) = part.split_once('=').ok_or_else(bad)?;
                    entries.push((bytes(value)? as u64, bytes(weight)? as u64));
                }
                KeySize::List(Weighted::new(&entries, text)?)
            }
            None => {
                let (min, max) = text.split_once("..").unwrap_or((text, text));
                KeySize::Range { bytes_min: bytes(min)?, bytes_max: bytes(max)? }
            }
        };
        match size.ends() {
            (min, max) if min >= 1 && min <= max && max <= KEY_BYTES_MAX => Ok(size),
            _ => Err(format!("lengths must be 1 to {KEY_BYTES_MAX}")),
        }
    }
}

impl fmt::Display for KeySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySize::Range { bytes_min, bytes_max } if bytes_min == bytes_max => {
                write!(f, "{bytes_min}")
            }
            KeySize::Range { bytes_min, bytes_max } => write!(f, "{bytes_min}..{bytes_max}"),
            KeySize::List(list) => f.write_str(list.text()),
            KeySize::Etc => f.write_str("etc"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_law() {
        let range: KeySize = "16..47".parse().expect("a range");
        assert_eq!((range.at(0.001), range.at(0.5), range.at(0.999)), (16, 32, 47));
        let list: KeySize = "list:20=3,40=1".parse().expect("a list");
        assert_eq!((list.at(0.74), list.at(0.76)), (20, 40));
        // The median of the law is location + scale * (ln(2)^-shape - 1) / shape = 33.85.
        assert_eq!(KeySize::Etc.at(0.5), 33);
        // Its mean is location + scale * (gamma(1 - shape) - 1) / shape, about 36.2; whole bytes
        // are cut off.
        let mean = (0..10_000).map(|i| KeySize::Etc.at((f64::from(i) + 0.5) / 1e4)).sum::<usize>();
        assert!((35.2..36.2).contains(&(mean as f64 / 1e4)), "{mean}");
    }

    #[test]
    fn numbers_need_room() {
        let fits = |text: &str, keys, lead| {
            text.parse::<KeySize>().expect("a size").validate(keys, lead).is_ok()
        };
        assert!(fits("1", 10, 0) && !fits("1", 11, 0) && fits("1", 1, 0));
        assert!(fits("10..20", 1 << 32, 0) && !fits("9..20", 1 << 32, 0));
        assert!(fits("8", 10_000, 4) && !fits("7", 10_000, 4) && fits("etc", 1 << 32, 4));
    }
}
