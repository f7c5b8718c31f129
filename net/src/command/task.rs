//! Commands whose work grows with the keyspace or with large values. They are executed in slices,
//! one a turn, so that no other connection waits longer for them than for a batch.
//!
//! A command returns [`Flow::Later`] with a [`Task`] that holds its arguments and what it has found
//! so far. Its connection executes nothing else until the task is done, so replies stay in order.
//! A task that changes items checks at its last step what it relies on, since others run between.

use pinion_engine::Shard;

use super::context::{Context, Flow};

/// What a slice came to.
#[derive(Debug)]
pub enum Step {
    /// There is more to do. Nothing was written to the reply.
    More,
    /// The reply is written, and the command ends like any other.
    Done(Flow),
}

/// A command that is executed in slices.
pub trait Task: std::fmt::Debug {
    /// Does a slice of the work: some 100 microseconds at most.
    fn step(&mut self, context: &mut Context<'_>) -> Step;

    /// Gives back what the task holds of the shard: its connection is gone, and no slice follows.
    fn abandon(&mut self, _shard: &mut Shard) {}

    /// Memory that the task holds.
    fn memory_bytes(&self) -> usize;
}
