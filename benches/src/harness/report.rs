//! What a benchmark leaves: an aligned table for people, and a JSON file with every round.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::HarnessError;
use super::options::Instances;
use super::rounds::{Bench, Measured};
use super::stats::Summary;
use crate::sys::proc;

/// Columns of text; the first is aligned to the left, the others to the right.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Table {
        Table { rows: vec![header.iter().map(|title| (*title).to_string()).collect()] }
    }

    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// One line per row, without blanks at the end.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                // Writing to a string cannot fail.
                let _ = match column {
                    0 => write!(line, "{cell:<width$}"),
                    _ => write!(line, "  {cell:>width$}"),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A number with so many decimals; a dash if there is none.
pub(crate) fn number(value: f64, decimals: usize) -> String {
    if value.is_finite() { format!("{value:.decimals$}") } else { "-".to_string() }
}

/// Least and greatest value of the rounds.
pub(super) fn range(summary: Summary, decimals: usize) -> String {
    format!("{}..{}", number(summary.min, decimals), number(summary.max, decimals))
}

/// Valid rounds, and how many were dropped, as in `9` or `9-2`. Too few valid ones are marked.
pub(super) fn rounds<T>(measured: &Measured<T>, wanted: usize) -> String {
    let valid = measured.samples.len();
    let mark = if valid < wanted { "!" } else { "" };
    match measured.dropped {
        0 => format!("{valid}{mark}"),
        dropped => format!("{valid}-{dropped}{mark}"),
    }
}

/// How the experiment was run, in the words of the table's head.
pub(super) fn heading(bench: &Bench<'_>, benchmark: &str) -> String {
    let options = bench.options;
    let instances = match options.instances {
        Instances::Fresh => "fresh",
        Instances::Kept => "kept",
    };
    format!(
        "{benchmark}: {} keys {} of {} bytes, values of {} bytes, {} GET : {} SET, {} connections\n\
         {} rounds of {} s, {instances} servers on CPU {}, client on CPU {}, seed {}\n\
         rounds dropped when others used over {} % or the hypervisor {} % of the machine\n\
         {} on {}\n",
        options.keys,
        options.key_dist,
        options.key_size,
        options.value_size,
        options.mix.gets,
        options.mix.sets,
        bench.connections,
        options.rounds,
        options.seconds,
        options.server_cpu,
        bench.client_cpu,
        bench.seed,
        options.foreign_max,
        options.stolen_max,
        proc::kernel_release(),
        proc::cpu_model(),
    )
}

/// A remark where rounds are missing; nothing where none are.
pub(super) fn caveat<T>(results: &[Measured<T>], wanted: usize) -> &'static str {
    if results.iter().all(|measured| measured.samples.len() >= wanted) {
        ""
    } else {
        "! too few valid rounds: others were using this machine\n"
    }
}

/// The JSON file of a benchmark: the circumstances, and `cells` as they are.
///
/// # Errors
///
/// If the file cannot be written.
pub(super) fn write_json(
    bench: &Bench<'_>,
    benchmark: &str,
    cells: Vec<Value>,
) -> Result<(), HarnessError> {
    let Some(path) = &bench.options.json else { return Ok(()) };
    let options = bench.options;
    let servers: Vec<Value> = bench
        .specs
        .iter()
        .enumerate()
        .map(|(index, spec)| {
            let (program, version) = spec.provenance();
            json!({
                "name": spec.name,
                "program": program,
                "version": version,
                "command": bench.command(index),
            })
        })
        .collect();
    let document = json!({
        "benchmark": benchmark,
        "command": std::env::args().collect::<Vec<_>>(),
        "seed": bench.seed,
        "machine": {"kernel": proc::kernel_release(), "cpu": proc::cpu_model()},
        "server_cpu": options.server_cpu,
        "client_cpu": bench.client_cpu,
        "connections": bench.connections,
        "keys": options.keys,
        "key_bytes": options.key_size,
        "value_bytes": options.value_size,
        "key_distribution": options.key_dist.to_string(),
        "mix": {"get": options.mix.gets, "set": options.mix.sets},
        "rounds": options.rounds,
        "round_s": options.seconds,
        "servers": servers,
        "cells": cells,
    });
    write(path, &document)
}

fn write(path: &Path, document: &Value) -> Result<(), HarnessError> {
    let failed = |error| HarnessError::Io("write the JSON file", error);
    let text = serde_json::to_string_pretty(document).map_err(|error| failed(error.into()))?;
    fs::write(path, text + "\n").map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["server", "ns"]);
        table.push(vec!["a".to_string(), "12345".to_string()]);
        table.push(vec!["longer-name".to_string(), "1".to_string()]);
        assert_eq!(table.render(), "server          ns\na            12345\nlonger-name      1\n");
    }

    #[test]
    fn numbers_that_are_none_are_dashes() {
        assert_eq!(number(1.26, 1), "1.3");
        assert_eq!(number(f64::NAN, 1), "-");
        assert_eq!(range(Summary::new([1.0, 3.0, 2.0]), 0), "1..3");
    }

    #[test]
    fn a_path_that_cannot_be_written_is_an_error() {
        let error = write(Path::new("/no/such/place/x.json"), &json!({})).unwrap_err();
        assert!(error.to_string().contains("JSON"), "{error}");
    }
}
