//! The parameters of CONFIG that stay as they are: those that the command line decides, and those
//! of Redis's that tools ask for and that have one value here.

use std::net::IpAddr;
use std::path::Path;

use pinion_engine::DATABASES;

use crate::command::{ClientLimits, Renames, Settings};
use crate::options::Options;
use crate::start::plan;

/// What clients may take, as the options say.
pub(crate) fn limits(options: &Options) -> ClientLimits {
    ClientLimits {
        args_max: options.args_max,
        request_bytes_max: options.request_max.map(|limit| limit.0 as u32),
        input_bytes_max: options.input_max.map_or(usize::MAX, |limit| limit.0 as usize),
        output_bytes_max: options.output_max.0 as usize,
        run_commands_max: options.pipeline_max as usize,
        accepts_per_second: options.accept_rate,
        timeout_ms: options.timeout.ms,
        request_age_ms: options.request_age.ms,
    }
}

/// What CONFIG GET tells, and what else commands look at.
pub(crate) fn settings(
    options: &Options,
    connections_max: usize,
    port: u16,
    renames: Renames,
) -> Settings {
    let bind: Vec<String> = options.bind.iter().map(IpAddr::to_string).collect();
    let debug = if options.enable_debug_command { "yes" } else { "no" };
    let mut parameters: Vec<(&'static str, String)> = vec![
        ("bind", bind.join(" ")),
        ("enable-debug-command", debug.to_owned()),
        ("maxclients", connections_max.to_string()),
        ("maxmemory-policy", options.eviction.redis_name().to_owned()),
        ("port", port.to_string()),
        ("protected-mode", if options.protected_mode.0 { "yes" } else { "no" }.to_owned()),
        ("unixsocket", path_text(options.unix.as_deref())),
        ("proto-max-bulk-len", options.value_max.0.to_string()),
        ("databases", DATABASES.to_string()),
    ];
    parameters.extend(FIXED_PARAMETERS.iter().map(|&(name, value)| (name, value.to_owned())));
    parameters.sort_unstable();
    Settings {
        parameters,
        value_bytes_max: options.value_max.0 as usize,
        password: options.requirepass.clone().into_bytes(),
        allows_debug: options.enable_debug_command,
        memcached_admin: options.memcached_admin,
        limits: limits(options),
        renames,
        needs_password: plan::is_exposed(options),
        ..Settings::default()
    }
}

fn path_text(path: Option<&Path>) -> String {
    path.map_or_else(String::new, |path| path.display().to_string())
}

/// Redis's parameters that have one value here, and which it is.
const FIXED_PARAMETERS: [(&str, &str); 21] = [
    ("activedefrag", "no"),
    ("active-expire-effort", "1"),
    ("appendfsync", "everysec"),
    ("appendonly", "no"),
    ("cluster-enabled", "no"),
    ("daemonize", "no"),
    ("dir", ""),
    ("dbfilename", ""),
    ("hz", "10"),
    ("io-threads", "1"),
    ("lazyfree-lazy-eviction", "yes"),
    ("lazyfree-lazy-expire", "yes"),
    ("lazyfree-lazy-server-del", "yes"),
    ("lazyfree-lazy-user-del", "yes"),
    ("lazyfree-lazy-user-flush", "yes"),
    ("maxmemory-clients", "0"),
    ("notify-keyspace-events", ""),
    ("save", ""),
    ("tcp-backlog", "4096"),
    ("tcp-keepalive", "300"),
    ("tls-port", "0"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn parameters_are_in_order_and_named_once() {
        let arguments = ["pinion", "--requirepass", "x", "--enable-debug-command"];
        let options = Options::try_parse_from(arguments).expect("right");
        let settings = settings(&options, 77, 6_379, Renames::default());
        let names: Vec<&str> = settings.parameters.iter().map(|row| row.0).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(names, sorted);
        assert!(settings.parameters.contains(&("maxclients", "77".to_owned())));
        assert!(settings.is_password(b"x") && settings.allows_debug);
    }
}
