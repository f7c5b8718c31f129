//! Checks of the resource limits that this process has, and a server started beside it would have.

use super::bytes_text;
use crate::check::{Check, Finding, Group, Remedy};
use crate::host::{Host, Unreadable};
use crate::topology;

const LIMITS: &str = "/proc/self/limits";

/// Below this soft limit of locked memory the executor of a core (glommio 0.9) refuses to start.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// A server that may not open this many files even after raising its soft limit runs out of them
/// with a few thousand connections.
const NOFILE_HARD_MIN: u64 = 4096;

/// Room for 64,512 connections and 1,024 other files.
const NOFILE_SOFT_WANTED: u64 = 65_536;

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "memlock",
        group: Group::Limits,
        wanted: "unlimited; at least 512 KiB for each core",
        why: "Every core registers its rings with the kernel as locked memory; below 512 KiB no \
              core starts.",
        sources: &[LIMITS, topology::ONLINE],
        inspect: memlock,
    },
    Check {
        name: "nofile",
        group: Group::Limits,
        wanted: "65536 or more open files",
        why: "Every connection is an open file; when they run out, new connections wait or are \
              refused.",
        sources: &[LIMITS],
        inspect: nofile,
    },
];

/// A soft and a hard limit; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit {
    soft: Option<u64>,
    hard: Option<u64>,
}

impl Limit {
    /// The limit in the line that starts with `name`.
    fn read(host: &Host, name: &str) -> Result<Self, Unreadable> {
        let text = host.read(LIMITS)?;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(Self::parse).ok_or_else(|| {
            Unreadable::new(LIMITS, format!("has no line of the known form for {name:?}"))
        })
    }

    fn parse(columns: &str) -> Option<Self> {
        let mut columns = columns.split_whitespace().map(|word| match word {
            "unlimited" => Some(None),
            number => number.parse().ok().map(Some),
        });
        Some(Self { soft: columns.next()??, hard: columns.next()?? })
    }

    fn describe(self, unit: fn(u64) -> String) -> String {
        let text = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), unit);
        format!("soft {}, hard {}", text(self.soft), text(self.hard))
    }
}

/// Whether `limit` allows `amount`.
fn allows(limit: Option<u64>, amount: u64) -> bool {
    limit.is_none_or(|limit| limit >= amount)
}

fn memlock(host: &Host) -> Result<Finding, Unreadable> {
    let limit = Limit::read(host, "Max locked memory")?;
    let found = limit.describe(bytes_text);
    let remedy = || {
        let action = "Set the limit in the server's unit, or with ulimit -l before starting it";
        Remedy::with(action, "LimitMEMLOCK=infinity")
    };
    if !allows(limit.soft, MEMLOCK_BYTES_MIN) {
        return Ok(Finding::problem(found, remedy()));
    }
    // The number of cores only decides between fine and better: one is what is known for sure.
    let cores = topology::online(host).map_or(1, |online| online.len() as u64);
    if allows(limit.soft, MEMLOCK_BYTES_MIN * cores) {
        return Ok(Finding::ok(found));
    }
    Ok(Finding::advise(found, remedy()))
}

fn nofile(host: &Host) -> Result<Finding, Unreadable> {
    let limit = Limit::read(host, "Max open files")?;
    let found = limit.describe(|files| files.to_string());
    let action = "Set the limit in the server's unit, or with ulimit -n before starting it";
    let remedy = Remedy::with(action, "LimitNOFILE=1048576");
    if !allows(limit.hard, NOFILE_HARD_MIN) {
        Ok(Finding::problem(found, remedy))
    } else if !allows(limit.soft, NOFILE_SOFT_WANTED) {
        Ok(Finding::advise(found, remedy))
    } else {
        Ok(Finding::ok(found))
    }
}

#[cfg(test)]
mod tests {
    use crate::checks::tests::outcome;
    use crate::fixture::Tree;

    fn tree(memlock: &str, nofile: &str) -> Tree {
        let text = format!(
            "Limit                     Soft Limit           Hard Limit           Units     \n\
             Max cpu time              unlimited            unlimited            seconds   \n\
             Max open files            {nofile}             files     \n\
             Max locked memory         {memlock}            bytes     \n"
        );
        Tree::new().file("proc/self/limits", &text).file("sys/devices/system/cpu/online", "0-31")
    }

    #[test]
    fn memlock_is_judged_by_core() {
        for (memlock, verdict, found) in [
            ("65536 65536", "problem", "soft 64 KiB, hard 64 KiB"),
            ("524287 unlimited", "problem", "soft 512 KiB, hard unlimited"),
            ("8388608 8388608", "advise", "soft 8 MiB, hard 8 MiB"),
            ("16777216 16777216", "ok", "soft 16 MiB, hard 16 MiB"),
            ("unlimited unlimited", "ok", "soft unlimited, hard unlimited"),
        ] {
            let (word, text, command) = outcome("memlock", &tree(memlock, "1 1"));
            assert_eq!(word, verdict, "{memlock}");
            assert_eq!(text, found);
            assert_eq!(command.is_some(), word != "ok");
        }
    }

    #[test]
    fn one_core_is_assumed_where_the_number_is_unknown() {
        let tree = tree("524288 524288", "1 1").file("sys/devices/system/cpu/online", "?");
        assert_eq!(outcome("memlock", &tree).0, "ok");
    }

    #[test]
    fn open_files_are_judged_by_both_limits() {
        for (nofile, verdict) in [
            ("1024 4095", "problem"),
            ("1024 524288", "advise"),
            ("65535 65535", "advise"),
            ("65536 65536", "ok"),
            ("unlimited unlimited", "ok"),
            ("many more", "unknown"),
            ("5", "unknown"),
        ] {
            assert_eq!(outcome("nofile", &tree("1 1", nofile)).0, verdict, "{nofile}");
        }
    }
}
