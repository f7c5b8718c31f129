//! The command line: flags into configurations, reports into files, verdicts into exit codes.

mod args;

use std::path::Path;

use clap::Parser;
use pinion_loadgen::{
    EXIT_OK, Error, read_log, replay_history, replay_timed, selftest, sweep, trace, trace_name,
};

use args::Command;

/// Load generator for caches: latency from the intended send time, and every value checked.
///
/// Exit codes: 0 fine, 1 usage, 2 the numbers are invalid, 3 overloaded, 4 the server returned a
/// wrong value, 5 no rate of a sweep keeps its objective.
#[derive(Debug, Parser)]
#[command(name = "pinion-loadgen", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

impl args::Output {
    /// Prints the text unless it shall be quiet, and writes the JSON if it is wanted.
    fn emit(&self, text: &str, json: &serde_json::Value) -> Result<(), Error> {
        if self.quiet {
            for line in text.lines().filter(|line| line.starts_with("WRONG VALUE")) {
                eprintln!("{line}");
            }
        } else {
            print(text)?;
        }
        match &self.json {
            Some(path) => write(path, &format!("{json:#}\n")),
            None => Ok(()),
        }
    }
}

impl Cli {
    /// Carries out the command.
    ///
    /// Returns the exit code of its verdict.
    ///
    /// # Errors
    /// If there is no report, or it cannot be written.
    pub(crate) fn execute(&self) -> Result<i32, Error> {
        match &self.command {
            Command::Run(args) => {
                let report = pinion_loadgen::run(&args.config()?)?;
                args.workload.output.emit(&report.text(), &report.json())?;
                if let Some(path) = &args.hgrm {
                    write(path, &report.hgrm())?;
                }
                Ok(report.exit_code())
            }
            Command::Prefill(args) => {
                let report = pinion_loadgen::prefill(&args.workload.config())?;
                args.workload.output.emit(&report.text(), &report.json())?;
                Ok(report.exit_code())
            }
            Command::Sweep(args) => {
                let report = sweep(&args.config()?)?;
                args.workload.output.emit(&report.text(), &report.json())?;
                Ok(report.exit_code())
            }
            Command::Replay(args) => replay(args),
            Command::TraceInfo(args) => {
                print(&trace::open(&args.trace, 1)?.text())?;
                Ok(EXIT_OK)
            }
            Command::Selftest(args) => {
                let report = selftest(args.duration, &args.pin, args.output.progress())?;
                args.output.emit(&report.text(), &report.json())?;
                Ok(report.exit_code())
            }
            Command::Report(args) => report(args),
        }
    }
}

fn replay(args: &args::ReplayArgs) -> Result<i32, Error> {
    let pace = args.timed();
    let config = if pace.is_none() { Some(args.config()?) } else { None };
    let history = trace::open(&args.trace, args.seed)?;
    let name = trace_name(&args.trace);
    let (table, code) = match (pace, config) {
        (Some(pace), _) => {
            let report = replay_timed(&args.run_config(), pace, args.fill, &name, history)?;
            args.output.emit(&report.text(), &report.json())?;
            (report.hgrm(), report.exit_code())
        }
        (None, config) => {
            let report = replay_history(&config.unwrap_or_default(), &name, &history)?;
            args.output.emit(&report.text(), &report.json())?;
            (report.hgrm(), report.exit_code())
        }
    };
    if let Some(path) = &args.hgrm {
        write(path, &table)?;
    }
    Ok(code)
}

fn report(args: &args::ReportArgs) -> Result<i32, Error> {
    let log = read_log(&args.log)?;
    print(&log.text())?;
    if let Some(path) = &args.json {
        write(path, &format!("{:#}\n", log.json()))?;
    }
    if let Some(path) = &args.hgrm {
        let table = log.hgrm(&args.tag).ok_or_else(|| {
            Error::Usage(format!("--tag {}: {} has no such tag", args.tag, args.log.display()))
        })?;
        write(path, &table)?;
    }
    Ok(EXIT_OK)
}

fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    std::io::Write::write_all(&mut out, text.as_bytes())
        .map_err(|source| Error::Io { context: "cannot print the report".to_owned(), source })
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text)
        .map_err(|source| Error::Io { context: format!("cannot write {}", path.display()), source })
}
