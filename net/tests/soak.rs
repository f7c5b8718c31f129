//! Chaos: hundreds of connections that tear, reset, lie and do not read, for some seconds, while
//! one honest client checks every value that it alone writes. Afterwards nothing may be left of
//! them: no connection, no descriptor, no memory.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use socket2::SockRef;
use support::random::{Random, seed};
use support::seccomp::set_open_files;
use support::{Client, Reply, Server, encode, info_number, ok};

/// How long chaos reigns.
const CHAOS: Duration = Duration::from_secs(8);
const CHAOS_THREADS: u64 = 4;
/// Connections that are there all the time.
const CROWD: usize = 2_000;
/// Connections that a thread leaves in whatever state they are, at most.
const HELD_MAX: usize = 80;
/// What a server may have resident besides its items, whose memory grows by what is written. The
/// chaos leaves up to 320 connections of which some hold half a megabyte of input and output, and
/// the allocator does not give all of it back.
const OVERHEAD_BYTES_MAX: u64 = 224 << 20;

/// One thread of chaos.
struct Chaos {
    random: Random,
    resp: SocketAddr,
    memcached: SocketAddr,
    held: Vec<TcpStream>,
    done: Arc<[AtomicU64; SCENES.len()]>,
}

type Scene = fn(&mut Chaos) -> std::io::Result<()>;

/// What may happen, and how often.
const SCENES: [(&str, u32, Scene); 9] = [
    ("torn frames", 30, Chaos::torn_frames),
    ("resets", 30, Chaos::reset),
    ("half-closes", 20, Chaos::half_close),
    ("garbage", 30, Chaos::garbage),
    ("giants", 20, Chaos::giant),
    ("slow readers", 6, Chaos::slow_reader),
    ("slow writers", 10, Chaos::slow_writer),
    ("long pipelines", 1, Chaos::long_pipeline),
    ("storms", 4, Chaos::storm),
];

impl Chaos {
    fn run(mut self) {
        let start = Instant::now();
        let weights: u32 = SCENES.iter().map(|scene| scene.1).sum();
        while start.elapsed() < CHAOS {
            let mut ticket = self.random.below(weights as usize) as u32;
            for (number, (name, weight, scene)) in SCENES.into_iter().enumerate() {
                if ticket < weight {
                    // A peer that hangs up on nonsense is no failure. Wrong replies panic.
                    match scene(&mut self) {
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                            panic!("{name}: the server does not answer")
                        }
                        _ => self.done[number].fetch_add(1, Ordering::Relaxed),
                    };
                    break;
                }
                ticket -= weight;
            }
            while self.held.len() > HELD_MAX {
                let victim = self.random.below(self.held.len());
                let stream = self.held.swap_remove(victim);
                self.drop_somehow(stream);
            }
        }
    }

    fn connect(&mut self) -> std::io::Result<TcpStream> {
        let address = if self.random.one_in(3) { self.memcached } else { self.resp };
        connect(address)
    }

    /// Closes a connection in order, or resets it.
    fn drop_somehow(&mut self, stream: TcpStream) {
        if self.random.one_in(2) {
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// Some commands of either protocol, and how many lines they are answered with.
    fn commands(&mut self, is_resp: bool, count: usize) -> (Vec<u8>, usize) {
        let (mut bytes, mut lines) = (Vec::new(), 0);
        for _ in 0..count {
            let key = format!("chaos:{}", self.random.below(200));
            let length_max = if self.random.one_in(20) { 50_000 } else { 50 };
            let value = vec![b'c'; self.random.below(length_max)];
            let choice = self.random.below(4);
            match (is_resp, choice) {
                (true, 0) => bytes.extend(encode(&[b"PING"])),
                (true, 1) => bytes.extend(encode(&[b"EXISTS", key.as_bytes(), b"x"])),
                (true, 2) => bytes.extend(encode(&[b"DEL", key.as_bytes()])),
                (true, _) => bytes.extend(encode(&[b"SET", key.as_bytes(), &value])),
                (false, 0) => bytes.extend(b"version\r\n"),
                (false, 1) => bytes.extend(format!("touch {key} 500\r\n").into_bytes()),
                (false, 2) => bytes.extend(format!("delete {key}\r\n").into_bytes()),
                (false, _) => {
                    bytes.extend(format!("set {key} 1 0 {}\r\n", value.len()).into_bytes());
                    bytes.extend([&value[..], b"\r\n"].concat());
                }
            }
            lines += 1;
        }
        (bytes, lines)
    }

    /// Whole commands in pieces; every one is answered.
    fn torn_frames(&mut self) -> std::io::Result<()> {
        let is_resp = self.random.one_in(2);
        let mut stream = connect(if is_resp { self.resp } else { self.memcached })?;
        let count = self.random.below(30) + 1;
        let (bytes, lines) = self.commands(is_resp, count);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let size = if self.random.one_in(3) { 1 } else { self.random.below(4_000) + 1 };
            let (piece, after) = rest.split_at(size.min(rest.len()));
            stream.write_all(piece)?;
            rest = after;
            if self.random.one_in(4) {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        read_lines(&mut stream, lines)?;
        if self.random.one_in(2) {
            // It stays, in the middle of a frame.
            stream.write_all(if is_resp { b"*2\r\n$3\r\nGE" } else { b"set a 0 0 10\r\nabc" })?;
            self.held.push(stream);
        }
        Ok(())
    }

    fn reset(&mut self) -> std::io::Result<()> {
        let mut stream = self.connect()?;
        let count = self.random.below(200);
        let is_resp = stream.peer_addr()? == self.resp;
        let (bytes, _) = self.commands(is_resp, count);
        let cut = self.random.below(bytes.len() + 1);
        stream.write_all(&bytes[..cut])?;
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        Ok(())
    }

    /// All that was sent before the half-close is answered, then comes the end.
    fn half_close(&mut self) -> std::io::Result<()> {
        let mut stream = self.connect()?;
        let is_resp = stream.peer_addr()? == self.resp;
        let count = self.random.below(100);
        let (bytes, lines) = self.commands(is_resp, count);
        stream.write_all(&bytes)?;
        stream.shutdown(Shutdown::Write)?;
        let mut replies = Vec::new();
        stream.read_to_end(&mut replies)?;
        assert_eq!(count_lines(&replies), lines, "half-closed after {count} commands");
        Ok(())
    }

    fn garbage(&mut self) -> std::io::Result<()> {
        let mut stream = self.connect()?;
        let length = self.random.below(2_000);
        let mut bytes = self.random.bytes(length);
        if self.random.one_in(2) {
            let head =
                self.random.pick(&["*", "*3\r\n$3\r\n", "$5\r\n", "get ", "set a 0 0 ", "\x7fELF"]);
            bytes.splice(0..0, head.bytes());
        }
        stream.write_all(&bytes)?;
        if self.random.one_in(2) {
            self.held.push(stream);
        }
        Ok(())
    }

    /// Announces much and sends little.
    fn giant(&mut self) -> std::io::Result<()> {
        let (address, head): (_, &[u8]) = self.random.pick(&[
            (self.resp, b"*3\r\n$3\r\nSET\r\n$5\r\ngiant\r\n$8000000\r\n".as_slice()),
            (self.resp, b"*1048576\r\n$4\r\nMSET\r\n$1\r\na\r\n"),
            (self.resp, b"*3\r\n$3\r\nSET\r\n$60000\r\n"),
            (self.resp, b"\"an inline command without an end "),
            (self.memcached, b"set giant 0 0 8000000\r\n"),
            (self.memcached, b"set giant 0 0 2000000000 noreply\r\n"),
            (self.memcached, b"get a b c d e f g "),
        ]);
        let mut stream = connect(address)?;
        stream.write_all(head)?;
        stream.write_all(&vec![b'g'; self.random.below(40_000)])?;
        self.held.push(stream);
        Ok(())
    }

    /// Asks for megabytes, reads some of them, late.
    fn slow_reader(&mut self) -> std::io::Result<()> {
        let mut stream = connect(self.resp)?;
        stream.write_all(&encode(&[b"SET", b"chaos:large", &[b'l'; 100_000]]))?;
        read_lines(&mut stream, 1)?;
        stream.write_all(&encode(&[b"GET", b"chaos:large"]).repeat(self.random.below(200) + 1))?;
        std::thread::sleep(Duration::from_millis(self.random.below(5) as u64));
        let mut some = vec![0; self.random.below(200_000)];
        let _ = stream.read(&mut some)?;
        self.held.push(stream);
        Ok(())
    }

    /// Goes on, byte by byte, with whatever another connection has begun.
    fn slow_writer(&mut self) -> std::io::Result<()> {
        let mut stream = connect(self.resp)?;
        let frame = encode(&[b"SET", b"chaos:slow", &[b's'; 40]]);
        let sent = self.random.below(frame.len()) + 1;
        for &byte in &frame[..sent] {
            stream.write_all(&[byte])?;
        }
        if sent == frame.len() {
            return read_lines(&mut stream, 1);
        }
        self.held.push(stream);
        Ok(())
    }

    /// A hundred thousand commands at once; each is answered.
    fn long_pipeline(&mut self) -> std::io::Result<()> {
        let mut stream = connect(self.resp)?;
        let mut writer = stream.try_clone()?;
        let piece = [encode(&[b"PING"]), encode(&[b"SET", b"chaos:p", b"1"])].concat();
        let thread = std::thread::spawn(move || writer.write_all(&piece.repeat(50_000)));
        let outcome = read_lines(&mut stream, 100_000);
        thread.join().expect("writer")?;
        outcome
    }

    fn storm(&mut self) -> std::io::Result<()> {
        let mut streams = Vec::new();
        for _ in 0..100 {
            streams.push(connect(self.resp)?);
        }
        for stream in &mut streams {
            stream.write_all(b"PING\r\n")?;
        }
        for stream in &mut streams {
            read_lines(stream, 1)?;
        }
        for stream in streams {
            self.drop_somehow(stream);
        }
        Ok(())
    }
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

fn count_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&byte| byte == b'\n').count()
}

/// Reads a line, byte by byte.
fn read_line(stream: &mut TcpStream) -> String {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while !line.ends_with(b"\r\n") {
        stream.read_exact(&mut byte).expect("read");
        line.push(byte[0]);
    }
    String::from_utf8_lossy(&line[..line.len() - 2]).into_owned()
}

/// Reads so many lines, and not a byte more.
fn read_lines(stream: &mut TcpStream, count: usize) -> std::io::Result<()> {
    let (mut lines, mut buffer, mut last) = (0, vec![0; 64 << 10], 0);
    while lines < count {
        let length = stream.read(&mut buffer)?;
        assert!(length > 0, "the server hung up after {lines} of {count} replies");
        lines += count_lines(&buffer[..length]);
        last = buffer[length - 1];
    }
    assert!(lines == count && (count == 0 || last == b'\n'), "{lines} replies to {count}");
    Ok(())
}

/// A client that knows what it has written.
struct Witness {
    resp: Client,
    memcached: Client,
    random: Random,
    /// The number of the last value of each key; `None` after a delete.
    written: Vec<Option<u64>>,
    steps: u64,
}

impl Witness {
    /// A value that only this key has, at this step.
    fn value(key: usize, step: u64) -> Vec<u8> {
        let mut random = Random::new(step << 16 | key as u64);
        let length = if random.one_in(50) { 300_000 } else { random.below(3_000) };
        let text = format!("{key}/{step}/");
        text.bytes().cycle().take(length).collect()
    }

    fn step(&mut self) {
        let key = self.random.below(self.written.len());
        let name = format!("own:{key}");
        self.steps += 1;
        match self.random.below(5) {
            0 | 1 => {
                let value = Witness::value(key, self.steps);
                if self.random.one_in(2) {
                    let reply = self.resp.call_bytes(&[b"SET", name.as_bytes(), &value]);
                    assert_eq!(reply, ok());
                } else {
                    let line = format!("set {name} 0 0 {}\r\n", value.len());
                    let request = [line.as_bytes(), &value, b"\r\n"].concat();
                    assert_eq!(self.memcached.ask(request), "STORED\r\n");
                }
                self.written[key] = Some(self.steps);
            }
            2 if self.random.one_in(4) => {
                let deleted = i64::from(self.written[key].take().is_some());
                assert_eq!(self.resp.call(&["DEL", &name]), Reply::Integer(deleted));
            }
            3 => {
                let answer = self.memcached.ask(format!("get {name}\r\n"));
                let expected = match self.written[key] {
                    None => "END\r\n".to_owned(),
                    Some(step) => {
                        let value = String::from_utf8(Witness::value(key, step)).expect("text");
                        format!("VALUE {name} 0 {}\r\n{value}\r\nEND\r\n", value.len())
                    }
                };
                assert!(answer == expected, "{name}: step {:?} is lost", self.written[key]);
            }
            _ => {
                let expected = self.written[key].map(|step| Witness::value(key, step));
                let expected = expected.map_or(Reply::Null, Reply::Bulk);
                let reply = self.resp.call(&["GET", &name]);
                assert!(reply == expected, "{name}: step {:?} is lost", self.written[key]);
            }
        }
    }
}

fn descriptors(server: &Server) -> usize {
    let folder = format!("/proc/{}/fd", server.pid());
    std::fs::read_dir(folder).expect("the server lives").count()
}

/// The most that the server has ever had resident.
fn resident_peak_bytes(server: &Server) -> u64 {
    let file = format!("/proc/{}/status", server.pid());
    let status = std::fs::read_to_string(file).expect("the server lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
    kib.and_then(|text| text.parse::<u64>().ok()).expect("Linux tells it in kB") << 10
}

/// Thousands that are there and say nothing, but for a few who have begun to.
struct Crowd(Vec<TcpStream>);

impl Crowd {
    fn gather(address: SocketAddr) -> Crowd {
        let mut streams: Vec<_> = (0..CROWD).map(|_| connect(address).expect("room")).collect();
        for stream in streams.iter_mut().step_by(16) {
            stream.write_all(b"*2\r\n$3\r\nGET\r\n$5\r\nch").expect("write");
        }
        Crowd(streams)
    }

    /// Those who have begun get their answers, and all go.
    fn leave(mut self) {
        for stream in self.0.iter_mut().step_by(16) {
            stream.write_all(b"aos\r\n").expect("write");
            assert_eq!(read_line(stream), "$-1");
        }
    }
}

fn tell_scenes(driver: &str, done: &[AtomicU64; SCENES.len()]) {
    for ((name, ..), count) in SCENES.iter().zip(done) {
        let count = count.load(Ordering::Relaxed);
        println!("{driver}: {count} {name}");
        assert!(count > 0, "there were no {name}");
    }
}

fn percentiles(mut steps_us: Vec<u128>) -> String {
    steps_us.sort_unstable();
    let at = |percent: usize| steps_us[(steps_us.len() - 1) * percent / 100];
    format!("p50 {} us, p99 {} us", at(50), at(99))
}

fn chaos_leaves_no_trace(driver: &str) {
    set_open_files(std::process::id(), 8_192);
    let seed = seed(&format!("chaos_leaves_no_trace with {driver}"));
    let network = if driver == "epoll" { "epoll" } else { "io_uring" };
    let driver_name = if driver == "epoll" { "bare" } else { driver };
    let flags = ["--driver", driver_name, "--network", network, "--memory", "1GiB"];
    let mut server = Server::start(&flags);
    let done = Arc::new([const { AtomicU64::new(0) }; SCENES.len()]);
    let mut witness = Witness {
        resp: server.client(),
        memcached: server.memcached(),
        random: Random::new(seed),
        written: vec![None; 300],
        steps: 0,
    };
    assert_eq!(witness.resp.call(&["PING"]), Reply::Simple("PONG".into()));
    assert_eq!(witness.memcached.ask("get a\r\n"), "END\r\n");
    let descriptors_before = descriptors(&server);
    let mut steps_us = Vec::new();
    let crowd = Crowd::gather(server.resp);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=CHAOS_THREADS)
            .map(|number| {
                let chaos = Chaos {
                    random: Random::new(seed.wrapping_mul(31) ^ number),
                    resp: server.resp,
                    memcached: server.memcached,
                    held: Vec::new(),
                    done: Arc::clone(&done),
                };
                scope.spawn(|| chaos.run())
            })
            .collect();
        while !threads.iter().all(|thread| thread.is_finished()) {
            let begun = Instant::now();
            witness.step();
            steps_us.push(begun.elapsed().as_micros());
        }
    });
    tell_scenes(driver, &done);
    crowd.leave();
    println!("{driver}: {} steps of the witness, {}", witness.steps, percentiles(steps_us));
    assert!(server.is_alive());
    let start = Instant::now();
    let info = loop {
        let info = witness.resp.call(&["INFO"]).text();
        // The witness's own two.
        if info_number(&info, "connected_clients") == 2
            && descriptors(&server).abs_diff(descriptors_before) <= 2
        {
            break info;
        }
        let count = descriptors(&server);
        assert!(start.elapsed() < Duration::from_secs(20), "{count} descriptors are open: {info}");
        std::thread::sleep(Duration::from_millis(5));
    };
    let items = info_number(&info, "used_memory");
    let overhead = info_number(&info, "used_memory_rss").saturating_sub(items);
    let peak = resident_peak_bytes(&server).saturating_sub(items);
    println!("{driver}: resident besides items: {} KiB, at most {}", overhead >> 10, peak >> 10);
    assert!(peak < OVERHEAD_BYTES_MAX, "at most {peak} bytes besides the items' {items}");
    assert_eq!(info_number(&info, "evicted_keys"), 0, "there is room for all");
    for _ in 0..1_000 {
        witness.step();
    }
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn chaos_leaves_no_trace_with_glommio() {
    chaos_leaves_no_trace("glommio");
}

#[test]
fn chaos_leaves_no_trace_with_a_bare_thread() {
    chaos_leaves_no_trace("bare");
}

#[test]
fn chaos_leaves_no_trace_on_epoll() {
    chaos_leaves_no_trace("epoll");
}
