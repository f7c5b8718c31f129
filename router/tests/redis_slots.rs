//! Slots as a Redis server computes them: the answers of `CLUSTER KEYSLOT` from Redis 7.0.15.

use pinion_router::{Slot, slot};

const GOLDEN: &[(&[u8], u16)] = &[
    (b"", 0),
    (b"foo", 12182),
    (b"bar", 5061),
    (b"hello", 866),
    (b"123456789", 12739),
    (b"somekey", 11058),
    (b"key:0", 2592),
    (b"key:1", 6657),
    (b"memtier-1", 3498),
    (b"0123456789abcdef", 10405),
    (b"the quick brown fox jumps over the lazy dog", 12325),
    (b"user1000", 3443),
    (b"{user1000}.following", 3443),
    (b"{user1000}.followers", 3443),
    (b"foo{}{bar}", 8363),
    (b"foo{{bar}}zap", 4015),
    (b"foo{bar}{zap}", 5061),
    (b"foo{", 7673),
    (b"foo}", 15679),
    (b"}{", 12793),
    (b"{}", 15257),
    (b"{}key", 14961),
    (b"a{b", 13340),
    (b"a}b{c}d", 7365),
    (b"\x00", 0),
    (b"\r\n", 5910),
    (b"\x00{\x00\x80}\xff", 4488),
    (&[0xff; 17], 8176),
    (&[b'a'; 1000], 6383),
];

#[test]
fn slots_are_those_of_redis() {
    for &(key, expected) in GOLDEN {
        assert_eq!(Some(slot(key)), Slot::new(expected), "key {}", key.escape_ascii());
    }
}

#[test]
fn a_key_of_every_byte_value_has_the_slot_of_redis() {
    let key: Vec<u8> = (0..=255).collect();
    assert_eq!(slot(&key).number(), 16155);
}
