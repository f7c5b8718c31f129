//! Processor instructions that Rust has no words for: prefetching, and comparing bytes at once.
//!
//! A prefetch never faults and never changes what a program computes, so it is safe for any
//! address. On processors without an intrinsic in stable Rust a prefetch does nothing, and bytes
//! are compared eight at a time in a word.

#![expect(unsafe_code, reason = "intrinsics are unsafe functions")]

use crate::bounds::LINE_BYTES;

/// Asks for the cache line at `items[index]`. An index out of range is ignored.
#[inline(always)]
pub(crate) fn prefetch_element<T>(items: &[T], index: usize) {
    if let Some(item) = items.get(index) {
        prefetch_address(std::ptr::from_ref(item).cast());
    }
}

/// Asks for the cache lines of `count` bytes from `bytes[offset]` on, if that index exists.
/// `count` is not 0.
#[inline(always)]
pub(crate) fn prefetch_bytes(bytes: &[u8], offset: usize, count: usize) {
    if let Some(first) = bytes.get(offset) {
        let address = std::ptr::from_ref(first);
        // The number of lines depends on the address. To ask for one of them twice costs less than
        // to guess it.
        for line in 0..count / LINE_BYTES {
            prefetch_address(address.wrapping_add(line * LINE_BYTES));
        }
        if !count.is_multiple_of(LINE_BYTES) {
            prefetch_address(address.wrapping_add(count / LINE_BYTES * LINE_BYTES));
        }
        prefetch_address(address.wrapping_add(count - 1));
    }
}

/// Asks for what `count` bytes from `bytes[offset]` on have in other lines than the first, or some of
/// it: for a read that is about to wait for the first line. `count` is not 0.
#[inline(always)]
pub(crate) fn prefetch_rest(bytes: &[u8], offset: usize, count: usize) {
    let address = bytes.as_ptr().wrapping_add(offset);
    prefetch_address(address.wrapping_add(LINE_BYTES.min(count - 1)));
    prefetch_address(address.wrapping_add(count - 1));
}

#[inline(always)]
fn prefetch_address(address: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch is a hint; it reads nothing architecturally and cannot fault, whatever
    // the address. SSE is part of the x86_64 baseline.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    let _ = address;
}

/// Bit `i` is set when byte `i` of the sixteen in `first` and `second` (little-endian) is `wanted`.
#[inline(always)]
pub(crate) fn equal_bytes(first: u64, second: u64, wanted: u8) -> u32 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE2 is part of the x86_64 baseline, and these intrinsics touch no memory.
    unsafe {
        use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};
        let bytes = _mm_set_epi64x(second as i64, first as i64);
        _mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(wanted as i8))) as u32
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        equal_bytes_by_words(first, second, wanted)
    }
}

/// `equal_bytes` without vector instructions.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn equal_bytes_by_words(first: u64, second: u64, wanted: u8) -> u32 {
    const LOW_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    /// Gathers the lowest bit of each byte into the top byte, in order.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let equal = |word: u64| {
        let difference = word ^ u64::from_le_bytes([wanted; 8]);
        // A byte's top bit ends up set exactly when all its bits are clear; no carry crosses.
        let zero = !(((difference & LOW_BITS) + LOW_BITS) | difference | LOW_BITS);
        ((zero >> 7).wrapping_mul(GATHER) >> 56) as u32
    };
    equal(first) | equal(second) << 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_comparing_agree_with_a_plain_loop() {
        let mut state = 1u64;
        for _ in 0..if cfg!(miri) { 200 } else { 20_000 } {
            let mut bytes = [0u8; 16];
            for byte in &mut bytes {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Few distinct values, the ones around the sign bit and zero among them.
                *byte = [0, 1, 0x7f, 0x80, 0x81, 0xff][(state >> 60) as usize % 6];
            }
            let words = u128::from_le_bytes(bytes);
            let (first, second) = (words as u64, (words >> 64) as u64);
            for wanted in [0, 1, 0x7f, 0x80, 0x81, 0xff, 0x55] {
                let plain = (0..16)
                    .filter(|&index| bytes[index] == wanted)
                    .fold(0, |mask, index| mask | 1u32 << index);
                assert_eq!(equal_bytes(first, second, wanted), plain);
                assert_eq!(equal_bytes_by_words(first, second, wanted), plain);
            }
        }
    }

    #[test]
    fn a_prefetch_out_of_range_is_ignored() {
        prefetch_element(&[1u64, 2], 2);
        prefetch_bytes(b"abc", 3, 1);
        prefetch_bytes(b"abc", 2, 1_000);
        prefetch_rest(b"abc", 7, 1);
    }
}
