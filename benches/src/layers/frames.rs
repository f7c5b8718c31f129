//! Requests as bytes, and the length of what answers them.
//!
//! Keys are `key:` and twelve digits, so that every request of a kind has one length. Values are
//! one letter, repeated.
//!
//! Cost: an append copies the frame and writes twelve digits; it allocates only what the output
//! lacks.

use crate::client::Protocol;

/// Bytes of every key.
pub(super) const KEY_BYTES: usize = 16;
/// The most keys that have different texts.
pub(super) const KEY_COUNT_MAX: u64 = 1_000_000_000_000;

const DIGITS: usize = 12;
const KEY_ZERO: &str = "key:000000000000";

const _: () = assert!(KEY_ZERO.len() == KEY_BYTES);
const _: () = assert!(10_u64.pow(DIGITS as u32) == KEY_COUNT_MAX);

/// Writes GET and SET requests of one protocol with values of one length.
#[derive(Clone, Debug)]
pub struct Frames {
    get: Template,
    set: Template,
    hit_bytes: usize,
    miss_bytes: usize,
    stored_bytes: usize,
}

/// A frame for key 0.
#[derive(Clone, Debug)]
struct Template {
    frame: Box<[u8]>,
    /// Where the key ends.
    key_end: usize,
}

impl Frames {
    /// Frames with values of `value_bytes`.
    pub fn new(protocol: Protocol, value_bytes: usize) -> Frames {
        let value = "v".repeat(value_bytes);
        let digits = value_bytes.to_string().len();
        match protocol {
            Protocol::Resp => Frames {
                get: Template::new("*2\r\n$3\r\nGET\r\n$16\r\n", "\r\n"),
                set: Template::new(
                    "*3\r\n$3\r\nSET\r\n$16\r\n",
                    &format!("\r\n${value_bytes}\r\n{value}\r\n"),
                ),
                hit_bytes: "$\r\n\r\n".len() + digits + value_bytes,
                miss_bytes: "$-1\r\n".len(),
                stored_bytes: "+OK\r\n".len(),
            },
            Protocol::Memcached => Frames {
                get: Template::new("get ", "\r\n"),
                set: Template::new("set ", &format!(" 0 0 {value_bytes}\r\n{value}\r\n")),
                hit_bytes: "VALUE  0 \r\n\r\nEND\r\n".len() + KEY_BYTES + digits + value_bytes,
                miss_bytes: "END\r\n".len(),
                stored_bytes: "STORED\r\n".len(),
            },
            Protocol::Meta => Frames {
                get: Template::new("mg ", " v\r\n"),
                set: Template::new("ms ", &format!(" {value_bytes}\r\n{value}\r\n")),
                hit_bytes: "VA \r\n\r\n".len() + digits + value_bytes,
                miss_bytes: "EN\r\n".len(),
                stored_bytes: "HD\r\n".len(),
            },
        }
    }

    /// Appends a GET of key number `key`.
    pub fn append_get(&self, key: u64, out: &mut Vec<u8>) {
        self.get.append(key, out);
    }

    /// Appends a SET of key number `key`.
    pub fn append_set(&self, key: u64, out: &mut Vec<u8>) {
        self.set.append(key, out);
    }

    /// Bytes of the reply to a GET that hits.
    pub fn hit_bytes(&self) -> usize {
        self.hit_bytes
    }

    /// Bytes of the reply to a GET that misses.
    pub fn miss_bytes(&self) -> usize {
        self.miss_bytes
    }

    /// Bytes of the reply to a SET that stores.
    pub fn stored_bytes(&self) -> usize {
        self.stored_bytes
    }
}

impl Template {
    fn new(before: &str, after: &str) -> Template {
        let frame = format!("{before}{KEY_ZERO}{after}").into_bytes().into();
        Template { frame, key_end: before.len() + KEY_BYTES }
    }

    fn append(&self, key: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.frame);
        let key_end = start + self.key_end;
        write_digits(key, &mut out[key_end - DIGITS..key_end]);
    }
}

/// Appends the text of key number `key` alone.
pub(super) fn append_key(key: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(KEY_ZERO.as_bytes());
    let end = out.len();
    write_digits(key, &mut out[end - DIGITS..]);
}

fn write_digits(mut number: u64, out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(append: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut bytes = Vec::new();
        append(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn frames_are_what_the_protocols_say() {
        let resp = Frames::new(Protocol::Resp, 3);
        assert_eq!(
            text(|out| resp.append_get(42, out)),
            "*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000042\r\n"
        );
        assert_eq!(
            text(|out| resp.append_set(KEY_COUNT_MAX - 1, out)),
            "*3\r\n$3\r\nSET\r\n$16\r\nkey:999999999999\r\n$3\r\nvvv\r\n"
        );
        let memcached = Frames::new(Protocol::Memcached, 10);
        assert_eq!(text(|out| memcached.append_get(7, out)), "get key:000000000007\r\n");
        assert_eq!(
            text(|out| memcached.append_set(7, out)),
            "set key:000000000007 0 0 10\r\nvvvvvvvvvv\r\n"
        );
        assert_eq!(text(|out| append_key(7, out)), "key:000000000007");
    }

    #[test]
    fn replies_have_the_lengths_that_the_protocols_give_them() {
        let resp = Frames::new(Protocol::Resp, 10);
        assert_eq!(resp.hit_bytes(), "$10\r\nvvvvvvvvvv\r\n".len());
        assert_eq!((resp.miss_bytes(), resp.stored_bytes()), (5, 5));
        let memcached = Frames::new(Protocol::Memcached, 10);
        let hit = "VALUE key:000000000007 0 10\r\nvvvvvvvvvv\r\nEND\r\n";
        assert_eq!(memcached.hit_bytes(), hit.len());
        assert_eq!((memcached.miss_bytes(), memcached.stored_bytes()), (5, 8));
    }
}
