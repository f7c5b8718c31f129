//! `commands`: CPU time and instructions of each command in the core's turn, without sockets.

use std::process::ExitCode;

use clap::Parser;
use pinion_benches::layers::CommandsOptions;

fn main() -> ExitCode {
    let program = std::env::current_exe().unwrap_or_else(|_| "commands".into());
    match CommandsOptions::parse().run(&program, &mut std::io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("commands: {error}");
            ExitCode::FAILURE
        }
    }
}
