//! Programs that some tests need and a host may lack.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What was looked for, if it was found. Otherwise the test is to be skipped, which is printed;
/// with `PINION_REQUIRE_CLIENTS` in the environment it fails instead.
pub fn required<T>(found: Option<T>, what: &str) -> Option<T> {
    if found.is_none() {
        let required = std::env::var_os("PINION_REQUIRE_CLIENTS").is_some();
        assert!(!required, "PINION_REQUIRE_CLIENTS is set, and there is no {what}");
        println!("skipped: there is no {what}");
    }
    found
}

/// A program in one of the directories of PATH; skips as [`required`] does.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name));
    required(found.into_iter().find(|file| file.is_file()), name)
}

/// Runs a program to its end; its standard output. It must succeed within a minute.
pub fn output(command: &mut Command, input: &[u8]) -> String {
    use std::io::{Read, Write};
    let text = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{text}: {error}"));
    let (mut stdin, input) = (child.stdin.take().expect("it is piped"), input.to_vec());
    // A program that ends early does not read it all, and its exit code tells.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let (mut stdout, mut stderr) =
        (child.stdout.take().expect("it is piped"), child.stderr.take().expect("it is piped"));
    let errors = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        drop(stderr.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        drop(stdout.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            break status;
        }
        if start.elapsed() > Duration::from_secs(60) {
            let _ = child.kill();
            panic!("{text} does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    writer.join().expect("writer");
    let (output, errors) = (reader.join().expect("reader"), errors.join().expect("reader"));
    assert!(status.success(), "{text}: {status}\n{output}\n{errors}");
    output
}
