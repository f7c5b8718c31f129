//! `turn`: CPU time per command of the core's turn, without sockets.

use std::process::ExitCode;

use clap::Parser;
use pinion_benches::layers::TurnOptions;

fn main() -> ExitCode {
    match TurnOptions::parse().run(&mut std::io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("turn: {error}");
            ExitCode::FAILURE
        }
    }
}
