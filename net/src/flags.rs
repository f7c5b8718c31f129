//! The kinds of values that flags and the configuration file take, each with the error that a
//! wrong one gets.

use std::fmt;
use std::str::FromStr;

/// A span of time: `500ms`, `5s`, `10m`, `1h`, or a number of seconds; up to ten years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Milliseconds.
    pub ms: u64,
}

impl Span {
    const MS_MAX: u64 = 10 * 365 * 86_400_000;
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        let wrong = || format!("'{text}' is not a time such as 500ms, 5s, 10m or 1h");
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let factor = match &text[digits.len()..] {
            "ms" => 1,
            "s" | "" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(wrong()),
        };
        let count: u64 = digits.parse().map_err(|_| wrong())?;
        let ms = count.checked_mul(factor).filter(|&ms| ms <= Span::MS_MAX);
        ms.map(|ms| Span { ms }).ok_or_else(wrong)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ms {
            ms if ms.is_multiple_of(1_000) => write!(f, "{}s", ms / 1_000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

/// Which interface of the kernel moves the bytes of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// io_uring, or epoll where that cannot be had.
    Auto,
    /// io_uring or nothing.
    IoUring,
    /// epoll.
    Epoll,
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        match text {
            "auto" => Ok(Network::Auto),
            "io_uring" => Ok(Network::IoUring),
            "epoll" => Ok(Network::Epoll),
            _ => Err(format!("'{text}' is not auto, io_uring or epoll")),
        }
    }
}

/// `yes` or `no`, as in Redis's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct YesNo(pub bool);

impl FromStr for YesNo {
    type Err = String;

    fn from_str(text: &str) -> Result<YesNo, String> {
        match text {
            "yes" | "true" => Ok(YesNo(true)),
            "no" | "false" => Ok(YesNo(false)),
            _ => Err(format!("'{text}' is not yes or no")),
        }
    }
}

/// `on` or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnOff(pub bool);

impl FromStr for OnOff {
    type Err = String;

    fn from_str(text: &str) -> Result<OnOff, String> {
        match text {
            "on" | "true" => Ok(OnOff(true)),
            "off" | "false" => Ok(OnOff(false)),
            _ => Err(format!("'{text}' is not on or off")),
        }
    }
}

/// Permissions of a file, in octal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions(pub u32);

impl FromStr for Permissions {
    type Err = String;

    fn from_str(text: &str) -> Result<Permissions, String> {
        let bits = u32::from_str_radix(text, 8).ok().filter(|&bits| bits <= 0o777);
        bits.map(Permissions).ok_or_else(|| {
            format!("'{text}' are not permissions in octal, such as 700, 770 or 777")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units() {
        for (text, ms) in [("0", 0), ("5", 5_000), ("7ms", 7), ("2s", 2_000), ("1h", 3_600_000)] {
            assert_eq!(text.parse(), Ok(Span { ms }), "{text}");
        }
        for text in ["", "s", "-1", "1.5s", "1d", "99999999999h", "1 s"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        assert_eq!(Span { ms: 1_500 }.to_string(), "1500ms");
        assert_eq!(Span { ms: 5_000 }.to_string(), "5s");
    }

    #[test]
    fn other_values_are_checked() {
        assert_eq!("io_uring".parse(), Ok(Network::IoUring));
        assert!("uring".parse::<Network>().is_err());
        assert_eq!("no".parse(), Ok(YesNo(false)));
        assert!("maybe".parse::<YesNo>().is_err());
        assert_eq!(("on".parse(), "off".parse()), (Ok(OnOff(true)), Ok(OnOff(false))));
        assert!("yes".parse::<OnOff>().is_err());
        assert_eq!("770".parse(), Ok(Permissions(0o770)));
        for text in ["", "8", "1777", "rwx"] {
            assert!(text.parse::<Permissions>().is_err(), "{text}");
        }
    }
}
