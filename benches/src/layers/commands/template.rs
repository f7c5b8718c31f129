//! Requests written as a person would type them, with places for what differs from one to the next.
//!
//! | written | sent |
//! |---|---|
//! | `<key>` | twelve digits, the number of the key that the request is for |
//! | `<other>` | twelve digits, another key's, drawn anew each time |
//! | `<value>` | 64 bytes, as `<bytes:64>` |
//! | `<bytes:N>` | the letter v, N times |
//! | `<letters:N>` | N random letters from a to h |
//! | `<number:N>` | a random number below N, without leading zeros |
//! | `<dump>` | what DUMP gave for key 0 |
//! | `[N words ]` | the words, N times |
//! | `;` | the end of a command, where another one follows |
//! | `/` | the end of a line, within a command of memcached |
//!
//! All of these are words of their own but those in angle brackets, which may be a part of a word.
//!
//! Cost: writing a request is for the time when no clock runs; it copies each word twice.

use super::super::LayerError;
use crate::client::{Prng, Protocol};

/// Bytes of `<value>`.
const VALUE_BYTES: usize = 64;
/// The most that a number in a template may be.
const NUMBER_MAX: u64 = 8 << 20;
/// Words of a template after repetition, at most.
const WORDS_MAX: usize = 100_000;

/// A request of one or more commands. See the module's page.
#[derive(Clone, Debug)]
pub(super) struct Template {
    protocol: Protocol,
    commands: Vec<Vec<Word>>,
}

/// What a part of a word stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Key,
    Other,
    Bytes(usize),
    Letters(usize),
    Number(u64),
    Dump,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Pieces(Vec<Piece>),
    LineEnd,
}

/// What fills the places of one request.
pub(super) struct Filling<'a> {
    /// The number of its key.
    pub(super) key: u64,
    /// Other keys are drawn below this.
    pub(super) key_count: u64,
    /// What `<dump>` stands for.
    pub(super) dump: &'a [u8],
    /// Draws.
    pub(super) prng: &'a mut Prng,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// [`LayerError::Usage`] with what is wrong in it.
    pub(super) fn parse(text: &str, protocol: Protocol) -> Result<Template, LayerError> {
        let wrong = |what: &str| LayerError::Usage(format!("the command {text:?} {what}"));
        let mut commands = vec![Vec::new()];
        // Where a repetition began in the last command, and how often it is to be there.
        let mut repeat: Option<(usize, u64)> = None;
        for word in text.split_whitespace() {
            let last = commands.last_mut().expect("there is always one");
            match word {
                ";" if repeat.is_none() => commands.push(Vec::new()),
                "/" if protocol != Protocol::Resp => last.push(Word::LineEnd),
                "]" => {
                    let (from, count) = repeat.take().ok_or_else(|| wrong("has a ] too many"))?;
                    let words = last.split_off(from);
                    if words.len() as u64 * count > WORDS_MAX as u64 {
                        return Err(wrong("is too long"));
                    }
                    (0..count).for_each(|_| last.extend_from_slice(&words));
                }
                _ if word.starts_with('[') => {
                    let count = number(&word[1..]).ok_or_else(|| wrong("wants [ and a number"))?;
                    if repeat.replace((last.len(), count)).is_some() {
                        return Err(wrong("has a [ within another"));
                    }
                }
                _ => last.push(Word::Pieces(pieces(word).map_err(|what| wrong(&what))?)),
            }
        }
        if repeat.is_some() {
            return Err(wrong("lacks a ]"));
        }
        if commands.iter().any(Vec::is_empty) {
            return Err(wrong("is empty, or has a ; too many"));
        }
        Ok(Template { protocol, commands })
    }

    /// Whose language it is written in.
    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Commands of a request.
    pub(super) fn commands(&self) -> usize {
        self.commands.len()
    }

    /// Whether it has a place for [`Filling::dump`].
    pub(super) fn has_dump(&self) -> bool {
        let is_dump = |word: &Word| match word {
            Word::Pieces(pieces) => pieces.contains(&Piece::Dump),
            Word::LineEnd => false,
        };
        self.commands.iter().flatten().any(is_dump)
    }

    /// Appends a request.
    pub(super) fn append(&self, filling: &mut Filling<'_>, out: &mut Vec<u8>) {
        for words in &self.commands {
            match self.protocol {
                Protocol::Resp => append_resp(words, filling, out),
                Protocol::Memcached | Protocol::Meta => append_lines(words, filling, out),
            }
        }
    }
}

fn append_resp(words: &[Word], filling: &mut Filling<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    let mut text = Vec::new();
    for word in words {
        text.clear();
        append_word(word, filling, &mut text);
        out.extend_from_slice(format!("${}\r\n", text.len()).as_bytes());
        out.extend_from_slice(&text);
        out.extend_from_slice(b"\r\n");
    }
}

fn append_lines(words: &[Word], filling: &mut Filling<'_>, out: &mut Vec<u8>) {
    let mut is_first = true;
    for word in words {
        if *word == Word::LineEnd {
            out.extend_from_slice(b"\r\n");
            is_first = true;
            continue;
        }
        if !is_first {
            out.push(b' ');
        }
        is_first = false;
        append_word(word, filling, out);
    }
    out.extend_from_slice(b"\r\n");
}

fn append_word(word: &Word, filling: &mut Filling<'_>, out: &mut Vec<u8>) {
    let Word::Pieces(pieces) = word else { return };
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Key => out.extend_from_slice(format!("{:012}", filling.key).as_bytes()),
            Piece::Other => {
                let other = filling.prng.below(filling.key_count);
                out.extend_from_slice(format!("{other:012}").as_bytes());
            }
            Piece::Bytes(count) => out.resize(out.len() + count, b'v'),
            Piece::Letters(count) => {
                out.extend((0..*count).map(|_| b'a' + filling.prng.below(8) as u8));
            }
            Piece::Number(bound) => {
                out.extend_from_slice(filling.prng.below(*bound).to_string().as_bytes());
            }
            Piece::Dump => out.extend_from_slice(filling.dump),
        }
    }
}

/// Takes a word apart.
fn pieces(word: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = word;
    while let Some((text, behind)) = rest.split_once('<') {
        if !text.is_empty() {
            pieces.push(Piece::Text(text.to_owned()));
        }
        let (name, behind) = behind.split_once('>').ok_or("lacks a >")?;
        pieces.push(place(name).ok_or_else(|| format!("has an unknown place <{name}>"))?);
        rest = behind;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

fn place(name: &str) -> Option<Piece> {
    match name.split_once(':') {
        None => match name {
            "key" => Some(Piece::Key),
            "other" => Some(Piece::Other),
            "value" => Some(Piece::Bytes(VALUE_BYTES)),
            "dump" => Some(Piece::Dump),
            _ => None,
        },
        Some(("bytes", count)) => number(count).map(|count| Piece::Bytes(count as usize)),
        Some(("letters", count)) => number(count).map(|count| Piece::Letters(count as usize)),
        Some(("number", bound)) => number(bound).map(Piece::Number),
        Some(_) => None,
    }
}

/// A number from 1 to [`NUMBER_MAX`].
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| (1..=NUMBER_MAX).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str, protocol: Protocol) -> String {
        let template = Template::parse(text, protocol).unwrap();
        let mut prng = Prng::new(1);
        let mut out = Vec::new();
        let dump: &[u8] = b"D";
        template.append(&mut Filling { key: 7, key_count: 1, dump, prng: &mut prng }, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn requests_are_what_the_protocols_say() {
        assert_eq!(
            written("GET key:<key> ; X <dump> <number:1>", Protocol::Resp),
            "*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000007\r\n*3\r\n$1\r\nX\r\n$1\r\nD\r\n$1\r\n0\r\n"
        );
        assert_eq!(
            written("set k<key> 0 0 3 / <bytes:3> ; mn", Protocol::Meta),
            "set k000000000007 0 0 3\r\nvvv\r\nmn\r\n"
        );
        assert_eq!(written("get [3 <other> ]", Protocol::Memcached).len(), "get\r\n".len() + 39);
        assert_eq!(
            written("get a<letters:5><value>", Protocol::Memcached).len(),
            4 + 1 + 5 + 64 + 2
        );
        let pair = Template::parse("DEL a ; SET a <dump>", Protocol::Resp).unwrap();
        assert_eq!((pair.commands(), pair.has_dump(), pair.protocol()), (2, true, Protocol::Resp));
        assert!(!Template::parse("mg a / b", Protocol::Meta).unwrap().has_dump());
    }

    #[test]
    fn nonsense_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", "is empty"),
            ("GET a ;", "a ; too many"),
            ("GET <keys>", "an unknown place <keys>"),
            ("GET <bytes:0>", "an unknown place"),
            ("GET <bytes:8388609>", "an unknown place"),
            ("GET <key", "lacks a >"),
            ("GET [2 a", "lacks a ]"),
            ("GET a ]", "a ] too many"),
            ("GET [x a ]", "wants [ and a number"),
            ("GET [2 [3 a ] ]", "a [ within another"),
            ("GET [99999 a b ]", "is too long"),
        ] {
            let error = Template::parse(text, Protocol::Resp).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
