//! Published hit ratios to compare with: a table of tab-separated columns.
//!
//! `trace, capacity, policy, object_hit_ratio, byte_hit_ratio, capacity_unit, capacity_fraction,
//! source`, named by the first line, in any order. A ratio that was not measured is `NA`.
//!
//! A *cell* is a trace with a capacity in a unit. Its *rivals* are all rows but three kinds: `Belady`
//! knows the future; `W-TinyLFU-libCacheSim` has a window of no entries in small caches and is not
//! that policy; and rows of the source `own-sim` are models without bounds on memory, measured to
//! choose a design by.

use std::path::Path;

use super::ReplayError;

/// Rows that are no rivals, by policy and by source.
const NO_RIVAL_POLICIES: [&str; 2] = ["Belady", "W-TinyLFU-libCacheSim"];
const NO_RIVAL_SOURCES: [&str; 1] = ["own-sim"];

/// What a published capacity counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// Entries.
    Objects,
    /// Bytes of values.
    Bytes,
}

impl Unit {
    /// Its name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Objects => "objects",
            Unit::Bytes => "bytes",
        }
    }
}

/// One published measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The trace, without folder and ending.
    pub trace: String,
    /// Entries or bytes.
    pub capacity: u64,
    /// What the capacity counts.
    pub unit: Unit,
    /// The policy's published name.
    pub policy: String,
    /// Who measured it.
    pub source: String,
    /// Hits per request.
    pub object_hit_ratio: f64,
    /// Bytes of hits per bytes requested.
    pub byte_hit_ratio: Option<f64>,
}

impl Row {
    /// Whether its ratio is one to be reached.
    pub fn is_rival(&self) -> bool {
        !NO_RIVAL_POLICIES.contains(&self.policy.as_str())
            && !NO_RIVAL_SOURCES.contains(&self.source.as_str())
    }
}

/// All rows of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    rows: Vec<Row>,
}

impl Reference {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, a column is missing, or a line is not as its columns say.
    pub fn load(path: &Path) -> Result<Reference, ReplayError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ReplayError::File(format!("read {}", path.display()), error))?;
        Reference::parse(&text)
            .map_err(|why| ReplayError::Reference(format!("{}: {why}", path.display())))
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// As [`Reference::load`], in words.
    pub fn parse(text: &str) -> Result<Reference, String> {
        let mut lines = text.lines();
        let header: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
        let column = |name: &str| {
            let position = header.iter().position(|&title| title == name);
            position.ok_or_else(|| format!("no column '{name}'"))
        };
        let names = ["trace", "capacity", "capacity_unit", "policy", "source", "object_hit_ratio"];
        let mut columns = [0; 6];
        for (place, name) in columns.iter_mut().zip(names) {
            *place = column(name)?;
        }
        let byte_column = column("byte_hit_ratio")?;
        let mut rows = Vec::new();
        for (index, line) in lines.enumerate().filter(|(_, line)| !line.is_empty()) {
            let cells: Vec<&str> = line.split('\t').collect();
            let row = parse_row(&cells, columns, byte_column)
                .ok_or_else(|| format!("line {} is not a measurement: '{line}'", index + 2))?;
            rows.push(row);
        }
        Ok(Reference { rows })
    }

    /// The traces, in the order of their first rows.
    pub fn traces(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !names.contains(&row.trace.as_str()) {
                names.push(&row.trace);
            }
        }
        names
    }

    /// The capacities of a trace in a unit, ascending.
    pub fn capacities(&self, trace: &str, unit: Unit) -> Vec<u64> {
        let rows = self.rows.iter().filter(|row| row.trace == trace && row.unit == unit);
        let mut capacities: Vec<u64> = rows.map(|row| row.capacity).collect();
        capacities.sort_unstable();
        capacities.dedup();
        capacities
    }

    /// The rows of a cell.
    pub fn cell(&self, trace: &str, unit: Unit, capacity: u64) -> Vec<&Row> {
        let is_of_cell =
            |row: &&Row| row.trace == trace && row.unit == unit && row.capacity == capacity;
        self.rows.iter().filter(is_of_cell).collect()
    }
}

/// A row from the cells of its line: trace, capacity, unit, policy, source, ratio by `columns`.
fn parse_row(cells: &[&str], columns: [usize; 6], byte_column: usize) -> Option<Row> {
    let [trace, capacity, unit, policy, source, ratio] =
        columns.map(|column| cells.get(column).copied().unwrap_or_default());
    let unit = [Unit::Objects, Unit::Bytes].into_iter().find(|known| known.name() == unit)?;
    let parse_ratio = |text: &str| match text.parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Some(ratio),
        _ => None,
    };
    let byte_hit_ratio = match *cells.get(byte_column)? {
        "NA" => None,
        text => Some(parse_ratio(text)?),
    };
    Some(Row {
        trace: trace.to_string(),
        capacity: capacity.parse().ok()?,
        unit,
        policy: policy.to_string(),
        source: source.to_string(),
        object_hit_ratio: parse_ratio(ratio)?,
        byte_hit_ratio,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "trace\tcapacity\tpolicy\tobject_hit_ratio\tbyte_hit_ratio\t\
                          capacity_unit\tcapacity_fraction\tsource\n";

    #[test]
    fn rows_are_found_by_cell_and_rivals_are_told_apart() {
        let text = format!(
            "{HEADER}a\t20\tLRU\t0.25\tNA\tobjects\t0.01\tlib\n\
             a\t20\tBelady\t0.5\tNA\tobjects\t0.01\tlib\n\
             a\t20\tW-TinyLFU-window-1pct\t0.5\tNA\tobjects\t0.01\town-sim\n\
             a\t999\tLRU\t0.25\t0.125\tbytes\t0.01\tlib\n\
             b\t7\tLRU\t1\tNA\tobjects\t0.01\tlib\n\
             a\t10\tLRU\t0.1\tNA\tobjects\t0.005\tlib\n"
        );
        let reference = Reference::parse(&text).unwrap();
        assert_eq!(reference.traces(), ["a", "b"]);
        assert_eq!(reference.capacities("a", Unit::Objects), [10, 20]);
        let cell = reference.cell("a", Unit::Objects, 20);
        let rivals: Vec<bool> = cell.iter().map(|row| row.is_rival()).collect();
        assert_eq!(rivals, [true, false, false]);
        assert_eq!(reference.cell("a", Unit::Bytes, 999)[0].byte_hit_ratio, Some(0.125));
        assert!(reference.cell("b", Unit::Bytes, 7).is_empty());
    }

    #[test]
    fn a_line_that_is_no_measurement_is_named() {
        for line in [
            "a\tx\tLRU\t0.25\tNA\tobjects\t0.01\tlib",
            "a\t1\tLRU\t1.25\tNA\tobjects\t0.01\tlib",
            "a\t1\tLRU\tNA\tNA\tobjects\t0.01\tlib",
            "a\t1\tLRU\t0.5\t-\tobjects\t0.01\tlib",
            "a\t1\tLRU\t0.5\tNA\tpages\t0.01\tlib",
            "a\t1",
        ] {
            let error = Reference::parse(&format!("{HEADER}{line}\n")).unwrap_err();
            assert!(error.contains("line 2"), "{line}: {error}");
        }
        let error = Reference::parse("trace\tcapacity\n").unwrap_err();
        assert!(error.contains("capacity_unit"), "{error}");
        let missing = Reference::load(Path::new("/no/such/reference.tsv")).unwrap_err();
        assert!(missing.to_string().contains("/no/such/reference.tsv"));
    }
}
