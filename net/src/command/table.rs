//! Every RESP command, from the lists of the families; look-up by name.
//!
//! Look-up takes a hash of the lower-cased name and, nearly always, one comparison of 16 bytes; it
//! does not allocate.

use super::spec::{NAME_BYTES_MAX, Spec};
use super::{bitmap, cluster, connection, key, script, server, string, transaction};

/// The lists, by Redis's names for the groups.
const FAMILIES: &[(&str, &[Spec])] = &[
    ("bitmap", bitmap::COMMANDS),
    ("cluster", cluster::COMMANDS),
    ("connection", connection::COMMANDS),
    ("generic", key::COMMANDS),
    ("scripting", script::COMMANDS),
    ("server", server::COMMANDS),
    ("string", string::COMMANDS),
    ("transactions", transaction::COMMANDS),
];

/// Number of commands, without subcommands.
pub(super) const COMMAND_COUNT: usize = {
    let (mut count, mut family) = (0, 0);
    while family < FAMILIES.len() {
        count += FAMILIES[family].1.len();
        family += 1;
    }
    count
};

/// Number of commands, subcommands included: the numbers of specifications are below this.
pub(super) const NUMBER_COUNT: usize = {
    let (mut count, mut index) = (0, 0);
    while index < COMMAND_COUNT {
        count += 1 + COMMANDS_IN_ORDER[index].subcommands.len();
        index += 1;
    }
    count
};
const _: () = assert!(NUMBER_COUNT < u16::MAX as usize);

/// All commands, numbered.
pub static COMMANDS: [Spec; COMMAND_COUNT] = COMMANDS_IN_ORDER;

const COMMANDS_IN_ORDER: [Spec; COMMAND_COUNT] = {
    let mut commands: [Spec; COMMAND_COUNT] = [FAMILIES[0].1[0]; COMMAND_COUNT];
    let (mut count, mut family, mut number) = (0, 0, 0);
    while family < FAMILIES.len() {
        let mut index = 0;
        while index < FAMILIES[family].1.len() {
            commands[count] = FAMILIES[family].1[index];
            commands[count].number = number;
            commands[count].reach = commands[count].find_reach();
            number += 1 + commands[count].subcommands.len() as u16;
            count += 1;
            index += 1;
        }
        family += 1;
    }
    commands
};

/// The group of a command.
pub(super) fn group_of(spec: &Spec) -> &'static str {
    let holds = |commands: &[Spec]| commands.iter().any(|other| other.name == spec.name);
    FAMILIES.iter().find(|(_, commands)| holds(commands)).map_or("", |(group, _)| group)
}

/// The full name of the command with this number, such as `get` or `config|set`; empty if there is
/// none. Linear in the number of commands.
pub fn name_of(number: u16) -> String {
    let spec = COMMANDS.iter().rev().find(|spec| spec.number <= number);
    let Some(spec) = spec else { return String::new() };
    match number - spec.number {
        0 => spec.name.to_owned(),
        below => spec
            .subcommands
            .get(usize::from(below) - 1)
            .map_or_else(String::new, |subcommand| format!("{}|{}", spec.name, subcommand.name)),
    }
}

/// Whether Redis calls the command with this number fast. Linear in the number of commands.
pub(super) fn is_fast(number: u16) -> bool {
    let spec = COMMANDS.iter().rev().find(|spec| spec.number <= number);
    // No subcommand is.
    spec.is_some_and(|spec| {
        spec.number == number && spec.flags.split(' ').any(|flag| flag == "fast")
    })
}

/// Slots of the look-up table; a power of two, several times the number of commands.
const SLOTS: usize = 512;
const _: () = assert!(COMMAND_COUNT * 3 <= SLOTS);
const _: () = assert!(COMMAND_COUNT <= u8::MAX as usize);

/// A slot of the look-up table: the name as a number, 0 if the slot is empty, and the command.
#[derive(Clone, Copy)]
struct Slot {
    name: u128,
    index: u8,
}

/// Names with their commands; linear probing. Made by the compiler.
static BY_NAME: [Slot; SLOTS] = {
    let mut table = [Slot { name: 0, index: 0 }; SLOTS];
    let mut index = 0;
    while index < COMMAND_COUNT {
        let bytes = COMMANDS_IN_ORDER[index].name.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            assert!(bytes[at].is_ascii_lowercase() || bytes[at] == b'_', "see `find`");
            at += 1;
        }
        let name = packed(bytes);
        let mut slot = slot_of(name);
        while table[slot].name != 0 {
            slot = (slot + 1) % SLOTS;
        }
        table[slot] = Slot { name, index: index as u8 };
        index += 1;
    }
    table
};

/// The command of this name, in any case.
#[inline]
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return None;
    }
    let wanted = packed(name);
    let mut slot = slot_of(wanted);
    loop {
        let found = BY_NAME[slot];
        if found.name == wanted {
            let spec = &COMMANDS[found.index as usize];
            // Names are letters and underscores. Folding maps nothing else to letters, but DEL to
            // what underscores become, and it makes the padding look like spaces.
            let same = spec.name.len() == name.len() && !name.contains(&0x7f);
            return same.then_some(spec);
        }
        if found.name == 0 {
            return None;
        }
        slot = (slot + 1) % SLOTS;
    }
}

/// 1 to 16 bytes as a number, upper-case letters folded to lower case. Reads overlapping words
/// instead of copying: bytes that are read twice are the same both times.
#[inline]
const fn packed(name: &[u8]) -> u128 {
    let last = name.len() - 1;
    let number = if last >= 8 {
        eight(name, 0) | eight(name, last - 7) << ((last - 7) * 8)
    } else if last >= 3 {
        four(name, 0) | four(name, last - 3) << ((last - 3) * 8)
    } else {
        let middle = name.len() / 2;
        name[0] as u128
            | (name[middle] as u128) << (middle * 8)
            | (name[last] as u128) << (last * 8)
    };
    number | 0x2020_2020_2020_2020_2020_2020_2020_2020
}

/// The eight bytes from an index on, which must be there.
#[inline(always)]
const fn eight(name: &[u8], from: usize) -> u128 {
    match name.split_at(from).1.first_chunk() {
        Some(bytes) => u64::from_le_bytes(*bytes) as u128,
        None => 0,
    }
}

/// The four bytes from an index on, which must be there.
#[inline(always)]
const fn four(name: &[u8], from: usize) -> u128 {
    match name.split_at(from).1.first_chunk() {
        Some(bytes) => u32::from_le_bytes(*bytes) as u128,
        None => 0,
    }
}

#[inline]
const fn slot_of(name: u128) -> usize {
    let folded = name as u64 ^ ((name >> 64) as u64).rotate_left(29);
    (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SLOTS.trailing_zeros())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Reach, Spread};

    #[test]
    fn every_command_is_found_in_any_case_and_nothing_else_is() {
        for spec in &COMMANDS {
            for name in [spec.name.to_owned(), spec.name.to_uppercase()] {
                let found = find(name.as_bytes()).map(|found| found.name);
                assert_eq!(found, Some(spec.name));
            }
        }
        let others: [&[u8]; 6] = [b"", b"ge", b"gett", b"G\x45\x54\x00", b"\x07et", &[b'a'; 99]];
        for name in others {
            assert!(find(name).is_none(), "{name:?}");
        }
    }

    #[test]
    fn it_is_decided_which_cores_every_command_concerns() {
        let all = COMMANDS.iter().flat_map(|spec| std::iter::once(spec).chain(spec.subcommands));
        let mut refused = Vec::new();
        for spec in all {
            match spec.find_reach() {
                Reach::Here => assert!(spec.keys.is_empty(), "{} has keys", spec.name),
                Reach::Key(index) => {
                    let is_key = spec.keys.len() == 1 && spec.keys[0].first == index;
                    assert!(is_key && spec.keys[0].last == 0, "{}", spec.name);
                }
                Reach::Keys(Spread::Together) => refused.push(spec.name),
                Reach::Keys(Spread::Jointly) => {
                    let names = ["copy", "msetnx", "rename", "renamenx"];
                    assert!(names.contains(&spec.name), "{} has no steps", spec.name);
                }
                Reach::Keys(Spread::Apart(_)) => assert_eq!(spec.keys.len(), 1, "{}", spec.name),
                Reach::Subcommand => assert!(!spec.subcommands.is_empty(), "{}", spec.name),
                Reach::Cursor => assert_eq!(spec.name, "scan"),
                Reach::Debug => assert_eq!(spec.name, "debug"),
                Reach::Survey => assert!(spec.keys.is_empty(), "{} has keys", spec.name),
                Reach::All(_) => assert!(spec.keys.is_empty(), "{} has keys", spec.name),
            }
        }
        refused.sort_unstable();
        // Keys on several cores are refused by these alone.
        assert_eq!(refused, ["bitop", "eval", "evalsha", "lcs", "watch"]);
    }

    #[test]
    fn the_list_is_consistent() {
        let mut names: Vec<&str> = COMMANDS.iter().map(|spec| spec.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), COMMANDS.len());
        let all = COMMANDS.iter().flat_map(|spec| std::iter::once(spec).chain(spec.subcommands));
        for spec in all {
            assert!(!spec.summary.is_empty() && !spec.categories.is_empty(), "{}", spec.name);
            assert!(spec.accepts(usize::from(spec.arity.unsigned_abs())));
            // What a command may change, and what it only reads, must be told apart.
            let reads = spec.flags.split(' ').any(|flag| flag == "readonly");
            // WATCH does neither, and what a script does depends on it.
            let is_either = spec.name == "watch" || spec.flags.contains("movablekeys");
            let is_clear = spec.keys.is_empty() || is_either || spec.is_write != reads;
            assert!(is_clear, "{}", spec.name);
        }
        let set = find(b"config").and_then(|spec| Some((spec, spec.subcommand(b"SET")?)));
        let (config, set) = set.expect("CONFIG SET exists");
        assert_eq!(name_of(config.number), "config");
        assert_eq!(name_of(config.number_of(set)), "config|set");
        assert_eq!(name_of(NUMBER_COUNT as u16), "");
        let get = find(b"GET").expect("GET exists");
        assert!(!get.accepts(1) && get.accepts(2) && !get.accepts(3));
        let del = find(b"del").expect("DEL exists");
        assert!(!del.accepts(1) && del.accepts(2) && del.accepts(9));
    }
}
