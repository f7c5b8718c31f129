//! Core ports, where a core is a node of a cluster, and the Unix sockets of single cores.

mod support;

use std::io::{Read, Write};
use std::net::Ipv6Addr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use support::cluster::{Cluster, cpus};
use support::{Client, Reply, Server, info_number, ok};

/// Keys of the first and of the second half of the slots: 5061 and 12182.
const LOW: &str = "bar";
const HIGH: &str = "foo";

fn error(reply: &Reply) -> String {
    match reply {
        Reply::Error(text) => text.clone(),
        other => panic!("{other:?} is no error"),
    }
}

#[test]
fn a_node_serves_its_keys_and_names_the_node_of_others() {
    let cluster = Cluster::start(2, &[]);
    let (mut low, mut high) = (cluster.node(0), cluster.node(1));
    let host = format!("127.0.0.1:{}", cluster.base + 1);
    assert_eq!(low.call(&["SET", LOW, "1"]), ok());
    assert_eq!(error(&low.call(&["SET", HIGH, "1"])), format!("MOVED 12182 {host}"));
    assert_eq!(high.call(&["SET", HIGH, "2"]), ok());
    let large = "v".repeat(1_000_000);
    assert_eq!(error(&low.call(&["SET", HIGH, &large])), format!("MOVED 12182 {host}"));
    assert_eq!(high.call(&["GET", HIGH]), Reply::bulk("2"), "it was not touched");
    for keys in [[LOW, HIGH], [HIGH, LOW], [LOW, "{bar2}"]] {
        let text = error(&low.call(&[&["MGET"], &keys[..]].concat()));
        assert_eq!(text, "CROSSSLOT Keys in request don't hash to the same slot");
    }
    let object = error(&low.call(&["OBJECT", "ENCODING", HIGH]));
    assert_eq!(object, format!("MOVED 12182 {host}"));
    // A port that all cores share serves every key, and is no cluster.
    let mut shared = cluster.server.client();
    let values = Reply::Array(vec![Reply::bulk("1"), Reply::bulk("2")]);
    assert_eq!(shared.call(&["MGET", LOW, HIGH]), values);
    for command in [&["CLUSTER", "SLOTS"][..], &["CLUSTER", "NODES"], &["READONLY"]] {
        let text = "ERR This instance has cluster support disabled";
        assert_eq!(error(&shared.call(command)), text);
    }
}

#[test]
fn a_node_speaks_for_itself() {
    let cluster = Cluster::start(2, &[]);
    let (mut low, mut high) = (cluster.node(0), cluster.node(1));
    let mut shared = cluster.server.client();
    for number in 0..100 {
        assert_eq!(shared.call(&["SET", &format!("{{{LOW}}}{number}"), "v"]), ok());
    }
    assert_eq!(shared.call(&["SET", HIGH, "v"]), ok());
    for (node, count) in [(&mut low, 100), (&mut high, 1)] {
        assert_eq!(node.call(&["DBSIZE"]), Reply::Integer(count));
        let Reply::Array(keys) = node.call(&["KEYS", "*"]) else { panic!("no keys") };
        assert_eq!(keys.len() as i64, count);
        let mut found = 0;
        let mut cursor = "0".to_owned();
        loop {
            let Reply::Array(page) = node.call(&["SCAN", &cursor]) else { panic!("no page") };
            let Reply::Array(keys) = &page[1] else { panic!("no keys") };
            found += keys.len() as i64;
            cursor = page[0].text();
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(found, count);
        let info = node.call(&["INFO", "cluster"]).text();
        assert_eq!(info_number(&info, "cluster_enabled"), 1);
    }
    assert_eq!(high.call(&["RANDOMKEY"]), Reply::bulk(HIGH));
    assert_eq!(shared.call(&["DBSIZE"]), Reply::Integer(101));
    assert_eq!(low.call(&["FLUSHALL"]), ok());
    assert_eq!(shared.call(&["DBSIZE"]), Reply::Integer(1));
    // Of connections a node knows those that came to its core; the shared port knows all.
    let lines = |reply: Reply| reply.text().lines().count();
    let (of_low, of_high) =
        (lines(low.call(&["CLIENT", "LIST"])), lines(high.call(&["CLIENT", "LIST"])));
    assert_eq!(of_low + of_high, 3);
    assert_eq!(lines(shared.call(&["CLIENT", "LIST"])), 3);
    // What is configured is the server, whose cores these are.
    assert_eq!(low.call(&["CONFIG", "SET", "timeout", "77"]), ok());
    let timeout = Reply::Array(vec![Reply::bulk("timeout"), Reply::bulk("77")]);
    for client in [&mut low, &mut high, &mut shared] {
        assert_eq!(client.call(&["CONFIG", "GET", "timeout"]), timeout);
    }
    let port = Reply::Array(vec![Reply::bulk("port"), Reply::bulk((cluster.base + 1).to_string())]);
    assert_eq!(high.call(&["CONFIG", "GET", "port"]), port);
}

#[test]
fn without_redirects_a_node_serves_keys_of_others() {
    let cluster = Cluster::start(2, &["--redirect", "off"]);
    let (mut low, mut high) = (cluster.node(0), cluster.node(1));
    assert_eq!(low.call(&["SET", HIGH, "1"]), ok());
    assert_eq!(low.call(&["INCR", HIGH]), Reply::Integer(2));
    assert_eq!(high.call(&["GET", HIGH]), Reply::bulk("2"));
    assert_eq!(low.call(&["OBJECT", "ENCODING", HIGH]), Reply::bulk("int"));
    let set = low.call(&["MSET", "{foo}1", "a", "{foo}2", "b"]);
    assert_eq!(set, ok());
    let values = Reply::Array(vec![Reply::bulk("b"), Reply::bulk("a")]);
    assert_eq!(low.call(&["MGET", "{foo}2", "{foo}1"]), values);
    // Several slots are too many all the same, and what has no keys is about this core.
    for keys in [[LOW, HIGH], [HIGH, LOW], [HIGH, "{foo2}"]] {
        let text = error(&low.call(&[&["DEL"], &keys[..]].concat()));
        assert_eq!(text, "CROSSSLOT Keys in request don't hash to the same slot");
    }
    assert_eq!(low.call(&["DBSIZE"]), Reply::Integer(0));
    assert_eq!(high.call(&["DBSIZE"]), Reply::Integer(3));
    // A transaction runs at the core of its keys.
    assert_eq!(low.call(&["WATCH", HIGH]), ok());
    assert_eq!(low.call(&["MULTI"]), ok());
    for command in [&["INCR", HIGH][..], &["GET", HIGH]] {
        assert_eq!(low.call(command), Reply::Simple("QUEUED".into()));
    }
    let replies = Reply::Array(vec![Reply::Integer(3), Reply::bulk("3")]);
    assert_eq!(low.call(&["EXEC"]), replies);
    assert_eq!(low.call(&["WATCH", HIGH]), ok());
    assert_eq!(high.call(&["SET", HIGH, "9"]), ok());
    assert_eq!(low.call(&["MULTI"]), ok());
    assert_eq!(low.call(&["INCR", HIGH]), Reply::Simple("QUEUED".into()));
    assert_eq!(low.call(&["EXEC"]), Reply::Null, "the key has changed");
    // Two slots of one core.
    assert_eq!(low.call(&["MULTI"]), ok());
    for key in [HIGH, "x"] {
        assert_eq!(low.call(&["GET", key]), Reply::Simple("QUEUED".into()));
    }
    let text = "CROSSSLOT Keys in request don't hash to the same slot";
    assert_eq!(error(&low.call(&["EXEC"])), text);
}

#[test]
fn a_client_is_told_the_address_by_which_it_came_or_what_is_announced() {
    let cluster = Cluster::start(2, &["--bind", "127.0.0.1,::1"]);
    let (nodes_of, port) =
        (|client: &mut Client| client.call(&["CLUSTER", "NODES"]).text(), cluster.base);
    let mut six = Client::connect((Ipv6Addr::LOCALHOST, port).into());
    assert!(nodes_of(&mut six).contains(&format!(" ::1:{}@{} ", port + 1, port + 1)));
    assert_eq!(error(&six.call(&["GET", HIGH])), format!("MOVED 12182 ::1:{}", port + 1));
    assert!(nodes_of(&mut cluster.node(0)).contains(&format!(" 127.0.0.1:{}@", port + 1)));
    drop(cluster);
    let cluster = Cluster::start(2, &["--announce", "cache.example"]);
    let mut node = cluster.node(0);
    let host = format!("cache.example:{}", cluster.base + 1);
    assert!(node.call(&["CLUSTER", "NODES"]).text().contains(&host));
    assert_eq!(error(&node.call(&["GET", HIGH])), format!("MOVED 12182 {host}"));
}

#[test]
fn ports_that_cannot_be_had_are_told_by_name() {
    let cluster = Cluster::start(2, &[]);
    let (cpus, taken) = (cpus(2), cluster.base.to_string());
    let run = |flags: &[&str]| {
        let all = ["--port", "0", "--memcached-port", "0", "--memory", "128MiB", "--cores", &cpus];
        let (code, text) = support::run_to_end(&[&all[..], flags].concat());
        assert_eq!(code, Some(1), "{text}");
        text
    };
    let text = run(&["--core-ports", &taken]);
    assert!(text.contains(&taken) && text.contains("--core-ports"), "{text}");
    let text = run(&["--core-ports", "65535"]);
    assert!(text.contains("65535 to 65536"), "{text}");
}

/// A file name in the system's folder for such.
fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("pinion-{name}-{}", std::process::id()))
}

fn ask(path: &std::path::Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).expect("it listens");
    stream.write_all(request).expect("write");
    stream.shutdown(std::net::Shutdown::Write).expect("shutdown");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("read");
    reply
}

/// The core of a connection, by its number: those of different cores differ in the remainder.
fn core_of(reply: &str, cores: u64) -> u64 {
    let number = reply.trim().trim_start_matches(':').parse::<u64>().expect("a number");
    (number - 1) % cores
}

#[test]
fn each_core_has_a_unix_socket_and_the_shared_one_is_dealt_evenly() {
    let (resp, memcached) = (path("cores"), path("cores-memcached"));
    let of = |path: &PathBuf, core| PathBuf::from(format!("{}.{core}", path.display()));
    let cpus = cpus(3);
    let flags = ["--cores", &cpus, "--memory", "192MiB"];
    let unix = ["--unix", resp.to_str().expect("text")];
    let other = ["--memcached-unix", memcached.to_str().expect("text")];
    let start = || Server::start(&[&flags[..], &unix, &other].concat());
    let mut server = start();
    for core in 0..3 {
        for _ in 0..3 {
            let reply = ask(&of(&resp, core), b"CLIENT ID\r\n");
            assert_eq!(core_of(&reply, 3), core, "{reply}");
        }
        assert!(ask(&of(&memcached, core), b"version\r\n").starts_with("VERSION "));
    }
    let mut streams = Vec::new();
    let mut counts = [0; 3];
    for _ in 0..30 {
        let mut stream = UnixStream::connect(&resp).expect("it listens");
        stream.write_all(b"CLIENT ID\r\n").expect("write");
        let mut reply = [0; 64];
        let length = stream.read(&mut reply).expect("read");
        let reply = String::from_utf8_lossy(&reply[..length]).into_owned();
        counts[core_of(&reply, 3) as usize] += 1;
        streams.push(stream);
    }
    assert_eq!(counts, [10; 3]);
    // Every path serves every key.
    ask(&memcached, b"set a 0 0 1\r\nx\r\n");
    for core in 0..3 {
        assert_eq!(ask(&of(&resp, core), b"GET a\r\n"), "$1\r\nx\r\n");
    }
    // What a server that was killed has left is replaced; at the end nothing is left.
    server.signal("KILL");
    server.wait();
    assert!(of(&resp, 1).exists());
    let mut server = start();
    assert_eq!(ask(&of(&resp, 1), b"PING\r\n"), "+PONG\r\n");
    drop(streams);
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    for core in 0..3 {
        assert!(!of(&resp, core).exists() && !of(&memcached, core).exists());
    }
    assert!(!resp.exists() && !memcached.exists());
}
