//! RANDOMKEY: some key, from a random place of the shard's walk on.
//!
//! One item of the bucket there is drawn; an empty bucket is passed, and so are buckets with items
//! of other databases alone. So a key behind a gap is drawn more often than others, as in Redis.
//! While the database holds a good part of the shard's items, that takes a few buckets; where it
//! holds next to nothing, a task looks for it, and ends after one round over the table.

use pinion_engine::KeyHash;

use super::super::context::{Arguments, Context, Flow};
use super::super::task::{Step, Task};
use super::{refuse_reply, selected};
use crate::core::limits::RANDOM_BUCKETS_PER_SLICE;
use crate::protocol::resp::Writer;

/// A search that is under way.
#[derive(Debug)]
struct Search {
    database: u8,
    begin: u32,
    position: u32,
    has_wrapped: bool,
    /// What decides which item of a bucket is drawn.
    lot: u32,
}

/// Bits that no client can foresee: the shard's hash has a secret seed.
fn random_bits(context: &Context<'_>) -> KeyHash {
    let mut input = [0; 16];
    input[..8].copy_from_slice(&context.counters.commands.to_le_bytes());
    input[8..].copy_from_slice(&context.now_ms.to_le_bytes());
    context.shard.hash(&input)
}

pub(super) fn randomkey(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    let database = selected(context);
    if context.shard.database_stats(database).items == 0 {
        context.reply().null();
        return Flow::Continue;
    }
    let bits = random_bits(context).bits();
    let (begin, lot) = (bits as u32, (bits >> 40) as u32);
    let mut search = Search { database, begin, position: begin, has_wrapped: false, lot };
    match search.step(context) {
        Step::More => Flow::Later(Box::new(search)),
        Step::Done(flow) => flow,
    }
}

impl Search {
    /// Passes a bucket. Whether the round is over.
    fn pass(&mut self, next: Option<u32>) -> bool {
        match next {
            Some(next) => self.position = next,
            None if self.has_wrapped => return true,
            None => (self.has_wrapped, self.position) = (true, 0),
        }
        self.has_wrapped && self.position > self.begin
    }
}

impl Task for Search {
    fn step(&mut self, context: &mut Context<'_>) -> Step {
        let (database, now_ms) = (self.database, context.now_ms);
        for _ in 0..RANDOM_BUCKETS_PER_SLICE {
            let mut count = 0;
            let next = context.shard.scan(database, self.position, now_ms, |_, _| count += 1);
            if count > 0 {
                draw(context, database, self.position, self.lot % count);
                return Step::Done(Flow::Continue);
            }
            if self.pass(next) {
                context.reply().null();
                return Step::Done(Flow::Continue);
            }
        }
        Step::More
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Search>()
    }
}

/// Answers with the item of this number in a bucket.
fn draw(context: &mut Context<'_>, database: u8, position: u32, number: u32) {
    let (out, version) = (&mut *context.out, context.session.version());
    let (mut index, mut fits) = (0, true);
    context.shard.scan(database, position, context.now_ms, |key, _| {
        if index == number {
            fits = key.len() <= context.room_bytes;
            if fits {
                Writer::new(out, version).bulk(key);
            }
        }
        index += 1;
    });
    if !fits {
        refuse_reply(context);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_passes_every_place_once() {
        for begin in [0, 1, 400, u32::MAX] {
            let mut search =
                Search { database: 0, begin, position: begin, has_wrapped: false, lot: 0 };
            let (mut places, step) = (vec![begin], 1 << 28);
            loop {
                let width = search.position / step * step;
                let next = width.checked_add(step);
                if search.pass(next) {
                    break;
                }
                places.push(search.position);
            }
            let buckets: std::collections::BTreeSet<u32> =
                places.iter().map(|place| place / step).collect();
            assert_eq!(buckets.len(), 16, "from {begin}");
            assert!(places.len() <= 17, "from {begin}: {places:?}");
        }
    }
}
