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
/// Two buckets are merged once the table holds fewer slots than this for each line in use.
pub(crate) const MERGE_ITEMS_PER_LINE: u64 = 5;
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
pub(crate) const SEGMENTS_MIN: usize = 12;
/// Free segments that a shard keeps ahead of its writers: one for each queue's head, and one for
/// the cleaner.
pub(crate) const SPARE_SEGMENTS: usize = 4;

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

/// Tail items that one write examines for free, before those that its own bytes pay for.
pub(crate) const TAIL_ITEMS_BASE: usize = 32;
/// Bytes of a write that pay for one more tail item.
pub(crate) const BYTES_PER_TAIL_ITEM: usize = 64;
/// Tail items that a write evicts at most beyond its budget while it fits all the same.
pub(crate) const FORCED_STEPS: u64 = 64;
/// Items at the tail whose table lines are asked for ahead of the cursor.
pub(crate) const ITEMS_AHEAD: usize = 8;
/// Bytes that one write copies for free, before those that its own bytes pay for.
pub(crate) const COPY_BYTES_BASE: usize = 16 << 10;
/// Bytes copied that each byte of a write pays for. With garbage at its threshold a byte is gained
/// by copying twelve.
pub(crate) const COPY_BYTES_PER_BYTE: usize = 16;
/// Dead items at a queue's tail that one step passes.
pub(crate) const TAIL_LOOKS: usize = 8;
/// Segments that one step of the cleaner looks at.
pub(crate) const HAND_LOOKS: usize = 16;
/// Bytes of pages that one tail step copies at most to fuller segments.
pub(crate) const GATHER_BYTES_MAX: usize = 64 << 10;
/// A shard that evicts nothing compacts this many times harder before it refuses a write.
pub(crate) const COMPACT_HARDER: usize = 4;
/// An item may take one part in this many of the total limit.
pub(crate) const ITEM_SHARE: usize = 4;
/// A log with more than one dead byte in this many is compacted: its live items are copied to the
/// head, referenced or not, in place of being evicted.
pub(crate) const COMPACT_ONE_DEAD_IN: u64 = 13;

const _: () = assert!(OFFSET_BITS > 32 && OFFSET_BITS <= 36, "4 bytes and a nibble");
const _: () = assert!(OVERFLOW_INDEX_BITS as usize + SLOTS_PER_LINE + 1 == 32, "one word of meta");
const _: () = assert!(SEGMENT_BYTES_MIN.is_power_of_two());
const _: () = assert!(SEGMENT_BYTES_MAX.is_power_of_two());
const _: () = assert!(SEGMENTS_WANTED >= SEGMENTS_MIN);
const _: () = assert!(SEGMENTS_MIN > SPARE_SEGMENTS + 6, "heads, tails and the spare ones");
const _: () = assert!(PAGES_PER_SEGMENT_MAX <= 16, "a segment's used pages are a u16");
const _: () = assert!(INLINE_VALUE_BYTES_MAX + KEY_BYTES_MAX + 64 <= SEGMENT_BYTES_MAX);
const _: () = assert!(MERGE_ITEMS_PER_LINE < SPLIT_ITEMS_PER_LINE, "hysteresis");
const _: () = assert!(COPY_BYTES_PER_BYTE as u64 > COMPACT_ONE_DEAD_IN);
