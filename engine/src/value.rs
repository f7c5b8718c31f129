//! What a lookup returns: an item seen in place, without copying.
//!
//! A value borrows the shard's memory, so the shard cannot change while one is held. Small values
//! are one slice; large ones lie in pages, and are read chunk by chunk.

use crate::bounds::PAGE_ID_BYTES;
use crate::item::{self, Header};
use crate::request::Marks;

/// An item as a lookup found it.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The value.
    pub value: Value<'a>,
    /// Hits before this lookup, counted up to 15.
    pub frequency: u8,
    /// The item's header, decoded only as far as it is asked for.
    header: &'a [u8],
    /// The shard's clock.
    now_ms: u64,
}

impl<'a> Entry<'a> {
    pub(crate) fn new(value: Value<'a>, frequency: u8, header: &'a [u8], now_ms: u64) -> Entry<'a> {
        Entry { value, frequency, header, now_ms }
    }

    /// Client flags.
    #[must_use]
    pub fn flags(&self) -> u32 {
        Header::decode(self.header).flags
    }

    /// The version, as compare-and-swap wants it.
    #[must_use]
    pub fn version(&self) -> u64 {
        Header::decode(self.header).version.number()
    }

    /// The deadline, in milliseconds on the shard's clock.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        Header::decode(self.header).deadline.resolve(self.now_ms)
    }

    /// What leases have marked the item with.
    #[must_use]
    #[inline]
    pub fn marks(&self) -> Marks {
        item::marks(self.header)
    }
}

/// A value in the shard's memory.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    form: Form<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Form<'a> {
    Inline(&'a [u8]),
    Paged { len: usize, ids: &'a [u8], memory: &'a [u8], page_shift: u32 },
}

impl<'a> Value<'a> {
    #[inline]
    pub(crate) fn inline(bytes: &'a [u8]) -> Value<'a> {
        Value { form: Form::Inline(bytes) }
    }

    /// A value of `len` bytes in the pages of `memory` that `ids` numbers.
    pub(crate) fn paged(
        len: usize,
        ids: &'a [u8],
        memory: &'a [u8],
        page_bytes: usize,
    ) -> Value<'a> {
        debug_assert_eq!(ids.len(), len.div_ceil(page_bytes) * PAGE_ID_BYTES);
        let page_shift = page_bytes.trailing_zeros();
        Value { form: Form::Paged { len, ids, memory, page_shift } }
    }

    /// Bytes of the value.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.form {
            Form::Inline(bytes) => bytes.len(),
            Form::Paged { len, .. } => len,
        }
    }

    /// Whether the value has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value as one slice; `None` when it lies in pages.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> Option<&'a [u8]> {
        match self.form {
            Form::Inline(bytes) => Some(bytes),
            Form::Paged { .. } => None,
        }
    }

    /// The value's bytes in order, in one chunk or in pages. Does not allocate.
    #[must_use]
    pub fn chunks(&self) -> Chunks<'a> {
        Chunks { form: self.form }
    }

    /// The bytes in order from `start` to before `end`, of which those beyond the value's end are
    /// not there. Does not allocate; finds the first page in constant time.
    #[must_use]
    pub fn part(&self, start: usize, end: usize) -> Part<'a> {
        let end = end.min(self.len());
        let left_bytes = end.saturating_sub(start);
        if left_bytes == 0 {
            return Part { chunks: Value::inline(&[]).chunks(), skip: 0, left_bytes: 0 };
        }
        match self.form {
            Form::Inline(bytes) => {
                Part { chunks: Value::inline(&bytes[start..end]).chunks(), skip: 0, left_bytes }
            }
            Form::Paged { ids, memory, page_shift, .. } => {
                let first = start >> page_shift;
                let skip = start - (first << page_shift);
                let ids = &ids[first * PAGE_ID_BYTES..];
                let len = end - (first << page_shift);
                Part {
                    chunks: Chunks { form: Form::Paged { len, ids, memory, page_shift } },
                    skip,
                    left_bytes,
                }
            }
        }
    }

    /// A copy of the value.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        self.chunks().for_each(|chunk| bytes.extend_from_slice(chunk));
        bytes
    }
}

impl PartialEq<[u8]> for Value<'_> {
    fn eq(&self, other: &[u8]) -> bool {
        let mut rest = other;
        self.len() == other.len()
            && self.chunks().all(|chunk| {
                let (front, back) = rest.split_at(chunk.len());
                rest = back;
                chunk == front
            })
    }
}

/// The chunks of a part of a [`Value`]. None of them is empty.
#[derive(Clone, Debug)]
pub struct Part<'a> {
    chunks: Chunks<'a>,
    /// Bytes of the first chunk that come before the part.
    skip: usize,
    left_bytes: usize,
}

impl<'a> Iterator for Part<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.left_bytes == 0 {
            return None;
        }
        let chunk = &self.chunks.next()?[std::mem::take(&mut self.skip)..];
        self.left_bytes -= chunk.len();
        Some(chunk)
    }
}

/// The chunks of a [`Value`]. None of them is empty.
#[derive(Clone, Debug)]
pub struct Chunks<'a> {
    form: Form<'a>,
}

impl<'a> Iterator for Chunks<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match &mut self.form {
            Form::Inline(bytes) => {
                let chunk = std::mem::take(bytes);
                (!chunk.is_empty()).then_some(chunk)
            }
            Form::Paged { len, ids, memory, page_shift } => {
                let (id, rest) = ids.split_first_chunk::<PAGE_ID_BYTES>()?;
                let start = (u32::from_le_bytes(*id) as usize) << *page_shift;
                let chunk = &memory[start..start + (*len).min(1 << *page_shift)];
                *len -= chunk.len();
                *ids = rest;
                Some(chunk)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inline_value_is_one_chunk() {
        let value = Value::inline(b"abc");
        assert_eq!(value.chunks().collect::<Vec<_>>(), [b"abc"]);
        assert_eq!(value.as_slice(), Some(&b"abc"[..]));
        assert!(value == b"abc"[..] && value != b"abd"[..] && value != b"ab"[..]);
        assert_eq!(Value::inline(b"").chunks().count(), 0);
        assert!(Value::inline(b"").is_empty());
    }

    #[test]
    fn a_paged_value_is_read_in_the_order_of_its_pages() {
        let memory: Vec<u8> = (0..64).collect();
        let ids: Vec<u8> = [3u32, 0, 1].iter().flat_map(|id| id.to_le_bytes()).collect();
        let value = Value::paged(18, &ids, &memory, 8);
        let expected: Vec<u8> = (24..32).chain(0..8).chain(8..10).collect();
        assert_eq!(value.len(), 18);
        assert_eq!(value.as_slice(), None);
        assert_eq!(value.chunks().map(<[u8]>::len).collect::<Vec<_>>(), [8, 8, 2]);
        assert_eq!(value.to_vec(), expected);
        assert!(value == expected[..]);
    }

    #[test]
    fn parts_are_what_a_slice_would_be() {
        let memory: Vec<u8> = (0..64).collect();
        let ids: Vec<u8> = [3u32, 0, 1].iter().flat_map(|id| id.to_le_bytes()).collect();
        let paged = Value::paged(18, &ids, &memory, 8);
        let bytes = paged.to_vec();
        for value in [paged, Value::inline(&bytes)] {
            for (start, end) in (0..20).flat_map(|start| (0..20).map(move |end| (start, end))) {
                let wanted = bytes.get(start..end.min(18)).unwrap_or_default();
                let chunks: Vec<&[u8]> = value.part(start, end).collect();
                assert_eq!(chunks.concat(), wanted, "{start}..{end}");
                assert!(chunks.iter().all(|chunk| !chunk.is_empty()));
            }
        }
    }
}
