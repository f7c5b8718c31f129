//! Reading a host: `/proc` and `/sys` below a root, and a probe of the running kernel.
//!
//! A root other than `/` is a copy of another host's files. It answers everything but the probe,
//! which would speak of the kernel that runs the command instead. Links are followed as they
//! stand, so a copy should hold relative links or none.
//!
//! Cost: one open, one read of up to [`FILE_BYTES_MAX`] and one close per file.

use crate::sys::{self, UringProbe};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// No more than this is read of any file, so that a strange root cannot exhaust memory.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// No more than this many names of a directory are looked at.
const DIRECTORY_ENTRIES_MAX: usize = 1 << 17;

/// What could not be learnt from the host, and why. Makes a check `unknown`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The path on the host, without the root, or the name of a system call.
    pub path: String,
    /// What is wrong with it, as half a sentence.
    pub reason: String,
}

impl Unreadable {
    /// Joins a path and what is wrong with it.
    pub fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into() }
    }

    /// The file is there but its content is not what the kernel documents.
    pub(crate) fn content(path: &str, content: &str) -> Self {
        let shown: String = content.chars().take(40).collect();
        Self::new(path, format!("holds {shown:?}, which is not understood"))
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path, self.reason)
    }
}

/// Why a directory cannot serve as the root of a host.
#[derive(Debug)]
pub enum RootError {
    /// The directory cannot be opened.
    Unusable(PathBuf, io::Error),
    /// The directory holds neither `proc` nor `sys`.
    NotAHost(PathBuf),
}

impl fmt::Display for RootError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable(root, error) => {
                write!(formatter, "cannot use {} as root: {error}", root.display())
            }
            Self::NotAHost(root) => {
                write!(formatter, "{} holds neither proc nor sys", root.display())
            }
        }
    }
}

impl std::error::Error for RootError {}

/// The host that is looked at.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
    live: bool,
}

impl Host {
    /// The host whose `/proc` and `/sys` are below `root`.
    ///
    /// # Errors
    ///
    /// [`RootError`] if `root` is not a directory that holds `proc` or `sys`.
    pub fn open(root: PathBuf) -> Result<Self, RootError> {
        let absolute = match root.canonicalize() {
            Ok(absolute) => absolute,
            Err(error) => return Err(RootError::Unusable(root, error)),
        };
        if !["proc", "sys"].iter().any(|name| absolute.join(name).is_dir()) {
            return Err(RootError::NotAHost(root));
        }
        let live = absolute == Path::new("/");
        Ok(Self { root: absolute, live })
    }

    /// The directory that holds `proc` and `sys`, as an absolute path.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The content of the file at `path` (absolute, as on the host) without surrounding blanks.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] if there is no such file, or it may not be read.
    pub fn read(&self, path: &str) -> Result<String, Unreadable> {
        self.read_all(path)
            .map(|text| text.trim().to_owned())
            .map_err(|error| Unreadable::new(path, reason(&error)))
    }

    /// The whole content of the file at `path` as one value, for instance a number.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] as for [`Host::read`], and if the content is not such a value.
    pub fn read_as<T: FromStr>(&self, path: &str) -> Result<T, Unreadable> {
        let text = self.read(path)?;
        text.parse().map_err(|_| Unreadable::content(path, &text))
    }

    /// The names in the directory at `path`, with numbers in them in numeric order.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] if there is no such directory, or it may not be read.
    pub fn list(&self, path: &str) -> Result<Vec<String>, Unreadable> {
        let entries = fs::read_dir(self.locate(path))
            .map_err(|error| Unreadable::new(path, reason(&error)))?;
        let mut names: Vec<String> = entries
            .take(DIRECTORY_ENTRIES_MAX)
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort_by_cached_key(|name| (number_at_end(name), name.clone()));
        Ok(names)
    }

    /// Whether it is certain that there is nothing at `path`.
    #[must_use]
    pub fn is_absent(&self, path: &str) -> bool {
        matches!(self.locate(path).try_exists(), Ok(false))
    }

    /// Tries to make an io_uring in the running kernel.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] if the root is not `/`: the running kernel is not the one looked at.
    pub(crate) fn probe_uring(&self) -> Result<UringProbe, Unreadable> {
        if self.live {
            Ok(sys::probe_uring())
        } else {
            Err(Unreadable::new("io_uring_setup(2)", "only tried with the root /"))
        }
    }

    fn locate(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn read_all(&self, path: &str) -> io::Result<String> {
        let location = self.locate(path);
        // Opening anything else than a file, for instance a pipe in a copied tree, may block.
        if !fs::metadata(&location)?.is_file() {
            return Err(io::Error::other("is not a file"));
        }
        let mut bytes = Vec::new();
        File::open(location)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The error as half a sentence that does not depend on the C library's wording.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "is absent".to_owned(),
        io::ErrorKind::PermissionDenied => "may not be read by this user".to_owned(),
        _ => error.to_string(),
    }
}

/// The number that `name` ends with (`state10` gives 10), so that 10 sorts after 9.
fn number_at_end(name: &str) -> Option<u64> {
    let digits = name.len() - name.trim_end_matches(|last: char| last.is_ascii_digit()).len();
    name[name.len() - digits..].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Tree;

    #[test]
    fn reads_trim_and_name_what_is_wrong() {
        let tree = Tree::new().file("proc/number", " 42\n").file("proc/word", "many\u{7}\n");
        let host = tree.host();
        assert_eq!(host.read("/proc/number").as_deref(), Ok("42"));
        assert_eq!(host.read_as::<u64>("/proc/number"), Ok(42));
        let wrong = host.read_as::<u64>("/proc/word").expect_err("a word is no number");
        assert_eq!(wrong.to_string(), r#"/proc/word: holds "many\u{7}", which is not understood"#);
        let absent = host.read("/proc/none").expect_err("there is no such file");
        assert_eq!(absent, Unreadable::new("/proc/none", "is absent"));
        let directory = host.read("/proc").expect_err("a directory is no file");
        assert_eq!(directory.to_string(), "/proc: is not a file");
    }

    #[test]
    fn long_files_are_cut_and_wrong_text_is_kept_readable() {
        let length = FILE_BYTES_MAX as usize + 10;
        let tree = Tree::new().file("proc/long", &"x".repeat(length));
        let read = tree.host().read("/proc/long").expect("the file is there");
        assert_eq!(read.len() as u64, FILE_BYTES_MAX);
        let tree = tree.bytes("proc/bytes", b"a\xffb");
        assert_eq!(tree.host().read("/proc/bytes").as_deref(), Ok("a\u{fffd}b"));
    }

    #[test]
    fn lists_are_in_numeric_order() {
        let tree = Tree::new().file("sys/cpu10", "").file("sys/cpu9", "").file("sys/online", "");
        let names = tree.host().list("/sys").expect("the directory is there");
        assert_eq!(names, ["online", "cpu9", "cpu10"]);
        let absent = tree.host().list("/none").expect_err("there is no such directory");
        assert_eq!(absent, Unreadable::new("/none", "is absent"));
    }

    #[test]
    fn another_root_does_not_probe_this_kernel() {
        let tree = Tree::new().file("proc/x", "");
        let refused = tree.host().probe_uring().expect_err("the root is not /");
        assert_eq!(refused.path, "io_uring_setup(2)");
    }

    #[test]
    fn the_real_root_is_probed_however_it_is_spelt() {
        let host = Host::open(PathBuf::from("/proc/..")).expect("tests run on Linux");
        assert_eq!(host.root(), Path::new("/"));
        assert!(host.probe_uring().is_ok());
    }
}
