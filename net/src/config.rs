//! Options from the command line and from a file in TOML whose keys are the names of the flags.
//!
//! ```toml
//! port = 6379
//! bind = ["127.0.0.1", "::1"]
//! memory = "4GiB"
//! prefault = true
//! [rename-command]
//! FLUSHALL = ""
//! ```
//!
//! Each key is checked by itself as the flag of its name is, so that what is wrong is told with its
//! line. Then the command line is read as if the file's flags stood before it: what it names, the
//! file does not decide, lists included.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::options::Options;

/// The largest configuration file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Keys that have no meaning in a file.
const FLAGS_ONLY: [&str; 4] = ["config", "check-config", "help", "version"];

/// Options, and where they came from.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// What was asked for.
    pub options: Options,
    /// The text of every value, defaults included, by flag.
    values: BTreeMap<String, Vec<OsString>>,
}

impl Configuration {
    /// The flags whose values differ.
    pub fn changes(&self, other: &Configuration) -> Vec<String> {
        let names = self.values.keys().chain(other.values.keys());
        let mut names: Vec<String> = names
            .filter(|&name| self.values.get(name) != other.values.get(name))
            .map(|name| name.replace('_', "-"))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Why there are no options.
#[derive(Debug)]
pub enum ConfigError {
    /// The command line is wrong, or asks for help or the version.
    Usage(clap::Error),
    /// The file is; in one line that names it.
    File(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Usage(error) => error.fmt(f),
            ConfigError::File(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for ConfigError {}

impl From<clap::Error> for ConfigError {
    fn from(error: clap::Error) -> ConfigError {
        ConfigError::Usage(error)
    }
}

/// Reads the command line, the program's name first, and the file that it names.
///
/// # Errors
/// Names the flag, or the file with line and key.
pub fn load(arguments: &[OsString]) -> Result<Configuration, ConfigError> {
    let command = command();
    let mut matches = command.clone().try_get_matches_from(arguments)?;
    if let Some(path) = matches.get_one::<PathBuf>("config").cloned() {
        let wrong = |text: String| ConfigError::File(format!("{}: {text}", path.display()));
        let text = read(&path).map_err(wrong)?;
        let mut all: Vec<OsString> = arguments.iter().take(1).cloned().collect();
        for (key, flags) in entries(&text, &command).map_err(wrong)? {
            let id = key.replace('-', "_");
            if matches.value_source(&id) != Some(ValueSource::CommandLine) {
                all.extend(flags);
            }
        }
        all.extend(arguments.iter().skip(1).cloned());
        matches = command.clone().try_get_matches_from(all)?;
    }
    let values = values(&command, &matches);
    Ok(Configuration { options: Options::from_arg_matches_mut(&mut matches)?, values })
}

/// The command line, with switches that can also be turned off (`--prefault=false`).
fn command() -> Command {
    Options::command().mut_args(|arg| {
        if !matches!(arg.get_action(), ArgAction::SetTrue) {
            return arg;
        }
        arg.action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .value_parser(clap::value_parser!(bool))
            .value_name("BOOL")
            .default_missing_value("true")
            .default_value("false")
            .hide_default_value(true)
            .hide_possible_values(true)
    })
}

fn values(command: &Command, matches: &ArgMatches) -> BTreeMap<String, Vec<OsString>> {
    let ids = command.get_arguments().map(|arg| arg.get_id().as_str());
    let ids = ids.filter(|id| !FLAGS_ONLY.contains(&id.replace('_', "-").as_str()));
    let raw = |id: &str| {
        let raw = matches.get_raw(id).map(|raw| raw.map(OsString::from).collect());
        (id.to_owned(), raw.unwrap_or_default())
    };
    ids.map(raw).collect()
}

fn read(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let length = std::fs::metadata(path).map_err(cannot)?.len();
    if length > FILE_BYTES_MAX {
        return Err("is larger than 1 MiB, so it is hardly a configuration".to_owned());
    }
    std::fs::read_to_string(path).map_err(cannot)
}

/// The file's keys in their order, each with the flags that say the same.
fn entries(text: &str, command: &Command) -> Result<Vec<(String, Vec<OsString>)>, String> {
    let line_of = |at: usize| {
        let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
        before.iter().filter(|&&byte| byte == b'\n').count() + 1
    };
    let table = DeTable::parse(text).map_err(|error| {
        let number = line_of(error.span().map_or(0, |span| span.start));
        // What stands behind the key may be a secret.
        let line = text.lines().nth(number - 1).unwrap_or_default();
        let key = line.split('=').next().unwrap_or_default().trim().escape_debug();
        format!("line {number}: {key}: {}", error.message().replace('\n', " "))
    })?;
    let mut rows: Vec<_> = table.get_ref().iter().collect();
    rows.sort_by_key(|(key, _)| key.span().start);
    let mut entries = Vec::with_capacity(rows.len());
    for (key, value) in rows {
        let name = key.get_ref().as_ref();
        let wrong = |why: String| format!("line {}: {name}: {why}", line_of(key.span().start));
        let flags = flags(name, value, command).map_err(wrong)?;
        let alone = std::iter::once(OsString::from("pinion")).chain(flags.iter().cloned());
        if let Err(error) = command.clone().try_get_matches_from(alone) {
            return Err(wrong(reason(&error)));
        }
        entries.push((name.to_owned(), flags));
    }
    Ok(entries)
}

/// What is wrong, without what belongs to a command line.
fn reason(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

fn flags(
    name: &str,
    value: &Spanned<DeValue<'_>>,
    command: &Command,
) -> Result<Vec<OsString>, String> {
    let is_known = |arg: &&clap::Arg| arg.get_long() == Some(name);
    if FLAGS_ONLY.contains(&name) || !command.get_arguments().any(|arg| is_known(&arg)) {
        return Err("there is no such key; 'pinion --help' lists them as flags".to_owned());
    }
    let text = match value.get_ref() {
        DeValue::Table(table) if name == "rename-command" => {
            let mut flags = Vec::new();
            for (old, new) in table {
                let old = old.get_ref().to_string();
                flags.extend([OsString::from("--rename-command"), old.into()]);
                flags.push(scalar(new.get_ref())?.into());
            }
            return Ok(flags);
        }
        _ if name == "rename-command" => {
            return Err("write a table of names: [rename-command] FLUSHALL = \"\"".to_owned());
        }
        DeValue::Array(values) => {
            let values = values.iter().map(|value| scalar(value.get_ref()));
            values.collect::<Result<Vec<String>, String>>()?.join(",")
        }
        value => scalar(value)?,
    };
    Ok(vec![format!("--{name}={text}").into()])
}

fn scalar(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Boolean(yes) => Ok(yes.to_string()),
        DeValue::Integer(number) => Ok(number.to_string()),
        _ => Err("expected a text, a number, true or false".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct File(PathBuf);

    impl File {
        fn new(name: &str, text: &str) -> File {
            let file = format!("pinion-config-{}-{name}.toml", std::process::id());
            let path = std::env::temp_dir().join(file);
            std::fs::write(&path, text).expect("the directory can be written");
            File(path)
        }

        fn load(&self, flags: &[&str]) -> Result<Configuration, ConfigError> {
            let path = self.0.to_str().expect("text");
            let all = [&["pinion", "--config", path], flags].concat();
            load(&all.into_iter().map(OsString::from).collect::<Vec<_>>())
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn the_command_line_with_switches_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn keys_are_flags_and_flags_win() {
        let text = "port = 7000\nbind = [\"127.0.0.2\", \"::1\"]\nprefault = true\n\
                    memory = \"1GiB\"\ntimeout = 30\nprotected-mode = false\n\
                    [rename-command]\nFLUSHALL = \"\"\nget = \"fetch\"\n";
        let file = File::new("flags", text);
        let options = file.load(&[]).expect("right").options;
        assert_eq!((options.port, options.bind.len(), options.prefault), (7_000, 2, true));
        assert_eq!((options.timeout.ms, options.protected_mode.0), (30_000, false));
        assert_eq!(options.rename_command.len(), 4);
        let flags = ["--port", "7001", "--bind", "127.0.0.3", "--prefault=false"];
        let other = file.load(&flags).expect("right");
        let options = &other.options;
        assert_eq!((options.port, options.bind.len(), options.prefault), (7_001, 1, false));
        assert_eq!(options.memory.map(|memory| memory.0), Some(1 << 30));
        let changes = file.load(&[]).expect("right").changes(&other);
        assert_eq!(changes, ["bind", "port", "prefault"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_line_and_key() {
        for (number, (text, words)) in [
            ("port = 1\nport = 2\n", ["line 2", "port"]),
            ("# a\n\nporrt = 1\n", ["line 3: porrt", "no such key"]),
            ("port = 70000\n", ["line 1: port", "70000"]),
            ("\nmemory = \"much\"\n", ["line 2: memory", "'much'"]),
            ("prefault = 7\n", ["line 1: prefault", "7"]),
            ("memory = 1.5\n", ["line 1: memory", "expected a text"]),
            ("config = \"x\"\n", ["line 1: config", "no such key"]),
            ("rename-command = \"x\"\n", ["line 1: rename-command", "table"]),
            ("a = \"\n", ["line 1", ""]),
        ]
        .into_iter()
        .enumerate()
        {
            let file = File::new(&format!("wrong-{number}"), text);
            let error = file.load(&[]).expect_err(text).to_string();
            let path = file.0.to_str().expect("text");
            assert_eq!(error.lines().count(), 1, "{error}");
            for word in words.into_iter().chain([path]) {
                assert!(error.contains(word), "{word} is missing in {error}");
            }
        }
        let missing = File(PathBuf::from("/nowhere/pinion.toml"));
        assert!(missing.load(&[]).expect_err("missing").to_string().contains("cannot be read"));
    }
}
