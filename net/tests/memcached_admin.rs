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
    assert!(client.ask("stats cores\r\n").contains("STAT 0:items 1\r\n"));
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
