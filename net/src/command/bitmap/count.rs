//! BITCOUNT and BITPOS: scans over a range of bits.

use super::super::context::{Arguments, Context, Flow, read_item};
use super::super::slices::{Scan, scan};
use crate::protocol::number;

/// Bits from `first` to `last`, not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BitRange {
    first: u64,
    last: u64,
}

/// Why a range was refused.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    Syntax,
    NotAnInteger,
}

/// A range as it was asked for. Negative indices count from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    first: i64,
    /// `None`: to the end.
    last: Option<i64>,
    in_bits: bool,
}

impl Asked {
    const ALL: Asked = Asked { first: 0, last: None, in_bits: false };

    /// The bits of a value of `value_bytes` that are meant; `None` if there are none.
    fn resolve(&self, value_bytes: usize) -> Option<BitRange> {
        let total = value_bytes as i64 * if self.in_bits { 8 } else { 1 };
        let from_start = |index: i64| {
            if index < 0 { index.saturating_add(total).max(0) } else { index }
        };
        let first = from_start(self.first);
        let last = self.last.map_or(total - 1, |last| from_start(last).min(total - 1));
        if first > last {
            return None;
        }
        let (first, last) = (first as u64, last as u64);
        let whole_bytes = BitRange { first: first * 8, last: last * 8 + 7 };
        Some(if self.in_bits { BitRange { first, last } } else { whole_bytes })
    }
}

impl BitRange {
    fn bytes(self) -> (usize, usize) {
        ((self.first / 8) as usize, (self.last / 8) as usize + 1)
    }
}

/// The unit in an argument: whether it is bits.
fn in_bits(args: &Arguments<'_>, index: usize) -> Result<bool, Refusal> {
    match args.is(index, "BIT") {
        true => Ok(true),
        false if args.is(index, "BYTE") => Ok(false),
        false => Err(Refusal::Syntax),
    }
}

fn integer(args: &Arguments<'_>, index: usize) -> Result<i64, Refusal> {
    number::parse_i64_strict(args.at(index)).ok_or(Refusal::NotAnInteger)
}

fn refuse(context: &mut Context<'_>, refusal: &Refusal) {
    match refusal {
        Refusal::Syntax => context.syntax_error(),
        Refusal::NotAnInteger => context.not_an_integer(),
    }
}

/// The length of a key's value, counted as a read.
fn value_bytes(context: &mut Context<'_>, key: &[u8]) -> Option<usize> {
    let entry = read_item(context.shard, context.session, context.first_hash, key, context.now_ms);
    let length = entry.map(|entry| entry.value.len());
    context.count_read(length.is_some());
    length
}

pub(super) fn bitcount(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let asked = match parse_bitcount(args) {
        Ok(asked) => asked,
        Err(refusal) => {
            refuse(context, &refusal);
            return Flow::Continue;
        }
    };
    let key = args.at(1);
    let is_backwards =
        asked.first < 0 && asked.last.is_some_and(|last| last < 0 && asked.first > last);
    let value_bytes = value_bytes(context, key).unwrap_or(0);
    let Some(range) = asked.resolve(value_bytes).filter(|_| !is_backwards) else {
        context.reply().integer(0);
        return Flow::Continue;
    };
    scan(context, context.first_hash, key, range.bytes(), Count::new(range))
}

fn parse_bitcount(args: &Arguments<'_>) -> Result<Asked, Refusal> {
    if args.len() == 2 {
        return Ok(Asked::ALL);
    }
    if !matches!(args.len(), 4 | 5) {
        return Err(Refusal::Syntax);
    }
    let (first, last) = (integer(args, 2)?, Some(integer(args, 3)?));
    let in_bits = args.len() == 5 && in_bits(args, 4)?;
    Ok(Asked { first, last, in_bits })
}

/// Counts bits that are set.
#[derive(Debug)]
struct Count {
    bytes_left: usize,
    is_first: bool,
    /// The bits of the first and the last byte that count.
    masks: (u8, u8),
    count: u64,
}

impl Count {
    fn new(range: BitRange) -> Count {
        let (start, end) = range.bytes();
        Count { bytes_left: end - start, is_first: true, masks: masks(range), count: 0 }
    }
}

/// The bits of the first and the last byte that belong to a range.
fn masks(range: BitRange) -> (u8, u8) {
    (0xff >> (range.first % 8), 0xff << (7 - range.last % 8))
}

fn ones(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let words: u64 =
        words.iter().map(|word| u64::from(u64::from_ne_bytes(*word).count_ones())).sum();
    words + rest.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>()
}

impl Scan for Count {
    fn read(&mut self, bytes: &[u8]) -> bool {
        self.count += ones(bytes);
        self.bytes_left -= bytes.len();
        // What the edges have too much is taken off again.
        if std::mem::take(&mut self.is_first) {
            self.count -= u64::from((bytes[0] & !self.masks.0).count_ones());
        }
        if self.bytes_left == 0 {
            let last = bytes[bytes.len() - 1];
            self.count -= u64::from((last & !self.masks.1).count_ones());
        }
        false
    }

    fn answer(&self, context: &mut Context<'_>) {
        context.reply().integer(self.count as i64);
    }
}

pub(super) fn bitpos(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let (wanted, asked) = match parse_bitpos(args) {
        Ok(parsed) => parsed,
        Err(refusal) => {
            refuse(context, &refusal);
            return Flow::Continue;
        }
    };
    let Ok(wanted @ (0 | 1)) = u8::try_from(wanted) else {
        context.error("ERR The bit argument must be 1 or 0.");
        return Flow::Continue;
    };
    let asked = match asked {
        Ok(asked) => asked,
        Err(refusal) => {
            refuse(context, &refusal);
            return Flow::Continue;
        }
    };
    let (key, is_set) = (args.at(1), wanted == 1);
    let Some(value_bytes) = value_bytes(context, key) else {
        context.reply().integer(if is_set { -1 } else { 0 });
        return Flow::Continue;
    };
    let Some(range) = asked.resolve(value_bytes) else {
        context.reply().integer(-1);
        return Flow::Continue;
    };
    scan(
        context,
        context.first_hash,
        key,
        range.bytes(),
        Find::new(range, is_set, asked.last.is_none()),
    )
}

/// The bit that is wanted, and the range; an error in the range matters only if the bit is right.
fn parse_bitpos(args: &Arguments<'_>) -> Result<(i64, Result<Asked, Refusal>), Refusal> {
    let wanted = integer(args, 2)?;
    let range = || -> Result<Asked, Refusal> {
        if args.len() == 3 {
            return Ok(Asked::ALL);
        }
        if args.len() > 6 {
            return Err(Refusal::Syntax);
        }
        let first = integer(args, 3)?;
        let in_bits = args.len() == 6 && in_bits(args, 5)?;
        let last = if args.len() > 4 { Some(integer(args, 4)?) } else { None };
        Ok(Asked { first, last, in_bits })
    };
    Ok((wanted, range()))
}

/// Finds the first bit of a kind.
#[derive(Debug)]
struct Find {
    range: BitRange,
    is_set: bool,
    /// Whether bits behind the value count as clear ones.
    goes_on: bool,
    /// The index of the next byte.
    at: usize,
    found: Option<u64>,
}

impl Find {
    fn new(range: BitRange, is_set: bool, goes_on: bool) -> Find {
        Find { range, is_set, goes_on, at: range.bytes().0, found: None }
    }

    /// A byte with ones where it has the wanted bits within the range.
    fn wanted_bits(&self, index: usize, byte: u8) -> u8 {
        let (start, end) = self.range.bytes();
        let (first, last) = masks(self.range);
        let mut bits = if self.is_set { byte } else { !byte };
        if index == start {
            bits &= first;
        }
        if index + 1 == end {
            bits &= last;
        }
        bits
    }
}

impl Scan for Find {
    fn read(&mut self, bytes: &[u8]) -> bool {
        let skipped = if self.is_set { 0 } else { u64::MAX };
        let mut from = 0;
        while from < bytes.len() {
            // Whole words without a wanted bit need no closer look.
            let (words, _) = bytes[from..].as_chunks::<8>();
            let dull = words.iter().take_while(|word| u64::from_ne_bytes(**word) == skipped);
            from += dull.count() * 8;
            let end = bytes.len().min(from + 8);
            for (index, &byte) in bytes[..end].iter().enumerate().skip(from) {
                let bits = self.wanted_bits(self.at + index, byte);
                if bits != 0 {
                    let position = (self.at + index) as u64 * 8 + u64::from(bits.leading_zeros());
                    self.found = Some(position);
                    return true;
                }
            }
            from = end;
        }
        self.at += bytes.len();
        false
    }

    fn answer(&self, context: &mut Context<'_>) {
        let position = match self.found {
            Some(position) => position as i64,
            None if self.goes_on && !self.is_set => self.range.last as i64 + 1,
            None => -1,
        };
        context.reply().integer(position);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bit(bytes: &[u8], index: u64) -> bool {
        bytes[(index / 8) as usize] >> (7 - index % 8) & 1 == 1
    }

    /// Feeds a scan in pieces of this size.
    fn feed(scan: &mut dyn Scan, bytes: &[u8], piece: usize) {
        let _ = bytes.chunks(piece).any(|chunk| scan.read(chunk));
    }

    #[test]
    fn counts_and_positions_are_those_of_single_bits() {
        let mut state = 11_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(12_345);
            state >> 33
        };
        for round in 0..3_000 {
            let length = 1 + next() as usize % 40;
            // Long runs of equal bytes, so that words are skipped.
            let fill = if next() % 2 == 0 { 0 } else { 0xff };
            let mut bytes = vec![fill; length];
            for _ in 0..next() % 3 {
                bytes[next() as usize % length] = next() as u8;
            }
            let total = length as u64 * 8;
            let (one, other) = (next() % total, next() % total);
            let range = BitRange { first: one.min(other), last: one.max(other) };
            let (start, end) = range.bytes();
            let bits = || (range.first..=range.last).map(|index| (index, bit(&bytes, index)));
            for piece in [1, 3, 40] {
                let mut count = Count::new(range);
                feed(&mut count, &bytes[start..end], piece);
                let wanted = bits().filter(|(_, is_set)| *is_set).count();
                assert_eq!(count.count, wanted as u64, "round {round}");
                for is_set in [false, true] {
                    let mut find = Find::new(range, is_set, false);
                    feed(&mut find, &bytes[start..end], piece);
                    let wanted = bits().find(|(_, bit)| *bit == is_set).map(|(index, _)| index);
                    assert_eq!(find.found, wanted, "round {round}");
                }
            }
        }
    }

    #[test]
    fn ranges_are_those_of_redis() {
        let resolve = |first, last, in_bits| Asked { first, last, in_bits }.resolve(4);
        let range = |first, last| Some(BitRange { first, last });
        assert_eq!(resolve(0, None, false), range(0, 31));
        assert_eq!(resolve(1, Some(2), false), range(8, 23));
        assert_eq!(resolve(-1, Some(-1), false), range(24, 31));
        assert_eq!(resolve(-100, Some(-100), false), range(0, 7));
        assert_eq!(resolve(5, Some(-100), true), None);
        assert_eq!(resolve(5, Some(i64::MAX), true), range(5, 31));
        assert_eq!(resolve(i64::MIN, Some(i64::MIN), true), range(0, 0));
        assert_eq!(resolve(4, None, false), None);
        assert_eq!(Asked::ALL.resolve(0), None);
    }
}
