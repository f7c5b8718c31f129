//! Joining the replies of the parts of a command into one. Each part was answered by a core of this
//! server, so what is found here is well formed.

use crate::command::memcached::keys_start;
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
    /// Arrays of integers: the least at each place.
    Least,
    /// Any that is not null, or null: the more likely the more keys its core has.
    Any,
    /// Values of memcached's text protocol that an `END` follows: all of them in the order of the
    /// keys, and one `END`.
    Lines,
}

/// What else tells how to join.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lot<'a> {
    /// The request, if its keys tell the order of values.
    pub(super) frame: &'a [u8],
    /// Any number, if a part is to be chosen.
    pub(super) chance: u64,
    /// How likely each part is to be chosen, beside the others; 0 counts as 1.
    pub(super) weights: &'a [u64],
}

impl Lot<'_> {
    /// Draws one of these parts.
    fn draw(&self, parts: &[usize]) -> Option<usize> {
        let weight = |part: usize| self.weights.get(part).copied().unwrap_or(0).max(1);
        let total: u64 = parts.iter().map(|&part| weight(part)).sum();
        // The chance may be a time: all of its bits are to have a say.
        let mixed = u128::from(self.chance.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut at = ((mixed * u128::from(total)) >> 64) as u64;
        parts.iter().copied().find(|&part| {
            let is_it = at < weight(part);
            at = at.saturating_sub(weight(part));
            is_it
        })
    }
}

/// Joins replies. `order` says for each key in which part it is.
pub(super) fn join(
    join: Join,
    replies: &[Vec<u8>],
    order: &[u16],
    version: Version,
    lot: Lot<'_>,
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
            let parts = replies.iter().enumerate().filter(|(_, reply)| !is_null(reply));
            let parts: Vec<usize> = parts.map(|(part, _)| part).collect();
            let chosen = lot.draw(&parts).unwrap_or(0);
            replies.get(chosen).cloned().unwrap_or_default()
        }
        Join::Least => {
            let mut least: Vec<i64> = Vec::new();
            for (part, reply) in replies.iter().enumerate() {
                let (count, mut rest) = body(reply);
                least.resize(if part == 0 { count } else { count.min(least.len()) }, i64::MAX);
                for place in &mut least {
                    *place = integer(rest).unwrap_or(0).min(*place);
                    rest = line(rest).1;
                }
            }
            let mut reply = Vec::new();
            let mut writer = Writer::new(&mut reply, version);
            writer.array(least.len());
            least.iter().for_each(|&number| writer.integer(number));
            reply
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
        Join::Lines => join_values(replies, order, lot.frame),
    }
}

/// Joins the values that parts of a retrieval have found, in the order of the request's keys.
fn join_values(replies: &[Vec<u8>], order: &[u16], frame: &[u8]) -> Vec<u8> {
    const END: &[u8] = b"END\r\n";
    // An error takes the place of all values, as it would within one reply.
    if let Some(error) = replies.iter().find(|reply| !reply.ends_with(END)) {
        return error.clone();
    }
    let mut parts: Vec<&[u8]> = replies.iter().map(|reply| &reply[..]).collect();
    let mut reply = Vec::with_capacity(replies.iter().map(Vec::len).sum());
    let words = frame[keys_start(frame)..].split(|byte| b" \r\n".contains(byte));
    for (key, &part) in words.filter(|word| !word.is_empty()).zip(order) {
        let Some(rest) = parts.get_mut(usize::from(part)) else { continue };
        let (value, after) = rest.split_at(value_bytes(rest, key));
        reply.extend_from_slice(value);
        *rest = after;
    }
    reply.extend_from_slice(END);
    reply
}

/// Bytes of the value at the front, with its line, if it is that of a key.
fn value_bytes(bytes: &[u8], key: &[u8]) -> usize {
    let (head, rest) = line(bytes);
    let mut words = head.split(|&byte| byte == b' ').skip(1);
    if words.next() != Some(key) {
        return 0;
    }
    let length = words.nth(1).and_then(number).unwrap_or(0).max(0) as usize;
    (bytes.len() - rest.len() + length + 2).min(bytes.len())
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
        let lot = Lot { frame: b"gets a  c b\r\n", chance: 7, weights: &[] };
        String::from_utf8(join(how, &replies, order, Version::Resp2, lot)).expect("text")
    }

    #[test]
    fn parts_make_the_reply_that_one_core_would_give() {
        assert_eq!(joined(Join::Sum, &[":2\r\n", ":0\r\n", ":40\r\n"], &[]), ":42\r\n");
        assert_eq!(joined(Join::Any, &["$-1\r\n", "$1\r\na\r\n", "_\r\n"], &[]), "$1\r\na\r\n");
        assert_eq!(joined(Join::Any, &["$-1\r\n", "$-1\r\n"], &[]), "$-1\r\n");
        let parts = ["*3\r\n:1\r\n:0\r\n:1\r\n", "*3\r\n:1\r\n:1\r\n:0\r\n"];
        assert_eq!(joined(Join::Least, &parts, &[]), "*3\r\n:1\r\n:0\r\n:0\r\n");
        assert_eq!(joined(Join::First, &["+OK\r\n", "+OK\r\n"], &[]), "+OK\r\n");
        let parts = ["*2\r\n$1\r\na\r\n$-1\r\n", "*3\r\n$4\r\n\r\n\r\n\r\n_\r\n$0\r\n\r\n"];
        assert_eq!(
            joined(Join::ByKey, &parts, &[1, 0, 1, 1, 0]),
            "*5\r\n$4\r\n\r\n\r\n\r\n$1\r\na\r\n_\r\n$0\r\n\r\n$-1\r\n"
        );
        let parts = ["*1\r\n$1\r\na\r\n", "*0\r\n", "*1\r\n$1\r\nb\r\n"];
        assert_eq!(joined(Join::Append, &parts, &[]), "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
        let parts = ["VALUE a 0 7\r\nEND\r\n x\r\nVALUE b 0 1 9\r\ny\r\nEND\r\n", "END\r\n"];
        assert_eq!(joined(Join::Lines, &parts, &[0, 1, 0]), parts[0]);
        let parts =
            ["VALUE a 0 1\r\nx\r\nVALUE b 0 0\r\n\r\nEND\r\n", "VALUE c 5 1\r\nz\r\nEND\r\n"];
        assert_eq!(
            joined(Join::Lines, &parts, &[0, 1, 0]),
            "VALUE a 0 1\r\nx\r\nVALUE c 5 1\r\nz\r\nVALUE b 0 0\r\n\r\nEND\r\n"
        );
    }

    #[test]
    fn a_part_with_many_keys_is_drawn_often() {
        let weights = [1_000, 0, 3_000];
        let mut drawn = [0; 3];
        for chance in 0..4_001 {
            let lot = Lot { frame: b"", chance: chance * 25_000, weights: &weights };
            drawn[lot.draw(&[0, 1, 2]).expect("one")] += 1;
        }
        assert!((900..1_100).contains(&drawn[0]) && drawn[1] < 50, "{drawn:?}");
        assert_eq!(Lot { frame: b"", chance: 9, weights: &weights }.draw(&[1]), Some(1));
        assert_eq!(Lot { frame: b"", chance: 9, weights: &[] }.draw(&[]), None);
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
