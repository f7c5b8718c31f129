//! Transactions: MULTI, EXEC, DISCARD, and WATCH, which makes EXEC depend on keys.
//!
//! Between MULTI and EXEC commands are checked as ever, and their frames are kept. EXEC hands them
//! to the core, which executes them one after the other within the turn, so nobody else sees or
//! changes anything in between.
//!
//! WATCH remembers an item's version and deadline, or that there is none. Versions are never used
//! twice in a shard, so EXEC compares instead of being told of changes: a write costs nothing more
//! because somebody watches. A key that was absent, came and went again counts as unchanged, since
//! nothing tells it from one that was never there.
//!
//! - X1. A transaction that a command could not be queued for is never executed.
//! - X2. Its frames fit the memory for buffers when they are queued, and number
//!   [`TRANSACTION_COMMANDS_MAX`] at most.

use pinion_engine::{SetError, Shard};
use pinion_router::Slot;

use super::context::{Arguments, Context, Flow};
use super::spec::{KeySpec, Spec};
use crate::connection::LargeValue;
use crate::core::limits::{TRANSACTION_COMMANDS_MAX, WATCHES_MAX};

/// The family.
pub(super) const COMMANDS: &[Spec] = &[
    Spec::new("discard", 1, discard)
        .flags("noscript loading stale fast allow_busy")
        .categories("@fast @transaction")
        .since("2.0.0")
        .cost("O(N) in the number of large values among the commands")
        .summary("Gives up the commands collected since MULTI."),
    Spec::new("exec", 1, exec)
        .flags("noscript loading stale skip_slowlog")
        .categories("@slow @transaction")
        .since("1.2.0")
        .cost("The sum of the commands' costs, and O(N) in the number of watched keys")
        .summary("Runs the commands collected since MULTI, nothing else in between."),
    Spec::new("multi", 1, multi)
        .flags("noscript loading stale fast allow_busy")
        .categories("@fast @transaction")
        .since("1.2.0")
        .summary("Begins to collect commands for EXEC."),
    Spec::new("unwatch", 1, unwatch)
        .flags("noscript loading stale fast allow_busy")
        .categories("@fast @transaction")
        .since("2.2.0")
        .cost("O(N) in the number of watched keys")
        .summary("Forgets all watched keys."),
    Spec::new("watch", -2, watch)
        .flags("noscript loading stale fast allow_busy")
        .categories("@fast @transaction")
        .keys(&[KeySpec::new("RO", 1, -1, 1)])
        .since("2.2.0")
        .cost("O(N) in the number of keys")
        .summary("Lets the next EXEC run only if these keys have not changed by then."),
];

/// A command that waits for EXEC.
#[derive(Debug)]
pub struct Queued {
    /// What it is.
    pub spec: &'static Spec,
    /// The number under which it is counted.
    pub number: u16,
    from: u32,
    to: u32,
    /// Its value, if that was so large that it arrived in pieces.
    large: Option<LargeValue>,
}

/// The commands since MULTI.
#[derive(Debug, Default)]
pub struct Transaction {
    frames: Vec<u8>,
    queue: Vec<Queued>,
    /// Whether a command could not be queued (X1).
    is_spoilt: bool,
    has_writes: bool,
    /// The core of its keys, once it has one.
    core: Option<u16>,
    /// The slot of its keys, where commands are told apart by that.
    slot: Option<Slot>,
    /// Whether keys of another slot have come, too.
    is_crossed: bool,
}

impl Transaction {
    /// The core of its keys, once it has one, among several.
    pub fn core(&self) -> Option<usize> {
        self.core.map(usize::from)
    }

    /// Tells which core its keys are on.
    pub fn set_core(&mut self, core: usize) {
        self.core = Some(core as u16);
    }

    /// Memory that it takes, without large values: these are the shard's.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Transaction>()
            + self.frames.capacity()
            + self.queue.capacity() * size_of::<Queued>()
    }

    /// The commands and their frames.
    pub fn commands(&self) -> impl Iterator<Item = (&'static Spec, &[u8])> {
        let frames = &self.frames;
        self.queue
            .iter()
            .map(|queued| (queued.spec, &frames[queued.from as usize..queued.to as usize]))
    }

    /// Bytes of the frames.
    pub fn frame_bytes(&self) -> usize {
        self.frames.len()
    }

    /// How many commands it holds.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether it holds no command.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether it holds a command that may change items.
    pub fn has_writes(&self) -> bool {
        self.has_writes
    }

    /// The command at an index, its frame, and its value if that arrived in pieces, which is given
    /// once.
    pub fn take(&mut self, index: usize) -> Option<(&Queued, &[u8], Option<LargeValue>)> {
        let queued = self.queue.get_mut(index)?;
        let large = queued.large.take();
        Some((queued, &self.frames[queued.from as usize..queued.to as usize], large))
    }

    /// Lets EXEC refuse it: a command could not be queued.
    pub fn spoil(&mut self) {
        self.is_spoilt = true;
    }

    /// Notes the slot of the keys of a command that is to be queued: EXEC refuses a transaction
    /// over several. Once it is spoilt it counts no more, since the command is not executed.
    pub fn note_slot(&mut self, slot: Slot) {
        if !self.is_spoilt {
            self.is_crossed |= *self.slot.get_or_insert(slot) != slot;
        }
    }

    /// Whether EXEC refuses it because its keys are in several slots.
    pub fn is_crossed(&self) -> bool {
        self.is_crossed
    }

    /// Gives back what the shard holds for it.
    pub fn abort(self, shard: &mut Shard) {
        for queued in self.queue {
            if let Some(large) = queued.large {
                large.abort(shard);
            }
        }
    }
}

/// Keys that WATCH has looked at.
#[derive(Debug, Default)]
pub struct Watches {
    list: Vec<Watch>,
    key_bytes: usize,
    /// The core that has looked at them.
    core: u16,
}

#[derive(Debug)]
struct Watch {
    db: u8,
    key: Box<[u8]>,
    /// Version and deadline of the item, if there was one.
    seen: Option<(u64, Option<u64>)>,
}

impl Watches {
    /// Memory that they take.
    #[inline]
    pub fn memory_bytes(&self) -> usize {
        self.list.capacity() * size_of::<Watch>() + self.key_bytes
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The core that has looked at them, if there are any.
    pub fn core(&self) -> Option<usize> {
        (!self.is_empty()).then_some(usize::from(self.core))
    }

    /// Adds those that the same core has looked at later.
    pub fn add(&mut self, mut later: Watches) {
        self.core = later.core;
        self.key_bytes += later.key_bytes;
        self.list.append(&mut later.list);
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        *self = Watches::default();
    }
}

/// Whether a command is executed at once although a transaction is being collected.
fn is_immediate(spec: &Spec) -> bool {
    matches!(spec.name, "exec" | "discard" | "multi" | "watch" | "quit" | "reset")
}

/// Keeps a command for EXEC, if a transaction is being collected and the command is not about the
/// transaction itself. Whether it was dealt with.
pub(super) fn queue(
    context: &mut Context<'_>,
    spec: &'static Spec,
    number: u16,
    args: &Arguments<'_>,
) -> bool {
    if is_immediate(spec) {
        return false;
    }
    if spec.is_single {
        context.reject(number, "ERR Command not allowed inside a transaction");
        return true;
    }
    let (frame, large, room_bytes) = (args.frame(), context.large.take(), context.room_bytes);
    let Some(transaction) = &mut context.session.transaction else { return false };
    // A large value that came in pieces has asked the shard for memory already.
    let fits = !matches!(large, Some(LargeValue::Refused(SetError::NoSpace)))
        && transaction.frames.len() + frame.len() <= room_bytes
        && transaction.frames.len() + frame.len() <= u32::MAX as usize
        && transaction.queue.len() < TRANSACTION_COMMANDS_MAX;
    if !fits {
        context.large = large;
        context.reject(number, "OOM transaction does not fit into the memory left for buffers");
        return true;
    }
    let from = transaction.frames.len() as u32;
    transaction.frames.extend_from_slice(frame);
    let to = transaction.frames.len() as u32;
    transaction.queue.push(Queued { spec, number, from, to, large });
    transaction.has_writes |= spec.is_write;
    context.session.recount();
    context.reply().simple("QUEUED");
    true
}

fn multi(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    if context.session.transaction.is_some() {
        context.error("ERR MULTI calls can not be nested");
    } else {
        context.session.transaction = Some(Box::default());
        context.session.recount();
        context.reply().ok();
    }
    Flow::Continue
}

fn discard(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    if context.session.transaction.is_none() {
        context.error("ERR DISCARD without MULTI");
        return Flow::Continue;
    }
    context.session.watches.clear();
    context.session.discard(context.shard);
    context.reply().ok();
    Flow::Continue
}

const CROSSED: &str = "CROSSSLOT Keys in request don't hash to the same slot";

fn exec(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    let Some(transaction) = context.session.transaction.take() else {
        context.error("ERR EXEC without MULTI");
        return Flow::Continue;
    };
    let unchanged = !transaction.is_spoilt && are_unchanged(context);
    context.session.watches.clear();
    context.session.recount();
    if transaction.is_crossed {
        transaction.abort(context.shard);
        context.error(CROSSED);
    } else if transaction.is_spoilt {
        transaction.abort(context.shard);
        context.error("EXECABORT Transaction discarded because of previous errors.");
    } else if !unchanged {
        transaction.abort(context.shard);
        context.reply().null_array();
    } else {
        context.reply().array(transaction.len());
        return Flow::Exec(transaction);
    }
    Flow::Continue
}

/// Begins to execute a transaction that has come from another core, with what was watched in the
/// session. Whether its commands are to be executed; if not, it is answered.
pub fn begin_exec(context: &mut Context<'_>, transaction: &Transaction) -> bool {
    let unchanged = !transaction.is_spoilt && are_unchanged(context);
    context.session.watches.clear();
    if transaction.is_spoilt {
        context.error("EXECABORT Transaction discarded because of previous errors.");
    } else if !unchanged {
        context.reply().null_array();
    } else {
        context.reply().array(transaction.len());
        return true;
    }
    false
}

/// Refuses an EXEC with arguments, which ends the transaction as any EXEC does.
pub(super) fn abort(context: &mut Context<'_>) {
    context.session.discard(context.shard);
    context.session.watches.clear();
    let text = "wrong number of arguments for 'exec' command";
    context.error(&format!("EXECABORT Transaction discarded because of: {text}"));
}

/// Whether all watched keys are as WATCH saw them.
fn are_unchanged(context: &mut Context<'_>) -> bool {
    let now_ms = context.now_ms;
    context.session.watches.list.iter().all(|watch| {
        let hash = context.shard.hash_in(watch.db, &watch.key);
        let entry = context.shard.peek(hash, &watch.key, now_ms);
        entry.map(|entry| (entry.version(), entry.deadline_ms())) == watch.seen
    })
}

fn watch(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if context.session.transaction.is_some() {
        context.error("ERR WATCH inside MULTI is not allowed");
        return Flow::Continue;
    }
    let key_bytes: usize = args.from(1).map(<[u8]>::len).sum();
    let count = context.session.watches.len() + args.len() - 1;
    let memory_bytes = context.session.watches.key_bytes + key_bytes;
    if count > WATCHES_MAX || memory_bytes > context.room_bytes {
        context.error("OOM too many watched keys");
        return Flow::Continue;
    }
    let db = context.session.db;
    for key in args.from(1) {
        let hash = context.hash(key);
        let entry = context.shard.peek(hash, key, context.now_ms);
        let seen = entry.map(|entry| (entry.version(), entry.deadline_ms()));
        context.session.watches.list.push(Watch { db, key: key.into(), seen });
    }
    context.session.watches.key_bytes = memory_bytes;
    context.session.watches.core = context.settings.core;
    context.session.recount();
    context.reply().ok();
    Flow::Continue
}

fn unwatch(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    context.session.watches.clear();
    context.session.recount();
    context.reply().ok();
    Flow::Continue
}
