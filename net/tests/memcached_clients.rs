//! The memcached port as Python's clients see it: two of the binary protocol, with and without
//! passwords, and one of the meta commands.
//!
//! Where a library is absent, its test is skipped and says so; with `PINION_REQUIRE_CLIENTS` in the
//! environment it fails. `PINION_PYTHON` names a Python to be asked first whether it has it.

mod support;

use std::process::{Command, Stdio};

use support::{Server, tools};

/// A Python that has a library.
fn python(library: &str) -> Option<String> {
    let named = std::env::var("PINION_PYTHON").ok();
    let candidates = ["python3", "/usr/bin/python3"].map(str::to_owned);
    let has_it = |candidate: &String| {
        let status = Command::new(candidate)
            .args(["-c", &format!("import {library}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    };
    let found = named.into_iter().chain(candidates).find(has_it);
    tools::required(found, &format!("Python with {library} (see PINION_PYTHON)"))
}

fn session(library: &str, flags: &[&str], credentials: &[&str]) {
    let Some(python) = python(library) else { return };
    let server = Server::start(flags);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/memcached_session.py");
    let port = server.memcached.port().to_string();
    let mut command = Command::new(python);
    let output = tools::output(command.args([script, library, &port]).args(credentials), b"");
    assert_eq!(output.lines().last(), Some("passed"), "{output}");
}

#[test]
fn pylibmc_works() {
    session("pylibmc", &[], &[]);
}

#[test]
fn pylibmc_tells_its_password() {
    session("pylibmc", &["--requirepass", "secret"], &["default", "secret"]);
}

#[test]
fn bmemcached_works() {
    session("bmemcached", &[], &[]);
}

#[test]
fn bmemcached_tells_its_password() {
    session("bmemcached", &["--requirepass", "secret"], &["default", "secret"]);
}

#[test]
fn meta_memcache_works() {
    session("meta_memcache", &[], &[]);
}
