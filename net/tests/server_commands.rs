//! Commands on the server: INFO, CONFIG, COMMAND, MEMORY, SLOWLOG, LATENCY, DEBUG, SHUTDOWN.

mod support;

use support::{Reply, Server, info_number, ok};

fn error(text: &str) -> Reply {
    Reply::Error(text.into())
}

fn info(client: &mut support::Client, section: &str) -> String {
    client.call(&["INFO", section]).text()
}

#[test]
fn info_has_what_monitoring_reads() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.call(&["SET", "a", "1", "EX", "1000"]);
    client.call(&["GET", "a"]);
    client.call(&["GET", "none"]);
    client.call(&["INCR", "a", "b"]);
    client.call(&["SETEX", "a", "x", "b"]);
    let text = info(&mut client, "everything");
    for field in [
        "uptime_in_seconds",
        "connected_clients",
        "used_memory",
        "used_memory_rss",
        "used_memory_peak",
        "maxmemory",
        "total_connections_received",
        "total_commands_processed",
        "instantaneous_ops_per_sec",
        "keyspace_hits",
        "expired_keys",
        "evicted_keys",
        "rdb_last_save_time",
        "connected_slaves",
    ] {
        info_number(&text, field);
    }
    assert_eq!(info_number(&text, "tcp_port"), u64::from(server.resp.port()));
    assert_eq!(info_number(&text, "process_id"), u64::from(server.pid()));
    assert_eq!(info_number(&text, "keyspace_hits"), 1);
    assert_eq!(info_number(&text, "keyspace_misses"), 1);
    for line in [
        "redis_version:7.4.0\r\n",
        "redis_mode:standalone\r\n",
        "maxmemory_human:256.00M\r\n",
        "role:master\r\n",
        "db0:keys=1,expires=1,avg_ttl=",
        "cmdstat_get:calls=2,usec=0,usec_per_call=0.00,rejected_calls=0,failed_calls=0\r\n",
        "cmdstat_incr:calls=0,usec=0,usec_per_call=0.00,rejected_calls=1,failed_calls=0\r\n",
        "cmdstat_setex:calls=1,usec=0,usec_per_call=0.00,rejected_calls=0,failed_calls=1\r\n",
        "errorstat_ERR:count=2\r\n",
    ] {
        assert!(text.contains(line), "{line} is missing in {text}");
    }
    let default = client.call(&["INFO"]).text();
    assert!(default.contains("# Keyspace") && !default.contains("# Commandstats"), "{default}");
    assert!(info(&mut client, "clients").starts_with("# Clients\r\n"));
    assert_eq!(info(&mut client, "nosuch"), "");
}

#[test]
fn counters_begin_anew() {
    let server = Server::start(&[]);
    let mut client = server.client();
    for _ in 0..10 {
        client.call(&["GET", "none"]);
    }
    client.call(&["NOSUCH"]);
    assert_eq!(client.call(&["CONFIG", "RESETSTAT"]), ok());
    let text = info(&mut client, "everything");
    assert_eq!(info_number(&text, "total_commands_processed"), 1, "INFO itself");
    assert_eq!(info_number(&text, "keyspace_misses"), 0);
    assert!(!text.contains("cmdstat_get:") && !text.contains("errorstat_"), "{text}");
}

#[test]
fn parameters_are_read_and_some_are_set() {
    let server = Server::start(&["--eviction", "lru", "--max-connections", "100"]);
    let mut client = server.client();
    client.call(&["HELLO", "3"]);
    let pair = |name: &str, value: &str| (Reply::bulk(name), Reply::bulk(value));
    let expected = vec![
        pair("appendonly", "no"),
        pair("databases", "16"),
        pair("maxclients", "100"),
        pair("maxmemory-policy", "allkeys-lru"),
        pair("save", ""),
    ];
    let get = ["CONFIG", "GET", "save", "append*y", "databases", "maxclient?", "MAXMEMORY-policy"];
    assert_eq!(client.call(&get), Reply::Map(expected));
    let set = ["CONFIG", "SET", "slowlog-max-len", "7", "latency-monitor-threshold", "50"];
    assert_eq!(client.call(&set), ok());
    let expected = vec![pair("latency-monitor-threshold", "50"), pair("slowlog-max-len", "7")];
    let get = ["CONFIG", "GET", "slowlog-max-len", "latency*"];
    assert_eq!(client.call(&get), Reply::Map(expected));
    assert_eq!(client.call(&["CONFIG", "SET", "save", "", "appendonly", "no"]), ok());
    let failed = |name: &str, reason: &str| {
        error(&format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"))
    };
    let set = ["CONFIG", "SET", "slowlog-max-len", "9", "appendonly", "yes"];
    assert_eq!(client.call(&set), failed("appendonly", "can't set immutable config"));
    let set = ["CONFIG", "SET", "slowlog-max-len", "9", "slowlog-max-len", "9"];
    assert_eq!(client.call(&set), failed("slowlog-max-len", "duplicate parameter"));
    let set = ["CONFIG", "SET", "slowlog-max-len", "9", "maxmemory", "1kb"];
    assert!(client.call(&set).text().contains("'maxmemory'"));
    let expected = vec![pair("slowlog-max-len", "7")];
    assert_eq!(client.call(&["CONFIG", "GET", "slowlog-max-len"]), Reply::Map(expected), "none");
    let text = "ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'";
    assert_eq!(client.call(&["CONFIG", "SET", "nosuch", "1"]), error(text));
    let text = "ERR The server is running without a config file";
    assert_eq!(client.call(&["CONFIG", "REWRITE"]), error(text));
}

#[test]
fn commands_describe_themselves() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let Reply::Integer(count) = client.call(&["COMMAND", "COUNT"]) else { panic!("a number") };
    let Reply::Array(all) = client.call(&["COMMAND"]) else { panic!("an array") };
    assert_eq!(all.len() as i64, count);
    let names = |reply: Reply| -> Vec<String> {
        let Reply::Array(names) = reply else { panic!("an array") };
        names.iter().map(Reply::text).collect()
    };
    let listed = names(client.call(&["COMMAND", "LIST"]));
    assert!(listed.len() as i64 > count && listed.contains(&"config|set".to_owned()));
    let listed = names(client.call(&["COMMAND", "LIST", "FILTERBY", "ACLCAT", "transaction"]));
    assert_eq!(listed.len(), 5, "{listed:?}");
    let listed = names(client.call(&["COMMAND", "LIST", "FILTERBY", "PATTERN", "mem*|u*"]));
    assert_eq!(listed, ["memory|usage"]);
    assert_eq!(client.call(&["COMMAND", "LIST", "FILTERBY", "MODULE", "x"]), Reply::Array(vec![]));
    let keys = names(client.call(&["COMMAND", "GETKEYS", "MSET", "a", "1", "b", "2"]));
    assert_eq!(keys, ["a", "b"]);
    assert_eq!(names(client.call(&["COMMAND", "GETKEYS", "MEMORY", "USAGE", "a"])), ["a"]);
    for (args, text) in [
        (&["NOSUCH", "a"][..], "ERR Invalid command specified"),
        (&["PING", "a"], "ERR The command has no key arguments"),
        (&["GET", "a", "b"], "ERR Invalid number of arguments specified for command"),
    ] {
        assert_eq!(client.call(&[&["COMMAND", "GETKEYS"], args].concat()), error(text));
    }
    let Reply::Array(found) = client.call(&["COMMAND", "GETKEYSANDFLAGS", "SET", "a", "b"]) else {
        panic!("an array")
    };
    let flags = ["OW", "update"].map(|flag| Reply::Simple(flag.into()));
    assert_eq!(found, [Reply::Array(vec![Reply::bulk("a"), Reply::Array(flags.into())])]);
}

#[test]
fn every_container_has_help() {
    let server = Server::start(&["--enable-debug-command"]);
    let mut client = server.client();
    for name in ["CLIENT", "COMMAND", "CONFIG", "DEBUG", "LATENCY", "MEMORY", "SLOWLOG"] {
        let Reply::Array(lines) = client.call(&[name, "HELP"]) else { panic!("{name}") };
        let first = lines[0].text();
        assert!(first.starts_with(name) && lines.len() > 4, "{lines:?}");
        assert!(lines.iter().all(|line| matches!(line, Reply::Simple(_))));
    }
}

#[test]
fn memory_is_told_of_keys_and_of_the_server() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.call(&["SET", "small", "x"]);
    client.call(&["SET", "large", &"x".repeat(100_000)]);
    let Reply::Integer(small) = client.call(&["MEMORY", "USAGE", "small"]) else { panic!() };
    assert!((16..100).contains(&small), "{small}");
    let usage = ["MEMORY", "USAGE", "large", "SAMPLES", "0"];
    let Reply::Integer(large) = client.call(&usage) else { panic!() };
    assert!((100_000..140_000).contains(&large), "{large}");
    assert_eq!(client.call(&["MEMORY", "USAGE", "none"]), Reply::Null);
    let Reply::Array(stats) = client.call(&["MEMORY", "STATS"]) else { panic!("an array") };
    let at = stats.iter().position(|entry| *entry == Reply::bulk("keys.count")).expect("there");
    assert_eq!(stats[at + 1], Reply::Integer(2));
    assert!(!client.call(&["MEMORY", "DOCTOR"]).text().is_empty());
    assert_eq!(client.call(&["MEMORY", "PURGE"]), ok());
}

#[test]
fn slow_commands_are_kept() {
    let server = Server::start(&["--enable-debug-command"]);
    let mut client = server.client();
    client.call(&["CLIENT", "SETNAME", "me"]);
    assert_eq!(client.call(&["CONFIG", "SET", "latency-monitor-threshold", "10"]), ok());
    assert_eq!(client.call(&["DEBUG", "SLEEP", "0.03"]), ok());
    assert_eq!(client.call(&["SLOWLOG", "LEN"]), Reply::Integer(1));
    let Reply::Array(entries) = client.call(&["SLOWLOG", "GET"]) else { panic!("an array") };
    let Reply::Array(entry) = &entries[0] else { panic!("an array") };
    assert!(matches!(entry[2], Reply::Integer(30_000..)), "{entry:?}");
    let args = ["DEBUG", "SLEEP", "0.03"].map(Reply::bulk);
    assert_eq!(entry[3], Reply::Array(args.into()));
    let address = client.stream().local_addr().expect("connected").to_string();
    assert_eq!((&entry[4], &entry[5]), (&Reply::bulk(address), &Reply::bulk("me")));
    let Reply::Array(latest) = client.call(&["LATENCY", "LATEST"]) else { panic!("an array") };
    let Reply::Array(event) = &latest[0] else { panic!("an array") };
    assert_eq!(event[0], Reply::bulk("command"));
    let Reply::Array(history) = client.call(&["LATENCY", "HISTORY", "command"]) else { panic!() };
    assert_eq!(history.len(), 1);
    assert!(client.call(&["LATENCY", "GRAPH", "command"]).text().contains('#'));
    assert_eq!(client.call(&["LATENCY", "RESET"]), Reply::Integer(1));
    // Below a millisecond every command is timed.
    assert_eq!(client.call(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]), ok());
    assert_eq!(client.call(&["SLOWLOG", "RESET"]), ok());
    client.call(&["GET", "a"]);
    client.call(&["AUTH", "default", "secret"]);
    assert_eq!(client.call(&["CONFIG", "SET", "slowlog-log-slower-than", "-1"]), ok());
    let Reply::Array(entries) = client.call(&["SLOWLOG", "GET", "-1"]) else { panic!("an array") };
    let text = format!("{entries:?}");
    assert!(entries.len() >= 2 && !text.contains("secret"), "{text}");
}

#[test]
fn debug_has_to_be_allowed() {
    let server = Server::start(&[]);
    let reply = server.client().call(&["DEBUG", "SLEEP", "0"]).text();
    assert!(reply.starts_with("ERR DEBUG command not allowed."), "{reply}");
    let server = Server::start(&["--enable-debug-command"]);
    let mut client = server.client();
    client.call(&["SET", "n", "12"]);
    assert!(client.call(&["DEBUG", "OBJECT", "n"]).text().contains("encoding:int"));
    let size = client.call(&["DBSIZE"]);
    assert_eq!(client.call(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]), ok());
    assert_eq!(client.call(&["SET", "due", "v", "PX", "1"]), ok());
    std::thread::sleep(std::time::Duration::from_millis(30));
    assert_ne!(client.call(&["DBSIZE"]), size, "nobody has looked at it");
    assert_eq!(client.call(&["EXISTS", "due"]), Reply::Integer(0));
    assert_eq!(client.call(&["DBSIZE"]), size);
    assert_eq!(client.call(&["DEBUG", "SET-ACTIVE-EXPIRE", "1"]), ok());
    assert_eq!(client.call(&["DEBUG", "OBJECT", "none"]), error("ERR no such key"));
    assert_eq!(client.call(&["DEBUG", "STRINGMATCH-LEN", "1000", "*x"]), Reply::Integer(1));
    assert!(client.call(&["DEBUG", "JMAP"]).text().contains("Try DEBUG HELP"));
}

#[test]
fn shutdown_ends_the_server() {
    let mut server = Server::start(&[]);
    let mut client = server.client();
    assert_eq!(client.call(&["SHUTDOWN", "x"]), error("ERR syntax error"));
    assert_eq!(client.call(&["SHUTDOWN", "ABORT"]), error("ERR No shutdown in progress."));
    let text = "ERR Errors trying to SHUTDOWN. Check logs.";
    assert_eq!(client.call(&["SHUTDOWN", "SAVE"]), error(text), "nothing can be saved");
    client.send(support::encode(&[b"SHUTDOWN", b"NOSAVE", b"NOW"]));
    assert_eq!(client.rest(), b"");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn time_is_the_wall_clocks() {
    let server = Server::start(&[]);
    let Reply::Array(parts) = server.client().call(&["TIME"]) else { panic!("an array") };
    let parts: Vec<u64> = parts.iter().map(|part| part.text().parse().expect("digits")).collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now_s = now.expect("after 1970").as_secs();
    assert!(parts[0] <= now_s && now_s - parts[0] < 60 && parts[1] < 1_000_000);
}
