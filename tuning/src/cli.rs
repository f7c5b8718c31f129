//! The command line: arguments in, report and exit status out.
//!
//! The exit status is meant for scripts: [`STATUS_OK`] if no check found a problem,
//! [`STATUS_PROBLEM`] if one did, [`STATUS_ERROR`] if the command itself could not be carried out
//! (wrong arguments, a root that is no host tree, an output that cannot be written). Advice and
//! unknowns do not count as problems.

use crate::check::{Report, Verdict};
use crate::host::{Host, RootError};
use crate::render;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

/// No problem was found.
pub const STATUS_OK: u8 = 0;
/// The command could not be carried out.
pub const STATUS_ERROR: u8 = 1;
/// At least one check found a problem.
pub const STATUS_PROBLEM: u8 = 2;

/// Checks the settings of this host that decide the tail latency of a cache server.
#[derive(Parser, Debug)]
#[command(name = "pinion-tune", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Read the host's settings and judge them; changes nothing and needs no privileges
    ///
    /// Run it as the user, and in the container or unit, that will run the server: limits and
    /// cgroups are those of the calling process. Exit status: 0 no problem, 2 a problem was found,
    /// 1 wrong usage or an input/output error.
    Check {
        /// Print one JSON object instead of text
        #[arg(long)]
        json: bool,
        /// Read DIR/proc and DIR/sys, for instance copies from another host
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
    },
}

/// Why a command could not be carried out.
#[derive(Debug)]
enum Error {
    Root(RootError),
    Output(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(error) => error.fmt(formatter),
            Self::Output(error) => write!(formatter, "cannot write the report: {error}"),
        }
    }
}

/// Runs the command with these arguments (the first is the program's name) and returns its exit
/// status. The report goes to `out`, errors go to `err`.
pub fn run<I>(arguments: I, out: &mut dyn Write, err: &mut dyn Write) -> u8
where
    I: IntoIterator<Item = OsString>,
{
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(message) => return usage(&message, out, err),
    };
    let Command::Check { json, root } = cli.command;
    match check(json, root, out) {
        Ok(status) => status,
        Err(error) => {
            // When even the error stream is gone, the status is all that is left to tell it.
            let _ = writeln!(err, "pinion-tune: {error}");
            STATUS_ERROR
        }
    }
}

/// Prints what the argument parser has to say: help and version are no errors.
fn usage<'a>(message: &clap::Error, out: &'a mut dyn Write, err: &'a mut dyn Write) -> u8 {
    let (stream, status) =
        if message.use_stderr() { (err, STATUS_ERROR) } else { (out, STATUS_OK) };
    match write!(stream, "{}", message.render()).and_then(|()| stream.flush()) {
        Ok(()) => status,
        Err(_) => STATUS_ERROR,
    }
}

fn check(json: bool, root: PathBuf, out: &mut dyn Write) -> Result<u8, Error> {
    let host = Host::open(root).map_err(Error::Root)?;
    let report = Report::of(&host);
    let text = if json { render::json::render(&report) } else { render::table::render(&report) };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => {}
        // A reader like `head` that has seen enough is not an error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => return Err(Error::Output(error)),
    }
    Ok(if report.count(Verdict::Problem) == 0 { STATUS_OK } else { STATUS_PROBLEM })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Tree;
    use clap::CommandFactory;

    fn run_with(arguments: &[&str]) -> (u8, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let all = std::iter::once("pinion-tune").chain(arguments.iter().copied());
        let status = run(all.map(OsString::from), &mut out, &mut err);
        let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
        (status, text(out), text(err))
    }

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn usage_errors_have_their_own_status() {
        for arguments in [&[][..], &["apply"], &["check", "--wrong"], &["check", "--root"]] {
            let (status, out, err) = run_with(arguments);
            assert_eq!((status, out.as_str()), (STATUS_ERROR, ""), "{arguments:?}");
            assert!(err.contains("--help") || err.contains("Usage"), "{arguments:?}: {err}");
        }
    }

    #[test]
    fn help_and_version_are_not_errors() {
        for argument in ["--help", "--version"] {
            let (status, out, err) = run_with(&[argument]);
            assert_eq!((status, err.as_str()), (STATUS_OK, ""));
            assert!(out.contains("pinion-tune"), "{out}");
        }
    }

    #[test]
    fn a_root_that_is_no_host_tree_is_an_error() {
        let empty = Tree::new();
        let missing = empty.path().join("missing");
        for root in [empty.path(), &missing] {
            let root = root.to_str().expect("test paths are UTF-8");
            let (status, out, err) = run_with(&["check", "--root", root]);
            assert_eq!((status, out.as_str()), (STATUS_ERROR, ""));
            assert!(err.starts_with("pinion-tune: ") && err.contains(root), "{err}");
        }
    }

    #[test]
    fn the_status_follows_the_problems() {
        let tree = Tree::new().file("proc/sys/kernel/osrelease", "6.1.0-18-amd64\n");
        let root = tree.path().to_str().expect("test paths are UTF-8").to_owned();
        assert_eq!(run_with(&["check", "--root", &root]).0, STATUS_OK);
        let tree = tree.file("proc/sys/kernel/osrelease", "5.15.0\n");
        let (status, out, err) = run_with(&["check", "--root", &root]);
        assert_eq!((status, err.as_str()), (STATUS_PROBLEM, ""));
        assert!(out.contains("problem  kernel-version"), "{out}");
        assert_eq!(run_with(&["check", "--json", "--root", &root]).0, STATUS_PROBLEM);
        drop(tree);
    }

    /// A stream that refuses everything with one kind of error.
    struct Refusing(io::ErrorKind);

    impl Write for Refusing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn only_a_reader_that_left_may_lose_the_report() {
        let tree = Tree::new().file("proc/sys/kernel/osrelease", "6.1.0\n");
        for (kind, expected) in
            [(io::ErrorKind::BrokenPipe, STATUS_OK), (io::ErrorKind::StorageFull, STATUS_ERROR)]
        {
            let arguments = ["pinion-tune", "check", "--root"].map(OsString::from);
            let all = arguments.into_iter().chain([tree.path().into()]);
            let mut err = Vec::new();
            assert_eq!(run(all, &mut Refusing(kind), &mut err), expected);
            assert_eq!(err.is_empty(), expected == STATUS_OK);
        }
    }
}
