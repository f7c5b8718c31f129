//! Memory reserved from the kernel: a fixed range of zeroed plain values.
//!
//! A shard reserves its ranges once, at start, and never moves them: an item's place is a number.
//! The kernel commits a page when it is first touched (`MAP_NORESERVE`), so a reservation costs
//! address space only. Invariants:
//!
//! - M1. `items` points at `len` values of `T`, aligned, inside one reservation that lives as long
//!   as this owner, who alone reads and writes it.
//! - M2. Every value is initialised: fresh memory is zero, and zero is a valid `T` (`Plain`).
//!   Memory that was given back to the kernel is zero again when it is next read.
//! - M3. A [`Part`] keeps the reservation alive and knows its addresses, but never reads or writes
//!   through them. Populating changes no value; discarding changes values that nobody looks at.
//!
//! Under Miri, which knows no `mmap`, the range comes zeroed from the allocator.

#![expect(unsafe_code, reason = "the one place that talks to the kernel about memory")]

use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::sync::Arc;

use crate::expiry::Chunk;
use crate::policy::{GhostLine, SketchLine};
use crate::table::Line;

/// The bytes of a huge page: they are this large on x86_64 and, with 4 KiB base pages, on aarch64.
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
    /// The mapping, which may begin before `items`.
    reservation: Arc<Reservation>,
}

/// A range of address space; given back when its last holder drops it.
#[derive(Debug)]
struct Reservation {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a reservation is an address and a size; nothing is read or written through it.
unsafe impl Send for Reservation {}
// SAFETY: as above; all its methods only advise the kernel.
unsafe impl Sync for Reservation {}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: `base` and `bytes` are what `system::reserve` gave and took. The last holder is
        // gone, so neither an owner's borrows nor a part refer to the range any more.
        unsafe { system::release(self.base, self.bytes) }
    }
}

/// A piece of a reservation that another thread may ask the kernel about (M3).
#[derive(Debug)]
pub(crate) struct Part {
    reservation: Arc<Reservation>,
    /// Bytes from the reservation's base.
    range: Range<usize>,
}

impl Part {
    /// Lets the kernel find pages for the part, so that whoever first writes to it does not wait.
    /// Values stay as they are. Where the kernel cannot do it (before 5.14), nothing happens.
    pub(crate) fn populate(&self) {
        for (start, bytes) in self.steps() {
            system::populate(start, bytes);
        }
    }

    /// Gives the part's memory back to the kernel. Its values are undefined afterwards: zero, or
    /// as they were.
    ///
    /// # Safety
    ///
    /// Between the making of the part and the return of this call nobody reads or writes the
    /// part's values, and nobody relies on them afterwards.
    pub(crate) unsafe fn discard(&self) {
        for (start, bytes) in self.steps() {
            // SAFETY: the caller's promise; the steps lie within the part.
            unsafe { system::discard(start, bytes) };
        }
    }

    /// Whether both are pieces of one reservation and `next` begins where this one ends.
    pub(crate) fn is_followed_by(&self, next: &Part) -> bool {
        Arc::ptr_eq(&self.reservation, &next.reservation) && self.range.end == next.range.start
    }

    /// Adds the part that follows this one.
    pub(crate) fn extend_over(&mut self, next: &Part) {
        debug_assert!(self.is_followed_by(next));
        self.range.end = next.range.end;
    }

    /// Where the part begins; parts of one reservation are ordered by it.
    pub(crate) fn address(&self) -> usize {
        self.reservation.base.as_ptr() as usize + self.range.start
    }

    /// The part in pieces of at most a huge page, so that no single call holds the kernel's lock
    /// on the address space for long.
    fn steps(&self) -> impl Iterator<Item = (NonNull<u8>, usize)> {
        self.range.clone().step_by(HUGE_PAGE_BYTES).map(|start| {
            // SAFETY: the range lies within the reservation (`Mapped::part`).
            let from = unsafe { self.reservation.base.add(start) };
            (from, HUGE_PAGE_BYTES.min(self.range.end - start))
        })
    }
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
        let reservation = Arc::new(Reservation { base, bytes: base_bytes });
        let skip = if huge_pages { base.align_offset(HUGE_PAGE_BYTES) } else { 0 };
        // SAFETY: `skip` is below HUGE_PAGE_BYTES, which `base_bytes` has beyond the values when
        // huge pages are asked for; otherwise it is zero.
        let items = unsafe { base.add(skip) };
        if huge_pages {
            system::advise_huge_pages(base, base_bytes);
        }
        Ok(Mapped { items: items.cast(), len, reservation })
    }

    /// Asks for memory of a node of the machine; whether the kernel agreed. Pages that were
    /// touched before stay where they are.
    pub(crate) fn prefer_node(&mut self, node: usize) -> bool {
        system::prefer_node(self.reservation.base, self.reservation.bytes, node)
    }

    /// The memory of values `range`, for another thread to advise the kernel about.
    pub(crate) fn part(&self, range: Range<usize>) -> Part {
        assert!(range.start <= range.end && range.end <= self.len, "a part of the values");
        let skip = self.items.as_ptr() as usize - self.reservation.base.as_ptr() as usize;
        let at = |index: usize| skip + index * size_of::<T>();
        let range = at(range.start)..at(range.end);
        Part { reservation: Arc::clone(&self.reservation), range }
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

    /// # Safety
    ///
    /// The bytes belong to a mapping of ours, and nobody reads or writes them meanwhile or relies
    /// on them afterwards.
    pub(super) unsafe fn discard(start: NonNull<u8>, bytes: usize) {
        // SAFETY: the caller's promise. What is no whole page stays, as does everything where the
        // kernel's pages are larger than ours: the call then fails and changes nothing.
        unsafe { libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_DONTNEED) };
    }

    /// Nodes that a mask names.
    const NODES_MAX: usize = 1024;
    /// `MPOL_PREFERRED` of the kernel's interface: that node first, others when it is full.
    const PREFERRED: libc::c_int = 1;

    pub(super) fn prefer_node(base: NonNull<u8>, bytes: usize, node: usize) -> bool {
        // The kernel reads one bit less than it is told of.
        if node + 1 >= NODES_MAX {
            return false;
        }
        let mut mask = [0u64; NODES_MAX / 64];
        mask[node / 64] = 1 << (node % 64);
        // SAFETY: the call reads `mask`, which has the bits that it is told of, and sets where
        // pages of a mapping of ours will come from; it changes no contents.
        let outcome = unsafe {
            let (start, mask) = (base.as_ptr(), mask.as_ptr());
            libc::syscall(libc::SYS_mbind, start, bytes, PREFERRED, mask, NODES_MAX, 0)
        };
        outcome == 0
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

    /// Leaves the values as they are, which is one of the two things that may happen.
    pub(super) unsafe fn discard(_start: NonNull<u8>, _bytes: usize) {}

    pub(super) fn prefer_node(_base: NonNull<u8>, _bytes: usize, _node: usize) -> bool {
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
    fn a_part_outlives_its_owner_and_changes_no_value_but_its_own() {
        let page = 4096;
        let mut mapped = Mapped::<u8>::reserve(8 * page, false).unwrap();
        mapped.fill(7);
        let (mut first, second) = (mapped.part(page..2 * page), mapped.part(2 * page..3 * page));
        assert!(first.is_followed_by(&second) && !second.is_followed_by(&first));
        assert_eq!(first.address() + page, second.address());
        first.extend_over(&second);
        first.populate();
        assert!(mapped.iter().all(|&byte| byte == 7));
        // SAFETY: nobody looks at these values until the next line but one.
        unsafe { first.discard() };
        assert!(mapped[..page].iter().chain(&mapped[3 * page..]).all(|&byte| byte == 7));
        assert!(mapped[page..3 * page].iter().all(|&byte| byte == 0 || cfg!(miri)));
        drop(mapped);
        second.populate();
    }

    #[test]
    fn a_part_works_from_another_thread_while_the_owner_writes() {
        let mut mapped = Mapped::<u8>::reserve(1 << 20, true).unwrap();
        let part = mapped.part(0..1 << 20);
        let populating = std::thread::spawn(move || part.populate());
        for (index, byte) in mapped.iter_mut().enumerate().step_by(4096) {
            *byte = index as u8 | 1;
        }
        populating.join().unwrap();
        assert!(mapped.iter().step_by(4096).all(|&byte| byte != 0));
        assert!(!mapped.prefer_node(usize::MAX - 1));
    }

    #[test]
    fn an_impossible_size_is_an_error() {
        assert!(Mapped::<Line>::reserve(usize::MAX, false).is_err());
        #[cfg(not(miri))]
        assert!(Mapped::<u8>::reserve(1 << 60, false).is_err());
    }
}
