//! GET and SET allocate nothing in steady state, from the bytes of a request to those of its reply.
//!
//! Alone in its file, because it replaces the allocator by one that counts for each thread. When a
//! case that must not allocate does, the test shows where.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use pinion_benches::client::Protocol;
use pinion_benches::layers::{Frames, Peer, Rig, RigOptions};

struct Counting;

thread_local! {
    /// Whether allocations of this thread count.
    static ARMED: Cell<bool> = const { Cell::new(false) };
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// Where they came from.
    static PLACES: RefCell<Places> = const { RefCell::new(BTreeMap::new()) };
}

/// Stack frames within the project, with how many allocations came from there.
type Places = BTreeMap<String, u64>;

/// Allocations whose origin is looked up; this takes milliseconds each.
const PLACES_MAX: u64 = 16;

// SAFETY: every call is passed on to the system's allocator as it came; counting touches nothing
// of its memory. What counting allocates itself finds the counter disarmed, and so does not come
// back here.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the ones that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as for `alloc`; the memory came from there.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: as for `alloc`; the memory came from there.
        unsafe { System.realloc(memory, layout, bytes) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn count() {
    // A thread that is ending has no counter any more, and nothing to count.
    if ARMED.try_with(|armed| armed.replace(false)).unwrap_or(false) {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        if ALLOCATIONS.get() <= PLACES_MAX {
            PLACES.with_borrow_mut(|places| *places.entry(place()).or_default() += 1);
        }
        ARMED.set(true);
    }
}

/// The project's part of the stack, innermost first.
fn place() -> String {
    let trace = Backtrace::force_capture().to_string();
    let ours = ["net/src/", "engine/src/", "src/layers/"];
    let is_ours = |line: &&str| {
        line.trim_start().starts_with("at ")
            && !line.contains("/rustc/")
            && ours.iter().any(|part| line.contains(part))
    };
    let lines = trace.lines().filter(is_ours).take(4);
    lines.map(|line| line.trim().rsplit('/').next().unwrap_or(line)).collect::<Vec<_>>().join(" < ")
}

/// What `work` allocates, and where the first of it came from.
fn allocations_of(work: impl FnOnce()) -> (u64, Places) {
    ALLOCATIONS.set(0);
    PLACES.take();
    ARMED.set(true);
    work();
    ARMED.set(false);
    (ALLOCATIONS.get(), PLACES.take())
}

/// Keys stored before a case.
const KEYS: u64 = 256;
const CONNECTIONS: usize = 4;
/// Messages of each connection before and while allocations count.
const WARM_UP_LAPS: u64 = 60;
const LAPS: u64 = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    GetHit,
    GetMiss,
    SetSameSize,
    SetOtherSize,
    /// Writes and reads in turn.
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    protocol: Protocol,
    value_bytes: usize,
    pipeline: u64,
    operation: Operation,
    torn: bool,
}

/// A frame, its end within a message, and the length of its reply.
#[derive(Default)]
struct Message {
    bytes: Vec<u8>,
    ends: Vec<(usize, usize)>,
}

impl Message {
    fn end_frame(&mut self, reply_bytes: usize) {
        self.ends.push((self.bytes.len(), reply_bytes));
    }

    /// Reply bytes of the frames that are whole within the first `bytes`.
    fn reply_bytes(&self, bytes: usize) -> usize {
        self.ends.iter().take_while(|(end, _)| *end <= bytes).map(|(_, reply)| reply).sum()
    }

    /// Hands it to a peer, torn in the middle of its middle frame or whole.
    fn push(&self, rig: &mut Rig, peer: Peer, torn: bool) {
        let all = self.reply_bytes(self.bytes.len());
        let middle = self.ends.len() / 2;
        let start = middle.checked_sub(1).map_or(0, |before| self.ends[before].0);
        let cut = if torn { usize::midpoint(start, self.ends[middle].0) } else { 0 };
        let before = self.reply_bytes(cut);
        if torn {
            rig.push(peer, before, |out| out.extend_from_slice(&self.bytes[..cut]));
        }
        rig.push(peer, all - before, |out| out.extend_from_slice(&self.bytes[cut..]));
    }
}

impl Case {
    fn all() -> Vec<Case> {
        use Operation::{Both, GetHit, GetMiss, SetOtherSize, SetSameSize};
        let mut cases = Vec::new();
        for protocol in [Protocol::Resp, Protocol::Memcached] {
            for value_bytes in [64, 1 << 10, 16 << 10] {
                for pipeline in [1, 16] {
                    for operation in [GetHit, GetMiss, SetSameSize, SetOtherSize, Both] {
                        for torn in [false, true] {
                            cases.push(Case { protocol, value_bytes, pipeline, operation, torn });
                        }
                    }
                }
            }
        }
        cases
    }

    fn write(&self, lap: u64, connection: u64, message: &mut Message) {
        message.bytes.clear();
        message.ends.clear();
        let frames = Frames::new(self.protocol, self.value_bytes);
        // Another size every lap, so that no overwrite of a lap finds its own size.
        let other = Frames::new(self.protocol, self.value_bytes - (lap % 2) as usize);
        for number in 0..self.pipeline {
            let key = (lap * 31 + connection * 64 + number) % KEYS;
            let write = number.is_multiple_of(2) != lap.is_multiple_of(2);
            match self.operation {
                Operation::GetMiss => {
                    frames.append_get(KEYS + key, &mut message.bytes);
                    message.end_frame(frames.miss_bytes());
                }
                Operation::SetOtherSize => {
                    other.append_set(key, &mut message.bytes);
                    message.end_frame(other.stored_bytes());
                }
                Operation::SetSameSize => {
                    frames.append_set(key, &mut message.bytes);
                    message.end_frame(frames.stored_bytes());
                }
                Operation::Both if write => {
                    frames.append_set(key, &mut message.bytes);
                    message.end_frame(frames.stored_bytes());
                }
                Operation::GetHit | Operation::Both => {
                    frames.append_get(key, &mut message.bytes);
                    message.end_frame(frames.hit_bytes());
                }
            }
        }
    }

    /// Allocations of [`Case::commands`] commands after the warm-up, and the first one's place.
    fn run(&self) -> (u64, Places) {
        let options =
            RigOptions { connections: CONNECTIONS, ..RigOptions::roomy(KEYS, self.value_bytes) };
        let mut rig = Rig::new(&options).unwrap();
        rig.fill(&Frames::new(Protocol::Resp, self.value_bytes), KEYS).unwrap();
        let peers = rig.peers(self.protocol).to_vec();
        let (mut total, mut first) = (0, Places::new());
        let mut message = Message::default();
        for lap in 0..WARM_UP_LAPS + LAPS {
            for (connection, &peer) in peers.iter().enumerate() {
                self.write(lap, connection as u64, &mut message);
                message.push(&mut rig, peer, self.torn);
            }
            let mut outcome = Ok(0);
            let (allocations, places) = allocations_of(|| outcome = rig.run());
            outcome.unwrap_or_else(|error| panic!("{self:?}: {error}"));
            if lap >= WARM_UP_LAPS {
                total += allocations;
                if first.is_empty() {
                    first = places;
                }
            }
        }
        rig.core().shard().validate().unwrap();
        (total, first)
    }
}

#[test]
fn gets_and_sets_do_not_allocate() {
    for case in Case::all() {
        let (allocations, places) = case.run();
        let messages = LAPS * CONNECTIONS as u64;
        assert_eq!(allocations, 0, "in {messages} messages of {case:?}, from {places:#?}");
    }
}

#[test]
fn an_allocation_is_counted_and_shown() {
    let make = || drop(std::hint::black_box(Frames::new(Protocol::Resp, 100)));
    let (allocations, places) = allocations_of(make);
    assert!(allocations > 2, "two frames and a value");
    assert!(places.keys().all(|place| place.contains("frames.rs")), "{places:?}");
    assert_eq!(allocations_of(|| ()), (0, Places::new()));
}
