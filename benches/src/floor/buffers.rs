//! A ring of receive buffers that the kernel takes from and we give back to.
//!
//! Invariants:
//!
//! - B1. The memory of the ring and of the buffers is never freed or moved, so that no receive
//!   that the kernel has not yet finished can meet memory with another owner.
//! - B2. A buffer belongs to the kernel from the moment it is published until a completion names
//!   it, and to us from then until it is given back.
//!
//! Cost: [`BUFFER_COUNT`] buffers of [`BUFFER_BYTES`] and one page. No system call after set-up.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// The group that receives name to get a buffer from this ring.
pub(super) const GROUP: u16 = 0;

/// How many buffers there are. The kernel takes one per receive that it hands out, and an enter
/// hands out few, so that a small ring stays in the cache.
pub(super) const BUFFER_COUNT: u16 = 64;

/// Size of a buffer.
pub(super) const BUFFER_BYTES: usize = 16 << 10;

const PAGE_BYTES: usize = 4096;

const _: () = assert!(BUFFER_COUNT.is_power_of_two());
const _: () = assert!(BUFFER_COUNT as usize * size_of::<BufRingEntry>() <= PAGE_BYTES);

/// The buffers. Dropping it leaves them to the kernel for ever (B1).
pub(super) struct BufferRing {
    /// [`BUFFER_COUNT`] entries at the start of a page; the first also holds the ring's tail.
    entries: *mut BufRingEntry,
    /// The bytes of all buffers, one behind the other.
    data: *mut u8,
    /// Where the next entry goes; what is published may be behind.
    tail: u16,
}

impl BufferRing {
    /// Allocates the buffers and gives all of them to the kernel.
    ///
    /// # Errors
    ///
    /// If the kernel has no buffer rings (before Linux 5.19).
    pub(super) fn leak(submitter: &Submitter<'_>) -> io::Result<BufferRing> {
        let layout = Layout::from_size_align(PAGE_BYTES, PAGE_BYTES)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: the layout has a size.
        let page = unsafe { alloc_zeroed(layout) };
        if page.is_null() {
            handle_alloc_error(layout);
        }
        let entries = page.cast::<BufRingEntry>();
        // SAFETY: the page is aligned, holds BUFFER_COUNT entries (asserted above) and is never
        // freed (B1).
        unsafe {
            submitter.register_buf_ring_with_flags(
                entries.addr() as u64,
                BUFFER_COUNT,
                GROUP,
                0,
            )?;
        }
        let data = vec![0_u8; usize::from(BUFFER_COUNT) * BUFFER_BYTES].leak().as_mut_ptr();
        let mut ring = BufferRing { entries, data, tail: 0 };
        for buffer in 0..BUFFER_COUNT {
            // SAFETY: no buffer has been published yet, so each is ours (B2).
            unsafe { ring.give_back(buffer) };
        }
        ring.publish();
        Ok(ring)
    }

    /// The first `count` bytes of a buffer.
    ///
    /// # Safety
    ///
    /// A completion has named `buffer` with at least `count` bytes, and it is not given back
    /// while the slice lives (B2).
    pub(super) unsafe fn bytes(&self, buffer: u16, count: usize) -> &[u8] {
        debug_assert!(buffer < BUFFER_COUNT && count <= BUFFER_BYTES);
        // SAFETY: the buffer is inside the allocation, which is never freed (B1) and was zeroed
        // at first; the caller vouches that the kernel does not write to it now.
        unsafe {
            let start = self.data.add(usize::from(buffer) * BUFFER_BYTES);
            std::slice::from_raw_parts(start, count)
        }
    }

    /// Puts a buffer at the end of the ring. The kernel sees it after [`BufferRing::publish`].
    ///
    /// # Safety
    ///
    /// `buffer` is ours (B2) and nothing refers to its bytes.
    pub(super) unsafe fn give_back(&mut self, buffer: u16) {
        debug_assert!(buffer < BUFFER_COUNT);
        let index = usize::from(self.tail & (BUFFER_COUNT - 1));
        // SAFETY: the index is inside the page. The kernel reads an entry only below the
        // published tail, and this one is above it; its tail field, which overlays the reserved
        // part of entry 0, is not written by these setters.
        unsafe {
            let entry = &mut *self.entries.add(index);
            let start = self.data.add(usize::from(buffer) * BUFFER_BYTES);
            entry.set_addr(start.addr() as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel all buffers that were given back. Costs one store.
    pub(super) fn publish(&mut self) {
        // SAFETY: `entries` is the base of the ring that was registered, so that the tail is a
        // valid, aligned 16-bit field, which both sides access as an atomic.
        unsafe {
            let tail = BufRingEntry::tail(self.entries).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}
