//! The benchmarks of layers run, small, and what they measure is right.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use clap::Parser;
use pinion_benches::client::Protocol;
use pinion_benches::layers::{
    CommandsOptions, Frames, LayerError, MemoryTransport, ParserOptions, Rig, RigOptions,
    TurnOptions, Wrong,
};
use pinion_engine::{Limits, ShardConfig};
use pinion_net::core::Transport;
use pinion_ring::{Event, Key, Wait};

fn rig(connections: usize) -> Rig {
    Rig::new(&RigOptions { connections, ..RigOptions::roomy(1_000, 64) }).unwrap()
}

/// Sends one message and returns the reply.
fn talk(rig: &mut Rig, protocol: Protocol, request: &str, reply: &str) -> String {
    let peer = rig.peers(protocol)[0];
    rig.core().transport().keep_replies(peer);
    let before = rig.core().transport().replies(peer).len();
    rig.push(peer, reply.len(), |out| out.extend_from_slice(request.as_bytes()));
    rig.run().unwrap();
    String::from_utf8(rig.core().transport().replies(peer)[before..].to_vec()).unwrap()
}

#[test]
fn a_core_in_memory_answers_as_a_server_does() {
    let mut rig = rig(2);
    for (protocol, request, reply) in [
        (Protocol::Resp, "SET key value\r\nGET key\r\n", "+OK\r\n$5\r\nvalue\r\n"),
        (Protocol::Memcached, "get key\r\n", "VALUE key 0 5\r\nvalue\r\nEND\r\n"),
        (Protocol::Memcached, "set other 7 0 2\r\nab\r\nget none\r\n", "STORED\r\nEND\r\n"),
        (Protocol::Resp, "*2\r\n$3\r\nGET\r\n$5\r\nother\r\n", "$2\r\nab\r\n"),
        (Protocol::Resp, "GET none\r\nPING\r\n", "$-1\r\n+PONG\r\n"),
    ] {
        assert_eq!(talk(&mut rig, protocol, request, reply), reply);
    }
    let counters = *rig.core().counters();
    assert_eq!((counters.commands, counters.hits, counters.misses), (8, 3, 2));
}

#[test]
fn frames_hit_store_and_miss_by_their_lengths_at_any_cut() {
    let mut rig = rig(1);
    for protocol in [Protocol::Resp, Protocol::Memcached] {
        for value_bytes in [1, 64, 40_000] {
            let frames = Frames::new(protocol, value_bytes);
            let peer = rig.peers(protocol)[0];
            let mut request = Vec::new();
            frames.append_set(1, &mut request);
            frames.append_get(1, &mut request);
            frames.append_get(2, &mut request);
            let first_bytes = {
                let mut first = Vec::new();
                frames.append_set(1, &mut first);
                first.len()
            };
            // The first piece is at most the SET less its last byte, so that nothing answers it.
            for cut in [1, 7, first_bytes / 2, first_bytes - 1] {
                let reply = frames.stored_bytes() + frames.hit_bytes() + frames.miss_bytes();
                rig.push(peer, 0, |out| out.extend_from_slice(&request[..cut]));
                rig.push(peer, reply, |out| out.extend_from_slice(&request[cut..]));
                rig.run().unwrap();
            }
        }
    }
    rig.core().shard().validate().unwrap();
}

#[test]
fn replies_of_another_length_are_noticed() {
    let frames = Frames::new(Protocol::Resp, 64);
    let outcome = |reply_bytes: usize| {
        let mut rig = rig(1);
        let peer = rig.peers(Protocol::Resp)[0];
        rig.push(peer, reply_bytes, |out| frames.append_get(1, out));
        rig.run().unwrap_err()
    };
    let error = outcome(frames.hit_bytes());
    assert!(matches!(error, LayerError::Wrong(Wrong::Missing { bytes: 66, .. })), "{error}");
    let error = outcome(frames.miss_bytes() - 1);
    assert!(matches!(error, LayerError::Wrong(Wrong::Surplus { bytes: 1, .. })), "{error}");
    let mut rig = rig(1);
    let peer = rig.peers(Protocol::Resp)[0];
    rig.push(peer, 6, |out| out.extend_from_slice(b"QUIT\r\n"));
    let error = rig.run().unwrap_err();
    assert!(error.to_string().contains("closed connection"), "{error}");
}

#[test]
fn a_shard_that_is_too_small_evicts_and_that_is_noticed() {
    let shard = ShardConfig {
        limits: Limits { total_bytes: 128 << 10, data: None },
        ..ShardConfig::default()
    };
    let mut rig = Rig::new(&RigOptions { shard, ..RigOptions::roomy(1, 1) }).unwrap();
    let error = rig.fill(&Frames::new(Protocol::Resp, 64), 10_000).unwrap_err();
    assert!(error.to_string().contains("evicted"), "{error}");
}

#[test]
fn sends_end_at_the_next_enter_and_long_messages_come_in_pieces() {
    let mut transport = MemoryTransport::new(10);
    let peer = transport.connect(3);
    let Some(Event::Accepted { listener: 3, socket }) = transport.next_event() else {
        panic!("no connection");
    };
    let key = Key::new(5, 0);
    transport.receive(&socket, key);
    transport.push(peer, 4, |out| out.extend_from_slice(&[b'a'; 25]));
    transport.push(peer, 1, |out| out.push(b'b'));
    assert!(transport.ready() && !transport.is_done());
    transport.enter(Wait::No).unwrap();
    for bytes in [10, 10, 5] {
        let Some(Event::Received { key: whose, data, armed: true }) = transport.next_event() else {
            panic!("nothing received");
        };
        assert_eq!((whose, transport.bytes(&data)), (key, &[b'a'; 25][..bytes]));
        transport.give_back(data);
    }
    assert!(transport.next_event().is_none() && transport.loans_out() == 0);
    // Half of the reply: the send ends, and the next message waits for the other half.
    transport.send(&socket, key, b"xxyy".to_vec(), 0, 2);
    assert!(transport.next_event().is_none());
    transport.enter(Wait::No).unwrap();
    assert!(matches!(transport.next_event(), Some(Event::Sent { result: Ok(2), .. })));
    assert!(transport.next_event().is_none());
    transport.send(&socket, key, b"xxyy".to_vec(), 2, 4);
    transport.enter(Wait::No).unwrap();
    assert!(matches!(transport.next_event(), Some(Event::Sent { .. })));
    let Some(Event::Received { data, .. }) = transport.next_event() else { panic!("no message") };
    assert_eq!(transport.bytes(&data), b"b");
    transport.give_back(data);
    transport.cancel_receive(key);
    transport.enter(Wait::No).unwrap();
    assert!(matches!(transport.next_event(), Some(Event::ReceiveEnded { .. })));
    assert_eq!((transport.enters(), transport.wrong()), (4, None));
}

#[test]
fn the_turn_is_measured_in_both_protocols() {
    let path = std::env::temp_dir().join(format!("pinion-turn-{}.json", std::process::id()));
    let options = TurnOptions {
        keys: vec![500, 1_000],
        pipeline: vec![1, 16],
        connections: 10,
        protocol: vec![Protocol::Resp, Protocol::Memcached],
        mix: "get=9,set=1".parse().unwrap(),
        value_size: 64,
        requests: 2_000,
        rounds: 3,
        flush_after: 64,
        seed: 1,
        cpu: None,
        phases: true,
        callgrind: false,
        json: Some(path.clone()),
    };
    let mut table = Vec::new();
    options.run(&mut table).unwrap();
    // A line of options, two of heads; for each number of keys four loads, and four phases in
    // both protocols.
    assert_eq!(String::from_utf8(table).unwrap().lines().count(), 3 + 2 * (4 + 8));
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    std::fs::remove_file(path).unwrap();
    let first = &json["turn"][0];
    assert_eq!(first["rounds"].as_array().unwrap().len(), 3);
    assert!(first["ns_per_command"]["min"].as_f64().unwrap() > 0.0);
    assert!(first["commands_per_send"].as_f64().unwrap() >= 1.0);
    let pipelined = &json["turn"][1];
    assert_eq!(pipelined["commands_per_send"].as_f64().unwrap(), 16.0);
    let options = TurnOptions { json: None, pipeline: vec![0], ..options };
    assert!(matches!(options.run(&mut Vec::new()), Err(LayerError::Usage(_))));
}

#[test]
fn parsers_are_measured_and_understand_the_same_each_time() {
    let options = ParserOptions { requests: 500, rounds: 2, seed: 3, cpu: None, json: None };
    let hashes = || -> Vec<(&'static str, u64)> {
        let results = options.run(&mut Vec::new()).unwrap();
        assert!(results.iter().all(|case| case.ns.min > 0.0 && case.bytes > 0));
        results.iter().map(|case| (case.name, case.hash)).collect()
    };
    let first = hashes();
    assert_eq!(first, hashes());
    assert_eq!(first.len(), 15);
}

/// Options of a small run.
fn commands(arguments: &str) -> CommandsOptions {
    let small = "commands --keys 200 --connections 4 --requests 320 --rounds 3";
    let arguments = small.split_whitespace().chain(arguments.split_whitespace());
    CommandsOptions::try_parse_from(arguments).unwrap()
}

fn table(options: &CommandsOptions) -> Result<String, LayerError> {
    let mut table = Vec::new();
    options.run(Path::new("valgrind-is-not-asked-for"), &mut table)?;
    Ok(String::from_utf8(table).unwrap())
}

#[test]
fn every_command_of_the_list_answers_as_the_list_says() {
    let path = std::env::temp_dir().join(format!("pinion-commands-{}.json", std::process::id()));
    let text = table(&CommandsOptions { json: Some(path.clone()), ..commands("") }).unwrap();
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    std::fs::remove_file(path).unwrap();
    let rows = json["commands"].as_array().unwrap();
    assert_eq!(text.lines().count(), 2 + rows.len());
    for row in rows {
        let rounds = row["rounds"].as_array().unwrap();
        assert_eq!(rounds.len(), 3, "{row}");
        assert!(rounds.iter().all(|round| round["misses"] == 0 && round["commands"] == 320));
        assert!(row["ns_per_command"]["min"].as_f64().unwrap() > 0.0);
    }
    let families: BTreeSet<&str> = rows.iter().map(|row| row["family"].as_str().unwrap()).collect();
    assert_eq!(families.len(), 8);
    assert!(rows.len() >= 50);
}

#[test]
fn commands_of_ones_own_are_measured_and_their_mistakes_are_told() {
    let own = |command: &str| {
        let options = CommandsOptions { command: vec![command.to_owned()], ..commands("") };
        table(&options)
    };
    let text = own("GET key:<key> ; PING").unwrap();
    assert!(text.contains("| own | `GET key:<key> ; PING` | - |"), "{text}");
    assert!(own("GET none:<key>").unwrap().contains("(100.0 % misses)"));
    for (command, reason) in [
        ("INCR key:<key>", "errors"),
        ("QUIT", "closed connection"),
        ("GET <nothing>", "unknown place"),
        ("RESTORE key:<key> 0 <dump> REPLACE ; NONSENSE", "errors"),
    ] {
        let error = own(command).unwrap_err().to_string();
        assert!(error.contains(reason), "{command}: {error}");
    }
    for arguments in ["--only nonsense", "--connections 201", "--pipeline 0", "--rounds 0"] {
        let options = CommandsOptions::try_parse_from(
            "commands --keys 200".split(' ').chain(arguments.split(' ')),
        );
        assert!(matches!(table(&options.unwrap()), Err(LayerError::Usage(_))), "{arguments}");
    }
}

#[test]
fn replies_of_any_length_are_taken_and_their_end_is_the_cores_rest() {
    let mut rig = rig(2);
    let (first, second) = (rig.peers(Protocol::Resp)[0], rig.peers(Protocol::Resp)[1]);
    rig.push_open(second, |out| out.extend_from_slice(b"SET key value\r\n"));
    let reply = rig.talk(first, |out| out.extend_from_slice(b"ECHO a\r\nKEYS *\r\n")).unwrap();
    assert!(reply.starts_with(b"$1\r\na\r\n*"));
    let reply = rig.talk(first, |out| out.extend_from_slice(b"GET key\r\n")).unwrap();
    assert_eq!(reply, b"$5\r\nvalue\r\n");
    // The next message counts its reply again.
    rig.push(first, 6, |out| out.extend_from_slice(b"PING\r\n"));
    let error = rig.run_until_idle().unwrap_err();
    assert!(matches!(error, LayerError::Wrong(Wrong::Surplus { bytes: 1, .. })), "{error}");
}

#[test]
fn instructions_are_counted_by_valgrind_or_it_is_said_to_be_missing() {
    let arguments = "--keys 100 --requests 100 --rounds 1 --only PING --callgrind";
    let output = run(env!("CARGO_BIN_EXE_commands"), arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    if !output.status.success() {
        let is_there = Command::new("valgrind").arg("--version").output().is_ok();
        assert!(!is_there && error.contains("cannot start valgrind"), "{error}");
        return;
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let row = text.lines().find(|line| line.contains("`PING`")).unwrap();
    let instructions: u64 = row.split('|').nth(3).unwrap().trim().parse().unwrap();
    assert!(instructions > 50, "{row}");
}

fn run(program: &str, arguments: &str) -> Output {
    Command::new(program).args(arguments.split_whitespace()).output().unwrap()
}

#[test]
fn the_programs_start_and_refuse_nonsense() {
    let turn = env!("CARGO_BIN_EXE_turn");
    let small = "--keys 100 --callgrind --pipeline";
    let output = run(turn, &format!("{small} 16"));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("64000 commands in"), "{text}");
    let output = run(turn, &format!("{small} 1,16"));
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("wants one"));
    let output = run(env!("CARGO_BIN_EXE_parsers"), "--requests 100 --rounds 1");
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains("memcached get 10 keys"));
    assert!(!run(env!("CARGO_BIN_EXE_parsers"), "--rounds 0").status.success());
}
