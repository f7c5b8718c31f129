//! What hostile clients do: tear, reset, lie, flood, and not read.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::HELD_MAX;
use super::support::random::Random;
use super::support::{Client, encode, info_number};

/// One thread of chaos.
pub(super) struct Chaos {
    pub(super) random: Random,
    pub(super) resp: SocketAddr,
    pub(super) memcached: SocketAddr,
    pub(super) held: Vec<TcpStream>,
    pub(super) done: Arc<[AtomicU64; SCENES.len()]>,
    /// How long it goes on.
    pub(super) reign: Duration,
    /// Commands in a long pipeline.
    pub(super) pipeline: usize,
}

pub(super) type Scene = fn(&mut Chaos) -> std::io::Result<()>;

/// What may happen, and how often.
pub(super) const SCENES: [(&str, u32, Scene); 9] = [
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
    pub(super) fn run(mut self) {
        let start = Instant::now();
        let weights: u32 = SCENES.iter().map(|scene| scene.1).sum();
        while start.elapsed() < self.reign {
            let mut ticket = self.random.below(weights as usize) as u32;
            for (number, (name, weight, scene)) in SCENES.into_iter().enumerate() {
                if ticket < weight {
                    // A peer that hangs up on nonsense is no failure. Wrong replies panic.
                    match scene(&mut self) {
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                            panic!("{name}: the server does not answer")
                        }
                        // Who stands still for two seconds while others wait for memory may go,
                        // and on a busy machine that is soon said of a client.
                        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                            let info = Client::connect(self.resp).call(&["INFO"]).text();
                            assert!(info_number(&info, "buffer_evictions") > 0, "{name}: {error}");
                            0
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

    /// Very many commands at once; each is answered.
    fn long_pipeline(&mut self) -> std::io::Result<()> {
        let mut stream = connect(self.resp)?;
        let mut writer = stream.try_clone()?;
        let pairs = self.pipeline / 2;
        let piece = [encode(&[b"PING"]), encode(&[b"SET", b"chaos:p", b"1"])].concat();
        let thread = std::thread::spawn(move || write_often(&mut writer, &piece, pairs));
        let outcome = read_lines(&mut stream, 2 * pairs);
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

pub(super) fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
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
pub(super) fn read_line(stream: &mut TcpStream) -> String {
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
        if length == 0 {
            let text = format!("the server hung up after {lines} of {count} replies");
            return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, text));
        }
        lines += count_lines(&buffer[..length]);
        last = buffer[length - 1];
    }
    assert!(lines == count && (count == 0 || last == b'\n'), "{lines} replies to {count}");
    Ok(())
}

/// Sends a piece over and over, some hundred at a time.
fn write_often(stream: &mut TcpStream, piece: &[u8], times: usize) -> std::io::Result<()> {
    let pieces = piece.repeat(500);
    for number in 0..times.div_ceil(500) {
        let count = (times - number * 500).min(500);
        stream.write_all(&pieces[..count * piece.len()])?;
    }
    Ok(())
}
