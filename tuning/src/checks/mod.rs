//! The table of all checks, by group, and what several of them share.
//!
//! A check that reads one number under `/proc/sys` is one call of [`sysctl`].

mod cgroup;
mod cpu;
mod kernel;
mod limits;
mod memory;
mod network;
mod nic;
mod power;

use crate::check::{Check, Finding, Remedy};
use crate::host::{Host, Unreadable};

/// All checks; each group's tables stand next to each other.
pub(crate) static TABLES: [&[Check]; 8] = [
    kernel::CHECKS,
    limits::CHECKS,
    cgroup::CHECKS,
    cpu::CHECKS,
    power::CHECKS,
    memory::CHECKS,
    network::CHECKS,
    nic::CHECKS,
];

/// Judges the number at `path` below `/proc/sys`: fine if `accept` says so, else advice to set it
/// to `wanted`. `action` says what that is for.
fn sysctl(
    host: &Host,
    path: &str,
    accept: fn(i64) -> bool,
    wanted: i64,
    action: &str,
) -> Result<Finding, Unreadable> {
    let value: i64 = host.read_as(path)?;
    let found = value.to_string();
    if accept(value) {
        return Ok(Finding::ok(found));
    }
    Ok(Finding::advise(found, Remedy::with(action, set_sysctl(path, wanted))))
}

/// The command that sets the sysctl at `path` until the next boot.
fn set_sysctl(path: &str, value: i64) -> String {
    let name = path.trim_start_matches("/proc/sys/").replace('/', ".");
    format!("sudo sysctl -w {name}={value}")
}

/// The alternative in brackets: `always [madvise] never` gives `madvise`.
fn selected(host: &Host, path: &str) -> Result<String, Unreadable> {
    let text = host.read(path)?;
    let word = text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    word.map(str::to_owned).ok_or_else(|| Unreadable::content(path, &text))
}

/// A number of bytes in the largest binary unit that it reaches, with at most one decimal.
fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = "bytes";
    let mut scaled = bytes as f64;
    for next in UNITS {
        if scaled < 1024.0 {
            break;
        }
        scaled /= 1024.0;
        unit = next;
    }
    let digits = usize::from(scaled.fract() >= 0.05 && scaled.fract() < 0.95);
    format!("{scaled:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;
    use crate::fixture::Tree;

    /// Makes the check of this name on the host that `tree` stands for.
    pub(super) fn inspect(name: &str, tree: &Tree) -> Result<Finding, Unreadable> {
        let check = check::all().find(|check| check.name == name).expect("the check exists");
        (check.inspect)(&tree.host())
    }

    /// The verdict word, the finding, and the command to copy if there is one.
    pub(super) fn outcome(name: &str, tree: &Tree) -> (&'static str, String, Option<String>) {
        let check = check::all().find(|check| check.name == name).expect("the check exists");
        let row = check::Row { check, result: inspect(name, tree) };
        let command = row.remedy().and_then(|remedy| remedy.command.clone());
        (row.verdict().word(), row.found(), command)
    }

    #[test]
    fn bytes_are_shown_in_their_unit() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (65_536, "64 KiB"),
            (1_610_612_736, "1.5 GiB"),
            (1 << 40, "1 TiB"),
            (u64::MAX, "16384 PiB"),
        ] {
            assert_eq!(bytes_text(bytes), text);
        }
    }

    #[test]
    fn the_selected_word_stands_in_brackets() {
        let tree = Tree::new().file("sys/a", "always [madvise] never\n").file("sys/b", "always");
        assert_eq!(selected(&tree.host(), "/sys/a").as_deref(), Ok("madvise"));
        assert!(selected(&tree.host(), "/sys/b").is_err());
    }

    #[test]
    fn sysctl_commands_use_dots() {
        assert_eq!(
            set_sysctl("/proc/sys/net/core/somaxconn", 4096),
            "sudo sysctl -w net.core.somaxconn=4096"
        );
    }
}
