//! Commands on keys whatever their values.
//!
//! - here: the list of the family, and commands on several keys at once
//! - `expiry`: EXPIRE, TTL and their relatives
//! - `scan`, `random`: walks over the keys of a database
//! - `rename`, `copy`: another name, or another database
//! - `dump`, `restore`: values in Redis's own serialization, with `rdb`, `lzf` and `crc64`
//! - `object`: what Redis would tell of how it keeps a value

mod copy;
mod crc64;
mod dump;
mod expiry;
mod lzf;
mod object;
mod random;
mod rdb;
mod rename;
mod restore;
mod scan;

use pinion_engine::{DATABASES, Deleted};

use super::container;
use super::context::{Arguments, Context, Flow};
use super::spec::{KeySpec, Reach, Spec, Spread};
use crate::core::Join;
use crate::protocol::number;

/// The family.
pub(super) const COMMANDS: &[Spec] = &[
    Spec::new("copy", -3, copy::copy)
        .flags("write denyoom")
        .categories("@keyspace @write @slow")
        .keys(&[KeySpec::new("RO access", 1, 0, 1), KeySpec::new("OW update", 2, 0, 1)])
        .since("6.2.0")
        .cost("O(N) in the bytes of the value; in slices from 32 KiB on")
        .reach(Reach::Keys(Spread::Jointly))
        .summary("Copies the value of a key to another key, in this database or another."),
    Spec::new("del", -2, del)
        .flags("write")
        .categories("@keyspace @write @slow")
        .tips("request_policy:multi_shard response_policy:agg_sum")
        .keys(&[KeySpec::new("RM delete", 1, -1, 1)])
        .cost("O(N) in the number of keys")
        .summary("Deletes keys."),
    Spec::new("dump", 2, dump::dump)
        .flags("readonly")
        .categories("@keyspace @read @slow")
        .tips("nondeterministic_output")
        .keys(&[KeySpec::new("RO access", 1, 0, 1)])
        .since("2.6.0")
        .cost("O(N) in the bytes of the value; in slices from 32 KiB on")
        .summary("Returns the value of a key in a form that RESTORE takes."),
    Spec::new("exists", -2, exists)
        .flags("readonly fast")
        .categories("@keyspace @read @fast")
        .tips("request_policy:multi_shard response_policy:agg_sum")
        .keys(&[KeySpec::new("RO", 1, -1, 1)])
        .cost("O(N) in the number of keys")
        .summary("Counts those of the given keys that exist."),
    Spec::new("expire", -3, expiry::expire)
        .flags("write fast")
        .categories("@keyspace @write @fast")
        .keys(&[KeySpec::new("RW update", 1, 0, 1)])
        .summary("Sets in how many seconds a key expires."),
    Spec::new("expireat", -3, expiry::expireat)
        .flags("write fast")
        .categories("@keyspace @write @fast")
        .keys(&[KeySpec::new("RW update", 1, 0, 1)])
        .since("1.2.0")
        .summary("Sets at which Unix time in seconds a key expires."),
    Spec::new("expiretime", 2, expiry::expiretime)
        .flags("readonly fast")
        .categories("@keyspace @read @fast")
        .keys(&[KeySpec::new("RO access", 1, 0, 1)])
        .since("7.0.0")
        .summary("Returns the Unix time in seconds at which a key expires."),
    Spec::new("keys", 2, scan::keys)
        .flags("readonly")
        .categories("@keyspace @read @slow @dangerous")
        .tips("request_policy:all_shards nondeterministic_output_order")
        .cost("O(N) in the number of keys of all databases; in slices")
        .summary("Lists the keys that match a pattern."),
    Spec::new("move", 3, rename::move_to)
        .flags("write fast")
        .categories("@keyspace @write @fast")
        .keys(&[KeySpec::new("RW access update", 1, 0, 1)])
        .cost("O(N) in the bytes of the value up to 32 KiB; beyond, in the number of its pages")
        .summary("Moves a key to another database."),
    Spec::new("object", -2, container)
        .categories("@slow")
        .since("2.2.3")
        .summary("A container for commands that look into how a value is kept.")
        .subcommands(&[
            Spec::new("idletime", 3, object::idletime)
                .flags("readonly")
                .categories("@keyspace @read @slow")
                .tips("nondeterministic_output")
                .keys(&[KeySpec::new("RO", 2, 0, 1)])
                .since("2.2.3")
                .summary("Returns for about how many seconds a key has not been used."),
            Spec::new("freq", 3, object::freq)
                .flags("readonly")
                .categories("@keyspace @read @slow")
                .tips("nondeterministic_output")
                .keys(&[KeySpec::new("RO", 2, 0, 1)])
                .since("4.0.0")
                .summary("Returns how often a key was used of late, counted up to 15."),
            Spec::new("help", 2, object::help)
                .flags("loading stale")
                .categories("@keyspace @slow")
                .since("6.2.0")
                .summary("Tells what the subcommands do."),
            Spec::new("refcount", 3, object::refcount)
                .flags("readonly")
                .categories("@keyspace @read @slow")
                .tips("nondeterministic_output")
                .keys(&[KeySpec::new("RO", 2, 0, 1)])
                .since("2.2.3")
                .summary("Returns the number of references to the value of a key: always 1."),
            Spec::new("encoding", 3, object::encoding)
                .flags("readonly")
                .categories("@keyspace @read @slow")
                .tips("nondeterministic_output")
                .keys(&[KeySpec::new("RO", 2, 0, 1)])
                .since("2.2.3")
                .summary("Returns the name of the form in which Redis would keep a key's value."),
        ]),
    Spec::new("persist", 2, expiry::persist)
        .flags("write fast")
        .categories("@keyspace @write @fast")
        .keys(&[KeySpec::new("RW update", 1, 0, 1)])
        .since("2.2.0")
        .summary("Lets a key live until it is deleted or evicted."),
    Spec::new("pexpire", -3, expiry::pexpire)
        .flags("write fast")
        .categories("@keyspace @write @fast")
        .keys(&[KeySpec::new("RW update", 1, 0, 1)])
        .since("2.6.0")
        .summary("Sets in how many milliseconds a key expires."),
    Spec::new("pexpireat", -3, expiry::pexpireat)
        .flags("write fast")
        .categories("@keyspace @write @fast")
        .keys(&[KeySpec::new("RW update", 1, 0, 1)])
        .since("2.6.0")
        .summary("Sets at which Unix time in milliseconds a key expires."),
    Spec::new("pexpiretime", 2, expiry::pexpiretime)
        .flags("readonly fast")
        .categories("@keyspace @read @fast")
        .keys(&[KeySpec::new("RO access", 1, 0, 1)])
        .since("7.0.0")
        .summary("Returns the Unix time in milliseconds at which a key expires."),
    Spec::new("pttl", 2, expiry::pttl)
        .flags("readonly fast")
        .categories("@keyspace @read @fast")
        .tips("nondeterministic_output")
        .keys(&[KeySpec::new("RO access", 1, 0, 1)])
        .since("2.6.0")
        .summary("Returns for how many milliseconds a key still lives."),
    Spec::new("randomkey", 1, random::randomkey)
        .flags("readonly")
        .categories("@keyspace @read @slow")
        .tips("request_policy:all_shards nondeterministic_output")
        .cost("O(1) while the database holds a good part of all keys; in slices")
        .reach(Reach::All(Join::Any))
        .summary("Returns some key of the database."),
    Spec::new("rename", 3, rename::rename)
        .flags("write")
        .categories("@keyspace @write @slow")
        .keys(&[KeySpec::new("RW access delete", 1, 0, 1), KeySpec::new("OW update", 2, 0, 1)])
        .cost("O(N) in the bytes of the value up to 32 KiB; beyond, in the number of its pages")
        .reach(Reach::Keys(Spread::Jointly))
        .summary("Gives a key another name, in place of whatever had that name."),
    Spec::new("renamenx", 3, rename::renamenx)
        .flags("write fast")
        .categories("@keyspace @write @fast")
        .keys(&[KeySpec::new("RW access delete", 1, 0, 1), KeySpec::new("OW insert", 2, 0, 1)])
        .cost("O(N) in the bytes of the value up to 32 KiB; beyond, in the number of its pages")
        .reach(Reach::Keys(Spread::Jointly))
        .summary("Gives a key another name unless that is taken."),
    Spec::new("restore", -4, restore::restore)
        .flags("write denyoom")
        .categories("@keyspace @write @slow @dangerous")
        .keys(&[KeySpec::new("OW update", 1, 0, 1)])
        .since("2.6.0")
        .cost("O(N) in the bytes of the value; in slices beyond 64 KiB")
        .summary("Creates a key from what DUMP has returned."),
    Spec::new("scan", -2, scan::scan)
        .flags("readonly")
        .categories("@keyspace @read @slow")
        .tips("nondeterministic_output request_policy:special")
        .since("2.8.0")
        .cost("O(N) in COUNT, in slices; an iteration: in the number of keys of all databases")
        .reach(Reach::Cursor)
        .summary("Lists keys bit by bit, from a cursor on."),
    Spec::new("touch", -2, touch)
        .flags("readonly fast")
        .categories("@keyspace @read @fast")
        .tips("request_policy:multi_shard response_policy:agg_sum")
        .keys(&[KeySpec::new("RO", 1, -1, 1)])
        .since("3.2.1")
        .cost("O(N) in the number of keys")
        .summary("Counts those of the given keys that exist, and marks them as used."),
    Spec::new("ttl", 2, expiry::ttl)
        .flags("readonly fast")
        .categories("@keyspace @read @fast")
        .tips("nondeterministic_output")
        .keys(&[KeySpec::new("RO access", 1, 0, 1)])
        .summary("Returns for how many seconds a key still lives."),
    Spec::new("type", 2, type_of)
        .flags("readonly fast")
        .categories("@keyspace @read @fast")
        .keys(&[KeySpec::new("RO", 1, 0, 1)])
        .summary("Returns the type of the value of a key: always a string."),
    Spec::new("unlink", -2, del)
        .flags("write fast")
        .categories("@keyspace @write @fast")
        .tips("request_policy:multi_shard response_policy:agg_sum")
        .keys(&[KeySpec::new("RM delete", 1, -1, 1)])
        .since("4.0.0")
        .cost("O(N) in the number of keys")
        .summary("Deletes keys."),
];

fn del(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let mut deleted = 0;
    for key in args.from(1) {
        let hash = context.hash(key);
        let outcome = context.shard.delete(hash, key, None, context.now_ms);
        deleted += i64::from(outcome == Deleted::Deleted);
    }
    context.reply().integer(deleted);
    Flow::Continue
}

fn exists(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let mut found = 0;
    for key in args.from(1) {
        let hash = context.hash(key);
        let hit = context.shard.peek(hash, key, context.now_ms).is_some();
        context.count_read(hit);
        found += i64::from(hit);
    }
    context.reply().integer(found);
    Flow::Continue
}

fn touch(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let mut found = 0;
    for key in args.from(1) {
        let hash = context.hash(key);
        let hit = context.shard.get(hash, key, context.now_ms).is_some();
        context.count_read(hit);
        found += i64::from(hit);
    }
    context.reply().integer(found);
    Flow::Continue
}

fn type_of(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let is_there = context.shard.peek(context.first_hash, args.at(1), context.now_ms).is_some();
    context.reply().simple(if is_there { "string" } else { "none" });
    Flow::Continue
}

/// The number of the database that the client has selected.
fn selected(context: &Context<'_>) -> u8 {
    context.session.db
}

/// Reads an argument that is the number of a database, or answers why it is none.
fn database(context: &mut Context<'_>, text: &[u8]) -> Option<u8> {
    let Some(number) = number::parse_i64_strict(text) else {
        context.not_an_integer();
        return None;
    };
    let Ok(number) = i32::try_from(number) else {
        context.error(&format!(
            "ERR value is out of range, value must between {} and {}",
            i32::MIN,
            i32::MAX
        ));
        return None;
    };
    // A node of a cluster has one.
    let count = if context.session.core_port { 1 } else { DATABASES };
    let found = u8::try_from(number).ok().filter(|&number| usize::from(number) < count);
    if found.is_none() {
        context.error("ERR DB index is out of range");
    }
    found
}

/// Answers that there is no memory for the reply.
fn refuse_reply(context: &mut Context<'_>) {
    context.error("OOM reply does not fit into the memory left for buffers");
}
