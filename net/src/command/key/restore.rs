//! RESTORE: an item from what DUMP has returned, here or in Redis.
//!
//! The checksum is checked first, then the string is found in the payload (`rdb`), unpacked if it
//! is packed, and stored. Where payload or value are longer than [`DUMP_DIRECT_BYTES_MAX`], a task
//! does that in slices, with a copy of the payload; a long value goes to the shard's pages bit by
//! bit.
//!
//! IDLETIME and FREQ are checked and have no effect: an item's age here is that of its place in the
//! log, and its uses are counted from its first one on.

use pinion_engine::{Condition, Deadline, LargeWrite, SetError, SetOptions, Shard, Stored};

use super::super::context::{Arguments, Context, Flow};
use super::super::expiry::{self, Unit};
use super::super::task::{Step, Task};
use super::lzf::Unpacker;
use super::rdb::{self, Form, PayloadError};
use super::{crc64, selected};
use crate::core::limits::{DUMP_DIRECT_BYTES_MAX, DUMP_SLICE_BYTES};
use crate::protocol::number::{self, Decimal};

/// What RESTORE's options ask for.
#[derive(Clone, Copy, Debug, Default)]
struct Options {
    replaces: bool,
    is_absolute: bool,
}

pub(super) fn restore(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let Some(options) = parse_options(context, args) else { return Flow::Continue };
    let (key, hash, now_ms) = (args.at(1), context.first_hash, context.now_ms);
    if !options.replaces && context.shard.peek(hash, key, now_ms).is_some() {
        context.error(BUSY_KEY);
        return Flow::Continue;
    }
    let Some(ttl) = number::parse_i64_strict(args.at(2)) else {
        context.not_an_integer();
        return Flow::Continue;
    };
    if ttl < 0 {
        context.error("ERR Invalid TTL value, must be >= 0");
        return Flow::Continue;
    }
    let deadline = deadline(ttl, options.is_absolute, now_ms);
    let mut restoring = Restoring {
        database: selected(context),
        replaces: options.replaces,
        deadline,
        phase: Phase::Summing { bytes: 0, sum: 0 },
    };
    let payload = args.at(3);
    if payload.len() <= DUMP_DIRECT_BYTES_MAX {
        match restoring.go_on(context, key, payload) {
            Step::Done(flow) => return flow,
            Step::More => {}
        }
    }
    Flow::Later(Box::new(Owned { key: key.into(), payload: payload.into(), restoring }))
}

const BUSY_KEY: &str = "BUSYKEY Target key name already exists.";

fn parse_options(context: &mut Context<'_>, args: &Arguments<'_>) -> Option<Options> {
    let mut options = Options::default();
    let (mut has_idle, mut has_frequency, mut index) = (false, false, 4);
    while index < args.len() {
        let has_value = index + 1 < args.len();
        if args.is(index, "REPLACE") {
            options.replaces = true;
        } else if args.is(index, "ABSTTL") {
            options.is_absolute = true;
        } else if args.is(index, "IDLETIME") && has_value && !has_frequency {
            index += 1;
            let range = (0..=i64::MAX, "ERR Invalid IDLETIME value, must be >= 0");
            hint(context, args.at(index), range)?;
            has_idle = true;
        } else if args.is(index, "FREQ") && has_value && !has_idle {
            index += 1;
            let range = (0..=255, "ERR Invalid FREQ value, must be >= 0 and <= 255");
            hint(context, args.at(index), range)?;
            has_frequency = true;
        } else {
            context.syntax_error();
            return None;
        }
        index += 1;
    }
    Some(options)
}

/// Checks a number that has no effect; `None` when it was refused.
fn hint(
    context: &mut Context<'_>,
    text: &[u8],
    (range, refusal): (std::ops::RangeInclusive<i64>, &str),
) -> Option<()> {
    match number::parse_i64_strict(text) {
        Some(number) if range.contains(&number) => return Some(()),
        Some(_) => context.error(refusal),
        None => context.not_an_integer(),
    }
    None
}

/// The deadline of a time to live of 0 or more, 0 for none. One that Redis cannot express has
/// passed, as there.
fn deadline(ttl: i64, is_absolute: bool, now_ms: u64) -> Deadline {
    if ttl == 0 {
        return Deadline::None;
    }
    let unit = if is_absolute { Unit::UnixMilliseconds } else { Unit::Milliseconds };
    Deadline::At(expiry::deadline(ttl, unit, now_ms).unwrap_or(0))
}

/// How far a restoration has come.
#[derive(Debug)]
enum Phase {
    /// So many bytes have this checksum.
    Summing { bytes: usize, sum: u64 },
    /// The packed bytes at `start` are being unpacked.
    Unpacking { start: usize, packed_bytes: usize, unpacker: Unpacker },
    /// The value is complete.
    Whole(Source),
    /// It is on its way to the shard's pages.
    Storing { source: Source, stored_bytes: usize, write: Option<LargeWrite> },
}

/// Where a value is.
#[derive(Debug)]
enum Source {
    /// At a range of the payload.
    Payload { start: usize, bytes: usize },
    /// Here.
    Own(Vec<u8>),
}

impl Source {
    fn bytes<'a>(&'a self, payload: &'a [u8]) -> &'a [u8] {
        match self {
            Source::Payload { start, bytes } => &payload[*start..start + bytes],
            Source::Own(bytes) => bytes,
        }
    }
}

/// A restoration, beside its key and its payload.
#[derive(Debug)]
struct Restoring {
    database: u8,
    replaces: bool,
    deadline: Deadline,
    phase: Phase,
}

/// One that takes several slices.
#[derive(Debug)]
struct Owned {
    key: Box<[u8]>,
    payload: Box<[u8]>,
    restoring: Restoring,
}

impl Task for Owned {
    fn step(&mut self, context: &mut Context<'_>) -> Step {
        self.restoring.go_on(context, &self.key, &self.payload)
    }

    fn abandon(&mut self, shard: &mut Shard) {
        if let Phase::Storing { write, .. } = &mut self.restoring.phase
            && let Some(write) = write.take()
        {
            shard.abort_large(write);
        }
    }

    fn memory_bytes(&self) -> usize {
        let own_bytes = match &self.restoring.phase {
            Phase::Unpacking { unpacker, .. } => unpacker.memory_bytes(),
            Phase::Whole(Source::Own(bytes)) => bytes.capacity(),
            Phase::Storing { source: Source::Own(bytes), .. } => bytes.capacity(),
            _ => 0,
        };
        size_of::<Owned>() + self.key.len() + self.payload.len() + own_bytes
    }
}

impl Restoring {
    /// Does a slice: phases one after the other as long as they are short.
    fn go_on(&mut self, context: &mut Context<'_>, key: &[u8], payload: &[u8]) -> Step {
        let mut left_bytes = DUMP_SLICE_BYTES;
        loop {
            let advanced = match &mut self.phase {
                Phase::Summing { .. } => self.check(context, payload, &mut left_bytes),
                Phase::Unpacking { .. } => self.unpack(payload, &mut left_bytes),
                Phase::Whole(_) | Phase::Storing { .. } => {
                    return self.store(context, key, payload, left_bytes);
                }
            };
            match advanced {
                Err(error) => {
                    refuse(context, error);
                    return Step::Done(Flow::Continue);
                }
                Ok(true) => {}
                Ok(false) => return Step::More,
            }
            if left_bytes == 0 {
                return Step::More;
            }
        }
    }

    /// Goes on with the checksum, and finds the string behind it. Whether the phase is over.
    fn check(
        &mut self,
        context: &Context<'_>,
        payload: &[u8],
        left_bytes: &mut usize,
    ) -> Result<bool, PayloadError> {
        let Phase::Summing { bytes, sum } = &mut self.phase else { return Ok(true) };
        let (stated, covered_bytes) = rdb::footer(payload)?;
        let end = covered_bytes.min(bytes.saturating_add(*left_bytes));
        *sum = crc64::extend(*sum, &payload[*bytes..end]);
        *left_bytes -= end - *bytes;
        *bytes = end;
        if end < covered_bytes {
            return Ok(false);
        }
        if *sum != stated {
            return Err(PayloadError::Footer);
        }
        self.phase = match rdb::find(payload, context.settings.value_bytes_max)? {
            Form::Integer(number) => Phase::Whole(Source::Own(decimal(number))),
            Form::Plain { start, bytes } => Phase::Whole(Source::Payload { start, bytes }),
            Form::Packed { bytes, .. } if bytes > context.room_bytes => {
                return Err(PayloadError::NoRoom);
            }
            Form::Packed { start, packed_bytes, bytes } => {
                let unpacker = Unpacker::new(bytes, packed_bytes);
                let unpacker = unpacker.map_err(|_| PayloadError::Format)?;
                Phase::Unpacking { start, packed_bytes, unpacker }
            }
        };
        Ok(true)
    }

    fn unpack(&mut self, payload: &[u8], left_bytes: &mut usize) -> Result<bool, PayloadError> {
        let Phase::Unpacking { start, packed_bytes, unpacker } = &mut self.phase else {
            return Ok(true);
        };
        let packed = &payload[*start..*start + *packed_bytes];
        let before_bytes = unpacker.bytes().len();
        let is_done = unpacker.go_on(packed, *left_bytes).map_err(|_| PayloadError::Format)?;
        *left_bytes = left_bytes.saturating_sub(unpacker.bytes().len() - before_bytes);
        if is_done {
            let whole = Phase::Whole(Source::Own(unpacker.take_bytes()));
            self.phase = whole;
        }
        Ok(is_done)
    }

    /// Stores the value: at once, or a slice of it.
    fn store(
        &mut self,
        context: &mut Context<'_>,
        key: &[u8],
        payload: &[u8],
        left_bytes: usize,
    ) -> Step {
        let (shard, now_ms) = (&mut *context.shard, context.now_ms);
        let hash = shard.hash_in(self.database, key);
        let options = SetOptions {
            condition: if self.replaces { Condition::Always } else { Condition::IfAbsent },
            flags: Some(0),
            deadline: self.deadline,
            ..SetOptions::default()
        };
        if let Phase::Whole(source) = &mut self.phase {
            let value = source.bytes(payload);
            if value.len() <= DUMP_DIRECT_BYTES_MAX {
                let stored = shard.set(hash, key, value, &options, now_ms);
                answer(context, stored);
                return Step::Done(Flow::Continue);
            }
            let write = match shard.begin_large(key, value.len()) {
                Ok(write) => Some(write),
                Err(error) => {
                    context.set_error(&error);
                    return Step::Done(Flow::Continue);
                }
            };
            let source = std::mem::replace(source, Source::Own(Vec::new()));
            self.phase = Phase::Storing { source, stored_bytes: 0, write };
        }
        let Phase::Storing { source, stored_bytes, write: held } = &mut self.phase else {
            return Step::Done(Flow::Continue);
        };
        let Some(mut write) = held.take() else { return Step::Done(Flow::Continue) };
        match append(shard, &mut write, source.bytes(payload), stored_bytes, left_bytes, now_ms) {
            Ok(()) if write.missing_bytes() > 0 => {
                *held = Some(write);
                return Step::More;
            }
            Ok(()) => {
                let stored = shard.finish_large(write, hash, &options, now_ms);
                answer(context, stored);
            }
            Err(error) => {
                shard.abort_large(write);
                context.set_error(&error);
            }
        }
        Step::Done(Flow::Continue)
    }
}

/// Appends a slice of a value, of which `stored_bytes` are stored, as far as there is room.
fn append(
    shard: &mut Shard,
    write: &mut LargeWrite,
    value: &[u8],
    stored_bytes: &mut usize,
    slice_bytes: usize,
    now_ms: u64,
) -> Result<(), SetError> {
    let end = value.len().min(*stored_bytes + slice_bytes.max(1));
    while *stored_bytes < end {
        match shard.append_large(write, &value[*stored_bytes..end], now_ms)? {
            // Room is being made.
            0 => return Ok(()),
            taken_bytes => *stored_bytes += taken_bytes,
        }
    }
    Ok(())
}

fn decimal(number: i32) -> Vec<u8> {
    let mut text = Vec::with_capacity(12);
    if number < 0 {
        text.push(b'-');
    }
    text.extend_from_slice(Decimal::new(u64::from(number.unsigned_abs())).as_bytes());
    text
}

fn answer(context: &mut Context<'_>, stored: Result<Stored, SetError>) {
    match stored {
        Ok(Stored::Stored { .. }) => context.reply().ok(),
        Ok(Stored::ConditionFailed(_)) => context.error(BUSY_KEY),
        Err(error) => context.set_error(&error),
    }
}

fn refuse(context: &mut Context<'_>, error: PayloadError) {
    match error {
        PayloadError::Footer => context.error("ERR DUMP payload version or checksum are wrong"),
        PayloadError::Format => context.error("ERR Bad data format"),
        PayloadError::Type(name) => context.error(&format!(
            "ERR Bad data format: the payload holds {name}, and only strings can be stored"
        )),
        PayloadError::TooLong => {
            context.error("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
        }
        PayloadError::NoRoom => {
            context.error("OOM the value does not fit into the memory left for buffers");
        }
    }
}
