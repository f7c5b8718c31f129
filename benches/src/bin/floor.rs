//! `floor`: a bare server that moves the bytes of a cache, for others to be measured against.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use pinion_benches::floor::{FloorOptions, Idle, Kind, Shape, serve};

/// A bare server that moves the bytes of a cache and does nothing else.
///
/// Requests are told apart by their first bytes and counted, not parsed; every reply is constant.
/// The default sizes are those of RESP with keys of 16 bytes and values of 64.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// How the server is driven
    #[arg(long, value_enum)]
    kind: Kind,
    /// TCP port on 127.0.0.1; 0 chooses one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Size of a GET request
    #[arg(long, value_name = "BYTES", default_value_t = 36)]
    request_get: usize,
    /// Size of a SET request
    #[arg(long, value_name = "BYTES", default_value_t = 107)]
    request_set: usize,
    /// Size of the reply to a GET
    #[arg(long, value_name = "BYTES", default_value_t = 71)]
    reply_get: usize,
    /// Size of the reply to a SET
    #[arg(long, value_name = "BYTES", default_value_t = 5)]
    reply_set: usize,
    /// Run on this CPU alone
    #[arg(long)]
    cpu: Option<usize>,
    /// What to do when there is nothing to do
    #[arg(long, value_enum, default_value = "block")]
    idle: Idle,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = FloorOptions {
        kind: arguments.kind,
        port: arguments.port,
        shape: Shape {
            request_get_bytes: arguments.request_get,
            request_set_bytes: arguments.request_set,
            reply_get_bytes: arguments.reply_get,
            reply_set_bytes: arguments.reply_set,
        },
        cpu: arguments.cpu,
        idle: arguments.idle,
    };
    let outcome = serve(&options, |address| {
        // Nobody may be reading; the server serves all the same.
        let _ = writeln!(std::io::stdout(), "floor: listening on {address}");
    });
    match outcome {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}
