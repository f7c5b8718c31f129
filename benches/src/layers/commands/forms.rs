//! The list: one or two typical commands of each family, and what must be there before.
//!
//! Invariant: after [`Row::before`] for every key, a request answers as [`Row::reply`] begins,
//! never with an error, and never misses, however often it is repeated. So commands that remove
//! something are followed by one that brings it back; both count.

use crate::client::Protocol;

/// A line of the list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) family: &'static str,
    pub(super) protocol: Protocol,
    /// RESP commands that make the stock, for every key; may be none.
    pub(super) before: &'static str,
    /// The request, and with it the row's name.
    pub(super) request: &'static str,
    /// How the reply to the first request begins.
    pub(super) reply: &'static str,
}

const NOTHING: &str = "";
const VALUES: &str = "SET key:<key> <value>";
const LETTERS: &str = "SET key:<key> <letters:64>";
const TIMED: &str = "SET key:<key> <value> EX 100000";
const COUNTERS: &str = "SET int:<key> 1000000000";
const KILOBYTES: &str = "SET bits:<key> <bytes:1024>";
// Destinations are there before, so that what is measured overwrites memory in use.
const BITS_AND_RESULTS: &str = "SET bits:<key> <bytes:1024> ; SET and:<key> <bytes:1024>";
const VALUES_AND_COPIES: &str = "SET key:<key> <value> ; SET copy:<key> <value>";

/// Rows of one family, which share a protocol: what must be there, request, reply.
struct Family(&'static str, Protocol, &'static [(&'static str, &'static str, &'static str)]);

/// All rows, in the order of the table.
pub(super) fn rows() -> Vec<Row> {
    let all = [CONNECTION, STRINGS, BITS, KEYS, TRANSACTIONS, SERVER, MEMCACHED, META];
    let rows_of = |Family(family, protocol, rows): Family| {
        rows.iter().map(move |&(before, request, reply)| Row {
            family,
            protocol,
            before,
            request,
            reply,
        })
    };
    all.into_iter().flat_map(rows_of).collect()
}

const CONNECTION: Family = Family(
    "connection",
    Protocol::Resp,
    &[
        (VALUES, "PING", "+PONG\r\n"),
        (VALUES, "ECHO <value>", "$64\r\nvvvv"),
        (VALUES, "SELECT 0", "+OK\r\n"),
        (VALUES, "CLIENT ID", ":"),
    ],
);

const STRINGS: Family = Family(
    "strings",
    Protocol::Resp,
    &[
        (VALUES, "GET key:<key>", "$64\r\nvvvv"),
        (VALUES, "SET key:<key> <value>", "+OK\r\n"),
        (VALUES, "SET key:<key> <value> EX 100000", "+OK\r\n"),
        (VALUES, "GETEX key:<key> EX 100000", "$64\r\nvvvv"),
        (VALUES, "GETDEL key:<key> ; SET key:<key> <value>", "$64\r\nvvvv"),
        (VALUES, "MGET [16 key:<other> ]", "*16\r\n$64\r\nvvvv"),
        (VALUES, "MSET [16 key:<other> <value> ]", "+OK\r\n"),
        (COUNTERS, "INCR int:<key>", ":1000000001\r\n"),
        ("SET float:<key> 1000.25", "INCRBYFLOAT float:<key> 1.5", "$7\r\n1001.75\r\n"),
        (VALUES, "APPEND key:<key> abcd", ":68\r\n"),
        (VALUES, "GETRANGE key:<key> 16 31", "$16\r\nvvvv"),
        (VALUES, "SETRANGE key:<key> 16 abcdefgh", ":64\r\n"),
        (VALUES, "STRLEN key:<key>", ":64\r\n"),
        ("SET text:<key> <letters:100>", "LCS text:<key> text:<other>", "$"),
    ],
);

const BITS: Family = Family(
    "bits",
    Protocol::Resp,
    &[
        (KILOBYTES, "SETBIT bits:<key> 1000 1", ":0\r\n"),
        (KILOBYTES, "GETBIT bits:<key> 1001", ":1\r\n"),
        (KILOBYTES, "BITCOUNT bits:<key>", ":5120\r\n"),
        ("SETBIT bits:<key> 8191 1", "BITPOS bits:<key> 1", ":8191\r\n"),
        (BITS_AND_RESULTS, "BITOP AND and:<key> bits:<key> bits:<other>", ":1024\r\n"),
        (KILOBYTES, "BITFIELD bits:<key> INCRBY u16 0 1 GET u8 64", "*2\r\n:30327\r\n:118\r\n"),
    ],
);

const KEYS: Family = Family(
    "keys",
    Protocol::Resp,
    &[
        (VALUES, "DEL key:<key> ; SET key:<key> <value>", ":1\r\n+OK\r\n"),
        (VALUES, "EXISTS key:<key>", ":1\r\n"),
        (VALUES, "TYPE key:<key>", "+string\r\n"),
        (VALUES, "TOUCH key:<key>", ":1\r\n"),
        (VALUES, "EXPIRE key:<key> 100000", ":1\r\n"),
        (TIMED, "TTL key:<key>", ":"),
        (TIMED, "PERSIST key:<key> ; EXPIRE key:<key> 100000", ":1\r\n:1\r\n"),
        (VALUES, "RENAME key:<key> new:<key> ; RENAME new:<key> key:<key>", "+OK\r\n+OK\r\n"),
        (VALUES_AND_COPIES, "COPY key:<key> copy:<key> REPLACE", ":1\r\n"),
        (LETTERS, "DUMP key:<key>", "$"),
        (LETTERS, "RESTORE key:<key> 0 <dump> REPLACE", "+OK\r\n"),
        (VALUES, "SCAN <number:500> COUNT 10", "*2\r\n$"),
        (VALUES, "RANDOMKEY", "$16\r\nkey:"),
        (VALUES, "OBJECT ENCODING key:<key>", "$3\r\nraw\r\n"),
    ],
);

const TRANSACTIONS: Family = Family(
    "transactions",
    Protocol::Resp,
    &[(
        VALUES,
        "MULTI ; GET key:<key> ; SET key:<key> <value> ; EXEC",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n$64\r\nvvvv",
    )],
);

const SERVER: Family = Family(
    "server",
    Protocol::Resp,
    &[
        (VALUES, "DBSIZE", ":"),
        (NOTHING, "COMMAND INFO get", "*1\r\n*"),
        (NOTHING, "CONFIG GET maxmemory", "*2\r\n$9\r\nmaxmemory\r\n"),
    ],
);

const MEMCACHED: Family = Family(
    "memcached text",
    Protocol::Memcached,
    &[
        (VALUES, "get key:<key>", "VALUE key:"),
        (VALUES, "gets key:<key>", "VALUE key:"),
        (VALUES, "set key:<key> 0 0 64 / <value>", "STORED\r\n"),
        (COUNTERS, "incr int:<key> 1", "1000000001\r\n"),
        (VALUES, "delete key:<key> ; set key:<key> 0 0 64 / <value>", "DELETED\r\nSTORED\r\n"),
        (VALUES, "touch key:<key> 100000", "TOUCHED\r\n"),
    ],
);

const META: Family = Family(
    "memcached meta",
    Protocol::Meta,
    &[
        (VALUES, "mn", "MN\r\n"),
        (VALUES, "mg key:<key> v", "VA 64\r\nvvvv"),
        // A fresh item, so that the flags lead to nothing but a look at its deadline.
        (TIMED, "mg key:<key> v t N30 R30", "VA 64 t"),
        // An item to be fetched anew: the first reader wins that, all later ones read on.
        (TIMED, "mg key:<key> v N30 R200000", "VA 64 W\r\nvvvv"),
        (VALUES, "ms key:<key> 64 / <value>", "HD\r\n"),
        (COUNTERS, "ma int:<key>", "HD\r\n"),
        (VALUES, "md key:<key> ; ms key:<key> 64 / <value>", "HD\r\nHD\r\n"),
    ],
);
