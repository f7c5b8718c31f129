//! Commands that change a part of a value: APPEND, SETRANGE, SETBIT, BITFIELD.
//!
//! ```text
//! change -- in place, if the value stays in its pages ------------------------> answered
//!        -- a short value: copied, changed, stored ---------------------------> answered
//!        -- a long one: a task copies it page by page, then changes it in place -> answered
//! ```
//!
//! - E1. Nobody sees a part of a change: the last slice publishes the copy and changes it in one go.
//! - E2. A task's copy is used only if the item still has the version that was copied. Otherwise
//!   the command begins again, a bounded number of times, and is then executed at once.
//!
//! Cost: in place what the change itself costs; otherwise the value is copied.

use pinion_engine::{
    Deadline, Editor, KeyHash, LargeWrite, PinnedValue, SetError, SetOptions, Shard,
};

use super::super::context::{Context, Flow};
use super::super::slices::refuse_pin;
use super::super::task::{Step, Task};
use super::counter::store_keeping;
use crate::core::limits::{DIRECT_BYTES_MAX, REWRITE_TRIES_MAX, SLICE_BYTES};
use crate::protocol::resp::Writer;

/// Values up to this long are built on the stack.
const STACK_BYTES: usize = 512;
/// Bytes that a task copies at a time.
const COPY_BYTES: usize = 16 * 1024;

/// A change of a part of a value.
pub(in super::super) trait Edit: std::fmt::Debug {
    /// The length that a value of `old_bytes` needs. It grows to that, filled with zeros, but does
    /// not shrink.
    fn length_bytes(&self, old_bytes: usize) -> usize;

    /// Changes a value that had `old_bytes` and is long enough now, and answers.
    fn apply(&self, old_bytes: usize, target: &mut Target<'_>, reply: &mut Writer<'_>);

    /// The same change, for a later turn.
    fn keep(&self) -> Box<dyn Edit>;

    /// Memory that a kept change holds.
    fn memory_bytes(&self) -> usize;
}

/// A value that is being changed.
#[derive(Debug)]
pub(in super::super) enum Target<'a> {
    /// A copy of it.
    Copy(&'a mut [u8]),
    /// The value itself.
    Place(Editor<'a>),
}

impl Target<'_> {
    /// Bytes of the value.
    pub(in super::super) fn len(&self) -> usize {
        match self {
            Target::Copy(bytes) => bytes.len(),
            Target::Place(editor) => editor.len(),
        }
    }

    /// Reads from `offset` on. Bytes beyond the end are 0.
    pub(in super::super) fn read(&self, offset: usize, bytes: &mut [u8]) {
        match self {
            Target::Place(editor) => editor.read(offset, bytes),
            Target::Copy(value) => {
                let there = value.get(offset..).unwrap_or_default();
                let count = there.len().min(bytes.len());
                bytes[..count].copy_from_slice(&there[..count]);
                bytes[count..].fill(0);
            }
        }
    }

    /// Writes from `offset` on, within the value.
    pub(in super::super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        match self {
            Target::Place(editor) => editor.write(offset, bytes),
            Target::Copy(value) => value[offset..offset + bytes.len()].copy_from_slice(bytes),
        }
    }
}

/// Changes the value of a key, or an empty one if there is none, and answers.
pub(in super::super) fn change(
    context: &mut Context<'_>,
    hash: KeyHash,
    key: &[u8],
    edit: &dyn Edit,
) -> Flow {
    match attempt(context, hash, key, edit, 0) {
        None => Flow::Continue,
        Some(rewrite) => {
            let (edit, key) = (edit.keep(), key.into());
            Flow::Later(Box::new(Rewriting { key, edit, rewrite: Some(rewrite), tries: 0 }))
        }
    }
}

/// Changes a value and answers, unless it takes long: then the copy that is to be made.
fn attempt(
    context: &mut Context<'_>,
    hash: KeyHash,
    key: &[u8],
    edit: &dyn Edit,
    tries: u32,
) -> Option<Rewrite> {
    let now_ms = context.now_ms;
    let entry = context.shard.peek(hash, key, now_ms);
    let old_bytes = entry.map_or(0, |entry| entry.value.len());
    let new_bytes = old_bytes.max(edit.length_bytes(old_bytes));
    if new_bytes > context.settings.value_bytes_max {
        context.error("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
        return None;
    }
    let start = context.out.len();
    let mut reply = Writer::new(context.out, context.session.version());
    if let Some(editor) = context.shard.edit(hash, key, new_bytes, now_ms) {
        edit.apply(old_bytes, &mut Target::Place(editor), &mut reply);
        return None;
    }
    if new_bytes > DIRECT_BYTES_MAX && tries < REWRITE_TRIES_MAX {
        return Rewrite::begin(context, hash, key, new_bytes);
    }
    let (mut stack, mut heap) = ([0; STACK_BYTES], Vec::new());
    let value = if new_bytes <= STACK_BYTES {
        &mut stack[..new_bytes]
    } else {
        heap.resize(new_bytes, 0);
        &mut heap[..]
    };
    if let Some(entry) = context.shard.peek(hash, key, now_ms) {
        let mut at = 0;
        for chunk in entry.value.chunks() {
            value[at..at + chunk.len()].copy_from_slice(chunk);
            at += chunk.len();
        }
    }
    edit.apply(old_bytes, &mut Target::Copy(value), &mut reply);
    if let Err(error) = store_keeping(context.shard, hash, key, value, now_ms) {
        context.out.truncate(start);
        context.set_error(&error);
    }
    None
}

/// A copy of a value that is being made.
#[derive(Debug)]
struct Rewrite {
    write: LargeWrite,
    source: Source,
    old_bytes: usize,
    new_bytes: usize,
    /// The version of what is copied; `None` if there was no item.
    version: Option<u64>,
}

/// Where the copy comes from.
#[derive(Debug)]
enum Source {
    Pinned(PinnedValue),
    Short(Box<[u8]>),
}

impl Rewrite {
    /// Begins a copy of a key's value with a length of `new_bytes`, or answers why not.
    fn begin(
        context: &mut Context<'_>,
        hash: KeyHash,
        key: &[u8],
        new_bytes: usize,
    ) -> Option<Rewrite> {
        let entry = context.shard.peek(hash, key, context.now_ms);
        let version = entry.map(|entry| entry.version());
        let old_bytes = entry.map_or(0, |entry| entry.value.len());
        let short = entry.map_or(Some(&[][..]), |entry| entry.value.as_slice());
        let source = match short {
            Some(bytes) => Source::Short(bytes.into()),
            None => match context.shard.pin(hash, key, context.now_ms) {
                Ok(Some(pinned)) => Source::Pinned(pinned),
                Ok(None) | Err(_) => {
                    refuse_pin(context);
                    return None;
                }
            },
        };
        match context.shard.begin_large(key, new_bytes) {
            Ok(write) => Some(Rewrite { write, source, old_bytes, new_bytes, version }),
            Err(error) => {
                source.end(context.shard);
                context.set_error(&error);
                None
            }
        }
    }

    /// Copies at most a slice. Whether the copy is whole.
    fn copy_slice(&mut self, shard: &mut Shard, now_ms: u64) -> Result<bool, SetError> {
        let (mut copied_bytes, mut bytes) = (0, [0; COPY_BYTES]);
        while self.write.missing_bytes() > 0 {
            if copied_bytes >= SLICE_BYTES {
                return Ok(false);
            }
            let at = self.new_bytes - self.write.missing_bytes();
            let there = match &self.source {
                Source::Pinned(pinned) => shard.pinned_chunk(pinned, at),
                Source::Short(bytes) => bytes.get(at..).unwrap_or_default(),
            };
            let mut count = there.len().min(COPY_BYTES);
            bytes[..count].copy_from_slice(&there[..count]);
            if count == 0 {
                debug_assert!(at >= self.old_bytes, "the old value is copied to its end");
                bytes.fill(0);
                count = COPY_BYTES;
            }
            let taken = shard.append_large(&mut self.write, &bytes[..count], now_ms)?;
            if taken == 0 {
                // Room is being made, which takes a turn or more.
                return Ok(false);
            }
            copied_bytes += taken;
        }
        Ok(true)
    }

    fn abort(self, shard: &mut Shard) {
        shard.abort_large(self.write);
        self.source.end(shard);
    }
}

impl Source {
    fn end(self, shard: &mut Shard) {
        if let Source::Pinned(pinned) = self {
            shard.unpin(pinned);
        }
    }
}

/// A change of a long value, in slices.
#[derive(Debug)]
struct Rewriting {
    key: Box<[u8]>,
    edit: Box<dyn Edit>,
    rewrite: Option<Rewrite>,
    tries: u32,
}

impl Rewriting {
    /// Publishes the copy and changes it, or begins again (E1, E2).
    fn finish(&mut self, context: &mut Context<'_>, rewrite: Rewrite) -> Step {
        let (key, now_ms) = (&*self.key, context.now_ms);
        // The database may have become another one since the last slice.
        let hash = context.hash(key);
        let version = context.shard.peek(hash, key, now_ms).map(|entry| entry.version());
        if version != rewrite.version {
            rewrite.abort(context.shard);
            self.tries += 1;
            self.rewrite = attempt(context, hash, key, &*self.edit, self.tries);
            let has_ended = self.rewrite.is_none();
            return if has_ended { Step::Done(Flow::Continue) } else { Step::More };
        }
        let options = SetOptions { deadline: Deadline::Keep, flags: None, ..SetOptions::default() };
        let Rewrite { write, source, old_bytes, new_bytes, .. } = rewrite;
        let stored = context.shard.finish_large(write, hash, &options, now_ms);
        source.end(context.shard);
        if let Err(error) = stored {
            context.set_error(&error);
            return Step::Done(Flow::Continue);
        }
        let mut reply = Writer::new(context.out, context.session.version());
        match context.shard.edit(hash, key, new_bytes, now_ms) {
            Some(editor) => {
                self.edit.apply(old_bytes, &mut Target::Place(editor), &mut reply);
            }
            None => {
                // Nobody reads the new item yet, so it is gone: the change was made, and evicted.
                debug_assert!(context.shard.peek(hash, key, now_ms).is_none());
                let mut lost = vec![0; new_bytes];
                self.edit.apply(old_bytes, &mut Target::Copy(&mut lost), &mut reply);
            }
        }
        Step::Done(Flow::Continue)
    }
}

impl Task for Rewriting {
    fn step(&mut self, context: &mut Context<'_>) -> Step {
        let Some(mut rewrite) = self.rewrite.take() else { return Step::Done(Flow::Continue) };
        match rewrite.copy_slice(context.shard, context.now_ms) {
            Ok(true) => self.finish(context, rewrite),
            Ok(false) => {
                self.rewrite = Some(rewrite);
                Step::More
            }
            Err(error) => {
                rewrite.abort(context.shard);
                context.set_error(&error);
                Step::Done(Flow::Continue)
            }
        }
    }

    fn abandon(&mut self, shard: &mut Shard) {
        if let Some(rewrite) = self.rewrite.take() {
            rewrite.abort(shard);
        }
    }

    fn memory_bytes(&self) -> usize {
        let short = match &self.rewrite {
            Some(Rewrite { source: Source::Short(bytes), .. }) => bytes.len(),
            _ => 0,
        };
        size_of::<Self>() + 2 * self.key.len() + short + self.edit.memory_bytes()
    }
}
