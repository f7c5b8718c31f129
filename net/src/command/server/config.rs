//! CONFIG: the parameters of the server by Redis's names.
//!
//! What can be set takes effect at once. Every other parameter has the one value that the server
//! was started with, or that is true of it; setting it to that value changes nothing and is
//! answered so, as tools that prepare a server for tests expect.

use super::super::context::{Arguments, Context, Flow, printable};
use super::super::glob;
use super::slowlog::ENTRIES_MAX;
use crate::options::Size;
use crate::protocol::number;

/// A parameter that can be set at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variable {
    LatencyThreshold,
    MaxMemory,
    Password,
    SlowlogEntries,
    SlowlogThreshold,
    Timeout,
}

const VARIABLES: [(&str, Variable); 6] = [
    ("latency-monitor-threshold", Variable::LatencyThreshold),
    ("maxmemory", Variable::MaxMemory),
    ("requirepass", Variable::Password),
    ("slowlog-log-slower-than", Variable::SlowlogThreshold),
    ("slowlog-max-len", Variable::SlowlogEntries),
    ("timeout", Variable::Timeout),
];

/// Passwords longer than this are refused.
const PASSWORD_BYTES_MAX: usize = 512;

impl Variable {
    fn of(name: &[u8]) -> Option<Variable> {
        let found = VARIABLES.iter().find(|row| name.eq_ignore_ascii_case(row.0.as_bytes()));
        found.map(|row| row.1)
    }

    /// The value, as text.
    fn text(self, context: &Context<'_>) -> Vec<u8> {
        let settings = &context.settings;
        match self {
            Variable::LatencyThreshold => settings.latency_threshold_ms.to_string().into_bytes(),
            Variable::MaxMemory => context.memory.division().memory_bytes.to_string().into_bytes(),
            Variable::Password => settings.password.clone(),
            Variable::SlowlogEntries => settings.slowlog_entries_max.to_string().into_bytes(),
            Variable::SlowlogThreshold => settings.slowlog_threshold_us.to_string().into_bytes(),
            // In seconds, as Redis; a part of one is a whole one.
            Variable::Timeout => {
                settings.limits.timeout_ms.div_ceil(1_000).to_string().into_bytes()
            }
        }
    }

    /// Checks a value.
    fn parse(self, value: &[u8]) -> Result<i64, String> {
        match self {
            Variable::LatencyThreshold => integer(value, 0, i64::MAX),
            Variable::SlowlogEntries => integer(value, 0, ENTRIES_MAX as i64),
            Variable::SlowlogThreshold => integer(value, -1, i64::MAX),
            Variable::Timeout => integer(value, 0, i64::from(i32::MAX)),
            Variable::Password if value.len() > PASSWORD_BYTES_MAX => {
                Err(format!("Password is longer than {PASSWORD_BYTES_MAX}"))
            }
            Variable::Password => Ok(0),
            Variable::MaxMemory => {
                let text = std::str::from_utf8(value).ok();
                match text.and_then(|text| text.parse::<Size>().ok()) {
                    None => Err("argument must be a memory value".to_owned()),
                    Some(Size(0)) => Err("a server without a limit is not possible".to_owned()),
                    Some(Size(bytes)) => Ok(i64::try_from(bytes).unwrap_or(i64::MAX)),
                }
            }
        }
    }

    /// Lets a value that was checked take effect.
    fn set(self, context: &mut Context<'_>, value: &[u8], number: i64) -> Result<(), String> {
        match self {
            Variable::LatencyThreshold => context.settings.latency_threshold_ms = number as u64,
            Variable::MaxMemory => return context.memory.set(number as u64, context.shard),
            Variable::Password if value.is_empty() && context.settings.needs_password => {
                return Err("the server listens beyond loopback (--protected-mode)".to_owned());
            }
            Variable::Password => context.settings.password = value.to_vec(),
            Variable::SlowlogEntries => {
                context.settings.slowlog_entries_max = number as usize;
                context.server.slowlog.shorten(number as usize);
            }
            Variable::SlowlogThreshold => context.settings.slowlog_threshold_us = number,
            Variable::Timeout => context.settings.limits.timeout_ms = number as u64 * 1_000,
        }
        Ok(())
    }
}

fn integer(value: &[u8], least: i64, most: i64) -> Result<i64, String> {
    match number::parse_i64_strict(value) {
        None => Err("argument couldn't be parsed into an integer".to_owned()),
        Some(number) if !(least..=most).contains(&number) => {
            Err(format!("argument must be between {least} and {most} inclusive"))
        }
        Some(number) => Ok(number),
    }
}

/// CONFIG GET: the parameters whose names match one of the patterns.
pub(super) fn get(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let is_wanted =
        |name: &str| args.from(2).any(|pattern| glob::matches(pattern, name.as_bytes(), true));
    let mut wanted: Vec<(&str, Vec<u8>)> = Vec::new();
    for (name, variable) in VARIABLES.iter().filter(|row| is_wanted(row.0)) {
        wanted.push((name, variable.text(context)));
    }
    let view = context.settings.cluster.as_ref();
    let port = view.map_or_else(String::new, |view| view.port().to_string());
    for (name, text) in context.settings.parameters.iter().filter(|row| is_wanted(row.0)) {
        let text = match *name {
            "cluster-enabled" if context.session.core_port => "yes",
            "databases" if context.session.core_port => "1",
            "port" if context.session.core_port => port.as_str(),
            _ => text.as_str(),
        };
        wanted.push((name, text.as_bytes().to_vec()));
    }
    wanted.sort_unstable();
    let mut reply = context.reply();
    reply.map(wanted.len());
    for (name, value) in wanted {
        reply.bulk(name.as_bytes());
        reply.bulk(&value);
    }
    Flow::Continue
}

fn refuse(context: &mut Context<'_>, name: &str, reason: &str) -> Flow {
    context.error(&format!(
        "ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"
    ));
    Flow::Continue
}

/// CONFIG SET: all of its parameters, or none.
pub(super) fn set(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if !args.len().is_multiple_of(2) {
        context.wrong_arity("config|set");
        return Flow::Continue;
    }
    let mut changes: Vec<(Variable, usize, i64)> = Vec::new();
    for index in (2..args.len()).step_by(2) {
        let (name, value) = (printable(args.at(index), 64), args.at(index + 1));
        let Some(variable) = Variable::of(args.at(index)) else {
            let known = &context.settings.parameters;
            match known.iter().find(|(known, _)| known.eq_ignore_ascii_case(&name)) {
                Some((_, text)) if text.as_bytes() == value => continue,
                Some(_) => return refuse(context, &name, "can't set immutable config"),
                None => {
                    let text = "ERR Unknown option or number of arguments for CONFIG SET";
                    context.error(&format!("{text} - '{name}'"));
                    return Flow::Continue;
                }
            }
        };
        if changes.iter().any(|change| change.0 == variable) {
            return refuse(context, &name, "duplicate parameter");
        }
        match variable.parse(value) {
            Ok(number) => changes.push((variable, index, number)),
            Err(reason) => return refuse(context, &name, &reason),
        }
    }
    // Of the changes, that of the memory alone may still fail, so it goes first.
    changes.sort_by_key(|change| change.0 != Variable::MaxMemory);
    for (variable, index, number) in changes {
        if let Err(reason) = variable.set(context, args.at(index + 1), number) {
            return refuse(context, &printable(args.at(index), 64), &reason);
        }
    }
    context.reply().ok();
    Flow::Continue
}

pub(super) fn resetstat(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    context.reply().ok();
    Flow::ResetCounters
}

pub(super) fn rewrite(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    context.error("ERR The server is running without a config file");
    Flow::Continue
}

pub(super) fn help(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    context.help(
        "CONFIG",
        &[
            "GET <pattern> [<pattern> ...]",
            "    The parameters whose names match one of the patterns.",
            "RESETSTAT",
            "    Lets the counters of INFO begin anew.",
            "REWRITE",
            "    Fails: the server has no configuration file.",
            "SET <parameter> <value> [<parameter> <value> ...]",
            "    Sets parameters, all of them or none.",
        ],
    );
    Flow::Continue
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked() {
        assert_eq!(Variable::of(b"MaxMemory"), Some(Variable::MaxMemory));
        assert_eq!(Variable::of(b"port"), None);
        assert_eq!(Variable::MaxMemory.parse(b"1gb"), Ok(1 << 30));
        assert_eq!(Variable::SlowlogThreshold.parse(b"-1"), Ok(-1));
        for (variable, value, word) in [
            (Variable::MaxMemory, &b"x"[..], "memory value"),
            (Variable::MaxMemory, b"0", "without a limit"),
            (Variable::SlowlogThreshold, b"-2", "between -1"),
            (Variable::SlowlogEntries, b"x", "parsed into an integer"),
            (Variable::LatencyThreshold, b"-1", "between 0"),
            (Variable::Password, &[b'x'; PASSWORD_BYTES_MAX + 1], "longer"),
        ] {
            let reason = variable.parse(value).expect_err("out of range");
            assert!(reason.contains(word), "{reason}");
        }
    }
}
