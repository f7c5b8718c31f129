//! Replies to `stats`, which both of memcached's protocols have: names with values, and an end.

use std::fmt::{self, Write as _};

use super::binary::{Reply, Status, Tag};

/// The form of the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatForm {
    /// A line for each, and `END`.
    Text,
    /// A reply for each, and an empty one. All repeat what this is of the request.
    Binary(Tag),
}

/// Writes statistics.
#[derive(Debug)]
pub struct Statistics<'a> {
    out: &'a mut Vec<u8>,
    form: StatForm,
}

/// A sink that cannot fail.
struct Bytes<'a>(&'a mut Vec<u8>);

impl fmt::Write for Bytes<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

impl<'a> Statistics<'a> {
    /// Writes to the end of `out`.
    pub fn new(out: &'a mut Vec<u8>, form: StatForm) -> Statistics<'a> {
        Statistics { out, form }
    }

    /// Adds a value under its name; neither holds a line end. Does not allocate for a text.
    pub fn add(&mut self, name: impl fmt::Display, value: impl fmt::Display) {
        match self.form {
            StatForm::Text => {
                // The sink does not fail, and neither do the values.
                let _ = write!(Bytes(self.out), "STAT {name} {value}\r\n");
            }
            StatForm::Binary(tag) => {
                let (name, value) = (name.to_string(), value.to_string());
                let reply = Reply { key: name.as_bytes(), ..Reply::to(tag, Status::Success) };
                reply.write(self.out, value.as_bytes());
            }
        }
    }

    /// Ends the reply.
    pub fn end(self) {
        match self.form {
            StatForm::Text => self.out.extend_from_slice(b"END\r\n"),
            StatForm::Binary(tag) => Reply::to(tag, Status::Success).write(self.out, b""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let tag = Tag { opcode: 0x10, opaque: [1, 2, 3, 4] };
        let (mut text, mut binary) = (Vec::new(), Vec::new());
        for (out, form) in [(&mut text, StatForm::Text), (&mut binary, StatForm::Binary(tag))] {
            let mut statistics = Statistics::new(out, form);
            statistics.add("pid", 17);
            statistics.add(format_args!("{}:state", 5), "idle");
            statistics.end();
        }
        assert_eq!(text, b"STAT pid 17\r\nSTAT 5:state idle\r\nEND\r\n");
        let reply = |name: &[u8], value: &[u8]| {
            let mut out = Vec::new();
            Reply { key: name, ..Reply::to(tag, Status::Success) }.write(&mut out, value);
            out
        };
        assert_eq!(
            binary,
            [reply(b"pid", b"17"), reply(b"5:state", b"idle"), reply(b"", b"")].concat()
        );
    }
}
