//! Redis's glob patterns: `*`, `?`, `[a-z]`, `[^a]` and `\` before a literal character.
//!
//! Linear in the text for each star; a pattern with several stars backtracks to the last one only,
//! so the cost is at most the product of the two lengths.

/// Whether the text matches the pattern, ASCII letters compared without case if `fold`.
pub(super) fn matches(pattern: &[u8], text: &[u8], fold: bool) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            p += 1;
            star = Some((p, t));
            continue;
        }
        if t == text.len() {
            return p == pattern.len();
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
                None => return false,
            },
        }
    }
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
    use super::matches;

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
    }
}
