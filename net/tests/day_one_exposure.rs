//! Who may reach the server, and what they may do: passwords, web pages, Unix sockets, commands
//! under other names.

mod support;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use support::{Reply, Server, info_number, ok, run_to_end};

fn error(text: &str) -> Reply {
    Reply::Error(text.into())
}

#[test]
fn beyond_loopback_a_password_is_asked_for() {
    let ports = ["--port", "0", "--memcached-port", "0", "--memory", "64MiB"];
    let (code, complaint) = run_to_end(&[&ports[..], &["--bind", "0.0.0.0"]].concat());
    assert_eq!((code, complaint.lines().count()), (Some(1), 1), "{complaint}");
    for word in ["--bind 0.0.0.0", "--requirepass", "--protected-mode no"] {
        assert!(complaint.contains(word), "{complaint}");
    }
    let ports = ["--bind", "0.0.0.0", "--port", "0", "--memcached-port", "auto"];
    let server = Server::launch(&[&ports[..], &["--protected-mode", "no"]].concat());
    let mut client = support::Client::connect(([127, 0, 0, 1], server.resp.port()).into());
    assert_eq!(client.call(&["SET", "a", "1"]), ok());
    let server = Server::launch(&[&ports[..], &["--requirepass", "secret"]].concat());
    let mut client = support::Client::connect(([127, 0, 0, 1], server.resp.port()).into());
    assert_eq!(client.call(&["GET", "a"]), error("NOAUTH Authentication required."));
    assert_eq!(client.call(&["AUTH", "secret"]), ok());
    let reply = client.call(&["CONFIG", "SET", "requirepass", ""]).text();
    assert!(reply.contains("beyond loopback"), "{reply}");
    assert_eq!(client.call(&["CONFIG", "SET", "requirepass", "other"]), ok());
}

#[test]
fn a_password_closes_the_memcached_port_to_strangers() {
    let server = Server::start(&["--requirepass", "secret"]);
    let mut text = server.memcached();
    for request in ["get a\r\n", "delete a\r\n", "stats\r\n", "flush_all\r\n"] {
        let answer = text.ask_once(request);
        assert!(answer.starts_with("CLIENT_ERROR"), "{request}: {answer}");
    }
    assert_eq!(text.ask_once("set x 0 0 14\r\ndefault secret\r\n"), "STORED");
    assert_eq!(text.ask("get a\r\n"), "END\r\n");
}

#[test]
fn requests_of_web_pages_are_cut() {
    let server = Server::start(&[]);
    let mut client = server.client();
    for request in [
        "POST / HTTP/1.1\r\nHost: localhost\r\n\r\nSET stolen 1\r\n",
        "post / HTTP/1.1\r\nSET stolen 1\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\nSET stolen 1\r\n",
        "PUT /x HTTP/1.1\r\nhost: x\r\n\r\nSET stolen 1\r\n",
    ] {
        let mut page = server.client();
        page.send(request);
        let answer = String::from_utf8_lossy(&page.rest()).into_owned();
        assert!(!answer.contains("+OK"), "{request:?}: {answer}");
        let mut page = server.memcached();
        page.send(request);
        let answer = String::from_utf8_lossy(&page.rest()).into_owned();
        assert!(!answer.contains("STORED"), "{request:?}: {answer}");
    }
    assert_eq!(client.call(&["EXISTS", "stolen"]), Reply::Integer(0));
    let info = client.call(&["INFO"]).text();
    assert_eq!(info_number(&info, "http_requests_cut"), 4);
    assert_eq!(info_number(&info, "connected_clients"), 1);
}

#[test]
fn commands_answer_to_the_names_that_they_were_given() {
    let renames = ["--rename-command", "FLUSHALL", "", "--rename-command", "CONFIG", "cfg-7"];
    let server = Server::start(&renames);
    let mut client = server.client();
    assert!(client.call(&["FLUSHALL"]).text().starts_with("ERR unknown command 'FLUSHALL'"));
    assert!(client.call(&["config", "get", "port"]).text().starts_with("ERR unknown command"));
    let port = Reply::Array(vec![Reply::bulk("maxclients"), Reply::bulk("10000")]);
    assert_eq!(client.call(&["CFG-7", "GET", "maxclients"]), port);
    // The new name may be a secret: it is told to who knows it, and not listed.
    let Reply::Array(names) = client.call(&["COMMAND", "LIST"]) else { panic!("a list") };
    let is_listed = |name: &str| names.contains(&Reply::bulk(name));
    assert!(is_listed("flushdb") && is_listed("command|docs"));
    for name in ["flushall", "config", "config|get", "cfg-7", "cfg-7|get"] {
        assert!(!is_listed(name), "{name}");
    }
    let count = names.iter().filter(|name| !name.text().contains('|')).count() as i64;
    assert_eq!(client.call(&["COMMAND", "COUNT"]), Reply::Integer(count));
    let Reply::Array(all) = client.call(&["COMMAND"]) else { panic!("a list") };
    assert_eq!(all.len() as i64, count);
    let infos = client.call(&["COMMAND", "INFO", "config", "CFG-7", "cfg-7|get", "flushall"]);
    let Reply::Array(infos) = infos else { panic!("a list") };
    let name = |info: &Reply| match info {
        Reply::Array(fields) => fields[0].text(),
        other => format!("{other:?}"),
    };
    let infos: Vec<String> = infos.iter().map(name).collect();
    assert_eq!(infos, ["Null", "cfg-7", "cfg-7|get", "Null"]);
    let Reply::Array(docs) = client.call(&["COMMAND", "DOCS", "flushall", "cfg-7"]) else {
        panic!("a list")
    };
    assert_eq!(docs[0], Reply::bulk("cfg-7"));
    let error = client.call(&["COMMAND", "GETKEYS", "flushall", "x"]).text();
    assert!(error.contains("Invalid command specified"), "{error}");
    assert_eq!(client.call(&["SET", "a", "1"]), ok());
    assert_eq!(client.call(&["MULTI"]), ok());
    assert!(client.call(&["FLUSHALL"]).text().starts_with("ERR unknown command"));
    assert!(client.call(&["EXEC"]).text().starts_with("EXECABORT"));
    for (pair, word) in [(["gett", "x"], "no command"), (["get", "set"], "another command's")] {
        let flags = ["--memory", "64MiB", "--port", "0", "--rename-command", pair[0], pair[1]];
        let (code, complaint) = run_to_end(&flags);
        assert_eq!(code, Some(1), "{complaint}");
        assert!(complaint.contains("--rename-command") && complaint.contains(word), "{complaint}");
    }
}

struct Paths(Vec<PathBuf>);

impl Paths {
    fn new(names: &[&str]) -> Paths {
        let path = |name: &&str| {
            std::env::temp_dir().join(format!("pinion-unix-{name}-{}", std::process::id()))
        };
        Paths(names.iter().map(path).collect())
    }

    fn text(&self, number: usize) -> &str {
        self.0[number].to_str().expect("text")
    }
}

impl Drop for Paths {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn ask(path: &str, request: &str, answer: &str) {
    let mut stream = UnixStream::connect(path).expect("connect");
    stream.write_all(request.as_bytes()).expect("write");
    let mut bytes = vec![0; answer.len()];
    stream.read_exact(&mut bytes).expect("read");
    assert_eq!(String::from_utf8_lossy(&bytes), answer);
}

#[test]
fn both_protocols_are_spoken_on_unix_sockets() {
    for network in ["io_uring", "epoll"] {
        let paths = Paths::new(&["resp", "memcached"]);
        let (resp, memcached) = (paths.text(0), paths.text(1));
        let flags = ["--unix", resp, "--memcached-unix", memcached, "--network", network];
        let mut server = Server::start(&[&flags[..], &["--unix-permissions", "770"]].concat());
        ask(resp, "SET a 1\r\nGET a\r\n", "+OK\r\n$1\r\n1\r\n");
        ask(memcached, "get a\r\n", "VALUE a 0 1\r\n1\r\nEND\r\n");
        let mode = std::fs::metadata(resp).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o770);
        let list = server.client().call(&["CLIENT", "LIST"]).text();
        assert!(list.contains("addr="), "{list}");
        let ports = ["--bind", "127.0.0.1", "--port", "0", "--memcached-port", "0"];
        let ports = [&ports[..], &["--memory", "64MiB", "--unix", resp]].concat();
        let (code, complaint) = run_to_end(&ports);
        assert_eq!(code, Some(1), "{complaint}");
        assert!(complaint.contains(resp) && complaint.contains("--unix"), "{complaint}");
        ask(resp, "GET a\r\n", "$1\r\n1\r\n");
        // One that was killed leaves its files, and the next one takes them over.
        server.signal("KILL");
        server.wait();
        assert!(std::fs::exists(resp).expect("readable"));
        let mut server = Server::start(&flags);
        ask(resp, "EXISTS a\r\n", ":0\r\n");
        server.signal("TERM");
        assert_eq!(server.wait(), Some(0));
        assert!(!std::fs::exists(resp).expect("readable"), "it is removed at the end");
        assert!(!std::fs::exists(memcached).expect("readable"), "it is removed at the end");
    }
}

#[test]
fn paths_that_cannot_be_are_refused() {
    let paths = Paths::new(&["precious"]);
    std::fs::write(&paths.0[0], "precious").expect("write");
    let long = format!("/tmp/{}", "x".repeat(200));
    for (path, word) in [
        (paths.text(0), "is not a socket"),
        ("/nowhere/pinion.sock", "does not exist"),
        (&long, "too long"),
    ] {
        let ports = ["--bind", "127.0.0.1", "--port", "0", "--memcached-port", "0"];
        let flags = [&ports[..], &["--memory", "64MiB", "--memcached-unix", path]].concat();
        let (code, complaint) = run_to_end(&flags);
        assert_eq!((code, complaint.lines().count()), (Some(1), 1), "{complaint}");
        for word in [word, path, "--memcached-unix"] {
            assert!(complaint.contains(word), "{word} is missing in {complaint}");
        }
    }
    assert_eq!(std::fs::read(&paths.0[0]).expect("it is left alone"), b"precious");
}
