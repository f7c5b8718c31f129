//! Calls that fail for want of memory, of buffers or of descriptors: whoever they were for may lose
//! a connection, everybody else is served, and nothing is left behind.

mod support;

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::seccomp::{Condition, Failure, inject};
use support::{Client, Reply, Server, info_number, ok};

fn pinion(flags: &[&str], failures: &[Failure]) -> Command {
    let ports = ["--bind", "127.0.0.1", "--port", "0", "--memcached-port", "auto"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_pinion"));
    command.args(ports).args(["--memory", "64MiB"]).args(flags).stderr(Stdio::piped());
    inject(&mut command, failures);
    command
}

fn session(server: &Server) {
    let mut client = server.client();
    assert_eq!(client.call(&["SET", "a", "1"]), ok());
    assert_eq!(server.memcached().ask("get a\r\n"), "VALUE a 0 1\r\n1\r\nEND\r\n");
    let large = vec![b'v'; 1_000_000];
    assert_eq!(client.call_bytes(&[b"SET", b"large", &large]), ok());
    assert!(client.call(&["GET", "large"]) == Reply::bulk(&large));
}

/// Ends it in order; what it has logged.
fn log_of(mut server: Server) -> String {
    server.signal("TERM");
    let mut log = String::new();
    server.stderr().read_to_string(&mut log).expect("text");
    assert_eq!(server.wait(), Some(0), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    log
}

/// Asks once; what is answered, or nothing if the connection ends.
fn ask(client: &mut Client, request: &[u8]) -> Vec<u8> {
    let _ = client.stream().write_all(request);
    let mut bytes = [0; 64];
    let length = client.stream().read(&mut bytes).unwrap_or(0);
    bytes[..length].to_vec()
}

/// With calls on some descriptors failing, their connections end and the others are served, over and
/// over.
#[test]
fn a_socket_without_memory_is_nobody_elses_trouble() {
    for (call, errno) in [
        (libc::SYS_sendto, libc::ENOBUFS),
        (libc::SYS_sendto, libc::ENOMEM),
        (libc::SYS_recvfrom, libc::ENOMEM),
        (libc::SYS_recvfrom, libc::ENOBUFS),
    ] {
        // Among the first sixteen are the server's own.
        let when = Some(Condition { argument: 0, mask: 0x13, bits: 0x13 });
        let failure = Failure { call, errno, when };
        let server = Server::spawn(pinion(&["--network", "epoll"], &[failure]));
        let (mut served, mut lost) = (0, 0);
        for _ in 0..10 {
            let mut clients: Vec<Client> = (0..16).map(|_| server.client()).collect();
            for client in &mut clients {
                match &ask(client, b"PING\r\n")[..] {
                    b"+PONG\r\n" => served += 1,
                    b"" => lost += 1,
                    other => panic!("{:?}", other.utf8_chunks()),
                }
            }
        }
        println!("{failure:?}: {served} served, {lost} lost");
        assert!(served >= 50 && lost >= 10, "{failure:?}: {served} served, {lost} lost");
        // Its descriptor is one of the first that are free.
        let mut witness = server.client();
        let start = Instant::now();
        while info_number(&witness.call(&["INFO"]).text(), "connected_clients") > 1 {
            assert!(start.elapsed() < Duration::from_secs(20), "{failure:?}: connections stay");
        }
        log_of(server);
    }
}

/// Of two listeners one cannot accept: the other goes on, and so do those who are in.
#[test]
fn a_listener_that_cannot_accept_leaves_the_other_alone() {
    for errno in [libc::ENOMEM, libc::ENOBUFS, libc::EMFILE, libc::ENFILE] {
        let mut served_by = [0, 0];
        // The two listeners have numbers that follow each other.
        for rest in [0, 1] {
            let failure = Failure::on_one_descriptor_in(2, rest, libc::SYS_accept4, errno);
            let flags = ["--network", "epoll", "--cores", "0"];
            let server = Server::spawn(pinion(&flags, &[failure]));
            let patience = Some(Duration::from_millis(300));
            let (mut resp, mut text) = (server.client(), server.memcached());
            resp.stream().set_read_timeout(patience).expect("timeout");
            text.stream().set_read_timeout(patience).expect("timeout");
            let answers = [ask(&mut resp, b"PING\r\n"), ask(&mut text, b"version\r\n")];
            assert!(answers.iter().any(Vec::is_empty), "one is not let in: {answers:?}");
            let (number, client, request) = match answers[0].is_empty() {
                false => (0, &mut resp, &b"PING\r\n"[..]),
                true => (1, &mut text, &b"version\r\n"[..]),
            };
            client.stream().set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
            for _ in 0..200 {
                assert_eq!(ask(client, request), answers[number]);
            }
            served_by[number] += 1;
            let log = log_of(server);
            assert!(log.contains("event=accept-failed"), "{log}");
        }
        assert_eq!(served_by, [1, 1], "errno {errno}");
    }
}

#[test]
fn without_memory_for_a_ring_epoll_serves() {
    for (call, errno, words) in [
        (libc::SYS_io_uring_setup, libc::ENOMEM, "LimitMEMLOCK="),
        (libc::SYS_io_uring_setup, libc::EMFILE, "io_uring: cannot set up a ring"),
        (libc::SYS_io_uring_register, libc::ENOMEM, "io_uring: cannot ask for its operations"),
    ] {
        let failures = [Failure::always(call, errno)];
        let server = Server::spawn(pinion(&[], &failures));
        session(&server);
        assert!(server.client().call(&["INFO"]).text().contains("network:epoll\r\n"));
        let log = log_of(server);
        assert!(log.contains("event=epoll") && log.contains(words), "{log}");
        let (code, complaint) =
            support::run_command_to_end(pinion(&["--network", "io_uring"], &failures));
        assert_eq!((code, complaint.lines().count()), (Some(1), 1), "{complaint}");
        assert!(complaint.contains(words), "{complaint}");
    }
}

/// Advice on memory, and populating it ahead, may fail: it is found when it is touched.
#[test]
fn advice_on_memory_that_fails_costs_nothing_but_time() {
    for network in ["io_uring", "epoll"] {
        for errno in [libc::ENOMEM, libc::EINVAL] {
            // The ring asks for advice of another kind, without which there is none.
            let advice = [libc::MADV_POPULATE_WRITE, libc::MADV_HUGEPAGE, libc::MADV_DONTNEED];
            let failures = advice.map(|advice| {
                let when = Condition { argument: 2, mask: u32::MAX, bits: advice as u32 };
                Failure { call: libc::SYS_madvise, errno, when: Some(when) }
            });
            let server = Server::spawn(pinion(&["--network", network, "--prefault"], &failures));
            session(&server);
            let mut client = server.client();
            for number in 0..300 {
                let value = [number as u8; 100_000];
                assert_eq!(client.call_bytes(&[b"SET", &[number as u8], &value]), ok());
            }
            assert_eq!(client.call(&["FLUSHALL"]), ok());
            assert_eq!(client.call(&["CONFIG", "SET", "maxmemory", "67108864"]), ok());
            assert_eq!(client.call(&["SET", "a", "1"]), ok());
            log_of(server);
        }
    }
}

#[test]
fn what_a_start_cannot_do_without_is_named_in_one_line() {
    for (call, errno) in [
        (libc::SYS_epoll_create1, libc::EMFILE),
        (libc::SYS_eventfd2, libc::EMFILE),
        (libc::SYS_socket, libc::ENFILE),
        (libc::SYS_listen, libc::ENOBUFS),
    ] {
        let failures = [Failure::always(call, errno)];
        let command = pinion(&["--network", "epoll"], &failures);
        let (code, complaint) = support::run_command_to_end(command);
        assert_eq!((code, complaint.lines().count()), (Some(1), 1), "{call}: {complaint}");
        assert!(complaint.starts_with("pinion: "), "{call}: {complaint}");
        let words = std::io::Error::from_raw_os_error(errno).to_string();
        assert!(complaint.contains(&words), "{call}: {words} is missing in {complaint}");
    }
    // No address space for the items.
    let mut command = pinion(&["--driver", "bare"], &[]);
    support::seccomp::limit(&mut command, libc::RLIMIT_AS, 100 << 20);
    let (code, complaint) = support::run_command_to_end(command);
    assert_eq!((code, complaint.lines().count()), (Some(1), 1), "{complaint}");
    assert!(complaint.contains("the shard cannot be set up"), "{complaint}");
}
