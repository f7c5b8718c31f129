//! A replay in process and one over a socket agree.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use pinion_benches::client::Prng;
use pinion_benches::replay::{Policy, Replay};
use pinion_loadgen::trace::{self, Trace};
use pinion_loadgen::{ReplayConfig, ReplayReport, Verdict, replay};
use pinion_net::Server;
use pinion_net::options::Options;

const REQUESTS: usize = 60_000;
const RANKS: usize = 10_000;
/// Hit ratios that agree differ by less than 0.2 points.
const AGREEMENT: f64 = 0.002;

/// A file that is removed when dropped.
struct TraceFile(PathBuf);

impl Drop for TraceFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl TraceFile {
    /// A trace of Zipf's law with exponent 0.9 in the format CTR1; keys are numbered in the order
    /// of their appearance.
    fn zipf(name: &str, seed: u64, sized: bool) -> TraceFile {
        let mut prng = Prng::new(seed);
        let mut sum = 0.0;
        let weights = (1..=RANKS).map(|rank| (rank as f64).powf(-0.9));
        let cumulative: Vec<f64> = weights
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect();
        let (mut numbers, mut sizes) = (vec![None; RANKS], Vec::new());
        let mut records = Vec::new();
        for _ in 0..REQUESTS {
            let drawn = prng.unit() * sum;
            let rank = cumulative.partition_point(|&below| below <= drawn).min(RANKS - 1);
            let number = *numbers[rank].get_or_insert_with(|| {
                // Sizes differ by a factor of thousands, some of them 0.
                sizes.push((1_u32 << prng.below(12)) - 1);
                sizes.len() as u32 - 1
            });
            records.extend_from_slice(&number.to_le_bytes());
            if sized {
                records.extend_from_slice(&sizes[number as usize].to_le_bytes());
            }
        }
        let unique_bytes: u64 = sizes.iter().map(|&size| u64::from(size)).sum();
        let mut bytes = b"CTR1".to_vec();
        bytes.extend_from_slice(if sized { &[1, 8, 0, 0] } else { &[0, 4, 0, 0] });
        let unique_bytes = if sized { unique_bytes } else { 0 };
        for field in [REQUESTS as u64, sizes.len() as u64, unique_bytes] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(&records);
        let name = format!("pinion-{name}-{}.ctr.zst", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, zstd::stream::encode_all(&bytes[..], 3).unwrap()).unwrap();
        TraceFile(path)
    }
}

/// Replays over a socket, with a server of this process.
fn over_a_socket(trace: &Trace, capacity_bytes: u64, pipeline: usize) -> ReplayReport {
    let limit = capacity_bytes.to_string();
    let arguments = "pinion --bind 127.0.0.1 --port 0 --memcached-port 0 --memory 256MiB";
    let flags = arguments.split(' ').chain(["--data-limit", &limit]);
    let server = Server::start(&Options::parse_from(flags)).unwrap();
    let target = server.addresses()[0].address.to_string();
    let config = ReplayConfig { target, pipeline, ..ReplayConfig::default() };
    let report = replay(&config, "zipf", trace).unwrap();
    server.stopper().stop();
    server.wait().unwrap();
    assert_eq!((report.verdict, report.errors), (Verdict::Ok, 0));
    report
}

fn in_process(capacity_bytes: u64, seed: u64) -> Replay {
    Replay { capacity_bytes, policy: Policy::CLOCK, value_bytes: 64, requests: None, seed }
}

fn agree(path: &Path, capacity_bytes: u64) {
    let trace = trace::load(path).unwrap();
    let outcome = in_process(capacity_bytes, 1).run(&trace).unwrap();
    assert_eq!((outcome.requests, outcome.refused), (REQUESTS as u64, 0));
    assert!((0.2..0.9).contains(&outcome.object_hit_ratio()), "{outcome:?}");
    assert!(outcome.shard.counters.evictions > 1_000, "{outcome:?}");
    for pipeline in [1, 16] {
        let report = over_a_socket(&trace, capacity_bytes, pipeline);
        let objects = report.object_hit_ratio().unwrap() - outcome.object_hit_ratio();
        let bytes = report.byte_hit_ratio().unwrap() - outcome.byte_hit_ratio();
        assert!(
            objects.abs() < AGREEMENT && bytes.abs() < AGREEMENT,
            "pipeline {pipeline}: over a socket {objects:+} and {bytes:+} more than {outcome:?}"
        );
        assert_eq!(report.requested_bytes, outcome.requested_bytes);
    }
}

#[test]
fn a_sized_trace_has_the_same_hit_ratios_in_process_and_over_a_socket() {
    agree(&TraceFile::zipf("sized", 11, true).0, 300_000);
}

#[test]
fn an_unsized_trace_has_the_same_hit_ratios_in_process_and_over_a_socket() {
    agree(&TraceFile::zipf("unsized", 12, false).0, 300_000);
}

#[test]
fn the_seed_of_the_hash_hardly_matters_and_repeats_exactly() {
    let file = TraceFile::zipf("seeds", 13, true);
    let trace = trace::load(&file.0).unwrap();
    let first = in_process(300_000, 1).run(&trace).unwrap();
    assert_eq!(in_process(300_000, 1).run(&trace).unwrap(), first);
    for seed in 2..6 {
        let other = in_process(300_000, seed).run(&trace).unwrap();
        let difference = other.object_hit_ratio() - first.object_hit_ratio();
        assert!(difference.abs() < AGREEMENT, "seed {seed}: {difference:+}");
    }
}

#[test]
fn the_program_prints_what_the_library_counts() {
    let file = TraceFile::zipf("program", 14, true);
    let trace = trace::load(&file.0).unwrap();
    let run = |arguments: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hitratio"));
        let output = command.arg("--trace").arg(&file.0).args(arguments.split(' ')).output();
        let output = output.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    let (good, table, remarks) = run("--capacity 1%,500000 --policy clock,none --seed 5");
    assert!(good && remarks.is_empty(), "{remarks}");
    let name = pinion_loadgen::trace_name(&file.0);
    let percent = (trace.unique_bytes as f64 / 100.0).round() as u64;
    let mut expected = vec!["trace\tcapacity\tpolicy\tobject_hit_ratio\tbyte_hit_ratio".to_owned()];
    for capacity_bytes in [percent, 500_000] {
        for (label, policy) in [("clock", Policy::CLOCK), ("none", Policy::NONE)] {
            let replay = Replay { policy, ..in_process(capacity_bytes, 5) };
            let outcome = replay.run(&trace).unwrap();
            let (objects, bytes) = (outcome.object_hit_ratio(), outcome.byte_hit_ratio());
            expected.push(format!("{name}\t{capacity_bytes}\t{label}\t{objects:.6}\t{bytes:.6}"));
        }
    }
    assert_eq!(table.lines().collect::<Vec<_>>(), expected);
    assert_eq!(run("--capacity 500000 --requests 1000").1.lines().count(), 2);
    for (arguments, reason) in [
        ("--capacity 0", "not a number of bytes"),
        ("--capacity 10% --mode objects", "cost"),
        ("--capacity 10% --policy lru", "clock or none"),
        ("--capacity 99999999999999", "shard cannot be set up"),
    ] {
        let (good, _, text) = run(arguments);
        assert!(!good && text.contains(reason), "{arguments}: {text}");
    }
}
