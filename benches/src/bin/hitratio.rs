//! `hitratio`: hit ratios of traces through the server's own shard.

use std::process::ExitCode;

use clap::Parser;
use pinion_benches::replay::HitRatioOptions;

fn main() -> ExitCode {
    let options = HitRatioOptions::parse();
    match options.run(&mut std::io::stdout().lock(), &mut std::io::stderr()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hitratio: {error}");
            ExitCode::FAILURE
        }
    }
}
