//! CLUSTER COUNTKEYSINSLOT and GETKEYSINSLOT: walks over the keys of the shard that pick out those
//! of one slot. There is no index by slot: it would cost every write, and these two are for
//! operators who look after a cluster whose slots move, as they never do here.
//!
//! Both work in slices of [`WALK_UNITS_PER_SLICE`], as KEYS does; what does not fit the first
//! becomes a task. Keys that come or go meanwhile may be counted or not.
//!
//! Memory: the reply, which is refused beyond what the replies' memory allows.

use pinion_router::{Slot, slot};

use super::super::context::{Context, Flow};
use super::super::task::{Step, Task};
use crate::core::limits::{WALK_BYTES_PER_UNIT, WALK_UNITS_PER_BUCKET, WALK_UNITS_PER_SLICE};
use crate::protocol::resp::{Version, Writer};

/// A walk, and what it has found.
#[derive(Debug)]
struct Walk {
    database: u8,
    slot: Slot,
    /// Where it goes on; `None` behind the last bucket.
    position: Option<u32>,
    /// Keys of the slot that were met.
    count: usize,
    /// The keys that are to be listed, as bulk strings; `None` if they are only counted.
    found: Option<Vec<u8>>,
    /// How many are enough.
    keys_max: usize,
}

/// Counts the keys of a slot.
pub(super) fn count(context: &mut Context<'_>, slot: Slot) -> Flow {
    run(context, slot, None, usize::MAX)
}

/// Lists keys of a slot, so many at most.
pub(super) fn list(context: &mut Context<'_>, slot: Slot, keys_max: usize) -> Flow {
    run(context, slot, Some(Vec::new()), keys_max)
}

/// Executes the first slice at once, and leaves the rest to a task.
fn run(context: &mut Context<'_>, slot: Slot, found: Option<Vec<u8>>, keys_max: usize) -> Flow {
    let database = context.session.db;
    let mut walk = Walk { database, slot, position: Some(0), count: 0, found, keys_max };
    match walk.step(context) {
        Step::More => Flow::Later(Box::new(walk)),
        Step::Done(flow) => flow,
    }
}

impl Walk {
    /// Looks at a key. Returns the units of work.
    fn meet(&mut self, key: &[u8]) -> usize {
        if self.count < self.keys_max && slot(key) == self.slot {
            self.count += 1;
            if let Some(found) = &mut self.found {
                Writer::new(found, Version::Resp2).bulk(key);
            }
        }
        1 + key.len() / WALK_BYTES_PER_UNIT
    }

    fn found_bytes(&self) -> usize {
        self.found.as_ref().map_or(0, Vec::len)
    }

    fn answer(&self, context: &mut Context<'_>) {
        match &self.found {
            None => context.reply().integer(self.count as i64),
            Some(found) => {
                context.reply().array(self.count);
                context.out.extend_from_slice(found);
            }
        }
    }
}

impl Task for Walk {
    fn step(&mut self, context: &mut Context<'_>) -> Step {
        let mut units = 0;
        while let Some(position) = self.position
            && self.count < self.keys_max
        {
            if units >= WALK_UNITS_PER_SLICE {
                return Step::More;
            }
            units += WALK_UNITS_PER_BUCKET;
            let (database, now_ms) = (self.database, context.now_ms);
            self.position = context.shard.scan(database, position, now_ms, |key, _| {
                units += self.meet(key);
            });
            if self.found_bytes() > context.room_bytes {
                context.error("OOM reply does not fit into the memory left for buffers");
                return Step::Done(Flow::Continue);
            }
        }
        self.answer(context);
        Step::Done(Flow::Continue)
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Walk>() + self.found.as_ref().map_or(0, Vec::capacity)
    }
}
