//! Clients that choose their source port reach the core that they mean, over both address families;
//! behind a proxy they do not, and can tell.

mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use pinion_router::{CoreCount, CoreIndex, core_of_source_port};
use socket2::{Domain, Socket, Type};
use support::cluster::cpus;
use support::{Client, Reply, Server, ok};

const CORES: usize = 4;

/// Connects from a port that belongs to a core.
fn connect_to_core(to: SocketAddr, core: CoreIndex, from: &mut u16) -> Client {
    let cores = CoreCount::new(CORES).expect("a count");
    for _ in 0..10_000 {
        *from = if *from >= 60_000 { 33_000 } else { *from + 1 };
        if core_of_source_port(*from, cores) != core {
            continue;
        }
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("an option");
        let source = SocketAddr::new(to.ip(), *from);
        // One that is in use is passed over.
        if socket.bind(&source.into()).is_ok() && socket.connect(&to.into()).is_ok() {
            return Client::of(TcpStream::from(socket));
        }
    }
    panic!("no port of core {core} is free");
}

/// The core that serves a connection, as the server tells it.
fn core_of(client: &mut Client) -> usize {
    let info = client.call(&["CLIENT", "INFO"]).text();
    let core = info.split(' ').find_map(|field| field.trim_end().strip_prefix("core="));
    core.and_then(|core| core.parse().ok()).unwrap_or_else(|| panic!("no core in {info}"))
}

/// The same over memcached's protocol.
fn memcached_core_of(client: &mut Client) -> usize {
    let lines = client.ask("stats\r\n");
    let core = lines.lines().find_map(|line| line.strip_prefix("STAT connection_core "));
    core.and_then(|core| core.parse().ok()).unwrap_or_else(|| panic!("no core in {lines}"))
}

/// A server that steers. Where the test at its start fails (its connections are lost among those of
/// others, say) a server goes on without, and says so: then another one is started.
fn start(bind: &str) -> Server {
    let mut from = 33_000 + (std::process::id() % 20_000) as u16;
    for _ in 0..5 {
        let server =
            Server::start_on(bind, &["--cores", &cpus(CORES as u16), "--memory", "192MiB"]);
        let steers = |number: u16, from: &mut u16| {
            let core = CoreIndex::new(number % CORES as u16);
            core_of(&mut connect_to_core(server.resp, core, from)) == core.index()
        };
        if (0..16).all(|number| steers(number, &mut from)) {
            return server;
        }
    }
    panic!("no server over {bind} steers");
}

#[test]
fn connections_reach_the_core_of_their_source_port() {
    let mut from = 33_000 + (std::process::id() % 20_000) as u16;
    for bind in ["127.0.0.1", "::1"] {
        let server = start(bind);
        let mut clients = Vec::new();
        for number in 0..400 {
            let core = CoreIndex::new(number % CORES as u16);
            let mut client = connect_to_core(server.resp, core, &mut from);
            assert_eq!(core_of(&mut client), core.index(), "from port {from} over {bind}");
            clients.push(client);
            let mut client = connect_to_core(server.memcached, core, &mut from);
            assert_eq!(memcached_core_of(&mut client), core.index(), "port {from} over {bind}");
            clients.push(client);
        }
    }
}

/// Connects each client to a server by a connection of its own, from whatever port it gets.
fn proxy(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("bound");
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        let mut bytes = [0; 4_096];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            if to.write_all(&bytes[..length]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Write);
    };
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.expect("accepted");
            let server = TcpStream::connect(to).expect("connected");
            let twin = |stream: &TcpStream| stream.try_clone().expect("another handle");
            let (from, back) = (twin(&client), twin(&server));
            thread::spawn(move || copy(from, server));
            thread::spawn(move || copy(back, client));
        }
    });
    address
}

#[test]
fn behind_a_proxy_a_client_finds_out_that_it_misses() {
    let server = start("127.0.0.1");
    let proxy = proxy(server.resp);
    assert_eq!(proxy.ip(), IpAddr::V4(Ipv4Addr::LOCALHOST));
    let mut from = 33_000 + (std::process::id() % 20_000) as u16;
    let mut misses = 0;
    for number in 0..64 {
        let core = CoreIndex::new(number % CORES as u16);
        let mut client = connect_to_core(proxy, core, &mut from);
        misses += usize::from(core_of(&mut client) != core.index());
        // It is served all the same.
        let key = format!("key:{number}");
        assert_eq!(client.call(&["SET", &key, "v"]), ok());
        assert_eq!(client.call(&["GET", &key]), Reply::bulk("v"));
    }
    assert!(misses >= 16, "only {misses} of 64 connections missed: is there a proxy?");
}
