//! Our hit ratios beside published ones, cell by cell.
//!
//! A *gap* is the ratio of a cell's best rival less ours, in points (hundredths): positive where we
//! are behind. It is signed, so that a mean counts what was won as well as what was lost. Ours is
//! the mean of several hash seeds, since one seed moves a small cache by up to a point.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pinion_net::options::EvictionName;
use serde_json::{Value, json};

use super::charge::{Charge, Prepared};
use super::parallel;
use super::reference::{Reference, Row, Unit};
use super::{Replay, ReplayError};
use crate::harness::Table;

/// Cells of at least so many entries are summed up apart: smaller caches are noisy.
const LARGE_ENTRIES: u64 = 4096;
/// Cells with a gap above this are counted.
const GAP_BAD_POINTS: f64 = 3.0;
/// Cells that are further below LRU than this are counted.
const BELOW_LRU_POINTS: f64 = 1.0;
/// The published row that each of these policies of ours is to reproduce.
const OWN_ROWS: [(&str, &str); 2] = [("lru", "LRU"), ("fifo", "FIFO")];

/// One cell: what was published, and ours.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The trace.
    pub trace: String,
    /// What its capacity counts.
    pub unit: Unit,
    /// Entries or bytes.
    pub capacity: u64,
    /// Entries that the cache holds at the end, in the mean: the capacity, or what its bytes give.
    pub entries: u64,
    /// The best rival's name and ratio.
    pub best: (String, f64),
    /// Every rival's ratio.
    pub rivals: Vec<(String, f64)>,
    /// The ratio of the row that the policy is to reproduce, if it has one.
    pub own_row: Option<f64>,
    /// The ratio of LRU, if it was published.
    pub lru: Option<f64>,
    /// Our ratio by seed.
    pub ours: Vec<f64>,
    /// Our byte hit ratio, mean of the seeds, and the best rival's.
    pub bytes: Option<(f64, f64)>,
}

impl Cell {
    /// Our ratio: the mean of the seeds.
    pub fn mean(&self) -> f64 {
        self.ours.iter().sum::<f64>() / self.ours.len() as f64
    }

    /// The signed gap to the best rival in points.
    pub fn gap_points(&self) -> f64 {
        (self.best.1 - self.mean()) * 100.0
    }

    /// The signed difference to the row that the policy is to reproduce, in points; positive where
    /// ours is below.
    pub fn own_row_points(&self) -> Option<f64> {
        self.own_row.map(|row| (row - self.mean()) * 100.0)
    }

    /// Largest less smallest ratio of the seeds, in points.
    pub fn spread_points(&self) -> f64 {
        let max = self.ours.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let min = self.ours.iter().copied().fold(f64::INFINITY, f64::min);
        (max - min) * 100.0
    }
}

/// What the cells of one unit come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// How many cells.
    pub cells: usize,
    /// Mean of the signed gaps.
    pub gap_mean: f64,
    /// The same over cells of 4,096 entries and more, and how many these are.
    pub gap_mean_large: (f64, usize),
    /// The largest gap, and where.
    pub worst: (f64, String),
    /// Cells with a gap above 3 points.
    pub above_3: usize,
    /// Cells more than a point below LRU.
    pub below_lru: usize,
    /// Mean gap by byte hit ratio, where it was published; NaN elsewhere.
    pub byte_gap_mean: f64,
    /// Each rival's mean gap to the best one, and the number of cells that it has; best first.
    pub rivals: Vec<(String, f64, usize)>,
    /// The largest difference to the policy's own row, in points without sign, and where.
    pub own_row_worst: Option<(f64, String)>,
}

impl Summary {
    /// Sums cells up; `None` if there are none.
    pub fn new(cells: &[&Cell]) -> Option<Summary> {
        let label = |cell: &Cell| format!("{}@{}", cell.trace, cell.capacity);
        let worst = cells.iter().max_by(|a, b| a.gap_points().total_cmp(&b.gap_points()))?;
        let large: Vec<f64> = cells
            .iter()
            .filter(|cell| cell.entries >= LARGE_ENTRIES)
            .map(|cell| cell.gap_points())
            .collect();
        let is_below_lru = |cell: &&&Cell| {
            cell.lru.is_some_and(|lru| (lru - cell.mean()) * 100.0 > BELOW_LRU_POINTS)
        };
        let byte_gaps: Vec<f64> = cells
            .iter()
            .filter_map(|cell| cell.bytes.map(|(ours, best)| (best - ours) * 100.0))
            .collect();
        let gaps: Vec<f64> = cells.iter().map(|cell| cell.gap_points()).collect();
        Some(Summary {
            cells: cells.len(),
            gap_mean: mean(&gaps),
            gap_mean_large: (mean(&large), large.len()),
            worst: (worst.gap_points(), label(worst)),
            above_3: gaps.iter().filter(|&&gap| gap > GAP_BAD_POINTS).count(),
            below_lru: cells.iter().filter(is_below_lru).count(),
            byte_gap_mean: mean(&byte_gaps),
            rivals: rivals(cells),
            own_row_worst: cells
                .iter()
                .filter_map(|cell| cell.own_row_points().map(|points| (points.abs(), label(cell))))
                .max_by(|a, b| a.0.total_cmp(&b.0)),
        })
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn rivals(cells: &[&Cell]) -> Vec<(String, f64, usize)> {
    let mut gaps: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for cell in cells {
        for (name, ratio) in &cell.rivals {
            gaps.entry(name).or_default().push((cell.best.1 - ratio) * 100.0);
        }
    }
    let mut rivals: Vec<(String, f64, usize)> =
        gaps.into_iter().map(|(name, gaps)| (name.to_string(), mean(&gaps), gaps.len())).collect();
    rivals.sort_by(|a, b| a.1.total_cmp(&b.1));
    rivals
}

/// How one policy does in all cells of a file.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The policy's name.
    pub policy: String,
    /// The cells, by trace and capacity.
    pub cells: Vec<Cell>,
}

/// How to replay the cells of one trace.
pub(super) struct Plan<'a> {
    pub(super) reference: &'a Reference,
    pub(super) name: &'a str,
    pub(super) policy: (&'a str, EvictionName),
    pub(super) seeds: &'a [u64],
    pub(super) jobs: usize,
    pub(super) requests: Option<u64>,
}

impl Plan<'_> {
    /// Replays every cell of a prepared trace in a unit.
    pub(super) fn cells(
        &self,
        prepared: &Prepared<'_>,
        unit: Unit,
    ) -> Result<Vec<Cell>, ReplayError> {
        let capacities = self.reference.capacities(self.name, unit);
        let mut runs = Vec::new();
        // The largest capacities take longest, and go first.
        for &capacity in capacities.iter().rev() {
            runs.extend(self.seeds.iter().map(|&seed| (capacity, seed)));
        }
        let outcomes = parallel::map(&runs, self.jobs, |&(capacity, seed)| {
            let replay = Replay { capacity, policy: self.policy.1, requests: self.requests, seed };
            replay.run(prepared)
        });
        let outcomes = outcomes.map_err(ReplayError::Engine)?;
        let mut cells = Vec::new();
        for (&capacity, outcomes) in capacities.iter().rev().zip(outcomes.chunks(self.seeds.len()))
        {
            let rows = self.reference.cell(self.name, unit, capacity);
            let ratios = outcomes.iter().map(|outcome| outcome.object_hit_ratio()).collect();
            let items = outcomes.iter().map(|outcome| outcome.shard.items).sum::<u64>();
            let bytes: Vec<f64> = outcomes.iter().map(|outcome| outcome.byte_hit_ratio()).collect();
            let mut cell = self.cell(unit, capacity, &rows, ratios, mean(&bytes))?;
            cell.entries = match unit {
                Unit::Objects => capacity,
                Unit::Bytes => items / outcomes.len() as u64,
            };
            cells.push(cell);
        }
        cells.reverse();
        Ok(cells)
    }

    /// A cell from its rows and our ratios.
    fn cell(
        &self,
        unit: Unit,
        capacity: u64,
        rows: &[&Row],
        ours: Vec<f64>,
        our_bytes: f64,
    ) -> Result<Cell, ReplayError> {
        let rivals: Vec<&&Row> = rows.iter().filter(|row| row.is_rival()).collect();
        let best = rivals.iter().max_by(|a, b| a.object_hit_ratio.total_cmp(&b.object_hit_ratio));
        let best = best.ok_or_else(|| {
            ReplayError::Reference(format!("{} at {capacity} has no rival", self.name))
        })?;
        let ratio_of = |policy: &str| {
            rows.iter().find(|row| row.policy == policy).map(|row| row.object_hit_ratio)
        };
        let own_row = OWN_ROWS.iter().find(|(ours, _)| *ours == self.policy.0);
        let best_bytes = rivals
            .iter()
            .filter_map(|row| row.byte_hit_ratio)
            .max_by(f64::total_cmp)
            .filter(|_| unit == Unit::Bytes);
        Ok(Cell {
            trace: self.name.to_string(),
            unit,
            capacity,
            entries: capacity,
            best: (best.policy.clone(), best.object_hit_ratio),
            rivals: rivals.iter().map(|row| (row.policy.clone(), row.object_hit_ratio)).collect(),
            own_row: own_row.and_then(|(_, row)| ratio_of(row)),
            lru: ratio_of("LRU"),
            ours,
            bytes: best_bytes.map(|best| (our_bytes, best)),
        })
    }
}

/// The charge by which a published unit is replayed.
pub(super) fn charge_of(unit: Unit) -> Charge {
    match unit {
        Unit::Objects => Charge::Objects,
        Unit::Bytes => Charge::Bytes,
    }
}

impl Comparison {
    /// Summaries by unit, where there are cells.
    pub fn summaries(&self) -> Vec<(Unit, Summary)> {
        let of_unit = |unit: Unit| -> Vec<&Cell> {
            self.cells.iter().filter(|cell| cell.unit == unit).collect()
        };
        [Unit::Objects, Unit::Bytes]
            .into_iter()
            .filter_map(|unit| Some((unit, Summary::new(&of_unit(unit))?)))
            .collect()
    }

    /// The whole comparison for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (unit, summary) in self.summaries() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}, capacities in {}", self.policy, unit.name());
            text.push_str(&self.table(unit).render());
            text.push_str(&summary_text(&summary));
            text.push('\n');
        }
        text
    }

    fn table(&self, unit: Unit) -> Table {
        let mut table = Table::new(&[
            "trace",
            "capacity",
            "entries",
            "best rival",
            "its %",
            "ours %",
            "gap",
            "seeds",
            "LRU gap",
            "own row",
            "byte gap",
        ]);
        let points =
            |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:+.2}"));
        for cell in self.cells.iter().filter(|cell| cell.unit == unit) {
            let mark = if cell.gap_points() > GAP_BAD_POINTS { "!" } else { "" };
            table.push(vec![
                cell.trace.clone(),
                cell.capacity.to_string(),
                cell.entries.to_string(),
                cell.best.0.clone(),
                format!("{:.2}", cell.best.1 * 100.0),
                format!("{:.2}", cell.mean() * 100.0),
                format!("{:+.2}{mark}", cell.gap_points()),
                format!("{:.2}", cell.spread_points()),
                points(cell.lru.map(|lru| (lru - cell.mean()) * 100.0)),
                points(cell.own_row_points()),
                points(cell.bytes.map(|(ours, best)| (best - ours) * 100.0)),
            ]);
        }
        table
    }

    /// The same for machines.
    pub fn to_json(&self) -> Value {
        let cells: Vec<Value> = self.cells.iter().map(cell_json).collect();
        let summaries: Vec<Value> = self
            .summaries()
            .into_iter()
            .map(|(unit, summary)| {
                json!({
                    "unit": unit.name(),
                    "cells": summary.cells,
                    "gap_mean": summary.gap_mean,
                    "gap_mean_large": summary.gap_mean_large.0,
                    "cells_large": summary.gap_mean_large.1,
                    "worst": summary.worst.0,
                    "worst_cell": summary.worst.1,
                    "cells_above_3": summary.above_3,
                    "cells_below_lru": summary.below_lru,
                    "byte_gap_mean": summary.byte_gap_mean,
                    "rivals": summary.rivals.iter().map(|(name, gap, cells)| {
                        json!({"policy": name, "gap_mean": gap, "cells": cells})
                    }).collect::<Vec<_>>(),
                    "own_row_worst": summary.own_row_worst.as_ref().map(|worst| worst.0),
                })
            })
            .collect();
        json!({"policy": self.policy, "summaries": summaries, "cells": cells})
    }
}

fn cell_json(cell: &Cell) -> Value {
    json!({
        "trace": cell.trace,
        "unit": cell.unit.name(),
        "capacity": cell.capacity,
        "entries": cell.entries,
        "best_policy": cell.best.0,
        "best": cell.best.1,
        "ours": cell.ours,
        "ours_mean": cell.mean(),
        "gap_points": cell.gap_points(),
        "lru": cell.lru,
        "own_row": cell.own_row,
        "byte_hit_ratio": cell.bytes.map(|(ours, _)| ours),
        "byte_hit_ratio_best": cell.bytes.map(|(_, best)| best),
    })
}

fn summary_text(summary: &Summary) -> String {
    let mut text = format!(
        "mean gap {:+.3} over {} cells, {:+.3} over the {} of {LARGE_ENTRIES} entries and more\n\
         worst cell {:+.2} ({}); {} above {GAP_BAD_POINTS} points; {} more than \
         {BELOW_LRU_POINTS} below LRU\n",
        summary.gap_mean,
        summary.cells,
        summary.gap_mean_large.0,
        summary.gap_mean_large.1,
        summary.worst.0,
        summary.worst.1,
        summary.above_3,
        summary.below_lru,
    );
    if summary.byte_gap_mean.is_finite() {
        let _ = writeln!(text, "mean gap by byte hit ratio {:+.3}", summary.byte_gap_mean);
    }
    if let Some((points, cell)) = &summary.own_row_worst {
        let _ = writeln!(text, "furthest from its own published row: {points:.2} points ({cell})");
    }
    text.push_str("mean gaps of the rivals:");
    for (name, gap, cells) in &summary.rivals {
        let _ = write!(text, " {name} {gap:.2} ({cells})");
    }
    text.push('\n');
    text
}
