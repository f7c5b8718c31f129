//! The configuration file, what a signal changes, and how the server ends.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use support::{Reply, Server, encode, ok, run_to_end};

struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> File {
        let file = File(
            std::env::temp_dir().join(format!("pinion-day-one-{}-{name}", std::process::id())),
        );
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.0, text).expect("the directory can be written");
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("text")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

const PORTS: &str = "bind = \"127.0.0.1\"\nport = 0\nmemcached-port = \"auto\"\n";

/// A server whose log is read, with these flags alone.
fn start(flags: &[&str]) -> (Server, Receiver<String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pinion"));
    command.args(flags).stderr(Stdio::piped());
    let mut server = Server::spawn(command);
    let (sender, lines) = channel();
    let stderr = server.take_stderr();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    (server, lines)
}

fn config(client: &mut support::Client, name: &str) -> String {
    match client.call(&["CONFIG", "GET", name]) {
        Reply::Array(pair) => pair[1].text(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_says_what_flags_say_and_flags_win() {
    let text = format!("{PORTS}memory = \"128MiB\"\nmax-connections = 77\nvalue-max = \"1MiB\"\n");
    let file = File::new("flags", &text);
    let (server, _log) = start(&["--config", file.path(), "--max-connections", "99"]);
    let mut client = server.client();
    assert_eq!(config(&mut client, "maxclients"), "99");
    assert_eq!(config(&mut client, "maxmemory"), (128 << 20).to_string());
    assert_eq!(config(&mut client, "proto-max-bulk-len"), (1 << 20).to_string());
    let info = client.call(&["INFO", "server"]).text();
    assert!(info.contains(&format!("config_file:{}\r\n", file.path())), "{info}");
}

#[test]
fn what_is_wrong_in_a_file_is_told_with_its_line() {
    for (number, (text, words)) in [
        ("\nport = 70000\n", ["line 2: port", "70000"]),
        ("max-conections = 5\n", ["line 1: max-conections", "no such key"]),
        ("port = \n", ["line 1", ""]),
        ("memory = \"1KiB\"\n", ["--memory 1KiB", "64MiB"]),
        ("bind = \"0.0.0.0\"\n", ["--bind 0.0.0.0", "--requirepass"]),
    ]
    .into_iter()
    .enumerate()
    {
        let file = File::new(&format!("wrong-{number}"), text);
        for flags in [&["--config", file.path()][..], &["--check-config", "--config", file.path()]]
        {
            let (code, complaint) = run_to_end(flags);
            assert_eq!((code, complaint.lines().count()), (Some(1), 1), "{complaint}");
            for word in words {
                assert!(complaint.contains(word), "{word} is missing in {complaint}");
            }
        }
    }
    let file = File::new("right", PORTS);
    let flags = ["--check-config", "--config", file.path(), "--memory", "64MiB"];
    assert_eq!(run_to_end(&flags), (Some(0), String::new()));
}

#[test]
fn a_hangup_reloads_what_can_change() {
    let text = |more: &str| format!("{PORTS}memory = \"128MiB\"\n{more}");
    let file = File::new("reload", &text(""));
    let (mut server, log) = start(&["--config", file.path()]);
    let mut client = server.client();
    assert_eq!(config(&mut client, "timeout"), "0");
    file.write(&text("requirepass = \"secret\"\ntimeout = 90\nmax-connections = 5\n"));
    server.signal("HUP");
    let line = log.recv_timeout(Duration::from_secs(20)).expect("it says what it did");
    for word in ["event=reload", "requirepass,timeout", "needs_restart=max-connections"] {
        assert!(line.contains(word), "{word} is missing in {line}");
    }
    // The order went to the core before the line was written, and is obeyed before what follows.
    assert_eq!(config(&mut client, "timeout"), "90");
    let mut stranger = server.client();
    let locked = Reply::Error("NOAUTH Authentication required.".into());
    assert_eq!(stranger.call(&["GET", "a"]), locked);
    assert_eq!(stranger.call(&["AUTH", "secret"]), ok());
    file.write(&text("timeout = \"soon\"\n"));
    server.signal("HUP");
    let line = log.recv_timeout(Duration::from_secs(20)).expect("it complains");
    assert!(line.contains("stays as it was") && line.contains("line 5: timeout"), "{line}");
    assert_eq!(config(&mut client, "timeout"), "90");
    file.write(&text("memory = \"256MiB\"\n").replacen("memory = \"128MiB\"\n", "", 1));
    server.signal("HUP");
    let line = log.recv_timeout(Duration::from_secs(20)).expect("it says what it did");
    assert!(line.contains("memory") && line.contains("needs_restart=max-connections"), "{line}");
    assert_eq!(config(&mut client, "maxmemory"), (256 << 20).to_string());
    assert_eq!(server.client().call(&["GET", "a"]), Reply::Null, "the password is gone again");
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn logs_are_json_if_asked_for() {
    let ports = ["--bind", "127.0.0.1", "--port", "0", "--memcached-port", "auto"];
    let (server, log) =
        start(&[&ports[..], &["--memory", "64MiB", "--log-format", "json"]].concat());
    let line = log.recv_timeout(Duration::from_secs(20)).expect("a line");
    assert!(line.starts_with("{\"time\":\"") && line.contains("\"event\":\"ready\""), "{line}");
    server.signal("HUP");
    let line = log.recv_timeout(Duration::from_secs(20)).expect("a line");
    assert!(line.contains("\"event\":\"reload\"") && line.ends_with('}'), "{line}");
    let flags = ["--log-format", "json", "--memory", "1KiB"];
    let (code, complaint) = run_to_end(&flags);
    assert_eq!((code, complaint.lines().count()), (Some(1), 1));
    assert!(complaint.starts_with('{') && complaint.contains("--memory 1KiB"), "{complaint}");
}

#[test]
fn the_end_answers_what_has_come() {
    for flags in [&["--driver", "glommio"][..], &["--driver", "bare"], &["--network", "epoll"]] {
        let mut server = Server::start(flags);
        let mut client = server.client();
        // More than fits into the sockets' buffers, so that it is read while the server ends.
        let value = vec![b'v'; 1_000_000];
        assert_eq!(client.call_bytes(&[b"SET", b"a", &value]), ok());
        client.send(encode(&[b"GET", b"a"]).repeat(20));
        assert!(client.reply() == Reply::bulk(&value));
        server.signal("TERM");
        for number in 1..20 {
            assert!(client.reply() == Reply::bulk(&value), "{flags:?}: reply {number}");
        }
        assert_eq!(client.rest(), b"");
        assert_eq!(server.wait(), Some(0), "{flags:?}");
    }
}

#[test]
fn a_second_signal_does_not_wait() {
    let mut server = Server::start(&["--drain", "1h"]);
    let mut stuck = server.client();
    stuck.call_bytes(&[b"SET", b"a", &vec![b'v'; 1_000_000]]);
    stuck.send(encode(&[b"GET", b"a"]).repeat(100));
    let mut first = [0; 1];
    stuck.stream().read_exact(&mut first).expect("the replies begin");
    server.signal("TERM");
    std::thread::sleep(Duration::from_millis(300));
    assert!(server.is_alive(), "a client has not got its replies");
    let mut late = server.client();
    assert!(late.reply().text().contains("max number of clients"), "nobody is let in");
    server.signal("TERM");
    assert_eq!(server.wait(), Some(1));
}
