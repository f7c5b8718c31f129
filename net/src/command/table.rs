//! Every RESP command: its name, arity, flags, keys and function. One list serves dispatch,
//! COMMAND and the prefetching of keys.
//!
//! Look-up takes a hash of the lower-cased name and, nearly always, one comparison of 16 bytes; it
//! does not allocate.

use super::context::{Arguments, Context, Flow};
use super::{connection, counter, key, server, string};

/// One command.
#[derive(Debug)]
pub struct Spec {
    /// Name in lower case, at most 16 bytes.
    pub name: &'static str,
    /// Number of arguments with the name, or at least that many if negative, as Redis counts.
    pub arity: i8,
    /// Index of the first key, of the last (negative: from the end), and the step; zeros if the
    /// command has no keys.
    pub keys: (i8, i8, i8),
    /// Redis's flags.
    pub flags: &'static [&'static str],
    /// Redis's group.
    pub group: &'static str,
    /// The Redis version that brought it.
    pub since: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// Its function.
    pub run: fn(&mut Context<'_>, &Arguments<'_>) -> Flow,
}

/// The longest name.
pub(super) const NAME_BYTES_MAX: usize = 16;

impl Spec {
    /// Whether this many arguments, the name included, may be right.
    pub fn accepts(&self, count: usize) -> bool {
        let arity = usize::from(self.arity.unsigned_abs());
        if self.arity >= 0 { count == arity } else { count >= arity }
    }

    /// The access control categories that its flags and group imply.
    pub fn categories(&self) -> Vec<&'static str> {
        let mut categories = Vec::with_capacity(4);
        for (flag, category) in [("readonly", "@read"), ("write", "@write"), ("admin", "@admin")] {
            if self.flags.contains(&flag) {
                categories.push(category);
            }
        }
        categories.push(match self.group {
            "string" => "@string",
            "generic" => "@keyspace",
            "connection" => "@connection",
            _ => "@dangerous",
        });
        categories.push(if self.flags.contains(&"fast") { "@fast" } else { "@slow" });
        categories
    }
}

const READ: &[&str] = &["readonly", "fast"];
const WRITE: &[&str] = &["write", "denyoom"];
const WRITE_FAST: &[&str] = &["write", "denyoom", "fast"];
const REMOVE: &[&str] = &["write"];
const CHANGE_FAST: &[&str] = &["write", "fast"];
const SESSION: &[&str] = &["noscript", "loading", "stale", "fast"];
const SERVER: &[&str] = &["loading", "stale"];

const ONE_KEY: (i8, i8, i8) = (1, 1, 1);
const ALL_KEYS: (i8, i8, i8) = (1, -1, 1);
const PAIRS: (i8, i8, i8) = (1, -1, 2);
const NO_KEY: (i8, i8, i8) = (0, 0, 0);

macro_rules! commands {
    ($($name:literal $arity:literal $keys:ident $flags:ident $group:literal $since:literal
       $run:path, $summary:literal;)*) => {
        /// All commands, in alphabetical order.
        pub const COMMANDS: &[Spec] = &[$(Spec {
            name: $name,
            arity: $arity,
            keys: $keys,
            flags: $flags,
            group: $group,
            since: $since,
            summary: $summary,
            run: $run,
        }),*];
    };
}

commands! {
    "client" -2 NO_KEY SESSION "connection" "2.4.0" connection::client,
        "A container for client connection commands.";
    "command" -1 NO_KEY SERVER "server" "2.8.13" server::command,
        "Returns detailed information about all commands.";
    "config" -2 NO_KEY SERVER "server" "2.0.0" server::config,
        "A container for server configuration commands.";
    "dbsize" 1 NO_KEY READ "server" "1.0.0" server::dbsize,
        "Returns the number of keys in the database.";
    "decr" 2 ONE_KEY WRITE_FAST "string" "1.0.0" counter::decr,
        "Decrements the integer value of a key by one.";
    "decrby" 3 ONE_KEY WRITE_FAST "string" "1.0.0" counter::decrby,
        "Decrements a number from the integer value of a key.";
    "del" -2 ALL_KEYS REMOVE "generic" "1.0.0" key::del,
        "Deletes one or more keys.";
    "echo" 2 NO_KEY SESSION "connection" "1.0.0" connection::echo,
        "Returns the given string.";
    "exists" -2 ALL_KEYS READ "generic" "1.0.0" key::exists,
        "Determines whether one or more keys exist.";
    "expire" -3 ONE_KEY CHANGE_FAST "generic" "1.0.0" key::expire,
        "Sets the expiration time of a key in seconds.";
    "expireat" -3 ONE_KEY CHANGE_FAST "generic" "1.2.0" key::expireat,
        "Sets the expiration time of a key to a Unix timestamp.";
    "flushall" -1 NO_KEY REMOVE "server" "1.0.0" server::flushall,
        "Removes all keys from all databases.";
    "flushdb" -1 NO_KEY REMOVE "server" "1.0.0" server::flushall,
        "Removes all keys from the current database.";
    "get" 2 ONE_KEY READ "string" "1.0.0" string::get,
        "Returns the string value of a key.";
    "hello" -1 NO_KEY SESSION "connection" "6.0.0" connection::hello,
        "Handshakes with the server.";
    "incr" 2 ONE_KEY WRITE_FAST "string" "1.0.0" counter::incr,
        "Increments the integer value of a key by one.";
    "incrby" 3 ONE_KEY WRITE_FAST "string" "1.0.0" counter::incrby,
        "Increments the integer value of a key by a number.";
    "info" -1 NO_KEY SERVER "server" "1.0.0" server::info,
        "Returns information and statistics about the server.";
    "mget" -2 ALL_KEYS READ "string" "1.0.0" string::mget,
        "Returns the string values of one or more keys.";
    "mset" -3 PAIRS WRITE "string" "1.0.1" string::mset,
        "Sets the string values of one or more keys.";
    "persist" 2 ONE_KEY CHANGE_FAST "generic" "2.2.0" key::persist,
        "Removes the expiration time of a key.";
    "pexpire" -3 ONE_KEY CHANGE_FAST "generic" "2.6.0" key::pexpire,
        "Sets the expiration time of a key in milliseconds.";
    "pexpireat" -3 ONE_KEY CHANGE_FAST "generic" "2.6.0" key::pexpireat,
        "Sets the expiration time of a key to a Unix milliseconds timestamp.";
    "ping" -1 NO_KEY SESSION "connection" "1.0.0" connection::ping,
        "Returns the server's liveliness response.";
    "psetex" 4 ONE_KEY WRITE "string" "2.6.0" string::psetex,
        "Sets both string value and expiration time in milliseconds of a key.";
    "pttl" 2 ONE_KEY READ "generic" "2.6.0" key::pttl,
        "Returns the expiration time in milliseconds of a key.";
    "quit" -1 NO_KEY SESSION "connection" "1.0.0" connection::quit,
        "Closes the connection.";
    "reset" 1 NO_KEY SESSION "connection" "6.2.0" connection::reset,
        "Resets the connection.";
    "select" 2 NO_KEY SESSION "connection" "1.0.0" connection::select,
        "Changes the selected database.";
    "set" -3 ONE_KEY WRITE "string" "1.0.0" string::set,
        "Sets the string value of a key, ignoring its type.";
    "setex" 4 ONE_KEY WRITE "string" "2.0.0" string::setex,
        "Sets the string value and expiration time of a key.";
    "setnx" 3 ONE_KEY WRITE_FAST "string" "1.0.0" string::setnx,
        "Sets the string value of a key only when the key doesn't exist.";
    "ttl" 2 ONE_KEY READ "generic" "1.0.0" key::ttl,
        "Returns the expiration time in seconds of a key.";
    "unlink" -2 ALL_KEYS CHANGE_FAST "generic" "4.0.0" key::del,
        "Deletes one or more keys.";
}

/// Slots of the look-up table; a power of two, several times the number of commands.
const SLOTS: usize = 256;
const _: () = assert!(COMMANDS.len() * 4 <= SLOTS);

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
    while index < COMMANDS.len() {
        let bytes = COMMANDS[index].name.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            assert!(bytes[at].is_ascii_lowercase(), "see `find`");
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
            // Names are letters alone, which folding maps nothing else to; but it makes the
            // padding look like spaces.
            return (spec.name.len() == name.len()).then_some(spec);
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

    #[test]
    fn every_command_is_found_in_any_case_and_nothing_else_is() {
        for spec in COMMANDS {
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
    fn the_list_is_sorted_and_consistent() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
        for spec in COMMANDS {
            assert_eq!(spec.keys.0 == 0, spec.keys.2 == 0, "{}", spec.name);
            assert!(spec.accepts(usize::from(spec.arity.unsigned_abs())));
        }
        let get = find(b"GET").expect("GET exists");
        assert!(!get.accepts(1) && get.accepts(2) && !get.accepts(3));
        let del = find(b"del").expect("DEL exists");
        assert!(!del.accepts(1) && del.accepts(2) && del.accepts(9));
    }
}
