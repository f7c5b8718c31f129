//! What is done to both servers, and how their answers are compared.

use std::{fmt, io};

use crate::Args;
use crate::real::Pair;
use crate::rules::{Case, Rules, Verdict};
use crate::support::encode;
use crate::wire::{Link, Node, quote};

/// One thing that is done to both servers.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Commands that are sent at once over a connection; the bytes are cut in two somewhere.
    Pipeline { link: usize, commands: Vec<Args>, cut: usize },
    /// All of a database by SCAN, as a set.
    Scan { database: usize, options: Args },
    /// RANDOMKEY, whose answer must be a key of both.
    RandomKey { database: usize },
    /// The value of a key of each server as another key of the other, by DUMP and RESTORE.
    Exchange { database: usize, from: Vec<u8>, to: Vec<u8> },
    /// Every key of every database, with value and time.
    Everything,
}

/// Connections that commands are sent over; one more is for the other steps.
pub(crate) const LINKS: usize = 2;

/// Two answers that are not the same.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) command: String,
    pub(crate) ours: String,
    pub(crate) theirs: String,
}

/// What a difference is called that is none of replies.
const LOST: &str = "no reply";

impl Difference {
    /// What it has in common with differences of the same cause: the command, and what kinds of
    /// replies they are.
    pub(crate) fn kind(&self) -> String {
        if self.command.starts_with(LOST) {
            return LOST.to_owned();
        }
        let name = self.command.split(' ').next().unwrap_or_default().to_ascii_lowercase();
        let kind = |reply: &str| match reply.as_bytes().first() {
            // Errors differ by their first words.
            Some(b'-') => reply.chars().take(24).collect(),
            Some(&first) => char::from(first).to_string(),
            None => String::new(),
        };
        format!("{name} {} {}", kind(&self.ours), kind(&self.theirs))
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(to, "{}\n  ours: {}\ntheirs: {}", self.command, self.ours, self.theirs)
    }
}

/// Why a run of steps ended early.
#[derive(Debug)]
pub(crate) enum Stop {
    Difference(Difference),
    /// An accepted difference after which the servers hold different data.
    Apart,
}

/// A connection to each of the servers, and what is known of both.
struct Twin {
    /// Here, there.
    links: [Link; 2],
    /// The commands that wait for EXEC, in a transaction.
    queued: Option<Vec<Args>>,
}

/// A run of steps on new connections and empty servers.
pub(crate) struct Session<'a> {
    twins: Vec<Twin>,
    rules: &'a mut Rules,
    databases: usize,
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        different(LOST, error.to_string(), String::new())
    }
}

fn different(command: impl Into<String>, ours: String, theirs: String) -> Stop {
    Stop::Difference(Difference { command: command.into(), ours, theirs })
}

/// A command as redis-cli takes it.
pub(crate) fn show(args: &Args) -> String {
    let words: Vec<String> = args.iter().map(|word| quote(word)).collect();
    words.join(" ")
}

impl<'a> Session<'a> {
    pub(crate) fn start(
        pair: &Pair,
        rules: &'a mut Rules,
        databases: usize,
    ) -> io::Result<Session<'a>> {
        let mut twins = Vec::new();
        for _ in 0..=LINKS {
            twins.push(Twin { links: pair.links()?, queued: None });
        }
        for link in &mut twins[LINKS].links {
            link.say("FLUSHALL")?;
        }
        Ok(Session { twins, rules, databases })
    }

    /// Takes the step on both servers.
    pub(crate) fn step(&mut self, step: &Step) -> Result<(), Stop> {
        match step {
            Step::Pipeline { link, commands, cut } => self.pipeline(*link, commands, *cut),
            Step::Scan { database, options } => self.scan(*database, options),
            Step::RandomKey { database } => self.random_key(*database),
            Step::Exchange { database, from, to } => self.exchange(*database, from, to),
            Step::Everything => self.everything(),
        }
    }

    fn pipeline(&mut self, link: usize, commands: &[Args], cut: usize) -> Result<(), Stop> {
        let bytes: Vec<u8> = commands.iter().flat_map(request).collect();
        let twin = &mut self.twins[link];
        let [ours, theirs] = &mut twin.links;
        let ours = ours
            .exchange(&bytes, cut, commands.len())
            .map_err(|error| different(LOST, error.to_string(), "replies".into()))?;
        let theirs = theirs.exchange(&bytes, cut, commands.len())?;
        for (command, (ours, theirs)) in commands.iter().zip(ours.iter().zip(&theirs)) {
            compare(self.rules, &mut twin.queued, command, ours, theirs)?;
        }
        Ok(())
    }

    /// Asks both with the connection of the test's own; here, there.
    fn ask(&mut self, args: &Args) -> Result<[Node; 2], Stop> {
        let [ours, theirs] = &mut self.twins[LINKS].links;
        Ok([ours.call(args)?, theirs.call(args)?])
    }

    /// Asks both, and compares what they say.
    fn check(&mut self, args: &Args) -> Result<[Node; 2], Stop> {
        let [ours, theirs] = self.ask(args)?;
        compare(self.rules, &mut None, args, &ours, &theirs)?;
        Ok([ours, theirs])
    }

    fn select(&mut self, database: usize) -> Result<(), Stop> {
        if self.databases > 1 {
            self.check(&crate::args(&format!("SELECT {database}")))?;
        }
        Ok(())
    }

    fn scan(&mut self, database: usize, options: &Args) -> Result<(), Stop> {
        self.select(database)?;
        let shown = format!("SCAN to its end {}", show(options));
        let mut found = [Vec::new(), Vec::new()];
        for (side, keys) in found.iter_mut().enumerate() {
            let mut cursor = b"0".to_vec();
            loop {
                let args = [&[b"SCAN".to_vec(), cursor.clone()][..], options].concat();
                let reply = self.twins[LINKS].links[side].call(&args)?;
                let Some([Node::Bulk(_, next), Node::Many(_, page)]) = reply.many() else {
                    return Err(different(shown, reply.show(), "a page, on one side".into()));
                };
                keys.extend(page.iter().filter_map(|key| Some(key.bulk()?.to_vec())));
                if next == b"0" {
                    break;
                }
                cursor.clone_from(next);
            }
            keys.sort_unstable();
            keys.dedup();
        }
        let show =
            |keys: &[Vec<u8>]| format!("{:?}", keys.iter().map(|k| quote(k)).collect::<Vec<_>>());
        if found[0] != found[1] {
            return Err(different(shown, show(&found[0]), show(&found[1])));
        }
        Ok(())
    }

    fn random_key(&mut self, database: usize) -> Result<(), Stop> {
        self.select(database)?;
        let [ours, theirs] = self.ask(&crate::args("RANDOMKEY"))?;
        let is_there = match (ours.bulk(), theirs.bulk()) {
            (None, None) => ours == theirs,
            (Some(ours), Some(theirs)) => {
                let args = vec![b"EXISTS".to_vec(), ours.to_vec(), theirs.to_vec()];
                self.ask(&args)?.iter().all(|reply| reply.integer() == Some(2))
            }
            _ => false,
        };
        if is_there {
            return Ok(());
        }
        Err(different("RANDOMKEY", ours.show(), theirs.show()))
    }

    fn exchange(&mut self, database: usize, from: &[u8], to: &[u8]) -> Result<(), Stop> {
        self.select(database)?;
        let payloads = self.ask(&vec![b"DUMP".to_vec(), from.to_vec()])?;
        let [ours, theirs] = &payloads;
        let (Some(ours_bytes), Some(theirs_bytes)) = (ours.bulk(), theirs.bulk()) else {
            return match ours == theirs {
                true => Ok(()),
                false => Err(different(
                    show(&vec![b"DUMP".to_vec(), from.to_vec()]),
                    ours.show(),
                    theirs.show(),
                )),
            };
        };
        for (side, payload) in [(0, theirs_bytes), (1, ours_bytes)] {
            let restore = vec![
                b"RESTORE".to_vec(),
                to.to_vec(),
                b"0".to_vec(),
                payload.to_vec(),
                b"REPLACE".to_vec(),
            ];
            let reply = self.twins[LINKS].links[side].call(&restore)?;
            if !reply.is_simple("OK") {
                let [here, there] = if side == 0 {
                    [reply.show(), String::new()]
                } else {
                    [String::new(), reply.show()]
                };
                return Err(different(show(&restore), here, there));
            }
        }
        self.check(&vec![b"GET".to_vec(), to.to_vec()]).map(drop)
    }

    fn everything(&mut self) -> Result<(), Stop> {
        for database in 0..self.databases {
            self.select(database)?;
            let [_, size] = self.check(&crate::args("DBSIZE"))?;
            if size.integer() == Some(0) {
                continue;
            }
            // There are as many keys on both sides, so those of one side are all.
            let keys = self.twins[LINKS].links[1].say("KEYS *")?;
            for key in keys.many().unwrap_or_default().iter().filter_map(Node::bulk) {
                self.check(&vec![b"GET".to_vec(), key.to_vec()])?;
                self.check(&vec![b"PTTL".to_vec(), key.to_vec()])?;
            }
        }
        Ok(())
    }
}

/// Compares the replies to a command, and those to the commands before it when EXEC ran them.
fn compare(
    rules: &mut Rules,
    queued: &mut Option<Vec<Args>>,
    command: &Args,
    ours: &Node,
    theirs: &Node,
) -> Result<(), Stop> {
    let name = command[0].to_ascii_lowercase();
    if let Some(queue) = queued {
        if theirs.is_simple("QUEUED") && ours == theirs {
            queue.push(command.clone());
            return Ok(());
        }
        // Both left the transaction, or one of them did, which shows below.
        let has_ended = matches!(name.as_slice(), b"exec" | b"discard" | b"reset")
            && (theirs.error().is_none()
                || theirs.error().is_some_and(|e| e.starts_with("EXECABORT")));
        if has_ended {
            let queue = queued.take().unwrap_or_default();
            if let (Some(here), Some(there)) = (ours.many(), theirs.many())
                && here.len() == queue.len()
                && there.len() == queue.len()
            {
                for (command, (ours, theirs)) in queue.iter().zip(here.iter().zip(there)) {
                    compare(rules, &mut None, command, ours, theirs)?;
                }
                return Ok(());
            }
        }
    } else if name == b"multi" && theirs.is_simple("OK") {
        *queued = Some(Vec::new());
    }
    if ours == theirs {
        return Ok(());
    }
    match rules.judge(&Case::new(command, ours, theirs)) {
        Verdict::Accepted => Ok(()),
        Verdict::Apart => Err(Stop::Apart),
        Verdict::Different => Err(different(show(command), ours.show(), theirs.show())),
    }
}

/// A command as it is sent: mostly as an array, but as a line if it is short, has no byte that
/// would have to be quoted, and begins with a capital, which is so by chance.
fn request(args: &Args) -> Vec<u8> {
    let is_plain = |word: &Vec<u8>| {
        !word.is_empty() && word.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_line = args.len() == 2 && args[1].len() == 1 && args.iter().all(is_plain);
    if is_line {
        return [&args.join(&b' ')[..], b"\r\n"].concat();
    }
    encode(&args.iter().map(Vec::as_slice).collect::<Vec<_>>())
}
