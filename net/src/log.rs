//! The log: one line an event on standard error, as `key=value` or JSON, and no event more often
//! than a reader can follow.
//!
//! - G1. A line is written whole, by one call, and never holds a line end of its own.
//! - G2. Of one event at most ten lines come in ten seconds; the next one tells how many were left
//!   out.
//! - G3. Data cores do not write: they hand lines to the control thread.
//!
//! A log that cannot be written to is no reason to end: what does not fit is lost.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use crate::clock;

/// Lines of one event in a window.
const LINES_PER_WINDOW: u32 = 10;
/// The window, in milliseconds.
const WINDOW_MS: u64 = 10_000;

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `key=value`, values in quotes where they need them.
    #[default]
    Text,
    /// A JSON object.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<LogFormat, String> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(format!("'{text}' is not text or json")),
        }
    }
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For the record.
    Info,
    /// Somebody should look into it.
    Warn,
    /// The server does not start, or ends.
    Error,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    level: Level,
    event: &'static str,
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Line {
    /// An event of this name, and what it means in words.
    pub fn new(level: Level, event: &'static str, message: impl Into<String>) -> Line {
        Line { level, event, message: message.into(), fields: Vec::new() }
    }

    /// Adds a field.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Line {
        self.fields.push((key, value.to_string()));
        self
    }

    fn text(&self, format: LogFormat, unix_ms: u64, left_out: u32) -> String {
        let time = rfc3339(unix_ms);
        let mut pairs = vec![
            ("time", time.as_str()),
            ("level", self.level.name()),
            ("event", self.event),
            ("message", &self.message),
        ];
        pairs.extend(self.fields.iter().map(|(key, value)| (*key, value.as_str())));
        let left_out = left_out.to_string();
        if left_out != "0" {
            pairs.push(("left_out", &left_out));
        }
        let mut text = String::with_capacity(160);
        for (number, (key, value)) in pairs.into_iter().enumerate() {
            match format {
                LogFormat::Text => {
                    text.push_str(if number == 0 { "" } else { " " });
                    text.push_str(key);
                    text.push('=');
                    let is_plain = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
                    if !value.is_empty() && value.chars().all(is_plain) {
                        text.push_str(value);
                    } else {
                        quote(&mut text, value);
                    }
                }
                LogFormat::Json => {
                    text.push(if number == 0 { '{' } else { ',' });
                    quote(&mut text, key);
                    text.push(':');
                    quote(&mut text, value);
                }
            }
        }
        text.push_str(if format == LogFormat::Json { "}\n" } else { "\n" });
        text
    }
}

/// Appends a text in quotes, as in JSON.
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if (c as u32) < 0x20 || c == '\u{7f}' => {
                // Writing to a String does not fail.
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A Unix time as text: the proleptic Gregorian calendar, in UTC.
fn rfc3339(unix_ms: u64) -> String {
    let (mut day, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let mut year = 1970;
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    let (day, ms) = (day + 1, ms % 1_000);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// How often each event has come lately. Events have fixed names, so there are few.
#[derive(Debug)]
struct Limiter {
    /// Name, begin of the window, lines written in it, lines left out.
    events: Vec<(&'static str, u64, u32, u32)>,
}

impl Limiter {
    /// Whether a line of this event may be written now, and how many were left out before it.
    fn admit(&mut self, event: &'static str, now_ms: u64) -> Option<u32> {
        let index = self.events.iter().position(|entry| entry.0 == event).unwrap_or_else(|| {
            self.events.push((event, now_ms, 0, 0));
            self.events.len() - 1
        });
        let (_, begin_ms, written, left_out) = &mut self.events[index];
        if now_ms.saturating_sub(*begin_ms) >= WINDOW_MS {
            (*begin_ms, *written) = (now_ms, 0);
        }
        if *written == LINES_PER_WINDOW {
            *left_out += 1;
            return None;
        }
        *written += 1;
        Some(std::mem::take(left_out))
    }
}

struct Log {
    format: LogFormat,
    limiter: Limiter,
}

static LOG: Mutex<Log> =
    Mutex::new(Log { format: LogFormat::Text, limiter: Limiter { events: Vec::new() } });

/// Sets the format of all further lines.
pub fn set_format(format: LogFormat) {
    LOG.lock().unwrap_or_else(PoisonError::into_inner).format = format;
}

/// Writes a line, unless its event comes too often. May wait for whoever reads the log.
pub fn write(line: &Line) {
    let unix_ms = clock::unix_ms();
    let mut log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(left_out) = log.limiter.admit(line.event, unix_ms) {
        let text = line.text(log.format, unix_ms, left_out);
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_in_both_formats() {
        let line = Line::new(Level::Warn, "some-event", "it\nwent \"wrong\"").with("port", 6379);
        assert_eq!(
            line.text(LogFormat::Text, 951_782_400_123, 0),
            "time=2000-02-29T00:00:00.123Z level=warn event=some-event \
             message=\"it\\u000awent \\\"wrong\\\"\" port=6379\n"
        );
        assert_eq!(
            line.text(LogFormat::Json, 0, 7),
            "{\"time\":\"1970-01-01T00:00:00.000Z\",\"level\":\"warn\",\"event\":\"some-event\",\
             \"message\":\"it\\u000awent \\\"wrong\\\"\",\"port\":\"6379\",\"left_out\":\"7\"}\n"
        );
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (unix_s, text) in [
            (1_798_761_599, "2026-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (1_709_164_800, "2024-02-29T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(unix_s * 1_000), text);
        }
    }

    #[test]
    fn an_event_that_comes_often_is_written_seldom() {
        let mut limiter = Limiter { events: Vec::new() };
        let written = (0..1_000).filter(|_| limiter.admit("a", 5).is_some()).count();
        assert_eq!(written, LINES_PER_WINDOW as usize);
        assert_eq!(limiter.admit("b", 5), Some(0), "others are not held back");
        assert_eq!(limiter.admit("a", 5 + WINDOW_MS), Some(1_000 - LINES_PER_WINDOW));
        assert_eq!(limiter.admit("a", 5 + WINDOW_MS), Some(0));
    }
}
