//! `parsers`: CPU time per request of the parsers, and per reply of the encoders.

use std::process::ExitCode;

use clap::Parser;
use pinion_benches::layers::ParserOptions;

fn main() -> ExitCode {
    match ParserOptions::parse().run(&mut std::io::stdout()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("parsers: {error}");
            ExitCode::FAILURE
        }
    }
}
