//! Directory trees that stand for a host, for tests.
//!
//! Invariant: every tree is a new directory, removed when the tree is dropped.

use crate::host::Host;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A temporary directory that holds a host's files.
pub(crate) struct Tree {
    root: PathBuf,
}

impl Tree {
    /// A new, empty directory.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pinion-tune-test-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(name);
        // A directory of the same name can only be the rest of a process that was killed.
        let _ = fs::remove_dir_all(&root);
        fs::create_dir(&root).expect("the temporary directory is writable");
        Self { root }
    }

    /// Adds or replaces a file; `path` is relative to the root.
    pub(crate) fn file(self, path: &str, content: &str) -> Self {
        self.bytes(path, content.as_bytes())
    }

    /// Adds or replaces a file that need not be text.
    pub(crate) fn bytes(self, path: &str, content: &[u8]) -> Self {
        let path = self.root.join(path);
        let parent = path.parent().expect("the path is below the root");
        fs::create_dir_all(parent).expect("the temporary directory is writable");
        fs::write(path, content).expect("the temporary directory is writable");
        self
    }

    /// Where the tree is.
    pub(crate) fn path(&self) -> &Path {
        &self.root
    }

    /// The host that the tree stands for.
    pub(crate) fn host(&self) -> Host {
        Host::open(self.root.clone()).expect("the tree holds proc or sys")
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // What is left behind is replaced by the next process of the same number.
        let _ = fs::remove_dir_all(&self.root);
    }
}
