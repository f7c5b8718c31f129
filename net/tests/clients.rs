//! The server as the clients see it that people have: the `redis` crate, Redis's own tools, and
//! the usual Python libraries.
//!
//! Where a tool is absent, its test is skipped and says so; with `PINION_REQUIRE_CLIENTS` in the
//! environment it fails. `PINION_PYTHON` names a Python that has the libraries; without it
//! `python3` is asked whether it has.

mod support;

use std::collections::HashMap;
use std::process::{Command, Stdio};

use redis::{Connection, RedisResult, TypedCommands};
use support::{Server, tools};

/// Connects the `redis` crate in a version of the protocol.
fn connect(server: &Server, protocol: &str) -> Connection {
    let url = format!("redis://{}/?protocol={protocol}", server.resp);
    let client = redis::Client::open(url).expect("a good address");
    client.get_connection().expect("connected")
}

fn rust_session(connection: &mut Connection) -> RedisResult<()> {
    connection.flushall()?;
    connection.set("a", "1")?;
    assert_eq!(connection.get("a")?, Some("1".to_owned()));
    assert_eq!(connection.get("none")?, None);
    assert_eq!(connection.incr("a", 41)?, 42);
    assert_eq!(connection.decr("a", 2)?, 40);
    connection.set_ex("b", "short", 100)?;
    assert_eq!(connection.ttl("b")?, redis::IntegerReplyOrNoOp::IntegerReply(100));
    assert_eq!(connection.ttl("a")?, redis::IntegerReplyOrNoOp::ExistsButNotRelevant);
    assert_eq!(connection.ttl("none")?, redis::IntegerReplyOrNoOp::NotExists);
    assert!(connection.expire("a", 50)?);
    assert!(connection.persist("a")?);
    connection.mset(&[("x", "1"), ("y", "2")])?;
    let values: Vec<Option<String>> =
        redis::cmd("MGET").arg(&["x", "none", "y"]).query(connection)?;
    assert_eq!(values, [Some("1".into()), None, Some("2".into())]);
    assert_eq!(connection.del(&["x", "y", "none"])?, 2);
    assert!(connection.exists("a")? && !connection.exists("x")?);
    assert!(connection.set_nx("n", "1")? && !connection.set_nx("n", "2")?);
    let big = vec![b'b'; 2_000_000];
    connection.set("big", &big[..])?;
    let back: Vec<u8> = redis::cmd("GET").arg("big").query(connection)?;
    assert!(back == big, "the value came back changed");
    let mut pipe = redis::pipe();
    for number in 0..1_000 {
        pipe.cmd("SET").arg(format!("p:{number}")).arg(number).ignore();
        pipe.cmd("INCR").arg(format!("p:{number}"));
    }
    let numbers: Vec<i64> = pipe.query(connection)?;
    assert_eq!(numbers, (1..=1_000).collect::<Vec<_>>());
    let failure = redis::cmd("INCR").arg("big").query::<i64>(connection).expect_err("no number");
    assert_eq!(failure.code(), Some("ERR"));
    let failure = redis::cmd("NOPE").query::<()>(connection).expect_err("no command");
    assert!(failure.to_string().contains("unknown command 'NOPE'"), "{failure}");
    let settings: HashMap<String, String> =
        redis::cmd("CONFIG").arg("GET").arg("max*").query(connection)?;
    assert_eq!(settings.get("maxmemory").map(String::as_str), Some("268435456"));
    let info: redis::InfoDict = redis::cmd("INFO").query(connection)?;
    assert_eq!(info.get::<usize>("connected_clients"), Some(1));
    assert!(redis::cmd("PING").query::<String>(connection)? == "PONG");
    Ok(())
}

#[test]
fn the_redis_crate_works_in_both_protocols() {
    let server = Server::start(&[]);
    for protocol in ["resp2", "resp3"] {
        let mut connection = connect(&server, protocol);
        rust_session(&mut connection).unwrap_or_else(|error| panic!("{protocol}: {error}"));
    }
    // RESP3 really is spoken: HELLO answers with a map.
    let mut connection = connect(&server, "resp3");
    let hello: redis::Value = redis::cmd("HELLO").query(&mut connection).expect("HELLO");
    assert!(matches!(hello, redis::Value::Map(_)), "{hello:?}");
}

#[test]
fn the_redis_crate_has_transactions_and_iterators() {
    let server = Server::start(&[]);
    for protocol in ["resp2", "resp3"] {
        let (mut connection, mut other) = (connect(&server, protocol), connect(&server, protocol));
        connection.flushall().expect("FLUSHALL");
        let mut tries = 0;
        let (value,): (i64,) = redis::transaction(&mut connection, &["n"], |connection, pipe| {
            tries += 1;
            let value = connection.get_int("n")?.unwrap_or(0);
            if tries == 1 {
                other.set("n", 20)?;
            }
            pipe.set("n", value + 1).ignore().get("n").query(connection)
        })
        .expect("a transaction");
        assert_eq!((value, tries), (21, 2), "{protocol}: the first try had to fail");
        let pairs: Vec<(String, usize)> = (0..300).map(|n| (format!("scan:{n}"), n)).collect();
        connection.mset(&pairs).expect("MSET");
        let mut found: Vec<String> = connection
            .scan_match("scan:1*")
            .expect("SCAN")
            .collect::<RedisResult<_>>()
            .expect("pages of keys");
        found.sort();
        found.dedup();
        assert_eq!(found.len(), 111, "{protocol}");
        let options = redis::CopyOptions::default().replace(true);
        assert!(connection.copy("scan:1", "scan:2", options).expect("COPY"), "{protocol}");
        assert_eq!(connection.get("scan:2").expect("GET"), Some("1".to_owned()));
    }
}

#[test]
fn redis_cli_understands_every_answer() {
    let Some(program) = tools::program("redis-cli") else { return };
    let server = Server::start(&[]);
    let port = server.resp.port().to_string();
    let run = |args: &[&str], input: &[u8]| {
        tools::output(Command::new(&program).args(["-p", &port]).args(args), input)
    };
    for version in ["-2", "-3"] {
        for (args, answer) in [
            (&["FLUSHALL"][..], "OK\n"),
            (&["SET", "a", "1", "EX", "1000"], "OK\n"),
            (&["GET", "a"], "1\n"),
            (&["GET", "none"], "\n"),
            (&["INCR", "a"], "2\n"),
            (&["MSET", "b", "1", "c", "2"], "OK\n"),
            (&["MGET", "b", "none", "c"], "1\n\n2\n"),
            (&["DEL", "b", "c"], "2\n"),
            (&["DBSIZE"], "1\n"),
            (&["ECHO", "hello world"], "hello world\n"),
        ] {
            assert_eq!(run(&[&[version], args].concat(), b""), answer, "{version} {args:?}");
        }
        // A map or a flat list, according to the version.
        let settings = run(&[version, "CONFIG", "GET", "maxmemory"], b"");
        let settings: Vec<&str> = settings.split_whitespace().collect();
        assert_eq!(settings, ["maxmemory", "268435456"]);
        let refused = run(&[version, "NOPE"], b"");
        assert!(refused.contains("unknown command 'NOPE'"), "{refused}");
        let info = run(&[version, "INFO"], b"");
        for field in ["redis_version:", "connected_clients:1", "db0:keys=1"] {
            assert!(info.contains(field), "{field} is missing in {info}");
        }
    }
    // Commands from standard input, and the bulk loader with its ECHO at the end.
    let mut lines = String::new();
    let mut bulk = Vec::new();
    for number in 0..5_000 {
        if number < 100 {
            lines.push_str(&format!("SET line:{number} {number}\n"));
        }
        let (key, value) = (format!("bulk:{number}"), "v".repeat(number % 300));
        bulk.extend(support::encode(&[b"SET", key.as_bytes(), value.as_bytes()]));
    }
    assert_eq!(run(&[], lines.as_bytes()), "OK\n".repeat(100));
    let report = run(&["--pipe"], &bulk);
    assert!(report.contains("errors: 0, replies: 5000"), "{report}");
    assert_eq!(run(&["DBSIZE"], b""), "5101\n");
}

#[test]
fn redis_benchmark_meets_no_error() {
    let Some(program) = tools::program("redis-benchmark") else { return };
    let server = Server::start(&[]);
    let port = server.resp.port().to_string();
    for pipeline in ["1", "16"] {
        let mut command = Command::new(&program);
        command.args(["-p", &port, "-n", "20000", "-q", "-P", pipeline, "-r", "1000"]);
        let report = tools::output(command.args(["-t", "set,get,incr,mset,ping"]), b"");
        assert!(!report.to_lowercase().contains("error"), "{report}");
        // It rewrites its lines in place by carriage returns.
        for name in ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET (10 keys)"] {
            let is_result = |line: &&str| {
                line.starts_with(&format!("{name}: ")) && line.contains("requests per second")
            };
            let lines = report.split(['\r', '\n']).filter(is_result).count();
            assert_eq!(lines, 1, "{name} in {report:?}");
        }
    }
    let info = server.client().call(&["INFO", "stats"]).text();
    // CONFIG GET is answered, and nothing else is asked that could be refused.
    assert_eq!(support::info_number(&info, "total_error_replies"), 0);
    assert!(support::info_number(&info, "total_commands_processed") >= 240_000);
}

/// A Python that has the libraries.
fn python() -> Option<String> {
    let candidate = std::env::var("PINION_PYTHON").unwrap_or_else(|_| "python3".into());
    let status = Command::new(&candidate)
        .args(["-c", "import redis, redis.asyncio, pymemcache"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let found = status.is_ok_and(|status| status.success()).then_some(candidate);
    tools::required(found, "Python with redis and pymemcache (see PINION_PYTHON)")
}

fn python_session(part: &str) {
    let Some(python) = python() else { return };
    let server = Server::start(&[]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/session.py");
    let ports = [server.resp.port().to_string(), server.memcached.port().to_string()];
    let output = tools::output(Command::new(python).arg(script).arg(part).args(ports), b"");
    assert_eq!(output.lines().last(), Some("passed"), "{output}");
}

#[test]
fn redis_py_works() {
    python_session("redis");
}

#[test]
fn redis_py_works_with_asyncio() {
    python_session("redis-asyncio");
}

#[test]
fn redis_py_changes_strings_and_keys() {
    python_session("redis-commands");
}

#[test]
fn redis_py_has_transactions() {
    python_session("redis-transactions");
}

#[test]
fn redis_py_takes_locks() {
    python_session("redis-locks");
}

#[test]
fn redis_py_has_transactions_with_asyncio() {
    python_session("redis-asyncio-transactions");
}

#[test]
fn pymemcache_works() {
    python_session("pymemcache");
}
