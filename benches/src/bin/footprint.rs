//! `footprint`: memory per item of cache servers, and whether their limits hold.

use std::process::ExitCode;

fn main() -> ExitCode {
    pinion_benches::footprint::main()
}
