//! Commands under other names, or under none (`--rename-command`): so that what is dangerous can
//! be kept from clients that do not know the name.

use std::collections::HashMap;

use super::spec::{NAME_BYTES_MAX, Spec};
use super::table;

/// Which commands have other names. Look-up of a name costs one more hash, and nothing where no
/// command has been renamed.
#[derive(Clone, Debug, Default)]
pub struct Renames {
    /// By name in lower case; `None` under a name that means nothing any more.
    names: HashMap<Vec<u8>, Option<&'static Spec>>,
}

impl Renames {
    /// Reads pairs of a name and a new one, one after the other.
    ///
    /// # Errors
    /// Says which pair is wrong.
    pub fn new(pairs: &[String]) -> Result<Renames, String> {
        let mut names = HashMap::new();
        for pair in pairs.chunks(2) {
            let [old, new] = pair else { return Err("names come in pairs".to_owned()) };
            let wrong = |why: &str| Err(format!("{old} '{new}': {why}"));
            let Some(spec) = table::find(old.as_bytes()) else {
                return wrong("there is no command of the first name");
            };
            let new = new.to_ascii_lowercase();
            if new.len() > NAME_BYTES_MAX * 4 || !new.bytes().all(|byte| byte.is_ascii_graphic()) {
                return wrong("a name has 64 visible ASCII characters at most");
            }
            let old_name = spec.name.as_bytes().to_vec();
            if names.get(&old_name).is_some_and(|entry: &Option<&Spec>| entry.is_none()) {
                return wrong("the first has another name already");
            }
            // Another command may have been given this one's name before.
            names.entry(old_name).or_insert(None);
            let is_taken = match names.get(new.as_bytes()) {
                Some(entry) => entry.is_some(),
                None => table::find(new.as_bytes()).is_some(),
            };
            if is_taken {
                return wrong("the new name is another command's");
            }
            if !new.is_empty() {
                names.insert(new.into_bytes(), Some(spec));
            }
        }
        Ok(Renames { names })
    }

    /// The command of this name, in any case.
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<&'static Spec> {
        if self.names.is_empty() { table::find(name) } else { self.find_renamed(name) }
    }

    /// Whether a command answers to its own name.
    pub fn keeps(&self, spec: &Spec) -> bool {
        let found = self.find(spec.name.as_bytes());
        found.is_some_and(|found| found.number == spec.number)
    }

    fn find_renamed(&self, name: &[u8]) -> Option<&'static Spec> {
        if name.len() > NAME_BYTES_MAX * 4 {
            return None;
        }
        match self.names.get(&name.to_ascii_lowercase()) {
            Some(entry) => *entry,
            None => table::find(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renames(pairs: &[&str]) -> Result<Renames, String> {
        Renames::new(&pairs.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_command_answers_to_its_new_name_alone() {
        let renames = renames(&["FLUSHALL", "", "Config", "secret-Config", "get", "fetch"]);
        let renames = renames.expect("right");
        let name = |name: &[u8]| renames.find(name).map(|spec| spec.name);
        assert_eq!(name(b"flushall"), None);
        assert_eq!((name(b"CONFIG"), name(b"SECRET-CONFIG")), (None, Some("config")));
        assert_eq!((name(b"GET"), name(b"Fetch"), name(b"set")), (None, Some("get"), Some("set")));
        assert_eq!(name(b"nothing"), None);
        let keeps = |name: &[u8]| renames.keeps(table::find(name).expect("it is there"));
        assert!(keeps(b"set") && !keeps(b"get") && !keeps(b"flushall"));
        assert_eq!(Renames::default().find(b"GET").map(|spec| spec.name), Some("get"));
    }

    #[test]
    fn names_may_be_exchanged_and_not_shared() {
        let renames_of = |pairs: &[&str]| renames(pairs).map(|_| ());
        let swapped = renames(&["get", "old", "set", "get"]).expect("right");
        assert_eq!(swapped.find(b"get").map(|spec| spec.name), Some("set"));
        for pairs in [
            &["gett", "x"][..],
            &["get", "set"],
            &["get", "x", "set", "x"],
            &["get", "x", "get", "y"],
            &["get", "two words"],
            &["get"],
        ] {
            assert!(renames_of(pairs).is_err(), "{pairs:?}");
        }
    }
}
