//! Counts instructions: runs the program once more under valgrind, which writes a file per form.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::super::LayerError;

/// A directory that is gone when this is.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch, LayerError> {
        let name = format!("pinion-commands-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).map_err(|error| LayerError::Io("make a directory", error))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to whoever clears temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Instructions within `measured_turns` for each of `form_count` forms, which `program` goes
/// through when started with `arguments`.
///
/// # Errors
/// [`LayerError::Io`] if valgrind cannot be started or its files cannot be read,
/// [`LayerError::Unexpected`] if it fails or its files are not as expected.
pub(super) fn count(
    program: &Path,
    arguments: &[String],
    form_count: usize,
) -> Result<Vec<u64>, LayerError> {
    let scratch = Scratch::new()?;
    let base = scratch.0.join("out");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*commands*measured_turns*"])
        .arg("--dump-before=*form_is_measured*")
        .arg(format!("--callgrind-out-file={}", base.display()))
        .arg(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| LayerError::Io("start valgrind, which --callgrind needs", error))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(LayerError::Unexpected(format!("the run under valgrind failed: {text}")));
    }
    (1..=form_count).map(|number| total(&base.with_extension(number.to_string()))).collect()
}

/// The instructions of one of callgrind's files.
fn total(path: &Path) -> Result<u64, LayerError> {
    let text = fs::read_to_string(path)
        .map_err(|error: io::Error| LayerError::Io("read what callgrind wrote", error))?;
    parse_total(&text).ok_or_else(|| {
        LayerError::Unexpected("what callgrind wrote has no count of instructions".to_owned())
    })
}

/// The number in the line `totals:` or, where that is missing, `summary:`; not 0.
fn parse_total(text: &str) -> Option<u64> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let number = field("totals:").or_else(|| field("summary:"))?.split_whitespace().next()?;
    number.parse().ok().filter(|&count| count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_found_and_nothing_else() {
        assert_eq!(parse_total("events: Ir\nsummary: 12\n1 2\ntotals: 34\n"), Some(34));
        assert_eq!(parse_total("events: Ir\nsummary: 12\n"), Some(12));
        for text in ["", "totals: \n", "totals: 0\n", "totals: x\n"] {
            assert_eq!(parse_total(text), None);
        }
    }
}
