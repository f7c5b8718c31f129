//! `expiry-lag`: how late servers remove what has expired.

use std::process::ExitCode;

fn main() -> ExitCode {
    pinion_benches::expiry::main()
}
