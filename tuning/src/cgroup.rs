//! Which control group directories bound this process, for hierarchies of both versions.
//!
//! `/proc/self/cgroup` names the group and `/proc/self/mountinfo` says where its hierarchy is
//! mounted, and from which group on: inside a container the mount often starts at the container's
//! own group. A limit holds for all groups below it, so every directory from the group up to the
//! mount point counts. Limits above the mount point are invisible from here.
//!
//! Cost: two reads; the number of directories is the depth of the group.

use crate::host::{Host, Unreadable};

const MEMBERSHIP: &str = "/proc/self/cgroup";
const MOUNTS: &str = "/proc/self/mountinfo";

/// The version of a hierarchy: the names and the wording of its files differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// One hierarchy per controller.
    V1,
    /// One hierarchy for all controllers.
    V2,
}

/// The directories whose limits bound this process for one controller.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    /// The version of the hierarchy.
    pub(crate) version: Version,
    /// From the process's own group up to the mount point; never empty.
    pub(crate) directories: Vec<String>,
}

impl Chain {
    /// The directories that bound this process for `controller`, for instance `cpu`.
    pub(crate) fn of(host: &Host, controller: &str) -> Result<Self, Unreadable> {
        let membership = host.read(MEMBERSHIP)?;
        let mounts = host.read(MOUNTS)?;
        let (version, group) = group_of(&membership, controller)
            .ok_or_else(|| Unreadable::content(MEMBERSHIP, &membership))?;
        let mount = mounts
            .lines()
            .filter_map(Mount::parse)
            .find(|mount| mount.carries(version, controller))
            .ok_or_else(|| {
                Unreadable::new(MOUNTS, format!("names no mounted cgroup with {controller}"))
            })?;
        Ok(Self { version, directories: mount.directories(group) })
    }

    /// The directory of the hierarchy's mount point.
    pub(crate) fn top(&self) -> &str {
        self.directories.last().map_or("/", String::as_str)
    }
}

/// The version and the group of `controller` in lines of `hierarchy:controllers:group`.
///
/// A controller is in the hierarchy of version 1 that names it, else in the one of version 2,
/// whose line names none.
fn group_of<'a>(membership: &'a str, controller: &str) -> Option<(Version, &'a str)> {
    let mut unified = None;
    for line in membership.lines() {
        let (_, rest) = line.split_once(':')?;
        let (controllers, group) = rest.split_once(':')?;
        if controllers.split(',').any(|name| name == controller) {
            return Some((Version::V1, group));
        }
        if controllers.is_empty() {
            unified = Some((Version::V2, group));
        }
    }
    unified
}

/// The fields of a line of `mountinfo` that matter here.
struct Mount<'a> {
    /// The group that appears at the mount point.
    start: String,
    point: String,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, source) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (start, point) = (mount.next()?, mount.next()?);
        let mut source = source.split(' ');
        let (kind, options) = (source.next()?, source.nth(1)?);
        Some(Self { start: unescape(start), point: unescape(point), kind, options })
    }

    fn carries(&self, version: Version, controller: &str) -> bool {
        match version {
            Version::V1 => {
                self.kind == "cgroup" && self.options.split(',').any(|name| name == controller)
            }
            Version::V2 => self.kind == "cgroup2",
        }
    }

    fn directories(&self, group: &str) -> Vec<String> {
        let start = self.start.trim_end_matches('/');
        let below = match group.strip_prefix(start) {
            Some(below) if below.is_empty() || below.starts_with('/') => below,
            // The group is outside of what is mounted: only the mount point can be looked at.
            _ => "",
        };
        let mut names: Vec<&str> = below.split('/').filter(|name| !name.is_empty()).collect();
        if names.contains(&"..") {
            names.clear();
        }
        let point = self.point.trim_end_matches('/');
        let mut directories = Vec::with_capacity(names.len() + 1);
        for depth in (0..=names.len()).rev() {
            let mut directory = point.to_owned();
            for name in &names[..depth] {
                directory.push('/');
                directory.push_str(name);
            }
            directories.push(directory);
        }
        directories
    }
}

/// Undoes the kernel's escapes of blanks and backslashes in paths: `\040` is a space.
fn unescape(field: &str) -> String {
    let known = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    let mut text = String::with_capacity(field.len());
    let mut rest = field;
    while let Some(first) = rest.chars().next() {
        let (from, to) = known
            .into_iter()
            .find(|(escape, _)| rest.starts_with(escape))
            .unwrap_or((&rest[..first.len_utf8()], &rest[..first.len_utf8()]));
        text.push_str(to);
        rest = &rest[from.len()..];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Tree;

    fn chain(membership: &str, mounts: &str, controller: &str) -> Result<Chain, Unreadable> {
        let tree =
            Tree::new().file("proc/self/cgroup", membership).file("proc/self/mountinfo", mounts);
        Chain::of(&tree.host(), controller)
    }

    const UNIFIED: &str = "\
24 31 0:22 / /proc rw,nosuid - proc proc rw
31 24 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate
";

    const SPLIT: &str = "\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 /docker/ab /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

    #[test]
    fn the_unified_hierarchy_counts_every_level() {
        let chain = chain("0::/system.slice/pinion.service\n", UNIFIED, "cpu");
        let expected = [
            "/sys/fs/cgroup/system.slice/pinion.service",
            "/sys/fs/cgroup/system.slice",
            "/sys/fs/cgroup",
        ];
        let chain = chain.expect("both files are there");
        assert_eq!((chain.version, chain.top()), (Version::V2, "/sys/fs/cgroup"));
        assert_eq!(chain.directories, expected);
    }

    #[test]
    fn the_split_hierarchies_are_found_by_controller() {
        let membership = "4:memory:/docker/ab/in ner\n1:cpu,cpuacct:/\n0::/\n";
        let cpu = chain(membership, SPLIT, "cpu").expect("both files are there");
        assert_eq!(cpu.version, Version::V1);
        assert_eq!(cpu.directories, ["/sys/fs/cgroup/cpu,cpuacct"]);
        let memory = chain(membership, SPLIT, "memory").expect("both files are there");
        let expected = ["/sys/fs/cgroup/memory/in ner", "/sys/fs/cgroup/memory"];
        assert_eq!(memory.directories, expected);
    }

    #[test]
    fn a_group_outside_of_the_mount_is_seen_at_the_mount_point() {
        for group in ["/elsewhere", "/../sibling", "/docker/abc"] {
            let membership = format!("4:memory:{group}\n");
            let memory = chain(&membership, SPLIT, "memory").expect("both files are there");
            assert_eq!(memory.directories, ["/sys/fs/cgroup/memory"], "{group}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let no_mount = chain("0::/\n", "24 31 0:22 / /proc rw - proc proc rw\n", "cpu");
        assert_eq!(no_mount.map_err(|error| error.path), Err(MOUNTS.to_owned()));
        let no_group = chain("3:memory:/\n", UNIFIED, "cpu");
        assert_eq!(no_group.map_err(|error| error.path), Err(MEMBERSHIP.to_owned()));
        assert!(chain("garbage", "garbage", "cpu").is_err());
    }

    #[test]
    fn escapes_are_undone_once() {
        assert_eq!(unescape(r"/a\040b\134040c"), r"/a b\040c");
        assert_eq!(unescape("/plain\\"), "/plain\\");
    }
}
