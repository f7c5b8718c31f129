//! The rules of the house, kept by a test: which package may use which, where unsafe code lives,
//! and how large a file may grow.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Packages with the packages of ours that they may depend on. Arrows point one way:
/// engine <- router <- net <- benches; the load generator leans on the router and the ring alone,
/// tuning on nothing.
const MAY_USE: [(&str, &[&str]); 7] = [
    ("engine", &[]),
    ("router", &["pinion-engine"]),
    ("net/ring", &[]),
    ("net", &["pinion-engine", "pinion-router", "pinion-ring"]),
    ("loadgen", &["pinion-router", "pinion-ring"]),
    ("tuning", &[]),
    ("benches", &["pinion-engine", "pinion-router", "pinion-ring", "pinion-net", "pinion-loadgen"]),
];

/// What the engine may use from outside: nothing that does I/O, keeps time or starts threads.
const ENGINE_MAY_USE: [&str; 3] = ["bytes", "libc", "xxhash-rust"];

/// Lines beyond which a file has more than one subject.
const LINES_MAX: usize = 700;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

/// Names under `[dependencies]` of a manifest.
fn dependencies(manifest: &Path) -> Vec<String> {
    let text = fs::read_to_string(manifest).expect("a manifest");
    let after = text.split("[dependencies]").nth(1).unwrap_or_default();
    after
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['.', '=', ' ']).next())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Every Rust file of the workspace, by its path from the root.
fn sources() -> BTreeMap<String, String> {
    let root = root();
    let mut folders: Vec<PathBuf> = MAY_USE.iter().map(|(folder, _)| root.join(folder)).collect();
    let mut files = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).expect("below the root");
                let text = fs::read_to_string(&path).expect("text");
                files.insert(name.to_string_lossy().into_owned(), text);
            }
        }
    }
    files
}

#[test]
fn dependencies_point_one_way() {
    for (folder, allowed) in MAY_USE {
        let used = dependencies(&root().join(folder).join("Cargo.toml"));
        for name in used.iter().filter(|name| name.starts_with("pinion-")) {
            assert!(allowed.contains(&name.as_str()), "{folder} must not use {name}");
        }
        if folder == "engine" {
            for name in &used {
                let known = ENGINE_MAY_USE.contains(&name.as_str());
                assert!(known, "the engine must not use {name}: see its page in the README");
            }
        }
    }
    let members = fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    for (folder, _) in MAY_USE {
        assert!(members.contains(&format!("\"{folder}\"")), "{folder} is not in the workspace");
    }
}

/// Whether a line of code begins an unsafe block, function or implementation.
fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    ["unsafe {", "unsafe fn ", "unsafe impl "].iter().any(|word| code.contains(word))
}

#[test]
fn unsafe_code_says_why_it_holds() {
    for (name, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (number, _) in lines.iter().enumerate().filter(|(_, line)| is_unsafe(line)) {
            if name.ends_with("house.rs") {
                continue;
            }
            let above = &lines[number.saturating_sub(12)..number];
            let said =
                above.iter().any(|line| line.contains("SAFETY:") || line.contains("# Safety"));
            assert!(said, "{name}:{}: no SAFETY comment", number + 1);
        }
    }
}

#[test]
fn unsafe_code_lives_in_files_that_exist_for_it() {
    for folder in ["engine/src", "router/src", "net/src", "net/ring/src", "loadgen/src"] {
        let root_file = fs::read_to_string(root().join(folder).join("lib.rs")).expect("lib.rs");
        let denied = ["deny(unsafe_code)", "forbid(unsafe_code)"];
        let is_denied = denied.iter().any(|lint| root_file.contains(lint));
        assert!(is_denied, "{folder}/lib.rs must deny unsafe code; modules ask for it by name");
    }
}

#[test]
fn files_have_one_subject_and_nothing_is_left_over() {
    for (name, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{name} has {lines} lines; split it");
        for name_of_macro in ["todo", "unimplemented", "dbg"] {
            let call = format!("{name_of_macro}!(");
            assert!(!text.contains(&call), "{name}: {call} is left over");
        }
    }
}
