//! Chains of entries in chunks of 256 bytes: the memory of the expiry groups.
//!
//! - C1. Every chunk that was ever taken is in exactly one chain, or in the list of free ones.
//! - C2. All chunks of a chain but the first are full, and no chunk of a chain is empty.
//!
//! A chain is known by its first chunk, 0 for an empty one. Entries come out in the reverse order.
//! Cost: pushing touches one or two lines of the first chunk; 4.13 bytes an entry, and half a
//! chunk for each chain. The range is of ordinary pages: it grows by 4 KiB, which the kernel
//! clears in less than a microsecond.

use std::io;

use crate::bounds::EXPIRY_CHUNK_ENTRIES;
use crate::mapping::Mapped;

/// A chunk: four cache lines.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    /// The next chunk of the chain, or of the free list; 0 ends either.
    next: u32,
    /// Entries in use.
    count: u32,
    entries: [u32; EXPIRY_CHUNK_ENTRIES],
}

/// Bytes of a chunk.
pub(super) const CHUNK_BYTES: usize = size_of::<Chunk>();

const _: () = assert!(CHUNK_BYTES == 256);
const _: () = assert!(align_of::<Chunk>() == 64);

/// All chunks of a shard.
#[derive(Debug)]
pub(super) struct Chunks {
    /// Index 0 is never used, as it means "none".
    chunks: Mapped<Chunk>,
    free: u32,
    /// The lowest chunk that was never taken.
    fresh: u32,
    used: usize,
}

impl Chunks {
    /// Reserves at most `chunks_max` chunks.
    ///
    /// # Errors
    ///
    /// The kernel's, when the range cannot be reserved.
    pub(super) fn new(chunks_max: usize) -> io::Result<Chunks> {
        let chunks_max = chunks_max.clamp(1, u32::MAX as usize - 1);
        let chunks = Mapped::reserve(chunks_max + 1, false)?;
        Ok(Chunks { chunks, free: 0, fresh: 1, used: 0 })
    }

    /// Chunks in chains.
    #[inline]
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Adds an entry to the chain of `first`. Returns whether a chunk was left for it.
    #[inline]
    pub(super) fn push(&mut self, first: &mut u32, entry: u32) -> bool {
        let chunk = &mut self.chunks[*first as usize];
        if *first != 0 && (chunk.count as usize) < EXPIRY_CHUNK_ENTRIES {
            chunk.entries[chunk.count as usize] = entry;
            chunk.count += 1;
            return true;
        }
        self.push_chunk(first, entry)
    }

    /// Takes up to `out.len()` entries from the chain of `first`, and returns how many.
    pub(super) fn pop(&mut self, first: &mut u32, out: &mut [u32]) -> usize {
        let mut taken = 0;
        while *first != 0 && taken < out.len() {
            let index = *first;
            let chunk = &mut self.chunks[index as usize];
            let count = chunk.count as usize;
            let part = count.min(out.len() - taken);
            out[taken..taken + part].copy_from_slice(&chunk.entries[count - part..count]);
            chunk.count -= part as u32;
            taken += part;
            if chunk.count == 0 {
                *first = chunk.next;
                chunk.next = self.free;
                self.free = index;
                self.used -= 1;
            }
        }
        taken
    }

    /// Frees all chunks at once: O(1). The caller forgets all chains.
    pub(super) fn clear(&mut self) {
        (self.free, self.fresh, self.used) = (0, 1, 0);
    }

    /// Calls `f` with each entry of the chain of `first`, and checks C2. Returns its chunks.
    ///
    /// # Errors
    ///
    /// Says which invariant does not hold.
    pub(super) fn check(&self, first: u32, mut f: impl FnMut(u32)) -> Result<usize, String> {
        let (mut index, mut chunks) = (first, 0);
        while index != 0 {
            let chunk = &self.chunks[index as usize];
            let count = chunk.count as usize;
            let full = count == EXPIRY_CHUNK_ENTRIES;
            if count == 0 || count > EXPIRY_CHUNK_ENTRIES || (index != first && !full) {
                return Err(format!("chunk {index} has {count} entries (C2)"));
            }
            chunk.entries[..count].iter().for_each(|&entry| f(entry));
            chunks += 1;
            if chunks > self.used {
                return Err(format!("the chain of chunk {first} has no end"));
            }
            index = chunk.next;
        }
        Ok(chunks)
    }

    /// Checks C1, given the number of chunks in all chains.
    ///
    /// # Errors
    ///
    /// Says what does not add up.
    pub(super) fn check_count(&self, in_chains: usize) -> Result<(), String> {
        let (mut index, mut free) = (self.free, 0);
        while index != 0 && free < self.fresh as usize {
            index = self.chunks[index as usize].next;
            free += 1;
        }
        let counted = (in_chains, in_chains + free + 1);
        let stated = (self.used, self.fresh as usize);
        if counted != stated {
            return Err(format!("used and fresh chunks are {counted:?}, not {stated:?} (C1)"));
        }
        Ok(())
    }

    #[cold]
    fn push_chunk(&mut self, first: &mut u32, entry: u32) -> bool {
        let index = if self.free != 0 {
            let index = self.free;
            self.free = self.chunks[index as usize].next;
            index
        } else if (self.fresh as usize) < self.chunks.len() {
            self.fresh += 1;
            self.fresh - 1
        } else {
            return false;
        };
        let chunk = &mut self.chunks[index as usize];
        chunk.next = *first;
        chunk.count = 1;
        chunk.entries[0] = entry;
        *first = index;
        self.used += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(chunks: &Chunks, chains: &[u32]) {
        let in_chains: usize =
            chains.iter().map(|&first| chunks.check(first, |_| {}).unwrap()).sum();
        chunks.check_count(in_chains).unwrap();
    }

    #[test]
    fn entries_come_back_and_chunks_are_used_again() {
        let mut chunks = Chunks::new(20).unwrap();
        let mut chains = [0; 3];
        for round in 0..5 {
            for entry in 0..500u32 {
                assert!(chunks.push(&mut chains[entry as usize % 3], entry));
            }
            check(&chunks, &chains);
            let mut seen = Vec::new();
            let mut out = [0; 16];
            for chain in &mut chains {
                loop {
                    let taken = chunks.pop(chain, &mut out[..1 + round]);
                    if taken == 0 {
                        break;
                    }
                    seen.extend_from_slice(&out[..taken]);
                }
            }
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..500));
            assert_eq!(chunks.used(), 0);
            check(&chunks, &chains);
        }
        assert!(chunks.fresh <= 10, "three chains of 500 entries take nine chunks");
    }

    #[test]
    fn the_end_of_the_range_is_an_answer_and_clearing_frees_all() {
        let mut chunks = Chunks::new(2).unwrap();
        let mut first = 0;
        let room = 2 * EXPIRY_CHUNK_ENTRIES as u32;
        assert!((0..room).all(|entry| chunks.push(&mut first, entry)));
        assert!(!chunks.push(&mut first, 7));
        check(&chunks, &[first]);
        chunks.clear();
        first = 0;
        assert!((0..room).all(|entry| chunks.push(&mut first, entry)));
        check(&chunks, &[first]);
    }
}
