//! CPU lists as the kernel writes them: `0-3,8,10-11`.
//!
//! Invariant: a parsed list is ascending and has no duplicates. Cost: linear in the number of
//! CPUs, which is bounded by [`CPU_NUMBER_MAX`].

use std::fmt::Write;

/// No CPU has a higher number; far above any `NR_CPUS`, and low enough to expand a range safely.
pub(crate) const CPU_NUMBER_MAX: u32 = 65_535;

/// The CPUs of a list; `None` if the text is not one. Older kernels write `(null)` for none.
pub(crate) fn parse(text: &str) -> Option<Vec<u32>> {
    let text = text.trim();
    if text.is_empty() || text == "(null)" {
        return Some(Vec::new());
    }
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last > CPU_NUMBER_MAX {
            return None;
        }
        cpus.extend(first..=last);
        // Without this a list that repeats a wide range would grow with the text.
        if cpus.len() > 2 * CPU_NUMBER_MAX as usize {
            cpus.sort_unstable();
            cpus.dedup();
        }
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

/// The list of these ascending CPUs; empty for none.
pub(crate) fn format(cpus: &[u32]) -> String {
    let mut text = String::new();
    for run in cpus.chunk_by(|left, right| left + 1 == *right) {
        let separator = if text.is_empty() { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = match run {
            [only] => write!(text, "{separator}{only}"),
            [first, .., last] => write!(text, "{separator}{first}-{last}"),
            [] => Ok(()),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{CPU_NUMBER_MAX, format, parse};

    #[test]
    fn lists_survive_a_round_trip() {
        for text in ["", "0", "0-1", "0-3,8,10-11", "5,7,9", "0-65535"] {
            assert_eq!(parse(text).map(|cpus| format(&cpus)).as_deref(), Some(text));
        }
        assert_eq!(parse(" 3,1-2,2\n"), Some(vec![1, 2, 3]));
        assert_eq!(parse("(null)"), Some(vec![]));
    }

    #[test]
    fn other_text_is_refused() {
        let high = format!("0-{}", CPU_NUMBER_MAX + 1);
        for text in ["x", "1,", "-1", "3-1", "1-2-3", "0,,1", "0x3", "4294967296", &high] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn repeated_ranges_do_not_grow() {
        let text = vec!["0-65535"; 20].join(",");
        assert_eq!(parse(&text).map(|cpus| cpus.len()), Some(65_536));
    }
}
