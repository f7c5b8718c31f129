//! The contract of the data ring, kept by epoll: whole sends to slow readers, ends, cancelled
//! receives, accepting by hand, waking.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use pinion_ring::{EndReason, EpollReceived, EpollSet, Event, Key, Wait};

type EpollEvent = Event<OwnedFd, EpollReceived>;

const PATIENCE: Wait = Wait::For(Duration::from_secs(10));

fn start() -> (EpollSet, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let mut set = EpollSet::new().expect("a set");
    assert_eq!(set.add_listener(OwnedFd::from(listener)).expect("watched"), 0);
    (set, address)
}

fn next(set: &mut EpollSet) -> EpollEvent {
    loop {
        if let Some(event) = set.next_event() {
            return event;
        }
        set.enter(PATIENCE).expect("enter");
    }
}

fn accept(set: &mut EpollSet, address: SocketAddr) -> (TcpStream, OwnedFd) {
    let client = TcpStream::connect(address).expect("connect");
    match next(set) {
        Event::Accepted { listener: 0, socket } => (client, socket),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_send_to_a_slow_reader_is_whole() {
    let (mut set, address) = start();
    let (mut client, socket) = accept(&mut set, address);
    let bytes: Vec<u8> = (0..8u32 << 20).map(|n| (n % 251) as u8).collect();
    let key = Key::new(3, 9);
    set.send(socket.as_fd(), key, bytes.clone(), 1_000, bytes.len());
    let reader = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        let mut received = vec![0; (8 << 20) - 1_000];
        client.read_exact(&mut received).expect("read");
        received
    });
    match next(&mut set) {
        Event::Sent { key: of, buffer, result } => {
            assert_eq!((of, result.expect("sent")), (key, bytes.len() - 1_000));
            assert!(buffer == bytes, "the buffer comes back as it was");
        }
        other => panic!("{other:?}"),
    }
    assert!(reader.join().expect("reader") == bytes[1_000..]);
}

#[test]
fn receiving_ends_when_it_is_cancelled_and_goes_on_when_asked() {
    let (mut set, address) = start();
    let (mut client, socket) = accept(&mut set, address);
    let key = Key::new(0, 1);
    set.receive(socket.as_fd(), key);
    client.write_all(b"one").expect("write");
    match next(&mut set) {
        Event::Received { key: of, data, armed: true } => {
            assert_eq!((of, set.bytes(&data)), (key, &b"one"[..]));
            set.give_back(data);
        }
        other => panic!("{other:?}"),
    }
    set.cancel_receive(Key::new(0, 2));
    set.cancel_receive(key);
    let ended = next(&mut set);
    assert!(matches!(ended, Event::ReceiveEnded { reason: EndReason::Cancelled, .. }), "{ended:?}");
    client.write_all(b"two").expect("write");
    drop(client);
    set.enter(Wait::For(Duration::from_millis(50))).expect("enter");
    assert!(set.next_event().is_none(), "nobody has asked, not even for the end");
    set.receive(socket.as_fd(), key);
    match next(&mut set) {
        Event::Received { data, .. } => {
            assert_eq!(set.bytes(&data), b"two");
            set.give_back(data);
        }
        other => panic!("{other:?}"),
    }
    let ended = next(&mut set);
    assert!(matches!(ended, Event::ReceiveEnded { reason: EndReason::Eof, .. }), "{ended:?}");
    set.send(socket.as_fd(), key, vec![1], 0, 1);
    while matches!(next(&mut set), Event::Sent { result: Ok(1), .. }) {
        // The first may still go out; the answer to it is a reset.
        std::thread::sleep(Duration::from_millis(5));
        set.send(socket.as_fd(), key, vec![1], 0, 1);
    }
}

#[test]
fn a_thread_wakes_it_and_connections_are_taken_by_hand() {
    let (mut set, address) = start();
    assert!(set.accept_now(0).is_none() && set.accept_now(7).is_none());
    let client = TcpStream::connect(address).expect("connect");
    let mut taken = None;
    for _ in 0..1_000 {
        taken = set.accept_now(0);
        if taken.is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(taken.is_some(), "a connection waits");
    drop(client);
    let waker = set.waker();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(10));
        waker.wake();
    });
    assert!(matches!(next(&mut set), Event::Woken));
    thread.join().expect("thread");
}
