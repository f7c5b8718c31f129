//! The same commands to a real Redis and to this server, reply by reply, byte by byte.
//!
//! Commands of all families, right and wrong, on few keys in several databases, in both versions
//! of the protocol, in pipelines and in transactions, over two connections. What may differ is
//! listed in [`rules`], with reasons; whatever else differs fails the test, which prints as few
//! commands as show it. Not compared here: commands that end or hold up connections (QUIT,
//! CLIENT KILL, REPLY, PAUSE, SHUTDOWN), that tell of the server itself (INFO, LATENCY, SLOWLOG,
//! MEMORY STATS, DEBUG), and help texts; times that pass while the test runs.
//!
//! `PINION_SEED` chooses other commands, `PINION_REDIS_SERVER` another Redis than that in PATH;
//! `PINION_TESTED_SERVER` a Redis that takes the place of this server, to test the test.
//! The long run: `cargo test --test redis_differential -- --ignored`, of `PINION_COMMANDS`
//! commands or a million.

mod facts;
mod real;
mod rules;
mod shrink;
mod steps;
#[path = "../support/mod.rs"]
mod support;
mod templates;
mod wire;
mod words;

use std::collections::BTreeMap;

use real::Pair;
use rules::Rules;
use shrink::Outcome;
use steps::{LINKS, Step};
use support::random;
use templates::{BY_HAND, FAMILIES};
use words::Maker;

/// A command's name and its arguments.
type Args = Vec<Vec<u8>>;

/// The words of a line as a command.
fn args(line: &str) -> Args {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

/// Commands that the test knows and this server may lack: none, once all families are there.
const MISSING: &[&str] = &[];

/// Commands that an older Redis lacks.
const SINCE_7_2: [&str; 2] = ["client|setinfo", "client|no-touch"];

/// The names of all commands that the test uses.
fn names() -> Vec<String> {
    let templates = FAMILIES.iter().flat_map(|family| family.iter());
    let mut names: Vec<String> = templates.map(templates::Template::name).collect();
    names.extend(BY_HAND.map(str::to_owned));
    names.sort();
    names.dedup();
    names
}

/// What the server under test can do.
struct Abilities {
    missing: Vec<String>,
    databases: usize,
    payloads: Vec<Vec<u8>>,
}

impl Abilities {
    fn of(pair: &Pair) -> Abilities {
        let [mut ours, mut theirs] = pair.links().expect("both listen");
        let known = facts::known(&mut ours, &names());
        let missing = names().into_iter().filter(|name| !known.contains(name)).collect();
        let has_many = ours.say("SELECT 15").expect("a reply").is_simple("OK");
        let databases = if has_many { 16 } else { 1 };
        let mut payloads = Vec::new();
        let text = "a text that is long enough to be worth compressing compressing compressing";
        for value in ["", "0", "-7", "300", "70000", "5000000000", "short", text] {
            let set = vec![b"SET".to_vec(), b"payload".to_vec(), value.into()];
            theirs.call(&set).expect("a reply");
            let dump = theirs.say("DUMP payload").expect("a reply");
            payloads.push(dump.bulk().expect("a payload").to_vec());
        }
        Abilities { missing, databases, payloads }
    }

    fn has(&self, name: &str) -> bool {
        !self.missing.iter().any(|missing| missing == name)
    }
}

/// The steps of a round, and how many commands they are.
fn round(maker: &mut Maker, abilities: &Abilities) -> (Vec<Step>, usize) {
    maker.turn();
    let mut steps = Vec::new();
    let mut count = 0;
    if maker.random.one_in(2) {
        let link = maker.random.below(LINKS);
        steps.push(Step::Pipeline { link, commands: vec![args("HELLO 3")], cut: 0 });
    }
    for _ in 0..10 + maker.random.below(30) {
        let database = maker.random.below(abilities.databases.min(3));
        match maker.random.below(40) {
            0 => {
                let mut options = Args::new();
                for (name, values) in
                    [("MATCH", &["*", "a*", "[ab]", "?"][..]), ("COUNT", &["1", "3", "100"])]
                {
                    if maker.random.one_in(2) {
                        options.push(name.into());
                        options.push(maker.random.pick(values).into());
                    }
                }
                if abilities.has("scan") {
                    steps.push(Step::Scan { database, options });
                }
            }
            1 if abilities.has("randomkey") => steps.push(Step::RandomKey { database }),
            2 | 3 if abilities.has("dump") && abilities.has("restore") => {
                let [from, to] = [0, 1].map(|_| maker.random.pick(&["a", "b", "c"]).into());
                steps.push(Step::Exchange { database, from, to });
            }
            4..8 if abilities.has("multi") && abilities.has("exec") => {
                count += transaction(maker, abilities, &mut steps);
            }
            _ => count += pipeline(maker, &mut steps),
        }
    }
    steps.push(Step::Everything);
    (steps, count)
}

fn pipeline(maker: &mut Maker, steps: &mut Vec<Step>) -> usize {
    let length = maker.random.pick(&[1, 1, 1, 2, 3, 5, 10, 30]);
    let commands: Vec<Args> = (0..length).map(|_| maker.command()).collect();
    let cut = maker.random.below(500);
    steps.push(Step::Pipeline { link: maker.random.below(LINKS), commands, cut });
    length
}

/// A transaction, often with watched keys, between whose parts the other connection has a say.
fn transaction(maker: &mut Maker, abilities: &Abilities, steps: &mut Vec<Step>) -> usize {
    let link = maker.random.below(LINKS);
    let one = |link, commands| Step::Pipeline { link, commands, cut: 0 };
    let key = |maker: &mut Maker| maker.random.pick(&["a", "b", "c", "d"]);
    if abilities.has("watch") && maker.random.one_in(2) {
        let watch = format!("WATCH {} {}", key(maker), key(maker));
        steps.push(one(link, vec![args(&watch)]));
    }
    let other = maker.random.one_in(3).then(|| maker.command());
    let other = other.map(|command| one((link + 1) % LINKS, vec![command]));
    let is_early = maker.random.one_in(2);
    if is_early {
        steps.extend(other.clone());
    }
    let length = maker.random.below(8);
    let mut commands = vec![args("MULTI")];
    commands.extend((0..length).map(|_| maker.command()));
    if !is_early && other.is_some() {
        steps.push(one(link, std::mem::take(&mut commands)));
        steps.extend(other);
    }
    commands.push(args(maker.random.pick(&["EXEC", "EXEC", "EXEC", "EXEC", "DISCARD"])));
    steps.push(one(link, commands));
    length + 2
}

/// Differences of so many kinds are looked for before the test fails.
const DIFFERENCES_MAX: usize = 8;

/// Compares so many commands, and panics if there are differences.
fn run(test: &str, commands: usize) {
    let seed = random::seed(test);
    let Some(mut pair) = Pair::start(&[]) else { return };
    let abilities = Abilities::of(&pair);
    if !abilities.missing.is_empty() {
        println!("left out, since they are missing: {}", abilities.missing.join(" "));
    }
    let mut rules = Rules::of(&pair);
    let (mut missing, payloads) = (abilities.missing.clone(), abilities.payloads.clone());
    if pair.version() < (7, 2) {
        // A command that one of them does not know spoils a transaction.
        missing.extend(SINCE_7_2.map(str::to_owned));
    }
    let with_auth = pair.answers_auth();
    let mut maker = Maker::new(seed, &missing, payloads, abilities.databases, with_auth);
    let (mut done, mut apart, mut rounds) = (0, 0, 0);
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    while done < commands && found.len() < DIFFERENCES_MAX {
        let (steps, count) = round(&mut maker, &abilities);
        done += count;
        rounds += 1;
        match shrink::replay(&mut pair, &mut rules, abilities.databases, &steps) {
            Outcome::Same => {}
            Outcome::Apart => apart += 1,
            Outcome::Different(index, difference) => {
                // The same again is not worth the time.
                let kind = difference.kind();
                if found.contains_key(&kind) {
                    continue;
                }
                let steps = &steps[..=index];
                let databases = abilities.databases;
                let (steps, difference) =
                    shrink::shrink(&mut pair, &rules, databases, steps, difference);
                let listing = shrink::listing(&steps);
                found.insert(kind, format!("{listing}{difference}\n"));
            }
        }
    }
    println!("{done} commands in {rounds} rounds; {apart} rounds ended by an accepted difference");
    rules.report();
    let found: Vec<String> = found.into_values().collect();
    assert!(found.is_empty(), "PINION_SEED={seed}, {} kinds:\n{}", found.len(), found.join("\n"));
}

#[test]
fn random_commands_get_the_same_replies() {
    run("random_commands_get_the_same_replies", 30_000);
}

#[test]
#[ignore = "takes minutes"]
fn a_million_random_commands_get_the_same_replies() {
    let commands = std::env::var("PINION_COMMANDS");
    let commands = commands.map(|text| text.parse().expect("PINION_COMMANDS is a number"));
    run("a_million_random_commands_get_the_same_replies", commands.unwrap_or(1_000_000));
}

/// Everything that the test would compare is there.
#[test]
fn no_command_is_missing() {
    let Some(pair) = Pair::start(&[]) else { return };
    let missing = Abilities::of(&pair).missing;
    let unknown: Vec<&String> =
        missing.iter().filter(|name| !MISSING.contains(&name.as_str())).collect();
    assert!(unknown.is_empty(), "these commands are missing: {unknown:?}");
}
