//! The cores as nodes of a cluster, as the cluster clients see them that people have: the `redis`
//! crate, Redis's own tools, redis-py, ioredis and node-redis; over two cores and over 64.
//!
//! Each session counts what it asked of the wrong node, and goes on when the server has been
//! started again with another number of cores. Where a tool is absent, its test is skipped as in
//! `clients.rs` and `clients_node.rs`, whose variables tell where libraries are.

mod support;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use redis::cluster::{ClusterClient, ClusterConnection};
use redis::cluster_async;
use support::cluster::Cluster;
use support::tools;

/// Numbers of cores: before the server is started again, and after.
const COUNTS: [(u16, u16); 2] = [(2, 3), (64, 5)];
const KEYS: usize = 1_500;

/// Checks that of the commands since then at most one in a thousand went to a wrong node.
fn assert_local(cluster: &Cluster, since: (u64, u64), least: u64) {
    let (commands, moved) = cluster.commands_and_moves();
    let (commands, moved) = (commands - since.0, moved - since.1);
    assert!(commands >= least, "{commands} commands, at least {least} were sent");
    assert!(moved * 1_000 <= commands, "{moved} of {commands} commands went to a wrong node");
}

/// Runs a session in another process. What it prints tells when the server is to be started again.
fn run_session(command: &mut Command, (before, after): (u16, u16)) {
    let mut cluster = Cluster::start(before, &[]);
    let mut child = command
        .arg(cluster.base.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    let mut since = (0, 0);
    let mut words = Vec::new();
    for word in BufReader::new(child.stdout.take().expect("it is piped")).lines() {
        let word = word.expect("text");
        match word.as_str() {
            "restart" => {
                assert_local(&cluster, (0, 0), 2 * KEYS as u64);
                cluster.restart(after, &[]);
                stdin.write_all(b"go\n").expect("it reads");
            }
            "settled" => {
                since = cluster.commands_and_moves();
                stdin.write_all(b"go\n").expect("it reads");
            }
            "passed" => assert_local(&cluster, since, KEYS as u64),
            _ => println!("{word}"),
        }
        words.push(word);
    }
    assert!(child.wait().expect("it ends").success());
    for word in ["restart", "settled", "passed"] {
        assert!(words.iter().any(|other| other == word), "{word} is missing in {words:?}");
    }
}

fn python_session(part: &str) {
    let python = std::env::var("PINION_PYTHON").unwrap_or_else(|_| "python3".into());
    if !has_package(Command::new(&python).args(["-c", "import redis.asyncio"]), "redis-py") {
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/cluster.py");
    for counts in COUNTS {
        run_session(Command::new(&python).args([script, part]), counts);
    }
}

fn node_session(part: &str, package: &str) {
    let Some(node) = tools::program("node") else { return };
    let modules = std::env::var_os("PINION_NODE_MODULES").unwrap_or_default();
    let require = format!("require('{package}')");
    if !has_package(Command::new(&node).env("NODE_PATH", &modules).args(["-e", &require]), package)
    {
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/cluster.js");
    for counts in COUNTS {
        run_session(Command::new(&node).env("NODE_PATH", &modules).args([script, part]), counts);
    }
}

/// Whether a library is there, which the command finds out.
fn has_package(command: &mut Command, name: &str) -> bool {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = status.is_ok_and(|status| status.success()).then_some(());
    tools::required(found, &format!("{name} (see PINION_PYTHON and PINION_NODE_MODULES)")).is_some()
}

#[test]
fn redis_py_sends_keys_to_their_cores() {
    python_session("redis");
}

#[test]
fn redis_py_with_asyncio_sends_keys_to_their_cores() {
    python_session("redis-asyncio");
}

#[test]
fn ioredis_sends_keys_to_their_cores() {
    node_session("ioredis", "ioredis");
}

#[test]
fn node_redis_sends_keys_to_their_cores() {
    node_session("node-redis", "redis");
}

fn seeds(cluster: &Cluster) -> Vec<String> {
    vec![format!("redis://127.0.0.1:{}", cluster.base)]
}

fn crate_session(connection: &mut ClusterConnection) {
    let () = redis::cmd("FLUSHALL").query(connection).expect("FLUSHALL");
    for number in 0..KEYS {
        let () = redis::cmd("SET")
            .arg(format!("key:{number}"))
            .arg(number)
            .query(connection)
            .expect("SET");
    }
    for number in 0..KEYS {
        let value: usize =
            redis::cmd("GET").arg(format!("key:{number}")).query(connection).expect("GET");
        assert_eq!(value, number);
    }
    let size: usize = redis::cmd("DBSIZE").query(connection).expect("DBSIZE");
    assert_eq!(size, KEYS);
    let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query(connection).expect("KEYS");
    keys.sort();
    let mut names: Vec<String> = (0..KEYS).map(|number| format!("key:{number}")).collect();
    names.sort();
    assert!(keys == names, "{} keys instead of {KEYS}", keys.len());
    // A command with keys of several slots is split by the crate.
    let () =
        redis::cmd("MSET").arg(&["x", "1", "y", "2", "z", "3"]).query(connection).expect("MSET");
    let values: Vec<i64> =
        redis::cmd("MGET").arg(&["z", "x", "y"]).query(connection).expect("MGET");
    assert_eq!(values, [3, 1, 2]);
    let mut pipe = redis::cluster::cluster_pipe();
    for number in 0..500 {
        pipe.cmd("INCR").arg(format!("count:{number}"));
    }
    let counts: Vec<i64> = pipe.query(connection).expect("a pipeline");
    assert_eq!(counts, [1; 500]);
}

/// Sets keys, again and again while the client looks for the new cores: others are asked for
/// meanwhile, since it mends connections as it uses them.
fn find_again(mut set: impl FnMut(usize) -> redis::RedisResult<()>) {
    let deadline = Instant::now() + Duration::from_secs(40);
    let mut left: VecDeque<usize> = (0..KEYS).collect();
    while let Some(number) = left.pop_front() {
        if let Err(error) = set(number) {
            assert!(Instant::now() < deadline, "the client does not find the cores: {error}");
            left.push_back(number);
        }
    }
}

#[test]
fn the_redis_crate_sends_keys_to_their_cores() {
    // It asks the nodes that it knows for the new ones, and gives up at the first that it cannot
    // reach: one that is to survive fewer cores has to be made anew.
    for (before, after) in [(2, 3), (64, 66)] {
        let mut cluster = Cluster::start(before, &[]);
        let client = ClusterClient::new(seeds(&cluster)).expect("good addresses");
        let mut connection = client.get_connection().expect("connected");
        crate_session(&mut connection);
        assert_local(&cluster, (0, 0), 2 * KEYS as u64);
        cluster.restart(after, &[]);
        find_again(|number| {
            redis::cmd("SET").arg(format!("key:{number}")).arg(number).query(&mut connection)
        });
        let since = cluster.commands_and_moves();
        for number in 0..KEYS {
            let value: Option<usize> =
                redis::cmd("GET").arg(format!("key:{number}")).query(&mut connection).expect("GET");
            assert_eq!(value, Some(number));
        }
        assert_local(&cluster, since, KEYS as u64);
    }
}

async fn crate_async_session(connection: &mut cluster_async::ClusterConnection) {
    let () = redis::cmd("FLUSHALL").query_async(connection).await.expect("FLUSHALL");
    for number in 0..KEYS {
        let key = format!("key:{number}");
        let () =
            redis::cmd("SET").arg(&key).arg(number).query_async(connection).await.expect("SET");
        let value: usize = redis::cmd("GET").arg(&key).query_async(connection).await.expect("GET");
        assert_eq!(value, number);
    }
    let size: usize = redis::cmd("DBSIZE").query_async(connection).await.expect("DBSIZE");
    assert_eq!(size, KEYS);
    let keys: Vec<String> =
        redis::cmd("KEYS").arg("*").query_async(connection).await.expect("KEYS");
    assert_eq!(keys.len(), KEYS);
}

#[test]
fn the_redis_crate_with_tokio_sends_keys_to_their_cores() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    for (before, after) in COUNTS {
        let mut cluster = Cluster::start(before, &[]);
        let client = ClusterClient::new(seeds(&cluster)).expect("good addresses");
        let mut connection = runtime.block_on(client.get_async_connection()).expect("connected");
        runtime.block_on(crate_async_session(&mut connection));
        assert_local(&cluster, (0, 0), 2 * KEYS as u64);
        cluster.restart(after, &[]);
        find_again(|number| {
            let mut command = redis::cmd("SET");
            command.arg(format!("key:{number}")).arg(number);
            runtime.block_on(command.query_async(&mut connection))
        });
        let since = cluster.commands_and_moves();
        for number in 0..KEYS {
            let mut command = redis::cmd("GET");
            command.arg(format!("key:{number}"));
            let value: Option<usize> =
                runtime.block_on(command.query_async(&mut connection)).expect("GET");
            assert_eq!(value, Some(number));
        }
        assert_local(&cluster, since, KEYS as u64);
    }
}

#[test]
fn redis_benchmark_spreads_over_the_cores() {
    let Some(program) = tools::program("redis-benchmark") else { return };
    for (cores, _) in COUNTS {
        let cluster = Cluster::start(cores, &[]);
        let port = cluster.base.to_string();
        let mut command = Command::new(&program);
        command.args(["--cluster", "-p", &port, "-n", "20000", "-q", "-r", "10000", "-c", "64"]);
        let report = tools::output(command.args(["-t", "set,get", "-P", "4"]), b"");
        assert!(report.contains(&format!("Cluster has {cores} master nodes")), "{report}");
        assert!(!report.to_lowercase().contains("error"), "{report}");
        assert_local(&cluster, (0, 0), 40_000);
        assert!(cluster.keys() > 5_000);
    }
}

#[test]
fn redis_cli_follows_keys_to_their_cores() {
    let Some(program) = tools::program("redis-cli") else { return };
    for (cores, _) in COUNTS {
        let cluster = Cluster::start(cores, &[]);
        let port = cluster.base.to_string();
        let mut input = String::new();
        let mut expected = String::new();
        for number in 0..300 {
            input.push_str(&format!("SET key:{number} {number}\nGET key:{number}\n"));
            expected.push_str(&format!("OK\n{number}\n"));
        }
        let mut command = Command::new(&program);
        let output = tools::output(command.args(["-c", "-p", &port]), input.as_bytes());
        // It tells that it goes to another node.
        let replies = output.lines().filter(|line| !line.starts_with("-> Redirected"));
        assert!(replies.eq(expected.lines()), "{output}");
        assert_eq!(cluster.keys(), 300);
        // It asks every node, and checks that all slots are served and nodes agree.
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(&program);
        let report = tools::output(command.args(["--cluster", "check", &address]), b"");
        for line in ["All 16384 slots covered", "All nodes agree about slots configuration"] {
            assert!(report.contains(line), "{line} is missing in {report}");
        }
        let mut command = Command::new(&program);
        let call = command.args(["--cluster", "call", &address, "DBSIZE"]);
        let report = tools::output(call, b"");
        let sizes = report.lines().filter_map(|line| {
            let (address, size) = line.rsplit_once(": ")?;
            address.starts_with("127.0.0.1:").then(|| size.parse::<u64>().expect("a size"))
        });
        let sizes: Vec<u64> = sizes.collect();
        assert_eq!((sizes.len(), sizes.iter().sum()), (usize::from(cores), 300), "{report}");
    }
}
