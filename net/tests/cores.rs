//! What administration and monitoring see of a server with several cores: all of them, wherever
//! they ask.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use support::{Client, Reply, Server, info_number, ok};

/// Four cores, whatever the machine has.
const FOUR: [&str; 2] = ["--cores", "0,0,0,0"];

/// A server with four cores and a client on each.
fn four_cores(flags: &[&str]) -> (Server, Vec<Client>) {
    let server = Server::start(&[&FOUR, flags].concat());
    let clients = one_on_each(&server, 4);
    (server, clients)
}

/// Clients of the RESP port, by the core that serves each.
fn one_on_each(server: &Server, cores: usize) -> Vec<Client> {
    let mut found: BTreeMap<usize, Client> = BTreeMap::new();
    for _ in 0..1_000 {
        let mut client = server.client();
        found.entry(core_of(&mut client)).or_insert(client);
        if found.len() == cores {
            return found.into_values().collect();
        }
    }
    panic!("no connection comes to some core: {:?}", found.keys());
}

fn core_of(client: &mut Client) -> usize {
    let line = client.call(&["CLIENT", "INFO"]).text();
    field(&line, "core").parse().expect("a number")
}

fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let found =
        line.split_ascii_whitespace().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("{name} is missing in {line}"))
}

fn info(client: &mut Client, section: &str) -> String {
    client.call(&["INFO", section]).text()
}

/// The table of cores, each with its figures by name.
fn table(client: &mut Client) -> Vec<BTreeMap<String, Reply>> {
    let Reply::Array(rows) = client.call(&["CORES"]) else { panic!("an array") };
    let row = |row: Reply| -> BTreeMap<String, Reply> {
        let Reply::Array(cells) = row else { panic!("a flat map in RESP2") };
        cells.chunks(2).map(|pair| (pair[0].text(), pair[1].clone())).collect()
    };
    rows.into_iter().map(row).collect()
}

fn number(row: &BTreeMap<String, Reply>, name: &str) -> u64 {
    match row.get(name) {
        Some(Reply::Integer(number)) => u64::try_from(*number).expect("not negative"),
        other => panic!("{name} is {other:?}"),
    }
}

fn sum(rows: &[BTreeMap<String, Reply>], name: &str) -> u64 {
    rows.iter().map(|row| number(row, name)).sum()
}

#[test]
fn figures_are_of_all_cores_and_of_each() {
    let (server, mut clients) = four_cores(&[]);
    assert_eq!(clients[0].call(&["CONFIG", "RESETSTAT"]), ok());
    for key in 0..100 {
        let client = &mut clients[key % 4];
        assert_eq!(client.call(&["SET", &format!("key:{key}"), "v", "EX", "1000"]), ok());
        assert_eq!(client.call(&["GET", &format!("key:{key}")]), Reply::bulk("v"));
        assert_eq!(client.call(&["GET", &format!("none:{key}")]), Reply::Null);
    }
    for client in &mut clients {
        let text = info(client, "everything");
        assert!(text.contains("db0:keys=100,expires=100,avg_ttl="), "{text}");
        assert_eq!(info_number(&text, "keyspace_hits"), 100);
        assert_eq!(info_number(&text, "keyspace_misses"), 100);
        assert_eq!(info_number(&text, "cores"), 4);
        assert_eq!(info_number(&text, "cores_not_answering"), 0);
        assert_eq!(info_number(&text, "maxmemory"), 256 << 20);
        assert!(info_number(&text, "connected_clients") >= 4);
        assert!(text.contains("cmdstat_set:calls=100,"), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("core")).count(), 6, "{text}");
        let asked = info_number(&text, "connection_core") as usize;
        assert_eq!(asked, core_of(client));
    }
    let text = info(&mut clients[0], "stats");
    // Each of the clients has asked for INFO, and for its core; this is one more.
    assert_eq!(info_number(&text, "total_commands_processed"), 300 + 8 + 1);
    let rows = table(&mut clients[0]);
    assert_eq!((rows.len(), sum(&rows, "items")), (4, 100));
    assert!(sum(&rows, "crossed_in") > 100 && sum(&rows, "posts") > 0);
    assert_eq!(sum(&rows, "crossed_in"), sum(&rows, "crossed_out"));
    assert_eq!(sum(&rows, "memory_share"), 256 << 20);
    for (core, row) in rows.iter().enumerate() {
        assert_eq!((number(row, "core"), number(row, "cpu")), (core as u64, 0));
        assert!(number(row, "connections") >= 1 && number(row, "turns") > 0, "{row:?}");
    }

    let mut memcached = server.memcached();
    let stats = memcached.ask("stats\r\n");
    for line in ["curr_items 100", "cores 4", "threads 4", "limit_maxbytes 268435456"] {
        assert!(stats.contains(&format!("STAT {line}\r\n")), "{line} is missing in {stats}");
    }
    let stats = memcached.ask("stats cores\r\n");
    let items = stats.lines().filter(|line| line.contains(":items "));
    let items = items.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    assert_eq!(items.sum::<u64>(), 100, "{stats}");
    assert_eq!(memcached.ask("stats reset\r\n"), "RESET\r\n");
    let stats = memcached.ask("stats\r\n");
    assert!(stats.contains("STAT get_hits 0\r\n") && stats.contains("STAT get_misses 0\r\n"));
}

#[test]
fn a_command_in_parts_counts_once() {
    let (_server, mut clients) = four_cores(&[]);
    let client = &mut clients[1];
    let keys: Vec<String> = (0..40).map(|key| format!("k{key}")).collect();
    let mut mset = vec!["MSET"];
    keys.iter().for_each(|key| mset.extend([key.as_str(), "v"]));
    assert_eq!(client.call(&["CONFIG", "RESETSTAT"]), ok());
    assert_eq!(client.call(&mset), ok());
    assert_eq!(client.call(&["DBSIZE"]), Reply::Integer(40));
    let text = client.call(&["FLUSHALL", "nonsense"]).text();
    assert_eq!(text, "ERR syntax error");
    let text = info(client, "everything");
    assert_eq!(info_number(&text, "total_commands_processed"), 4, "INFO is one of them");
    assert_eq!(info_number(&text, "total_error_replies"), 1);
    for line in ["cmdstat_mset:calls=1,", "cmdstat_dbsize:calls=1,", "errorstat_ERR:count=1\r\n"] {
        assert!(text.contains(line), "{line} is missing in {text}");
    }
    assert!(text.contains("cmdstat_flushall:calls=1,") && text.contains("failed_calls=1"));
}

#[test]
fn parameters_are_set_on_all_cores_or_on_none() {
    let (server, mut clients) = four_cores(&[]);
    let get = |client: &mut Client, name: &str| -> String {
        let Reply::Array(pair) = client.call(&["CONFIG", "GET", name]) else { panic!("a pair") };
        pair[1].text()
    };
    let set = ["CONFIG", "SET", "slowlog-max-len", "9", "maxmemory", "200mb"];
    assert_eq!(clients[2].call(&set), ok());
    for client in &mut clients {
        assert_eq!(get(client, "slowlog-max-len"), "9");
        assert_eq!(get(client, "maxmemory"), (200 << 20).to_string());
        assert_eq!(info_number(&info(client, "memory"), "maxmemory"), 200 << 20);
    }
    for (name, value) in [("maxmemory", "1mb"), ("maxmemory", "900tb"), ("timeout", "x")] {
        let text = clients[3].call(&["CONFIG", "SET", "slowlog-max-len", "5", name, value]).text();
        assert!(text.contains(&format!("'{name}'")), "{text}");
    }
    for client in &mut clients {
        assert_eq!(get(client, "slowlog-max-len"), "9", "none");
        assert_eq!(get(client, "maxmemory"), (200 << 20).to_string());
    }
    assert_eq!(clients[0].call(&["CONFIG", "SET", "requirepass", "secret"]), ok());
    for _ in 0..20 {
        let mut client = server.client();
        assert!(client.call(&["GET", "a"]).text().starts_with("NOAUTH"));
        assert_eq!(client.call(&["AUTH", "secret"]), ok());
    }
}

#[test]
fn slow_commands_of_all_cores_are_told_by_time() {
    let (_server, mut clients) = four_cores(&["--enable-debug-command"]);
    assert_eq!(clients[0].call(&["CONFIG", "SET", "latency-monitor-threshold", "10"]), ok());
    for round in 0..2 {
        for (core, client) in clients.iter_mut().enumerate() {
            client.call(&["CLIENT", "SETNAME", &format!("r{round}c{core}")]);
            assert_eq!(client.call(&["DEBUG", "SLEEP", "0.02"]), ok());
        }
    }
    let names = |client: &mut Client, count: &str| -> Vec<String> {
        let Reply::Array(entries) = client.call(&["SLOWLOG", "GET", count]) else { panic!() };
        let name = |entry: &Reply| match entry {
            Reply::Array(fields) => fields[5].text(),
            other => panic!("{other:?}"),
        };
        entries.iter().map(name).collect()
    };
    for client in &mut clients {
        assert_eq!(names(client, "3"), ["r1c3", "r1c2", "r1c1"]);
        assert_eq!(names(client, "-1").len(), 8);
        assert_eq!(client.call(&["SLOWLOG", "LEN"]), Reply::Integer(8));
        assert_eq!(info_number(&info(client, "stats"), "slowlog_entries"), 8);
        let Reply::Array(latest) = client.call(&["LATENCY", "LATEST"]) else { panic!("an array") };
        assert_eq!(latest.len(), 1);
        assert!(client.call(&["LATENCY", "GRAPH", "command"]).text().contains('#'));
    }
    assert_eq!(clients[1].call(&["CONFIG", "SET", "slowlog-max-len", "4"]), ok());
    assert_eq!(names(&mut clients[2], "-1"), ["r1c3", "r1c2", "r1c1", "r1c0"]);
    assert_eq!(clients[2].call(&["SLOWLOG", "LEN"]), Reply::Integer(4));
    assert_eq!(clients[2].call(&["SLOWLOG", "RESET"]), ok());
    assert_eq!(clients[3].call(&["SLOWLOG", "LEN"]), Reply::Integer(0));
    assert_eq!(clients[3].call(&["LATENCY", "RESET"]), Reply::Integer(1));
    assert_eq!(clients[0].call(&["LATENCY", "LATEST"]), Reply::Array(vec![]));
}

#[test]
fn connections_of_all_cores_are_listed_and_ended() {
    let (server, mut clients) = four_cores(&[]);
    for (core, client) in clients.iter_mut().enumerate() {
        client.call(&["CLIENT", "SETNAME", &format!("on{core}")]);
    }
    let list = clients[0].call(&["CLIENT", "LIST"]).text();
    let named: Vec<&str> = list.lines().filter(|line| line.contains(" name=on")).collect();
    assert_eq!(named.len(), 4, "{list}");
    for line in &named {
        assert_eq!(field(line, "name"), format!("on{}", field(line, "core")));
    }
    let ids: BTreeSet<&str> = list.lines().map(|line| field(line, "id")).collect();
    assert_eq!(ids.len(), list.lines().count());
    let of = |core: usize, name: &str| {
        let name_of_client = format!("on{core}");
        let line = named.iter().find(|line| field(line, "name") == name_of_client).expect("there");
        field(line, name).to_owned()
    };
    let (id, address) = (of(2, "id"), of(3, "addr"));
    let kill = ["CLIENT", "KILL", "ID", &id];
    assert_eq!(clients[1].call(&kill), Reply::Integer(1));
    assert_eq!(clients[1].call(&kill), Reply::Integer(0));
    assert_eq!(clients[1].call(&["CLIENT", "KILL", &address]), ok());
    let gone = clients[1].call(&["CLIENT", "KILL", &address]);
    assert_eq!(gone, Reply::Error("ERR No such client".into()));
    assert_eq!(clients[2].rest(), b"");
    assert_eq!(clients[3].rest(), b"");
    assert_eq!(server.client().call(&["PING"]), Reply::Simple("PONG".into()));
}

#[test]
fn a_core_that_stands_still_is_told_of_as_missing() {
    let (_server, mut clients) = four_cores(&["--enable-debug-command"]);
    let mut stuck = clients.remove(3);
    stuck.send(support::encode(&[b"DEBUG", b"SLEEP", b"1"]));
    let begun = Instant::now();
    let mut has_missed = false;
    while !has_missed && begun.elapsed() < Duration::from_secs(10) {
        let text = info(&mut clients[0], "everything");
        has_missed = info_number(&text, "cores_not_answering") == 1;
        assert!(!has_missed || text.contains("core3:cpu=0,answered=no\r\n"), "{text}");
    }
    assert!(has_missed, "it was not seen");
    assert_eq!(stuck.reply(), ok());
    let text = info(&mut clients[0], "pinion");
    assert_eq!(info_number(&text, "cores_not_answering"), 0);
}

#[test]
fn what_changes_a_server_changes_all_cores() {
    let (server, mut clients) = four_cores(&["--enable-debug-command"]);
    let release = "if redis.call(\"get\",KEYS[1]) == ARGV[1] then return \
                   redis.call(\"del\",KEYS[1]) else return 0 end";
    let digest = clients[0].call(&["SCRIPT", "LOAD", release]).text();
    for (core, client) in clients.iter_mut().enumerate() {
        let exists = client.call(&["SCRIPT", "EXISTS", &digest, &"0".repeat(40)]);
        assert_eq!(exists, Reply::Array(vec![Reply::Integer(1), Reply::Integer(0)]));
        let key = format!("lock:{core}");
        client.call(&["SET", &key, "me"]);
        assert_eq!(client.call(&["EVALSHA", &digest, "1", &key, "me"]), Reply::Integer(1));
    }
    assert_eq!(clients[1].call(&["SCRIPT", "FLUSH"]), ok());
    let exists = clients[2].call(&["SCRIPT", "EXISTS", &digest]);
    assert_eq!(exists, Reply::Array(vec![Reply::Integer(0)]));

    for key in 0..40 {
        clients[key % 4].call(&["SET", &format!("k{key}"), "v"]);
    }
    assert_eq!(clients[3].call(&["SWAPDB", "0", "1"]), ok());
    assert_eq!(clients[0].call(&["DBSIZE"]), Reply::Integer(0));
    assert_eq!(clients[0].call(&["SELECT", "1"]), ok());
    assert_eq!(clients[0].call(&["DBSIZE"]), Reply::Integer(40));
    assert_eq!(clients[0].call(&["FLUSHDB", "ASYNC"]), ok());
    assert_eq!(clients[0].call(&["DBSIZE"]), Reply::Integer(0));

    assert_eq!(clients[0].call(&["SELECT", "0"]), ok());
    assert_eq!(clients[1].call(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]), ok());
    for key in 0..40 {
        clients[key % 4].call(&["SET", &format!("k{key}"), "v", "PX", "500"]);
    }
    std::thread::sleep(Duration::from_millis(550));
    assert_eq!(clients[2].call(&["DBSIZE"]), Reply::Integer(40), "nobody has looked at them");
    assert_eq!(clients[2].call(&["DEBUG", "SET-ACTIVE-EXPIRE", "1"]), ok());

    assert_eq!(clients[0].call(&["CLIENT", "PAUSE", "60000", "WRITE"]), ok());
    clients[3].send(support::encode(&[b"SET", b"late", b"v"]));
    assert_eq!(clients[1].call(&["GET", "late"]), Reply::Null);
    assert_eq!(clients[2].call(&["CLIENT", "UNPAUSE"]), ok());
    assert_eq!(clients[3].reply(), ok());
    let mut memcached = server.memcached();
    assert_eq!(memcached.ask("flush_all\r\n"), "OK\r\n");
    assert_eq!(clients[1].call(&["DBSIZE"]), Reply::Integer(0));
    assert!(memcached.ask("stats\r\n").contains("STAT cmd_flush 1\r\n"));
}
