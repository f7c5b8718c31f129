//! BITOP. Short values are combined at once. Otherwise a task goes through the values one after
//! another: large ones are pinned when the command begins, short ones are copied then as long as
//! they are not many, and the rest are looked up when their turn comes, each whole.

use std::collections::VecDeque;

use pinion_engine::{LargeWrite, PinnedValue, SetError, Shard};

use super::super::context::{Arguments, Context, Flow, read_item};
use super::super::slices::refuse_pin;
use super::super::string::PLAIN;
use super::super::task::{Step, Task};
use crate::core::limits::{
    BITOP_KEYS_AT_ONCE, DIRECT_BYTES_MAX, PINS_PER_COMMAND_MAX, SLICE_BYTES,
};

/// How bits are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    And,
    Or,
    Xor,
    Not,
}

/// A result that comes about value by value. Beyond the end of a value there are zeros.
#[derive(Debug)]
struct Combined {
    operator: Operator,
    is_first: bool,
    /// The result so far, without zeros at its end that AND has brought.
    bytes: Vec<u8>,
    /// Bytes of the longest value, and so of the result.
    length_bytes: usize,
}

impl Combined {
    fn new(operator: Operator) -> Combined {
        Combined { operator, is_first: true, bytes: Vec::new(), length_bytes: 0 }
    }

    /// Combines the next bytes of a value, those from `at` on.
    fn add(&mut self, at: usize, chunk: &[u8]) {
        let end = at + chunk.len();
        self.length_bytes = self.length_bytes.max(end);
        if self.is_first {
            debug_assert_eq!(at, self.bytes.len(), "a value comes in order");
            self.bytes.extend_from_slice(chunk);
            if self.operator == Operator::Not {
                self.bytes[at..].iter_mut().for_each(|byte| *byte = !*byte);
            }
            return;
        }
        if self.operator == Operator::And {
            let pairs = self.bytes.iter_mut().skip(at).zip(chunk);
            return pairs.for_each(|(byte, other)| *byte &= other);
        }
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        let pairs = self.bytes[at..end].iter_mut().zip(chunk);
        if self.operator == Operator::Or {
            pairs.for_each(|(byte, other)| *byte |= other);
        } else {
            pairs.for_each(|(byte, other)| *byte ^= other);
        }
    }

    /// Ends a value of `value_bytes`, all of which were added.
    fn end(&mut self, value_bytes: usize) {
        if self.operator == Operator::And {
            self.bytes.truncate(value_bytes);
        }
        self.is_first = false;
    }

    /// The result's bytes from `at` on, as far as they lie together.
    fn part(&self, at: usize) -> &[u8] {
        const ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];
        let zeros = &ZEROS[..ZEROS.len().min(self.length_bytes - at)];
        if at < self.bytes.len() { &self.bytes[at..] } else { zeros }
    }

    /// The whole result, which is short.
    fn whole(&mut self) -> &[u8] {
        self.bytes.resize(self.length_bytes, 0);
        &self.bytes
    }
}

pub(super) fn bitop(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let operators = [
        ("AND", Operator::And),
        ("OR", Operator::Or),
        ("XOR", Operator::Xor),
        ("NOT", Operator::Not),
    ];
    let named = operators.into_iter().find(|&(name, _)| args.is(1, name));
    let Some((_, operator)) = named else {
        context.syntax_error();
        return Flow::Continue;
    };
    if operator == Operator::Not && args.len() != 4 {
        context.error("ERR BITOP NOT must be called with a single source key.");
        return Flow::Continue;
    }
    if is_short(context, args) {
        combine_now(context, args, operator);
        return Flow::Continue;
    }
    match Combining::begin(context, args, operator) {
        Some(task) => Flow::Later(Box::new(task)),
        None => {
            refuse_pin(context);
            Flow::Continue
        }
    }
}

/// Whether the values are few, and short together.
fn is_short(context: &mut Context<'_>, args: &Arguments<'_>) -> bool {
    if args.len() > BITOP_KEYS_AT_ONCE {
        return false;
    }
    let mut left_bytes = DIRECT_BYTES_MAX;
    args.from(3).all(|key| {
        let hash = context.hash(key);
        let entry = context.shard.peek(hash, key, context.now_ms);
        let left = left_bytes.checked_sub(entry.map_or(0, |entry| entry.value.len()));
        left_bytes = left.unwrap_or(0);
        left.is_some()
    })
}

fn combine_now(context: &mut Context<'_>, args: &Arguments<'_>, operator: Operator) {
    let mut combined = Combined::new(operator);
    for key in args.from(3) {
        add_value(context, &mut combined, key);
    }
    let (key, hash, now_ms) = (args.at(2), context.first_hash, context.now_ms);
    if combined.length_bytes == 0 {
        context.shard.delete(hash, key, None, now_ms);
    } else if let Err(error) = context.shard.set(hash, key, combined.whole(), &PLAIN, now_ms) {
        return context.set_error(&error);
    }
    context.reply().integer(combined.length_bytes as i64);
}

/// Combines the value of a key, whole. Counted as a read.
fn add_value(context: &mut Context<'_>, combined: &mut Combined, key: &[u8]) -> usize {
    let hash = context.hash(key);
    let entry = read_item(context.shard, context.session, hash, key, context.now_ms);
    let mut at = 0;
    for chunk in entry.iter().flat_map(|entry| entry.value.chunks()) {
        combined.add(at, chunk);
        at += chunk.len();
    }
    combined.end(at);
    let is_hit = entry.is_some();
    context.count_read(is_hit);
    at
}

/// A value that is to be combined.
#[derive(Debug)]
enum Source {
    Pinned(PinnedValue),
    Copied(Box<[u8]>),
    /// To be looked up by its key.
    Later(Box<[u8]>),
}

/// A BITOP in slices.
#[derive(Debug)]
struct Combining {
    key: Box<[u8]>,
    sources: VecDeque<Source>,
    source_memory_bytes: usize,
    /// Bytes of the first source that were combined.
    at: usize,
    combined: Combined,
    /// The result on its way to the shard.
    write: Option<LargeWrite>,
}

impl Combining {
    /// Takes hold of the values. `None` if too many are being read.
    fn begin(
        context: &mut Context<'_>,
        args: &Arguments<'_>,
        operator: Operator,
    ) -> Option<Combining> {
        let mut task = Combining {
            key: args.at(2).into(),
            sources: VecDeque::with_capacity(args.len() - 3),
            source_memory_bytes: 0,
            at: 0,
            combined: Combined::new(operator),
            write: None,
        };
        let (mut copied_bytes, mut pins) = (0, 0);
        for (number, key) in args.from(3).enumerate() {
            let source = if number < BITOP_KEYS_AT_ONCE && copied_bytes < DIRECT_BYTES_MAX {
                Source::take(context, key)
            } else {
                Some(Source::Later(key.into()))
            };
            pins += usize::from(matches!(source, Some(Source::Pinned(_))));
            let Some(source) = source.filter(|_| pins <= PINS_PER_COMMAND_MAX) else {
                task.abandon(context.shard);
                return None;
            };
            if let Source::Copied(bytes) | Source::Later(bytes) = &source {
                copied_bytes += bytes.len();
                task.source_memory_bytes += bytes.len();
            }
            task.sources.push_back(source);
        }
        Some(task)
    }

    /// Combines at most a slice. Whether all values are combined.
    fn combine_slice(&mut self, context: &mut Context<'_>) -> bool {
        let mut left_bytes = SLICE_BYTES;
        while left_bytes > 0 {
            let combined_bytes = match self.sources.front() {
                None => return true,
                Some(Source::Pinned(pinned)) => {
                    let chunk = context.shard.pinned_chunk(pinned, self.at);
                    self.combined.add(self.at, chunk);
                    self.at += chunk.len();
                    if self.at < pinned.len() {
                        left_bytes = left_bytes.saturating_sub(chunk.len());
                        continue;
                    }
                    self.combined.end(self.at);
                    chunk.len()
                }
                Some(Source::Copied(bytes)) => {
                    self.combined.add(0, bytes);
                    self.combined.end(bytes.len());
                    bytes.len()
                }
                Some(Source::Later(key)) => add_value(context, &mut self.combined, key),
            };
            // A look-up has a price of its own.
            left_bytes = left_bytes.saturating_sub(combined_bytes.max(SLICE_BYTES / 512));
            self.at = 0;
            if let Some(Source::Pinned(pinned)) = self.sources.pop_front() {
                context.shard.unpin(pinned);
            }
        }
        false
    }

    /// Stores at most a slice of the result. Whether it is stored.
    fn store_slice(&mut self, context: &mut Context<'_>) -> Result<bool, SetError> {
        // The database may have become another one since the last slice.
        let hash = context.hash(&self.key);
        let (now_ms, length) = (context.now_ms, self.combined.length_bytes);
        if length == 0 {
            context.shard.delete(hash, &self.key, None, now_ms);
            return Ok(true);
        }
        if length <= DIRECT_BYTES_MAX {
            context.shard.set(hash, &self.key, self.combined.whole(), &PLAIN, now_ms)?;
            return Ok(true);
        }
        let mut write = match self.write.take() {
            Some(write) => write,
            None => context.shard.begin_large(&self.key, length)?,
        };
        let end = (length - write.missing_bytes() + SLICE_BYTES).min(length);
        loop {
            let at = length - write.missing_bytes();
            if at >= end {
                break;
            }
            match context.shard.append_large(&mut write, self.combined.part(at), now_ms) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    context.shard.abort_large(write);
                    return Err(error);
                }
            }
        }
        if write.missing_bytes() > 0 {
            self.write = Some(write);
            return Ok(false);
        }
        context.shard.finish_large(write, hash, &PLAIN, now_ms)?;
        Ok(true)
    }
}

impl Source {
    /// The value of a key as it is now, counted as a read. `None` if too many are being read.
    fn take(context: &mut Context<'_>, key: &[u8]) -> Option<Source> {
        let hash = context.hash(key);
        let entry = read_item(context.shard, context.session, hash, key, context.now_ms);
        let inline = entry.map_or(Some(&[][..]), |entry| entry.value.as_slice());
        let (is_hit, copied) = (entry.is_some(), inline.map(Box::from));
        context.count_read(is_hit);
        match copied {
            Some(bytes) => Some(Source::Copied(bytes)),
            None => context.shard.pin(hash, key, context.now_ms).ok()?.map(Source::Pinned),
        }
    }
}

impl Task for Combining {
    fn step(&mut self, context: &mut Context<'_>) -> Step {
        if !self.sources.is_empty() {
            self.combine_slice(context);
            return Step::More;
        }
        match self.store_slice(context) {
            Ok(false) => return Step::More,
            Ok(true) => context.reply().integer(self.combined.length_bytes as i64),
            Err(error) => context.set_error(&error),
        }
        Step::Done(Flow::Continue)
    }

    fn abandon(&mut self, shard: &mut Shard) {
        for source in self.sources.drain(..) {
            if let Source::Pinned(pinned) = source {
                shard.unpin(pinned);
            }
        }
        if let Some(write) = self.write.take() {
            shard.abort_large(write);
        }
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.key.len()
            + self.source_memory_bytes
            + self.sources.capacity() * size_of::<Source>()
            + self.combined.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_combined_as_if_they_were_filled_up_with_zeros() {
        let values: [&[u8]; 4] =
            [b"\xff\x0f\xf0\x55", b"\x3c\xff", b"", b"\x01\x02\x03\x04\x05\x06"];
        for operator in [Operator::And, Operator::Or, Operator::Xor] {
            for mask in 1..16_u32 {
                let chosen: Vec<&[u8]> = (0..4)
                    .filter(|index| mask >> index & 1 == 1)
                    .map(|index| values[index])
                    .collect();
                let length = chosen.iter().map(|value| value.len()).max().unwrap_or(0);
                let byte = |value: &[u8], index: usize| value.get(index).copied().unwrap_or(0);
                let wanted: Vec<u8> = (0..length)
                    .map(|index| {
                        let bytes = chosen.iter().map(|value| byte(value, index));
                        let wanted = match operator {
                            Operator::And => bytes.reduce(|a, b| a & b),
                            Operator::Or => bytes.reduce(|a, b| a | b),
                            _ => bytes.reduce(|a, b| a ^ b),
                        };
                        wanted.expect("at least one value")
                    })
                    .collect();
                for piece in [1, 2, 100] {
                    let mut combined = Combined::new(operator);
                    for value in &chosen {
                        let mut at = 0;
                        for chunk in value.chunks(piece) {
                            combined.add(at, chunk);
                            at += chunk.len();
                        }
                        combined.end(value.len());
                    }
                    let mut parts = Vec::new();
                    while parts.len() < length {
                        let at = parts.len();
                        parts.extend_from_slice(combined.part(at));
                    }
                    assert_eq!(parts, wanted);
                    assert_eq!(combined.whole(), wanted, "{operator:?} of {chosen:?}");
                }
            }
        }
        let mut not = Combined::new(Operator::Not);
        not.add(0, b"\x00\xf0");
        not.add(2, b"\xff");
        not.end(3);
        assert_eq!(not.whole(), b"\xff\x0f\x00");
    }
}
