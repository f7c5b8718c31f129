//! The command `pinion-loadgen`: see the library for the method, and `--help` for the flags.

#![deny(unsafe_code)]

mod cli;

use clap::Parser;
use pinion_loadgen::{EXIT_OK, EXIT_USAGE};

fn main() {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing more can be done if the message cannot be printed.
            let _ = error.print();
            // Help and version are not errors; everything else is a wrong command line.
            std::process::exit(if error.use_stderr() { EXIT_USAGE } else { EXIT_OK });
        }
    };
    let code = cli.execute().unwrap_or_else(|error| {
        eprintln!("pinion-loadgen: {error}");
        error.exit_code()
    });
    std::process::exit(code);
}
