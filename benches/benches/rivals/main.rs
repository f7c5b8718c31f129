//! `rivals`: reads of our shard beside in-process caches and a hash map.
//!
//! `cargo bench -p pinion-benches --bench rivals -- --items 1000000,10000000`. Without `--bench`,
//! as `cargo test` starts it, it runs small.
//!
//! Method: the same keys, values, order and optimisation for all. Items are inserted in random
//! order, so that popular ones do not lie together. Keys are drawn by Zipf's law before the clock
//! starts, and built from their number inside the loop. Every value is read in full. Rounds of all
//! stores and ways are interleaved in random order; figures are medians. Our shard has its policy,
//! versions and a deadline on every item, and asks for huge pages as the server does; the others
//! get them where the kernel gives them to everybody (see the line that is printed).

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use pinion_benches::client::{Prng, Zipf};
use pinion_benches::layers::Spread;
use serde_json::{Value, json};

mod loops;
mod stores;

use loops::{Mode, Single, Timed};
use stores::{HashMap, Moka, Pinion, QuickCache, Segcache, Store, key_of, value_of};

/// Zipf's exponent.
const EXPONENT: f64 = 0.99;
/// A rival may miss this part of its reads, since some lose a few items of a full bucket. A miss
/// costs less than a hit, so this is in their favour. Ours must find all.
const RIVAL_WRONG_MAX: f64 = 0.005;
/// Items of a run that is only to show that the benchmark works.
const SMALL: (usize, usize, usize) = (2_000, 2, 4_000);

/// Reads of our shard beside in-process caches and a hash map.
#[derive(Debug, Parser)]
#[command(name = "rivals", max_term_width = 100)]
struct Arguments {
    /// Counts of items
    #[arg(long, value_delimiter = ',', value_name = "N,...")]
    items: Vec<usize>,
    /// Rounds per store and way of reading
    #[arg(long)]
    rounds: Option<usize>,
    /// Reads of a round
    #[arg(long)]
    reads: Option<usize>,
    /// Seed of keys and order
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Give our shard ordinary pages
    #[arg(long)]
    small_pages: bool,
    /// Write all rounds to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Run in full; given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// A store under its name.
struct Contestant {
    name: &'static str,
    timed: Box<dyn Timed>,
}

/// Rounds of one store and way.
struct Line {
    name: &'static str,
    mode: Mode,
    rounds_ns: Vec<f64>,
    /// The most reads of a round that found nothing.
    wrong_max: u64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rivals: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let full = (0, 9, 2_000_000);
    let (small_items, rounds, reads) = if arguments.bench { full } else { SMALL };
    let mut counts = arguments.items.clone();
    if counts.is_empty() {
        counts = if arguments.bench { vec![1_000_000, 10_000_000] } else { vec![small_items] };
    }
    let rounds = arguments.rounds.unwrap_or(rounds).max(1);
    let reads = arguments.reads.unwrap_or(reads).max(1);
    if counts.iter().any(|&items| items == 0 || items > u32::MAX as usize) {
        return Err("--items must be 1 to 4294967295".into());
    }
    println!("huge pages here: {}", huge_pages());
    let mut results = Vec::new();
    for items in counts {
        let lines = measure(arguments, items, rounds, reads)?;
        report(items, rounds, reads, &lines);
        results.extend(lines.iter().map(|line| {
            json!({"items": items, "store": line.name, "mode": line.mode.name(),
                   "rounds_ns": line.rounds_ns, "misses_max": line.wrong_max})
        }));
    }
    write_json(arguments, results)
}

/// Fills all stores and times them, interleaved.
fn measure(
    arguments: &Arguments,
    items: usize,
    rounds: usize,
    reads: usize,
) -> Result<Vec<Line>, Box<dyn std::error::Error>> {
    let mut prng = Prng::new(arguments.seed);
    let mut order: Vec<u32> = (0..items as u32).collect();
    prng.shuffle(&mut order);
    let zipf = Zipf::new(items as u64, EXPONENT);
    let numbers: Vec<u32> = (0..reads).map(|_| zipf.rank(prng.unit()) as u32).collect();
    let mut contestants = fill(&order, !arguments.small_pages)?;
    let mut lines = Vec::new();
    for contestant in &contestants {
        let name = contestant.name;
        let modes = contestant.timed.modes().iter();
        lines.extend(modes.map(|&mode| Line { name, mode, rounds_ns: Vec::new(), wrong_max: 0 }));
    }
    // The first round warms up.
    for round in 0..=rounds {
        let mut turns: Vec<usize> = (0..lines.len()).collect();
        prng.shuffle(&mut turns);
        for turn in turns {
            let line = &mut lines[turn];
            let contestant = contestants.iter_mut().find(|other| other.name == line.name);
            let contestant = contestant.ok_or("a line without a store")?;
            let stretch = contestant.timed.time(line.mode, &numbers);
            let wrong_max = if line.name == "pinion" { 0.0 } else { RIVAL_WRONG_MAX };
            if stretch.wrong as f64 > reads as f64 * wrong_max {
                let text = format!("{}: {} of {reads} reads were wrong", line.name, stretch.wrong);
                return Err(text.into());
            }
            line.wrong_max = line.wrong_max.max(stretch.wrong);
            if round > 0 {
                line.rounds_ns.push(stretch.read_ns);
            }
        }
    }
    Ok(lines)
}

/// Fills every store in the same order.
fn fill(order: &[u32], huge_pages: bool) -> Result<Vec<Contestant>, Box<dyn std::error::Error>> {
    fn filled<S: Store>(mut store: S, order: &[u32]) -> S {
        for &number in order {
            store.insert(&key_of(u64::from(number)), &value_of(u64::from(number)));
        }
        store
    }
    let items = order.len();
    Ok(vec![
        Contestant {
            name: "pinion",
            timed: Box::new(filled(Pinion::new(items, huge_pages)?, order)),
        },
        Contestant { name: "hashbrown", timed: Box::new(Single(filled(HashMap::new(), order))) },
        Contestant {
            name: "quick_cache",
            timed: Box::new(Single(filled(QuickCache::new(items), order))),
        },
        Contestant { name: "moka", timed: Box::new(Single(filled(Moka::new(items), order))) },
        Contestant {
            name: "segcache",
            timed: Box::new(Single(filled(Segcache::new(items)?, order))),
        },
    ])
}

/// Prints medians, and ours over the fastest rival's: loop to loop, serial to serial, and the batch
/// to the loop, since only the shard has batches.
fn report(items: usize, rounds: usize, reads: usize, lines: &[Line]) {
    println!("{items} items, zipf {EXPONENT}, {rounds} rounds of {reads} reads; ns per read");
    println!(
        "{:<12} {:<9} {:>8} {:>8} {:>8}  ours/best rival",
        "store", "way", "min", "med", "max"
    );
    let median = |line: &Line| Spread::new(line.rounds_ns.iter().copied()).median;
    for line in lines {
        let spread = Spread::new(line.rounds_ns.iter().copied());
        let against = if line.mode == Mode::Batch { Mode::Loop } else { line.mode };
        let rivals = lines.iter().filter(|other| other.name != "pinion" && other.mode == against);
        let best = rivals.min_by(|a, b| median(a).total_cmp(&median(b)));
        let ratio = match best {
            Some(best) if line.name == "pinion" => {
                format!("{:.2} ({})", spread.median / median(best), best.name)
            }
            _ => String::new(),
        };
        let text = format!(
            "{:<12} {:<9} {spread} {:>7}  {ratio}",
            line.name,
            line.mode.name(),
            line.wrong_max
        );
        println!("{}", text.trim_end());
    }
}

/// What the kernel says about transparent huge pages.
fn huge_pages() -> String {
    let path = "/sys/kernel/mm/transparent_hugepage/enabled";
    std::fs::read_to_string(path).map_or("unknown".to_string(), |text| text.trim().to_string())
}

fn write_json(
    arguments: &Arguments,
    results: Vec<Value>,
) -> Result<(), Box<dyn std::error::Error>> {
    let Some(path) = &arguments.json else { return Ok(()) };
    let document = json!({
        "benchmark": "rivals",
        "command": std::env::args().collect::<Vec<_>>(),
        "huge_pages": huge_pages(),
        "results": results,
    });
    std::fs::write(path, format!("{document:#}\n"))?;
    Ok(())
}
