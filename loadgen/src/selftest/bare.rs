//! A bare client: the least that any client must do to move the same bytes, to compare with.
//!
//! It waits with epoll, receives once per ready connection, counts bytes, and sends the same
//! requests again when all replies have come. It knows no schedule, no keys, no values, no clock
//! and no histogram.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::MISS;
use crate::error::Error;
use crate::run::check_pins;
use crate::sys::{Epoll, Event, Wait, pin_current_thread, thread_cpu_ns};

/// Longest silence of the server.
const SILENCE_NS_MAX: u64 = 5_000_000_000;

/// One connection: the bytes that are still to come.
struct Line {
    stream: TcpStream,
    missing_bytes: usize,
}

/// CPU nanoseconds per request of a bare client that sends `request` over `connections`, each
/// with `pipeline` of them at a time, to a server that answers each with a miss.
///
/// # Errors
/// If the server cannot be reached or falls silent.
pub(super) fn cpu_ns_per_request(
    target: &str,
    request: &[u8],
    (connections, pipeline): (usize, usize),
    duration: Duration,
    pin: &[usize],
) -> Result<f64, Error> {
    check_pins(pin)?;
    let batch = request.repeat(pipeline);
    // A thread of its own, so that the caller keeps its affinity.
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            if let Some(&cpu) = pin.first() {
                pin_current_thread(cpu)?;
            }
            work(target, &batch, connections, pipeline, duration)
        });
        match worker.join() {
            Ok(result) => result.map_err(|error| Error::io("the bare client failed", error)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn work(
    target: &str,
    batch: &[u8],
    connections: usize,
    pipeline: usize,
    duration: Duration,
) -> std::io::Result<f64> {
    let mut epoll = Epoll::new()?;
    let mut lines = Vec::with_capacity(connections);
    for token in 0..connections {
        let stream = TcpStream::connect(target)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll.add(stream.as_raw_fd(), token as u32)?;
        lines.push(Line { stream, missing_bytes: 0 });
    }
    let (mut events, mut scratch): (Vec<Event>, _) = (Vec::new(), vec![0; 256 * 1024]);
    let (end, mut requests) = (Instant::now() + duration, 0_u64);
    let cpu_from_ns = thread_cpu_ns();
    for line in &mut lines {
        line.send(batch, pipeline)?;
    }
    // The clock is read once per wait, which a loop that ends by time cannot do without.
    while Instant::now() < end {
        epoll.wait(&mut events, Wait::AtMostNs(SILENCE_NS_MAX))?;
        if events.is_empty() {
            return Err(ErrorKind::TimedOut.into());
        }
        for event in &events {
            let line = &mut lines[event.token as usize];
            let bytes = match line.stream.read(&mut scratch) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            line.missing_bytes = line.missing_bytes.saturating_sub(bytes);
            if line.missing_bytes == 0 {
                requests += pipeline as u64;
                line.send(batch, pipeline)?;
            }
        }
    }
    Ok((thread_cpu_ns() - cpu_from_ns) as f64 / requests.max(1) as f64)
}

impl Line {
    /// Sends the requests of a round; they fit into the buffer of an idle socket.
    fn send(&mut self, batch: &[u8], pipeline: usize) -> std::io::Result<()> {
        self.missing_bytes = pipeline * MISS.len();
        self.stream.write_all(batch)
    }
}
