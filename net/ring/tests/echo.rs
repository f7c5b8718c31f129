//! An echo server over the ring, with each feature hidden in turn: the same bytes must come back
//! whichever fall-back is in use.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use pinion_ring::{DataRing, EndReason, Event, Feature, FeatureSet, Key, RingOptions, Wait, Waker};

/// A connection of the echo server.
struct Peer {
    socket: OwnedFd,
    waiting: Vec<u8>,
    sending: bool,
    receiving: bool,
}

/// Serves until woken; returns the number of receives that met an empty pool.
fn serve(options: &RingOptions, listener: TcpListener, ready: impl FnOnce(Waker)) -> usize {
    let mut ring = DataRing::new(options).expect("a ring");
    let expected = FeatureSet::all().without(options.hide);
    assert_eq!(ring.features(), expected, "this kernel should have every feature");
    ring.add_listener(OwnedFd::from(listener));
    ready(ring.waker());
    let (mut peers, mut next, mut starved) = (HashMap::<u32, Peer>::new(), 0, 0);
    loop {
        ring.enter(Wait::For(Duration::from_secs(10))).expect("enter");
        while let Some(event) = ring.next_event() {
            match event {
                Event::Woken => return starved,
                Event::Accepted { socket, .. } => {
                    ring.receive(socket.as_fd(), Key::new(next, 7));
                    let peer =
                        Peer { socket, waiting: Vec::new(), sending: false, receiving: true };
                    peers.insert(next, peer);
                    next += 1;
                }
                Event::AcceptFailed { error, .. } => panic!("accept: {error}"),
                Event::Received { key, data, armed } => {
                    let peer = peers.get_mut(&key.index).expect("a live peer");
                    peer.waiting.extend_from_slice(ring.bytes(&data));
                    ring.give_back(data);
                    if !armed {
                        ring.receive(peer.socket.as_fd(), key);
                    }
                }
                Event::ReceiveEnded { key, reason: EndReason::NoBuffers } => {
                    starved += 1;
                    ring.receive(peers[&key.index].socket.as_fd(), key);
                }
                Event::ReceiveEnded { key, .. } => {
                    peers.get_mut(&key.index).expect("a live peer").receiving = false;
                }
                Event::Sent { key, buffer, result } => {
                    let sent = result.expect("send");
                    assert_eq!(sent, buffer.len(), "MSG_WAITALL sends all");
                    peers.get_mut(&key.index).expect("a live peer").sending = false;
                }
            }
        }
        for (&index, peer) in &mut peers {
            if !peer.sending && !peer.waiting.is_empty() {
                let buffer = std::mem::take(&mut peer.waiting);
                let to = buffer.len();
                ring.send(peer.socket.as_fd(), Key::new(index, 7), buffer, 0, to);
                peer.sending = true;
            }
        }
        peers.retain(|_, peer| peer.receiving || peer.sending || !peer.waiting.is_empty());
    }
}

fn echo_through(options: RingOptions, clients: usize, rounds: usize) -> usize {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let (tell, told) = std::sync::mpsc::channel();
    let server =
        thread::spawn(move || serve(&options, listener, |waker| tell.send(waker).expect("tell")));
    let waker = told.recv().expect("the server started");
    let threads: Vec<_> =
        (0..clients).map(|seed| thread::spawn(move || talk(address, seed, rounds))).collect();
    for client in threads {
        client.join().expect("client");
    }
    waker.wake();
    server.join().expect("server")
}

fn talk(address: SocketAddr, seed: usize, rounds: usize) {
    let mut stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
    for round in 0..rounds {
        let bytes: Vec<u8> = (0..(seed * 977 + round * 4_001) % 40_000 + 1)
            .map(|i| (i * 31 + seed * 7 + round) as u8)
            .collect();
        stream.write_all(&bytes).expect("write");
        let mut back = vec![0; bytes.len()];
        stream.read_exact(&mut back).expect("read");
        assert!(back == bytes, "client {seed}, round {round}: other bytes came back");
    }
}

#[test]
fn every_feature_can_be_missing() {
    for hidden in Feature::ALL {
        let mut hide = FeatureSet::NONE;
        hide.insert(hidden);
        echo_through(RingOptions { hide, ..RingOptions::default() }, 3, 8);
    }
}

#[test]
fn all_features_and_none() {
    echo_through(RingOptions::default(), 24, 20);
    let hide = FeatureSet::all();
    echo_through(RingOptions { hide, ..RingOptions::default() }, 24, 20);
}

#[test]
fn a_starved_pool_and_tiny_queues_only_slow_down() {
    let options = RingOptions {
        submission_entries: 2,
        completion_entries: 4,
        receive_buffers: 2,
        receive_buffer_bytes: 64,
        ..RingOptions::default()
    };
    let starved = echo_through(options, 6, 4);
    assert!(starved > 0, "two buffers of 64 bytes cannot serve six writers at once");
}

#[test]
fn an_idle_ring_sleeps_and_wakes_by_a_parked_descriptor() {
    let mut ring = DataRing::new(&RingOptions::default()).expect("a ring");
    ring.enter(Wait::For(Duration::from_millis(1))).expect("enter");
    assert!(ring.next_event().is_none());
    let waker = ring.waker();
    let parked = ring.park_event().expect("dup");
    ring.park().expect("park");
    assert!(!ring.ready());
    waker.wake();
    // The kernel signals from a deferred callback, so it may take a moment.
    let mut parked = std::fs::File::from(parked);
    let readable = (0..2_000).any(|_| {
        thread::sleep(Duration::from_millis(1));
        parked.read(&mut [0; 8]).is_ok()
    });
    assert!(readable, "a wake makes the parked descriptor readable");
    ring.unpark().expect("unpark");
    ring.enter(Wait::No).expect("enter");
    assert!(matches!(ring.next_event(), Some(Event::Woken)));
}

#[test]
fn cancelling_a_receive_ends_it_and_it_can_start_again() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).expect("connect");
    let (server, _) = listener.accept().expect("accept");
    let (mut ring, key) = (DataRing::new(&RingOptions::default()).expect("a ring"), Key::new(3, 1));
    ring.receive(server.as_fd(), key);
    ring.enter(Wait::No).expect("enter");
    ring.cancel_receive(key);
    let wait = Wait::For(Duration::from_secs(5));
    let ended = next(&mut ring, wait);
    assert!(matches!(ended, Event::ReceiveEnded { reason: EndReason::Cancelled, .. }), "{ended:?}");
    client.write_all(b"again").expect("write");
    ring.receive(server.as_fd(), key);
    match next(&mut ring, wait) {
        Event::Received { data, .. } => {
            assert_eq!(ring.bytes(&data), b"again");
            ring.give_back(data);
        }
        other => panic!("{other:?}"),
    }
}

fn next(ring: &mut DataRing, wait: Wait) -> Event {
    for _ in 0..100 {
        ring.enter(wait).expect("enter");
        if let Some(event) = ring.next_event() {
            return event;
        }
    }
    panic!("nothing happened");
}
