//! Floor servers over real sockets: whole replies in order, whatever connections do.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::Duration;

use common::{Floor, KINDS};
use pinion_benches::client::Prng;

const GET_BYTES: usize = 36;
const SET_BYTES: usize = 107;

fn get() -> Vec<u8> {
    let mut frame = b"*2\r\n$3\r\nGET\r\n$16\r\n".to_vec();
    frame.resize(GET_BYTES, b'k');
    frame
}

fn set() -> Vec<u8> {
    let mut frame = b"*3\r\n$3\r\nSET\r\n$16\r\n".to_vec();
    frame.resize(SET_BYTES, b'k');
    frame
}

fn get_reply() -> Vec<u8> {
    [b"$64\r\n", [b'x'; 64].as_slice(), b"\r\n"].concat()
}

fn connect(floor: &Floor) -> TcpStream {
    let stream = TcpStream::connect(floor.address).unwrap();
    stream.set_nodelay(true).unwrap();
    // A server that hangs fails the test instead of hanging it.
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

fn expect(stream: &mut TcpStream, expected: &[u8]) {
    let mut reply = vec![0; expected.len()];
    stream.read_exact(&mut reply).unwrap();
    assert!(reply == expected, "{}", reply.escape_ascii());
}

fn is_served(floor: &Floor) {
    let mut stream = connect(floor);
    stream.write_all(&get()).unwrap();
    expect(&mut stream, &get_reply());
}

#[test]
fn torn_pipelines_are_answered_in_order() {
    for kind in KINDS {
        let floor = Floor::start(&format!("--kind {kind}"));
        let mut prng = Prng::new(7);
        let (mut requests, mut replies) = (Vec::new(), Vec::new());
        for _ in 0..300 {
            if prng.below(2) == 0 {
                requests.extend(get());
                replies.extend(get_reply());
            } else {
                requests.extend(set());
                replies.extend(b"+OK\r\n");
            }
        }
        let mut stream = connect(&floor);
        let mut rest = &requests[..];
        while !rest.is_empty() {
            let take = (prng.below(90) as usize + 1).min(rest.len());
            stream.write_all(&rest[..take]).unwrap();
            rest = &rest[take..];
        }
        expect(&mut stream, &replies);
    }
}

#[test]
fn memcached_frames_are_answered_in_their_own_form() {
    for kind in KINDS {
        let floor = Floor::start(&format!(
            "--kind {kind} --request-get 9 --request-set 20 --reply-get 26 --reply-set 8"
        ));
        let mut stream = connect(&floor);
        stream.write_all(b"get abc\r\nset abc 0 0 4\r\n").unwrap();
        stream.write_all(&[b'v'; 5]).unwrap();
        expect(&mut stream, b"VALUE kkk 0 4\r\nxxxx\r\nEND\r\nSTORED\r\n");
    }
}

#[test]
fn more_connections_than_receive_buffers_are_served_at_once() {
    for kind in KINDS {
        let floor = Floor::start(&format!("--kind {kind}"));
        let mut streams: Vec<TcpStream> = (0..300).map(|_| connect(&floor)).collect();
        for _ in 0..3 {
            for stream in &mut streams {
                stream.write_all(&get().repeat(20)).unwrap();
            }
            for stream in &mut streams {
                expect(stream, &get_reply().repeat(20));
            }
        }
    }
}

#[test]
fn replies_that_wait_for_a_slow_reader_arrive_whole() {
    for kind in KINDS {
        let floor = Floor::start(&format!("--kind {kind}"));
        let mut stream = connect(&floor);
        // Far more than the socket buffers hold, less than the server's limit.
        let count = 150_000;
        let mut writer = stream.try_clone().unwrap();
        writer.write_all(&get().repeat(count)).unwrap();
        expect(&mut stream, &get_reply().repeat(count));
        is_served(&floor);
    }
}

#[test]
fn a_reader_that_never_reads_loses_its_connection_and_nobody_else_does() {
    for kind in KINDS {
        let floor = Floor::start(&format!("--kind {kind}"));
        let mut witness = connect(&floor);
        let mut greedy = connect(&floor);
        let requests = get().repeat(10_000);
        // 71 MB of replies, unless the server gives up first.
        let is_closed = (0..100).any(|_| greedy.write_all(&requests).is_err());
        assert!(is_closed, "{kind}");
        witness.write_all(&get()).unwrap();
        expect(&mut witness, &get_reply());
    }
}

#[test]
fn an_unknown_request_ends_its_connection_alone() {
    for kind in KINDS {
        let floor = Floor::start(&format!("--kind {kind}"));
        let mut witness = connect(&floor);
        for unknown in [&b"PING\r\n"[..], b"*1\r\n$4\r\nPING\r\n", b"\xff", b"get k\r\n"] {
            let mut stream = connect(&floor);
            stream.write_all(unknown).unwrap();
            match stream.read(&mut [0; 64]) {
                Ok(count) => assert_eq!(count, 0, "{kind}"),
                // The server does not read on, so that the end may come as a reset.
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{kind}"),
            }
        }
        witness.write_all(&get()).unwrap();
        expect(&mut witness, &get_reply());
    }
}

#[test]
fn connections_that_come_and_go_in_any_state_leave_the_server_whole() {
    for kind in KINDS {
        let floor = Floor::start(&format!("--kind {kind}"));
        let mut prng = Prng::new(11);
        let mut open: Vec<TcpStream> = Vec::new();
        for _ in 0..1500 {
            match prng.below(5) {
                0 | 1 => open.push(connect(&floor)),
                2 if !open.is_empty() => {
                    // Dropped with replies under way or unread, which resets the connection.
                    let index = prng.below(open.len() as u64) as usize;
                    let mut stream = open.swap_remove(index);
                    let _ = stream.write_all(&get().repeat(prng.below(200) as usize));
                }
                3 if !open.is_empty() => {
                    let index = prng.below(open.len() as u64) as usize;
                    let stream = open.swap_remove(index);
                    let _ = stream.shutdown(Shutdown::Both);
                }
                _ if !open.is_empty() => {
                    let index = prng.below(open.len() as u64) as usize;
                    open[index].write_all(&get()).unwrap();
                    expect(&mut open[index], &get_reply());
                }
                _ => {}
            }
        }
        is_served(&floor);
        for stream in &mut open {
            stream.write_all(&set()).unwrap();
            expect(stream, b"+OK\r\n");
        }
    }
}

#[test]
fn a_server_that_spins_serves_as_well() {
    for kind in KINDS {
        is_served(&Floor::start(&format!("--kind {kind} --idle spin")));
    }
}

#[test]
fn a_server_stays_on_its_cpu() {
    let cpu = *pinion_benches::sys::cpu::allowed_cpus().unwrap().last().unwrap();
    for kind in KINDS {
        let floor = Floor::start(&format!("--kind {kind} --cpu {cpu}"));
        is_served(&floor);
        let path = format!("/proc/{}/status", floor.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with("Cpus_allowed_list")).unwrap();
        assert!(line.ends_with(&format!("\t{cpu}")), "{kind}: {line}");
    }
}

#[test]
fn what_cannot_work_ends_with_one_line() {
    let taken = Floor::start("--kind epoll");
    let port = taken.address.port();
    for (arguments, expected) in [
        (format!("--kind ring --port {port}"), "listen on that port"),
        ("--kind epoll --cpu 1000".to_string(), "run on that CPU"),
        ("--kind epoll --reply-set 2".to_string(), "2 to SET"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_floor"))
            .args(arguments.split_whitespace())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(expected) && text.lines().count() == 1, "{text}");
    }
}
