//! Groups of real sockets on free ports.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::*;

fn count(cores: usize) -> CoreCount {
    CoreCount::new(cores).expect("a count")
}

/// The loopback addresses that the host has, with port 0.
fn loopbacks() -> Vec<SocketAddr> {
    let all: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let is_there = |ip: &IpAddr| listener::listen(SocketAddr::new(*ip, 0)).is_ok();
    all.into_iter().filter(is_there).map(|ip| SocketAddr::new(ip, 0)).collect()
}

/// Which socket of the group a connection comes out of.
fn reached(group: &ListenGroup, client: &TcpStream) -> usize {
    let from = client.local_addr().expect("an address");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        for (index, socket) in group.sockets.iter().enumerate() {
            SockRef::from(socket).set_nonblocking(true).expect("a socket");
            let accepted = accept_now(socket).expect("accepts");
            if accepted.is_some_and(|(_, peer)| peer == from) {
                return index;
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("the connection from {from} does not come out");
}

#[test]
fn source_ports_decide_for_any_number_of_cores() {
    let addresses = loopbacks();
    assert!(!addresses.is_empty());
    for cores in [1, 2, 3, 8, 64] {
        for &any in &addresses {
            let cores = count(cores);
            let group = listen_group(any, cores).expect("a free port");
            assert_eq!(group.steering, Steering::On, "{cores} cores at {any}");
            assert!(group.complaint().is_none() && group.early.is_empty());
            assert_ne!(group.address.port(), 0);
            assert_eq!(group.sockets.len(), usize::from(cores.count()));
            let mut clients = Vec::new();
            for _ in 0..2 * cores.count() {
                let client = TcpStream::connect(group.address).expect("it listens");
                let port = client.local_addr().expect("an address").port();
                let core = core_of_source_port(port, cores).index();
                assert_eq!(reached(&group, &client), core, "{cores} cores, port {port}");
                clients.push(client);
            }
        }
    }
}

#[test]
fn ports_of_either_parity_reach_the_core_of_their_half() {
    for any in loopbacks() {
        let cores = count(4);
        let group = listen_group(any, cores).expect("a free port");
        let mut next_port = 12_345;
        for core in 0..4 {
            for parity in [0, 1] {
                let client = connect_from(group.address, cores, core, parity, &mut next_port);
                let client = TcpStream::from(client.expect("a free source port"));
                let port = client.local_addr().expect("an address").port();
                assert_eq!(u32::from(port) % 2, parity);
                assert_eq!(reached(&group, &client), core);
            }
        }
    }
}

#[test]
fn unspecified_addresses_are_tested_over_the_loopback() {
    for any in loopbacks() {
        let ip = match any {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let group = listen_group(SocketAddr::new(ip, 0), count(3)).expect("a free port");
        assert_eq!(group.steering, Steering::On, "{ip}");
    }
}

/// An IPv6 group must not take the IPv4 connections of the group beside it.
#[test]
fn both_families_share_a_port() {
    let addresses = loopbacks();
    let [four, six] = addresses[..] else {
        println!("skipped: the host has one family only");
        return;
    };
    let cores = count(2);
    let first = listen_group(four, cores).expect("a free port");
    let beside = SocketAddr::new(six.ip(), first.address.port());
    // Somebody else may have that port there.
    let Ok(second) = listen_group(beside, cores) else { return };
    for group in [&first, &second] {
        assert_eq!(group.steering, Steering::On);
        for _ in 0..8 {
            let client = TcpStream::connect(group.address).expect("it listens");
            let port = client.local_addr().expect("an address").port();
            assert_eq!(reached(group, &client), core_of_source_port(port, cores).index());
        }
    }
}

#[test]
fn a_second_server_is_refused() {
    for any in loopbacks() {
        for cores in [1, 2, 8] {
            let group = listen_group(any, count(cores)).expect("a free port");
            for second in [1, 2, 8] {
                let error = listen_group(group.address, count(second)).expect_err("it is taken");
                assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{cores} and {second}");
            }
            assert!(listener::listen(group.address).is_err());
            // The port is free again as soon as all are closed, also after connections.
            let client = TcpStream::connect(group.address).expect("it listens");
            reached(&group, &client);
            let address = group.address;
            drop(group);
            let again = listen_group(address, count(3)).expect("it is free");
            assert_eq!(again.steering, Steering::On);
            drop(client);
        }
    }
}

#[test]
fn of_servers_that_start_at_once_one_succeeds() {
    for any in loopbacks() {
        for _ in 0..20 {
            let (_, free) = listener::listen(any).expect("a free port");
            let racers: Vec<_> = (0..4)
                .map(|_| thread::spawn(move || open(free, count(4)).map_err(|error| error.kind())))
                .collect();
            let outcomes: Vec<_> =
                racers.into_iter().map(|racer| racer.join().expect("no panic")).collect();
            let is_refused = |outcome: &&Result<(Vec<OwnedFd>, SocketAddr), io::ErrorKind>| {
                matches!(outcome, Err(io::ErrorKind::AddrInUse))
            };
            let refused = outcomes.iter().filter(is_refused).count();
            let winners = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
            assert_eq!((winners, refused), (1, 3), "{outcomes:?}");
        }
    }
}

#[test]
fn the_self_test_notices_a_wrong_order_and_a_missing_program() {
    for any in loopbacks() {
        let cores = count(8);
        let (mut sockets, address) = open(any, cores).expect("a free port");
        let mut early = Vec::new();
        // By the kernel's hash, sixteen connections come out right once in many lives.
        let error = self_test(&sockets, address, cores, &mut early).expect_err("no program");
        assert!(error.contains("reached core"), "{error}");
        steer(&sockets, address, cores).expect("a program");
        self_test(&sockets, address, cores, &mut early).expect("it works");
        sockets.swap(2, 5);
        let error = self_test(&sockets, address, cores, &mut early).expect_err("a wrong order");
        assert!(error.contains("core 2, not 5") || error.contains("core 5, not 2"), "{error}");
        assert!(early.is_empty());
    }
}

#[test]
fn clients_that_come_during_the_self_test_are_kept() {
    let any = loopbacks()[0];
    let cores = count(2);
    let (sockets, address) = open(any, cores).expect("a free port");
    steer(&sockets, address, cores).expect("a program");
    let mut client = TcpStream::connect(address).expect("it listens");
    let port = client.local_addr().expect("an address").port();
    let mut early = Vec::new();
    self_test(&sockets, address, cores, &mut early).expect("it works");
    let [(core, accepted)] = &mut early[..] else { panic!("{early:?}") };
    assert_eq!(*core, core_of_source_port(port, cores).index());
    let mut accepted = TcpStream::from(accepted.try_clone().expect("a descriptor"));
    client.write_all(b"hello").expect("it is open");
    let mut bytes = [0; 5];
    accepted.read_exact(&mut bytes).expect("it came");
    assert_eq!(&bytes, b"hello");
}

#[test]
fn a_group_that_cannot_be_steered_says_so() {
    let address = SocketAddr::from(([127, 0, 0, 1], 7));
    let steering = Steering::Off("for a test".to_owned());
    let group = ListenGroup { sockets: Vec::new(), address, steering, early: Vec::new() };
    let line = format!("{:?}", group.complaint().expect("a line"));
    assert!(line.contains("steering-off") && line.contains("for a test"), "{line}");
}

/// The program that gives way leaves the choice to the hash, which uses all sockets.
#[test]
fn without_steering_all_cores_get_connections() {
    let cores = count(2);
    let (sockets, address) = open(loopbacks()[0], cores).expect("a free port");
    steer(&sockets, address, cores).expect("a program");
    sys::choose_listener(&sockets[0], &[statement(RETURN, NO_LISTENER)]).expect("a program");
    let steering = Steering::Off(String::new());
    let group = ListenGroup { sockets, address, steering, early: Vec::new() };
    let mut counts = [0; 2];
    let mut clients = Vec::new();
    for _ in 0..64 {
        let client = TcpStream::connect(group.address).expect("it listens");
        counts[reached(&group, &client)] += 1;
        clients.push(client);
    }
    assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
}
