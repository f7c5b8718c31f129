//! The receive buffers that the kernel fills: one mapping, cut into buffers of one size.
//!
//! A buffer is either *provided* (the kernel may write to it at any time) or *lent* (it belongs to
//! one [`Received`], whose bytes may be read). `Received` is neither `Copy` nor constructible
//! outside the ring, so a buffer is given back once, and nobody reads a provided one.
//!
//! Buffers are given back through a ring in shared memory (`IORING_REGISTER_PBUF_RING`) or, where
//! that is missing, by `IORING_OP_PROVIDE_BUFFERS` requests.

use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::{Submitter, opcode, squeue};

/// The buffer group of the pool; a ring has one.
pub(crate) const GROUP: u16 = 0;

/// Bytes that were received, lent out of the ring's pool. Give it back with
/// [`crate::DataRing::give_back`]: what is dropped instead is lost to the pool until the ring ends.
#[derive(Debug)]
#[must_use = "the pool runs dry if buffers are not given back"]
pub struct Received {
    pub(crate) buffer: u16,
    pub(crate) len: u32,
}

impl Received {
    /// Number of bytes.
    #[expect(clippy::len_without_is_empty, reason = "an empty receive is an end, not a Received")]
    pub fn len(&self) -> usize {
        self.len as usize
    }
}

/// A private anonymous mapping.
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    fn new(bytes: usize) -> io::Result<Mapping> {
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // mmap without MAP_FIXED never returns the null page.
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { start, bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: start and bytes are those of the mapping that `new` made; nothing refers to it
        // any more, because the pool that owns it is being dropped after its ring.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// How buffers are given back.
enum GiveBack {
    /// Through the shared ring; the tail is published in one store per batch.
    Ring { entries: Mapping, tail: u16 },
    /// By requests.
    Requests,
}

pub(crate) struct Pool {
    memory: Mapping,
    count: u16,
    buffer_bytes: u32,
    give_back: GiveBack,
    /// Buffers lent out; when all are, receives end with ENOBUFS.
    lent: u16,
}

impl Pool {
    /// Maps the buffers and, if `buffer_ring`, registers the shared ring. `count` must be a power
    /// of two, at most 32,768. The caller provides all buffers afterwards.
    pub(crate) fn new(
        submitter: &Submitter<'_>,
        count: u16,
        buffer_bytes: u32,
        buffer_ring: bool,
    ) -> io::Result<Pool> {
        assert!(count.is_power_of_two() && count <= 1 << 15, "kernel's limit on buffer rings");
        let memory = Mapping::new(usize::from(count) * buffer_bytes as usize)?;
        let give_back = if buffer_ring {
            let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
            // SAFETY: the mapping is page-aligned, holds `count` entries and lives as long as the
            // pool, which the ring drops only after it has been closed.
            unsafe {
                submitter.register_buf_ring_with_flags(
                    entries.start.as_ptr() as u64,
                    count,
                    GROUP,
                    0,
                )?;
            }
            GiveBack::Ring { entries, tail: 0 }
        } else {
            GiveBack::Requests
        };
        Ok(Pool { memory, count, buffer_bytes, give_back, lent: count })
    }

    pub(crate) fn lent(&self) -> u16 {
        self.lent
    }

    fn start_of(&self, buffer: u16) -> *mut u8 {
        debug_assert!(buffer < self.count);
        // SAFETY: the buffer number is below count, so the offset is inside the mapping.
        unsafe { self.memory.start.as_ptr().add(usize::from(buffer) * self.buffer_bytes as usize) }
    }

    /// Turns a completion's buffer number into a loan; `None` if the kernel named no buffer of ours.
    pub(crate) fn lend(&mut self, buffer: u16, len: u32) -> Option<Received> {
        if buffer >= self.count || len > self.buffer_bytes {
            return None;
        }
        self.lent += 1;
        Some(Received { buffer, len })
    }

    /// The bytes of a loan.
    pub(crate) fn bytes(&self, received: &Received) -> &[u8] {
        // SAFETY: the loan's buffer is not provided to the kernel until it is given back, which
        // consumes the loan; `lend` has checked both numbers.
        unsafe { std::slice::from_raw_parts(self.start_of(received.buffer), received.len as usize) }
    }

    /// Provides a buffer to the kernel. Returns the request to submit if there is no shared ring.
    pub(crate) fn provide(&mut self, buffer: u16) -> Option<squeue::Entry> {
        let start = self.start_of(buffer);
        self.lent -= 1;
        match &mut self.give_back {
            GiveBack::Ring { entries, tail } => {
                let slot = usize::from(*tail & (self.count - 1));
                // SAFETY: the slot is below count, so the entry is inside the mapping, which was
                // zeroed (a valid entry); the kernel reads it only after the tail is published.
                let entry =
                    unsafe { &mut *entries.start.as_ptr().cast::<BufRingEntry>().add(slot) };
                entry.set_addr(start as u64);
                entry.set_len(self.buffer_bytes);
                entry.set_bid(buffer);
                *tail = tail.wrapping_add(1);
                None
            }
            GiveBack::Requests => Some(
                opcode::ProvideBuffers::new(start, self.buffer_bytes as i32, 1, GROUP, buffer)
                    .build(),
            ),
        }
    }

    /// Makes what was provided visible to the kernel.
    pub(crate) fn publish(&self) {
        if let GiveBack::Ring { entries, tail } = &self.give_back {
            // SAFETY: the tail lies inside the first entry of the registered ring, as the kernel's
            // interface lays it out, is aligned for u16, and only this thread writes it.
            let shared = unsafe {
                let shared = BufRingEntry::tail(entries.start.as_ptr().cast());
                AtomicU16::from_ptr(shared.cast_mut())
            };
            shared.store(*tail, Ordering::Release);
        }
    }

    /// Gives the memory up without unmapping it, for a ring whose operations may still run.
    pub(crate) fn leak(self) {
        std::mem::forget(self);
    }
}
