//! Arrays of bulk strings: `*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n`.
//!
//! One walker serves three uses: the single pass over a whole frame (it records arguments), the
//! search for the end of a torn one (it does not), and the look at the arguments before a payload
//! that is still arriving. Its whole state is [`Progress`], so that it can stop and go on at any
//! byte.
//!
//! Cost: one pass over the lines; payloads are skipped by their length. Lines of up to two digits
//! take a short path without a search.

use super::{
    ARG_BYTES_MIN, Args, Limits, OpenBulk, Parse, Progress, ProtocolError,
    UNAUTHENTICATED_ARGS_MAX, UNAUTHENTICATED_BULK_BYTES_MAX,
};
use crate::protocol::number::parse_i64_strict;
use crate::protocol::scan::{count_scanned, find_byte};

/// Parses the array at the start of `bytes`, which begin with `*`.
#[inline]
pub(super) fn parse(
    bytes: &[u8],
    progress: &mut Progress,
    args: &mut Args,
    limits: &Limits,
) -> Parse {
    let walked = if progress.is_fresh() {
        walk::<true>(bytes, progress, args, limits)
    } else {
        walk_torn(bytes, progress, args, limits)
    };
    match walked {
        Ok(consumed) => {
            progress.reset();
            Parse::Complete { consumed }
        }
        Err(Stop::Torn) => {
            Parse::Incomplete { bytes_missing_min: bytes_missing_min(bytes, progress) }
        }
        Err(Stop::Wrong(error)) => {
            progress.reset();
            Parse::Error(error)
        }
    }
}

/// The arguments before the payload that is still arriving: fills `args` with them and says
/// where the open one lies. `None` if [`Progress::open_bulk`] is.
///
/// `bytes` are those of the last [`parse`](super::parse), which returned `Incomplete` with this
/// `progress`; it is not changed. Cost: one pass over the lines before the open payload.
pub fn parse_open(bytes: &[u8], progress: &Progress, args: &mut Args) -> Option<OpenBulk> {
    let open = progress.open_bulk()?;
    // These lines have passed the limits that were in force when they came.
    let limits = Limits {
        args_max: u32::MAX,
        bulk_bytes_max: u32::MAX,
        inline_bytes_max: u32::MAX,
        frame_bytes_max: u32::MAX,
        unauthenticated: false,
    };
    let mut again = Progress::default();
    let walked = walk::<true>(bytes, &mut again, args, &limits);
    let is_same = matches!(walked, Err(Stop::Torn)) && again.open_bulk() == Some(open);
    debug_assert!(is_same, "the bytes are not those of this progress");
    is_same.then_some(open)
}

/// Why a walk ended before the end of the frame.
enum Stop {
    /// The bytes ended; the progress says where to go on.
    Torn,
    Wrong(ProtocolError),
}

/// Goes on with a torn frame, and slices it when its end is there.
#[cold]
fn walk_torn(
    bytes: &[u8],
    progress: &mut Progress,
    args: &mut Args,
    limits: &Limits,
) -> Result<usize, Stop> {
    walk::<false>(bytes, progress, args, limits)?;
    walk::<true>(bytes, &mut Progress::default(), args, limits)
}

/// Follows the frame from where `progress` stands to its end and returns its length.
///
/// With `RECORD` it must start at a fresh progress, and fills `args`. When it stops, `progress`
/// stands at the element that was not complete.
#[inline(always)]
fn walk<const RECORD: bool>(
    bytes: &[u8],
    progress: &mut Progress,
    args: &mut Args,
    limits: &Limits,
) -> Result<usize, Stop> {
    if progress.arg_count == 0 {
        let (count, next) = match short_line(bytes, 0, b'*') {
            Some(found) => found,
            None => long_count(bytes, progress, limits)?,
        };
        // Of the longest possible counts only those below the limit come this far.
        if count > limits.args_max {
            return Err(Stop::Wrong(ProtocolError::MultibulkLength));
        }
        if limits.unauthenticated && count > UNAUTHENTICATED_ARGS_MAX {
            return Err(Stop::Wrong(ProtocolError::UnauthenticatedMultibulkLength));
        }
        if RECORD {
            // Memory is reserved for arguments that can be in these bytes, not for all that the
            // peer announced.
            args.begin((count as usize).min((bytes.len() - next) / ARG_BYTES_MIN));
        }
        if count == 0 {
            return Ok(next);
        }
        progress.arg_count = count;
        progress.args_left = count;
        progress.at = next as u32;
        progress.scanned = 0;
    }
    walk_bulks::<RECORD>(bytes, progress, args, limits)
}

#[inline(always)]
fn walk_bulks<const RECORD: bool>(
    bytes: &[u8],
    progress: &mut Progress,
    args: &mut Args,
    limits: &Limits,
) -> Result<usize, Stop> {
    let mut at = progress.at as usize;
    let mut open = progress.open_bytes;
    for args_left in (1..=progress.args_left).rev() {
        let (length, data) = match open.take() {
            Some(length) => (length, at),
            None => {
                progress.at = at as u32;
                progress.args_left = args_left;
                let (length, data) = match short_line(bytes, at, b'$') {
                    Some(found) => found,
                    None => long_length(bytes, progress, limits)?,
                };
                check_bulk(length, data, limits).map_err(Stop::Wrong)?;
                (length, data)
            }
        };
        let end = data + length as usize;
        match bytes.get(end..end + 2) {
            Some(b"\r\n") => at = end + 2,
            Some(_) => return Err(Stop::Wrong(ProtocolError::MissingLineEnd)),
            None => {
                progress.at = data as u32;
                progress.args_left = args_left;
                progress.open_bytes = Some(length);
                progress.scanned = 0;
                return Err(Stop::Torn);
            }
        }
        if RECORD {
            args.push(data, end);
        }
        progress.scanned = 0;
        progress.open_bytes = None;
    }
    Ok(at)
}

#[inline]
fn check_bulk(length: u32, data: usize, limits: &Limits) -> Result<(), ProtocolError> {
    if length > limits.bulk_bytes_max {
        return Err(ProtocolError::BulkLength);
    }
    if limits.unauthenticated && length > UNAUTHENTICATED_BULK_BYTES_MAX {
        return Err(ProtocolError::UnauthenticatedBulkLength);
    }
    // This also keeps every offset within 32 bits.
    if data as u64 + u64::from(length) + 2 > u64::from(limits.frame_bytes_max) {
        return Err(ProtocolError::FrameTooBig);
    }
    Ok(())
}

/// The number in a line of one or two digits at `at`, and where the next element begins.
#[inline(always)]
fn short_line(bytes: &[u8], at: usize, kind: u8) -> Option<(u32, usize)> {
    // A whole element is longer than five bytes in any case.
    count_scanned(5);
    let head: &[u8; 5] = bytes.get(at..)?.first_chunk()?;
    match *head {
        [first, digit @ b'0'..=b'9', b'\r', b'\n', _] if first == kind => {
            Some((u32::from(digit - b'0'), at + 4))
        }
        [first, tens @ b'1'..=b'9', ones @ b'0'..=b'9', b'\r', b'\n'] if first == kind => {
            Some((u32::from(tens - b'0') * 10 + u32::from(ones - b'0'), at + 5))
        }
        _ => None,
    }
}

/// The number of arguments in a line of any length, 0 for none or fewer.
#[cold]
fn long_count(
    bytes: &[u8],
    progress: &mut Progress,
    limits: &Limits,
) -> Result<(u32, usize), Stop> {
    let end = line_end(bytes, progress, limits, ProtocolError::MultibulkCountTooBig)?;
    let count = parse_i64_strict(&bytes[1..end])
        .and_then(|count| u32::try_from(count.max(0)).ok())
        .ok_or(Stop::Wrong(ProtocolError::MultibulkLength))?;
    Ok((count, behind_line_end(bytes, end)?))
}

/// The length of a payload in a line of any length at the progress's place.
#[inline(never)]
fn long_length(
    bytes: &[u8],
    progress: &mut Progress,
    limits: &Limits,
) -> Result<(u32, usize), Stop> {
    let at = progress.at as usize;
    let end = line_end(bytes, progress, limits, ProtocolError::BulkCountTooBig)?;
    // The line has a first byte: at the least the carriage return that was found.
    if bytes[at] != b'$' {
        return Err(Stop::Wrong(ProtocolError::ExpectedDollar(bytes[at])));
    }
    let length = parse_i64_strict(&bytes[at + 1..end])
        .and_then(|length| u32::try_from(length).ok())
        .ok_or(Stop::Wrong(ProtocolError::BulkLength))?;
    Ok((length, behind_line_end(bytes, end)?))
}

/// Where the next element begins, if a line feed follows the carriage return at `end`. It is
/// looked at last, so that other errors keep the words that Redis has for them.
fn behind_line_end(bytes: &[u8], end: usize) -> Result<usize, Stop> {
    match bytes.get(end + 1) {
        Some(b'\n') => Ok(end + 2),
        _ => Err(Stop::Wrong(ProtocolError::MissingLineEnd)),
    }
}

/// Where the carriage return is that ends the line at the progress's place, once the byte behind
/// it is there too.
fn line_end(
    bytes: &[u8],
    progress: &mut Progress,
    limits: &Limits,
    too_long: ProtocolError,
) -> Result<usize, Stop> {
    let line = bytes.get(progress.at as usize..).unwrap_or_default();
    let length_max = limits.inline_bytes_max as usize;
    let window = &line[..line.len().min(length_max.saturating_add(1))];
    let fresh = window.get(progress.scanned as usize..).unwrap_or_default();
    let Some(found) = find_byte(fresh, b'\r') else {
        if window.len() > length_max {
            return Err(Stop::Wrong(too_long));
        }
        progress.scanned = window.len() as u32;
        return Err(Stop::Torn);
    };
    let length = progress.scanned as usize + found;
    // A line feed that has not come yet leaves the return to be found again, at once.
    progress.scanned = length as u32;
    let end = progress.at as usize + length;
    if end + 1 < bytes.len() { Ok(end) } else { Err(Stop::Torn) }
}

/// How many bytes must come at the least before the frame can be complete.
fn bytes_missing_min(bytes: &[u8], progress: &Progress) -> usize {
    let arrived = bytes.len().saturating_sub(progress.at as usize);
    let args_left = progress.args_left as usize;
    let needed = match progress.open_bytes {
        Some(length) => length as usize + 2 + (args_left - 1) * ARG_BYTES_MIN,
        None => args_left * ARG_BYTES_MIN,
    };
    needed.saturating_sub(arrived).max(1)
}
