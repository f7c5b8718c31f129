//! `steps`: the slowest single call of a shard, and what calls cost by the number of items.

use std::process::ExitCode;

fn main() -> ExitCode {
    pinion_benches::steps::main()
}
