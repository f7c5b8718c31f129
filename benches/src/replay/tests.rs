//! Replays of made-up traces, and comparisons with made-up references.

use pinion_engine::Eviction;
use pinion_loadgen::trace::Trace;
use pinion_net::options::EvictionName;

use super::compare::Plan;
use super::synthetic::Pattern;
use super::*;

/// The server's default policy.
const TINY_LFU: EvictionName = EvictionName(Eviction::TinyLfu);

fn replay(capacity: u64, policy: EvictionName) -> Replay {
    Replay { capacity, policy, requests: None, seed: 1 }
}

fn run(trace: &Trace, charge: Charge, replay: &Replay) -> Outcome {
    replay.run(&Prepared::new(trace, charge, 64)).unwrap()
}

#[test]
fn what_fits_hits_and_what_does_not_fit_follows_the_policy() {
    let trace = Pattern::Loop { keys: 1_000 }.trace(10_000, true, 1);
    let all = run(&trace, Charge::Objects, &replay(1_000, TINY_LFU));
    assert_eq!((all.requests, all.hits, all.refused), (10_000, 9_000, 0));
    assert_eq!(all.hit_bytes * 10, all.requested_bytes * 9);
    let none = run(&trace, Charge::Objects, &replay(500, EvictionName(Eviction::None)));
    assert_eq!((none.hits, none.refused), (4_500, 5_000));
    assert_eq!(none.shard.items, 500);
}

#[test]
fn a_capacity_in_entries_holds_so_many_whatever_their_sizes() {
    let trace = Pattern::zipf(5_000).trace(50_000, true, 2);
    for entries in [16, 20, 500] {
        let outcome = run(&trace, Charge::Objects, &replay(entries, TINY_LFU));
        assert_eq!(outcome.shard.items, entries);
    }
}

#[test]
fn a_capacity_in_bytes_charges_the_values_alone() {
    let trace = Pattern::Loop { keys: 2_000 }.trace(4_000, true, 3);
    let prepared = Prepared::new(&trace, Charge::Bytes, 64);
    let all = replay(trace.unique_bytes, TINY_LFU).run(&prepared).unwrap();
    assert_eq!((all.hits, all.shard.items), (2_000, 2_000));
    // The same limit on whole items does not hold them all.
    let whole = run(&trace, Charge::DataLimit, &replay(trace.unique_bytes, TINY_LFU));
    assert!(whole.shard.items < 2_000, "{whole:?}");
    assert_eq!(whole.requested_bytes, all.requested_bytes);
}

#[test]
fn only_the_first_requests_can_be_replayed() {
    let trace = Pattern::Loop { keys: 100 }.trace(300, false, 1);
    let wanted = Replay { requests: Some(150), ..replay(1 << 20, TINY_LFU) };
    let outcome = run(&trace, Charge::DataLimit, &wanted);
    assert_eq!((outcome.requests, outcome.hits), (150, 50));
    assert!((outcome.object_hit_ratio() - 1.0 / 3.0).abs() < 1e-12);
}

#[test]
fn values_without_a_size_have_one() {
    let trace = Pattern::Loop { keys: 100 }.trace(200, false, 1);
    assert_eq!(unique(&trace, 64), (100, 6_400));
    for charge in [Charge::Bytes, Charge::DataLimit, Charge::Objects] {
        let outcome = run(&trace, charge, &replay(1 << 20, TINY_LFU));
        assert_eq!((outcome.requested_bytes, outcome.hit_bytes), (12_800, 6_400));
    }
    let prepared = Prepared::new(&trace, Charge::Bytes, 64);
    assert_eq!(prepared.share(0.5), 3_200);
    assert_eq!(replay(3_200, TINY_LFU).run(&prepared).unwrap().shard.items, 50);
    let empty = Trace { key_sizes: Some(vec![0; 100]), ..trace };
    assert_eq!(run(&empty, Charge::DataLimit, &replay(1 << 20, TINY_LFU)).requested_bytes, 200);
}

#[test]
fn capacities_are_read() {
    assert_eq!("17500000".parse(), Ok(Capacity::Exact(17_500_000)));
    assert_eq!("0.1%".parse(), Ok(Capacity::Percent(0.1)));
    for text in ["", "0", "-1", "x", "%", "0%", "101%", "NaN%", "1.5", "1e3"] {
        assert!(text.parse::<Capacity>().is_err(), "{text}");
    }
    let trace = Trace { keys: vec![], key_sizes: Some(vec![]), unique: 3, unique_bytes: 1_745 };
    let objects = Prepared::new(&trace, Charge::Objects, 64);
    let bytes = Prepared::new(&trace, Charge::Bytes, 64);
    assert_eq!(Capacity::Percent(10.0).of(&bytes), 175, "rounded");
    assert_eq!(Capacity::Percent(0.001).of(&objects), 1, "never nothing");
    assert_eq!(Capacity::Exact(7).of(&objects), 7);
}

/// A reference about one trace: a row for each of these policies, ratios and sources.
fn reference(rows: &[(&str, u64, &str, f64, &str)]) -> Reference {
    let mut text = "trace\tcapacity\tpolicy\tobject_hit_ratio\tbyte_hit_ratio\tcapacity_unit\t\
                    capacity_fraction\tsource\n"
        .to_string();
    for (unit, capacity, policy, ratio, source) in rows {
        text += &format!("t\t{capacity}\t{policy}\t{ratio}\t{ratio}\t{unit}\t0.1\t{source}\n");
    }
    Reference::parse(&text).unwrap()
}

#[test]
fn gaps_are_signed_and_count_rivals_alone() {
    let trace = Pattern::Loop { keys: 100 }.trace(1_000, true, 1);
    let reference = reference(&[
        ("objects", 100, "LRU", 0.95, "lib"),
        ("objects", 100, "ARC", 0.85, "lib"),
        ("objects", 100, "Belady", 1.0, "lib"),
        ("objects", 100, "model", 0.99, "own-sim"),
        ("objects", 50, "LRU", 0.45, "lib"),
        ("objects", 50, "ARC", 0.51, "lib"),
        ("bytes", 1 << 20, "LRU", 0.5, "lib"),
    ]);
    let plan = Plan {
        reference: &reference,
        name: "t",
        // Of a loop it keeps what came first, so that its ratio is known.
        policy: ("lru", EvictionName(Eviction::None)),
        seeds: &[1, 2],
        jobs: 2,
        requests: None,
    };
    let objects = Prepared::new(&trace, Charge::Objects, 64);
    let bytes = Prepared::new(&trace, Charge::Bytes, 64);
    let mut cells = plan.cells(&objects, Unit::Objects).unwrap();
    cells.extend(plan.cells(&bytes, Unit::Bytes).unwrap());
    let comparison = Comparison { policy: "lru".to_string(), cells };
    let [small, whole, by_bytes] = &comparison.cells[..] else { panic!("{comparison:?}") };
    assert_eq!((small.capacity, small.best.0.as_str()), (50, "ARC"));
    assert_eq!((whole.best.0.as_str(), whole.ours.len()), ("LRU", 2));
    assert!((whole.gap_points() - 5.0).abs() < 1e-9 && (small.gap_points() - 6.0).abs() < 1e-9);
    assert!((by_bytes.gap_points() + 40.0).abs() < 1e-9, "ahead is negative");
    assert!((by_bytes.bytes.unwrap().0 - 0.9).abs() < 1e-9);
    assert_eq!(by_bytes.entries, 100);
    let [(Unit::Objects, summary), (Unit::Bytes, _)] = &comparison.summaries()[..] else {
        panic!("{comparison:?}")
    };
    assert!((summary.gap_mean - 5.5).abs() < 1e-9);
    assert_eq!((summary.cells, summary.above_3, summary.below_lru), (2, 2, 1));
    assert_eq!((summary.gap_mean_large.1, summary.worst.1.as_str()), (0, "t@50"));
    let (points, cell) = summary.own_row_worst.as_ref().unwrap();
    assert!((points - 5.0).abs() < 1e-9 && cell == "t@100");
    assert_eq!(summary.rivals[0].0, "LRU");
    assert!((summary.rivals[0].1 - 3.0).abs() < 1e-9 && (summary.rivals[1].1 - 5.0).abs() < 1e-9);
    let text = comparison.text();
    assert!(text.contains("mean gap +5.500 over 2 cells") && text.contains("t@50"), "{text}");
    assert_eq!(comparison.to_json()["cells"].as_array().unwrap().len(), 3);
}
