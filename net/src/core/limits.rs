//! Every bound of a core in one place, and the relations between them.

/// Commands in a batch: enough to overlap the memory accesses of their keys, few enough that
/// what they prefetch stays in the first-level cache.
pub const BATCH_COMMANDS_MAX: usize = 32;

/// Bytes in one send.
pub const SEND_BYTES_MAX: usize = 64 * 1024;

/// Bytes of large values received in a turn before others have theirs.
pub const STREAM_BYTES_PER_TURN: usize = 256 * 1024;

/// Bytes of large values copied into sends in a turn before others have theirs.
pub const FILL_BYTES_PER_TURN: usize = 256 * 1024;

/// Bytes of values that a command reads or writes at once, whatever they are. Beyond it goes on in
/// slices.
pub const DIRECT_BYTES_MAX: usize = 256 * 1024;

/// Bytes of large values that a slice of a command reads, or copies: some 50 microseconds.
pub const SLICE_BYTES: usize = 128 * 1024;

/// How often a command in slices begins again because others changed the value that it changes.
/// Then it is executed at once.
pub const REWRITE_TRIES_MAX: u32 = 8;

/// Words of the table of LCS that a slice computes, or steps that it follows through it.
pub const LCS_WORDS_PER_SLICE: usize = 8 * 1024;

/// Keys of BITOP that are looked up at once.
pub const BITOP_KEYS_AT_ONCE: usize = 512;

/// Large values that the reply to one command refers to.
pub const PINS_PER_COMMAND_MAX: usize = 4096;

/// Output of a connection beyond which its commands are held back.
pub const OUTPUT_BYTES_HIGH: usize = 256 * 1024;

/// Output of a connection below which a held-back connection goes on.
pub const OUTPUT_BYTES_LOW: usize = 64 * 1024;

/// Input of a connection whose commands wait (held back, or too many for a turn) beyond which
/// nothing more is received from it.
pub const INPUT_BYTES_HIGH: usize = 64 * 1024;

/// Commands of one connection parsed out of its own buffer before others have their turn.
pub const RUN_COMMANDS_MAX: usize = 256;

/// Output of a connection, and a reply to it, that are so small that it is served from the reserve.
pub const SMALL_BYTES: usize = 8 * 1024;

/// Memory that a reply is expected to take which is not known yet.
pub const DEFERRED_REPLY_BYTES: usize = 4 * 1024;

/// The same of one that another core executes.
pub const CROSSED_REPLY_BYTES: usize = 128;

/// Bytes of replies that have moved on and are not removed yet from where they waited.
pub const TAIL_MOVED_BYTES_MAX: usize = 64 * 1024;

/// Connections looked at in a turn that wait for memory.
pub const WAITING_PER_TURN: usize = 32;

/// How long a connection that holds much may stand still while others wait for memory.
pub const STALL_MS: u64 = 2_000;
/// Time between two looks for such connections, and places looked at each time.
pub const STALLED_LOOK_MS: u64 = 20;
/// See [`STALLED_LOOK_MS`].
pub const STALL_SLOTS_PER_LOOK: usize = 512;

/// The most that buffers must have held for the allocator to be asked to give memory back,
pub const TRIM_BYTES_MIN: usize = 4 << 20;
/// and how long ago.
pub const TRIM_AFTER_MS: u64 = 500;

/// Input beyond which a buffer grows by an eighth instead of doubling.
pub const GENTLE_GROWTH_BYTES: usize = 256 * 1024;

/// Memory in buffers kept for reuse, if there is as much left of the buffers' share.
pub const SPARES_BYTES_MAX: usize = 16 << 20;
/// The largest buffer that is kept: full output and one more reply of a value below 32 KiB, with
/// the room that doubling leaves.
pub const SPARE_BYTES_MAX: usize = 1 << 20;
/// Capacity of a new buffer.
pub const SPARE_BYTES_MIN: usize = 4 * 1024;

/// Arguments of one command.
pub const ARGS_MAX: u32 = 1024 * 1024;

/// Arguments of a command beyond which the memory for their places is not kept.
pub const ARGS_KEPT_MAX: usize = 4096;

/// The longest request, unless two of the largest values are longer: what one connection may make
/// the server hold before a command runs.
pub const FRAME_BYTES_MIN: u32 = 64 << 20;

/// Commands that wait for EXEC on one connection.
pub const TRANSACTION_COMMANDS_MAX: usize = 64 * 1024;

/// Keys that one connection watches.
pub const WATCHES_MAX: usize = 4096;

/// Connections that CLIENT LIST or CLIENT KILL looks at in a turn; each takes two system calls.
pub const CLIENTS_PER_SLICE: usize = 64;

/// Time between two samples for the rates that INFO tells, and how many are kept, as in Redis.
pub const RATE_SAMPLE_MS: u64 = 100;
/// See [`RATE_SAMPLE_MS`].
pub const RATE_SAMPLES: usize = 16;

/// An inline command's length.
pub const INLINE_BYTES_MAX: u32 = 64 * 1024;

/// Items of background work in a shard per turn.
pub const MAINTENANCE_ITEMS: usize = 64;

/// The same while clients wait for memory that is lent to items: 50 us.
pub const MAINTENANCE_ITEMS_OVERDRAWN: usize = 512;

/// Bytes that clients have taken of the reserve for each further item that a turn looks at: as
/// many as writing them to the shard would, and half as many again, since some items stay.
pub const OVERDRAFT_BYTES_PER_ITEM: usize = 32;

/// Items of background work in a shard per turn at most: a turn can receive a megabyte, so that
/// this keeps up with it where items take 64 bytes or more. Some 1.5 ms.
pub const MAINTENANCE_ITEMS_MAX: usize = 16 * 1024;

/// Steps from nothing lent to all that may be.
pub const LOAN_STEPS: u64 = 32;

/// Entries of expiry that a turn handles while some are due: items removed, and as many entries of
/// coarse groups split. About 10 us.
pub const EXPIRY_ENTRIES: usize = 64;

/// While more is due, expiry goes on for one part in this many of what the turn has taken before:
/// a quarter of the time.
pub const EXPIRY_SHARE: u64 = 3;

/// What a slice of a walk over keys may come to: an item met is a unit, a bucket passed a few, and
/// so are [`WALK_BYTES_PER_UNIT`] bytes of keys, or as many steps of matching. Some 50 us.
pub const WALK_UNITS_PER_SLICE: usize = 1024;
/// See [`WALK_UNITS_PER_SLICE`].
pub const WALK_UNITS_PER_BUCKET: usize = 2;
/// See [`WALK_UNITS_PER_SLICE`].
pub const WALK_BYTES_PER_UNIT: usize = 128;
/// Steps that matching one key may take: a pattern and a key that are both long may take as many
/// as the product of their lengths.
pub const MATCH_STEPS_MAX: usize = 256 * 1024;
/// Buckets that SCAN passes at most for each key that it is to look at, as Redis does.
pub const SCAN_BUCKETS_PER_KEY: u64 = 10;
/// Keys found beyond which they are not copied to the connection's output, but become it.
pub const OWN_REPLY_BYTES_MIN: usize = 64 * 1024;
/// Buckets that a slice of RANDOMKEY looks at: some 50 us.
pub const RANDOM_BUCKETS_PER_SLICE: usize = 256;

/// Bytes of a value being copied to another key that lie on the stack between reading and writing.
pub const COPY_PIECE_BYTES: usize = 16 * 1024;
/// How often a copy begins again because its source was changed.
pub const COPY_TRIES_MAX: u32 = 8;

/// Values and payloads up to this length are dumped and restored at once.
pub const DUMP_DIRECT_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a longer one that a slice sums up, unpacks or stores: some 60 us.
pub const DUMP_SLICE_BYTES: usize = 64 * 1024;

/// Reads of a core that wait for another client to fetch a value.
pub const FILL_WAITERS_MAX: usize = 4096;
/// Such reads looked at in a turn.
pub const FILL_LOOKS_PER_TURN: usize = 256;
/// Time within which each of them is looked at.
pub const FILL_LOOK_MS: u64 = 250;

/// Memory of the bundles that a core posts, in both directions to all others together.
pub const LANES_BYTES: usize = 2 << 20;
/// Bundles of one kind that wait for a core.
pub const LANE_BUNDLES: usize = 4;
/// Bytes of a bundle beyond which nothing more is added to it; there are at least
/// [`BUNDLE_BYTES_MIN`], and no more than [`BUNDLE_BYTES_MAX`].
pub const BUNDLE_BYTES_MAX: usize = 64 * 1024;
/// See [`BUNDLE_BYTES_MAX`].
pub const BUNDLE_BYTES_MIN: usize = 2 * 1024;
/// Requests to one core whose replies are outstanding: each of them has a place for a bundle with
/// its reply. With many cores there are fewer for each, so that all of a core's have
/// [`LANE_PLACES`], but [`LANE_REQUESTS_MIN`] at least.
pub const LANE_REQUESTS_MAX: usize = 1024;
/// See [`LANE_REQUESTS_MAX`].
pub const LANE_REQUESTS_MIN: usize = 128;
/// See [`LANE_REQUESTS_MAX`].
pub const LANE_PLACES: usize = 8 * 1024;
/// Requests of one core that a turn executes.
pub const LANE_REQUESTS_PER_TURN: usize = 256;
/// Bytes of a request or reply that are copied into a bundle; a longer one moves as a whole.
pub const LANE_COPY_BYTES_MAX: usize = 4 * 1024;
/// Commands over several cores that a core has under way. Each has a step on its way at a time, for
/// which there is always a place in the lane.
pub const JOINTS_MAX: usize = 32;
/// Connections that begin to wait for one of these places again when one is free.
pub const JOINTS_WOKEN: usize = 2;
/// Bytes of a value that such a command moves at a time.
pub const JOINT_PIECE_BYTES: usize = 64 * 1024;
/// How long a connection keeps replies back while others of it are on their way from another core:
/// a pipeline is answered with one send instead of several.
pub const HOLD_NS: u64 = 100_000;
/// The same while the core has other work.
pub const HOLD_BUSY_NS: u64 = 1_000_000;

/// How long accepting rests after it failed for want of descriptors or memory.
pub const ACCEPT_REST_MS: u64 = 10;

/// Turns that look at all events before quiet connections are closed at the end: the one that is
/// told to end, and one that asks the kernel again.
pub const SETTLING_TURNS: u32 = 2;

/// Connections that are told no with the spare descriptor before accepting rests.
pub const ACCEPT_REFUSALS_MAX: usize = 32;

/// Time between two looks for connections that are quiet, and places looked at each time.
pub const QUIET_LOOK_MS: u64 = 50;
/// See [`QUIET_LOOK_MS`].
pub const QUIET_SLOTS_PER_LOOK: usize = 512;

/// Time between two looks for requests that have become too old, and how many are answered in one.
pub const AGE_LOOK_MS: u64 = 20;
/// See [`AGE_LOOK_MS`]. In batches of [`BATCH_COMMANDS_MAX`].
pub const AGE_REFUSALS_PER_LOOK: usize = 16;

/// Descriptors that are not connections: rings, listeners, standard streams, files in /proc.
pub const DESCRIPTORS_RESERVED: u64 = 64;

const _: () = assert!(OUTPUT_BYTES_LOW < OUTPUT_BYTES_HIGH);
const _: () =
    assert!(BUNDLE_BYTES_MIN < BUNDLE_BYTES_MAX && LANE_COPY_BYTES_MAX < BUNDLE_BYTES_MAX);
const _: () = assert!(2 * LANE_BUNDLES * BUNDLE_BYTES_MAX <= LANES_BYTES, "two cores fill theirs");
const _: () = assert!(BATCH_COMMANDS_MAX <= LANE_REQUESTS_PER_TURN);
const _: () = assert!(MAINTENANCE_ITEMS < MAINTENANCE_ITEMS_OVERDRAWN);
const _: () = assert!(MAINTENANCE_ITEMS_OVERDRAWN < MAINTENANCE_ITEMS_MAX);
const _: () = assert!(JOINTS_MAX * 2 <= LANE_REQUESTS_MIN && JOINTS_WOKEN <= JOINTS_MAX);
const _: () = assert!(JOINT_PIECE_BYTES <= SLICE_BYTES);
const _: () = assert!(SEND_BYTES_MAX <= OUTPUT_BYTES_HIGH);
const _: () = assert!(SEND_BYTES_MAX <= FILL_BYTES_PER_TURN);
const _: () = assert!(SPARE_BYTES_MIN <= SPARE_BYTES_MAX);
const _: () =
    assert!(2 * OUTPUT_BYTES_HIGH <= SPARE_BYTES_MAX && SPARE_BYTES_MAX <= SPARES_BYTES_MAX);
const _: () = assert!(SMALL_BYTES >= 2 * SPARE_BYTES_MIN, "a fresh buffer and one in flight");
const _: () = assert!(BATCH_COMMANDS_MAX <= RUN_COMMANDS_MAX);
const _: () = assert!(COPY_PIECE_BYTES <= SLICE_BYTES);
const _: () = assert!(DUMP_DIRECT_BYTES_MAX <= DUMP_SLICE_BYTES, "what is short takes one slice");
