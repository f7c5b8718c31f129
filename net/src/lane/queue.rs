//! A bounded queue from one thread to one other: a ring of slots, an index that the producer
//! advances and one that the consumer does.
//!
//! - Q1. `tail - head` is at most the number of slots. Slots from `head` to before `tail` hold a
//!   value and belong to the consumer, the others hold none and belong to the producer.
//! - Q2. Only the producer writes `tail` and only the consumer writes `head`: the two ends are not
//!   `Clone`, and their methods take `&mut self`.
//!
//! Each end remembers what it last saw of the other's index, and reads it again only when that does
//! not suffice. Cost: a store for each value, and a cache line that passes between the two cores.

use std::mem::MaybeUninit;

use super::sync::{Arc, AtomicUsize, Ordering, UnsafeCell};

/// Keeps what two cores write apart: lines are fetched in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Apart<T>(T);

struct Shared<T> {
    head: Apart<AtomicUsize>,
    tail: Apart<AtomicUsize>,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: a slot is touched by the end that it belongs to alone (Q1), and passes to the other by a
// release store of an index and an acquire load of it.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    fn slot(&self, index: usize) -> &UnsafeCell<MaybeUninit<T>> {
        // The number of slots is a power of two.
        &self.slots[index & (self.slots.len() - 1)]
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let (head, tail) =
            (self.head.0.load(Ordering::Acquire), self.tail.0.load(Ordering::Acquire));
        let mut index = head;
        while index != tail {
            // SAFETY: both ends are gone, and this slot holds a value that nobody took (Q1).
            self.slot(index).with_mut(|slot| unsafe { (*slot).assume_init_drop() });
            index = index.wrapping_add(1);
        }
    }
}

/// The producer's end.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
    tail: usize,
    head_seen: usize,
}

/// The consumer's end.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    head: usize,
    tail_seen: usize,
}

/// Makes a queue of `slots`, rounded up to a power of two.
pub fn channel<T>(slots: usize) -> (Sender<T>, Receiver<T>) {
    let count = slots.max(1).next_power_of_two();
    let shared = Arc::new(Shared {
        head: Apart(AtomicUsize::new(0)),
        tail: Apart(AtomicUsize::new(0)),
        slots: (0..count).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
    });
    let sender = Sender { shared: Arc::clone(&shared), tail: 0, head_seen: 0 };
    (sender, Receiver { shared, head: 0, tail_seen: 0 })
}

impl<T> Sender<T> {
    /// Whether there is room for a value. Once there is, there is until one is pushed.
    #[inline]
    pub fn has_room(&mut self) -> bool {
        let count = self.shared.slots.len();
        if self.tail.wrapping_sub(self.head_seen) == count {
            self.head_seen = self.shared.head.0.load(Ordering::Acquire);
        }
        self.tail.wrapping_sub(self.head_seen) < count
    }

    /// Values that the consumer has not taken yet.
    #[inline]
    pub fn len(&mut self) -> usize {
        self.head_seen = self.shared.head.0.load(Ordering::Acquire);
        self.tail.wrapping_sub(self.head_seen)
    }

    /// Appends a value.
    ///
    /// # Errors
    /// The value, if there is no room.
    #[inline]
    pub fn push(&mut self, value: T) -> Result<(), T> {
        if !self.has_room() {
            return Err(value);
        }
        // SAFETY: the slot at `tail` holds no value and belongs to this end (Q1), since there is
        // room and nobody else pushes (Q2).
        self.shared.slot(self.tail).with_mut(|slot| unsafe {
            (*slot).write(value);
        });
        self.tail = self.tail.wrapping_add(1);
        self.shared.tail.0.store(self.tail, Ordering::Release);
        Ok(())
    }
}

impl<T> Receiver<T> {
    /// Takes the oldest value.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.head == self.tail_seen {
            self.tail_seen = self.shared.tail.0.load(Ordering::Acquire);
            if self.head == self.tail_seen {
                return None;
            }
        }
        // SAFETY: the slot at `head` holds a value and belongs to this end (Q1); it is moved out
        // once, since `head` goes on.
        let value =
            self.shared.slot(self.head).with_mut(|slot| unsafe { (*slot).assume_init_read() });
        self.head = self.head.wrapping_add(1);
        self.shared.head.0.store(self.head, Ordering::Release);
        Some(value)
    }
}

impl<T> Receiver<T> {
    /// Shows all values that are there, the oldest first, and leaves them. For checks.
    pub fn peek(&mut self, mut look: impl FnMut(&T)) {
        self.tail_seen = self.shared.tail.0.load(Ordering::Acquire);
        let mut index = self.head;
        while index != self.tail_seen {
            // SAFETY: slots from `head` to before `tail` hold a value and belong to this end (Q1).
            self.shared.slot(index).with_mut(|slot| look(unsafe { (*slot).assume_init_ref() }));
            index = index.wrapping_add(1);
        }
    }
}

impl<T> std::fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("tail", &self.tail).finish_non_exhaustive()
    }
}

impl<T> std::fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("head", &self.head).finish_non_exhaustive()
    }
}
