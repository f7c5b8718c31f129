//! What a check is, what it can say, and the report that all of them make.
//!
//! A check is data: its texts and a small function that reads a [`Host`] and returns a
//! [`Finding`]. A finding that asks for something always says what to do, because advice and
//! problems can only be made with a [`Remedy`].
//!
//! Invariants:
//!
//! - I1. The name of a check is unique, and stable: scripts select by it.
//! - I2. Checks are independent: none sees the result of another.

use crate::checks;
use crate::host::{Host, Unreadable};

/// The judgement of one check, from good to unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// As wanted.
    Ok,
    /// The server works, and its tail latency may be better after a change.
    Advise,
    /// The server cannot start or refuses work, or requests will stall for milliseconds.
    Problem,
    /// The host does not say.
    Unknown,
}

impl Verdict {
    /// All verdicts, in the order in which reports count them.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Advise, Self::Problem, Self::Unknown];

    /// The word for it in reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Advise => "advise",
            Self::Problem => "problem",
            Self::Unknown => "unknown",
        }
    }
}

/// The part of the host that a check looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// The kernel and its io_uring.
    Kernel,
    /// Resource limits of the process.
    Limits,
    /// Limits of the control group.
    Cgroup,
    /// Clocks, power saving and isolation of CPUs.
    Cpu,
    /// Huge pages, swap and NUMA.
    Memory,
    /// Settings of the network stack.
    Network,
    /// Network interfaces.
    Nic,
}

impl Group {
    /// The word for it in reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Limits => "limits",
            Self::Cgroup => "cgroup",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Network => "network",
            Self::Nic => "nic",
        }
    }
}

/// One check: what it is about and how to find out.
#[derive(Debug)]
pub struct Check {
    /// Unique and stable, in lower case with hyphens.
    pub name: &'static str,
    /// The part of the host that it looks at.
    pub group: Group,
    /// What it should be, as half a sentence.
    pub wanted: &'static str,
    /// Why it matters to a cache.
    pub why: &'static str,
    /// The files that it reads (`*` stands for several) and the system calls that it makes.
    pub sources: &'static [&'static str],
    /// Reads the host and judges. An error means that the host does not say.
    pub inspect: fn(&Host) -> Result<Finding, Unreadable>,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is there now.
    pub found: String,
    /// What to make of it.
    pub judgement: Judgement,
}

/// What to make of a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// As wanted.
    Ok,
    /// A change may improve tail latency.
    Advise(Remedy),
    /// A change is needed.
    Problem(Remedy),
}

/// What to do about a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remedy {
    /// The action, as a sentence without its full stop.
    pub action: String,
    /// A command, a line of a unit file or a boot parameter to copy, where there is one.
    pub command: Option<String>,
}

impl Remedy {
    /// An action that needs more than a command.
    pub fn new(action: impl Into<String>) -> Self {
        Self { action: action.into(), command: None }
    }

    /// An action with something to copy.
    pub fn with(action: impl Into<String>, command: impl Into<String>) -> Self {
        Self { action: action.into(), command: Some(command.into()) }
    }
}

impl Finding {
    /// As wanted.
    pub fn ok(found: impl Into<String>) -> Self {
        Self { found: found.into(), judgement: Judgement::Ok }
    }

    /// A change may improve tail latency.
    pub fn advise(found: impl Into<String>, remedy: Remedy) -> Self {
        Self { found: found.into(), judgement: Judgement::Advise(remedy) }
    }

    /// A change is needed.
    pub fn problem(found: impl Into<String>, remedy: Remedy) -> Self {
        Self { found: found.into(), judgement: Judgement::Problem(remedy) }
    }
}

/// One check with its result.
#[derive(Debug)]
pub struct Row {
    /// The check that was made.
    pub check: &'static Check,
    /// What it found, or what it could not read.
    pub result: Result<Finding, Unreadable>,
}

impl Row {
    /// The judgement, with what could not be read as unknown.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match &self.result {
            Err(_) => Verdict::Unknown,
            Ok(finding) => match finding.judgement {
                Judgement::Ok => Verdict::Ok,
                Judgement::Advise(_) => Verdict::Advise,
                Judgement::Problem(_) => Verdict::Problem,
            },
        }
    }

    /// What was found, or what could not be read and why.
    #[must_use]
    pub fn found(&self) -> String {
        match &self.result {
            Ok(finding) => finding.found.clone(),
            Err(unreadable) => unreadable.to_string(),
        }
    }

    /// What to do, if anything is asked for.
    #[must_use]
    pub fn remedy(&self) -> Option<&Remedy> {
        match &self.result.as_ref().ok()?.judgement {
            Judgement::Ok => None,
            Judgement::Advise(remedy) | Judgement::Problem(remedy) => Some(remedy),
        }
    }
}

/// The results of all checks on one host.
#[derive(Debug)]
pub struct Report {
    /// The directory that held the host's `proc` and `sys`.
    pub root: String,
    /// The results, in the fixed order of the checks: groups stay together.
    pub rows: Vec<Row>,
}

impl Report {
    /// Makes every check. Reads some hundred small files; changes nothing.
    #[must_use]
    pub fn of(host: &Host) -> Self {
        let rows = all().map(|check| Row { check, result: (check.inspect)(host) }).collect();
        Self { root: host.root().display().to_string(), rows }
    }

    /// How many checks ended with `verdict`.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|row| row.verdict() == verdict).count()
    }
}

/// All checks, in the order of reports.
pub fn all() -> impl Iterator<Item = &'static Check> {
    checks::TABLES.iter().copied().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Tree;
    use std::collections::HashSet;
    use std::path::PathBuf;

    #[test]
    fn names_are_unique_and_texts_are_complete() {
        let mut names = HashSet::new();
        for check in all() {
            let name = check.name;
            assert!(names.insert(name), "{name} is there twice");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{name}");
            assert!(!check.wanted.is_empty(), "{name}");
            assert!(check.why.ends_with('.') && check.why.is_ascii(), "{name}");
            assert!(!check.sources.is_empty(), "{name}");
        }
    }

    #[test]
    fn groups_stay_together() {
        let mut groups: Vec<Group> = all().map(|check| check.group).collect();
        groups.dedup();
        let distinct: HashSet<Group> = groups.iter().copied().collect();
        assert_eq!(groups.len(), distinct.len(), "{groups:?}");
    }

    #[test]
    fn an_empty_host_is_unknown_everywhere_and_names_paths() {
        let report = Report::of(&Tree::new().file("proc/unrelated", "").host());
        assert_eq!(report.count(Verdict::Unknown), report.rows.len());
        for row in &report.rows {
            let unreadable = row.result.as_ref().expect_err("the tree is empty");
            let path = &unreadable.path;
            assert!(path.starts_with('/') || path == "io_uring_setup(2)", "{unreadable}");
            assert_eq!(row.remedy(), None);
        }
    }

    /// Whatever the files hold, a check answers.
    #[test]
    fn garbage_in_every_file_is_never_a_failure() {
        for garbage in ["", "-1", "x y z", "18446744073709551616", "\u{0}\u{1b}[2J", "[", "0::"] {
            let mut tree = Tree::new().file("proc/unrelated", "");
            for source in all().flat_map(|check| check.sources) {
                if source.starts_with('/') {
                    let path = source.trim_start_matches('/').replace('*', "0");
                    tree = tree.file(&path, garbage);
                }
            }
            let report = Report::of(&tree.host());
            let judged: usize = Verdict::ALL.map(|verdict| report.count(verdict)).iter().sum();
            assert_eq!(judged, all().count());
        }
    }

    #[test]
    fn this_host_gets_a_report() {
        let host = Host::open(PathBuf::from("/")).expect("tests run on Linux");
        let report = Report::of(&host);
        assert_eq!(report.rows.len(), all().count());
        let version = report.rows.iter().find(|row| row.check.name == "kernel-version");
        assert_ne!(version.map(Row::verdict), Some(Verdict::Unknown));
    }
}
