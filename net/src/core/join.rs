//! Joining the replies of the parts of a command into one. Each part was answered by a core of this
//! server, so what is found here is well formed.

use crate::protocol::resp::{Version, Writer};

/// How the replies of the parts make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// Integers: their sum.
    Sum,
    /// The same reply from all: the first.
    First,
    /// Arrays with an element for each key of the part: one with those of all keys, in the keys'
    /// order.
    ByKey,
    /// Arrays: one with the elements of all.
    Append,
    /// Any that is not null, or null.
    Any,
    /// Lines and values that an `END` follows: all of them, and one `END`.
    Lines,
}

/// Joins replies. `order` says for each key in which part it is; `chance` is any number, if one is
/// to be chosen.
pub(super) fn join(
    join: Join,
    replies: &[Vec<u8>],
    order: &[u16],
    version: Version,
    chance: u64,
) -> Vec<u8> {
    if join != Join::Lines
        && let Some(error) = replies.iter().find(|reply| reply.first() == Some(&b'-'))
    {
        return error.clone();
    }
    match join {
        Join::First => replies.first().cloned().unwrap_or_default(),
        Join::Any => {
            let is_null = |reply: &&Vec<u8>| reply.starts_with(b"$-1") || reply.starts_with(b"_");
            let found: Vec<_> = replies.iter().filter(|reply| !is_null(reply)).collect();
            let chosen = found.get(chance as usize % found.len().max(1)).copied();
            chosen.or(replies.first()).cloned().unwrap_or_default()
        }
        Join::Sum => {
            let mut reply = Vec::new();
            let sum = replies.iter().filter_map(|reply| integer(reply)).sum();
            Writer::new(&mut reply, version).integer(sum);
            reply
        }
        Join::ByKey => {
            let mut parts: Vec<&[u8]> = replies.iter().map(|reply| body(reply).1).collect();
            let mut reply = Vec::with_capacity(replies.iter().map(Vec::len).sum::<usize>() + 16);
            Writer::new(&mut reply, version).array(order.len());
            for &part in order {
                if let Some(rest) = parts.get_mut(usize::from(part)) {
                    let (element, after) = rest.split_at(element_bytes(rest));
                    reply.extend_from_slice(element);
                    *rest = after;
                }
            }
            reply
        }
        Join::Append => {
            let count = replies.iter().map(|reply| body(reply).0).sum();
            let mut reply = Vec::with_capacity(replies.iter().map(Vec::len).sum::<usize>() + 16);
            Writer::new(&mut reply, version).array(count);
            replies.iter().for_each(|part| reply.extend_from_slice(body(part).1));
            reply
        }
        Join::Lines => {
            const END: &[u8] = b"END\r\n";
            // An error takes the place of all values, as it would within one reply.
            if let Some(error) = replies.iter().find(|reply| !reply.ends_with(END)) {
                return error.clone();
            }
            let mut reply = Vec::with_capacity(replies.iter().map(Vec::len).sum());
            for part in replies {
                reply.extend_from_slice(&part[..part.len() - END.len()]);
            }
            reply.extend_from_slice(END);
            reply
        }
    }
}

/// The line at the front without its first byte, and what follows it.
fn line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n").unwrap_or(bytes.len());
    (bytes.get(1..end).unwrap_or_default(), bytes.get(end + 2..).unwrap_or_default())
}

fn number(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The integer that a reply is.
pub(super) fn integer(reply: &[u8]) -> Option<i64> {
    (reply.first() == Some(&b':')).then(|| number(line(reply).0))?
}

/// How many elements an array has, and their bytes.
pub(super) fn body(reply: &[u8]) -> (usize, &[u8]) {
    let (digits, rest) = line(reply);
    (number(digits).and_then(|count| count.try_into().ok()).unwrap_or(0), rest)
}

/// Bytes of the element at the front: a bulk string, a null or a line.
pub(super) fn element_bytes(bytes: &[u8]) -> usize {
    let (head, rest) = line(bytes);
    let head_bytes = bytes.len() - rest.len();
    match bytes.first() {
        Some(b'$') => match number(head) {
            Some(length @ 0..) => (head_bytes + length as usize + 2).min(bytes.len()),
            _ => head_bytes,
        },
        _ => head_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(how: Join, replies: &[&str], order: &[u16]) -> String {
        let replies: Vec<Vec<u8>> = replies.iter().map(|reply| reply.as_bytes().to_vec()).collect();
        String::from_utf8(join(how, &replies, order, Version::Resp2, 7)).expect("text")
    }

    #[test]
    fn parts_make_the_reply_that_one_core_would_give() {
        assert_eq!(joined(Join::Sum, &[":2\r\n", ":0\r\n", ":40\r\n"], &[]), ":42\r\n");
        assert_eq!(joined(Join::Any, &["$-1\r\n", "$1\r\na\r\n", "_\r\n"], &[]), "$1\r\na\r\n");
        assert_eq!(joined(Join::Any, &["$-1\r\n", "$-1\r\n"], &[]), "$-1\r\n");
        assert_eq!(joined(Join::First, &["+OK\r\n", "+OK\r\n"], &[]), "+OK\r\n");
        let parts = ["*2\r\n$1\r\na\r\n$-1\r\n", "*3\r\n$4\r\n\r\n\r\n\r\n_\r\n$0\r\n\r\n"];
        assert_eq!(
            joined(Join::ByKey, &parts, &[1, 0, 1, 1, 0]),
            "*5\r\n$4\r\n\r\n\r\n\r\n$1\r\na\r\n_\r\n$0\r\n\r\n$-1\r\n"
        );
        let parts = ["*1\r\n$1\r\na\r\n", "*0\r\n", "*1\r\n$1\r\nb\r\n"];
        assert_eq!(joined(Join::Append, &parts, &[]), "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
        let parts = ["VALUE a 0 1\r\nx\r\nEND\r\n", "END\r\n", "VALUE b 0 1\r\ny\r\nEND\r\n"];
        assert_eq!(
            joined(Join::Lines, &parts, &[]),
            "VALUE a 0 1\r\nx\r\nVALUE b 0 1\r\ny\r\nEND\r\n"
        );
    }

    #[test]
    fn an_error_of_a_part_is_the_reply() {
        for how in [Join::Sum, Join::First, Join::ByKey, Join::Append] {
            assert_eq!(joined(how, &["*0\r\n", "-OOM no\r\n"], &[0]), "-OOM no\r\n");
        }
        assert_eq!(
            joined(Join::Lines, &["END\r\n", "SERVER_ERROR x\r\n"], &[]),
            "SERVER_ERROR x\r\n"
        );
    }
}
