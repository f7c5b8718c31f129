//! LCS. Short strings are compared at once, others in slices; longer ones than memory may be spent
//! on are refused.

mod table;

use pinion_engine::{KeyHash, PinnedValue, Shard};

use super::super::context::{Arguments, Context, Flow, read_item};
use super::super::slices::refuse_pin;
use super::super::task::{Step, Task};
use super::refuse_reply;
use crate::core::limits::{LCS_WORDS_PER_SLICE, SLICE_BYTES};
use crate::protocol::number;
use table::{Table, rows_bytes, table_bytes};

/// The rows of a table may take this many times the longest value. With values of 8 MiB these are
/// 2^27 cells, as many as Redis computes by default.
const ROWS_PER_VALUE_MAX: usize = 2;

/// What LCS is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Options {
    length_only: bool,
    matches: bool,
    with_lengths: bool,
    match_bytes_min: i64,
}

/// Why LCS's options were refused.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    Syntax,
    NotAnInteger,
    Contradiction,
}

pub(super) fn lcs(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let keys = [args.at(1), args.at(2)];
    let hashes = [context.first_hash, context.hash(keys[1])];
    let [a_bytes, b_bytes] = [0, 1].map(|number| length_of(context, hashes[number], keys[number]));
    let options = match parse(args) {
        Ok(options) => options,
        Err(refusal) => {
            match refusal {
                Refusal::Syntax => context.syntax_error(),
                Refusal::NotAnInteger => context.not_an_integer(),
                Refusal::Contradiction => context
                    .error("ERR If you want both the length and indexes, please just use IDX."),
            }
            return Flow::Continue;
        }
    };
    let rows_bytes = if options.length_only {
        rows_bytes(a_bytes.min(b_bytes), a_bytes.max(b_bytes))
    } else {
        rows_bytes(a_bytes, b_bytes)
    };
    if rows_bytes > ROWS_PER_VALUE_MAX * context.settings.value_bytes_max {
        context
            .error("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len");
        return Flow::Continue;
    }
    if table_bytes(a_bytes, b_bytes, !options.length_only) > context.room_now_bytes {
        let start = context.out.len();
        return context.without_room(start, |context| {
            context.error("ERR Insufficient memory, failed allocating transient memory for LCS");
        });
    }
    let mut sources = Vec::with_capacity(2);
    for (hash, key) in hashes.into_iter().zip(keys) {
        match Source::of(context, hash, key) {
            Some(source) => sources.push(source),
            None => {
                for source in sources {
                    Source::end(source, context.shard);
                }
                refuse_pin(context);
                return Flow::Continue;
            }
        }
    }
    let mut task = Comparing { sources, strings: Vec::with_capacity(2), table: None, options };
    match task.step(context) {
        Step::Done(flow) => flow,
        Step::More => Flow::Later(Box::new(task)),
    }
}

fn length_of(context: &mut Context<'_>, hash: KeyHash, key: &[u8]) -> usize {
    let entry = read_item(context.shard, context.session, hash, key, context.now_ms);
    let length = entry.map(|entry| entry.value.len());
    context.count_read(length.is_some());
    length.unwrap_or(0)
}

fn parse(args: &Arguments<'_>) -> Result<Options, Refusal> {
    let (mut options, mut index) = (Options::default(), 3);
    while index < args.len() {
        if args.is(index, "IDX") {
            options.matches = true;
        } else if args.is(index, "LEN") {
            options.length_only = true;
        } else if args.is(index, "WITHMATCHLEN") {
            options.with_lengths = true;
        } else if args.is(index, "MINMATCHLEN") && index + 1 < args.len() {
            index += 1;
            let number = number::parse_i64_strict(args.at(index));
            options.match_bytes_min = number.ok_or(Refusal::NotAnInteger)?.max(0);
        } else {
            return Err(Refusal::Syntax);
        }
        index += 1;
    }
    let contradicts = options.length_only && options.matches;
    if contradicts { Err(Refusal::Contradiction) } else { Ok(options) }
}

/// A string that is to be compared.
#[derive(Debug)]
enum Source {
    Short(Vec<u8>),
    Pinned { pinned: PinnedValue, copied: Vec<u8> },
}

impl Source {
    /// The value of a key; empty if there is none. `None` if too many values are being read.
    fn of(context: &mut Context<'_>, hash: KeyHash, key: &[u8]) -> Option<Source> {
        let Some(entry) = context.shard.peek(hash, key, context.now_ms) else {
            return Some(Source::Short(Vec::new()));
        };
        if let Some(bytes) = entry.value.as_slice() {
            return Some(Source::Short(bytes.to_vec()));
        }
        let pinned = context.shard.pin(hash, key, context.now_ms).ok()??;
        let copied = Vec::with_capacity(pinned.len());
        Some(Source::Pinned { pinned, copied })
    }

    /// Copies at most a slice; whether the string is whole.
    fn copy_slice(&mut self, shard: &Shard) -> bool {
        let Source::Pinned { pinned, copied } = self else { return true };
        let end = copied.len() + SLICE_BYTES;
        while copied.len() < end.min(pinned.len()) {
            copied.extend_from_slice(shard.pinned_chunk(pinned, copied.len()));
        }
        copied.len() == pinned.len()
    }

    /// Gives up the shard's value; what was copied.
    fn end(self, shard: &mut Shard) -> Vec<u8> {
        match self {
            Source::Short(bytes) => bytes,
            Source::Pinned { pinned, copied } => {
                shard.unpin(pinned);
                copied
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Source::Short(bytes) | Source::Pinned { copied: bytes, .. } => bytes.capacity(),
        }
    }
}

/// A comparison in slices.
#[derive(Debug)]
struct Comparing {
    /// Strings that are still to be copied, in order.
    sources: Vec<Source>,
    strings: Vec<Vec<u8>>,
    table: Option<Table>,
    options: Options,
}

impl Task for Comparing {
    fn step(&mut self, context: &mut Context<'_>) -> Step {
        while let Some(source) = self.sources.first_mut() {
            let was_short = matches!(source, Source::Short(_));
            if !source.copy_slice(context.shard) {
                return Step::More;
            }
            let source = self.sources.remove(0);
            self.strings.push(source.end(context.shard));
            if !was_short {
                return Step::More;
            }
        }
        let wants_path = !self.options.length_only;
        let table = self.table.get_or_insert_with(|| {
            let mut strings = std::mem::take(&mut self.strings);
            // Without a path both orders are the same, and long rows are quicker than many.
            if !wants_path {
                strings.sort_by_key(Vec::len);
            }
            let b = strings.pop().unwrap_or_default();
            Table::new(strings.pop().unwrap_or_default(), b, wants_path)
        });
        if !table.advance(LCS_WORDS_PER_SLICE) {
            return Step::More;
        }
        answer(context, table, &self.options);
        Step::Done(Flow::Continue)
    }

    fn abandon(&mut self, shard: &mut Shard) {
        for source in self.sources.drain(..) {
            source.end(shard);
        }
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.sources.iter().map(Source::memory_bytes).sum::<usize>()
            + self.strings.iter().map(Vec::capacity).sum::<usize>()
            + self.table.as_ref().map_or(0, Table::memory_bytes)
    }
}

fn answer(context: &mut Context<'_>, table: &Table, options: &Options) {
    let length = table.length();
    if options.length_only {
        context.reply().integer(length as i64);
    } else if !options.matches {
        if length > context.room_bytes {
            return refuse_reply(context);
        }
        context.reply().bulk_header(length);
        context.out.extend(table.reversed().iter().rev());
        context.reply().bulk_end();
    } else {
        answer_matches(context, table, options);
    }
}

fn answer_matches(context: &mut Context<'_>, table: &Table, options: &Options) {
    let is_long = |found: &&table::Match| found.len() as i64 >= options.match_bytes_min;
    let count = table.matches().iter().filter(is_long).count();
    let mut reply = context.reply();
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(count);
    for found in table.matches().iter().filter(is_long) {
        reply.array(if options.with_lengths { 3 } else { 2 });
        for (first, last) in [found.a, found.b] {
            reply.array(2);
            reply.integer(first as i64);
            reply.integer(last as i64);
        }
        if options.with_lengths {
            reply.integer(found.len() as i64);
        }
    }
    reply.bulk(b"len");
    reply.integer(table.length() as i64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::resp;

    fn parsed(text: &str) -> Result<Options, Refusal> {
        let (mut args, mut progress) = (resp::Args::new(), resp::Progress::default());
        let frame = format!("LCS a b {text}\r\n");
        let outcome =
            resp::parse(frame.as_bytes(), &mut progress, &mut args, &resp::Limits::default());
        assert!(matches!(outcome, resp::Parse::Complete { .. }));
        parse(&Arguments::new(frame.as_bytes(), &args))
    }

    #[test]
    fn options_are_those_of_redis() {
        assert_eq!(parsed(""), Ok(Options::default()));
        let all =
            Options { length_only: false, matches: true, with_lengths: true, match_bytes_min: 4 };
        assert_eq!(parsed("idx minmatchlen 4 WithMatchLen"), Ok(all));
        assert_eq!(parsed("MINMATCHLEN -4 LEN").map(|options| options.match_bytes_min), Ok(0));
        assert_eq!(parsed("LEN IDX"), Err(Refusal::Contradiction));
        assert_eq!(parsed("MINMATCHLEN"), Err(Refusal::Syntax));
        assert_eq!(parsed("MINMATCHLEN x"), Err(Refusal::NotAnInteger));
        assert_eq!(parsed("WHAT"), Err(Refusal::Syntax));
    }
}
