//! Reading large values in slices: a scan goes through a range of a value, chunk by chunk. A short
//! range is read at once, a long one by a task, which pins the value: it reads one version of it
//! whatever others do meanwhile.

use pinion_engine::{KeyHash, PinnedValue, Shard};

use super::context::{Context, Flow};
use super::task::{Step, Task};
use crate::core::limits::{DIRECT_BYTES_MAX, SLICE_BYTES};

/// What a command does with the bytes of a value.
pub(super) trait Scan: std::fmt::Debug {
    /// Reads the next bytes of the range; whether it has seen enough.
    fn read(&mut self, bytes: &[u8]) -> bool;

    /// Answers, after all of the range was read, or enough of it.
    fn answer(&self, context: &mut Context<'_>);
}

/// What a read answers when the values that are being read are as many as may be.
pub const PIN_REFUSAL: &str = "OOM too many large values are being read at once, try again later";

/// Answers that the memory for values that are being read is used up.
pub(super) fn refuse_pin(context: &mut Context<'_>) {
    context.error(PIN_REFUSAL);
}

/// Reads the bytes from `start` to before `end` of a key's value, and answers: now or, when they
/// are many, in slices.
pub(super) fn scan<S: Scan + 'static>(
    context: &mut Context<'_>,
    hash: KeyHash,
    key: &[u8],
    (start, end): (usize, usize),
    mut scan: S,
) -> Flow {
    if end.saturating_sub(start) <= DIRECT_BYTES_MAX {
        if let Some(entry) = context.shard.peek(hash, key, context.now_ms) {
            // The chunks end where the scan has seen enough.
            let _ = entry.value.part(start, end).any(|chunk| scan.read(chunk));
        }
        scan.answer(context);
        return Flow::Continue;
    }
    match context.shard.pin(hash, key, context.now_ms) {
        Ok(Some(mut pinned)) => {
            pinned.narrow(start, end);
            Flow::Later(Box::new(Scanning { pinned: Some(pinned), read_bytes: 0, scan }))
        }
        // The caller has just found a value of this length, so the bound is what there is.
        Ok(None) | Err(_) => {
            refuse_pin(context);
            Flow::Continue
        }
    }
}

/// A scan in slices.
#[derive(Debug)]
struct Scanning<S> {
    pinned: Option<PinnedValue>,
    read_bytes: usize,
    scan: S,
}

impl<S: Scan> Task for Scanning<S> {
    fn step(&mut self, context: &mut Context<'_>) -> Step {
        if let Some(pinned) = &self.pinned {
            let slice_end = self.read_bytes + SLICE_BYTES;
            while self.read_bytes < slice_end {
                let chunk = context.shard.pinned_chunk(pinned, self.read_bytes);
                self.read_bytes += chunk.len();
                if chunk.is_empty() || self.scan.read(chunk) {
                    self.abandon(context.shard);
                    self.scan.answer(context);
                    return Step::Done(Flow::Continue);
                }
            }
        }
        Step::More
    }

    fn abandon(&mut self, shard: &mut Shard) {
        if let Some(pinned) = self.pinned.take() {
            shard.unpin(pinned);
        }
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>()
    }
}
