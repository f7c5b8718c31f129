//! A report as text: one line per check, and below it what to do where something is asked for.
//!
//! Invariants: what the host's files hold cannot control the terminal, because control characters
//! are escaped; commands are never wrapped, so that they can be copied.

use crate::check::{Report, Row, Verdict};
use std::fmt::Write;

/// Sentences are wrapped at this many columns.
const COLUMNS: usize = 100;
/// Where details begin; below the name of their check.
const INDENT: usize = 11;
/// The width of the word in front of a detail.
const LABEL: usize = 7;

/// The report as text that ends with a line feed.
pub(crate) fn render(report: &Report) -> String {
    let mut text = String::new();
    let width = report.rows.iter().map(|row| row.check.name.len()).max().unwrap_or(0);
    let mut group = None;
    for row in &report.rows {
        if group != Some(row.check.group) {
            let gap = if group.is_some() { "\n" } else { "" };
            line(&mut text, &format!("{gap}{}", row.check.group.word()));
            group = Some(row.check.group);
        }
        let verdict = row.verdict().word();
        let found = escape(&row.found());
        line(&mut text, &format!("  {verdict:<7}  {:<width$}  {found}", row.check.name));
        details(&mut text, row);
    }
    let counts: Vec<String> = Verdict::ALL
        .iter()
        .map(|&verdict| format!("{} {}", report.count(verdict), verdict.word()))
        .collect();
    line(&mut text, &format!("\n{} checks: {}", report.rows.len(), counts.join(", ")));
    text
}

fn line(text: &mut String, content: &str) {
    text.push_str(content);
    text.push('\n');
}

/// What was wanted and why, and what to do; nothing for a check that is as wanted.
fn details(text: &mut String, row: &Row) {
    if row.verdict() == Verdict::Ok {
        return;
    }
    detail(text, "wanted", row.check.wanted);
    detail(text, "why", row.check.why);
    let Some(remedy) = row.remedy() else { return };
    detail(text, "do", &format!("{}.", remedy.action));
    if let Some(command) = &remedy.command {
        line(text, &format!("{:INDENT$}{:<LABEL$} {}", "", "copy", escape(command)));
    }
}

/// A labelled sentence, wrapped between words.
fn detail(text: &mut String, label: &str, sentence: &str) {
    let mut current = format!("{:INDENT$}{label:<LABEL$}", "");
    for word in escape(sentence).split_whitespace() {
        if current.len() + 1 + word.len() > COLUMNS {
            line(text, &current);
            current = format!("{:1$}", "", INDENT + LABEL);
        }
        current.push(' ');
        current.push_str(word);
    }
    line(text, &current);
}

/// The text with control characters in the notation of Rust.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "{}", character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Tree;

    fn rendered(tree: Tree) -> String {
        render(&Report::of(&tree.host()))
    }

    #[test]
    fn fine_checks_take_one_line_and_others_say_what_to_do() {
        let tree = Tree::new()
            .file("proc/sys/net/core/somaxconn", "4096\n")
            .file("proc/sys/net/core/busy_poll", "50\n")
            .file("proc/sys/kernel/osrelease", "5.4.0\n");
        let text = rendered(tree);
        let expected = concat!(
            "  ok       somaxconn                  4096\n",
            "  unknown  tcp-syn-backlog            /proc/sys/net/ipv4/tcp_max_syn_backlog: ",
            "is absent\n",
            "           wanted  4096 or more, or SYN cookies\n",
        );
        assert!(text.contains(expected), "{text}");
        let expected = concat!(
            "           do      Leave busy polling to the programs that ask for it.\n",
            "           copy    sudo sysctl -w net.core.busy_poll=0\n",
        );
        assert!(text.contains(expected), "{text}");
        assert!(text.starts_with("kernel\n  problem  kernel-version "), "{text}");
        let total = crate::check::all().count();
        let unknown = total - 3;
        let expected = format!("\n{total} checks: 1 ok, 1 advise, 1 problem, {unknown} unknown\n");
        assert!(text.ends_with(&expected), "{text}");
    }

    #[test]
    fn sentences_are_wrapped() {
        let text = rendered(Tree::new().file("proc/x", ""));
        for wrapped in text.lines().filter(|line| line.starts_with(&" ".repeat(INDENT))) {
            assert!(wrapped.len() <= COLUMNS, "{wrapped}");
        }
    }

    #[test]
    fn files_cannot_control_the_terminal() {
        let release = "6.5\u{1b}[2J\u{7}\nnext";
        let text = rendered(Tree::new().file("proc/sys/kernel/osrelease", release));
        assert!(text.contains("6.5\\u{1b}[2J\\u{7}\\nnext"), "{text}");
        assert!(text.chars().all(|character| character == '\n' || !character.is_control()));
    }
}
