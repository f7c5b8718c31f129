//! SLOWLOG: commands whose execution took long, the latest first; and SLOWLOG's subcommands.
//!
//! *What is timed.* Reading the clock twice costs as much as a tenth of a GET does. So executions
//! are timed one by one of commands whose cost is not constant (unless Redis calls them fast and
//! they have few arguments), and of all commands while `slowlog-log-slower-than` is below
//! [`TIMES_ALL_BELOW_US`]. A command of constant cost takes longer than the default threshold of
//! ten milliseconds only if the kernel takes the core away, which is not the command's doing. The
//! time of a command that is executed in slices is that of its slices together.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::context::{Arguments, Context, Flow, printable};
use crate::clock;
use crate::core::InfoRequest;
use crate::protocol::number;
use crate::protocol::resp::Writer;

/// Thresholds below this make every command timed.
pub(crate) const TIMES_ALL_BELOW_US: i64 = 1_000;
/// Arguments from which on any command is timed.
pub(crate) const TIMED_ARGS_MIN: usize = 256;
/// Arguments that an entry keeps, and bytes of each, as in Redis.
const ARGS_KEPT: usize = 32;
const ARG_BYTES_KEPT: usize = 128;
/// The most entries that may be kept.
pub(super) const ENTRIES_MAX: usize = 16 * 1024;

/// A command that took long.
#[derive(Clone, Debug)]
pub struct SlowCommand {
    id: u64,
    unix_s: u64,
    taken_us: u64,
    args: Vec<Vec<u8>>,
    address: Option<SocketAddr>,
    name: Vec<u8>,
}

/// The latest such commands.
#[derive(Clone, Debug, Default)]
pub struct Slowlog {
    /// The latest first.
    entries: VecDeque<SlowCommand>,
    /// The number of the next, of all cores: so numbers tell which of two is the later one.
    next_id: Arc<AtomicU64>,
}

impl Slowlog {
    /// Adds a command, and forgets the oldest beyond `entries_max`.
    pub fn push(
        &mut self,
        taken_us: u64,
        args: Vec<Vec<u8>>,
        (address, name): (Option<SocketAddr>, &[u8]),
        entries_max: usize,
    ) {
        let unix_s = clock::unix_ms() / 1_000;
        let (id, name) = (self.next_id.fetch_add(1, Ordering::Relaxed), name.to_vec());
        self.entries.push_front(SlowCommand { id, unix_s, taken_us, args, address, name });
        self.entries.truncate(entries_max.min(ENTRIES_MAX));
    }

    /// Takes numbers from where other cores take theirs.
    pub fn number_by(&mut self, next_id: Arc<AtomicU64>) {
        self.next_id = next_id;
    }

    /// Copies of the latest, that first: O(count).
    pub fn latest(&self, count: usize) -> Vec<SlowCommand> {
        self.entries.iter().take(count).cloned().collect()
    }

    /// Forgets the oldest beyond `entries_max`.
    pub fn shorten(&mut self, entries_max: usize) {
        self.entries.truncate(entries_max);
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// What an entry keeps of a command's arguments. As Redis, it says what it leaves out.
pub fn kept_args(args: &Arguments<'_>) -> Vec<Vec<u8>> {
    let count = args.len();
    let whole = if count > ARGS_KEPT { ARGS_KEPT - 1 } else { count };
    let mut kept: Vec<Vec<u8>> = args.from(0).take(whole).map(kept_arg).collect();
    if is_secret(args) {
        kept.iter_mut().skip(1).for_each(|arg| *arg = b"(redacted)".to_vec());
    }
    if count > whole {
        kept.push(format!("... ({} more arguments)", count - whole).into_bytes());
    }
    kept
}

fn kept_arg(arg: &[u8]) -> Vec<u8> {
    if arg.len() <= ARG_BYTES_KEPT {
        return arg.to_vec();
    }
    let more = format!("... ({} more bytes)", arg.len() - ARG_BYTES_KEPT);
    [&arg[..ARG_BYTES_KEPT], more.as_bytes()].concat()
}

/// Whether a password may be among the arguments.
fn is_secret(args: &Arguments<'_>) -> bool {
    let sets_password = || args.from(2).any(|arg| arg.eq_ignore_ascii_case(b"requirepass"));
    args.is(0, "auth")
        || (args.is(0, "hello") && args.len() > 2)
        || (args.is(0, "config") && args.len() > 3 && sets_password())
}

/// Entries that SLOWLOG GET returns by default.
const GET_DEFAULT: usize = 10;

pub(super) fn get(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if args.len() > 3 {
        let name = printable(args.at(1), 128);
        context.error(&format!(
            "ERR unknown subcommand or wrong number of arguments for '{name}'. Try SLOWLOG HELP."
        ));
        return Flow::Continue;
    }
    let count = match args.len() {
        3 => match number::parse_i64_strict(args.at(2)) {
            Some(-1) => usize::MAX,
            Some(count @ 0..) => count as usize,
            _ => {
                context.error("ERR count should be greater than or equal to -1");
                return Flow::Continue;
            }
        },
        _ => GET_DEFAULT,
    };
    let count = count.min(context.settings.slowlog_entries_max);
    Flow::Ask(Box::new(InfoRequest::Slowlog { count, resp3: context.session.resp3 }))
}

/// Writes the latest of the commands that cores have kept.
pub fn write_latest(mut entries: Vec<SlowCommand>, count: usize, reply: &mut Writer<'_>) {
    entries.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.id));
    entries.truncate(count);
    reply.array(entries.len());
    for entry in &entries {
        reply.array(6);
        reply.integer(entry.id as i64);
        reply.integer(entry.unix_s as i64);
        reply.integer(entry.taken_us as i64);
        reply.array(entry.args.len());
        entry.args.iter().for_each(|arg| reply.bulk(arg));
        let address = entry.address.map_or_else(String::new, |address| address.to_string());
        reply.bulk(address.as_bytes());
        reply.bulk(&entry.name);
    }
}

pub(super) fn len(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    Flow::Ask(Box::new(InfoRequest::SlowlogLength { resp3: context.session.resp3 }))
}

pub(super) fn reset(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    context.server.slowlog.entries = VecDeque::new();
    context.reply().ok();
    Flow::Continue
}

pub(super) fn help(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    context.help(
        "SLOWLOG",
        &[
            "GET [<count>]",
            "    The latest <count> slow commands (10 by default, -1 for all). Of each: number,",
            "    time, microseconds taken, arguments, the client's address and its name.",
            "LEN",
            "    How many slow commands are kept.",
            "RESET",
            "    Forgets them.",
        ],
    );
    Flow::Continue
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::resp::{Args, Limits, Parse, Progress, parse};

    fn kept(words: &[&str]) -> Vec<String> {
        let mut frame = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| frame += &format!("${}\r\n{word}\r\n", word.len()));
        let mut args = Args::new();
        let outcome =
            parse(frame.as_bytes(), &mut Progress::default(), &mut args, &Limits::default());
        assert!(matches!(outcome, Parse::Complete { .. }));
        let kept = kept_args(&Arguments::new(frame.as_bytes(), &args));
        kept.into_iter().map(|arg| String::from_utf8(arg).expect("text")).collect()
    }

    #[test]
    fn long_commands_are_cut_and_passwords_left_out() {
        assert_eq!(kept(&["del", "a"]), ["del", "a"]);
        let long = "x".repeat(130);
        assert_eq!(kept(&["del", &long])[1], format!("{}... (2 more bytes)", &long[..128]));
        let many = kept(&["k"; 40]);
        assert_eq!((many.len(), many[31].as_str()), (32, "... (9 more arguments)"));
        assert_eq!(kept(&["AUTH", "me", "secret"]), ["AUTH", "(redacted)", "(redacted)"]);
        assert!(!kept(&["config", "set", "requirepass", "secret"]).contains(&"secret".into()));
    }

    #[test]
    fn the_oldest_entries_go_first() {
        let mut slowlog = Slowlog::default();
        for taken_us in 0..5 {
            slowlog.push(taken_us, Vec::new(), (None, b""), 3);
        }
        let ids = |entries: &[SlowCommand]| -> Vec<u64> {
            entries.iter().map(|entry| entry.id).collect()
        };
        assert_eq!(ids(&slowlog.latest(9)), [4, 3, 2]);
        assert_eq!(ids(&slowlog.latest(1)), [4]);
    }

    #[test]
    fn the_latest_of_all_cores_are_told() {
        let (mut one, mut two) = (Slowlog::default(), Slowlog::default());
        let numbers = Arc::new(AtomicU64::new(7));
        one.number_by(Arc::clone(&numbers));
        two.number_by(numbers);
        for is_one in [true, false, false, true] {
            let log = if is_one { &mut one } else { &mut two };
            log.push(1, Vec::new(), (None, b""), 10);
        }
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, crate::protocol::resp::Version::Resp2);
        write_latest([two.latest(3), one.latest(3)].concat(), 3, &mut writer);
        let text = String::from_utf8(out).expect("text");
        let ids = text.split("*6\r\n:").skip(1).map(|entry| entry.split('\r').next());
        assert_eq!(ids.map(Option::unwrap_or_default).collect::<Vec<_>>(), ["10", "9", "8"]);
    }
}
