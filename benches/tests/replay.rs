//! A replay in process and one over a socket agree.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use pinion_benches::replay::synthetic::Pattern;
use pinion_benches::replay::{Charge, Outcome, Prepared, Replay};
use pinion_engine::Eviction;
use pinion_loadgen::trace::{self, Trace};
use pinion_loadgen::{ReplayConfig, ReplayReport, Verdict, replay};
use pinion_net::Server;
use pinion_net::options::{EvictionName, Options};

const REQUESTS: u64 = 60_000;
const RANKS: u64 = 10_000;
const CAPACITY_BYTES: u64 = 300_000;
/// Hit ratios are equal, but for rounding, where the policy does not depend on the seed and a fill
/// comes before the next read.
const EQUALITY: f64 = 1e-9;
/// W-TinyLFU's differ by less than a point: a server chooses its seed, and under another seed other
/// keys share counters, which shows in a cache of some two hundred items.
const AGREEMENT: f64 = 0.01;

/// A file that is removed when dropped.
struct TraceFile(PathBuf);

impl Drop for TraceFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl TraceFile {
    /// A trace of Zipf's law with exponent 0.9 in the format CTR1.
    fn zipf(name: &str, seed: u64, is_sized: bool) -> TraceFile {
        let trace = Pattern::zipf(RANKS).trace(REQUESTS, is_sized, seed);
        let path = std::env::temp_dir();
        let path = path.join(format!("pinion-{name}-{}.ctr.zst", std::process::id()));
        TraceFile::pack(&trace, path)
    }

    fn pack(trace: &Trace, path: PathBuf) -> TraceFile {
        let mut bytes = b"CTR1".to_vec();
        let is_sized = trace.key_sizes.is_some();
        bytes.extend_from_slice(if is_sized { &[1, 8, 0, 0] } else { &[0, 4, 0, 0] });
        for field in [trace.keys.len() as u64, trace.unique, trace.unique_bytes] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        for &key in &trace.keys {
            bytes.extend_from_slice(&key.to_le_bytes());
            if let Some(sizes) = &trace.key_sizes {
                bytes.extend_from_slice(&sizes[key as usize].to_le_bytes());
            }
        }
        std::fs::write(&path, zstd::stream::encode_all(&bytes[..], 3).unwrap()).unwrap();
        TraceFile(path)
    }
}

/// Replays over a socket, with a server of this process.
fn over_a_socket(
    trace: &Trace,
    capacity_bytes: u64,
    policy: EvictionName,
    pipeline: usize,
) -> ReplayReport {
    let limit = capacity_bytes.to_string();
    let arguments = "pinion --bind 127.0.0.1 --port 0 --memcached-port 0 --memory 256MiB";
    let flags = arguments.split(' ').chain(["--data-limit", &limit, "--eviction", policy.name()]);
    let server = Server::start(&Options::parse_from(flags)).unwrap();
    let target = server.addresses()[0].tcp().unwrap().to_string();
    let config = ReplayConfig { target, pipeline, ..ReplayConfig::default() };
    let report = replay(&config, "zipf", trace).unwrap();
    server.stopper().stop();
    server.wait().unwrap();
    assert_eq!((report.verdict, report.errors), (Verdict::Ok, 0));
    report
}

/// Replays in process, with the server's limit.
fn in_process(trace: &Trace, capacity: u64, policy: EvictionName, seed: u64) -> Outcome {
    let replay = Replay { capacity, policy, requests: None, seed };
    replay.run(&Prepared::new(trace, Charge::DataLimit, 64)).unwrap()
}

fn agree(path: &Path, capacity_bytes: u64) {
    let trace = trace::load(path).unwrap();
    agree_under(EvictionName(Eviction::Fifo), &trace, capacity_bytes, &[1], EQUALITY);
    agree_under(EvictionName(Eviction::TinyLfu), &trace, capacity_bytes, &[1, 16], AGREEMENT);
}

fn agree_under(
    policy: EvictionName,
    trace: &Trace,
    capacity_bytes: u64,
    pipelines: &[usize],
    agreement: f64,
) {
    let outcome = in_process(trace, capacity_bytes, policy, 1);
    assert_eq!((outcome.requests, outcome.refused), (REQUESTS, 0));
    assert!((0.2..0.9).contains(&outcome.object_hit_ratio()), "{outcome:?}");
    assert!(outcome.shard.counters.evictions > 1_000, "{outcome:?}");
    for &pipeline in pipelines {
        let report = over_a_socket(trace, capacity_bytes, policy, pipeline);
        let objects = report.object_hit_ratio().unwrap() - outcome.object_hit_ratio();
        let bytes = report.byte_hit_ratio().unwrap() - outcome.byte_hit_ratio();
        assert!(
            objects.abs() < agreement && bytes.abs() < agreement,
            "pipeline {pipeline}: over a socket {objects:+} and {bytes:+} more than {outcome:?}"
        );
        assert_eq!(report.requested_bytes, outcome.requested_bytes);
    }
}

#[test]
fn a_sized_trace_has_the_same_hit_ratios_in_process_and_over_a_socket() {
    agree(&TraceFile::zipf("sized", 11, true).0, CAPACITY_BYTES);
}

#[test]
fn an_unsized_trace_has_the_same_hit_ratios_in_process_and_over_a_socket() {
    agree(&TraceFile::zipf("unsized", 12, false).0, CAPACITY_BYTES);
}

#[test]
fn the_seed_of_the_hash_hardly_matters_and_repeats_exactly() {
    let file = TraceFile::zipf("seeds", 13, true);
    let trace = trace::load(&file.0).unwrap();
    let run = |seed| in_process(&trace, CAPACITY_BYTES, EvictionName(Eviction::TinyLfu), seed);
    let first = run(1);
    assert_eq!(run(1), first);
    for seed in 2..6 {
        let difference = run(seed).object_hit_ratio() - first.object_hit_ratio();
        assert!(difference.abs() < AGREEMENT, "seed {seed}: {difference:+}");
    }
}

/// Runs the program: whether it succeeded, what it printed, and its remarks.
fn hitratio(traces: &Path, arguments: &str) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hitratio"));
    let output = command.arg("--trace").arg(traces).args(arguments.split(' ')).output();
    let output = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_program_prints_what_the_library_counts() {
    let file = TraceFile::zipf("program", 14, true);
    let trace = trace::load(&file.0).unwrap();
    let arguments = "--mode data-limit --capacity 1%,500000 --policy tinylfu,none --seed 5";
    let (good, table, remarks) = hitratio(&file.0, arguments);
    assert!(good && remarks.is_empty(), "{remarks}");
    let name = pinion_loadgen::trace_name(&file.0);
    let percent = (trace.unique_bytes as f64 / 100.0).round() as u64;
    let mut expected = vec!["trace\tcapacity\tpolicy\tobject_hit_ratio\tbyte_hit_ratio".to_owned()];
    for capacity in [percent, 500_000] {
        for (label, policy) in
            [("tinylfu", EvictionName(Eviction::TinyLfu)), ("none", EvictionName(Eviction::None))]
        {
            let outcome = in_process(&trace, capacity, policy, 5);
            let (objects, bytes) = (outcome.object_hit_ratio(), outcome.byte_hit_ratio());
            expected.push(format!("{name}\t{capacity}\t{label}\t{objects:.6}\t{bytes:.6}"));
        }
    }
    assert_eq!(table.lines().collect::<Vec<_>>(), expected);
    assert_eq!(hitratio(&file.0, "--capacity 500000 --requests 1000").1.lines().count(), 2);
    // One percent of the keys, and the mean of three seeds.
    let objects = hitratio(&file.0, "--mode objects --capacity 1% --seeds 3 --jobs 2").1;
    let entries = (trace.unique as f64 / 100.0).round();
    assert!(objects.lines().nth(1).unwrap().starts_with(&format!("{name}\t{entries}\ttinylfu\t")));
    for (arguments, reason) in [
        ("--capacity 0", "not a number"),
        ("--policy tinylfu", "--capacity"),
        ("--capacity 10% --mode pages", "data-limit"),
        ("--capacity 10% --policy clairvoyant", "clairvoyant"),
        ("--capacity 10% --json /no/such/file", "/no/such/file"),
        ("--compare /no/such/reference.tsv", "/no/such/reference.tsv"),
        ("--compare /dev/null", "no column"),
        ("--compare /dev/null --capacity 1%", "cannot be used with"),
        ("--compare /dev/null --mode data-limit", "column"),
    ] {
        let (good, _, text) = hitratio(&file.0, arguments);
        assert!(!good && text.contains(reason), "{arguments}: {text}");
    }
}

#[test]
fn every_cell_of_a_reference_is_replayed() {
    let folder = std::env::temp_dir().join(format!("pinion-compare-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    assert!(!hitratio(&folder, "--compare /dev/null").0, "no trace");
    for (name, seed) in [("one", 1), ("two", 2)] {
        let trace = Pattern::zipf(RANKS).trace(REQUESTS, true, seed);
        // The folder is removed as a whole.
        std::mem::forget(TraceFile::pack(&trace, folder.join(format!("{name}.ctr.zst"))));
    }
    let mut table = "trace\tcapacity\tpolicy\tobject_hit_ratio\tbyte_hit_ratio\tcapacity_unit\t\
                     capacity_fraction\tsource\n"
        .to_string();
    for (unit, capacity) in [("objects", 100), ("objects", 5_000), ("bytes", 300_000)] {
        table += &format!("one\t{capacity}\tLRU\t0.5\t0.5\t{unit}\t0.1\tlib\n");
        table += &format!("one\t{capacity}\tFIFO\t0.4\tNA\t{unit}\t0.1\tlib\n");
    }
    let (reference, json) = (folder.join("reference.tsv"), folder.join("result.json"));
    std::fs::write(&reference, table).unwrap();
    let arguments =
        format!("--compare {} --seeds 2 --json {}", reference.display(), json.display());
    let (good, text, remarks) = hitratio(&folder, &arguments);
    assert!(good && remarks.contains("nothing is published about two"), "{remarks}");
    assert!(text.contains("over 2 cells") && text.contains("over 1 cells"), "{text}");
    assert!(text.contains("FIFO 10.00 (2)") && text.contains("byte hit ratio"), "{text}");
    let result: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let cells = result["results"][0]["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 3);
    assert!(cells.iter().all(|cell| cell["ours"].as_array().unwrap().len() == 2));
    std::fs::remove_dir_all(&folder).unwrap();
}
