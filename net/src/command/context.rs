//! What a command works with.

use std::borrow::Cow;

use pinion_engine::{Entry, KeyHash, PinnedValue, SetError, Shard, Value};

use super::server::ServerState;
use super::settings::Settings;
use super::task::Task;
use super::transaction::Transaction;
use crate::connection::{LargeValue, Session};
use crate::core::limits::SPARE_BYTES_MIN;
use crate::core::{ClientsQuery, Counters, InfoRequest};
use crate::memory::Memory;
use crate::protocol::resp::{self, Version, Writer};

/// What happens to the connection after a command. Small, since every command returns one.
#[derive(Debug)]
pub enum Flow {
    /// The next command.
    Continue,
    /// Nothing more: the connection closes when its replies are sent.
    Close,
    /// There is no memory for the reply now: the command, a read, is executed again when there is.
    Wait,
    /// The reply comes later, from the control thread.
    Ask(Box<InfoRequest>),
    /// The command takes long and goes on in slices.
    Later(Box<dyn Task>),
    /// Another client was told to fetch the value (memcached's leases): the command, a read, is
    /// executed again when it has, when the lease has timed out or the item is gone.
    AwaitFill {
        /// The hash of the key.
        hash: KeyHash,
        /// When to look at the latest, in server milliseconds.
        look_ms: u64,
        /// When the client wants an answer whatever it is.
        until_ms: u64,
    },
    /// All items die at this time, in server milliseconds.
    FlushAt(u64),
    /// The array's header is written; these commands are executed now, and their replies follow.
    Exec(Box<Transaction>),
    /// The reply comes from a look at the connections, which may end some of them.
    Clients(Box<ClientsQuery>),
    /// Commands of all connections wait, or those alone that may change items.
    Pause {
        /// Until when, in server milliseconds.
        until_ms: u64,
        /// Whether reads go on.
        writes_only: bool,
    },
    /// What [`Flow::Pause`] holds back goes on.
    Unpause,
    /// The allocator is to give back what is free.
    Trim,
    /// What is counted since the start begins anew.
    ResetCounters,
    /// The server ends.
    Stop,
}

/// The arguments of a command, its name first.
#[derive(Clone, Copy)]
pub struct Arguments<'a> {
    frame: &'a [u8],
    args: &'a resp::Args,
}

impl<'a> Arguments<'a> {
    /// The arguments that `args` found in `frame`.
    pub fn new(frame: &'a [u8], args: &'a resp::Args) -> Arguments<'a> {
        Arguments { frame, args }
    }

    /// How many, the name included.
    #[expect(clippy::len_without_is_empty, reason = "a command has a name at least")]
    pub fn len(&self) -> usize {
        self.args.len()
    }

    /// The argument at an index below [`Arguments::len`].
    ///
    /// # Panics
    /// If the index is not below it.
    pub fn at(&self, index: usize) -> &'a [u8] {
        self.args.arg(self.frame, index)
    }

    /// The bytes of the request.
    pub fn frame(&self) -> &'a [u8] {
        self.frame
    }

    /// The arguments from an index on.
    pub fn from(self, first: usize) -> impl Iterator<Item = &'a [u8]> {
        (first..self.len()).map(move |index| self.at(index))
    }

    /// Whether the argument at an index is this word, in any case.
    pub fn is(&self, index: usize, word: &str) -> bool {
        self.at(index).eq_ignore_ascii_case(word.as_bytes())
    }
}

/// One command's surroundings.
pub struct Context<'a> {
    /// The items.
    pub shard: &'a mut Shard,
    /// The time of this turn, in server milliseconds.
    pub now_ms: u64,
    /// Who asks.
    pub session: &'a mut Session,
    /// Where the reply goes.
    pub out: &'a mut Vec<u8>,
    /// What is counted.
    pub counters: &'a mut Counters,
    /// What the server was told at start, or by CONFIG SET.
    pub settings: &'a mut Settings,
    /// What commands share beside items: statistics and logs.
    pub server: &'a mut ServerState,
    /// The memory of the process, and how it is divided.
    pub memory: &'a mut Memory,
    /// Bytes that a reply may take of the memory for buffers.
    pub room_bytes: usize,
    /// Bytes of them that are there now; the others are lent to items. A reply that can be put off
    /// waits until they are back.
    pub room_now_bytes: usize,
    /// Whether a reply without room waits for memory; otherwise it is refused.
    pub reply_may_wait: bool,
    /// The hash of the command's first key, computed when it was parsed.
    pub first_hash: KeyHash,
    /// The command's value, if it was so large that it arrived in pieces; the one among the
    /// arguments is empty then.
    pub large: Option<LargeValue>,
    /// Values that the reply refers to, each with the length of `out` that its bytes follow.
    pub pins: &'a mut Vec<(usize, PinnedValue)>,
}

impl Context<'_> {
    /// The hash of a key in the database that the client has selected. The first key's is in
    /// [`Context::first_hash`] already.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        self.shard.hash_in(self.session.db, key)
    }

    /// A writer for a RESP reply.
    pub fn reply(&mut self) -> Writer<'_> {
        Writer::new(self.out, self.session.version())
    }

    /// Answers with an error; the text begins with its code, such as `ERR`.
    pub fn error(&mut self, text: &str) {
        self.counters.errors += 1;
        self.server.statistics.count_error(text);
        self.reply().error(text);
    }

    /// Answers why a command is not executed, and not queued either: the transaction that is being
    /// collected will be refused.
    pub(super) fn reject(&mut self, number: u16, text: &str) {
        self.server.statistics.of(number).rejected += 1;
        self.spoil_transaction();
        self.error(text);
    }

    /// Lets EXEC refuse the transaction that is being collected, if there is one.
    pub(super) fn spoil_transaction(&mut self) {
        if let Some(transaction) = &mut self.session.transaction {
            transaction.spoil();
        }
    }

    /// Answers with what a container's subcommands do, as lines.
    pub(super) fn help(&mut self, name: &str, lines: &[&str]) {
        let mut reply = self.reply();
        reply.array(lines.len() + 3);
        let first = format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
        reply.simple(&first);
        lines.iter().for_each(|line| reply.simple(line));
        reply.simple("HELP");
        reply.simple("    This text.");
    }

    /// Answers `ERR syntax error`.
    pub fn syntax_error(&mut self) {
        self.error("ERR syntax error");
    }

    /// Answers that an argument is not an integer.
    pub fn not_an_integer(&mut self) {
        self.error("ERR value is not an integer or out of range");
    }

    /// Answers that a command has too few or too many arguments.
    pub fn wrong_arity(&mut self, name: &str) {
        self.error(&format!("ERR wrong number of arguments for '{name}' command"));
    }

    /// Answers with an error that ends with bytes of the client's between two texts. The text
    /// begins with its code.
    pub fn error_about(&mut self, before: &str, bytes: &[u8], after: &str) {
        self.error_bytes(&[before.as_bytes(), bytes, after.as_bytes()].concat());
    }

    /// The same as [`Context::error`], for a text that is not all ours.
    pub(super) fn error_bytes(&mut self, text: &[u8]) {
        self.counters.errors += 1;
        let code_bytes = text.iter().position(|&byte| byte == b' ').unwrap_or(text.len());
        self.server.statistics.count_error(&String::from_utf8_lossy(&text[..code_bytes]));
        self.reply().error_bytes(text);
    }

    /// Answers that there is no such command, as Redis words it: with the first 128 bytes of the
    /// name and of all arguments together.
    pub(super) fn unknown_command(&mut self, args: &Arguments<'_>) {
        let mut text = b"ERR unknown command '".to_vec();
        text.extend_from_slice(first_bytes(args.at(0), QUOTED_BYTES_MAX));
        text.extend_from_slice(b"', with args beginning with: ");
        let start = text.len();
        for arg in args.from(1) {
            let left = QUOTED_BYTES_MAX.saturating_sub(text.len() - start);
            if left == 0 {
                break;
            }
            text.push(b'\'');
            text.extend_from_slice(first_bytes(arg, left));
            text.extend_from_slice(b"' ");
        }
        self.error_bytes(&text);
    }

    /// Answers that a container command has no such subcommand.
    pub fn unknown_subcommand(&mut self, command: &str, args: &Arguments<'_>) {
        let name = first_bytes(args.at(1), QUOTED_BYTES_MAX);
        self.error_about("ERR unknown subcommand '", name, &format!("'. Try {command} HELP."));
    }

    /// Counts a store that was refused for the length of its key.
    pub(super) fn count_long_key(&mut self, error: &SetError) {
        let is_long = matches!(error, SetError::KeyTooLong { .. });
        self.counters.oversized_requests += u64::from(is_long);
    }

    /// Answers why a value could not be stored.
    pub fn set_error(&mut self, error: &SetError) {
        self.count_long_key(error);
        self.error(&set_error_text(error));
    }

    /// Takes back the reply to a read that began at `start` of the output, with the memory that it
    /// took: it waits, or `refuse` answers instead that there is no memory for it.
    pub(super) fn without_room(
        &mut self,
        start: usize,
        refuse: impl FnOnce(&mut Context<'_>),
    ) -> Flow {
        self.take_back(start);
        self.out.shrink_to(start + SPARE_BYTES_MIN);
        if self.reply_may_wait || self.room_now_bytes < self.room_bytes {
            return Flow::Wait;
        }
        refuse(self);
        Flow::Continue
    }

    /// Counts a read that found its key, or did not.
    pub fn count_read(&mut self, hit: bool) {
        self.counters.hits += u64::from(hit);
        self.counters.misses += u64::from(!hit);
    }
}

/// Why a value could not be stored, as an error.
pub fn set_error_text(error: &SetError) -> Cow<'static, str> {
    match error {
        SetError::NoSpace => "OOM command not allowed when used memory > 'maxmemory'.".into(),
        other => format!("ERR {other}").into(),
    }
}

/// The item of a key, for a command that reads it: which counts as a use, unless the client has
/// said that its reads do not (CLIENT NO-TOUCH).
#[inline]
pub(super) fn read_item<'a>(
    shard: &'a mut Shard,
    session: &Session,
    hash: KeyHash,
    key: &[u8],
    now_ms: u64,
) -> Option<Entry<'a>> {
    if session.no_touch { shard.peek(hash, key, now_ms) } else { shard.get(hash, key, now_ms) }
}

/// Writes a value as a bulk string.
pub(super) fn write_value(out: &mut Vec<u8>, value: &Value<'_>) {
    // A bulk string is the same in both versions of the protocol.
    let mut writer = Writer::new(out, Version::Resp2);
    if let Some(bytes) = value.as_slice() {
        writer.bulk(bytes);
        return;
    }
    writer.bulk_header(value.len());
    for chunk in value.chunks() {
        out.extend_from_slice(chunk);
    }
    out.extend_from_slice(b"\r\n");
}

/// Bytes of a client's argument that an error repeats.
pub(super) const QUOTED_BYTES_MAX: usize = 128;

/// The first bytes of an argument.
pub(super) fn first_bytes(bytes: &[u8], bytes_max: usize) -> &[u8] {
    &bytes[..bytes.len().min(bytes_max)]
}

/// Bytes of a client as text for a one-line reply.
pub(super) fn printable(bytes: &[u8], bytes_max: usize) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(bytes_max)])
        .chars()
        .map(|c| if c == '\r' || c == '\n' { ' ' } else { c })
        .collect()
}
