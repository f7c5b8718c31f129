//! The commands that are compared, with the shapes of their arguments.
//!
//! A word in angle brackets stands for an argument or several of a kind, see [`crate::words`];
//! words with a bar between them are alternatives; all else is said as it stands, in either case.

/// A command and what may follow it.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) words: &'static str,
    /// Words that may follow, in any order and number, right or wrong together.
    pub(crate) options: &'static [&'static str],
}

/// Commands that contain others.
const CONTAINERS: [&str; 5] = ["client", "command", "config", "memory", "object"];

impl Template {
    /// The name of the command as COMMAND INFO takes it.
    pub(crate) fn name(&self) -> String {
        let words = self.words.to_ascii_lowercase();
        let mut words = words.split(' ');
        let name = words.next().unwrap_or_default().to_owned();
        match words.next() {
            Some(second) if CONTAINERS.contains(&name.as_str()) => format!("{name}|{second}"),
            _ => name,
        }
    }
}

const fn plain(words: &'static str) -> Template {
    Template { words, options: &[] }
}

const fn with(words: &'static str, options: &'static [&'static str]) -> Template {
    Template { words, options }
}

/// All families; a round of the test leans on some of them.
pub(crate) const FAMILIES: [&[Template]; 6] = [STRINGS, COUNTERS, BITS, KEYS, TIMES, SESSION];

const STRINGS: &[Template] = &[
    plain("GET <key>"),
    plain("GET <key>"),
    plain("SET <key> <value>"),
    plain("SET <key> <value>"),
    with(
        "SET <key> <value>",
        &["NX", "XX", "GET", "KEEPTTL", "EX <seconds>", "PX <millis>", "EXAT <at>", "PXAT <at-ms>"],
    ),
    with("GETEX <key>", &["PERSIST", "EX <seconds>", "PX <millis>", "EXAT <at>", "PXAT <at-ms>"]),
    plain("GETDEL <key>"),
    plain("GETSET <key> <value>"),
    plain("SETNX <key> <value>"),
    plain("SETEX <key> <seconds> <value>"),
    plain("PSETEX <key> <millis> <value>"),
    plain("MGET <keys>"),
    plain("MSET <pairs>"),
    plain("MSETNX <pairs>"),
    plain("STRLEN <key>"),
    plain("APPEND <key> <value>"),
    plain("GETRANGE <key> <index> <index>"),
    plain("SUBSTR <key> <index> <index>"),
    plain("SETRANGE <key> <offset> <value>"),
    with(
        "LCS <key> <key>",
        &["LEN", "IDX", "MINMATCHLEN <index>", "WITHMATCHLEN", "IDX WITHMATCHLEN"],
    ),
];

const COUNTERS: &[Template] = &[
    plain("SET <key> <int>"),
    plain("SET <key> <float>"),
    plain("GET <key>"),
    plain("INCR <key>"),
    plain("DECR <key>"),
    plain("INCRBY <key> <int>"),
    plain("DECRBY <key> <int>"),
    plain("INCRBYFLOAT <key> <float>"),
    plain("INCRBYFLOAT <key> <float>"),
    plain("APPEND <key> <int>"),
];

const BITS: &[Template] = &[
    plain("SET <key> <value>"),
    plain("GET <key>"),
    plain("SETBIT <key> <bit> 0|1"),
    plain("GETBIT <key> <bit>"),
    with("BITCOUNT <key>", &["<index> <index>", "<index> <index> BYTE|BIT"]),
    with("BITPOS <key> 0|1", &["<index>", "<index> <index>", "<index> <index> BYTE|BIT"]),
    plain("BITOP AND|OR|XOR|NOT <key> <keys>"),
    plain("BITOP NOT <key> <key>"),
    with("BITFIELD <key>", FIELDS),
    with("BITFIELD <key> OVERFLOW WRAP|SAT|FAIL", FIELDS),
    with("BITFIELD_RO <key>", &["GET <type> <bits>", "GET <type> <bits>", "SET u8 0 1"]),
];

const FIELDS: &[&str] = &[
    "GET <type> <bits>",
    "SET <type> <bits> <int>",
    "INCRBY <type> <bits> <int>",
    "OVERFLOW WRAP|SAT|FAIL",
];

const KEYS: &[Template] = &[
    plain("SET <key> <value>"),
    plain("DEL <keys>"),
    plain("UNLINK <keys>"),
    plain("EXISTS <keys>"),
    plain("TOUCH <keys>"),
    plain("TYPE <key>"),
    plain("KEYS <pattern>"),
    with("SCAN <cursor>", &["MATCH <pattern>", "COUNT <count>", "TYPE string|list|x"]),
    plain("RENAME <key> <key>"),
    plain("RENAMENX <key> <key>"),
    with("COPY <key> <key>", &["DB <db>", "REPLACE"]),
    plain("MOVE <key> <db>"),
    plain("DBSIZE"),
    plain("SELECT <db>"),
    plain("SELECT 0|1"),
    plain("SWAPDB <db> <db>"),
    plain("OBJECT ENCODING <key>"),
    plain("OBJECT REFCOUNT <key>"),
    plain("OBJECT IDLETIME <key>"),
    plain("OBJECT FREQ <key>"),
    with("RESTORE <key> <millis> <payload>", &["REPLACE", "IDLETIME <count>", "FREQ <count>"]),
    with("RESTORE <key> <at-ms> <payload> ABSTTL", &["REPLACE", "IDLETIME 5", "FREQ 5"]),
    with("RESTORE <key> 0 <payload>", &["REPLACE", "ABSTTL", "IDLETIME 5", "FREQ 5"]),
];

const TIMES: &[Template] = &[
    plain("SET <key> <value>"),
    plain("GET <key>"),
    with("EXPIRE <key> <seconds>", CONDITIONS),
    with("PEXPIRE <key> <millis>", CONDITIONS),
    with("EXPIREAT <key> <at>", CONDITIONS),
    with("PEXPIREAT <key> <at-ms>", CONDITIONS),
    plain("TTL <key>"),
    plain("PTTL <key>"),
    plain("EXPIRETIME <key>"),
    plain("PEXPIRETIME <key>"),
    plain("PERSIST <key>"),
];

const CONDITIONS: &[&str] = &["NX", "XX", "GT", "LT"];

const SESSION: &[Template] = &[
    with("HELLO", &["2", "3"]),
    with("HELLO 2|3", &["SETNAME <name>", "AUTH default <value>", "AUTH <name> <name>"]),
    plain("AUTH <value>"),
    plain("AUTH default|x <name>"),
    plain("PING"),
    plain("PING <value>"),
    plain("ECHO <value>"),
    plain("RESET"),
    plain("SELECT <db>"),
    plain("CLIENT GETNAME"),
    plain("CLIENT SETNAME <name>"),
    plain("CLIENT ID"),
    plain("CLIENT SETINFO LIB-NAME|LIB-VER|x <name>"),
    plain("CLIENT NO-EVICT ON|OFF|x"),
    plain("CLIENT NO-TOUCH ON|OFF|x"),
    plain("CLIENT UNPAUSE"),
    plain("COMMAND COUNT"),
    plain("COMMAND GETKEYS <command>"),
    plain("COMMAND GETKEYSANDFLAGS <command>"),
    plain("CONFIG GET databases"),
    with("CONFIG GET save", &["appendonly", "databases", "nothing", "proto-max-bulk-len"]),
    with("FLUSHALL", &["ASYNC", "SYNC"]),
    with("FLUSHDB", &["ASYNC", "SYNC"]),
    plain("DBSIZE"),
    plain("SWAPDB <db> <db>"),
    plain("MEMORY USAGE nothing"),
    plain("WATCH <keys>"),
    plain("UNWATCH"),
    plain("MULTI"),
    plain("EXEC"),
    plain("DISCARD"),
    plain("SET <key> <value>"),
    plain("GET <key>"),
    plain("OBJECT ENCODING nothing"),
];

/// Commands that the test uses in ways of its own.
pub(crate) const BY_HAND: [&str; 7] =
    ["dump", "randomkey", "command|info", "command|list", "multi", "exec", "watch"];
