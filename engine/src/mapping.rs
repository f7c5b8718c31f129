//! Memory reserved from the kernel: a fixed range of zeroed plain values.
//!
//! A shard reserves its ranges once, at start, and never moves them: an item's place is a number.
//! The kernel commits a page when it is first touched (`MAP_NORESERVE`), so a reservation costs
//! address space only. Invariants:
//!
//! - M1. `items` points at `len` values of `T`, aligned, inside one allocation that this owner
//!   alone holds from `reserve` to `drop`.
//! - M2. Every value is initialised: fresh memory is zero, and zero is a valid `T` (`Plain`).
//!
//! Under Miri, which knows no `mmap`, the range comes zeroed from the allocator.

#![expect(unsafe_code, reason = "the one place that talks to the kernel about memory")]

use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::expiry::Chunk;
use crate::policy::{GhostLine, SketchLine};
use crate::table::Line;

/// Huge pages are this large on x86_64 and, with 4 KiB base pages, on aarch64.
const HUGE_PAGE_BYTES: usize = 2 << 20;
/// The step of the touching loop where the kernel cannot populate.
const BASE_PAGE_BYTES: usize = 4 << 10;

/// Values that may live in mapped memory.
///
/// # Safety
///
/// The type has no padding, no destructor and no invalid bit pattern, is not empty, and asks for
/// no more alignment than a page of 4 KiB.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: a byte has no padding, no destructor and no invalid pattern.
unsafe impl Plain for u8 {}
// SAFETY: a line is `repr(C)` of integers and fills its 64 bytes exactly (asserted beside it).
unsafe impl Plain for Line {}
// SAFETY: eight words that fill a line of 64 bytes exactly (asserted beside it).
unsafe impl Plain for SketchLine {}
// SAFETY: eight words that fill a line of 64 bytes exactly (asserted beside it).
unsafe impl Plain for GhostLine {}
// SAFETY: a chunk is `repr(C)` of integers and fills its 256 bytes exactly (asserted beside it).
unsafe impl Plain for Chunk {}

/// An owned, zero-initialised range of `T` at a fixed address.
#[derive(Debug)]
pub(crate) struct Mapped<T: Plain> {
    items: NonNull<T>,
    len: usize,
    /// What `drop` gives back: the mapping, which may begin before `items`.
    base: NonNull<u8>,
    base_bytes: usize,
}

// SAFETY: by M1 this is the only owner of the range, as of a boxed slice; `T` is plain data.
unsafe impl<T: Plain> Send for Mapped<T> {}

impl<T: Plain> Mapped<T> {
    /// Reserves `len` zeroed values. `huge_pages` asks for transparent huge pages, and aligns the
    /// range to them; a kernel without them is no error.
    ///
    /// # Errors
    ///
    /// The kernel's error when the range cannot be reserved (address space or overcommit limits),
    /// and `InvalidInput` when its size in bytes is no number of this machine.
    pub(crate) fn reserve(len: usize, huge_pages: bool) -> io::Result<Mapped<T>> {
        let bytes = len.max(1).checked_mul(size_of::<T>());
        let bytes = bytes.and_then(|bytes| bytes.checked_next_multiple_of(BASE_PAGE_BYTES));
        let slack = if huge_pages { HUGE_PAGE_BYTES } else { 0 };
        let base_bytes = bytes.and_then(|bytes| bytes.checked_add(slack));
        let base_bytes = base_bytes.ok_or(io::ErrorKind::InvalidInput)?;
        let base = system::reserve(base_bytes)?;
        let skip = if huge_pages { base.align_offset(HUGE_PAGE_BYTES) } else { 0 };
        // SAFETY: `skip` is below HUGE_PAGE_BYTES, which `base_bytes` has beyond the values when
        // huge pages are asked for; otherwise it is zero.
        let items = unsafe { base.add(skip) };
        if huge_pages {
            system::advise_huge_pages(base, base_bytes);
        }
        Ok(Mapped { items: items.cast(), len, base, base_bytes })
    }

    /// Touches the first `count` values, so that no later access waits for the kernel. The values
    /// keep their contents. Takes about 0.1 to 1 second a gigabyte.
    pub(crate) fn prefault(&mut self, count: usize) {
        let bytes = count.min(self.len) * size_of::<T>();
        if bytes == 0 || system::populate(self.items.cast(), bytes) {
            return;
        }
        let mut at = 0;
        while at < bytes {
            // SAFETY: `at < bytes`, so the byte lies within the range (M1); it is initialised
            // (M2), writing back what was read leaves it so, and `&mut self` excludes others.
            unsafe {
                let byte = self.items.cast::<u8>().add(at);
                byte.write_volatile(byte.read_volatile());
            }
            at += BASE_PAGE_BYTES;
        }
    }
}

impl<T: Plain> Deref for Mapped<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: M1 and M2 give `len` initialised values; `&self` excludes writers.
        unsafe { std::slice::from_raw_parts(self.items.as_ptr(), self.len) }
    }
}

impl<T: Plain> DerefMut for Mapped<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: M1 and M2 give `len` initialised values; `&mut self` excludes all others.
        unsafe { std::slice::from_raw_parts_mut(self.items.as_ptr(), self.len) }
    }
}

impl<T: Plain> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: `base` and `base_bytes` are what `system::reserve` gave and took (M1), and no
        // borrow of the range outlives its owner.
        unsafe { system::release(self.base, self.base_bytes) }
    }
}

/// The range by `mmap`.
#[cfg(not(miri))]
mod system {
    use std::io;
    use std::ptr::NonNull;

    pub(super) fn reserve(bytes: usize) -> io::Result<NonNull<u8>> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory
        // that exists.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, kind, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(base.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// # Safety
    ///
    /// `base` and `bytes` are a mapping of `reserve` that nothing refers to any more.
    pub(super) unsafe fn release(base: NonNull<u8>, bytes: usize) {
        // SAFETY: the caller's promise. A failure would only leak the range.
        unsafe { libc::munmap(base.as_ptr().cast(), bytes) };
    }

    pub(super) fn advise_huge_pages(base: NonNull<u8>, bytes: usize) {
        // SAFETY: advice about a mapping of ours changes no contents. It may fail where the
        // kernel has no huge pages, which is no error.
        unsafe { libc::madvise(base.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
    }

    /// Whether the kernel (5.14 or later) touched the range for us. Rounds outwards to pages.
    pub(super) fn populate(start: NonNull<u8>, bytes: usize) -> bool {
        let bytes = bytes.next_multiple_of(super::BASE_PAGE_BYTES);
        // SAFETY: populating a mapping of ours changes no contents. `start` is aligned to pages
        // and a mapping is a whole number of them.
        unsafe { libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_POPULATE_WRITE) == 0 }
    }
}

/// The range by the allocator.
#[cfg(miri)]
mod system {
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    use std::io;
    use std::ptr::NonNull;

    fn layout(bytes: usize) -> io::Result<Layout> {
        Layout::from_size_align(bytes, 4096).map_err(|_| io::ErrorKind::InvalidInput.into())
    }

    pub(super) fn reserve(bytes: usize) -> io::Result<NonNull<u8>> {
        // SAFETY: the callers' sizes are never zero.
        let base = unsafe { alloc_zeroed(layout(bytes)?) };
        NonNull::new(base).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// # Safety
    ///
    /// `base` and `bytes` are an allocation of `reserve` that nothing refers to any more.
    pub(super) unsafe fn release(base: NonNull<u8>, bytes: usize) {
        if let Ok(layout) = layout(bytes) {
            // SAFETY: the caller's promise.
            unsafe { dealloc(base.as_ptr(), layout) };
        }
    }

    pub(super) fn advise_huge_pages(_base: NonNull<u8>, _bytes: usize) {}

    pub(super) fn populate(_start: NonNull<u8>, _bytes: usize) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_memory_is_zero_and_keeps_what_is_written() {
        let mut mapped = Mapped::<u8>::reserve(10_000, false).unwrap();
        assert_eq!(mapped.len(), 10_000);
        assert!(mapped.iter().all(|&byte| byte == 0));
        mapped[9_999] = 7;
        mapped.prefault(10_000);
        assert_eq!(mapped[9_999], 7);
    }

    #[test]
    fn lines_are_aligned_with_and_without_huge_pages() {
        for huge_pages in [false, true] {
            let mut mapped = Mapped::<Line>::reserve(100, huge_pages).unwrap();
            assert_eq!(mapped.as_ptr() as usize % 64, 0);
            mapped.prefault(usize::MAX);
            assert!(mapped[99].is_empty());
        }
    }

    #[test]
    fn an_impossible_size_is_an_error() {
        assert!(Mapped::<Line>::reserve(usize::MAX, false).is_err());
        #[cfg(not(miri))]
        assert!(Mapped::<u8>::reserve(1 << 60, false).is_err());
    }
}
