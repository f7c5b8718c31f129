//! The bytes of items: every form reads back as it was written.

use super::deadline::{NEAR_MS_MAX, NO_NEAR};
use super::*;
use crate::bounds::{CLOCK_CHECK_MS, OVERDUE_MS_MAX};

const PLAIN: Header = Header {
    dead: false,
    paged: false,
    key_bytes: 16,
    value_bytes: 64,
    version: Version::Counted(1),
    flags: 0,
    deadline: StoredDeadline::None,
    plane: false,
    space: 0,
    marks: Marks::NONE,
};

#[test]
fn a_plain_small_item_has_nine_bytes_of_header() {
    assert_eq!(PLAIN.header_bytes(), 9);
    assert_eq!(PLAIN.header_bytes(), HEADER_BYTES_MIN);
    assert_eq!(PLAIN.item_bytes(16 << 10), 89);
}

#[test]
fn every_combination_of_fields_reads_back() {
    let versions = [0, 1, NARROW_VERSION_MAX].map(Version::Counted);
    let versions = versions.into_iter().chain([Version::Wide(1), Version::Wide(u64::MAX)]);
    let deadlines =
        [StoredDeadline::None, StoredDeadline::Near(5), StoredDeadline::Far(DEADLINE_MS_MAX)];
    let values = [0, 255, 256, 65_535, 65_536];
    for version in versions {
        for deadline in deadlines {
            let plane = version.number() == 1 && deadline != StoredDeadline::None;
            let space = if plane { 31 } else { 0 };
            for (key_bytes, flags) in [(0, 0), (255, 1), (256, u32::MAX), (65_535, 9)] {
                for (value_bytes, paged) in values.map(|bytes| (bytes, bytes > 256)) {
                    let header = Header {
                        key_bytes,
                        value_bytes,
                        paged,
                        version,
                        flags,
                        deadline,
                        plane,
                        space,
                        ..PLAIN
                    };
                    let mut bytes = vec![0xaa; HEADER_BYTES_MAX + key_bytes];
                    let header_bytes = header.encode(&mut bytes);
                    assert_eq!(header_bytes, header.header_bytes());
                    assert_eq!(Header::decode_with_length(&bytes), (header, header_bytes));
                    let key = vec![7; key_bytes];
                    bytes.resize(header_bytes + key_bytes, 0);
                    bytes[header_bytes..].copy_from_slice(&key);
                    assert!(key_is(&bytes, &key, space));
                    assert!(!key_is(&bytes, &key, space ^ 1));
                    assert!(!key_is(&bytes, &[&key[..], b"x"].concat(), space));
                    set_dead(&mut bytes);
                    assert_eq!(Header::decode(&bytes), Header { dead: true, ..header });
                }
            }
        }
    }
}

#[test]
fn marks_take_the_attributes_byte_and_share_it() {
    for (stale, token_sent) in [(true, false), (false, true), (true, true)] {
        let of_item = Marks { stale, token_sent };
        for (version, space) in [(Version::Counted(7), 0), (Version::Wide(u64::MAX), 31)] {
            let header = Header { marks: of_item, version, space, ..PLAIN };
            let mut bytes = [0; HEADER_BYTES_MAX + 16];
            let header_bytes = header.encode(&mut bytes);
            assert_eq!(Header::decode_with_length(&bytes), (header, header_bytes));
            assert_eq!(marks(&bytes), of_item);
        }
    }
    let marked = Header { marks: Marks { stale: true, token_sent: false }, ..PLAIN };
    assert_eq!(marked.header_bytes(), PLAIN.header_bytes() + 1);
}

#[test]
fn four_byte_lengths_of_inline_values_read_back() {
    let header = Header { value_bytes: 100_000, ..PLAIN };
    let mut bytes = [0; HEADER_BYTES_MAX];
    assert_eq!(header.encode(&mut bytes), 12);
    assert_eq!(Header::decode(&bytes), header);
}

#[test]
fn deadlines_choose_their_form_and_keep_it() {
    let now = 1_000_000;
    let near = StoredDeadline::shortest(Some(now + 9), now);
    assert_eq!(near, StoredDeadline::Near(now as u32 + 9));
    assert_eq!(near.resolve(now), Some(now + 9));
    let before = StoredDeadline::shortest(Some(now - 1), now);
    assert_eq!(before, StoredDeadline::Far(now - 1));
    let edge = now + NEAR_MS_MAX;
    assert_eq!(StoredDeadline::shortest(Some(edge), now).bytes(), 4);
    let far = StoredDeadline::shortest(Some(edge + 1), now);
    assert_eq!(far, StoredDeadline::Far(edge + 1));
    assert_eq!(near.same_form(Some(edge + 1), now), None);
    assert_eq!(far.same_form(Some(now + 9), now).unwrap().resolve(now), Some(now + 9));
    for stored in [near, far, StoredDeadline::None] {
        let without = stored.same_form(None, now).unwrap();
        assert_eq!(without.resolve(now), None);
        assert_eq!(without.bytes(), stored.bytes());
    }
    assert_eq!(StoredDeadline::None.same_form(Some(now), now), None);
    let forever = StoredDeadline::shortest(Some(u64::MAX), now);
    assert_eq!(forever.resolve(now), Some(DEADLINE_MS_MAX));
}

#[test]
fn a_near_deadline_reads_back_until_long_after_it_has_come() {
    let wrap = 1 << 32;
    for now in [0, 1, wrap / 2, wrap - 1, wrap, 7 * wrap - 5, (1 << 46) + 12_345] {
        for away in [1, 2, 4, 1_000, NEAR_MS_MAX - 1, NEAR_MS_MAX] {
            let deadline = now + away;
            let stored = StoredDeadline::shortest(Some(deadline), now);
            if deadline as u32 == NO_NEAR {
                assert_eq!(stored, StoredDeadline::Far(deadline), "the mark for none");
            } else {
                assert_eq!(stored, StoredDeadline::Near(deadline as u32));
            }
            for later in [now, now + away / 2, deadline - 1, deadline] {
                assert_eq!(stored.resolve(later), Some(deadline));
            }
            for overdue in [1, OVERDUE_MS_MAX, OVERDUE_MS_MAX + CLOCK_CHECK_MS] {
                assert_eq!(stored.resolve(deadline + overdue), Some(deadline));
            }
        }
    }
}

#[test]
fn a_deadline_is_overwritten_in_place() {
    let header = Header { deadline: StoredDeadline::Near(5), flags: 3, ..PLAIN };
    let mut bytes = [0; HEADER_BYTES_MAX];
    header.encode(&mut bytes);
    set_deadline(&mut bytes, &header, StoredDeadline::Near(77));
    let now = Header { deadline: StoredDeadline::Near(77), ..header };
    assert_eq!(Header::decode(&bytes), now);
    for plane in [true, false] {
        set_plane(&mut bytes, &now, plane);
        assert_eq!(Header::decode(&bytes), Header { plane, ..now });
    }
}

#[test]
fn a_counter_past_six_bytes_goes_wide() {
    assert_eq!(Version::counted(1 << 48), Version::Wide(1 << 48));
    assert_eq!(Version::counted(9), Version::Counted(9));
}
