//! Replies of memcached's text protocol.
//!
//! Cost: a few appends each; no allocation while the capacity suffices, no `core::fmt`.

use crate::protocol::number::{DECIMAL_BYTES_MAX, Decimal};

/// Appends replies to an output buffer.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    /// A writer at the end of `out`.
    #[inline]
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    /// One hit of a retrieval, with its version for `gets` and `gats`. After the last follows
    /// [`end`](Self::end).
    #[inline]
    pub fn value(&mut self, key: &[u8], flags: u32, data: &[u8], version: Option<u64>) {
        // One check of the capacity instead of many that may each grow it.
        self.out.reserve(key.len() + data.len() + 3 * DECIMAL_BYTES_MAX + 16);
        self.value_header(key, flags, data.len(), version);
        self.out.extend_from_slice(data);
        self.out.extend_from_slice(b"\r\n");
    }

    /// The line before the data of one hit; the caller appends the data and a line end.
    #[inline]
    pub fn value_header(
        &mut self,
        key: &[u8],
        flags: u32,
        length_bytes: usize,
        version: Option<u64>,
    ) {
        self.out.extend_from_slice(b"VALUE ");
        self.out.extend_from_slice(key);
        if flags == 0 {
            self.out.extend_from_slice(b" 0 ");
        } else {
            self.out.push(b' ');
            self.out.extend_from_slice(Decimal::new(u64::from(flags)).as_bytes());
            self.out.push(b' ');
        }
        self.out.extend_from_slice(Decimal::new(length_bytes as u64).as_bytes());
        if let Some(version) = version {
            self.out.push(b' ');
            self.out.extend_from_slice(Decimal::new(version).as_bytes());
        }
        self.out.extend_from_slice(b"\r\n");
    }

    /// The end of a retrieval or of statistics.
    #[inline]
    pub fn end(&mut self) {
        self.out.extend_from_slice(b"END\r\n");
    }

    /// The outcome of a request that stores.
    #[inline]
    pub fn stored(&mut self) {
        self.out.extend_from_slice(b"STORED\r\n");
    }

    /// The condition of an `add`, `replace`, `append` or `prepend` does not hold.
    #[inline]
    pub fn not_stored(&mut self) {
        self.out.extend_from_slice(b"NOT_STORED\r\n");
    }

    /// The value has another version than the `cas` names.
    #[inline]
    pub fn exists(&mut self) {
        self.out.extend_from_slice(b"EXISTS\r\n");
    }

    /// The key has no value.
    #[inline]
    pub fn not_found(&mut self) {
        self.out.extend_from_slice(b"NOT_FOUND\r\n");
    }

    /// The outcome of a `delete`.
    #[inline]
    pub fn deleted(&mut self) {
        self.out.extend_from_slice(b"DELETED\r\n");
    }

    /// The outcome of a `touch`.
    #[inline]
    pub fn touched(&mut self) {
        self.out.extend_from_slice(b"TOUCHED\r\n");
    }

    /// The outcome of an `incr` or `decr`.
    #[inline]
    pub fn number(&mut self, number: u64) {
        self.out.extend_from_slice(Decimal::new(number).as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    /// One line of statistics.
    pub fn stat(&mut self, name: &str, value: &str) {
        for part in ["STAT ", name, " ", value, "\r\n"] {
            self.out.extend_from_slice(part.as_bytes());
        }
    }

    /// The same for a number.
    pub fn stat_number(&mut self, name: &str, value: u64) {
        for part in ["STAT ", name, " "] {
            self.out.extend_from_slice(part.as_bytes());
        }
        self.number(value);
    }

    /// Any other line: errors, `OK`, `VERSION`, `RESET`. `text` holds no line end.
    #[inline]
    pub fn line(&mut self, text: &str) {
        debug_assert!(!text.contains(['\r', '\n']));
        self.out.extend_from_slice(text.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl Fn(&mut Writer)) -> String {
        let mut out = Vec::new();
        write(&mut Writer::new(&mut out));
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn replies_are_those_of_the_protocol() {
        assert_eq!(written(|w| w.value(b"k", 0, b"", None)), "VALUE k 0 0\r\n\r\n");
        assert_eq!(
            written(|w| w.value(b"key", u32::MAX, b"0123456789", Some(u64::MAX))),
            "VALUE key 4294967295 10 18446744073709551615\r\n0123456789\r\n"
        );
        assert_eq!(written(|w| w.value_header(b"k", 7, 9, Some(0))), "VALUE k 7 9 0\r\n");
        assert_eq!(written(|w| w.end()), "END\r\n");
        assert_eq!(written(|w| w.stored()), "STORED\r\n");
        assert_eq!(written(|w| w.not_stored()), "NOT_STORED\r\n");
        assert_eq!(written(|w| w.exists()), "EXISTS\r\n");
        assert_eq!(written(|w| w.not_found()), "NOT_FOUND\r\n");
        assert_eq!(written(|w| w.deleted()), "DELETED\r\n");
        assert_eq!(written(|w| w.touched()), "TOUCHED\r\n");
        assert_eq!(written(|w| w.number(10)), "10\r\n");
        assert_eq!(written(|w| w.stat("pid", "x")), "STAT pid x\r\n");
        assert_eq!(written(|w| w.stat_number("pid", 12)), "STAT pid 12\r\n");
        assert_eq!(written(|w| w.line("OK")), "OK\r\n");
    }

    #[test]
    fn nothing_allocates_when_the_capacity_suffices() {
        let mut out = Vec::with_capacity(2048);
        let place = out.as_ptr();
        let mut writer = Writer::new(&mut out);
        writer.value(&[b'k'; 250], u32::MAX, &[b'v'; 1000], Some(u64::MAX));
        writer.number(u64::MAX);
        assert_eq!(out.as_ptr(), place);
    }
}
