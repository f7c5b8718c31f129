//! `equal-memory`: the hit ratio that servers reach with equal resident memory.

use std::process::ExitCode;

fn main() -> ExitCode {
    pinion_benches::equal_memory::main()
}
