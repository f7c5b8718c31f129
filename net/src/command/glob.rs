//! Redis's glob patterns: `*`, `?`, `[a-z]`, `[^a]` and `\` before a literal character.
//!
//! Linear in the text for each star; a pattern with several stars backtracks to the last one only,
//! so the cost is at most the product of the two lengths.

/// Matching took more steps than it was allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Undecided;

/// Whether the text matches the pattern, ASCII letters compared without case if `fold`.
pub(super) fn matches(pattern: &[u8], text: &[u8], fold: bool) -> bool {
    let mut steps_left = usize::MAX;
    run(pattern, text, fold, &mut steps_left) == Ok(true)
}

/// Whether the text matches the pattern, with regard to case, in at most `steps_left` steps: about
/// a character of pattern or text each. Takes from them what it has needed.
pub(super) fn matches_within(
    pattern: &[u8],
    text: &[u8],
    steps_left: &mut usize,
) -> Result<bool, Undecided> {
    run(pattern, text, false, steps_left)
}

#[inline]
fn run(pattern: &[u8], text: &[u8], fold: bool, steps_left: &mut usize) -> Result<bool, Undecided> {
    if text.is_empty() {
        // Redis looks no further than to the end of the text, but at a lone star.
        return Ok(matches!(pattern, [] | [b'*']));
    }
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let cost = if pattern.get(p) == Some(&b'[') { class_bytes(&pattern[p..]) } else { 1 };
        *steps_left = steps_left.checked_sub(cost).ok_or(Undecided)?;
        if p < pattern.len() && pattern[p] == b'*' {
            p += 1;
            star = Some((p, t));
            continue;
        }
        if t == text.len() {
            return Ok(p == pattern.len());
        }
        match match_one(&pattern[p..], text[t], fold) {
            Some(used) => {
                p += used;
                t += 1;
            }
            None => match &mut star {
                // The last star takes one more character.
                Some((after, taken)) => {
                    *taken += 1;
                    (p, t) = (*after, *taken);
                }
                None => return Ok(false),
            },
        }
    }
}

/// The length of the class at the front, which is what looking at it takes, or a little less.
fn class_bytes(pattern: &[u8]) -> usize {
    pattern.iter().position(|&byte| byte == b']').map_or(pattern.len(), |end| end + 1)
}

/// Matches one character; returns how much of the pattern it used.
fn match_one(pattern: &[u8], c: u8, fold: bool) -> Option<usize> {
    let same = |a: u8| if fold { a.eq_ignore_ascii_case(&c) } else { a == c };
    match *pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', ..] => match_class(pattern, c, fold),
        [b'\\', literal, ..] => same(literal).then_some(2),
        [literal, ..] => same(literal).then_some(1),
    }
}

/// Matches a class that begins at `pattern[0] == b'['`; one that is not closed ends with the
/// pattern.
fn match_class(pattern: &[u8], c: u8, fold: bool) -> Option<usize> {
    let lower = |c: u8| if fold { c.to_ascii_lowercase() } else { c };
    let c = lower(c);
    let negated = pattern.get(1) == Some(&b'^');
    let mut at = 1 + usize::from(negated);
    let mut found = false;
    while at < pattern.len() && pattern[at] != b']' {
        match pattern[at..] {
            [b'\\', literal, ..] => {
                found |= lower(literal) == c;
                at += 2;
            }
            [first, b'-', last, ..] => {
                let (first, last) = (lower(first), lower(last));
                found |= (first.min(last)..=first.max(last)).contains(&c);
                at += 3;
            }
            [literal, ..] => {
                found |= lower(literal) == c;
                at += 1;
            }
            [] => break,
        }
    }
    (found != negated).then_some((at + 1).min(pattern.len()))
}

#[cfg(test)]
mod tests {
    use super::{Undecided, matches, matches_within};

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "abc"),
            ("a*c", "abbc"),
            ("a?c", "abc"),
            ("h[ae]llo", "hallo"),
            ("h[^e]llo", "hallo"),
            ("h[a-b]llo", "hbllo"),
            ("h[b-a]llo", "hallo"),
            ("\\*", "*"),
            ("a[\\]]", "a]"),
            ("**a", "bca"),
            ("*a*b*c", "xxaxxbxxc"),
            ("max*", "maxmemory-policy"),
            ("[a", "a"),
        ] {
            assert!(matches(pattern.as_bytes(), text.as_bytes(), false), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", ""),
            ("a?", "a"),
            ("h[^a]llo", "hallo"),
            ("a*c", "ab"),
            ("A", "a"),
            ("\\*", "a"),
            ("*a", "b"),
        ] {
            assert!(!matches(pattern.as_bytes(), text.as_bytes(), false), "{pattern} {text}");
        }
        assert!(matches(b"MAX[A-Z]*", b"maxmemory", true));
    }

    #[test]
    fn a_hostile_pattern_is_not_exponential() {
        let pattern = b"*a".repeat(200);
        let text = vec![b'a'; 199];
        assert!(!matches(&pattern, &text, false));
        assert_eq!(matches_within(&pattern, &text, &mut 100), Err(Undecided));
        let mut steps_left = 1_000_000;
        assert_eq!(matches_within(&pattern, &text, &mut steps_left), Ok(false));
        assert!(steps_left < 1_000_000);
        let class = [&b"*["[..], &[b'b'; 50_000], b"]"].concat();
        assert_eq!(matches_within(&class, &text, &mut 100_000), Err(Undecided));
    }
}
