//! Every constant that sizes a layout or bounds a loop, with the relations between them.
//!
//! A shard must never take long over one call, so each loop of the crate is bounded either by one
//! of these constants or by the bytes of the item that the call itself brings. The relations are
//! asserted at compile time: changing one number alone does not build.

/// Bytes of a table line: one cache line.
pub(crate) const LINE_BYTES: usize = 64;
/// Items that one table line refers to.
pub(crate) const SLOTS_PER_LINE: usize = 10;
/// Bits of an item's byte offset in the log: 64 GiB a shard.
pub(crate) const OFFSET_BITS: u32 = 36;
/// Bits of an overflow line's index; index 0 means "none".
pub(crate) const OVERFLOW_INDEX_BITS: u32 = 21;
/// Overflow lines that a table can name.
pub(crate) const OVERFLOW_LINES_MAX: usize = (1 << OVERFLOW_INDEX_BITS) - 1;
/// The highest value of a slot's frequency counter.
pub(crate) const FREQUENCY_MAX: u8 = 15;

/// A bucket is split once the table holds more slots than this for each line in use. At 7 a table
/// takes 9.2 bytes an item at every item count.
pub(crate) const SPLIT_ITEMS_PER_LINE: u64 = 7;
/// The same while overflow lines are scarce: shorter chains for more memory.
pub(crate) const SPLIT_ITEMS_PER_LINE_SCARCE: u64 = 4;
/// Two buckets are merged once the table holds fewer slots than this for every four lines in use,
/// less those of a line, so that no split is followed by a merge. A wider gap would leave memory to
/// a table whose items have become larger and fewer.
pub(crate) const MERGE_ITEMS_PER_FOUR_LINES: u64 = 27;
/// Table lines that one insert can add: one overflow line, and one bucket by a split.
pub(crate) const LINES_PER_INSERT_MAX: usize = 2;

/// Bytes of an item that a batch's prefetch asks for at most: four lines.
pub(crate) const PREFETCH_BYTES_MAX: usize = 4 * LINE_BYTES;
/// Writes between two looks at the mean item.
pub(crate) const WRITES_PER_SURVEY: u64 = 1024;

/// The largest log reservation of a shard in bytes.
pub const LOG_BYTES_MAX: usize = 1 << OFFSET_BITS;
/// The smallest segment in bytes.
pub const SEGMENT_BYTES_MIN: usize = 4 << 10;
/// The largest segment in bytes, and the default where the limit has room for enough of them.
pub const SEGMENT_BYTES_MAX: usize = 256 << 10;
/// Segments that the default segment size leaves room for at least.
pub(crate) const SEGMENTS_WANTED: usize = 512;
/// Segments that a limit must have room for, whatever the segment size.
pub(crate) const SEGMENTS_MIN: usize = 16;
/// Steps of the policy that a write grants it beyond those that make room.
pub(crate) const BALANCE_STEPS: u64 = 32;
/// Segments from which on a window is wide enough to be kept at its share by whole segments.
pub(crate) const WIDE_WINDOW_SEGMENTS: u64 = 8;
/// Free segments that a shard keeps ahead of its writers: one for each queue's head, the one that
/// a write opens, one for the cleaner, and one to lend.
pub(crate) const SPARE_SEGMENTS: usize = 6;

/// Segments lent for one errand at most: 4 MiB of the largest segments, two huge pages.
pub(crate) const ERRAND_SEGMENTS_MAX: usize = 16;
/// Segments given back in one errand at most.
pub(crate) const RELEASE_SEGMENTS_MAX: usize = 64;
/// Free populated segments below which more are asked for.
pub(crate) const WARM_SEGMENTS_LOW: usize = 8;
/// Free segments beyond what the limit may use that are worth an errand.
pub(crate) const SURPLUS_SEGMENTS_MIN: usize = 4;
/// A shard keeps one free segment in this many that its limit allows, beside
/// [`ERRAND_SEGMENTS_MAX`].
pub(crate) const KEEP_ONE_FREE_IN: usize = 8;
/// Bytes of the table populated, or given back, in one errand at least: a huge page.
pub(crate) const TABLE_STEP_BYTES: usize = 2 << 20;
/// A table that has become smaller keeps one part in this many behind its end.
pub(crate) const TABLE_KEEP_ONE_IN: usize = 64;
/// A shard populates at most one part in this many of its limit ahead of the table.
pub(crate) const TABLE_STEP_SHARE: usize = 64;

/// The longest key in bytes that the item header can name.
pub const KEY_BYTES_MAX: usize = u16::MAX as usize;
/// Longer values live in pages (where a segment is small: values longer than a quarter of it).
pub(crate) const INLINE_VALUE_BYTES_MAX: usize = 32 << 10;
/// Bytes of a page (where a segment is small: a quarter of it).
pub(crate) const PAGE_BYTES_MAX: usize = 16 << 10;
/// Pages of the largest segment.
pub(crate) const PAGES_PER_SEGMENT_MAX: usize = SEGMENT_BYTES_MAX / PAGE_BYTES_MAX;
/// Bytes of a page's number in the item that owns it.
pub(crate) const PAGE_ID_BYTES: usize = 4;

/// Values being read at a time may take one part in this many of the total limit.
pub(crate) const PINNED_SHARE: usize = 4;
/// Values that are still arriving may take one part in this many of the total limit.
pub(crate) const ARRIVING_SHARE: usize = 4;
/// Bytes that one call takes of an arriving value.
pub(crate) const APPEND_BYTES_MAX: usize = 32 << 10;
/// Tail items that one such call examines, whatever it needs; the rest is left to the next call.
pub(crate) const APPEND_STEPS_MAX: u64 = 1024;
/// Such calls in a row that take nothing before the value is refused.
pub(crate) const APPEND_TRIES_MAX: u32 = 256;
/// Lists of held pages that are kept for reuse, and the page numbers that each may have room for.
pub(crate) const HELD_LISTS_KEPT_MAX: usize = 32;
pub(crate) const HELD_IDS_KEPT_MAX: usize = 1024;

/// Tail items that one write examines for free, before those that its own bytes pay for.
pub(crate) const TAIL_ITEMS_BASE: usize = 32;
/// Bytes of a write that pay for one more tail item.
pub(crate) const BYTES_PER_TAIL_ITEM: usize = 64;
/// Tail items that a write evicts at most beyond its budget while it fits all the same.
pub(crate) const FORCED_STEPS: u64 = 64;
/// A write that must have room may make the cleaner copy this many times what it may otherwise.
pub(crate) const FORCED_CLEANING: u64 = 4;
/// Items at the tail whose table lines are asked for ahead of the cursor.
pub(crate) const ITEMS_AHEAD: usize = 8;
/// Bytes that one write copies for free, before those that its own bytes pay for.
pub(crate) const COPY_BYTES_BASE: usize = 16 << 10;
/// Bytes copied that each byte of a write pays for. With garbage at its threshold a byte is gained
/// by copying twenty-one on average.
pub(crate) const COPY_BYTES_PER_BYTE: usize = 24;
/// Dead items at a queue's tail that one step passes.
pub(crate) const TAIL_LOOKS: usize = 8;
/// Room at the end of a segment is garbage when it is more than one part in this many: shorter
/// room may have been too short for the next item.
pub(crate) const SLACK_ONE_IN: usize = 3;
/// The same where the cleaner stopped before an item did not fit.
pub(crate) const CLEANED_SLACK_ONE_IN: usize = 64;
/// Segments that one step of the cleaner looks at.
pub(crate) const HAND_LOOKS: usize = 64;
/// Bytes of pages that one tail step copies at most to fuller segments.
pub(crate) const GATHER_BYTES_MAX: usize = 64 << 10;
/// A shard that evicts nothing compacts this many times harder before it refuses a write.
pub(crate) const COMPACT_HARDER: usize = 4;
/// An item may take one part in this many of the total limit.
pub(crate) const ITEM_SHARE: usize = 4;
/// A log with more garbage than one byte in this many is cleaned, in place of items being evicted.
pub(crate) const COMPACT_ONE_DEAD_IN: u64 = 22;

/// Bytes of a shard's limit for each item that the policy is sized for from the start, at some
/// hundred bytes: one part in forty.
pub(crate) const BYTES_PER_SIDE_ITEM: usize = 4 << 10;
/// Items for each line of the frequency sketch: four bytes an item.
pub(crate) const SKETCH_ITEMS_PER_LINE: u64 = 16;
/// Lines of the sketch at least, where the cache is not too small for it: 32 KiB. A small cache is
/// asked for many more keys than it has items.
pub(crate) const SKETCH_LINES_MIN: usize = 512;
/// Items that a cache must be able to hold for each line of its least sketch.
pub(crate) const SKETCH_ITEMS_PER_LINE_SMALL: u64 = 1;
/// Items for each line of the ghost filter: one byte an item.
pub(crate) const GHOST_ITEMS_PER_LINE: u64 = 64;
/// Keys of a ghost generation at least.
pub(crate) const GHOST_KEYS_PER_GENERATION_MIN: u64 = 8;
/// Evicted keys between two swept lines of the ghost filter: a generation sweeps all.
pub(crate) const GHOST_ADDS_PER_SWEEP: u32 = 32;

/// Uses an item after which frequencies are halved, in a cache of 64 items or fewer.
pub(crate) const AGEING_USES_SMALL: f64 = 30.0;
/// The same in a cache of 16,384 items or more.
pub(crate) const AGEING_USES_LARGE: f64 = 10.0;
/// A sweep should be over when this part of the period's uses was counted.
pub(crate) const AGEING_SWEEP_SHARE: u64 = 4;
/// Lines that one call brings up to date at most.
pub(crate) const AGEING_LINES_PER_CALL: usize = 8;

/// The window's share of the capacity at first.
pub(crate) const WINDOW_SHARE_START: f64 = 0.01;
/// The least share that the climber chooses.
pub(crate) const WINDOW_SHARE_MIN: f64 = 0.02;
/// The largest share that the climber chooses.
pub(crate) const WINDOW_SHARE_MAX: f64 = 0.98;
/// The protected queue's share of the main part. Less than the usual 0.8, as an item that is used
/// in probation stays there until the tail comes to it: the rest is for used items too.
pub(crate) const PROTECTED_SHARE: f64 = 0.7;
/// Requests an item between two moves of the climber.
pub(crate) const CLIMB_REQUESTS: u64 = 4;
/// The climber's step, for each e-fold by which one density exceeds the other.
pub(crate) const CLIMB_GAIN: f64 = 0.03;
/// The climber's longest step.
pub(crate) const CLIMB_STEP_MAX: f64 = 0.30;
/// A cache this many times as large shows the climber one hit in as many.
pub(crate) const HIT_SAMPLE_ITEMS: u64 = 8192;
/// Hits for each that the climber sees, at most.
pub(crate) const HIT_SAMPLE_MAX: u32 = 16;

/// Used items that a queue recycles in a row, or that an insert promotes.
pub(crate) const RECYCLES_MAX: u8 = 16;
/// Items that an insert moves at most because the window's share has changed.
pub(crate) const MOVES_PER_INSERT: u8 = 4;
/// Inserts between two looks at the number of items; small caches are looked at each time.
pub(crate) const INSERTS_PER_SURVEY: u64 = 64;
/// Candidate and victim count as at most this many times as costly as the other: a large item
/// needs more uses than a small one, but never more than this many times as many.
pub(crate) const COST_RATIO_MAX: u64 = 8;
/// A window item of at least this frequency that loses is admitted by chance.
pub(crate) const CHANCE_FREQUENCY_MIN: u8 = 6;
/// How rare that chance is.
pub(crate) const CHANCE_ONE_IN: u32 = 128;

/// The youngest part of the capacity in the LRU policy.
pub(crate) const LRU_YOUNG_SHARE: f64 = 0.25;
/// The part after it; the rest is the oldest.
pub(crate) const LRU_MIDDLE_SHARE: f64 = 0.35;
/// The random policy lets one item in this many go when it is the oldest.
pub(crate) const RANDOM_ONE_IN: u32 = 2;
/// Entries of a shadow cache at most.
pub(crate) const SHADOW_ENTRIES_MAX: u64 = 8191;
/// Entries of a shadow cache at least, where that many items fit.
pub(crate) const SHADOW_ENTRIES_MIN: u64 = 64;
/// A shadow whose sample has room for less than one part in this many takes a larger sample.
pub(crate) const SHADOW_ENTRIES_LOW: u64 = 3;
/// An item counts in a shadow as at most one part in this many of its capacity.
pub(crate) const SHADOW_COST_SHARE: u64 = 8;
/// Steps of a shadow's access that treat items by their merits.
pub(crate) const SHADOW_STEPS_FAIR: u32 = 64;
/// Steps of a shadow's access at most.
pub(crate) const SHADOW_STEPS_MAX: u32 = 128;
/// Sampled requests of a round of the duel at least.
pub(crate) const DUEL_REQUESTS_MIN: u64 = 64;
/// What a round of the duel leaves of the hits before it.
pub(crate) const DUEL_DECAY: f64 = 0.8;
/// The lead by which the other side takes over, in hits a request.
pub(crate) const DUEL_LEAD: f64 = 0.002;

/// Levels of expiry groups: 4 ms, 2 s, 17.5 min, 6.2 days and 8.7 years wide.
pub(crate) const EXPIRY_LEVELS: usize = 5;
/// Bits of milliseconds in the finest group: 4 ms.
pub(crate) const EXPIRY_FINEST_BITS: u32 = 2;
/// A group is 2 to this power times as wide as one of the next finer level.
pub(crate) const EXPIRY_LEVEL_BITS: u32 = 9;
/// Groups of a level that may hold entries at a time: those within two groups of the next level.
pub(crate) const EXPIRY_RING: usize = 2 << EXPIRY_LEVEL_BITS;
/// Groups of all levels.
pub(crate) const EXPIRY_GROUPS: usize = EXPIRY_LEVELS * EXPIRY_RING;
/// Bits of a deadline in milliseconds: some 4,400 years.
pub(crate) const DEADLINE_BITS: u32 = 47;
/// How long an item may be overdue when the clock is checked: 20 days.
pub(crate) const OVERDUE_MS_MAX: u64 = 20 * 86_400_000;
/// Milliseconds between two checks of that: a day.
pub(crate) const CLOCK_CHECK_MS: u64 = 86_400_000;
/// Entries of a chunk: with the link and the count, four cache lines.
pub(crate) const EXPIRY_CHUNK_ENTRIES: usize = 62;
/// Entries whose table lines and items are asked for together.
pub(crate) const EXPIRY_BATCH: usize = 16;
/// Low bits of the hash that an entry keeps, beside the tag. Few of them in unit tests, so that
/// these meet items that share an entry, and tables with more buckets than an entry tells apart.
pub(crate) const EXPIRY_BUCKET_BITS: u32 = if cfg!(test) { 9 } else { 24 };
/// Entries allowed beyond two a volatile item, in a large shard.
pub(crate) const EXPIRY_SPARE_ENTRIES_MAX: u64 = 64 << 10;
/// The same in a small shard: one for each this many bytes of its reservation, and at least
/// `EXPIRY_SPARE_ENTRIES_MIN`.
pub(crate) const EXPIRY_BYTES_PER_SPARE_ENTRY: u64 = 16 << 10;
pub(crate) const EXPIRY_SPARE_ENTRIES_MIN: u64 = 1 << 10;
/// Entries that a write sweeps while a sweep goes on, and while there are more than allowed.
pub(crate) const EXPIRY_SWEEP_PER_WRITE: usize = 16;
pub(crate) const EXPIRY_SWEEP_PER_WRITE_BEHIND: usize = 64;
/// Groups without entries that one step takes out of the heap at most.
pub(crate) const EXPIRY_GROUPS_PER_STEP: usize = 64;
/// Places of groups that one step of a sweep passes at most: 64 cache lines.
pub(crate) const EXPIRY_PLACES_PER_STEP: usize = 1 << 10;
/// Points in time that a shard remembers its counter of versions at,
pub(crate) const AGE_MARKS_MAX: usize = 128;
/// and the time between two of them at first.
pub(crate) const AGE_MARK_INTERVAL_MS: u64 = 1_000;
/// Due entries that a write handles before it takes room from others.
pub(crate) const EXPIRY_PER_ALLOCATION: usize = 16;

/// Leases that a shard keeps the time of. The one that ends first is forgotten for another.
pub(crate) const LEASES_MAX: usize = 4096;
/// Places in which the time of one key's lease may be kept.
pub(crate) const LEASE_WAYS: usize = 8;
/// Ended leases that are kept for the caller to ask for.
pub(crate) const LEASES_ENDED_MAX: usize = 256;
/// How long a lease is out at most, in milliseconds, unless the caller says otherwise.
pub(crate) const LEASE_TIMEOUT_MS: u64 = 10_000;

const _: () = assert!((LEASES_MAX / LEASE_WAYS).is_power_of_two());
const _: () = assert!(OFFSET_BITS > 32 && OFFSET_BITS <= 36, "4 bytes and a nibble");
const _: () = assert!(OVERFLOW_INDEX_BITS as usize + SLOTS_PER_LINE + 1 == 32, "one word of meta");
const _: () = assert!(SEGMENT_BYTES_MIN.is_power_of_two());
const _: () = assert!(SEGMENT_BYTES_MAX.is_power_of_two());
const _: () = assert!(SEGMENTS_WANTED >= SEGMENTS_MIN);
const _: () = assert!(SEGMENTS_MIN > SPARE_SEGMENTS + 6, "heads, tails and the spare ones");
const _: () = assert!(WARM_SEGMENTS_LOW < ERRAND_SEGMENTS_MAX, "what is asked for is kept");
const _: () = assert!(RELEASE_SEGMENTS_MAX * SEGMENT_BYTES_MAX <= 16 << 20, "milliseconds");
const _: () = assert!(TABLE_STEP_BYTES.is_multiple_of(LINE_BYTES));
const _: () = assert!(PAGES_PER_SEGMENT_MAX <= 16, "a segment's used pages are a u16");
const _: () = assert!(INLINE_VALUE_BYTES_MAX + KEY_BYTES_MAX + 64 <= SEGMENT_BYTES_MAX);
const _: () = assert!(MERGE_ITEMS_PER_FOUR_LINES < 4 * SPLIT_ITEMS_PER_LINE, "hysteresis");
const _: () = assert!(COPY_BYTES_PER_BYTE as u64 > COMPACT_ONE_DEAD_IN);
const _: () = assert!(SHADOW_ENTRIES_MAX < u16::MAX as u64, "a shadow's links are 16 bits");
const _: () = assert!(SHADOW_ENTRIES_MIN <= SHADOW_ENTRIES_MAX);
const _: () = assert!(SHADOW_ENTRIES_LOW > 2, "a sample of half as many keys is not too small");
const _: () = assert!(SHADOW_STEPS_FAIR < SHADOW_STEPS_MAX);
const _: () = assert!(GHOST_ADDS_PER_SWEEP as u64 * 2 <= GHOST_ITEMS_PER_LINE, "G2 of the ghost");
const _: () =
    assert!(AGEING_SWEEP_SHARE > 2, "a sweep ends within the epoch, which is half a period");
const _: () = assert!(HIT_SAMPLE_MAX > 0);
const _: () = assert!(
    EXPIRY_FINEST_BITS + EXPIRY_LEVELS as u32 * EXPIRY_LEVEL_BITS >= DEADLINE_BITS,
    "the coarsest level reaches every deadline"
);
const _: () = assert!(OVERDUE_MS_MAX + 2 * CLOCK_CHECK_MS <= 1 << 31, "a deadline's low 32 bits");
const _: () = assert!(EXPIRY_GROUPS <= 1 << 13 && DEADLINE_BITS + 1 + 13 <= 64, "a heap node");
const _: () = assert!(EXPIRY_BUCKET_BITS + 8 <= 32, "an entry is 32 bits");
const _: () = assert!((EXPIRY_CHUNK_ENTRIES + 2) * 4 == 4 * LINE_BYTES);
const _: () = assert!(AGE_MARKS_MAX.is_multiple_of(2), "every other one goes");
const _: () = assert!(PINNED_SHARE <= ITEM_SHARE, "the largest item can be read");
const _: () = assert!(ARRIVING_SHARE <= ITEM_SHARE, "the largest item can arrive");
const _: () = assert!(APPEND_BYTES_MAX >= PAGE_BYTES_MAX);
const _: () = assert!(
    APPEND_STEPS_MAX as usize
        > TAIL_ITEMS_BASE + (APPEND_BYTES_MAX + PAGE_BYTES_MAX) / BYTES_PER_TAIL_ITEM,
    "a call that lacks room comes to evict what was used"
);
