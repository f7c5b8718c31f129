//! Connections as clients manage them: passwords, names, replies that are turned off, lists and
//! ends of connections, pauses, databases.

use std::time::{Duration, Instant};

mod support;

use support::{Client, Reply, Server, encode, info_number, ok};

fn error(text: &str) -> Reply {
    Reply::Error(text.into())
}

const LOCKED: &str = "NOAUTH Authentication required.";
const WRONG: &str = "WRONGPASS invalid username-password pair or user is disabled.";

#[test]
fn a_password_guards_everything_but_what_gives_it() {
    let server = Server::start(&["--requirepass", "secret"]);
    let mut client = server.client();
    assert_eq!(client.call(&["GET", "k"]), error(LOCKED));
    assert_eq!(client.call(&["CONFIG", "GET", "requirepass"]), error(LOCKED));
    assert_eq!(client.call(&["MULTI"]), error(LOCKED));
    assert!(client.call(&["HELLO", "3"]).text().starts_with("NOAUTH HELLO must be called"));
    assert_eq!(client.call(&["AUTH", "wrong"]), error(WRONG));
    assert_eq!(client.call(&["AUTH", "somebody", "secret"]), error(WRONG));
    assert_eq!(client.call(&["AUTH", "secret"]), ok());
    assert_eq!(client.call(&["SET", "k", "v"]), ok());
    assert_eq!(client.call(&["RESET"]), Reply::Simple("RESET".into()));
    assert_eq!(client.call(&["GET", "k"]), error(LOCKED));
    let hello = client.call(&["HELLO", "3", "AUTH", "default", "secret", "SETNAME", "me"]);
    assert!(matches!(hello, Reply::Map(_)), "{hello:?}");
    assert_eq!(client.call(&["GET", "k"]), Reply::bulk("v"));
    assert_eq!(client.call(&["CLIENT", "GETNAME"]), Reply::bulk("me"));
}

#[test]
fn a_pipeline_runs_on_behind_its_password() {
    let server = Server::start(&["--requirepass", "secret"]);
    let mut client = server.client();
    let value = "x".repeat(20_000);
    let commands: [&[&[u8]]; 4] = [
        &[b"GET", b"a"],
        &[b"AUTH", b"secret"],
        &[b"SET", b"a", value.as_bytes()],
        &[b"GET", b"a"],
    ];
    client.send(commands.map(encode).concat());
    assert_eq!([client.reply(), client.reply()], [error(LOCKED), ok()]);
    assert_eq!([client.reply(), client.reply()], [ok(), Reply::bulk(&value)]);
    let mut stranger = server.client();
    stranger.send("*2\r\n$3\r\nGET\r\n$20000\r\n");
    assert!(stranger.reply().text().contains("unauthenticated bulk length"));
}

#[test]
fn memcached_clients_give_the_password_too() {
    let server = Server::start(&["--requirepass", "secret"]);
    let mut client = server.memcached();
    assert_eq!(client.ask_once("get k\r\n"), "CLIENT_ERROR unauthenticated");
    assert_eq!(
        client.ask_once("set x 0 0 13\r\ndefault wrong\r\n"),
        "CLIENT_ERROR authentication failure"
    );
    assert_eq!(client.ask_once("set x 0 0 14\r\ndefault secret\r\n"), "STORED");
    assert_eq!(client.ask("get x\r\n"), "END\r\n");
}

#[test]
fn the_password_can_be_set_and_taken_away() {
    let server = Server::start(&[]);
    let mut old = server.client();
    let text = "ERR AUTH <password> called without any password configured for the default user. \
                Are you sure your configuration is correct?";
    assert_eq!(old.call(&["AUTH", "x"]), error(text));
    assert_eq!(old.call(&["CONFIG", "SET", "requirepass", "secret"]), ok());
    assert_eq!(old.call(&["PING"]), Reply::Simple("PONG".into()), "it is in already");
    let mut locked = server.client();
    assert_eq!(locked.call(&["PING"]), error(LOCKED));
    assert_eq!(old.call(&["CONFIG", "SET", "requirepass", ""]), ok());
    assert_eq!(locked.call(&["PING"]), Reply::Simple("PONG".into()));
}

#[test]
fn replies_are_turned_off_for_one_command_or_all() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let big = "x".repeat(100_000);
    assert_eq!(client.call(&["SET", "big", &big]), ok());
    for command in [
        &["CLIENT", "REPLY", "OFF"][..],
        &["SET", "a", "1"],
        &["GET", "big"],
        &["INFO"],
        &["CLIENT", "LIST"],
        &["NOSUCH"],
    ] {
        let args: Vec<&[u8]> = command.iter().map(|arg| arg.as_bytes()).collect();
        client.send(encode(&args));
    }
    assert_eq!(client.call(&["CLIENT", "REPLY", "ON"]), ok());
    client.send(encode(&[b"CLIENT", b"REPLY", b"SKIP"]));
    client.send(encode(&[b"GET", b"a"]));
    assert_eq!(client.call(&["INCR", "a"]), Reply::Integer(2));
}

fn list(client: &mut Client, args: &[&str]) -> Vec<String> {
    let text = client.call(&[&["CLIENT", "LIST"], args].concat()).text();
    text.lines().map(str::to_owned).collect()
}

fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let value = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("{name} is missing in {line}"))
}

#[test]
fn connections_are_listed_with_what_they_are() {
    let server = Server::start(&[]);
    let (mut one, mut two) = (server.client(), server.client());
    assert_eq!(one.call(&["CLIENT", "SETNAME", "first"]), ok());
    assert_eq!(one.call(&["CLIENT", "SETINFO", "LIB-NAME", "lib"]), ok());
    one.call(&["HELLO", "3"]);
    one.call(&["SELECT", "3"]);
    one.call(&["CLIENT", "NO-TOUCH", "ON"]);
    one.call(&["WATCH", "k"]);
    one.call(&["MULTI"]);
    one.call(&["CONFIG", "GET", "save"]);
    let lines = list(&mut two, &[]);
    assert_eq!(lines.len(), 2, "{lines:?}");
    let line = lines.iter().find(|line| field(line, "name") == "first").expect("it is there");
    for (name, value) in [
        ("laddr", server.resp.to_string().as_str()),
        ("flags", "xT"),
        ("db", "3"),
        ("multi", "1"),
        ("watch", "1"),
        ("cmd", "config|get"),
        ("user", "default"),
        ("resp", "3"),
        ("lib-name", "lib"),
        ("lib-ver", ""),
    ] {
        assert_eq!(field(line, name), value, "{name} in {line}");
    }
    let address = one.stream().local_addr().expect("connected").to_string();
    assert_eq!(field(line, "addr"), address);
    let id = field(line, "id").to_owned();
    assert_eq!(list(&mut two, &["ID", &id]).len(), 1);
    assert_eq!(list(&mut two, &["TYPE", "normal"]).len(), 2);
    assert_eq!(list(&mut two, &["TYPE", "replica"]).len(), 0);
    let own = two.call(&["CLIENT", "INFO"]).text();
    assert_eq!(field(&own, "cmd"), "client|info");
    assert!(!own.contains('\n') || own.trim_end().lines().count() == 1, "{own}");
}

#[test]
fn many_connections_are_listed_in_slices() {
    let server = Server::start(&[]);
    let _others: Vec<Client> = (0..200).map(|_| server.client()).collect();
    let mut client = server.client();
    let before = Instant::now();
    // Accepting is not over when connecting is.
    while info_number(&client.call(&["INFO", "clients"]).text(), "connected_clients") < 201 {
        assert!(before.elapsed() < Duration::from_secs(10), "they are not accepted");
    }
    client.send([encode(&[b"CLIENT", b"LIST"]), encode(&[b"PING"])].concat());
    let lines = client.reply().text();
    assert_eq!(lines.lines().count(), 201);
    assert_eq!(client.reply(), Reply::Simple("PONG".into()), "replies stay in order");
}

#[test]
fn connections_are_ended_by_others_and_by_themselves() {
    let server = Server::start(&[]);
    let (mut one, mut two, mut three) = (server.client(), server.client(), server.client());
    let address = one.stream().local_addr().expect("connected").to_string();
    assert_eq!(one.call(&["PING"]), Reply::Simple("PONG".into()));
    assert_eq!(three.call(&["PING"]), Reply::Simple("PONG".into()));
    assert_eq!(two.call(&["CLIENT", "KILL", &address]), ok());
    assert_eq!(one.rest(), b"");
    assert_eq!(two.call(&["CLIENT", "KILL", &address]), error("ERR No such client"));
    let Reply::Integer(id) = three.call(&["CLIENT", "ID"]) else { panic!("a number") };
    let id = id.to_string();
    let kill = ["CLIENT", "KILL", "ID", &id, "LADDR", "1.2.3.4:5"];
    assert_eq!(two.call(&kill), Reply::Integer(0), "both must apply");
    assert_eq!(two.call(&kill[..4]), Reply::Integer(1));
    assert_eq!(three.rest(), b"");
    assert_eq!(two.call(&["CLIENT", "KILL", "TYPE", "normal"]), Reply::Integer(0), "not itself");
    let itself = ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no"];
    assert_eq!(two.call(&itself), Reply::Integer(1));
    assert_eq!(two.rest(), b"");
}

#[test]
fn a_pause_holds_writes_back_or_all() {
    let server = Server::start(&[]);
    let (mut one, mut two) = (server.client(), server.client());
    assert_eq!(one.call(&["SET", "k", "old"]), ok());
    assert_eq!(one.call(&["CLIENT", "PAUSE", "100000", "WRITE"]), ok());
    two.send([encode(&[b"SET", b"k", b"new"]), encode(&[b"GET", b"k"])].concat());
    assert_eq!(one.call(&["GET", "k"]), Reply::bulk("old"), "reads go on");
    let info = one.call(&["INFO", "clients"]).text();
    assert!(info.contains("paused_actions:write"), "{info}");
    assert_eq!(one.call(&["CLIENT", "UNPAUSE"]), ok());
    assert_eq!([two.reply(), two.reply()], [ok(), Reply::bulk("new")]);
    // What waits is executed when the time is over, too; who is gone by then is no matter.
    assert_eq!(one.call(&["CLIENT", "PAUSE", "50"]), ok());
    two.send(encode(&[b"SET", b"k", b"newer"]));
    server.memcached().send("set m 0 0 1\r\nx\r\n");
    assert_eq!(two.reply(), ok());
    assert_eq!(one.call(&["GET", "k"]), Reply::bulk("newer"));
}

#[test]
fn a_paused_transaction_waits_if_it_writes() {
    let server = Server::start(&[]);
    let (mut one, mut two) = (server.client(), server.client());
    for command in [&["MULTI"][..], &["INCR", "n"]] {
        two.call(command);
    }
    assert_eq!(one.call(&["CLIENT", "PAUSE", "100000", "WRITE"]), ok());
    two.send(encode(&[b"EXEC"]));
    assert_eq!(one.call(&["EXISTS", "n"]), Reply::Integer(0));
    assert_eq!(one.call(&["CLIENT", "UNPAUSE"]), ok());
    assert_eq!(two.reply(), Reply::Array(vec![Reply::Integer(1)]));
}

#[test]
fn databases_are_apart_and_can_be_swapped() {
    let server = Server::start(&[]);
    let mut client = server.client();
    // In one pipeline, so that keys are hashed before the database is selected.
    let commands: [&[&[u8]]; 8] = [
        &[b"SET", b"k", b"zero"],
        &[b"SELECT", b"5"],
        &[b"GET", b"k"],
        &[b"SET", b"k", b"five"],
        &[b"SWAPDB", b"0", b"5"],
        &[b"GET", b"k"],
        &[b"SELECT", b"0"],
        &[b"GET", b"k"],
    ];
    client.send(commands.map(encode).concat());
    let replies: Vec<Reply> = commands.iter().map(|_| client.reply()).collect();
    assert_eq!(replies[2], Reply::Null);
    assert_eq!((&replies[5], &replies[7]), (&Reply::bulk("zero"), &Reply::bulk("five")));
    assert_eq!(client.call(&["FLUSHDB"]), ok());
    assert_eq!(client.call(&["DBSIZE"]), Reply::Integer(0));
    let info = client.call(&["INFO", "keyspace"]).text();
    assert!(info.contains("db5:keys=1,expires=0") && !info.contains("db0:"), "{info}");
    assert_eq!(client.call(&["FLUSHALL"]), ok());
    client.call(&["SELECT", "5"]);
    assert_eq!(client.call(&["GET", "k"]), Reply::Null);
    assert_eq!(client.call(&["SELECT", "16"]), error("ERR DB index is out of range"));
}

#[test]
fn a_large_value_goes_to_the_database_that_is_selected_when_it_has_come() {
    let server = Server::start(&[]);
    let (mut one, mut two) = (server.client(), server.client());
    one.call(&["SELECT", "2"]);
    let value = "v".repeat(200_000);
    let request = encode(&[b"SET", b"big", value.as_bytes()]);
    one.send(&request[..100_000]);
    two.call(&["SWAPDB", "2", "7"]);
    one.send(&request[100_000..]);
    assert_eq!(one.reply(), ok());
    assert_eq!(one.call(&["GET", "big"]), Reply::bulk(&value));
    two.call(&["SELECT", "7"]);
    assert_eq!(two.call(&["EXISTS", "big"]), Reply::Integer(0));
}
