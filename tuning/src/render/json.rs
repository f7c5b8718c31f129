//! A report as JSON (RFC 8259): one object, one line per check.
//!
//! ```text
//! {"schema":1,"version":"0.1.0","root":"/","summary":{"ok":n,"advise":n,"problem":n,"unknown":n},
//! "checks":[{"name":s,"group":s,"verdict":s,"found":s,"wanted":s,"why":s,
//!            "action":s|null,"command":s|null,"sources":[s,...]},...]}
//! ```
//!
//! `schema` grows when a field is renamed or removed, not when one is added.

use crate::check::{Report, Row, Verdict};
use std::fmt::Write;

/// The report as a JSON text that ends with a line feed.
pub(crate) fn render(report: &Report) -> String {
    let summary: Vec<String> = Verdict::ALL
        .iter()
        .map(|&verdict| format!("{}:{}", string(verdict.word()), report.count(verdict)))
        .collect();
    let checks: Vec<String> = report.rows.iter().map(check).collect();
    format!(
        "{{\"schema\":1,\"version\":{},\"root\":{},\"summary\":{{{}}},\n\"checks\":[\n{}\n]}}\n",
        string(env!("CARGO_PKG_VERSION")),
        string(&report.root),
        summary.join(","),
        checks.join(",\n"),
    )
}

fn check(row: &Row) -> String {
    let remedy = row.remedy();
    let action = remedy.map(|remedy| remedy.action.as_str());
    let command = remedy.and_then(|remedy| remedy.command.as_deref());
    let sources: Vec<String> = row.check.sources.iter().map(|source| string(source)).collect();
    let fields = [
        ("name", string(row.check.name)),
        ("group", string(row.check.group.word())),
        ("verdict", string(row.verdict().word())),
        ("found", string(&row.found())),
        ("wanted", string(row.check.wanted)),
        ("why", string(row.check.why)),
        ("action", optional(action)),
        ("command", optional(command)),
        ("sources", format!("[{}]", sources.join(","))),
    ];
    let fields = fields.map(|(name, value)| format!("{}:{value}", string(name)));
    format!("{{{}}}", fields.join(","))
}

fn optional(text: Option<&str>) -> String {
    text.map_or_else(|| "null".to_owned(), string)
}

/// A JSON string: quotes, backslashes and control characters are escaped, all else stands.
fn string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            control if control < ' ' => {
                // Writing to a string cannot fail.
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Tree;

    #[test]
    fn strings_are_escaped() {
        assert_eq!(string("a\"b\\c\n\u{1}\u{e9}"), "\"a\\\"b\\\\c\\u000a\\u0001\u{e9}\"");
        assert_eq!(optional(None), "null");
    }

    #[test]
    fn a_check_has_all_fields_in_order() {
        let tree = Tree::new().file("proc/sys/net/core/busy_poll", "50\n");
        let text = render(&Report::of(&tree.host()));
        let line = text.lines().find(|line| line.contains("\"busy-poll\""));
        let expected = concat!(
            r#"{"name":"busy-poll","group":"network","verdict":"advise","#,
            r#""found":"50","wanted":"0","#,
            r#""why":"It makes every poll, select and epoll call of the host spin, which the "#,
            r#"server does not use, and takes CPU time from it.","#,
            r#""action":"Leave busy polling to the programs that ask for it","#,
            r#""command":"sudo sysctl -w net.core.busy_poll=0","#,
            r#""sources":["/proc/sys/net/core/busy_poll"]},"#,
        );
        assert_eq!(line, Some(expected));
    }

    #[test]
    fn the_summary_counts_and_the_root_is_named() {
        let tree = Tree::new().file("proc/sys/kernel/osrelease", "6.5\n");
        let report = Report::of(&tree.host());
        let text = render(&report);
        let unknown = report.rows.len() - 1;
        let root = tree.path().canonicalize().expect("the tree exists");
        let summary = format!(r#"{{"ok":1,"advise":0,"problem":0,"unknown":{unknown}}}"#);
        let expected = format!(r#""root":"{}","summary":{summary}"#, root.display());
        assert!(text.contains(&expected), "{text}");
        assert_eq!(render(&report), text);
    }
}
