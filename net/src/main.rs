//! The server: `pinion`. See the project's README for its flags.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::thread;

use pinion_net::config::{self, ConfigError, Configuration};
use pinion_net::log::{self, Level, Line, LogFormat};
use pinion_net::{Server, StartError, Stopper, notify};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let configuration = match config::load(&arguments) {
        Ok(configuration) => configuration,
        // Help and version are asked for in this way, too.
        Err(ConfigError::Usage(error)) => error.exit(),
        Err(ConfigError::File(text)) => return complain(LogFormat::Text, &text),
    };
    let format = configuration.options.log_format;
    log::set_format(format);
    let outcome = if configuration.options.check_config {
        pinion_net::check(&configuration.options).map(|()| {
            let _ = writeln!(std::io::stdout(), "the configuration is right");
        })
    } else {
        serve(arguments, configuration)
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(format, &error.to_string()),
    }
}

/// Says why there is no server (any more), in one line.
fn complain(format: LogFormat, text: &str) -> ExitCode {
    match format {
        LogFormat::Text => {
            let _ = writeln!(std::io::stderr(), "pinion: {text}");
        }
        LogFormat::Json => log::write(&Line::new(Level::Error, "failed", text)),
    }
    ExitCode::FAILURE
}

fn serve(arguments: Vec<OsString>, configuration: Configuration) -> Result<(), StartError> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let server = Server::start(&configuration.options)?;
    announce(&server, configuration.options.log_format);
    notify("READY=1");
    let stopper = server.stopper();
    thread::spawn(move || {
        let (mut asked, mut current) = (false, configuration);
        for signal in signals.forever() {
            if signal == SIGHUP {
                reload(&arguments, &mut current, &stopper);
                continue;
            }
            if asked {
                // Asked twice: do not wait for anybody.
                std::process::exit(1);
            }
            asked = true;
            notify("STOPPING=1");
            stopper.stop();
        }
    });
    server.wait()
}

/// Reads the configuration again, and lets what can change take effect.
fn reload(arguments: &[OsString], current: &mut Configuration, stopper: &Stopper) {
    let log = |level, text: &str| Line::new(level, "reload", text);
    let next = match config::load(arguments) {
        Ok(next) => next,
        Err(error) => {
            let line = log(Level::Warn, "the configuration is wrong, and stays as it was");
            return log::write(&line.with("error", error));
        }
    };
    if let Err(error) = pinion_net::check(&next.options) {
        let line = log(Level::Warn, "the configuration is wrong, and stays as it was");
        return log::write(&line.with("error", error));
    }
    let changes = current.changes(&next);
    let waiting = stopper.reload(&next.options, &changes);
    log::set_format(next.options.log_format);
    let line = log(Level::Info, "the configuration was read again");
    let line = line.with("changed", changes.join(","));
    log::write(&line.with("needs_restart", waiting.join(",")));
    *current = next;
}

/// Says how and where the server runs. It serves on if nobody reads that: a full or closed output
/// is no reason to end.
fn announce(server: &Server, format: LogFormat) {
    if format == LogFormat::Json {
        log::write(&Line::new(Level::Info, "ready", server.summary()));
    }
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", server.summary());
    for address in server.addresses() {
        let _ = writeln!(out, "listening: {address}");
    }
    if let Some(seed) = server.seed() {
        let (host, port) = (seed.ip(), seed.port());
        let _ = writeln!(out, "cluster clients begin at {seed}: redis-cli -c -h {host} -p {port}");
    }
    let _ = out.flush();
}
