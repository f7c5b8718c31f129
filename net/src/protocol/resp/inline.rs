//! Inline commands: a line of words, `SET key "a value"`, as people type them.
//!
//! Words end at blanks. Double quotes take the escapes `\n \r \t \b \a \xHH` and `\` before any
//! other byte for that byte; single quotes take `\'` alone. A closing quote ends its word, and a
//! blank or the line's end must follow it. This is the grammar of Redis's `sdssplitargs`.
//!
//! Cost: one search for the line feed, one pass over the words. Words are slices of the line
//! unless the command has quotes.

use super::{Args, Limits, Parse, Progress, ProtocolError};
use crate::protocol::scan::{count_scanned, find_byte};

/// Parses the inline command at the start of `bytes`, which are not empty.
pub(super) fn parse(
    bytes: &[u8],
    progress: &mut Progress,
    args: &mut Args,
    limits: &Limits,
) -> Parse {
    let length_max = limits.inline_bytes_max as usize;
    let window = &bytes[..bytes.len().min(length_max.saturating_add(1))];
    let fresh = window.get(progress.scanned as usize..).unwrap_or_default();
    let Some(found) = find_byte(fresh, b'\n') else {
        if window.len() > length_max {
            progress.reset();
            return Parse::Error(ProtocolError::InlineTooBig);
        }
        progress.scanned = window.len() as u32;
        return Parse::Incomplete { bytes_missing_min: 1 };
    };
    let end = progress.scanned as usize + found;
    progress.reset();
    let line = &bytes[..end];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    args.begin(0);
    match split(line, args) {
        Ok(()) => Parse::Complete { consumed: end + 1 },
        Err(error) => Parse::Error(error),
    }
}

fn split(line: &[u8], args: &mut Args) -> Result<(), ProtocolError> {
    if find_byte(line, 0).is_some() {
        return Err(ProtocolError::InlineNul);
    }
    count_scanned(line.len());
    let mut at = 0;
    loop {
        while line.get(at).copied().is_some_and(is_blank) {
            at += 1;
        }
        if at == line.len() {
            return Ok(());
        }
        let start = at;
        while line.get(at).is_some_and(|&byte| is_plain(byte)) {
            at += 1;
        }
        let is_quoted = matches!(line.get(at), Some(b'"' | b'\''));
        if is_quoted {
            args.unescape_from(line);
        }
        if !args.is_unescaped() {
            args.push(start, at);
            continue;
        }
        let text_start = args.text_mut().len();
        args.text_mut().extend_from_slice(&line[start..at]);
        if is_quoted {
            at = unquote(line, at, args.text_mut())?;
        }
        let text_end = args.text_mut().len();
        args.push(text_start, text_end);
    }
}

/// Appends what the quote at `at` encloses, and returns the place behind its closing quote.
fn unquote(line: &[u8], mut at: usize, text: &mut Vec<u8>) -> Result<usize, ProtocolError> {
    let quote = line[at];
    at += 1;
    loop {
        match line[at..] {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [byte, ref rest @ ..] if byte == quote => {
                return match rest.first() {
                    Some(&next) if !is_blank(next) => Err(ProtocolError::UnbalancedQuotes),
                    _ => Ok(at + 1),
                };
            }
            [b'\\', b'\'', ..] if quote == b'\'' => {
                text.push(b'\'');
                at += 2;
            }
            [b'\\', ref escape @ ..] if quote == b'"' && !escape.is_empty() => {
                let (byte, length) = unescape(escape);
                text.push(byte);
                at += 1 + length;
            }
            [byte, ..] => {
                text.push(byte);
                at += 1;
            }
        }
    }
}

/// What the escape behind a backslash stands for, and its length. `escape` is not empty.
fn unescape(escape: &[u8]) -> (u8, usize) {
    if let [b'x', high, low, ..] = *escape
        && let (Some(high), Some(low)) = (hex_digit(high), hex_digit(low))
    {
        return (high << 4 | low, 3);
    }
    let byte = match escape[0] {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    };
    (byte, 1)
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// What separates words and may follow a closing quote: C's `isspace`.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// What goes on with a word outside quotes. Vertical tab and form feed do, as in Redis, although
/// they cannot begin one.
fn is_plain(byte: u8) -> bool {
    !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'"' | b'\'')
}
