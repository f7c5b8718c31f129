//! The line of a request: which command, and are its words what the command wants?
//!
//! The order of the checks is memcached's, since it decides which of several errors a line gets,
//! and whether `noreply` silences it: wrong counts of words are always answered, errors found
//! after `noreply` was seen are not.
//!
//! Cost: one pass over the line; a word is looked at once more where it is a number.

use super::request::{
    Administration, Keys, Meta, MetaData, MetaVerb, Request, Store, StoreVerb, Tokens,
};
use super::{BINARY_MAGIC, CloseReason, KEY_BYTES_MAX, Limits, RequestError, VALUE_BYTES_LIMIT};
use crate::protocol::number::{parse_i64_lenient, parse_u64_lenient};
use crate::protocol::scan::find_key_end;

/// A meta command takes fewer words than this.
const META_WORDS_END: usize = 20;
/// `cas` with `noreply` has seven words; one more place tells that there are too many.
const WORDS_MAX: usize = 8;

/// What a line is.
pub(super) enum Line<'a> {
    Complete(Request<'a>),
    /// A data block of `data_bytes` and its line end belong to it.
    WithData {
        request: Request<'a>,
        data_bytes: u32,
    },
    /// Likewise, and the data is to be dropped.
    TooLarge {
        request: Request<'a>,
        data_bytes: u32,
    },
    Refused {
        error: RequestError,
        noreply: bool,
    },
    Close(CloseReason),
}

impl<'a> Line<'a> {
    /// Refused by an error that is always answered.
    fn refused(error: RequestError) -> Self {
        Self::Refused { error, noreply: false }
    }
}

/// Parses a line without its end.
#[inline]
pub(super) fn parse<'a>(line: &'a [u8], limits: &Limits) -> Line<'a> {
    if let Some(keys) = line.strip_prefix(b"get ") {
        return get(keys, false);
    }
    let mut tokens = Tokens::new(line);
    match tokens.next().unwrap_or_default() {
        b"get" => get(tokens.rest(), false),
        b"set" => store(StoreVerb::Set, line, tokens.rest(), limits),
        b"gets" => get(tokens.rest(), true),
        command => other(command, line, tokens, limits),
    }
}

/// Whether the beginning of a line is that of a command with any number of keys.
pub(super) fn is_retrieval(head: &[u8]) -> bool {
    [&b"get "[..], b"gets ", b"gat ", b"gats "].iter().any(|command| head.starts_with(command))
}

fn other<'a>(command: &'a [u8], line: &'a [u8], tokens: Tokens<'a>, limits: &Limits) -> Line<'a> {
    match command {
        // A name of old for `get`.
        b"bget" => get(tokens.rest(), false),
        b"gat" => get_and_touch(tokens, false),
        b"gats" => get_and_touch(tokens, true),
        b"add" => store(StoreVerb::Add, line, tokens.rest(), limits),
        b"replace" => store(StoreVerb::Replace, line, tokens.rest(), limits),
        b"append" => store(StoreVerb::Append, line, tokens.rest(), limits),
        b"prepend" => store(StoreVerb::Prepend, line, tokens.rest(), limits),
        b"cas" => store(StoreVerb::Cas { version: 0 }, line, tokens.rest(), limits),
        b"delete" => match tokens.rest() {
            // Nothing but a key: no need to look for more words.
            [b' ', key @ ..] if !key.is_empty() && is_key(key) => {
                Line::Complete(Request::Delete { key, noreply: false })
            }
            _ => delete(&Words::new(line)),
        },
        b"incr" => arithmetic(&Words::new(line), false),
        b"decr" => arithmetic(&Words::new(line), true),
        b"touch" => touch(&Words::new(line)),
        b"flush_all" => flush_all(&Words::new(line)),
        b"version" => Line::Complete(Request::Version),
        b"verbosity" => verbosity(&Words::new(line)),
        b"stats" => Line::Complete(Request::Stats { args: tokens }),
        b"quit" => Line::Complete(Request::Quit),
        b"shutdown" => administration(Administration::Shutdown, line, tokens),
        b"cache_memlimit" => administration(Administration::MemoryLimit, line, tokens),
        b"slabs" => administration(Administration::Slabs, line, tokens),
        b"lru" => administration(Administration::Lru, line, tokens),
        b"lru_crawler" => administration(Administration::LruCrawler, line, tokens),
        b"watch" => administration(Administration::Watch, line, tokens),
        b"mg" => meta(MetaVerb::Get, tokens),
        b"ms" => meta_set(tokens, limits),
        b"md" => meta(MetaVerb::Delete, tokens),
        b"ma" => meta(MetaVerb::Arithmetic, tokens),
        b"me" => meta_debug(tokens),
        b"mn" => Line::Complete(Request::MetaNoop),
        _ if line.first() == Some(&BINARY_MAGIC) => Line::Close(CloseReason::BinaryProtocol),
        _ if tokens.last().unwrap_or(command).starts_with(b"HTTP/") => {
            Line::Close(CloseReason::Http)
        }
        _ => Line::refused(RequestError::UnknownCommand),
    }
}

#[inline]
fn get(line: &[u8], with_version: bool) -> Line<'_> {
    match keys(line) {
        Some(keys) if keys.len() == 0 => Line::refused(RequestError::UnknownCommand),
        Some(keys) => Line::Complete(Request::Get { keys, with_version }),
        None => Line::refused(RequestError::BadFormat),
    }
}

fn get_and_touch<'a>(mut tokens: Tokens<'a>, with_version: bool) -> Line<'a> {
    let Some(exptime) = tokens.next() else {
        return Line::refused(RequestError::UnknownCommand);
    };
    let Some(exptime) = parse_i64_lenient(exptime) else {
        return Line::refused(RequestError::InvalidExptime);
    };
    match keys(tokens.rest()) {
        Some(keys) => Line::Complete(Request::GetAndTouch { exptime, keys, with_version }),
        None => Line::refused(RequestError::BadFormat),
    }
}

/// The keys in the rest of a line, unless one of them is bad.
#[inline]
fn keys(mut line: &[u8]) -> Option<Keys<'_>> {
    let mut found = Keys::NONE;
    let mut count = 0;
    loop {
        while let [b' ', rest @ ..] = line {
            line = rest;
        }
        if line.is_empty() {
            return Some(found);
        }
        let end = find_key_end(line).unwrap_or(line.len());
        let (key, rest) = line.split_at(end);
        if end > KEY_BYTES_MAX || !matches!(rest, [] | [b' ', ..]) {
            return None;
        }
        count += 1;
        found = if count == 1 { Keys::new(key, rest, 1) } else { found.with_count(count) };
        line = rest;
    }
}

/// `rest` is what follows the command in `line`.
#[inline]
fn store<'a>(verb: StoreVerb, line: &'a [u8], rest: &'a [u8], limits: &Limits) -> Line<'a> {
    plain_store(verb, rest, limits).unwrap_or_else(|| any_store(verb, line, limits))
}

/// Takes a store in the form in which every client library sends it: single spaces, digits only,
/// of no more than nine places. `None` says nothing about the line.
#[inline]
fn plain_store<'a>(verb: StoreVerb, rest: &'a [u8], limits: &Limits) -> Option<Line<'a>> {
    if matches!(verb, StoreVerb::Cas { .. }) {
        return None;
    }
    let rest = rest.strip_prefix(b" ")?;
    let (key, rest) = rest.split_at(find_key_end(rest)?);
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return None;
    }
    let (flags, rest) = plain_number(rest)?;
    let (exptime, rest) = plain_number(rest)?;
    let (data_bytes, rest) = plain_number(rest)?;
    let noreply = match rest {
        [] => false,
        b" noreply" => true,
        _ => return None,
    };
    if data_bytes > limits.value_bytes_max {
        return None;
    }
    let store = Store { verb, key, flags, exptime: i64::from(exptime), data: &[], noreply };
    Some(Line::WithData { request: Request::Store(store), data_bytes })
}

/// A space and one to nine digits, and what follows them.
#[inline]
fn plain_number(text: &[u8]) -> Option<(u32, &[u8])> {
    const DIGITS_MAX: usize = 9;
    let [b' ', text @ ..] = text else { return None };
    let mut number = 0;
    let mut length = 0;
    while let Some(&byte) = text.get(length) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        if length == DIGITS_MAX {
            return None;
        }
        number = number * 10 + u32::from(digit);
        length += 1;
    }
    (length != 0).then(|| (number, &text[length..]))
}

#[inline(never)]
fn any_store<'a>(verb: StoreVerb, line: &'a [u8], limits: &Limits) -> Line<'a> {
    let words = Words::new(line);
    let count_min = if matches!(verb, StoreVerb::Cas { .. }) { 6 } else { 5 };
    if words.count() != count_min && words.count() != count_min + 1 {
        return Line::refused(RequestError::UnknownCommand);
    }
    let noreply = words.noreply();
    store_words(verb, &words, noreply, limits)
        .unwrap_or(Line::Refused { error: RequestError::BadFormat, noreply })
}

fn store_words<'a>(
    mut verb: StoreVerb,
    words: &Words<'a>,
    noreply: bool,
    limits: &Limits,
) -> Option<Line<'a>> {
    let key = words.key()?;
    let flags = u32::try_from(parse_u64_lenient(words.at(2))?).ok()?;
    let exptime = parse_i64_lenient(words.at(3))?;
    let data_bytes = data_length(words.at(4))?;
    if let StoreVerb::Cas { version } = &mut verb {
        *version = parse_u64_lenient(words.at(5))?;
    }
    Some(if data_bytes > limits.value_bytes_max {
        Line::TooLarge { request: Request::StoreTooLarge { verb, key, noreply }, data_bytes }
    } else {
        let store = Store { verb, key, flags, exptime, data: &[], noreply };
        Line::WithData { request: Request::Store(store), data_bytes }
    })
}

/// The length of a data block that has a form and size that memcached takes at all.
#[inline]
fn data_length(word: &[u8]) -> Option<u32> {
    let length = u32::try_from(parse_i64_lenient(word)?).ok()?;
    (length <= VALUE_BYTES_LIMIT).then_some(length)
}

fn delete<'a>(words: &Words<'a>) -> Line<'a> {
    let count = words.count();
    if !(2..=4).contains(&count) {
        return Line::refused(RequestError::UnknownCommand);
    }
    let mut noreply = false;
    if count > 2 {
        // Clients of old send a time, which must be zero.
        let has_zero = words.at(2) == b"0";
        noreply = words.noreply();
        let is_valid = if count == 3 { has_zero || noreply } else { has_zero && noreply };
        if !is_valid {
            return Line::Refused { error: RequestError::DeleteUsage, noreply };
        }
    }
    match words.key() {
        Some(key) => Line::Complete(Request::Delete { key, noreply }),
        None => Line::Refused { error: RequestError::BadFormat, noreply },
    }
}

fn arithmetic<'a>(words: &Words<'a>, is_decrement: bool) -> Line<'a> {
    if !(3..=4).contains(&words.count()) {
        return Line::refused(RequestError::UnknownCommand);
    }
    let noreply = words.noreply();
    let Some(key) = words.key() else {
        return Line::Refused { error: RequestError::BadFormat, noreply };
    };
    match parse_u64_lenient(words.at(2)) {
        Some(delta) => Line::Complete(Request::Arithmetic { is_decrement, key, delta, noreply }),
        None => Line::Refused { error: RequestError::InvalidDelta, noreply },
    }
}

fn touch<'a>(words: &Words<'a>) -> Line<'a> {
    if !(3..=4).contains(&words.count()) {
        return Line::refused(RequestError::UnknownCommand);
    }
    let noreply = words.noreply();
    let Some(key) = words.key() else {
        return Line::Refused { error: RequestError::BadFormat, noreply };
    };
    match parse_i64_lenient(words.at(2)) {
        Some(exptime) => Line::Complete(Request::Touch { key, exptime, noreply }),
        None => Line::Refused { error: RequestError::InvalidExptime, noreply },
    }
}

fn flush_all<'a>(words: &Words<'a>) -> Line<'a> {
    let count = words.count();
    if !(1..=3).contains(&count) {
        return Line::refused(RequestError::UnknownCommand);
    }
    let noreply = words.noreply();
    if count == 1 + usize::from(noreply) {
        return Line::Complete(Request::FlushAll { delay: 0, noreply });
    }
    match parse_i64_lenient(words.at(1)) {
        Some(delay) => Line::Complete(Request::FlushAll { delay, noreply }),
        None => Line::Refused { error: RequestError::InvalidExptime, noreply },
    }
}

fn verbosity<'a>(words: &Words<'a>) -> Line<'a> {
    if !(2..=3).contains(&words.count()) {
        return Line::refused(RequestError::UnknownCommand);
    }
    let noreply = words.noreply();
    match parse_u64_lenient(words.at(1)).and_then(|level| u32::try_from(level).ok()) {
        Some(level) => Line::Complete(Request::Verbosity { level, noreply }),
        None => Line::Refused { error: RequestError::BadFormat, noreply },
    }
}

/// Of these commands memcached checks the number of words of two.
fn administration<'a>(verb: Administration, line: &'a [u8], args: Tokens<'a>) -> Line<'a> {
    let words = Words::new(line);
    let count_is_right = match verb {
        Administration::MemoryLimit => (2..=3).contains(&words.count()),
        Administration::Lru => words.count() >= 2,
        _ => true,
    };
    if !count_is_right {
        return Line::refused(RequestError::UnknownCommand);
    }
    // Closing, and what only tools ask, is answered in any case.
    let noreply = verb != Administration::Shutdown && args.last() == Some(b"noreply");
    Line::Complete(Request::Administration { verb, args, noreply })
}

fn meta<'a>(verb: MetaVerb, mut tokens: Tokens<'a>) -> Line<'a> {
    let Some(key) = tokens.next() else {
        return Line::refused(RequestError::UnknownCommand);
    };
    if !is_key(key) {
        return Line::refused(RequestError::BadFormat);
    }
    if 2 + tokens.take(META_WORDS_END).count() >= META_WORDS_END {
        return Line::refused(match verb {
            MetaVerb::Get => RequestError::TooManyFlagsGet,
            _ => RequestError::TooManyFlags,
        });
    }
    Line::Complete(Request::Meta(Meta { verb, key, flags: tokens, data: MetaData::None }))
}

fn meta_set<'a>(mut tokens: Tokens<'a>, limits: &Limits) -> Line<'a> {
    let Some(key) = tokens.next() else {
        return Line::refused(RequestError::UnknownCommand);
    };
    let Some(length) = tokens.next().filter(|_| is_key(key)) else {
        return Line::refused(RequestError::BadFormat);
    };
    if 3 + tokens.take(META_WORDS_END).count() >= META_WORDS_END {
        return Line::refused(RequestError::TooManyFlags);
    }
    let Some(data_bytes) = data_length(length) else {
        return Line::refused(RequestError::BadFormat);
    };
    let is_too_large = data_bytes > limits.value_bytes_max;
    let data = if is_too_large {
        MetaData::TooLarge { length_bytes: data_bytes }
    } else {
        MetaData::Block(&[])
    };
    let request = Request::Meta(Meta { verb: MetaVerb::Set, key, flags: tokens, data });
    if is_too_large {
        Line::TooLarge { request, data_bytes }
    } else {
        Line::WithData { request, data_bytes }
    }
}

/// `me` checks fewer things, and in another way, than the rest of the family.
fn meta_debug<'a>(mut tokens: Tokens<'a>) -> Line<'a> {
    match tokens.next().filter(|key| is_key(key)) {
        Some(key) => {
            let (verb, data) = (MetaVerb::Debug, MetaData::None);
            Line::Complete(Request::Meta(Meta { verb, key, flags: tokens, data }))
        }
        None => Line::refused(RequestError::BadFormat),
    }
}

#[inline]
fn is_key(word: &[u8]) -> bool {
    word.len() <= KEY_BYTES_MAX && find_key_end(word).is_none()
}

/// The words of a line with few of them, the command first.
struct Words<'a> {
    words: [&'a [u8]; WORDS_MAX],
    count: usize,
}

impl<'a> Words<'a> {
    /// Words beyond the last place are not looked at.
    #[inline]
    fn new(line: &'a [u8]) -> Self {
        let mut words = [&[][..]; WORDS_MAX];
        let mut count = 0;
        for (place, word) in words.iter_mut().zip(Tokens::new(line)) {
            *place = word;
            count += 1;
        }
        Self { words, count }
    }

    /// How many there are, at most [`WORDS_MAX`], which is more than any command takes.
    #[inline]
    fn count(&self) -> usize {
        self.count
    }

    /// Word `index`, empty if there is none.
    #[inline]
    fn at(&self, index: usize) -> &'a [u8] {
        self.words.get(index).copied().unwrap_or_default()
    }

    /// The word behind the command, if it is a good key.
    #[inline]
    fn key(&self) -> Option<&'a [u8]> {
        Some(self.at(1)).filter(|key| is_key(key))
    }

    /// Whether the last word is `noreply`. Anything else there is ignored, as by memcached.
    #[inline]
    fn noreply(&self) -> bool {
        self.at(self.count.wrapping_sub(1)) == b"noreply"
    }
}
