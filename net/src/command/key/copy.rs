//! COPY: a second item with the same value, flags and deadline.
//!
//! A long value is copied in slices. The task holds the value that it began with (a pin), so it
//! copies one version; at its end that must still be the one that its key has, or it begins again,
//! for COPY is one step to everybody else. A value that is rewritten faster than it can be copied
//! is given up with an error after [`COPY_TRIES_MAX`] times.

use pinion_engine::{
    Condition, Deadline, LargeWrite, PinnedValue, SetError, SetOptions, Shard, Stored,
};

use super::super::context::{Arguments, Context, Flow};
use super::super::slices::refuse_pin;
use super::super::task::{Step, Task};
use super::rename::SAME_OBJECT;
use super::{database, selected};
use crate::core::limits::{COPY_PIECE_BYTES, COPY_TRIES_MAX, DIRECT_BYTES_MAX, SLICE_BYTES};

/// A key in a database, for use beyond the command's turn.
#[derive(Debug)]
struct Place {
    database: u8,
    key: Box<[u8]>,
}

/// What COPY is asked for.
struct Request<'a> {
    source: (u8, &'a [u8]),
    target: (u8, &'a [u8]),
    replaces: bool,
}

pub(super) fn copy(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let Some(request) = parse(context, args) else { return Flow::Continue };
    if request.source == request.target {
        context.error(SAME_OBJECT);
        return Flow::Continue;
    }
    let Request { source: (_, key), target: (target, new_key), replaces } = request;
    let new_hash = context.shard.hash_in(target, new_key);
    let is_taken = !replaces && context.shard.peek(new_hash, new_key, context.now_ms).is_some();
    let entry = context.shard.peek(context.first_hash, key, context.now_ms);
    context.counters.hits += u64::from(entry.is_some());
    context.counters.misses += u64::from(entry.is_none());
    let Some(entry) = entry.filter(|_| !is_taken) else {
        context.reply().integer(0);
        return Flow::Continue;
    };
    if entry.value.len() <= DIRECT_BYTES_MAX {
        let value = entry.value.to_vec();
        let options = options(replaces, entry.flags(), entry.deadline_ms());
        let stored = context.shard.set(new_hash, new_key, &value, &options, context.now_ms);
        answer(context, stored);
        return Flow::Continue;
    }
    let place = |(database, key): (u8, &[u8])| Place { database, key: key.into() };
    Flow::Later(Box::new(Copying {
        source: place(request.source),
        target: place(request.target),
        replaces,
        tries: 0,
        running: None,
    }))
}

fn parse<'a>(context: &mut Context<'_>, args: &Arguments<'a>) -> Option<Request<'a>> {
    let (mut replaces, mut target, mut index) = (false, selected(context), 3);
    while index < args.len() {
        if args.is(index, "REPLACE") {
            replaces = true;
        } else if args.is(index, "DB") && index + 1 < args.len() {
            index += 1;
            target = database(context, args.at(index))?;
        } else {
            context.syntax_error();
            return None;
        }
        index += 1;
    }
    let source = (selected(context), args.at(1));
    Some(Request { source, target: (target, args.at(2)), replaces })
}

fn options(replaces: bool, flags: u32, deadline_ms: Option<u64>) -> SetOptions {
    SetOptions {
        condition: if replaces { Condition::Always } else { Condition::IfAbsent },
        flags: Some(flags),
        deadline: deadline_ms.map_or(Deadline::None, Deadline::At),
        ..SetOptions::default()
    }
}

fn answer(context: &mut Context<'_>, stored: Result<Stored, SetError>) {
    match stored {
        Ok(stored) => {
            let copied = matches!(stored, Stored::Stored { .. });
            context.reply().integer(i64::from(copied));
        }
        Err(error) => context.set_error(&error),
    }
}

/// A copy of a long value.
#[derive(Debug)]
struct Copying {
    source: Place,
    target: Place,
    replaces: bool,
    tries: u32,
    running: Option<Running>,
}

/// What the shard holds for a copy.
#[derive(Debug)]
struct Running {
    /// The version that is copied.
    version: u64,
    pinned: PinnedValue,
    write: LargeWrite,
}

impl Copying {
    /// Begins to copy what the source is now; `None` when the command has been answered instead.
    fn begin(&mut self, context: &mut Context<'_>) -> Option<Running> {
        let (shard, now_ms) = (&mut *context.shard, context.now_ms);
        let hash = shard.hash_in(self.source.database, &self.source.key);
        let entry = shard.peek(hash, &self.source.key, now_ms);
        let Some((version, bytes)) = entry.map(|entry| (entry.version(), entry.value.len())) else {
            context.reply().integer(0);
            return None;
        };
        self.tries += 1;
        if self.tries > COPY_TRIES_MAX {
            context.error("ERR the value changes faster than it can be copied");
            return None;
        }
        let pinned = match shard.pin(hash, &self.source.key, now_ms) {
            Ok(Some(pinned)) => pinned,
            Ok(None) => {
                // It has become so short that it is copied at once.
                self.finish_short(context);
                return None;
            }
            Err(_) => {
                refuse_pin(context);
                return None;
            }
        };
        match shard.begin_large(&self.target.key, bytes) {
            Ok(write) => Some(Running { version, pinned, write }),
            Err(error) => {
                shard.unpin(pinned);
                context.set_error(&error);
                None
            }
        }
    }

    fn finish_short(&self, context: &mut Context<'_>) {
        let (shard, now_ms) = (&mut *context.shard, context.now_ms);
        let hash = shard.hash_in(self.source.database, &self.source.key);
        let Some(entry) = shard.peek(hash, &self.source.key, now_ms) else {
            context.reply().integer(0);
            return;
        };
        let value = entry.value.to_vec();
        let options = options(self.replaces, entry.flags(), entry.deadline_ms());
        let hash = shard.hash_in(self.target.database, &self.target.key);
        let stored = shard.set(hash, &self.target.key, &value, &options, now_ms);
        answer(context, stored);
    }

    /// Ends a copy whose value is there whole: the new item appears, if the old one is what it was.
    /// Whether the command is answered.
    fn finish(&mut self, context: &mut Context<'_>, running: Running) -> bool {
        let (shard, now_ms) = (&mut *context.shard, context.now_ms);
        let Running { version, pinned, write } = running;
        shard.unpin(pinned);
        let hash = shard.hash_in(self.source.database, &self.source.key);
        let entry = shard.peek(hash, &self.source.key, now_ms);
        let Some(entry) = entry.filter(|entry| entry.version() == version) else {
            shard.abort_large(write);
            return false;
        };
        let options = options(self.replaces, entry.flags(), entry.deadline_ms());
        let hash = shard.hash_in(self.target.database, &self.target.key);
        let stored = shard.finish_large(write, hash, &options, now_ms);
        answer(context, stored);
        true
    }
}

impl Running {
    /// Copies a slice. Whether that was all.
    fn go_on(&mut self, shard: &mut Shard, now_ms: u64) -> Result<bool, SetError> {
        let mut piece = [0; COPY_PIECE_BYTES];
        let mut copied_bytes = 0;
        while copied_bytes < SLICE_BYTES && self.write.missing_bytes() > 0 {
            let offset = self.pinned.len() - self.write.missing_bytes();
            let chunk = shard.pinned_chunk(&self.pinned, offset);
            let piece = &mut piece[..chunk.len().min(COPY_PIECE_BYTES)];
            piece.copy_from_slice(&chunk[..piece.len()]);
            let taken_bytes = shard.append_large(&mut self.write, piece, now_ms)?;
            copied_bytes += taken_bytes;
            if taken_bytes < piece.len() {
                // Room is being made: the next slice goes on with that.
                break;
            }
        }
        Ok(self.write.missing_bytes() == 0)
    }
}

impl Task for Copying {
    fn step(&mut self, context: &mut Context<'_>) -> Step {
        let running = self.running.take().or_else(|| self.begin(context));
        let Some(mut running) = running else { return Step::Done(Flow::Continue) };
        match running.go_on(context.shard, context.now_ms) {
            Ok(true) => match self.finish(context, running) {
                true => Step::Done(Flow::Continue),
                false => Step::More,
            },
            Ok(false) => {
                self.running = Some(running);
                Step::More
            }
            Err(error) => {
                self.running = Some(running);
                self.abandon(context.shard);
                context.set_error(&error);
                Step::Done(Flow::Continue)
            }
        }
    }

    fn abandon(&mut self, shard: &mut Shard) {
        if let Some(Running { pinned, write, .. }) = self.running.take() {
            shard.unpin(pinned);
            shard.abort_large(write);
        }
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Copying>() + self.source.key.len() + self.target.key.len()
    }
}
