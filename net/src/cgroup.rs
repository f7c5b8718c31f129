//! What the control groups of this process allow it, in hierarchies of both versions: memory, and
//! time on the CPUs.
//!
//! `/proc/self/cgroup` names the group, in version 1 one for each controller, and
//! `/proc/self/mountinfo` says where its hierarchy is mounted, and from which group on: in a
//! container the mount often begins at the container's own. A limit of a group holds for those
//! below it, so the least counts of all from the process's own up to the mount; what lies above
//! cannot be seen. A host may have both versions at a time: a controller that version 1 has is not
//! in version 2. (cgroups(7))
//!
//! Cost: some files read; for the start, and for INFO.

use std::fs;
use std::path::{Path, PathBuf};

/// The hierarchies of a host.
#[derive(Clone, Debug)]
pub struct Cgroups {
    /// Where the files of the host are.
    root: PathBuf,
}

/// The folders of the groups that limit this process, its own first.
#[derive(Debug, PartialEq, Eq)]
enum Folders {
    One(Vec<PathBuf>),
    Two(Vec<PathBuf>),
}

impl Cgroups {
    /// Those of this host.
    pub fn of_host() -> Cgroups {
        Cgroups::below("/")
    }

    /// Those that the files below a folder tell of, instead of below `/`.
    pub fn below(root: impl Into<PathBuf>) -> Cgroups {
        Cgroups { root: root.into() }
    }

    /// The least limit on memory, in bytes. Version 1 writes a number beyond all memory where there
    /// is none.
    pub fn memory_bytes(&self) -> Option<u64> {
        let (folders, file) = match self.folders("memory")? {
            Folders::One(folders) => (folders, "memory.limit_in_bytes"),
            Folders::Two(folders) => (folders, "memory.max"),
        };
        folders.iter().filter_map(|folder| read(&folder.join(file))?.parse().ok()).min()
    }

    /// Per cent of one CPU that the process may use, if that is limited.
    pub fn cpu_percent(&self) -> Option<u64> {
        match self.folders("cpu")? {
            Folders::One(folders) => folders
                .iter()
                .filter_map(|folder| {
                    // -1 is no quota.
                    let quota = read(&folder.join("cpu.cfs_quota_us"))?.parse().ok()?;
                    let period = read(&folder.join("cpu.cfs_period_us"))?.parse().ok()?;
                    percent(quota, period)
                })
                .min(),
            Folders::Two(folders) => folders
                .iter()
                .filter_map(|folder| {
                    // "max" is no quota.
                    let text = read(&folder.join("cpu.max"))?;
                    let (quota, period) = text.split_once(' ')?;
                    percent(quota.parse().ok()?, period.parse().ok()?)
                })
                .min(),
        }
    }

    fn folders(&self, controller: &str) -> Option<Folders> {
        let groups = fs::read_to_string(self.root.join("proc/self/cgroup")).ok()?;
        let mounts = fs::read_to_string(self.root.join("proc/self/mountinfo")).ok()?;
        let (is_first, group) = group_of(&groups, controller)?;
        let mut mounts = mounts.lines().filter_map(Mount::read);
        let mount = mounts.find(|mount| match is_first {
            true => mount.kind == "cgroup" && mount.options.split(',').any(|o| o == controller),
            false => mount.kind == "cgroup2",
        })?;
        let folders = mount.folders(group);
        let folders = folders.into_iter().map(|folder| self.root.join(folder)).collect();
        Some(if is_first { Folders::One(folders) } else { Folders::Two(folders) })
    }
}

fn read(file: &Path) -> Option<String> {
    fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
}

fn percent(quota_us: u64, period_us: u64) -> Option<u64> {
    quota_us.saturating_mul(100).checked_div(period_us)
}

/// The group of a controller among lines `number:controllers:group`, and whether it is one of
/// version 1. The line of version 2 names no controller.
fn group_of<'a>(groups: &'a str, controller: &str) -> Option<(bool, &'a str)> {
    let rows = || groups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let first = rows().find(|row| row.0.split(',').any(|name| name == controller));
    let found = first.or_else(|| rows().find(|row| row.0.is_empty()))?;
    Some((first.is_some(), found.1))
}

/// A line of mountinfo, as far as it matters here (proc_pid_mountinfo(5)).
struct Mount<'a> {
    /// The group that appears at the mount's place.
    group: String,
    /// That place, without the leading slash.
    place: String,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn read(line: &'a str) -> Option<Mount<'a>> {
        let (mount, source) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (group, place) = (unescape(mount.next()?), unescape(mount.next()?));
        let mut source = source.split(' ');
        let (kind, options) = (source.next()?, source.nth(1)?);
        Some(Mount { group, place: place.trim_start_matches('/').to_owned(), kind, options })
    }

    /// The folders from a group's up to the mount's. Of a group that is not below the mount's only
    /// the latter can be seen.
    fn folders(&self, group: &str) -> Vec<PathBuf> {
        let place = Path::new(&self.place);
        let below = Path::new(group).strip_prefix(&self.group).unwrap_or(Path::new(""));
        let is_plain =
            below.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        let own = if is_plain { place.join(below) } else { place.to_owned() };
        own.ancestors().take_while(|path| path.starts_with(place)).map(Path::to_owned).collect()
    }
}

/// Resolves `\040` and the like, by which the kernel writes spaces in paths.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = (first == b'\\').then(|| after.get(..3)).flatten();
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with the files of a host, removed at the end.
    struct Host(PathBuf);

    impl Host {
        fn new(name: &str, files: &[(&str, &str)]) -> Host {
            let name = format!("pinion-cgroup-{}-{name}", std::process::id());
            let host = Host(std::env::temp_dir().join(name));
            for (path, text) in files {
                let path = host.0.join(path);
                fs::create_dir_all(path.parent().expect("it is below")).expect("make");
                fs::write(path, text).expect("write");
            }
            host
        }

        fn limits(&self) -> (Option<u64>, Option<u64>) {
            let cgroups = Cgroups::below(&self.0);
            (cgroups.memory_bytes(), cgroups.cpu_percent())
        }
    }

    impl Drop for Host {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const MOUNTS: &str = "\
        30 24 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755\n\
        36 30 0:33 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n\
        37 30 0:34 /docker/abc /sys/fs/cgroup/my\\040memory rw shared:9 - cgroup cgroup rw,memory\n\
        38 30 0:35 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn version_one_has_a_hierarchy_for_each_controller() {
        let memory = "sys/fs/cgroup/my memory";
        let cpu = "sys/fs/cgroup/cpu,cpuacct";
        let groups = "12:cpu,cpuacct:/a/b\n4:memory:/docker/abc/in\n0::/elsewhere\n";
        let host = Host::new(
            "one",
            &[
                ("proc/self/cgroup", groups),
                ("proc/self/mountinfo", MOUNTS),
                (&format!("{memory}/memory.limit_in_bytes"), "536870912\n"),
                (&format!("{memory}/in/memory.limit_in_bytes"), "9223372036854771712\n"),
                (&format!("{cpu}/cpu.cfs_quota_us"), "-1\n"),
                (&format!("{cpu}/cpu.cfs_period_us"), "100000\n"),
                (&format!("{cpu}/a/cpu.cfs_quota_us"), "150000\n"),
                (&format!("{cpu}/a/cpu.cfs_period_us"), "100000\n"),
                (&format!("{cpu}/a/b/cpu.cfs_quota_us"), "10000\n"),
                (&format!("{cpu}/a/b/cpu.cfs_period_us"), "20000\n"),
                ("sys/fs/cgroup/unified/elsewhere/memory.max", "1\n"),
            ],
        );
        assert_eq!(host.limits(), (Some(512 << 20), Some(50)));
    }

    #[test]
    fn version_two_has_one_for_all() {
        let mounts = "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let host = Host::new(
            "two",
            &[
                ("proc/self/cgroup", "0::/system.slice/pinion.service\n"),
                ("proc/self/mountinfo", mounts),
                ("sys/fs/cgroup/system.slice/memory.max", "1073741824\n"),
                ("sys/fs/cgroup/system.slice/cpu.max", "max 100000\n"),
                ("sys/fs/cgroup/system.slice/pinion.service/memory.max", "max\n"),
                ("sys/fs/cgroup/system.slice/pinion.service/cpu.max", "250000 100000\n"),
            ],
        );
        assert_eq!(host.limits(), (Some(1 << 30), Some(250)));
    }

    #[test]
    fn groups_out_of_sight_are_those_of_the_mount() {
        let mounts = "29 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        for group in ["/", "/docker/other", "/../sibling", "/docker/abc/../../etc"] {
            let host = Host::new(
                "outside",
                &[
                    ("proc/self/cgroup", &format!("0::{group}\n")),
                    ("proc/self/mountinfo", mounts),
                    ("sys/fs/cgroup/memory.max", "4096\n"),
                    ("sys/fs/cgroup/cpu.max", "1 0\n"),
                ],
            );
            assert_eq!(host.limits(), (Some(4096), None), "{group}");
        }
        assert_eq!(Host::new("none", &[]).limits(), (None, None));
        let garbage = Host::new(
            "garbage",
            &[
                ("proc/self/cgroup", "x\n::\n1:\n"),
                ("proc/self/mountinfo", "a - b\n - \nlong line without it\n"),
            ],
        );
        assert_eq!(garbage.limits(), (None, None));
        assert_eq!(unescape("a\\040b\\x\\999\\1"), "a b\\x\\999\\1");
    }
}
