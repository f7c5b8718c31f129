//! `harness`: cache servers side by side.

use std::process::ExitCode;

fn main() -> ExitCode {
    pinion_benches::harness::main()
}
