//! BITFIELD and BITFIELD_RO: a list of operations on integers within a value. All are checked
//! before the first is executed, and all happen at once.

use super::super::context::{Arguments, Context, Flow, read_item};
use super::super::string::{Edit, Target, change};
use super::integer::{BYTES_MAX, Kind, Overflow};
use super::{WRONG_OFFSET, bit_offset};
use crate::protocol::number;
use crate::protocol::resp::Writer;

/// What to do with an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Get,
    Set(i64),
    Add(i64),
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Operation {
    verb: Verb,
    kind: Kind,
    /// The integer's first bit.
    offset: u64,
    overflow: Overflow,
}

/// The operations in a command's arguments.
#[derive(Clone)]
struct Operations<'a> {
    args: Arguments<'a>,
    index: usize,
    overflow: Overflow,
}

const WRONG_KIND: &str = "ERR Invalid bitfield type. Use something like i16 u8. \
                          Note that u64 is not supported but i64 is.";

impl<'a> Operations<'a> {
    fn of(args: &Arguments<'a>) -> Operations<'a> {
        Operations { args: *args, index: 2, overflow: Overflow::Wrap }
    }

    /// Reads the argument behind OVERFLOW.
    fn read_overflow(&mut self) -> Result<(), &'static str> {
        self.overflow = match () {
            () if self.args.is(self.index + 1, "WRAP") => Overflow::Wrap,
            () if self.args.is(self.index + 1, "SAT") => Overflow::Saturate,
            () if self.args.is(self.index + 1, "FAIL") => Overflow::Fail,
            () => return Err("ERR Invalid OVERFLOW type specified"),
        };
        self.index += 2;
        Ok(())
    }

    fn read(&mut self) -> Result<Operation, &'static str> {
        let (args, index) = (self.args, self.index);
        let behind = args.len() - index - 1;
        let is_get = args.is(index, "GET") && behind >= 2;
        let is_set = args.is(index, "SET") && behind >= 3;
        let is_increment = args.is(index, "INCRBY") && behind >= 3;
        if !(is_get || is_set || is_increment) {
            return Err("ERR syntax error");
        }
        let kind = Kind::parse(args.at(index + 1)).ok_or(WRONG_KIND)?;
        let offset = bit_offset(args.at(index + 2), Some(kind.bits)).ok_or(WRONG_OFFSET)?;
        self.index += 3;
        let mut verb = Verb::Get;
        if !is_get {
            let number = number::parse_i64_strict(args.at(index + 3))
                .ok_or("ERR value is not an integer or out of range")?;
            verb = if is_set { Verb::Set(number) } else { Verb::Add(number) };
            self.index += 1;
        }
        Ok(Operation { verb, kind, offset, overflow: self.overflow })
    }
}

impl Iterator for Operations<'_> {
    type Item = Result<Operation, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.index + 1 < self.args.len() && self.args.is(self.index, "OVERFLOW") {
            if let Err(text) = self.read_overflow() {
                self.index = self.args.len();
                return Some(Err(text));
            }
        }
        (self.index < self.args.len()).then(|| self.read())
    }
}

impl Operation {
    /// The length that a value needs for it: 0 if it only reads.
    fn length_bytes(&self) -> u64 {
        match self.verb {
            Verb::Get => 0,
            Verb::Set(_) | Verb::Add(_) => (self.offset + u64::from(self.kind.bits)).div_ceil(8),
        }
    }

    /// Executes it; what to answer.
    fn run(&self, target: &mut Target<'_>) -> Option<i64> {
        let old = self.kind.read(target, self.offset);
        let (new, answer) = match self.verb {
            Verb::Get => return Some(old),
            Verb::Set(number) => (self.kind.set(number, self.overflow)?, old),
            Verb::Add(number) => {
                let new = self.kind.plus(old, number, self.overflow)?;
                (new, new)
            }
        };
        self.kind.write(target, self.offset, new);
        Some(answer)
    }
}

pub(super) fn bitfield(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    run(context, args, false)
}

pub(super) fn bitfield_ro(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    run(context, args, true)
}

fn run(context: &mut Context<'_>, args: &Arguments<'_>, must_read: bool) -> Flow {
    let (mut count, mut length_bytes) = (0, 0);
    for operation in Operations::of(args) {
        let operation = match operation {
            Ok(operation) => operation,
            Err(text) => {
                context.error(text);
                return Flow::Continue;
            }
        };
        count += 1;
        length_bytes = length_bytes.max(operation.length_bytes());
    }
    if length_bytes == 0 {
        read_only(context, args, count);
        return Flow::Continue;
    }
    if must_read {
        context.error("ERR BITFIELD_RO only supports the GET subcommand");
        return Flow::Continue;
    }
    if length_bytes > context.settings.value_bytes_max as u64 {
        context.error(WRONG_OFFSET);
        return Flow::Continue;
    }
    let operations = || Operations::of(args).filter_map(Result::ok);
    let edit = Fields { operations, count, length_bytes: length_bytes as usize };
    change(context, context.first_hash, args.at(1), &edit)
}

/// Operations that all read, from the value where it is.
fn read_only(context: &mut Context<'_>, args: &Arguments<'_>, count: usize) {
    let entry =
        read_item(context.shard, context.session, context.first_hash, args.at(1), context.now_ms);
    let mut reply = Writer::new(context.out, context.session.version());
    reply.array(count);
    for operation in Operations::of(args).filter_map(Result::ok) {
        let (first, mut bytes) = ((operation.offset / 8) as usize, [0; BYTES_MAX]);
        let mut at = 0;
        for part in entry.iter().flat_map(|entry| entry.value.part(first, first + BYTES_MAX)) {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        reply.integer(operation.kind.decode(&bytes, operation.offset));
    }
    let is_hit = entry.is_some();
    context.count_read(is_hit);
}

/// Operations of which some write.
struct Fields<F> {
    operations: F,
    count: usize,
    length_bytes: usize,
}

impl<F> std::fmt::Debug for Fields<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} operations on {} bytes", self.count, self.length_bytes)
    }
}

impl<F: Fn() -> I, I: Iterator<Item = Operation>> Edit for Fields<F> {
    fn length_bytes(&self, _old_bytes: usize) -> usize {
        self.length_bytes
    }

    fn apply(&self, _old_bytes: usize, target: &mut Target<'_>, reply: &mut Writer<'_>) {
        reply.array(self.count);
        for operation in (self.operations)() {
            match operation.run(target) {
                Some(number) => reply.integer(number),
                None => reply.null(),
            }
        }
    }

    fn keep(&self) -> Box<dyn Edit> {
        let kept: Box<[Operation]> = (self.operations)().collect();
        Box::new(Kept(kept, self.length_bytes))
    }

    fn memory_bytes(&self) -> usize {
        self.count * size_of::<Operation>()
    }
}

/// The same, kept for a later turn, with the length that they need.
#[derive(Debug)]
struct Kept(Box<[Operation]>, usize);

impl Kept {
    fn fields(&self) -> impl Edit {
        let operations = || self.0.iter().copied();
        Fields { operations, count: self.0.len(), length_bytes: self.1 }
    }
}

impl Edit for Kept {
    fn length_bytes(&self, old_bytes: usize) -> usize {
        self.fields().length_bytes(old_bytes)
    }

    fn apply(&self, old_bytes: usize, target: &mut Target<'_>, reply: &mut Writer<'_>) {
        self.fields().apply(old_bytes, target, reply);
    }

    fn keep(&self) -> Box<dyn Edit> {
        Box::new(Kept(self.0.clone(), self.1))
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Kept>() + self.fields().memory_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::resp::{self, Version};

    fn with_operations<T>(text: &str, check: impl Fn(Operations<'_>) -> T) -> T {
        let (mut args, mut progress) = (resp::Args::new(), resp::Progress::default());
        let frame = format!("BITFIELD k {text}\r\n");
        let outcome =
            resp::parse(frame.as_bytes(), &mut progress, &mut args, &resp::Limits::default());
        assert!(matches!(outcome, resp::Parse::Complete { .. }));
        check(Operations::of(&Arguments::new(frame.as_bytes(), &args)))
    }

    fn error(text: &str) -> &'static str {
        with_operations(text, |mut operations| operations.find_map(Result::err).expect("an error"))
    }

    #[test]
    fn operations_are_read_with_the_overflow_before_them() {
        let read = |text: &str| with_operations(text, |all| all.collect::<Result<Vec<_>, _>>());
        let all = read("get u4 #2 overflow sat OVERFLOW fail INCRBY i8 3 -5 set i64 0 7");
        let kind = |text: &str| Kind::parse(text.as_bytes()).expect("a kind");
        let operation = |verb, kind, offset, overflow| Operation { verb, kind, offset, overflow };
        assert_eq!(
            all,
            Ok(vec![
                operation(Verb::Get, kind("u4"), 8, Overflow::Wrap),
                operation(Verb::Add(-5), kind("i8"), 3, Overflow::Fail),
                operation(Verb::Set(7), kind("i64"), 0, Overflow::Fail),
            ])
        );
        assert_eq!(read(""), Ok(vec![]));
        assert_eq!(read("OVERFLOW WRAP"), Ok(vec![]));
    }

    #[test]
    fn wrong_operations_are_refused_in_the_words_of_redis() {
        assert_eq!(error("GET u8"), "ERR syntax error");
        assert_eq!(error("SET u8 0"), "ERR syntax error");
        assert_eq!(error("OVERFLOW"), "ERR syntax error");
        assert_eq!(error("GET u8 0 1"), "ERR syntax error");
        assert_eq!(error("OVERFLOW X GET u8 0"), "ERR Invalid OVERFLOW type specified");
        assert_eq!(error("GET u64 0"), WRONG_KIND);
        assert_eq!(error("GET u8 -1"), WRONG_OFFSET);
        assert_eq!(error("SET u8 0 x"), "ERR value is not an integer or out of range");
    }

    #[test]
    fn kept_operations_do_what_the_first_ones_do() {
        let text =
            "SET u8 0 255 INCRBY u8 0 1 OVERFLOW FAIL INCRBY i5 100 15 INCRBY i5 100 1 GET u8 9";
        let frame = |edit: &dyn Edit| {
            assert_eq!(edit.length_bytes(0), 14);
            let (mut bytes, mut out) = ([0; 14], Vec::new());
            let mut reply = Writer::new(&mut out, Version::Resp2);
            edit.apply(0, &mut Target::Copy(&mut bytes), &mut reply);
            (bytes, String::from_utf8(out).expect("ASCII"))
        };
        with_operations(text, |all| {
            let operations = || all.clone().filter_map(Result::ok);
            let fields = Fields { operations, count: 5, length_bytes: 14 };
            let (bytes, reply) = frame(&fields);
            assert_eq!(reply, "*5\r\n:0\r\n:0\r\n:15\r\n$-1\r\n:0\r\n");
            assert_eq!((bytes[12], bytes[13]), (0b111, 0b1000_0000));
            assert_eq!(frame(&*fields.keep()), (bytes, reply.clone()));
            assert_eq!(frame(&*fields.keep().keep()), (bytes, reply));
        });
    }
}
