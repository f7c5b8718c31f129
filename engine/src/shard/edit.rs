//! Values that are changed where they lie, without copying the rest of them.
//!
//! An edit may leave the value as long as it is, or let it grow into the room behind it in its last
//! page. Where that is not possible ([`Shard::edit`] says when) the whole value must be stored anew.
//!
//! Cost: one look-up, and the bytes that are read and written; no allocation.

use super::{Found, Shard};
use crate::bounds::PAGE_BYTES_MAX;
use crate::hash::KeyHash;
use crate::item::{Header, Version};
use crate::request::Marks;

/// A value that is being changed in place, from [`Shard::edit`].
#[derive(Debug)]
pub struct Editor<'a> {
    shard: &'a mut Shard,
    found: Found,
}

impl Shard {
    /// Opens the value of a key for changes in place, and counts it as a write: the item gets its
    /// next version, keeps its flags and deadline, and was used. A value shorter than `length_bytes`
    /// grows to that, filled with zeros; a longer one stays as long as it is.
    ///
    /// `None` when that cannot happen in place: there is no such item, it would take another page
    /// or a longer header, readers have pinned it, a client chose its version, or what it costs
    /// would change. Nothing has happened then.
    pub fn edit(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        length_bytes: usize,
        now_ms: u64,
    ) -> Option<Editor<'_>> {
        self.begin(now_ms);
        let found = self.find_live(hash, key)?;
        let old_bytes = found.header.value_bytes;
        let header = Header {
            version: Version::counted(self.version + 1),
            value_bytes: old_bytes.max(length_bytes),
            // A change ends a lease, as any other store does.
            marks: Marks::NONE,
            ..found.header
        };
        let page_bytes = self.log.page_bytes();
        let grows = header.value_bytes > old_bytes;
        if header.header_bytes() != found.header_bytes
            || header.value_bytes > self.value_bytes_max
            || (grows && !header.paged)
            || self.log.cost_of(&header) != self.log.cost_of(&found.header)
            || header.pages(page_bytes) != found.header.pages(page_bytes)
            || self.log.pin_of(found.offset, &found.header).is_some()
        {
            return None;
        }
        header.encode(self.log.at_mut(found.offset, found.header_bytes));
        if found.header.marks.token_sent {
            self.leases.end(hash);
        }
        let found = Found { header, ..found };
        self.mark_used(hash, found.slot, found.offset);
        self.counters.overwrites_in_place += 1;
        self.version += 1;
        self.sweep_some();
        let mut editor = Editor { shard: self, found };
        if grows {
            // Less than a page: the number of pages has stayed.
            let zeros = [0; PAGE_BYTES_MAX];
            editor.write(old_bytes, &zeros[..header.value_bytes - old_bytes]);
        }
        Some(editor)
    }
}

impl Editor<'_> {
    /// Bytes of the value.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.found.header.value_bytes
    }

    /// The item's version.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.found.header.version.number()
    }

    /// Reads as many bytes as `bytes` takes, from `offset` on. Those beyond the value's end are 0.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) {
        let (end, mut rest) = (offset.saturating_add(bytes.len()), bytes);
        for chunk in self.shard.entry(&self.found, 0).value.part(offset, end) {
            let (front, back) = rest.split_at_mut(chunk.len());
            front.copy_from_slice(chunk);
            rest = back;
        }
        rest.fill(0);
    }

    /// Writes bytes from `offset` on. Those beyond the value's end are dropped, and a mistake.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        let left_bytes = self.len().saturating_sub(offset);
        debug_assert!(bytes.len() <= left_bytes, "an edit within the value");
        let bytes = &bytes[..bytes.len().min(left_bytes)];
        let Found { offset: item, header, header_bytes, .. } = self.found;
        let log = &mut self.shard.log;
        if header.paged {
            log.patch_pages(log.page_ids_offset(item, &header), offset, bytes);
        } else {
            let value_at = item + (header_bytes + header.key_bytes) as u64;
            log.at_mut(value_at + offset as u64, bytes.len()).copy_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ShardConfig;
    use crate::request::{Deadline, SetOptions};

    fn read(shard: &mut Shard, name: &[u8]) -> Vec<u8> {
        let hash = shard.hash(name);
        shard.get(hash, name, 0).expect("stored").value.to_vec()
    }

    #[test]
    fn edits_change_what_they_say_and_keep_the_rest() {
        let mut shard = Shard::new(&ShardConfig::default()).expect("a shard");
        for bytes in [1, 40, 3_000, 32 << 10, 40_000, 100_000] {
            let hash = shard.hash(b"key");
            let mut value: Vec<u8> = (0..bytes).map(|i| (i % 251) as u8).collect();
            let options =
                SetOptions { flags: Some(7), deadline: Deadline::At(9_000), ..Default::default() };
            shard.set(hash, b"key", &value, &options, 0).expect("room");
            let version = shard.peek(hash, b"key", 0).expect("stored").version();
            for offset in [0, bytes / 3, bytes / 2, bytes - 1] {
                let length = 40.min(bytes - offset);
                let new = vec![offset as u8 ^ 0x5a; length];
                let mut editor = shard.edit(hash, b"key", 0, 0).expect("in place");
                let mut old = vec![1; length + 9];
                editor.read(offset, &mut old);
                let mut expected = value[offset..].to_vec();
                expected.resize(length + 9 + expected.len(), 0);
                assert_eq!(old, expected[..length + 9]);
                editor.write(offset, &new);
                value[offset..offset + length].copy_from_slice(&new);
                assert_eq!(editor.len(), bytes);
            }
            let entry = shard.peek(hash, b"key", 0).expect("stored");
            assert_eq!((entry.flags(), entry.deadline_ms()), (7, Some(9_000)));
            assert_eq!(entry.version(), version + 4);
            assert_eq!(read(&mut shard, b"key"), value);
            shard.validate().expect("consistent");
        }
        assert!(shard.edit(shard.hash(b"none"), b"none", 0, 0).is_none());
        assert!(shard.edit(shard.hash(b"key"), b"key", 0, 9_000).is_none(), "expired");
    }

    #[test]
    fn a_value_grows_in_its_last_page_and_no_further() {
        let mut shard = Shard::new(&ShardConfig::default()).expect("a shard");
        let (hash, page_bytes) = (shard.hash(b"key"), shard.log.page_bytes());
        let mut value = vec![9; 2 * page_bytes + 5];
        // What was in the page before must not show.
        shard.set(hash, b"old", &vec![0xff; 8 * page_bytes], &SetOptions::default(), 0).unwrap();
        shard.delete(hash, b"old", None, 0);
        shard.set(hash, b"key", &value, &SetOptions::default(), 0).expect("room");
        for length in [2 * page_bytes + 6, 3 * page_bytes - 1, 3 * page_bytes] {
            let editor = shard.edit(hash, b"key", length, 0).expect("in place");
            assert_eq!(editor.len(), length);
            value.resize(length, 0);
            assert_eq!(read(&mut shard, b"key"), value);
            shard.validate().expect("consistent");
        }
        assert!(shard.edit(hash, b"key", 3 * page_bytes + 1, 0).is_none());
        shard.set(hash, b"key", b"short", &SetOptions::default(), 0).expect("room");
        assert!(shard.edit(hash, b"key", 6, 0).is_none());
    }

    #[test]
    fn what_is_being_read_stays_as_it_is() {
        let mut shard = Shard::new(&ShardConfig::default()).expect("a shard");
        let hash = shard.hash(b"key");
        shard.set(hash, b"key", &[1; 50_000], &SetOptions::default(), 0).expect("room");
        let mut pinned = shard.pin(hash, b"key", 0).expect("within the limit").expect("paged");
        assert!(shard.edit(hash, b"key", 0, 0).is_none());
        pinned.narrow(20_000, 49_999);
        assert_eq!(pinned.len(), 29_999);
        assert_eq!(shard.pinned_chunk(&pinned, 29_998), [1]);
        assert_eq!(shard.pinned_chunk(&pinned, 29_999), []);
        shard.unpin(pinned);
        shard.edit(hash, b"key", 0, 0).expect("in place").write(0, &[2]);
        assert_eq!(read(&mut shard, b"key")[..2], [2, 1]);
        let options = SetOptions { version: Some(5), ..SetOptions::default() };
        shard.set(hash, b"key", b"value", &options, 0).expect("room");
        assert!(shard.edit(hash, b"key", 0, 0).is_none(), "a version of a client");
    }
}
