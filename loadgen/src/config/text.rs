//! The text forms of the options: what a flag says, and what a report prints for it.
//!
//! Every form that is printed can be read back.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{Guards, MULTIGET_MAX, Mix, Multiget, Pace, Protocol, Steer, Verify};

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Protocol, String> {
        match text {
            "resp" => Ok(Protocol::Resp),
            "resp3" => Ok(Protocol::Resp3),
            "memcached" => Ok(Protocol::Memcached),
            "meta" => Ok(Protocol::Meta),
            _ => Err("expected resp, resp3, memcached or meta".to_owned()),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Resp => "resp",
            Protocol::Resp3 => "resp3",
            Protocol::Memcached => "memcached",
            Protocol::Meta => "meta",
        })
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Mix, String> {
        let mut mix = Mix::default();
        for part in text.split(',') {
            let bad = || format!("expected get=9,set=1,delete=0,touch=0,incr=0, not '{part}'");
            let (name, weight) = part.split_once('=').ok_or_else(bad)?;
            let weight: u32 = weight.trim().parse().map_err(|_| bad())?;
            let slot = match name.trim() {
                "get" => &mut mix.get,
                "set" => &mut mix.set,
                "delete" => &mut mix.delete,
                "touch" => &mut mix.touch,
                "incr" => &mut mix.incr,
                _ => return Err(bad()),
            };
            *slot = weight;
        }
        if mix.total() == 0 {
            return Err("at least one operation needs a weight above 0".to_owned());
        }
        Ok(mix)
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "get={},set={},delete={}", self.get, self.set, self.delete)?;
        for (name, weight) in [("touch", self.touch), ("incr", self.incr)] {
            if weight > 0 {
                write!(f, ",{name}={weight}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Multiget {
    type Err = String;

    fn from_str(text: &str) -> Result<Multiget, String> {
        let bad = || format!("expected KEYS or MIN..MAX, 1 to {MULTIGET_MAX}");
        let (min, max) = text.split_once("..").unwrap_or((text, text));
        let keys_min: usize = min.parse().map_err(|_| bad())?;
        let keys_max: usize = max.parse().map_err(|_| bad())?;
        if keys_min == 0 || keys_max < keys_min || keys_max > MULTIGET_MAX {
            return Err(bad());
        }
        Ok(Multiget { keys_min, keys_max })
    }
}

impl fmt::Display for Multiget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.keys_min == self.keys_max {
            write!(f, "{}", self.keys_min)
        } else {
            write!(f, "{}..{}", self.keys_min, self.keys_max)
        }
    }
}

impl FromStr for Steer {
    type Err = String;

    fn from_str(text: &str) -> Result<Steer, String> {
        match text {
            "none" => Ok(Steer::None),
            "source-port" => Ok(Steer::SourcePort),
            "core-ports" => Ok(Steer::CorePorts),
            _ => Err("expected none, source-port or core-ports".to_owned()),
        }
    }
}

impl fmt::Display for Steer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Steer::None => "none",
            Steer::SourcePort => "source-port",
            Steer::CorePorts => "core-ports",
        })
    }
}

impl FromStr for Guards {
    type Err = String;

    fn from_str(text: &str) -> Result<Guards, String> {
        match text {
            "strict" => Ok(Guards::Strict),
            "lenient" => Ok(Guards::Lenient),
            _ => Err("expected strict or lenient".to_owned()),
        }
    }
}

impl fmt::Display for Guards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Guards::Strict => "strict",
            Guards::Lenient => "lenient",
        })
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

/// A time in the form that [`parse_duration`] reads, in the largest unit without a remainder.
pub(crate) fn duration_text(time: Duration) -> String {
    let ns = time.as_nanos();
    for (unit_ns, unit) in
        [(3_600_000_000_000, "h"), (60_000_000_000, "m"), (1_000_000_000, "s"), (1_000_000, "ms")]
    {
        if ns > 0 && ns.is_multiple_of(unit_ns) {
            return format!("{}{unit}", ns / unit_ns);
        }
    }
    format!("{}us", ns as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::super::{Arrival, KeyDist, Preset, Profile, Rate, Ttl, ValueSize};
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
        reads_back::<Protocol>(&["resp", "resp3", "memcached", "meta"]);
        reads_back::<Rate>(&["60000", "0.5", "0.001", "1000000000"]);
        reads_back::<Arrival>(&["const", "poisson", "burst:10ms,1s", "file:/tmp/x"]);
        reads_back::<Profile>(&["steps:10000@30s,50000.5@1m", "sine:20000,5000.5@1m"]);
        reads_back::<KeyDist>(&["uniform", "zipf:0.99", "zipf:0", "hotspot:0.1,0.9", "seq"]);
        reads_back::<KeyDist>(&["latest:0.99", "gauss:0.1", "shift:zipf:1.2,every=10s"]);
        reads_back::<KeyDist>(&["scan:0.99,0.2"]);
        reads_back::<ValueSize>(&["64", "64..1024", "lognormal:250,0.7", "pareto:16,1.5"]);
        reads_back::<ValueSize>(&["etc", "list:64=9,1024=1"]);
        reads_back::<Ttl>(&["90s", "1500ms", "1s..1m", "exp:10s", "list:1s=1,1h=2"]);
        reads_back::<Multiget>(&["1", "2..8"]);
        reads_back::<Steer>(&["none", "source-port", "core-ports"]);
        reads_back::<Guards>(&["strict", "lenient"]);
        reads_back::<Preset>(&Preset::ALL.map(|(name, _)| name));
        reads_back::<Mix>(&["get=9,set=1,delete=0", "get=0,set=0,delete=3,touch=7,incr=2"]);
        reads_back::<Verify>(&["full", "header", "off"]);
        reads_back::<Pace>(&["auto", "spin", "hybrid"]);
        assert_eq!("get=9,set=1".parse(), Ok(Mix { get: 9, set: 1, ..Mix::default() }));
        assert_eq!("64..64".parse(), Ok(ValueSize::fixed(64)));
        assert_eq!("range:1,9".parse(), Ok(ValueSize::range(1, 9)));
        assert_eq!("10k".parse(), Ok(Rate { millihertz: 10_000_000 }));
        assert_eq!("1.5m".parse(), Ok(Rate { millihertz: 1_500_000_000 }));
    }

    #[test]
    fn bad_texts_are_refused() {
        refuses::<Protocol>(&["", "RESP", "http"]);
        refuses::<Rate>(&["", "0", "-1", "1e3", "0.0001", ".", "1.", "1000000001", "99999999999"]);
        refuses::<KeyDist>(&["", "zipf", "zipf:", "zipf:-1", "zipf:nan", "zipf:101", "seq:1"]);
        refuses::<KeyDist>(&["hotspot:0.1", "hotspot:0,1", "gauss:0", "shift:zipf:1", "scan:1,2"]);
        refuses::<Arrival>(&["", "burst", "burst:0s,1s", "burst:1s", "file:", "const:1"]);
        refuses::<Profile>(&["", "steps:", "steps:10", "steps:0@1s", "steps:10@0s", "10@1s"]);
        refuses::<Profile>(&["sine:10@1s", "sine:10,11@1s", "sine:10,5", "sine:10,5@1ms"]);
        refuses::<ValueSize>(&["", "0", "9..8", "1..", "..1", "x", "list:1", "list:0=1"]);
        refuses::<ValueSize>(&["list:1=0", "pareto:0,1", "lognormal:5", "hist:/nowhere"]);
        refuses::<Ttl>(&["", "60", "1s..", "exp:", "list:1s"]);
        refuses::<Multiget>(&["", "0", "2..1", "101"]);
        refuses::<Preset>(&["", "none"]);
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
