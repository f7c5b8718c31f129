//! MULTI, EXEC, DISCARD and WATCH over sockets.

mod support;

use support::{Client, Reply, Server, encode, info_number, ok};

fn error(text: &str) -> Reply {
    Reply::Error(text.into())
}

fn queued() -> Reply {
    Reply::Simple("QUEUED".into())
}

/// Begins a transaction and queues these commands.
fn queue(client: &mut Client, commands: &[&[&str]]) {
    assert_eq!(client.call(&["MULTI"]), ok());
    for command in commands {
        assert_eq!(client.call(command), queued(), "{command:?}");
    }
}

#[test]
fn commands_wait_for_exec_and_are_answered_together() {
    let server = Server::start(&[]);
    let (mut client, mut other) = (server.client(), server.client());
    queue(&mut client, &[&["SET", "a", "1"], &["INCR", "a"], &["GET", "{a}none"]]);
    assert_eq!(other.call(&["EXISTS", "a"]), Reply::Integer(0), "nothing has happened yet");
    let replies = vec![ok(), Reply::Integer(2), Reply::Null];
    assert_eq!(client.call(&["EXEC"]), Reply::Array(replies));
    queue(&mut client, &[&["SET", "a", "x"], &["INCR", "a"], &["GET", "a"]]);
    let Reply::Array(replies) = client.call(&["EXEC"]) else { panic!("an array") };
    assert!(matches!(&replies[1], Reply::Error(_)), "{replies:?}");
    assert_eq!(replies[2], Reply::bulk("x"), "an error does not undo what was before");
    assert_eq!(client.call(&["MULTI"]), ok());
    assert_eq!(client.call(&["EXEC"]), Reply::Array(vec![]));
}

#[test]
fn what_cannot_be_queued_spoils_the_transaction() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let aborted = error("EXECABORT Transaction discarded because of previous errors.");
    for wrong in [&["NOSUCH"][..], &["GET"], &["CLIENT", "NOSUCH"], &["CLIENT", "ID", "x"]] {
        queue(&mut client, &[&["SET", "a", "1"]]);
        assert!(matches!(client.call(wrong), Reply::Error(_)), "{wrong:?}");
        assert_eq!(client.call(&["SET", "{a}b", "1"]), queued());
        assert_eq!(client.call(&["EXEC"]), aborted, "{wrong:?}");
    }
    assert_eq!(client.call(&["MULTI"]), ok());
    let text = "ERR Command not allowed inside a transaction";
    assert_eq!(client.call(&["SHUTDOWN"]), error(text));
    assert_eq!(client.call(&["EXEC"]), aborted);
    assert_eq!(client.call(&["DBSIZE"]), Reply::Integer(0));
}

#[test]
fn what_is_about_the_transaction_itself_is_not_queued() {
    let server = Server::start(&[]);
    let mut client = server.client();
    assert_eq!(client.call(&["EXEC"]), error("ERR EXEC without MULTI"));
    assert_eq!(client.call(&["DISCARD"]), error("ERR DISCARD without MULTI"));
    queue(&mut client, &[&["SET", "a", "1"]]);
    assert_eq!(client.call(&["MULTI"]), error("ERR MULTI calls can not be nested"));
    assert_eq!(client.call(&["WATCH", "a"]), error("ERR WATCH inside MULTI is not allowed"));
    assert_eq!(client.call(&["EXEC"]), Reply::Array(vec![ok()]), "those were no reason to stop");
    queue(&mut client, &[&["DEL", "a"]]);
    assert_eq!(client.call(&["DISCARD"]), ok());
    queue(&mut client, &[&["DEL", "a"]]);
    assert_eq!(client.call(&["RESET"]), Reply::Simple("RESET".into()));
    assert_eq!(client.call(&["GET", "a"]), Reply::bulk("1"));
    queue(&mut client, &[&["DEL", "a"]]);
    assert_eq!(client.call(&["QUIT"]), ok());
    assert_eq!(client.rest(), b"");
    assert_eq!(server.client().call(&["GET", "a"]), Reply::bulk("1"));
}

#[test]
fn a_watched_key_that_changes_stops_exec() {
    let server = Server::start(&[]);
    let (mut client, mut other) = (server.client(), server.client());
    let changes: [(&str, &[&str]); 7] = [
        ("1", &["SET", "k", "1"]),
        ("1", &["DEL", "k"]),
        ("1", &["INCR", "k"]),
        ("1", &["PEXPIRE", "k", "100000"]),
        ("1", &["FLUSHALL"]),
        ("1", &["SWAPDB", "0", "1"]),
        ("", &["SET", "k", "1"]),
    ];
    for (before, change) in changes {
        other.call(&["FLUSHALL"]);
        if !before.is_empty() {
            other.call(&["SET", "k", before]);
        }
        assert_eq!(client.call(&["WATCH", "{k}other", "k"]), ok());
        other.call(change);
        queue(&mut client, &[&["SET", "{k}done", "1"]]);
        assert_eq!(client.call(&["EXEC"]), Reply::Null, "{change:?}");
        queue(&mut client, &[&["PING"]]);
        let pong = Reply::Array(vec![Reply::Simple("PONG".into())]);
        assert_eq!(client.call(&["EXEC"]), pong, "EXEC forgets the keys");
    }
}

#[test]
fn a_watched_key_that_stays_does_not() {
    let server = Server::start(&[]);
    let (mut client, mut other) = (server.client(), server.client());
    other.call(&["SET", "k", "1"]);
    for forget in [&["UNWATCH"][..], &["DISCARD"]] {
        assert_eq!(client.call(&["WATCH", "k"]), ok());
        other.call(&["SET", "k", "2"]);
        if forget == ["DISCARD"] {
            client.call(&["MULTI"]);
        }
        assert_eq!(client.call(forget), ok());
        queue(&mut client, &[&["GET", "k"]]);
        assert_eq!(client.call(&["EXEC"]), Reply::Array(vec![Reply::bulk("2")]));
    }
    // The same name in another database is another key.
    assert_eq!(client.call(&["WATCH", "k"]), ok());
    other.call(&["SELECT", "1"]);
    other.call(&["SET", "k", "3"]);
    queue(&mut client, &[&["GET", "k"]]);
    assert_eq!(client.call(&["EXEC"]), Reply::Array(vec![Reply::bulk("2")]));
    // A key that expires has changed.
    client.call(&["SET", "{k}brief", "1", "PX", "20"]);
    client.call(&["WATCH", "{k}brief"]);
    while client.call(&["EXISTS", "{k}brief"]) == Reply::Integer(1) {}
    queue(&mut client, &[&["GET", "k"]]);
    assert_eq!(client.call(&["EXEC"]), Reply::Null);
}

#[test]
fn deferred_answers_keep_their_places() {
    // With several cores, what concerns all of them is refused: see the last test.
    let server = Server::start(&["--cores", "0"]);
    let mut client = server.client();
    let commands: [&[&str]; 5] =
        [&["SET", "a", "1"], &["INFO", "cluster"], &["CLIENT", "LIST"], &["GET", "a"], &["DBSIZE"]];
    queue(&mut client, &commands);
    let Reply::Array(replies) = client.call(&["EXEC"]) else { panic!("an array") };
    assert_eq!(replies[0], ok());
    assert!(replies[1].text().contains("cluster_enabled:0"));
    assert!(replies[2].text().contains("cmd=exec") || replies[2].text().contains("client|list"));
    assert_eq!(replies[3..], [Reply::bulk("1"), Reply::Integer(1)]);
}

#[test]
fn large_values_come_and_go_in_a_transaction() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let value = "v".repeat(100_000);
    queue(&mut client, &[&["SET", "big", &value], &["SELECT", "4"], &["SETNX", "big", &value]]);
    assert_eq!(client.call(&["GET", "big"]), queued());
    let replies = vec![ok(), ok(), Reply::Integer(1), Reply::bulk(&value)];
    assert_eq!(client.call(&["EXEC"]), Reply::Array(replies));
    client.call(&["SELECT", "0"]);
    assert_eq!(client.call(&["GET", "big"]), Reply::bulk(&value));
    client.call(&["FLUSHALL"]);
    // What is not executed leaves nothing behind, however it ends.
    queue(&mut client, &[&["SET", "big", &value]]);
    assert_eq!(client.call(&["DISCARD"]), ok());
    queue(&mut client, &[&["SET", "big", &value]]);
    client.call(&["NOSUCH"]);
    client.call(&["EXEC"]);
    queue(&mut client, &[&["SET", "big", &value]]);
    client.send(encode(&[b"QUIT"]));
    client.rest();
    let info = server.client().call(&["INFO", "pinion"]).text();
    assert_eq!(info_number(&info, "arriving_bytes"), 0);
}

#[test]
fn a_pipelined_transaction_is_one_reply_each() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let mut request = Vec::new();
    for round in 0..100 {
        let number = round.to_string();
        for command in
            [&[&b"MULTI"[..]][..], &[b"SET", b"n", number.as_bytes()], &[b"INCR", b"n"], &[b"EXEC"]]
        {
            request.extend_from_slice(&encode(command));
        }
    }
    client.send(request);
    for round in 0..100 {
        assert_eq!([client.reply(), client.reply(), client.reply()], [ok(), queued(), queued()]);
        let replies = vec![ok(), Reply::Integer(round + 1)];
        assert_eq!(client.reply(), Reply::Array(replies));
    }
}

#[test]
fn a_transaction_has_bounds() {
    let server = Server::start(&["--memory", "64MiB"]);
    let mut client = server.client();
    assert_eq!(client.call(&["MULTI"]), ok());
    let value = "v".repeat(30_000);
    let refused = (0..2_000).map(|_| client.call(&["SET", "k", &value]));
    let refused = refused.filter(|reply| matches!(reply, Reply::Error(_))).count();
    assert!(refused > 0, "60 MB are not kept");
    assert!(client.call(&["EXEC"]).text().starts_with("EXECABORT"));
    assert_eq!(client.call(&["DBSIZE"]), Reply::Integer(0));
}

#[test]
fn what_concerns_all_cores_is_refused() {
    let server = Server::start(&["--cores", "0,0"]);
    let mut client = server.client();
    let commands: [&[&str]; 6] = [
        &["INFO"],
        &["CLIENT", "LIST"],
        &["DBSIZE"],
        &["FLUSHALL"],
        &["CONFIG", "SET", "timeout", "9"],
        &["CORES"],
    ];
    for command in commands {
        queue(&mut client, &[&["SET", "a", "1"]]);
        let text = client.call(command).text();
        assert!(text.starts_with("ERR this command concerns all cores"), "{command:?}: {text}");
        assert!(client.call(&["EXEC"]).text().starts_with("EXECABORT"));
    }
    assert_eq!(client.call(&["EXISTS", "a"]), Reply::Integer(0));
}
