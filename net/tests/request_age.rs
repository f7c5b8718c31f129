//! `--request-age`: what has waited in the server for too long gets an error instead of being
//! executed.

mod support;

use std::time::{Duration, Instant};

use support::binary::{BinaryClient, Request};
use support::{Client, Reply, Server, encode, info_number, ok};

const OLD: &str = "request is older than the 200 ms that it may wait";

fn start(network: &str) -> Server {
    Server::start(&["--cores", "0", "--network", network, "--request-age", "200ms"])
}

fn refusals(client: &mut Client) -> u64 {
    info_number(&client.call(&["INFO"]).text(), "request_age_refusals")
}

fn old() -> Reply {
    Reply::Error(format!("ERR {OLD}"))
}

#[test]
fn what_waits_in_a_pause_is_answered_before_its_end() {
    for network in ["io_uring", "epoll"] {
        let server = start(network);
        let (mut resp, mut text) = (server.client(), server.memcached());
        let mut raw = BinaryClient::connect(server.memcached);
        let mut admin = server.client();
        assert_eq!(admin.call(&["CLIENT", "PAUSE", "3000", "ALL"]), ok());
        let start = Instant::now();
        assert_eq!(resp.call(&["SET", "a", "1"]), old(), "{network}");
        assert_eq!(text.ask_once("set b 0 0 1\r\n1\r\n"), format!("SERVER_ERROR {OLD}"));
        let noreply = "set c 0 0 1 noreply\r\n1\r\nmg b v\r\nmn\r\n";
        text.send(noreply);
        assert_eq!((text.line(), text.line()), (format!("SERVER_ERROR {OLD}"), "MN".to_owned()));
        let reply = raw.call(&Request::new(0x00, b"", b"b", b""));
        assert_eq!(reply.outcome(), (0x86, OLD.as_bytes()));
        resp.send(encode(&[b"MULTI"]));
        resp.send(encode(&[b"SET", b"d", b"1"]));
        resp.send(encode(&[b"EXEC"]));
        let text = "EXECABORT Transaction discarded because of previous errors.";
        let replies = [resp.reply(), resp.reply(), resp.reply()];
        assert_eq!(replies, [ok(), old(), Reply::Error(text.into())]);
        assert!(start.elapsed() < Duration::from_secs(3), "{network}: the pause has to go on");
        // What changes the state of a connection waits, and is executed; what follows it is not.
        resp.send(encode(&[b"SELECT", b"3"]));
        resp.send(encode(&[b"SET", b"e", b"1"]));
        assert_eq!([resp.reply(), resp.reply()], [ok(), old()]);
        assert_eq!(resp.call(&["DBSIZE"]), Reply::Integer(0));
        assert_eq!(admin.call(&["EXISTS", "a", "b", "c", "d"]), Reply::Integer(0));
        // a, b, c, mg, the binary get, d, EXEC, e.
        assert_eq!(refusals(&mut admin), 8);
    }
}

#[test]
fn what_waits_behind_unread_replies_is_refused_when_its_turn_comes() {
    for network in ["io_uring", "epoll"] {
        let server = start(network);
        let (mut slow, mut admin) = (server.client(), server.client());
        let value = vec![b'v'; 20_000];
        assert_eq!(slow.call_bytes(&[b"SET", b"a", &value]), ok());
        // Sixty megabytes, of which the sockets hold a part.
        let count = 3_000;
        slow.send(encode(&[b"GET", b"a"]).repeat(count));
        let held_back =
            |admin: &mut Client| info_number(&admin.call(&["INFO"]).text(), "output_pauses") > 0;
        while !held_back(&mut admin) {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(400));
        let (mut values, mut errors) = (0, 0);
        for _ in 0..count {
            match slow.reply() {
                Reply::Bulk(bytes) => {
                    assert!(bytes == value);
                    values += 1;
                }
                error => {
                    assert_eq!(error, old());
                    errors += 1;
                }
            }
        }
        assert!(values > 0 && errors > 0, "{network}: {values} values, {errors} errors");
        assert_eq!(refusals(&mut admin), errors, "{network}");
        assert!(slow.call_bytes(&[b"GET", b"a"]) == Reply::bulk(&value), "a new one is served");
    }
}

#[test]
fn a_client_that_sends_slowly_is_not_refused() {
    for network in ["io_uring", "epoll"] {
        let server = start(network);
        let mut slow = server.client();
        let frame = encode(&[b"SET", b"a", &[b'v'; 100]]);
        slow.send(&frame[..frame.len() - 5]);
        std::thread::sleep(Duration::from_millis(500));
        slow.send(&frame[frame.len() - 5..]);
        assert_eq!(slow.reply(), ok());
        let mut large = server.memcached();
        large.send(b"set b 0 0 300000\r\n");
        for _ in 0..10 {
            large.send([b'v'; 30_000]);
            std::thread::sleep(Duration::from_millis(50));
        }
        large.send("\r\n");
        assert_eq!(large.line(), "STORED");
        assert_eq!(refusals(&mut slow), 0);
    }
}
