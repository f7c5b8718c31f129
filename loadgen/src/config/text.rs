//! The text forms of the options: what a flag says, and what a report prints for it.
//!
//! Every form that is printed can be read back.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{KeyDist, Mix, Pace, Protocol, RATE_MAX, Rate, ValueSize, Verify, check_value_size};

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Protocol, String> {
        match text {
            "resp" => Ok(Protocol::Resp),
            "resp3" => Ok(Protocol::Resp3),
            "memcached" => Ok(Protocol::Memcached),
            _ => Err("expected resp, resp3 or memcached".to_owned()),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Resp => "resp",
            Protocol::Resp3 => "resp3",
            Protocol::Memcached => "memcached",
        })
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        let bad = || format!("expected requests per second, 0.001 to {RATE_MAX}");
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits_only = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits_only(whole) || !digits_only(fraction) || fraction.len() > 3 {
            return Err(bad());
        }
        let whole: u64 = whole.parse().map_err(|_| bad())?;
        let thousandths: u64 = format!("{fraction:0<3}").parse().map_err(|_| bad())?;
        let millihertz = whole.checked_mul(1000).and_then(|m| m.checked_add(thousandths));
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

impl FromStr for KeyDist {
    type Err = String;

    fn from_str(text: &str) -> Result<KeyDist, String> {
        if text == "uniform" {
            return Ok(KeyDist::Uniform);
        }
        let exponent = text.strip_prefix("zipf:").and_then(|s| s.parse::<f64>().ok());
        match exponent {
            Some(s) if (0.0..=100.0).contains(&s) => Ok(KeyDist::Zipf(s)),
            _ => Err("expected uniform or zipf:S with S from 0 to 100".to_owned()),
        }
    }
}

impl fmt::Display for KeyDist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyDist::Uniform => f.write_str("uniform"),
            KeyDist::Zipf(s) => write!(f, "zipf:{s}"),
        }
    }
}

impl FromStr for ValueSize {
    type Err = String;

    fn from_str(text: &str) -> Result<ValueSize, String> {
        let bad = || "expected BYTES or MIN..MAX".to_owned();
        let (min, max) = text.split_once("..").unwrap_or((text, text));
        let size = ValueSize {
            bytes_min: min.parse().map_err(|_| bad())?,
            bytes_max: max.parse().map_err(|_| bad())?,
        };
        check_value_size(size).map_err(|error| error.to_string())?;
        Ok(size)
    }
}

impl fmt::Display for ValueSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bytes_min == self.bytes_max {
            write!(f, "{}", self.bytes_min)
        } else {
            write!(f, "{}..{}", self.bytes_min, self.bytes_max)
        }
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Mix, String> {
        let mut mix = Mix { get: 0, set: 0, delete: 0 };
        for part in text.split(',') {
            let bad = || format!("expected get=9,set=1,delete=0, not '{part}'");
            let (name, weight) = part.split_once('=').ok_or_else(bad)?;
            let weight: u32 = weight.trim().parse().map_err(|_| bad())?;
            let slot = match name.trim() {
                "get" => &mut mix.get,
                "set" => &mut mix.set,
                "delete" => &mut mix.delete,
                _ => return Err(bad()),
            };
            *slot = weight;
        }
        if (mix.get, mix.set, mix.delete) == (0, 0, 0) {
            return Err("at least one operation needs a weight above 0".to_owned());
        }
        Ok(mix)
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "get={},set={},delete={}", self.get, self.set, self.delete)
    }
}

impl FromStr for Verify {
    type Err = String;

    fn from_str(text: &str) -> Result<Verify, String> {
        match text {
            "full" => Ok(Verify::Full),
            "header" => Ok(Verify::Header),
            "off" => Ok(Verify::Off),
            _ => Err("expected full, header or off".to_owned()),
        }
    }
}

impl fmt::Display for Verify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verify::Full => "full",
            Verify::Header => "header",
            Verify::Off => "off",
        })
    }
}

impl FromStr for Pace {
    type Err = String;

    fn from_str(text: &str) -> Result<Pace, String> {
        match text {
            "auto" => Ok(Pace::Auto),
            "spin" => Ok(Pace::Spin),
            "hybrid" => Ok(Pace::Hybrid),
            _ => Err("expected auto, spin or hybrid".to_owned()),
        }
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pace::Auto => "auto",
            Pace::Spin => "spin",
            Pace::Hybrid => "hybrid",
        })
    }
}

/// Reads a length of time: a number followed by `us`, `ms`, `s`, `m` or `h`, for instance `1.5s`.
///
/// # Errors
/// A sentence that says what was expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("expected a time such as 10s, 500ms or 1m, not '{text}'");
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(bad)?;
    let (number, unit) = text.split_at(unit_at);
    let seconds_per_unit = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(bad()),
    };
    let number: f64 = number.trim().parse().map_err(|_| bad())?;
    Duration::try_from_secs_f64(number * seconds_per_unit).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads_back<T>(texts: &[&str])
    where
        T: FromStr<Err = String> + fmt::Display + PartialEq + fmt::Debug,
    {
        for text in texts {
            let value: T = text.parse().expect("a good text");
            assert_eq!(value.to_string(), *text);
        }
    }

    fn refuses<T>(texts: &[&str])
    where
        T: FromStr<Err = String> + fmt::Debug,
    {
        for text in texts {
            assert!(text.parse::<T>().is_err(), "{text}: {:?}", text.parse::<T>());
        }
    }

    #[test]
    fn texts_read_back() {
        reads_back::<Protocol>(&["resp", "resp3", "memcached"]);
        reads_back::<Rate>(&["60000", "0.5", "0.001", "1000000000"]);
        reads_back::<KeyDist>(&["uniform", "zipf:0.99", "zipf:0"]);
        reads_back::<ValueSize>(&["64", "64..1024"]);
        reads_back::<Mix>(&["get=9,set=1,delete=0", "get=0,set=0,delete=3"]);
        reads_back::<Verify>(&["full", "header", "off"]);
        reads_back::<Pace>(&["auto", "spin", "hybrid"]);
        assert_eq!("get=9,set=1".parse(), Ok(Mix { get: 9, set: 1, delete: 0 }));
        assert_eq!("64..64".parse(), Ok(ValueSize { bytes_min: 64, bytes_max: 64 }));
    }

    #[test]
    fn bad_texts_are_refused() {
        refuses::<Protocol>(&["", "RESP", "http"]);
        refuses::<Rate>(&["", "0", "-1", "1e3", "0.0001", ".", "1.", "1000000001", "99999999999"]);
        refuses::<KeyDist>(&["", "zipf", "zipf:", "zipf:-1", "zipf:nan", "zipf:101"]);
        refuses::<ValueSize>(&["", "0", "9..8", "1..", "..1", "x"]);
        refuses::<Mix>(&["", "get", "get=", "get=x", "put=1", "get=0", "get=1,"]);
        refuses::<Verify>(&["", "all"]);
        refuses::<Pace>(&["", "sleep"]);
    }

    #[test]
    fn durations_have_units() {
        let ms = Duration::from_millis;
        for (text, expected) in
            [("10s", ms(10_000)), ("500ms", ms(500)), ("1.5s", ms(1500)), ("1m", ms(60_000))]
        {
            assert_eq!(parse_duration(text), Ok(expected));
        }
        assert_eq!(parse_duration("250us"), Ok(Duration::from_micros(250)));
        for bad in ["", "10", "s", "-1s", "1d", "nans", "1e30s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
