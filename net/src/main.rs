//! The server: `pinion`. See the project's README for its flags.

use std::io::Write;
use std::process::ExitCode;
use std::thread;

use clap::Parser;
use pinion_net::options::Options;
use pinion_net::{Server, StartError};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

fn main() -> ExitCode {
    match serve(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pinion: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: &Options) -> Result<(), StartError> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let server = Server::start(options)?;
    announce(&server);
    let stopper = server.stopper();
    thread::spawn(move || {
        let mut asked = false;
        for _ in signals.forever() {
            if asked {
                // Asked twice: do not wait for anybody.
                std::process::exit(1);
            }
            asked = true;
            stopper.stop();
        }
    });
    server.wait()
}

/// Says how and where the server runs. It serves on if nobody reads that: a full or closed output
/// is no reason to end.
fn announce(server: &Server) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", server.summary());
    for address in server.addresses() {
        let _ = writeln!(out, "listening: {address}");
    }
    let _ = out.flush();
}
