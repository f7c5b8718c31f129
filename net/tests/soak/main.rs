//! Chaos: hundreds of connections that tear, reset, lie and do not read, for some seconds, while
//! one honest client checks every value that it alone writes. Afterwards nothing may be left of
//! them: no connection, no descriptor, no memory.

mod scenes;
#[path = "../support/mod.rs"]
mod support;
mod witness;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use scenes::{Chaos, SCENES, connect, read_line};
use support::random::{Random, seed};
use support::seccomp::set_open_files;
use support::{Reply, Server, info_number};
use witness::{Witness, percentiles};

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
    fn gather(address: SocketAddr, count: usize) -> Crowd {
        let mut streams: Vec<_> = (0..count).map(|_| connect(address).expect("room")).collect();
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

/// A server that chaos comes over.
struct Stage {
    name: &'static str,
    server: Server,
    witness: Witness,
    descriptors_before: usize,
    seed: u64,
}

impl Stage {
    fn set(test: &str, name: &'static str) -> Stage {
        set_open_files(std::process::id(), 8_192);
        let seed = seed(&format!("{test} with {name}"));
        let network = if name == "epoll" { "epoll" } else { "io_uring" };
        let driver = if name == "epoll" { "bare" } else { name };
        let flags = ["--driver", driver, "--network", network, "--memory", "1GiB"];
        let server = Server::start(&flags);
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
        Stage { name, server, witness, descriptors_before, seed }
    }

    /// Lets chaos reign while the witness does what `watch` says, until it is told that it is over.
    fn chaos<R>(
        &mut self,
        reign: Duration,
        pipeline: usize,
        watch: impl FnOnce(&mut Witness, &dyn Fn() -> bool) -> R,
    ) -> R {
        let done = Arc::new([const { AtomicU64::new(0) }; SCENES.len()]);
        let outcome = std::thread::scope(|scope| {
            let threads: Vec<_> = (1..=CHAOS_THREADS)
                .map(|number| {
                    let chaos = Chaos {
                        random: Random::new(self.seed.wrapping_mul(31) ^ number),
                        resp: self.server.resp,
                        memcached: self.server.memcached,
                        held: Vec::new(),
                        done: Arc::clone(&done),
                        reign,
                        pipeline,
                    };
                    scope.spawn(|| chaos.run())
                })
                .collect();
            watch(&mut self.witness, &|| threads.iter().all(|thread| thread.is_finished()))
        });
        tell_scenes(self.name, &done);
        outcome
    }

    /// Waits until nothing is left of those who were there: no connection, no descriptor, no bytes
    /// in buffers; INFO then.
    fn aftermath(&mut self) -> String {
        assert!(self.server.is_alive());
        let start = Instant::now();
        loop {
            let info = self.witness.resp.call(&["INFO"]).text();
            let count = descriptors(&self.server);
            // The witness's own two.
            if info_number(&info, "connected_clients") == 2
                && count.abs_diff(self.descriptors_before) <= 2
                && info_number(&info, "memory_buffers") < 1 << 20
                && info_number(&info, "pinned_bytes") == 0
                && info_number(&info, "arriving_bytes") == 0
            {
                return info;
            }
            let is_late = start.elapsed() > Duration::from_secs(20);
            assert!(!is_late, "{count} descriptors are open: {info}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The most that the server had resident besides what its items take now.
    fn check_memory(&self, info: &str) {
        let (name, items) = (self.name, info_number(info, "used_memory"));
        let overhead = info_number(info, "used_memory_rss").saturating_sub(items);
        let peak = resident_peak_bytes(&self.server).saturating_sub(items);
        println!("{name}: resident besides items: {} KiB, at most {}", overhead >> 10, peak >> 10);
        assert!(peak < OVERHEAD_BYTES_MAX, "at most {peak} bytes besides the items' {items}");
        assert_eq!(info_number(info, "evicted_keys"), 0, "there is room for all");
        let (most, share) = ("memory_buffers_peak", "memory_buffers_share");
        let (most, share) = (info_number(info, most), info_number(info, share));
        assert!(most <= share + (1 << 20), "buffers took {most} of {share} bytes");
    }

    fn end(mut self) {
        for _ in 0..1_000 {
            self.witness.step();
        }
        self.server.signal("TERM");
        assert_eq!(self.server.wait(), Some(0));
    }
}

fn chaos_leaves_no_trace(name: &'static str) {
    let mut stage = Stage::set("chaos_leaves_no_trace", name);
    let crowd = Crowd::gather(stage.server.resp, CROWD);
    let steps_us = stage.chaos(CHAOS, 100_000, |witness, is_over| {
        let mut steps_us = Vec::new();
        while !is_over() {
            let begun = Instant::now();
            witness.step();
            steps_us.push(begun.elapsed().as_micros());
        }
        steps_us
    });
    crowd.leave();
    println!("{name}: {} steps of the witness, {}", stage.witness.steps, percentiles(steps_us));
    let info = stage.aftermath();
    stage.check_memory(&info);
    stage.end();
}

/// Steps of the witness a second, in the long soak.
const STEPS_PER_SECOND: u32 = 200;

fn tell_steps(name: &str, phase: &str, (meant_us, begun_us): (Vec<u128>, Vec<u128>)) {
    println!("{name}: {phase}: {} steps, {}", meant_us.len(), percentiles(meant_us));
    println!("{name}: {phase}: the same from when they began, {}", percentiles(begun_us));
}

/// Chaos for longer (`PINION_SOAK_SECONDS`, half a minute if it is not set), with pipelines of a
/// million commands and more who are there; the witness goes at a fixed rate before, during and
/// after, and what it feels is told.
fn long_soak(name: &'static str) {
    let seconds = std::env::var("PINION_SOAK_SECONDS")
        .map_or(30, |text| text.parse().expect("PINION_SOAK_SECONDS is a number of seconds"));
    let mut stage = Stage::set("long_soak", name);
    let calm = Duration::from_secs(seconds / 3 + 1);
    let before = stage.witness.steps_at_rate(STEPS_PER_SECOND, |elapsed| elapsed < calm);
    tell_steps(name, "before", before);
    let crowd = Crowd::gather(stage.server.resp, 2 * CROWD);
    let during = stage.chaos(Duration::from_secs(seconds), 1_000_000, |witness, is_over| {
        witness.steps_at_rate(STEPS_PER_SECOND, |_| !is_over())
    });
    tell_steps(name, "during", during);
    crowd.leave();
    let info = stage.aftermath();
    let after = stage.witness.steps_at_rate(STEPS_PER_SECOND, |elapsed| elapsed < calm);
    tell_steps(name, "after", after);
    stage.check_memory(&info);
    let places = |stage: &Stage| {
        let lines = stage.server.memcached().ask("stats\r\n");
        let line = lines.lines().find_map(|line| line.strip_prefix("STAT connection_structures "));
        line.and_then(|text| text.trim().parse::<usize>().ok()).expect("stats tells it")
    };
    // A second crowd takes the places of the first.
    let before = places(&stage);
    let crowd = Crowd::gather(stage.server.resp, 2 * CROWD);
    assert_eq!(stage.witness.resp.call(&["PING"]), Reply::Simple("PONG".into()));
    assert_eq!(places(&stage), before, "places of connections have leaked");
    crowd.leave();
    stage.aftermath();
    // Nothing but items held memory of the shard.
    assert_eq!(stage.witness.resp.call(&["FLUSHALL"]), support::ok());
    stage.witness.written.fill(None);
    let start = Instant::now();
    while info_number(&stage.witness.resp.call(&["INFO"]).text(), "page_bytes") > 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "pages have leaked");
        std::thread::sleep(Duration::from_millis(5));
    }
    stage.end();
}

#[test]
#[ignore = "takes a minute; for figures, with --release"]
fn long_soak_with_glommio() {
    long_soak("glommio");
}

#[test]
#[ignore = "takes a minute; for figures, with --release"]
fn long_soak_on_epoll() {
    long_soak("epoll");
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
