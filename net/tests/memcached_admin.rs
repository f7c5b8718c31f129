//! What administrators and tools ask on the memcached port: limits, statistics, users.

mod support;

use support::Server;

#[test]
fn the_commands_of_an_administrator_answer_in_words() {
    let server = Server::start(&[]);
    let mut client = server.memcached();
    for (request, answer) in [
        ("shutdown\r\n", "ERROR: shutdown not enabled\r\n"),
        ("cache_memlimit 64\r\n", "CLIENT_ERROR cache_memlimit not allowed\r\n"),
        ("cache_memlimit\r\n", "ERROR\r\n"),
        ("cache_memlimit 64 noreply\r\n", ""),
        ("lru\r\nlru mode flat\r\n", "ERROR\r\nERROR\r\n"),
        ("slabs reassign 1 2\r\n", "CLIENT_ERROR slab reassignment disabled\r\n"),
        ("lru_crawler metadump all\r\n", "CLIENT_ERROR lru crawler disabled\r\n"),
        ("watch fetchers\r\n", "CLIENT_ERROR watch commands not allowed\r\n"),
        ("stats slabs\r\n", "STAT active_slabs 0\r\nSTAT total_malloced 0\r\nEND\r\n"),
        ("stats sizes\r\n", "STAT sizes_status disabled\r\nEND\r\n"),
        ("stats items\r\n", "END\r\n"),
        ("stats detail off\r\nstats detail dump\r\n", "OK\r\nEND\r\n"),
        ("stats detail on\r\n", "CLIENT_ERROR stats detail is not collected\r\n"),
        ("stats detail\r\n", "CLIENT_ERROR usage: stats detail on|off|dump\r\n"),
        ("stats cachedump 1 1\r\n", "CLIENT_ERROR stats cachedump not allowed\r\n"),
        ("set a 0 0 1\r\nx\r\nbget a\r\n", "STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n"),
    ] {
        assert_eq!(client.ask(request), answer, "{request:?}");
    }
    let stats = client.ask("stats cores\r\n");
    assert_eq!(stats.matches(":items 1\r\n").count(), 1, "{stats}");
    let mut server = Server::start(&["--memcached-admin"]);
    let mut client = server.memcached();
    for (request, answer) in [
        ("cache_memlimit 7\r\n", "MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n"),
        ("cache_memlimit x\r\n", "ERROR\r\n"),
        ("cache_memlimit 128\r\n", "OK\r\n"),
        ("shutdown now\r\n", "CLIENT_ERROR invalid shutdown mode\r\n"),
    ] {
        assert_eq!(client.ask(request), answer, "{request:?}");
    }
    assert!(client.ask("stats\r\n").contains("STAT limit_maxbytes 134217728\r\n"));
    client.send("shutdown\r\n");
    assert_eq!((client.rest(), server.wait()), (Vec::new(), Some(0)));
}

#[test]
fn users_of_a_file_begin_with_their_password() {
    let file = std::env::temp_dir().join(format!("pinion-users-{}", std::process::id()));
    std::fs::write(&file, "ann:secret\nbob:other\n").expect("a file");
    let path = file.to_str().expect("text");
    let server = Server::start(&["--memcached-auth", path]);
    let mut client = server.memcached();
    let unknown = "CLIENT_ERROR unauthenticated\r\n";
    for (request, answer) in [
        ("get a\r\n", unknown),
        ("nonsense\r\nmg a v\r\nstats\r\n", &unknown.repeat(3)),
        ("add a 0 0 10\r\nann secret\r\n", unknown),
        ("set a 0 0 3\r\nann\r\n", "CLIENT_ERROR bad authentication token format\r\n"),
        ("set a 0 0 9\r\nann other\r\n", "CLIENT_ERROR authentication failure\r\n"),
    ] {
        client.send(request);
        let lines: String = answer.lines().map(|_| format!("{}\r\n", client.line())).collect();
        assert_eq!(lines, answer, "{request:?}");
    }
    // A large value of a stranger goes nowhere.
    client.send(format!("set a 0 0 100000\r\n{}\r\n", "x".repeat(100_000)));
    assert_eq!(client.line(), "CLIENT_ERROR bad authentication token format");
    client.send("set a 0 0 10\r\nann secret\r\n");
    assert_eq!(client.line(), "STORED");
    assert_eq!(client.ask("get a\r\nset a 0 0 1\r\nx\r\n"), "END\r\nSTORED\r\n");
    std::fs::write(&file, "ann\n").expect("a file");
    let (code, text) = support::run_to_end(&["--port", "0", "--memcached-auth", path]);
    assert!(code != Some(0) && text.contains("line 1: it is not 'user:password'"), "{text}");
    std::fs::remove_file(&file).expect("the file");
}

/// The numbers of `stats`.
fn statistics(client: &mut support::Client) -> std::collections::HashMap<String, u64> {
    let text = client.ask("stats\r\n");
    let pairs = text.lines().filter_map(|line| line.strip_prefix("STAT ")?.split_once(' '));
    pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
}

#[test]
fn stats_count_what_clients_ask() {
    let server = Server::start(&["--value-max", "1MiB", "--lease-timeout", "50ms"]);
    let mut client = server.memcached();
    let huge = "x".repeat(2 << 20);
    let requests = format!(
        "set a 0 0 1\r\n1\r\nadd a 0 0 1\r\n1\r\nget a none a\r\ngat 100 a none\r\n\
         touch a 100\r\ntouch none 1\r\nincr a 1\r\nincr none 1\r\ndecr a 1\r\ndecr a 1\r\n\
         decr none 1\r\ndecr none 1\r\ncas none 0 0 1 1\r\n1\r\ncas a 0 0 1 999\r\n1\r\n\
         set b 0 0 {}\r\n{huge}\r\nms c 1\r\n1\r\nmg c c v\r\nms c 1 C999\r\n1\r\nmd c\r\n\
         md c\r\nma n N0 J5\r\nma n\r\nma none MD\r\nmn\r\ndelete n\r\ndelete n\r\n",
        huge.len()
    );
    client.ask(&requests);
    let versions = client.ask("gets a\r\n");
    let version = versions.split([' ', '\r']).nth(4).expect("a version");
    client.ask(format!("cas a 0 0 1 {version}\r\n1\r\n"));
    let found = statistics(&mut client);
    for (name, count) in [
        ("cmd_get", 7),
        ("get_hits", 5),
        ("get_misses", 2),
        ("cmd_set", 8),
        ("cmd_touch", 4),
        ("touch_hits", 2),
        ("touch_misses", 2),
        ("cmd_meta", 9),
        ("incr_hits", 2),
        ("incr_misses", 1),
        ("decr_hits", 2),
        ("decr_misses", 3),
        ("delete_hits", 2),
        ("delete_misses", 2),
        ("cas_hits", 1),
        ("cas_misses", 1),
        ("cas_badval", 2),
        ("store_too_large", 1),
        ("store_no_memory", 0),
        ("cmd_flush", 0),
        ("auth_cmds", 0),
        ("curr_items", 1),
        ("curr_connections", 1),
        ("total_connections", 1),
        ("accepting_conns", 1),
        ("listen_disabled_num", 0),
        ("threads", found["cores"]),
        ("pointer_size", 64),
        ("lease_granted", 0),
    ] {
        assert_eq!(found.get(name), Some(&count), "{name}");
    }
    let text = client.ask("stats\r\n");
    let of = |name: &str| text.lines().find(|line| line.starts_with(&format!("STAT {name} ")));
    assert!(of("rusage_user").is_some_and(|line| line.contains('.')), "{text}");
    assert!(found["hash_bytes"] > 0 && found["total_items"] >= 6, "{found:?}");

    // A lease is won, waited for, and left.
    let mut waiter = server.memcached();
    assert_eq!(client.ask("mg l N30 v\r\n"), "VA 0 W\r\n\r\n");
    waiter.send("mg l N30 v w60000\r\n");
    assert_eq!(waiter.line(), "VA 0 W");
    let found = statistics(&mut client);
    assert_eq!((found["lease_granted"], found["lease_timed_out"]), (2, 1));
    assert_eq!(found["lease_waiting"], 0);
    client.ask("flush_all\r\n");
    assert_eq!(statistics(&mut client)["cmd_flush"], 1);
    client.ask("stats reset\r\n");
    let found = statistics(&mut client);
    assert_eq!((found["cmd_set"], found["get_hits"], found["cmd_flush"]), (0, 0, 0));
}

#[test]
fn readers_that_wait_are_counted_and_connections_listed() {
    let server = Server::start(&[]);
    let (mut client, mut waiter) = (server.memcached(), server.memcached());
    assert_eq!(client.ask("mg l N30 v\r\n"), "VA 0 W\r\n\r\n");
    waiter.send("mg l N30 v w60000\r\n");
    while statistics(&mut client)["lease_waiting"] == 0 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let text = client.ask("stats conns\r\n");
    let own = client.stream().local_addr().expect("an address");
    let line = text.lines().find(|line| line.ends_with(&format!(":addr tcp:{own}")));
    let number = line.and_then(|line| line.split([' ', ':']).nth(1)).expect("this connection");
    for expected in [
        format!("STAT {number}:listen_addr tcp:{}\r\n", server.memcached),
        format!("STAT {number}:state conn_parse_cmd\r\n"),
        format!("STAT {number}:secs_since_last_cmd 0\r\n"),
    ] {
        assert!(text.contains(&expected), "{expected} in {text}");
    }
    assert_eq!(text.matches(":state ").count(), 2, "{text}");
    assert!(text.ends_with("END\r\n"), "{text}");
    client.ask("set l 0 0 1\r\nx\r\n");
    assert_eq!((waiter.line(), waiter.line()), ("VA 1".into(), "x".into()));
    assert_eq!(statistics(&mut client)["lease_waiting"], 0);
}

/// The checks of libmemcached's own test of servers, for the text protocol.
#[test]
fn memccapable_finds_nothing_wrong() {
    let Some(program) = support::tools::program("memccapable") else { return };
    let server = Server::start(&[]);
    let port = server.memcached.port().to_string();
    let mut command = std::process::Command::new(program);
    let output = support::tools::output(command.args(["-h", "127.0.0.1", "-p", &port, "-a"]), b"");
    assert!(output.trim_end().ends_with("All tests passed"), "{output}");
}
