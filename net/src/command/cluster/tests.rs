//! The family on core ports and on shared ones, against a shard: replies compared with those of
//! Redis 7.2.6.

use std::collections::BTreeMap;

use pinion_engine::{Limits, Shard, ShardConfig};
use pinion_router::{CoreCount, CoreIndex};

use super::super::context::{Arguments, Context, Flow};
use super::super::server::ServerState;
use super::super::settings::Settings;
use super::super::task::Step;
use super::super::{find, run};
use super::*;
use crate::connection::Session;
use crate::core::Counters;
use crate::memory::{Division, Memory, Wanted};
use crate::protocol::resp;

/// A core and a client of its, without sockets.
struct Bench {
    shard: Shard,
    session: Session,
    counters: Counters,
    settings: Settings,
    server: ServerState,
    memory: Memory,
    /// Slices of the last command after the first.
    slices: usize,
}

const DISABLED: &str = "-ERR This instance has cluster support disabled\r\n";
const CROSSED: &str = "-CROSSSLOT Keys in request don't hash to the same slot\r\n";

impl Bench {
    /// A client of a port that all cores share.
    fn shared() -> Bench {
        let division = Division::of(64 << 20, Wanted::connections(10)).expect("it is enough");
        let limits = Limits { total_bytes: division.items_bytes as usize, data: None };
        let config = ShardConfig { limits, ..ShardConfig::default() };
        let mut session = Session::new(1);
        session.authenticated = true;
        let parameters = vec![("cluster-enabled", "no".to_owned())];
        Bench {
            shard: Shard::new(&config).expect("a shard"),
            session,
            counters: Counters::default(),
            settings: Settings { parameters, ..Settings::default() },
            server: ServerState::default(),
            memory: Memory::new(division, Wanted::connections(10), 64 << 20),
            slices: 0,
        }
    }

    /// A client of the port of a core among so many.
    fn core(cores: usize, core: u16) -> Bench {
        let mut bench = Bench::shared();
        let cores = CoreCount::new(cores).expect("a count");
        let view = ClusterView::new(cores, 17_301, None, "here").expect("ports");
        bench.settings.cluster = Some(Arc::new(view.of(CoreIndex::new(core))));
        bench.session.enter_core_port("127.0.0.1");
        bench
    }

    fn view(&self) -> &ClusterView {
        self.settings.cluster.as_ref().expect("it is a core port")
    }

    /// The reply to a command in words. What it leaves to the core is done or, for EXEC, told.
    fn call(&mut self, text: &str) -> String {
        let frame = format!("{text}\r\n").into_bytes();
        let mut args = resp::Args::new();
        let limits = resp::Limits::default();
        let parsed = resp::parse(&frame, &mut resp::Progress::default(), &mut args, &limits);
        assert!(matches!(parsed, resp::Parse::Complete { .. }), "{text}");
        let args = Arguments::new(&frame, &args);
        let (mut out, mut pins) = (Vec::new(), Vec::new());
        let spec = find(args.at(0));
        let key = spec.map_or(0, Spec::first_key);
        let key = if (1..args.len()).contains(&key) { args.at(key) } else { &[] };
        let mut context = Context {
            first_hash: self.shard.hash_in(self.session.db, key),
            shard: &mut self.shard,
            now_ms: 1,
            session: &mut self.session,
            out: &mut out,
            counters: &mut self.counters,
            settings: &mut self.settings,
            server: &mut self.server,
            memory: &mut self.memory,
            room_bytes: 1 << 20,
            room_now_bytes: 1 << 20,
            reply_may_wait: false,
            large: None,
            pins: &mut pins,
        };
        let mut flow = run(&mut context, spec, &args);
        self.slices = 0;
        while let Flow::Later(mut task) = flow {
            flow = loop {
                self.slices += 1;
                if let Step::Done(flow) = task.step(&mut context) {
                    break flow;
                }
            };
        }
        if let Flow::Exec(transaction) = flow {
            return format!("EXEC of {}", transaction.len());
        }
        assert!(matches!(flow, Flow::Continue | Flow::Close), "{text}: {flow:?}");
        String::from_utf8(out).expect("ASCII")
    }

    fn expect(&mut self, pairs: &[(&str, &str)]) {
        for (command, reply) in pairs {
            assert_eq!(self.call(command), format!("{reply}\r\n"), "{command}");
        }
    }
}

#[test]
fn a_shared_port_is_no_cluster_and_says_so_as_redis_does() {
    let mut client = Bench::shared();
    // Core ports elsewhere make no difference to it.
    client.settings.cluster = Bench::core(2, 0).settings.cluster;
    for command in [
        "CLUSTER SLOTS",
        "CLUSTER SHARDS",
        "CLUSTER NODES",
        "CLUSTER INFO",
        "CLUSTER MYID",
        "CLUSTER MYSHARDID",
        "CLUSTER LINKS",
        "CLUSTER KEYSLOT foo",
        "CLUSTER COUNTKEYSINSLOT x",
        "CLUSTER GETKEYSINSLOT 1 x",
        "CLUSTER REPLICAS x",
        "CLUSTER HELP",
        "READONLY",
        "READWRITE",
        "ASKING",
    ] {
        assert_eq!(client.call(command), DISABLED, "{command}");
    }
    client.expect(&[
        ("CLUSTER", "-ERR wrong number of arguments for 'cluster' command"),
        ("CLUSTER NOPE", "-ERR unknown subcommand 'NOPE'. Try CLUSTER HELP."),
        ("CLUSTER SLOTS x", "-ERR wrong number of arguments for 'cluster|slots' command"),
        ("SELECT 5", "+OK"),
        ("SELECT 0", "+OK"),
        ("MSET foo 1 bar 2", "+OK"),
        ("GET foo", "$1\r\n1"),
        ("MOVE foo 1", ":1"),
        ("SWAPDB 0 1", "+OK"),
    ]);
    assert!(client.call("HELLO").contains("mode\r\n$10\r\nstandalone\r\n"));
    assert!(client.call("CONFIG GET cluster-enabled").contains("$2\r\nno\r\n"));
}

#[test]
fn a_core_port_tells_of_the_cluster() {
    let mut client = Bench::core(2, 0);
    let (mine, other) = (client.view().my_id(), client.view().node_id(CoreIndex::new(1)));
    let text = client.call("CLUSTER NODES");
    assert!(text.contains(&format!("{mine} 127.0.0.1:17301@17301 myself,master - 0 0 1 ")));
    assert!(text.contains(&format!("{other} 127.0.0.1:17302@17302 master - 0 0 2 ")));
    assert!(client.call("CLUSTER INFO").starts_with("$"));
    assert!(client.call("CLUSTER SLOTS").starts_with("*2\r\n*3\r\n:0\r\n:8191\r\n*4\r\n$9\r\n127"));
    assert!(client.call("CLUSTER SHARDS").starts_with("*2\r\n*4\r\n$5\r\nslots\r\n"));
    assert_eq!(client.call("CLUSTER MYID"), format!("$40\r\n{mine}\r\n"));
    let shard = client.call("CLUSTER MYSHARDID");
    assert!(shard.starts_with("$40\r\n") && !shard.contains(&mine.to_string()));
    assert_eq!(client.call(&format!("CLUSTER REPLICAS {other}")), "*0\r\n");
    client.expect(&[
        ("CLUSTER REPLICAS x", "-ERR Unknown node x"),
        ("CLUSTER SLAVES x", "-ERR Unknown node x"),
        ("CLUSTER LINKS", "*0"),
        ("CLUSTER KEYSLOT foo", ":12182"),
        ("CLUSTER COUNTKEYSINSLOT x", "-ERR value is not an integer or out of range"),
        ("CLUSTER COUNTKEYSINSLOT 16384", "-ERR Invalid slot"),
        ("CLUSTER COUNTKEYSINSLOT -1", "-ERR Invalid slot"),
        ("CLUSTER GETKEYSINSLOT 0 -1", "-ERR Invalid slot or number of keys"),
        ("CLUSTER GETKEYSINSLOT 16384 1", "-ERR Invalid slot or number of keys"),
        ("CLUSTER GETKEYSINSLOT x 5", "-ERR value is not an integer or out of range"),
        ("CLUSTER GETKEYSINSLOT 0 x", "-ERR value is not an integer or out of range"),
        ("CLUSTER GETKEYSINSLOT 0 5", "*0"),
        ("CLUSTER NOPE", "-ERR unknown subcommand 'NOPE'. Try CLUSTER HELP."),
        ("READONLY", "+OK"),
        ("READWRITE", "+OK"),
        ("ASKING", "+OK"),
        ("READONLY x", "-ERR wrong number of arguments for 'readonly' command"),
    ]);
    assert!(client.call("HELLO 3").contains("mode\r\n$7\r\ncluster\r\n"));
    assert!(client.call("CLUSTER NODES").contains("\r\ntxt:"), "verbatim in RESP3");
    assert!(client.call("CLUSTER SHARDS").starts_with("*2\r\n%2\r\n"));
    assert!(client.call("CLUSTER HELP").contains("+CLUSTER <subcommand>"));
    assert!(client.call("CONFIG GET cluster-enabled").contains("$3\r\nyes\r\n"));
    assert!(client.call("RESET").contains("RESET"));
    assert!(client.session.core_port, "it is the same port after RESET");
}

/// The second session of real Redis, with two nodes of which the first was asked.
#[test]
fn a_core_port_serves_its_slots_alone() {
    Bench::core(2, 0).expect(&[
        ("SELECT 0", "+OK"),
        ("SELECT 1", "-ERR SELECT is not allowed in cluster mode"),
        ("SELECT 99", "-ERR SELECT is not allowed in cluster mode"),
        ("SELECT x", "-ERR value is not an integer or out of range"),
        ("MOVE a 1", "-MOVED 15495 127.0.0.1:17302"),
        ("MOVE bar 1", "-ERR MOVE is not allowed in cluster mode"),
        ("MOVE bar x", "-ERR MOVE is not allowed in cluster mode"),
        ("SWAPDB x y", "-ERR SWAPDB is not allowed in cluster mode"),
        ("COPY {bar}1 {bar}2 DB 1", "-ERR DB index is out of range"),
        ("COPY {bar}1 {bar}2 DB 99", "-ERR DB index is out of range"),
        ("COPY {bar}1 {bar}2 DB 0", ":0"),
        ("GET foo", "-MOVED 12182 127.0.0.1:17302"),
        ("SET foo 1", "-MOVED 12182 127.0.0.1:17302"),
        ("GET bar", "$-1"),
        ("MGET foo bar", CROSSED.trim_end()),
        ("MGET bar foo", CROSSED.trim_end()),
        ("DEL foo {foo}1", "-MOVED 12182 127.0.0.1:17302"),
        ("EVAL return 1 foo", "-MOVED 12182 127.0.0.1:17302"),
        ("EVAL return x foo", "-ERR value is not an integer or out of range"),
        ("EVAL return -1 foo", "-ERR Number of keys can't be negative"),
        ("EVAL return 2 foo", "-ERR Number of keys can't be greater than number of args"),
        ("OBJECT ENCODING foo", "-MOVED 12182 127.0.0.1:17302"),
        ("MEMORY USAGE foo", "-MOVED 12182 127.0.0.1:17302"),
        ("WATCH foo", "-MOVED 12182 127.0.0.1:17302"),
        ("GET", "-ERR wrong number of arguments for 'get' command"),
        ("LCS bar foo", CROSSED.trim_end()),
        ("BITOP NOT bar foo", CROSSED.trim_end()),
        ("PING", "+PONG"),
        ("DBSIZE", ":0"),
    ]);
    let mut second = Bench::core(2, 1);
    second.expect(&[("SET foo 1", "+OK"), ("SET bar 1", "-MOVED 5061 127.0.0.1:17301")]);
    assert_eq!(second.counters.errors, 1);
}

#[test]
fn transactions_are_refused_as_by_redis() {
    let mut client = Bench::core(2, 0);
    client.expect(&[
        ("MULTI", "+OK"),
        ("SET foo 1", "-MOVED 12182 127.0.0.1:17302"),
        ("EXEC", "-EXECABORT Transaction discarded because of previous errors."),
        ("MULTI", "+OK"),
        ("SET bar 1", "+QUEUED"),
        ("SET {baz} 1", "+QUEUED"),
        ("EXEC", CROSSED.trim_end()),
        ("EXEC", "-ERR EXEC without MULTI"),
        ("MULTI", "+OK"),
        ("SET bar 1", "+QUEUED"),
        ("SET {a}1 1", "-MOVED 15495 127.0.0.1:17302"),
        ("SET hello 1", "+QUEUED"),
        ("PING", "+QUEUED"),
        ("EXEC", "-EXECABORT Transaction discarded because of previous errors."),
        ("MULTI", "+OK"),
        ("SET bar 1", "+QUEUED"),
        ("PING", "+QUEUED"),
        ("SET {bar}2 1", "+QUEUED"),
    ]);
    assert_eq!(client.call("EXEC"), "EXEC of 3");
    // Elsewhere keys may be anywhere.
    let mut client = Bench::shared();
    client.expect(&[("MULTI", "+OK"), ("SET foo 1", "+QUEUED"), ("SET bar 1", "+QUEUED")]);
    assert_eq!(client.call("EXEC"), "EXEC of 2");
}

#[test]
fn a_password_comes_before_the_slot() {
    let mut client = Bench::core(2, 0);
    client.settings.password = b"secret".to_vec();
    client.session.authenticated = false;
    client.expect(&[
        ("GET foo", "-NOAUTH Authentication required."),
        ("CLUSTER SLOTS", "-NOAUTH Authentication required."),
        ("AUTH secret", "+OK"),
        ("GET foo", "-MOVED 12182 127.0.0.1:17302"),
    ]);
}

#[test]
fn keys_of_a_slot_are_counted_and_listed_in_bounded_slices() {
    let mut client = Bench::core(1, 0);
    let mut by_slot: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for number in 0..6_000 {
        // Two slots in a hundred get most keys.
        let tag = if number % 3 == 0 { number } else { number % 2 };
        let key = format!("key:{{{tag}}}:{number}");
        assert_eq!(client.call(&format!("SET {key} v")), "+OK\r\n");
        by_slot.entry(slot(key.as_bytes()).number()).or_default().push(key);
    }
    let busiest = *by_slot.iter().max_by_key(|(_, keys)| keys.len()).expect("keys").0;
    let empty = (0..16_384).find(|slot| !by_slot.contains_key(slot)).expect("an empty slot");
    for number in by_slot.keys().copied().step_by(101).chain([busiest, empty]) {
        let mut keys = by_slot.get(&number).cloned().unwrap_or_default();
        let count = client.call(&format!("CLUSTER COUNTKEYSINSLOT {number}"));
        assert_eq!(count, format!(":{}\r\n", keys.len()), "slot {number}");
        assert!(client.slices >= 5, "{} slices for 6,000 keys", client.slices);
        let listed = client.call(&format!("CLUSTER GETKEYSINSLOT {number} 100000"));
        let mut listed: Vec<&str> = listed.lines().skip(2).step_by(2).collect();
        keys.sort();
        listed.sort_unstable();
        assert_eq!(listed, keys, "slot {number}");
    }
    let some = client.call(&format!("CLUSTER GETKEYSINSLOT {busiest} 3"));
    assert!(some.starts_with("*3\r\n") && some.lines().count() == 7, "{some}");
    assert_eq!(client.call(&format!("CLUSTER GETKEYSINSLOT {busiest} 0")), "*0\r\n");
}
