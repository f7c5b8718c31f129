//! A pipeline longer than any buffer.

mod support;

use std::io::{Read, Write};

use support::{Reply, Server, encode, ok};

/// A million commands on one connection, written as fast as they are taken, while another client
/// goes on.
#[test]
fn a_million_commands_come_back_in_order() {
    for network in ["io_uring", "epoll"] {
        let server = Server::start(&["--network", network]);
        let mut good = server.client();
        let mut stream = server.client().stream().try_clone().expect("clone");
        let mut writer = stream.try_clone().expect("clone");
        let thread = std::thread::spawn(move || {
            let piece = encode(&[b"INCR", b"million"]).repeat(10_000);
            for _ in 0..100 {
                writer.write_all(&piece).expect("write");
            }
        });
        let witness = std::thread::spawn(move || {
            for number in 0..500 {
                let value = format!("{number}");
                assert_eq!(good.call(&["SET", "good", &value]), ok());
                assert_eq!(good.call(&["GET", "good"]), Reply::bulk(&value));
            }
        });
        let (mut expected, mut buffer, mut line) = (1u64, vec![0; 64 << 10], Vec::new());
        while expected <= 1_000_000 {
            let length = stream.read(&mut buffer).expect("read");
            assert!(length > 0, "the server hung up at {expected}");
            for &byte in &buffer[..length] {
                if byte != b'\n' {
                    line.push(byte);
                    continue;
                }
                assert_eq!(line, format!(":{expected}\r").as_bytes(), "{network}");
                line.clear();
                expected += 1;
            }
        }
        thread.join().expect("writer");
        witness.join().expect("witness");
    }
}
