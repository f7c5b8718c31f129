//! DUMP: a value in Redis's serialization (`rdb`).
//!
//! Values that lie in one piece are packed, as Redis does by default. Longer ones are not: only
//! their checksum is computed, and beyond [`DUMP_DIRECT_BYTES_MAX`] that is done in slices, and the
//! reply refers to their pages as GET's does. Redis understands both.

use pinion_engine::{PinnedValue, Shard, Value};

use super::super::context::{Arguments, Context, Flow};
use super::super::slices::refuse_pin;
use super::super::task::{Step, Task};
use super::{crc64, rdb, refuse_reply};
use crate::core::limits::{DUMP_DIRECT_BYTES_MAX, DUMP_SLICE_BYTES};
use crate::protocol::resp::{Version, Writer};

pub(super) fn dump(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let (key, hash, start) = (args.at(1), context.first_hash, context.out.len());
    let entry = context.shard.peek(hash, key, context.now_ms);
    let is_there = entry.is_some();
    context.counters.hits += u64::from(is_there);
    context.counters.misses += u64::from(!is_there);
    let Some(entry) = entry else {
        context.reply().null();
        return Flow::Continue;
    };
    if entry.value.len() <= DUMP_DIRECT_BYTES_MAX {
        let payload = payload_of(&entry.value);
        if payload.len() > context.room_now_bytes {
            return context.without_room(start, refuse_reply);
        }
        context.reply().bulk(&payload);
        return Flow::Continue;
    }
    match context.shard.pin(hash, key, context.now_ms) {
        Ok(Some(pinned)) => Flow::Later(Box::new(Dumping::new(pinned))),
        // The item has just been found, and is long: so the bound on readers is what there is.
        Ok(None) | Err(_) => {
            refuse_pin(context);
            Flow::Continue
        }
    }
}

fn payload_of(value: &Value<'_>) -> Vec<u8> {
    let mut payload = Vec::with_capacity(value.len() + 32);
    match value.as_slice() {
        Some(bytes) if bytes.len() < usize::from(u16::MAX) => rdb::put_short(&mut payload, bytes),
        _ => {
            payload.extend_from_slice(&rdb::plain_prefix(value.len()));
            value.chunks().for_each(|chunk| payload.extend_from_slice(chunk));
        }
    }
    rdb::put_version(&mut payload);
    let sum = crc64::extend(0, &payload);
    rdb::put_checksum(&mut payload, sum);
    payload
}

/// The dump of a long value: its checksum comes first, then the reply.
#[derive(Debug)]
struct Dumping {
    /// Given away at the end.
    pinned: Option<PinnedValue>,
    prefix: Vec<u8>,
    summed_bytes: usize,
    sum: u64,
}

impl Dumping {
    fn new(pinned: PinnedValue) -> Dumping {
        let prefix = rdb::plain_prefix(pinned.len());
        let sum = crc64::extend(0, &prefix);
        Dumping { pinned: Some(pinned), prefix, summed_bytes: 0, sum }
    }
}

impl Task for Dumping {
    fn step(&mut self, context: &mut Context<'_>) -> Step {
        let Some(pinned) = &self.pinned else { return Step::Done(Flow::Continue) };
        let pause_at = self.summed_bytes + DUMP_SLICE_BYTES;
        while self.summed_bytes < pinned.len() {
            if self.summed_bytes >= pause_at {
                return Step::More;
            }
            let chunk = context.shard.pinned_chunk(pinned, self.summed_bytes);
            self.sum = crc64::extend(self.sum, chunk);
            self.summed_bytes += chunk.len();
        }
        let mut footer = Vec::with_capacity(rdb::FOOTER_BYTES);
        rdb::put_version(&mut footer);
        let sum = crc64::extend(self.sum, &footer);
        rdb::put_checksum(&mut footer, sum);
        let payload_bytes = self.prefix.len() + pinned.len() + footer.len();
        Writer::new(context.out, Version::Resp2).bulk_header(payload_bytes);
        context.out.extend_from_slice(&self.prefix);
        if let Some(pinned) = self.pinned.take() {
            context.pins.push((context.out.len(), pinned));
        }
        context.out.extend_from_slice(&footer);
        Writer::new(context.out, Version::Resp2).bulk_end();
        Step::Done(Flow::Continue)
    }

    fn abandon(&mut self, shard: &mut Shard) {
        if let Some(pinned) = self.pinned.take() {
            shard.unpin(pinned);
        }
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Dumping>() + self.prefix.capacity()
    }
}
