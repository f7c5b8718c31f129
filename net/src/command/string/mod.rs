//! Commands on strings: GET, SET and their relatives.
//!
//! - `get`, `set`, `many`: whole values of one key, and of several
//! - `counter`, `float`: values as numbers; `extended` has the arithmetic of fractions
//! - `range`: parts of values; `edit` changes parts, also those of the bit commands
//! - `lcs`: the longest common subsequence

mod counter;
mod edit;
mod extended;
mod float;
mod get;
mod lcs;
mod many;
mod range;
mod set;

pub(super) use counter::{memcached_number, store_keeping};
pub(super) use edit::{Edit, Target, change};
pub(super) use set::PLAIN;

use super::context::Context;
use super::spec::{KeySpec, Reach, Spec, Spread};

/// The family.
pub(super) const COMMANDS: &[Spec] = &[
    Spec::new("append", 3, range::append)
        .flags("write denyoom fast")
        .categories("@write @string @fast")
        .keys(&[KeySpec::new("RW insert", 1, 0, 1)])
        .since("2.0.0")
        .cost("O(N) in the bytes appended; the whole value is copied when it outgrows its place")
        .summary("Adds bytes at the end of a value, or creates it."),
    Spec::new("decr", 2, counter::decr)
        .flags("write denyoom fast")
        .categories("@write @string @fast")
        .keys(&[KeySpec::new("RW access update", 1, 0, 1)])
        .summary("Takes 1 from a number."),
    Spec::new("decrby", 3, counter::decrby)
        .flags("write denyoom fast")
        .categories("@write @string @fast")
        .keys(&[KeySpec::new("RW access update", 1, 0, 1)])
        .summary("Takes an integer from a number."),
    Spec::new("get", 2, get::get)
        .flags("readonly fast")
        .categories("@read @string @fast")
        .keys(&[KeySpec::new("RO access", 1, 0, 1)])
        .summary("Tells the value of a key."),
    Spec::new("getdel", 2, get::getdel)
        .flags("write fast")
        .categories("@write @string @fast")
        .keys(&[KeySpec::new("RW access delete", 1, 0, 1)])
        .since("6.2.0")
        .summary("Tells the value of a key and deletes the key."),
    Spec::new("getex", -2, get::getex)
        .flags("write fast")
        .categories("@write @string @fast")
        .keys(&[KeySpec::new("RW access update", 1, 0, 1)])
        .since("6.2.0")
        .summary("Tells the value of a key and sets or removes its deadline."),
    Spec::new("getrange", 4, range::getrange)
        .flags("readonly")
        .categories("@read @string @slow")
        .keys(&[KeySpec::new("RO access", 1, 0, 1)])
        .since("2.4.0")
        .cost("O(N) in the bytes of the part")
        .summary("Tells a part of a value."),
    Spec::new("getset", 3, set::getset)
        .flags("write denyoom fast")
        .categories("@write @string @fast")
        .keys(&[KeySpec::new("RW access update", 1, 0, 1)])
        .summary("Replaces the value of a key and tells the old one."),
    Spec::new("incr", 2, counter::incr)
        .flags("write denyoom fast")
        .categories("@write @string @fast")
        .keys(&[KeySpec::new("RW access update", 1, 0, 1)])
        .summary("Adds 1 to a number."),
    Spec::new("incrby", 3, counter::incrby)
        .flags("write denyoom fast")
        .categories("@write @string @fast")
        .keys(&[KeySpec::new("RW access update", 1, 0, 1)])
        .summary("Adds an integer to a number."),
    Spec::new("incrbyfloat", 3, float::incrbyfloat)
        .flags("write denyoom fast")
        .categories("@write @string @fast")
        .keys(&[KeySpec::new("RW access update", 1, 0, 1)])
        .since("2.6.0")
        .summary("Adds a fraction to a number."),
    Spec::new("lcs", -3, lcs::lcs)
        .flags("readonly")
        .categories("@read @string @slow")
        .keys(&[KeySpec::new("RO access", 1, 1, 1)])
        .since("7.0.0")
        .cost("O(N*M/64) in the lengths of the values, in slices")
        .summary("Finds the longest common subsequence of two values."),
    Spec::new("mget", -2, many::mget)
        .flags("readonly fast")
        .categories("@read @string @fast")
        .tips("request_policy:multi_shard")
        .keys(&[KeySpec::new("RO access", 1, -1, 1)])
        .cost("O(N) in the number of keys")
        .summary("Tells the values of several keys."),
    Spec::new("mset", -3, many::mset)
        .flags("write denyoom")
        .categories("@write @string @slow")
        .tips("request_policy:multi_shard response_policy:all_succeeded")
        .keys(&[KeySpec::new("OW update", 1, -1, 2)])
        .since("1.0.1")
        .cost("O(N) in the number of keys")
        .summary("Stores several values."),
    Spec::new("msetnx", -3, many::msetnx)
        .flags("write denyoom")
        .categories("@write @string @slow")
        .tips("request_policy:multi_shard response_policy:agg_min")
        .keys(&[KeySpec::new("OW insert", 1, -1, 2)])
        .since("1.0.1")
        .cost("O(N) in the number of keys")
        .reach(Reach::Keys(Spread::Jointly))
        .summary("Stores several values if none of the keys exists."),
    Spec::new("psetex", 4, set::psetex)
        .flags("write denyoom")
        .categories("@write @string @slow")
        .keys(&[KeySpec::new("OW update", 1, 0, 1)])
        .since("2.6.0")
        .summary("Stores a value that lives for some milliseconds."),
    Spec::new("set", -3, set::set)
        .flags("write denyoom")
        .categories("@write @string @slow")
        .keys(&[KeySpec::new("RW access update variable_flags", 1, 0, 1)])
        .summary("Stores a value, on conditions and with a deadline if wanted."),
    Spec::new("setex", 4, set::setex)
        .flags("write denyoom")
        .categories("@write @string @slow")
        .keys(&[KeySpec::new("OW update", 1, 0, 1)])
        .since("2.0.0")
        .summary("Stores a value that lives for some seconds."),
    Spec::new("setnx", 3, set::setnx)
        .flags("write denyoom fast")
        .categories("@write @string @fast")
        .keys(&[KeySpec::new("OW insert", 1, 0, 1)])
        .summary("Stores a value if the key does not exist."),
    Spec::new("setrange", 4, range::setrange)
        .flags("write denyoom")
        .categories("@write @string @slow")
        .keys(&[KeySpec::new("RW update", 1, 0, 1)])
        .since("2.2.0")
        .cost("O(N) in the bytes written; the whole value is copied when it outgrows its place")
        .summary("Overwrites a part of a value, from an offset on."),
    Spec::new("strlen", 2, range::strlen)
        .flags("readonly fast")
        .categories("@read @string @fast")
        .keys(&[KeySpec::new("RO", 1, 0, 1)])
        .since("2.2.0")
        .summary("Tells the length of a value."),
    Spec::new("substr", 4, range::getrange)
        .flags("readonly")
        .categories("@read @string @slow")
        .keys(&[KeySpec::new("RO access", 1, 0, 1)])
        .cost("O(N) in the bytes of the part")
        .summary("Tells a part of a value; GETRANGE under its old name."),
];

/// Refuses a reply for which there is no memory.
fn refuse_reply(context: &mut Context<'_>) {
    context.error("OOM reply does not fit into the memory left for buffers");
}
