//! The server: `pinion`. See the project's README for its flags.

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
    println!("{}", server.summary());
    for address in server.addresses() {
        println!("listening: {address}");
    }
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
