//! The longest common subsequence of two strings, 64 cells of the table at a time.
//!
//! The classic table has in cell (i, j) the length for the first i bytes of `a` and j of `b`. Along
//! a row it rises by 0 or 1 a cell, so a bit says it all, and a row follows from the one before by
//! an addition, two ands and an or (Hyyro, "Bit-Parallel LCS-length Computation Revisited", 2004).
//! A bit is 0 where the row rises.
//!
//! Which way the path goes back is decided as Redis decides it: equal bytes match; otherwise up if
//! the length above is greater than that to the left, which is where the row rises; else left.
//!
//! All work is done in steps of a bounded number of units: a word computed, a byte of `a` looked
//! at or of `b` entered into the masks, a step back along the path.

/// A run of equal bytes of a path: from the first to the last index in each string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) a: (usize, usize),
    pub(super) b: (usize, usize),
}

impl Match {
    pub(super) fn len(&self) -> usize {
        self.a.1 - self.a.0 + 1
    }
}

/// Where the work is.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Looking for the distinct bytes in `a[at..]`.
    Letters {
        at: usize,
    },
    /// Entering `b[at..]` into the masks.
    Masks {
        at: usize,
    },
    /// Computing a row from this word on.
    Row {
        row: usize,
        word: usize,
        carry: bool,
    },
    /// Following the path back from a cell.
    Path {
        i: usize,
        j: usize,
    },
    Done,
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Table {
    a: Vec<u8>,
    b: Vec<u8>,
    row_words: usize,
    /// By byte: its place in `masks` plus one, if it is in `a`.
    mask_of: [u16; 256],
    /// Different bytes of `a`.
    letters: u16,
    /// For each byte in `a`, the places in `b` that have it.
    masks: Vec<u64>,
    /// All rows, or the last one only if no path is wanted.
    rows: Vec<u64>,
    keeps_rows: bool,
    stage: Stage,
    /// The common subsequence, the last byte first.
    reversed: Vec<u8>,
    /// The matches, the last one first.
    matches: Vec<Match>,
    length: usize,
}

/// Bytes that the rows of a table take.
pub(super) fn rows_bytes(a_bytes: usize, b_bytes: usize) -> usize {
    a_bytes.saturating_mul(b_bytes.div_ceil(64) * 8)
}

/// Bytes of all that a table takes, at most.
pub(super) fn table_bytes(a_bytes: usize, b_bytes: usize, wants_path: bool) -> usize {
    let row_bytes = b_bytes.div_ceil(64) * 8;
    let rows = if wants_path { rows_bytes(a_bytes, b_bytes) } else { row_bytes };
    let masks = a_bytes.min(256).saturating_mul(row_bytes);
    rows.saturating_add(masks).saturating_add(2 * (a_bytes + b_bytes))
}

impl Table {
    /// A table of which nothing is computed. Allocates the memory of its rows.
    pub(super) fn new(a: Vec<u8>, b: Vec<u8>, wants_path: bool) -> Table {
        let row_words = b.len().div_ceil(64);
        let is_empty = a.is_empty() || b.is_empty();
        let rows = if wants_path { a.len() } else { 1 };
        Table {
            row_words,
            mask_of: [0; 256],
            letters: 0,
            masks: Vec::new(),
            rows: vec![0; if is_empty { 0 } else { rows * row_words }],
            keeps_rows: wants_path,
            stage: if is_empty { Stage::Done } else { Stage::Letters { at: 0 } },
            reversed: Vec::new(),
            matches: Vec::new(),
            length: 0,
            a,
            b,
        }
    }

    /// Works for some `units` at most; whether all is done.
    pub(super) fn advance(&mut self, mut units: usize) -> bool {
        while units > 0 {
            units = match self.stage {
                Stage::Letters { at } => self.find_letters(at, units),
                Stage::Masks { at } => self.enter_masks(at, units),
                Stage::Row { row, word, carry } => self.compute_row(row, word, carry, units),
                Stage::Path { i, j } => self.follow_path(i, j, units),
                Stage::Done => break,
            };
        }
        matches!(self.stage, Stage::Done)
    }

    /// The length, when all is done.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// The common subsequence, the last byte first, when all is done and a path was wanted.
    pub(super) fn reversed(&self) -> &[u8] {
        &self.reversed
    }

    /// The matches, the last one first, when all is done and a path was wanted.
    pub(super) fn matches(&self) -> &[Match] {
        &self.matches
    }

    /// Memory that it holds.
    pub(super) fn memory_bytes(&self) -> usize {
        (self.masks.capacity() + self.rows.capacity()) * 8
            + self.a.capacity()
            + self.b.capacity()
            + self.reversed.capacity()
            + self.matches.capacity() * size_of::<Match>()
    }

    fn find_letters(&mut self, at: usize, units: usize) -> usize {
        let end = self.a.len().min(at + units);
        for &byte in &self.a[at..end] {
            let mask = &mut self.mask_of[usize::from(byte)];
            if *mask == 0 {
                self.letters += 1;
                *mask = self.letters;
            }
        }
        self.stage = if end < self.a.len() {
            Stage::Letters { at: end }
        } else {
            self.masks = vec![0; usize::from(self.letters) * self.row_words];
            Stage::Masks { at: 0 }
        };
        units - (end - at)
    }

    fn enter_masks(&mut self, at: usize, units: usize) -> usize {
        let end = self.b.len().min(at + units);
        for index in at..end {
            if let Some(mask) = self.mask_of[usize::from(self.b[index])].checked_sub(1) {
                self.masks[usize::from(mask) * self.row_words + index / 64] |= 1 << (index % 64);
            }
        }
        self.stage = if end < self.b.len() {
            Stage::Masks { at: end }
        } else {
            Stage::Row { row: 0, word: 0, carry: false }
        };
        units - (end - at)
    }

    fn compute_row(&mut self, row: usize, word: usize, mut carry: bool, units: usize) -> usize {
        let words = self.row_words;
        let end = words.min(word + units);
        let mask = (usize::from(self.mask_of[usize::from(self.a[row])]) - 1) * words;
        let above = if self.keeps_rows { row.saturating_sub(1) * words } else { 0 };
        let here = if self.keeps_rows { row * words } else { 0 };
        for index in word..end {
            // Before the first row nothing has risen.
            let old = if row == 0 { u64::MAX } else { self.rows[above + index] };
            let mask = self.masks[mask + index];
            let (sum, over) = old.overflowing_add(old & mask);
            let (sum, over_carry) = sum.overflowing_add(u64::from(carry));
            carry = over || over_carry;
            self.rows[here + index] = sum | (old & !mask);
        }
        self.stage = if end < words {
            Stage::Row { row, word: end, carry }
        } else if row + 1 < self.a.len() {
            Stage::Row { row: row + 1, word: 0, carry: false }
        } else {
            self.end_rows(here)
        };
        units - (end - word)
    }

    /// Counts the length along the last row, and begins the path if one is wanted.
    fn end_rows(&mut self, last_row: usize) -> Stage {
        let row = &self.rows[last_row..last_row + self.row_words];
        // Bits behind the end of `b` never match, and stay 1.
        self.length = row.iter().map(|word| word.count_zeros() as usize).sum();
        if !self.keeps_rows {
            return Stage::Done;
        }
        self.reversed.reserve_exact(self.length);
        Stage::Path { i: self.a.len(), j: self.b.len() }
    }

    fn follow_path(&mut self, mut i: usize, mut j: usize, mut units: usize) -> usize {
        while units > 0 && i > 0 && j > 0 {
            units -= 1;
            if self.a[i - 1] == self.b[j - 1] {
                (i, j) = (i - 1, j - 1);
                self.reversed.push(self.a[i]);
                match self.matches.last_mut() {
                    Some(last) if last.a.0 == i + 1 && last.b.0 == j + 1 => {
                        (last.a.0, last.b.0) = (i, j);
                    }
                    _ => self.matches.push(Match { a: (i, i), b: (j, j) }),
                }
                continue;
            }
            let word = self.rows[(i - 1) * self.row_words + (j - 1) / 64];
            if word >> ((j - 1) % 64) & 1 == 0 { i -= 1 } else { j -= 1 }
        }
        self.stage = if i > 0 && j > 0 { Stage::Path { i, j } } else { Stage::Done };
        units
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The classic table, as Redis describes it.
    fn reference(a: &[u8], b: &[u8]) -> (usize, Vec<u8>, Vec<Match>) {
        let mut lengths = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
        for i in 1..=a.len() {
            for j in 1..=b.len() {
                lengths[i][j] = if a[i - 1] == b[j - 1] {
                    lengths[i - 1][j - 1] + 1
                } else {
                    lengths[i - 1][j].max(lengths[i][j - 1])
                };
            }
        }
        let (mut i, mut j) = (a.len(), b.len());
        let (mut reversed, mut cells) = (Vec::new(), Vec::new());
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                (i, j) = (i - 1, j - 1);
                reversed.push(a[i]);
                cells.push((i, j));
            } else if lengths[i - 1][j] > lengths[i][j - 1] {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        let mut matches: Vec<Match> = Vec::new();
        for (i, j) in cells {
            match matches.last_mut() {
                Some(last) if last.a.0 == i + 1 && last.b.0 == j + 1 => {
                    (last.a.0, last.b.0) = (i, j)
                }
                _ => matches.push(Match { a: (i, i), b: (j, j) }),
            }
        }
        (lengths[a.len()][b.len()], reversed, matches)
    }

    #[test]
    fn the_table_says_what_the_classic_one_says_in_steps_of_any_size() {
        let mut state = 5_u64;
        let mut below = |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
            (state >> 33) % limit
        };
        for round in 0..400 {
            let letters = 1 + below(6);
            let mut string = |length| -> Vec<u8> {
                (0..below(length)).map(|_| b'a' + below(letters) as u8).collect()
            };
            let (a, b) = (string(150), string(300));
            let (length, reversed, matches) = reference(&a, &b);
            for units in [1, 7, 1 << 20] {
                let mut table = Table::new(a.clone(), b.clone(), true);
                while !table.advance(units) {}
                assert_eq!(table.length(), length, "round {round}");
                assert_eq!(table.reversed(), reversed, "round {round}");
                assert_eq!(table.matches(), matches, "round {round}");
                let mut short = Table::new(a.clone(), b.clone(), false);
                while !short.advance(units) {}
                assert_eq!(short.length(), length, "round {round}");
                assert!(
                    table.memory_bytes()
                        <= table_bytes(a.len(), b.len(), true)
                            + table.matches.capacity() * size_of::<Match>()
                );
            }
        }
    }
}
