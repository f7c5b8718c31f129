//! SCAN and KEYS: walks over the keys of a database, bucket by bucket.
//!
//! A cursor is the place in the shard's walk (`Shard::scan`) that the next call goes on from, so
//! nothing is kept for a client between its calls, and SCAN's promise is the shard's: a key that is
//! there all the time is met, however many others come and go. It may be met twice where the table
//! shrinks in between. As nothing is kept, a cursor that never was one only begins somewhere else;
//! one beyond the last place ends the iteration.
//!
//! COUNT is the number of keys to look at, as in Redis. Both commands work in slices of
//! [`WALK_UNITS_PER_SLICE`]; what does not fit the first becomes a task. FLUSHDB and SWAPDB between
//! two slices are seen as between two calls of SCAN: what was passed counts, what comes is the new.
//!
//! Memory: the reply, which is refused beyond what the replies' memory allows.

use std::ops::ControlFlow;

use super::super::context::{Arguments, Context, Flow};
use super::super::glob::{self, Undecided};
use super::super::task::{Step, Task};
use super::{refuse_reply, selected};
use crate::core::limits::{
    MATCH_STEPS_MAX, OWN_REPLY_BYTES_MIN, SCAN_BUCKETS_PER_KEY, WALK_BYTES_PER_UNIT,
    WALK_UNITS_PER_BUCKET, WALK_UNITS_PER_SLICE,
};
use crate::protocol::number;
use crate::protocol::resp::{Version, Writer};

/// The header of an array: `*`, digits, line end.
const HEADER_BYTES_MAX: usize = 24;

/// Which keys are wanted.
#[derive(Debug, Default)]
struct Filter {
    /// `None` for all.
    pattern: Option<Box<[u8]>>,
    /// Nothing is: a type that no value has.
    is_empty: bool,
}

/// What a walk looks for, and what it has found.
#[derive(Debug)]
struct Walk {
    database: u8,
    /// Where it goes on; `None` behind the last bucket.
    position: Option<u32>,
    /// Keys still to be looked at, and buckets still to be passed, before the walk pauses.
    keys_left: u64,
    buckets_left: u64,
    filter: Filter,
    /// The keys found, as bulk strings, behind `header_bytes` of room.
    found: Vec<u8>,
    found_count: usize,
    header_bytes: usize,
    /// A key was too long for the pattern.
    is_undecided: bool,
}

/// How a slice ended.
#[derive(Debug, PartialEq, Eq)]
enum Slice {
    More,
    Paused,
    TooLarge,
    Undecided,
}

impl Walk {
    /// Goes on for a slice.
    fn go_on(&mut self, context: &Context<'_>) -> Slice {
        let (mut units, begin_bytes) = (0, self.found.len());
        while let Some(position) = self.position
            && self.keys_left > 0
            && self.buckets_left > 0
        {
            if units >= WALK_UNITS_PER_SLICE {
                return Slice::More;
            }
            units += WALK_UNITS_PER_BUCKET;
            let (database, now_ms) = (self.database, context.now_ms);
            let next = context.shard.scan(database, position, now_ms, |key, _| {
                units += self.meet(key);
            });
            self.position = next;
            self.buckets_left -= 1;
            if self.is_undecided {
                return Slice::Undecided;
            }
            if self.found.len() - begin_bytes > context.room_bytes {
                return Slice::TooLarge;
            }
        }
        Slice::Paused
    }

    /// Looks at a key. Returns the units of work.
    fn meet(&mut self, key: &[u8]) -> usize {
        self.keys_left = self.keys_left.saturating_sub(1);
        let mut steps = MATCH_STEPS_MAX;
        let is_match = match &self.filter.pattern {
            _ if self.filter.is_empty => Ok(false),
            None => Ok(true),
            Some(pattern) => glob::matches_within(pattern, key, &mut steps),
        };
        match is_match {
            Ok(true) => {
                Writer::new(&mut self.found, Version::Resp2).bulk(key);
                self.found_count += 1;
            }
            Ok(false) => {}
            Err(Undecided) => self.is_undecided = true,
        }
        1 + (MATCH_STEPS_MAX - steps + key.len()) / WALK_BYTES_PER_UNIT
    }

    /// Executes the first slice at once, and leaves the rest to a task.
    fn run(mut self, context: &mut Context<'_>, answer: Answer) -> Flow {
        match self.go_on(context) {
            Slice::More => Flow::Later(Box::new(Walking { walk: self, answer })),
            end => {
                self.finish(context, &end, answer);
                Flow::Continue
            }
        }
    }

    fn finish(&mut self, context: &mut Context<'_>, end: &Slice, answer: Answer) {
        match end {
            Slice::TooLarge => refuse_reply(context),
            Slice::Undecided => {
                context.error("ERR the pattern takes too long to match against a long key");
            }
            Slice::More | Slice::Paused => answer(self, context),
        }
    }
}

/// Writes the reply of a walk that has come to its end.
type Answer = fn(&mut Walk, &mut Context<'_>);

/// A walk of many slices.
#[derive(Debug)]
struct Walking {
    walk: Walk,
    answer: Answer,
}

impl Task for Walking {
    fn step(&mut self, context: &mut Context<'_>) -> Step {
        match self.walk.go_on(context) {
            Slice::More => Step::More,
            end => {
                self.walk.finish(context, &end, self.answer);
                Step::Done(Flow::Continue)
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        let pattern_bytes = self.walk.filter.pattern.as_ref().map_or(0, |pattern| pattern.len());
        size_of::<Walking>() + pattern_bytes + self.walk.found.capacity()
    }
}

pub(super) fn keys(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let database = selected(context);
    // The header comes first, and its length is known at the end. So that the keys need not be
    // moved, it is guessed: most who ask for many keys ask for all.
    let items = context.shard.database_stats(database).items as usize;
    let mut header = Vec::with_capacity(HEADER_BYTES_MAX);
    Writer::new(&mut header, Version::Resp2).array(items);
    let walk = Walk {
        database,
        position: Some(0),
        keys_left: u64::MAX,
        buckets_left: u64::MAX,
        filter: Filter { pattern: pattern(args.at(1)), is_empty: false },
        header_bytes: header.len(),
        found: header,
        found_count: 0,
        is_undecided: false,
    };
    walk.run(context, answer_keys)
}

fn answer_keys(walk: &mut Walk, context: &mut Context<'_>) {
    let mut header = Vec::with_capacity(HEADER_BYTES_MAX);
    Writer::new(&mut header, Version::Resp2).array(walk.found_count);
    put_reply(walk, context, &header);
}

/// Writes the header of a reply and the keys found.
fn put_reply(walk: &mut Walk, context: &mut Context<'_>, header: &[u8]) {
    let (found, room) = (&mut walk.found, ..walk.header_bytes);
    if found.len() > OWN_REPLY_BYTES_MIN && context.out.is_empty() {
        if header.len() == room.end {
            found[room].copy_from_slice(header);
        } else {
            drop(found.splice(room, header.iter().copied()));
        }
        *context.out = std::mem::take(found);
    } else if found.len() <= context.room_bytes {
        context.out.extend_from_slice(header);
        context.out.extend_from_slice(&found[room.end..]);
    } else {
        refuse_reply(context);
    }
}

/// The pattern, unless every key matches it.
fn pattern(text: &[u8]) -> Option<Box<[u8]>> {
    (text != b"*").then(|| text.into())
}

pub(super) fn scan(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let Some(cursor) = parse_cursor(args.at(1)) else {
        context.error("ERR invalid cursor");
        return Flow::Continue;
    };
    let ControlFlow::Continue((count, filter)) = parse_options(context, args) else {
        return Flow::Continue;
    };
    // A cursor is a position on one core: on that one, since it has come here.
    let (_, cores) = core_of_cursor(context);
    let position = cursor / cores as u64;
    let walk = Walk {
        database: selected(context),
        position: u32::try_from(position).ok(),
        keys_left: count,
        buckets_left: count.saturating_mul(SCAN_BUCKETS_PER_KEY),
        filter,
        found: Vec::new(),
        found_count: 0,
        header_bytes: 0,
        is_undecided: false,
    };
    walk.run(context, answer_scan)
}

/// Which core this is, and among how many cursors go round: on a core port it is by itself.
fn core_of_cursor(context: &Context<'_>) -> (i64, i64) {
    match context.session.core_port {
        true => (0, 1),
        false => (i64::from(context.settings.core), i64::from(context.settings.cores)),
    }
}

fn answer_scan(walk: &mut Walk, context: &mut Context<'_>) {
    let mut header = Vec::with_capacity(2 * HEADER_BYTES_MAX);
    let mut writer = Writer::new(&mut header, Version::Resp2);
    writer.array(2);
    // Behind the end of a core's keys, those of the next one begin.
    let (core, cores) = core_of_cursor(context);
    let next = match walk.position {
        Some(position) => i64::from(position) * cores + core,
        None => (core + 1) % cores,
    };
    writer.bulk_integer(next);
    writer.array(walk.found_count);
    put_reply(walk, context, &header);
}

/// Reads a cursor as Redis does, by `strtoul`: digits after an optional sign, nothing at all for 0;
/// a negative number wraps around.
fn parse_cursor(text: &[u8]) -> Option<u64> {
    // Redis reads a text that ends at a NUL.
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    let (is_negative, digits) = match &text[..end] {
        [] => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    if !digits.first().is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let cursor = number::parse_u64_lenient(digits)?;
    Some(if is_negative { cursor.wrapping_neg() } else { cursor })
}

/// Reads SCAN's options, or answers why they are refused.
fn parse_options(
    context: &mut Context<'_>,
    args: &Arguments<'_>,
) -> ControlFlow<(), (u64, Filter)> {
    let (mut count, mut filter) = (10, Filter::default());
    for index in (2..args.len()).step_by(2) {
        let Some(value) = (index + 1 < args.len()).then(|| args.at(index + 1)) else {
            context.syntax_error();
            return ControlFlow::Break(());
        };
        if args.is(index, "COUNT") {
            match number::parse_i64_strict(value) {
                Some(number @ 1..) => count = number as u64,
                Some(_) => {
                    context.syntax_error();
                    return ControlFlow::Break(());
                }
                None => {
                    context.not_an_integer();
                    return ControlFlow::Break(());
                }
            }
        } else if args.is(index, "MATCH") {
            filter.pattern = pattern(value);
        } else if args.is(index, "TYPE") {
            filter.is_empty = !value.eq_ignore_ascii_case(b"string");
        } else {
            context.syntax_error();
            return ControlFlow::Break(());
        }
    }
    ControlFlow::Continue((count, filter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_strtoul_reads_them() {
        let accepted: [(&[u8], u64); 9] = [
            (b"", 0),
            (b"\0x", 0),
            (b"5\0x", 5),
            (b"0", 0),
            (b"007", 7),
            (b"+5", 5),
            (b"-1", u64::MAX),
            (b"-0", 0),
            (b"18446744073709551615", u64::MAX),
        ];
        for (text, cursor) in accepted {
            assert_eq!(parse_cursor(text), Some(cursor), "{text:?}");
        }
        for text in [&b"x"[..], b"5x", b" 5", b"5 ", b"+", b"-", b"--1", b"+-1", b"1.0", b"x\0"] {
            assert_eq!(parse_cursor(text), None, "{text:?}");
        }
        assert_eq!(parse_cursor(b"18446744073709551616"), None);
    }

    #[test]
    fn every_key_matches_a_star_alone() {
        assert!(pattern(b"*").is_none());
        assert_eq!(pattern(b"**").as_deref(), Some(&b"**"[..]));
        assert_eq!(pattern(b"").as_deref(), Some(&b""[..]));
    }
}
